//! The only place that asks for effects: compares what is assigned with what is there.

use std::collections::BTreeSet;

use model::{AssignedInstance, Desired, InstanceId, Timestamp};

use crate::{
    ContainerState, Effect, LONGEST_DELAY_MILLIS, Node, Plan, RemoveOrder, StartOrder, Submission,
    node::{Listing, Moment},
    tracked::{Operation, OperationKind},
};

/// Everything is looked at again after this long, in case an event was never sent: events make it unnecessary,
/// so it may be rare.
pub const RESYNC_MILLIS: u64 = 600_000;

/// What to do for one instance.
enum Step {
    /// It is as it should be, or waits for something that will be observed.
    Rest,
    /// Nothing before then.
    Wait(Timestamp),
    Act(Box<Effect>, OperationKind),
}

impl Node {
    /// Says what to do now. What it hands out counts as under way until it is observed as finished, so asking
    /// twice gives nothing twice.
    pub fn reconcile(&mut self, now: Timestamp) -> Plan {
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
            match self.step(now, id) {
                Step::Rest => {}
                Step::Wait(until) => plan.wake(until),
                Step::Act(effect, kind) => {
                    let ticket = self.take_ticket();
                    if let Some(tracked) = self.instances.get_mut(&id) {
                        tracked.operation = Some(Operation { ticket, kind, exit_seen: false });
                    }
                    plan.submissions.push(Submission { ticket, effect: *effect });
                    self.settle(now, id);
                }
            }
        }
        self.pull_what_is_missing(now, &mut plan);
        plan
    }

    fn list_if_due(&mut self, now: Timestamp, plan: &mut Plan) {
        if self.engine.listing.is_some() {
            return;
        }
        // After a failure even an uncertain instance waits for the next attempt.
        let uncertain = self.engine.failures == 0
            && self.instances.values().any(|tracked| tracked.uncertain && tracked.operation.is_none());
        if !uncertain && let Some(at) = not_yet(self.engine.list_at, now, RESYNC_MILLIS) {
            return plan.wake(at);
        }
        let ticket = self.take_ticket();
        self.engine.listing = Some(Listing { ticket, begun: self.sequence });
        plan.submissions.push(Submission { ticket, effect: Effect::List });
    }

    fn step(&self, now: Timestamp, id: InstanceId) -> Step {
        let Some(tracked) = self.instances.get(&id) else { return Step::Rest };
        // Unknown labelled containers are reported and left alone.
        let Some(wanted) = tracked.assigned else { return Step::Rest };
        if tracked.operation.is_some() || tracked.uncertain {
            return Step::Rest;
        }
        let step = match wanted.desired {
            Desired::Removed => self.step_towards_removed(wanted),
            Desired::Running => self.step_towards_running(wanted),
        };
        match (step, not_yet(tracked.retry_at, now, LONGEST_DELAY_MILLIS)) {
            (Step::Act(..), Some(until)) => Step::Wait(until),
            (step, _) => step,
        }
    }

    fn step_towards_removed(&self, wanted: AssignedInstance) -> Step {
        let Some(tracked) = self.instances.get(&wanted.id) else { return Step::Rest };
        let containers = tracked.up_to(wanted.generation);
        if containers.is_empty() && tracked.buried == Some(wanted.generation) {
            return Step::Rest;
        }
        let order = RemoveOrder { instance: wanted.id, generation: wanted.generation, containers };
        Step::Act(Box::new(Effect::Remove(order)), OperationKind::Removing { generation: wanted.generation })
    }

    fn step_towards_running(&self, wanted: AssignedInstance) -> Step {
        let AssignedInstance { id, generation, .. } = wanted;
        let (Some(tracked), Some(spec)) = (self.instances.get(&id), self.spec(id)) else { return Step::Rest };
        let generations = tracked.containers.values().map(|container| container.generation);
        if let Some(superseded) = generations.filter(|older| *older < generation).max() {
            let order =
                RemoveOrder { instance: id, generation: superseded, containers: tracked.up_to(superseded) };
            return Step::Act(
                Box::new(Effect::Remove(order)),
                OperationKind::Removing { generation: superseded },
            );
        }
        let Some((container_id, container)) = tracked.current() else {
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
            ContainerState::Created => {
                self.act(wanted, OperationKind::Starting { generation, again: false }, |order| {
                    Effect::Start { container: container_id, fresh: true, order }
                })
            }
            ContainerState::Running { .. } if !self.settings.overlay || container.network.confirmed => {
                Step::Rest
            }
            ContainerState::Running { .. } => {
                let kind = OperationKind::Attaching { container: container_id.clone() };
                self.act(wanted, kind, |order| Effect::Attach { container: container_id, order })
            }
            ContainerState::Exited(exit) if spec.one_shot && exit.code == 0 => Step::Rest,
            ContainerState::Exited(_) => {
                self.act(wanted, OperationKind::Starting { generation, again: true }, |order| Effect::Start {
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
        let order = self.start_order(wanted.id, wanted.generation);
        order.map_or(Step::Rest, |order| Step::Act(Box::new(effect(order)), kind))
    }

    fn pull_what_is_missing(&mut self, now: Timestamp, plan: &mut Plan) {
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
            match not_yet(missing.retry_at, now, LONGEST_DELAY_MILLIS) {
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
            if let Some(missing) = self.images.get_mut(&image) {
                missing.pulling = Some(ticket);
            }
            plan.submissions.push(Submission { ticket, effect: Effect::Pull { image } });
        }
        if any_due {
            self.settle_all(now);
        }
    }
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// The moment, if it is still ahead. One further ahead than `longest` cannot have been meant: the clock was set
/// back since, and waiting for it could take hours.
fn not_yet(moment: Moment, now: Timestamp, longest: u64) -> Option<Timestamp> {
    moment.filter(|at| *at > now && at.millis_since(now) <= longest)
}
