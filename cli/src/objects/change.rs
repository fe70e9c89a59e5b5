//! What a service was, and its change from one revision to another.

use std::fmt;

use serde::Deserialize;

use super::or_default;

/// A change of revision under way.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct RolloutState {
    pub(crate) from: u64,
    pub(crate) to: u64,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) instances: u64,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) ready: u64,
    /// It takes a failed change back.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) rollback: bool,
    /// Why it gets no further, when it does not.
    #[serde(default)]
    pub(crate) stalled: Option<String>,
}

impl fmt::Display for RolloutState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.rollback { "back " } else { "" };
        write!(f, "{verb}from {} to {}: {}/{} ready", self.from, self.to, self.ready, self.instances)?;
        self.stalled.as_ref().map_or(Ok(()), |reason| write!(f, ", stalled: {reason}"))
    }
}

/// What a service was at some time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Revision {
    pub(crate) number: u64,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) created: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) current: bool,
    /// Why it was rolled back, if it was.
    #[serde(default)]
    pub(crate) failed: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) image: String,
}
