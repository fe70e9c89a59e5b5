//! The brain of the root: what users asked for, which cluster holds what, and what to tell whom. Pure.
//!
//! ```text
//!   users ────► accept   (command.rs, enrolment.rs) ─┐
//!                                                    ├─► changes ──► apply
//!   clusters ─► observe  (observation.rs) ───────────┘
//!
//!   reconcile(now) (reconcile.rs) ──► Plan { changes, effects }     the only place that asks for effects
//! ```
//!
//! The root knows clusters by their aggregates; no worker is ever named here. The shell around it is
//! `root-orchestrator/src/service.rs`; the SLA documents users write are understood in [`sla`].

mod command;
mod enrolment;
mod observation;
mod reconcile;
pub mod sla;
mod state;
#[cfg(test)]
mod tests;

pub use command::{FreshIds, Rejected};
pub use enrolment::{Claim, EnrolmentRejected, JoinKind, JoinedAs, Token};
pub use reconcile::Effect;
pub use state::{Application, Change, Cluster, Instance, Service, State};
