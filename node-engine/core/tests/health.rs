//! Probes and HEALTHCHECKs: when an instance may be counted on, and when it is restarted.

mod world;

use model::{Check, Health, Phase, Probe, ServiceSpec, Span};
use node_core::{
    ContainerId, ContainerState, Effect, ImageHealth, Observation, Outcome, Settings, StopCause,
};
use world::{ADDRESS, Fate, World, assignment, instance, running, spec};

const ENGINE_NETWORK: Settings = Settings { overlay: false };
const OVERLAY: Settings = Settings { overlay: true };
const INTERVAL: u64 = 1000;

fn check(port: u16) -> Check {
    Check::Tcp { port }
}

fn probe(port: u16) -> Option<Probe> {
    Some(Probe::new(check(port)))
}

fn with(health: Health) -> ServiceSpec {
    ServiceSpec { health, ..spec() }
}

const START: u16 = 1;
const READY: u16 = 2;
const LIVE: u16 = 3;

fn fails(world: &mut World, port: u16) {
    world.answers.insert(format!("{:?}", check(port)), Err("connection refused".to_owned()));
}

fn works(world: &mut World, port: u16) {
    world.answers.remove(&format!("{:?}", check(port)));
}

/// The ports of the probes handed out now.
fn asked(world: &mut World) -> Vec<u16> {
    let effects = world.plan();
    effects
        .iter()
        .map(|effect| {
            let Effect::Probe { probe: Probe { check: Check::Tcp { port }, .. }, .. } = effect else {
                panic!("{effect:?} is no probe")
            };
            *port
        })
        .collect()
}

fn answer_all(world: &mut World) {
    while !world.under_way.is_empty() {
        world.carry_out_next(Fate::Done);
    }
}

/// Asks what is due, `rounds` times.
fn rounds(world: &mut World, rounds: u32) {
    for _ in 0..rounds {
        world.settle();
        world.pass(INTERVAL);
    }
}

/// A world with instance 0 started and not yet probed.
fn started(settings: Settings, health: Health) -> World {
    let mut world = World::new(settings);
    world.assign(assignment(1, [running(0)], with(health)));
    world.plan();
    world.carry_out_next(Fate::Done);
    world.plan();
    world.carry_out_next(Fate::Done);
    world
}

fn container(world: &World) -> ContainerId {
    world.engine.keys().next().expect("there is one").clone()
}

#[test]
fn without_probes_nothing_is_asked_and_running_is_ready() {
    let mut world = started(ENGINE_NETWORK, Health::default());
    assert_eq!(world.state(0), (Phase::Running, true, String::new()));
    assert_eq!(world.plan(), []);
    let next_listing = world.wake_at.expect("the listing").millis_since(world.now.moment);
    assert!(next_listing > 60_000, "nothing else waits: {next_listing}");
}

#[test]
fn a_ready_probe_decides_who_is_counted_on_and_restarts_nobody() {
    let mut world = started(ENGINE_NETWORK, Health { ready: probe(READY), ..Health::default() });
    let not_yet = "not ready: its ready probe has not succeeded yet";
    assert_eq!(world.state(0), (Phase::Running, false, not_yet.to_owned()));
    assert_eq!(asked(&mut world), [READY], "at once");
    assert_eq!(asked(&mut world), [], "never two at once");
    answer_all(&mut world);
    assert_eq!(world.state(0), (Phase::Running, true, String::new()));

    fails(&mut world, READY);
    world.pass(INTERVAL);
    rounds(&mut world, 2);
    assert_eq!(world.state(0), (Phase::Running, true, String::new()), "two failures do not count yet");
    rounds(&mut world, 1);
    let refused = "not ready: connection refused".to_owned();
    assert_eq!(world.state(0), (Phase::Running, false, refused));
    rounds(&mut world, 50);
    assert_eq!(world.report(0).map(|report| report.restarts), Some(0));
    works(&mut world, READY);
    rounds(&mut world, 1);
    assert_eq!(world.state(0), (Phase::Running, true, String::new()));
}

#[test]
fn one_that_was_never_ready_is_asked_again_soon() {
    let mut world = started(ENGINE_NETWORK, Health { ready: probe(READY), ..Health::default() });
    fails(&mut world, READY);
    for wait in [25, 50, 100, 200, 400, 800, INTERVAL, INTERVAL] {
        assert_eq!(asked(&mut world), [READY]);
        let begun = world.now.moment;
        answer_all(&mut world);
        assert_eq!(asked(&mut world), []);
        assert_eq!(world.wake_at, Some(begun.plus_millis(wait)));
        world.pass(wait);
    }
    works(&mut world, READY);
    for _ in 0..5 {
        assert_eq!(asked(&mut world), [READY]);
        let begun = world.now.moment;
        answer_all(&mut world);
        assert_eq!(asked(&mut world), []);
        assert_eq!(world.wake_at, Some(begun.plus_millis(INTERVAL)), "from then on, ready or not");
        world.pass(INTERVAL);
        fails(&mut world, READY);
    }
    assert!(!world.state(0).1);
}

#[test]
fn probes_keep_their_interval_counted_from_the_question() {
    let mut world = started(ENGINE_NETWORK, Health { live: probe(LIVE), ..Health::default() });
    assert_eq!(asked(&mut world), [LIVE]);
    let begun = world.now.moment;
    world.pass(400);
    answer_all(&mut world);
    assert_eq!(asked(&mut world), []);
    assert_eq!(world.wake_at, Some(begun.plus_millis(INTERVAL)));
    world.pass(598);
    assert_eq!(asked(&mut world), []);
    world.pass(1);
    assert_eq!(asked(&mut world), [LIVE]);
    // An answer that took longer than the interval is followed by the next question, never by two.
    world.pass(5 * INTERVAL);
    answer_all(&mut world);
    assert_eq!(asked(&mut world), [LIVE]);
}

#[test]
fn an_instance_that_fails_its_live_probe_is_restarted_and_it_counts() {
    let mut world = started(ENGINE_NETWORK, Health { live: probe(LIVE), ..Health::default() });
    rounds(&mut world, 1);
    assert_eq!(
        world.state(0),
        (Phase::Running, true, String::new()),
        "without a ready probe running is ready"
    );
    fails(&mut world, LIVE);
    rounds(&mut world, 2);
    // A success in between begins the count anew.
    works(&mut world, LIVE);
    rounds(&mut world, 1);
    fails(&mut world, LIVE);
    rounds(&mut world, 2);
    assert_eq!(world.state(0).0, Phase::Running);
    assert_eq!(asked(&mut world), [LIVE]);
    answer_all(&mut world);
    let why = "its live probe failed 3 times: connection refused";
    let plan = world.plan();
    let [Effect::Stop(order)] = plan.as_slice() else { panic!("{plan:?}") };
    assert_eq!(order.cause, StopCause::Unhealthy(why.to_owned()));
    assert_eq!(world.state(0), (Phase::Running, false, format!("{why}; being restarted")));
    world.carry_out_next(Fate::Done);
    assert_eq!(world.state(0), (Phase::Dead, false, format!("{why}; being started again")));
    works(&mut world, LIVE);
    world.settle();
    let report = world.report(0).expect("reported");
    assert_eq!((report.phase, report.ready, report.restarts), (Phase::Running, true, 1));
    assert_eq!(report.last_exit.map(|exit| exit.code), Some(143));
    assert_eq!(world.engine.len(), 1, "in the same container");
}

#[test]
fn an_instance_that_never_lives_is_restarted_at_growing_pauses() {
    let mut world = started(ENGINE_NETWORK, Health { live: probe(LIVE), ..Health::default() });
    fails(&mut world, LIVE);
    let (mut restarts, begun) = (0, world.now.moment);
    while restarts < 6 {
        rounds(&mut world, 1);
        restarts = world.report(0).map_or(0, |report| report.restarts);
    }
    // 6 times 2 s until the third failure counts, and 0 + 1 + 2 + 4 + 8 + 16 s less the scatter.
    let took = world.now.moment.millis_since(begun);
    assert!((12_000 + 24_000..60_000).contains(&took), "{took}");
}

#[test]
fn until_the_start_probe_succeeds_the_others_are_not_asked() {
    let health = Health { start: probe(START), ready: probe(READY), live: probe(LIVE) };
    let mut world = started(ENGINE_NETWORK, health);
    fails(&mut world, START);
    assert_eq!(asked(&mut world), [START]);
    answer_all(&mut world);
    assert_eq!(world.state(0), (Phase::Running, false, "not ready: connection refused".to_owned()));
    works(&mut world, START);
    world.pass(INTERVAL);
    assert_eq!(asked(&mut world), [START]);
    answer_all(&mut world);
    assert_eq!(asked(&mut world), [READY, LIVE]);
    answer_all(&mut world);
    assert_eq!(world.state(0), (Phase::Running, true, String::new()));
    fails(&mut world, START);
    world.pass(INTERVAL);
    assert_eq!(asked(&mut world), [READY, LIVE], "it has started");

    // After an end everything begins anew.
    answer_all(&mut world);
    world.exit(&container(&world), 1, false);
    world.plan();
    world.carry_out_next(Fate::Done);
    assert!(!world.state(0).1);
    assert_eq!(asked(&mut world), [START]);
}

#[test]
fn a_start_probe_that_fails_too_often_restarts() {
    let mut slow = Probe::new(check(START));
    slow.failures = 5;
    let mut world = started(ENGINE_NETWORK, Health { start: Some(slow), ..Health::default() });
    fails(&mut world, START);
    rounds(&mut world, 4);
    assert_eq!(world.report(0).map(|report| report.restarts), Some(0));
    rounds(&mut world, 1);
    let report = world.report(0).expect("reported");
    assert_eq!((report.phase, report.restarts), (Phase::Running, 1));
}

#[test]
fn a_one_shot_that_was_stopped_for_its_health_is_not_completed() {
    let mut world = World::new(ENGINE_NETWORK);
    let once = ServiceSpec { one_shot: true, ..with(Health { live: probe(LIVE), ..Health::default() }) };
    world.assign(assignment(1, [running(0)], once));
    fails(&mut world, LIVE);
    let mut plan = world.plan();
    while !plan.iter().any(|effect| matches!(effect, Effect::Stop(_))) {
        answer_all(&mut world);
        world.pass(INTERVAL / 4);
        plan = world.plan();
    }
    // It takes the request to end as a reason to end well.
    let id = container(&world);
    world.exit(&id, 0, false);
    let stop = world.under_way.pop_back().expect("the stop").ticket;
    world.finish(stop, Outcome::Stopped(world.engine[&id].clone()));
    assert_eq!(world.phase(0), Some(Phase::Dead));
    works(&mut world, LIVE);
    world.settle();
    assert_eq!(world.phase(0), Some(Phase::Running));
}

#[test]
fn what_could_not_be_asked_is_no_failure() {
    let mut world = started(ENGINE_NETWORK, Health { live: probe(LIVE), ..Health::default() });
    for _ in 0..10 {
        assert_eq!(asked(&mut world), [LIVE]);
        world.carry_out_next(Fate::Undone);
        world.pass(INTERVAL);
    }
    fails(&mut world, LIVE);
    rounds(&mut world, 2);
    assert_eq!(world.state(0), (Phase::Running, true, String::new()));
    assert_eq!(world.report(0).map(|report| report.restarts), Some(0));
}

#[test]
fn an_answer_about_an_earlier_run_says_nothing_about_this_one() {
    let mut world = started(ENGINE_NETWORK, Health { ready: probe(READY), ..Health::default() });
    world.plan();
    let late = world.under_way.pop_front().expect("a probe").ticket;
    world.exit(&container(&world), 1, false);
    world.plan();
    world.carry_out_next(Fate::Done);
    world.finish(late, Outcome::Probed(Ok(())));
    assert!(!world.state(0).1);
}

#[test]
fn with_an_overlay_an_instance_is_asked_at_its_own_address_once_it_has_its_network() {
    let mut world = World::new(OVERLAY);
    let id = world.found(0, 1, ContainerState::Running { since: world.now.date, held: true });
    world.assign(assignment(1, [running(0)], with(Health { ready: probe(READY), ..Health::default() })));
    world.plan();
    world.carry_out_next(Fate::Done);
    let plan = world.plan();
    assert!(matches!(plan.as_slice(), [Effect::Attach { .. }]), "{plan:?}");
    world.carry_out_next(Fate::Done);
    let address = Some(ADDRESS.parse().expect("an address"));
    assert_eq!(world.plan(), [Effect::Probe { container: id, address, probe: Probe::new(check(READY)) }]);
    answer_all(&mut world);
    assert!(world.state(0).1);
    // A NetManager that was restarted makes nobody unready.
    world.observe(Observation::NetworkChanged);
    assert!(world.state(0).1);
    world.settle();
    assert!(world.state(0).1);
}

#[test]
fn with_an_overlay_an_adopted_instance_is_not_asked_before_its_address_is_known() {
    let mut world = World::new(OVERLAY);
    world.found(0, 1, ContainerState::Running { since: world.now.date, held: false });
    world.assign(assignment(1, [running(0)], with(Health { ready: probe(READY), ..Health::default() })));
    world.plan();
    world.carry_out_next(Fate::Done);
    let plan = world.plan();
    assert!(matches!(plan.as_slice(), [Effect::Attach { .. }]), "{plan:?}");
    world.carry_out_next(Fate::Done);
    assert_eq!(asked(&mut world), [READY]);
}

#[test]
fn a_tombstone_ends_the_questions() {
    let mut world = started(ENGINE_NETWORK, Health { live: probe(LIVE), ..Health::default() });
    let gone = world::wanted(0, 1, model::Desired::Removed);
    world.assign(assignment(2, [gone], with(Health { live: probe(LIVE), ..Health::default() })));
    let plan = world.plan();
    assert!(matches!(plan.as_slice(), [Effect::Remove(_)]), "{plan:?}");
}

#[test]
fn the_health_check_of_the_image_counts_when_the_service_has_no_probes() {
    let mut world = World::new(ENGINE_NETWORK);
    world.checked = true;
    world.assign(assignment(1, [running(0)], spec()));
    world.settle();
    let not_yet = "not ready: the HEALTHCHECK of its image has not succeeded yet".to_owned();
    assert_eq!(world.state(0), (Phase::Running, false, not_yet));
    let says = |world: &mut World, health| {
        let container = container(world);
        world.observe(Observation::HealthChanged { instance: instance(0), container, health });
    };
    says(&mut world, ImageHealth::Healthy);
    assert_eq!(world.state(0), (Phase::Running, true, String::new()));
    says(&mut world, ImageHealth::Unhealthy);
    assert!(!world.state(0).1);
    let plan = world.plan();
    assert!(matches!(plan.as_slice(), [Effect::Stop(_)]), "{plan:?}");
    world.settle();
    let report = world.report(0).expect("reported");
    assert_eq!((report.phase, report.ready, report.restarts), (Phase::Running, false, 1));
}

#[test]
fn the_health_check_of_the_image_is_found_by_listing_too() {
    let mut world = World::new(ENGINE_NETWORK);
    let id = world.found(0, 1, ContainerState::Running { since: world.now.date, held: false });
    world.engine.get_mut(&id).expect("just made").health = Some(ImageHealth::Starting);
    world.assign(assignment(1, [running(0)], spec()));
    world.settle();
    assert!(!world.state(0).1);
    world.engine.get_mut(&id).expect("just made").health = Some(ImageHealth::Healthy);
    world.pass(node_core::RESYNC_MILLIS);
    world.settle();
    assert!(world.state(0).1, "the event was lost");
}

#[test]
fn a_restarted_node_engine_makes_nothing_unready_and_trusts_nothing_new() {
    let mut world = started(ENGINE_NETWORK, Health { ready: probe(READY), ..Health::default() });
    fails(&mut world, READY);
    rounds(&mut world, 1);
    world.restart(None);
    world.plan();
    world.carry_out_next(Fate::Done);
    assert!(!world.state(0).1, "it was not ready before");
    works(&mut world, READY);
    rounds(&mut world, 2);
    assert!(world.state(0).1);

    fails(&mut world, READY);
    world.restart(None);
    world.plan();
    world.carry_out_next(Fate::Done);
    assert!(world.state(0).1, "it was ready before");
    rounds(&mut world, 2);
    assert!(world.state(0).1, "two failures do not count yet");
    rounds(&mut world, 1);
    assert!(!world.state(0).1);
}

#[test]
fn a_restarted_node_engine_does_not_ask_a_started_instance_whether_it_started() {
    let health = Health { start: probe(START), live: probe(LIVE), ..Health::default() };
    let mut world = started(ENGINE_NETWORK, health);
    world.settle();
    fails(&mut world, START);
    world.restart(None);
    world.plan();
    world.carry_out_next(Fate::Done);
    assert_eq!(asked(&mut world), [LIVE]);
    assert!(world.state(0).1);
}

#[test]
fn spans_of_probes_are_their_own() {
    let mut often = Probe::new(check(READY));
    often.interval = Span::from_millis(100);
    let mut world =
        started(ENGINE_NETWORK, Health { ready: Some(often), live: probe(LIVE), ..Health::default() });
    assert_eq!(asked(&mut world), [READY, LIVE]);
    answer_all(&mut world);
    world.pass(100);
    assert_eq!(asked(&mut world), [READY]);
}
