//! The way from one device to another, as `network` tells it: direct or encrypted.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use model::{Peer, Reach, RelayPlace, TunnelEnd, TunnelKey, Way, WorkerId};

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

/// Who is told of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hearers {
    /// Devices here that are reached by this version.
    Here(IpVersion),
    /// Other clusters.
    Elsewhere,
}

/// The devices here as others were told of them last. A device is told to hundreds, who share one of it.
#[derive(Debug, Default)]
pub(crate) struct ToldOf(BTreeMap<WorkerId, BTreeMap<Hearers, Arc<Peer>>>);

impl ToldOf {
    pub(crate) fn forget(&mut self, id: WorkerId) {
        self.0.remove(&id);
    }
}

/// The key of a device's end of encrypted links, if it is led to by one.
pub(crate) fn key_of(way: Way) -> Option<TunnelKey> {
    match way {
        Way::Secure { key, .. } => Some(key),
        Way::Direct { .. } => None,
    }
}

/// Where a relay sees the device, if others do not know that already. Beside the relay a device is seen at an address that
/// is of use to nobody else.
pub(crate) fn seen_elsewhere(reach: Reach, place: SocketAddr) -> Option<SocketAddr> {
    let own = reach.tunnel.map(|end| SocketAddr::new(reach.address, end.port));
    Some(place).filter(|place| !place.ip().is_loopback() && Some(*place) != own)
}

impl State {
    /// A device as others are told of it that are reached by this version.
    pub(crate) fn peer(&mut self, version: IpVersion, id: WorkerId) -> Option<Arc<Peer>> {
        if !self.workers.contains_key(&id) {
            return self.neighbourhood.peer(id).cloned();
        }
        let way = self.way_of(version, id)?;
        self.device_here(Hearers::Here(version), id, way)
    }

    /// A device here by the way it is told of.
    pub(crate) fn device_here(&mut self, hearers: Hearers, id: WorkerId, way: Way) -> Option<Arc<Peer>> {
        let subnet = self.subnets.subnet_of(&id)?;
        let ToldOf(told) = &mut self.networks.told_of;
        let told = told.entry(id).or_default();
        let is_it = |peer: &&Arc<Peer>| {
            peer.way == way && peer.lease.v4 == [subnet.v4] && peer.lease.v6 == [subnet.v6]
        };
        if let Some(known) = told.get(&hearers).filter(is_it) {
            return Some(Arc::clone(known));
        }
        let peer = Arc::new(Peer { way, lease: subnet.into() });
        told.insert(hearers, Arc::clone(&peer));
        Some(peer)
    }

    /// How packets get to a device from one of this version; `None` for a device that is told to nobody.
    fn way_of(&self, version: IpVersion, id: WorkerId) -> Option<Way> {
        let Some(here) = self.workers.get(&id) else { return Some(self.neighbourhood.peer(id)?.way) };
        self.subnets.subnet_of(&id)?;
        self.way_between(version, here.reach?)
    }

    /// By which version a device is reached; `V4` while that is not known.
    pub(crate) fn version_of(&self, worker: WorkerId) -> IpVersion {
        let reach = self.workers.get(&worker).and_then(|worker| worker.reach);
        reach.map(|reach| IpVersion::of(reach.address)).unwrap_or_default()
    }

    /// The ways to devices a device's instances may call, and whether some are not led to because of their keys: a device
    /// of a neighbour that has the key of another is not, or the other would be led to no more.
    pub(crate) fn ways_for(
        &self,
        worker: WorkerId,
        devices: impl Iterator<Item = WorkerId>,
    ) -> (BTreeMap<WorkerId, Way>, bool) {
        let version = self.version_of(worker);
        let mut ways: BTreeMap<WorkerId, Way> =
            devices.filter_map(|device| Some((device, self.way_of(version, device)?))).collect();
        let own = self.workers.get(&worker).and_then(Worker::key);
        let mut times: BTreeMap<TunnelKey, usize> = own.map(|key| (key, 1)).into_iter().collect();
        for key in ways.values().filter_map(|way| key_of(*way)) {
            *times.entry(key).or_default() += 1;
        }
        let all = ways.len();
        ways.retain(|id, way| {
            self.workers.contains_key(id) || key_of(*way).is_some_and(|key| times.get(&key) == Some(&1))
        });
        let disputed = ways.len() < all;
        (ways, disputed)
    }

    /// Encrypted, unless the network of the site is trusted and both devices are reached by the same version: what is
    /// not encrypted is known by where it comes from, and a device is told with one address.
    fn way_between(&self, version: IpVersion, reach: Reach) -> Option<Way> {
        if self.networks.trusted && IpVersion::of(reach.address) == version {
            return Some(Way::Direct { underlay: reach.address });
        }
        Self::secure_way(reach, None)
    }

    /// `None` for a device that can have no encrypted links. Devices of this cluster know its `relay`, and all know the
    /// one of the root.
    pub(crate) fn secure_way(reach: Reach, relay: Option<SocketAddr>) -> Option<Way> {
        let end = reach.tunnel?;
        let endpoint = SocketAddr::new(reach.address, end.port);
        let (observed, relay) = match reach.at_root {
            Some(place) => (seen_elsewhere(reach, place), Some(RelayPlace::Root)),
            None => (reach.observed, relay.map(RelayPlace::At)),
        };
        let TunnelEnd { key, kernel_port, .. } = end;
        Some(Way::Secure { endpoint, observed, relay, key, kernel_port })
    }

    /// To be called once before anybody connects: whether devices of this site send each other packets of instances
    /// without encrypting them.
    pub fn trust_site(&mut self, trusted: bool) {
        self.networks.trusted = trusted;
    }
}
