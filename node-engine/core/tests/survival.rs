//! Cut off, restarted, with a clock that is set: what stays, what stops and what is remembered.

mod single_attempts;
mod world;

use model::{Desired, Generation, LastExit, OnPartition, Phase, ServiceSpec, Span, Survival, Timestamp};
use node_core::{ContainerId, ContainerState, Effect, Exit, Outcome, Settings, StopCause};
use world::{Fate, World, assignment, running, spec, wanted, words};

const ENGINE_NETWORK: Settings = Settings { overlay: false };
const OVERLAY: Settings = Settings { overlay: true };
const HOUR: u64 = 3_600_000;
const LIMIT: u64 = 30_000;

fn stop_after(seconds: u32) -> ServiceSpec {
    let on_partition = OnPartition::StopAfter(Span::from_secs(seconds));
    ServiceSpec { survival: Survival { on_partition, ..Survival::default() }, ..spec() }
}

fn container(world: &World) -> ContainerId {
    world.engine.keys().next().expect("there is one").clone()
}

fn is_running(world: &World) -> bool {
    world.engine.values().any(|seen| matches!(seen.state, ContainerState::Running { held: false, .. }))
}

/// A world whose instance 0 is in contact and runs.
fn in_contact(settings: Settings) -> World {
    let mut world = World::new(settings);
    world.contact();
    world.assign(assignment(1, [running(0)], stop_after(30)));
    world.settle();
    assert!(is_running(&world));
    world
}

fn one_running() -> (World, ContainerId) {
    let mut world = World::new(ENGINE_NETWORK);
    world.assign(assignment(1, [running(0)], spec()));
    world.settle();
    let id = container(&world);
    (world, id)
}

#[test]
fn an_hour_either_way_on_the_clock_changes_only_what_is_shown() {
    let live = |date: Timestamp| -> (Vec<Vec<String>>, Vec<(Phase, u32)>) {
        let (mut world, id) = one_running();
        let (mut effects, mut seen) = (Vec::new(), Vec::new());
        for (step, code) in [1_i64, 1, 1, 0, 1].into_iter().enumerate() {
            if step == 1 {
                world.set_clock(date.0);
            }
            world.exit(&id, code, step == 3);
            if step == 2 {
                // Between the end and the start of one container.
                world.set_clock(10 * HOUR);
            }
            if step == 3 {
                // Its end was missed; the listing tells of it.
                world.observe(node_core::Observation::EngineLost);
                world.observe(node_core::Observation::EngineConnected);
            }
            for _ in 0..20 {
                world.pass(1000);
                effects.push(world.plan().iter().map(|effect| format!("{effect:?}")).collect());
                while !world.under_way.is_empty() {
                    world.carry_out_next(Fate::Done);
                }
                let report = world.report(0).expect("reported");
                seen.push((report.phase, report.restarts));
            }
        }
        (effects, seen)
    };
    let steady = live(Timestamp(10 * HOUR));
    assert_eq!(live(Timestamp(9 * HOUR)), steady, "an hour back");
    assert_eq!(live(Timestamp(11 * HOUR)), steady, "an hour ahead");
    assert_eq!(steady.1.last(), Some(&(Phase::Running, 5)));
}

#[test]
fn an_end_under_a_clock_set_back_while_it_was_started_is_not_missed() {
    let (mut world, id) = one_running();
    world.set_clock(10 * HOUR);
    world.exit(&id, 1, false);
    world.plan();
    let ticket = world.under_way.pop_front().expect("a start").ticket;
    world.set_clock(10 * HOUR - 5000);
    let seen = world.engine.get_mut(&id).expect("there");
    seen.state = ContainerState::Running { since: world.now.date, held: false };
    let seen = seen.clone();
    world.observe(node_core::Observation::ContainerChanged(seen));
    world.exit(&id, 7, false);
    let since = world.now.date;
    world.finish(ticket, Outcome::Started { container: id, since, addresses: vec![], checked: false });
    assert_eq!(world.phase(0), Some(Phase::Dead));
    assert_eq!(world.report(0).and_then(|report| report.last_exit).map(|exit| exit.code), Some(7));
}

#[test]
fn an_instance_stops_when_it_was_cut_off_for_too_long_and_starts_when_contact_is_back() {
    let mut world = in_contact(ENGINE_NETWORK);
    world.contact();
    world.plan();
    assert_eq!(world.wake_at, Some(world.now.moment.plus_millis(LIMIT + 1)));
    world.pass(LIMIT);
    world.settle();
    assert!(is_running(&world), "not a moment early");
    world.pass(1);
    let plan = world.plan();
    let [Effect::Stop(order)] = plan.as_slice() else { panic!("{plan:?}") };
    assert_eq!(order.cause, StopCause::CutOff);
    world.settle();
    assert!(!is_running(&world));
    let detail = "stopped: cut off from the cluster for 30 s (on_partition stop_after(30s))".to_owned();
    assert_eq!(world.state(0), (Phase::Dead, false, detail.clone()));
    world.rest();
    assert_eq!(world.state(0), (Phase::Dead, false, detail));
    assert_eq!(world.engine.len(), 1, "it is stopped and not removed");

    world.contact();
    world.settle();
    let report = world.report(0).expect("reported");
    assert_eq!((report.phase, report.ready, report.restarts), (Phase::Running, true, 0));
    assert_eq!(report.last_exit.map(|exit| exit.code), Some(143));
    assert_eq!(world.node.history().instances[0].past.attempts, 0, "it did nothing wrong");
}

#[test]
fn a_container_that_somebody_starts_after_the_clock_was_set_back_is_seen_running() {
    let (mut world, id) = one_running();
    world.set_clock(10 * HOUR);
    // Twice, so that it waits for its next attempt.
    for _ in 0..2 {
        world.exit(&id, 1, false);
        world.plan();
        while !world.under_way.is_empty() {
            world.carry_out_next(Fate::Done);
        }
    }
    assert_eq!(world.phase(0), Some(Phase::Dead));
    world.set_clock(9 * HOUR);
    let seen = world.engine.get_mut(&id).expect("there");
    seen.state = ContainerState::Running { since: world.now.date, held: false };
    let seen = seen.clone();
    world.observe(node_core::Observation::ContainerChanged(seen));
    assert_eq!(world.phase(0), Some(Phase::Running));
}

#[test]
fn the_oldest_question_that_was_answered_is_what_counts() {
    let mut world = in_contact(ENGINE_NETWORK);
    let asked = world.now.moment;
    world.pass(20_000);
    world.observe(node_core::Observation::Contact { sent: asked });
    world.settle();
    world.pass(LIMIT - 20_000 + 1);
    world.settle();
    assert!(!is_running(&world), "the answer was slow, so it proves less");
}

#[test]
fn a_cut_off_device_that_boots_starts_only_what_may_run_there() {
    let mut world = in_contact(ENGINE_NETWORK);
    world.exit(&container(&world), 137, true);
    world.restart(None);
    world.rest();
    assert!(!is_running(&world));
    let detail = "not started: cut off from the cluster for 30 s (on_partition stop_after(30s))".to_owned();
    assert_eq!(world.state(0), (Phase::Dead, false, detail));
    world.contact();
    world.settle();
    assert!(is_running(&world));

    let (mut world, id) = one_running();
    world.exit(&id, 137, true);
    world.restart(None);
    world.settle();
    assert!(is_running(&world), "without the policy it starts at once");
}

#[test]
fn nothing_is_made_or_let_through_its_gate_before_the_first_contact() {
    let mut world = World::new(OVERLAY);
    world.assign(assignment(1, [running(0)], stop_after(30)));
    world.rest();
    assert_eq!(world.engine.len(), 0);

    let mut world = World::new(OVERLAY);
    world.found(0, 1, ContainerState::Running { since: world.now.date, held: true });
    world.assign(assignment(1, [running(0)], stop_after(30)));
    world.settle();
    assert!(!is_running(&world), "it waits at its gate");
    world.contact();
    world.settle();
    assert!(is_running(&world));
}

#[test]
fn a_restarted_node_engine_counts_on_from_the_last_contact_it_knows() {
    let mut world = in_contact(ENGINE_NETWORK);
    let last = world.now.moment;
    world.pass(20_000);
    world.restart(Some(last));
    world.settle();
    assert!(is_running(&world));
    world.pass(10_001);
    world.settle();
    assert!(!is_running(&world));

    // When it knows of none, what runs is given the time once.
    let mut world = in_contact(ENGINE_NETWORK);
    world.pass(20_000);
    world.restart(None);
    world.pass(LIMIT - 1);
    world.settle();
    assert!(is_running(&world));
    world.pass(10);
    world.settle();
    assert!(!is_running(&world));
}

#[test]
fn a_network_that_is_slow_to_be_confirmed_does_not_prolong_the_limit() {
    let mut world = in_contact(OVERLAY);
    world.observe(node_core::Observation::NetworkChanged);
    let plan = world.plan();
    assert!(matches!(plan.as_slice(), [Effect::Attach { .. }]), "{plan:?}");
    let attaching = world.under_way.pop_front().expect("it is under way").ticket;
    world.pass(LIMIT + 10);
    let plan = world.plan();
    assert!(matches!(plan.as_slice(), [Effect::Stop(_)]), "{plan:?}");
    world.finish(attaching, Outcome::Attached { addresses: vec![] });
    assert_eq!(world.plan(), [], "the late answer changes nothing");
    world.settle();
    assert!(!is_running(&world));
}

#[test]
fn a_stop_that_the_engine_refuses_is_asked_for_again_until_contact_is_back() {
    let mut world = in_contact(ENGINE_NETWORK);
    world.pass(LIMIT + 10);
    world.plan();
    let refused = |world: &mut World| {
        let ticket = world.under_way.pop_front().expect("a stop").ticket;
        world.finish(ticket, Outcome::Failed { container: None, detail: "device busy".to_owned() });
    };
    refused(&mut world);
    assert_eq!(world.state(0).2, "it could not be stopped: device busy");
    assert_eq!(world.plan(), []);
    world.pass(1000);
    let plan = world.plan();
    assert!(matches!(plan.as_slice(), [Effect::Stop(_)]), "{plan:?}");
    refused(&mut world);
    world.contact();
    world.settle();
    assert_eq!(world.state(0), (Phase::Running, true, String::new()));
    // What it was to be stopped for is over and forgotten.
    world.exit(&container(&world), 5, false);
    assert_eq!(world.state(0).2, "exited with code 5; being started again");
    world.settle();
    assert_eq!(world.report(0).map(|report| report.restarts), Some(1));
}

#[test]
fn only_a_policy_that_needs_it_asks_for_contact() {
    let mut world = World::new(ENGINE_NETWORK);
    assert!(!world.node.needs_contact());
    world.assign(assignment(1, [running(0)], spec()));
    assert!(!world.node.needs_contact());
    world.assign(assignment(2, [running(0)], stop_after(30)));
    assert!(world.node.needs_contact());
    world.assign(assignment(3, [wanted(0, 1, Desired::Removed)], stop_after(30)));
    assert!(!world.node.needs_contact());
}

#[test]
fn the_end_of_a_container_is_reported_with_its_last_words() {
    let (mut world, id) = one_running();
    world.exit(&id, 3, false);
    let ended = world.now.date;
    let report = world.report(0).expect("reported");
    assert_eq!(report.last_exit, Some(LastExit::new(3, ended)));
    let plan = world.node.reconcile(world.now);
    let mut start = None;
    for submission in plan.submissions {
        if let Effect::ReadTail { container, after: None, until, output_of: None } = &submission.effect {
            assert_eq!((container, *until), (&id, ended));
            world.finish(submission.ticket, words("it broke"));
        } else {
            start = Some(submission);
        }
    }
    assert!(matches!(start.map(|start| start.effect), Some(Effect::Start { .. })), "it waits for no words");
    let report = world.report(0).expect("reported");
    assert_eq!(report.last_exit, Some(LastExit { tail: "it broke".to_owned(), ..LastExit::new(3, ended) }));
}

#[test]
fn last_words_of_an_earlier_end_do_not_become_those_of_a_later_one() {
    let (mut world, id) = one_running();
    world.exit(&id, 3, false);
    let first = world.now.date;
    let plan = world.node.reconcile(world.now);
    let [start, read] = plan.submissions.as_slice() else { panic!("{plan:?}") };
    assert!(matches!(read.effect, Effect::ReadTail { .. }));
    world.under_way.push_back(start.clone());
    world.carry_out_next(Fate::Done);
    world.pass(10);
    world.exit(&id, 4, false);
    world.finish(read.ticket, words("of the first"));
    assert_eq!(
        world.report(0).and_then(|report| report.last_exit).map(|exit| exit.tail),
        Some(String::new())
    );
    let plan = world.node.reconcile(world.now);
    let after = plan.submissions.iter().find_map(|submission| {
        let Effect::ReadTail { after, .. } = submission.effect else { return None };
        after
    });
    assert_eq!(after, Some(first), "only what was written since the end before");
}

#[test]
fn counts_pauses_and_the_last_exit_outlive_node_engine() {
    let (mut world, id) = one_running();
    for _ in 0..4 {
        world.exit(&id, 9, false);
        world.pass(10_000);
        world.settle();
    }
    let before = world.report(0).expect("reported");
    assert_eq!(before.restarts, 4);
    world.restart(None);
    let known = world.node.history();
    assert!(
        known.instances[0].past.run.is_some(),
        "nothing is forgotten before the containers were looked at"
    );
    world.settle();
    assert_eq!(world.report(0), Some(before), "adopted as it was");

    // The pause goes on where it was: an end that was counted is not counted twice.
    world.exit(&id, 9, false);
    world.plan();
    let wait = world.wake_at.expect("it waits").millis_since(world.now.moment);
    assert!((6400..=8000).contains(&wait), "{wait}");
    world.restart(None);
    world.plan();
    world.carry_out_next(Fate::Done);
    assert_eq!(world.phase(0), Some(Phase::Dead));
    assert_eq!(world.plan(), []);
    let wait = world.wake_at.expect("it waits").millis_since(world.now.moment);
    assert!((6400..=8000).contains(&wait), "{wait}");
    world.pass(8000);
    world.settle();
    assert_eq!(world.report(0).map(|report| (report.phase, report.restarts)), Some((Phase::Running, 5)));
}

#[test]
fn an_end_that_nobody_saw_counts_when_node_engine_comes_back() {
    let (mut world, id) = one_running();
    world.exit(&id, 9, false);
    world.settle();
    world.pass(5000);
    world.exit(&id, 8, true);
    world.restart(None);
    world.rest();
    let report = world.report(0).expect("reported");
    assert_eq!((report.phase, report.restarts), (Phase::Running, 2));
    assert_eq!(report.last_exit.map(|exit| exit.code), Some(8));
}

#[test]
fn the_history_is_of_what_is_assigned_and_changes_only_with_it() {
    let (mut world, id) = one_running();
    let revision = world.node.history_revision();
    world.rest();
    assert_eq!(world.node.history_revision(), revision, "nothing happened");
    world.exit(&id, 9, false);
    world.settle();
    assert!(world.node.history_revision() > revision);
    assert_eq!(world.node.history().instances.len(), 1);
    world.assign(assignment(2, [wanted(0, 1, Desired::Removed)], spec()));
    world.rest();
    world.assign(assignment(3, [], spec()));
    world.settle();
    assert_eq!(world.node.history().instances, []);
}

#[test]
fn ten_healthy_minutes_are_forgotten_failures_even_when_nothing_else_happens() {
    let (mut world, id) = one_running();
    world.exit(&id, 9, false);
    world.settle();
    assert_eq!(world.node.history().instances[0].past.attempts, 1);
    let wake_at = world.wake_at.expect("it waits for the ten minutes");
    assert!(wake_at.millis_since(world.now.moment) <= 600_000);
    world.pass(600_000);
    world.settle();
    assert_eq!(world.node.history().instances[0].past.attempts, 0);
}

#[test]
fn a_late_tombstone_of_an_older_generation_never_removes_a_newer_copy() {
    let mut world = World::new(ENGINE_NETWORK);
    world.assign(assignment(1, [wanted(0, 2, Desired::Running)], spec()));
    world.settle();
    world.assign(assignment(2, [wanted(0, 1, Desired::Removed)], spec()));
    world.rest();
    assert!(is_running(&world));
    assert_eq!(world.removed, []);
    let report = world.report(0).expect("reported");
    assert_eq!((report.generation, report.phase), (Generation(2), Phase::Running));
    let left = "its container is of generation 2, newer than the assigned 1; left alone";
    assert_eq!(report.detail, left);
}

#[test]
fn generations_of_an_instance_never_go_back() {
    let mut world = World::new(ENGINE_NETWORK);
    world.assign(assignment(1, [wanted(0, 5, Desired::Running)], spec()));
    world.settle();
    world.assign(assignment(2, [wanted(0, 4, Desired::Running)], spec()));
    world.rest();
    let generations: Vec<_> = world.engine.values().map(|seen| seen.generation).collect();
    assert_eq!((generations, world.removed.len()), (vec![Generation(5)], 0));
    assert_eq!(world.report(0).map(|report| report.generation), Some(Generation(5)));
    world.exit(&container(&world), 1, false);
    world.rest();
    assert!(!is_running(&world), "nobody here may start it");
    // The next generation replaces it as ever.
    world.assign(assignment(3, [wanted(0, 6, Desired::Running)], spec()));
    world.rest();
    assert_eq!(world.report(0).map(|report| report.generation), Some(Generation(6)));
}

#[test]
fn an_end_without_a_date_is_one_the_engine_made_up_at_its_start() {
    // After a power cut some engines do not know when their containers ended.
    let (mut world, id) = one_running();
    world.exit(&id, 1, false);
    world.settle();
    let undated = ContainerState::Exited(Exit { code: 255, out_of_memory: false, at: Timestamp(0) });
    world.engine.get_mut(&id).expect("there").state = undated;
    world.restart(None);
    world.plan();
    world.carry_out_next(Fate::Done);
    world.plan();
    let wait = world.wake_at.map_or(0, |at| at.millis_since(world.now.moment));
    assert!(world.under_way.len() == 1 || wait <= 1000, "it starts soon");
    world.pass(1000);
    world.settle();
    assert!(is_running(&world));
}

#[test]
fn a_name_that_the_engine_frees_soon_delays_an_instance_and_fails_nothing() {
    let (mut world, id) = one_running();
    world.name_taken = true;
    world.snatch(&id, false);
    for _ in 0..8 {
        world.settle();
        let waits =
            "the container engine is still making or removing a container named `web-0`; trying again";
        assert_eq!(world.state(0), (Phase::Creating, false, waits.to_owned()));
        let again = world.wake_at.expect("it is begun again").0 - world.now.moment.0;
        assert!((1..=100).contains(&again), "{again}");
        world.pass(again);
    }
    world.name_taken = false;
    world.settle();
    assert_eq!((world.phase(0), world.detail(0)), (Some(Phase::Running), String::new()));
    assert!(is_running(&world));
}

#[test]
fn a_name_that_the_engine_keeps_is_a_failure_with_growing_pauses() {
    let (mut world, id) = one_running();
    world.name_taken = true;
    world.snatch(&id, false);
    let mut begun = 0;
    for _ in 0..2000 {
        let effects = world.plan();
        begun += effects.iter().filter(|effect| matches!(effect, Effect::CreateAndStart(_))).count();
        while !world.under_way.is_empty() {
            world.carry_out_next(Fate::Done);
        }
        world.pass(10);
    }
    assert_eq!(world.phase(0), Some(Phase::Failed));
    assert!(world.detail(0).contains("container named `web-0`"));
    // Twenty seconds: rounds of a second each, with some 1, 2, 4 and 8 seconds between them.
    assert!((50..110).contains(&begun), "{begun}");
    world.name_taken = false;
    world.rest();
    assert_eq!(world.phase(0), Some(Phase::Running));
}
