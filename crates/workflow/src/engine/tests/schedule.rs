//! When ignitors fire, what is made up for, and runs that would overlap.

use super::*;
use crate::{CatchUp, CatchUpPolicy, Overlap};

const MINUTE: u64 = 60_000;

fn each_minute() -> IgnitorSpec {
    IgnitorSpec { schedule: cron("* * * * *", "Europe/Berlin"), ..IgnitorSpec::by_hand() }
}

fn catching(policy: CatchUpPolicy, window: &str) -> CatchUp {
    CatchUp { policy, window: span(window) }
}

/// What each run was due at, after noon, in milliseconds.
fn fired(world: &World) -> Vec<u64> {
    let noon = parse_rfc3339("2026-01-15T12:00:00Z").expect("a date");
    let due = world.workflow.runs().filter_map(|run| match run.cause {
        FireCause::Schedule(at) => Some(at.millis_since(noon)),
        FireCause::Hand | FireCause::Webhook(_) | FireCause::Event { .. } => None,
    });
    due.collect()
}

#[test]
fn now_is_once_and_then_it_is_complete() {
    let mut world = World::empty("2026-01-15T12:00:00Z");
    let spec = IgnitorSpec { schedule: Some(Schedule::Now), ..IgnitorSpec::by_hand() };
    world.ignitor("i", spec.clone());
    assert_eq!(fired(&world), [0]);
    assert!(world.the_ignitor("i").is_completed());
    world.restart_after(1000);
    world.ignitor("i", IgnitorSpec { data: "other".to_owned(), ..spec });
    world.pass(10 * MINUTE);
    assert_eq!(fired(&world), [0], "the same schedule is not another time");
}

#[test]
fn what_is_due_now_is_not_forgotten_by_who_ends_at_once() {
    let mut world = World::empty("2026-01-15T12:00:00Z");
    let spec = IgnitorSpec { schedule: Some(Schedule::Now), ..IgnitorSpec::by_hand() };
    let changes = world.workflow.set_ignitor(name("i"), spec, world.now);
    world.stored.commit(&changes);
    world.restart_after(10 * MINUTE);
    assert_eq!(fired(&world), [0]);
}

#[test]
fn a_date_is_once_and_a_changed_one_again() {
    let mut world = World::empty("2026-01-15T12:00:00Z");
    let at = |minutes: u64| {
        let at = parse_rfc3339("2026-01-15T12:00:00Z").map(|noon| noon.plus_millis(minutes * MINUTE));
        IgnitorSpec { schedule: at.map(Schedule::At), ..IgnitorSpec::by_hand() }
    };
    world.ignitor("i", at(5));
    world.pass(2 * MINUTE);
    world.ignitor("i", at(7));
    world.pass(10 * MINUTE);
    assert_eq!(fired(&world), [7 * MINUTE], "not at the time it had before");
    world.ignitor("i", at(20));
    world.pass(10 * MINUTE);
    assert_eq!(fired(&world), [7 * MINUTE, 20 * MINUTE]);
}

#[test]
fn a_date_at_which_the_root_was_away_is_made_up_for_if_that_is_wanted() {
    let spec = |policy, window| IgnitorSpec {
        schedule: parse_rfc3339("2026-01-15T12:05:00Z").map(Schedule::At),
        catch_up: catching(policy, window),
        ..IgnitorSpec::by_hand()
    };
    for (spec, count, missed) in [
        (spec(CatchUpPolicy::Skip, "1h"), 0, 1),
        (spec(CatchUpPolicy::One, "1h"), 1, 0),
        (spec(CatchUpPolicy::One, "1m"), 0, 1),
    ] {
        let mut world = World::empty("2026-01-15T12:00:00Z");
        world.ignitor("i", spec);
        world.restart_after(30 * MINUTE);
        assert_eq!((fired(&world).len(), world.the_ignitor("i").missed), (count, missed));
        assert!(world.the_ignitor("i").is_completed());
    }
}

#[test]
fn a_cron_fires_each_time_once() {
    let mut world = World::empty("2026-01-15T12:00:10Z");
    world.ignitor("i", each_minute());
    world.pass(3 * MINUTE);
    assert_eq!(fired(&world), [MINUTE, 2 * MINUTE, 3 * MINUTE]);
    assert_eq!(world.the_ignitor("i").fired, 3);
}

#[test]
fn after_an_absence_none_one_or_all_are_made_up_for() {
    for (policy, expected, missed) in [
        (CatchUpPolicy::Skip, vec![], 5),
        (CatchUpPolicy::One, vec![5], 4),
        (CatchUpPolicy::All, vec![1, 2, 3, 4, 5], 0),
    ] {
        let mut world = World::empty("2026-01-15T12:00:00Z");
        world.ignitor("i", IgnitorSpec { catch_up: catching(policy, "1h"), ..each_minute() });
        world.restart_after(5 * MINUTE + 40_000);
        let expected: Vec<u64> = expected.into_iter().map(|minute| minute * MINUTE).collect();
        assert_eq!((fired(&world), world.the_ignitor("i").missed), (expected, missed), "{policy:?}");
        world.pass(20_000);
        assert_eq!(fired(&world).last(), Some(&(6 * MINUTE)), "and then as ever");
    }
}

#[test]
fn what_is_due_now_makes_up_for_what_was_missed() {
    let mut world = World::empty("2026-01-15T12:00:00Z");
    world.ignitor("i", IgnitorSpec { catch_up: catching(CatchUpPolicy::One, "1h"), ..each_minute() });
    world.restart_after(5 * MINUTE + 5_000);
    assert_eq!((fired(&world), world.the_ignitor("i").missed), (vec![5 * MINUTE], 4));
}

#[test]
fn what_was_missed_too_long_ago_is_only_counted() {
    let mut world = World::empty("2026-01-15T12:00:00Z");
    world.ignitor("i", IgnitorSpec { catch_up: catching(CatchUpPolicy::All, "3m"), ..each_minute() });
    world.restart_after(10 * MINUTE + 31_000);
    assert_eq!(
        (fired(&world), world.the_ignitor("i").missed),
        (vec![8 * MINUTE, 9 * MINUTE, 10 * MINUTE], 7)
    );
    world.restart_after(400 * 24 * 60 * MINUTE);
    assert_eq!(world.workflow.runs().count(), 6, "also after a year");
}

#[test]
fn a_clock_that_is_set_back_makes_nothing_fire_again() {
    let mut world = World::empty("2026-01-15T12:00:10Z");
    world.ignitor("i", each_minute());
    world.pass(2 * MINUTE);
    world.now.date = Timestamp(world.now.date.0 - 2 * MINUTE);
    world.pass(2 * MINUTE);
    assert_eq!(fired(&world), [MINUTE, 2 * MINUTE]);
    world.pass(MINUTE);
    assert_eq!(fired(&world).len(), 3);
}

#[test]
fn a_clock_that_is_set_forward_is_noticed() {
    let mut world = World::empty("2026-01-15T12:00:00Z");
    let schedule = cron("0 18 * * *", "UTC");
    world.ignitor("i", IgnitorSpec { schedule, ..IgnitorSpec::by_hand() });
    world.now.date = parse_rfc3339("2026-01-15T17:59:00Z").expect("a date");
    world.pass(MINUTE);
    assert_eq!(fired(&world).len(), 1);
}

#[test]
fn runs_that_would_overlap_are_skipped_queued_or_replaced() {
    let with = |overlap| {
        let mut world = World::empty("2026-01-15T12:00:30Z");
        world.task("one", first());
        world.ignitor("i", IgnitorSpec { overlap, ..each_minute() });
        world.pass(2 * MINUTE);
        world
    };
    assert_eq!(with(Overlap::Allow).names(), ["1-one-1-0-1", "2-one-1-0-1"]);

    let mut world = with(Overlap::Skip);
    assert_eq!((world.names(), world.the_ignitor("i").skipped), (vec!["1-one-1-0-1".to_owned()], 1));
    world.end("1-one-1-0-1", ended(0));
    world.pass(MINUTE);
    assert_eq!(world.names().last().map(String::as_str), Some("2-one-1-0-1"));

    let mut world = with(Overlap::Queue);
    world.pass(MINUTE);
    assert_eq!(world.names(), ["1-one-1-0-1"]);
    world.restart_after(10);
    world.end("1-one-1-0-1", ended(0));
    assert_eq!(world.names(), ["1-one-1-0-1", "2-one-1-0-1"]);
    let changes = world.workflow.cancel(RunId(3), world.now).expect("it waits");
    world.turn(changes);
    assert_eq!(world.phase(RunId(3)), RunPhase::Cancelled, "it had not begun");

    let mut world = with(Overlap::Replace);
    assert_eq!(world.phase(RunId(1)), RunPhase::Cancelling);
    world.pass(MINUTE);
    assert_eq!(world.phase(RunId(2)), RunPhase::Cancelled, "a newer one waits");
    world.end("1-one-1-0-1", ended(143));
    assert_eq!(world.names(), ["1-one-1-0-1", "3-one-1-0-1"]);
}

#[test]
fn who_is_suspended_misses_nothing_and_fires_by_hand() {
    let mut world = World::empty("2026-01-15T12:00:30Z");
    let catch_up = catching(CatchUpPolicy::All, "1h");
    world.ignitor("i", IgnitorSpec { suspend: true, catch_up, ..each_minute() });
    world.pass(5 * MINUTE);
    world.fire("i");
    assert_eq!((fired(&world).len(), world.workflow.runs().count()), (0, 1));
    let changes = world.workflow.suspend(&name("i"), false, world.now).expect("an ignitor");
    world.turn(changes);
    world.pass(MINUTE);
    assert_eq!((fired(&world), world.the_ignitor("i").missed), (vec![6 * MINUTE], 0));
}

#[test]
fn jitter_is_the_same_for_the_same_time_and_differs_else() {
    let mut world = World::empty("2026-01-15T12:00:00Z");
    let schedule = cron("0 * * * *", "UTC");
    let spec = IgnitorSpec { jitter: span("10m"), schedule, ..IgnitorSpec::by_hand() };
    for ignitor in ["a", "b", "c", "d"] {
        world.ignitor(ignitor, spec.clone());
    }
    let times: Vec<Vec<Timestamp>> = world.workflow.ignitors().map(|ignitor| ignitor.next_times(3)).collect();
    let offsets: BTreeSet<u64> = times.iter().flatten().map(|at| at.0 % (60 * MINUTE)).collect();
    assert_eq!(offsets.len(), 12, "all differ: {offsets:?}");
    assert!(offsets.iter().all(|offset| *offset <= 10 * MINUTE));
    world.restart_after(1000);
    let again: Vec<Vec<Timestamp>> = world.workflow.ignitors().map(|ignitor| ignitor.next_times(3)).collect();
    assert_eq!(times, again);
    world.pass(75 * MINUTE);
    assert_eq!(world.workflow.runs().count(), 4);
}

#[test]
fn the_next_times_are_told_over_a_change_of_clocks() {
    let mut world = World::empty("2026-10-24T12:00:00Z");
    let schedule = cron("30 2 * * *", "Europe/Berlin");
    world.ignitor("i", IgnitorSpec { schedule, ..IgnitorSpec::by_hand() });
    let times = world.the_ignitor("i").next_times(3).into_iter().map(crate::rfc3339).collect::<Vec<String>>();
    assert_eq!(times, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z", "2026-10-27T01:30:00Z"]);
}
