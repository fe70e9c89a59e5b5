//! Desired against observed: the only place that asks for effects.

use std::collections::BTreeSet;

use model::{
    Assignment, Brain, Capability, ClusterId, Generation, InstanceId, InstanceReport, Mebibytes, Millicores,
    Phase, Refusal, Resources, ServiceSpec, Timestamp,
};
use placement::{Candidate, CandidateKind, Reason, Request, decide_with, explain_with, largest, may_fit_one};

use crate::{Change, Cluster, Instance, Service, State};

/// Subnets that should stay free in a cluster's blocks, so that workers can join while the root is away.
const SPARE_SUBNETS: usize = 8;
/// /26 subnets in the /20 block that `addressing` lends.
const SUBNETS_PER_BLOCK: usize = 64;
/// More than any request asks for.
const ANYTHING: Resources = Resources {
    cpu: Millicores(u32::MAX),
    memory: Mebibytes(u32::MAX),
    storage: Mebibytes(u32::MAX),
    gpus: u32::MAX,
};

/// Something for the shell to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Hand an assignment to the connection of a cluster.
    SendAssignment {
        /// Which cluster.
        cluster: ClusterId,
        /// All it should have.
        assignment: Assignment,
    },
}

/// The changes and effects of a pass.
pub(crate) type Plan = model::Plan<Change, Effect>;

impl Brain for State {
    type Change = Change;
    type Effect = Effect;

    fn apply(&mut self, change: Change) {
        self.take(change);
    }

    /// Places what is pending, removes what is gone, and brings clusters up to date.
    fn reconcile(&mut self, now: Timestamp) -> Plan {
        let mut plan = Plan::default();
        self.place_pending(&mut plan, now);
        self.forget_deleted_services(&mut plan);
        self.lend_blocks(&mut plan);
        self.bump_generations(&mut plan);
        self.offer_assignments(&mut plan);
        plan
    }
}

impl State {
    fn change(&mut self, plan: &mut Plan, change: Change) {
        self.take(change.clone());
        plan.changes.push(change);
    }

    fn place_pending(&mut self, plan: &mut Plan, now: Timestamp) {
        let reconsider = std::mem::take(&mut self.capacity_changed);
        let waiting: Vec<InstanceId> = self
            .pending
            .iter()
            .filter(|id| reconsider || self.instances[*id].report.phase != Phase::Refused)
            .copied()
            .collect();
        if waiting.is_empty() {
            return;
        }
        let mut candidates = self.candidates();
        let ids: Vec<ClusterId> = self.clusters.keys().copied().collect();
        for id in waiting {
            let Some(service) = self.services.get(&id.service) else { continue };
            let change = self.place(id, service, &mut candidates, &ids, now);
            if let Some(change) = change {
                self.change(plan, change);
            }
        }
    }

    /// The clusters as candidates, in order of their ids; what is on its way to one counts as taken.
    fn candidates(&self) -> Vec<Candidate> {
        self.clusters
            .keys()
            .map(|id| {
                let sight = self.sights.get(id).cloned().unwrap_or_default();
                let aggregate = &sight.aggregate;
                // A cluster without workers passes the filter, so that `place` can say what it really lacks.
                let (free, largest, capabilities) = match aggregate.active_workers {
                    0 => (ANYTHING, ANYTHING, Capability::ALL.as_slice()),
                    _ => {
                        (aggregate.free, largest(&aggregate.largest_free), aggregate.capabilities.as_slice())
                    }
                };
                let mut candidate = Candidate::cluster(id.as_u128(), free, largest)
                    .with_capabilities(capabilities)
                    .with_instances(self.held.get(id).map_or(0, BTreeSet::len))
                    .with_load_percent(aggregate.cpu_percent);
                candidate.set_connected(self.is_connected(*id) && sight.last_report.is_some());
                for service in sight.in_flight.iter().filter_map(|id| self.services.get(&id.service)) {
                    // More on its way than fits: the cluster will decline what does not.
                    let _fits = candidate.reserve(&service.spec.resources);
                }
                candidate
            })
            .collect()
    }

    fn place(
        &self,
        id: InstanceId,
        service: &Service,
        candidates: &mut [Candidate],
        ids: &[ClusterId],
        now: Timestamp,
    ) -> Option<Change> {
        let instance = &self.instances[&id];
        for (candidate, cluster) in candidates.iter_mut().zip(ids) {
            candidate.set_selected(allows(&service.spec, &self.clusters[cluster]));
            let siblings =
                self.held.get(cluster).map_or(0, |held| held.range(InstanceId::all_of(id.service)).count());
            candidate.set_siblings(siblings);
        }
        let request = Request::of_service(&service.spec);
        let check = |index: usize| -> Result<(), Reason> {
            let declined = self.declined.get(&id).and_then(|refusals| refusals.get(&ids[index]));
            if let Some(refusal) = declined {
                return Err(Reason::Declined(words(refusal).into()));
            }
            let Some(sight) = self.sights.get(&ids[index]) else { return Err(Reason::Disconnected) };
            match (sight.aggregate.active_workers, sight.aggregate.known_workers) {
                (0, 0) => Err(Reason::Declined("no worker has joined it yet".into())),
                (0, _) => Err(Reason::Declined("none of its workers is connected".into())),
                _ if may_fit_one(&sight.aggregate.largest_free, &service.spec.resources) => Ok(()),
                _ => Err(Reason::ScatteredOverWorkers),
            }
        };
        match decide_with(candidates, &request, check) {
            Ok(choice) => {
                let reserved = candidates[choice.index].reserve(&request.resources);
                debug_assert!(reserved, "what passed the filter has room");
                let generation = instance.generation.next();
                let placed = Instance {
                    cluster: Some(ids[choice.index]),
                    generation,
                    report: InstanceReport {
                        detail: "sent to its cluster".to_owned(),
                        ..InstanceReport::new(id, generation, Phase::ClusterScheduled, now)
                    },
                    ..instance.clone()
                };
                Some(Change::Instance(id, Some(placed)))
            }
            Err(rejections) => {
                let name = |index: usize| self.clusters[&ids[index]].name.clone();
                let verdicts = explain_with(candidates, &request, name, check);
                let refusal = rejections.into_named_refusal(CandidateKind::Cluster, verdicts);
                if instance.report.refusal.as_ref() == Some(&refusal) {
                    return None;
                }
                let refused = Instance {
                    report: InstanceReport {
                        detail: refusal.to_string(),
                        refusal: Some(refusal),
                        ..InstanceReport::new(id, instance.generation, Phase::Refused, now)
                    },
                    ..instance.clone()
                };
                Some(Change::Instance(id, Some(refused)))
            }
        }
    }

    fn forget_deleted_services(&mut self, plan: &mut Plan) {
        for id in std::mem::take(&mut self.emptied) {
            let deleted = self.services.get(&id).is_some_and(|service| service.deleted);
            if deleted && self.instances_of(id).next().is_none() {
                self.change(plan, Change::Service(id, None));
            }
        }
    }

    /// Gives each cluster enough blocks for the workers it has and some more to join.
    fn lend_blocks(&mut self, plan: &mut Plan) {
        let mut blocks = None;
        for id in self.clusters.keys() {
            let workers = self.sights.get(id).map_or(0, |sight| sight.aggregate.known_workers);
            let wanted = (workers as usize + SPARE_SUBNETS).div_ceil(SUBNETS_PER_BLOCK);
            let lent = self.blocks.blocks_of(id).v4.len();
            for _ in lent..wanted {
                let plan = blocks.get_or_insert_with(|| self.blocks.clone());
                if plan.extend(id).is_err() {
                    // Every block is lent; clusters say so to the workers that find none.
                    break;
                }
                self.dirty.insert(*id);
            }
        }
        if let Some(blocks) = blocks.filter(|blocks| *blocks != self.blocks) {
            self.change(plan, Change::Blocks(blocks));
        }
    }

    fn bump_generations(&mut self, plan: &mut Plan) {
        for id in std::mem::take(&mut self.dirty) {
            if let Some(cluster) = self.clusters.get(&id) {
                let bumped = Cluster { generation: cluster.generation.next(), ..cluster.clone() };
                self.change(plan, Change::Cluster(id, Some(bumped)));
            }
        }
    }

    fn offer_assignments(&mut self, plan: &mut Plan) {
        let mut behind = Vec::new();
        for (id, session) in &mut self.sessions {
            let Some(cluster) = self.clusters.get(id) else { continue };
            let is_behind = |held: Generation| held < cluster.generation;
            if session.offered.is_none_or(is_behind) && is_behind(session.observed) {
                // If the connection breaks before it is handed over, so does the session that remembers this.
                session.offered = Some(cluster.generation);
                behind.push(*id);
            }
        }
        for id in behind {
            let assignment = self.assignment(&self.clusters[&id]);
            plan.effects.push(Effect::SendAssignment { cluster: id, assignment });
        }
    }
}

/// Whether every `direct` constraint that names clusters names this one.
fn allows(spec: &ServiceSpec, cluster: &Cluster) -> bool {
    spec.constraints
        .iter()
        .all(|constraint| constraint.clusters.is_empty() || constraint.clusters.contains(&cluster.name))
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
