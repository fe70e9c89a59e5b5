//! A fleet on one machine: a root and many clusters in one process, very many simulated workers in another.
//!
//! ```text
//!   fleet-control   root_orchestrator::run + N × cluster_orchestrator::run      writes plan.json, then says `ready`
//!        ▲  gRPC over mutual TLS, beats over UDP: what real daemons speak
//!   fleet-workers   W × workers.rs: connect, beat, report, answer each assignment with `running`
//!   fleet-ingest    reports through one cluster's brain and store on one processor core (ingest.rs)
//! ```
//!
//! Who drives and measures them is `crates/xtask/src/bench/{scale,restart,ingest}.rs`; what they tell it is in
//! [`events`]. Nothing here is part of a daemon.

pub mod control;
pub mod events;
pub mod ingest;
mod ledger;
pub mod plan;
mod tables;
pub mod workers;

use tracing_subscriber::EnvFilter;

/// Logs warnings to standard error; `MANGROVE_LOG` asks for more.
pub fn log() {
    let filter = EnvFilter::try_from_env("MANGROVE_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}
