//! What the device does in the situations of its life, one sentence each.

mod world;

use model::{Desired, Generation, InstanceId, Load, Phase, Timestamp, Usage};
use node_core::{
    ContainerId, ContainerState, Effect, Exit, Observation, Outcome, RemoveOrder, Settings, StaleAssignment,
    StartOrder, Ticket,
};
use world::{World, assignment, instance, names, running, spec, wanted};

const ENGINE_NETWORK: Settings = Settings { overlay: false };
const OVERLAY: Settings = Settings { overlay: true };
const TEN_MINUTES: u64 = 600_000;

fn order(number: u32, generation: u64) -> StartOrder {
    StartOrder {
        instance: instance(number),
        generation: Generation(generation),
        names: names().into(),
        spec: spec().into(),
        address: None,
        secrets: std::sync::Arc::default(),
    }
}

fn running_since(millis: u64, held: bool) -> ContainerState {
    ContainerState::Running { since: Timestamp(millis), held }
}

fn exited(code: i64, millis: u64) -> ContainerState {
    ContainerState::Exited(Exit { code, out_of_memory: false, at: Timestamp(millis) })
}

fn start(container: &ContainerId) -> Effect {
    Effect::Start { container: container.clone(), fresh: false, order: order(0, 1) }
}

/// A world with instance 0 running, and its container.
fn one_running(settings: Settings) -> (World, ContainerId) {
    let mut world = World::new(settings);
    world.assign(assignment(1, [running(0)], spec()));
    world.settle();
    let id = world.engine.keys().next().expect("one was made").clone();
    (world, id)
}

#[test]
fn nothing_is_done_before_the_engine_was_looked_at() {
    let mut world = World::new(ENGINE_NETWORK);
    world.assign(assignment(1, [running(0)], spec()));
    assert_eq!(world.plan(), [Effect::List]);
    assert_eq!(world.plan(), []);
}

#[test]
fn an_assigned_instance_is_made_and_reported_running() {
    let mut world = World::new(ENGINE_NETWORK);
    world.settle();
    world.assign(assignment(1, [running(0)], spec()));
    assert_eq!(world.phase(0), Some(Phase::Creating));
    assert_eq!(world.plan(), [Effect::CreateAndStart(order(0, 1))]);
    assert_eq!(world.plan(), []);
    world.settle();
    assert_eq!(world.phase(0), Some(Phase::Running));
    assert_eq!(world.node.report().observed_generation, Generation(1));
}

#[test]
fn an_assignment_that_is_not_newer_is_refused() {
    let (world, _) = one_running(ENGINE_NETWORK);
    let stale = StaleAssignment { held: Generation(1), offered: Generation(1) };
    assert_eq!(world.node.accept(assignment(1, [], spec())), Err(stale));
}

#[test]
fn a_container_found_running_is_adopted() {
    let mut world = World::new(ENGINE_NETWORK);
    let id = world.found(0, 1, running_since(5, false));
    world.assign(assignment(1, [running(0)], spec()));
    world.settle();
    assert_eq!(world.engine.keys().collect::<Vec<_>>(), [&id]);
    assert_eq!(world.phase(0), Some(Phase::Running));
    assert_eq!(world.node.report().instances[0].restarts, 0);
}

#[test]
fn an_adopted_container_confirms_its_network_and_stays_running() {
    let mut world = World::new(OVERLAY);
    let id = world.found(0, 1, running_since(5, false));
    world.assign(assignment(1, [running(0)], spec()));
    world.plan();
    world.carry_out_next(world::Fate::Done);
    assert_eq!(world.phase(0), Some(Phase::Running));
    assert_eq!(world.plan(), [Effect::Attach { container: id, order: order(0, 1) }]);
}

#[test]
fn a_container_found_at_the_start_gate_is_not_running_until_it_passed() {
    let mut world = World::new(OVERLAY);
    world.found(0, 1, running_since(5, true));
    world.assign(assignment(1, [running(0)], spec()));
    world.plan();
    world.carry_out_next(world::Fate::Done);
    assert_eq!((world.phase(0), world.detail(0)), (Some(Phase::Creating), "waiting for its network".into()));
    world.settle();
    assert_eq!(world.phase(0), Some(Phase::Running));
}

#[test]
fn a_container_without_its_network_is_failed_with_the_reason_and_tried_again() {
    let mut world = World::new(OVERLAY);
    world.settle();
    world.assign(assignment(1, [running(0)], spec()));
    world.plan();
    let ticket = world.under_way.pop_front().expect("a start").ticket;
    let container = world.found(0, 1, running_since(1_000_000, true));
    let detail = "port 80 of the device is taken".to_owned();
    world.finish(
        ticket,
        Outcome::Held {
            container: container.clone(),
            since: world.now.date,
            checked: false,
            detail: detail.clone(),
        },
    );
    assert_eq!((world.phase(0), world.detail(0)), (Some(Phase::Failed), detail));
    assert_eq!(world.plan(), []);
    world.pass(1000);
    assert_eq!(world.plan(), [Effect::Attach { container, order: order(0, 1) }]);
}

#[test]
fn a_changed_network_is_confirmed_without_leaving_running() {
    let (mut world, id) = one_running(OVERLAY);
    world.observe(Observation::NetworkChanged);
    assert_eq!(world.phase(0), Some(Phase::Running));
    assert_eq!(world.plan(), [Effect::Attach { container: id, order: order(0, 1) }]);
    world.settle();
    assert_eq!(world.phase(0), Some(Phase::Running));
}

#[test]
fn a_crash_is_answered_at_once_and_the_next_ones_later_and_later() {
    let (mut world, id) = one_running(ENGINE_NETWORK);
    let mut waits = Vec::new();
    for _ in 0..9 {
        world.exit(&id, 3, false);
        assert_eq!(world.phase(0), Some(Phase::Dead));
        assert_eq!(world.detail(0), "exited with code 3; being started again");
        let ended = world.now.moment;
        if world.plan().is_empty() {
            let wake_at = world.wake_at.expect("it waits for a moment");
            world.pass(wake_at.millis_since(world.now.moment));
        }
        waits.push(world.now.moment.millis_since(ended));
        world.settle();
        assert_eq!(world.phase(0), Some(Phase::Running));
    }
    for (wait, most) in waits.iter().zip([0, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]) {
        assert!(*wait <= most && *wait >= most * 4 / 5, "{waits:?}");
    }
    assert_eq!(world.node.report().instances[0].restarts, 9);
}

#[test]
fn an_instance_that_was_healthy_for_ten_minutes_is_started_again_at_once() {
    let (mut world, id) = one_running(ENGINE_NETWORK);
    for _ in 0..3 {
        world.exit(&id, 1, false);
        world.pass(5000);
        world.settle();
    }
    world.pass(TEN_MINUTES - 10);
    let mut impatient = world.clone();
    impatient.exit(&id, 1, false);
    assert!(!impatient.plan().contains(&start(&id)), "it was not healthy for long enough");
    world.pass(10);
    world.exit(&id, 1, false);
    assert!(world.plan().contains(&start(&id)));
}

#[test]
fn exit_zero_is_a_crash_unless_the_service_is_one_shot() {
    let (mut world, id) = one_running(ENGINE_NETWORK);
    world.exit(&id, 0, false);
    assert_eq!(world.phase(0), Some(Phase::Dead));

    let mut world = World::new(ENGINE_NETWORK);
    let mut once = spec();
    once.one_shot = true;
    world.assign(assignment(1, [running(0)], once));
    world.settle();
    let id = world.engine.keys().next().expect("one was made").clone();
    world.exit(&id, 0, false);
    world.rest();
    assert_eq!(world.phase(0), Some(Phase::Completed));
    assert_eq!(world.engine.len(), 1, "it is kept for its logs");
}

#[test]
fn a_container_that_ends_while_it_is_being_started_is_dead_and_not_running() {
    let mut world = World::new(ENGINE_NETWORK);
    world.settle();
    world.assign(assignment(1, [running(0)], spec()));
    world.plan();
    let ticket = world.under_way.pop_front().expect("a start").ticket;
    let id = world.found(0, 1, running_since(1_000_000, false));
    world.exit(&id, 1, false);
    world.finish(
        ticket,
        Outcome::Started { container: id, since: world.now.date, addresses: vec![], checked: false },
    );
    assert_eq!(world.phase(0), Some(Phase::Dead));
}

#[test]
fn a_missing_image_is_fetched_once_for_all_who_wait() {
    let mut world = World::new(ENGINE_NETWORK);
    world.images_missing.insert(spec().image);
    world.settle();
    world.assign(assignment(1, [running(0), running(1)], spec()));
    assert_eq!(world.plan(), [Effect::CreateAndStart(order(0, 1)), Effect::CreateAndStart(order(1, 1))]);
    world.carry_out_next(world::Fate::Done);
    world.carry_out_next(world::Fate::Done);
    assert_eq!(world.plan(), [Effect::Pull { image: spec().image, login: None }]);
    world.observe(Observation::PullProgress { image: spec().image, detail: "3 of 9 MB".into() });
    assert_eq!(world.detail(1), "fetching image `registry.local/web:1`: 3 of 9 MB");
    world.settle();
    assert_eq!((world.phase(0), world.phase(1)), (Some(Phase::Running), Some(Phase::Running)));
}

#[test]
fn an_image_that_cannot_be_fetched_is_a_failure_and_tried_again() {
    let mut world = World::new(ENGINE_NETWORK);
    world.images_missing.insert(spec().image);
    world.settle();
    world.assign(assignment(1, [running(0)], spec()));
    world.plan();
    world.carry_out_next(world::Fate::Done);
    world.plan();
    let ticket = world.under_way.pop_front().expect("a pull").ticket;
    world.finish(ticket, Outcome::Failed { container: None, detail: "no such host".into() });
    assert_eq!((world.phase(0), world.detail(0)), (Some(Phase::Failed), "no such host".into()));
    assert_eq!(world.plan(), []);
    world.pass(1000);
    assert_eq!(world.plan(), [Effect::Pull { image: spec().image, login: None }]);
}

#[test]
fn a_refused_start_is_a_failure_and_its_container_is_used_again() {
    let mut world = World::new(ENGINE_NETWORK);
    world.settle();
    world.assign(assignment(1, [running(0)], spec()));
    world.plan();
    let ticket = world.under_way.pop_front().expect("a start").ticket;
    let container = world.found(0, 1, ContainerState::Created);
    let seen = world.engine[&container].clone();
    world.finish(ticket, Outcome::Failed { container: Some(seen), detail: "port is taken".into() });
    assert_eq!((world.phase(0), world.detail(0)), (Some(Phase::Failed), "port is taken".into()));
    world.pass(1000);
    assert_eq!(world.plan(), [Effect::Start { container, fresh: true, order: order(0, 1) }]);
}

#[test]
fn a_tombstone_removes_and_is_confirmed_until_it_is_no_longer_listed() {
    let (mut world, id) = one_running(ENGINE_NETWORK);
    world.assign(assignment(2, [wanted(0, 1, Desired::Removed)], spec()));
    assert_eq!(world.phase(0), Some(Phase::Undeploying));
    let order = RemoveOrder { instance: instance(0), generation: Generation(1), containers: vec![id] };
    assert_eq!(world.plan(), [Effect::Remove(order)]);
    world.rest();
    assert_eq!(world.phase(0), Some(Phase::Removed));
    world.assign(assignment(3, [], spec()));
    assert_eq!(world.node.report().instances, []);
}

#[test]
fn a_tombstone_of_an_older_generation_spares_a_newer_container() {
    let mut world = World::new(ENGINE_NETWORK);
    world.found(0, 5, running_since(5, false));
    world.assign(assignment(1, [wanted(0, 4, Desired::Removed)], spec()));
    world.rest();
    assert_eq!(world.engine.len(), 1);
    assert_eq!(world.node.report().instances[0].generation, Generation(5));
}

#[test]
fn what_the_engine_made_after_its_tombstone_was_confirmed_is_removed() {
    let mut world = World::new(ENGINE_NETWORK);
    world.assign(assignment(2, [wanted(0, 1, Desired::Removed)], spec()));
    world.rest();
    world.assign(assignment(3, [], spec()));
    world.found(0, 1, ContainerState::Created);
    // Another program's, perhaps.
    world.found(1, 1, ContainerState::Created);
    world.rest();
    let left: Vec<InstanceId> = world.node.unknown_containers().map(|(id, _)| id).collect();
    assert_eq!((world.engine.len(), left), (1, vec![instance(1)]));
}

#[test]
fn so_it_is_when_the_one_who_confirmed_the_tombstone_was_killed_meanwhile() {
    let mut world = World::new(ENGINE_NETWORK);
    world.assign(assignment(2, [wanted(0, 1, Desired::Removed)], spec()));
    world.rest();
    world.assign(assignment(3, [], spec()));
    world.restart(None);
    world.found(0, 1, ContainerState::Created);
    world.rest();
    assert_eq!(world.engine.len(), 0);
}

#[test]
fn so_it_is_when_its_tombstone_was_confirmed_before_it_was_carried_out_once_more() {
    let mut world = World::new(ENGINE_NETWORK);
    world.assign(assignment(2, [wanted(0, 1, Desired::Removed)], spec()));
    world.restart(None);
    world.assign(assignment(3, [], spec()));
    world.found(0, 1, ContainerState::Created);
    world.rest();
    assert_eq!(world.engine.len(), 0);
}

#[test]
fn absence_from_the_assignment_removes_nothing() {
    let (mut world, _) = one_running(ENGINE_NETWORK);
    world.assign(assignment(2, [], spec()));
    world.rest();
    assert_eq!(world.engine.len(), 1);
    assert_eq!(
        (world.phase(0), world.detail(0)),
        (Some(Phase::Running), "not assigned to this device; left alone".into())
    );
    assert_eq!(world.node.unknown_containers().count(), 1);
}

#[test]
fn a_newer_generation_replaces_the_older_container() {
    let (mut world, id) = one_running(ENGINE_NETWORK);
    world.assign(assignment(2, [wanted(0, 2, Desired::Running)], spec()));
    let remove = RemoveOrder { instance: instance(0), generation: Generation(1), containers: vec![id] };
    assert_eq!(world.plan(), [Effect::Remove(remove)]);
    assert_eq!((world.phase(0), world.detail(0)), (Some(Phase::Creating), "replacing generation 1".into()));
    world.settle();
    let generations: Vec<_> = world.engine.values().map(|seen| seen.generation).collect();
    assert_eq!((generations, world.phase(0)), (vec![Generation(2)], Some(Phase::Running)));
}

#[test]
fn a_lost_outcome_is_looked_into_before_anything_is_asked_again() {
    let mut world = World::new(ENGINE_NETWORK);
    world.settle();
    world.assign(assignment(1, [running(0)], spec()));
    world.plan();
    world.carry_out_next(world::Fate::Undone);
    world.pass(60_000);
    assert_eq!(world.plan(), [Effect::List]);
    world.rest();
    assert_eq!((world.engine.len(), world.phase(0)), (1, Some(Phase::Running)));
}

#[test]
fn an_outcome_told_twice_counts_once() {
    let (mut world, id) = one_running(ENGINE_NETWORK);
    world.exit(&id, 1, false);
    let late = Outcome::Started { container: id, since: world.now.date, addresses: vec![], checked: false };
    world.finish(Ticket(2), late);
    assert_eq!(world.phase(0), Some(Phase::Dead));
}

#[test]
fn containers_that_died_with_the_engine_are_started_again() {
    let (mut world, id) = one_running(ENGINE_NETWORK);
    world.observe(Observation::EngineLost);
    world.exit(&id, 137, true);
    assert_eq!(world.plan(), []);
    assert_eq!(world.phase(0), Some(Phase::Running), "what is not seen is not made up");
    world.observe(Observation::EngineConnected);
    world.settle();
    assert_eq!(world.phase(0), Some(Phase::Running));
    assert_eq!(world.node.report().instances[0].restarts, 1);
}

#[test]
fn a_container_removed_by_hand_is_made_again() {
    let (mut world, id) = one_running(ENGINE_NETWORK);
    world.snatch(&id, false);
    world.settle();
    assert_eq!((world.engine.len(), world.phase(0)), (1, Some(Phase::Running)));
}

#[test]
fn the_end_of_a_process_is_told_in_words() {
    let exit = |code, out_of_memory| Exit { code, out_of_memory, at: Timestamp(0) }.to_string();
    assert_eq!(exit(1, false), "exited with code 1");
    assert_eq!(exit(137, true), "exited with code 137: it needed more memory than its limit");
    assert_eq!(exited(0, 1), exited(0, 1));
}

#[test]
fn what_an_instance_uses_is_news_when_it_differs_noticeably_from_what_was_reported() {
    let (mut world, id) = one_running(ENGINE_NETWORK);
    let before = world.node.revision();
    let mut is_news = |cpu_percent, memory_mebibytes: u64| {
        let known = world.node.revision();
        let usage = Usage { cpu_percent, memory_bytes: memory_mebibytes << 20, disk_bytes: 0 };
        let usage = [(id.clone(), usage)].into();
        world.observe(Observation::Sampled { load: Load::default(), usage });
        let news = world.node.revision() > known;
        if news {
            assert_eq!(world.node.report().instances.len(), 1);
        }
        news
    };
    assert!(!is_news(4.9, 15));
    assert!(is_news(80.0, 15));
    assert!(!is_news(87.9, 15), "within a tenth");
    assert!(!is_news(72.1, 30));
    assert!(is_news(72.1, 400));
    assert!(!is_news(72.1, 439));
    assert!(is_news(72.1, 440), "small steps add up to a noticeable one");
    assert!(world.node.revision() > before);
}

#[test]
fn the_revision_grows_with_what_is_reported_and_not_with_telemetry() {
    let (mut world, id) = one_running(ENGINE_NETWORK);
    let before = world.node.revision();
    world.observe(Observation::Sampled {
        load: Load { cpu_percent: 12.5, memory_percent: 40.0 },
        usage: [].into(),
    });
    world.settle();
    assert_eq!(world.node.revision(), before);
    assert_eq!(world.node.report().load.cpu_percent.to_bits(), 12.5_f32.to_bits());
    world.exit(&id, 1, false);
    assert!(world.node.revision() > before);
}

#[test]
fn a_tombstone_does_not_wait_for_the_next_attempt_to_start() {
    let (mut world, id) = one_running(ENGINE_NETWORK);
    for _ in 0..5 {
        world.exit(&id, 1, false);
        world.pass(40_000);
        world.settle();
    }
    world.exit(&id, 1, false);
    assert_eq!(world.plan(), []);
    world.assign(assignment(2, [wanted(0, 1, Desired::Removed)], spec()));
    let order = RemoveOrder { instance: instance(0), generation: Generation(1), containers: vec![id] };
    assert_eq!(world.plan(), [Effect::Remove(order)]);
}

#[test]
fn a_listing_begun_before_the_engine_was_lost_does_not_count() {
    let (mut world, id) = one_running(ENGINE_NETWORK);
    world.pass(node_core::RESYNC_MILLIS);
    assert_eq!(world.plan(), [Effect::List]);
    let ticket = world.under_way.pop_front().expect("a listing").ticket;
    let listed = Outcome::Listed(world.engine.values().cloned().collect());
    world.observe(Observation::EngineLost);
    world.exit(&id, 1, true);
    world.observe(Observation::EngineConnected);
    world.finish(ticket, listed);
    assert_eq!(world.plan(), [Effect::List]);
}

#[test]
fn a_container_made_while_a_listing_was_under_way_is_not_forgotten() {
    let mut world = World::new(ENGINE_NETWORK);
    world.settle();
    world.pass(node_core::RESYNC_MILLIS);
    world.plan();
    let listing = world.under_way.pop_front().expect("a listing").ticket;
    world.assign(assignment(1, [running(0)], spec()));
    assert_eq!(world.plan(), [Effect::CreateAndStart(order(0, 1))]);
    world.carry_out_next(world::Fate::Done);
    world.finish(listing, Outcome::Listed(vec![]));
    assert_eq!(world.phase(0), Some(Phase::Running));
    assert_eq!(world.plan(), [Effect::List]);
}

#[test]
fn callers_have_a_moment_to_learn_that_a_running_instance_goes() {
    for (settings, moment) in [(OVERLAY, model::LAST_CALLS_MILLIS), (ENGINE_NETWORK, 0)] {
        let (mut world, id) = one_running(settings);
        world.assign(assignment(2, [wanted(0, 1, Desired::Removed)], spec()));
        if moment > 0 {
            assert_eq!(world.plan(), []);
            assert_eq!(world.wake_at, Some(world.now.moment.plus_millis(moment)));
            world.pass(moment);
        }
        let order = RemoveOrder { instance: instance(0), generation: Generation(1), containers: vec![id] };
        assert_eq!(world.plan(), [Effect::Remove(order)]);
    }
}
