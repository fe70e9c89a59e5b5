//! How tasks, ignitors and runs are, as the status of their objects.

use model::{Span, Timestamp};
use serde_json::{Map, Value, json};
use workflow::{
    Call, CallPhase, EVENT_FIRES_MILLIS, FireCause, Heard, Ignitor, MOST_EVENT_FIRES, Run, RunReason, Source,
    Task, TaskRun, Told, Workflow, rfc3339,
};

use super::Workflows;

/// Times that are told of an ignitor.
const MOST_TIMES: usize = 5;
/// Task runs that are told of a run, the last ones: an object has at most 256 KiB.
const MOST_PARTS: usize = 200;
/// Whether all that may start a task is there.
const TRIGGERS_FOUND: &str = "TriggersFound";

/// An object without those of its fields that say nothing.
fn fields<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let said = fields.into_iter().filter(|(_, value)| !value.is_null() && value != "");
    Value::Object(said.map(|(name, value)| (name.to_owned(), value)).collect())
}

fn date(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, |at| Value::from(rfc3339(at)))
}

fn generation(object: &Value) -> Value {
    object["metadata"]["generation"].clone()
}

pub(super) fn of_task(engine: &Workflow, task: &Task, before: &Value, now: Timestamp) -> Value {
    let columns = engine.columns(task);
    fields([
        ("state", Value::from(columns.state)),
        ("lastSuccess", date(columns.last_success)),
        ("lastFailure", date(columns.last_failure)),
        ("failuresCount", Value::from(columns.failures_count)),
        ("observedGeneration", generation(before)),
        ("conditions", json!([triggers_found(engine, task, before, now)])),
    ])
}

/// What a task waits for and is not there may come: a warning.
fn triggers_found(engine: &Workflow, task: &Task, before: &Value, now: Timestamp) -> Value {
    let warnings = engine.warnings(&task.name.namespace, &task.name.name, &task.spec);
    let (status, reason) = if warnings.is_empty() { ("True", "Found") } else { ("False", "NotFound") };
    let message: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    let known = before["status"]["conditions"].as_array().into_iter().flatten();
    let same = known.filter(|known| known["type"] == TRIGGERS_FOUND && known["status"] == status);
    let since = same.filter_map(|known| known["lastTransitionTime"].as_str()).next();
    json!({
        "type": TRIGGERS_FOUND, "status": status, "reason": reason, "message": message.join("; "),
        "lastTransitionTime": since.map_or_else(|| rfc3339(now), str::to_owned),
        "observedGeneration": generation(before),
    })
}

pub(super) fn of_ignitor(ignitor: &Ignitor, before: &Value) -> Value {
    let state = match (ignitor.spec.suspend, ignitor.is_completed()) {
        (_, true) => "Completed",
        (true, false) => "Suspended",
        (false, false) => "Active",
    };
    let next: Vec<String> = ignitor.next_times(MOST_TIMES).into_iter().map(rfc3339).collect();
    fields([
        ("state", Value::from(state)),
        ("fired", Value::from(ignitor.fired)),
        ("lastFired", date(ignitor.last_fired)),
        ("skipped", Value::from(ignitor.skipped)),
        ("missed", Value::from(ignitor.missed)),
        ("message", flooded(ignitor)),
        ("next", if next.is_empty() { Value::Null } else { Value::from(next) }),
        ("observedGeneration", generation(before)),
    ])
}

fn flooded(ignitor: &Ignitor) -> Value {
    let told = |at| {
        format!(
            "at {} events came too fast: it fires at {MOST_EVENT_FIRES} of them in {}, and skips the others; does it \
             wait for what its own tasks do?",
            rfc3339(at),
            Span::from_millis(EVENT_FIRES_MILLIS)
        )
    };
    ignitor.flooded.map_or(Value::Null, |at| Value::from(told(at)))
}

/// The object of a run; its metadata and what was asked of it stay as they were.
pub(super) fn run(workflows: &Workflows, run: &Run, before: Option<&Value>) -> Value {
    let mut object = before.cloned().unwrap_or_else(|| fresh_run(run));
    object["status"] = of_run(workflows, run);
    object
}

/// A run nobody has written to. Its id follows from its number, which is never given again.
fn fresh_run(run: &Run) -> Value {
    json!({
        "apiVersion": workflow::API_VERSION, "kind": "Run",
        "metadata": {
            "name": run.id.to_string(),
            "uid": format!("00000000-0000-8000-8000-{:012x}", run.id.0 & 0xffff_ffff_ffff),
            "generation": 1,
            "creationTimestamp": rfc3339(run.created),
            "labels": {(LABEL): run.ignitor.name},
        },
        "spec": fields([("ignitor", Value::from(run.ignitor.name.clone())), ("data", Value::from(run.data.clone()))]),
    })
}

/// Names the ignitor of a run.
const LABEL: &str = "sirocco.cloud/ignitor";

fn of_run(workflows: &Workflows, run: &Run) -> Value {
    let engine = &workflows.engine;
    let cause = match &run.cause {
        FireCause::Schedule(at) => json!({"schedule": rfc3339(*at)}),
        FireCause::Hand => json!({"hand": true}),
        FireCause::Webhook(delivery) => json!({"webhook": delivery}),
        FireCause::Event { number: _, event, name } => json!({"event": event, "name": name}),
    };
    let reason = run.reason.as_ref().map_or(Value::Null, |reason| Value::from(reason.as_str()));
    let message = match &run.reason {
        Some(RunReason::TaskFailed(task)) => format!("task {task} failed, and no other was there for it"),
        Some(RunReason::MaxHops(task)) => format!("task {task} was to start, and `maxHops` starts led to it"),
        Some(RunReason::TooManyStarts) => "it had more starts than a run may have".to_owned(),
        None => String::new(),
    };
    let mut parts: Vec<&TaskRun> = engine.task_runs(run.id).collect();
    parts.sort_by_key(|part| (part.hops, part.since));
    let omitted = parts.len().saturating_sub(MOST_PARTS);
    let tasks: Vec<Value> = parts[omitted..].iter().map(|part| of_part(workflows, part)).collect();
    fields([
        ("phase", Value::from(format!("{:?}", run.phase))),
        ("since", Value::from(rfc3339(run.since))),
        ("finished", if run.phase.is_over() { Value::from(rfc3339(run.since)) } else { Value::Null }),
        ("cause", cause),
        ("reason", reason),
        ("message", Value::from(message)),
        ("tasks", Value::from(tasks)),
        ("omittedTasks", if omitted > 0 { Value::from(omitted) } else { Value::Null }),
    ])
}

fn of_part(workflows: &Workflows, part: &TaskRun) -> Value {
    let detail = Some(part.detail.as_str()).filter(|detail| !detail.is_empty());
    let detail = detail.or_else(|| workflows.obstacle(part)).unwrap_or_default();
    let only = part.items.first().filter(|_| part.spec.for_each.is_none());
    let outcome = only.and_then(|item| item.outcome.as_ref());
    let mut shown = fields([
        ("name", Value::from(part.id.task.clone())),
        ("round", Value::from(part.id.round)),
        ("phase", Value::from(format!("{:?}", part.phase))),
        ("since", Value::from(rfc3339(part.since))),
        ("detail", Value::from(detail)),
        ("after", Value::from(part.inputs.iter().map(heard).collect::<Vec<_>>())),
        ("attempts", only.map_or(Value::Null, |item| Value::from(item.attempts))),
        ("exitCode", outcome.and_then(|outcome| outcome.code).map_or(Value::Null, Value::from)),
        ("handled", if part.handled { Value::from(true) } else { Value::Null }),
        ("actions", actions(&workflows.engine, part)),
    ]);
    if part.spec.for_each.is_some() {
        shown["items"] = Value::Object(counted(part));
    }
    shown
}

/// How the actions of a task run go, if there are any: how many were taken, wait or were given up, and why the last of those
/// that were not.
fn actions(engine: &Workflow, part: &TaskRun) -> Value {
    let calls: Vec<&Call> = engine.calls_of(&part.id).collect();
    let count = |is_it: fn(&Call) -> bool| match calls.iter().filter(|call| is_it(call)).count() {
        0 => Value::Null,
        count => Value::from(count),
    };
    if calls.is_empty() {
        return Value::Null;
    }
    let last = calls.iter().rev().find(|call| call.phase != CallPhase::Done && !call.error.is_empty());
    fields([
        ("taken", count(|call| call.phase == CallPhase::Done)),
        ("waiting", count(Call::is_due)),
        ("givenUp", count(|call| call.phase == CallPhase::GivenUp)),
        ("delivery", last.map_or(Value::Null, |call| Value::from(call.id.to_string()))),
        ("error", last.map_or(Value::Null, |call| Value::from(call.error.as_str()))),
    ])
}

/// How many items of a task run have ended how.
fn counted(part: &TaskRun) -> Map<String, Value> {
    let mut counts = Map::new();
    counts.insert("all".to_owned(), Value::from(part.items.len()));
    let over = part.items.iter().filter(|item| item.phase == workflow::ItemPhase::Over);
    for ended in over.filter_map(|item| item.outcome.as_ref()).map(|outcome| outcome.ended) {
        let count = counts.entry(format!("{ended:?}").to_lowercase()).or_insert_with(|| Value::from(0));
        *count = Value::from(count.as_u64().unwrap_or_default() + 1);
    }
    counts
}

fn heard(heard: &Heard) -> Value {
    let result = match heard.told {
        Told::Fired => "fired",
        Told::Success => "success",
        Told::Failure => "failure",
    };
    match &heard.source {
        Source::Ignitor(name) => json!({"ignitor": name, "result": result}),
        Source::Task(name) => json!({"task": name, "round": heard.round, "result": result}),
    }
}
