//! What a simulated cluster reports to the root, and when.

use std::{collections::BTreeSet, sync::Arc};

use model::InstanceId;

use crate::{
    event::{Body, Envelope, Event},
    ids::{Child, ClusterIndex},
    queue::Millis,
    world::World,
};

/// The longest between two reports to the root, as in `cluster-orchestrator/src/uplink.rs`.
pub(super) const HEARTBEAT: Millis = 5_000;

/// The next report to the root. Over the real wire nothing is lost while a connection lasts, so each tells what is
/// new since the one before; here messages are lost, so the regular one tells everything again.
#[derive(Debug, Default)]
pub(super) struct News {
    /// It is about to go out.
    due: bool,
    /// It tells of everything.
    whole: bool,
    /// It tells of these.
    pub(super) about: BTreeSet<InstanceId>,
}

impl World {
    pub(super) fn cluster_has_whole_news(&mut self, index: ClusterIndex) {
        self.cluster_mut(index).news.whole = true;
        self.cluster_has_news(index);
    }

    pub(super) fn cluster_has_news(&mut self, index: ClusterIndex) {
        let at = self.now + self.rng.between(1, 20);
        let cluster = self.cluster_mut(index);
        let process = cluster.daemon.process.number;
        if !cluster.news.due && cluster.link.up {
            cluster.news.due = true;
            self.queue.push(at, Event::News { cluster: index, process });
        }
    }

    /// The cluster is connected: the root is told everything soon.
    pub(crate) fn cluster_introduces_itself(&mut self, index: ClusterIndex) {
        let at = self.now + 50;
        let cluster = self.cluster_mut(index);
        cluster.news.whole = true;
        let process = cluster.daemon.process.number;
        self.queue.push(at, Event::News { cluster: index, process });
    }

    /// Sends a report, as after every change.
    pub(crate) fn news(&mut self, index: ClusterIndex, process: u32) {
        let (now, mutant) = (self.now, self.scenario.mutant);
        let cluster = self.cluster_mut(index);
        if cluster.daemon.process.number != process {
            return;
        }
        cluster.news.due = false;
        if !cluster.link.up {
            return;
        }
        let News { whole, about, .. } = std::mem::take(&mut cluster.news);
        let present = cluster.daemon.process.present(now, mutant);
        let session = cluster.link.session;
        let Some(brain) = &cluster.daemon.brain else { return };
        cluster.reports += 1;
        let report = if whole {
            brain.report(cluster.reports, present)
        } else {
            brain.report_about(&about, cluster.reports, present)
        };
        let report = Arc::new(report);
        self.send(Envelope { child: Child::Cluster(index), session, body: Body::ClusterReport(report) });
    }

    pub(crate) fn cluster_heartbeat(&mut self, index: ClusterIndex, process: u32) {
        if self.cluster_ref(index).daemon.process.number == process && self.cluster_ref(index).daemon.is_up()
        {
            self.cluster_has_whole_news(index);
            let child = Child::Cluster(index);
            self.queue.push(self.now + HEARTBEAT, Event::Heartbeat { child, process });
        }
    }
}
