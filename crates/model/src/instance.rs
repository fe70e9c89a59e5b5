//! What a child reports about one instance.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{Generation, InstanceId, Output, Refusal, Timestamp};

/// By then every device that calls an instance has heard that it goes, or that its address goes over to another copy, in
/// milliseconds: they are told at the same time. Calls that take no longer than this end meanwhile.
pub const LAST_CALLS_MILLIS: u64 = 250;

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
    /// The container ended and will be started again; or it was stopped because its device is cut off.
    Dead,
    /// It could not be started; the detail says why and it is tried again.
    Failed,
    /// Its worker or its cluster is cut off, so nobody knows; the detail says what happens next.
    Lost,
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
            Self::Lost => "lost",
            Self::Refused => "refused",
            Self::Undeploying => "undeploying",
            Self::Removed => "removed",
        }
    }

    /// The word of Oakestra's API for it; its clients know no others.
    #[must_use]
    pub const fn oakestra(self) -> &'static str {
        match self {
            Self::Requested => "REQUESTED",
            Self::ClusterScheduled => "CLUSTER_SCHEDULED",
            Self::NodeScheduled => "NODE_SCHEDULED",
            Self::Creating => "CREATING",
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Dead | Self::Lost => "DEAD",
            Self::Failed | Self::Refused => "FAILED",
            Self::Undeploying | Self::Removed => "UNDEPLOYED",
        }
    }

    /// Who moves an instance on from here, and within which time while that owner is up and reached; `None` where
    /// nothing is left to do, or only a person or new capacity can change anything.
    #[must_use]
    pub const fn owner(self) -> Option<(Tier, u64)> {
        const SECOND: u64 = 1000;
        match self {
            Self::Requested => Some((Tier::Root, 5 * SECOND)),
            // The cluster confirms, or the root says again what it wants.
            Self::ClusterScheduled => Some((Tier::Root, 60 * SECOND)),
            // The worker begins, or another one gets it.
            Self::NodeScheduled => Some((Tier::Cluster, 60 * SECOND)),
            // An image may take an hour to fetch over a slow link.
            Self::Creating => Some((Tier::Worker, 3_600 * SECOND)),
            // The longest pause between two starts is a minute, and a start takes two at most.
            Self::Dead | Self::Failed => Some((Tier::Worker, 180 * SECOND)),
            // Once its connections have had their time (`ServiceSpec::drain`).
            Self::Undeploying => Some((Tier::Worker, 180 * SECOND)),
            Self::Running | Self::Completed | Self::Lost | Self::Refused | Self::Removed => None,
        }
    }
}

/// One of the three kinds of daemons that keep instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// The root.
    Root,
    /// A cluster orchestrator.
    Cluster,
    /// A worker's NodeEngine.
    Worker,
}

/// How a container of an instance last ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    /// Exit code; 128 + n after signal n.
    pub code: i64,
    /// When.
    pub at: Timestamp,
    /// The last lines it printed, at most [`LastExit::TAIL_BYTES`] bytes; what a single attempt wrote to its termination
    /// log in place of them, at most 4096 bytes. Empty when they could not be read.
    pub tail: String,
    /// What a single attempt wrote as its output, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
}

impl LastExit {
    /// Enough for a stack trace's first lines, small enough to travel with every report.
    pub const TAIL_BYTES: usize = 1024;

    /// An end of which nothing else is known yet.
    #[must_use]
    pub const fn new(code: i64, at: Timestamp) -> Self {
        Self { code, at, tail: String::new(), output: None }
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

impl Usage {
    /// Whether somebody who was told `told` should be told this: 5 percent of a core or 16 MiB, and a tenth of what was
    /// told, are noticed.
    #[must_use]
    pub fn differs_noticeably(self, told: Self) -> bool {
        const CORE_PERCENT: f32 = 5.0;
        const BYTES: u64 = 16 << 20;
        let bytes = |now: u64, told: u64| now.abs_diff(told) >= BYTES.max(told / 10);
        (self.cpu_percent - told.cpu_percent).abs() >= CORE_PERCENT.max(told.cpu_percent / 10.0)
            || bytes(self.memory_bytes, told.memory_bytes)
            || bytes(self.disk_bytes, told.disk_bytes)
    }
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
    /// It runs and its probes say that it may be counted on.
    #[serde(default)]
    pub ready: bool,
    /// How often it was started again after it ended.
    pub restarts: u32,
    /// How it last ended, if it did.
    #[serde(default)]
    pub last_exit: Option<LastExit>,
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
            ready: false,
            restarts: 0,
            last_exit: None,
            usage: Usage::default(),
            refusal: None,
        }
    }

    /// This report of an instance that is to go, with what `said` tells of that; `None` when it tells nothing new. Whatever
    /// else it does until it is gone is no news.
    #[must_use]
    pub fn still_going(&self, said: Self) -> Option<Self> {
        let is_news = said.phase == Phase::Undeploying && said.detail != self.detail;
        is_news.then(|| Self { detail: said.detail, ..self.clone() })
    }

    /// Whether both say the same apart from telemetry. Asked for every instance of every report: nothing is copied.
    #[must_use]
    pub fn same_state(&self, other: &Self) -> bool {
        // Named one by one, so that a field that is added must be thought of.
        let Self {
            id,
            generation,
            phase,
            detail,
            since,
            addresses,
            published_at,
            ready,
            restarts,
            last_exit,
            usage: _,
            refusal,
        } = self;
        (phase, since, restarts, ready) == (&other.phase, &other.since, &other.restarts, &other.ready)
            && (id, generation) == (&other.id, &other.generation)
            && (detail, addresses, published_at) == (&other.detail, &other.addresses, &other.published_at)
            && (last_exit, refusal) == (&other.last_exit, &other.refusal)
    }
}
