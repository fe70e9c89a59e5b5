//! The machinery of the resource API, which clients of Kubernetes speak: what kinds there are and how clients find them, what
//! becomes of objects that are written, who owns their fields, and how objects are selected, listed, watched and shown. Pure:
//! where objects are kept and who may do what is decided in `root-orchestrator/core/src/objects`, requests are answered in
//! `root-orchestrator/src/api/resources`.
//!
//! ```text
//!   definition ──► kind ──► catalog ──► discovery, openapi
//!                   │
//!   submitted ──► write (structure, metadata, patch, managed) ──► object ──► table, watch, page
//! ```

mod age;
pub mod catalog;
pub mod definition;
mod fields;
pub mod kind;
mod managed;
pub mod metadata;
pub mod openapi;
pub mod options;
pub mod page;
pub mod patch;
pub mod path;
mod protobuf;
mod schema;
pub mod selector;
pub mod status;
pub mod structure;
pub mod table;
#[cfg(test)]
mod tests;
mod typing;
pub mod watch;
pub mod write;

pub use catalog::Catalog;
pub use kind::Kind;
pub use schema::{Schema, SchemaProblem};
pub use status::{Reason, Status};
