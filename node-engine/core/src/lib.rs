//! The brain of NodeEngine: compares what this device was assigned with what its container engine runs, and
//! says what to do about the difference. Pure: no IO, no clock, no randomness.
//!
//! ```text
//!   Assignment ─► accept ─► Accepted ─► (shell saves it) ─► apply ─┐
//!   Observation ───────────────────────► observe ──────────────────┤
//!                                                                  ▼
//!                                   Node ──► reconcile(now) ─► Plan { submissions, wake_at }
//!                                     └────► report() ───────► WorkerReport
//! ```
//!
//! What it promises: a container is removed only when its instance's tombstone, or a newer generation of the
//! same instance, was assigned. Absence from an assignment, errors and lost results never remove anything. Whatever
//! waits, waits by the steady time: a clock that is set changes what is shown and nothing else.
//!
//! The shell that executes the effects is `node-engine/src`.

mod backoff;
mod contact;
mod container;
mod effect;
mod history;
mod leaving;
mod node;
mod observe;
mod probing;
mod reconcile;
mod report;
mod runs;
mod tracked;

pub use backoff::{LONGEST_DELAY_MILLIS, STEADY_AFTER_MILLIS};
pub use container::{ContainerId, ContainerSeen, ContainerState, Exit, ImageHealth};
pub use effect::{
    Effect, Observation, Outcome, Plan, RemoveOrder, SealedSecret, StartOrder, StopCause, StopOrder,
    Submission, Ticket,
};
pub use history::{History, KnownRun, Past, Remembered};
pub use leaving::TELL_EVERY_MILLIS;
pub use node::{Accepted, Before, Held, Node, Settings, StaleAssignment};
pub use reconcile::RESYNC_MILLIS;
