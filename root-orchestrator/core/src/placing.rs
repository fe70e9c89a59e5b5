//! Which cluster gets an instance: at first, and instead of one that is silent or cannot keep it.

use std::{collections::BTreeMap, sync::Arc};

use model::{
    Capability, ClusterAggregate, ClusterId, DistanceConstraint, InstanceId, InstanceReport, Mebibytes,
    Millicores, Moment, Now, OnPartition, Phase, Refusal, Resources, RevisionId, ServiceSpec,
};
use placement::{Candidate, CandidateKind, Reason, Request, decide_with, explain_with, largest, may_fit_one};

use crate::{Change, Cluster, Instance, State, reconcile::Plan};

/// A cluster that reports is heard at least every five seconds: three of them missed are silence.
pub const SILENT_MILLIS: u64 = 15_000;
/// More than any request asks for.
const ANYTHING: Resources = Resources {
    cpu: Millicores(u32::MAX),
    memory: Mebibytes(u32::MAX),
    storage: Mebibytes(u32::MAX),
    gpus: u32::MAX,
};

/// The clusters as candidates for the instances of one reconciliation.
struct Field {
    candidates: Vec<Candidate>,
    clusters: Vec<ClusterId>,
    /// The revision that selection and siblings are set for.
    set_for: Option<RevisionId>,
    /// The last revision that was refused everywhere; another instance of it would be too.
    refused: Option<(RevisionId, Refusal)>,
}

impl State {
    pub(crate) fn place_all(&mut self, plan: &mut Plan, now: Now) {
        let reasons_are_old = self.reasons_due.is_some_and(|at| at <= now.moment);
        let reconsider = std::mem::take(&mut self.capacity_changed) || reasons_are_old;
        if reconsider {
            self.reasons_due = None;
        } else if let Some(at) = self.reasons_due {
            plan.wake(at);
        }
        let mut field = None;
        self.place_pending(plan, &mut field, reconsider, now);
        if reconsider {
            for id in self.stranded.clone() {
                self.place_elsewhere(plan, &mut field, id, now);
            }
        } else {
            let news: Vec<InstanceId> =
                self.stranded.iter().filter(|id| !self.declined.contains_key(id)).copied().collect();
            for id in news {
                self.place_elsewhere(plan, &mut field, id, now);
            }
        }
        self.leave_silent_clusters(plan, &mut field, reconsider, now);
    }

    fn place_pending(&mut self, plan: &mut Plan, field: &mut Option<Field>, reconsider: bool, now: Now) {
        let waiting: Vec<InstanceId> = self
            .pending
            .iter()
            .filter(|id| reconsider || self.instances[*id].report.phase != Phase::Refused)
            .copied()
            .collect();
        for id in waiting {
            // Most of those that wait are many of one kind and were told the same before.
            if field.as_ref().is_some_and(|field| self.is_told(field, id)) {
                continue;
            }
            let instance = self.instances[&id].clone();
            let Some(spec) = self.spec(&instance).cloned() else { continue };
            match self.choose(field.get_or_insert_with(|| self.field()), &instance, &spec) {
                Ok(cluster) => self.place(plan, instance, cluster, now),
                Err(refusal) if instance.report.refusal.as_ref() == Some(&refusal) => {}
                Err(refusal) => {
                    let report = InstanceReport {
                        detail: refusal.to_string(),
                        refusal: Some(refusal),
                        ..InstanceReport::new(id, instance.tenure.latest, Phase::Refused, now.date)
                    };
                    self.change(plan, Change::Instance(id, Some(Instance { report, ..instance })));
                }
            }
        }
    }

    /// Whether an instance would be refused like the one before it, and was told so already.
    fn is_told(&self, field: &Field, id: InstanceId) -> bool {
        let instance = &self.instances[&id];
        let is_plain = !self.declined.contains_key(&id) && instance.tenure.is_vacant();
        field.refused.as_ref().is_some_and(|(revision, refusal)| {
            is_plain
                && *revision == instance.revision_id()
                && instance.report.refusal.as_ref() == Some(refusal)
        })
    }

    fn place(&mut self, plan: &mut Plan, mut instance: Instance, cluster: ClusterId, now: Now) {
        let generation = instance.tenure.latest.next_cluster();
        instance.tenure.place(cluster, generation);
        instance.report = InstanceReport {
            detail: "sent to its cluster".to_owned(),
            last_exit: instance.report.last_exit.take(),
            ..InstanceReport::new(instance.id, generation, Phase::ClusterScheduled, now.date)
        };
        self.change(plan, Change::Instance(instance.id, Some(instance)));
    }

    /// Gives an instance that its cluster cannot keep running to another, if there is one.
    fn place_elsewhere(&mut self, plan: &mut Plan, field: &mut Option<Field>, id: InstanceId, now: Now) {
        let Some(instance) = self.instances.get(&id).cloned() else { return };
        let Some(spec) = self.spec(&instance).cloned() else { return };
        // Its own cluster was asked and said no.
        if let (Some(cluster), Some(refusal)) = (instance.cluster(), instance.report.refusal.clone()) {
            self.declined.entry(id).or_default().insert(cluster, refusal);
        }
        if let Ok(cluster) = self.choose(field.get_or_insert_with(|| self.field()), &instance, &spec) {
            self.place(plan, instance, cluster, now);
            // What must not run twice is not to be started again where it was, whatever becomes of the new copy.
            if let OnPartition::StopAfter(_) = spec.survival.on_partition
                && let Some(mut placed) = self.instances.get(&id).cloned()
                && placed.tenure.settle()
            {
                self.change(plan, Change::Instance(id, Some(placed)));
            }
        }
    }

    /// Gives instances of clusters that are silent for longer than their services bear to others.
    fn leave_silent_clusters(
        &mut self,
        plan: &mut Plan,
        field: &mut Option<Field>,
        reconsider: bool,
        now: Now,
    ) {
        if reconsider {
            for (cluster, id) in std::mem::take(&mut self.unplaced) {
                if self.leaves_at(cluster, id, now.moment).is_some_and(|due| due <= now.moment) {
                    self.leave(plan, field, cluster, id, now);
                }
            }
        }
        if let Some(at) = self.silence_due.filter(|at| *at > now.moment) {
            if at < Moment(u64::MAX) {
                plan.wake(at);
            }
            return;
        }
        let silent = self
            .clusters
            .keys()
            .filter(|id| self.silent_since(**id, now.moment).is_some())
            .copied()
            .collect();
        self.silent = silent;
        self.witness_silence(now.moment);
        let mut soonest = Moment(u64::MAX);
        for cluster in self.silent.clone() {
            let look_again = self.sights.get(&cluster).and_then(|sight| sight.look_again);
            if let Some(at) = look_again.filter(|at| *at > now.moment) {
                soonest = soonest.min(at);
                continue;
            }
            let mut next: Option<Moment> = None;
            let held: Vec<InstanceId> =
                self.held.get(&cluster).into_iter().flat_map(BTreeMap::keys).copied().collect();
            for id in held {
                match self.leaves_at(cluster, id, now.moment) {
                    Some(due) if due <= now.moment => self.leave(plan, field, cluster, id, now),
                    Some(due) => next = Some(next.map_or(due, |next| next.min(due))),
                    None => {}
                }
            }
            // Those that found no place wait for capacity, which is looked at whenever it changes.
            let at = next.unwrap_or(Moment(u64::MAX));
            if let Some(sight) = self.sights.get_mut(&cluster) {
                sight.look_again = Some(at);
            }
            soonest = soonest.min(at);
        }
        // Those that still report are silent three reports from now at the earliest.
        let reporting = self.sights.values().map(|sight| sight.last_heard.plus_millis(SILENT_MILLIS));
        soonest = reporting.filter(|at| *at > now.moment).fold(soonest, Moment::min);
        self.silence_due = Some(soonest);
        if soonest < Moment(u64::MAX) {
            plan.wake(soonest);
        }
    }

    /// When an instance goes to another cluster if its own stays silent; `None` is never.
    fn leaves_at(&self, cluster: ClusterId, id: InstanceId, now: Moment) -> Option<Moment> {
        let instance = self.instances.get(&id).filter(|it| it.cluster() == Some(cluster) && it.is_live())?;
        let after = self.spec(instance)?.survival.cluster_lost_after?;
        Some(self.silent_since(cluster, now)?.plus_millis(after.as_millis()))
    }

    /// Gives an instance of a silent cluster to another, or notes that there is none.
    fn leave(
        &mut self,
        plan: &mut Plan,
        field: &mut Option<Field>,
        cluster: ClusterId,
        id: InstanceId,
        now: Now,
    ) {
        self.place_elsewhere(plan, field, id, now);
        if self.instances.get(&id).is_some_and(|instance| instance.cluster() == Some(cluster)) {
            self.unplaced.insert((cluster, id));
        }
    }

    /// The last sign of life of a cluster that has been silent for so long that what it last said of its instances is
    /// no longer told as if it were so. A connection that breaks for a moment, or a root that was restarted, is no
    /// reason to alarm anybody.
    #[must_use]
    pub fn given_up_since(&self, cluster: ClusterId, now: Moment) -> Option<Moment> {
        let since = self.silent_since(cluster, now)?;
        (now.millis_since(since) >= SILENT_MILLIS).then_some(since)
    }

    /// The last sign of life of a cluster that is not connected, or connected and silent; of one that has not come back
    /// since the root was started, that of the last one which has.
    #[must_use]
    pub(crate) fn silent_since(&self, cluster: ClusterId, now: Moment) -> Option<Moment> {
        let sight = self.sights.get(&cluster)?;
        let since = match sight.session {
            0 => self.returns.counted_from().map_or(sight.last_heard, |from| from.max(sight.last_heard)),
            _ => sight.last_heard,
        };
        let is_silent = !self.is_connected(cluster) || now.millis_since(since) >= SILENT_MILLIS;
        is_silent.then_some(since)
    }

    pub(crate) fn spec(&self, instance: &Instance) -> Option<&Arc<ServiceSpec>> {
        self.services.get(&instance.id.service)?.spec_of(instance.revision)
    }

    /// The clusters as candidates, in order of their ids; what is on its way to one counts as taken.
    fn field(&self) -> Field {
        let candidates = self.clusters.keys().map(|id| self.candidate(*id)).collect();
        Field { candidates, clusters: self.clusters.keys().copied().collect(), set_for: None, refused: None }
    }

    fn candidate(&self, id: ClusterId) -> Candidate {
        let Some(sight) = self.sights.get(&id) else {
            let mut unseen = Candidate::cluster(id.as_u128(), ANYTHING, ANYTHING);
            unseen.set_connected(false);
            return unseen;
        };
        let aggregate = &sight.aggregate;
        // A cluster without workers passes the filter, so that `choose` can say what it really lacks.
        let (free, largest, capabilities) = match aggregate.active_workers {
            0 => (ANYTHING, ANYTHING, Capability::ALL.as_slice()),
            _ => (aggregate.free, largest(&aggregate.largest_free), aggregate.capabilities.as_slice()),
        };
        let mut candidate = Candidate::cluster(id.as_u128(), free, largest)
            .with_capabilities(capabilities)
            .with_instances(self.held.get(&id).map_or(0, BTreeMap::len))
            .with_load_percent(aggregate.cpu_percent);
        candidate.set_connected(self.is_connected(id) && sight.last_report.is_some());
        for needs in sight.in_flight.values() {
            // More on its way than fits: the cluster will decline what does not.
            let _fits = candidate.reserve(needs);
        }
        candidate
    }

    /// Chooses a cluster that has no copy of `instance` and reserves the room in the field.
    fn choose(
        &self,
        field: &mut Field,
        instance: &Instance,
        spec: &ServiceSpec,
    ) -> Result<ClusterId, Refusal> {
        let revision = instance.revision_id();
        let copies = self.spread.get(&instance.id.service);
        let declined = self.declined.get(&instance.id).filter(|declined| !declined.is_empty());
        let is_plain = declined.is_none() && instance.tenure.is_vacant();
        if is_plain
            && let Some((refused, refusal)) = &field.refused
            && *refused == revision
        {
            return Err(refusal.clone());
        }
        let siblings =
            |cluster: &ClusterId| copies.and_then(|copies| copies.get(cluster)).copied().unwrap_or(0);
        if field.set_for != Some(revision) {
            for (candidate, cluster) in field.candidates.iter_mut().zip(&field.clusters) {
                candidate.set_selected(allows(spec, &self.clusters[cluster]));
                candidate.set_siblings(siblings(cluster));
            }
            field.set_for = Some(revision);
        }
        let request = Request::of_service(spec);
        let check = |index: usize| -> Result<(), Reason> {
            let cluster = field.clusters[index];
            if let Some(refusal) = declined.and_then(|refusals| refusals.get(&cluster)) {
                return Err(Reason::Declined(words(refusal).into()));
            }
            if instance.tenure.role(cluster).is_some() {
                return Err(Reason::Declined("it has a copy of it that must go first".into()));
            }
            let Some(sight) = self.sights.get(&cluster) else { return Err(Reason::Disconnected) };
            match (sight.aggregate.active_workers, sight.aggregate.known_workers) {
                (0, 0) => Err(Reason::Declined("no worker has joined it yet".into())),
                (0, _) => Err(Reason::Declined("none of its workers is connected".into())),
                _ => suits(spec, &self.clusters[&cluster], &sight.aggregate),
            }
        };
        match decide_with(&field.candidates, &request, check) {
            Ok(choice) => {
                let cluster = field.clusters[choice.index];
                let chosen = &mut field.candidates[choice.index];
                let reserved = chosen.reserve(&request.resources);
                debug_assert!(reserved, "what passed the filter has room");
                chosen.set_siblings(siblings(&cluster) + 1);
                Ok(cluster)
            }
            Err(rejections) => {
                let name = |index: usize| self.clusters[&field.clusters[index]].name.clone();
                let verdicts = explain_with(&field.candidates, &request, name, check);
                let refusal = rejections.into_named_refusal(CandidateKind::Cluster, verdicts);
                if is_plain {
                    field.refused = Some((revision, refusal.clone()));
                }
                Err(refusal)
            }
        }
    }
}

/// Whether every `direct` constraint that names clusters names this one.
fn allows(spec: &ServiceSpec, cluster: &Cluster) -> bool {
    spec.constraints
        .iter()
        .all(|constraint| constraint.clusters.is_empty() || constraint.clusters.contains(&cluster.name))
}

/// Whether a cluster with workers may have what the filter knows nothing of.
fn suits(spec: &ServiceSpec, cluster: &Cluster, has: &ClusterAggregate) -> Result<(), Reason> {
    let is_near = |distance: &DistanceConstraint| cluster.location.is_some_and(|at| distance.holds_at(&at));
    if let Some(distance) = spec.distances.iter().find(|distance| !is_near(distance)) {
        return Err(Reason::Declined(format!("not {distance} with all that it covers").into()));
    }
    if !spec.runs_on(&has.architectures) {
        let (has, needed) = (has.architectures.join(" and "), spec.architectures_in_words());
        return Err(Reason::Declined(format!("its workers are {has}, and {needed} is needed").into()));
    }
    if may_fit_one(&has.largest_free, &spec.resources) { Ok(()) } else { Err(Reason::ScatteredOverWorkers) }
}

/// A cluster's refusal as the words that follow its name.
fn words(refusal: &Refusal) -> String {
    let reasons: Vec<String> = refusal
        .candidates
        .iter()
        .map(|verdict| format!("{}: {}", verdict.candidate, verdict.reason))
        .collect();
    if reasons.is_empty() { refusal.summary.clone() } else { reasons.join(", ") }
}
