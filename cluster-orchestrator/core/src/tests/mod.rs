//! The rules of a cluster, one by one. Those of survival, upkeep and so on are in files of these names.

mod beats;
mod certificates;
mod constraints;
mod handover;
mod neighbours;
mod network;
mod outputs;
mod restart;
mod secrets;
mod survival;
mod upkeep;
mod weights;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use model::{
    AddressKind, AssignedInstance, AssignedService, Assignment, Brain, Capability, ClusterRequest, Desired,
    Generation, InstanceId, InstanceReport, Load, Mebibytes, Millicores, Moment, NetworkLease, NetworkNews,
    Now, Phase, Plan, PortMapping, Resources, RevisionId, Scheduling, ServiceId, ServiceNames, ServiceSpec,
    Timestamp, WorkerId, WorkerInventory, WorkerReport,
};
use proptest::prelude::*;

use crate::{Change, Effect, Stale, State};

const SERVICE: ServiceId = ServiceId::from_bytes([1; 12]);
const REVISION: RevisionId = RevisionId { service: SERVICE, number: 1 };
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const BEGINNING: Now = Now { date: Timestamp(1_000_000), moment: Moment(5_000_000) };

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
    AssignedInstance { id: instance(number), revision: 1, generation: Generation(1), desired, address: None }
}

fn block() -> NetworkLease {
    NetworkLease {
        v4: vec!["10.18.0.0/20".parse().expect("a range")],
        v6: vec!["fc00::/114".parse().expect("a range")],
    }
}

/// A cluster driven as the shell drives it.
struct Cluster {
    state: State,
    generation: u64,
    now: Now,
    sessions: u64,
    reports: u64,
    beats: BTreeMap<u8, u64>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            state: State::default(),
            generation: 0,
            now: BEGINNING,
            sessions: 0,
            reports: 0,
            beats: BTreeMap::new(),
        }
    }
}

impl Cluster {
    fn apply(&mut self, changes: Vec<Change>) {
        changes.into_iter().for_each(|change| self.state.apply(change));
    }

    /// What is asked for, apart from beats.
    fn reconcile(&mut self) -> Plan<Change, Effect> {
        let mut plan = self.state.reconcile(self.now);
        let again = self.state.reconcile(self.now);
        assert_eq!(
            (again.changes, again.effects),
            (vec![], vec![]),
            "a second pass without news finds nothing to do"
        );
        plan.effects.retain(|effect| match effect {
            Effect::SendAssignment { .. }
            | Effect::TellNetwork { .. }
            | Effect::TellNeighbour { .. }
            | Effect::OfferRelay { .. }
            | Effect::CloseRelay { .. } => true,
            Effect::SetBeats { .. }
            | Effect::AskForBeat { .. }
            | Effect::RequestReport { .. }
            | Effect::Report { .. }
            | Effect::Note(_) => false,
        });
        plan
    }

    /// Time goes by as the shell would let it: whenever a moment comes that was asked for, it is looked at.
    fn wait(&mut self, millis: u64) {
        let until = self.now.moment.plus_millis(millis);
        loop {
            let wake_at =
                self.state.reconcile(self.now).wake_at.map(|at| at.max(self.now.moment.plus_millis(1)));
            let next = wake_at.filter(|at| *at < until).unwrap_or(until);
            let passed = next.millis_since(self.now.moment);
            self.now = Now { date: self.now.date.plus_millis(passed), moment: next };
            if next == until {
                break;
            }
        }
        self.state.reconcile(self.now);
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
            services: [(
                REVISION,
                AssignedService {
                    names: names.into(),
                    spec: spec.into(),
                    addresses: BTreeMap::from([(AddressKind::RoundRobin, [10, 30, 0, 1].into())]).into(),
                    allowed_callers: std::sync::Arc::default(),
                },
            )]
            .into(),
            instances,
            network: Some(block()),
            ..Assignment::default()
        }
    }

    fn assign(&mut self, spec: ServiceSpec, instances: Vec<AssignedInstance>) {
        let assignment = self.assignment(spec, instances);
        let changes = self.state.take_on(assignment, self.now).expect("newer");
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
        self.sessions += 1;
        let changes =
            self.state.worker_connected(worker(number), self.sessions, inventory, ADDRESS, self.now);
        self.apply(changes);
        self.beats.remove(&number);
        // Enough to know that the link loses nothing.
        (0..130).for_each(|_| self.beat(number));
    }

    fn session(&self, number: u8) -> u64 {
        self.state.contacts.session_number(worker(number)).unwrap_or_default()
    }

    fn beat(&mut self, number: u8) {
        self.beat_of(number, self.session(number));
    }

    /// Whether that leaves anything to decide.
    fn beat_of(&mut self, number: u8, session: u64) -> bool {
        let sequence = self.beats.entry(number).or_default();
        *sequence += 1;
        self.state.worker_beat(worker(number), session, *sequence, Load::default(), self.now)
    }

    /// A worker says of an instance what it would say of the copy it was told to have.
    fn say(&mut self, number: u8, instance: u32, phase: Phase) {
        let id = self::instance(instance);
        let told = self.state.instances.get(&id).and_then(|it| it.tenure.role(worker(number)));
        let generation = told.map_or(Generation(1), |(_, generation)| generation);
        self.say_of(number, instance, generation, phase);
    }

    fn say_of(&mut self, number: u8, instance: u32, generation: Generation, phase: Phase) {
        self.report_of(number, self::instance(instance), generation, phase);
    }

    /// Whether that leaves anything to decide.
    fn report_of(&mut self, number: u8, id: InstanceId, generation: Generation, phase: Phase) -> bool {
        let mut said = InstanceReport::new(id, generation, phase, self.now.date);
        said.ready = phase == Phase::Running;
        self.hear(number, said)
    }

    /// Whether that leaves anything to decide.
    fn hear(&mut self, number: u8, said: InstanceReport) -> bool {
        self.reports += 1;
        let observed_generation =
            self.state.workers.get(&worker(number)).map_or(Generation(0), |worker| worker.generation);
        let report = WorkerReport {
            observed_generation,
            sequence: self.reports,
            instances: vec![said],
            ..WorkerReport::default()
        };
        let changes = self.state.worker_reported(worker(number), self.session(number), report, self.now);
        let is_news = changes.is_some();
        self.apply(changes.unwrap_or_default());
        is_news
    }

    fn holder(&self, number: u32) -> Option<WorkerId> {
        self.state.instances[&instance(number)].holder()
    }

    fn reported(&self, number: u32) -> Option<InstanceReport> {
        let report = self.state.report(1, self.now);
        report.instances.into_iter().find(|report| report.id == instance(number))
    }

    fn phase(&self, number: u32) -> Option<Phase> {
        self.reported(number).map(|report| report.phase)
    }

    fn refusal(&self, number: u32) -> String {
        self.state.instances[&instance(number)].report.refusal.as_ref().expect("refused").to_string()
    }

    fn free(&self) -> Resources {
        self.state.report(1, self.now).aggregate.free
    }

    /// What a worker is told about an instance.
    fn told(&self, number: u8, instance: u32) -> Option<(Generation, Desired)> {
        let assignment = self.state.assignment(&self.state.workers[&worker(number)]);
        let found = assignment.instances.iter().find(|told| told.id == self::instance(instance));
        found.map(|told| (told.generation, told.desired))
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
    let [Effect::SendAssignment { worker: to, assignment, .. }] = &plan.effects[..] else {
        panic!("one assignment, not {:?}", plan.effects);
    };
    assert_eq!((*to, &assignment.instances[..]), (worker(2), &[wanted(0, Desired::Running)][..]));
    assert_eq!(assignment.services[&REVISION].spec, small().into());
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
    assert_eq!(cluster.free().cpu, Millicores(0));
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
    let workers: Vec<_> = (0..3).map(|number| cluster.holder(number)).collect();
    assert!(workers[0].is_some() && workers[1].is_some() && workers[0] != workers[1], "{workers:?}");
    assert!(cluster.refusal(2).contains("port 8080/tcp of the device is taken"), "{}", cluster.refusal(2));
}

#[test]
fn a_service_is_forgotten_with_the_last_instance_of_it() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.assign(small(), vec![wanted(0, Desired::Running)]);
    cluster.reconcile();
    cluster.assign(small(), vec![wanted(0, Desired::Removed)]);
    cluster.reconcile();
    cluster.say(1, 0, Phase::Removed);
    assert!(!cluster.state.held.services.is_empty());
    let mut last = cluster.assignment(small(), vec![]);
    last.services.clear();
    let changes = cluster.state.take_on(last, cluster.now).expect("newer");
    cluster.apply(changes);
    assert!(cluster.state.held.services.is_empty(), "nobody has it or calls it here any more");
    assert_eq!(cluster.state.allowances.application_of(SERVICE), None);
}

#[test]
fn an_older_assignment_is_refused_whole() {
    let mut cluster = Cluster::default();
    cluster.assign(small(), vec![wanted(0, Desired::Running)]);
    let old = cluster.assignment(small(), vec![]);
    let old = Assignment { generation: Generation(1), ..old };
    let stale = Stale { offered: Generation(1), held: Generation(1) };
    assert_eq!(cluster.state.take_on(old, cluster.now), Err(stale));
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
    assert_eq!(cluster.free().memory, Mebibytes(900), "still reserved");
    cluster.say(1, 0, Phase::Running);
    assert_eq!(cluster.phase(0), Some(Phase::Undeploying));
    cluster.say(1, 0, Phase::Removed);
    cluster.reconcile();
    assert_eq!(cluster.phase(0), Some(Phase::Removed), "kept until the root has heard it");
    assert_eq!(cluster.free().memory, Mebibytes(1000));
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
fn reports_name_no_worker() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.assign(small(), vec![wanted(0, Desired::Running)]);
    cluster.reconcile();
    cluster.say(1, 0, Phase::Running);
    let report = format!("{:?}", cluster.state.report(1, cluster.now));
    assert!(!report.contains("worker1") && !report.contains(&worker(1).to_string()), "{report}");
}

#[test]
fn every_worker_has_a_subnet_of_its_own_and_keeps_it() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.state.network_connected(worker(1), 1, None);
    assert_eq!(cluster.reconcile().effects.len(), 0, "no block, no lease, nothing to say");
    cluster.assign(small(), vec![]);
    let effects = cluster.reconcile().effects;
    let lease = cluster.state.lease_of(worker(1));
    assert!(lease.is_some());
    let news = NetworkNews { whole: true, ..NetworkNews::default() };
    let tell = |session| {
        let (lease, news) = (lease.clone(), news.clone());
        Effect::TellNetwork { worker: worker(1), session, lease, news }
    };
    assert!(effects.contains(&tell(1)), "{effects:?}");

    cluster.connect(2, 4, 1000);
    cluster.reconcile();
    assert_ne!(cluster.state.lease_of(worker(2)), lease);

    cluster.state.network_disconnected(worker(1), 1);
    cluster.state.network_connected(worker(1), 2, None);
    let effects = cluster.reconcile().effects;
    assert_eq!(effects, [tell(2)], "the same again after a reconnect");
}

#[test]
fn a_cluster_restored_from_a_backup_goes_on_above_what_its_worker_holds() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.assign(small(), vec![wanted(0, Desired::Running)]);
    cluster.reconcile();
    let report = WorkerReport { observed_generation: Generation(70), sequence: 1, ..WorkerReport::default() };
    let changes = cluster.state.worker_reported(worker(1), cluster.session(1), report, cluster.now);
    cluster.apply(changes.expect("news"));
    assert_eq!(cluster.state.workers[&worker(1)].generation, Generation(71));
}

proptest! {
    /// Whatever arrives in whatever order: no worker is reserved beyond what it has.
    #[test]
    fn no_worker_is_ever_overcommitted(steps in prop::collection::vec((0u8..7, 0u32..8), 1..80)) {
        let mut cluster = Cluster::default();
        let mut listed: BTreeMap<u32, Desired> = BTreeMap::new();
        for (kind, number) in steps {
            let who = number % 3 + 1;
            let who_id = u8::try_from(who).expect("small");
            // What nobody was told to have is not there to be spoken of.
            let has_it = cluster.state.instances.get(&instance(number))
                .is_some_and(|it| it.tenure.role(worker(who_id)).is_some());
            let kind = if kind >= 4 && kind != 5 && !has_it { 3 } else { kind };
            match kind {
                // A worker always comes back as large as it was.
                0 => cluster.connect(who_id, who, who * 150),
                1 => { listed.insert(number, Desired::Running); }
                2 => { listed.entry(number).and_modify(|desired| *desired = Desired::Removed); }
                3 => cluster.wait(3000),
                4 => cluster.say(who_id, number, Phase::Running),
                5 => {
                    let scheduling = [Scheduling::Open, Scheduling::Draining][number as usize % 2];
                    let wish = ClusterRequest::Schedule { worker: format!("worker{who_id}"), scheduling };
                    let (_, changes) = cluster.state.request(&wish, cluster.now);
                    cluster.apply(changes);
                }
                _ => cluster.say(who_id, number, Phase::Removed),
            }
            cluster.assign(small(), listed.iter().map(|(number, desired)| wanted(*number, *desired)).collect());
            cluster.reconcile();
            for worker in cluster.state.workers.values() {
                let placed = cluster.state.on_worker(worker.id);
                let reserved = placed.fold(Resources::default(), |sum, one| sum.plus(&one.reserved));
                prop_assert_eq!(reserved, cluster.state.taken_on(worker.id), "the sum kept is the sum");
                let there_is = worker.inventory.allocatable;
                prop_assert!(there_is.covers(&reserved), "{reserved:?} of {there_is:?}");
            }
        }
    }
}

#[test]
fn a_report_about_some_says_of_them_what_the_whole_one_says() {
    let mut cluster = Cluster::default();
    cluster.connect(1, 4, 1000);
    cluster.assign(small(), (0..3).map(|number| wanted(number, Desired::Running)).collect());
    cluster.reconcile();
    let whole = cluster.state.report(7, cluster.now);
    let mut expected = whole.clone();
    expected.instances.retain(|said| said.id == instance(1));
    assert_eq!((whole.instances.len(), expected.instances.len()), (3, 1));
    let about = [instance(1), instance(9)].into();
    assert_eq!(cluster.state.report_about(&about, 7, cluster.now), expected);
}
