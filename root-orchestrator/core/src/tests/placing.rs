//! Which cluster gets an instance, and why none does.

use super::*;

#[test]
fn a_sum_that_fits_no_single_worker_is_refused_at_once_with_figures() {
    let mut root = Root::new();
    root.cluster(1, "one", &[resources(4, 60), resources(4, 60)]);
    let service = root.service(small());
    let id = root.deploy(service);
    root.reconcile();
    assert_eq!(root.phase(id), Phase::Refused);
    let refusal = root.refusal(id);
    assert!(refusal.starts_with("NoResourcesAvailable: "), "{refusal}");
    assert!(refusal.contains("one: needs 100 MiB"), "{refusal}");
    assert!(refusal.contains("60 MiB"), "{refusal}");
}

#[test]
fn a_cluster_without_workers_is_named_as_such() {
    let mut root = Root::new();
    root.cluster(1, "one", &[]);
    let service = root.service(small());
    let id = root.deploy(service);
    root.reconcile();
    assert!(root.refusal(id).contains("one: no worker has joined it yet"), "{}", root.refusal(id));
}

#[test]
fn what_is_on_its_way_to_a_cluster_counts_as_taken() {
    let mut root = Root::new();
    root.cluster(1, "one", &[resources(2, 1000)]);
    let service = root.service(small());
    let ids = [root.deploy(service), root.deploy(service), root.deploy(service)];
    root.reconcile();
    assert_eq!(
        ids.map(|id| root.phase(id)),
        [Phase::ClusterScheduled, Phase::ClusterScheduled, Phase::Refused]
    );
}
