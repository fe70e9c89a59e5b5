//! The brain of a cluster: which worker runs what, and what the root is told of it. Pure.
//!
//! ```text
//!   root ─────► take_on   (assignment.rs)  ─┐
//!                                           ├─► changes ──► apply
//!   workers ──► observe   (observation.rs) ─┘
//!
//!   reconcile(now) (reconcile.rs) ──► Plan { changes, effects }     the only place that asks for effects
//!   report(now)    (report.rs)    ──► ClusterReport                 what the root sees: no worker is named in it
//! ```
//!
//! The shell around it is `cluster-orchestrator/src/service.rs`. What the cluster was last assigned is durable, so it
//! goes on without its root.

mod assignment;
mod observation;
mod reconcile;
mod report;
mod state;
#[cfg(test)]
mod tests;

pub use assignment::Stale;
pub use reconcile::Effect;
pub use state::{Change, Held, Instance, State, Worker};
