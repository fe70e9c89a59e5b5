//! Handshakes as they arrive: who may have one at all, whose it is, and what is answered.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use boringtun::{
    noise::{
        Packet, Tunn, TunnResult, errors::WireGuardError, handshake::parse_handshake_anon,
        rate_limiter::RateLimiter,
    },
    x25519,
};

use crate::{
    PrivateKey, PublicKey,
    inbound::Desk,
    outbox::{HANDSHAKE, OVERHEAD},
    path::Origin,
    peer::Peer,
    table::Table,
};

/// How many handshakes a second are taken from anybody. Past that, a sender first has to show, by a cookie, that its
/// address is its own. A handshake costs about a quarter of a millisecond, so this is a fortieth of one processor.
const HANDSHAKES_PER_SECOND: u64 = 100;

/// How many handshakes a second are looked at by us at all, cookie or not: a quarter of one processor. Whoever is turned
/// away tries again after five seconds.
const MOST_HANDSHAKES_PER_SECOND: u64 = 1_000;

/// Who we are, and how much work strangers may make us.
pub(crate) struct Doorkeeper {
    secret: x25519::StaticSecret,
    public: x25519::PublicKey,
    limiter: RateLimiter,
    /// What each peer's state machine asks again, after the limiter let a handshake in: never under load.
    lenient: Arc<RateLimiter>,
    looked_at: AtomicU64,
}

/// What a handshake message turned out to be.
enum Visitor<'table> {
    /// To be handled with this peer.
    Of(&'table Arc<Peer>),
    /// Nobody we know.
    Stranger,
    /// Not made by somebody who knows our key, or no handshake at all.
    Malformed,
    /// One too many, to be answered by this many bytes of cookie, or by nothing.
    TooMany(usize),
}

impl Doorkeeper {
    pub(crate) fn new(key: &PrivateKey) -> Self {
        let secret = key.secret();
        let public = x25519::PublicKey::from(&secret);
        let limiter = RateLimiter::new(&public, HANDSHAKES_PER_SECOND);
        let lenient = Arc::new(RateLimiter::new(&public, u64::MAX));
        Self { secret, public, limiter, lenient, looked_at: AtomicU64::new(0) }
    }

    /// The state of the protocol with a new peer.
    pub(crate) fn acquaint(&self, peer: &PublicKey, slot: u32) -> Tunn {
        Tunn::new(self.secret.clone(), peer.point(), None, None, slot, Some(Arc::clone(&self.lenient)))
    }

    /// To be called once a second.
    pub(crate) fn tick(&self) {
        self.limiter.reset_count();
        self.looked_at.store(0, Ordering::Relaxed);
    }

    fn admit<'table>(
        &self,
        table: &'table Table,
        origin: Origin,
        message: &[u8],
        answer: &mut [u8; HANDSHAKE],
    ) -> Visitor<'table> {
        let peer = match self.limiter.verify_packet(Some(origin.address().ip()), message, answer) {
            Ok(Packet::HandshakeInit(_) | Packet::HandshakeResponse(_))
                if self.looked_at.fetch_add(1, Ordering::Relaxed) >= MOST_HANDSHAKES_PER_SECOND =>
            {
                return Visitor::TooMany(0);
            }
            Ok(Packet::HandshakeInit(start)) => parse_handshake_anon(&self.secret, &self.public, &start)
                .ok()
                .and_then(|half| table.by_key(&PublicKey::from(half.peer_static_public))),
            Ok(Packet::HandshakeResponse(response)) => table.by_index(response.receiver_idx),
            Ok(Packet::PacketCookieReply(cookie)) => table.by_index(cookie.receiver_idx),
            Ok(Packet::PacketData(_)) | Err(TunnResult::Err(_)) => return Visitor::Malformed,
            Err(TunnResult::WriteToNetwork(cookie)) => return Visitor::TooMany(cookie.len()),
            Err(TunnResult::Done | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..)) => {
                return Visitor::Malformed;
            }
        };
        peer.map_or(Visitor::Stranger, Visitor::Of)
    }
}

impl std::fmt::Debug for Doorkeeper {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Doorkeeper").finish_non_exhaustive()
    }
}

impl Desk {
    /// Takes a message that is of WireGuard and carries no packet. No peer is locked.
    pub(crate) fn take_handshake(&mut self, table: &Table, origin: Origin, message: &[u8]) {
        let mut answer = [0; HANDSHAKE];
        if !self.outbox.has_room(HANDSHAKE) {
            self.flush();
        }
        match self.doorkeeper.admit(table, origin, message, &mut answer) {
            Visitor::Of(peer) => self.shake_hands(peer, origin, message),
            Visitor::Stranger => {
                self.counters.unknown_sender.fetch_add(1, Ordering::Relaxed);
            }
            Visitor::Malformed => {
                self.counters.malformed_outside.fetch_add(1, Ordering::Relaxed);
            }
            Visitor::TooMany(size) => {
                self.counters.under_load.fetch_add(1, Ordering::Relaxed);
                // Whoever came by a relay cannot be answered before it is known who it is, and tries again.
                if size > 0
                    && let Origin::Direct(from) = origin
                {
                    self.outbox.room(0)[..size].copy_from_slice(&answer[..size]);
                    self.outbox.push(from, size);
                }
            }
        }
    }

    fn shake_hands(&mut self, peer: &Peer, origin: Origin, message: &[u8]) {
        let mut session = peer.lock();
        let Some(session) = session.as_mut() else { return };
        let mut room = [0; HANDSHAKE];
        match session.tunn.decapsulate(Some(origin.address().ip()), message, &mut room) {
            TunnResult::WriteToNetwork(answer) => {
                // To a response the answer is a keepalive, under the new keys.
                let agreed = answer.len() == OVERHEAD;
                // The answer is a probe itself.
                let _place_of_the_answer = session.hear(origin);
                session.answer(origin, answer, &mut self.outbox);
                if agreed {
                    self.release(session);
                }
            }
            // A cookie, for the next try. It proves nothing about where the peer is.
            TunnResult::Done => {}
            TunnResult::Err(WireGuardError::WrongTai64nTimestamp) => session.drops.replayed += 1,
            TunnResult::Err(_) | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => {
                session.drops.not_authentic += 1;
            }
        }
    }
}
