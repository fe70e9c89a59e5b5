//! Encrypted links to other devices, by the engine of `crates/tunnel`. The engine is a process of its own, which outlives
//! this one: stopping or killing NetManager interrupts no link. It runs only while there is anybody to link to.
//!
//! ```text
//!   NetManager ── client ──(tunnel.sock in the state directory)──► process: `NetManager tunnel` ══ mgvsecure, UDP port
//! ```

mod client;
mod engine;
mod process;

use std::{collections::BTreeMap, error::Error, fmt, net::SocketAddr, sync::Arc};

use link::DatagramSession;
use model::{ClusterId, TunnelKey};
use net_core::SecurePeer;
use relay::{Lent, Order, Proof};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

pub use client::{Client, own_key};
pub use engine::Engine;
pub use net_core::KERNEL_PORT;
pub use process::serve;

/// Begins as the names of cables do, so that the rules for what instances may do hold for it.
pub const INTERFACE: &str = "mgvsecure";
/// The tunnel port of Oakestra's plan, so that firewalls need no new rule.
pub const PORT: u16 = 50103;
/// What is left of 1500 bytes behind the headers of IPv6, UDP and WireGuard.
pub(crate) const MTU: u16 = 1420;
const KEY_FILE: &str = "tunnel.key";
const SOCKET: &str = "tunnel.sock";

/// The other ends, as the brain has them.
pub type Peers = BTreeMap<TunnelKey, SecurePeer>;

/// One line to the process. Without `Debug`, as there is a key in it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    /// Who is there?
    Hello,
    /// Make these all the other ends there are.
    Set(Vec<(TunnelKey, SecurePeer)>),
    /// Register with this relay, the cluster's.
    Register { relay: SocketAddr, own: Option<SocketAddr>, session: u64, key: [u8; 32] },
    /// Register with this one, the root's, when there is need.
    RegisterAtRoot { relay: SocketAddr, own: Option<SocketAddr>, cluster: ClusterId, key: [u8; 32] },
    /// Say at once, and whenever it changes, by which relay this device is reached. Nothing is read from then on.
    Follow,
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
    /// Where packets to it go now: where it was last heard from, or where it is tried, or its relay.
    pub endpoint: Option<SocketAddr>,
    /// How they get there; `None` while it has not answered.
    pub path: Option<LinkPath>,
    /// How long ago the keys in use were agreed on; `None` without any.
    pub last_handshake_seconds: Option<u64>,
    /// Bytes of packets from there.
    pub received: u64,
    /// Bytes of packets to there.
    pub sent: u64,
}

/// How packets get to the other end of an encrypted link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkPath {
    /// To the address the other device says it has.
    Direct,
    /// To where something that translates its address lets answers in.
    HolePunched,
    /// By its relay.
    Relayed,
}

impl fmt::Display for LinkPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::HolePunched => "hole-punched",
            Self::Relayed => "relayed",
        })
    }
}

impl Request {
    fn register(order: &Order) -> Self {
        let Order { relay, own, proof } = order.clone();
        match proof {
            Proof::Session(DatagramSession { id: session, key }) => {
                Self::Register { relay, own, session, key }
            }
            // Whose mailbox it is the engine knows.
            Proof::Lent(Lent { cluster, key, .. }) => Self::RegisterAtRoot { relay, own, cluster, key },
        }
    }
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
    /// Where the relay of the root sees this device, while it is reached by that.
    AtRoot(Option<SocketAddr>),
    Done,
    Refused(String),
}

/// Where the engine is.
#[derive(Debug)]
pub enum SecureLinks {
    /// In this process, for tests.
    Here(Engine),
    /// In its own.
    Process(Client),
}

impl SecureLinks {
    /// The other ends there are.
    pub(crate) async fn peers(&mut self) -> Peers {
        match self {
            Self::Here(engine) => engine.peers(),
            Self::Process(client) => client.peers().await,
        }
    }

    /// Makes these all there are.
    pub(crate) async fn set(&mut self, wanted: &Peers) -> Result<(), Box<dyn Error + Send + Sync>> {
        match self {
            Self::Here(engine) => Ok(engine.set(wanted)?),
            Self::Process(client) => client.set(wanted).await,
        }
    }

    /// Registers this device with a relay.
    pub(crate) async fn use_relay(&mut self, order: Order) {
        match self {
            Self::Here(engine) => engine.use_relay(order),
            Self::Process(client) => client.use_relay(order).await,
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
            Self::Here(engine) => engine.links(),
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
