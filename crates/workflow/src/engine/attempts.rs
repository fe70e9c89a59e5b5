//! Attempts: which is wanted, which takes too long, and what comes after one that failed.

use model::{Moment, Now, Plan, Timestamp};

use super::{
    ASK_AGAIN_MILLIS, AttemptId, Change, Effect, Ended, Item, ItemKey, ItemPhase, ObjectName, Outcome,
    STOP_MILLIS, Start, StopReason, Stopping, TaskRun, TaskRunPhase, Workflow,
};
use crate::Concurrency;

/// What is remembered of an item under way, by the steady time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    /// When its patience ends.
    deadline: Moment,
    /// The runtime has it.
    pub(super) confirmed: bool,
    /// When to look at it next; it is in `due` then.
    pub(super) next: Moment,
}

/// What an item under way asks for.
enum Step {
    /// To be looked at then.
    Wait(Moment),
    /// To be started, or stopped, and looked at then.
    Ask(Moment),
    /// Its time is up.
    Elapsed,
}

impl Item {
    pub(super) const fn new(value: Option<serde_json::Value>) -> Self {
        Self { value, phase: ItemPhase::Waiting, attempts: 0, attempts_before: 0, outcome: None }
    }

    /// How the item ended, if it did.
    pub(super) fn ended(&self) -> Option<Ended> {
        match self.phase {
            ItemPhase::Over => self.outcome.as_ref().map(|outcome| outcome.ended),
            ItemPhase::Waiting | ItemPhase::Active { .. } | ItemPhase::Pausing { .. } => None,
        }
    }

    fn begin(&mut self, now: Timestamp) {
        self.attempts += 1;
        self.phase = ItemPhase::Active { since: now, stopping: None };
    }
}

impl TaskRun {
    /// The task it is of.
    #[must_use]
    pub fn task(&self) -> ObjectName {
        ObjectName::new(&self.namespace, &self.id.task)
    }

    /// Whether something of it may still happen.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !(self.phase.is_over() && self.settled)
    }

    /// The id of the last attempt of an item.
    pub(super) fn attempt(&self, item: u32) -> Option<AttemptId> {
        let attempt = self.items.get(usize::try_from(item).ok()?)?.attempts;
        Some(AttemptId { task_run: self.id.clone(), item, attempt })
    }

    pub(super) fn item_mut(&mut self, item: u32) -> Option<&mut Item> {
        self.items.get_mut(usize::try_from(item).ok()?)
    }

    /// Begins as many items as may be under way at once; ends if there is none left.
    pub(super) fn advance(&mut self, now: Timestamp) {
        if self.phase != TaskRunPhase::Running {
            return;
        }
        let most = self.spec.for_each.as_ref().map_or(1, |each| each.parallelism);
        let under_way =
            |item: &&Item| matches!(item.phase, ItemPhase::Active { .. } | ItemPhase::Pausing { .. });
        let busy = self.items.iter().filter(under_way).count();
        let free = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(busy);
        let waiting = self.items.iter_mut().filter(|item| item.phase == ItemPhase::Waiting);
        waiting.take(free).for_each(|item| item.begin(now));
        if self.items.iter().all(|item| item.phase == ItemPhase::Over) {
            let all: Vec<Ended> = self.items.iter().filter_map(Item::ended).collect();
            let first_of = [
                (Ended::Cancelled, TaskRunPhase::Cancelled),
                (Ended::Failed, TaskRunPhase::Failed),
                (Ended::TimedOut, TaskRunPhase::TimedOut),
            ];
            let worst = first_of.into_iter().find(|(ended, _)| all.contains(ended));
            let detail =
                self.items.iter().find(|item| worst.is_some_and(|(ended, _)| item.ended() == Some(ended)));
            let detail = detail.and_then(|item| item.outcome.as_ref()).map(|outcome| outcome.detail.clone());
            self.end(
                worst.map_or(TaskRunPhase::Succeeded, |(_, phase)| phase),
                detail.unwrap_or_default(),
                now,
            );
        }
    }

    /// Has it end. What follows comes with `settle`.
    pub(super) fn end(&mut self, phase: TaskRunPhase, detail: String, now: Timestamp) {
        self.phase = phase;
        self.since = now;
        self.detail = detail;
        self.endings += 1;
        self.settled = false;
    }

    /// Notes how the attempt under way has ended, which it did at `exited`. One that was to be stopped ended so, unless it
    /// was in time: who was away hears of it late.
    pub(super) fn end_attempt(&mut self, index: u32, mut outcome: Outcome, exited: Timestamp) {
        let now = outcome.at;
        let spec = std::sync::Arc::clone(&self.spec);
        let Some(item) = self.item_mut(index) else { return };
        let ItemPhase::Active { since, stopping } = &item.phase else { return };
        let in_time = exited < since.plus_millis(spec.timeout.as_millis());
        if let Some(stopping) = stopping.filter(|stopping| stopping.why != StopReason::TimedOut || !in_time) {
            (outcome.ended, outcome.detail) = match stopping.why {
                StopReason::TimedOut => (Ended::TimedOut, format!("it took longer than {}", spec.timeout)),
                StopReason::Cancelled => (Ended::Cancelled, "it was cancelled".to_owned()),
                StopReason::Replaced => (Ended::Cancelled, "a newer one took its place".to_owned()),
            };
        }
        let attempts = item.attempts - item.attempts_before;
        let may_retry = match outcome.ended {
            Ended::Succeeded | Ended::Cancelled => false,
            Ended::TimedOut => true,
            Ended::Failed => {
                let codes = &spec.retry.on_exit_codes;
                let code = outcome.code.and_then(|code| u32::try_from(code).ok()).filter(|code| *code != 0);
                codes.is_empty() || code.is_none_or(|code| codes.contains(&code))
            }
        };
        item.phase = if may_retry && attempts <= spec.retry.limit {
            ItemPhase::Pausing { until: now.plus_millis(spec.retry.pause_after(attempts)) }
        } else {
            ItemPhase::Over
        };
        item.outcome = Some(outcome);
        self.advance(now);
    }

    /// Has all of it end that has not: what is under way is stopped.
    pub(super) fn stop(&mut self, why: StopReason, now: Timestamp) {
        if self.phase == TaskRunPhase::Queued {
            self.end(TaskRunPhase::Cancelled, "it was cancelled before it began".to_owned(), now);
            return;
        }
        let cancelled = Outcome {
            ended: Ended::Cancelled,
            code: None,
            detail: "it was cancelled".to_owned(),
            at: now,
            data: String::new(),
            output: None,
        };
        for item in &mut self.items {
            match &mut item.phase {
                ItemPhase::Waiting | ItemPhase::Pausing { .. } => {
                    item.phase = ItemPhase::Over;
                    item.outcome = Some(cancelled.clone());
                }
                ItemPhase::Active { stopping, .. } => {
                    // One that takes too long is being stopped already, and is not tried again now.
                    let since = stopping.map_or(now, |stopping| stopping.since);
                    *stopping = Some(Stopping { why, since });
                }
                ItemPhase::Over => {}
            }
        }
        self.advance(now);
    }

    /// Has what did not succeed be tried again, with as many attempts as at first. Where not all of its task may be under way
    /// at once, it waits for those that are.
    pub(super) fn retry(&mut self, now: Timestamp) {
        for item in &mut self.items {
            if item.ended() != Some(Ended::Succeeded) {
                item.phase = ItemPhase::Waiting;
                item.attempts_before = item.attempts;
            }
        }
        self.phase = match self.spec.concurrency {
            Concurrency::Allow => TaskRunPhase::Running,
            Concurrency::Skip | Concurrency::Queue | Concurrency::Replace => TaskRunPhase::Queued,
        };
        self.since = now;
        self.detail = String::new();
        self.settled = false;
        self.advance(now);
    }
}

impl Workflow {
    pub(super) fn look_at_fresh(&mut self, plan: &mut Plan<Change, Effect>, now: Now) {
        while let Some(key) = self.fresh.pop_first() {
            self.look(plan, key, now);
        }
    }

    pub(super) fn look_at_due(&mut self, plan: &mut Plan<Change, Effect>, now: Now) {
        while self.due.first().is_some_and(|(at, _)| *at <= now.moment) {
            if let Some((_, key)) = self.due.pop_first() {
                self.look(plan, key, now);
            }
        }
    }

    /// The runtime says that it has an attempt; it is not asked for again.
    pub(super) fn confirm(&mut self, attempt: &AttemptId) {
        let key = (attempt.task_run.clone(), attempt.item);
        let Some(watch) = self.watches.get_mut(&key) else { return };
        watch.confirmed = true;
        let (before, after) = (watch.next, watch.deadline);
        watch.next = after;
        self.due.remove(&(before, key.clone()));
        self.due.insert((after, key));
    }

    fn look(&mut self, plan: &mut Plan<Change, Effect>, key: ItemKey, now: Now) {
        let Some(task_run) = self.task_runs.get(&key.0) else { return };
        let Some(item) = usize::try_from(key.1).ok().and_then(|index| task_run.items.get(index)) else {
            return;
        };
        let phase = item.phase.clone();
        let ends = match phase {
            ItemPhase::Active { since, stopping: None } => {
                since.plus_millis(task_run.spec.timeout.as_millis())
            }
            ItemPhase::Active { stopping: Some(stopping), .. } => stopping.since.plus_millis(STOP_MILLIS),
            ItemPhase::Pausing { until } => until,
            ItemPhase::Waiting | ItemPhase::Over => return,
        };
        match self.step(&key, ends, matches!(phase, ItemPhase::Pausing { .. }), now) {
            Step::Wait(next) => self.look_again(key, next),
            Step::Ask(next) => {
                let effect = self.wanted(&key, &phase);
                plan.effects.extend(effect);
                self.look_again(key, next);
            }
            Step::Elapsed => {
                self.watches.remove(&key);
                self.edit_task_run(plan, &key.0, |task_run| elapse(task_run, key.1, now.date));
            }
        }
    }

    /// What is to be done about an item whose patience ends then.
    fn step(&mut self, key: &ItemKey, ends: Timestamp, pauses: bool, now: Now) -> Step {
        // Its patience is measured from now on by the steady time: the date may be set.
        let deadline = || now.moment.plus_millis(ends.millis_since(now.date));
        let watch = self.watches.entry(key.clone()).or_insert_with(|| Watch {
            deadline: deadline(),
            confirmed: false,
            next: now.moment,
        });
        if watch.deadline <= now.moment {
            return Step::Elapsed;
        }
        if pauses || watch.confirmed {
            return Step::Wait(watch.deadline);
        }
        Step::Ask(watch.deadline.min(now.moment.plus_millis(ASK_AGAIN_MILLIS)))
    }

    fn look_again(&mut self, key: ItemKey, next: Moment) {
        if let Some(watch) = self.watches.get_mut(&key) {
            watch.next = next;
        }
        self.due.insert((next, key));
    }

    fn wanted(&self, key: &ItemKey, phase: &ItemPhase) -> Option<Effect> {
        let task_run = self.task_runs.get(&key.0)?;
        let attempt = task_run.attempt(key.1)?;
        match phase {
            ItemPhase::Active { stopping: Some(_), .. } => Some(Effect::Stop(attempt)),
            ItemPhase::Active { stopping: None, .. } => {
                let (environment, inputs) = self.environment(task_run, key.1);
                let (namespace, spec) = (task_run.namespace.clone(), std::sync::Arc::clone(&task_run.spec));
                Some(Effect::Start(Box::new(Start { attempt, namespace, spec, environment, inputs })))
            }
            ItemPhase::Waiting | ItemPhase::Pausing { .. } | ItemPhase::Over => None,
        }
    }
}

/// The time of an item is up.
fn elapse(task_run: &mut TaskRun, index: u32, now: Timestamp) {
    let Some(item) = task_run.item_mut(index) else { return };
    match &mut item.phase {
        ItemPhase::Pausing { .. } => item.begin(now),
        ItemPhase::Active { stopping: stopping @ None, .. } => {
            *stopping = Some(Stopping { why: StopReason::TimedOut, since: now });
        }
        ItemPhase::Active { stopping: Some(_), .. } => {
            let outcome = Outcome {
                ended: Ended::Cancelled,
                code: None,
                detail: String::new(),
                at: now,
                data: String::new(),
                output: None,
            };
            // It was not heard of, so it was not in time.
            task_run.end_attempt(index, outcome, Timestamp(u64::MAX));
        }
        ItemPhase::Waiting | ItemPhase::Over => {}
    }
}
