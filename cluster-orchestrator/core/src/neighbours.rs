//! Other clusters with instances of the same applications: what they say of theirs, which counts as if it were here, and
//! what they are told of those here. Who they are the root says, and it passes on what is said; the root's half is
//! `root-orchestrator/core/src/neighbours.rs`.
//!
//! What neighbours said is durable, so that a cluster that starts while the root is away loses no calls, and counts for
//! as long as the root names them, connected or not. Every connection to the root begins with everything, in both
//! directions: nothing is asked for again, and nothing that was lost is missed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use model::{
    ApplicationId, CallableInstance, ClusterId, InstanceId, NeighbourInstance, NeighbourNews, Neighbours,
    NetworkLease, Peer, ServiceId, SharedApplication, SharedNews, SharedService, Way, WorkerId,
};

use crate::{Change, Effect, State, network::Appearance, reconcile::Plan};

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

/// A neighbour that is connected to the root, and what it was told.
#[derive(Debug, Default)]
struct Told {
    /// Its connection.
    epoch: u64,
    /// It was told everything.
    whole: bool,
    services: BTreeMap<ServiceId, Elsewhere>,
    peers: BTreeMap<WorkerId, Peer>,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Neighbourhood {
    /// Applications that neighbours share. Durable.
    shared: BTreeMap<ApplicationId, SharedApplication>,
    /// What they said of their instances, and of the devices those run on. Durable.
    instances: BTreeMap<ServiceId, BTreeMap<ClusterId, Elsewhere>>,
    peers: BTreeMap<WorkerId, BTreeMap<ClusterId, Peer>>,
    /// The application of each shared service, and the shared applications of each neighbour.
    application_of: BTreeMap<ServiceId, ApplicationId>,
    shared_with: BTreeMap<ClusterId, BTreeSet<ApplicationId>>,
    /// Where devices of other clusters reach the relay of this one, if they do.
    relay: Option<SocketAddr>,
    /// The connection to the root that counts; greater than those before.
    session: u64,
    blocks: BTreeMap<ClusterId, NetworkLease>,
    told: BTreeMap<ClusterId, Told>,
    /// Neighbours that are to be told what is new to them.
    due: BTreeSet<ClusterId>,
}

impl Neighbourhood {
    /// What the root says of a shared service.
    pub(crate) fn service(&self, id: ServiceId) -> Option<&SharedService> {
        self.shared.get(self.application_of.get(&id)?)?.services.get(&id)
    }

    /// What neighbours say of a service's instances.
    pub(crate) fn instances_of(&self, id: ServiceId) -> impl Iterator<Item = &NeighbourInstance> {
        self.instances.get(&id).into_iter().flat_map(BTreeMap::values).flat_map(|told| told.iter())
    }

    /// The way to a device of a neighbour. One that two clusters say they have is nobody's: one of them is wrong.
    pub(crate) fn peer(&self, id: WorkerId) -> Option<&Peer> {
        let claims = self.peers.get(&id).filter(|claims| claims.len() == 1)?;
        claims.values().next()
    }

    /// Something about an instance here is different.
    pub(crate) fn service_changed(&mut self, id: ServiceId) {
        let shared = self.application_of.get(&id).and_then(|application| self.shared.get(application));
        self.due.extend(shared.into_iter().flat_map(|shared| &shared.clusters));
    }

    /// Something about all devices here is different.
    pub(crate) fn tell_all(&mut self) {
        self.due.extend(self.told.keys());
    }

    fn shares(&self, cluster: ClusterId, service: ServiceId) -> bool {
        let shared = self.application_of.get(&service).and_then(|application| self.shared.get(application));
        shared.is_some_and(|shared| shared.clusters.contains(&cluster))
    }

    /// What a cluster last said of the instances of a service.
    fn said(&self, cluster: ClusterId, service: ServiceId) -> Option<&Elsewhere> {
        self.instances.get(&service)?.get(&cluster)
    }

    /// The services and devices a cluster told of.
    fn all_said(&self, cluster: ClusterId) -> (BTreeSet<ServiceId>, BTreeSet<WorkerId>) {
        let services = self.instances.iter().filter(|(_, said)| said.contains_key(&cluster));
        let peers = self.peers.iter().filter(|(_, said)| said.contains_key(&cluster));
        (services.map(|(id, _)| *id).collect(), peers.map(|(id, _)| *id).collect())
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
            known.blocks.clear();
            let unnamed: Vec<ApplicationId> =
                known.shared.keys().filter(|id| !applications.contains_key(id)).copied().collect();
            applications.extend(unnamed.into_iter().map(|id| (id, None)));
        }
        for (id, neighbour) in named.clusters {
            known.blocks.insert(id, neighbour.blocks);
            match neighbour.epoch {
                Some(epoch) if known.told.get(&id).is_none_or(|told| told.epoch != epoch) => {
                    known.told.insert(id, Told { epoch, ..Told::default() });
                    known.due.insert(id);
                }
                Some(_) => {}
                None => drop(known.told.remove(&id)),
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
                let (_, peers) = known.all_said(cluster);
                changes.extend(peers.into_iter().map(|id| Change::PeerElsewhere(cluster, id, None)));
            }
        }
        changes
    }

    /// A neighbour said what it has of what is shared. What it may not say is left out, and named.
    #[must_use]
    pub fn neighbour_said(&self, from: ClusterId, said: NeighbourNews) -> (Vec<Unacceptable>, Vec<Change>) {
        let known = &self.neighbourhood;
        let NeighbourNews { whole, mut services, mut peers } = said;
        if whole {
            let (unsaid, unneeded) = known.all_said(from);
            for id in unsaid {
                services.entry(id).or_default();
            }
            for id in unneeded {
                peers.entry(id).or_default();
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
        let known = &mut self.neighbourhood;
        let before = known.shared.remove(&id).unwrap_or_default();
        for (cluster, service) in unshared(&before, now.as_ref()) {
            // The neighbour drops it at the same word of the root.
            if let Some(told) = known.told.get_mut(&cluster) {
                told.services.remove(&service);
            }
        }
        for service in before.services.keys() {
            known.application_of.remove(service);
            self.networks.service_changed(*service);
        }
        let mut left = before.clusters;
        if let Some(now) = now {
            for cluster in &now.clusters {
                left.remove(cluster);
                known.shared_with.entry(*cluster).or_default().insert(id);
                known.due.insert(*cluster);
            }
            for (service, shared) in &*now.services {
                known.application_of.insert(*service, id);
                self.networks.include(*service, &shared.names);
            }
            known.shared.insert(id, now);
        }
        for cluster in left {
            let Some(shared) = known.shared_with.get_mut(&cluster) else { continue };
            shared.remove(&id);
            known.due.insert(cluster);
            if shared.is_empty() {
                known.shared_with.remove(&cluster);
                // Likewise, unless the same word of the root lets it share another.
                if let Some(told) = known.told.get_mut(&cluster) {
                    told.peers.clear();
                }
            }
        }
    }

    pub(crate) fn apply_elsewhere(&mut self, from: ClusterId, id: ServiceId, instances: Option<Elsewhere>) {
        set(&mut self.neighbourhood.instances, id, from, instances);
        self.networks.service_changed(id);
    }

    pub(crate) fn apply_peer_elsewhere(&mut self, from: ClusterId, id: WorkerId, peer: Option<Peer>) {
        set(&mut self.neighbourhood.peers, id, from, peer);
        let on_it = |said: &BTreeMap<ClusterId, Elsewhere>| {
            said.values().flat_map(|told| told.iter()).any(|it| it.instance.worker == id)
        };
        for (service, _) in self.neighbourhood.instances.iter().filter(|(_, said)| on_it(said)) {
            self.networks.way_changed(*service);
        }
    }

    /// Of a service's instances those that run here or are about to, in order of their numbers.
    pub(crate) fn instances_here(&self, service: ServiceId) -> Vec<NeighbourInstance> {
        let instances = self.instances.range(InstanceId::all_of(service)).filter_map(|(id, instance)| {
            let Appearance { holder, address, is_there, ready, generation } =
                Self::appearance(Some(instance))?;
            let worker = holder.filter(|worker| is_there && self.contacts.lost_since(*worker).is_none())?;
            let instance = CallableInstance { number: id.number, address: address?, worker, ready };
            Some(NeighbourInstance { instance, generation })
        });
        instances.collect()
    }

    /// Of a service's instances all that run or are about to, in order of their numbers. Of one that several clusters have, the copy
    /// counts that can be called, and of two such the newer.
    pub(crate) fn instances_anywhere(&self, service: ServiceId) -> Vec<CallableInstance> {
        let mut best: BTreeMap<u32, NeighbourInstance> = BTreeMap::new();
        let here = self.instances_here(service);
        for said in here.iter().chain(self.neighbourhood.instances_of(service)) {
            let known = best.entry(said.instance.number).or_insert(*said);
            if (said.instance.ready, said.generation) > (known.instance.ready, known.generation) {
                *known = *said;
            }
        }
        best.into_values().map(|said| said.instance).collect()
    }

    /// Tells neighbours what is new to them.
    pub(crate) fn tell_neighbours(&mut self, plan: &mut Plan) {
        // The same for all of them.
        let mut here: BTreeMap<ServiceId, Elsewhere> = BTreeMap::new();
        for to in std::mem::take(&mut self.neighbourhood.due) {
            let known = &mut self.neighbourhood;
            if !known.shared_with.contains_key(&to) {
                known.told.remove(&to);
                known.blocks.remove(&to);
            }
            if !known.told.contains_key(&to) {
                continue;
            }
            let known = &self.neighbourhood;
            let applications = known.shared_with.get(&to).into_iter().flatten();
            let shared = applications.filter_map(|id| known.shared.get(id));
            let mut services = BTreeMap::new();
            for id in shared.flat_map(|shared| shared.services.keys()) {
                let instances = here.entry(*id).or_insert_with(|| Arc::new(self.instances_here(*id)));
                if !instances.is_empty() {
                    services.insert(*id, Arc::clone(instances));
                }
            }
            let instances = services.values().flat_map(|instances| instances.iter());
            let devices: BTreeSet<WorkerId> = instances.map(|it| it.instance.worker).collect();
            let peer = |id: WorkerId| {
                let way = Self::secure_way(self.workers.get(&id)?.reach?, known.relay)?;
                Some((id, Peer { way, lease: self.lease_of(id)? }))
            };
            let peers: BTreeMap<WorkerId, Peer> = devices.into_iter().filter_map(peer).collect();
            let session = known.session;
            let Some(told) = self.neighbourhood.told.get_mut(&to) else { continue };
            let news = NeighbourNews {
                whole: !std::mem::replace(&mut told.whole, true),
                services: difference(&told.services, &services),
                peers: difference(&told.peers, &peers),
            };
            (told.services, told.peers) = (services, peers);
            if !news.is_empty() {
                plan.effects.push(Effect::TellNeighbour { session, to, epoch: told.epoch, news });
            }
        }
    }
}

/// What is different from what was told before.
pub(crate) fn difference<K: Ord + Copy, V: Clone + PartialEq>(
    before: &BTreeMap<K, V>,
    now: &BTreeMap<K, V>,
) -> BTreeMap<K, Option<V>> {
    let new = now.iter().filter(|(id, it)| before.get(id) != Some(it));
    let gone = before.keys().filter(|id| !now.contains_key(id));
    new.map(|(id, it)| (*id, Some(it.clone()))).chain(gone.map(|id| (*id, None))).collect()
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
