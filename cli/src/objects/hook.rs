//! Hooks, as the root tells of them: without their secrets.

use serde::Deserialize;

use super::or_default;

/// A hook.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Hook {
    #[serde(rename = "_id")]
    pub(crate) id: String,
    #[serde(rename = "hook_name")]
    pub(crate) name: String,
    #[serde(rename = "webhook_url", default, deserialize_with = "or_default")]
    pub(crate) url: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) entity: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) events: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) organization: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) signed: bool,
    /// Deliveries that wait.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) pending: u64,
    /// Attempts in a row that failed.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) failures: u64,
    #[serde(default)]
    pub(crate) last_error: Option<HookError>,
}

/// Why a delivery was not taken.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct HookError {
    pub(crate) reason: String,
}

impl Hook {
    /// `organization/name`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.organization, self.name)
    }
}
