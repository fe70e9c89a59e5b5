//! What the root remembers of clusters only while it runs: their connections, what they hold and what they said.

use std::collections::BTreeMap;

use model::{
    AssignedInstance, AssignedService, ClusterAggregate, Generation, InstanceId, InstanceReport, Moment, Now,
    Resources, Timestamp, Usage,
};

use crate::State;

/// After a start a cluster that comes back delays for so long at most that others are taken for lost.
pub(crate) const COMING_BACK_AT_MOST_MILLIS: u64 = 120_000;

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

/// Clusters coming back after a start of the root. While a whole fleet does, handshakes and reports wait for each other,
/// so who has not come yet is not silent as long as others come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Returns {
    /// Since when those that were known before are expected.
    expected_since: Option<Moment>,
    /// When the last of them came.
    last_came: Option<Moment>,
}

impl Returns {
    /// From when on the silence of those counts that have not come yet.
    pub(crate) fn counted_from(&self) -> Option<Moment> {
        let at_most = self.expected_since?.plus_millis(COMING_BACK_AT_MOST_MILLIS);
        Some(self.last_came?.min(at_most))
    }
}

impl State {
    /// A cluster came that had not been here since the start: the others are given more time.
    pub(crate) fn came_back(&mut self, now: Moment) {
        self.returns.last_came = Some(now);
        self.silence_due = None;
        for missing in self.sights.values_mut().filter(|sight| sight.session == 0) {
            missing.look_again = None;
        }
    }

    /// To be called once after the stored documents were applied: what is told to clusters has not changed, every
    /// cluster has a while to connect, and everything pending is worth a look.
    pub fn loaded(&mut self, now: Now) {
        self.dirty.clear();
        self.tokens_due.clear();
        self.revocations_due.clear();
        self.outbox.loaded();
        self.events.loaded();
        self.workflows.loaded();
        self.stable.go_on_behind();
        self.capacity_changed = true;
        self.returns = Returns { expected_since: Some(now.moment), last_came: None };
        for id in self.clusters.keys() {
            let sight = self.sights.entry(*id).or_default();
            sight.last_heard = now.moment;
            // Reports say what they know.
            sight.in_flight.clear();
            self.blocks_due.insert(*id);
        }
    }
}
