//! One peer: the state of the protocol with it, where it is, and what passed. Whoever wants any of it holds the lock.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use boringtun::noise::{Tunn, TunnResult};

use crate::{
    KEEPALIVE, PeerDrops, PeerStatus, PublicKey,
    outbox::{HANDSHAKE, OVERHEAD, Outbox},
    path::{Due, Origin, Path, Target},
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
    path: Path,
    keepalive: Option<Duration>,
    last_keepalive: Instant,
    /// As of the last tick, which is close enough for the path and costs nothing.
    now: Instant,
    /// Whether packets wait in `tunn` for a handshake.
    waiting: bool,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) drops: PeerDrops,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Peer {
    pub(crate) fn new(wanted: &settings::Peer, slot: usize, tunn: Tunn, now: Instant) -> Self {
        let session = Session {
            tunn,
            path: Path::new(wanted),
            keepalive: wanted.keepalive,
            last_keepalive: now,
            now,
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
            endpoint: session.path.target().map(|target| target.to.address),
            relayed: session.path.is_relayed(),
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
        self.path.configure(wanted)
    }

    /// Encrypts `packet` into `outbox`, which has room for it. Without keys yet, it waits and a handshake is begun.
    pub(crate) fn seal(&mut self, packet: &[u8], outbox: &mut Outbox) {
        let Some(Target { to, prefix }) = self.path.target() else {
            self.drops.no_endpoint += 1;
            return;
        };
        match self.tunn.encapsulate(packet, outbox.room_behind(prefix, packet.len())) {
            TunnResult::WriteToNetwork([DATA, rest @ ..]) => {
                let size = 1 + rest.len();
                outbox.push(to, prefix.len() + size);
                self.sent += (size - OVERHEAD) as u64;
                if !packet.is_empty() {
                    self.path.note_sent(self.now);
                }
            }
            TunnResult::WriteToNetwork(handshake) => {
                let (message, size) = copy_of(handshake);
                self.send_greeting(&message[..size], outbox);
                self.waiting = true;
            }
            TunnResult::Done => self.waiting = true,
            TunnResult::Err(_) | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => {
                self.drops.not_sealed += 1;
            }
        }
    }

    fn send_greeting(&mut self, message: &[u8], outbox: &mut Outbox) {
        for target in self.path.greet(self.now) {
            outbox.put(target, message);
        }
    }

    /// Something authentic came from `origin`. Returns where a probe is to go.
    pub(crate) fn hear(&mut self, origin: Origin) -> Option<Endpoint> {
        self.path.hear(origin, self.now)
    }

    /// Puts the answer to a handshake into `outbox`, which has room for it.
    pub(crate) fn answer(&mut self, origin: Origin, message: &[u8], outbox: &mut Outbox) {
        if let Some(target) = self.path.back(origin, self.now) {
            outbox.put(target, message);
        }
    }

    /// Puts an empty packet to `to` into `outbox`, which has room for it, if there are keys.
    pub(crate) fn probe(&mut self, to: Endpoint, outbox: &mut Outbox) {
        if self.tunn.time_since_last_handshake().is_none() {
            return;
        }
        if let TunnResult::WriteToNetwork([DATA, rest @ ..]) = self.tunn.encapsulate(&[], outbox.room(0)) {
            let size = 1 + rest.len();
            outbox.push(to, size);
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
            && let Some(Target { to, prefix }) = self.path.target()
        {
            if !outbox.has_room(largest) {
                failed += outbox.flush(sender, stop);
            }
            match self.tunn.decapsulate(None, &[], outbox.room_behind(prefix, largest)) {
                TunnResult::WriteToNetwork([DATA, rest @ ..]) => {
                    let size = 1 + rest.len();
                    outbox.push(to, prefix.len() + size);
                    self.sent += size.saturating_sub(OVERHEAD) as u64;
                    self.path.note_sent(self.now);
                }
                TunnResult::WriteToNetwork(handshake) => {
                    // The keys are not there after all, and the packet waits again.
                    let (message, size) = copy_of(handshake);
                    self.send_greeting(&message[..size], outbox);
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
        if self.path.target().is_none() {
            return;
        }
        if let TunnResult::WriteToNetwork(message) =
            self.tunn.format_handshake_initiation(outbox.room(0), true)
        {
            let (message, size) = copy_of(message);
            self.send_greeting(&message[..size], outbox);
        }
    }

    /// Does what is due by now: repeats handshakes, renews keys, looks for a better way, keeps the way open.
    pub(crate) fn tick(&mut self, now: Instant, outbox: &mut Outbox) {
        self.now = now;
        match self.path.tick(now) {
            Due::Nothing => {}
            Due::Search => self.greet(outbox),
            Due::Probe => {
                for to in self.path.probe(now) {
                    self.probe(to, outbox);
                }
            }
        }
        match self.tunn.update_timers(outbox.room(0)) {
            TunnResult::WriteToNetwork(message) => {
                let (message, size) = copy_of(message);
                if message[0] != DATA {
                    self.send_greeting(&message[..size], outbox);
                } else if let Some(target) = self.path.target() {
                    outbox.put(target, &message[..size]);
                }
            }
            // Nobody answered for a minute and a half.
            TunnResult::Err(_) => {
                self.waiting = false;
                self.path.give_up();
            }
            TunnResult::Done | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => {}
        }
        let unasked = self.path.was_found_by_relay().then_some(KEEPALIVE);
        let Some(interval) = self.keepalive.or(unasked) else { return };
        if self.path.target().is_some() && now.saturating_duration_since(self.last_keepalive) >= interval {
            self.last_keepalive = now;
            self.seal(&[], outbox);
        }
    }
}

/// A message of the protocol that carries no packet, to be sent to several places.
fn copy_of(message: &[u8]) -> ([u8; HANDSHAKE], usize) {
    let mut copy = [0; HANDSHAKE];
    copy[..message.len()].copy_from_slice(message);
    (copy, message.len())
}
