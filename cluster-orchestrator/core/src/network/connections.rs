//! NetManagers come and go, and say where other devices reach them.

use std::net::SocketAddr;

use model::{Reach, WorkerId};

use super::told::Told;
use crate::{State, ways::seen_elsewhere};

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
            for service in held.chain(self.neighbourhood.services()) {
                self.networks.service_changed(service);
            }
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
}
