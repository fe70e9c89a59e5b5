//! What a parent wants of a child: always the whole of it, with a generation.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::{
    AddressKind, AllowedCallers, Generation, InstanceId, RevisionId, Sealed, SecretVersionId, ServiceNames,
    ServiceSpec,
};

/// Everything a child must have, replacing whatever it was told before.
///
/// Guarantees: an instance the child holds and that is absent here is *not* removed; only [`Desired::Removed`]
/// removes. A generation not greater than the one held is refused by the receiver.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Assignment {
    /// Grows with every change.
    pub generation: Generation,
    /// The revisions of services that `instances` are copies of.
    pub services: BTreeMap<RevisionId, AssignedService>,
    /// The instances, in order of their ids.
    pub instances: Vec<AssignedInstance>,
    /// The part of the address plan lent to this child; `None` while there is none.
    pub network: Option<NetworkLease>,
    /// The values of the secrets that `services` refer to, sealed for this child by its parent's shell: what the parent's
    /// brain hands out are those sealed for the parent, if it has any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: Arc<BTreeMap<SecretVersionId, Sealed>>,
}

impl Assignment {
    /// The versions of secrets that its services refer to.
    #[must_use]
    pub fn secret_versions(&self) -> BTreeSet<SecretVersionId> {
        self.services.values().flat_map(|service| service.spec.secret_versions()).collect()
    }
}

/// A service as its executor sees it. Shared, as one specification is in many assignments at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedService {
    /// Its names, for labels and logs.
    pub names: Arc<ServiceNames>,
    /// What each instance of it needs.
    pub spec: Arc<ServiceSpec>,
    /// The addresses it is called by.
    #[serde(default)]
    pub addresses: Arc<BTreeMap<AddressKind, Ipv4Addr>>,
    /// Who may connect to its instances beside its own application.
    #[serde(default)]
    pub allowed_callers: Arc<AllowedCallers>,
}

/// One instance and what should become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedInstance {
    /// Which instance.
    pub id: InstanceId,
    /// Which revision of its service it is a copy of; the same for as long as it exists.
    pub revision: u32,
    /// Counts the placements of this instance, so that an old copy is told from the new.
    pub generation: Generation,
    /// Run it or remove it.
    pub desired: Desired,
    /// Its own address, which it keeps wherever it runs; `None` for one that was made before there were any.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
}

impl AssignedInstance {
    /// The revision it is a copy of.
    #[must_use]
    pub const fn revision_id(&self) -> RevisionId {
        RevisionId { service: self.id.service, number: self.revision }
    }
}

/// What a parent wants of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// Keep it running (or, one-shot, run it once).
    Running,
    /// The tombstone: remove it and say so.
    Removed,
}

/// Addresses lent by a parent: a block to a cluster, a subnet to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkLease {
    /// IPv4 ranges.
    pub v4: Vec<Ipv4Net>,
    /// IPv6 ranges, as many as IPv4 ones and in the same order.
    pub v6: Vec<Ipv6Net>,
}
