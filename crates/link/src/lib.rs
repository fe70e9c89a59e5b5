//! Who is who between daemons, and how they reach each other.
//!
//! ```text
//!   JoinToken ──(pin)──► enrolment ──► Identity ──► mutual TLS 1.3 ──► gRPC
//!                            ▲
//!                        Authority (the root's CA)
//! ```
//!
//! Children dial parents. A parent offers one TLS port where a certificate is asked for but not required; the calls
//! that need one ask for the [`Peer`] of the connection. What is said over the connection is in `proto`.

mod authority;
mod client;
mod identity;
mod join;
mod server;
mod subject;
mod tls;
mod token;

pub use authority::{Authority, AuthorityError, key_fingerprint};
pub use client::{Backoff, Dial, DialError, dial};
pub use identity::{Identity, IdentityError, KeyPair};
pub use join::{JoinError, join};
pub use server::{Incoming, Peer, peer_of, require_peer, serve};
pub use subject::{Subject, SubjectError};
pub use token::{JoinToken, TokenError, secret_hash};
