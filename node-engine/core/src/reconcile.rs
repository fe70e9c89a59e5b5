//! The only place that asks for effects: compares what is assigned with what is there.

use std::collections::BTreeSet;

use model::{AssignedInstance, Desired, InstanceId, Moment, Now, SecretVersionId};

use crate::{
    ContainerState, Effect, Node, Plan, RemoveOrder, STEADY_AFTER_MILLIS, SealedSecret, StartOrder,
    StopCause, StopOrder, Submission, Ticket,
    contact::Fence,
    leaving::Leaving,
    node::Listing,
    tracked::{Operation, OperationKind, Tracked},
};

/// Everything is looked at again after this long, in case an event was never sent: events make it unnecessary,
/// so it may be rare.
pub const RESYNC_MILLIS: u64 = 600_000;

/// What to do for one instance.
enum Step {
    /// It is as it should be, or waits for something that will be observed.
    Rest,
    /// Nothing before then.
    Wait(Moment),
    Act(Box<Effect>, OperationKind),
}

impl Node {
    /// Says what to do now. What it hands out counts as under way until it is observed as finished, so asking
    /// twice gives nothing twice.
    pub fn reconcile(&mut self, now: Now) -> Plan {
        let mut plan = Plan::default();
        if !self.engine.connected {
            return plan;
        }
        self.list_if_due(now, &mut plan);
        if !self.engine.listed {
            return plan;
        }
        let ids: Vec<InstanceId> = self.instances.keys().copied().collect();
        for id in ids {
            self.look_at_the_clock(now, id, &mut plan);
            self.take_leave(now, id, &mut plan);
            match self.step(now, id) {
                Step::Rest => {}
                Step::Wait(until) => plan.wake(until),
                Step::Act(effect, kind) => {
                    let ticket = self.take_ticket();
                    if let Some(tracked) = self.instances.get_mut(&id) {
                        if let Effect::Stop(order) = effect.as_ref() {
                            tracked.stopped = Some(order.cause.clone());
                        }
                        tracked.operation = Some(Operation { ticket, kind, exit_seen: false });
                    }
                    plan.submissions.push(Submission { ticket, effect: *effect });
                    self.settle(now, id);
                }
            }
            self.ask_questions(now, id, &mut plan);
        }
        self.pull_what_is_missing(now, &mut plan);
        plan
    }

    fn list_if_due(&mut self, now: Now, plan: &mut Plan) {
        if self.engine.listing.is_some() {
            return;
        }
        // After a failure even an uncertain instance waits for the next attempt.
        let uncertain = self.engine.failures == 0
            && self.instances.values().any(|tracked| tracked.uncertain && tracked.operation.is_none());
        if !uncertain && let Some(at) = not_yet(self.engine.list_at, now) {
            return plan.wake(at);
        }
        let ticket = self.take_ticket();
        self.engine.listing = Some(Listing { ticket, begun: self.sequence });
        plan.submissions.push(Submission { ticket, effect: Effect::List });
    }

    /// What passing time alone changes for an instance.
    fn look_at_the_clock(&mut self, now: Now, id: InstanceId, plan: &mut Plan) {
        let (fence, closes) = self.fence(id, now.moment);
        if let Some(closes) = closes {
            plan.wake(closes);
        }
        let overlay = self.settings.overlay;
        let sick = self.spec(id).is_some_and(|spec| {
            let current = self.instances.get(&id).and_then(|tracked| tracked.current());
            current.is_some_and(|(_, container)| container.restart_because(spec).is_some())
        });
        let Some(tracked) = self.instances.get_mut(&id) else { return };
        let mut changed = tracked.fence != fence;
        tracked.fence = fence;
        let current = tracked.current();
        let runs = current.is_some_and(|(_, container)| container.is_running());
        let is_whole = current.is_some_and(|(_, container)| !overlay || container.network.confirmed);
        let at_rest =
            runs && tracked.operation.is_none() && !tracked.uncertain && !sick && fence != Fence::CutOff;
        if at_rest && tracked.stopped.is_some() {
            // It could not be stopped, and need not be any more.
            (tracked.stopped, tracked.stop_again_at, tracked.failure) = (None, None, None);
            changed = true;
        }
        if at_rest && is_whole && tracked.failure.take().is_some() {
            // Nobody knew what became of its start, and it runs.
            changed = true;
        }
        if tracked.attempts > 0
            && tracked.failure.is_none()
            && let Some(since) = tracked.healthy_since
        {
            let steady = since.plus_millis(STEADY_AFTER_MILLIS);
            if now.moment >= steady {
                tracked.attempts = 0;
                changed = true;
            } else {
                plan.wake(steady);
            }
        }
        if changed {
            self.settle(now, id);
        }
    }

    /// Whoever calls an instance that is to go, or is connected to it, has a while. Without an overlay nobody can tell who
    /// that is.
    fn take_leave(&mut self, now: Now, id: InstanceId, plan: &mut Plan) {
        let drain = self.spec(id).map(|spec| spec.drain).unwrap_or_default();
        let ticket = Ticket(self.next_ticket + 1);
        let Some(tracked) = self.instances.get_mut(&id).filter(|_| self.settings.overlay) else { return };
        let goes = tracked.assigned.is_some_and(|wanted| match wanted.desired {
            Desired::Removed => tracked.answers_calls(wanted.generation),
            Desired::Running => false,
        });
        if !goes || tracked.operation.is_some() || tracked.uncertain {
            return;
        }
        let leaving = tracked.leaving.get_or_insert_with(|| Leaving::new(now.moment, drain));
        match leaving.count_due(now.moment) {
            Some(at) if at > now.moment => plan.wake(at),
            Some(_) => {
                leaving.count(ticket, now.moment);
                self.next_ticket += 1;
                plan.submissions.push(Submission { ticket, effect: Effect::Drain { instance: id } });
                self.settle(now, id);
            }
            None => {}
        }
    }

    fn step(&self, now: Now, id: InstanceId) -> Step {
        let Some(tracked) = self.instances.get(&id) else { return Step::Rest };
        if let Some(stop) = tracked.assigned.and_then(|wanted| self.step_towards_stopped(now, wanted)) {
            return stop;
        }
        if tracked.operation.is_some() || tracked.uncertain {
            return Step::Rest;
        }
        let step = match tracked.assigned {
            None => self.step_for_unassigned(id, tracked),
            Some(wanted) => match wanted.desired {
                Desired::Removed => self.step_towards_removed(now, wanted),
                Desired::Running => self.step_towards_running(wanted),
            },
        };
        match (step, not_yet(tracked.retry_at, now)) {
            (Step::Act(..), Some(until)) => Step::Wait(until),
            (step, _) => step,
        }
    }

    /// Labelled containers that no assignment names are reported and left alone, but for those a tombstone was for: the
    /// engine may finish making one after its removal was confirmed, when this program was killed in between.
    fn step_for_unassigned(&self, id: InstanceId, tracked: &Tracked) -> Step {
        let buried = self.buried.iter().rev().find(|(buried, _)| *buried == id);
        let Some((_, generation)) = buried.copied() else { return Step::Rest };
        let containers = tracked.up_to(generation);
        if containers.is_empty() {
            return Step::Rest;
        }
        let order = RemoveOrder { instance: id, generation, containers };
        Step::Act(Box::new(Effect::Remove(order)), OperationKind::Removing { generation })
    }

    /// A container that must not go on running is stopped, whatever else waits for its next attempt.
    fn step_towards_stopped(&self, now: Now, wanted: AssignedInstance) -> Option<Step> {
        let tracked = self.instances.get(&wanted.id).filter(|tracked| tracked.is_to_run())?;
        let (container_id, container) = tracked.current()?;
        if !container.is_running() || container.generation != wanted.generation || tracked.uncertain {
            return None;
        }
        let cut_off = tracked.fence == Fence::CutOff;
        let in_the_way = tracked.operation.as_ref().is_some_and(|operation| match operation.kind {
            // A network may take its time to be confirmed; the limit is not to be overstepped.
            OperationKind::Attaching { .. } => !cut_off,
            OperationKind::Starting { .. } | OperationKind::Stopping | OperationKind::Removing { .. } => true,
        });
        if in_the_way {
            return None;
        }
        let cause = if cut_off {
            StopCause::CutOff
        } else {
            StopCause::Unhealthy(container.restart_because(self.spec(wanted.id)?)?)
        };
        if let Some(until) = not_yet(tracked.stop_again_at, now) {
            return Some(Step::Wait(until));
        }
        let order = StopOrder { instance: wanted.id, container: container_id.clone(), cause };
        Some(Step::Act(Box::new(Effect::Stop(order)), OperationKind::Stopping))
    }

    fn step_towards_removed(&self, now: Now, wanted: AssignedInstance) -> Step {
        let Some(tracked) = self.instances.get(&wanted.id) else { return Step::Rest };
        let containers = tracked.up_to(wanted.generation);
        if containers.is_empty() && tracked.carried_out == Some(wanted.generation) {
            return Step::Rest;
        }
        let leaving = tracked.leaving.as_ref().filter(|_| tracked.answers_calls(wanted.generation));
        if let Some(until) = leaving.and_then(|leaving| leaving.waits_until(now.moment)) {
            return Step::Wait(until);
        }
        let order = RemoveOrder { instance: wanted.id, generation: wanted.generation, containers };
        Step::Act(Box::new(Effect::Remove(order)), OperationKind::Removing { generation: wanted.generation })
    }

    fn step_towards_running(&self, wanted: AssignedInstance) -> Step {
        let AssignedInstance { id, generation, .. } = wanted;
        let (Some(tracked), Some(spec)) = (self.instances.get(&id), self.spec(id)) else { return Step::Rest };
        let generations = tracked.containers.values().map(|container| container.generation);
        if let Some(superseded) = generations.filter(|older| *older < generation).max() {
            let containers = tracked.up_to(superseded);
            let order = RemoveOrder { instance: id, generation: superseded, containers };
            return Step::Act(
                Box::new(Effect::Remove(order)),
                OperationKind::Removing { generation: superseded },
            );
        }
        let may_start = tracked.fence == Fence::Open;
        let Some((container_id, container)) = tracked.current() else {
            if !may_start || tracked.is_completed(spec) {
                return Step::Rest;
            }
            if self.images.contains_key(&spec.image) {
                return Step::Rest;
            }
            return self.act(
                wanted,
                OperationKind::Starting { generation, again: false },
                Effect::CreateAndStart,
            );
        };
        if container.generation > generation {
            // Someone knows of a newer placement than this assignment does; a second copy would be wrong.
            return Step::Rest;
        }
        let container_id = container_id.clone();
        match container.state {
            ContainerState::Created if !may_start => Step::Rest,
            ContainerState::Created => {
                self.act(wanted, OperationKind::Starting { generation, again: false }, |order| {
                    Effect::Start { container: container_id, fresh: true, order }
                })
            }
            ContainerState::Running { .. } if !self.settings.overlay || container.network.confirmed => {
                Step::Rest
            }
            // To open its gate would be to start it.
            ContainerState::Running { held: true, .. } if !may_start => Step::Rest,
            ContainerState::Running { .. } => {
                let kind = OperationKind::Attaching { container: container_id.clone() };
                self.act(wanted, kind, |order| Effect::Attach { container: container_id, order })
            }
            ContainerState::Exited(_) if tracked.is_completed(spec) || !may_start => Step::Rest,
            ContainerState::Exited(_) => {
                let again = tracked.stopped != Some(StopCause::CutOff);
                self.act(wanted, OperationKind::Starting { generation, again }, |order| Effect::Start {
                    container: container_id,
                    fresh: false,
                    order,
                })
            }
        }
    }

    fn act(
        &self,
        wanted: AssignedInstance,
        kind: OperationKind,
        effect: impl FnOnce(StartOrder) -> Effect,
    ) -> Step {
        let order = self.start_order(wanted);
        order.map_or(Step::Rest, |order| Step::Act(Box::new(effect(order)), kind))
    }

    /// Probes that are due, and last words that are to be read.
    fn ask_questions(&mut self, now: Now, id: InstanceId, plan: &mut Plan) {
        let single = self.spec(id).is_some_and(|spec| spec.single_attempt);
        let Some(tracked) = self.instances.get_mut(&id).filter(|tracked| tracked.is_to_run()) else { return };
        let unread = tracked.last_words.as_mut().filter(|words| words.under_way.is_none());
        if let Some(words) = unread {
            self.next_ticket += 1;
            let ticket = Ticket(self.next_ticket);
            words.under_way = Some(ticket);
            let of = tracked.containers.get(&words.container).filter(|_| single);
            let effect = Effect::ReadTail {
                container: words.container.clone(),
                after: words.after,
                until: words.until,
                output_of: of.map(|container| (id, container.generation)),
            };
            plan.submissions.push(Submission { ticket, effect });
        }
        self.probe(now, id, plan);
    }

    fn probe(&mut self, now: Now, id: InstanceId, plan: &mut Plan) {
        let overlay = self.settings.overlay;
        let Some(tracked) = self.instances.get_mut(&id) else { return };
        let Some(wanted) = tracked.assigned else { return };
        let Some(service) = self.assignment.services.get(&wanted.revision_id()) else { return };
        let health = &service.spec.health;
        if health.is_empty() || !tracked.is_settled() {
            return;
        }
        let Some(container) = tracked.current().map(|(id, _)| id.clone()) else { return };
        let Some(known) = tracked.containers.get_mut(&container) else { return };
        let address = known.network.addresses.first().copied();
        let unheld = matches!(known.state, ContainerState::Running { held: false, .. });
        // With an overlay its address is known once NetManager confirmed it.
        if !unheld || known.generation != wanted.generation || (overlay && address.is_none()) {
            return;
        }
        let (due, next) = known.probing.due(health, now.moment);
        if let Some(next) = next {
            plan.wake(next);
        }
        for (purpose, probe) in due {
            self.next_ticket += 1;
            let ticket = Ticket(self.next_ticket);
            known.probing.ask(purpose, ticket, now.moment);
            let effect = Effect::Probe { container: container.clone(), address, probe: probe.clone() };
            plan.submissions.push(Submission { ticket, effect });
        }
    }

    fn pull_what_is_missing(&mut self, now: Now, plan: &mut Plan) {
        let wanted: BTreeSet<&str> = self
            .instances
            .values()
            .filter_map(|tracked| tracked.assigned)
            .filter(|wanted| match wanted.desired {
                Desired::Running => true,
                Desired::Removed => false,
            })
            .filter_map(|wanted| self.spec(wanted.id))
            .map(|spec| spec.image.as_str())
            .collect();
        let (mut due, mut forgotten) = (Vec::new(), Vec::new());
        for (image, missing) in &self.images {
            if missing.pulling.is_some() {
                continue;
            }
            match not_yet(missing.retry_at, now) {
                _ if !wanted.contains(image.as_str()) => forgotten.push(image.clone()),
                Some(until) => plan.wake(until),
                None => due.push(image.clone()),
            }
        }
        for image in forgotten {
            self.images.remove(&image);
        }
        let any_due = !due.is_empty();
        for image in due {
            let ticket = self.take_ticket();
            let login = self.login_for(&image);
            if let Some(missing) = self.images.get_mut(&image) {
                missing.pulling = Some(ticket);
            }
            plan.submissions.push(Submission { ticket, effect: Effect::Pull { image, login } });
        }
        if any_due {
            self.settle_all(now);
        }
    }

    /// The login for an image. Services may name several, of which one that does not do must not be in the way of others:
    /// each attempt takes the next.
    fn login_for(&self, image: &str) -> Option<SealedSecret> {
        let wanted = self.instances.values().filter(|tracked| tracked.is_to_run());
        let specs = wanted.filter_map(|tracked| self.spec(tracked.assigned?.id));
        let named =
            specs.filter(|spec| spec.image == image).filter_map(|spec| spec.image_pull_secret.as_ref());
        let versions: BTreeSet<SecretVersionId> = named.map(|secret| secret.version).collect();
        let attempts = self.images.get(image).map_or(0, |missing| missing.attempts) as usize;
        let version = versions.iter().copied().nth(attempts.checked_rem(versions.len())?)?;
        let sealed = self.assignment.secrets.get(&version)?.clone();
        Some(SealedSecret { version, sealed })
    }
}

impl Plan {
    fn wake(&mut self, at: Moment) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// The moment, if it is still ahead.
fn not_yet(moment: Option<Moment>, now: Now) -> Option<Moment> {
    moment.filter(|at| *at > now.moment)
}
