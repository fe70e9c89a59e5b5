//! The brain of the root: what users asked for, which cluster holds what, and what to tell whom. Pure.
//!
//! ```text
//!   users ────► accept   (command.rs, rollout.rs, enrolment.rs) ─┐
//!                                                                ├─► changes ──► apply (state.rs)
//!   clusters ─► observe  (observation.rs) ───────────────────────┘
//!
//!   reconcile(now) (reconcile.rs, placing.rs, rollout.rs) ──► Plan { changes, effects, wake_at }
//!                                                             the only place that asks for effects
//!   readers ──► queries.rs
//! ```
//!
//! The root knows clusters by their aggregates; no worker is ever named here. The shell around it is
//! `root-orchestrator/src/service.rs`; the SLA documents users write are understood in [`sla`].

mod addresses;
mod command;
mod enrolment;
mod neighbours;
mod observation;
mod placing;
mod queries;
mod reconcile;
mod rollout;
mod secrets;
mod service;
mod sight;
pub mod sla;
mod state;
#[cfg(test)]
mod tests;

pub use command::{FreshIds, Rejected};
pub use enrolment::{Claim, EnrolmentRejected, JoinKind, JoinedAs, Token};
pub use placing::SILENT_MILLIS;
pub use reconcile::{Effect, OFFER_AGAIN_MILLIS};
pub use secrets::{Envelope, NewSecret, Rotation, Secret, SecretKind, SecretVersion};
pub use service::{Revision, Rollout, Service, UpdatePolicy};
pub use state::{Application, Change, Cluster, Instance, State};
