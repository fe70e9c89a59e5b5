//! What the root holds: durable documents, and what it remembers only while it runs.

use std::collections::{BTreeMap, BTreeSet};

use addressing::BlockPlan;
use model::{
    ApplicationId, AssignedInstance, AssignedService, Assignment, ClusterAggregate, ClusterId, Desired,
    Generation, InstanceId, InstanceReport, Location, Refusal, ServiceId, ServiceNames, ServiceSpec,
    Timestamp, TokenId, Usage,
};
use serde::{Deserialize, Serialize};

use crate::Token;

/// What one user deploys together. Durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// Which one.
    pub id: ApplicationId,
    /// The name of the user it belongs to.
    pub owner: String,
    /// Unique with the namespace among the owner's applications.
    pub name: String,
    /// See `name`.
    pub namespace: String,
    /// For people.
    pub description: String,
}

/// One service of an application. Durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Which one.
    pub id: ServiceId,
    /// The application it belongs to.
    pub application: ApplicationId,
    /// Its full name.
    pub names: ServiceNames,
    /// What each instance needs.
    pub spec: ServiceSpec,
    /// The fields its user sent, which the API shows as they were.
    pub document: serde_json::Map<String, serde_json::Value>,
    /// The number of the next instance.
    pub next_number: u32,
    /// Deleted by its user; kept until the last of its instances is confirmed gone.
    pub deleted: bool,
}

/// One instance of a service. Durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Which one.
    pub id: InstanceId,
    /// Counts its placements on clusters.
    pub generation: Generation,
    /// The cluster that has it.
    pub cluster: Option<ClusterId>,
    /// What its user wants of it.
    pub desired: Desired,
    /// What was last heard of it, or, without a cluster, decided about it here.
    pub report: InstanceReport,
}

/// One cluster that joined. Durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Which one.
    pub id: ClusterId,
    /// The label users know it by; unique.
    pub name: String,
    /// Where it is; known from its first connection on.
    pub location: Option<Location>,
    /// The newest assignment made for it.
    pub generation: Generation,
}

/// What is known of a connected cluster; gone when the connection is.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Session {
    /// The newest assignment handed to the connection.
    pub(crate) offered: Option<Generation>,
    /// The newest assignment the cluster says it holds.
    pub(crate) observed: Generation,
}

/// What is remembered of a cluster while the root runs, connected or not.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Sight {
    pub(crate) aggregate: ClusterAggregate,
    pub(crate) last_report: Option<Timestamp>,
    /// Instances assigned to it that its last report did not know yet.
    pub(crate) in_flight: BTreeSet<InstanceId>,
}

/// One document that becomes this, or goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// An application.
    Application(ApplicationId, Option<Application>),
    /// A service.
    Service(ServiceId, Option<Service>),
    /// An instance.
    Instance(InstanceId, Option<Instance>),
    /// A cluster.
    Cluster(ClusterId, Option<Cluster>),
    /// A join token.
    Token(TokenId, Option<Token>),
    /// The whole address plan.
    Blocks(BlockPlan<ClusterId>),
}

/// See the crate's description.
#[derive(Debug, Default)]
pub struct State {
    pub(crate) applications: BTreeMap<ApplicationId, Application>,
    pub(crate) services: BTreeMap<ServiceId, Service>,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) clusters: BTreeMap<ClusterId, Cluster>,
    pub(crate) tokens: BTreeMap<TokenId, Token>,
    pub(crate) blocks: BlockPlan<ClusterId>,
    pub(crate) sessions: BTreeMap<ClusterId, Session>,
    pub(crate) sights: BTreeMap<ClusterId, Sight>,
    pub(crate) usage: BTreeMap<InstanceId, Usage>,
    /// Why a cluster declined an instance; forgotten when the cluster has more to give.
    pub(crate) declined: BTreeMap<InstanceId, BTreeMap<ClusterId, Refusal>>,
    /// Instances that wait for a cluster.
    pub(crate) pending: BTreeSet<InstanceId>,
    /// Instances each cluster holds.
    pub(crate) held: BTreeMap<ClusterId, BTreeSet<InstanceId>>,
    /// Clusters whose assignment is no longer what was last generated.
    pub(crate) dirty: BTreeSet<ClusterId>,
    /// Services whose last instance may have gone.
    pub(crate) emptied: BTreeSet<ServiceId>,
    /// Whether there is more to give than when pending instances were last considered.
    pub(crate) capacity_changed: bool,
}

impl State {
    /// Takes on a change. Infallible: whatever is decided was decided before.
    pub(crate) fn take(&mut self, change: Change) {
        match change {
            Change::Application(id, application) => set(&mut self.applications, id, application),
            Change::Service(id, service) => {
                if service.as_ref().is_some_and(|service| service.deleted) {
                    self.emptied.insert(id);
                }
                set(&mut self.services, id, service);
            }
            Change::Instance(id, instance) => self.apply_instance(id, instance),
            Change::Cluster(id, cluster) => {
                if cluster.is_none() {
                    self.sights.remove(&id);
                }
                set(&mut self.clusters, id, cluster);
            }
            Change::Token(id, token) => set(&mut self.tokens, id, token),
            Change::Blocks(blocks) => self.blocks = blocks,
        }
    }

    fn apply_instance(&mut self, id: InstanceId, instance: Option<Instance>) {
        let assigned = |instance: &Instance| {
            instance.cluster.map(|cluster| (cluster, instance.generation, instance.desired))
        };
        let before = self.instances.get(&id).and_then(assigned);
        let after = instance.as_ref().and_then(assigned);
        if before != after {
            if let Some((cluster, ..)) = before {
                self.held.entry(cluster).or_default().remove(&id);
                self.sights.entry(cluster).or_default().in_flight.remove(&id);
                self.dirty.insert(cluster);
            }
            if let Some((cluster, ..)) = after {
                self.held.entry(cluster).or_default().insert(id);
                self.dirty.insert(cluster);
            }
            if let (None, Some((cluster, ..))) = (before, after) {
                self.sights.entry(cluster).or_default().in_flight.insert(id);
            }
        }
        match &instance {
            Some(instance) if instance.cluster.is_none() && instance.desired == Desired::Running => {
                self.pending.insert(id);
            }
            Some(_) => {
                self.pending.remove(&id);
            }
            None => {
                self.pending.remove(&id);
                self.declined.remove(&id);
                self.usage.remove(&id);
                self.emptied.insert(id.service);
            }
        }
        set(&mut self.instances, id, instance);
    }

    /// To be called once after the stored documents were applied: what is told to clusters has not changed, and
    /// everything pending is worth a look.
    pub fn loaded(&mut self) {
        self.dirty.clear();
        self.capacity_changed = true;
    }

    /// An application, unless there is none of that id.
    #[must_use]
    pub fn application(&self, id: ApplicationId) -> Option<&Application> {
        self.applications.get(&id)
    }

    /// All applications, oldest first.
    pub fn applications(&self) -> impl Iterator<Item = &Application> {
        self.applications.values()
    }

    /// A service its user has not deleted.
    #[must_use]
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(&id).filter(|service| !service.deleted)
    }

    /// All services their users have not deleted, oldest first.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values().filter(|service| !service.deleted)
    }

    /// The services of an application.
    pub fn services_of(&self, application: ApplicationId) -> impl Iterator<Item = &Service> {
        self.services().filter(move |service| service.application == application)
    }

    /// The instances of a service, by number.
    pub fn instances_of(&self, service: ServiceId) -> impl Iterator<Item = &Instance> {
        self.instances.range(InstanceId::all_of(service)).map(|(_, instance)| instance)
    }

    /// One instance.
    #[must_use]
    pub fn instance(&self, id: InstanceId) -> Option<&Instance> {
        self.instances.get(&id)
    }

    /// What an instance used when its cluster last reported it.
    #[must_use]
    pub fn usage(&self, id: InstanceId) -> Option<Usage> {
        self.usage.get(&id).copied()
    }

    /// A cluster, unless there is none of that id.
    #[must_use]
    pub fn cluster(&self, id: ClusterId) -> Option<&Cluster> {
        self.clusters.get(&id)
    }

    /// All clusters that ever joined.
    pub fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters.values()
    }

    /// Whether a cluster is connected.
    #[must_use]
    pub fn is_connected(&self, id: ClusterId) -> bool {
        self.sessions.contains_key(&id)
    }

    /// What a cluster last reported of its workers, and when; empty before its first report to this process.
    #[must_use]
    pub fn aggregate(&self, id: ClusterId) -> (ClusterAggregate, Option<Timestamp>) {
        self.sights.get(&id).map(|sight| (sight.aggregate.clone(), sight.last_report)).unwrap_or_default()
    }

    /// All join tokens.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.tokens.values()
    }

    /// The whole of what a cluster should have.
    #[must_use]
    pub fn assignment(&self, cluster: &Cluster) -> Assignment {
        let held = self.held.get(&cluster.id).into_iter().flatten();
        let instances: Vec<&Instance> = held.filter_map(|id| self.instances.get(id)).collect();
        let services = instances
            .iter()
            .filter_map(|instance| self.services.get(&instance.id.service))
            .map(|service| {
                let assigned = AssignedService { names: service.names.clone(), spec: service.spec.clone() };
                (service.id, assigned)
            })
            .collect();
        let network = self.blocks.blocks_of(&cluster.id);
        Assignment {
            generation: cluster.generation,
            services,
            instances: instances
                .iter()
                .map(|instance| AssignedInstance {
                    id: instance.id,
                    generation: instance.generation,
                    desired: instance.desired,
                })
                .collect(),
            network: (!network.v4.is_empty()).then_some(network),
        }
    }
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => {
            map.insert(key, value);
        }
        None => {
            map.remove(&key);
        }
    }
}
