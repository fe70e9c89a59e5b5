//! Services as NetManagers are told of them, and what is different about one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{CallableService, InstanceNews, NetworkNews, Peer, ServiceId, WorkerId};

use super::fewer;
use crate::ways::IpVersion;

/// A service as others are told of it, and how many of its instances are on each device.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) service: Arc<CallableService>,
    pub(super) devices: BTreeMap<WorkerId, usize>,
}

impl Table {
    pub(super) fn of(service: CallableService) -> Self {
        let mut devices = BTreeMap::new();
        for instance in &service.instances {
            *devices.entry(instance.worker).or_default() += 1;
        }
        Self { service: Arc::new(service), devices }
    }

    /// The service is this from now on, of whose instances those are different. Gives the devices that it has instances on
    /// and had none, and those the other way round.
    pub(super) fn take(
        &mut self,
        service: &Arc<CallableService>,
        different: &InstanceNews,
    ) -> (BTreeSet<WorkerId>, BTreeSet<WorkerId>) {
        let before = std::mem::replace(&mut self.service, Arc::clone(service));
        let left = different.keys().filter_map(|number| Some(before.instance(*number)?.worker));
        let left: Vec<WorkerId> = left.collect();
        let mut gained = BTreeSet::new();
        for instance in different.values().flatten() {
            let count = self.devices.entry(instance.worker).or_default();
            *count += 1;
            if *count == 1 {
                gained.insert(instance.worker);
            }
        }
        // None that was gained just now: it had none to leave it.
        let lost = left.into_iter().filter(|device| fewer(&mut self.devices, *device)).collect();
        (gained, lost)
    }
}

/// Devices that a service has instances on and had none, as they are led to by those of each version of IP. Mostly there are
/// none: instances come up, go down and move far less often than something about them is different.
#[derive(Debug)]
pub(super) struct Gained {
    by_v4: Vec<(WorkerId, Option<Arc<Peer>>)>,
    by_v6: Vec<(WorkerId, Option<Arc<Peer>>)>,
}

impl Gained {
    pub(super) fn of(
        devices: &BTreeSet<WorkerId>,
        mut peer: impl FnMut(IpVersion, WorkerId) -> Option<Arc<Peer>>,
    ) -> Self {
        let mut by =
            |version| devices.iter().map(|device| (*device, peer(version, *device))).collect::<Vec<_>>();
        Self { by_v4: by(IpVersion::V4), by_v6: by(IpVersion::V6) }
    }

    /// As a device of that version is told of them.
    pub(super) fn to(&self, version: impl FnOnce() -> IpVersion) -> &[(WorkerId, Option<Arc<Peer>>)] {
        if self.by_v4.is_empty() {
            return &[];
        }
        match version() {
            IpVersion::V4 => &self.by_v4,
            IpVersion::V6 => &self.by_v6,
        }
    }
}

/// What became of a service as others are told of it.
#[derive(Debug)]
pub(super) struct Renewed {
    /// `None` when there was none.
    pub(super) before: Option<Arc<CallableService>>,
    pub(super) service: Arc<CallableService>,
    /// What of its instances is different; `None` when all of it is told.
    pub(super) told: Option<Arc<InstanceNews>>,
    /// Devices that it has instances on and had none, and those the other way round.
    pub(super) gained: BTreeSet<WorkerId>,
    pub(super) lost: BTreeSet<WorkerId>,
}

/// What may be different about a service.
#[derive(Debug)]
pub(super) enum Changed {
    Everything,
    /// The instances with these numbers.
    Instances(BTreeSet<u32>),
}

/// Adds to `news` what is different about services. Of one of which the instances alone are, those that are.
pub(super) fn tell_of_services(
    news: &mut NetworkNews,
    before: &BTreeMap<ServiceId, Arc<CallableService>>,
    now: &BTreeMap<ServiceId, Arc<CallableService>>,
) {
    for (id, service) in now {
        match before.get(id) {
            Some(before) if Arc::ptr_eq(before, service) => {}
            Some(before) if service.is_described_as(before) => {
                let different = service.instances_since(before);
                if !different.is_empty() {
                    news.instances.insert(*id, Arc::new(different));
                }
            }
            Some(_) | None => drop(news.services.insert(*id, Some(Arc::clone(service)))),
        }
    }
    for id in before.keys().filter(|id| !now.contains_key(id)) {
        news.instances.remove(id);
        news.services.insert(*id, None);
    }
}
