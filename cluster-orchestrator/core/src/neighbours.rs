//! Other clusters with instances of applications that have to do with those here: what they say of theirs, which counts
//! as if it were here. Who they are the root says, and it passes on what is said; the root's half is
//! `root-orchestrator/core/src/neighbours.rs`. What they are told is in `neighbours/telling.rs`.
//!
//! What neighbours said is durable, so that a cluster that starts while the root is away loses no calls, and counts for
//! as long as the root names them, connected or not. Every connection to the root begins with everything, in both
//! directions: nothing is asked for again, and nothing that was lost is missed.

mod telling;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use model::{
    ApplicationId, CallableInstance, ClusterId, InstanceId, NeighbourInstance, NeighbourNews, Neighbours,
    NetworkLease, Peer, ServiceId, SharedApplication, SharedNews, SharedService, Way, WorkerId,
};

use self::telling::Told;
use crate::{Change, Instance, State, network::Appearance};

/// Instances of a service in one cluster.
pub(crate) type Elsewhere = Arc<Vec<NeighbourInstance>>;

/// Something a neighbour may not say. It is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unacceptable {
    /// A service that the root did not name as shared with it.
    #[error("it tells of service {0}, which is not shared with it")]
    Service(ServiceId),
    /// A device that claims addresses of others.
    #[error("its device {0} claims addresses that are not lent to that cluster")]
    Ranges(WorkerId),
    /// A device that is to be sent packets as they are.
    #[error("its device {0} has no encrypted link, and there is no other way between clusters")]
    Way(WorkerId),
}

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Neighbourhood {
    /// Applications that neighbours share. Durable.
    shared: BTreeMap<ApplicationId, SharedApplication>,
    /// What they said of their instances, and of the devices those run on. Durable.
    instances: BTreeMap<ServiceId, BTreeMap<ClusterId, Elsewhere>>,
    peers: BTreeMap<WorkerId, BTreeMap<ClusterId, Arc<Peer>>>,
    /// The services and devices each of them told of.
    said: BTreeMap<ClusterId, (BTreeSet<ServiceId>, BTreeSet<WorkerId>)>,
    /// The application of each shared service, and the shared applications of each neighbour.
    application_of: BTreeMap<ServiceId, ApplicationId>,
    shared_with: BTreeMap<ClusterId, BTreeSet<ApplicationId>>,
    /// Where devices of other clusters reach the relay of this one, if they do.
    relay: Option<SocketAddr>,
    /// The connection to the root that counts; greater than those before.
    session: u64,
    blocks: BTreeMap<ClusterId, NetworkLease>,
    told: BTreeMap<ClusterId, Told>,
    /// Who of them heard of each service: a cluster has more neighbours than each service has who hear of it.
    heard: BTreeMap<ServiceId, BTreeSet<ClusterId>>,
    /// Neighbours that are to be told everything, or may be none any more.
    due: BTreeSet<ClusterId>,
    /// Services of which neighbours may have to be told otherwise, and devices that are reached otherwise.
    changed: BTreeSet<ServiceId>,
    moved: BTreeSet<WorkerId>,
    /// Neighbours that may have to be told of a service otherwise, as they share more or less than before.
    regrouped: BTreeMap<ServiceId, BTreeSet<ClusterId>>,
}

impl Neighbourhood {
    /// What the root says of a shared service.
    pub(crate) fn service(&self, id: ServiceId) -> Option<&SharedService> {
        self.shared.get(self.application_of.get(&id)?)?.services.get(&id)
    }

    /// All services that are shared.
    pub(crate) fn services(&self) -> impl Iterator<Item = ServiceId> {
        self.application_of.keys().copied()
    }

    /// What neighbours say of a service's instances.
    pub(crate) fn instances_of(&self, id: ServiceId) -> impl Iterator<Item = &NeighbourInstance> {
        self.instances.get(&id).into_iter().flat_map(BTreeMap::values).flat_map(|told| told.iter())
    }

    /// What neighbours say of an instance.
    fn said_of(&self, id: InstanceId) -> impl Iterator<Item = &NeighbourInstance> {
        let told = self.instances.get(&id.service).into_iter().flat_map(BTreeMap::values);
        told.filter_map(move |told| find(Some(told), id.number))
    }

    /// The way to a device of a neighbour. One that two clusters say they have is nobody's: one of them is wrong.
    pub(crate) fn peer(&self, id: WorkerId) -> Option<&Arc<Peer>> {
        let claims = self.peers.get(&id).filter(|claims| claims.len() == 1)?;
        claims.values().next()
    }

    /// Something about an instance here is different.
    pub(crate) fn service_changed(&mut self, id: ServiceId) {
        self.changed.insert(id);
    }

    /// A device here is reached otherwise, or answers for other addresses.
    pub(crate) fn device_moved(&mut self, id: WorkerId) {
        self.moved.insert(id);
    }

    fn shares(&self, cluster: ClusterId, service: ServiceId) -> bool {
        let shared = self.application_of.get(&service).and_then(|application| self.shared.get(application));
        shared.is_some_and(|shared| shared.clusters.contains(&cluster))
    }

    /// What a cluster last said of the instances of a service.
    fn said(&self, cluster: ClusterId, service: ServiceId) -> Option<&Elsewhere> {
        self.instances.get(&service)?.get(&cluster)
    }
}

impl State {
    /// To be called once before anybody connects: where devices of other clusters reach the relay of this one.
    pub fn relay_at(&mut self, relay: Option<SocketAddr>) {
        self.neighbourhood.relay = relay;
    }

    /// The root named neighbours over the connection `session`; that is greater than those before.
    #[must_use]
    pub fn neighbours_named(&mut self, session: u64, named: Neighbours) -> Vec<Change> {
        let known = &mut self.neighbourhood;
        if session < known.session || (session > known.session && !named.whole) {
            return Vec::new();
        }
        known.session = session;
        let mut applications = named.applications;
        if named.whole {
            known.told.clear();
            known.heard.clear();
            known.blocks.clear();
            let unnamed: Vec<ApplicationId> =
                known.shared.keys().filter(|id| !applications.contains_key(id)).copied().collect();
            applications.extend(unnamed.into_iter().map(|id| (id, None)));
        }
        for (id, neighbour) in named.clusters {
            known.blocks.insert(id, neighbour.blocks);
            match neighbour.epoch {
                Some(epoch) if known.told.get(&id).is_none_or(|told| told.epoch != epoch) => {
                    known.meet(id, epoch);
                    known.due.insert(id);
                }
                Some(_) => {}
                None => known.part(id),
            }
        }
        let now: BTreeMap<ApplicationId, Option<SharedApplication>> = applications
            .into_iter()
            .map(|(id, news)| {
                let before = self.neighbourhood.shared.get(&id).filter(|_| !named.whole);
                (id, news.map(|news| after(before, news)))
            })
            .filter(|(id, now)| self.neighbourhood.shared.get(id) != now.as_ref())
            .collect();
        let mut changes = self.no_longer_said(&now);
        changes.extend(now.into_iter().map(|(id, now)| Change::Shared(id, now)));
        changes
    }

    /// Drops what neighbours said of what they share no more.
    fn no_longer_said(&self, now: &BTreeMap<ApplicationId, Option<SharedApplication>>) -> Vec<Change> {
        let known = &self.neighbourhood;
        let mut changes = Vec::new();
        let mut left = BTreeSet::new();
        for (id, now) in now {
            let Some(before) = known.shared.get(id) else { continue };
            for (cluster, service) in unshared(before, now.as_ref()) {
                if known.said(cluster, service).is_some() {
                    changes.push(Change::Elsewhere(cluster, service, None));
                }
                left.insert(cluster);
            }
        }
        let shares = |cluster: &ClusterId, id: &ApplicationId| match now.get(id) {
            Some(now) => now.as_ref().is_some_and(|now| now.clusters.contains(cluster)),
            None => known.shared_with.get(cluster).is_some_and(|shared| shared.contains(id)),
        };
        for cluster in left {
            let before = known.shared_with.get(&cluster).into_iter().flatten();
            if !before.chain(now.keys()).any(|id| shares(&cluster, id)) {
                let peers = known.said.get(&cluster).into_iter().flat_map(|(_, peers)| peers);
                changes.extend(peers.map(|id| Change::PeerElsewhere(cluster, *id, None)));
            }
        }
        changes
    }

    /// A neighbour said what it has of what is shared. What it may not say is left out, and named.
    #[must_use]
    pub fn neighbour_said(&self, from: ClusterId, said: NeighbourNews) -> (Vec<Unacceptable>, Vec<Change>) {
        let known = &self.neighbourhood;
        let NeighbourNews { whole, mut services, mut peers } = said;
        if whole && let Some((unsaid, unneeded)) = known.said.get(&from) {
            for id in unsaid {
                services.entry(*id).or_default();
            }
            for id in unneeded {
                peers.entry(*id).or_default();
            }
        }
        let (mut unacceptable, mut changes) = (Vec::new(), Vec::new());
        // Devices first, an instance leads nowhere without; and those that are no more last, when none leads there.
        let mut gone = Vec::new();
        for (id, peer) in peers {
            let peer = peer.and_then(|peer| match self.check(from, id, &peer) {
                Ok(()) => Some(peer),
                Err(why) => {
                    unacceptable.push(why);
                    None
                }
            });
            if known.peers.get(&id).and_then(|said| said.get(&from)) != peer.as_ref() {
                let list = if peer.is_some() { &mut changes } else { &mut gone };
                list.push(Change::PeerElsewhere(from, id, peer));
            }
        }
        for (id, instances) in services {
            if !known.shares(from, id) {
                unacceptable.push(Unacceptable::Service(id));
            } else if known.said(from, id) != instances.as_ref() {
                changes.push(Change::Elsewhere(from, id, instances));
            }
        }
        changes.append(&mut gone);
        (unacceptable, changes)
    }

    /// A device of a neighbour answers for addresses lent to that neighbour, and is reached by encrypted links only.
    fn check(&self, from: ClusterId, worker: WorkerId, peer: &Peer) -> Result<(), Unacceptable> {
        let NetworkLease { v4, v6 } = &peer.lease;
        let within = |blocks: &NetworkLease| {
            v4.iter().all(|range| blocks.v4.iter().any(|block| block.contains(range)))
                && v6.iter().all(|range| blocks.v6.iter().any(|block| block.contains(range)))
        };
        if !self.neighbourhood.blocks.get(&from).is_some_and(within) {
            return Err(Unacceptable::Ranges(worker));
        }
        match peer.way {
            Way::Secure { .. } => Ok(()),
            Way::Direct { .. } => Err(Unacceptable::Way(worker)),
        }
    }

    pub(crate) fn apply_shared(&mut self, id: ApplicationId, now: Option<SharedApplication>) {
        let before = self.neighbourhood.shared.remove(&id).unwrap_or_default();
        let after = now.unwrap_or_default();
        // Each neighbour that shared it drops what it does not share any more at the same word of the root.
        self.drop_told(&before, &after);
        let known = &mut self.neighbourhood;
        for cluster in before.clusters.difference(&after.clusters) {
            let Some(shared) = known.shared_with.get_mut(cluster) else { continue };
            shared.remove(&id);
            known.due.insert(*cluster);
            if shared.is_empty() {
                known.shared_with.remove(cluster);
                // Likewise, unless the same word of the root lets it share another.
                if let Some(told) = known.told.get_mut(cluster) {
                    told.drop_peers();
                }
            }
        }
        for cluster in &after.clusters {
            known.shared_with.entry(*cluster).or_default().insert(id);
        }
        for service in before.services.keys() {
            known.application_of.remove(service);
        }
        known.application_of.extend(after.services.keys().map(|service| (*service, id)));
        let services = Arc::clone(&after.services);
        let (regrouped, all) = (&before.clusters ^ &after.clusters, after.clusters.clone());
        if !services.is_empty() {
            known.shared.insert(id, after);
        }
        for service in before.services.keys().filter(|service| !services.contains_key(service)) {
            self.share(*service, None);
        }
        for (service, shared) in &*services {
            self.share(*service, Some(shared));
            let is_known = before.services.contains_key(service);
            self.tell_beside(*service, if is_known { &regrouped } else { &all });
        }
    }

    pub(crate) fn apply_elsewhere(&mut self, from: ClusterId, id: ServiceId, instances: Option<Elsewhere>) {
        let before = self.neighbourhood.said(from, id).cloned();
        for number in different(before.as_ref(), instances.as_ref()) {
            self.networks.instance_changed(InstanceId { service: id, number });
        }
        let known = &mut self.neighbourhood;
        list(&mut known.said.entry(from).or_default().0, id, instances.is_some());
        set(&mut known.instances, id, from, instances);
    }

    pub(crate) fn apply_peer_elsewhere(&mut self, from: ClusterId, id: WorkerId, peer: Option<Arc<Peer>>) {
        let known = &mut self.neighbourhood;
        list(&mut known.said.entry(from).or_default().1, id, peer.is_some());
        set(&mut known.peers, id, from, peer);
        self.networks.device_moved(id);
    }

    /// Of a service's instances those that run here or are about to, in order of their numbers.
    pub(crate) fn instances_here(&self, service: ServiceId) -> Vec<NeighbourInstance> {
        let instances = self.instances.range(InstanceId::all_of(service));
        instances.filter_map(|(_, instance)| self.seen_here(instance)).collect()
    }

    /// An instance as others see it, if it runs here or is about to.
    fn seen_here(&self, instance: &Instance) -> Option<NeighbourInstance> {
        let Appearance { holder, address, is_there, ready, generation } = Self::appearance(Some(instance))?;
        let worker = holder.filter(|worker| is_there && self.contacts.lost_since(*worker).is_none())?;
        let weight = self.weights.of(worker, instance.id);
        let ready = ready && !self.is_quiet(instance.id);
        let instance =
            CallableInstance { number: instance.id.number, address: address?, worker, ready, weight };
        Some(NeighbourInstance { instance, generation })
    }

    /// Of a service's instances all that run or are about to, in order of their numbers.
    pub(crate) fn instances_anywhere(&self, service: ServiceId) -> Vec<CallableInstance> {
        let mut best: BTreeMap<u32, NeighbourInstance> = BTreeMap::new();
        let here = self.instances_here(service);
        for said in here.iter().chain(self.neighbourhood.instances_of(service)) {
            let known = best.entry(said.instance.number).or_insert(*said);
            *known = better(*known, *said);
        }
        best.into_values().map(|said| said.instance).collect()
    }

    /// As [`State::instances_anywhere`], one of them.
    pub(crate) fn instance_anywhere(&self, id: InstanceId) -> Option<CallableInstance> {
        let here = self.instances.get(&id).and_then(|instance| self.seen_here(instance));
        let all = here.into_iter().chain(self.neighbourhood.said_of(id).copied());
        all.reduce(better).map(|said| said.instance)
    }
}

/// Of an instance that two clusters have, the copy that can be called counts, and of two such the newer.
fn better(known: NeighbourInstance, said: NeighbourInstance) -> NeighbourInstance {
    let rank = |it: &NeighbourInstance| (it.instance.ready, it.generation);
    if rank(&said) > rank(&known) { said } else { known }
}

/// An instance of a service by its number, as a cluster told of it.
fn find(told: Option<&Elsewhere>, number: u32) -> Option<&NeighbourInstance> {
    let told = told?;
    let place = told.binary_search_by_key(&number, |it| it.instance.number).ok()?;
    told.get(place)
}

/// The numbers of instances that are told of otherwise than before.
fn different(before: Option<&Elsewhere>, now: Option<&Elsewhere>) -> BTreeSet<u32> {
    let all = [before, now].into_iter().flatten().flat_map(|told| told.iter());
    let numbers = all.map(|it| it.instance.number);
    numbers.filter(|number| find(before, *number) != find(now, *number)).collect()
}

/// A shared application after news of it.
fn after(before: Option<&SharedApplication>, news: SharedNews) -> SharedApplication {
    let mut clusters = before.map(|before| before.clusters.clone()).unwrap_or_default();
    clusters.retain(|cluster| !news.left.contains(cluster));
    clusters.extend(news.joined);
    SharedApplication { services: news.services, clusters }
}

/// The clusters and services that shared an application and do not any more.
fn unshared<'a>(
    before: &'a SharedApplication,
    now: Option<&'a SharedApplication>,
) -> impl Iterator<Item = (ClusterId, ServiceId)> + 'a {
    let pairs =
        before.clusters.iter().flat_map(|cluster| before.services.keys().map(|service| (*cluster, *service)));
    pairs.filter(move |(cluster, service)| {
        !now.is_some_and(|now| now.clusters.contains(cluster) && now.services.contains_key(service))
    })
}

/// What one cluster says of something that others may speak of too.
fn set<K: Ord, V>(map: &mut BTreeMap<K, BTreeMap<ClusterId, V>>, key: K, from: ClusterId, value: Option<V>) {
    match value {
        Some(value) => drop(map.entry(key).or_default().insert(from, value)),
        None => {
            if let Some(said) = map.get_mut(&key) {
                said.remove(&from);
                if said.is_empty() {
                    map.remove(&key);
                }
            }
        }
    }
}

/// Whether something is in a set from now on.
fn list<V: Ord>(set: &mut BTreeSet<V>, value: V, is_in: bool) {
    if is_in {
        set.insert(value);
    } else {
        set.remove(&value);
    }
}
