//! What a cluster holds: durable documents, and what it remembers only while it runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use addressing::SubnetPlan;
use model::{
    AssignedInstance, AssignedService, Assignment, Desired, Generation, InstanceId, InstanceReport,
    NetworkLease, Resources, ServiceId, Timestamp, WorkerId, WorkerInventory,
};
use serde::{Deserialize, Serialize};

/// What the cluster last took on from the root, apart from the instances. Durable.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Held {
    /// The assignment it is from.
    pub generation: Generation,
    /// The services instances are copies of.
    pub services: BTreeMap<ServiceId, AssignedService>,
}

/// One instance. Durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Which one.
    pub id: InstanceId,
    /// Which placement of it on this cluster.
    pub generation: Generation,
    /// What the root wants of it.
    pub desired: Desired,
    /// Whether the root's newest assignment lists it.
    pub listed: bool,
    /// The worker that has it.
    pub worker: Option<WorkerId>,
    /// What it reserves on that worker.
    pub reserved: Resources,
    /// What was last heard of it, or, without a worker, decided about it here.
    pub report: InstanceReport,
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
}

/// What is known of a connected worker; gone when the connection is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Session {
    pub(crate) address: IpAddr,
    pub(crate) offered: Option<Generation>,
    pub(crate) observed: Generation,
    pub(crate) cpu_percent: f32,
    pub(crate) memory_percent: f32,
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
    /// The whole plan of subnets.
    Subnets(SubnetPlan<WorkerId>),
}

/// See the crate's description.
#[derive(Debug, Default)]
pub struct State {
    pub(crate) held: Held,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    pub(crate) subnets: SubnetPlan<WorkerId>,
    pub(crate) sessions: BTreeMap<WorkerId, Session>,
    /// NetManagers that are connected, with the lease each was last given.
    pub(crate) networks: BTreeMap<WorkerId, Option<NetworkLease>>,
    /// Since when a worker is not connected, for those that were.
    pub(crate) lost: BTreeMap<WorkerId, Timestamp>,
    /// Instances that wait for a worker.
    pub(crate) pending: BTreeSet<InstanceId>,
    /// Instances on each worker.
    pub(crate) placed: BTreeMap<WorkerId, BTreeSet<InstanceId>>,
    /// Workers whose assignment is no longer what was last generated.
    pub(crate) dirty: BTreeSet<WorkerId>,
}

impl State {
    /// Takes on a change. Infallible: whatever is decided was decided before.
    pub(crate) fn take(&mut self, change: Change) {
        match change {
            Change::Held(held) => self.held = held,
            Change::Instance(id, instance) => self.apply_instance(id, instance),
            Change::Worker(id, Some(worker)) => {
                self.workers.insert(id, worker);
            }
            Change::Worker(id, None) => {
                self.workers.remove(&id);
                self.sessions.remove(&id);
            }
            Change::Subnets(subnets) => self.subnets = subnets,
        }
    }

    fn apply_instance(&mut self, id: InstanceId, instance: Option<Instance>) {
        let told = |instance: &Instance| {
            instance.worker.map(|worker| (worker, instance.generation, instance.desired))
        };
        let before = self.instances.get(&id).and_then(told);
        let after = instance.as_ref().and_then(told);
        if before != after {
            if let Some((worker, ..)) = before {
                self.placed.entry(worker).or_default().remove(&id);
                self.dirty.insert(worker);
            }
            if let Some((worker, ..)) = after {
                self.placed.entry(worker).or_default().insert(id);
                self.dirty.insert(worker);
            }
        }
        if instance.as_ref().is_some_and(Instance::waits_for_a_worker) {
            self.pending.insert(id);
        } else {
            self.pending.remove(&id);
        }
        match instance {
            Some(instance) => {
                self.instances.insert(id, instance);
            }
            None => {
                self.instances.remove(&id);
            }
        }
    }

    /// To be called once after the stored documents were applied: what is told to workers has not changed.
    pub fn loaded(&mut self) {
        self.dirty.clear();
    }

    /// The newest assignment of the root that is held.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.held.generation
    }

    /// The worker that has an instance, if it is connected.
    #[must_use]
    pub fn connected_worker_of(&self, id: InstanceId) -> Option<WorkerId> {
        let worker = self.instances.get(&id)?.worker?;
        self.sessions.contains_key(&worker).then_some(worker)
    }

    /// The subnet lent to a worker.
    #[must_use]
    pub fn lease_of(&self, worker: WorkerId) -> Option<NetworkLease> {
        self.subnets.subnet_of(&worker).map(Into::into)
    }

    /// What a worker has not reserved.
    pub(crate) fn free_on(&self, worker: &Worker) -> Resources {
        self.on_worker(worker.id)
            .fold(worker.inventory.allocatable, |free, instance| free.minus(&instance.reserved))
    }

    pub(crate) fn on_worker(&self, worker: WorkerId) -> impl Iterator<Item = &Instance> {
        self.placed.get(&worker).into_iter().flatten().filter_map(|id| self.instances.get(id))
    }

    /// The whole of what a worker should have.
    pub(crate) fn assignment(&self, worker: &Worker) -> Assignment {
        let instances: Vec<AssignedInstance> = self
            .on_worker(worker.id)
            .map(|instance| AssignedInstance {
                id: instance.id,
                generation: instance.generation,
                desired: instance.desired,
            })
            .collect();
        let services = instances
            .iter()
            .filter_map(|instance| {
                let id = instance.id.service;
                self.held.services.get(&id).map(|service| (id, service.clone()))
            })
            .collect();
        Assignment { generation: worker.generation, services, instances, network: self.lease_of(worker.id) }
    }
}

impl Instance {
    /// A refusal is final for its generation: the root may have given the instance to another cluster since.
    fn waits_for_a_worker(&self) -> bool {
        self.worker.is_none() && self.desired == Desired::Running && self.report.refusal.is_none()
    }
}
