//! The relay of this cluster's devices: which connection each mailbox belongs to, and how it reaches the brain where a
//! device is seen. And the relay of the root, for devices that do not reach this one: the root lends the cluster a key, and
//! each device gets one of its own that follows from it. What a relay is, `crates/relay` says.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use model::{RelayLoan, RelayOffer, TunnelKey, WorkerId};
use relay::{ClusterKey, Destination, Relay, Seen};
use tokio::sync::Notify;

use crate::{Brain, Config, links::Links};

/// The relay and whose its sessions are.
#[derive(Debug)]
pub(crate) struct Relays {
    relay: Relay,
    /// Where devices are told that it is: without an address, where they dial this cluster.
    address: Option<IpAddr>,
    port: u16,
    sessions: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    /// By the id that registrations carry: whose they are, and the connection they count for.
    by_id: BTreeMap<u64, (WorkerId, u64)>,
    /// The newest of each worker; it outlives its connection, because others may still call what runs there.
    by_worker: BTreeMap<WorkerId, u64>,
    /// Connections that have been made an offer, and the mailbox of each.
    offered: BTreeMap<WorkerId, (u64, Destination)>,
    /// What the root lent last.
    lent: Option<RelayLoan>,
    /// Where devices are seen now, and by which connection, while the brain was not told.
    unheard: BTreeMap<WorkerId, (u64, SocketAddr)>,
}

impl Sessions {
    /// Of what is seen of one device, the last counts.
    fn note(&mut self, seen: &[Seen]) {
        for Seen { session, endpoint } in seen {
            if let Some((worker, number)) = self.by_id.get(session) {
                self.unheard.insert(*worker, (*number, *endpoint));
            }
        }
    }
}

impl Relays {
    pub(crate) fn bind(config: &Config) -> anyhow::Result<Self> {
        let listen = SocketAddr::new(config.worker_listen.ip(), config.relay_port);
        let relay = Relay::bind(listen).with_context(|| {
            format!("open the relay on UDP {listen}; stop what uses the port or pass --relay-port")
        })?;
        let bound = relay.local_addr().context("read the port of the relay")?.port();
        let (address, port) = match config.relay_address {
            Some(address) => (Some(address.ip()), address.port()),
            None => (None, bound),
        };
        Ok(Self { relay, address, port, sessions: Mutex::default() })
    }

    /// Opens the mailbox of a worker's end for the connection `number` of its NetManager, in place of the one before, and
    /// tells it of that, and of the relay of the root.
    pub(crate) fn offer(&self, links: &Links, worker: WorkerId, number: u64, key: TunnelKey) {
        let mut sessions = self.sessions();
        sessions.offered.remove(&worker);
        let Some(offer) = self.open(&mut sessions, worker, number, key) else {
            return tracing::warn!(%worker, ?key, "it says that another worker's end of encrypted links is its own");
        };
        let mailbox = Destination::of(&key.0);
        sessions.offered.insert(worker, (number, mailbox));
        let loan = sessions.lent.as_ref().map(|lent| passed_on(lent, mailbox));
        links.send_to_network(worker, number, proto::relay_message(Some(&offer), loan.as_ref()));
    }

    fn open(
        &self,
        sessions: &mut Sessions,
        worker: WorkerId,
        number: u64,
        key: TunnelKey,
    ) -> Option<RelayOffer> {
        let before = sessions.by_worker.get(&worker).copied();
        let session = self.relay.open(Destination::of(&key.0), before)?;
        sessions.by_id.insert(session.id, (worker, number));
        if let Some(before) = sessions.by_worker.insert(worker, session.id) {
            sessions.by_id.remove(&before);
        }
        Some(RelayOffer { address: self.address, port: self.port, session: session.id, key: session.key })
    }

    /// The root lends the use of its relay; `root` is where it was dialled. Devices that are connected are told.
    pub(crate) fn borrow(&self, links: &Links, lent: RelayLoan, root: IpAddr) {
        // On the loopback of this machine, devices find it where they dial this cluster.
        let root = Some(root).filter(|root| !root.is_loopback());
        let lent = RelayLoan { address: lent.address.or(root), ..lent };
        let mut sessions = self.sessions();
        if sessions.lent.as_ref() == Some(&lent) {
            return;
        }
        for (worker, (number, mailbox)) in &sessions.offered {
            let loan = passed_on(&lent, *mailbox);
            links.send_to_network(*worker, *number, proto::relay_message(None, Some(&loan)));
        }
        sessions.lent = Some(lent);
    }

    /// Closes the mailbox of a worker that is no longer this cluster's.
    pub(crate) fn close(&self, worker: WorkerId) {
        let mut sessions = self.sessions();
        let Some(session) = sessions.by_worker.remove(&worker) else { return };
        sessions.by_id.remove(&session);
        sessions.unheard.remove(&worker);
        sessions.offered.remove(&worker);
        self.relay.close(session);
    }

    /// Serves devices, and tells the brain where they are seen, until that ends.
    pub(crate) async fn serve(&self, brain: &Brain) {
        let news = Notify::new();
        let serving = async {
            loop {
                let seen = self.relay.serve().await;
                self.sessions().note(&seen);
                news.notify_one();
            }
        };
        let telling = async {
            loop {
                news.notified().await;
                let unheard = std::mem::take(&mut self.sessions().unheard);
                let observed = brain.observe(move |state, _| {
                    for (worker, (number, endpoint)) in unheard {
                        state.network_observed(worker, number, endpoint);
                    }
                    Vec::new()
                });
                if observed.await.is_err() {
                    return tracing::debug!("stopping; nobody is left to tell");
                }
            }
        };
        // Side by side: what devices send each other must not stand still while the brain is busy.
        tokio::select! {
            () = serving => {}
            () = telling => {}
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a device gets of what the cluster has.
fn passed_on(lent: &RelayLoan, mailbox: Destination) -> RelayLoan {
    RelayLoan { key: ClusterKey(lent.key).of_mailbox(mailbox), ..lent.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(number: u8) -> WorkerId {
        WorkerId::new(uuid::Uuid::from_bytes([number; 16]))
    }

    #[tokio::test]
    async fn a_device_is_where_it_was_seen_last_and_a_mailbox_is_free_when_its_worker_is_forgotten() {
        let relay = Relay::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let relays = Relays { relay, address: None, port: 0, sessions: Mutex::default() };
        let offer = |worker| {
            let opened = relays.open(&mut relays.sessions(), worker, 5, TunnelKey([1; 32]));
            opened.map(|offer| offer.session)
        };
        let session = offer(worker(1)).expect("nobody's mailbox");
        let seen = |session, port| Seen { session, endpoint: ([192, 0, 2, 1], port).into() };
        relays.sessions().note(&[seen(session, 1), seen(session, 2)]);
        relays.sessions().note(&[seen(session, 3), seen(session ^ 1, 4)]);
        let unheard = relays.sessions().unheard.clone();
        assert_eq!(unheard, BTreeMap::from([(worker(1), (5, ([192, 0, 2, 1], 3).into()))]));

        assert_eq!(offer(worker(2)), None, "it is another's");
        relays.close(worker(1));
        relays.sessions().note(&[seen(session, 6)]);
        assert_eq!(relays.sessions().unheard, BTreeMap::new());
        assert!(offer(worker(2)).is_some());
    }
}
