//! Where an instance may run, as far as the root decides it.

use model::{DirectConstraint, DistanceConstraint, Microdegrees};

use super::*;

#[test]
fn a_direct_constraint_names_the_only_clusters_allowed() {
    let mut root = Root::new();
    root.cluster(1, "one", &[resources(8, 2000)]);
    let two = root.cluster(2, "two", &[resources(1, 100)]);
    let mut spec = small();
    spec.constraints = vec![DirectConstraint { clusters: vec!["two".to_owned()], nodes: vec![] }];
    let service = root.service(spec);
    let ids = [root.deploy(service), root.deploy(service)];
    root.reconcile();
    assert_eq!(root.state.instance(ids[0]).and_then(|instance| instance.cluster()), Some(two));
    let refusal = root.refusal(ids[1]);
    assert!(refusal.contains("one: not among the names"), "{refusal}");
}

#[test]
fn a_distance_keeps_an_instance_out_of_clusters_that_reach_farther() {
    let mut root = Root::new();
    // Both are at 0, 0 and cover nothing around it.
    let one = root.cluster(1, "one", &[resources(8, 2000)]);
    let mut spec = small();
    let near = DistanceConstraint {
        latitude: Microdegrees(0),
        longitude: Microdegrees(1_000_000),
        within_metres: 112_000,
    };
    spec.distances = vec![near];
    let fits = root.service(spec.clone());
    spec.distances = vec![near, DistanceConstraint { within_metres: 111_000, ..near }];
    let too_far = root.service(spec);
    let ids = [root.deploy(fits), root.deploy(too_far)];
    root.reconcile();
    assert_eq!(root.state.instance(ids[0]).and_then(|instance| instance.cluster()), Some(one));
    let refusal = root.refusal(ids[1]);
    assert!(refusal.contains("one: not within 111 km of 1;0 with all that it covers"), "{refusal}");
}

#[test]
fn an_architecture_keeps_an_instance_out_of_clusters_without_it_until_they_have_it() {
    let mut root = Root::new();
    let cluster = root.cluster(1, "one", &[resources(8, 2000)]);
    let of = |names: &[&str]| ClusterAggregate {
        architectures: names.iter().copied().map(str::to_owned).collect(),
        ..aggregate(&[resources(8, 2000)])
    };
    root.report(cluster, of(&["amd64"]), vec![]);
    let mut spec = small();
    spec.architectures = ["arm64", "riscv64"].map(str::to_owned).into();
    let service = root.service(spec);
    let id = root.deploy(service);
    root.reconcile();
    let refusal = root.refusal(id);
    assert!(refusal.contains("one: its workers are amd64, and arm64 or riscv64 is needed"), "{refusal}");
    root.report(cluster, of(&["amd64", "arm64"]), vec![]);
    root.reconcile();
    assert_eq!(root.state.instance(id).and_then(|instance| instance.cluster()), Some(cluster));
}

#[test]
fn what_no_worker_has_is_refused_with_figures() {
    let mut root = Root::new();
    root.cluster(1, "one", &[resources(8, 2000)]);
    let least = small().resources;
    for (needs, words) in [
        (Resources { gpus: 1, ..least }, "one: needs 1 GPUs, 0 is free"),
        (Resources { storage: Mebibytes(10), ..least }, "one: needs 10 MiB of storage, 0 MiB is free"),
    ] {
        let service = root.service(ServiceSpec { resources: needs, ..small() });
        let id = root.deploy(service);
        root.reconcile();
        assert!(root.refusal(id).contains(words), "{}", root.refusal(id));
    }
}
