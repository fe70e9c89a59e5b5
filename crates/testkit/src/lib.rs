//! Real daemons in one process on port 0: root, clusters and workers over real HTTP, TLS and gRPC; only the container
//! engine is a fake. For tests only.
//!
//! A [`Daemon`] can be stopped and started again on the same port and state directory, which is what a restart or a
//! power cut looks like to the others.

mod api;
mod api_tls;
mod daemon_task;
mod descriptors;
mod ground;
mod stack;
mod wait;

pub use api::{Answer, Api};
pub use daemon_task::Daemon;
pub use descriptors::{hello_sla, sla};
pub use stack::{Cluster, Root, Worker};
pub use wait::wait_until;
