//! Which addresses services and instances have, and keep.

use std::{collections::BTreeSet, net::Ipv4Addr};

use addressing::StablePlan;
use model::AddressKind;

use super::*;
use crate::Rejected;

fn addresses_of(root: &Root, service: ServiceId) -> BTreeSet<Ipv4Addr> {
    let service = root.state.service(service).expect("it exists");
    let instances = root.state.instances_of(service.id).filter_map(|instance| instance.address);
    service.addresses.values().copied().chain(instances).collect()
}

#[test]
fn every_service_and_every_instance_has_addresses_of_its_own() {
    let mut root = Root::new();
    let services = [(); 3].map(|()| {
        let service = root.service(small());
        root.deploy(service);
        service
    });
    root.reconcile();
    let all: BTreeSet<Ipv4Addr> = services.iter().flat_map(|service| addresses_of(&root, *service)).collect();
    assert_eq!(all.len(), 3 * (4 + 1));
}

#[test]
fn what_is_deleted_gives_its_addresses_back() {
    let mut root = Root::new();
    let free = root.state.stable.left();
    let service = root.service(small());
    root.deploy(service);
    root.reconcile();
    assert_eq!(root.state.stable.left(), free - 5);
    let service = root.state.service(service).expect("it exists").clone();
    let changes = root.state.delete_service(&service, root.now.date);
    root.apply(changes);
    root.reconcile();
    assert_eq!(root.state.stable.left(), free);
}

#[test]
fn who_waits_for_an_address_gets_one_with_the_turn_that_frees_it() {
    let mut root = Root::new();
    let (goes, stays) = (root.service(small()), root.service(small()));
    root.reconcile();
    let others: Vec<_> =
        std::iter::from_fn(|| root.state.stable.allocate(AddressKind::Instance).ok()).collect();
    assert_eq!(others.len(), StablePlan::LIMIT - 8);
    let waits = root.deploy(stays);
    root.reconcile();
    assert_eq!(root.state.instance(waits).expect("it exists").address, None, "there is none left");
    let service = root.state.service(goes).expect("it exists").clone();
    let changes = root.state.delete_service(&service, root.now.date);
    root.apply(changes);
    root.reconcile();
    assert!(root.state.instance(waits).expect("it exists").address.is_some());
}

#[test]
fn a_chosen_address_is_for_one_service() {
    let mut root = Root::new();
    let service = root.service(small());
    root.reconcile();
    let taken = *addresses_of(&root, service).first().expect("it has some");
    let application = root.state.service(service).expect("it exists").application;
    let application = root.state.application(application).expect("it exists").clone();
    let wanted = |round_robin: Ipv4Addr| SlaService {
        name: "other".to_owned(),
        namespace: "test".to_owned(),
        spec: small(),
        update: UpdatePolicy::default(),
        allowed_callers: model::AllowedCallers::new(),
        round_robin: Some(round_robin),
        secrets: crate::sla::SecretWishes::default(),
        document: serde_json::Map::new(),
    };
    let refused =
        root.state.add_services(&application, vec![wanted(taken)], &mut root.ids, root.now.date).map(drop);
    assert_eq!(refused, Err(Rejected::AddressTaken { service: "other".to_owned(), address: taken }));
    let free = Ipv4Addr::new(10, 30, 30, 30);
    let added = root.state.add_services(&application, vec![wanted(free)], &mut root.ids, root.now.date);
    let (ids, changes) = added.expect("it is free");
    root.apply(changes);
    root.reconcile();
    assert!(addresses_of(&root, ids[0]).contains(&free));
    assert_eq!(addresses_of(&root, ids[0]).len(), 4);
}

#[test]
fn a_cluster_with_more_workers_gets_more_blocks() {
    let mut root = Root::new();
    let cluster = root.cluster(1, "one", &[resources(4, 1000)]);
    root.reconcile();
    assert_eq!(root.state.blocks.blocks_of(&cluster).v4.len(), 1);
    let many = ClusterAggregate { known_workers: 57, ..aggregate(&[resources(4, 1000)]) };
    root.report(cluster, many, vec![]);
    root.reconcile();
    assert_eq!(root.state.blocks.blocks_of(&cluster).v4.len(), 2);
}
