//! Desired against observed: the only place that asks for effects.

use std::collections::BTreeSet;

use model::{
    Assignment, Brain, Generation, InstanceId, InstanceReport, NetworkLease, Phase, PortMapping, ServiceSpec,
    Timestamp, WorkerId,
};
use placement::{Candidate, CandidateKind, Reason, Request, decide_with};

use crate::{Change, Instance, State, Worker};

/// Something for the shell to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Hand an assignment to the connection of a worker.
    SendAssignment {
        /// Which worker.
        worker: WorkerId,
        /// All it should have.
        assignment: Assignment,
    },
    /// Tell a NetManager which subnet is its worker's.
    SendLease {
        /// Which worker.
        worker: WorkerId,
        /// Its subnet; `None` while the cluster has no block from the root, or none left.
        lease: Option<NetworkLease>,
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

    /// Places what waits, lends subnets, and brings workers up to date.
    fn reconcile(&mut self, now: Timestamp) -> Plan {
        let mut plan = Plan::default();
        self.place_pending(&mut plan, now);
        self.lend_subnets(&mut plan);
        self.bump_generations(&mut plan);
        self.offer(&mut plan);
        plan
    }
}

impl State {
    fn change(&mut self, plan: &mut Plan, change: Change) {
        self.take(change.clone());
        plan.changes.push(change);
    }

    fn place_pending(&mut self, plan: &mut Plan, now: Timestamp) {
        if self.pending.is_empty() {
            return;
        }
        let mut candidates: Vec<Candidate> =
            self.workers.values().map(|worker| self.candidate(worker)).collect();
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        for id in self.pending.clone() {
            // An instance without its service cannot arrive: the wire refuses such an assignment.
            let Some(service) = self.held.services.get(&id.service) else { continue };
            let spec = service.spec.clone();
            let change = self.place(id, &spec, &mut candidates, &ids, now);
            self.change(plan, change);
        }
    }

    fn candidate(&self, worker: &Worker) -> Candidate {
        let load = self.sessions.get(&worker.id).map_or(0.0, |session| session.cpu_percent);
        let mut candidate = Candidate::worker(worker.id.as_u128(), self.free_on(worker))
            .with_capabilities(&worker.inventory.capabilities)
            .with_instances(self.placed.get(&worker.id).map_or(0, BTreeSet::len))
            .with_load_percent(load);
        candidate.set_connected(self.sessions.contains_key(&worker.id));
        candidate
    }

    fn place(
        &self,
        id: InstanceId,
        spec: &ServiceSpec,
        candidates: &mut [Candidate],
        ids: &[WorkerId],
        now: Timestamp,
    ) -> Change {
        let instance = &self.instances[&id];
        for (candidate, worker) in candidates.iter_mut().zip(ids) {
            candidate.set_selected(allows(spec, &self.workers[worker]));
            candidate.set_siblings(
                self.placed
                    .get(worker)
                    .map_or(0, |placed| placed.range(InstanceId::all_of(id.service)).count()),
            );
        }
        let request = Request::of_service(spec);
        let check = |index: usize| match self.taken_port(ids[index], &spec.ports) {
            Some(port) => Err(Reason::PortTaken(port)),
            None => Ok(()),
        };
        let decided = match decide_with(candidates, &request, check) {
            Ok(choice) => {
                let reserved = candidates[choice.index].reserve(&request.resources);
                debug_assert!(reserved, "what passed the filter has room");
                Instance {
                    worker: Some(ids[choice.index]),
                    reserved: spec.resources,
                    report: InstanceReport::new(id, instance.generation, Phase::NodeScheduled, now),
                    ..instance.clone()
                }
            }
            Err(rejections) => {
                let refusal = rejections.into_refusal(CandidateKind::Worker);
                Instance {
                    report: InstanceReport {
                        detail: refusal.to_string(),
                        refusal: Some(refusal),
                        ..InstanceReport::new(id, instance.generation, Phase::Refused, now)
                    },
                    ..instance.clone()
                }
            }
        };
        Change::Instance(id, Some(decided))
    }

    /// The first of `ports` that an instance on the worker has.
    fn taken_port(&self, worker: WorkerId, ports: &[PortMapping]) -> Option<PortMapping> {
        if ports.is_empty() {
            return None;
        }
        let services =
            self.on_worker(worker).filter_map(|instance| self.held.services.get(&instance.id.service));
        let taken: Vec<PortMapping> =
            services.flat_map(|service| service.spec.ports.iter().copied()).collect();
        ports.iter().find(|port| taken.iter().any(|other| other.clashes_with(port))).copied()
    }

    /// Every worker gets a subnet as soon as there is a block, whether its NetManager is there or not, so that the
    /// one who asks first does not decide the order.
    fn lend_subnets(&mut self, plan: &mut Plan) {
        let mut subnets = None;
        for id in self.workers.keys().filter(|id| self.subnets.subnet_of(id).is_none()) {
            let plan = subnets.get_or_insert_with(|| self.subnets.clone());
            if plan.allocate(id).is_err() {
                // No block yet, or none left: the lease stays absent, which the NetManager is told.
                break;
            }
            self.dirty.insert(*id);
        }
        if let Some(subnets) = subnets.filter(|subnets| *subnets != self.subnets) {
            self.change(plan, Change::Subnets(subnets));
        }
    }

    fn bump_generations(&mut self, plan: &mut Plan) {
        for id in std::mem::take(&mut self.dirty) {
            if let Some(worker) = self.workers.get(&id) {
                let bumped = Worker { generation: worker.generation.next(), ..worker.clone() };
                self.change(plan, Change::Worker(id, Some(bumped)));
            }
        }
    }

    fn offer(&mut self, plan: &mut Plan) {
        let mut behind = Vec::new();
        for (id, session) in &mut self.sessions {
            let Some(worker) = self.workers.get(id) else { continue };
            let is_behind = |held: Generation| held < worker.generation;
            if session.offered.is_none_or(is_behind) && is_behind(session.observed) {
                // If the connection breaks before it is handed over, so does the session that remembers this.
                session.offered = Some(worker.generation);
                behind.push(*id);
            }
        }
        for id in behind {
            let assignment = self.assignment(&self.workers[&id]);
            plan.effects.push(Effect::SendAssignment { worker: id, assignment });
        }
        for (id, offered) in &mut self.networks {
            let lease: Option<NetworkLease> = self.subnets.subnet_of(id).map(Into::into);
            if lease.is_some() && *offered != lease {
                offered.clone_from(&lease);
                plan.effects.push(Effect::SendLease { worker: *id, lease });
            }
        }
    }
}

/// Whether every `direct` constraint that names workers names this one.
fn allows(spec: &ServiceSpec, worker: &Worker) -> bool {
    spec.constraints
        .iter()
        .all(|constraint| constraint.nodes.is_empty() || constraint.nodes.contains(&worker.inventory.name))
}
