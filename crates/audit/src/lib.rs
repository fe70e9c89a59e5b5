//! Who changed what, when and from where: the form of the records, and the chain that nobody takes one out of unseen.
//! Pure, and of use to whoever writes records and to whoever only checks them.
//!
//! A [`Record`] is one line of JSON. It has the SHA-256 of the record before it, and its own over everything else in it
//! ([`Head::append`], [`Verifier`]). What it shows of things is chosen field by field ([`View`]): a value that nobody
//! chose to show is in none. Which calls are recorded is decided in `root-orchestrator/core/src/audit`.

mod chain;
mod date;
mod record;
#[cfg(test)]
mod tests;
mod view;

pub use chain::{Broken, Checkpoint, Head, Reason, Start, Verified, Verifier};
pub use date::rfc3339;
pub use record::{Actor, Entry, Hash, LARGEST_RECORD, MOST_OBJECTS, Outcome, Record, Repeated};
pub use view::{Object, View};
