//! The rules of a cluster, one by one.

use std::net::{IpAddr, Ipv4Addr};

use model::{
    AssignedInstance, AssignedService, Assignment, Brain, Capability, Desired, DirectConstraint, Generation,
    InstanceId, InstanceReport, Mebibytes, Millicores, NetworkLease, Phase, Plan, PortMapping, Resources,
    ServiceId, ServiceNames, ServiceSpec, Timestamp, WorkerId, WorkerInventory, WorkerReport,
};
use proptest::prelude::*;

use crate::{Change, Effect, Stale, State};

const NOW: Timestamp = Timestamp(1_000_000);
const SERVICE: ServiceId = ServiceId::from_bytes([1; 12]);
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn worker(number: u8) -> WorkerId {
    format!("00000000-0000-0000-0000-0000000000{number:02x}").parse().expect("a UUID")
}

fn instance(number: u32) -> InstanceId {
    InstanceId { service: SERVICE, number }
}

fn small() -> ServiceSpec {
    ServiceSpec::container("image").reserving(Millicores::from_cores(1), Mebibytes(100))
}

fn wanted(number: u32, desired: Desired) -> AssignedInstance {
    AssignedInstance { id: instance(number), generation: Generation(1), desired }
}

fn block() -> NetworkLease {
    NetworkLease {
        v4: vec!["10.18.0.0/20".parse().expect("a range")],
        v6: vec!["fc00::/114".parse().expect("a range")],
    }
}

/// A cluster driven as the shell drives it.
#[derive(Default)]
struct Cluster {
    state: State,
    generation: u64,
}

impl Cluster {
    fn apply(&mut self, changes: Vec<Change>) {
        changes.into_iter().for_each(|change| self.state.apply(change));
    }

    fn reconcile(&mut self) -> Plan<Change, Effect> {
        let plan = self.state.reconcile(NOW);
        assert_eq!(
            self.state.reconcile(NOW),
            Plan::default(),
            "a second pass without news finds nothing to do"
        );
        plan
    }

    fn assignment(&mut self, spec: ServiceSpec, instances: Vec<AssignedInstance>) -> Assignment {
        self.generation += 1;
        let names = ServiceNames {
            application: "app".to_owned(),
            application_namespace: "test".to_owned(),
            service: "service".to_owned(),
            service_namespace: "test".to_owned(),
        };
        Assignment {
            generation: Generation(self.generation),
            services: [(SERVICE, AssignedService { names, spec })].into(),
            instances,
            network: Some(block()),
        }
    }

    fn assign(&mut self, spec: ServiceSpec, instances: Vec<AssignedInstance>) {
        let assignment = self.assignment(spec, instances);
        let changes = self.state.take_on(assignment, NOW).expect("newer");
        self.apply(changes);
    }

    fn connect(&mut self, number: u8, cores: u32, memory: u32) {
        let inventory = WorkerInventory {
            name: format!("worker{number}"),
            architecture: "amd64".to_owned(),
            allocatable: Resources {
                cpu: Millicores::from_cores(cores),
                memory: Mebibytes(memory),
                ..Resources::default()
            },
            capabilities: vec![Capability::Container],
        };
        let changes = self.state.worker_connected(worker(number), inventory, ADDRESS);
        self.apply(changes);
    }

    fn say(&mut self, number: u8, instance: u32, phase: Phase) {
        let id = self::instance(instance);
        let generation = self.state.instances.get(&id).map_or(Generation(1), |instance| instance.generation);
        let report = WorkerReport {
            instances: vec![InstanceReport::new(id, generation, phase, NOW)],
            ..WorkerReport::default()
        };
        let changes = self.state.worker_reported(worker(number), report);
        self.apply(changes);
    }

    fn phase(&self, number: u32) -> Option<Phase> {
        let report = self.state.report(NOW);
        report.instances.iter().find(|report| report.id == instance(number)).map(|report| report.phase)
    }

    fn refusal(&self, number: u32) -> String {
        self.state.instances[&instance(number)].report.refusal.as_ref().expect("refused").to_string()
    }
}

#[test]
fn an_instance_goes_to_a_worker_that_has_room() {
    let mut cluster = Cluster::default();
    cluster.assign(small(), vec![]);
    cluster.connect(1, 1, 50);
    cluster.connect(2, 4, 1000);
    cluster.reconcile();
    cluster.assign(small(), vec![wanted(0, Desired::Running)]);
    let plan = cluster.reconcile();
    let [Effect::SendAssignment { worker: to, assignment }] = &plan.effects[..] else {
        panic!("one assignment, not {:?}", plan.effects);
    };
    assert_eq!((*to, &assignment.instances[..]), (worker(2), &[wanted(0, Desired::Running)][..]));
    assert_eq!(assignment.services[&SERVICE].spec, small());
    assert_eq!(cluster.phase(0), Some(Phase::NodeScheduled));
}

#[test]
fn what_fits_nowhere_is_refused_for_good_with_figures() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 50);
    cluster.connect(2, 4, 60);
    cluster.reconcile();
    cluster.assign(small(), vec![wanted(0, Desired::Running)]);
    cluster.reconcile();
    let refusal = cluster.refusal(0);
    assert!(refusal.contains("2 workers: needs 100 MiB"), "{refusal}");
    assert!(!refusal.contains("worker1") && !refusal.contains(&worker(1).to_string()), "{refusal}");
    // The root may have given it to another cluster by now: room that appears later must not start a second copy.
    cluster.connect(3, 4, 1000);
    cluster.reconcile();
    assert_eq!(cluster.phase(0), Some(Phase::Refused));
    // A newer placement is a new question.
    let again = AssignedInstance { generation: Generation(2), ..wanted(0, Desired::Running) };
    cluster.assign(small(), vec![again]);
    cluster.reconcile();
    assert_eq!(cluster.phase(0), Some(Phase::NodeScheduled));
}

#[test]
fn a_burst_never_reserves_more_than_there_is() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 2, 1000);
    cluster.reconcile();
    cluster.assign(small(), (0..3).map(|number| wanted(number, Desired::Running)).collect());
    cluster.reconcile();
    assert_eq!(
        [0, 1, 2].map(|number| cluster.phase(number)),
        [Some(Phase::NodeScheduled), Some(Phase::NodeScheduled), Some(Phase::Refused)]
    );
    assert_eq!(cluster.state.report(NOW).aggregate.free.cpu, Millicores(0));
}

#[test]
fn two_instances_with_one_device_port_go_to_two_workers() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.connect(2, 4, 1000);
    cluster.reconcile();
    let mut spec = small();
    spec.ports = PortMapping::parse_list("8080:80").expect("well formed");
    cluster.assign(spec, (0..3).map(|number| wanted(number, Desired::Running)).collect());
    cluster.reconcile();
    let workers: Vec<_> = (0..3).map(|number| cluster.state.instances[&instance(number)].worker).collect();
    assert!(workers[0].is_some() && workers[1].is_some() && workers[0] != workers[1], "{workers:?}");
    assert!(cluster.refusal(2).contains("port 8080/tcp of the device is taken"), "{}", cluster.refusal(2));
}

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
    assert_eq!(cluster.state.instances[&instance(0)].worker, Some(worker(2)));
    assert_eq!(cluster.phase(1), Some(Phase::Refused));
}

#[test]
fn an_older_assignment_is_refused_whole() {
    let mut cluster = Cluster::default();
    cluster.assign(small(), vec![wanted(0, Desired::Running)]);
    let old = cluster.assignment(small(), vec![]);
    let old = Assignment { generation: Generation(1), ..old };
    let stale = Stale { offered: Generation(1), held: Generation(1) };
    assert_eq!(cluster.state.take_on(old, NOW), Err(stale));
}

#[test]
fn absence_removes_nothing_and_a_tombstone_does_once_confirmed() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.assign(small(), vec![wanted(0, Desired::Running)]);
    cluster.reconcile();
    cluster.say(1, 0, Phase::Running);
    cluster.assign(small(), vec![]);
    assert_eq!(cluster.reconcile().effects, [], "the worker is told nothing new");
    assert_eq!(cluster.phase(0), Some(Phase::Running));

    cluster.assign(small(), vec![wanted(0, Desired::Removed)]);
    let plan = cluster.reconcile();
    let [Effect::SendAssignment { assignment, .. }] = &plan.effects[..] else { panic!("one assignment") };
    assert_eq!(assignment.instances, [wanted(0, Desired::Removed)]);
    assert_eq!(cluster.phase(0), Some(Phase::Undeploying));
    assert_eq!(cluster.state.report(NOW).aggregate.free.memory, Mebibytes(900), "still reserved");
    cluster.say(1, 0, Phase::Running);
    assert_eq!(cluster.phase(0), Some(Phase::Undeploying));

    cluster.say(1, 0, Phase::Removed);
    cluster.reconcile();
    assert_eq!(cluster.phase(0), Some(Phase::Removed), "kept until the root has heard it");
    assert_eq!(cluster.state.report(NOW).aggregate.free.memory, Mebibytes(1000));
    cluster.assign(small(), vec![]);
    assert_eq!(cluster.phase(0), None);
}

#[test]
fn a_tombstone_for_what_never_ran_is_confirmed_at_once() {
    let mut cluster = Cluster::default();
    cluster.assign(small(), vec![wanted(0, Desired::Removed)]);
    assert_eq!(cluster.phase(0), Some(Phase::Removed));
}

#[test]
fn a_lost_worker_keeps_its_instances_and_the_report_says_so() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.assign(small(), vec![wanted(0, Desired::Running)]);
    cluster.reconcile();
    cluster.say(1, 0, Phase::Running);
    cluster.state.worker_disconnected(worker(1), NOW);
    cluster.reconcile();
    let later = NOW.plus_millis(25_000);
    let report = cluster.state.report(later);
    assert_eq!((report.aggregate.active_workers, report.aggregate.known_workers), (0, 1));
    assert_eq!(report.instances[0].phase, Phase::Running);
    assert!(report.instances[0].detail.contains("its worker is not connected (for 20 s or more)"));

    cluster.connect(1, 4, 1000);
    let effects = cluster.reconcile().effects;
    assert_eq!(effects.len(), 1, "a worker that returns is told what it should have: {effects:?}");
    assert_eq!(cluster.state.report(later).instances[0].detail, "");
}

#[test]
fn reports_name_no_worker() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.assign(small(), vec![wanted(0, Desired::Running)]);
    cluster.reconcile();
    cluster.say(1, 0, Phase::Running);
    let report = format!("{:?}", cluster.state.report(NOW));
    assert!(!report.contains("worker1") && !report.contains(&worker(1).to_string()), "{report}");
}

#[test]
fn every_worker_has_a_subnet_of_its_own_and_keeps_it() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.state.network_connected(worker(1));
    assert_eq!(cluster.reconcile().effects.len(), 0, "no block, no lease, nothing to say");
    cluster.assign(small(), vec![]);
    let effects = cluster.reconcile().effects;
    let lease = cluster.state.lease_of(worker(1));
    assert!(lease.is_some());
    assert!(effects.contains(&Effect::SendLease { worker: worker(1), lease: lease.clone() }), "{effects:?}");

    cluster.connect(2, 4, 1000);
    cluster.reconcile();
    assert_ne!(cluster.state.lease_of(worker(2)), lease);

    cluster.state.network_disconnected(worker(1));
    cluster.state.network_connected(worker(1));
    let effects = cluster.reconcile().effects;
    assert_eq!(effects, [Effect::SendLease { worker: worker(1), lease }], "the same again after a reconnect");
}

#[test]
fn a_cluster_restored_from_a_backup_goes_on_above_what_its_worker_holds() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.assign(small(), vec![wanted(0, Desired::Running)]);
    cluster.reconcile();
    let report = WorkerReport { observed_generation: Generation(70), ..WorkerReport::default() };
    let changes = cluster.state.worker_reported(worker(1), report);
    cluster.apply(changes);
    cluster.say(1, 0, Phase::Running);
    assert_eq!(cluster.state.workers[&worker(1)].generation, Generation(71));
}

proptest! {
    /// Whatever arrives in whatever order: no worker is reserved beyond what it has.
    #[test]
    fn no_worker_is_ever_overcommitted(steps in prop::collection::vec((0u8..4, 0u32..8), 1..80)) {
        let mut cluster = Cluster::default();
        let mut listed: std::collections::BTreeMap<u32, Desired> = Default::default();
        for (kind, number) in steps {
            let who = number % 3 + 1;
            let who_id = u8::try_from(who).expect("small");
            match kind {
                // A worker always comes back as large as it was.
                0 => cluster.connect(who_id, who, who * 150),
                1 => { listed.insert(number, Desired::Running); }
                2 => { listed.entry(number).and_modify(|desired| *desired = Desired::Removed); }
                _ => cluster.say(who_id, number, Phase::Removed),
            }
            cluster.assign(small(), listed.iter().map(|(number, desired)| wanted(*number, *desired)).collect());
            cluster.reconcile();
            for worker in cluster.state.workers.values() {
                let placed = cluster.state.on_worker(worker.id);
                let reserved = placed.fold(Resources::default(), |sum, one| sum.plus(&one.reserved));
                let there_is = worker.inventory.allocatable;
                prop_assert!(there_is.covers(&reserved), "{reserved:?} of {there_is:?}");
            }
        }
    }
}
