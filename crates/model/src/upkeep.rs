//! What a person asks of the workers of one cluster. The root passes it on and keeps nothing of the answer.

use serde::{Deserialize, Serialize};

use crate::{Resources, WorkerCertificate, WorkerId};

/// Whether a worker takes instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduling {
    /// It takes what fits.
    #[default]
    Open,
    /// It keeps what it has and takes nothing more.
    Cordoned,
    /// It takes nothing more, and what it has moves to others as soon as it is ready there.
    Draining,
}

/// A wish about workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterRequest {
    /// Tell of every worker.
    ListWorkers,
    /// Set whether a worker, by name or id, takes instances.
    Schedule {
        /// Name or id.
        worker: String,
        /// From now on.
        scheduling: Scheduling,
    },
    /// Move instances from full workers to empty ones, one of each service at a time.
    Rebalance,
    /// Forget a worker that will not return; what it had counts as gone.
    Forget {
        /// Name or id.
        worker: String,
    },
    /// Tell of the certificates of every worker.
    ListCertificates,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub enum ClusterAnswer {
    /// Every worker, by name.
    Workers(Vec<WorkerStatus>),
    /// Every certificate of a worker, by worker.
    Certificates(Vec<WorkerCertificate>),
    /// It is done, or durably begun; the number of instances it concerns.
    Begun {
        /// How many instances move or are given up.
        instances: u32,
    },
    /// It is not done, and nothing was changed.
    Rejected {
        /// What is wrong and what to do.
        reason: String,
    },
}

/// What a cluster tells of one worker.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerStatus {
    /// Which one.
    pub id: WorkerId,
    /// Its name.
    pub name: String,
    /// Whether it is connected and alive.
    pub alive: bool,
    /// Milliseconds since its last sign of life; `None` before the first to this process of the cluster.
    pub silent_millis: Option<u64>,
    /// After how much silence it counts as lost; grows on a link that loses much.
    pub threshold_millis: u64,
    /// Of a hundred signs of life sent, how many were not received lately.
    pub loss_percent: u8,
    /// Whether it takes instances.
    pub scheduling: Scheduling,
    /// Copies on it, those that must go included, those that have completed not.
    pub instances: u32,
    /// What it can give.
    pub allocatable: Resources,
    /// What is not reserved.
    pub free: Resources,
}
