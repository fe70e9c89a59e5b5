//! What clusters are told of each other, so that services are called across them. The root says which applications have
//! to do with those a cluster has copies of, where they have copies, and what their services are; which instances run where
//! clusters tell each other, and the root passes it on. The root's half is `root-orchestrator/core/src/neighbours.rs`, the other
//! `cluster-orchestrator/core/src/neighbours.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    AddressKind, AllowedCallers, ApplicationId, CallableInstance, ClusterId, Generation, NetworkLease, Peer,
    ServiceId, ServiceNames, WorkerId,
};

/// What a service is called by, and who may, the same in all clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedService {
    /// Its names.
    pub names: Arc<ServiceNames>,
    /// Its addresses.
    pub addresses: Arc<BTreeMap<AddressKind, Ipv4Addr>>,
    /// Who may connect to its instances beside its own application.
    #[serde(default)]
    pub allowed_callers: Arc<AllowedCallers>,
}

/// An application that has to do with one that another cluster has copies of: itself, or one that may call it or be called
/// by it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SharedApplication {
    /// All its services, those without copies too.
    pub services: Arc<BTreeMap<ServiceId, SharedService>>,
    /// The clusters with copies; as a cluster has it, all but itself.
    pub clusters: BTreeSet<ClusterId>,
}

/// What is different about a shared application.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SharedNews {
    /// All its services.
    pub services: Arc<BTreeMap<ServiceId, SharedService>>,
    /// Clusters that have copies of it and had none.
    pub joined: BTreeSet<ClusterId>,
    /// Clusters that have none any more.
    pub left: BTreeSet<ClusterId>,
}

/// A cluster as another is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its connection to the root, by which it is told anew after each; `None` while it has none.
    pub epoch: Option<u64>,
    /// The ranges lent to it: those of its workers are within.
    pub blocks: NetworkLease,
}

/// What the root says to a cluster of others. The first message of a connection is `whole`: whatever is not in it is no
/// more; each later one says what is different.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Neighbours {
    /// Nothing that was said before counts.
    pub whole: bool,
    /// Applications that are shared; `None` for one that is not any more.
    pub applications: BTreeMap<ApplicationId, Option<SharedNews>>,
    /// Clusters that share any.
    pub clusters: BTreeMap<ClusterId, Neighbour>,
}

impl Neighbours {
    /// Whether it says anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.whole && self.applications.is_empty() && self.clusters.is_empty()
    }
}

/// An instance in another cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourInstance {
    /// The instance.
    pub instance: CallableInstance,
    /// The root's decision by which that cluster has it: the newer of two counts.
    pub generation: Generation,
}

/// What one cluster says to another of its own part of what they share. The first message for an epoch is `whole`:
/// whatever is not in it is no more; each later one says what is different.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NeighbourNews {
    /// Nothing that was said before counts.
    pub whole: bool,
    /// Its instances of a service, in order of their numbers; `None` when there are none any more.
    pub services: BTreeMap<ServiceId, Option<Arc<Vec<NeighbourInstance>>>>,
    /// The devices they run on; `None` for one that is not needed any more.
    pub peers: BTreeMap<WorkerId, Option<Arc<Peer>>>,
}

impl NeighbourNews {
    /// Whether it says anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.whole && self.services.is_empty() && self.peers.is_empty()
    }
}
