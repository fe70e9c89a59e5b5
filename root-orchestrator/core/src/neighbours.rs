//! Which clusters have copies of the same applications, so that instances can call each other across them. Who shares
//! what follows from the documents; of what clusters tell each other the root checks whether they may, passes it on and
//! keeps nothing. The other half is `cluster-orchestrator/core/src/neighbours.rs`.
//!
//! Nothing is lost, as every connection is begun with everything: a cluster that connects is told whole who its
//! neighbours are, and each neighbour is told its new connection, for which it says everything anew. What is said to
//! a connection that has ended is dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{
    ApplicationId, ClusterId, InstanceId, Neighbour, NeighbourInstance, NeighbourNews, Neighbours, ServiceId,
    SharedApplication, SharedNews, SharedService,
};

use crate::{Effect, Service, State, reconcile::Plan};

/// See the module's description. In memory only: it follows from documents and connections.
#[derive(Debug, Default)]
pub(crate) struct Neighbourhood {
    /// Applications with copies in several clusters, as they were told.
    shared: BTreeMap<ApplicationId, SharedApplication>,
    /// Applications whose services or clusters may be others.
    changed: BTreeSet<ApplicationId>,
    /// Clusters whose connection or blocks are others: their neighbours are told.
    moved: BTreeSet<ClusterId>,
    /// Clusters that connected: they are told everything.
    connected: BTreeSet<ClusterId>,
    /// What clusters said, to be passed on.
    said: Vec<Said>,
}

/// Something a cluster said to a connection of another.
#[derive(Debug)]
struct Said {
    from: ClusterId,
    to: ClusterId,
    epoch: u64,
    news: NeighbourNews,
}

impl State {
    /// A cluster told another, over its connection `session`, what it has of what they share. Passed on to the
    /// connection `epoch` of the other, if that still is.
    pub fn neighbour_told(
        &mut self,
        from: ClusterId,
        session: u64,
        to: ClusterId,
        epoch: u64,
        news: NeighbourNews,
    ) {
        if self.sessions.get(&from).is_some_and(|current| current.number == session) {
            self.neighbourhood.said.push(Said { from, to, epoch, news });
        }
    }

    /// A cluster connected: it is told everything, and its neighbours that it is there.
    pub(crate) fn meet_neighbours(&mut self, id: ClusterId) {
        self.neighbourhood.connected.insert(id);
        self.neighbourhood.moved.insert(id);
    }

    /// The connection of a cluster or its blocks are others.
    pub(crate) fn neighbour_moved(&mut self, id: ClusterId) {
        self.neighbourhood.moved.insert(id);
    }

    /// A service is to be this.
    pub(crate) fn share_service(&mut self, id: ServiceId, service: Option<&Service>) {
        let before = self.services.get(&id);
        let addresses = |service: Option<&Service>| service.map(|service| Arc::clone(&service.addresses));
        if addresses(before) != addresses(service) {
            let either = before.or(service).map(|service| service.application);
            self.neighbourhood.changed.extend(either);
        }
    }

    /// A cluster has the first copy of a service, or the last of them has gone.
    pub(crate) fn spread_changed(&mut self, service: ServiceId) {
        let application = self.services.get(&service).map(|service| service.application);
        self.neighbourhood.changed.extend(application);
    }

    /// Tells clusters what is new about their neighbours, and then passes on what they said.
    pub(crate) fn tell_neighbours(&mut self, plan: &mut Plan) {
        let mut news: BTreeMap<ClusterId, Neighbours> = BTreeMap::new();
        for id in std::mem::take(&mut self.neighbourhood.changed) {
            self.share(id, &mut news);
        }
        for id in std::mem::take(&mut self.neighbourhood.moved) {
            for other in self.neighbours_of(id) {
                if self.is_connected(other) {
                    news.entry(other).or_default().clusters.insert(id, self.neighbour(id));
                }
            }
        }
        for id in std::mem::take(&mut self.neighbourhood.connected) {
            news.insert(id, self.all_neighbours(id));
        }
        for (cluster, neighbours) in news {
            let Some(session) = self.sessions.get(&cluster).map(|session| session.number) else { continue };
            plan.effects.push(Effect::TellNeighbours { cluster, session, neighbours });
        }
        for said in std::mem::take(&mut self.neighbourhood.said) {
            plan.effects.extend(self.pass_on(said));
        }
    }

    /// Finds out anew who shares an application, and what is to be told of that.
    fn share(&mut self, id: ApplicationId, news: &mut BTreeMap<ClusterId, Neighbours>) {
        let before = self.neighbourhood.shared.remove(&id).unwrap_or_default();
        let now = self.shared(id);
        if now == before {
            if !now.clusters.is_empty() {
                self.neighbourhood.shared.insert(id, now);
            }
            return;
        }
        let joined: BTreeSet<ClusterId> = now.clusters.difference(&before.clusters).copied().collect();
        let left: BTreeSet<ClusterId> = before.clusters.difference(&now.clusters).copied().collect();
        for cluster in before.clusters.union(&now.clusters).filter(|cluster| self.is_connected(**cluster)) {
            let told = news.entry(*cluster).or_default();
            if !now.clusters.contains(cluster) {
                told.applications.insert(id, None);
                continue;
            }
            // Whoever is new to it is told of all who share it; the others of those that are.
            let whom = if joined.contains(cluster) { &now.clusters } else { &joined };
            let others: BTreeSet<ClusterId> =
                whom.iter().filter(|other| *other != cluster).copied().collect();
            told.clusters.extend(others.iter().map(|other| (*other, self.neighbour(*other))));
            let services = Arc::clone(&now.services);
            told.applications.insert(id, Some(SharedNews { services, joined: others, left: left.clone() }));
        }
        if !now.clusters.is_empty() {
            self.neighbourhood.shared.insert(id, now);
        }
    }

    /// An application and the clusters with copies of it; empty unless there are several.
    fn shared(&self, id: ApplicationId) -> SharedApplication {
        let parts = || self.parts.get(&id).into_iter().flatten();
        let clusters: BTreeSet<ClusterId> = parts()
            .filter_map(|service| self.spread.get(service))
            .flat_map(BTreeMap::keys)
            .copied()
            .collect();
        if clusters.len() < 2 {
            return SharedApplication::default();
        }
        let service = |id: &ServiceId| {
            let service = self.services.get(id)?;
            let (names, addresses) = (Arc::clone(&service.names), Arc::clone(&service.addresses));
            Some((*id, SharedService { names, addresses }))
        };
        let services: BTreeMap<ServiceId, SharedService> = parts().filter_map(service).collect();
        SharedApplication { services: services.into(), clusters }
    }

    /// The shared applications a cluster has copies of.
    fn shared_by(&self, cluster: ClusterId) -> impl Iterator<Item = (ApplicationId, &SharedApplication)> {
        let copies = self.held.get(&cluster).into_iter().flat_map(BTreeMap::keys);
        let services: BTreeSet<ServiceId> = copies.map(|id| id.service).collect();
        let applications: BTreeSet<ApplicationId> = services
            .iter()
            .filter_map(|id| self.services.get(id))
            .map(|service| service.application)
            .collect();
        applications.into_iter().filter_map(|id| Some((id, self.neighbourhood.shared.get(&id)?)))
    }

    fn neighbours_of(&self, cluster: ClusterId) -> BTreeSet<ClusterId> {
        let mut others = BTreeSet::new();
        for (_, application) in self.shared_by(cluster) {
            others.extend(&application.clusters);
            // Many large applications are shared by all.
            if others.len() == self.clusters.len() {
                break;
            }
        }
        others.remove(&cluster);
        others
    }

    fn neighbour(&self, id: ClusterId) -> Neighbour {
        let epoch = self.sessions.get(&id).map(|session| session.number);
        Neighbour { epoch, blocks: self.blocks.blocks_of(&id) }
    }

    fn all_neighbours(&self, cluster: ClusterId) -> Neighbours {
        let shared = |(id, application): (ApplicationId, &SharedApplication)| {
            let others = application.clusters.iter().filter(|other| **other != cluster);
            let services = Arc::clone(&application.services);
            let joined = others.copied().collect();
            (id, Some(SharedNews { services, joined, left: BTreeSet::new() }))
        };
        let others = self.neighbours_of(cluster).into_iter();
        Neighbours {
            whole: true,
            applications: self.shared_by(cluster).map(shared).collect(),
            clusters: others.map(|other| (other, self.neighbour(other))).collect(),
        }
    }

    /// What may be told of it: instances the cluster was given, of services of applications that both have. What is
    /// left out was decided otherwise meanwhile; the one who said it is told so and says it anew.
    fn pass_on(&self, said: Said) -> Option<Effect> {
        let Said { from, to, epoch, mut news } = said;
        self.sessions.get(&to).filter(|session| session.number == epoch)?;
        if !self.neighbours_of(from).contains(&to) {
            return None;
        }
        news.services.retain(|service, _| self.is_shared_by(*service, from, to));
        for (service, instances) in &mut news.services {
            if let Some(instances) = instances {
                Arc::make_mut(instances).retain(|said| self.was_given(from, *service, said));
            }
        }
        Some(Effect::PassOn { cluster: to, session: epoch, from, news })
    }

    fn is_shared_by(&self, service: ServiceId, one: ClusterId, other: ClusterId) -> bool {
        let application = self.services.get(&service).map(|service| service.application);
        let shared = application.and_then(|application| self.neighbourhood.shared.get(&application));
        shared.is_some_and(|shared| shared.clusters.contains(&one) && shared.clusters.contains(&other))
    }

    fn was_given(&self, cluster: ClusterId, service: ServiceId, said: &NeighbourInstance) -> bool {
        let id = InstanceId { service, number: said.instance.number };
        let copy = self.held.get(&cluster).and_then(|held| held.get(&id)).map(|copy| copy.assigned);
        copy.is_some_and(|copy| {
            copy.generation == said.generation && copy.address == Some(said.instance.address)
        })
    }
}
