//! What NetManagers are told of each other: the services their instances may call, who answers for them, and the devices
//! those run on. A device that has an instance of an application is told of all services of it and of those that let it
//! connect, so that nobody waits for an answer at the first call. Carried out in `net-manager/core/src/others.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use model::{
    AllowedCaller, AllowedCallers, ApplicationName, AssignedService, CallableService, Desired, Generation,
    NetworkLease, NetworkNews, Peer, Phase, Reach, RevisionId, ServiceId, ServiceNames, TunnelKey, WorkerId,
};

use crate::{
    Change, Effect, Instance, State, Worker,
    neighbours::difference,
    reconcile::Plan,
    ways::{IpVersion, key_of},
};

/// A connected NetManager and what it was told.
#[derive(Debug)]
struct Told {
    /// Its connection.
    session: u64,
    /// Where other devices reach its device, as it says.
    reach: Option<Reach>,
    /// `None` before its first news.
    lease: Option<NetworkLease>,
    services: BTreeMap<ServiceId, Arc<CallableService>>,
    peers: BTreeMap<WorkerId, Peer>,
    /// Some device is not led to because of its key.
    disputed: bool,
}

impl Told {
    /// Whether another device, or this one, has the key of that peer.
    fn doubts(&self, own: Option<TunnelKey>, id: WorkerId, peer: &Peer) -> bool {
        let key = key_of(peer);
        let another = |(other, known): (&WorkerId, &Peer)| *other != id && key_of(known) == key;
        key.is_some() && (own == key || self.peers.iter().any(another))
    }

    /// Whether an instance that may be called runs on a device.
    fn needs(&self, device: WorkerId) -> bool {
        self.services.values().any(|service| service.instances.iter().any(|it| it.worker == device))
    }
}

/// What other devices can see of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appearance {
    pub(crate) holder: Option<WorkerId>,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) runs: bool,
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
    /// The services of each application, and the application of each.
    applications: BTreeMap<ApplicationName, BTreeSet<ServiceId>>,
    application_of: BTreeMap<ServiceId, ApplicationName>,
    /// Whom services let connect beside their own application, those that let anybody; and who lets each of them.
    allowed: BTreeMap<ServiceId, Arc<AllowedCallers>>,
    open_to: BTreeMap<AllowedCaller, BTreeSet<ServiceId>>,
}

impl Networks {
    pub(crate) fn tell_all(&mut self) {
        self.due.extend(self.told.keys());
    }

    /// What is placed on a device is different, or its way to others.
    pub(crate) fn tell(&mut self, worker: WorkerId) {
        if self.told.contains_key(&worker) {
            self.due.insert(worker);
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

    /// A service there is.
    pub(crate) fn include(&mut self, id: ServiceId, names: &ServiceNames) {
        self.changed.insert(id);
        self.application_of.entry(id).or_insert_with(|| {
            let application = ApplicationName::from(names);
            self.applications.entry(application.clone()).or_default().insert(id);
            application
        });
    }

    /// The services this cluster has copies of instead of those it had. Both are walked side by side: an assignment comes
    /// with every change of one instance, and most of its services are those of the one before.
    pub(crate) fn hold(
        &mut self,
        before: &BTreeMap<RevisionId, AssignedService>,
        services: &BTreeMap<RevisionId, AssignedService>,
    ) {
        let mut gone = Vec::new();
        let mut before = before.iter().peekable();
        let mut all = services.iter().peekable();
        while let Some((id, service)) = all.next() {
            while let Some((known, _)) = before.next_if(|(known, _)| *known < id) {
                gone.push(known.service);
            }
            match before.next_if(|(known, _)| *known == id) {
                Some((_, known)) if known.addresses == service.addresses => {}
                Some(_) | None => self.include(id.service, &service.names),
            }
            // Of several revisions the newest counts, which comes last.
            if all.peek().is_none_or(|(next, _)| next.service != id.service) {
                self.allow(id.service, &service.allowed_callers);
            }
        }
        gone.extend(before.map(|(known, _)| known.service));
        for service in gone {
            self.changed.insert(service);
            let revision = |number| RevisionId { service, number };
            if services.range(revision(0)..=revision(u32::MAX)).next().is_none() {
                // It may be elsewhere still; whom it lets connect counts where it is.
                self.allow(service, &Arc::default());
            }
        }
    }

    /// Takes on whom a service lets connect. If that is different, any device may have to hear of it, or of others.
    fn allow(&mut self, service: ServiceId, callers: &Arc<AllowedCallers>) {
        if self.allowed.get(&service).map_or(callers.is_empty(), |before| before == callers) {
            return;
        }
        self.close(service);
        for caller in &**callers {
            self.open_to.entry(caller.clone()).or_default().insert(service);
        }
        if !callers.is_empty() {
            self.allowed.insert(service, Arc::clone(callers));
        }
        self.changed.insert(service);
        self.tell_all();
    }

    /// Whether a service lets other applications connect.
    #[cfg(test)]
    pub(crate) fn is_open(&self, service: ServiceId) -> bool {
        self.allowed.contains_key(&service)
    }

    /// Forgets whom a service lets connect.
    fn close(&mut self, service: ServiceId) {
        for caller in self.allowed.remove(&service).iter().flat_map(|callers| &**callers) {
            if let Some(open) = self.open_to.get_mut(caller) {
                open.remove(&service);
                if open.is_empty() {
                    self.open_to.remove(caller);
                }
            }
        }
    }

    fn forget(&mut self, service: ServiceId) {
        self.callable.remove(&service);
        self.close(service);
        let Some(application) = self.application_of.remove(&service) else { return };
        if let Some(services) = self.applications.get_mut(&application) {
            services.remove(&service);
            if services.is_empty() {
                self.applications.remove(&application);
            }
        }
    }

    /// Services whose instances may connect to those of one or the other way round. Of all of these a device with an
    /// instance of it is told: a call takes the address of who is called, and the answer that of the caller.
    fn beside(&self, service: ServiceId) -> BTreeSet<ServiceId> {
        let Some(application) = self.application_of.get(&service) else { return BTreeSet::new() };
        self.around(application).chain(self.callers_of(service)).collect()
    }

    /// Services an instance of the application may connect to: those of its own, and those that let it.
    fn around(&self, application: &ApplicationName) -> impl Iterator<Item = ServiceId> + '_ {
        let caller = AllowedCaller::Application(application.clone());
        let open = [caller, AllowedCaller::Everybody];
        let open = open.into_iter().filter_map(|caller| self.open_to.get(&caller)).flatten();
        self.applications.get(application).into_iter().flatten().chain(open).copied()
    }

    /// Services of other applications that one lets connect.
    fn callers_of(&self, service: ServiceId) -> BTreeSet<ServiceId> {
        let mut callers = BTreeSet::new();
        for caller in self.allowed.get(&service).into_iter().flat_map(|allowed| &**allowed) {
            match caller {
                AllowedCaller::Everybody => callers.extend(self.application_of.keys()),
                AllowedCaller::Application(name) => {
                    callers.extend(self.applications.get(name).into_iter().flatten());
                }
            }
        }
        callers
    }
}

impl State {
    /// The NetManager of a worker connected; `session` is greater than that of each of its connections before.
    /// `reach` is where other devices reach it, as it says itself.
    pub fn network_connected(&mut self, id: WorkerId, session: u64, reach: Option<Reach>) {
        let (services, peers) = (BTreeMap::new(), BTreeMap::new());
        // Its relay may have nothing new to tell of it.
        let kept = self.workers.get(&id).and_then(|worker| worker.reach);
        let reach = reach.map(|reach| {
            let observed = kept.filter(|kept| kept.tunnel == reach.tunnel).and_then(|kept| kept.observed);
            Reach { observed, ..reach }
        });
        self.networks.told.insert(id, Told { session, reach, lease: None, services, peers, disputed: false });
        self.networks.tell(id);
    }

    /// A connection of a NetManager ended.
    pub fn network_disconnected(&mut self, id: WorkerId, session: u64) {
        if self.networks.told.get(&id).is_some_and(|told| told.session == session) {
            self.networks.told.remove(&id);
        }
    }

    /// The relay sees the encrypted links of a worker at another place than before; `session` is the connection of its
    /// NetManager that it registered by.
    pub fn network_observed(&mut self, id: WorkerId, session: u64, place: SocketAddr) {
        let told = self.networks.told.get_mut(&id).filter(|told| told.session == session);
        let Some(reach) = told.and_then(|told| told.reach.as_mut()) else { return };
        let own = reach.tunnel.map(|end| SocketAddr::new(reach.address, end.port));
        // Beside the relay a device is seen at an address that is of use to nobody else.
        let observed = Some(place).filter(|place| !place.ip().is_loopback() && Some(*place) != own);
        if reach.observed != observed {
            reach.observed = observed;
            self.networks.tell(id);
        }
    }

    /// What others see of an instance; `None` when there is nothing to see.
    pub(crate) fn appearance(instance: Option<&Instance>) -> Option<Appearance> {
        let instance = instance?;
        let runs = instance.report.phase == Phase::Running || instance.report.phase == Phase::Undeploying;
        let ready = instance.desired == Desired::Running && instance.report.ready;
        Some(Appearance {
            holder: instance.holder(),
            address: instance.address,
            runs,
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

    /// Tells NetManagers what is new to them.
    pub(crate) fn tell_networks(&mut self, plan: &mut Plan) {
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
            }
        }
    }

    /// Makes a service as it is told anew. Whoever may call it and was told of it before is told of this one alone: a
    /// service has many callers, and each of them many services.
    fn renew(&mut self, id: ServiceId, news: &mut BTreeMap<WorkerId, NetworkNews>) {
        let callers: BTreeSet<WorkerId> = self
            .networks
            .beside(id)
            .into_iter()
            .filter_map(|service| self.spread.get(&service))
            .flat_map(BTreeMap::keys)
            .filter(|worker| self.networks.told.contains_key(worker) && !self.networks.due.contains(worker))
            .copied()
            .collect();
        let Some(service) = self.callable(id) else {
            self.networks.forget(id);
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
        let devices = |service: &CallableService| -> BTreeSet<WorkerId> {
            service.instances.iter().map(|instance| instance.worker).collect()
        };
        let (were, are) = (devices(&before), devices(&service));
        let gained_by = |version| -> Vec<(WorkerId, Peer)> {
            let gained = are.difference(&were);
            gained.filter_map(|device| Some((*device, self.peer(version, *device)?))).collect()
        };
        let gained = [IpVersion::V4, IpVersion::V6].map(|version| (version, gained_by(version)));
        let gained = BTreeMap::from(gained);
        for caller in callers {
            let gained = &gained[&self.version_of(caller)];
            let Some(told) = self.networks.told.get_mut(&caller) else { continue };
            let own = self.workers.get(&caller).and_then(Worker::key);
            // Of two devices with one key it is to be seen which of them counts.
            let doubts = told.disputed || gained.iter().any(|(id, peer)| told.doubts(own, *id, peer));
            if told.lease.is_none() || doubts {
                self.networks.due.insert(caller);
                continue;
            }
            told.services.insert(id, Arc::clone(&service));
            let news = news.entry(caller).or_default();
            news.services.insert(id, Some(Arc::clone(&service)));
            for (device, peer) in gained.iter().filter(|(device, _)| *device != caller) {
                if told.peers.get(device) != Some(peer) {
                    told.peers.insert(*device, peer.clone());
                    news.peers.insert(*device, Some(peer.clone()));
                }
            }
            for device in were.difference(&are) {
                if !told.needs(*device) && told.peers.remove(device).is_some() {
                    news.peers.insert(*device, None);
                }
            }
        }
    }

    fn callable(&self, id: ServiceId) -> Option<Arc<CallableService>> {
        let of = |number| RevisionId { service: id, number };
        let mut revisions = self.held.services.range(of(0)..=of(u32::MAX)).rev();
        let held = revisions.find(|(_, service)| !service.addresses.is_empty());
        let (names, addresses) = match held {
            Some((_, service)) => (&service.names, &service.addresses),
            None => self.neighbourhood.service(id).map(|service| (&service.names, &service.addresses))?,
        };
        Some(Arc::new(CallableService {
            names: Arc::clone(names),
            addresses: Arc::clone(addresses),
            // Whom a service lets connect from other applications, is told within a cluster only.
            allowed_callers: held.map(|(_, held)| Arc::clone(&held.allowed_callers)).unwrap_or_default(),
            instances: self.instances_anywhere(id),
        }))
    }

    /// Everything that is new to it, beside what counts as told already.
    fn news_for(&mut self, id: WorkerId, already: NetworkNews) -> Option<Effect> {
        // Without a subnet it can do nothing with it.
        let lease = self.lease_of(id)?;
        let told = self.networks.told.get(&id)?;
        let whole = told.lease.is_none();
        let services = self.services_for(id);
        let (peers, disputed) = self.peers_for(id, &services);
        let mut news = NetworkNews { whole, ..already };
        news.services.extend(difference(&told.services, &services));
        news.peers.extend(difference(&told.peers, &peers));
        let new_lease = (told.lease.as_ref() != Some(&lease)).then(|| lease.clone());
        let session = told.session;
        let told = self.networks.told.get_mut(&id)?;
        (told.lease, told.services, told.peers, told.disputed) = (Some(lease), services, peers, disputed);
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
            here.iter().filter_map(|service| self.networks.application_of.get(service)).collect();
        let around = applications.into_iter().flat_map(|application| self.networks.around(application));
        let beside = around.chain(here.iter().flat_map(|service| self.networks.callers_of(*service)));
        let callable = |id| Some((id, Arc::clone(self.networks.callable.get(&id)?)));
        beside.filter_map(callable).collect()
    }

    /// The devices its instances may call, and whether some are not led to because of their keys.
    fn peers_for(
        &self,
        worker: WorkerId,
        services: &BTreeMap<ServiceId, Arc<CallableService>>,
    ) -> (BTreeMap<WorkerId, Peer>, bool) {
        let instances = services.values().flat_map(|service| &service.instances);
        let others: BTreeSet<WorkerId> =
            instances.map(|instance| instance.worker).filter(|other| *other != worker).collect();
        let version = self.version_of(worker);
        let mut peers: BTreeMap<WorkerId, Peer> =
            others.into_iter().filter_map(|other| Some((other, self.peer(version, other)?))).collect();
        let all = peers.len();
        self.drop_borrowed_keys(worker, &mut peers);
        let disputed = peers.len() < all;
        (peers, disputed)
    }
}
