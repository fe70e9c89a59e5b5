//! What is read of documents, and how they are refused.

use model::{Mebibytes, Millicores, Span, Timestamp};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::parse_rfc3339;

/// Takes any object as a schema and any document as what it must be.
#[derive(Debug)]
struct Anything;

impl Schemas for Anything {
    fn ensure_schema(&self, schema: &Value) -> Result<(), (String, String)> {
        if schema.is_object() { Ok(()) } else { Err((".type".to_owned(), "it is an object".to_owned())) }
    }

    fn ensure_valid(&self, _: &Value, _: &Value) -> Result<(), String> {
        Ok(())
    }
}

const NOON: &str = "2026-01-15T12:00:00Z";

fn now() -> Timestamp {
    parse_rfc3339(NOON).expect("a date")
}

/// A task with these fields in its `spec` besides what it needs.
fn task_document(fields: &Value) -> Value {
    let mut spec = json!({"template": {"spec": {"containers": [{"name": "c", "image": "busybox"}]}}});
    for (field, value) in fields.as_object().expect("an object") {
        spec[field] = value.clone();
    }
    json!({"apiVersion": API_VERSION, "kind": "Task", "metadata": {"name": "own"}, "spec": spec})
}

fn task(fields: &Value) -> TaskSpec {
    TaskSpec::parse(&task_document(fields), &Anything).unwrap_or_else(|causes| panic!("{causes:#?}"))
}

fn told<T: std::fmt::Debug>(read: Result<T, Vec<Cause>>) -> Vec<String> {
    let causes = read.expect_err("it is refused");
    causes.iter().map(|cause| format!("{} {}: {}", cause.reason, cause.field, cause.message)).collect()
}

fn refused(fields: &Value) -> Vec<String> {
    told(TaskSpec::parse(&task_document(fields), &Anything))
}

fn ignitor_document(fields: &Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": "Ignitor", "metadata": {"name": "own"}, "spec": fields})
}

fn ignitor(fields: &Value) -> IgnitorSpec {
    let read = IgnitorSpec::parse(&ignitor_document(fields), None, now());
    read.unwrap_or_else(|causes| panic!("{causes:#?}"))
}

fn ignitor_refused(fields: &Value) -> Vec<String> {
    told(IgnitorSpec::parse(&ignitor_document(fields), None, now()))
}

#[test]
fn a_task_as_orca_has_it_is_taken_as_it_is() {
    let document = json!({
        "apiVersion": "sirocco.cloud/v1alpha1",
        "kind": "Task",
        "metadata": {"name": "task1", "labels": {"app": "x"}},
        "spec": {
            "description": "What it is for",
            "startOnIgnition": ["ignitor1"],
            "startOnSuccess": null,
            "startOnFailure": ["task1"],
            "successActions": null,
            "failureActions": ["tell-somebody"],
            "template": {"spec": {
                "containers": [{"name": "firstContainer", "image": "registry/Image1", "command": ["run it"]}],
                "restartPolicy": "Never",
            }},
        },
    });
    let spec = TaskSpec::parse(&document, &Anything).expect("it is valid");
    let mut expected = TaskSpec::running("registry/Image1");
    expected.description = "What it is for".to_owned();
    expected.start_on_ignition.insert("ignitor1".to_owned());
    expected.start_on_failure.insert("task1".to_owned());
    expected.failure_actions.push(Action::Plugin { name: "tell-somebody".to_owned(), with: None });
    expected.container.name = "firstContainer".to_owned();
    expected.container.command = vec!["run it".to_owned()];
    assert_eq!(spec, expected);
}

#[test]
fn an_ignitor_as_orca_has_it_is_taken_as_it_is() {
    let spec = ignitor(&json!({"description": "Begins it", "scheduled": "NOW", "data": "given to tasks"}));
    let expected = IgnitorSpec {
        description: "Begins it".to_owned(),
        data: "given to tasks".to_owned(),
        schedule: Some(Schedule::Now),
        ..IgnitorSpec::by_hand()
    };
    assert_eq!(spec, expected);
    let at = ignitor(&json!({"scheduled": "2026-02-03T19:34:05Z"})).schedule;
    assert_eq!(at, parse_rfc3339("2026-02-03T19:34:05Z").map(Schedule::At));
    let Some(Schedule::Cron { expression, zone }) = ignitor(&json!({"scheduled": "5 * * * *"})).schedule
    else {
        panic!("a cron expression");
    };
    assert_eq!((expression.to_string(), zone.to_string()), ("5 * * * *".to_owned(), "UTC".to_owned()));
}

#[test]
fn all_that_a_task_may_have_is_read() {
    let spec = task(&json!({
        "startOnIgnition": ["i"],
        "startOnSuccess": ["a", "b"],
        "startOnFailure": ["b"],
        "join": {"expression": "i.fired && (a.success || b.failure)"},
        "when": "a.data == 'x'",
        "retry": {"limit": 3, "backoff": {"initial": "2s", "factor": 3, "max": "1m"}, "onExitCodes": [1, 75]},
        "timeout": "10m",
        "concurrency": "replace",
        "forEach": {"items": [1, "two"], "parallelism": 4},
        "inputs": {"schema": {"type": "object"}},
        "outputs": {"schema": {"type": "array"}},
        "placement": {"clusters": ["c1"]},
        "historyLimits": {"successful": 5},
        "maxHops": 7,
        "successActions": [
            {"webhook": {"url": "https://example.org/x", "secret": "key"}},
            {"runTask": {"name": "next"}},
            {"scaleService": {"name": "web", "replicas": 3}},
            {"setStatus": {"resource": "flprojects", "name": "p", "status": {"phase": "Done"}}},
            {"writeEvent": {"reason": "Done"}},
            {"plugin": {"name": "coffee", "with": {"cups": 2}}},
        ],
        "template": {"metadata": {"labels": {}}, "spec": {"containers": [{
            "image": "i", "args": ["x"], "env": [{"name": "A", "value": "b"}],
            "resources": {"limits": {"cpu": 2, "memory": "1Gi"}, "requests": {"cpu": "250m"}},
        }]}},
    }));
    let Join::Expression(join) = &spec.join else { panic!("an expression") };
    assert_eq!(join.to_string(), "i.fired && (a.success || b.failure)");
    assert_eq!((spec.retry.limit, spec.retry.pause_after(1), spec.retry.pause_after(3)), (3, 2000, 18_000));
    assert_eq!((spec.retry.pause_after(9), spec.retry.on_exit_codes), (60_000, [1, 75].into()));
    assert_eq!(
        (spec.timeout, spec.concurrency, spec.max_hops),
        (Span::from_secs(600), Concurrency::Replace, 7)
    );
    assert_eq!(
        spec.for_each.map(|each| (each.items, each.parallelism)),
        Some((Items::Given(vec![json!(1), json!("two")]), 4))
    );
    assert_eq!(spec.history, HistoryLimits { successful: 5, failed: 10 });
    assert_eq!((spec.container.cpu, spec.container.memory), (Millicores(250), Mebibytes(1024)));
    assert_eq!(spec.success_actions.len(), 6);
    assert_eq!(spec.success_actions[1], Action::RunTask { name: "next".to_owned() });
    assert_eq!(spec.outputs, Some(json!({"type": "array"})));
}

#[test]
fn what_is_stored_of_a_task_is_read_again() {
    let spec = task(&json!({
        "startOnSuccess": ["a"], "join": "all", "when": "a.output.x == 1",
        "forEach": {"from": "a"}, "successActions": ["p", {"rollbackService": {"name": "web"}}],
    }));
    let text = serde_json::to_string(&spec).expect("it is written");
    assert_eq!(serde_json::from_str::<TaskSpec>(&text).expect("it is read"), spec);
    let spec = ignitor(&json!({
        "scheduled": "0 4 * * sun", "timeZone": "Europe/Berlin", "jitter": "5m", "suspend": true,
        "catchUp": {"policy": "one", "window": "2h"}, "overlap": "queue", "webhook": {"secret": "key"},
        "on": [{"event": "cluster.lost", "kind": "cluster", "name": "c1", "labels": {"a": "b"}}],
    }));
    assert_eq!(spec.catch_up, CatchUp { policy: CatchUpPolicy::One, window: Span::from_secs(7200) });
    let text = serde_json::to_string(&spec).expect("it is written");
    assert_eq!(serde_json::from_str::<IgnitorSpec>(&text).expect("it is read"), spec);
}

#[test]
fn all_that_is_wrong_with_a_task_is_told_with_its_path() {
    let causes = refused(&json!({
        "startOnIgnitions": ["i"],
        "startOnSuccess": ["Not A Name", "a", "a"],
        "startOnFailure": "a",
        "join": "some",
        "when": "a.sucess",
        "retry": {"limit": 101, "backoff": {"initial": "1d"}, "onExitCodes": [0]},
        "timeout": "30d",
        "forEach": {},
        "outputs": {"schema": "x"},
        "maxHops": 0,
        "failureActions": [5, {"webhook": {"url": "ftp://x"}}, {"scaleService": {"name": "web"}}, {"dance": {}}],
        "template": {"spec": {
            "restartPolicy": "Always",
            "containers": [{"image": "", "env": [{"name": "ORCA_DATA"}], "imagePullPolicy": "Always"}, {}],
        }},
    }));
    let expected = [
        "FieldValueNotSupported spec.template.spec.restartPolicy: must be Never: a task runs to its end, and `retry` says how often it is tried",
        "FieldValueNotSupported spec.template.spec.containers[1]: a task has one container; make another task of this one",
        "FieldValueRequired spec.template.spec.containers[0].image: is missing: say which image runs",
        "FieldValueInvalid spec.template.spec.containers[0].env[0].name: `ORCA_DATA` is one of those that every task is given",
        "FieldValueNotSupported spec.template.spec.containers[0].imagePullPolicy: must be one of IfNotPresent, but is \"Always\"",
        "FieldValueInvalid spec.startOnSuccess[0]: must be the name of a resource, but is \"Not A Name\"",
        "FieldValueDuplicate spec.startOnSuccess[2]: names `a` again; once is enough",
        "FieldValueTypeInvalid spec.startOnFailure: must be a list, but is the text \"a\"",
        "FieldValueNotSupported spec.join: must be one of any, all, but is \"some\"",
        "FieldValueInvalid spec.when: `.sucess` is not one of `.success`, `.failure`, `.fired`, `.data` or `.output` at character 3",
        "FieldValueTypeInvalid spec.failureActions[0]: must be the name of a plugin or one of webhook, runTask, restartService, scaleService, rollbackService, setStatus, writeEvent or plugin, but is 5",
        "FieldValueInvalid spec.failureActions[1].webhook.url: must begin with https:// or http://",
        "FieldValueRequired spec.failureActions[2].scaleService.replicas: is missing: say how many instances",
        "FieldUnknown spec.failureActions[3].dance: is an unknown action; there are webhook, runTask, restartService, scaleService, rollbackService, setStatus, writeEvent or plugin",
        "FieldValueInvalid spec.retry.limit: must be a whole number from 0 to 100, but is 101",
        "FieldValueInvalid spec.retry.onExitCodes[0]: must be an exit code from 1 to 255: 0 is no failure",
        "FieldValueInvalid spec.retry.backoff.initial: `1d` is not a span of time: expected a whole number with `ms`, `s`, `m` or `h`, such as `10s`, at most a year",
        "FieldValueInvalid spec.timeout: `30d` is not a span of time: expected a whole number with `ms`, `s`, `m` or `h`, such as `10s`, at most a year",
        "FieldValueRequired spec.forEach.items: is missing: say the items, or `from` which task or ignitor they come",
        "FieldValueInvalid spec.outputs.schema.type: it is an object",
        "FieldValueInvalid spec.maxHops: must be a whole number from 1 to 1000, but is 0",
        "FieldUnknown spec.startOnIgnitions: is an unknown field; did you mean `startOnIgnition`?",
    ];
    assert_eq!(causes, expected);
}

#[test]
fn conditions_that_ask_what_never_comes_are_refused() {
    for (fields, cause) in [
        (
            json!({"startOnSuccess": ["a"], "join": {"expression": "a.success && b.success"}}),
            "FieldValueInvalid spec.join.expression: asks about `b`, which is not in startOnSuccess",
        ),
        (
            json!({"startOnSuccess": ["a"], "when": "a.failure"}),
            "FieldValueInvalid spec.when: asks about `a`, which is not in startOnFailure",
        ),
        (
            json!({"startOnSuccess": ["own", "a"], "join": {"expression": "own.success || a.success"}}),
            "FieldValueInvalid spec.join.expression: asks about its own task, which it is to start: that is a circle",
        ),
        (
            json!({"startOnSuccess": ["own", "a"], "join": "all"}),
            "FieldValueInvalid spec.join: waits for its own task, which never starts so: take it out of startOnSuccess and startOnFailure, or let any trigger start it",
        ),
        (
            json!({"startOnSuccess": ["a"], "startOnFailure": ["a"], "join": "all"}),
            "FieldValueInvalid spec.join: waits for `a` to succeed and to fail, and it does one of them",
        ),
        (
            json!({"join": "all"}),
            "FieldValueInvalid spec.join: has nothing to wait for: name what starts the task",
        ),
        (
            json!({"join": {}}),
            "FieldValueRequired spec.join.expression: is missing: say what must be so, or write `join: all`",
        ),
        (
            json!({"startOnSuccess": ["a"], "forEach": {"from": "b"}}),
            "FieldValueInvalid spec.forEach.from: names `b`, which does not start the task",
        ),
    ] {
        assert_eq!(refused(&fields), [cause]);
    }
}

#[test]
fn a_wrong_ignitor_is_refused_with_its_paths() {
    for (fields, cause) in [
        (
            json!({"scheduled": "61 * * * *"}),
            "FieldValueInvalid spec.scheduled: is neither NOW nor a date such as 2026-11-22T10:00:00Z nor a cron expression: as one, \"61 * * * *\" its minute `61` must be made of numbers from 0 to 59",
        ),
        (
            json!({"scheduled": "2026-01-15T11:59:59Z"}),
            "FieldValueInvalid spec.scheduled: is past: it is 2026-01-15T12:00:00Z. Say a later time, or NOW, or let it be made up for by `catchUp`",
        ),
        (
            json!({"scheduled": "2026-01-15T10:59:00Z", "catchUp": "one"}),
            "FieldValueInvalid spec.scheduled: is past: it is 2026-01-15T12:00:00Z. Say a later time, or NOW, or let it be made up for by `catchUp`",
        ),
        (
            json!({"data": "x".repeat(4097)}),
            "FieldValueTooLong spec.data: must have at most 4096 bytes, but has 4097",
        ),
        (
            json!({"scheduled": "5 * * * *", "timeZone": "Mars/Base"}),
            "FieldValueInvalid spec.timeZone: `Mars/Base` is not a time zone of the IANA database, such as Europe/Berlin or UTC",
        ),
        (
            json!({"suspended": true}),
            "FieldUnknown spec.suspended: is an unknown field; did you mean `suspend`?",
        ),
        (
            json!({"true": [{"event": "instance.failed"}]}),
            "FieldUnknown spec.true: is an unknown field; did you mean \"on\"? YAML reads it as true unless it is in quotation marks",
        ),
        (json!({"on": [{}]}), "FieldValueRequired spec.on[0].event: is missing: say what happens"),
        (
            json!({"catchUp": {"policy": "all", "window": "200h"}}),
            "FieldValueInvalid spec.catchUp.window: must be from 1s to 168h, but is 200h",
        ),
    ] {
        assert_eq!(ignitor_refused(&fields), [cause]);
    }
}

#[test]
fn a_time_that_is_past_is_taken_if_it_is_made_up_for_or_was_there_before() {
    let fields = json!({"scheduled": "2026-01-15T11:30:00Z", "catchUp": {"policy": "one", "window": "1h"}});
    let past = ignitor(&fields);
    let unchanged = ignitor_document(&json!({"scheduled": "2026-01-15T11:30:00Z"}));
    assert!(IgnitorSpec::parse(&unchanged, Some(&past), now()).is_ok());
    assert!(IgnitorSpec::parse(&unchanged, Some(&IgnitorSpec::by_hand()), now()).is_err());
}

#[test]
fn an_object_of_another_kind_is_refused() {
    let document = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "Ä"}, "extra": 1});
    assert_eq!(
        told(TaskSpec::parse(&document, &Anything)),
        [
            "FieldValueInvalid metadata.name: must have at most 63 letters a-z, digits, `-` and `.`, but is \"Ä\"",
            "FieldValueNotSupported apiVersion: must be sirocco.cloud/v1alpha1",
            "FieldValueNotSupported kind: must be Task",
            "FieldValueRequired spec: is missing: say what the Task is to do",
            "FieldUnknown extra: is an unknown field; there are apiVersion, kind, metadata, spec, status",
        ]
    );
    assert_eq!(
        told(TaskSpec::parse(&json!([]), &Anything)),
        ["FieldValueTypeInvalid : must be an object, but is a list"]
    );
}

#[test]
fn what_could_not_be_read_again_is_refused() {
    let deep = (0..70).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(
        refused(&json!({"forEach": {"items": [deep]}})),
        ["FieldValueTooLong : values are nested deeper than 64"]
    );
}

/// Values in the fields of both kinds, rarely as they should be.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<u32>().prop_map(|number| json!(number)),
        "[a-z*&|!. 0-9'\"]{0,12}".prop_map(Value::String),
        any::<String>().prop_map(Value::String),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let field = proptest::sample::select(vec![
            "expression",
            "limit",
            "backoff",
            "initial",
            "items",
            "from",
            "schema",
            "spec",
            "containers",
            "image",
            "env",
            "name",
            "url",
            "webhook",
            "policy",
            "window",
            "event",
            "labels",
            "resources",
            "cpu",
            "limits",
            "x",
        ]);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::vec((field, inner), 0..4).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_document_makes_it_panic(
        field in proptest::sample::select(vec![
            "startOnSuccess", "join", "when", "successActions", "retry", "timeout", "forEach", "outputs", "placement",
            "historyLimits", "maxHops", "template", "scheduled", "timeZone", "catchUp", "webhook", "on", "jitter",
        ]),
        value in value(),
    ) {
        let fields = json!({field: value});
        for read in [
            TaskSpec::parse(&task_document(&fields), &Anything).map(drop),
            IgnitorSpec::parse(&ignitor_document(&fields), None, now()).map(drop),
        ] {
            if let Err(causes) = read {
                prop_assert!(!causes.is_empty() && causes.iter().all(|cause| !cause.message.is_empty()));
            }
        }
    }
}
