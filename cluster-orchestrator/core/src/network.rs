//! What NetManagers are told of each other: the services their instances may call, who answers for them, and the devices
//! those run on. A device that has an instance of an application is told of all services of it and of those that let it
//! connect, so that nobody waits for an answer at the first call. Which those are is in `isolation.rs`; carried out in
//! `net-manager/core/src/others.rs`.

mod connections;
mod tables;
mod told;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use addressing::Lent;
use model::{
    ApplicationName, CallableService, Desired, Generation, InstanceId, InstanceNews, NetworkLease,
    NetworkNews, Peer, Phase, Reach, ServiceId, SharedService, WorkerId,
};

pub(crate) use self::told::fewer;
use self::{
    tables::{Changed, Gained, Renewed, Table, Tables, tell_of_services},
    told::Told,
};
use crate::{
    Change, Effect, Instance, State, Worker,
    reconcile::Plan,
    ways::{IpVersion, ToldOf},
};

/// What other devices can see of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appearance {
    pub(crate) holder: Option<WorkerId>,
    pub(crate) address: Option<Ipv4Addr>,
    /// It runs, or is about to: whoever it calls first must know it by then.
    pub(crate) is_there: bool,
    pub(crate) ready: bool,
    /// The root's decision it is here by.
    pub(crate) generation: Generation,
}

/// See the module's description. In memory only: whoever connects is told everything.
#[derive(Debug, Default)]
pub(crate) struct Networks {
    /// Nobody but devices of the site can listen or speak on its network.
    pub(crate) trusted: bool,
    told: BTreeMap<WorkerId, Told>,
    pub(crate) told_of: ToldOf,
    /// NetManagers that are to be told everything that is new to them: who they may call may be different.
    due: BTreeSet<WorkerId>,
    tables: Tables,
    /// Services that may be different.
    changed: BTreeMap<ServiceId, Changed>,
    /// Devices that may be led to otherwise.
    moved: BTreeSet<WorkerId>,
    /// Workers that may be forgotten or revoked, and whose mailbox at the relay is then closed.
    left: BTreeSet<WorkerId>,
}

impl Networks {
    /// A worker is no longer this cluster's, or let in no more.
    pub(crate) fn forgotten(&mut self, id: WorkerId) {
        self.told_of.forget(id);
        self.left.insert(id);
    }

    /// What is placed on a device is different, or its way to others.
    pub(crate) fn tell(&mut self, worker: WorkerId) {
        if self.told.contains_key(&worker) {
            self.due.insert(worker);
        }
    }

    /// A device is reached otherwise, as is said of its connection `session`.
    fn reached_otherwise(&mut self, worker: WorkerId, session: u64, otherwise: impl FnOnce(Reach) -> Reach) {
        let told = self.told.get_mut(&worker).filter(|told| told.session == session);
        let Some(reach) = told.and_then(|told| told.reach.as_mut()) else { return };
        let before = std::mem::replace(reach, otherwise(*reach));
        if *reach != before {
            self.tell(worker);
        }
    }

    pub(crate) fn service_changed(&mut self, service: ServiceId) {
        self.changed.insert(service, Changed::Everything);
    }

    pub(crate) fn instance_changed(&mut self, id: InstanceId) {
        let nothing = || Changed::Instances(BTreeSet::new());
        match self.changed.entry(id.service).or_insert_with(nothing) {
            Changed::Everything => {}
            Changed::Instances(numbers) => drop(numbers.insert(id.number)),
        }
    }

    /// A device is reached otherwise, or answers for other addresses.
    pub(crate) fn device_moved(&mut self, id: WorkerId) {
        self.moved.insert(id);
    }
}

impl State {
    /// What others see of an instance; `None` when there is nothing to see.
    pub(crate) fn appearance(instance: Option<&Instance>) -> Option<Appearance> {
        let instance = instance?;
        use Phase::{Creating, NodeScheduled, Running, Undeploying};
        let is_there = matches!(instance.report.phase, NodeScheduled | Creating | Running | Undeploying);
        let ready = instance.desired == Desired::Running && instance.report.ready;
        Some(Appearance {
            holder: instance.holder(),
            address: instance.address,
            is_there,
            ready,
            generation: instance.generation,
        })
    }

    /// What runs on a worker is seen otherwise, as it is lost or back, or reached at another address.
    pub(crate) fn worker_seen_otherwise(&mut self, worker: WorkerId) {
        let here: Vec<InstanceId> = self.on_worker(worker).map(|instance| instance.id).collect();
        for id in here {
            self.networks.instance_changed(id);
            self.neighbourhood.service_changed(id.service);
        }
    }

    /// A worker whose NetManager is connected keeps its mailbox: it may be back soon, and is offered none again.
    fn close_relays(&mut self, plan: &mut Plan) {
        let left = std::mem::take(&mut self.networks.left).into_iter();
        let is_ours = |id: &WorkerId| self.workers.contains_key(id) && !self.revoked.contains_key(id);
        let forgotten = left.filter(|id| !is_ours(id) && !self.networks.told.contains_key(id));
        plan.effects.extend(forgotten.map(|worker| Effect::CloseRelay { worker }));
    }

    /// Tells NetManagers what is new to them.
    pub(crate) fn tell_networks(&mut self, plan: &mut Plan) {
        self.close_relays(plan);
        if self.networks.told.is_empty() {
            // Tables are made for the first that connects.
            self.networks.tables = Tables::default();
            self.networks.changed.clear();
            self.networks.moved.clear();
            return;
        }
        self.keep_reaches(plan);
        let mut news: BTreeMap<WorkerId, NetworkNews> = BTreeMap::new();
        for (id, changed) in std::mem::take(&mut self.networks.changed) {
            self.renew(id, changed, &mut news);
        }
        for id in std::mem::take(&mut self.networks.moved) {
            self.lead_to_moved(id, &mut news);
        }
        for id in std::mem::take(&mut self.networks.due) {
            let already = news.remove(&id).unwrap_or_default();
            let offer = self.relay_for(id);
            if let Some(effect) = self.news_for(id, already) {
                plan.effects.push(effect);
                plan.effects.extend(offer);
            }
        }
        for (id, news) in news {
            let Some(told) = self.networks.told.get(&id) else { continue };
            let session = told.session;
            plan.effects.push(Effect::TellNetwork { worker: id, session, lease: None, news });
        }
    }

    /// The relay's offer to a NetManager that was told nothing yet, if its device can have encrypted links: also in a
    /// trusted site it has them to devices of other clusters, and to those that speak the other version of IP.
    fn relay_for(&self, id: WorkerId) -> Option<Effect> {
        let told = self.networks.told.get(&id).filter(|told| told.lease.is_none())?;
        let key = told.reach?.tunnel?.key;
        Some(Effect::OfferRelay { worker: id, session: told.session, key })
    }

    /// Where devices are reached is kept: after a restart those that are back first must not lose the others.
    fn keep_reaches(&mut self, plan: &mut Plan) {
        for id in self.networks.due.clone() {
            let (Some(told), Some(worker)) = (self.networks.told.get(&id), self.workers.get(&id)) else {
                continue;
            };
            if told.reach.is_some() && worker.reach != told.reach {
                let moved = Worker { reach: told.reach, ..worker.clone() };
                self.change(plan, Change::Worker(id, Some(moved)));
                for instance in self.placed.get(&id).into_iter().flatten() {
                    self.neighbourhood.service_changed(instance.service);
                }
                self.networks.device_moved(id);
                self.neighbourhood.device_moved(id);
            }
        }
    }

    /// There are other blocks to lend from.
    pub(crate) fn apply_blocks(&mut self, blocks: NetworkLease) {
        self.subnets_due |= blocks != *self.subnets.blocks();
        self.subnets.set_blocks(blocks);
    }

    /// A worker got its subnet, or has it no more: it is told, and those who know of it.
    pub(crate) fn apply_subnet(&mut self, lent: &Lent<WorkerId>) {
        let id = lent.owner;
        let before = self.subnets.subnet_of(&id);
        self.subnets.record(lent);
        let subnet = self.subnets.subnet_of(&id);
        if subnet.is_some() {
            self.without_subnet.remove(&id);
        } else if self.workers.contains_key(&id) {
            self.without_subnet.insert(id);
        }
        if subnet != before {
            self.networks.tell(id);
            self.networks.device_moved(id);
            self.neighbourhood.device_moved(id);
        }
    }

    /// The devices with copies of what has to do with a service.
    pub(crate) fn devices_beside(&self, id: ServiceId) -> BTreeSet<WorkerId> {
        let beside = self.here_beside([id]);
        beside
            .iter()
            .filter_map(|service| self.spread.get(service))
            .flat_map(BTreeMap::keys)
            .copied()
            .collect()
    }

    /// The connected NetManagers of those.
    fn callers(&self, id: ServiceId) -> BTreeSet<WorkerId> {
        let mut callers = self.devices_beside(id);
        callers.retain(|worker| self.networks.told.contains_key(worker));
        callers
    }

    /// Makes a service as it is told anew. Whoever may call it and was told of it before is told of this one alone, and
    /// only what is different: a service has many callers and instances, and each caller many services.
    fn renew(&mut self, id: ServiceId, changed: Changed, news: &mut BTreeMap<WorkerId, NetworkNews>) {
        let Some(description) = self.described(id) else { return self.withdraw(id, news) };
        let Some(before) = self.networks.tables.get(id).map(|table| Arc::clone(&table.service)) else {
            let table = Table::of(self.callable(id, description));
            let (service, gained) = (Arc::clone(&table.service), table.devices.keys().copied().collect());
            self.networks.tables.add(id, table);
            let renewed = Renewed { before: None, service, told: None, gained, lost: BTreeSet::new() };
            return self.tell_callers(id, &renewed, news);
        };
        let (service, different) = match changed {
            Changed::Everything => {
                let service = self.callable(id, description);
                let different = service.instances_since(&before);
                (service, different)
            }
            Changed::Instances(numbers) => {
                let now = numbers
                    .into_iter()
                    .map(|number| (number, self.instance_anywhere(InstanceId { service: id, number })));
                let different: InstanceNews =
                    now.filter(|(number, now)| before.instance(*number) != now.as_ref()).collect();
                if different.is_empty() {
                    return;
                }
                (before.after(&different), different)
            }
        };
        let is_described_as_before = service.is_described_as(&before);
        if is_described_as_before && different.is_empty() {
            return;
        }
        let (service, different) = (Arc::new(service), Arc::new(different));
        let (gained, lost) = self.networks.tables.take(id, &service, &different);
        let told = is_described_as_before.then_some(different);
        self.tell_callers(id, &Renewed { before: Some(before), service, told, gained, lost }, news);
    }

    /// Tells those who may call a service what is new about it.
    fn tell_callers(&mut self, id: ServiceId, renewed: &Renewed, news: &mut BTreeMap<WorkerId, NetworkNews>) {
        let Renewed { before, service, told: different, gained, lost } = renewed;
        let gained = Gained::of(gained, |version, device| self.peer(version, device));
        for caller in self.callers(id) {
            let gained = gained.to(|| self.version_of(caller));
            // Mostly there is nobody to be led to.
            let own = if gained.is_empty() { None } else { self.workers.get(&caller).and_then(Worker::key) };
            // It is not led to itself, whose key it has.
            let gained = gained.iter().filter(|(device, _)| *device != caller);
            let Some(told) = self.networks.told.get_mut(&caller) else { continue };
            // Whoever was not told the state before is told all that is new to it.
            let knows = told.services.get(&id).map(Arc::as_ptr) == before.as_ref().map(Arc::as_ptr);
            if told.lease.is_none() || !knows || told.has_doubts(own, gained.clone()) {
                self.networks.due.insert(caller);
                continue;
            }
            told.services.insert(id, Arc::clone(service));
            let news = news.entry(caller).or_default();
            match different {
                Some(different) => drop(news.instances.insert(id, Arc::clone(different))),
                None => drop(news.services.insert(id, Some(Arc::clone(service)))),
            }
            for (device, peer) in gained {
                *told.devices.entry(*device).or_default() += 1;
                if let Some(peer) = peer
                    && told.lead(*device, Some(Arc::clone(peer)))
                {
                    news.peers.insert(*device, Some(Arc::clone(peer)));
                }
            }
            told.leave(lost.iter().filter(|device| **device != caller), news);
        }
    }

    /// A service is neither held here nor shared any more: those who were told of it are told so.
    fn withdraw(&mut self, id: ServiceId, news: &mut BTreeMap<WorkerId, NetworkNews>) {
        self.networks.tables.remove(id);
        for (caller, told) in &mut self.networks.told {
            let Some(known) = told.services.get(&id).cloned() else { continue };
            if told.disputed {
                // Another device may be led to from now on.
                self.networks.due.insert(*caller);
                continue;
            }
            told.services.remove(&id);
            let news = news.entry(*caller).or_default();
            news.services.insert(id, None);
            told.leave(devices_of(&known).iter().filter(|device| *device != caller), news);
        }
    }

    /// Tells of a device that is led to otherwise, those who know of it.
    fn lead_to_moved(&mut self, id: WorkerId, news: &mut BTreeMap<WorkerId, NetworkNews>) {
        let ways = [IpVersion::V4, IpVersion::V6].map(|version| (version, self.peer(version, id)));
        let ways = BTreeMap::from(ways);
        // Of all devices few are told of one: those that may call what runs there.
        let mut whom: BTreeSet<WorkerId> =
            self.networks.tables.services_on(id).flat_map(|service| self.callers(service)).collect();
        let knows = |told: &Told| told.lease.is_some() && told.devices.contains_key(&id);
        whom.retain(|caller| self.networks.told.get(caller).is_some_and(knows));
        for caller in whom {
            let peer = &ways[&self.version_of(caller)];
            let own = self.workers.get(&caller).and_then(Worker::key);
            let Some(told) = self.networks.told.get_mut(&caller) else { continue };
            if told.has_doubts(own, [(id, peer.clone())].iter()) {
                self.networks.due.insert(caller);
            } else if told.lead(id, peer.clone()) {
                news.entry(caller).or_default().peers.insert(id, peer.clone());
            }
        }
    }

    fn callable(&self, id: ServiceId, description: SharedService) -> CallableService {
        let SharedService { names, addresses, allowed_callers } = description;
        CallableService { names, addresses, allowed_callers, instances: self.instances_anywhere(id) }
    }

    /// A service as it is held here, or else as it is shared by others.
    fn described(&self, id: ServiceId) -> Option<SharedService> {
        let held = self.revisions(id).rev().find(|(_, service)| !service.addresses.is_empty());
        match held {
            Some((_, held)) => Some(SharedService {
                names: Arc::clone(&held.names),
                addresses: Arc::clone(&held.addresses),
                allowed_callers: Arc::clone(&held.allowed_callers),
            }),
            None => self.neighbourhood.service(id).cloned(),
        }
    }

    /// Everything that is new to it, beside what counts as told already.
    fn news_for(&mut self, id: WorkerId, already: NetworkNews) -> Option<Effect> {
        // Without a subnet it can do nothing with it.
        let lease = self.lease_of(id)?;
        let told = self.networks.told.get(&id)?;
        let whole = told.lease.is_none();
        let services = self.services_for(id);
        let mut news = NetworkNews { whole, ..already };
        tell_of_services(&mut news, &told.services, &services);
        let new_lease = (told.lease.as_ref() != Some(&lease)).then(|| lease.clone());
        let session = told.session;
        if let Some(peers) = self.led_otherwise(id, &services) {
            news.peers.extend(peers);
            let told = self.networks.told.get_mut(&id)?;
            (told.lease, told.services) = (Some(lease), services);
            let has_news = new_lease.is_some() || !news.is_empty();
            return has_news.then_some(Effect::TellNetwork { worker: id, session, lease: new_lease, news });
        }
        let told = self.networks.told.get(&id)?;
        let mut needed: BTreeMap<WorkerId, usize> = BTreeMap::new();
        let tables = services.keys().filter_map(|service| self.networks.tables.get(*service));
        for device in tables.flat_map(|table| table.devices.keys()).filter(|device| **device != id) {
            *needed.entry(*device).or_default() += 1;
        }
        let (ways, disputed) = self.ways_for(id, needed.keys().copied());
        let gone = told.peers.keys().filter(|device| !ways.contains_key(device));
        let gone: Vec<(WorkerId, Option<Arc<Peer>>)> = gone.map(|device| (*device, None)).collect();
        let version = self.version_of(id);
        let all: Vec<(WorkerId, Option<Arc<Peer>>)> =
            ways.into_keys().map(|device| (device, self.peer(version, device))).collect();
        let told = self.networks.told.get_mut(&id)?;
        // One gives way to another with its key.
        for (device, peer) in gone.into_iter().chain(all) {
            if told.lead(device, peer.clone()) {
                news.peers.insert(device, peer);
            }
        }
        (told.lease, told.services, told.devices, told.disputed) = (Some(lease), services, needed, disputed);
        if new_lease.is_none() && news.is_empty() {
            return None;
        }
        Some(Effect::TellNetwork { worker: id, session, lease: new_lease, news })
    }

    /// The devices that one is led to or not any more when these are the services it is told of, from what it was told
    /// until now: all that it is led to need not be looked through for each instance it gets. `None` when it must be.
    fn led_otherwise(
        &mut self,
        id: WorkerId,
        services: &BTreeMap<ServiceId, Arc<CallableService>>,
    ) -> Option<BTreeMap<WorkerId, Option<Arc<Peer>>>> {
        let told = self.networks.told.get(&id).filter(|told| told.lease.is_some() && !told.disputed)?;
        let is_as_before =
            |(id, before): (&ServiceId, _)| services.get(id).is_none_or(|now| Arc::ptr_eq(before, now));
        if !told.services.iter().all(is_as_before) {
            return None;
        }
        let lost = told.services.iter().filter(|(service, _)| !services.contains_key(service));
        let lost: Vec<WorkerId> = lost.flat_map(|(_, service)| devices_of(service)).collect();
        let gained = services.iter().filter(|(service, _)| !told.services.contains_key(service));
        let gained: Vec<WorkerId> = gained.flat_map(|(_, service)| devices_of(service)).collect();
        let new: BTreeSet<WorkerId> = gained
            .iter()
            .copied()
            .filter(|device| *device != id && !told.devices.contains_key(device))
            .collect();
        let version = self.version_of(id);
        let new: Vec<(WorkerId, Option<Arc<Peer>>)> =
            new.into_iter().map(|device| (device, self.peer(version, device))).collect();
        let own = self.workers.get(&id).and_then(Worker::key);
        let told = self.networks.told.get_mut(&id)?;
        if told.has_doubts(own, new.iter()) {
            return None;
        }
        for device in gained.into_iter().filter(|device| *device != id) {
            *told.devices.entry(device).or_default() += 1;
        }
        let mut peers = BTreeMap::new();
        for (device, peer) in new {
            if told.lead(device, peer.clone()) {
                peers.insert(device, peer);
            }
        }
        let mut news = NetworkNews { peers, ..NetworkNews::default() };
        told.leave(lost.iter().filter(|device| **device != id), &mut news);
        Some(news.peers)
    }

    fn services_for(&self, worker: WorkerId) -> BTreeMap<ServiceId, Arc<CallableService>> {
        let here: BTreeSet<ServiceId> =
            self.placed.get(&worker).into_iter().flatten().map(|id| id.service).collect();
        // A device has several services of one application.
        let applications: BTreeSet<&ApplicationName> =
            here.iter().filter_map(|service| self.allowances.application_of(*service)).collect();
        let callees =
            applications.into_iter().flat_map(|application| self.allowances.callees_of(application));
        let beside = callees.chain(here.iter().flat_map(|service| self.allowances.callers_of(*service)));
        let callable = |id| Some((id, Arc::clone(&self.networks.tables.get(id)?.service)));
        beside.filter_map(callable).collect()
    }
}

/// The devices with instances of a service.
fn devices_of(service: &CallableService) -> BTreeSet<WorkerId> {
    service.instances.iter().map(|instance| instance.worker).collect()
}
