//! Workers, as their cluster tells of them.

use serde::Deserialize;

use super::or_default;

/// One worker of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) alive: bool,
    /// Since its last sign of life.
    #[serde(default)]
    pub(crate) silent_ms: Option<u64>,
    /// After so much silence it counts as lost.
    #[serde(default)]
    pub(crate) lost_after_ms: Option<u64>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) loss_percent: u64,
    /// `open`, `cordoned` or `draining`.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) scheduling: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) instances: u64,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) free: Amounts,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) allocatable: Amounts,
}

/// Amounts of resources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Amounts {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) cpu_millicores: u64,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) memory_mb: u64,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) storage_mb: u64,
}
