//! What a NetManager is told of others: which services its instances may call, who answers for them, and how the devices
//! they run on are reached. Made in `cluster-orchestrator/core`, carried out in `net-manager/core`.

use std::{
    collections::BTreeMap,
    fmt,
    net::{AddrParseError, IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{AddressKind, AllowedCallers, NetworkLease, ServiceId, ServiceNames, Weight, WorkerId};

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
    /// How many of those to the least used address, compared with the others.
    #[serde(default)]
    pub weight: Weight,
}

/// Instances of a service that are different from before, by their numbers; `None` for one that is not called any more.
pub type InstanceNews = BTreeMap<u32, Option<CallableInstance>>;

impl CallableService {
    /// One of its instances.
    #[must_use]
    pub fn instance(&self, number: u32) -> Option<&CallableInstance> {
        let place = self.instances.binary_search_by_key(&number, |instance| instance.number).ok()?;
        self.instances.get(place)
    }

    /// The same service after these news of its instances.
    #[must_use]
    pub fn after(&self, news: &InstanceNews) -> Self {
        let kept = self.instances.iter().filter(|instance| !news.contains_key(&instance.number));
        let mut instances: Vec<CallableInstance> = Vec::with_capacity(self.instances.len() + news.len());
        instances.extend(kept.chain(news.values().flatten()));
        // Of two parts in order: not more than putting them together.
        instances.sort_by_key(|instance| instance.number);
        Self {
            names: Arc::clone(&self.names),
            addresses: Arc::clone(&self.addresses),
            allowed_callers: Arc::clone(&self.allowed_callers),
            instances,
        }
    }

    /// Whether it is described as another is, whatever its instances are.
    #[must_use]
    pub fn is_described_as(&self, other: &Self) -> bool {
        (&self.names, &self.addresses, &self.allowed_callers)
            == (&other.names, &other.addresses, &other.allowed_callers)
    }

    /// What of its instances is different from `before`.
    #[must_use]
    pub fn instances_since(&self, before: &Self) -> InstanceNews {
        let gone = before.instances.iter().filter(|instance| self.instance(instance.number).is_none());
        let new = self.instances.iter().filter(|instance| before.instance(instance.number) != Some(instance));
        let gone = gone.map(|instance| (instance.number, None));
        gone.chain(new.map(|instance| (instance.number, Some(*instance)))).collect()
    }
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
    /// Where the relay of the root sees it, while that of its cluster cannot be reached from there.
    #[serde(default)]
    pub at_root: Option<SocketAddr>,
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

/// The use of the root's relay, as the root lends it to a cluster and the cluster to a device; see `crates/relay`.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayLoan {
    /// The relay's address; `None` for the one that whoever lends is dialled at.
    pub address: Option<IpAddr>,
    /// The relay's UDP port.
    pub port: u16,
    /// The key of the cluster, or of the device. A secret: it is not shown by `Debug`.
    pub key: [u8; 32],
}

impl fmt::Debug for RelayLoan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelayLoan({:?} {}, key withheld)", self.address, self.port)
    }
}

/// A relay, as a device is told of those of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum RelayPlace {
    /// It is here.
    At(SocketAddr),
    /// The root's: each cluster tells its own devices how they reach it.
    Root,
}

const ROOT: &str = "root";

impl fmt::Display for RelayPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(place) => place.fmt(f),
            Self::Root => f.write_str(ROOT),
        }
    }
}

impl FromStr for RelayPlace {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        if text == ROOT { Ok(Self::Root) } else { text.parse().map(Self::At) }
    }
}

impl From<RelayPlace> for String {
    fn from(place: RelayPlace) -> Self {
        place.to_string()
    }
}

impl TryFrom<String> for RelayPlace {
    type Error = AddrParseError;

    fn try_from(text: String) -> Result<Self, AddrParseError> {
        text.parse()
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
        relay: Option<RelayPlace>,
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
    pub peers: BTreeMap<WorkerId, Arc<Peer>>,
}

/// What is different from what was told before over the same connection. The first message of a connection is `whole`:
/// whatever is not in it is no more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkNews {
    /// Nothing that was told before counts.
    pub whole: bool,
    /// Services that are new or described differently, or may not be called any more.
    pub services: BTreeMap<ServiceId, Option<Arc<CallableService>>>,
    /// Of services that were told before and are not among these, the instances that are different.
    pub instances: BTreeMap<ServiceId, Arc<InstanceNews>>,
    /// Devices likewise.
    pub peers: BTreeMap<WorkerId, Option<Arc<Peer>>>,
}

impl NetworkNews {
    /// Whether it tells anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.whole && self.services.is_empty() && self.instances.is_empty() && self.peers.is_empty()
    }
}

impl Surroundings {
    /// Takes on news. Those of instances of a service that was not told of count for nothing.
    pub fn take(&mut self, news: NetworkNews) {
        self.take_by(news, |service, news| Arc::new(service.after(news)));
    }

    /// The same, where `after` tells what a service is after news of its instances: whoever keeps what many NetManagers know
    /// need not keep one for each.
    pub fn take_by(
        &mut self,
        news: NetworkNews,
        mut after: impl FnMut(&Arc<CallableService>, &Arc<InstanceNews>) -> Arc<CallableService>,
    ) {
        if news.whole {
            *self = Self::default();
        }
        for (id, service) in news.services {
            match service {
                Some(service) => self.services.insert(id, service),
                None => self.services.remove(&id),
            };
        }
        for (id, news) in news.instances {
            if let Some(service) = self.services.get_mut(&id) {
                *service = after(service, &news);
            }
        }
        for (id, peer) in news.peers {
            match peer {
                Some(peer) => self.peers.insert(id, peer),
                None => self.peers.remove(&id),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn service(instances: &BTreeMap<u32, bool>) -> CallableService {
        let names = ServiceNames {
            application: "shop".to_owned(),
            application_namespace: "prod".to_owned(),
            service: "web".to_owned(),
            service_namespace: "front".to_owned(),
        };
        let instance = |(number, ready): (&u32, &bool)| CallableInstance {
            number: *number,
            address: Ipv4Addr::new(10, 30, 1, 1),
            worker: WorkerId::new(uuid::Uuid::nil()),
            ready: *ready,
            weight: crate::Weight::default(),
        };
        CallableService {
            names: names.into(),
            addresses: Arc::default(),
            allowed_callers: Arc::default(),
            instances: instances.iter().map(instance).collect(),
        }
    }

    proptest! {
        /// Told once or twice, what is different makes one of the other, and nothing is told that is not.
        #[test]
        fn what_is_different_makes_one_of_the_other(
            before in prop::collection::btree_map(0_u32..12, any::<bool>(), 0..12),
            now in prop::collection::btree_map(0_u32..12, any::<bool>(), 0..12),
        ) {
            let news = service(&now).instances_since(&service(&before));
            let once = service(&before).after(&news);
            prop_assert_eq!(&once, &service(&now));
            prop_assert_eq!(&once.after(&news), &once);
            let different = (0..12).filter(|number| before.get(number) != now.get(number));
            prop_assert_eq!(news.keys().copied().collect::<Vec<_>>(), different.collect::<Vec<_>>());
        }
    }
}
