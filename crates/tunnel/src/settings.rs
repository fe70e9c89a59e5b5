//! What a tunnel is started with, and whom it talks to.

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use ipnet::IpNet;

use crate::{PrivateKey, PublicKey};

/// How a tunnel is made. It does not change while the tunnel lives.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of the interface: 1 to 15 bytes, without `/` or white space. No other interface may have it.
    pub name: String,
    /// Who this side is.
    pub key: PrivateKey,
    /// The UDP port for all peers; 0 lets the kernel choose one, which [`Tunnel::port`](crate::Tunnel::port) tells.
    pub port: u16,
    /// The largest IP packet inside: 1280 (what IPv6 asks for) to 9000. Outside it is up to 80 bytes longer.
    pub mtu: u16,
    /// How many threads each direction has, at most four; `None` for one per processor.
    pub queues: Option<NonZeroUsize>,
    /// The first byte of what a relay passes on; the rest is a message of WireGuard. None of its own begins with it.
    /// `None` where nothing is relayed.
    pub relayed: Option<u8>,
    /// Where datagrams go that are neither WireGuard's nor relayed; `None` drops them.
    pub asides: Option<tokio::sync::mpsc::Sender<Aside>>,
}

/// A datagram that arrived at the port of the tunnel and is not WireGuard's. Nothing about it is authentic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// Where it says it is from.
    pub from: SocketAddr,
    /// What was in it: at least one byte.
    pub payload: Vec<u8>,
}

/// One other side, as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub public_key: PublicKey,
    /// Where it is tried, all at once and at most four, until an authentic packet arrives from elsewhere. With none, and
    /// no relay, the peer must speak first.
    pub endpoints: Vec<SocketAddr>,
    /// What passes messages on to it that do not get there directly.
    pub relay: Option<Relay>,
    /// The addresses inside that are the peer's: packets to them go to it, and it may send from no others. Of nested
    /// networks of several peers the longest wins.
    pub allowed: Vec<IpNet>,
    /// How often to say something when there is nothing to say, so that a NAT in between stays open. A peer that was
    /// found by its relay is spoken to every [`KEEPALIVE`] in any case.
    pub keepalive: Option<Duration>,
}

/// Less than the 30 s after which the most forgetful NATs close.
pub const KEEPALIVE: Duration = Duration::from_secs(25);

/// Who passes messages on to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relay {
    /// Where it is.
    pub address: SocketAddr,
    /// What goes in front of each message, and does not begin like one of WireGuard.
    pub prefix: [u8; RELAY_PREFIX],
}

/// The length of [`Relay::prefix`].
pub const RELAY_PREFIX: usize = 17;

/// One peer, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who it is.
    pub public_key: PublicKey,
    /// Where packets to it go now: where its last authentic packet came from, or where it is tried, or its relay.
    pub endpoint: Option<SocketAddr>,
    /// Whether that is its relay.
    pub relayed: bool,
    /// How long ago the keys in use were agreed on; `None` without any.
    pub last_handshake: Option<Duration>,
    /// Bytes of IP packets received from it and handed to the kernel.
    pub received: u64,
    /// Bytes of IP packets encrypted for it.
    pub sent: u64,
    /// What was not passed on, and why.
    pub drops: PeerDrops,
}

/// Packets of one peer that were dropped, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerDrops {
    /// To it: nobody knows yet where it is.
    pub no_endpoint: u64,
    /// To it: they could not be encrypted.
    pub not_sealed: u64,
    /// From it: not under keys that we agreed on, or altered, or of a handshake that another one overtook.
    pub not_authentic: u64,
    /// From it: seen before, or too late; also a handshake that came by another way first.
    pub replayed: u64,
    /// From it: authentic, and no IP packet inside.
    pub malformed: u64,
    /// From it: authentic, from an address inside that is not the peer's.
    pub source_not_allowed: u64,
}

/// Packets that were dropped and belong to no peer, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops {
    /// From inside: to an address that is no peer's.
    pub no_peer: u64,
    /// From inside: no IP packet, or one that could not be split.
    pub malformed_inside: u64,
    /// From outside: empty, or WireGuard's by its first bytes only.
    pub malformed_outside: u64,
    /// From outside: from or for a key that is no peer's.
    pub unknown_sender: u64,
    /// From outside: handshakes answered by a cookie instead, as there were too many.
    pub under_load: u64,
    /// From outside: asides that nobody took in time, or at all.
    pub asides: u64,
    /// Datagrams that the kernel did not send.
    pub not_sent: u64,
    /// Packets that the kernel did not take from the tunnel.
    pub not_delivered: u64,
}
