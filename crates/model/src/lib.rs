//! The nouns every part of Mangrove shares: ids, quantities, what a service wants, what a parent assigns and
//! what a child reports.
//!
//! ```text
//!   ServiceSpec ──► AssignedService ──┐
//!                                     ├──► Assignment  (parent ─► child, whole, with a generation)
//!   InstanceId + Generation ──────────┘
//!   InstanceReport ──────────────────────► ClusterReport / WorkerReport  (child ─► parent, whole)
//! ```
//!
//! Pure data: no IO, no clock. How it looks on the wire lives in `proto/`; who decides with it lives in the
//! `core/` crates of the daemons.

mod assignment;
mod brain;
mod cluster;
mod ids;
mod instance;
mod quantity;
mod refusal;
mod service;

pub use assignment::{AssignedInstance, AssignedService, Assignment, Desired, NetworkLease};
pub use brain::{Brain, Plan};
pub use cluster::{ClusterAggregate, ClusterReport, Location, LocationError, WorkerInventory, WorkerReport};
pub use ids::{ApplicationId, ClusterId, IdError, InstanceId, ServiceId, TokenId, UserId, WorkerId};
pub use instance::{InstanceReport, Phase, Usage};
pub use quantity::{Generation, Mebibytes, Millicores, Resources, Timestamp};
pub use refusal::{CandidateVerdict, Refusal, RefusalCode};
pub use service::{
    AddedFile, Capability, DirectConstraint, PortMapping, PortMappingError, Protocol, ServiceNames,
    ServiceSpec, Virtualization,
};
