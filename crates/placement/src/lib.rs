//! Chooses where an instance runs: filter, score, pick, and every reason why not. Pure.
//!
//! The root uses it with clusters as candidates, a cluster with its workers. What the candidates are made of is
//! in `model`; who asks, and what becomes of the choice, lives in the `core/` crates of the root and the cluster.
//!
//! ```text
//!   [Candidate; n] + Request ──► filter ──► Score ──► Ok(Choice)
//!                                   └──► Reason ────► Err(Rejections) ──► model::Refusal
//! ```
//!
//! Resources are *reserved* when an instance is assigned ([`Candidate::reserve`]); what is not reserved decides.
//! Measured load only breaks near ties.

mod candidate;
mod decide;
mod filter;
mod frontier;
mod lanes;
mod refuse;
mod score;
#[cfg(test)]
mod tests;

pub use candidate::{Candidate, CandidateKind, Request};
pub use decide::{Choice, Tally, decide, decide_with};
pub use filter::{Reason, ResourceKind, filter};
pub use frontier::{fits_one, frontier, largest, may_fit_one};
pub use refuse::{EXPLAINED_CANDIDATES, Rejections, explain, explain_with};
pub use score::Score;
