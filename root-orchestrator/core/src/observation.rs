//! What clusters say. Observations change what is known; they ask for nothing.

use model::{
    ClusterAggregate, ClusterId, ClusterReport, Desired, Generation, InstanceReport, Location, Now, OnRejoin,
    Phase, Role, Timestamp,
};

use crate::{
    Change, Cluster, Instance, State,
    command::UNCONFIRMED,
    sight::{Session, Sight},
};

/// The reasons of instances that wait are as of this long ago at most.
const REASONS_WITHIN_MILLIS: u64 = 1000;

impl State {
    /// A cluster connected and holds the assignment `observed`; `session` is greater than that of each of its
    /// connections before, which count no longer. One that comes late is ignored.
    ///
    /// If it holds a newer assignment than was ever made here (the store was restored from a backup), numbering goes
    /// on above it, so that it does not refuse what it is told.
    #[must_use]
    pub fn cluster_connected(
        &mut self,
        id: ClusterId,
        session: u64,
        location: Location,
        observed: Generation,
        now: Now,
    ) -> Vec<Change> {
        let Some(cluster) = self.clusters.get(&id).cloned() else { return Vec::new() };
        let sight = self.sights.entry(id).or_default();
        if sight.session >= session {
            return Vec::new();
        }
        let comes_back = sight.session == 0;
        sight.session = session;
        sight.last_heard = now.moment;
        if comes_back {
            self.came_back(now.moment);
        }
        self.sessions.insert(id, Session { number: session, observed, ..Session::default() });
        self.capacity_changed = true;
        self.behind.insert(id);
        self.tokens_due.entry(id).or_default();
        self.revocations_due.insert(id);
        let mut updated = Cluster { location: Some(location), ..cluster.clone() };
        if observed > cluster.generation {
            updated.generation = observed.next();
        }
        let differs = updated != cluster;
        self.meet_neighbours(id);
        if differs { vec![Change::Cluster(id, Some(updated))] } else { Vec::new() }
    }

    /// A connection of a cluster ended.
    pub fn cluster_disconnected(&mut self, id: ClusterId, session: u64) {
        if self.sessions.get(&id).is_none_or(|current| current.number != session) {
            return;
        }
        self.sessions.remove(&id);
        self.neighbour_moved(id);
        // A connection that is given up for its silence ends long after the last sign of life, so this is none.
        self.silence_due = None;
        self.capacity_changed = true;
    }

    /// A cluster reported over the connection `session`. Reports of another connection, or older than one that came
    /// before, are ignored, and so is what it says of copies it was not given.
    #[must_use]
    pub fn cluster_reported(
        &mut self,
        id: ClusterId,
        session: u64,
        report: ClusterReport,
        now: Now,
    ) -> Vec<Change> {
        let Some(current) = self.sessions.get_mut(&id).filter(|current| current.number == session) else {
            return Vec::new();
        };
        if report.sequence <= current.heard {
            return Vec::new();
        }
        current.heard = report.sequence;
        current.observed = report.observed_generation;
        self.witness_report(id);
        if self.clusters.get(&id).is_some_and(|cluster| report.observed_generation >= cluster.generation) {
            self.behind.remove(&id);
        }
        let sight = self.sights.entry(id).or_default();
        let is_first = sight.last_report.is_none();
        let grew = has_more(&sight.aggregate, &report.aggregate);
        if sight.aggregate.known_workers != report.aggregate.known_workers {
            self.blocks_due.insert(id);
        }
        // Anything that changes what a refusal would say, so that reasons stay true; loads do not.
        let differs = sight.aggregate.free != report.aggregate.free
            || sight.aggregate.largest_free != report.aggregate.largest_free
            || sight.aggregate.active_workers != report.aggregate.active_workers
            || sight.aggregate.known_workers != report.aggregate.known_workers;
        if !sight.in_flight.is_empty() {
            for instance in &report.instances {
                sight.in_flight.remove(&instance.id);
            }
        }
        *sight = Sight {
            aggregate: report.aggregate,
            last_report: Some(now.date),
            last_heard: now.moment,
            session: sight.session,
            in_flight: std::mem::take(&mut sight.in_flight),
            look_again: None,
        };
        if grew || is_first {
            self.capacity_changed = true;
        } else if differs {
            // Nothing more can be placed for it; only what is said of those that wait becomes less true.
            let at = now.moment.plus_millis(REASONS_WITHIN_MILLIS);
            self.reasons_due = Some(self.reasons_due.map_or(at, |due| due.min(at)));
        }
        let mut changes = self.spend_all(id, report.spent);
        for said in report.instances {
            if !self.is_known(id, &said) {
                changes.extend(self.instance_reported(id, said, now.date));
            }
        }
        // What this report declines may have been decided before there was more to give: it is asked once again.
        if grew {
            self.declined.values_mut().for_each(|refusals| {
                refusals.remove(&id);
            });
        }
        changes
    }

    /// Whether a cluster says of a copy what it said before, when it changed nothing. Most of most reports is that.
    fn is_known(&mut self, cluster: ClusterId, said: &InstanceReport) -> bool {
        let copy = self.held.get_mut(&cluster).and_then(|held| held.get_mut(&said.id));
        let known = copy.filter(|copy| copy.said.as_ref().is_some_and(|before| before.same_state(said)));
        known.is_some_and(|copy| {
            copy.usage = Some(said.usage);
            true
        })
    }

    fn instance_reported(
        &mut self,
        cluster: ClusterId,
        said: InstanceReport,
        now: Timestamp,
    ) -> Option<Change> {
        let instance = self.instances.get(&said.id)?;
        // Reports about older copies are not of interest: their tombstones are told already, or will be.
        let (role, _) =
            instance.tenure.role(cluster).filter(|(_, generation)| *generation == said.generation)?;
        if said.phase == Phase::Removed {
            return removed(instance, cluster, said.generation);
        }
        match (instance.desired, role) {
            (Desired::Removed, Role::Holder) => {
                let detail = if said.detail.is_empty() { UNCONFIRMED.to_owned() } else { said.detail };
                let report = instance.report.still_going(InstanceReport { detail, ..said })?;
                Some(Change::Instance(instance.id, Some(Instance { report, ..instance.clone() })))
            }
            (Desired::Removed, Role::Successor | Role::Leftover) => None,
            (Desired::Running, Role::Holder) => self.holder_reported(cluster, said, now),
            // The root moves nothing by way of a successor.
            (Desired::Running, Role::Successor) => None,
            (Desired::Running, Role::Leftover) => self.rejoined(instance, cluster, said),
        }
    }

    fn holder_reported(
        &mut self,
        cluster: ClusterId,
        said: InstanceReport,
        now: Timestamp,
    ) -> Option<Change> {
        let id = said.id;
        let copy = self.held.get_mut(&cluster).and_then(|held| held.get_mut(&id));
        let instance = &self.instances[&id];
        if said.phase == Phase::Refused {
            let refusal = said.refusal.clone();
            let mut taken_back = instance.clone();
            // It says that it has no copy; nothing is left to remove there.
            taken_back.tenure.buried(cluster, said.generation);
            taken_back.report = InstanceReport {
                phase: Phase::Requested,
                ready: false,
                detail: "its cluster declined it; looking for another".to_owned(),
                since: now,
                refusal: None,
                ..said
            };
            if let Some(refusal) = refusal {
                self.declined.entry(id).or_default().insert(cluster, refusal);
            }
            return Some(Change::Instance(id, Some(taken_back)));
        }
        let is_news = !instance.report.same_state(&said);
        if let Some(copy) = copy {
            copy.usage = Some(said.usage);
            copy.said = (!is_news).then(|| said.clone());
        }
        if !is_news {
            return None;
        }
        let mut updated = Instance { report: said, ..instance.clone() };
        let may_settle = match self.rejoin_policy(&updated) {
            OnRejoin::KeepReplacement => updated.is_ready(),
            OnRejoin::KeepOriginal => updated.report.phase == Phase::Completed,
        };
        if may_settle {
            updated.tenure.settle();
        }
        Some(Change::Instance(id, Some(updated)))
    }

    /// An older copy runs at a cluster that is back. Whichever copy is not to be kept gets its tombstone now.
    fn rejoined(&self, instance: &Instance, cluster: ClusterId, said: InstanceReport) -> Option<Change> {
        if !instance.tenure.is_contested() || !(said.ready || said.phase == Phase::Completed) {
            return None;
        }
        let keep_original = match self.rejoin_policy(instance) {
            OnRejoin::KeepOriginal => true,
            // Nothing healthy is stopped for a replacement that does not run, or is cut off in its turn.
            OnRejoin::KeepReplacement => {
                !instance.is_ready() || instance.cluster().is_none_or(|holder| !self.is_connected(holder))
            }
        };
        let mut instance = instance.clone();
        if keep_original && instance.tenure.restore(cluster) {
            instance.report = said;
            instance.tenure.settle();
        } else if !instance.tenure.settle() {
            return None;
        }
        Some(Change::Instance(instance.id, Some(instance)))
    }

    fn rejoin_policy(&self, instance: &Instance) -> OnRejoin {
        let service = self.services.get(&instance.id.service);
        let spec = service.and_then(|service| service.spec_of(instance.revision));
        spec.map(|spec| spec.survival.on_rejoin).unwrap_or_default()
    }
}

/// A cluster confirmed that it has no copy any more.
fn removed(instance: &Instance, cluster: ClusterId, generation: Generation) -> Option<Change> {
    let told = instance.tenure.told(cluster, instance.desired);
    // Only a tombstone removes; a cluster that says so unasked is not believed.
    told.filter(|(_, desired)| *desired == Desired::Removed)?;
    let mut gone = instance.clone();
    gone.tenure.buried(cluster, generation);
    let over = gone.desired == Desired::Removed && gone.tenure.is_vacant();
    Some(Change::Instance(gone.id, (!over).then_some(gone)))
}

/// Whether a cluster can do something now that it could not before.
fn has_more(before: &ClusterAggregate, after: &ClusterAggregate) -> bool {
    after.active_workers > before.active_workers
        || after.capabilities != before.capabilities
        || after.architectures != before.architectures
        || !before.free.covers(&after.free)
        || after.largest_free.iter().any(|free| !before.largest_free.iter().any(|old| old.covers(free)))
}
