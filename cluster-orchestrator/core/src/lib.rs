//! The brain of a cluster: which worker runs what, who of them is alive, and what the root is told. Pure.
//!
//! ```text
//!   root ─────► take_on, honour   (assignment.rs, enrolment.rs, ─┐
//!               revoke             certificates.rs)              │
//!   others ───► neighbour_said    (neighbours.rs)                │
//!   people ───► request           (upkeep.rs)                    ├─► changes ──► apply (state.rs)
//!   workers ──► connected, reported, beats                       │
//!               (contact.rs, observation.rs, weights.rs)        ─┘
//!
//!   reconcile(now) (reconcile.rs, placing.rs) ──► Plan { changes, effects, wake_at }   the only place that asks
//!   report(now)    (report.rs)                ──► ClusterReport                        no worker is named in it
//! ```
//!
//! The shell around it is `cluster-orchestrator/src`. What the cluster was last assigned is durable, so it goes on
//! without its root. Who has an instance is a [`model::Tenure`] over workers.

mod assignment;
mod certificates;
mod contact;
mod enrolment;
mod handover;
mod isolation;
mod neighbours;
mod network;
mod observation;
mod placing;
mod reconcile;
mod report;
mod state;
#[cfg(test)]
mod tests;
mod upkeep;
mod ways;
mod weights;

pub use assignment::Stale;
pub use certificates::RevokedWorkers;
pub use contact::{COMING_BACK_AT_MOST_MILLIS, NOBODY_CAME_MILLIS, RECONNECT_MILLIS, STILL_COMING_MILLIS};
pub use enrolment::{Claim, EnrolmentRejected};
pub use handover::{ARRIVES_WITHIN_MILLIS, LONGEST_LAST_CALLS_MILLIS};
pub use neighbours::Unacceptable;
pub use observation::SETTLE_MILLIS;
pub use placing::{BEGIN_WITHIN_MILLIS, MOVE_WITHIN_MILLIS, STOP_MARGIN_MILLIS};
pub use reconcile::{Effect, Notice, OFFER_AGAIN_MILLIS};
pub use state::{Change, Enrolments, Held, Instance, State, Worker};
