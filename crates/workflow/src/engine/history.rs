//! How much of the past is kept. A run goes when all of its task runs are beyond the limits of their tasks, but not at
//! once: whoever watches it is told how it ended first.

use std::mem;

use model::{Now, Plan};

use super::{Change, Effect, ObjectName, Run, RunId, TaskRun, Workflow};
use crate::HistoryLimits;

/// For so long a run that is over is kept in any case, in milliseconds: until those who wait for it have seen it.
pub(super) const KEPT_MILLIS: u64 = 5_000;
/// Runs of an ignitor that started nothing and are kept.
const MOST_IDLE: usize = 10;

impl Workflow {
    pub(super) fn prune(&mut self, plan: &mut Plan<Change, Effect>, now: Now) {
        while let Some(key) = self.crowded.pop_first() {
            let limit = self.limit(&key.0, key.1);
            while let Some(kept) = self.history.get_mut(&key).filter(|kept| kept.len() > limit) {
                let Some(oldest) = kept.pop_first() else { break };
                self.prunable.insert(oldest.run);
                self.beyond.insert(oldest);
            }
            if self.history.get(&key).is_some_and(std::collections::BTreeSet::is_empty) {
                self.history.remove(&key);
            }
        }
        for id in mem::take(&mut self.just_ended) {
            let until = now.moment.plus_millis(KEPT_MILLIS);
            self.resting.insert(id, until);
            self.rest_ends.insert((until, id));
        }
        while let Some((until, id)) =
            self.rest_ends.first().copied().filter(|(until, _)| *until <= now.moment)
        {
            self.rest_ends.pop_first();
            // One that was retried may have ended once more.
            if self.resting.get(&id) == Some(&until) {
                self.resting.remove(&id);
                self.prunable.insert(id);
            }
        }
        while let Some(id) = self.prunable.pop_first() {
            let Some(run) = self.runs.get(&id).filter(|run| run.phase.is_over()) else { continue };
            if self.resting.contains_key(&id) {
                continue;
            }
            let oldest_idle = self.idle.get(&run.ignitor).filter(|idle| idle.len() > MOST_IDLE);
            let oldest_idle =
                oldest_idle.and_then(|idle| idle.iter().find(|id| !self.resting.contains_key(id)));
            if let Some(oldest) = oldest_idle.copied() {
                self.forget_run(plan, oldest);
            }
            let has_parts = self.parts(id).next().is_some();
            if has_parts && self.parts(id).all(|part| self.beyond.contains(&part.id)) {
                self.forget_run(plan, id);
            }
        }
    }

    fn limit(&self, task: &ObjectName, succeeded: bool) -> usize {
        // What is left of a task that is gone is kept as if it had said nothing.
        let limits = self.tasks.get(task).map_or_else(HistoryLimits::default, |task| task.spec.history);
        let limit = if succeeded { limits.successful } else { limits.failed };
        usize::try_from(limit).unwrap_or(usize::MAX)
    }

    fn forget_run(&mut self, plan: &mut Plan<Change, Effect>, id: RunId) {
        for change in self.without_run(id) {
            self.change(plan, change);
        }
    }

    /// A run and all that belongs to it, gone.
    pub(super) fn without_run(&self, id: RunId) -> Vec<Change> {
        let parts: Vec<&TaskRun> = self.parts(id).collect();
        let mut changes = Vec::new();
        for part in &parts {
            changes.extend(self.calls_of(&part.id).map(|call| Change::Call(call.id.clone(), None)));
            changes.push(Change::TaskRun(part.id.clone(), None));
        }
        changes.push(Change::Run(id, None));
        changes
    }

    /// All runs, oldest first.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.values()
    }
}
