//! Runs: when ignitors are due, and how runs begin, are cancelled and end.

use model::{Now, Plan, Timestamp};

use super::{
    Change, Counters, Effect, FireCause, Heard, Ignitor, Run, RunId, RunPhase, RunReason, Source, StopReason,
    TaskRunPhase, Told, Workflow,
};
use crate::{CatchUpPolicy, Overlap, Schedule};

/// Whoever is no later than this was not away.
const ON_TIME_MILLIS: u64 = 30_000;
/// Missed times that are made up for at once.
const MOST_CAUGHT_UP: usize = 100;
/// Missed times that are counted, of those too long ago to be made up for.
const MOST_COUNTED: u64 = 1000;
/// Runs of an ignitor that may wait for each other.
const MOST_QUEUED: usize = 100;

/// What is due of an ignitor.
struct Due {
    /// Times it fires for now, in their order.
    fires: Vec<Timestamp>,
    missed: u64,
    considered: Timestamp,
}

impl Ignitor {
    /// When it is to fire next by itself, if it is.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        if self.spec.suspend {
            return None;
        }
        let point = self.next_point(self.considered)?;
        Some(point.plus_millis(self.jitter(point)))
    }

    /// The next times it is to fire by itself, at most `count`.
    #[must_use]
    pub fn next_times(&self, count: usize) -> Vec<Timestamp> {
        let mut times = Vec::new();
        let mut after = self.considered;
        while times.len() < count && !self.spec.suspend {
            let Some(point) = self.next_point(after) else { break };
            times.push(point.plus_millis(self.jitter(point)));
            match &self.spec.schedule {
                Some(Schedule::Cron { .. }) => after = point,
                Some(Schedule::Now | Schedule::At(_)) | None => break,
            }
        }
        times
    }

    fn next_point(&self, after: Timestamp) -> Option<Timestamp> {
        match self.spec.schedule.as_ref()? {
            Schedule::Now => (!self.done).then_some(self.since),
            Schedule::At(at) => (!self.done).then_some(*at),
            Schedule::Cron { expression, zone } => expression.next_after(after, zone),
        }
    }

    /// The same for the same time, different for ignitors that are due together.
    fn jitter(&self, point: Timestamp) -> u64 {
        const PRIME: u64 = 0x0100_0000_01b3;
        let most = self.spec.jitter.as_millis();
        if most == 0 || self.spec.schedule == Some(Schedule::Now) {
            return 0;
        }
        let bytes = self.name.to_string().into_bytes().into_iter().chain(point.0.to_le_bytes());
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325, mix);
        // The lower bits of this hash are alike for texts that end alike.
        (hash ^ (hash >> 32)) % (most + 1)
    }

    fn due(&self, now: Timestamp) -> Due {
        let catch_up = self.spec.catch_up;
        let mut due = Due { fires: Vec::new(), missed: 0, considered: self.considered };
        let is_cron = matches!(self.spec.schedule, Some(Schedule::Cron { .. }));
        let window =
            catch_up.window.as_millis().max(ON_TIME_MILLIS).saturating_add(self.spec.jitter.as_millis());
        let oldest = Timestamp(now.0.saturating_sub(window));
        if is_cron && self.considered < oldest {
            // Too long ago for any policy.
            let mut counted = self.considered;
            while let Some(point) = self.next_point(counted).filter(|point| *point <= oldest) {
                counted = point;
                due.missed += 1;
                if due.missed >= MOST_COUNTED {
                    break;
                }
            }
            due.considered = oldest;
        }
        let (mut late, mut on_time) = (Vec::new(), Vec::new());
        while let Some(point) = self.next_point(due.considered) {
            let at = point.plus_millis(self.jitter(point));
            if at > now {
                break;
            }
            due.considered = point;
            let is_late = self.spec.schedule != Some(Schedule::Now) && now.millis_since(at) > ON_TIME_MILLIS;
            if !is_late {
                on_time.push(point);
            } else if now.millis_since(at) <= catch_up.window.as_millis() {
                late.push(point);
            } else {
                due.missed += 1;
            }
            if !is_cron {
                break;
            }
        }
        let most = match catch_up.policy {
            CatchUpPolicy::Skip => {
                due.missed += count(late.len());
                late.clear();
                usize::MAX
            }
            // What is due now makes up for what was missed.
            CatchUpPolicy::One => 1,
            CatchUpPolicy::All => MOST_CAUGHT_UP,
        };
        late.append(&mut on_time);
        let dropped = late.len().saturating_sub(most);
        due.missed += count(dropped);
        due.fires = late.split_off(dropped);
        due
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

impl Workflow {
    /// Has ignitors fire that are due.
    pub(super) fn ring(&mut self, plan: &mut Plan<Change, Effect>, now: Now) {
        while self.alarms.first().is_some_and(|(at, _)| *at <= now.date) {
            let Some((_, name)) = self.alarms.pop_first() else { break };
            let Some(mut ignitor) = self.ignitors.get(&name).cloned() else { continue };
            let due = ignitor.due(now.date);
            ignitor.considered = due.considered;
            ignitor.missed += due.missed;
            ignitor.done = !matches!(ignitor.spec.schedule, Some(Schedule::Cron { .. }));
            for at in due.fires {
                for change in self.fire_now(&mut ignitor, FireCause::Schedule(at), now.date) {
                    self.change(plan, change);
                }
            }
            self.change(plan, Change::Ignitor(name, Some(ignitor)));
        }
    }

    /// A run that begins unless its ignitor says otherwise. What becomes of the ignitor itself is in it.
    pub(super) fn fire_now(&self, ignitor: &mut Ignitor, cause: FireCause, now: Timestamp) -> Vec<Change> {
        let in_progress = self.in_progress.get(&ignitor.name).map_or(0, std::collections::BTreeSet::len);
        let is_full = in_progress >= MOST_QUEUED;
        let waits = match ignitor.spec.overlap {
            Overlap::Allow => false,
            Overlap::Skip if in_progress > 0 => {
                ignitor.skipped += 1;
                return Vec::new();
            }
            Overlap::Skip => false,
            Overlap::Queue | Overlap::Replace if is_full => {
                ignitor.skipped += 1;
                return Vec::new();
            }
            Overlap::Queue | Overlap::Replace => true,
        };
        let data = ignitor.spec.data.clone();
        self.new_run(ignitor, cause, data, waits, now)
    }

    /// A run, to begin in the next pass.
    pub(super) fn new_run(
        &self,
        ignitor: &mut Ignitor,
        cause: FireCause,
        data: String,
        waits: bool,
        now: Timestamp,
    ) -> Vec<Change> {
        ignitor.fired += 1;
        ignitor.last_fired = Some(now);
        let counters = Counters { runs: self.counters.runs + 1, ..self.counters };
        let id = RunId(counters.runs);
        let run = Run {
            id,
            ignitor: ignitor.name.clone(),
            cause,
            data,
            created: now,
            waits,
            phase: RunPhase::Queued,
            since: now,
            reason: None,
            joins: std::collections::BTreeMap::new(),
            rounds: std::collections::BTreeMap::new(),
        };
        vec![Change::Counters(counters), Change::Run(id, Some(run))]
    }

    /// Begins runs, unless they wait for others.
    pub(super) fn ignite(&mut self, plan: &mut Plan<Change, Effect>, now: Now) {
        while let Some(id) = self.igniting.pop_first() {
            let Some(run) = self.runs.get(&id).filter(|run| run.phase == RunPhase::Queued) else { continue };
            let others = self.in_progress.get(&run.ignitor).into_iter().flatten();
            let earlier: Vec<RunId> = others.copied().filter(|other| run.waits && *other < id).collect();
            if !earlier.is_empty() {
                let overlap = self.ignitors.get(&run.ignitor).map(|ignitor| ignitor.spec.overlap);
                if overlap == Some(Overlap::Replace) {
                    // The last of them that ends has this one looked at again.
                    for other in earlier {
                        self.edit_run(plan, other, |run| cancel(run, now.date));
                    }
                }
                continue;
            }
            let heard =
                Heard { source: Source::Ignitor(run.ignitor.name.clone()), told: Told::Fired, round: 1 };
            self.edit_run(plan, id, |run| {
                run.phase = RunPhase::Running;
                run.since = now.date;
            });
            self.hear(plan, id, &heard, 0, now);
        }
    }

    /// Stops all of the runs that are being cancelled.
    pub(super) fn cancel_all(&mut self, plan: &mut Plan<Change, Effect>, now: Now) {
        while let Some(id) = self.cancelling.pop_first() {
            for part in self.open.get(&id).cloned().unwrap_or_default() {
                if self.task_runs.get(&part).is_some_and(|part| !part.phase.is_over()) {
                    self.edit_task_run(plan, &part, |part| part.stop(StopReason::Cancelled, now.date));
                }
            }
        }
    }

    /// Ends runs of which nothing is under way.
    pub(super) fn close_runs(&mut self, plan: &mut Plan<Change, Effect>, now: Now) {
        while let Some(id) = self.closing.pop_first() {
            let Some(run) = self.runs.get(&id) else { continue };
            let begun = run.phase == RunPhase::Running || run.phase == RunPhase::Cancelling;
            if !begun || self.open.contains_key(&id) {
                continue;
            }
            let unhandled = self.parts(id).find(|part| part.phase.is_failure() && !part.handled);
            let failed = unhandled.map(|part| RunReason::TaskFailed(part.id.task.clone()));
            let reason = run.reason.clone().or(failed);
            let was_stopped = self.parts(id).any(|part| part.phase == TaskRunPhase::Cancelled);
            let phase = match (&reason, run.phase) {
                (_, RunPhase::Cancelling) => RunPhase::Cancelled,
                (Some(_), _) => RunPhase::Failed,
                (None, _) if was_stopped => RunPhase::Cancelled,
                (None, _) => RunPhase::Succeeded,
            };
            self.edit_run(plan, id, |run| {
                run.phase = phase;
                run.since = now.date;
                run.reason = reason;
            });
        }
    }
}

/// Has a run end early. One that has not begun ends at once.
pub(super) fn cancel(run: &mut Run, now: Timestamp) {
    let phase = match run.phase {
        RunPhase::Queued => RunPhase::Cancelled,
        RunPhase::Running => RunPhase::Cancelling,
        RunPhase::Cancelling | RunPhase::Succeeded | RunPhase::Failed | RunPhase::Cancelled => return,
    };
    run.phase = phase;
    run.since = now;
}
