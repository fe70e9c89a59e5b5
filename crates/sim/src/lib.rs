//! The whole hierarchy in virtual time: the real brains of root, clusters and workers in simulated shells, on a
//! network that loses, doubles and delays, with crashes, cuts and clocks that jump.
//!
//! ```text
//!   scenario (seed, size, faults, mutant)
//!        │
//!   world.rs ── queue.rs (virtual time) ── rng.rs (all chance)
//!        ├─ root.rs, cluster.rs ── daemon.rs, store.rs   turns, commits, crashes in between     real cores
//!        ├─ worker.rs ── machine.rs, engine.rs           NodeEngine, its disk, its containers   real core
//!        ├─ wire.rs ── link.rs                           connections, messages, beats
//!        ├─ faults.rs, user.rs, wishes.rs                what goes wrong, what people want
//!        └─ watch.rs ── oracle.rs ── invariants.rs       what must hold, after every event
//!           callable.rs                                 what NetManagers must know, at rest
//!
//!   runs/   runs of tasks over ends of the root: the root's real core, and clusters in outline
//! ```
//!
//! Everything follows from the seed; `docs/invariants.md` says what is checked. `src/bin/sim.rs` is the command line.

mod callable;
mod cluster;
mod daemon;
mod engine;
mod event;
mod faults;
mod ids;
mod invariants;
mod link;
mod machine;
mod mutants;
mod oracle;
mod queue;
mod rng;
mod root;
mod run;
mod runs;
mod scenario;
mod stats;
mod store;
mod trace;
mod user;
mod watch;
mod wire;
mod wishes;
mod worker;
mod world;

pub use invariants::Invariant;
pub use mutants::Mutant;
pub use oracle::Violation;
pub use run::{Options, Outcome, explain, hunt, run, run_all, run_twice, shrink};
pub use runs::{Runs, RunsMistake, RunsOutcome};
pub use scenario::{Fault, Scenario};
pub use stats::{Statistics, Times};
pub use trace::Line;
