//! Which clusters have copies of applications that have to do with each other, so that instances can call each other
//! across them. Two applications have to do with each other when they are one, or a service of one lets the other connect.
//! Who shares what follows from the documents; of what clusters tell each other the root checks whether they may, passes
//! it on and keeps nothing. The other half is `cluster-orchestrator/core/src/neighbours.rs`.
//!
//! Nothing is lost, as every connection is begun with everything: a cluster that connects is told whole who its
//! neighbours are, and each neighbour is told its new connection, for which it says everything anew. What is said to
//! a connection that has ended is dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{
    Allowances, ApplicationId, ApplicationName, ClusterId, InstanceId, Neighbour, NeighbourInstance,
    NeighbourNews, Neighbours, ServiceId, SharedApplication, SharedNews, SharedService,
};

use crate::{Effect, Service, State, reconcile::Plan, state::forget};

/// An application as clusters were told of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shared {
    /// Its services, and the clusters with copies.
    application: SharedApplication,
    /// The clusters that are told: those with copies of anything it has to do with. At least two.
    audience: BTreeSet<ClusterId>,
}

/// See the module's description. In memory only: it follows from documents and connections.
#[derive(Debug, Default)]
pub(crate) struct Neighbourhood {
    /// Applications that several clusters are told of.
    shared: BTreeMap<ApplicationId, Shared>,
    /// Which of them each cluster is told of.
    shared_by: BTreeMap<ClusterId, BTreeSet<ApplicationId>>,
    /// Which services have to do with each other.
    allowances: Allowances,
    /// Applications whose services, clusters or audience may be others.
    changed: BTreeSet<ApplicationId>,
    /// Applications of which other clusters may have copies: whatever has to do with them may have another audience. They
    /// are many at a time and often the same one, so that is found out once.
    spread: BTreeSet<ApplicationId>,
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
        let told = |service: &Service| (Arc::clone(&service.addresses), Arc::clone(&service.allowed_callers));
        if before.map(told) == service.map(told) {
            return;
        }
        let known = &mut self.neighbourhood;
        known.changed.extend(before.or(service).map(|service| service.application));
        let concerned = match service {
            Some(service) => {
                known.allowances.include(id, &service.names);
                known.allowances.allow(id, &service.allowed_callers)
            }
            None => {
                let application = before.map(|service| service.application);
                let parts = application.and_then(|application| self.parts.get(&application));
                let concerned = if parts.is_some_and(|others| !others.is_empty()) {
                    // What the others of its application have to do with is found out with them.
                    known.spread.extend(application);
                    known.allowances.callers_of(id)
                } else {
                    known.allowances.beside(id)
                };
                known.allowances.forget(id);
                concerned
            }
        };
        let concerned = concerned.iter().filter_map(|other| self.services.get(other));
        known.changed.extend(concerned.map(|service| service.application));
    }

    /// A cluster has the first copy of a service, or the last of them has gone.
    pub(crate) fn spread_changed(&mut self, service: ServiceId) {
        if let Some(service) = self.services.get(&service) {
            self.neighbourhood.spread.insert(service.application);
        }
    }

    /// The applications whose instances may connect to those of one or the other way round, itself among them.
    fn having_to_do_with(&self, id: ApplicationId) -> BTreeSet<ApplicationId> {
        let parts = self.parts.get(&id).into_iter().flatten();
        if let Some(attempt) = self.attempt_of(id) {
            let open = self.neighbourhood.allowances.open_to(&ApplicationName::from(&*attempt.names));
            let others = open.filter_map(|service| self.services.get(&service));
            return others.map(|service| service.application).chain([id]).collect();
        }
        let beside = self.neighbourhood.allowances.beside_any(parts.copied());
        let services = beside.iter().filter_map(|service| self.services.get(service));
        services.map(|service| service.application).chain([id]).collect()
    }

    /// One of the services of an application that has attempts of tasks, if it does: then it has nothing else, and very many
    /// of them. Nobody calls an attempt, as it has no address that others know; but it may call whoever lets everybody.
    fn attempt_of(&self, id: ApplicationId) -> Option<&Service> {
        let one = self.parts.get(&id)?.first()?;
        self.services.get(one).filter(|service| service.attempt.is_some())
    }

    /// Tells clusters what is new about their neighbours, and then passes on what they said.
    pub(crate) fn tell_neighbours(&mut self, plan: &mut Plan) {
        let mut news: BTreeMap<ClusterId, Neighbours> = BTreeMap::new();
        for id in std::mem::take(&mut self.neighbourhood.spread) {
            let concerned = self.having_to_do_with(id);
            self.neighbourhood.changed.extend(concerned);
        }
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
        if now != before {
            self.tell_of(id, &before, &now, news);
        }
        for cluster in before.audience.difference(&now.audience) {
            forget(&mut self.neighbourhood.shared_by, Some(*cluster), &id);
        }
        for cluster in now.audience.difference(&before.audience) {
            self.neighbourhood.shared_by.entry(*cluster).or_default().insert(id);
        }
        if !now.audience.is_empty() {
            self.neighbourhood.shared.insert(id, now);
        }
    }

    fn tell_of(
        &self,
        id: ApplicationId,
        before: &Shared,
        now: &Shared,
        news: &mut BTreeMap<ClusterId, Neighbours>,
    ) {
        let (were, are) = (&before.application.clusters, &now.application.clusters);
        let joined = are - were;
        let left = were - are;
        let same = before.application == now.application;
        for cluster in before.audience.union(&now.audience).filter(|cluster| self.is_connected(**cluster)) {
            let is_new = !before.audience.contains(cluster);
            if !now.audience.contains(cluster) {
                news.entry(*cluster).or_default().applications.insert(id, None);
                continue;
            }
            if same && !is_new {
                continue;
            }
            // Whoever is new to it is told of all who share it; the others of those that are.
            let whom = if is_new { are } else { &joined };
            let others: BTreeSet<ClusterId> =
                whom.iter().filter(|other| *other != cluster).copied().collect();
            let told = news.entry(*cluster).or_default();
            told.clusters.extend(others.iter().map(|other| (*other, self.neighbour(*other))));
            let services = Arc::clone(&now.application.services);
            told.applications.insert(id, Some(SharedNews { services, joined: others, left: left.clone() }));
        }
    }

    /// An application, the clusters with copies of it and those that are told; empty unless it has copies and several are.
    fn shared(&self, id: ApplicationId) -> Shared {
        let parts = || self.parts.get(&id).into_iter().flatten();
        let with_copies = |id: &ApplicationId| {
            let parts = self.parts.get(id).into_iter().flatten();
            parts.filter_map(|service| self.spread.get(service)).flat_map(BTreeMap::keys).copied()
        };
        let concerned = self.having_to_do_with(id);
        if self.attempt_of(id).is_some() && concerned.len() == 1 {
            return Shared::default();
        }
        let clusters: BTreeSet<ClusterId> = with_copies(&id).collect();
        if clusters.is_empty() {
            return Shared::default();
        }
        let mut audience = clusters.clone();
        for other in concerned {
            // What everybody may call is told to all soon.
            if audience.len() == self.clusters.len() {
                break;
            }
            audience.extend(with_copies(&other));
        }
        if audience.len() < 2 {
            return Shared::default();
        }
        let service = |id: &ServiceId| {
            let service = self.services.get(id)?;
            let shared = SharedService {
                names: Arc::clone(&service.names),
                addresses: Arc::clone(&service.addresses),
                allowed_callers: Arc::clone(&service.allowed_callers),
            };
            Some((*id, shared))
        };
        let services: BTreeMap<ServiceId, SharedService> = parts().filter_map(service).collect();
        Shared { application: SharedApplication { services: services.into(), clusters }, audience }
    }

    /// What a cluster is told of.
    fn shared_by(&self, cluster: ClusterId) -> impl Iterator<Item = (ApplicationId, &SharedApplication)> {
        let told = self.neighbourhood.shared_by.get(&cluster).into_iter().flatten();
        told.filter_map(|id| Some((*id, &self.neighbourhood.shared.get(id)?.application)))
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

    /// What may be told of it: instances the cluster was given, of services of applications the other is told of. What is
    /// left out was decided otherwise meanwhile; the one who said it is told so and says it anew.
    fn pass_on(&self, said: Said) -> Option<Effect> {
        let Said { from, to, epoch, mut news } = said;
        self.sessions.get(&to).filter(|session| session.number == epoch)?;
        news.services.retain(|service, _| self.is_shared_by(*service, from, to));
        // With a service of what they share the others, which are many, need not be looked through.
        if news.services.is_empty()
            && !self.shared_by(to).any(|(_, application)| application.clusters.contains(&from))
        {
            return None;
        }
        for (service, instances) in &mut news.services {
            if let Some(instances) = instances {
                Arc::make_mut(instances).retain(|said| self.was_given(from, *service, said));
            }
        }
        Some(Effect::PassOn { cluster: to, session: epoch, from, news })
    }

    fn is_shared_by(&self, service: ServiceId, from: ClusterId, to: ClusterId) -> bool {
        let application = self.services.get(&service).map(|service| service.application);
        let shared = application.and_then(|application| self.neighbourhood.shared.get(&application));
        shared.is_some_and(|shared| {
            shared.application.clusters.contains(&from) && shared.audience.contains(&to)
        })
    }

    fn was_given(&self, cluster: ClusterId, service: ServiceId, said: &NeighbourInstance) -> bool {
        let id = InstanceId { service, number: said.instance.number };
        let copy = self.held.get(&cluster).and_then(|held| held.get(&id)).map(|copy| copy.assigned);
        copy.is_some_and(|copy| {
            copy.generation == said.generation && copy.address == Some(said.instance.address)
        })
    }
}
