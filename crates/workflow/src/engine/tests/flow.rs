//! Edges, joins, conditions, runs, and what containers are given.

use serde_json::json;

use super::*;
use crate::{Concurrency, Join};

fn join(spec: TaskSpec, join: &str) -> TaskSpec {
    let join = if join == "all" { Join::All } else { Join::Expression(join.parse().expect("a condition")) };
    TaskSpec { join, ..spec }
}

#[test]
fn a_task_is_given_the_ignitors_data_and_the_next_what_that_one_said() {
    let mut world = World::new();
    world.task("one", first());
    world.task("two", task(&["one"], &[]));
    let run = world.fire("i");
    assert_eq!(world.names(), ["1-one-1-0-1"]);
    assert_eq!(world.variable("1-one-1-0-1", "ORCA_INITIATOR"), "i");
    assert_eq!(world.variable("1-one-1-0-1", "ORCA_DATA"), "spark");
    world.end("1-one-1-0-1", saying("embers"));
    assert_eq!(world.variable("1-two-1-0-1", "ORCA_INITIATOR"), "one");
    assert_eq!(world.variable("1-two-1-0-1", "ORCA_DATA"), "embers");
    assert_eq!(world.phase(run), RunPhase::Running);
    world.end("1-two-1-0-1", ended(0));
    assert_eq!(world.phase(run), RunPhase::Succeeded);
    let graph = world.workflow.graph(run).expect("a run");
    let edges: Vec<(Option<String>, String)> = graph
        .edges
        .iter()
        .map(|edge| (edge.from.as_ref().map(ToString::to_string), edge.to.to_string()))
        .collect();
    assert_eq!(edges, [(None, "1-one-1".to_owned()), (Some("1-one-1".to_owned()), "1-two-1".to_owned())]);
}

#[test]
fn every_other_exit_code_than_zero_is_a_failure() {
    for (number, exit) in
        [(1, Exit::Code(1)), (2, Exit::Code(137)), (3, Exit::Code(2)), (4, Exit::Lost("gone".to_owned()))]
    {
        let mut world = World::new();
        world.task("one", first());
        world.task("well", task(&["one"], &[]));
        world.task("ill", task(&[], &["one"]));
        let run = world.fire("i");
        world.end("1-one-1-0-1", AttemptEnd { exit, ..ended(0) });
        assert_eq!(world.names(), ["1-one-1-0-1", "1-ill-1-0-1"], "case {number}");
        world.end("1-ill-1-0-1", ended(0));
        assert_eq!(world.phase(run), RunPhase::Succeeded, "the failure was seen to");
    }
}

#[test]
fn a_failure_that_nobody_is_there_for_fails_the_run() {
    let mut world = World::new();
    world.task("one", first());
    let run = world.fire("i");
    world.end("1-one-1-0-1", ended(3));
    assert_eq!(world.phase(run), RunPhase::Failed);
    assert_eq!(world.workflow.runs[&run].reason, Some(RunReason::TaskFailed("one".to_owned())));
    assert_eq!(world.part(run, "one", 1).detail, "it ended with exit code 3");
    let task = world.workflow.task(&name("one")).expect("a task");
    assert_eq!((task.failures, task.last_failure, task.last_success), (1, Some(world.now.date), None));
}

#[test]
fn each_trigger_starts_a_task_again_as_in_orca() {
    let mut world = World::new();
    world.task("a", first());
    world.task("b", first());
    world.task("c", task(&["a", "b"], &[]));
    world.fire("i");
    world.end("1-a-1-0-1", ended(0));
    world.end("1-b-1-0-1", ended(0));
    assert_eq!(world.names(), ["1-a-1-0-1", "1-b-1-0-1", "1-c-1-0-1", "1-c-2-0-1"]);
}

#[test]
fn a_join_of_all_fires_once_with_the_inputs_of_its_own_run() {
    let mut world = World::new();
    world.task("a", first());
    world.task("b", first());
    world.task("c", join(task(&["a", "b"], &[]), "all"));
    world.fire("i");
    world.fire("i");
    world.end("1-a-1-0-1", saying("a of 1"));
    world.end("2-b-1-0-1", saying("b of 2"));
    assert_eq!(world.order.len(), 4, "no join across runs");
    world.end("1-b-1-0-1", saying("b of 1"));
    world.end("2-a-1-0-1", saying("a of 2"));
    assert_eq!(world.names()[4..], ["1-c-1-0-1", "2-c-1-0-1"]);
    assert_eq!(world.variable("1-c-1-0-1", "ORCA_INITIATOR"), "b", "who completed it");
    assert_eq!(world.variable("1-c-1-0-1", "ORCA_DATA"), "b of 1");
    let inputs = |attempt: &str| serde_json::from_str::<Value>(world.variable(attempt, "MANGROVE_INPUTS"));
    assert_eq!(inputs("1-c-1-0-1").expect("JSON"), json!({"a": "a of 1", "b": "b of 1"}));
    assert_eq!(inputs("2-c-1-0-1").expect("JSON"), json!({"a": "a of 2", "b": "b of 2"}));
}

#[test]
fn a_join_that_waits_in_vain_does_not_hold_up_its_run() {
    let mut world = World::new();
    world.task("a", first());
    world.task("b", first());
    world.task("c", join(task(&["a", "b"], &[]), "all"));
    world.task("d", task(&[], &["b"]));
    let run = world.fire("i");
    world.end("1-a-1-0-1", ended(0));
    world.end("1-b-1-0-1", ended(1));
    world.end("1-d-1-0-1", ended(0));
    assert_eq!(world.phase(run), RunPhase::Succeeded);
}

#[test]
fn a_condition_of_a_join_fires_once_when_it_becomes_so() {
    let mut world = World::new();
    for task in ["a", "b", "d"] {
        world.task(task, first());
    }
    world.task("c", join(task(&["a", "b"], &["d"]), "a.success && (b.success || d.failure)"));
    world.fire("i");
    world.end("1-b-1-0-1", ended(0));
    assert_eq!(world.order.len(), 3);
    world.end("1-a-1-0-1", ended(0));
    assert_eq!(world.order.len(), 4);
    world.end("1-d-1-0-1", ended(1));
    assert_eq!(world.names()[3..], ["1-c-1-0-1"], "what came too late counts no more");
}

#[test]
fn a_join_in_a_circle_fires_again_for_new_rounds_of_all() {
    let mut world = World::new();
    let mut a = first();
    a.start_on_success.insert("c".to_owned());
    let mut b = first();
    b.start_on_success.insert("c".to_owned());
    world.task("a", a);
    world.task("b", b);
    world.task("c", TaskSpec { max_hops: 4, ..join(task(&["a", "b"], &[]), "all") });
    let run = world.fire("i");
    for round in 1..=2 {
        world.end(&format!("1-a-{round}-0-1"), ended(0));
        world.end(&format!("1-b-{round}-0-1"), ended(0));
        world.end(&format!("1-c-{round}-0-1"), ended(0));
    }
    world.end("1-a-3-0-1", ended(0));
    world.end("1-b-3-0-1", ended(0));
    assert_eq!(world.phase(run), RunPhase::Failed, "six starts would have followed from each other");
    assert_eq!(world.workflow.runs[&run].reason, Some(RunReason::MaxHops("c".to_owned())));
    assert_eq!(world.workflow.runs[&run].rounds["c"], 2);
}

#[test]
fn a_task_that_starts_itself_stops_after_its_hops() {
    let mut world = World::new();
    let mut own = first();
    own.start_on_failure.insert("one".to_owned());
    world.task("one", TaskSpec { max_hops: 5, ..own });
    let run = world.fire("i");
    for round in 1..=5 {
        assert_eq!(world.phase(run), RunPhase::Running);
        world.end(&format!("1-one-{round}-0-1"), ended(1));
    }
    assert_eq!(world.order.len(), 5);
    assert_eq!(world.phase(run), RunPhase::Failed);
    let reason = world.workflow.runs[&run].reason.as_ref().map(RunReason::as_str);
    assert_eq!(reason, Some("MaxHops"));
}

#[test]
fn a_circle_that_branches_ends_with_its_run() {
    let mut world = World::new();
    let mut a = first();
    let mut b = task(&["a"], &[]);
    a.start_on_success.extend(["a".to_owned(), "b".to_owned()]);
    b.start_on_success.insert("b".to_owned());
    for (task, spec) in [("a", a), ("b", b)] {
        world.task(task, TaskSpec { max_hops: 1000, ..spec });
    }
    let run = world.fire("i");
    let mut next = 0;
    while let Some(attempt) = world.order.get(next).map(ToString::to_string) {
        world.end(&attempt, ended(0));
        next += 1;
    }
    assert_eq!(world.order.len(), usize::try_from(MOST_STARTS).expect("small"));
    assert_eq!(world.workflow.runs[&run].reason, Some(RunReason::TooManyStarts));
}

#[test]
fn what_is_not_to_be_is_skipped_and_nothing_follows() {
    let mut world = World::new();
    world.task("a", first());
    let when = Some("a.data == 'go'".parse().expect("a condition"));
    world.task("b", TaskSpec { when, ..task(&["a"], &[]) });
    world.task("c", task(&["b"], &["b"]));
    let run = world.fire("i");
    world.end("1-a-1-0-1", saying("stay"));
    assert_eq!(world.part(run, "b", 1).phase, TaskRunPhase::Skipped);
    assert_eq!(world.part(run, "b", 1).detail, "`when` does not hold: a.data == 'go'");
    assert_eq!(world.phase(run), RunPhase::Succeeded);
    world.fire("i");
    world.end("2-a-1-0-1", saying("go"));
    assert_eq!(world.names().last().map(String::as_str), Some("2-b-1-0-1"));
}

#[test]
fn a_task_that_comes_late_is_not_told_of_what_is_past() {
    let mut world = World::new();
    world.task("one", first());
    let run = world.fire("i");
    world.end("1-one-1-0-1", ended(0));
    world.task("two", task(&["one"], &[]));
    assert_eq!((world.phase(run), world.order.len()), (RunPhase::Succeeded, 1));
}

#[test]
fn a_run_goes_on_when_its_tasks_are_changed_or_removed() {
    let mut world = World::new();
    world.task("one", first());
    world.task("two", task(&["one"], &[]));
    let run = world.fire("i");
    world.task("two", TaskSpec { container: TaskSpec::running("other").container, ..task(&["one"], &[]) });
    let changes = world.workflow.remove_task(&name("one"));
    world.turn(changes);
    let changes = world.workflow.remove_ignitor(&name("i"));
    world.turn(changes);
    world.end("1-one-1-0-1", ended(0));
    assert_eq!(world.started[&world.attempt("1-two-1-0-1")].spec.container.image, "other");
    world.end("1-two-1-0-1", ended(0));
    assert_eq!(world.phase(run), RunPhase::Succeeded);
}

#[test]
fn what_runs_already_is_doubled_skipped_queued_or_replaced() {
    let with = |concurrency| {
        let mut world = World::new();
        world.task("one", TaskSpec { concurrency, ..first() });
        world.fire("i");
        world.fire("i");
        world
    };
    assert_eq!(with(Concurrency::Allow).names(), ["1-one-1-0-1", "2-one-1-0-1"]);

    let world = with(Concurrency::Skip);
    assert_eq!(world.names(), ["1-one-1-0-1"]);
    assert_eq!(world.part(RunId(2), "one", 1).detail, "another of this task is under way");

    let mut world = with(Concurrency::Queue);
    world.fire("i");
    assert_eq!(world.names(), ["1-one-1-0-1"]);
    world.restart_after(10);
    world.end("1-one-1-0-1", ended(1));
    assert_eq!(world.names(), ["1-one-1-0-1", "2-one-1-0-1"], "one after another");
    world.end("2-one-1-0-1", ended(0));
    assert_eq!(world.names().last().map(String::as_str), Some("3-one-1-0-1"));

    let mut world = with(Concurrency::Replace);
    assert_eq!(world.names(), ["1-one-1-0-1"]);
    assert_eq!(world.stops, [world.attempt("1-one-1-0-1")]);
    world.end("1-one-1-0-1", ended(143));
    assert_eq!(world.names(), ["1-one-1-0-1", "2-one-1-0-1"]);
    assert_eq!(world.phase(RunId(1)), RunPhase::Cancelled);
    assert_eq!(world.part(RunId(1), "one", 1).detail, "a newer one took its place");
}

#[test]
fn a_cancelled_run_stops_what_runs_and_starts_nothing() {
    let mut world = World::new();
    world.task("a", TaskSpec { retry: crate::Retry { limit: 5, ..crate::Retry::default() }, ..first() });
    world.task("b", first());
    world.task("c", task(&["b"], &["a", "b"]));
    let run = world.fire("i");
    world.end("1-a-1-0-1", ended(1));
    let changes = world.workflow.cancel(run, world.now).expect("it is in progress");
    world.turn(changes);
    assert_eq!(world.stops, [world.attempt("1-b-1-0-1")]);
    assert_eq!(world.phase(run), RunPhase::Cancelling);
    world.pass(ASK_AGAIN_MILLIS);
    assert_eq!(world.stops.len(), 2, "asked again");
    world.end("1-b-1-0-1", ended(0));
    assert_eq!(world.phase(run), RunPhase::Cancelled);
    assert_eq!(world.order.len(), 2);
    assert_eq!(world.workflow.cancel(run, world.now), Err(Rejected::Over(run)));
}

#[test]
fn what_is_not_confirmed_to_have_stopped_is_given_up_some_time() {
    let mut world = World::new();
    world.task("a", first());
    let run = world.fire("i");
    let changes = world.workflow.cancel(run, world.now).expect("it is in progress");
    world.turn(changes);
    world.pass(STOP_MILLIS - 1);
    assert_eq!(world.phase(run), RunPhase::Cancelling);
    world.pass(1);
    assert_eq!(world.phase(run), RunPhase::Cancelled);
}

#[test]
fn a_task_that_waits_for_what_is_not_there_is_warned_of() {
    let mut world = World::new();
    let spec = join(task(&["none", "b"], &[]), "all");
    world.task("b", task(&["a"], &[]));
    let told: Vec<String> =
        world.workflow.warnings("team", "a", &spec).iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "spec.startOnSuccess[1]: there is no task `none` yet; the task starts when there is one",
            "spec.join: waits for tasks that wait for this one, so none of them ever starts",
        ]
    );
    assert_eq!(world.workflow.warnings("team", "x", &first()), []);
    assert_eq!(world.workflow.warnings("others", "x", &first()).len(), 1, "namespaces are apart");
}

#[test]
fn what_is_too_long_for_a_variable_is_in_the_file() {
    let mut world = World::new();
    let sources: Vec<String> = (0..30).map(|index| format!("t{index}")).collect();
    for source in &sources {
        world.task(source, first());
    }
    let names: Vec<&str> = sources.iter().map(String::as_str).collect();
    world.task("last", join(task(&names, &[]), "all"));
    world.fire("i");
    for source in &sources {
        world.end(&format!("1-{source}-1-0-1"), saying(&"\u{1}".repeat(5000)));
    }
    let variable = world.variable("1-last-1-0-1", "MANGROVE_INPUTS");
    assert!(variable.len() <= 96 << 10, "{} bytes", variable.len());
    let short: Value = serde_json::from_str(variable).expect("JSON");
    let short = short.as_object().expect("an object");
    let left = short.values().filter(|value| value.is_string()).count();
    assert_eq!((short.len(), left), (30, 3), "of texts of 24 KiB as JSON");
    let inputs: Value =
        serde_json::from_str(&world.started[&world.attempt("1-last-1-0-1")].inputs).expect("JSON");
    assert_eq!(inputs["t0"]["data"].as_str().map(str::len), Some(4096));
    assert_eq!(inputs["t0"]["result"], "success");
}
