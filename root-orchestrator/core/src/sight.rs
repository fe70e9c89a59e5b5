//! What the root remembers of clusters only while it runs: their connections, what they hold and what they said.

use std::collections::BTreeMap;

use model::{
    AssignedInstance, AssignedService, ClusterAggregate, Generation, InstanceId, InstanceReport, Moment,
    Resources, Timestamp, Usage,
};

/// What is known of a connected cluster; gone when the connection is.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Session {
    /// Greater than that of every connection before.
    pub(crate) number: u64,
    /// The newest assignment handed to the connection, and when.
    pub(crate) offered: Option<(Generation, Moment)>,
    /// The newest assignment the cluster says it holds.
    pub(crate) observed: Generation,
    /// The number of its last report.
    pub(crate) heard: u64,
}

/// A copy of an instance at a cluster: what the cluster is told of it, and what it says. Follows from the documents.
///
/// Assignments are made and reports are taken in whole, so this is looked at for all copies of a cluster whenever
/// something happens to one of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HeldCopy {
    pub(crate) assigned: AssignedInstance,
    /// `None` for one whose revision is not known, which no cluster can run.
    pub(crate) service: Option<AssignedService>,
    /// The last report of it, if that changed nothing and nothing has happened to the instance since: the same again
    /// will change nothing either.
    pub(crate) said: Option<InstanceReport>,
    pub(crate) usage: Option<Usage>,
}

/// What is remembered of a cluster while the root runs, connected or not.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Sight {
    pub(crate) aggregate: ClusterAggregate,
    pub(crate) last_report: Option<Timestamp>,
    /// The last sign of life; the start of the root before the first.
    pub(crate) last_heard: Moment,
    /// The number of its newest connection.
    pub(crate) session: u64,
    /// Instances assigned to it that its last report did not know yet, with what they reserve.
    pub(crate) in_flight: BTreeMap<InstanceId, Resources>,
    /// When to look again whether its silence has lasted too long for an instance it has; `None` is now.
    pub(crate) look_again: Option<Moment>,
}
