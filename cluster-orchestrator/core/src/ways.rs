//! The way from one device to another, as `network` tells it: direct or encrypted.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use model::{Peer, Reach, TunnelKey, Way, WorkerId};

use crate::{State, Worker};

/// The versions of IP that devices are reached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum IpVersion {
    #[default]
    V4,
    V6,
}

impl IpVersion {
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Of the device's end of encrypted links, if it is led to by one.
pub(crate) fn key_of(peer: &Peer) -> Option<TunnelKey> {
    match peer.way {
        Way::Secure { key, .. } => Some(key),
        Way::Direct { .. } => None,
    }
}

impl State {
    /// A device as others are told of it that are reached by this version.
    pub(crate) fn peer(&self, version: IpVersion, id: WorkerId) -> Option<Peer> {
        let Some(here) = self.workers.get(&id) else { return self.neighbourhood.peer(id).cloned() };
        Some(Peer { way: self.way_between(version, here.reach?)?, lease: self.lease_of(id)? })
    }

    /// By which version a device is reached; `V4` while that is not known.
    pub(crate) fn version_of(&self, worker: WorkerId) -> IpVersion {
        let reach = self.workers.get(&worker).and_then(|worker| worker.reach);
        reach.map(|reach| IpVersion::of(reach.address)).unwrap_or_default()
    }

    /// A device of a neighbour that has the key of another is not led to: the other would be led to no more.
    pub(crate) fn drop_borrowed_keys(&self, worker: WorkerId, peers: &mut BTreeMap<WorkerId, Peer>) {
        let own = self.workers.get(&worker).and_then(Worker::key);
        let mut times: BTreeMap<TunnelKey, usize> = own.map(|key| (key, 1)).into_iter().collect();
        for key in peers.values().filter_map(key_of) {
            *times.entry(key).or_default() += 1;
        }
        peers.retain(|id, peer| {
            self.workers.contains_key(id) || key_of(peer).is_some_and(|key| times.get(&key) == Some(&1))
        });
    }

    /// Encrypted, unless the network of the site is trusted and both devices are reached by the same version: what is
    /// not encrypted is known by where it comes from, and a device is told with one address.
    fn way_between(&self, version: IpVersion, reach: Reach) -> Option<Way> {
        if self.networks.trusted && IpVersion::of(reach.address) == version {
            return Some(Way::Direct { underlay: reach.address });
        }
        Self::secure_way(reach, None)
    }

    /// `None` for a device that can have no encrypted links. Devices of this cluster know its `relay`.
    pub(crate) fn secure_way(reach: Reach, relay: Option<SocketAddr>) -> Option<Way> {
        let end = reach.tunnel?;
        let endpoint = SocketAddr::new(reach.address, end.port);
        Some(Way::Secure { endpoint, observed: reach.observed, relay, key: end.key })
    }

    /// To be called once before anybody connects: whether devices of this site send each other packets of instances
    /// without encrypting them.
    pub fn trust_site(&mut self, trusted: bool) {
        self.networks.trusted = trusted;
    }
}
