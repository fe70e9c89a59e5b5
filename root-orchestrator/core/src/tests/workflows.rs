//! Tasks in the brain of the root: attempts become services that clusters are given, and what those say moves runs on.

use model::{DirectConstraint, DistanceConstraint, LastExit, Microdegrees, OnPartition, Output};
use serde_json::{Value, json};
use workflow::{ObjectName, RunId, RunPhase, TaskRunId};

use super::*;
use crate::{RunWish, Service};

fn document(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "sirocco.cloud/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn template() -> Value {
    json!({"spec": {"containers": [{
        "name": "c", "image": "tool:1", "command": ["/tool"], "args": ["-v"],
        "resources": {"requests": {"cpu": "500m", "memory": "64Mi"}},
    }]}})
}

impl Root {
    fn task(&mut self, name: &str, spec: &Value) {
        let mut spec = spec.clone();
        spec["template"] = template();
        let (_, changes) = self.state.set_task(ACME, &document("Task", name, &spec)).expect("valid");
        self.apply(changes);
    }

    fn fire(&mut self) -> RunId {
        let (run, changes) = self.state.fire(ACME, "i", None, self.now).expect("it fires");
        self.apply(changes);
        self.reconcile();
        run
    }

    /// The service of an attempt, `run-task-round-item-attempt`.
    fn attempt(&self, name: &str) -> &Service {
        let mut all = self.state.services.values();
        let found = all.find(|service| service.names.service == name);
        found.unwrap_or_else(|| panic!("{name} is there, among {:?}", self.attempts()))
    }

    fn attempts(&self) -> Vec<String> {
        let own =
            self.state.services.values().filter(|service| service.attempt.is_some() && !service.deleted);
        let mut names: Vec<String> = own.map(|service| service.names.service.clone()).collect();
        names.sort();
        names
    }

    fn instance_of(&self, attempt: &str) -> InstanceId {
        self.state.instances_of(self.attempt(attempt).id).next().expect("its instance").id
    }

    /// Its cluster says that it has ended.
    fn ends(&mut self, attempt: &str, code: i64, tail: &str) {
        self.ends_with(attempt, code, tail, None);
    }

    /// And what it wrote as its output.
    fn ends_with(&mut self, attempt: &str, code: i64, tail: &str, output: Option<Output>) {
        let id = self.instance_of(attempt);
        let exit = LastExit { tail: tail.to_owned(), output, ..LastExit::new(code, self.now.date) };
        let said = InstanceReport { last_exit: Some(exit), ..self.said(id, Phase::Completed) };
        self.says(id, said);
        self.reconcile();
    }

    fn says(&mut self, id: InstanceId, said: InstanceReport) {
        let cluster = self.state.instance(id).and_then(|instance| instance.cluster()).expect("placed");
        let same = self.state.aggregate(cluster).0;
        self.report(cluster, same, vec![said]);
    }

    fn run_phase(&self, run: RunId) -> RunPhase {
        self.state.run_of(ACME, run).expect("a run").phase
    }

    fn detail(&self, run: RunId, task: &str) -> &str {
        let id = TaskRunId { run, task: task.to_owned(), round: 1 };
        let mut parts = self.state.workflow().task_runs(run);
        &parts.find(|part| part.id == id).expect("a task run").detail
    }
}

/// With one cluster, the ignitor `i`, and `one`, which it starts.
fn beginning() -> Root {
    let mut root = Root::new();
    root.cluster(1, "site", &[resources(8, 8000)]);
    let (_, changes) = root
        .state
        .set_ignitor(ACME, &document("Ignitor", "i", &json!({"data": "spark"})), root.now)
        .expect("valid");
    root.apply(changes);
    root.task("one", &json!({"startOnIgnition": ["i"]}));
    root
}

#[test]
fn an_attempt_is_a_service_of_its_own_that_is_placed_and_never_moved() {
    let mut root = beginning();
    root.task("two", &json!({"startOnSuccess": ["one"]}));
    let run = root.fire();
    assert_eq!(root.attempts(), ["1-one-1-0-1"]);
    let id = root.instance_of("1-one-1-0-1");
    assert_eq!(root.phase(id), Phase::ClusterScheduled, "in the same pass");
    let spec = root.attempt("1-one-1-0-1").spec().clone();
    assert_eq!(
        (spec.image.as_str(), &spec.entry_point[..], &spec.command[..]),
        ("tool:1", &["/tool".to_owned()][..], &["-v".to_owned()][..])
    );
    assert_eq!((spec.one_shot, spec.single_attempt), (true, true));
    assert_eq!((spec.survival.on_partition, spec.survival.cluster_lost_after), (OnPartition::Keep, None));
    assert_eq!((spec.resources.cpu, spec.resources.memory), (Millicores(500), Mebibytes(64)));
    assert_eq!((&*spec.environment["ORCA_INITIATOR"], &*spec.environment["ORCA_DATA"]), ("i", "spark"));
    assert_eq!(spec.added_files[0].path, spec.environment["MANGROVE_INPUTS_FILE"]);
    root.ends("1-one-1-0-1", 0, "last words\n");
    assert_eq!(root.attempts(), ["1-one-1-0-1", "1-two-1-0-1"], "the first is kept for its logs");
    assert_eq!(root.attempt("1-two-1-0-1").spec().environment["ORCA_DATA"], "last words");
    root.ends("1-two-1-0-1", 0, "");
    assert_eq!(root.run_phase(run), RunPhase::Succeeded);
}

#[test]
fn an_exit_code_that_is_not_zero_fails_and_is_tried_again_as_another_service() {
    let mut root = beginning();
    root.task("one", &json!({"startOnIgnition": ["i"], "retry": {"limit": 1}}));
    let run = root.fire();
    root.ends("1-one-1-0-1", 137, "");
    assert_eq!(root.attempts(), ["1-one-1-0-1"]);
    root.wait(1000);
    assert_eq!(root.attempts(), ["1-one-1-0-1", "1-one-1-0-2"]);
    root.ends("1-one-1-0-2", 2, "");
    assert_eq!(
        (root.run_phase(run), root.detail(run, "one")),
        (RunPhase::Failed, "it ended with exit code 2")
    );
}

#[test]
fn an_attempt_that_takes_too_long_is_removed_and_its_end_waited_for() {
    let mut root = beginning();
    root.task("one", &json!({"startOnIgnition": ["i"], "timeout": "10s"}));
    let run = root.fire();
    let id = root.instance_of("1-one-1-0-1");
    root.says(id, root.said(id, Phase::Running));
    root.wait(10_000);
    assert_eq!(root.state.instance(id).map(|instance| instance.desired), Some(Desired::Removed));
    assert_eq!(root.run_phase(run), RunPhase::Running);
    root.says(id, root.said(id, Phase::Removed));
    root.reconcile();
    assert_eq!((root.run_phase(run), root.detail(run, "one")), (RunPhase::Failed, "it took longer than 10s"));
}

#[test]
fn what_somebody_removed_is_lost_and_not_made_again() {
    let mut root = beginning();
    let run = root.fire();
    let service = root.attempt("1-one-1-0-1").clone();
    let changes = root.state.delete_service(&service, root.now.date);
    root.apply(changes);
    let id = InstanceId { service: service.id, number: 0 };
    root.says(id, root.said(id, Phase::Removed));
    root.reconcile();
    root.wait(60_000);
    assert_eq!(root.attempts(), [""; 0]);
    assert_eq!(root.run_phase(run), RunPhase::Failed);
    assert_eq!(root.detail(run, "one"), "it was lost: its instance was removed");
}

/// One that knows what is stored of another that ran until now.
pub(super) fn restarted(before: &Root) -> Root {
    let mut root = Root { now: before.now, sessions: 10, reports: before.reports, ..Root::new() };
    let clusters = before.state.clusters.values().map(|it| Change::Cluster(it.id, Some(it.clone())));
    let applications =
        before.state.applications.values().map(|it| Change::Application(it.id, Some(it.clone())));
    let services = before.state.services.values().map(|it| Change::Service(it.id, Some(it.clone())));
    let instances = before.state.instances.values().map(|it| Change::Instance(it.id, Some(it.clone())));
    let blocks = std::iter::once(Change::Blocks(before.state.blocks.clone()));
    let changes = clusters.chain(applications).chain(services).chain(instances).chain(blocks);
    root.apply(changes.collect());
    let engine = before.state.workflow();
    let tasks = engine.tasks().map(|it| workflow::Change::Task(it.name.clone(), Some(it.clone())));
    let ignitors = engine.ignitors().map(|it| workflow::Change::Ignitor(it.name.clone(), Some(it.clone())));
    let runs = engine.runs().map(|it| workflow::Change::Run(it.id, Some(it.clone())));
    let parts = engine.runs().flat_map(|run| engine.task_runs(run.id));
    let parts = parts.map(|it| workflow::Change::TaskRun(it.id.clone(), Some(it.clone())));
    let changes = tasks.chain(ignitors).chain(runs).chain(parts).map(Change::Workflow);
    root.apply(changes.collect());
    root.state.loaded(root.now);
    root
}

#[test]
fn a_root_that_comes_back_makes_no_attempt_twice_and_takes_in_what_ended_meanwhile() {
    let mut before = beginning();
    before.task("two", &json!({"startOnSuccess": ["one"]}));
    let run = before.fire();
    let (service, id) = (before.attempt("1-one-1-0-1").id, before.instance_of("1-one-1-0-1"));
    let mut root = restarted(&before);
    root.reconcile();
    root.wait(60_000);
    assert_eq!((root.attempts(), root.attempt("1-one-1-0-1").id), (vec!["1-one-1-0-1".to_owned()], service));
    let cluster = before.state.instance(id).and_then(|instance| instance.cluster()).expect("placed");
    let location = Location { latitude: 0.0, longitude: 0.0, radius_metres: 0.0 };
    let generation = root.state.cluster(cluster).expect("known").generation;
    let changes = root.state.cluster_connected(cluster, 11, location, generation, root.now);
    root.apply(changes);
    root.ends("1-one-1-0-1", 0, "");
    assert_eq!(root.attempts(), ["1-one-1-0-1", "1-two-1-0-1"]);
    let again = restarted(&root);
    assert_eq!(again.attempts(), ["1-one-1-0-1", "1-two-1-0-1"]);
    assert_eq!(root.run_phase(run), RunPhase::Running);
}

#[test]
fn what_was_removed_while_the_root_was_away_is_not_made_again() {
    let mut before = beginning();
    let run = before.fire();
    let service = before.attempt("1-one-1-0-1").id;
    before.state.services.remove(&service);
    before.state.instances.clear();
    let mut root = restarted(&before);
    root.reconcile();
    assert_eq!(root.attempts(), [""; 0]);
    assert_eq!(root.detail(run, "one"), "it was lost: its service was removed");
}

#[test]
fn what_belongs_to_runs_that_are_forgotten_goes() {
    let mut root = beginning();
    root.task("one", &json!({"startOnIgnition": ["i"], "historyLimits": {"successful": 1, "failed": 1}}));
    for run in 1..=3 {
        root.fire();
        root.ends(&format!("{run}-one-1-0-1"), 0, "");
    }
    assert_eq!(root.attempts().len(), 3, "nobody can have seen how they ended");
    root.now.moment = root.now.moment.plus_millis(5_000);
    root.reconcile();
    assert_eq!(root.attempts(), ["3-one-1-0-1"]);
    let changes = root.state.remove_run(ACME, RunId(3)).expect("it is over");
    root.apply(changes);
    root.reconcile();
    assert_eq!(root.attempts(), [""; 0]);
}

#[test]
fn organisations_know_nothing_of_each_others_runs() {
    let mut root = beginning();
    let run = root.fire();
    assert!(root.state.run_of(ROOT, run).is_err());
    assert!(root.state.ask_of_run(ROOT, run, RunWish::Cancel, root.now).is_err());
    assert!(root.state.fire(ROOT, "i", None, root.now).is_err());
    let application = root.state.application(root.attempt("1-one-1-0-1").application).expect("there");
    assert_eq!((application.organization, application.name.as_str()), (ACME, "task-runs"));
    let changes = root.state.ask_of_run(ACME, run, RunWish::Cancel, root.now).expect("it is in progress");
    root.apply(changes);
    root.reconcile();
    let id = root.instance_of("1-one-1-0-1");
    assert_eq!(root.state.instance(id).map(|instance| instance.desired), Some(Desired::Removed));
}

#[test]
fn documents_are_refused_with_all_that_is_wrong_and_warned_of() {
    let root = beginning();
    let wrong =
        document("Task", "x", &json!({"template": template(), "outputs": {"schema": {"type": "what"}}}));
    let causes = root.state.set_task(ACME, &wrong).expect_err("wrong");
    assert_eq!(causes[0].field, "spec.outputs.schema.type");
    let odd = document("Task", "x", &json!({"template": template(), "startOnSuccess": ["none"]}));
    let (accepted, _) = root.state.set_task(ACME, &odd).expect("accepted");
    assert_eq!(accepted.name, ObjectName::new(ACME.to_string(), "x"));
    assert_eq!(accepted.warnings.len(), 1);
}

#[test]
fn what_an_attempt_wrote_decides_what_follows_and_is_given_to_it() {
    let mut root = beginning();
    let schema = json!({"schema": {"type": "object", "required": ["parts"], "properties": {
        "parts": {"type": "array", "items": {"type": "string"}}, "good": {"type": "boolean"},
    }}});
    root.task("one", &json!({"startOnIgnition": ["i"], "outputs": schema}));
    root.task("two", &json!({"startOnSuccess": ["one"], "when": "one.output.good"}));
    root.task("not", &json!({"startOnSuccess": ["one"], "when": "!one.output.good"}));
    let text = |text: &str| Some(Output::Text(text.into()));
    let run = root.fire();
    root.ends_with("1-one-1-0-1", 0, "", text("{\"parts\": [\"a\", \"b\"], \"good\": true}"));
    assert_eq!(root.attempts(), ["1-one-1-0-1", "1-two-1-0-1"]);
    let file = &root.attempt("1-two-1-0-1").spec().added_files[0];
    let given: Value = serde_json::from_str(&file.content).expect("JSON");
    assert_eq!(given["one"]["output"], json!({"parts": ["a", "b"], "good": true}));
    root.ends("1-two-1-0-1", 0, "");
    assert_eq!(root.run_phase(run), RunPhase::Succeeded);
    let withheld = Some(Output::Withheld("has 300000 bytes; it may have 262144".to_owned()));
    for (number, output, detail) in [
        (2, None, "it wrote no output, and its task says what it must be like"),
        (3, withheld, "its output has 300000 bytes; it may have 262144"),
        (4, text("{\"parts\""), "its output is not JSON: EOF while parsing an object at line 1 column 8"),
        (
            5,
            text("{\"parts\": [1]}"),
            "its output is not as it must be: `parts[0]`: it must be of type string",
        ),
    ] {
        let run = root.fire();
        root.ends_with(&format!("{number}-one-1-0-1"), 0, "", output);
        assert_eq!((root.run_phase(run), root.detail(run, "one")), (RunPhase::Failed, detail));
    }
}

#[test]
fn an_output_that_came_just_before_the_root_ended_is_not_lost() {
    let mut before = beginning();
    before.task("two", &json!({"startOnSuccess": ["one"], "when": "one.output.good"}));
    before.fire();
    let id = before.instance_of("1-one-1-0-1");
    let output = Some(Output::Text("{\"good\": true}".into()));
    let exit = LastExit { output, ..LastExit::new(0, before.now.date) };
    // It is taken in and acknowledged, and the root ends before the next pass.
    before.says(id, InstanceReport { last_exit: Some(exit), ..before.said(id, Phase::Completed) });
    let mut root = restarted(&before);
    root.reconcile();
    assert_eq!(root.attempts(), ["1-one-1-0-1", "1-two-1-0-1"]);
}

#[test]
fn an_attempt_runs_where_its_task_says_as_a_service_would() {
    let mut root = beginning();
    root.cluster(2, "farm", &[resources(8, 8000)]);
    let placement = json!({
        "constraints": [
            {"type": "clusters", "allowed": ["farm"]},
            {"type": "direct", "node": "a;b"},
            {"type": "geo", "location": "11.5;48.1", "threshold": 20000},
        ],
        "arch": ["arm64"],
    });
    root.task("one", &json!({"startOnIgnition": ["i"], "placement": placement}));
    root.fire();
    let spec = root.attempt("1-one-1-0-1").spec();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let expected = [
        DirectConstraint { clusters: names(&["farm"]), nodes: vec![] },
        DirectConstraint { clusters: vec![], nodes: names(&["a", "b"]) },
    ];
    assert_eq!(spec.constraints, expected);
    let degrees = |degrees, limit| Microdegrees::of_degrees(degrees, limit).expect("in range");
    let distance = DistanceConstraint {
        latitude: degrees(48.1, 90.0),
        longitude: degrees(11.5, 180.0),
        within_metres: 20_000_000,
    };
    assert_eq!(
        (&spec.distances[..], spec.architectures.iter().map(String::as_str).collect::<Vec<_>>()),
        (&[distance][..], vec!["arm64"])
    );
    root.task(
        "two",
        &json!({"startOnIgnition": ["i"], "placement": {"constraints": [
            {"type": "clusters", "allowed": ["farm"]},
        ]}}),
    );
    root.fire();
    let id = root.instance_of("2-two-1-0-1");
    let cluster = root.state.instance(id).and_then(|instance| instance.cluster()).expect("placed");
    assert_eq!(root.state.cluster(cluster).map(|it| it.name.as_str()), Some("farm"));
}

#[test]
fn a_place_that_cannot_be_kept_to_is_refused_by_its_path() {
    let root = beginning();
    for (placement, cause) in [
        (json!({"clusters": ["c"]}), "spec.placement.clusters: FieldUnknown"),
        (json!({"arch": "amd64"}), "spec.placement.arch: FieldValueTypeInvalid"),
        (json!({"constraints": [{"type": "near"}]}), "spec.placement.constraints[0].type: FieldValueInvalid"),
        (
            json!({"constraints": [{"type": "addons", "needs": ["camera"]}]}),
            "spec.placement.constraints[0].type: FieldValueNotSupported",
        ),
        (
            json!({"constraints": [{"type": "geo", "location": "far", "threshold": 1}]}),
            "spec.placement.constraints[0].location: FieldValueInvalid",
        ),
    ] {
        let wrong = document("Task", "x", &json!({"template": template(), "placement": placement}));
        let causes = root.state.set_task(ACME, &wrong).expect_err("wrong");
        let [found] = &causes[..] else { panic!("{causes:?}") };
        assert_eq!(format!("{}: {}", found.field, found.reason), cause, "{}", found.message);
        assert!(!found.message.starts_with('`'), "{}", found.message);
    }
}
