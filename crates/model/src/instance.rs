//! What a child reports about one instance.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{Generation, InstanceId, Refusal, Timestamp};

/// Where an instance is in its life, as its tier last saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Accepted by the root; no cluster has it.
    Requested,
    /// The root chose a cluster; no worker has it.
    ClusterScheduled,
    /// The cluster chose a worker; the worker has not begun.
    NodeScheduled,
    /// The worker fetches the image or makes the container.
    Creating,
    /// The container runs and, where it has one, its address is reachable.
    Running,
    /// A one-shot instance ended with exit code 0.
    Completed,
    /// The container ended and will be started again.
    Dead,
    /// It could not be started; the detail says why and it is tried again.
    Failed,
    /// No candidate of this tier can take it; the refusal says why.
    Refused,
    /// It must go, and the device has not confirmed that it is gone.
    Undeploying,
    /// It is gone from the device.
    Removed,
}

impl Phase {
    /// The stable lower-case word used in the store, on the wire and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::ClusterScheduled => "cluster_scheduled",
            Self::NodeScheduled => "node_scheduled",
            Self::Creating => "creating",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Dead => "dead",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Undeploying => "undeploying",
            Self::Removed => "removed",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an instance uses now. Telemetry: kept in memory only.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Percent of one core.
    pub cpu_percent: f32,
    /// Bytes of main memory.
    pub memory_bytes: u64,
    /// Bytes written to the container's own layer.
    pub disk_bytes: u64,
}

/// The whole of what a child knows about one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceReport {
    /// Which instance.
    pub id: InstanceId,
    /// Which assignment of it this speaks of; reports about older ones are ignored.
    pub generation: Generation,
    /// Where it is in its life.
    pub phase: Phase,
    /// One sentence for a person; empty when there is nothing to add.
    pub detail: String,
    /// Since when it is in this phase.
    pub since: Timestamp,
    /// The instance's own addresses.
    pub addresses: Vec<IpAddr>,
    /// Where its port mappings are reached: an address of its device, learnt from the worker's connection.
    pub published_at: Option<IpAddr>,
    /// How often it was started again after it ended.
    pub restarts: u32,
    /// What it uses now.
    pub usage: Usage,
    /// Present exactly when the phase is `Refused`.
    pub refusal: Option<Refusal>,
}

impl InstanceReport {
    /// A report with nothing but a phase.
    #[must_use]
    pub fn new(id: InstanceId, generation: Generation, phase: Phase, since: Timestamp) -> Self {
        Self {
            id,
            generation,
            phase,
            detail: String::new(),
            since,
            addresses: Vec::new(),
            published_at: None,
            restarts: 0,
            usage: Usage::default(),
            refusal: None,
        }
    }

    /// Whether both say the same apart from telemetry.
    #[must_use]
    pub fn same_state(&self, other: &Self) -> bool {
        let without_usage = |report: &Self| Self { usage: Usage::default(), ..report.clone() };
        without_usage(self) == without_usage(other)
    }
}
