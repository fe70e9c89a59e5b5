//! Secrets, as the root tells of them: without their values.

use serde::Deserialize;

use super::or_default;

/// A secret.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Secret {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) version: u64,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) updated_at: String,
    /// Full names of services.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) users: Vec<String>,
}
