//! One peer: the state of the protocol with it, where it is, and what passed. Whoever wants any of it holds the lock.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use boringtun::noise::{Tunn, TunnResult};

use crate::{
    PeerDrops, PeerStatus, PublicKey,
    outbox::{OVERHEAD, Outbox},
    settings,
    socket::{Endpoint, Sender},
    stop::Stop,
};

/// The type of messages that carry packets, the first byte of a datagram.
const DATA: u8 = 4;

/// One peer, for as long as it is in the set.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) key: PublicKey,
    /// The upper 24 bits of the index by which its messages name this side's session.
    pub(crate) slot: usize,
    session: Mutex<Option<Session>>,
}

/// What changes while a peer lives.
pub(crate) struct Session {
    /// The keepalive of the library cannot be changed once it is made, so it has none and we count ourselves.
    pub(crate) tunn: Tunn,
    pub(crate) endpoint: Option<Endpoint>,
    configured: Option<SocketAddr>,
    keepalive: Option<Duration>,
    last_keepalive: Instant,
    /// Whether packets wait in `tunn` for a handshake.
    waiting: bool,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) drops: PeerDrops,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Peer {
    pub(crate) fn new(wanted: &settings::Peer, slot: usize, tunn: Tunn, now: Instant) -> Self {
        let session = Session {
            tunn,
            endpoint: wanted.endpoint.map(Endpoint::from),
            configured: wanted.endpoint,
            keepalive: wanted.keepalive,
            last_keepalive: now,
            waiting: false,
            received: 0,
            sent: 0,
            drops: PeerDrops::default(),
        };
        Self { key: wanted.public_key, slot, session: Mutex::new(Some(session)) }
    }

    /// `None` inside once the peer was removed.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all keys. Nothing passes from then on, even in threads that still know the peer.
    pub(crate) fn close(&self) {
        *self.lock() = None;
    }

    /// `None` once the peer was removed.
    pub(crate) fn status(&self) -> Option<PeerStatus> {
        let session = self.lock();
        let session = session.as_ref()?;
        Some(PeerStatus {
            public_key: self.key,
            endpoint: session.endpoint.map(|endpoint| endpoint.address),
            last_handshake: session.tunn.time_since_last_handshake(),
            received: session.received,
            sent: session.sent,
            drops: session.drops,
        })
    }
}

impl Session {
    /// Takes over what may change about a peer. Returns whether the peer is to be tried at a new place.
    pub(crate) fn configure(&mut self, wanted: &settings::Peer) -> bool {
        self.keepalive = wanted.keepalive;
        let moved = wanted.endpoint.is_some() && wanted.endpoint != self.configured;
        self.configured = wanted.endpoint;
        if moved {
            self.endpoint = wanted.endpoint.map(Endpoint::from);
        }
        moved
    }

    /// Encrypts `packet` into `outbox`, which has room for it. Without keys yet, it waits and a handshake is begun.
    pub(crate) fn seal(&mut self, packet: &[u8], outbox: &mut Outbox) {
        let Some(to) = self.endpoint else {
            self.drops.no_endpoint += 1;
            return;
        };
        match self.tunn.encapsulate(packet, outbox.room(packet.len())) {
            TunnResult::WriteToNetwork([DATA, rest @ ..]) => {
                let size = 1 + rest.len();
                outbox.push(to, size);
                self.sent += (size - OVERHEAD) as u64;
            }
            TunnResult::WriteToNetwork(handshake) => {
                let size = handshake.len();
                outbox.push(to, size);
                self.waiting = true;
            }
            TunnResult::Done => self.waiting = true,
            TunnResult::Err(_) | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => {
                self.drops.not_sealed += 1;
            }
        }
    }

    /// Puts what waited for a handshake into `outbox`, and sends that in between if it is too much. To be called when
    /// there are keys. `largest` is the size of the largest packet that waits. Returns how many were not sent.
    pub(crate) fn release(
        &mut self,
        largest: usize,
        outbox: &mut Outbox,
        sender: &mut Sender,
        stop: &Stop,
    ) -> u64 {
        let mut failed = 0;
        while self.waiting
            && let Some(to) = self.endpoint
        {
            if !outbox.has_room(largest) {
                failed += outbox.flush(sender, stop);
            }
            match self.tunn.decapsulate(None, &[], outbox.room(largest)) {
                TunnResult::WriteToNetwork([DATA, rest @ ..]) => {
                    let size = 1 + rest.len();
                    outbox.push(to, size);
                    self.sent += size.saturating_sub(OVERHEAD) as u64;
                }
                TunnResult::WriteToNetwork(handshake) => {
                    // The keys are not there after all, and the packet waits again.
                    let size = handshake.len();
                    outbox.push(to, size);
                    return failed;
                }
                TunnResult::Done
                | TunnResult::Err(_)
                | TunnResult::WriteToTunnelV4(..)
                | TunnResult::WriteToTunnelV6(..) => self.waiting = false,
            }
        }
        failed
    }

    /// Begins a handshake, though one may be under way.
    pub(crate) fn greet(&mut self, outbox: &mut Outbox) {
        let Some(to) = self.endpoint else { return };
        if let TunnResult::WriteToNetwork(message) =
            self.tunn.format_handshake_initiation(outbox.room(0), true)
        {
            let size = message.len();
            outbox.push(to, size);
        }
    }

    /// Does what is due by now: repeats handshakes, renews keys, keeps the way open.
    pub(crate) fn tick(&mut self, now: Instant, outbox: &mut Outbox) {
        match self.tunn.update_timers(outbox.room(0)) {
            TunnResult::WriteToNetwork(message) => {
                let size = message.len();
                if let Some(to) = self.endpoint {
                    outbox.push(to, size);
                }
            }
            // Nobody answered for a minute and a half: wherever it went, it may come back where it should be.
            TunnResult::Err(_) => {
                self.waiting = false;
                if let Some(configured) = self.configured {
                    self.endpoint = Some(configured.into());
                }
            }
            TunnResult::Done | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => {}
        }
        let Some(interval) = self.keepalive else { return };
        if self.endpoint.is_some() && now.saturating_duration_since(self.last_keepalive) >= interval {
            self.last_keepalive = now;
            self.seal(&[], outbox);
        }
    }
}
