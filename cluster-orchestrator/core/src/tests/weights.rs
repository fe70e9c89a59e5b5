//! What NetManagers and other clusters are told of what instances have to spare. When a weight changes is tried in
//! `weights.rs` itself.

use model::{CallableInstance, Weight};

use super::{
    network::{addressed, say, told, two_workers},
    *,
};
use crate::weights::{GATHER_MILLIS, WINDOW_MILLIS};

/// Longer than it takes until a change is told.
const A_WHILE: u64 = WINDOW_MILLIS + GATHER_MILLIS + 5_000;

/// The same, but its service has addresses of those kinds.
pub(super) fn by_kinds(mut assignment: Assignment, kinds: &[AddressKind]) -> Assignment {
    let service = assignment.services.get_mut(&REVISION).expect("it is assigned");
    let addresses = kinds.iter().zip(1..).map(|(kind, last)| (*kind, [10, 30, 0, last].into()));
    service.addresses = addresses.collect::<BTreeMap<_, _>>().into();
    assignment
}

/// Two workers with an instance each, of a service with addresses of those kinds.
fn two_workers_by(kinds: &[AddressKind]) -> Cluster {
    let mut cluster = two_workers();
    let instances = [0, 1].map(|number| addressed(number, Desired::Running)).to_vec();
    let assignment = by_kinds(cluster.assignment(small(), instances), kinds);
    let changes = cluster.state.take_on(assignment, cluster.now).expect("newer");
    cluster.apply(changes);
    told(&mut cluster);
    cluster
}

/// As [`two_workers_by`], and both instances are ready.
fn two_ready(kinds: &[AddressKind]) -> Cluster {
    let mut cluster = two_workers_by(kinds);
    for number in [0, 1] {
        say(&mut cluster, number, Phase::Running);
    }
    told(&mut cluster);
    cluster
}

const BOTH: [AddressKind; 2] = [AddressKind::RoundRobin, AddressKind::LeastUsed];

/// The worker with an instance reports how busy it is; whether that leaves anything to decide.
pub(super) fn report(cluster: &mut Cluster, number: u32, cpu_percent: f32) -> bool {
    let holder = cluster.holder(number).expect("it is placed");
    let instance = cluster.state.instance(instance(number)).expect("it is there");
    let said = instance.report.clone();
    cluster.reports += 1;
    let report = WorkerReport {
        observed_generation: cluster.state.workers[&holder].generation,
        sequence: cluster.reports,
        load: Load { cpu_percent, memory_percent: 0.0 },
        instances: vec![said],
    };
    let session = cluster.state.contacts.session_number(holder).expect("it is connected");
    let changes = cluster.state.worker_reported(holder, session, report, cluster.now);
    assert_eq!(changes.iter().flatten().count(), 0, "nothing to write");
    changes.is_some()
}

/// Both workers report for a while; what is told meanwhile, and how many reports left anything to decide.
fn busy(cluster: &mut Cluster, percents: [f32; 2]) -> (Vec<BTreeMap<WorkerId, NetworkNews>>, usize) {
    let mut all = Vec::new();
    let mut decisions = 0;
    for _ in 0..A_WHILE / 1_000 {
        for (number, percent) in (0..).zip(percents) {
            decisions += usize::from(report(cluster, number, percent));
        }
        for number in [1, 2] {
            cluster.beat(number);
        }
        let news = told(cluster);
        if !news.is_empty() {
            all.push(news);
        }
        let now = cluster.now;
        cluster.now = Now { date: now.date.plus_millis(1_000), moment: now.moment.plus_millis(1_000) };
    }
    (all, decisions)
}

/// What instances weigh by the news, those that weigh otherwise than before.
fn weights(news: &NetworkNews) -> Vec<(u32, u32)> {
    let weight = |told: &Option<CallableInstance>| told.as_ref().expect("it may be called").weight.get();
    news.instances[&SERVICE].iter().map(|(number, told)| (*number, weight(told))).collect()
}

/// What is told of the weights, to each of two NetManagers the same.
fn told_weights(told: &[BTreeMap<WorkerId, NetworkNews>]) -> Vec<Vec<(u32, u32)>> {
    let same = |news: &BTreeMap<WorkerId, NetworkNews>| {
        let all: Vec<Vec<(u32, u32)>> = news.values().map(weights).collect();
        assert!(all.len() == 2 && all[0] == all[1], "{all:?}");
        all[0].clone()
    };
    told.iter().map(same).collect()
}

#[test]
fn who_has_more_to_spare_weighs_more_and_that_is_told_once() {
    let mut cluster = two_ready(&BOTH);
    let (told, decisions) = busy(&mut cluster, [2.0, 4.0]);
    assert_eq!((told_weights(&told), decisions), (vec![], 0), "both are idle");
    let (told, decisions) = busy(&mut cluster, [2.0, 50.0]);
    assert_eq!((told_weights(&told), decisions), (vec![vec![(1, 4)]], 1));
    // Both at once: one decision for the two of them.
    let (told, decisions) = busy(&mut cluster, [50.0, 5.0]);
    assert_eq!((told_weights(&told), decisions), (vec![vec![(0, 4), (1, 8)]], 1));
}

#[test]
fn a_copy_elsewhere_begins_as_one_that_is_idle() {
    let mut cluster = two_ready(&BOTH);
    busy(&mut cluster, [2.0, 90.0]);
    let busy_one = cluster.holder(1).expect("it is placed");
    let weight = |cluster: &Cluster, worker| cluster.state.weights.of(worker, instance(1));
    assert_eq!(weight(&cluster, busy_one), Weight::new(4));
    cluster.assign(small(), vec![addressed(0, Desired::Running), addressed(1, Desired::Removed)]);
    cluster.reconcile();
    say(&mut cluster, 1, Phase::Removed);
    assert_eq!(weight(&cluster, busy_one), Weight::MOST);
}
