//! Attempts: retries, timeouts, and what is heard late or twice.

use super::*;
use crate::{Retry, engine::history::KEPT_MILLIS};

fn retrying(limit: u32) -> TaskSpec {
    TaskSpec { retry: Retry { limit, ..Retry::default() }, ..first() }
}

#[test]
fn a_task_that_fails_is_tried_again_later_and_later() {
    let mut world = World::new();
    world.task("one", retrying(3));
    let run = world.fire("i");
    world.end("1-one-1-0-1", ended(1));
    world.pass(999);
    assert_eq!(world.order.len(), 1);
    world.pass(1);
    assert_eq!(world.names().last().map(String::as_str), Some("1-one-1-0-2"));
    assert_eq!(world.variable("1-one-1-0-2", "MANGROVE_ATTEMPT"), "2");
    world.end("1-one-1-0-2", ended(1));
    world.pass(1999);
    assert_eq!(world.order.len(), 2);
    world.pass(1);
    world.end("1-one-1-0-3", ended(0));
    assert_eq!((world.phase(run), world.order.len()), (RunPhase::Succeeded, 3));
}

#[test]
fn a_restart_in_a_pause_neither_forgets_nor_doubles_an_attempt() {
    let mut world = World::new();
    world.task("one", retrying(3));
    world.fire("i");
    world.end("1-one-1-0-1", ended(1));
    world.restart_after(400);
    world.pass(599);
    assert_eq!(world.order.len(), 1);
    world.pass(1);
    assert_eq!(world.names(), ["1-one-1-0-1", "1-one-1-0-2"]);
    world.restart_after(60_000);
    world.pass(60_000);
    assert_eq!(world.order.len(), 2, "asked for again under its own name only");
}

#[test]
fn the_last_attempt_that_fails_fails_the_task_once() {
    let mut world = World::new();
    world.task("one", retrying(1));
    world.task("ill", task(&[], &["one"]));
    world.fire("i");
    world.end("1-one-1-0-1", ended(1));
    world.pass(1000);
    world.end("1-one-1-0-2", ended(1));
    assert_eq!(world.names(), ["1-one-1-0-1", "1-one-1-0-2", "1-ill-1-0-1"]);
}

#[test]
fn only_the_exit_codes_that_are_named_are_tried_again() {
    let mut world = World::new();
    let retry = Retry { limit: 5, on_exit_codes: [75].into(), ..Retry::default() };
    world.task("one", TaskSpec { retry, ..first() });
    let run = world.fire("i");
    world.end("1-one-1-0-1", ended(75));
    world.pass(1000);
    world.end("1-one-1-0-2", AttemptEnd { exit: Exit::Lost("its device is gone".to_owned()), ..ended(0) });
    world.pass(2000);
    world.end("1-one-1-0-3", ended(1));
    assert_eq!((world.phase(run), world.order.len()), (RunPhase::Failed, 3));
}

#[test]
fn an_attempt_that_takes_too_long_is_stopped_and_tried_again() {
    let mut world = World::new();
    world.task("one", TaskSpec { timeout: span("10s"), ..retrying(1) });
    let run = world.fire("i");
    world.observe(Fact::Confirmed(world.attempt("1-one-1-0-1")));
    world.pass(9_999);
    assert_eq!(world.stops, []);
    world.pass(1);
    assert_eq!(world.stops, [world.attempt("1-one-1-0-1")]);
    world.pass(1);
    world.end("1-one-1-0-1", ended(0));
    world.pass(1000);
    assert_eq!(world.names(), ["1-one-1-0-1", "1-one-1-0-2"]);
    world.pass(10_000);
    world.end("1-one-1-0-2", ended(143));
    let part = world.part(run, "one", 1);
    assert_eq!((part.phase, part.detail.as_str()), (TaskRunPhase::TimedOut, "it took longer than 10s"));
    assert_eq!(world.phase(run), RunPhase::Failed);
}

#[test]
fn what_ended_in_time_and_is_heard_of_late_ended_as_it_did() {
    let mut world = World::new();
    world.task("one", TaskSpec { timeout: span("1h"), ..first() });
    let run = world.fire("i");
    let ended_at = world.now.date.plus_millis(1000);
    world.restart_after(24 * 3_600_000);
    assert_eq!(world.stops, [world.attempt("1-one-1-0-1")], "its time is long over");
    let attempt = world.attempt("1-one-1-0-1");
    world.observe(Fact::Ended(attempt, AttemptEnd { at: ended_at, ..ended(0) }));
    assert_eq!(world.phase(run), RunPhase::Succeeded);
}

#[test]
fn a_clock_that_is_set_ends_no_attempt() {
    let mut world = World::new();
    world.task("one", TaskSpec { timeout: span("1h"), ..first() });
    world.fire("i");
    world.now.date = world.now.date.plus_millis(5 * 3_600_000);
    world.pass(10_000);
    assert_eq!(world.stops, []);
    world.pass(3_600_000);
    assert!(!world.stops.is_empty());
}

#[test]
fn what_was_said_before_changes_nothing() {
    let mut world = World::new();
    world.task("one", retrying(3));
    world.fire("i");
    world.end("1-one-1-0-1", ended(1));
    world.end("1-one-1-0-1", ended(1));
    world.pass(1000);
    world.end("1-one-1-0-1", ended(0));
    assert_eq!(world.names(), ["1-one-1-0-1", "1-one-1-0-2"]);
    assert!(world.workflow.owns(&world.attempt("1-one-1-0-1")));
    let mut stranger = world.attempt("1-one-1-0-2");
    stranger.attempt = 3;
    assert!(!world.workflow.owns(&stranger));
}

#[test]
fn what_is_not_confirmed_is_asked_for_again() {
    let mut world = World::new();
    world.task("one", first());
    world.fire("i");
    assert_eq!(world.wake_at, Some(world.now.moment.plus_millis(ASK_AGAIN_MILLIS)));
    world.observe(Fact::Confirmed(world.attempt("1-one-1-0-1")));
    let timeout = TaskSpec::DEFAULT_TIMEOUT.as_millis();
    assert_eq!(world.wake_at, Some(world.now.moment.plus_millis(timeout)));
}

#[test]
fn a_confirmation_that_comes_late_does_not_keep_it_from_being_stopped() {
    let mut world = World::new();
    world.task("one", first());
    let run = world.fire("i");
    let changes = world.workflow.cancel(run, world.now).expect("it is in progress");
    world.turn(changes);
    world.observe(Fact::Confirmed(world.attempt("1-one-1-0-1")));
    world.pass(ASK_AGAIN_MILLIS);
    assert_eq!(world.stops.len(), 2);
}

#[test]
fn a_run_is_retried_from_where_it_failed() {
    let mut world = World::new();
    world.task("one", first());
    world.task("two", TaskSpec { retry: Retry { limit: 1, ..Retry::default() }, ..task(&["one"], &[]) });
    world.task("three", task(&["two"], &[]));
    let run = world.fire("i");
    assert_eq!(world.workflow.retry(run, world.now), Err(Rejected::InProgress(run)));
    world.end("1-one-1-0-1", saying("kept"));
    world.end("1-two-1-0-1", ended(1));
    world.pass(1000);
    world.end("1-two-1-0-2", ended(1));
    assert_eq!(world.phase(run), RunPhase::Failed);
    let changes = world.workflow.retry(run, world.now).expect("something failed");
    world.turn(changes);
    assert_eq!(world.phase(run), RunPhase::Running);
    assert_eq!(world.names()[1..], ["1-two-1-0-1", "1-two-1-0-2", "1-two-1-0-3"]);
    assert_eq!(world.variable("1-two-1-0-3", "ORCA_DATA"), "kept");
    world.end("1-two-1-0-3", ended(1));
    world.pass(1000);
    world.end("1-two-1-0-4", ended(0));
    world.end("1-three-1-0-1", ended(0));
    assert_eq!(world.phase(run), RunPhase::Succeeded);
    assert_eq!(world.workflow.retry(run, world.now), Err(Rejected::NothingFailed(run)));
}

#[test]
fn a_retry_by_hand_waits_for_others_of_a_task_that_queues() {
    let mut world = World::new();
    world.task("one", TaskSpec { concurrency: crate::Concurrency::Queue, ..first() });
    let failed = world.fire("i");
    world.end("1-one-1-0-1", ended(1));
    world.fire("i");
    let changes = world.workflow.retry(failed, world.now).expect("it failed");
    world.turn(changes);
    assert_eq!(world.names(), ["1-one-1-0-1", "2-one-1-0-1"], "the second is under way");
    world.end("2-one-1-0-1", ended(0));
    assert_eq!(world.names().last().map(String::as_str), Some("1-one-1-0-2"));
    world.end("1-one-1-0-2", ended(0));
    assert_eq!(world.phase(failed), RunPhase::Succeeded);
}

#[test]
fn the_past_is_kept_as_far_as_each_task_says() {
    let mut world = World::new();
    let history = crate::HistoryLimits { successful: 2, failed: 1 };
    world.task("one", TaskSpec { history, ..first() });
    for code in [0, 1, 0, 1, 0, 0] {
        let run = world.fire("i");
        world.end(&format!("{run}-one-1-0-1"), ended(code));
    }
    world.pass(KEPT_MILLIS);
    let kept: Vec<u64> = world.workflow.runs().map(|run| run.id.0).collect();
    assert_eq!(kept, [4, 5, 6]);
    world.restart_after(10);
    world.pass(KEPT_MILLIS);
    let kept: Vec<u64> = world.workflow.runs().map(|run| run.id.0).collect();
    assert_eq!(kept, [4, 5, 6]);
    assert_eq!(world.stored.task_runs.len(), 3);
    let changes = world.workflow.remove_run(RunId(4)).expect("it is over");
    world.turn(changes);
    assert_eq!((world.stored.runs.len(), world.stored.task_runs.len()), (2, 2));
}

#[test]
fn whoever_watches_a_run_sees_its_end_however_little_is_kept() {
    let mut world = World::new();
    let none = crate::HistoryLimits { successful: 0, failed: 0 };
    world.task("one", TaskSpec { history: none, ..first() });
    let runs = [(); 12].map(|()| world.fire("i"));
    for run in runs {
        world.end(&format!("{run}-one-1-0-1"), ended(1));
    }
    world.ignitor("alone", IgnitorSpec::by_hand());
    let idle = [(); 12].map(|()| world.fire("alone"));
    world.pass(KEPT_MILLIS - 1);
    assert!(runs.iter().all(|run| world.phase(*run) == RunPhase::Failed), "{:?}", world.names());
    assert!(idle.iter().all(|run| world.phase(*run) == RunPhase::Succeeded));
    let changes = world.workflow.retry(runs[0], world.now).expect("it failed");
    world.turn(changes);
    world.end("1-one-1-0-2", ended(0));
    world.pass(1);
    let kept: Vec<RunId> = world.workflow.runs().map(|run| run.id).collect();
    assert_eq!(kept, [&runs[..1], &idle[2..]].concat(), "that was retried, and ten that started nothing");
    world.pass(KEPT_MILLIS - 2);
    assert_eq!(world.phase(runs[0]), RunPhase::Succeeded);
    world.pass(1);
    assert_eq!(world.workflow.runs().count(), idle.len() - 2);
}

#[test]
fn a_run_is_kept_as_long_as_one_of_its_parts() {
    let mut world = World::new();
    let one = crate::HistoryLimits { successful: 1, failed: 1 };
    world.task("a", TaskSpec { history: one, ..first() });
    world.task("b", first());
    for _ in 0..3 {
        let run = world.fire("i");
        world.end(&format!("{run}-a-1-0-1"), ended(0));
        world.end(&format!("{run}-b-1-0-1"), ended(0));
    }
    world.pass(KEPT_MILLIS);
    assert_eq!(world.workflow.runs().count(), 3);
    assert_eq!(world.workflow.task_runs(RunId(1)).count(), 2, "whole");
}

#[test]
fn of_runs_that_started_nothing_a_few_are_kept() {
    let mut world = World::new();
    for _ in 0..15 {
        world.fire("i");
    }
    world.pass(KEPT_MILLIS);
    let kept: Vec<u64> = world.workflow.runs().map(|run| run.id.0).collect();
    assert_eq!(kept, (6..=15).collect::<Vec<u64>>());
    assert_eq!(world.phase(RunId(15)), RunPhase::Succeeded);
}
