//! The brain of the root: what users asked for, which cluster holds what, and what to tell whom. Pure.
//!
//! ```text
//!   users ────► accept   (command.rs, rollout.rs, enrolment.rs, ─┐
//!               certificates.rs, membership.rs, sessions.rs,     ├─► changes ──► apply (state.rs)
//!               secrets.rs, hooks.rs, resources.rs, objects)     │
//!   clusters ─► observe  (observation.rs) ───────────────────────┘
//!
//!   reconcile(now) (reconcile.rs, placing.rs, rollout.rs, outbox.rs) ──► Plan { changes, effects, wake_at }
//!                                                             the only place that asks for effects
//!   readers ──► queries.rs
//! ```
//!
//! Who may ask for what is decided in [`access`], what an identity provider's word makes of somebody in [`oidc`]; what is
//! recorded of it in `audit.rs`; what clients are told has happened in `events.rs`; what tasks do in `workflows`; how organisations are kept apart below the root in `tenancy.rs`.
//! The root knows clusters by their aggregates; no worker is ever named here. The shell around it is
//! `root-orchestrator/src/service.rs`; the SLA documents users write are understood in [`sla`].

pub mod access;
mod addresses;
mod audit;
mod certificates;
mod command;
mod enrolment;
mod events;
mod hooks;
mod membership;
mod neighbours;
mod notes;
mod objects;
mod observation;
pub mod oidc;
mod outbox;
mod people;
mod placing;
mod queries;
mod quota;
mod reach;
mod reconcile;
mod resources;
mod rollout;
mod secrets;
mod service;
mod sessions;
mod sight;
pub mod sla;
mod state;
mod tenancy;
#[cfg(test)]
mod tests;
mod throttle;
mod workflows;

pub use ::resources::SchemaProblem;
pub use audit::{AuditEnds, AuditFilter, Call, FORGOTTEN_AT_ONCE, actor, seen_by};
pub use certificates::{Revocation, RevokedId};
pub use command::{Author, FreshIds, Rejected};
pub use enrolment::{Claim, EnrolmentRejected, JoinKind, JoinedAs, Token};
pub use events::{About, Event, MOST_EVENTS};
pub use hooks::{
    Hook, HookError, HookEvent, HookRejected, HookSecret, HookStatus, HookWish, MAX_HOOK_NAME_LENGTH,
    MAX_HOOK_URL_LENGTH, MOST_HOOKS, SecretWish, Topic,
};
pub use membership::{NewUser, PeopleRejected, UserChange};
pub use notes::{Notes, noted};
pub use objects::{
    Deleted, Document, MAX_OBJECT_BYTES, MOST_DEFINITIONS, MOST_OBJECT_BYTES, MOST_OBJECTS, Object,
    ObjectKey, ObjectRejected, Seen,
};
pub use outbox::{Delivery, DeliveryId, MOST_WAITING};
pub use people::{ApiToken, EndedSession, Organization, PasswordReset, PeopleChange, User};
pub use placing::SILENT_MILLIS;
pub use quota::{Quota, QuotaUsage};
pub use reach::{Reach, Unreachable};
pub use reconcile::{Effect, OFFER_AGAIN_MILLIS};
pub use resources::{
    CheckedResource, CustomResource, MAX_RESOURCE_BYTES, MAX_SCHEMA_BYTES, MAX_TYPE_NAME_LENGTH,
    MOST_RESOURCE_BYTES, MOST_RESOURCE_TYPES, MOST_RESOURCES, ResourceCheck, ResourceRejected, ResourceType,
};
pub use secrets::{Envelope, NewSecret, Rotation, Secret, SecretKind, SecretVersion};
pub use service::{Revision, Rollout, Service, UpdatePolicy};
pub use sessions::{NewApiToken, Session};
pub use state::{Application, Change, Cluster, Instance, State};
pub use throttle::Throttle;
pub use workflows::{Accepted, ActionCall, RunWish, WorkflowKind};
