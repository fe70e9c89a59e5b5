//! Where an instance may run, as far as the cluster decides it.

use model::DirectConstraint;

use super::*;

#[test]
fn a_direct_constraint_names_the_only_workers_allowed() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.connect(2, 1, 100);
    cluster.reconcile();
    let mut spec = small();
    let nodes = vec!["worker2".to_owned(), "worker9".to_owned()];
    spec.constraints = vec![DirectConstraint { clusters: vec![], nodes }];
    cluster.assign(spec, vec![wanted(0, Desired::Running), wanted(1, Desired::Running)]);
    cluster.reconcile();
    assert_eq!(cluster.holder(0), Some(worker(2)));
    assert_eq!(cluster.phase(1), Some(Phase::Refused));
}

#[test]
fn an_architecture_names_the_only_workers_that_will_do() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.reconcile();
    let mut spec = small();
    spec.architectures = ["arm64".to_owned()].into();
    cluster.assign(spec, vec![wanted(0, Desired::Running)]);
    cluster.reconcile();
    assert!(cluster.refusal(0).contains("amd64, and arm64 is needed"), "{}", cluster.refusal(0));
    let mut spec = small();
    spec.architectures = ["amd64", "arm64"].map(str::to_owned).into();
    let mut able = Cluster::default();
    able.connect(1, 4, 1000);
    able.assign(spec, vec![wanted(0, Desired::Running)]);
    able.reconcile();
    assert_eq!(able.holder(0), Some(worker(1)));
}
