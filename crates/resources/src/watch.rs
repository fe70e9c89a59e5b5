//! What watchers are told: that an object was added, modified or deleted as far as they can see it, and how far they are.

use serde_json::{Value, json};

use crate::{selector::Selector, status::Status};

/// What happened to an object for somebody who sees only what a selector admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// It is there now.
    Added,
    /// It is another.
    Modified,
    /// It is there no more, or no longer what is selected.
    Deleted,
}

impl EventType {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }

    /// What a change is for somebody who watches; nothing if it is not about what is selected.
    #[must_use]
    pub fn of(before: Option<&Value>, after: Option<&Value>, selector: &Selector) -> Option<Self> {
        let admits = |object: Option<&Value>| object.is_some_and(|object| selector.admits(object));
        match (admits(before), admits(after)) {
            (false, false) => None,
            (false, true) => Some(Self::Added),
            (true, true) => Some(Self::Modified),
            (true, false) => Some(Self::Deleted),
        }
    }
}

/// One line of a watch.
#[must_use]
pub fn event(of: EventType, object: Value) -> Value {
    json!({"type": of.as_str(), "object": object})
}

/// Tells a watcher that it has seen all up to a revision; `is_initial_end` also that it has seen all there was at first.
#[must_use]
pub fn bookmark(api_version: &str, kind: &str, revision: u64, is_initial_end: bool) -> Value {
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if is_initial_end {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    json!({"type": "BOOKMARK", "object": {"kind": kind, "apiVersion": api_version, "metadata": metadata}})
}

/// Tells a watcher why it is told no more.
#[must_use]
pub fn error(status: &Status) -> Value {
    json!({"type": "ERROR", "object": status.to_value()})
}
