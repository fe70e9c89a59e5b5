//! What users ask for: `Task` and `Ignitor`, from the values that JSON and YAML are read as.
//!
//! ```text
//!   Value ──object──► known fields of the right type ──task, ignitor, container, action──► TaskSpec, IgnitorSpec
//!                                         └──► [Cause { field, reason, message }]
//! ```
//!
//! Nothing a user wrote is dropped in silence: all that is not understood is told at once, each with its path.

mod action;
mod cause;
mod container;
mod ignitor;
mod object;
mod task;
#[cfg(test)]
mod tests;
mod trigger;

use serde_json::Value;

pub use action::Action;
pub use cause::{Cause, CauseReason};
pub use container::Container;
pub use ignitor::{
    CatchUp, CatchUpPolicy, EventSelector, IgnitorSpec, MAX_DATA_BYTES, Overlap, Schedule, Webhook,
};
pub use task::{Concurrency, ForEach, HistoryLimits, Items, Join, MOST_ITEMS, Retry, TaskSpec};

use crate::nesting;
use cause::Causes;
use object::{Object, cut};

/// The group and version of both kinds.
pub const API_VERSION: &str = "sirocco.cloud/v1alpha1";

/// Judges documents by JSON Schema, as its owner does everywhere else.
pub trait Schemas: std::fmt::Debug + Send + Sync {
    /// Whether `schema` is one that is understood.
    ///
    /// # Errors
    /// Where in it something is not, as a path such as `.properties.port`, and why.
    fn ensure_schema(&self, schema: &Value) -> Result<(), (String, String)>;

    /// Whether `document` is as `schema` says.
    ///
    /// # Errors
    /// What is wrong, in a sentence with its place.
    fn ensure_valid(&self, schema: &Value, document: &Value) -> Result<(), String>;
}

/// The `spec` of a whole object of `kind`. What else the metadata and the status hold is for the resource API.
fn spec_of<'a>(document: &'a Value, kind: &str, causes: &mut Causes) -> Option<Object<'a>> {
    let name = document.pointer("/metadata/name").and_then(Value::as_str);
    if let Some(name) = name.filter(|name| !is_name(name)) {
        let message =
            format!("must have at most 63 letters a-z, digits, `-` and `.`, but is \"{}\"", cut(name));
        causes.invalid("metadata.name", &message);
    }
    if nesting::is_too_deep(document) {
        let message = format!("values are nested deeper than {}", nesting::DEEPEST);
        causes.add(CauseReason::TooLong, "", &message);
        return None;
    }
    let mut object = Object::of("", document, causes)?;
    for (field, expected) in [("apiVersion", API_VERSION), ("kind", kind)] {
        match object.take(field) {
            None => causes.required(field, &format!("write {expected}")),
            Some(Value::String(text)) if text == expected => {}
            Some(_) => causes.add(CauseReason::NotSupported, field, &format!("must be {expected}")),
        }
    }
    object.take("metadata");
    object.take("status");
    let spec = object.object("spec", causes);
    if spec.is_none() && !object.has("spec") {
        causes.required("spec", &format!("say what the {kind} is to do"));
    }
    object.finish(causes);
    spec
}

/// Whether it may be the name of a resource, as Kubernetes has it, and short enough for what is made of it.
fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    let outer =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = text.as_bytes();
    text.len() <= MOST_NAME_CHARACTERS
        && bytes.iter().all(|byte| inner(*byte))
        && outer(bytes.first())
        && outer(bytes.last())
}

/// Characters of a name: one label of a host name.
const MOST_NAME_CHARACTERS: usize = 63;
