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
    fn take(
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

/// Services as others are told of them, and which of them each device has instances of.
#[derive(Debug, Default)]
pub(super) struct Tables {
    by_service: BTreeMap<ServiceId, Table>,
    by_device: BTreeMap<WorkerId, BTreeSet<ServiceId>>,
}

impl Tables {
    pub(super) fn get(&self, id: ServiceId) -> Option<&Table> {
        self.by_service.get(&id)
    }

    /// The services with instances on a device.
    pub(super) fn services_on(&self, device: WorkerId) -> impl Iterator<Item = ServiceId> {
        self.by_device.get(&device).into_iter().flatten().copied()
    }

    /// There is a service that nobody was told of.
    pub(super) fn add(&mut self, id: ServiceId, table: Table) {
        self.note(id, table.devices.keys().copied(), true);
        self.by_service.insert(id, table);
    }

    /// As [`Table::take`], of a service that is there.
    pub(super) fn take(
        &mut self,
        id: ServiceId,
        service: &Arc<CallableService>,
        different: &InstanceNews,
    ) -> (BTreeSet<WorkerId>, BTreeSet<WorkerId>) {
        let Some(table) = self.by_service.get_mut(&id) else { return Default::default() };
        let (gained, lost) = table.take(service, different);
        self.note(id, gained.iter().copied(), true);
        self.note(id, lost.iter().copied(), false);
        (gained, lost)
    }

    pub(super) fn remove(&mut self, id: ServiceId) {
        if let Some(table) = self.by_service.remove(&id) {
            self.note(id, table.devices.into_keys(), false);
        }
    }

    fn note(&mut self, id: ServiceId, devices: impl Iterator<Item = WorkerId>, has_instances: bool) {
        for device in devices {
            let services = self.by_device.entry(device).or_default();
            if has_instances {
                services.insert(id);
            } else {
                services.remove(&id);
                if services.is_empty() {
                    self.by_device.remove(&device);
                }
            }
        }
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

#[cfg(test)]
mod tests {
    use model::{CallableInstance, ServiceNames, Weight};

    use super::*;

    const SERVICE: ServiceId = ServiceId::from_bytes([1; 12]);

    fn instance(number: u32, worker: &str) -> CallableInstance {
        let worker = format!("00000000-0000-0000-0000-0000000000{worker}").parse().expect("a UUID");
        CallableInstance { number, address: [10, 30, 1, 1].into(), worker, ready: true, weight: Weight::MOST }
    }

    fn service(instances: Vec<CallableInstance>) -> CallableService {
        let name = String::new;
        let names = ServiceNames {
            application: name(),
            application_namespace: name(),
            service: name(),
            service_namespace: name(),
        };
        let (addresses, allowed_callers) = Default::default();
        CallableService { names: names.into(), addresses, allowed_callers, instances }
    }

    #[test]
    fn what_a_device_has_instances_of_is_known_for_as_long_as_it_has_some() {
        let mut tables = Tables::default();
        let [one, other] = ["01", "02"].map(|worker| instance(0, worker).worker);
        let on = |tables: &Tables, device| tables.services_on(device).collect::<Vec<_>>();
        tables.add(SERVICE, Table::of(service(vec![instance(0, "01"), instance(1, "01")])));
        assert_eq!((on(&tables, one), on(&tables, other)), (vec![SERVICE], vec![]));
        let moves = |tables: &mut Tables, number, to: Vec<CallableInstance>| {
            let different = InstanceNews::from([(number, Some(instance(number, "02")))]);
            tables.take(SERVICE, &Arc::new(service(to)), &different)
        };
        moves(&mut tables, 0, vec![instance(0, "02"), instance(1, "01")]);
        assert_eq!((on(&tables, one), on(&tables, other)), (vec![SERVICE], vec![SERVICE]));
        moves(&mut tables, 1, vec![instance(0, "02"), instance(1, "02")]);
        assert_eq!((on(&tables, one), on(&tables, other)), (vec![], vec![SERVICE]));
        tables.remove(SERVICE);
        assert_eq!((on(&tables, other), tables.by_device.len()), (vec![], 0));
    }
}
