//! The engine: the tunnel, the other ends it was told, and its registrations with relays. It belongs to a process of its
//! own (`process`) or, in tests, to this one. What to send to which relay and when is `relay::Registrations`' to say.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use model::{RelayPlace, TunnelKey};
use net_core::SecurePeer;
use relay::{Destination, FORWARDED, Order, Registrations, forward_prefix};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::sleep_until,
};
use tunnel::{Aside, KEEPALIVE, PeerStatus, PrivateKey, Settings, Tunnel};

use super::{EncryptedLink, INTERFACE, LinkPath, MTU, Peers};

/// Answers of the relay that wait, and whatever strangers send to the port; more of it is dropped.
const ASIDES: usize = 16;

/// See the module's description. The tunnel ends with it.
#[derive(Debug)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tunnel: Tunnel,
    told: Mutex<Told>,
    /// Another registration may be due.
    changed: Notify,
    /// As [`Engine::at_root`].
    at_root: watch::Sender<Option<SocketAddr>>,
}

#[derive(Debug, Default)]
struct Told {
    peers: Peers,
    registrations: Registrations,
}

impl Engine {
    /// Makes the tunnel in the network namespace of the calling thread. To be called within a tokio runtime.
    ///
    /// # Errors
    /// When the interface cannot be made, or the port is taken.
    pub fn start(
        key: PrivateKey,
        port: u16,
        queues: Option<std::num::NonZeroUsize>,
    ) -> Result<Self, tunnel::Error> {
        let (sender, asides) = mpsc::channel(ASIDES);
        let tunnel = Tunnel::start(Settings {
            name: INTERFACE.to_owned(),
            key,
            port,
            mtu: MTU,
            queues,
            relayed: Some(FORWARDED),
            asides: Some(sender),
        })?;
        let inner = Arc::new(Inner {
            tunnel,
            told: Mutex::default(),
            changed: Notify::new(),
            at_root: watch::Sender::default(),
        });
        tokio::spawn(keep_registered(Arc::downgrade(&inner), asides));
        Ok(Self(inner))
    }

    pub(super) fn port(&self) -> u16 {
        self.0.tunnel.port()
    }

    /// Where the relay of the root sees this device, while it is reached by that.
    pub fn at_root(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.0.at_root.subscribe()
    }

    /// The mailbox of this device at any relay.
    pub(super) fn mailbox(&self) -> Destination {
        Destination::of(self.0.tunnel.public_key().as_bytes())
    }

    pub(super) fn peers(&self) -> Peers {
        self.0.told().peers.clone()
    }

    /// Makes these all the other ends there are.
    pub(super) fn set(&self, wanted: &Peers) -> Result<(), tunnel::Error> {
        let mut told = self.0.told();
        self.0.tunnel.set_peers(for_tunnel(wanted, &told.registrations))?;
        told.peers.clone_from(wanted);
        told.registrations.meet(wanted.values().any(|peer| peer.relay == Some(RelayPlace::Root)));
        self.0.changed.notify_one();
        Ok(())
    }

    /// Registers with this relay from now on.
    pub(super) fn use_relay(&self, order: Order) {
        let mut told = self.0.told();
        if told.registrations.take_order(order) {
            self.0.renew(&told);
            self.0.changed.notify_one();
        }
    }

    pub(super) fn links(&self) -> Vec<EncryptedLink> {
        let peers = &self.0.told().peers;
        self.0.tunnel.status().iter().map(|status| link_of(status, peers)).collect()
    }
}

impl Inner {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The registrations are others, and with them what is said of the other ends, and of this one.
    fn renew(&self, told: &Told) {
        if let Err(error) = self.tunnel.set_peers(for_tunnel(&told.peers, &told.registrations)) {
            tracing::warn!(error = %daemon::chain(&error), "the other ends of encrypted links could not be renewed");
        }
        let now = told.registrations.at_root();
        let before = self.at_root.send_replace(now);
        match (before, now) {
            (None, Some(_)) => tracing::warn!(
                "the relay of the cluster does not answer, is its UDP port open? Until it does, this device is reached by \
                 that of the root"
            ),
            (Some(_), None) => tracing::info!("the relay of the cluster answers again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
    }

    fn register(&self) {
        let mut told = self.told();
        for (relay, datagram) in told.registrations.register(daemon::present().moment) {
            self.tunnel.send_aside(&datagram, relay);
        }
        if told.registrations.at_root() != *self.at_root.borrow() {
            self.renew(&told);
        }
    }

    fn take(&self, aside: &Aside) {
        let mut told = self.told();
        if told.registrations.take(&aside.payload, aside.from, daemon::present().moment) {
            let translated = told.registrations.is_translated();
            tracing::info!(relay = %aside.from, translated, "the relay knows where this device is");
            self.renew(&told);
        }
    }
}

/// Until the engine is gone.
async fn keep_registered(engine: Weak<Inner>, mut asides: mpsc::Receiver<Aside>) {
    loop {
        let Some(inner) = engine.upgrade() else { return };
        let due = inner.told().registrations.due().map(|due| daemon::instant_of(due).into());
        let is_due = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = is_due => inner.register(),
            // Then another registration is due.
            () = inner.changed.notified() => {}
            aside = asides.recv() => match aside {
                Some(aside) => inner.take(&aside),
                None => return,
            },
        }
    }
}

fn for_tunnel(peers: &Peers, registrations: &Registrations) -> Vec<tunnel::Peer> {
    let keepalive = registrations.is_translated().then_some(KEEPALIVE);
    let peer = |(key, peer): (&TunnelKey, &SecurePeer)| tunnel::Peer {
        public_key: key.0.into(),
        endpoints: [Some(peer.endpoint), peer.observed].into_iter().flatten().collect(),
        relay: registrations.relay_to(peer.relay).map(|address| relay_to(*key, address)),
        allowed: peer.allowed.iter().copied().collect(),
        keepalive,
    };
    peers.iter().map(peer).collect()
}

fn relay_to(key: TunnelKey, address: SocketAddr) -> tunnel::Relay {
    tunnel::Relay { address, prefix: forward_prefix(Destination::of(&key.0)) }
}

fn link_of(status: &PeerStatus, peers: &Peers) -> EncryptedLink {
    let key = TunnelKey(*status.public_key.as_bytes());
    let own = peers.get(&key).map(|peer| peer.endpoint);
    let path = match status {
        PeerStatus { last_handshake: None, .. } => None,
        PeerStatus { relayed: true, .. } => Some(LinkPath::Relayed),
        PeerStatus { endpoint, .. } if *endpoint == own => Some(LinkPath::Direct),
        PeerStatus { .. } => Some(LinkPath::HolePunched),
    };
    EncryptedLink {
        key,
        endpoint: status.endpoint,
        path,
        last_handshake_seconds: status.last_handshake.map(|ago| ago.as_secs()),
        received: status.received,
        sent: status.sent,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use link::DatagramSession;
    use relay::Proof;

    use super::*;

    fn place(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn peer() -> SecurePeer {
        SecurePeer {
            endpoint: place("10.0.0.2:50103"),
            observed: Some(place("198.51.100.7:4000")),
            relay: None,
            allowed: BTreeSet::new(),
        }
    }

    fn registered() -> Registrations {
        let mut registrations = Registrations::default();
        let proof = Proof::Session(DatagramSession { id: 7, key: [7; 32] });
        assert!(registrations.take_order(Order { relay: place("203.0.113.1:50105"), own: None, proof }));
        registrations
    }

    #[test]
    fn a_peer_is_tried_wherever_it_may_be_and_by_its_own_relay_or_else_by_ours() {
        let key = TunnelKey([9; 32]);
        let elsewhere = SecurePeer { relay: Some(RelayPlace::At(place("203.0.113.2:50105"))), ..peer() };
        for (peer, registrations, relay) in [
            (peer(), Registrations::default(), None),
            (peer(), registered(), Some("203.0.113.1:50105")),
            (elsewhere, registered(), Some("203.0.113.2:50105")),
        ] {
            let peers = for_tunnel(&Peers::from([(key, peer)]), &registrations);
            assert_eq!(peers[0].endpoints, [place("10.0.0.2:50103"), place("198.51.100.7:4000")]);
            assert_eq!(peers[0].relay, relay.map(|relay| relay_to(key, place(relay))));
        }
    }

    #[test]
    fn a_link_says_by_which_way_it_goes() {
        let key = TunnelKey([9; 32]);
        let status = |endpoint: &str, relayed, last_handshake| PeerStatus {
            public_key: key.0.into(),
            endpoint: Some(place(endpoint)),
            relayed,
            last_handshake,
            received: 0,
            sent: 0,
            drops: tunnel::PeerDrops::default(),
        };
        let agreed = Some(Duration::ZERO);
        for (status, path) in [
            (status("203.0.113.1:50105", true, None), None),
            (status("203.0.113.1:50105", true, agreed), Some(LinkPath::Relayed)),
            (status("10.0.0.2:50103", false, agreed), Some(LinkPath::Direct)),
            (status("198.51.100.7:4000", false, agreed), Some(LinkPath::HolePunched)),
        ] {
            assert_eq!(link_of(&status, &Peers::from([(key, peer())])).path, path);
        }
    }
}
