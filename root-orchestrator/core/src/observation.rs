//! What clusters say. Observations change what is known; they ask for nothing.

use model::{
    ClusterAggregate, ClusterId, ClusterReport, Desired, Generation, InstanceReport, Location, Phase,
    Timestamp,
};

use crate::{
    Change, Cluster, Instance, State,
    state::{Session, Sight},
};

impl State {
    /// A cluster connected and holds the assignment `observed`. Its old connection, if any, counts no longer.
    ///
    /// If it holds a newer one than was ever made here (the store was restored from a backup), numbering goes on
    /// above it, so that it does not refuse what it is told.
    #[must_use]
    pub fn cluster_connected(
        &mut self,
        id: ClusterId,
        location: Location,
        observed: Generation,
    ) -> Vec<Change> {
        let Some(cluster) = self.clusters.get(&id) else { return Vec::new() };
        self.sessions.insert(id, Session { offered: None, observed });
        self.capacity_changed = true;
        let mut updated = Cluster { location: Some(location), ..cluster.clone() };
        if observed > cluster.generation {
            updated.generation = observed.next();
        }
        if updated == *cluster { Vec::new() } else { vec![Change::Cluster(id, Some(updated))] }
    }

    /// The connection of a cluster ended.
    pub fn cluster_disconnected(&mut self, id: ClusterId) {
        self.sessions.remove(&id);
        // What waits is told that this one is no longer there to wait for.
        self.capacity_changed = true;
    }

    /// A cluster reported. What it says of instances it does not hold, or of older placements, is ignored.
    #[must_use]
    pub fn cluster_reported(&mut self, id: ClusterId, report: ClusterReport, now: Timestamp) -> Vec<Change> {
        let Some(session) = self.sessions.get_mut(&id) else { return Vec::new() };
        session.observed = report.observed_generation;
        let sight = self.sights.entry(id).or_default();
        let grew = has_more(&sight.aggregate, &report.aggregate);
        // Anything that changes what a refusal would say, so that reasons stay true; loads do not.
        let differs = sight.last_report.is_none()
            || grew
            || sight.aggregate.free != report.aggregate.free
            || sight.aggregate.largest_free != report.aggregate.largest_free
            || sight.aggregate.active_workers != report.aggregate.active_workers
            || sight.aggregate.known_workers != report.aggregate.known_workers;
        for instance in &report.instances {
            sight.in_flight.remove(&instance.id);
        }
        *sight = Sight {
            aggregate: report.aggregate,
            last_report: Some(now),
            in_flight: std::mem::take(&mut sight.in_flight),
        };
        self.capacity_changed |= differs;
        if grew {
            self.declined.values_mut().for_each(|refusals| {
                refusals.remove(&id);
            });
        }
        report.instances.into_iter().filter_map(|said| self.instance_reported(id, said, now)).collect()
    }

    fn instance_reported(
        &mut self,
        cluster: ClusterId,
        said: InstanceReport,
        now: Timestamp,
    ) -> Option<Change> {
        let instance = self.instances.get(&said.id)?;
        if instance.cluster != Some(cluster) || instance.generation != said.generation {
            return None;
        }
        self.usage.insert(said.id, said.usage);
        match (instance.desired, said.phase) {
            (Desired::Removed, Phase::Removed) => Some(Change::Instance(said.id, None)),
            // Until it is confirmed gone, what it still does is not news.
            (Desired::Removed, _) => None,
            (Desired::Running, Phase::Refused) => {
                let refusal = said.refusal.clone();
                let taken_back = Instance {
                    cluster: None,
                    report: InstanceReport {
                        phase: Phase::Requested,
                        detail: "its cluster declined it; looking for another".to_owned(),
                        since: now,
                        refusal: None,
                        ..said.clone()
                    },
                    ..instance.clone()
                };
                if let Some(refusal) = refusal {
                    self.declined.entry(said.id).or_default().insert(cluster, refusal);
                }
                Some(Change::Instance(said.id, Some(taken_back)))
            }
            (Desired::Running, _) if instance.report.same_state(&said) => None,
            (Desired::Running, _) => {
                let updated = Instance { report: said, ..instance.clone() };
                Some(Change::Instance(updated.id, Some(updated)))
            }
        }
    }
}

/// Whether a cluster can do something now that it could not before.
fn has_more(before: &ClusterAggregate, after: &ClusterAggregate) -> bool {
    after.active_workers > before.active_workers
        || after.capabilities != before.capabilities
        || !before.free.covers(&after.free)
        || after.largest_free.iter().any(|free| !before.largest_free.iter().any(|old| old.covers(free)))
}
