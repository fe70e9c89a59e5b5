//! Who is who between daemons, and how they reach each other.
//!
//! ```text
//!   JoinToken ──(pin)──► enrolment ──► Identity ──► mutual TLS 1.3 ──► gRPC
//!                            ▲
//!                        Authority (the root's CA) or Intermediate (a cluster's, lent by the root)
//! ```
//!
//! Children dial parents. A parent offers one TLS port where a certificate is asked for but not required; the calls
//! that need one ask for the [`Peer`] of the connection. [`Credentials`] are renewed before they end, or afterwards;
//! [`Revocations`] say whose count no more. What is said over the connection is in `proto`. Beside it, a child sends beats
//! over UDP to the port of the same number; what follows from them is decided in `crates/liveness`.

mod authority;
mod beat;
mod client;
mod clock;
mod connection;
mod credentials;
mod datagram;
mod identity;
mod intermediate;
mod join;
mod lineage;
mod record;
mod refusal;
mod revocations;
mod sealing;
mod server;
mod subject;
mod tls;
mod token;
mod turns;

pub use authority::{Authority, AuthorityError, certificate_life, device_uuid, key_fingerprint};
#[cfg(fuzzing)]
pub use beat::fuzzing;
pub use beat::{Beat, BeatListener, send_beats};
pub use client::{Backoff, Dial, DialError, Dialled, dial, dial_to};
pub use clock::present_since_build;
pub use credentials::{Credentials, RenewalError, keep_renewed, must_renew, renewal_spread};
pub use datagram::{DatagramKey, DatagramSession};
pub use identity::{Identity, IdentityError, KeyPair};
pub use intermediate::Intermediate;
pub use join::{JoinError, join};
pub use record::record_of;
pub use revocations::{Revocations, Revoked};
pub use sealing::{Sealer, SealingKey, SealingPublicKey, SecretValue, UnsealError};
pub use server::{Incoming, Peer, peer_of, renewing_peer, require_peer, serve};
pub use subject::{Subject, SubjectError};
pub use token::{JoinToken, TokenError, secret_hash};
