//! Tasks, ignitors and runs as objects: what is written of them reaches the engine, and how they are is seen in them.

use serde_json::{Value, json};
use workflow::{ObjectName, RunId, RunPhase};

use super::*;
use crate::{ObjectKey, ObjectRejected, WorkflowKind};

fn key(kind: WorkflowKind, name: &str) -> ObjectKey {
    ObjectKey { resource: kind.resource(), organization: Some(ACME), name: name.to_owned() }
}

fn document(kind: &str, name: &str, uid: u64, spec: &Value) -> Value {
    json!({
        "apiVersion": "sirocco.cloud/v1alpha1", "kind": kind,
        "metadata": {"name": name, "uid": uid.to_string(), "generation": 1}, "spec": spec,
    })
}

fn task(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["template"] = json!({"spec": {"containers": [{"name": "c", "image": "tool:1"}]}});
    document("Task", name, 1, &spec)
}

impl Root {
    /// Commits what somebody wants, as the shell does.
    fn settle_after(&mut self, changes: Vec<Change>) {
        self.apply(changes.clone());
        let plan = self.state.reconcile(self.now);
        let all: Vec<Change> = changes.into_iter().chain(plan.changes).collect();
        let revision = self.state.revision() + 1;
        self.state.committed(&all, revision);
    }

    fn writes(&mut self, kind: WorkflowKind, content: Value) {
        let key = key(kind, content["metadata"]["name"].as_str().expect("a name"));
        let ((), changes) = self.state.create_object(key, content).expect("it is kept");
        self.settle_after(changes);
    }

    fn content(&self, kind: WorkflowKind, name: &str) -> Value {
        let seen = self.state.object(&key(kind, name)).unwrap_or_else(|| panic!("{kind:?} {name} is there"));
        Value::clone(&seen.content)
    }

    /// Writes to a run as somebody does who has seen it.
    fn steers(&mut self, run: &str, field: &str, value: Value) -> Result<(), ObjectRejected> {
        let seen = self.state.object(&key(WorkflowKind::Run, run)).expect("a run").clone();
        let mut content = Value::clone(&seen.content);
        content["spec"][field] = value;
        let ((), changes) = self.state.update_run(key(WorkflowKind::Run, run), &seen, content, self.now)?;
        self.settle_after(changes);
        Ok(())
    }

    fn deletes(&mut self, kind: WorkflowKind, name: &str) -> Result<(), ObjectRejected> {
        let key = key(kind, name);
        let seen = self.state.object(&key).expect("it is there").clone();
        let (_, changes) = self.state.delete_object(&key, &seen, None, "2026-01-01T00:00:00Z")?;
        self.settle_after(changes);
        Ok(())
    }

    /// What the cluster of an attempt says of its instance.
    fn is_told(&mut self, attempt: &str, said: impl FnOnce(&Self, InstanceId) -> InstanceReport) {
        let service =
            self.state.services.values().find(|it| it.names.service == attempt).expect("an attempt");
        let id = InstanceId { service: service.id, number: 0 };
        let said = said(self, id);
        let cluster = self.state.instance(id).and_then(|it| it.cluster()).expect("placed");
        let same = self.state.aggregate(cluster).0;
        self.report(cluster, same, vec![said]);
        self.settle_after(Vec::new());
        // What was written is looked at once more.
        self.settle_after(Vec::new());
    }

    fn hears(&mut self, attempt: &str, code: i64) {
        let exit =
            model::LastExit { tail: "so it went\n".to_owned(), ..model::LastExit::new(code, self.now.date) };
        self.is_told(attempt, |root, id| InstanceReport {
            last_exit: Some(exit),
            ..root.said(id, Phase::Completed)
        });
    }

    fn hears_that_it_is_gone(&mut self, attempt: &str) {
        self.is_told(attempt, |root, id| root.said(id, Phase::Removed));
    }
}

fn now_ignitor(uid: u64) -> Value {
    document("Ignitor", "start", uid, &json!({"scheduled": "NOW", "data": "spark"}))
}

/// With one cluster, `first`, which `start` starts, and what follows from its success and its failure.
fn beginning() -> Root {
    let mut root = Root::new();
    root.cluster(1, "site", &[resources(8, 8000)]);
    root.writes(WorkflowKind::Task, task("good", &json!({"startOnSuccess": ["first"]})));
    root.writes(WorkflowKind::Task, task("bad", &json!({"startOnFailure": ["first"]})));
    root.writes(WorkflowKind::Task, task("first", &json!({"startOnIgnition": ["start"]})));
    root
}

#[test]
fn an_ignitor_that_is_written_fires_and_the_run_it_makes_tells_how_it_goes() {
    let mut root = beginning();
    let waits = &root.content(WorkflowKind::Task, "first")["status"]["conditions"][0].clone();
    assert_eq!((&waits["type"], &waits["status"]), (&json!("TriggersFound"), &json!("False")));
    assert_eq!(
        waits["message"],
        "spec.startOnIgnition[0]: there is no ignitor `start` yet; the task starts when there is one"
    );
    root.writes(WorkflowKind::Ignitor, now_ignitor(1));
    let first = root.content(WorkflowKind::Task, "first");
    assert_eq!(first["status"]["conditions"][0]["status"], "True", "{first}");
    assert_eq!(first["status"]["state"], "Running");
    let run = root.content(WorkflowKind::Run, "1");
    assert_eq!(run["spec"], json!({"ignitor": "start", "data": "spark"}));
    assert_eq!(run["status"]["phase"], "Running");
    assert_eq!(run["status"]["tasks"][0]["after"], json!([{"ignitor": "start", "result": "fired"}]));
    root.hears("1-first-1-0-1", 3);
    let first = root.content(WorkflowKind::Task, "first");
    assert_eq!(
        (&first["status"]["state"], &first["status"]["failuresCount"]),
        (&json!("Pending"), &json!(1))
    );
    root.hears("1-bad-1-0-1", 0);
    let run = root.content(WorkflowKind::Run, "1");
    assert_eq!(run["status"]["phase"], "Succeeded", "{run}");
    let names: Vec<&Value> =
        run["status"]["tasks"].as_array().expect("tasks").iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["first", "bad"]);
    assert_eq!(run["status"]["tasks"][0]["exitCode"], 3);
    let ignitor = root.content(WorkflowKind::Ignitor, "start");
    assert_eq!((&ignitor["status"]["state"], &ignitor["status"]["fired"]), (&json!("Completed"), &json!(1)));
}

#[test]
fn a_run_tells_what_is_in_the_way_of_a_task_as_long_as_it_is() {
    let mut root = beginning();
    root.writes(WorkflowKind::Ignitor, now_ignitor(1));
    let detail = |root: &Root| root.content(WorkflowKind::Run, "1")["status"]["tasks"][0]["detail"].clone();
    assert_eq!(detail(&root), Value::Null);
    root.is_told("1-first-1-0-1", |root, id| InstanceReport {
        detail: "no such image: tool:1".to_owned(),
        ..root.said(id, Phase::Failed)
    });
    assert_eq!(detail(&root), "no such image: tool:1");
    let mut again = super::workflows::restarted(&root);
    again.settle_after(Vec::new());
    assert_eq!(detail(&again), "no such image: tool:1", "so does a root that was started again");
    root.is_told("1-first-1-0-1", |root, id| root.said(id, Phase::Running));
    assert_eq!(detail(&root), Value::Null);
    root.is_told("1-first-1-0-1", |root, id| InstanceReport {
        detail: "its device is silent".to_owned(),
        ..root.said(id, Phase::Lost)
    });
    assert_eq!(detail(&root), "its device is silent");
    root.hears("1-first-1-0-1", 3);
    assert_eq!(detail(&root), "it ended with exit code 3");
}

#[test]
fn a_task_that_nothing_can_take_tells_why() {
    let mut root = Root::new();
    root.writes(WorkflowKind::Task, task("first", &json!({"startOnIgnition": ["start"]})));
    root.writes(WorkflowKind::Ignitor, now_ignitor(1));
    let run = root.content(WorkflowKind::Run, "1");
    let detail = run["status"]["tasks"][0]["detail"].as_str().unwrap_or_default();
    assert!(detail.starts_with("NoTargetCluster"), "{run}");
}

#[test]
fn an_ignitor_fires_anew_when_it_is_another_and_not_when_it_is_only_labelled() {
    let mut root = beginning();
    root.writes(WorkflowKind::Ignitor, now_ignitor(1));
    let seen = root.state.object(&key(WorkflowKind::Ignitor, "start")).expect("there").clone();
    let mut content = Value::clone(&seen.content);
    content["metadata"]["labels"] = json!({"a": "b"});
    let ((), changes) =
        root.state.update_object(key(WorkflowKind::Ignitor, "start"), &seen, content).expect("kept");
    root.settle_after(changes);
    assert_eq!(root.state.workflow().runs().count(), 1);
    root.deletes(WorkflowKind::Ignitor, "start").expect("it goes");
    assert_eq!(root.state.workflow().ignitors().count(), 0);
    let gone = root.content(WorkflowKind::Task, "first");
    assert_eq!(gone["status"]["conditions"][0]["status"], "False");
    root.writes(WorkflowKind::Ignitor, now_ignitor(2));
    assert_eq!(root.state.workflow().runs().count(), 2);
}

#[test]
fn a_task_that_is_changed_or_deleted_is_so_in_the_engine() {
    let mut root = beginning();
    let seen = root.state.object(&key(WorkflowKind::Task, "first")).expect("there").clone();
    let mut content = Value::clone(&seen.content);
    content["spec"]["timeout"] = json!("10s");
    content["metadata"]["generation"] = json!(2);
    let ((), changes) =
        root.state.update_object(key(WorkflowKind::Task, "first"), &seen, content).expect("kept");
    root.settle_after(changes);
    let name = ObjectName::new(ACME.to_string(), "first");
    let timeout = root.state.workflow().task(&name).map(|task| task.spec.timeout.as_millis());
    assert_eq!(timeout, Some(10_000));
    assert_eq!(root.content(WorkflowKind::Task, "first")["status"]["observedGeneration"], 2);
    root.deletes(WorkflowKind::Task, "first").expect("it goes");
    assert!(root.state.workflow().task(&name).is_none());
}

#[test]
fn runs_are_cancelled_retried_and_deleted_by_what_is_written_to_them() {
    let mut root = beginning();
    root.writes(WorkflowKind::Ignitor, now_ignitor(1));
    let in_progress = ObjectRejected::Run(workflow::Rejected::InProgress(RunId(1)));
    assert_eq!(root.deletes(WorkflowKind::Run, "1"), Err(in_progress.clone()));
    assert_eq!(root.steers("1", "retries", json!(1)), Err(in_progress));
    root.steers("1", "cancel", json!(true)).expect("it is in progress");
    assert_eq!(root.content(WorkflowKind::Run, "1")["status"]["phase"], "Cancelling");
    root.hears_that_it_is_gone("1-first-1-0-1");
    assert_eq!(root.content(WorkflowKind::Run, "1")["status"]["phase"], "Cancelled");
    root.steers("1", "retries", json!(1)).expect("it was cancelled");
    assert_eq!(root.state.run_of(ACME, RunId(1)).map(|run| run.phase), Ok(RunPhase::Running));
    root.hears("1-first-1-0-2", 0);
    root.hears("1-good-1-0-1", 0);
    let run = root.content(WorkflowKind::Run, "1");
    assert_eq!((&run["status"]["phase"], &run["spec"]["retries"]), (&json!("Succeeded"), &json!(1)));
    root.deletes(WorkflowKind::Run, "1").expect("it is over");
    assert!(root.state.run_of(ACME, RunId(1)).is_err());
}

#[test]
fn what_the_engine_forgets_is_no_object_any_more() {
    let mut root = beginning();
    root.writes(WorkflowKind::Ignitor, now_ignitor(1));
    root.hears("1-first-1-0-1", 0);
    root.hears("1-good-1-0-1", 0);
    let changes = root.state.remove_run(ACME, RunId(1)).expect("it is over");
    root.settle_after(changes);
    assert!(root.state.object(&key(WorkflowKind::Run, "1")).is_none());
}

#[test]
fn what_cannot_be_is_told_with_its_field() {
    let refused = |kind: WorkflowKind, object: &Value, before: Option<&Value>| {
        let causes = kind.check(object, before, BEGINNING.date).expect_err("refused");
        causes.into_iter().map(|cause| cause.field).collect::<Vec<_>>()
    };
    let past = document("Ignitor", "i", 1, &json!({"scheduled": "1970-01-01T00:00:01Z"}));
    assert_eq!(refused(WorkflowKind::Ignitor, &past, None), ["spec.scheduled"]);
    assert_eq!(WorkflowKind::Ignitor.check(&past, Some(&past), BEGINNING.date), Ok(()), "it was there");
    let placed = task("t", &json!({"placement": {}, "surprise": 1}));
    assert_eq!(refused(WorkflowKind::Task, &placed, None), ["spec.surprise"]);
    let run = |ignitor: &str| document("Run", "1", 1, &json!({"ignitor": ignitor}));
    assert_eq!(refused(WorkflowKind::Run, &run("other"), Some(&run("start"))), ["spec.ignitor"]);
    assert_eq!(refused(WorkflowKind::Run, &run("start"), None), ["metadata.name"], "the root numbers runs");
}
