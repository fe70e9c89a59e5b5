//! The engine: the tunnel, the other ends it was told, and its registration with a relay. It belongs to a process of its
//! own (`process`) or, in tests, to this one. What to send to the relay and when is `relay::Registrar`'s to say.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use model::TunnelKey;
use net_core::SecurePeer;
use relay::{Destination, FORWARDED, Order, Registrar, forward_prefix};
use tokio::{
    sync::{Notify, mpsc},
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
    /// There is another relay.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Told {
    peers: Peers,
    registrar: Option<Registrar>,
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
        let inner = Arc::new(Inner { tunnel, told: Mutex::default(), changed: Notify::new() });
        tokio::spawn(keep_registered(Arc::downgrade(&inner), asides));
        Ok(Self(inner))
    }

    pub(super) fn port(&self) -> u16 {
        self.0.tunnel.port()
    }

    pub(super) fn peers(&self) -> Peers {
        self.0.told().peers.clone()
    }

    /// Makes these all the other ends there are.
    pub(super) fn set(&self, wanted: &Peers) -> Result<(), tunnel::Error> {
        let mut told = self.0.told();
        self.0.tunnel.set_peers(for_tunnel(wanted, told.registrar.as_ref()))?;
        told.peers.clone_from(wanted);
        Ok(())
    }

    /// Registers with this relay from now on.
    pub(super) fn use_relay(&self, order: Order) {
        let mut told = self.0.told();
        if told.registrar.as_ref().is_some_and(|registrar| *registrar.order() == order) {
            return;
        }
        told.registrar = Some(Registrar::new(order));
        self.0.renew(&told);
        self.0.changed.notify_one();
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

    /// The registration is another one, and with it what is said of the other ends.
    fn renew(&self, told: &Told) {
        if let Err(error) = self.tunnel.set_peers(for_tunnel(&told.peers, told.registrar.as_ref())) {
            tracing::warn!(error = %daemon::chain(&error), "the other ends of encrypted links could not be renewed");
        }
    }

    fn register(&self) {
        let mut told = self.told();
        if let Some(registrar) = &mut told.registrar {
            let datagram = registrar.register(daemon::present().moment);
            self.tunnel.send_aside(&datagram, registrar.order().relay);
        }
    }

    fn take(&self, aside: &Aside) {
        let mut told = self.told();
        let Some(registrar) = &mut told.registrar else { return };
        if registrar.take(&aside.payload, aside.from, daemon::present().moment) {
            tracing::info!(
                relay = %registrar.order().relay, translated = registrar.is_translated(),
                "the relay knows where this device is"
            );
            self.renew(&told);
        }
    }
}

/// Until the engine is gone.
async fn keep_registered(engine: Weak<Inner>, mut asides: mpsc::Receiver<Aside>) {
    loop {
        let Some(inner) = engine.upgrade() else { return };
        let due = inner.told().registrar.as_ref().map(|registrar| daemon::instant_of(registrar.due()).into());
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

fn for_tunnel(peers: &Peers, registrar: Option<&Registrar>) -> Vec<tunnel::Peer> {
    let own_relay = registrar.map(|registrar| registrar.order().relay);
    let keepalive = registrar.is_some_and(Registrar::is_translated).then_some(KEEPALIVE);
    let peer = |(key, peer): (&TunnelKey, &SecurePeer)| tunnel::Peer {
        public_key: key.0.into(),
        endpoints: [Some(peer.endpoint), peer.observed].into_iter().flatten().collect(),
        relay: peer.relay.or(own_relay).map(|address| relay_to(*key, address)),
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

    fn registrar() -> Registrar {
        let session = DatagramSession { id: 7, key: [7; 32] };
        Registrar::new(Order { relay: place("203.0.113.1:50105"), own: None, session })
    }

    #[test]
    fn a_peer_is_tried_wherever_it_may_be_and_by_its_own_relay_or_else_by_ours() {
        let key = TunnelKey([9; 32]);
        let elsewhere = SecurePeer { relay: Some(place("203.0.113.2:50105")), ..peer() };
        for (peer, registrar, relay) in [
            (peer(), None, None),
            (peer(), Some(registrar()), Some("203.0.113.1:50105")),
            (elsewhere, Some(registrar()), Some("203.0.113.2:50105")),
        ] {
            let peers = for_tunnel(&Peers::from([(key, peer)]), registrar.as_ref());
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
