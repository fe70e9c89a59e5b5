//! Small numbers inside the simulation, typed ids outside of it.

use std::fmt;

use model::{ClusterId, WorkerId};
use uuid::Uuid;

const CLUSTERS: u128 = 0xc000_0000_0000_0000_0000_0000_0000_0000;
const WORKERS: u128 = 0xd000_0000_0000_0000_0000_0000_0000_0000;

/// A cluster by its place in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClusterIndex(pub(crate) u32);

/// A worker by its place in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WorkerIndex(pub(crate) u32);

impl ClusterIndex {
    pub(crate) const fn id(self) -> ClusterId {
        ClusterId::new(Uuid::from_u128(CLUSTERS + self.0 as u128))
    }

    pub(crate) fn of(id: ClusterId) -> Self {
        Self(u32::try_from(id.as_u128().wrapping_sub(CLUSTERS)).unwrap_or(u32::MAX))
    }
}

impl WorkerIndex {
    pub(crate) const fn id(self) -> WorkerId {
        WorkerId::new(Uuid::from_u128(WORKERS + self.0 as u128))
    }

    pub(crate) fn of(id: WorkerId) -> Self {
        Self(u32::try_from(id.as_u128().wrapping_sub(WORKERS)).unwrap_or(u32::MAX))
    }
}

impl fmt::Display for ClusterIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster{}", self.0)
    }
}

impl fmt::Display for WorkerIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker{}", self.0)
    }
}

/// One of the daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    Root,
    Cluster(ClusterIndex),
    Worker(WorkerIndex),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Cluster(cluster) => cluster.fmt(f),
            Self::Worker(worker) => worker.fmt(f),
        }
    }
}

/// The end of a link that dials: a cluster's to the root, or a worker's to its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Child {
    Cluster(ClusterIndex),
    Worker(WorkerIndex),
}

impl fmt::Display for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(cluster) => cluster.fmt(f),
            Self::Worker(worker) => worker.fmt(f),
        }
    }
}
