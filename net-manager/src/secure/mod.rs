//! Encrypted links to other devices, by the engine of `crates/tunnel`. The engine is a process of its own, which outlives
//! this one: stopping or killing NetManager interrupts no link. It runs only while there is anybody to link to.
//!
//! ```text
//!   NetManager ── client ──(tunnel.sock in the state directory)──► process: `NetManager tunnel` ══ mgvsecure, UDP port
//! ```

mod client;
mod process;

use std::{collections::BTreeMap, error::Error};

use model::TunnelKey;
use net_core::SecurePeer;
use serde::{Deserialize, Serialize};
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
    /// End.
    Stop,
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

    /// Ends the engine; its interface goes with it.
    pub(crate) async fn close(&mut self) {
        match self {
            Self::Here(..) => {}
            Self::Process(client) => client.stop().await,
        }
    }
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
