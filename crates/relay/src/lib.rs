//! Rendezvous and relay for encrypted links. A device behind address translation cannot know how it is seen from outside,
//! and often nobody can speak to it first. It *registers* with a relay, which tells it, and holds its mailbox from then on:
//!
//! ```text
//!   device ──── register: session, number, tag ─────────────► relay       every 20 s, from the port of its encrypted links
//!          ◄─── registered: seen at 198.51.100.7:50103, tag ──
//!
//!   anybody ─── forward: whose mailbox, message of WireGuard ► relay ─── forwarded: the message ──► device
//! ```
//!
//! * The session's id and key were handed over on an mTLS stream, as those of beats are.
//! * Whoever writes to a mailbox stays unknown to the relay. The message is authentic and secret from end to end by
//!   WireGuard: the relay can drop it, and do nothing else with it.
//! * The relay sends only to who has registered, never more bytes than it was sent, and only messages of WireGuard.
//! * Each direction goes through the relay of the receiver, so relays need not know each other.
//!
//! The relay of a cluster knows its devices. That of the root must not, and lends keys instead (`keys`, `tenants`):
//!
//! ```text
//!   device ──── enter: cluster, mailbox, challenge, number, tag ───► relay of the root     while its cluster's does not answer
//!          ◄─── entered: next challenge, seen at 198.51.100.7:50103, tag ──
//! ```
//!
//! Decisions are pure: `mailboxes` at the relay, `registrations` at the device. `server` is the socket around the first; the
//! second is driven by the engine of encrypted links, in `net-manager/src/secure`.

#[cfg(fuzzing)]
pub mod fuzzing;
mod keys;
mod mailboxes;
mod registrar;
mod registrations;
mod server;
mod tenants;
mod wire;

pub use keys::{ClusterKey, RootSecret};
pub use mailboxes::Seen;
pub use registrar::{Lent, Order, Proof, Registrar};
pub use registrations::Registrations;
pub use server::Relay;
pub use wire::{Destination, FORWARDED, forward_prefix};
