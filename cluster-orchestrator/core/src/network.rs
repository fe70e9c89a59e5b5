//! What NetManagers are told of each other: the services their instances may call, who answers for them, and the devices
//! those run on. A device that has an instance of an application is told of all services of it and of those that let it
//! connect, so that nobody waits for an answer at the first call. Which those are is in `isolation.rs`; carried out in
//! `net-manager/core/src/others.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use addressing::SubnetPlan;
use model::{
    ApplicationName, CallableService, Desired, Generation, NetworkLease, NetworkNews, Peer, Phase, Reach,
    ServiceId, SharedService, TunnelKey, WorkerId,
};

use crate::{
    Change, Effect, Instance, State, Worker,
    neighbours::difference,
    reconcile::Plan,
    ways::{IpVersion, key_of, seen_elsewhere},
    weights::compare,
};

/// A connected NetManager and what it was told.
#[derive(Debug, Default)]
struct Told {
    /// Its connection.
    session: u64,
    /// Where other devices reach its device, as it says.
    reach: Option<Reach>,
    /// `None` before its first news.
    lease: Option<NetworkLease>,
    services: BTreeMap<ServiceId, Arc<CallableService>>,
    /// How many of these services have instances on each device.
    devices: BTreeMap<WorkerId, usize>,
    peers: BTreeMap<WorkerId, Peer>,
    /// How many of the peers have each key.
    keys: BTreeMap<TunnelKey, usize>,
    /// Some device is not led to because of its key.
    disputed: bool,
}

impl Told {
    /// Whether another device, or this one, has the key of that peer.
    fn doubts(&self, own: Option<TunnelKey>, id: WorkerId, peer: &Peer) -> bool {
        let Some(key) = key_of(peer.way) else { return false };
        let itself = self.peers.get(&id).is_some_and(|known| key_of(known.way) == Some(key));
        own == Some(key) || self.keys.get(&key).is_some_and(|times| *times > usize::from(itself))
    }

    /// A device is led to like this from now on, or not any more. Tells whether that is different.
    fn lead(&mut self, id: WorkerId, peer: Option<Peer>) -> bool {
        if self.peers.get(&id) == peer.as_ref() {
            return false;
        }
        if let Some(key) = self.peers.remove(&id).and_then(|before| key_of(before.way)) {
            fewer(&mut self.keys, key);
        }
        if let Some(peer) = peer {
            if let Some(key) = key_of(peer.way) {
                *self.keys.entry(key).or_default() += 1;
            }
            self.peers.insert(id, peer);
        }
        true
    }
}

/// Counts one down; tells whether that was the last.
pub(crate) fn fewer<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) -> bool {
    let Some(count) = counts.get_mut(&key) else { return false };
    *count -= 1;
    let last = *count == 0;
    if last {
        counts.remove(&key);
    }
    last
}

/// The devices a service has instances on.
fn devices(service: &CallableService) -> BTreeSet<WorkerId> {
    service.instances.iter().map(|instance| instance.worker).collect()
}

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
    /// NetManagers that are to be told everything that is new to them: who they may call may be different.
    due: BTreeSet<WorkerId>,
    /// Services that others are to be told of anew.
    callable: BTreeMap<ServiceId, Arc<CallableService>>,
    /// Services that may be different.
    changed: BTreeSet<ServiceId>,
    /// Workers that may be forgotten, and whose mailbox at the relay is then closed.
    left: BTreeSet<WorkerId>,
}

impl Networks {
    /// A worker is no longer this cluster's.
    pub(crate) fn forgotten(&mut self, id: WorkerId) {
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
        self.changed.insert(service);
    }

    /// The way to an instance of a service is different.
    pub(crate) fn way_changed(&mut self, service: ServiceId) {
        // Then it is not only the instances that are told, but the way to them.
        self.callable.remove(&service);
        self.changed.insert(service);
    }
}

impl State {
    /// The NetManager of a worker connected; `session` is greater than that of each of its connections before.
    /// `reach` is where other devices reach it, as it says itself.
    pub fn network_connected(&mut self, id: WorkerId, session: u64, reach: Option<Reach>) {
        // Its relay may have nothing new to tell of it.
        let kept = self.workers.get(&id).and_then(|worker| worker.reach);
        let reach = reach.map(|reach| match kept.filter(|kept| kept.tunnel == reach.tunnel) {
            Some(Reach { observed, at_root, .. }) => Reach { observed, at_root, ..reach },
            None => reach,
        });
        if self.networks.told.is_empty() {
            let held = self.held.services.keys().map(|revision| revision.service);
            self.networks.changed.extend(held.chain(self.neighbourhood.services()));
        }
        self.networks.told.insert(id, Told { session, reach, ..Told::default() });
        self.networks.tell(id);
    }

    /// A connection of a NetManager ended.
    pub fn network_disconnected(&mut self, id: WorkerId, session: u64) {
        if self.networks.told.get(&id).is_some_and(|told| told.session == session) {
            self.networks.told.remove(&id);
            self.networks.left.insert(id);
        }
    }

    /// The relay sees the encrypted links of a worker at another place than before; `session` is the connection of its
    /// NetManager that it registered by.
    pub fn network_observed(&mut self, id: WorkerId, session: u64, place: SocketAddr) {
        self.networks.reached_otherwise(id, session, |reach| Reach {
            observed: seen_elsewhere(reach, place),
            ..reach
        });
    }

    /// A worker's NetManager says over its connection `session` where the relay of the root sees its encrypted links, as
    /// that of this cluster cannot be reached from there; or `None`: it can.
    pub fn network_at_root(&mut self, id: WorkerId, session: u64, place: Option<SocketAddr>) {
        self.networks.reached_otherwise(id, session, |reach| Reach { at_root: place, ..reach });
    }

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
        let services: Vec<ServiceId> = self.on_worker(worker).map(|instance| instance.id.service).collect();
        for service in services {
            self.networks.service_changed(service);
            self.neighbourhood.service_changed(service);
        }
    }

    /// A worker whose NetManager is connected keeps its mailbox: it may be back soon, and is offered none again.
    fn close_relays(&mut self, plan: &mut Plan) {
        let left = std::mem::take(&mut self.networks.left).into_iter();
        let forgotten =
            left.filter(|id| !self.workers.contains_key(id) && !self.networks.told.contains_key(id));
        plan.effects.extend(forgotten.map(|worker| Effect::CloseRelay { worker }));
    }

    /// Tells NetManagers what is new to them.
    pub(crate) fn tell_networks(&mut self, plan: &mut Plan) {
        self.close_relays(plan);
        if self.networks.told.is_empty() {
            // Tables are made for the first that connects.
            self.networks.callable.clear();
            for id in std::mem::take(&mut self.networks.changed) {
                if self.described(id).is_none() {
                    self.allowances.forget(id);
                }
            }
            return;
        }
        self.keep_reaches(plan);
        let mut news: BTreeMap<WorkerId, NetworkNews> = BTreeMap::new();
        for id in std::mem::take(&mut self.networks.changed) {
            self.renew(id, &mut news);
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
                let here = self.placed.get(&id).into_iter().flatten();
                for service in here.map(|instance| instance.service) {
                    self.networks.way_changed(service);
                    self.neighbourhood.service_changed(service);
                }
                self.neighbourhood.device_moved(id);
            }
        }
    }

    /// The subnets of workers are others than before: they are told, and those who know of them.
    pub(crate) fn apply_subnets(&mut self, subnets: SubnetPlan<WorkerId>) {
        let before = std::mem::replace(&mut self.subnets, subnets);
        let moved: Vec<WorkerId> = self
            .workers
            .keys()
            .copied()
            .filter(|id| before.subnet_of(id) != self.subnets.subnet_of(id))
            .collect();
        self.subnets_due |= before.blocks() != self.subnets.blocks();
        for id in moved {
            self.networks.tell(id);
            for instance in self.placed.get(&id).into_iter().flatten() {
                self.networks.way_changed(instance.service);
            }
            self.neighbourhood.device_moved(id);
        }
    }

    /// Makes a service as it is told anew. Whoever may call it and was told of it before is told of this one alone: a
    /// service has many callers, and each of them many services.
    fn renew(&mut self, id: ServiceId, news: &mut BTreeMap<WorkerId, NetworkNews>) {
        let callers: BTreeSet<WorkerId> = self
            .allowances
            .beside(id)
            .into_iter()
            .filter_map(|service| self.spread.get(&service))
            .flat_map(BTreeMap::keys)
            .filter(|worker| self.networks.told.contains_key(worker) && !self.networks.due.contains(worker))
            .copied()
            .collect();
        let Some(service) = self.callable(id) else {
            self.networks.callable.remove(&id);
            self.allowances.forget(id);
            self.networks.due.extend(callers);
            return;
        };
        let before = self.networks.callable.get(&id);
        if before.is_some_and(|before| *before == service) {
            return;
        }
        let before = self.networks.callable.insert(id, Arc::clone(&service));
        // The way to one of its devices may be another.
        let Some(before) = before else { return self.networks.due.extend(callers) };
        let (were, are) = (devices(&before), devices(&service));
        let gained_by = |version| -> Vec<(WorkerId, Option<Peer>)> {
            are.difference(&were).map(|device| (*device, self.peer(version, *device))).collect()
        };
        let gained = [IpVersion::V4, IpVersion::V6].map(|version| (version, gained_by(version)));
        let gained = BTreeMap::from(gained);
        for caller in callers {
            let gained = &gained[&self.version_of(caller)];
            let Some(told) = self.networks.told.get_mut(&caller) else { continue };
            let own = self.workers.get(&caller).and_then(Worker::key);
            // Of two devices with one key it is to be seen which of them counts.
            let mut peers = gained.iter().filter_map(|(id, peer)| Some((*id, peer.as_ref()?)));
            let doubts = told.disputed || peers.any(|(id, peer)| told.doubts(own, id, peer));
            // Whoever was not told the state before is told all that is new to it.
            let knows = told.services.get(&id).is_some_and(|known| *known == before);
            if told.lease.is_none() || doubts || !knows {
                self.networks.due.insert(caller);
                continue;
            }
            told.services.insert(id, Arc::clone(&service));
            let news = news.entry(caller).or_default();
            news.services.insert(id, Some(Arc::clone(&service)));
            for (device, peer) in gained.iter().filter(|(device, _)| *device != caller) {
                *told.devices.entry(*device).or_default() += 1;
                if let Some(peer) = peer
                    && told.lead(*device, Some(peer.clone()))
                {
                    news.peers.insert(*device, Some(peer.clone()));
                }
            }
            for device in were.difference(&are).filter(|device| **device != caller) {
                if fewer(&mut told.devices, *device) && told.lead(*device, None) {
                    news.peers.insert(*device, None);
                }
            }
        }
    }

    fn callable(&self, id: ServiceId) -> Option<Arc<CallableService>> {
        let SharedService { names, addresses, allowed_callers } = self.described(id)?;
        let mut instances = self.instances_anywhere(id);
        compare(addresses.keys(), &mut instances);
        Some(Arc::new(CallableService { names, addresses, allowed_callers, instances }))
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
        news.services.extend(difference(&told.services, &services));
        let new_lease = (told.lease.as_ref() != Some(&lease)).then(|| lease.clone());
        let session = told.session;
        let mut needed: BTreeMap<WorkerId, usize> = BTreeMap::new();
        for device in services.values().flat_map(|service| devices(service)).filter(|device| *device != id) {
            *needed.entry(device).or_default() += 1;
        }
        let (ways, disputed) = self.ways_for(id, needed.keys().copied());
        let gone = told.peers.keys().filter(|device| !ways.contains_key(device));
        let gone = gone.map(|device| (*device, None));
        let new = ways.iter().filter(|(device, way)| {
            let known = told.peers.get(device);
            !known.is_some_and(|peer| peer.way == **way && self.answers_for(**device, &peer.lease))
        });
        let new = new.filter_map(|(device, way)| {
            let lease = self.ranges_of(*device)?;
            Some((*device, Some(Peer { way: *way, lease })))
        });
        // One gives way to another with its key.
        let different: Vec<(WorkerId, Option<Peer>)> = gone.chain(new).collect();
        let told = self.networks.told.get_mut(&id)?;
        for (device, peer) in different {
            told.lead(device, peer.clone());
            news.peers.insert(device, peer);
        }
        (told.lease, told.services, told.devices, told.disputed) = (Some(lease), services, needed, disputed);
        if new_lease.is_none() && news.is_empty() {
            return None;
        }
        Some(Effect::TellNetwork { worker: id, session, lease: new_lease, news })
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
        let callable = |id| Some((id, Arc::clone(self.networks.callable.get(&id)?)));
        beside.filter_map(callable).collect()
    }
}
