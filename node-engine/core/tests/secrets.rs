//! Sealed values reach the shell with what they are needed for.

mod world;

use std::{collections::BTreeMap, sync::Arc};

use model::{Assignment, ImagePullSecret, RevisionId, Sealed, SecretId, SecretVersionId, ServiceSpec};
use node_core::{Effect, Outcome, SealedSecret, Settings};
use world::{World, assignment, instance, running, spec};

fn version(number: u32) -> SecretVersionId {
    SecretVersionId { secret: SecretId::from_bytes([7; 12]), number }
}

fn sealed(number: u8) -> Sealed {
    Sealed(vec![number; 4])
}

fn pulling_with(number: u32) -> ServiceSpec {
    let secret = ImagePullSecret { name: "registry".to_owned(), version: version(number) };
    ServiceSpec { image_pull_secret: Some(secret), ..spec() }
}

fn with_secrets(assignment: Assignment) -> Assignment {
    let secrets = BTreeMap::from([(version(1), sealed(1)), (version(2), sealed(2))]);
    Assignment { secrets: Arc::new(secrets), ..assignment }
}

fn pull(world: &mut World) -> Option<SealedSecret> {
    match &world.plan()[..] {
        [Effect::Pull { login, .. }] => login.clone(),
        other => panic!("one pull, not {other:?}"),
    }
}

fn fail_pull(world: &mut World) {
    let ticket = world.under_way.pop_front().expect("a pull").ticket;
    world.finish(ticket, Outcome::Failed { container: None, detail: "denied".into() });
    world.pass(60_000);
}

fn login(number: u8) -> Option<SealedSecret> {
    Some(SealedSecret { version: version(number.into()), sealed: sealed(number) })
}

#[test]
fn a_start_has_the_values_that_were_assigned() {
    let mut world = World::new(Settings::default());
    world.settle();
    world.assign(with_secrets(assignment(1, [running(0)], spec())));
    let plan = world.plan();
    let [Effect::CreateAndStart(order)] = &plan[..] else { panic!("one start, not {plan:?}") };
    assert_eq!(order.secrets.get(&version(2)), Some(&sealed(2)));
}

#[test]
fn logins_that_several_services_name_are_tried_in_turn() {
    let mut world = World::new(Settings::default());
    world.images_missing.insert(spec().image);
    world.settle();
    let mut both = assignment(1, [running(0), running(1)], pulling_with(1));
    let other = both.services.values().next().expect("one").clone();
    let other = model::AssignedService { spec: pulling_with(2).into(), ..other };
    both.services.insert(RevisionId { service: instance(0).service, number: 2 }, other);
    both.instances[1].revision = 2;
    world.assign(with_secrets(both));
    world.plan();
    world.carry_out_next(world::Fate::Done);
    world.carry_out_next(world::Fate::Done);
    assert_eq!(pull(&mut world), login(1));
    fail_pull(&mut world);
    assert_eq!(pull(&mut world), login(2), "one that does not do is not in the way of the other");
    fail_pull(&mut world);
    assert_eq!(pull(&mut world), login(1));
}

#[test]
fn without_a_value_the_image_is_fetched_without_a_login() {
    let mut world = World::new(Settings::default());
    world.images_missing.insert(spec().image);
    world.settle();
    world.assign(assignment(1, [running(0)], pulling_with(1)));
    world.plan();
    world.carry_out_next(world::Fate::Done);
    assert_eq!(pull(&mut world), None);
}
