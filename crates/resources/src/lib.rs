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
pub mod scale;
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

use serde_json::Value;

pub use catalog::Catalog;
pub use kind::Kind;
pub use schema::{Schema, SchemaProblem};
pub use status::{Reason, Status};

/// Values within values that are kept. What is stored is read again by a reader that goes 128 deep, and has a few more around it.
pub const DEEPEST: usize = 100;

/// Whether there are more values within values than are kept.
#[must_use]
pub fn is_too_deep(value: &Value) -> bool {
    is_deeper(value, DEEPEST)
}

fn is_deeper(value: &Value, than: usize) -> bool {
    let Some(less) = than.checked_sub(1) else { return true };
    match value {
        Value::Object(fields) => fields.values().any(|value| is_deeper(value, less)),
        Value::Array(entries) => entries.iter().any(|value| is_deeper(value, less)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
