//! Whatever happens in whatever order, the promises of the crate hold and the device comes to rest.

mod world;

use std::collections::BTreeMap;

use model::{AssignedInstance, Check, Desired, Generation, Health, Phase, Probe, ServiceSpec};
use node_core::{ContainerId, ContainerState, ImageHealth, Observation, Settings};
use proptest::prelude::*;
use world::{Fate, World, assignment, instance, spec, wanted};

#[derive(Debug, Clone)]
enum Happening {
    Assign(Vec<(u32, u64, bool)>),
    CarryOut(Fate),
    Exit { which: usize, code: i64, silent: bool },
    Snatch { which: usize, silent: bool },
    Pass(u64),
    EngineCut,
    NetworkChanged,
    ImageLost,
    Probes { fail: bool },
    HealthCheck { which: usize, fails: bool },
    NodeEngineKilled,
    ClockSet(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    let fate = prop_oneof![
        4 => Just(Fate::Done),
        1 => Just(Fate::DoneToldTwice),
        1 => Just(Fate::DoneUnheard),
        1 => Just(Fate::Undone)
    ];
    prop_oneof![
        3 => prop::collection::vec((0..4_u32, 1..4_u64, any::<bool>()), 0..4).prop_map(Happening::Assign),
        8 => fate.prop_map(Happening::CarryOut),
        2 => (0..8_usize, 0..2_i64, any::<bool>())
            .prop_map(|(which, code, silent)| Happening::Exit { which, code, silent }),
        1 => (0..8_usize, any::<bool>()).prop_map(|(which, silent)| Happening::Snatch { which, silent }),
        2 => (0..90_000_u64).prop_map(Happening::Pass),
        1 => Just(Happening::EngineCut),
        1 => Just(Happening::NetworkChanged),
        1 => Just(Happening::ImageLost),
        2 => any::<bool>().prop_map(|fail| Happening::Probes { fail }),
        1 => (0..8_usize, any::<bool>()).prop_map(|(which, fails)| Happening::HealthCheck { which, fails }),
        1 => Just(Happening::NodeEngineKilled),
        1 => (0..20_000_000_u64).prop_map(Happening::ClockSet),
    ]
}

fn happen(world: &mut World, happening: Happening) {
    let pick =
        |world: &World, which: usize| -> Option<ContainerId> { world.engine.keys().nth(which).cloned() };
    match happening {
        Happening::Assign(wishes) => {
            let generation = world.assignments.last().map_or(1, |last| last.generation.0 + 1);
            let wishes: BTreeMap<u32, AssignedInstance> = wishes
                .into_iter()
                .map(|(number, generation, run)| {
                    let desired = if run { Desired::Running } else { Desired::Removed };
                    (number, wanted(number, generation, desired))
                })
                .collect();
            let spec = ServiceSpec { health: world.health.clone(), ..spec() };
            world.assign(assignment(generation, wishes.into_values(), spec));
        }
        Happening::CarryOut(fate) => world.carry_out_next(fate),
        Happening::Exit { which, code, silent } => {
            if let Some(container) = pick(world, which) {
                world.exit(&container, code, silent);
            }
        }
        Happening::Snatch { which, silent } => {
            if let Some(container) = pick(world, which) {
                world.snatch(&container, silent);
            }
        }
        Happening::Pass(millis) => world.pass(millis),
        Happening::EngineCut => {
            world.observe(Observation::EngineLost);
            while !world.under_way.is_empty() {
                world.carry_out_next(Fate::Undone);
            }
            world.observe(Observation::EngineConnected);
        }
        Happening::NetworkChanged => world.observe(Observation::NetworkChanged),
        Happening::ImageLost => {
            world.images_missing.insert(spec().image);
        }
        Happening::Probes { fail: true } => {
            world.answers.insert(format!("{:?}", check()), Err("it is stuck".to_owned()));
        }
        Happening::Probes { fail: false } => world.answers.clear(),
        Happening::HealthCheck { which, fails } => {
            let Some(container) = pick(world, which) else { return };
            let health = if fails { ImageHealth::Unhealthy } else { ImageHealth::Healthy };
            let seen = world.engine.get_mut(&container).expect("picked");
            if world.checked && matches!(seen.state, ContainerState::Running { .. }) {
                seen.health = Some(health);
                let instance = seen.instance;
                world.observe(Observation::HealthChanged { instance, container, health });
            }
        }
        Happening::NodeEngineKilled => {
            // What is under way happens or not, and nobody hears of it.
            let half = world.under_way.len() / 2;
            for _ in 0..half {
                world.carry_out_next(Fate::DoneUnheard);
            }
            world.restart(None);
        }
        Happening::ClockSet(date) => world.set_clock(date),
    }
}

const fn check() -> Check {
    Check::Tcp { port: 80 }
}

fn probes() -> Health {
    Health { start: None, ready: Some(Probe::new(check())), live: Some(Probe::new(check())) }
}

/// Every HEALTHCHECK comes to its end, and succeeds.
fn healthy(world: &mut World) {
    world.answers.clear();
    for _ in 0..20 {
        world.settle();
        let running: Vec<_> = world
            .engine
            .values_mut()
            .filter(|seen| seen.health.is_some() && seen.health != Some(ImageHealth::Healthy))
            .collect();
        if running.is_empty() {
            world.pass(60_000);
            continue;
        }
        let running: Vec<_> = running
            .into_iter()
            .map(|seen| {
                seen.health = Some(ImageHealth::Healthy);
                (seen.instance, seen.id.clone())
            })
            .collect();
        for (instance, container) in running {
            let health = ImageHealth::Healthy;
            world.observe(Observation::HealthChanged { instance, container, health });
        }
    }
}

fn never_two_of_one_generation(world: &World) {
    let mut seen = BTreeMap::<_, Vec<_>>::new();
    for container in world.engine.values() {
        seen.entry((container.instance, container.generation)).or_default().push(&container.id);
    }
    for (of, containers) in seen {
        assert!(containers.len() < 2, "{of:?} has {containers:?}");
    }
}

fn removed_only_what_was_condemned(world: &World) {
    for container in &world.removed {
        let condemned = world.assignments.iter().flat_map(|assignment| &assignment.instances).any(|wanted| {
            wanted.id == container.instance
                && match wanted.desired {
                    Desired::Removed => wanted.generation >= container.generation,
                    Desired::Running => wanted.generation > container.generation,
                }
        });
        assert!(condemned, "{container:?} was removed and nobody asked for it");
    }
}

fn is_as_assigned(world: &mut World) {
    let Some(last) = world.assignments.last().cloned() else { return };
    for wanted in &last.instances {
        let containers: Vec<_> =
            world.engine.values().filter(|container| container.instance == wanted.id).cloned().collect();
        let newer = containers.iter().any(|container| container.generation > wanted.generation);
        match wanted.desired {
            Desired::Removed => {
                assert!(containers.iter().all(|container| container.generation > wanted.generation));
                assert!(newer || world.phase(wanted.id.number) == Some(Phase::Removed));
            }
            Desired::Running if newer => {}
            Desired::Running => {
                let running: Vec<Generation> = containers
                    .iter()
                    .filter(|container| {
                        matches!(container.state, ContainerState::Running { held: false, .. })
                    })
                    .map(|container| container.generation)
                    .collect();
                assert_eq!((running, containers.len()), (vec![wanted.generation], 1), "{:?}", wanted.id);
                assert_eq!(world.state(wanted.id.number), (Phase::Running, true, String::new()));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_device_comes_to_rest_as_assigned(
        overlay in any::<bool>(),
        probed in any::<bool>(),
        checked in any::<bool>(),
        found in prop::collection::vec((0..5_u32, 1..4_u64, any::<bool>()), 0..3),
        happenings in prop::collection::vec(happening(), 0..60),
    ) {
        let mut world = World::new(Settings { overlay });
        world.checked = checked;
        world.health = if probed { probes() } else { Health::default() };
        let found: BTreeMap<_, _> = found.into_iter().map(|(number, generation, held)| ((number, generation), held)).collect();
        for ((number, generation), held) in found {
            let state = ContainerState::Running { since: world.now.date, held: held && overlay };
            world.found(number, generation, state);
        }
        for happening in happenings {
            world.plan();
            prop_assert_eq!(world.plan(), vec![], "what is under way is not asked for again");
            happen(&mut world, happening);
            never_two_of_one_generation(&world);
            removed_only_what_was_condemned(&world);
        }
        while !world.under_way.is_empty() {
            world.carry_out_next(Fate::Done);
        }
        healthy(&mut world);
        world.rest();
        prop_assert_eq!(world.plan(), vec![]);
        never_two_of_one_generation(&world);
        removed_only_what_was_condemned(&world);
        is_as_assigned(&mut world);
    }
}

#[test]
fn the_world_of_these_tests_would_notice_a_wrong_removal() {
    let mut world = World::new(Settings::default());
    let id = world.found(0, 1, ContainerState::Created);
    let container = world.engine.remove(&id).expect("just made");
    assert_eq!(container.instance, instance(0));
    world.removed.push(container);
    assert!(std::panic::catch_unwind(|| removed_only_what_was_condemned(&world)).is_err());
}
