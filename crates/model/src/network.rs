//! What a NetManager is told of others: which services its instances may call, who answers for them, and how the devices
//! they run on are reached. Made in `cluster-orchestrator/core`, carried out in `net-manager/core`.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{AddressKind, AllowedCallers, NetworkLease, ServiceId, ServiceNames, WorkerId};

/// A service that may be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallableService {
    /// Its names.
    pub names: Arc<ServiceNames>,
    /// The addresses it is called by.
    pub addresses: Arc<BTreeMap<AddressKind, Ipv4Addr>>,
    /// Who may connect to its instances beside its own application.
    #[serde(default)]
    pub allowed_callers: Arc<AllowedCallers>,
    /// Instances that run or are about to, in order of their numbers. One that is lost or gone is not among them.
    pub instances: Vec<CallableInstance>,
}

/// An instance that runs somewhere, or is about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallableInstance {
    /// Which of its service.
    pub number: u32,
    /// The address it keeps wherever it runs.
    pub address: Ipv4Addr,
    /// Its device.
    pub worker: WorkerId,
    /// Whether new connections may be led to it. Those it has go on in any case.
    pub ready: bool,
}

/// The public key of a device's tunnel, as WireGuard has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TunnelKey(pub [u8; 32]);

impl fmt::Debug for TunnelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "TunnelKey({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

/// Where a device is reached by others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Its address, as it says itself.
    pub address: IpAddr,
    /// Its end of encrypted links; `None` when it can have none.
    pub tunnel: Option<TunnelEnd>,
    /// Where the relay of its cluster sees that end, if not where it says.
    #[serde(default)]
    pub observed: Option<SocketAddr>,
}

/// One end of encrypted links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelEnd {
    /// Its UDP port.
    pub port: u16,
    /// Who it is.
    pub key: TunnelKey,
    /// The UDP port at which the device's kernel takes part in the links by its own WireGuard, under the same key; `None`
    /// when it has none.
    #[serde(default)]
    pub kernel_port: Option<u16>,
}

/// What a device registers with the relay of its cluster by.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayOffer {
    /// The relay's address; `None` for the one the cluster is dialled at.
    pub address: Option<IpAddr>,
    /// The relay's UDP port.
    pub port: u16,
    /// Which session.
    pub session: u64,
    /// What proves a registration is of it. A secret: it is not shown by `Debug`.
    pub key: [u8; 32],
}

impl fmt::Debug for RelayOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelayOffer({:016x}, key withheld)", self.session)
    }
}

/// Another device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// How packets get there.
    pub way: Way,
    /// The ranges it answers for.
    pub lease: NetworkLease,
}

/// How packets get to another device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// As they are, wrapped: both are of a site whose network is trusted.
    Direct {
        /// Where it is reached.
        underlay: IpAddr,
    },
    /// Encrypted.
    Secure {
        /// Where its end is, as it says itself.
        endpoint: SocketAddr,
        /// Where a relay sees it, if that is elsewhere.
        observed: Option<SocketAddr>,
        /// The relay that passes on to it what does not get there; `None` for that of the hearer's own cluster.
        relay: Option<SocketAddr>,
        /// Whose packets count.
        key: TunnelKey,
        /// The UDP port of its kernel's WireGuard, at the address of `endpoint`; `None` when it has none.
        #[serde(default)]
        kernel_port: Option<u16>,
    },
}

/// All that a NetManager was told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Surroundings {
    /// Services that may be called.
    pub services: BTreeMap<ServiceId, Arc<CallableService>>,
    /// Devices their instances run on, without the device itself.
    pub peers: BTreeMap<WorkerId, Peer>,
}

/// What is different from what was told before over the same connection. The first message of a connection is `whole`:
/// whatever is not in it is no more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkNews {
    /// Nothing that was told before counts.
    pub whole: bool,
    /// Services that are new or different, or may not be called any more.
    pub services: BTreeMap<ServiceId, Option<Arc<CallableService>>>,
    /// Devices likewise.
    pub peers: BTreeMap<WorkerId, Option<Peer>>,
}

impl NetworkNews {
    /// Whether it tells anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.whole && self.services.is_empty() && self.peers.is_empty()
    }
}

impl Surroundings {
    /// Takes on news.
    pub fn take(&mut self, news: NetworkNews) {
        if news.whole {
            *self = Self::default();
        }
        for (id, service) in news.services {
            match service {
                Some(service) => self.services.insert(id, service),
                None => self.services.remove(&id),
            };
        }
        for (id, peer) in news.peers {
            match peer {
                Some(peer) => self.peers.insert(id, peer),
                None => self.peers.remove(&id),
            };
        }
    }
}
