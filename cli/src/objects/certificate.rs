//! Certificates, as the root and clusters tell of them.

use serde::Deserialize;

use super::or_default;

/// The newest certificate of its kind and owner.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Certificate {
    /// `root`, the name of a cluster, or that of a cluster and a worker.
    pub(crate) owner: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) serial: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) issued_at: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) expires_at: String,
    /// `valid`, `overdue`, `expired` or `revoked`.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) state: String,
}
