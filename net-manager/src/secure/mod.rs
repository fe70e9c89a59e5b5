//! Encrypted links to other devices, by the engine of `crates/tunnel`. The engine is a process of its own, which outlives
//! this one: stopping or killing NetManager interrupts no link. It runs only while there is anybody to link to.
//!
//! ```text
//!   NetManager ── client ──(tunnel.sock in the state directory)──► process: `NetManager tunnel` ══ mgvsecure, UDP port
//! ```

mod client;
mod process;

use std::{collections::BTreeMap, error::Error, net::SocketAddr, sync::Arc};

use model::TunnelKey;
use net_core::SecurePeer;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tunnel::Tunnel;

pub use client::Client;
pub use process::serve;

/// Begins as the names of cables do, so that the rules for what instances may do hold for it.
pub const INTERFACE: &str = "mgvsecure";
/// The tunnel port of Oakestra's plan, so that firewalls need no new rule.
pub const PORT: u16 = 50103;
/// What is left of 1500 bytes behind the headers of IPv6, UDP and WireGuard.
const MTU: u16 = 1420;
const KEY_FILE: &str = "tunnel.key";
const SOCKET: &str = "tunnel.sock";

/// The other ends, as the brain has them.
pub type Peers = BTreeMap<TunnelKey, SecurePeer>;

/// One line to the process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    /// Who is there?
    Hello,
    /// Make these all the other ends there are.
    Set(Vec<(TunnelKey, SecurePeer)>),
    /// How do they fare?
    Links,
    /// End.
    Stop,
}

/// An encrypted link as the engine has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptedLink {
    /// The other end.
    pub key: TunnelKey,
    /// Where packets to it go now: where it was last heard from, or where it is tried.
    pub endpoint: Option<SocketAddr>,
    /// How long ago the keys in use were agreed on; `None` without any.
    pub last_handshake_seconds: Option<u64>,
    /// Bytes of packets from there.
    pub received: u64,
    /// Bytes of packets to there.
    pub sent: u64,
}

/// One line back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    /// Its version, its port and the other ends it has.
    Hello {
        version: String,
        port: u16,
        peers: Vec<(TunnelKey, SecurePeer)>,
    },
    Links(Vec<EncryptedLink>),
    Done,
    Refused(String),
}

/// Where the engine is.
#[derive(Debug)]
pub enum SecureLinks {
    /// In this process, for tests.
    Here(Tunnel, Peers),
    /// In its own.
    Process(Client),
}

impl SecureLinks {
    /// The other ends there are.
    pub(crate) async fn peers(&mut self) -> Peers {
        match self {
            Self::Here(_, peers) => peers.clone(),
            Self::Process(client) => client.peers().await,
        }
    }

    /// Makes these all there are.
    pub(crate) async fn set(&mut self, wanted: &Peers) -> Result<(), Box<dyn Error + Send + Sync>> {
        match self {
            Self::Here(tunnel, peers) => {
                tunnel.set_peers(for_engine(wanted))?;
                peers.clone_from(wanted);
                Ok(())
            }
            Self::Process(client) => client.set(wanted).await,
        }
    }

    /// Told when the engine ends unasked.
    pub(crate) fn broken(&self) -> Arc<Notify> {
        match self {
            Self::Here(..) => Arc::default(),
            Self::Process(client) => client.broken(),
        }
    }

    /// How they fare.
    pub(crate) async fn links(&mut self) -> Vec<EncryptedLink> {
        match self {
            Self::Here(tunnel, _) => links_of(tunnel),
            Self::Process(client) => client.links().await,
        }
    }

    /// Ends the engine; its interface goes with it.
    pub(crate) async fn close(&mut self) {
        match self {
            Self::Here(..) => {}
            Self::Process(client) => client.stop().await,
        }
    }
}

fn links_of(tunnel: &Tunnel) -> Vec<EncryptedLink> {
    let link = |peer: tunnel::PeerStatus| EncryptedLink {
        key: TunnelKey(*peer.public_key.as_bytes()),
        endpoint: peer.endpoint,
        last_handshake_seconds: peer.last_handshake.map(|ago| ago.as_secs()),
        received: peer.received,
        sent: peer.sent,
    };
    tunnel.status().into_iter().map(link).collect()
}

fn for_engine(peers: &Peers) -> Vec<tunnel::Peer> {
    let peer = |(key, peer): (&TunnelKey, &SecurePeer)| tunnel::Peer {
        public_key: key.0.into(),
        endpoint: Some(peer.endpoint),
        allowed: peer.allowed.iter().copied().collect(),
        keepalive: None,
    };
    peers.iter().map(peer).collect()
}
