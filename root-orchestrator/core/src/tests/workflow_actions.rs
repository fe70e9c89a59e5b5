//! What tasks do when they have ended, and what makes ignitors fire beside their schedules: nothing of another organisation,
//! once, and together with what it is about.

use ::audit::Actor;
use model::{Sealed, SecretId, SecretVersionId};
use serde_json::{Value, json};
use workflow::{CallPhase, FireCause, ObjectName};

use super::{neighbours::wanted, *};
use crate::{ActionCall, Envelope, NewSecret, Object, ObjectKey, SecretKind, WorkflowKind};

const CRDS: &str = "customresourcedefinitions.apiextensions.k8s.io";

fn document(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "sirocco.cloud/v1alpha1", "kind": kind,
        "metadata": {"name": name, "uid": format!("{kind}-{name}"), "generation": 1, "labels": {"tier": "edge"}},
        "spec": spec,
    })
}

fn envelope(_: SecretVersionId) -> Envelope {
    let sealed = || Sealed(Vec::new());
    Envelope { key: "key".to_owned(), data_key: sealed(), value: sealed() }
}

impl Root {
    /// One commit: what somebody wants and what follows from it. What others are asked for then.
    fn commit_all(&mut self, changes: Vec<Change>) -> (Vec<Change>, Vec<ActionCall>) {
        self.apply(changes.clone());
        let plan = self.state.reconcile(self.now);
        let again = self.state.reconcile(self.now);
        assert_eq!((again.changes, again.effects), (vec![], vec![]), "without news there is nothing to do");
        let all: Vec<Change> = changes.into_iter().chain(plan.changes).collect();
        let revision = self.state.revision() + 1;
        self.state.committed(&all, revision);
        (all, plan.effects.into_iter().filter_map(called).collect())
    }

    fn keeps(&mut self, kind: WorkflowKind, content: Value) {
        let name = content["metadata"]["name"].as_str().expect("a name").to_owned();
        let key = ObjectKey { resource: kind.resource(), organization: Some(ACME), name };
        let ((), changes) = self.state.create_object(key, content).expect("it is kept");
        self.commit_all(changes);
    }

    fn task_with(&mut self, name: &str, mut spec: Value) {
        spec["template"] = json!({"spec": {"containers": [{"name": "c", "image": "tool:1"}]}});
        self.keeps(WorkflowKind::Task, document("Task", name, &spec));
    }

    /// The ignitor of all tasks here fires, and its task ends with that code.
    fn runs(&mut self, code: i64) -> (Vec<Change>, Vec<ActionCall>) {
        let (run, changes) = self.state.fire(ACME, "start", None, self.now).expect("it fires");
        self.commit_all(changes);
        self.task_ends(&format!("{run}-one-1-0-1"), code)
    }

    fn task_ends(&mut self, attempt: &str, code: i64) -> (Vec<Change>, Vec<ActionCall>) {
        let service = self.state.services.values().find(|it| it.names.service == attempt);
        let id = InstanceId { service: service.expect("an attempt").id, number: 0 };
        let exit =
            model::LastExit { tail: "so it went".to_owned(), ..model::LastExit::new(code, self.now.date) };
        let said = InstanceReport { last_exit: Some(exit), ..self.said(id, Phase::Completed) };
        let cluster = self.state.instance(id).and_then(|it| it.cluster()).expect("placed");
        let same = self.state.aggregate(cluster).0;
        self.report(cluster, same, vec![said]);
        self.commit_all(Vec::new())
    }

    /// A service of an organisation with one instance, and its name.
    fn shop(&mut self, of: OrganizationId) -> (ServiceId, String) {
        let application = SlaApplication {
            id: None,
            name: "shop".to_owned(),
            namespace: "prod".to_owned(),
            description: String::new(),
            services: vec![wanted(small(), &[])],
        };
        let made =
            self.state.create_applications(&author(of), vec![application], &mut self.ids, self.now.date);
        let (created, changes) = made.expect("a new name");
        self.commit_all(changes);
        let service = self.state.services_of(created[0]).next().expect("its service");
        let (id, name) = (service.id, service.written_names().to_string());
        self.deploy(id);
        self.commit_all(Vec::new());
        (id, name)
    }

    fn live(&self, service: ServiceId) -> usize {
        self.state.instances_of(service).filter(|it| it.desired == Desired::Running).count()
    }

    fn secret_of(&mut self, organization: OrganizationId, name: &str, kind: SecretKind) -> SecretId {
        let id = SecretId::from_bytes(self.ids.next());
        let wanted = NewSecret { id, organization, name: name.to_owned(), kind };
        let (id, changes) = self.state.create_secret(wanted, self.now.date, envelope).expect("a new name");
        self.apply(changes);
        id
    }

    /// A kind of custom resources, and an object of it that belongs to that organisation.
    fn sensor(&mut self, of: OrganizationId) {
        let status =
            json!({"type": "object", "properties": {"phase": {"type": "string", "enum": ["good", "bad"]}}});
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object"}, "status": status}});
        let name = "sensors.example.com";
        let content = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": name, "uid": name},
            "spec": {
                "group": "example.com", "scope": "Namespaced", "names": {"plural": "sensors", "kind": "Sensor"},
                "versions": [{
                    "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": schema},
                }],
            },
        });
        let key = ObjectKey { resource: CRDS.to_owned(), organization: None, name: name.to_owned() };
        let object = Object { key: key.clone(), content: content.into() };
        self.commit_all(vec![Change::Object(key, Some(object))]);
        let content = json!({
            "apiVersion": "example.com/v1", "kind": "Sensor",
            "metadata": {"name": "roof", "uid": "roof", "generation": 1, "labels": {"tier": "edge"}}, "spec": {},
        });
        let key = sensor_key(of);
        let object = Object { key: key.clone(), content: content.into() };
        self.commit_all(vec![Change::Object(key, Some(object))]);
    }

    fn status_of_sensor(&self, of: OrganizationId) -> Value {
        self.state.object(&sensor_key(of)).expect("it is there").content["status"].clone()
    }

    /// Phase and error of each call.
    fn calls(&self) -> Vec<(CallPhase, &str)> {
        self.state.workflow().calls().map(|call| (call.phase, call.error.as_str())).collect()
    }

    fn told_of_one(&self) -> Vec<(&str, &str, &str)> {
        let of_tasks = self.state.events().filter(|event| event.name == "one");
        of_tasks.map(|event| (&*event.reason, event.message.as_str(), event.name.as_str())).collect()
    }

    fn pass_time(&mut self, millis: u64) {
        self.now.moment = self.now.moment.plus_millis(millis);
        self.now.date = self.now.date.plus_millis(millis);
    }

    fn fired_at_events(&self) -> Vec<(&str, String)> {
        let runs = self.state.workflow().runs();
        runs.filter_map(|run| match &run.cause {
            FireCause::Event { event, name, .. } => Some((event.as_str(), name.clone())),
            FireCause::Schedule(_) | FireCause::Hand | FireCause::Webhook(_) => None,
        })
        .collect()
    }

    fn ignitor_on(&mut self, on: Value) {
        self.keeps(WorkflowKind::Ignitor, document("Ignitor", "alarm", &json!({"on": on})));
    }
}

fn called(effect: Effect) -> Option<ActionCall> {
    if let Effect::CallAction(call) = effect { Some(*call) } else { None }
}

fn sensor_key(of: OrganizationId) -> ObjectKey {
    ObjectKey { resource: "sensors.example.com".to_owned(), organization: Some(of), name: "roof".to_owned() }
}

/// With a cluster, an ignitor, and the task `one` which does that when it has succeeded.
fn doing(actions: Value) -> Root {
    let mut root = Root::new();
    root.state.loaded(root.now);
    root.cluster(1, "site", &[resources(8, 8000)]);
    root.commit_all(Vec::new());
    root.keeps(WorkflowKind::Ignitor, document("Ignitor", "start", &json!({})));
    root.task_with("one", json!({"startOnIgnition": ["start"], "successActions": actions}));
    root
}

#[test]
fn what_is_done_to_a_service_is_in_the_commit_that_says_so_and_recorded() {
    let mut root = doing(json!([{"scaleService": {"name": "shop.prod.service.test", "replicas": 3}}]));
    let (service, name) = root.shop(ACME);
    assert_eq!(name, "shop.prod.service.test");
    let (changes, _) = root.runs(0);
    assert_eq!(root.live(service), 3);
    assert_eq!(root.calls(), [(CallPhase::Done, "")]);
    let is_done = |change: &Change| matches!(change, Change::Workflow(workflow::Change::Call(_, Some(call))) if call.phase == CallPhase::Done);
    assert!(changes.iter().any(is_done), "one commit has both");
    let record = changes.iter().find_map(|change| {
        if let Change::AuditRecord(_, Some(record)) = change { Some(&record.entry) } else { None }
    });
    let record = record.expect("it is recorded");
    assert_eq!((&record.actor, record.action.as_str()), (&Actor::Root, "action scaleService of a task"));
    assert_eq!(record.parameters["delivery"], "1-one-1-1-0");
    assert_eq!(record.organizations, [ACME.to_string()]);
    let restarted: Vec<Change> = root.commit_all(Vec::new()).0;
    assert_eq!((restarted, root.live(service)), (vec![], 3), "and nothing is done again");
}

#[test]
fn nothing_of_another_organisation_is_there_for_an_action() {
    let actions = json!([
        {"restartService": {"name": "shop.prod.service.test"}},
        {"rollbackService": {"name": "shop.prod.service.test"}},
        {"scaleService": {"name": "shop.prod.service.test", "replicas": 0}},
        {"setStatus": {"resource": "sensors.example.com", "name": "roof", "status": {"phase": "good"}}},
        {"restartService": {"name": "task-runs.tasks.1-one-1-0-1.tasks"}},
    ]);
    let mut root = doing(actions);
    let (service, _) = root.shop(ROOT);
    root.sensor(ROOT);
    let before = root.state.service(service).expect("there").clone();
    root.runs(0);
    let no_service = "there is no service `shop.prod.service.test`; name it as `kubectl get services` does";
    let given_up = |why| (CallPhase::GivenUp, why);
    assert_eq!(
        root.calls(),
        [
            given_up(no_service),
            given_up(no_service),
            given_up(no_service),
            given_up("there is no object `roof` of sensors.example.com"),
            given_up("`task-runs.tasks.1-one-1-0-1.tasks` is an attempt of a task, and runs once"),
        ]
    );
    assert_eq!((root.state.service(service), root.live(service)), (Some(&before), 1));
    assert_eq!(root.status_of_sensor(ROOT), Value::Null);
    let (reason, message, _) = root.told_of_one()[0];
    assert_eq!(reason, "ActionRefused");
    assert!(message.ends_with("is an attempt of a task, and runs once"), "the last of them: {message}");
    let changes = root.commit_all(Vec::new()).0;
    assert_eq!(changes, []);
}

#[test]
fn a_service_is_restarted_and_taken_back_to_what_it_was_before() {
    let mut root = doing(json!([{"restartService": {"name": "shop.prod.service.test"}}]));
    root.task_with("one-back", json!({"startOnSuccess": ["one"]}));
    let (service, _) = root.shop(ACME);
    let known = root.state.service(service).expect("there").clone();
    let mut other = wanted(small(), &[]);
    other.spec.image = "another".to_owned();
    let (number, changes) = root.state.update(&known, other, root.now.date).expect("its name");
    root.commit_all(changes);
    root.runs(0);
    let restarted = root.state.service(service).expect("there").clone();
    assert_eq!((number, restarted.revision), (2, 3));
    assert_eq!(restarted.spec().image, "another", "it is what it was");
    let (back, _) = root.state.roll_back(&restarted, None).expect("there is one before");
    assert_eq!(back, 1, "not to the one it was restarted from");
}

#[test]
fn a_status_is_set_as_its_kind_allows() {
    let set = |status: Value| json!({"setStatus": {"resource": "sensors.example.com", "name": "roof", "status": status}});
    let mut root = doing(json!([set(json!({"phase": "good"})), set(json!({"phase": "sad"}))]));
    root.sensor(ACME);
    root.runs(0);
    assert_eq!(root.status_of_sensor(ACME), json!({"phase": "good"}));
    let content = Value::clone(&root.state.object(&sensor_key(ACME)).expect("there").content);
    assert_eq!(content["metadata"]["generation"], 1, "a status makes no other generation");
    assert_eq!(content["metadata"]["resourceVersion"], Value::Null);
    assert_eq!(content["metadata"]["managedFields"][0]["manager"], "mangrove-workflows");
    let calls = root.calls();
    assert_eq!(calls[0].0, CallPhase::Done);
    assert!(calls[1].0 == CallPhase::GivenUp && calls[1].1.contains("status.phase"), "{calls:?}");
}

#[test]
fn an_event_that_a_task_writes_is_one_about_the_task() {
    let mut root = doing(json!([{"writeEvent": {"reason": "Counted", "message": "all of it"}}]));
    root.runs(0);
    assert_eq!(root.told_of_one(), [("Counted", "all of it", "one")]);
    assert_eq!(root.calls(), [(CallPhase::Done, "")]);
}

#[test]
fn others_are_called_until_it_is_taken_with_one_delivery_id() {
    let mut root = doing(json!([{"webhook": {"url": "https://hooks.example/x", "secret": "alarm"}}]));
    assert_eq!(root.runs(0).1, []);
    assert_eq!(root.calls()[0].1, "there is no secret `alarm`; list them with `mangrove secret list`");
    root.secret_of(ROOT, "alarm", SecretKind::Opaque);
    root.pass_time(1000);
    assert_eq!(root.commit_all(Vec::new()).1, [], "that of another organisation is none");
    let secret = root.secret_of(ACME, "alarm", SecretKind::Opaque);
    root.pass_time(2000);
    let calls = root.commit_all(Vec::new()).1;
    let [call] = &calls[..] else { panic!("one call, not {calls:?}") };
    assert_eq!((call.id.to_string().as_str(), call.url.as_str()), ("1-one-1-1-0", "https://hooks.example/x"));
    assert_eq!(call.secret, Some(SecretVersionId { secret, number: 1 }));
    let told = &call.body;
    assert_eq!((&told["delivery"], &told["action"]), (&json!("1-one-1-1-0"), &json!("webhook")));
    assert_eq!((&told["task"], &told["run"], &told["result"]), (&json!("one"), &json!(1), &json!("success")));
    let failed = root.state.action_called(call.id.clone(), Err("it is away".to_owned()), root.now);
    root.commit_all(failed);
    root.pass_time(4000);
    let again = root.commit_all(Vec::new()).1;
    assert_eq!(again[0].id, call.id);
    let taken = root.state.action_called(call.id.clone(), Ok(()), root.now);
    root.commit_all(taken);
    root.pass_time(200_000);
    assert_eq!(
        (root.commit_all(Vec::new()).1, root.calls()),
        (vec![], vec![(CallPhase::Done, "it is away")])
    );
}

#[test]
fn a_plugin_is_an_object_that_says_whom_to_ask() {
    let mut root = doing(json!(["tell", {"plugin": {"name": "tell", "with": {"loud": true}}}]));
    root.runs(0);
    assert_eq!(
        root.calls()[0].1,
        "there is no plugin `tell`; make an object of the kind Plugin with that name"
    );
    root.keeps(WorkflowKind::Plugin, document("Plugin", "tell", &json!({"url": "https://plugin.example/"})));
    root.pass_time(1000);
    let calls = root.commit_all(Vec::new()).1;
    let told: Vec<(&str, &Value, &Value)> =
        calls.iter().map(|call| (call.url.as_str(), &call.body["plugin"], &call.body["with"])).collect();
    let (url, name) = ("https://plugin.example/", json!("tell"));
    assert_eq!(told, [(url, &name, &Value::Null), (url, &name, &json!({"loud": true}))]);
}

#[test]
fn no_organisation_waits_for_the_receivers_of_another() {
    let actions: Vec<Value> =
        (0..16).map(|_| json!({"webhook": {"url": "https://hooks.example/x"}})).collect();
    let mut root = doing(json!(actions));
    let calls = root.runs(0).1;
    assert_eq!(calls.len(), 8, "as many as one organisation may have under way");
    let taken = root.state.action_called(calls[0].id.clone(), Ok(()), root.now);
    let next = root.commit_all(taken).1;
    assert_eq!(next.len(), 1);
    assert!(calls.iter().all(|call| call.id != next[0].id));
    root.pass_time(120_000);
    let lost = root.commit_all(Vec::new()).1;
    assert_eq!(lost.len(), 8, "of which nothing was heard for so long is made again");
}

#[test]
fn an_ignitor_fires_at_what_happens_in_the_same_commit() {
    let mut root = doing(json!([]));
    root.ignitor_on(json!([{"event": "instance.failed", "name": "shop.prod.service.test"}]));
    let (service, name) = root.shop(ACME);
    let id = InstanceId { service, number: 0 };
    let cluster = root.state.instance(id).and_then(|it| it.cluster()).expect("placed");
    let same = root.state.aggregate(cluster).0;
    let said = root.said(id, Phase::Failed);
    root.report(cluster, same, vec![said]);
    let changes = root.commit_all(Vec::new()).0;
    assert_eq!(root.fired_at_events(), [("instance.failed", format!("{name}-0"))]);
    let began = |change: &Change| matches!(change, Change::Workflow(workflow::Change::Run(_, Some(_))));
    assert!(changes.iter().any(began));
    let run = root.state.workflow().runs().next().expect("it began");
    let data: Value = serde_json::from_str(&run.data).expect("JSON");
    assert_eq!((&data["event"], &data["kind"]), (&json!("instance.failed"), &json!("Instance")));
    let key = ObjectKey {
        resource: WorkflowKind::Run.resource(),
        organization: Some(ACME),
        name: run.id.to_string(),
    };
    let shown = &root.state.object(&key).expect("shown").content["status"];
    assert_eq!(shown["cause"], json!({"event": "instance.failed", "name": format!("{name}-0")}));
}

#[test]
fn what_is_done_because_of_an_event_is_recorded_with_the_event() {
    let mut root = doing(json!([]));
    root.ignitor_on(json!([{"event": "resource.created", "kind": "Sensor"}]));
    let actions = json!([{"scaleService": {"name": "shop.prod.service.test", "replicas": 3}}]);
    root.task_with("two", json!({"startOnIgnition": ["alarm"], "successActions": actions}));
    root.shop(ACME);
    root.sensor(ACME);
    let run = root.state.workflow().runs().last().expect("it began").id;
    let changes = root.task_ends(&format!("{run}-two-1-0-1"), 0).0;
    let record = changes.iter().find_map(|change| {
        if let Change::AuditRecord(_, Some(record)) = change { Some(&record.entry) } else { None }
    });
    let told = &record.expect("it is recorded").parameters;
    let told = ["run", "event", "about"].map(|name| told.get(name).map(String::as_str));
    assert_eq!(told, [Some(run.to_string().as_str()), Some("resource.created"), Some("roof")]);
}

#[test]
fn an_ignitor_hears_of_nothing_that_is_anothers_or_an_attempt() {
    let mut root = doing(json!([]));
    root.ignitor_on(json!([{"event": "instance.scheduled"}, {"event": "cluster.joined"}]));
    root.shop(ROOT);
    root.cluster(2, "other", &[resources(1, 100)]);
    root.runs(0);
    assert_eq!(root.fired_at_events(), []);
    root.shop(ACME);
    assert_eq!(root.fired_at_events().len(), 1);
}

#[test]
fn custom_resources_and_what_tasks_write_are_events() {
    let mut root = doing(json!([
        {"setStatus": {"resource": "sensors.example.com", "name": "roof", "status": {"phase": "bad"}}},
        {"writeEvent": {"reason": "Counted", "message": "all"}},
    ]));
    root.ignitor_on(json!([
        {"event": "resource.created", "kind": "Sensor", "labels": {"tier": "edge"}},
        {"event": "resource.created", "labels": {"tier": "cloud"}},
        {"event": "resource.changed", "name": "roof"},
        {"event": "resource.deleted"},
        {"event": "task.Counted", "name": "one", "labels": {"tier": "edge"}},
    ]));
    root.sensor(ACME);
    let roof = || "roof".to_owned();
    assert_eq!(root.fired_at_events(), [("resource.created", roof())]);
    root.commit_all(Vec::new());
    root.runs(0);
    root.runs(0);
    root.commit_all(vec![Change::Object(sensor_key(ACME), None)]);
    let mut fired = root.fired_at_events();
    fired.sort();
    let counted = || ("task.Counted", "one".to_owned());
    let expected = [
        ("resource.changed", roof()),
        ("resource.created", roof()),
        ("resource.deleted", roof()),
        counted(),
        counted(),
    ];
    assert_eq!(fired, expected, "the second time the status is what it is");
}

#[test]
fn what_tasks_do_may_be_what_they_wait_for_and_comes_to_an_end() {
    let mut root = doing(json!([]));
    root.ignitor_on(json!([{"event": "task.Again"}]));
    root.task_with(
        "two",
        json!({"startOnIgnition": ["alarm", "start"], "successActions": [{"writeEvent": {"reason": "Again", "message": ""}}]}),
    );
    root.runs(0);
    let mut run = 1;
    while root.state.services.values().any(|it| it.names.service == format!("{run}-two-1-0-1")) {
        root.task_ends(&format!("{run}-two-1-0-1"), 0);
        run += 1;
        assert!(run < 100, "it has no end");
    }
    let name = ObjectName::new(ACME.to_string(), "alarm");
    let ignitor = root.state.workflow().ignitor(&name).expect("there");
    assert_eq!((ignitor.fired, ignitor.skipped), (30, 1));
    let key =
        ObjectKey { resource: WorkflowKind::Ignitor.resource(), organization: Some(ACME), name: name.name };
    let status = root.state.object(&key).expect("there").content["status"].clone();
    assert!(
        status["message"].as_str().is_some_and(|told| told.contains("fires at 30 of them in 10m")),
        "{status}"
    );
}

#[test]
fn an_event_that_never_happens_is_refused_with_those_that_do() {
    let ignitor =
        document("Ignitor", "i", &json!({"on": [{"event": "instance.failed"}, {"event": "addon.degraded"}]}));
    let causes = WorkflowKind::Ignitor.check(&ignitor, None, BEGINNING.date).expect_err("unknown");
    assert_eq!(causes[0].field, "spec.on[1].event");
    assert!(
        causes[0].message.starts_with("nothing is called \"addon.degraded\"; there are instance.scheduled")
    );
}
