//! What readers ask of the state: the API, links and the other modules of the brain.

use std::{collections::BTreeMap, sync::Arc};

use model::{
    ApplicationId, AssignedService, Assignment, ClusterAggregate, ClusterId, InstanceId, ServiceId,
    Timestamp, Usage,
};

use crate::{Application, Cluster, Instance, Service, State, Token, sight::HeldCopy};

impl State {
    /// An application, unless there is none of that id.
    #[must_use]
    pub fn application(&self, id: ApplicationId) -> Option<&Application> {
        self.applications.get(&id)
    }

    /// All applications, oldest first.
    pub fn applications(&self) -> impl Iterator<Item = &Application> {
        self.applications.values()
    }

    /// A service its user has not deleted.
    #[must_use]
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(&id).filter(|service| !service.deleted)
    }

    /// All services their users have not deleted, oldest first.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values().filter(|service| !service.deleted)
    }

    /// The services of an application.
    pub fn services_of(&self, application: ApplicationId) -> impl Iterator<Item = &Service> {
        let parts = self.parts.get(&application).into_iter().flatten();
        parts.filter_map(|id| self.service(*id))
    }

    /// The instances of a service, by number.
    pub fn instances_of(&self, service: ServiceId) -> impl Iterator<Item = &Instance> {
        self.instances.range(InstanceId::all_of(service)).map(|(_, instance)| instance)
    }

    /// Every instance, in order of their ids.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    /// One instance.
    #[must_use]
    pub fn instance(&self, id: InstanceId) -> Option<&Instance> {
        self.instances.get(&id)
    }

    /// What an instance used when its cluster last reported it.
    #[must_use]
    pub fn usage(&self, id: InstanceId) -> Option<Usage> {
        self.held.get(&self.instances.get(&id)?.cluster()?)?.get(&id)?.usage
    }

    /// A cluster, unless there is none of that id.
    #[must_use]
    pub fn cluster(&self, id: ClusterId) -> Option<&Cluster> {
        self.clusters.get(&id)
    }

    /// All clusters that ever joined.
    pub fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters.values()
    }

    /// Whether a cluster is connected.
    #[must_use]
    pub fn is_connected(&self, id: ClusterId) -> bool {
        self.sessions.contains_key(&id)
    }

    /// What a cluster last reported of its workers, and when; empty before its first report to this process.
    #[must_use]
    pub fn aggregate(&self, id: ClusterId) -> (ClusterAggregate, Option<Timestamp>) {
        self.sights.get(&id).map(|sight| (sight.aggregate.clone(), sight.last_report)).unwrap_or_default()
    }

    /// All join tokens.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.tokens.values()
    }

    /// The whole of what a cluster should have, but for the values of secrets: who sends it seals them.
    #[must_use]
    pub fn assignment(&self, cluster: &Cluster) -> Assignment {
        let copies = || self.held.get(&cluster.id).into_iter().flat_map(BTreeMap::values);
        let instances = copies().map(|copy| copy.assigned).collect();
        let service = |copy: &HeldCopy| {
            Some((copy.assigned.revision_id(), AssignedService::clone(copy.service.as_ref()?)))
        };
        let services = copies().filter_map(service).collect();
        let network = self.blocks.blocks_of(&cluster.id);
        Assignment {
            generation: cluster.generation,
            services,
            instances,
            network: (!network.v4.is_empty()).then_some(network),
            secrets: Arc::default(),
        }
    }
}
