//! What fleet programs tell whoever measures them: one JSON object per line on standard output, moments as nanoseconds
//! since 1970, which two processes of one machine agree on.

use std::{
    io::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// `fleet-control` has everything running; where the root's REST API is.
    Ready {
        /// `host:port`.
        api: String,
    },
    /// `fleet-workers`, five times a second.
    Status(Status),
    /// An instance that a worker did not have before was assigned to it. Told on request only.
    Arrived {
        /// The id of its service.
        service: String,
        /// Its number.
        number: u32,
        /// When the worker had read it.
        at_nanos: u64,
    },
    /// The answer to `attached`: how long after the last `mark` each worker was connected again, in milliseconds.
    Attached {
        /// How many are.
        count: usize,
        /// The median.
        p50_millis: f64,
        /// The 99th percentile.
        p99_millis: f64,
        /// The last one.
        last_millis: f64,
    },
    /// The result of `fleet-ingest`.
    Ingest(Ingest),
}

/// Sums over all simulated workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    /// Workers with a connection that the cluster has answered.
    pub connected: u64,
    /// Connections that ended, and attempts that failed.
    pub broken: u64,
    /// Reports handed to connections.
    pub reports: u64,
    /// Instances that workers hold.
    pub instances: u64,
    /// When the last new instance arrived anywhere.
    pub last_arrival_nanos: u64,
    /// Assignments that were newer than the one held.
    pub assignments: u64,
    /// Of those, the ones that made a difference to what is held.
    pub changing: u64,
    /// Assignments that were not newer and were left aside.
    pub stale: u64,
    /// Instances that were at two workers at once. A fault.
    pub duplicates: u64,
    /// Instances whose generation went back. A fault.
    pub went_back: u64,
}

/// Rates per second of processor time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ingest {
    /// Instances in each report.
    pub instances_per_report: u32,
    /// Mean bytes of an encoded report.
    pub bytes_per_report: f64,
    /// Reports decoded, converted, applied and committed; one number per round.
    pub applied: Vec<f64>,
    /// The same reports decoded only; one number per round.
    pub decoded: Vec<f64>,
}

/// Now, as the moments of events.
#[must_use]
pub fn now_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Tells an event at once.
///
/// # Errors
/// When nobody reads any more.
pub fn tell(event: &Event) -> std::io::Result<()> {
    let mut line = serde_json::to_string(event)?;
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()
}
