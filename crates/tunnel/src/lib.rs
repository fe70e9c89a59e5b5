//! The encrypted link between workers: WireGuard's protocol in user space, for devices whose kernel has none.
//!
//! It talks to any other implementation. The cryptography and the state of each session are `boringtun`'s; this crate is
//! the way between an interface and a port, many packets at a time:
//!
//! ```text
//!   kernel ── device ──► outbound: whose is it? encrypt ──► outbox ── socket ──► network
//!   kernel ◄── device ── inbound:  whose is it? decrypt, may it be from there? ◄── socket ── network
//!                        handshake: who may have one   path: where is it?   timers: what is due
//! ```
//!
//! There is a thread for each direction of each queue, and one for the clock. They share a table of peers, which is
//! replaced as a whole, and lock a peer for one batch of packets. One peer is thereby at most one processor's worth of
//! work at a time.
//!
//! `boringtun` logs under its own name, and at ERROR also what is ordinary, such as a peer that is away: a program that
//! uses this crate does well to filter `boringtun` out.
//!
//! ```no_run
//! # fn main() -> Result<(), tunnel::Error> {
//! use tunnel::{Peer, PrivateKey, Settings, Tunnel};
//!
//! let key = PrivateKey::generate();
//! let tunnel = Tunnel::start(Settings {
//!     name: "mangrove0".to_owned(),
//!     key,
//!     port: 51820,
//!     mtu: 1420,
//!     queues: None,
//!     relayed: None,
//!     asides: None,
//! })?;
//! tunnel.set_peers(vec![Peer {
//!     public_key: "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=".parse().expect("a key"),
//!     endpoints: vec![([192, 0, 2, 7], 51820).into()],
//!     relay: None,
//!     allowed: vec!["10.18.0.64/26".parse().expect("a network")],
//!     keepalive: None,
//! }])?;
//! # Ok(())
//! # }
//! ```

mod counters;
mod device;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod handshake;
mod inbound;
mod key;
mod outbound;
mod outbox;
mod packet;
mod path;
mod peer;
mod routes;
mod settings;
mod socket;
mod stop;
mod table;
mod timers;
mod tunnel;

pub use error::Error;
pub use key::{KeyError, PrivateKey, PublicKey};
pub use settings::{Aside, Drops, KEEPALIVE, Peer, PeerDrops, PeerStatus, RELAY_PREFIX, Relay, Settings};
pub use tunnel::Tunnel;
