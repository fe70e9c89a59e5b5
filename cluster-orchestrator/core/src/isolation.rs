//! Which services a cluster knows of, held here or shared by others, and whom they let connect: those of each other's
//! devices are told of both. Who may connect is decided in `crates/model/src/isolation.rs`; who is told of it is in
//! `network.rs` for devices and in `neighbours.rs` for other clusters.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{AllowedCallers, AssignedService, RevisionId, ServiceId, ServiceNames, SharedService};

use crate::{Held, State};

impl State {
    /// The services this cluster has copies of are those now. What it holds and held is walked side by side: an assignment
    /// comes with every change of one instance, and most of its services are those of the one before.
    pub(crate) fn apply_held(&mut self, held: Held) {
        let before = std::mem::replace(&mut self.held, held).services;
        let services = Arc::clone(&self.held.services);
        let mut gone = BTreeSet::new();
        let mut before = before.iter().peekable();
        let mut all = services.iter().peekable();
        while let Some((id, service)) = all.next() {
            while let Some((known, _)) = before.next_if(|(known, _)| *known < id) {
                gone.insert(known.service);
            }
            match before.next_if(|(known, _)| *known == id) {
                Some((_, known)) if known.addresses == service.addresses => {}
                Some(_) | None => self.include(id.service, &service.names),
            }
            // Of several revisions the newest counts, which comes last.
            if all.peek().is_none_or(|(next, _)| next.service != id.service) {
                self.admit(id.service, &service.allowed_callers);
            }
        }
        gone.extend(before.map(|(known, _)| known.service));
        for id in gone {
            self.networks.service_changed(id);
            if !self.is_held(id) {
                // It may be elsewhere still, and let others connect there.
                match self.neighbourhood.service(id).map(|shared| Arc::clone(&shared.allowed_callers)) {
                    Some(callers) => self.admit(id, &callers),
                    None => self.leave(id),
                }
            }
        }
    }

    /// A service that others have too is this, or is not shared any more. What is said of it by what is held here counts
    /// more.
    pub(crate) fn share(&mut self, id: ServiceId, shared: Option<&SharedService>) {
        match shared {
            Some(shared) => self.include(id, &shared.names),
            None => self.networks.service_changed(id),
        }
        match shared {
            _ if self.is_held(id) => {}
            Some(shared) => self.admit(id, &shared.allowed_callers),
            None => self.leave(id),
        }
    }

    /// The services with copies here that have to do with one of those.
    pub(crate) fn here_beside(
        &self,
        services: impl IntoIterator<Item = ServiceId> + Clone,
    ) -> BTreeSet<ServiceId> {
        if services.clone().into_iter().any(|id| self.allowances.is_open_to_everybody(id)) {
            // A service that is forgotten may have something here still.
            let is_known = |id: &ServiceId| self.allowances.application_of(*id).is_some();
            return self.spread.keys().copied().filter(is_known).collect();
        }
        let mut beside = self.allowances.beside_any(services.into_iter());
        beside.retain(|id| self.spread.contains_key(id));
        beside
    }

    /// A service that is neither held nor shared any more is forgotten. Devices that still have something of it know
    /// nothing of its application any more; whoever knew of it is told when it is made anew.
    fn leave(&mut self, id: ServiceId) {
        self.admit(id, &Arc::default());
        for worker in self.spread.get(&id).into_iter().flat_map(BTreeMap::keys) {
            self.networks.tell(*worker);
        }
        self.allowances.forget(id);
    }

    fn include(&mut self, id: ServiceId, names: &ServiceNames) {
        self.networks.service_changed(id);
        self.allowances.include(id, names);
    }

    fn is_held(&self, id: ServiceId) -> bool {
        self.revisions(id).next().is_some()
    }

    /// The revisions of a service that are held, oldest first.
    pub(crate) fn revisions(
        &self,
        id: ServiceId,
    ) -> impl DoubleEndedIterator<Item = (&RevisionId, &AssignedService)> {
        let revision = |number| RevisionId { service: id, number };
        self.held.services.range(revision(0)..=revision(u32::MAX))
    }

    /// Takes on whom a service lets connect. If that is different, it and those it is about hear of each other, or not any
    /// more.
    fn admit(&mut self, id: ServiceId, callers: &Arc<AllowedCallers>) {
        let concerned = self.allowances.allow(id, callers);
        if concerned.is_empty() {
            return;
        }
        self.networks.service_changed(id);
        for service in concerned {
            self.neighbourhood.hearers_changed(service);
            for worker in self.spread.get(&service).into_iter().flat_map(BTreeMap::keys) {
                self.networks.tell(*worker);
            }
        }
    }
}
