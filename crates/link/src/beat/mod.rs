//! Beats: small datagrams from child to parent that say "alive". A lost segment stalls a TCP stream for a second or
//! more; a lost datagram stalls nothing. What follows from them is decided in `crates/liveness`.
//!
//! ```text
//!   child                                   parent (UDP port of the same number as its TCP port)
//!   send_beats ── beat 0, 1, 2, … ────────► BeatListener ──► Beat { session, sequence, load }
//!              ◄── ask (only in doubt) ────
//!   the session's id and key were handed over on the mTLS stream
//! ```
//!
//! A datagram has 24 bytes, 52 with its IPv4 and UDP headers: session (8), number (4), load of processor and memory in
//! hundredths of a percent (2 each, 0 in asks), tag (8), all big-endian. The tag is the beginning of an HMAC-SHA256 with
//! the session's key over direction and everything before the tag. Numbers begin at 0 and grow by one with each beat
//! *sent*, so what is lost can be measured.
//!
//! Asks go back the way the last beat came, so the child needs no inbound port; one that is answered is answered once.

mod datagram;
#[cfg(fuzzing)]
pub mod fuzzing;
mod listener;
mod sender;

pub use listener::{Beat, BeatListener};
pub use sender::send_beats;
