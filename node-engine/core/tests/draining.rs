//! Instances that go while others are connected to them.

mod world;

use model::{Desired, Generation, LAST_CALLS_MILLIS, Phase, ServiceSpec, Span};
use node_core::{ContainerId, Effect, Outcome, RemoveOrder, Settings, TELL_EVERY_MILLIS};
use world::{Fate, World, assignment, instance, running, spec, wanted};

const OVERLAY: Settings = Settings { overlay: true };
const COUNT: Effect = Effect::Drain { instance: CALLED };
const CALLED: model::InstanceId =
    model::InstanceId { service: model::ServiceId::from_bytes([7; 12]), number: 0 };

fn draining(seconds: u32) -> ServiceSpec {
    ServiceSpec { drain: Span::from_secs(seconds), ..spec() }
}

/// An instance to which so many are connected, and its tombstone.
fn going(settings: Settings, seconds: u32, connections: u32) -> (World, ContainerId) {
    let mut world = World::new(settings);
    world.connections = connections;
    world.assign(assignment(1, [running(0)], draining(seconds)));
    world.settle();
    let id = world.engine.keys().next().expect("one was made").clone();
    world.assign(assignment(2, [wanted(0, 1, Desired::Removed)], draining(seconds)));
    (world, id)
}

fn removal(container: &ContainerId) -> [Effect; 1] {
    let containers = vec![container.clone()];
    [Effect::Remove(RemoveOrder { instance: instance(0), generation: Generation(1), containers })]
}

/// Counts once and returns when that is done.
fn count(world: &mut World) {
    assert_eq!(world.plan(), [COUNT]);
    world.carry_out_next(Fate::Done);
}

#[test]
fn it_goes_as_soon_as_nobody_is_connected_and_all_have_heard() {
    let (mut world, id) = going(OVERLAY, 10, 0);
    count(&mut world);
    assert_eq!(world.plan(), [], "somebody may be about to connect");
    world.pass(LAST_CALLS_MILLIS);
    count(&mut world);
    assert_eq!(world.plan(), removal(&id));
    world.carry_out_next(Fate::Done);
    assert_eq!(world.phase(0), Some(Phase::Removed));
}

#[test]
fn it_waits_for_connections_to_end() {
    let (mut world, id) = going(OVERLAY, 10, 2);
    for _ in 0..4 {
        count(&mut world);
        assert_eq!(world.plan(), []);
        let counted = world.wake_at.expect("it is counted again");
        world.pass(counted.millis_since(world.now.moment));
    }
    let detail = "waiting for 2 connections to end, 10s at most".to_owned();
    assert_eq!((world.phase(0), world.detail(0)), (Some(Phase::Undeploying), detail));
    world.connections = 0;
    count(&mut world);
    assert_eq!(world.plan(), removal(&id));
}

#[test]
fn a_number_that_changes_all_the_time_is_passed_on_once_in_a_while() {
    let (mut world, _) = going(OVERLAY, 600, 1);
    let mut told: Vec<(u64, String)> = Vec::new();
    let begun = world.now.moment;
    for connections in 1..=40 {
        world.connections = connections;
        count(&mut world);
        assert_eq!(world.plan(), []);
        let detail = world.detail(0);
        if told.last().is_none_or(|(_, before)| *before != detail) {
            told.push((world.now.moment.millis_since(begun), detail));
        }
        world.pass(world.wake_at.expect("it is counted again").millis_since(world.now.moment));
    }
    let texts: Vec<&str> = told.iter().map(|(_, detail)| detail.as_str()).collect();
    assert_eq!(texts[0], "waiting for 1 connection to end, 10m at most");
    let pauses: Vec<u64> = told.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    let rare = |pause: &u64| (TELL_EVERY_MILLIS..TELL_EVERY_MILLIS + 1000).contains(pause);
    assert!(pauses.len() >= 3 && pauses.iter().all(rare), "{told:?}");
}

#[test]
fn it_waits_no_longer_than_its_service_says() {
    for lost in [false, true] {
        let (mut world, id) = going(OVERLAY, 3, 1);
        let begun = world.now.moment;
        let effects = loop {
            match world.plan() {
                effects if effects == [COUNT] => {
                    let ticket = world.under_way.pop_front().expect("a count").ticket;
                    world.finish(ticket, if lost { Outcome::Lost } else { Outcome::Connections(1) });
                }
                effects if effects.is_empty() => {
                    let next = world.wake_at.expect("a deadline");
                    world.pass(next.millis_since(world.now.moment));
                }
                effects => break effects,
            }
        };
        assert_eq!((effects.as_slice(), world.now.moment.millis_since(begun)), (&removal(&id)[..], 3000));
    }
}

#[test]
fn a_count_that_does_not_come_back_holds_nothing_up() {
    let (mut world, id) = going(OVERLAY, 3, 1);
    assert_eq!(world.plan(), [COUNT]);
    let late = world.under_way.pop_front().expect("a count").ticket;
    assert_eq!(world.plan(), []);
    world.pass(3000);
    assert_eq!(world.plan(), removal(&id));
    world.finish(late, Outcome::Connections(1));
    world.carry_out_next(Fate::Done);
    assert_eq!((world.plan(), world.phase(0)), (vec![], Some(Phase::Removed)));
}

#[test]
fn one_that_ends_by_itself_is_not_waited_for() {
    let (mut world, id) = going(OVERLAY, 10, 1);
    count(&mut world);
    world.exit(&id, 0, false);
    assert_eq!(world.plan(), removal(&id));
}

#[test]
fn without_an_overlay_and_without_a_wish_nobody_is_counted() {
    let (mut world, id) = going(Settings { overlay: false }, 10, 1);
    assert_eq!(world.plan(), removal(&id));
    let (mut world, id) = going(OVERLAY, 0, 1);
    assert_eq!(world.plan(), []);
    world.pass(LAST_CALLS_MILLIS);
    assert_eq!(world.plan(), removal(&id));
}

#[test]
fn a_node_engine_that_comes_back_begins_the_time_anew() {
    let (mut world, id) = going(OVERLAY, 3, 1);
    count(&mut world);
    world.pass(2000);
    world.restart(None);
    world.plan();
    world.carry_out_next(Fate::Done);
    count(&mut world);
    world.pass(2000);
    count(&mut world);
    assert_eq!(world.plan(), []);
    world.pass(1000);
    assert_eq!(world.plan(), removal(&id));
}

#[test]
fn one_that_is_wanted_again_is_replaced_at_once() {
    let (mut world, id) = going(OVERLAY, 10, 1);
    count(&mut world);
    world.assign(assignment(3, [wanted(0, 2, Desired::Running)], draining(10)));
    assert_eq!(world.plan(), removal(&id));
}
