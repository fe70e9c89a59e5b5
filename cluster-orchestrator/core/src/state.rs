//! What a cluster holds: durable documents, and what it remembers only while it runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use addressing::{Lent, SubnetPlan};
use model::{
    Allowances, ApplicationId, AssignedService, CertificateRecord, ClusterId, Desired, Generation, Holder,
    InstanceId, InstanceReport, Moment, NetworkLease, Now, Peer, Phase, Reach, Refusal, Resources,
    RevisionId, Scheduling, Sealed, SecretVersionId, ServiceId, ServiceSpec, SharedApplication, SpentToken,
    Tenure, TunnelKey, WorkerId, WorkerInventory, WorkerToken,
};
use serde::{Deserialize, Serialize};

use crate::{
    certificates::RevokedWorkers,
    contact::Contacts,
    handover::Handovers,
    neighbours::{Elsewhere, Neighbourhood},
    network::Networks,
    weights::Weights,
};

/// What the cluster last took on from the root, apart from the instances. Durable.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Held {
    /// The assignment it is from.
    pub generation: Generation,
    /// The revisions instances are copies of. Shared by the state and the change that is on its way to the store.
    pub services: Arc<BTreeMap<RevisionId, AssignedService>>,
    /// The values of the secrets they refer to, sealed for this cluster.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: Arc<BTreeMap<SecretVersionId, Sealed>>,
}

/// One instance. Durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Which one.
    pub id: InstanceId,
    /// Which revision of its service.
    pub revision: u32,
    /// The root's decision it is here by; copies count on from it.
    pub generation: Generation,
    /// The address it keeps wherever it runs.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
    /// What the root wants of it.
    pub desired: Desired,
    /// Whether the root's newest assignment lists it.
    pub listed: bool,
    /// Who has it.
    pub tenure: Tenure<WorkerId>,
    /// What each copy reserves.
    pub reserved: Resources,
    /// What was last heard of the copy that counts, or, while nobody has it, decided about it here.
    pub report: InstanceReport,
}

impl Instance {
    /// The revision it is a copy of.
    #[must_use]
    pub const fn revision_id(&self) -> RevisionId {
        RevisionId { service: self.id.service, number: self.revision }
    }

    /// The worker that has the copy that counts.
    #[must_use]
    pub fn holder(&self) -> Option<WorkerId> {
        self.tenure.holder.map(|(worker, _)| worker)
    }

    /// The generation of the next copy.
    pub(crate) fn next_generation(&self) -> Generation {
        if self.tenure.latest < self.generation { self.generation } else { self.tenure.latest.next() }
    }

    /// A refusal is final for its generation: the root may have given the instance to another cluster since.
    fn waits_for_a_worker(&self) -> bool {
        self.tenure.holder.is_none() && self.desired == Desired::Running && self.report.refusal.is_none()
    }

    /// Whether it should run and has not ended for good.
    pub(crate) fn is_live(&self) -> bool {
        self.desired == Desired::Running && self.report.phase != Phase::Completed
    }
}

/// One worker that joined. Durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Which one.
    pub id: WorkerId,
    /// What it last said it is and has.
    pub inventory: WorkerInventory,
    /// The newest assignment made for it.
    pub generation: Generation,
    /// Whether it takes instances.
    #[serde(default)]
    pub scheduling: Scheduling,
    /// Where other devices reach it, as its NetManager says.
    #[serde(default)]
    pub reach: Option<Reach>,
}

impl Worker {
    /// That of its end of encrypted links.
    pub(crate) fn key(&self) -> Option<TunnelKey> {
        Some(self.reach?.tunnel?.key)
    }
}

/// Tokens that may be honoured here while the root is away, and their uses it has not confirmed. Durable.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Enrolments {
    /// As the root last sent them.
    pub tokens: Vec<WorkerToken>,
    /// Made here since.
    pub spent: BTreeSet<SpentToken>,
}

/// One document that becomes this, or goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// What the root assigned.
    Held(Held),
    /// An instance.
    Instance(InstanceId, Option<Instance>),
    /// A worker.
    Worker(WorkerId, Option<Worker>),
    /// What the root lends to lend from.
    Blocks(NetworkLease),
    /// One subnet of them.
    Subnet(Lent<WorkerId>),
    /// Tokens and their uses.
    Enrolments(Enrolments),
    /// An application that other clusters have instances of too.
    Shared(ApplicationId, Option<SharedApplication>),
    /// What another cluster says of its instances of a service.
    Elsewhere(ClusterId, ServiceId, Option<Elsewhere>),
    /// What another cluster says of one of its devices.
    PeerElsewhere(ClusterId, WorkerId, Option<Arc<Peer>>),
    /// The newest certificate of a worker or its NetManager.
    Certificate(Holder, Option<CertificateRecord>),
    /// Workers whose certificates count no more: all of them.
    Revoked(RevokedWorkers),
}

impl Change {
    /// Whether a report would tell of it.
    #[must_use]
    pub const fn concerns_the_root(&self) -> bool {
        match self {
            Self::Held(_) | Self::Instance(..) | Self::Worker(..) | Self::Enrolments(_) => true,
            // Told to workers.
            Self::Blocks(_) | Self::Subnet(_) => false,
            // From the root, or by way of it.
            Self::Shared(..) | Self::Elsewhere(..) | Self::PeerElsewhere(..) | Self::Revoked(_) => false,
            // Told when it is asked for.
            Self::Certificate(..) => false,
        }
    }

    /// The instance that it changes.
    #[must_use]
    pub const fn instance(&self) -> Option<InstanceId> {
        match self {
            Self::Instance(id, _) => Some(*id),
            Self::Held(_)
            | Self::Worker(..)
            | Self::Blocks(_)
            | Self::Subnet(_)
            | Self::Enrolments(_)
            | Self::Shared(..)
            | Self::Elsewhere(..)
            | Self::PeerElsewhere(..)
            | Self::Certificate(..)
            | Self::Revoked(_) => None,
        }
    }
}

/// See the crate's description.
#[derive(Debug, Default)]
pub struct State {
    pub(crate) held: Held,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    pub(crate) subnets: SubnetPlan<WorkerId>,
    pub(crate) enrolments: Enrolments,
    pub(crate) certificates: BTreeMap<Holder, CertificateRecord>,
    pub(crate) revoked: RevokedWorkers,
    /// Who is connected, who is alive.
    pub(crate) contacts: Contacts,
    /// The services that are known here, and whom they let connect.
    pub(crate) allowances: Allowances,
    /// NetManagers that are connected and what they were told.
    pub(crate) networks: Networks,
    /// Other clusters with instances of the same applications.
    pub(crate) neighbourhood: Neighbourhood,
    /// What instances have to spare.
    pub(crate) weights: Weights,
    /// Instances that wait for a worker.
    pub(crate) pending: BTreeSet<InstanceId>,
    /// Copies on each worker.
    pub(crate) placed: BTreeMap<WorkerId, BTreeSet<InstanceId>>,
    /// What the copies on each worker reserve in all.
    pub(crate) taken: BTreeMap<WorkerId, Resources>,
    /// Copies of each service on each worker.
    pub(crate) spread: BTreeMap<ServiceId, BTreeMap<WorkerId, usize>>,
    /// Instances of which an older copy may yet be restored.
    pub(crate) contested: BTreeSet<InstanceId>,
    /// Lost workers that were looked at since anything happened to what they have, and when the next of their
    /// instances is due.
    pub(crate) looked_at: BTreeMap<WorkerId, Option<Moment>>,
    /// Instances that move, and when a move is given up.
    pub(crate) moves: BTreeMap<InstanceId, Moment>,
    /// Those of them that are about to have moved.
    pub(crate) handovers: Handovers,
    /// Instances whose worker has yet to begin, and when another gets them.
    unbegun: BTreeMap<InstanceId, Moment>,
    /// None of them is due before this, so that they are not looked through in every turn.
    unbegun_due: Option<Moment>,
    /// Workers that are being drained.
    pub(crate) draining: BTreeSet<WorkerId>,
    /// Why nobody else can take an instance whose worker is lost, or which should move.
    pub(crate) no_place: BTreeMap<InstanceId, Refusal>,
    /// Workers whose assignment is no longer what was last generated.
    pub(crate) dirty: BTreeSet<WorkerId>,
    /// Workers that have not said that they hold their newest assignment.
    pub(crate) behind: BTreeSet<WorkerId>,
    /// Whether there may be room that there was not when instances were last refused another place.
    pub(crate) capacity_changed: bool,
    /// Workers that are to tell anew what they told before, with their sessions.
    pub(crate) untold: BTreeMap<WorkerId, u64>,
    /// Whether a report would say something that no change has told of, and of which instances.
    pub(crate) root_behind: Option<BTreeSet<InstanceId>>,
    /// Workers that no subnet was free for yet.
    pub(crate) without_subnet: BTreeSet<WorkerId>,
    /// Whether one may be free for them now.
    pub(crate) subnets_due: bool,
}

impl State {
    /// Takes on a change. Infallible: whatever is decided was decided before.
    pub(crate) fn take(&mut self, change: Change) {
        match change {
            Change::Held(held) => {
                self.apply_held(held);
                self.looked_at.clear();
            }
            Change::Instance(id, instance) => self.apply_instance(id, instance),
            Change::Worker(id, Some(worker)) => {
                let before = self.workers.get(&id);
                let differs = before.is_none_or(|before| {
                    (&before.inventory, before.scheduling) != (&worker.inventory, worker.scheduling)
                });
                if self.subnets.subnet_of(&id).is_none() {
                    self.subnets_due |= self.without_subnet.insert(id);
                }
                if before.is_none() {
                    // Its NetManager may have been there first.
                    self.networks.tell(id);
                }
                self.capacity_changed |= differs;
                self.behind.insert(id);
                if worker.scheduling == Scheduling::Draining {
                    self.draining.insert(id);
                } else {
                    self.draining.remove(&id);
                }
                self.workers.insert(id, worker);
            }
            Change::Worker(id, None) => {
                self.workers.remove(&id);
                self.without_subnet.remove(&id);
                self.behind.remove(&id);
                self.draining.remove(&id);
                self.contacts.forget(id);
                self.networks.device_moved(id);
                self.looked_at.remove(&id);
                self.networks.forgotten(id);
            }
            Change::Blocks(blocks) => self.apply_blocks(blocks),
            Change::Subnet(lent) => self.apply_subnet(&lent),
            Change::Enrolments(enrolments) => self.enrolments = enrolments,
            Change::Shared(id, application) => self.apply_shared(id, application),
            Change::Elsewhere(from, id, instances) => self.apply_elsewhere(from, id, instances),
            Change::PeerElsewhere(from, id, peer) => self.apply_peer_elsewhere(from, id, peer),
            Change::Certificate(holder, Some(record)) => {
                self.certificates.insert(holder, record);
            }
            Change::Certificate(holder, None) => {
                self.certificates.remove(&holder);
            }
            Change::Revoked(revoked) => self.apply_revoked(revoked),
        }
    }

    fn apply_instance(&mut self, id: InstanceId, instance: Option<Instance>) {
        let before = self.instances.remove(&id);
        let told = |instance: &Option<Instance>, worker| {
            instance
                .as_ref()
                .and_then(|it| Some((it.tenure.told(worker, it.desired)?, it.reserved, it.address)))
        };
        let children = |instance: &Option<Instance>| -> Vec<WorkerId> {
            instance.as_ref().map(|it| it.tenure.children().collect()).unwrap_or_default()
        };
        let mut concerned = children(&before);
        concerned.extend(children(&instance));
        concerned.sort_unstable();
        concerned.dedup();
        for worker in concerned {
            self.looked_at.remove(&worker);
            let (was, is) = (told(&before, worker), told(&instance, worker));
            if was == is {
                continue;
            }
            self.dirty.insert(worker);
            self.networks.tell(worker);
            if let Some((_, reserved, _)) = was {
                self.vacate(worker, id, &reserved);
            }
            match is {
                Some((_, reserved, _)) => self.occupy(worker, id, &reserved),
                None => self.capacity_changed = true,
            }
        }
        if Self::appearance(before.as_ref()) != Self::appearance(instance.as_ref()) {
            self.networks.instance_changed(id);
            self.neighbourhood.service_changed(id.service);
        }
        let holds = |set: &mut BTreeSet<InstanceId>, holds: bool| {
            if holds {
                set.insert(id)
            } else {
                set.remove(&id)
            };
        };
        holds(&mut self.pending, instance.as_ref().is_some_and(Instance::waits_for_a_worker));
        holds(&mut self.contested, instance.as_ref().is_some_and(|it| it.tenure.is_contested()));
        let holder = |instance: &Option<Instance>| instance.as_ref().and_then(Instance::holder);
        if instance.is_none() || holder(&before) != holder(&instance) {
            self.no_place.remove(&id);
        }
        if instance.as_ref().is_none_or(|it| it.tenure.successor.is_none()) {
            self.moves.remove(&id);
        }
        let handover = self.handovers.get(&id);
        if handover.is_some_and(|it| !instance.as_ref().is_some_and(|now| it.concerns(now))) {
            self.handovers.remove(&id);
            self.networks.instance_changed(id);
            self.neighbourhood.service_changed(id.service);
        }
        if instance.as_ref().is_none_or(|it| it.report.phase != Phase::NodeScheduled) {
            self.unbegun.remove(&id);
        }
        if let Some(instance) = instance {
            self.instances.insert(id, instance);
        }
    }

    fn occupy(&mut self, worker: WorkerId, id: InstanceId, reserved: &Resources) {
        self.placed.entry(worker).or_default().insert(id);
        let taken = self.taken.entry(worker).or_default();
        *taken = taken.plus(reserved);
        *self.spread.entry(id.service).or_default().entry(worker).or_default() += 1;
    }

    fn vacate(&mut self, worker: WorkerId, id: InstanceId, reserved: &Resources) {
        if let Some(placed) = self.placed.get_mut(&worker) {
            placed.remove(&id);
        }
        if let Some(taken) = self.taken.get_mut(&worker) {
            *taken = taken.minus(reserved);
        }
        self.weights.forget(worker, id);
        if let Some(workers) = self.spread.get_mut(&id.service) {
            if let Some(copies) = workers.get_mut(&worker) {
                *copies -= 1;
            }
            workers.retain(|_, copies| *copies > 0);
            if workers.is_empty() {
                self.spread.remove(&id.service);
            }
        }
    }

    /// To be called once after the stored documents were applied: what is told to workers has not changed, and each
    /// of them has a while to show that it lives.
    pub fn loaded(&mut self, now: Now) {
        self.dirty.clear();
        self.capacity_changed = true;
        self.subnets_due = true;
        let workers: Vec<WorkerId> = self.workers.keys().copied().collect();
        self.contacts.expect_all(&workers, now.moment);
        let mut unbegun = Vec::new();
        for instance in self.instances.values() {
            if instance.tenure.successor.is_some() {
                self.moves.insert(instance.id, now.moment.plus_millis(crate::MOVE_WITHIN_MILLIS));
            }
            if instance.report.phase == Phase::NodeScheduled {
                unbegun.push(instance.id);
            }
        }
        for id in unbegun {
            self.must_begin(id, now.moment.plus_millis(crate::BEGIN_WITHIN_MILLIS));
        }
    }

    /// Its worker is to begin with it until then.
    pub(crate) fn must_begin(&mut self, id: InstanceId, until: Moment) {
        self.unbegun.insert(id, until);
        self.unbegun_due = Some(self.unbegun_due.map_or(until, |due| due.min(until)));
    }

    /// What this worker, which has come back after a restart, is to begin has its time from now on.
    pub(crate) fn may_begin_anew(&mut self, worker: WorkerId, now: Moment) {
        let on_it = self.placed.get(&worker).into_iter().flatten();
        let waiting: Vec<_> = on_it.filter(|id| self.unbegun.contains_key(id)).copied().collect();
        for id in waiting {
            self.must_begin(id, now.plus_millis(crate::BEGIN_WITHIN_MILLIS));
        }
    }

    /// Instances whose worker should have begun by now; when to ask again.
    pub(crate) fn late_to_begin(&mut self, now: Moment) -> (Vec<InstanceId>, Option<Moment>) {
        if self.unbegun.is_empty() {
            self.unbegun_due = None;
        }
        if self.unbegun_due.is_none_or(|due| due > now) {
            return (Vec::new(), self.unbegun_due);
        }
        let late = self.unbegun.iter().filter(|(_, until)| **until <= now).map(|(id, _)| *id).collect();
        self.unbegun_due = self.unbegun.values().copied().filter(|until| *until > now).min();
        (late, self.unbegun_due)
    }

    /// The newest assignment of the root that is held.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.held.generation
    }

    /// Every instance that is held, in order of their ids.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    /// One of them.
    #[must_use]
    pub fn instance(&self, id: InstanceId) -> Option<&Instance> {
        self.instances.get(&id)
    }

    /// Every worker that joined, in order of their ids.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    /// What the copies on a worker reserve in all.
    #[must_use]
    pub fn taken_on(&self, worker: WorkerId) -> Resources {
        self.taken.get(&worker).copied().unwrap_or_default()
    }

    /// The worker that has an instance, if it is connected.
    #[must_use]
    pub fn connected_worker_of(&self, id: InstanceId) -> Option<WorkerId> {
        let worker = self.instances.get(&id)?.holder()?;
        self.contacts.is_connected(worker).then_some(worker)
    }

    /// The subnet lent to a worker.
    #[must_use]
    pub fn lease_of(&self, worker: WorkerId) -> Option<NetworkLease> {
        self.subnets.subnet_of(&worker).map(Into::into)
    }

    /// What a worker has not reserved.
    pub(crate) fn free_on(&self, worker: &Worker) -> Resources {
        worker.inventory.allocatable.minus(&self.taken_on(worker.id))
    }

    /// The instances with a copy on a worker.
    pub(crate) fn on_worker(&self, worker: WorkerId) -> impl Iterator<Item = &Instance> {
        self.placed.get(&worker).into_iter().flatten().filter_map(|id| self.instances.get(id))
    }

    /// What an instance needs; `None` for one whose service was never told, which has nothing to run either.
    pub(crate) fn spec(&self, instance: &Instance) -> Option<&Arc<ServiceSpec>> {
        self.held.services.get(&instance.revision_id()).map(|service| &service.spec)
    }
}
