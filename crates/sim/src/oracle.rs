//! What is known about the whole world and compared with what the daemons do. Judged in `invariants.rs`.

use std::collections::{BTreeMap, BTreeSet};

use model::{Assignment, Desired, Generation, InstanceId, NetworkLease, Phase, ServiceId, Survival};
use node_core::ContainerSeen;
use root_core::State;

use crate::{
    ids::{ClusterIndex, Host, WorkerIndex},
    invariants::{self, Copied, Invariant},
    queue::Millis,
    scenario::Scenario,
    user::Wish,
};

/// When it is first asked whether everything has come to rest, after the faults.
pub(crate) const REST_FIRST: Millis = 45_000;
/// Between two such questions.
pub(crate) const REST_AGAIN: Millis = 5_000;
/// Within this time everything must have come to rest: pauses between starts grow to one minute, a wait for a
/// connection to half of one, an image may take a minute, and each may follow the other.
pub(crate) const REST_WITHIN: Millis = 300_000;
/// Everything that was assigned runs again so long after a boot.
pub(crate) const BOOT_WITHIN: Millis = 15_000;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// Virtual milliseconds.
    pub at: u64,
    /// What is wrong.
    pub detail: String,
    /// The instance concerned, if it is about one.
    pub instance: Option<InstanceId>,
    /// The host concerned, by its name in the log.
    pub host: Option<String>,
}

/// Why a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself.
    Exit,
    /// Its device lost power.
    Power,
    /// NodeEngine removed it.
    Removed,
    /// NodeEngine stopped it because the device is cut off.
    CutOff,
    /// NodeEngine stopped it for another reason.
    Stopped,
}

/// All that is known about an instance.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) running: Vec<Copied>,
    /// Workers that ever ran it.
    pub(crate) workers: Vec<WorkerIndex>,
    /// Its removal was asked for, or that of its service.
    pub(crate) may_go: bool,
    /// A user was told that it is there.
    pub(crate) promised: bool,
    /// In the root's store; what is wanted of it.
    pub(crate) wanted: Option<Desired>,
    /// As the root last saw it.
    pub(crate) phase: Option<(Phase, Millis)>,
    pub(crate) survival: Survival,
    /// How long its connections may take to end.
    pub(crate) drain: Millis,
    pub(crate) one_shot: bool,
}

#[derive(Debug, Default)]
pub(crate) struct ServiceRecord {
    /// When a change was last asked for that may replace or remove instances.
    pub(crate) changed: Option<Millis>,
    pub(crate) promised: bool,
    pub(crate) may_go: bool,
    /// How far its rollout has got, and since when it has got no further; nowhere since it is over.
    rollout: Option<(Option<Far>, Millis)>,
}

/// How far a rollout has got: the number of its next instance, and how many are there.
pub(crate) type Far = (u32, usize);

#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) violation: Option<Violation>,
    ignored: BTreeSet<Invariant>,
    pub(crate) instances: BTreeMap<InstanceId, Record>,
    pub(crate) services: BTreeMap<ServiceId, ServiceRecord>,
    /// Which worker each generation of an instance was first given to.
    given: BTreeMap<(InstanceId, Generation), WorkerIndex>,
    /// The same for clusters.
    given_to_clusters: BTreeMap<(InstanceId, Generation), ClusterIndex>,
    /// What each cluster was last given to run, in order of the ids: judged then, and who it was given to never
    /// changes.
    judged: Vec<Vec<(InstanceId, Generation)>>,
    /// What each worker was told of each instance.
    fences: Vec<BTreeMap<InstanceId, (Generation, Desired)>>,
    assigned: Vec<Generation>,
    assigned_to_clusters: Vec<Generation>,
    subnets: BTreeMap<u32, (u32, WorkerIndex)>,
    /// Where the ranges of each worker begin in `subnets`.
    subnets_of: BTreeMap<WorkerIndex, Vec<u32>>,
    /// When moves were last asked for in a cluster.
    moves: Vec<Option<Millis>>,
}

impl Oracle {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let workers = scenario.workers as usize;
        let clusters = scenario.clusters as usize;
        Self {
            violation: None,
            ignored: scenario.ignored.clone(),
            instances: BTreeMap::new(),
            services: BTreeMap::new(),
            given: BTreeMap::new(),
            given_to_clusters: BTreeMap::new(),
            judged: vec![Vec::new(); clusters],
            fences: vec![BTreeMap::new(); workers],
            assigned: vec![Generation::default(); workers],
            assigned_to_clusters: vec![Generation::default(); clusters],
            subnets: BTreeMap::new(),
            subnets_of: BTreeMap::new(),
            moves: vec![None; clusters],
        }
    }

    /// Only the first counts: what follows may follow from it.
    pub(crate) fn judge(
        &mut self,
        at: Millis,
        invariant: Invariant,
        instance: Option<InstanceId>,
        host: Option<Host>,
        verdict: Result<(), String>,
    ) {
        if let Err(detail) = verdict
            && self.violation.is_none()
            && !self.ignored.contains(&invariant)
        {
            let host = host.map(|host| host.to_string());
            self.violation = Some(Violation { invariant, at, detail, instance, host });
        }
    }

    pub(crate) fn record(&mut self, id: InstanceId) -> &mut Record {
        self.instances.entry(id).or_default()
    }

    /// A wish is on its way: whether it arrives or not, what it asks for may happen.
    pub(crate) fn asked(&mut self, now: Millis, wish: &Wish) {
        match wish {
            Wish::Create { .. } | Wish::Deploy(_) | Wish::Allow { .. } | Wish::Scale { fewer: false, .. } => {
            }
            Wish::Scale { service, .. } | Wish::Update { service, .. } => {
                self.services.entry(*service).or_default().changed = Some(now);
            }
            Wish::Undeploy(instance) => self.record(*instance).may_go = true,
            // The application of each service is its own.
            Wish::DeleteService(service) | Wish::DeleteApplication(service) => {
                let known = self.services.entry(*service).or_default();
                known.changed = Some(now);
                known.may_go = true;
            }
        }
    }

    pub(crate) fn service_promised(&mut self, service: ServiceId) {
        self.services.entry(service).or_default().promised = true;
    }

    pub(crate) fn instance_promised(&mut self, now: Millis, instance: InstanceId) {
        let changing = self.is_changing(instance.service);
        let record = self.record(instance);
        record.promised = true;
        let there = record.wanted.is_some() || record.may_go || changing;
        let verdict = if there { Ok(()) } else { Err("it was promised and is not in the store".to_owned()) };
        self.judge(now, Invariant::Durable, Some(instance), None, verdict);
    }

    /// How far the rollout of a service has got, if there is one.
    pub(crate) fn rollout_is(&mut self, now: Millis, service: ServiceId, far: Option<Far>) {
        let Some(known) = self.services.get_mut(&service) else { return };
        known.rollout = match known.rollout {
            None if far.is_none() => None,
            Some((before, since)) if before == far => Some((far, since)),
            Some(_) | None => Some((far, now)),
        };
    }

    /// It is in the middle of a rollout that gets further, or the last it gave way to may still be going.
    pub(crate) fn rolls_out(&self, now: Millis, service: ServiceId) -> bool {
        let rollout = self.services.get(&service).and_then(|service| service.rollout);
        rollout.is_some_and(|(_, since)| now < since + REST_WITHIN)
    }

    /// A service whose instances may go at any time.
    pub(crate) fn is_changing(&self, service: ServiceId) -> bool {
        self.services.get(&service).is_some_and(|service| service.changed.is_some())
    }

    pub(crate) fn moves_asked(&mut self, now: Millis, cluster: ClusterIndex) {
        self.moves[cluster.0 as usize] = Some(now);
    }

    /// Moves were asked for in a cluster, now or before.
    pub(crate) fn moves(&self, cluster: ClusterIndex) -> bool {
        self.moves[cluster.0 as usize].is_some()
    }

    /// What the root finds again when it starts is all that was promised.
    pub(crate) fn root_loaded(&mut self, now: Millis, state: &State) {
        let lost = self.instances.iter().find(|(id, record)| {
            record.promised
                && !record.may_go
                && state.instance(**id).is_none()
                && !self.is_changing(id.service)
        });
        if let Some(id) = lost.map(|(id, _)| *id) {
            let verdict = Err("a promised instance is gone after a restart of the root".to_owned());
            self.judge(now, Invariant::Durable, Some(id), Some(Host::Root), verdict);
        }
        let lost = self
            .services
            .iter()
            .find(|(id, known)| known.promised && !known.may_go && state.service(**id).is_none());
        if let Some(id) = lost.map(|(id, _)| *id) {
            let verdict = Err(format!("service {id} was promised and is gone after a restart of the root"));
            self.judge(now, Invariant::Durable, None, Some(Host::Root), verdict);
        }
        let half = state.services().find(|service| state.application(service.application).is_none());
        if let Some(service) = half {
            let verdict = Err(format!("service {} is there without its application", service.id));
            self.judge(now, Invariant::Durable, None, Some(Host::Root), verdict);
        }
    }

    pub(crate) fn restless(&mut self, now: Millis, host: Host, what: &str) {
        let what: String = what.chars().take(600).collect();
        let verdict = Err(format!("asked again without news, it has something to do: {what}"));
        self.judge(now, Invariant::Rest, None, Some(host), verdict);
    }

    /// A worker took on an assignment; `told` is what its cluster sent.
    pub(crate) fn worker_took_on(&mut self, now: Millis, index: WorkerIndex, told: &Assignment) {
        let host = Some(Host::Worker(index));
        let held = std::mem::replace(&mut self.assigned[index.0 as usize], told.generation);
        let verdict = if told.generation > held {
            Ok(())
        } else {
            Err(format!("{index} takes on assignment {} after {held}", told.generation))
        };
        self.judge(now, Invariant::Fence, None, host, verdict);
        for instance in &told.instances {
            let (id, is) = (instance.id, (instance.generation, instance.desired));
            if let Some(was) = self.fences[index.0 as usize].insert(id, is) {
                self.judge(now, Invariant::Fence, Some(id), host, invariants::fence(was, is));
            }
            if instance.desired == Desired::Running {
                let owner = *self.given.entry((id, instance.generation)).or_insert(index);
                let verdict = if owner == index {
                    Ok(())
                } else {
                    Err(format!("generation {} is given to {owner} and to {index}", instance.generation))
                };
                self.judge(now, Invariant::OneOwner, Some(id), host, verdict);
            }
        }
    }

    /// A cluster is given an assignment that is newer than the one it holds.
    pub(crate) fn cluster_took_on(&mut self, now: Millis, index: ClusterIndex, told: &Assignment) {
        let running = told.instances.iter().filter(|instance| instance.desired == Desired::Running);
        let given: Vec<(InstanceId, Generation)> =
            running.map(|instance| (instance.id, instance.generation)).collect();
        let before = std::mem::take(&mut self.judged[index.0 as usize]);
        let mut judged = before.iter().peekable();
        for (id, generation) in &given {
            while judged.next_if(|before| *before < &(*id, *generation)).is_some() {}
            if judged.peek() == Some(&&(*id, *generation)) {
                continue;
            }
            let owner = *self.given_to_clusters.entry((*id, *generation)).or_insert(index);
            let verdict = if owner == index {
                Ok(())
            } else {
                Err(format!("generation {generation} is given to {owner} and to {index}"))
            };
            self.judge(now, Invariant::OneOwner, Some(*id), Some(Host::Cluster(index)), verdict);
        }
        self.judged[index.0 as usize] = given;
    }

    /// A cluster has made durable which assignment it holds.
    pub(crate) fn cluster_holds(&mut self, now: Millis, index: ClusterIndex, generation: Generation) {
        let held = std::mem::replace(&mut self.assigned_to_clusters[index.0 as usize], generation);
        let verdict = if generation >= held {
            Ok(())
        } else {
            Err(format!("{index} holds assignment {generation} after {held}"))
        };
        self.judge(now, Invariant::Fence, None, Some(Host::Cluster(index)), verdict);
    }

    pub(crate) fn subnet_taken(&mut self, now: Millis, index: WorkerIndex, lease: Option<&NetworkLease>) {
        for first in self.subnets_of.remove(&index).unwrap_or_default() {
            if self.subnets.get(&first).is_some_and(|(_, owner)| *owner == index) {
                self.subnets.remove(&first);
            }
        }
        for range in lease.into_iter().flat_map(invariants::ranges) {
            let verdict = invariants::unique_ip(&self.subnets, index, &range);
            self.judge(now, Invariant::UniqueIp, None, Some(Host::Worker(index)), verdict);
            self.subnets.insert(*range.start(), (*range.end(), index));
            self.subnets_of.entry(index).or_default().push(*range.start());
        }
    }

    pub(crate) fn ended(&mut self, index: WorkerIndex, seen: &ContainerSeen) {
        let record = self.record(seen.instance);
        let gone =
            record.running.iter().position(|copy| copy.worker == index && copy.generation == seen.generation);
        if let Some(gone) = gone {
            record.running.swap_remove(gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use model::AssignedInstance;

    use super::*;

    const ONE: ClusterIndex = ClusterIndex(0);
    const TWO: ClusterIndex = ClusterIndex(1);

    fn told(generation: u64, numbers: &[(u32, u64)]) -> Assignment {
        let instance = |(number, copy): &(u32, u64)| AssignedInstance {
            id: InstanceId { service: ServiceId::from_bytes([1; 12]), number: *number },
            revision: 1,
            generation: Generation(*copy),
            desired: Desired::Running,
            address: None,
        };
        let instances = numbers.iter().map(instance).collect();
        Assignment { generation: Generation(generation), instances, ..Assignment::default() }
    }

    fn lease(subnet: &str) -> NetworkLease {
        NetworkLease { v4: vec![subnet.parse().expect("a subnet")], v6: vec![] }
    }

    fn violated(oracle: &Oracle) -> Option<Invariant> {
        oracle.violation.as_ref().map(|violation| violation.invariant)
    }

    #[test]
    fn a_generation_that_a_second_cluster_is_given_is_found_among_what_it_had_before() {
        let mut oracle = Oracle::new(&Scenario::small(1));
        oracle.cluster_took_on(0, ONE, &told(1, &[(1, 1), (3, 1), (5, 1)]));
        oracle.cluster_took_on(0, TWO, &told(1, &[(2, 1), (3, 2), (4, 1)]));
        oracle.cluster_took_on(1, ONE, &told(2, &[(1, 1), (3, 1), (5, 1), (6, 1)]));
        assert_eq!(violated(&oracle), None);
        oracle.cluster_took_on(1, TWO, &told(2, &[(2, 1), (3, 1), (4, 1)]));
        assert_eq!(violated(&oracle), Some(Invariant::OneOwner));
    }

    #[test]
    fn a_subnet_may_be_taken_once_its_worker_has_another_and_not_before() {
        let mut oracle = Oracle::new(&Scenario::small(1));
        let (first, second) = (WorkerIndex(0), WorkerIndex(1));
        oracle.subnet_taken(0, first, Some(&lease("10.18.0.0/26")));
        oracle.subnet_taken(1, first, Some(&lease("10.18.0.64/26")));
        oracle.subnet_taken(2, second, Some(&lease("10.18.0.0/26")));
        assert_eq!(violated(&oracle), None);
        oracle.subnet_taken(3, second, Some(&lease("10.18.0.64/27")));
        assert_eq!(violated(&oracle), Some(Invariant::UniqueIp));
    }
}
