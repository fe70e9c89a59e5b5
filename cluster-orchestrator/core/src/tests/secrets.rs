//! Values of secrets pass through sealed, and to those only whose services refer to them.

use model::{Sealed, SecretId, SecretTarget, SecretUse, SecretVersionId};

use super::*;

fn version(number: u32) -> SecretVersionId {
    SecretVersionId { secret: SecretId::from_bytes([7; 12]), number }
}

fn sealed(number: u32) -> Sealed {
    Sealed(vec![u8::try_from(number).expect("few"); 4])
}

fn using(number: u32) -> ServiceSpec {
    let target = SecretTarget::Variable("A".to_owned());
    let secret = SecretUse { name: "database".to_owned(), version: version(number), target };
    ServiceSpec { secrets: vec![secret], ..small() }
}

impl Cluster {
    fn assign_with(&mut self, spec: ServiceSpec, instances: Vec<AssignedInstance>, secrets: &[u32]) {
        let secrets = secrets.iter().map(|number| (version(*number), sealed(*number)));
        let secrets = std::sync::Arc::new(secrets.collect());
        let assignment = Assignment { secrets, ..self.assignment(spec, instances) };
        let changes = self.state.take_on(assignment, self.now).expect("newer");
        self.apply(changes);
    }

    fn secrets_for(&self, number: u8) -> Vec<(SecretVersionId, Sealed)> {
        let assignment = self.state.assignment(&self.state.workers[&worker(number)]);
        assignment.secrets.iter().map(|(version, sealed)| (*version, sealed.clone())).collect()
    }
}

#[test]
fn a_worker_is_sent_what_its_services_refer_to_and_no_more() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.connect(2, 4, 1000);
    cluster.assign_with(using(1), vec![wanted(0, Desired::Running)], &[1, 2]);
    cluster.reconcile();
    let holder = cluster.state.instances[&instance(0)].holder().expect("placed");
    let (holder, other) = if holder == worker(1) { (1, 2) } else { (2, 1) };
    assert_eq!(cluster.secrets_for(holder), [(version(1), sealed(1))]);
    assert_eq!(cluster.secrets_for(other), []);
}

#[test]
fn a_revision_that_is_kept_keeps_its_secrets_and_one_that_goes_takes_them_along() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.assign_with(using(1), vec![wanted(0, Desired::Running)], &[1]);
    cluster.reconcile();
    cluster.say(1, 0, Phase::Running);
    let mut without = cluster.assignment(small(), vec![]);
    without.services.clear();
    let changes = cluster.state.take_on(without, cluster.now).expect("newer");
    cluster.apply(changes);
    assert_eq!(cluster.secrets_for(1), [(version(1), sealed(1))], "absence removes nothing");

    cluster.assign_with(using(1), vec![wanted(0, Desired::Removed)], &[]);
    cluster.reconcile();
    cluster.say(1, 0, Phase::Removed);
    let mut without = cluster.assignment(small(), vec![]);
    without.services.clear();
    let changes = cluster.state.take_on(without, cluster.now).expect("newer");
    cluster.apply(changes);
    assert_eq!(*cluster.state.held.secrets, BTreeMap::new());
}
