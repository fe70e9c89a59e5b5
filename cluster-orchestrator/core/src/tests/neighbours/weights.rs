//! What instances have to spare, across clusters.

use super::*;
use crate::{
    tests::weights::{by_kinds, report},
    weights::{GATHER_MILLIS, WINDOW_MILLIS},
};

/// As [`Site::new`], and the service has a least used address.
fn by_weight() -> Site {
    let mut site = Site::new();
    let here = AssignedInstance { address: Some([10, 30, 1, 0].into()), ..wanted(0, Desired::Running) };
    let assignment = site.cluster.assignment(small(), vec![here]);
    let kinds = [AddressKind::RoundRobin, AddressKind::LeastUsed];
    let changes = site.cluster.state.take_on(by_kinds(assignment, &kinds), site.cluster.now).expect("newer");
    site.take(changes);
    site.turn();
    site
}

#[test]
fn instances_of_a_neighbour_weigh_what_it_says() {
    let mut site = by_weight();
    let mut there = away(1, AWAY, 1, true);
    for (weight, expected) in [(2, [8, 2]), (8, [8, 8]), (0, [8, 1])] {
        there.instance.weight = Weight::new(weight);
        site.hears(1, said(true, &[(SERVICE, vec![there])], &[(AWAY, peer(1, 5))]));
        let instances = &site.known[&worker(1)].services[&SERVICE].instances;
        let weights: Vec<u32> = instances.iter().map(|instance| instance.weight.get()).collect();
        assert_eq!(weights, expected, "{weight}");
    }
}

#[test]
fn a_neighbour_is_told_once_what_an_instance_here_has_to_spare() {
    let mut site = by_weight();
    let mut told = Vec::new();
    for _ in 0..(WINDOW_MILLIS + GATHER_MILLIS) / 1_000 + 10 {
        report(&mut site.cluster, 0, 50.0);
        site.cluster.beat(1);
        site.turn();
        told.append(&mut site.told);
        let now = site.cluster.now;
        site.cluster.now = Now { date: now.date.plus_millis(1_000), moment: now.moment.plus_millis(1_000) };
    }
    let [(to, 7, news)] = &told[..] else { panic!("one telling, not {told:?}") };
    let instances = news.services[&SERVICE].as_ref().expect("it is there");
    assert_eq!((*to, instances[0].instance.weight), (neighbour(1), Weight::new(4)));
}
