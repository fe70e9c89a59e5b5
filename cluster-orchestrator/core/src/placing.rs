//! Which worker gets an instance: at first, instead of a lost one, and when it moves.

use std::collections::BTreeMap;

use model::{
    Generation, InstanceId, InstanceReport, Moment, Now, OnPartition, Phase, PortMapping, Refusal,
    Scheduling, ServiceId, ServiceSpec, WorkerId,
};
use placement::{Candidate, CandidateKind, Reason, Request, decide_with};

use crate::{Change, Effect, Instance, Notice, SETTLE_MILLIS, State, Worker, reconcile::Plan};

/// A worker that is connected and was told to begin has this long to do so; then another gets the instance.
pub const BEGIN_WITHIN_MILLIS: u64 = 30_000;
/// A moving instance has this long to get ready at its new place; then it stays where it is. A large image over a
/// slow link may need longer and is tried again.
pub const MOVE_WITHIN_MILLIS: u64 = 600_000;
/// What a worker may need beyond the time it is cut off until a `stop_after` instance has stopped: ten seconds for
/// the process to end by itself, and some for an engine that is busy.
pub const STOP_MARGIN_MILLIS: u64 = 15_000;

/// The workers as candidates for the instances of one reconciliation.
pub(crate) struct Field {
    candidates: Vec<Candidate>,
    workers: Vec<WorkerId>,
    /// The service and revision that selection and siblings are set for.
    set_for: Option<(ServiceId, u32)>,
    /// Device ports given away since, which no document tells of yet.
    promised: BTreeMap<WorkerId, Vec<PortMapping>>,
}

impl Field {
    /// Leaves only those workers to be chosen.
    pub(crate) fn close_unless(&mut self, is_open: impl Fn(WorkerId) -> bool) {
        for (candidate, worker) in self.candidates.iter_mut().zip(&self.workers) {
            candidate.set_cordoned(!is_open(*worker));
        }
    }
}

impl State {
    pub(crate) fn field(&self) -> Field {
        Field {
            candidates: self.workers.values().map(|worker| self.candidate(worker)).collect(),
            workers: self.workers.keys().copied().collect(),
            set_for: None,
            promised: BTreeMap::new(),
        }
    }

    fn candidate(&self, worker: &Worker) -> Candidate {
        let load = self.contacts.load(worker.id).cpu_percent;
        let mut candidate = Candidate::worker(worker.id.as_u128(), self.free_on(worker))
            .with_capabilities(&worker.inventory.capabilities)
            .with_instances(self.placed.get(&worker.id).map_or(0, std::collections::BTreeSet::len))
            .with_load_percent(load);
        candidate.set_connected(self.contacts.is_reachable(worker.id));
        candidate.set_cordoned(worker.scheduling != Scheduling::Open);
        candidate
    }

    /// Chooses a worker that `instance` is not on yet and reserves the room in the field.
    pub(crate) fn choose(
        &self,
        field: &mut Field,
        instance: &Instance,
        spec: &ServiceSpec,
    ) -> Result<WorkerId, Refusal> {
        let copies = self.spread.get(&instance.id.service);
        if field.set_for != Some((instance.id.service, instance.revision)) {
            for (candidate, worker) in field.candidates.iter_mut().zip(&field.workers) {
                candidate.set_selected(allows(spec, &self.workers[worker]));
                candidate.set_siblings(copies.and_then(|copies| copies.get(worker)).copied().unwrap_or(0));
            }
            field.set_for = Some((instance.id.service, instance.revision));
        }
        let request = Request::of_service(spec);
        let check = |index: usize| {
            let worker = field.workers[index];
            // A copy that may yet be restored is room that is taken already, on the worker that has it.
            if instance.tenure.role(worker).is_some() {
                return Err(Reason::Declined("it has a copy of it that must go first".into()));
            }
            let has = &self.workers[&worker].inventory.architecture;
            if !spec.runs_on(std::slice::from_ref(has)) {
                let needed = spec.architectures_in_words();
                return Err(Reason::Declined(format!("{has}, and {needed} is needed").into()));
            }
            let promised = field.promised.get(&worker).map_or(&[][..], Vec::as_slice);
            match self.taken_port(worker, &spec.ports, promised) {
                Some(port) => Err(Reason::PortTaken(port)),
                None => Ok(()),
            }
        };
        match decide_with(&field.candidates, &request, check) {
            Ok(choice) => {
                let chosen = &mut field.candidates[choice.index];
                let reserved = chosen.reserve(&request.resources);
                debug_assert!(reserved, "what passed the filter has room");
                let worker = field.workers[choice.index];
                let siblings = copies.and_then(|copies| copies.get(&worker)).copied().unwrap_or(0);
                chosen.set_siblings(siblings + 1);
                if !spec.ports.is_empty() {
                    field.promised.entry(worker).or_default().extend(&spec.ports);
                }
                Ok(worker)
            }
            Err(rejections) => Err(rejections.into_refusal(CandidateKind::Worker)),
        }
    }

    /// The first of `ports` that an instance on the worker has or was promised.
    fn taken_port(
        &self,
        worker: WorkerId,
        ports: &[PortMapping],
        promised: &[PortMapping],
    ) -> Option<PortMapping> {
        if ports.is_empty() {
            return None;
        }
        let taken: Vec<PortMapping> = self
            .on_worker(worker)
            .filter_map(|instance| self.spec(instance))
            .flat_map(|spec| spec.ports.iter().copied())
            .chain(promised.iter().copied())
            .collect();
        ports.iter().find(|port| taken.iter().any(|other| other.clashes_with(port))).copied()
    }

    /// Gives every instance that waits to a worker, or says why not.
    pub(crate) fn place_pending(&mut self, plan: &mut Plan, field: &mut Option<Field>, now: Now) {
        for id in self.pending.clone() {
            let instance = self.instances[&id].clone();
            // An instance without its service cannot arrive: the wire refuses such an assignment.
            let Some(spec) = self.spec(&instance).cloned() else { continue };
            let chosen = self.choose(field.get_or_insert_with(|| self.field()), &instance, &spec);
            let generation = instance.next_generation();
            match chosen {
                Ok(worker) => self.place(plan, instance, worker, generation, now),
                Err(refusal) => {
                    let report = InstanceReport {
                        detail: refusal.to_string(),
                        refusal: Some(refusal),
                        ..InstanceReport::new(id, instance.generation, Phase::Refused, now.date)
                    };
                    self.change(plan, Change::Instance(id, Some(Instance { report, ..instance })));
                }
            }
        }
    }

    /// Gives an instance to a worker, whoever had it before.
    fn place(
        &mut self,
        plan: &mut Plan,
        mut instance: Instance,
        worker: WorkerId,
        generation: Generation,
        now: Now,
    ) {
        let id = instance.id;
        if let Some(spec) = self.spec(&instance) {
            instance.reserved = spec.resources;
        }
        instance.tenure.place(worker, generation);
        instance.report = InstanceReport {
            last_exit: instance.report.last_exit.take(),
            ..InstanceReport::new(id, generation, Phase::NodeScheduled, now.date)
        };
        self.change(plan, Change::Instance(id, Some(instance)));
        self.must_begin(id, now.moment.plus_millis(BEGIN_WITHIN_MILLIS));
    }

    /// When an instance on a worker that is silent since `silent` goes to another; `None` is never.
    pub(crate) fn replaced_at(&self, instance: &Instance, silent: Moment) -> Option<Moment> {
        match self.spec(instance)?.survival.on_partition {
            OnPartition::ReplaceAfter(after) => Some(silent.plus_millis(after.as_millis())),
            OnPartition::Keep => None,
            OnPartition::StopAfter(after) => {
                Some(silent.plus_millis(after.as_millis()).plus_millis(STOP_MARGIN_MILLIS))
            }
        }
    }

    /// Replaces the instances of lost workers whose time has come.
    pub(crate) fn replace_lost(&mut self, plan: &mut Plan, field: &mut Option<Field>, again: bool, now: Now) {
        let lost: Vec<(WorkerId, Moment)> = self.contacts.lost().collect();
        for (worker, silent) in lost {
            if let Some(next) = self.looked_at.get(&worker).copied().filter(|_| !again)
                && next.is_none_or(|at| at > now.moment)
            {
                next.into_iter().for_each(|at| plan.wake(at));
                continue;
            }
            let mut next: Option<Moment> = None;
            let due: Vec<InstanceId> = self
                .on_worker(worker)
                .filter(|instance| instance.holder() == Some(worker) && instance.is_live())
                // Tried before, and nothing has changed since.
                .filter(|instance| again || !self.no_place.contains_key(&instance.id))
                .filter_map(|instance| {
                    let at = self.replaced_at(instance, silent)?;
                    if at > now.moment {
                        next = Some(next.map_or(at, |next| next.min(at)));
                    }
                    (at <= now.moment).then_some(instance.id)
                })
                .collect();
            next.into_iter().for_each(|at| plan.wake(at));
            self.looked_at.insert(worker, next);
            for id in due {
                self.replace(plan, field, id, now);
            }
        }
    }

    /// Gives instances whose worker was told and does not begin to others.
    pub(crate) fn replace_unbegun(&mut self, plan: &mut Plan, field: &mut Option<Field>, now: Now) {
        let (late, next) = self.late_to_begin(now.moment);
        if let Some(at) = next {
            plan.wake(at);
        }
        for id in late {
            let again = now.moment.plus_millis(BEGIN_WITHIN_MILLIS);
            self.must_begin(id, again);
            plan.wake(again);
            let holder = self.instances.get(&id).and_then(Instance::holder);
            // One that is lost is dealt with as such, and one that has yet to come back has not been told.
            if holder.is_some_and(|holder| {
                self.contacts.lost_since(holder).is_none() && !self.contacts.is_expected(holder)
            }) {
                self.replace(plan, field, id, now);
            }
        }
    }

    fn replace(&mut self, plan: &mut Plan, field: &mut Option<Field>, id: InstanceId, now: Now) {
        let Some(instance) = self.instances.get(&id).cloned() else { return };
        let Some(spec) = self.spec(&instance).cloned() else { return };
        if spec.single_attempt {
            // Its worker may have begun it, and another must not begin it again.
            return;
        }
        if let Some((successor, generation)) = instance.tenure.successor
            && self.contacts.is_reachable(successor)
        {
            // It is on its way there already; it need not wait until it is ready.
            note_replaced(plan, &instance, successor);
            let mut moved = instance.clone();
            moved.tenure.succeed();
            moved.report = InstanceReport::new(id, generation, Phase::NodeScheduled, now.date);
            self.change(plan, Change::Instance(id, Some(moved)));
            return;
        }
        match self.choose(field.get_or_insert_with(|| self.field()), &instance, &spec) {
            Ok(worker) => {
                let generation = instance.next_generation();
                note_replaced(plan, &instance, worker);
                self.place(plan, instance, worker, generation, now);
                if let OnPartition::StopAfter(_) = spec.survival.on_partition {
                    self.settle(plan, id);
                }
            }
            Err(refusal) => {
                self.note_no_place(id, refusal);
            }
        }
    }

    fn note_no_place(&mut self, id: InstanceId, refusal: Refusal) {
        if self.no_place.get(&id) != Some(&refusal) {
            self.no_place.insert(id, refusal);
            self.root_behind.get_or_insert_default().insert(id);
        }
    }

    /// Moves what is on draining workers, and gives up moves that take too long.
    pub(crate) fn drain(&mut self, plan: &mut Plan, field: &mut Option<Field>, again: bool, now: Now) {
        let late: Vec<InstanceId> =
            self.moves.iter().filter(|(_, until)| **until <= now.moment).map(|(id, _)| *id).collect();
        for id in late {
            self.moves.remove(&id);
            if let Some(mut instance) = self.instances.get(&id).cloned() {
                instance.tenure.drop_successor();
                self.change(plan, Change::Instance(id, Some(instance)));
            }
        }
        for worker in self.draining.clone() {
            let due: Vec<Instance> = self
                .on_worker(worker)
                .filter(|instance| instance.holder() == Some(worker) && instance.is_live())
                .filter(|instance| instance.tenure.successor.is_none())
                .filter(|instance| again || !self.no_place.contains_key(&instance.id))
                .cloned()
                .collect();
            for instance in due {
                let Some(spec) = self.spec(&instance).cloned() else { continue };
                if spec.single_attempt {
                    // It ends where it is.
                    continue;
                }
                match self.choose(field.get_or_insert_with(|| self.field()), &instance, &spec) {
                    Ok(to) => self.begin_move(plan, instance, to, now),
                    Err(refusal) => self.note_no_place(instance.id, refusal),
                }
            }
        }
        if let Some(until) = self.moves.values().min() {
            plan.wake(*until);
        }
    }

    fn begin_move(&mut self, plan: &mut Plan, mut instance: Instance, to: WorkerId, now: Now) {
        let id = instance.id;
        let generation = instance.next_generation();
        instance.tenure.hand_over(to, generation);
        self.change(plan, Change::Instance(id, Some(instance)));
        self.moves.insert(id, now.moment.plus_millis(MOVE_WITHIN_MILLIS));
    }

    /// Gives tombstones to older copies on workers that have been back for long and do not run them.
    pub(crate) fn settle_contested(&mut self, plan: &mut Plan, now: Now) {
        for id in self.contested.clone() {
            let Some(instance) = self.instances.get(&id) else { continue };
            let open = instance.tenure.leftovers.iter().filter(|(_, leftover)| !leftover.settled);
            // Those that are back, by when they came; the others are waited for.
            let due = open
                .filter_map(|(worker, _)| self.contacts.reachable_since(*worker))
                .map(|since| since.plus_millis(SETTLE_MILLIS))
                .min();
            match due {
                Some(due) if due <= now.moment && instance.report.ready => self.settle(plan, id),
                // Looked at again when the replacement is ready.
                Some(due) if due <= now.moment => {}
                Some(due) => plan.wake(due),
                None => {}
            }
        }
    }

    fn settle(&mut self, plan: &mut Plan, id: InstanceId) {
        if let Some(mut instance) = self.instances.get(&id).cloned()
            && instance.tenure.settle()
        {
            self.change(plan, Change::Instance(id, Some(instance)));
        }
    }
}

/// Whether every `direct` constraint that names workers names this one.
fn allows(spec: &ServiceSpec, worker: &Worker) -> bool {
    spec.constraints
        .iter()
        .all(|constraint| constraint.nodes.is_empty() || constraint.nodes.contains(&worker.inventory.name))
}

fn note_replaced(plan: &mut Plan, instance: &Instance, to: WorkerId) {
    if let Some(from) = instance.holder() {
        plan.effects.push(Effect::Note(Notice::Replaced { instance: instance.id, from, to }));
    }
}
