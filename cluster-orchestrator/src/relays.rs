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
use relay::{ClusterKey, Destination, Relay};

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
        let before = sessions.by_worker.get(&worker).copied();
        let mailbox = Destination::of(&key.0);
        sessions.offered.remove(&worker);
        let Some(session) = self.relay.open(mailbox, before) else {
            return tracing::warn!(%worker, ?key, "it says that another worker's end of encrypted links is its own");
        };
        sessions.offered.insert(worker, (number, mailbox));
        sessions.by_id.insert(session.id, (worker, number));
        if let Some(before) = sessions.by_worker.insert(worker, session.id) {
            sessions.by_id.remove(&before);
        }
        let offer =
            RelayOffer { address: self.address, port: self.port, session: session.id, key: session.key };
        let loan = sessions.lent.as_ref().map(|lent| passed_on(lent, mailbox));
        links.send_to_network(worker, number, proto::relay_message(Some(&offer), loan.as_ref()));
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

    /// Serves devices, and tells the brain where they are seen, until that ends.
    pub(crate) async fn serve(&self, brain: &Brain) {
        loop {
            let seen = self.relay.serve().await;
            let known: Vec<(WorkerId, u64, SocketAddr)> = {
                let sessions = self.sessions();
                seen.iter()
                    .filter_map(|seen| {
                        let (worker, number) = sessions.by_id.get(&seen.session)?;
                        Some((*worker, *number, seen.endpoint))
                    })
                    .collect()
            };
            let brain = brain.clone();
            // Not waited for: what devices send each other must not stand still while something is committed.
            tokio::spawn(async move {
                let observed = brain.observe(move |state, _| {
                    for (worker, number, endpoint) in known {
                        state.network_observed(worker, number, endpoint);
                    }
                    Vec::new()
                });
                if observed.await.is_err() {
                    tracing::debug!("stopping; nobody is left to tell");
                }
            });
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
