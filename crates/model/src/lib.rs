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

mod address;
mod assignment;
mod brain;
mod certificate;
mod cluster;
mod distance;
mod health;
mod ids;
mod instance;
mod isolation;
mod neighbours;
mod network;
mod output;
mod quantity;
mod refusal;
mod secret;
mod service;
mod survival;
mod tenure;
mod time;
mod upkeep;
mod weight;

pub use address::{AddressKind, StableAddress, slot_of};
pub use assignment::{AssignedInstance, AssignedService, Assignment, Desired, NetworkLease};
pub use brain::{Brain, Plan};
pub use certificate::{CertificateRecord, Holder, Lifetime, NotIssued, RevokedWorker, WorkerCertificate};
pub use cluster::{
    ClusterAggregate, ClusterReport, Load, Location, LocationError, SpentToken, WorkerInventory,
    WorkerReport, WorkerToken,
};
pub use distance::{DistanceConstraint, Microdegrees};
pub use health::{Check, Health, Probe};
pub use ids::{
    ApplicationId, ClusterId, HookId, IdError, InstanceId, OrganizationId, ResourceId, ResourceTypeId,
    RevisionId, SecretId, SecretVersionId, ServiceId, TokenId, UserId, WorkerId,
};
pub use instance::{InstanceReport, LAST_CALLS_MILLIS, LastExit, Phase, Tier, Usage};
pub use isolation::{
    Allowances, AllowedCaller, AllowedCallerError, AllowedCallers, ApplicationName, may_connect,
};
pub use neighbours::{
    Neighbour, NeighbourInstance, NeighbourNews, Neighbours, SharedApplication, SharedNews, SharedService,
};
pub use network::{
    CallableInstance, CallableService, InstanceNews, NetworkNews, Peer, Reach, RelayLoan, RelayOffer,
    RelayPlace, Surroundings, TunnelEnd, TunnelKey, Way,
};
pub use output::Output;
pub use quantity::{Generation, Mebibytes, Millicores, Resources};
pub use refusal::{CandidateVerdict, Refusal, RefusalCode};
pub use secret::{ImagePullSecret, RegistryCredentials, SECRETS_DIRECTORY, Sealed, SecretTarget, SecretUse};
pub use service::{
    AddedFile, Capability, DirectConstraint, PortMapping, PortMappingError, Protocol, ServiceNames,
    ServiceSpec, Virtualization,
};
pub use survival::{OnPartition, OnRejoin, PolicyError, Survival};
pub use tenure::{Leftover, Role, Tenure};
pub use time::{Moment, Now, Span, SpanError, Timestamp};
pub use upkeep::{ClusterAnswer, ClusterRequest, Scheduling, WorkerStatus};
pub use weight::Weight;
