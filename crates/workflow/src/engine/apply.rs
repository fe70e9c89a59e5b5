//! Documents as they become, and what must be looked at because of that.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Call, CallId, CallPhase, Change, Ignitor, ItemPhase, ObjectName, Run, RunId, RunPhase, Task, TaskRun,
    TaskRunId, TaskRunPhase, Told, Trigger, Workflow,
};
use crate::TaskSpec;

impl Workflow {
    pub(super) fn take(&mut self, change: Change) {
        match change {
            Change::Task(name, task) => self.take_task(name, task),
            Change::Ignitor(name, ignitor) => self.take_ignitor(name, ignitor),
            Change::Run(id, run) => self.take_run(id, run),
            Change::TaskRun(id, task_run) => self.take_task_run(id, task_run),
            Change::Call(id, call) => self.take_call(id, call),
            Change::Counters(counters) => self.counters = counters,
        }
    }

    fn take_task(&mut self, name: ObjectName, task: Option<Task>) {
        let before = self.tasks.get(&name).map(|task| triggers(&name.namespace, &task.spec));
        let after = task.as_ref().map(|task| triggers(&name.namespace, &task.spec));
        if before != after {
            for trigger in before.unwrap_or_default() {
                forget(&mut self.listeners, &trigger, &name.name);
            }
            for trigger in after.unwrap_or_default() {
                self.listeners.entry(trigger).or_default().insert(name.name.clone());
            }
        }
        // Its limits may have become narrower.
        self.crowded.extend([(name.clone(), true), (name.clone(), false)]);
        set(&mut self.tasks, name, task);
    }

    fn take_ignitor(&mut self, name: ObjectName, ignitor: Option<Ignitor>) {
        if let Some(at) = self.alarm_of.remove(&name) {
            self.alarms.remove(&(at, name.clone()));
        }
        if let Some(at) = ignitor.as_ref().and_then(Ignitor::next_due) {
            self.alarms.insert((at, name.clone()));
            self.alarm_of.insert(name.clone(), at);
        }
        let awaited = |ignitor: &Ignitor| {
            let selectors = ignitor.spec.on.iter();
            selectors.map(|selector| (name.namespace.clone(), selector.event.clone())).collect::<Vec<_>>()
        };
        for key in self.ignitors.get(&name).map(awaited).unwrap_or_default() {
            forget(&mut self.awaiting, &key, &name.name);
        }
        for key in ignitor.as_ref().map(awaited).unwrap_or_default() {
            self.awaiting.entry(key).or_default().insert(name.name.clone());
        }
        set(&mut self.ignitors, name, ignitor);
    }

    fn take_run(&mut self, id: RunId, run: Option<Run>) {
        let before = self.runs.get(&id);
        if let Some(before) = before {
            forget(&mut self.in_progress, &before.ignitor, &id);
            forget(&mut self.waiting, &before.ignitor, &id);
            forget(&mut self.idle, &before.ignitor, &id);
        }
        match &run {
            Some(run) if run.phase.is_over() => {
                // Another may have waited for it: the first, for which all others wait.
                let waiting = self.waiting.get(&run.ignitor).and_then(BTreeSet::first);
                self.igniting.extend(waiting);
                self.prunable.insert(id);
                if before.is_none_or(|before| !before.phase.is_over()) {
                    self.just_ended.insert(id);
                }
                if run.rounds.is_empty() {
                    self.idle.entry(run.ignitor.clone()).or_default().insert(id);
                }
            }
            Some(run) => {
                self.in_progress.entry(run.ignitor.clone()).or_default().insert(id);
                match run.phase {
                    RunPhase::Queued => {
                        self.waiting.entry(run.ignitor.clone()).or_default().insert(id);
                        self.igniting.insert(id);
                    }
                    RunPhase::Cancelling => _ = self.cancelling.insert(id),
                    RunPhase::Running | RunPhase::Succeeded | RunPhase::Failed | RunPhase::Cancelled => {}
                }
                self.closing.insert(id);
            }
            None => {}
        }
        set(&mut self.runs, id, run);
    }

    fn take_task_run(&mut self, id: TaskRunId, task_run: Option<TaskRun>) {
        let before = self.task_runs.remove(&id);
        if let Some(before) = &before {
            self.forget_task_run(before);
        }
        let items_before = before.as_ref().map_or(&[][..], |before| &before.items);
        let items_after = task_run.as_ref().map_or(&[][..], |task_run| &task_run.items);
        for index in 0..items_before.len().max(items_after.len()) {
            let (before, after) = (items_before.get(index), items_after.get(index));
            let state = |item: &super::Item| (item.phase.clone(), item.attempts);
            if before.map(state) != after.map(state) {
                self.item_changed((id.clone(), u32::try_from(index).unwrap_or(u32::MAX)), after);
            }
        }
        let Some(task_run) = task_run else { return };
        let task = task_run.task();
        match task_run.phase {
            TaskRunPhase::Running => _ = self.running.entry(task).or_default().insert(id.clone()),
            TaskRunPhase::Queued => {
                self.queues.insert(task.clone());
                self.queued.entry(task).or_default().insert(id.clone());
            }
            TaskRunPhase::Succeeded
            | TaskRunPhase::Failed
            | TaskRunPhase::TimedOut
            | TaskRunPhase::Cancelled
            | TaskRunPhase::Skipped => {
                if task_run.settled {
                    let key = (task, !is_bad(task_run.phase));
                    self.history.entry(key.clone()).or_default().insert(id.clone());
                    self.crowded.insert(key);
                } else {
                    self.unsettled.insert(id.clone());
                }
            }
        }
        if task_run.is_open() {
            self.open.entry(id.run).or_default().insert(id.clone());
        } else {
            self.closing.insert(id.run);
        }
        self.task_runs.insert(id, task_run);
    }

    /// Takes a task run out of all that follows from it.
    fn forget_task_run(&mut self, before: &TaskRun) {
        let (id, task) = (&before.id, before.task());
        if forget(&mut self.running, &task, id) | forget(&mut self.queued, &task, id)
            && self.queued.contains_key(&task)
        {
            self.queues.insert(task.clone());
        }
        forget(&mut self.history, &(task, !is_bad(before.phase)), id);
        forget(&mut self.open, &id.run, id);
        self.beyond.remove(id);
        self.unsettled.remove(id);
    }

    fn item_changed(&mut self, key: super::ItemKey, after: Option<&super::Item>) {
        if let Some(watch) = self.watches.remove(&key) {
            self.due.remove(&(watch.next, key.clone()));
        }
        let moves = after.is_some_and(|item| match item.phase {
            ItemPhase::Active { .. } | ItemPhase::Pausing { .. } => true,
            ItemPhase::Waiting | ItemPhase::Over => false,
        });
        if moves {
            self.fresh.insert(key);
        } else {
            self.fresh.remove(&key);
        }
    }

    fn take_call(&mut self, id: CallId, call: Option<Call>) {
        if let Some(next) = self.call_next.remove(&id) {
            self.calls_due.remove(&(next, id.clone()));
        }
        match call.as_ref().map(|call| call.phase) {
            Some(CallPhase::Due(_)) => _ = self.fresh_calls.insert(id.clone()),
            Some(CallPhase::Done | CallPhase::GivenUp) | None => _ = self.fresh_calls.remove(&id),
        }
        set(&mut self.calls, id, call);
    }
}

/// Whether it counts among what went wrong.
pub(super) const fn is_bad(phase: TaskRunPhase) -> bool {
    match phase {
        TaskRunPhase::Failed | TaskRunPhase::TimedOut | TaskRunPhase::Cancelled => true,
        TaskRunPhase::Queued | TaskRunPhase::Running | TaskRunPhase::Succeeded | TaskRunPhase::Skipped => {
            false
        }
    }
}

fn triggers(namespace: &str, spec: &TaskSpec) -> BTreeSet<Trigger> {
    let lists = [
        (&spec.start_on_ignition, Told::Fired),
        (&spec.start_on_success, Told::Success),
        (&spec.start_on_failure, Told::Failure),
    ];
    let triggers = lists.into_iter().flat_map(|(sources, told)| {
        sources.iter().map(move |source| Trigger {
            namespace: namespace.to_owned(),
            source: source.clone(),
            told,
        })
    });
    triggers.collect()
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => _ = map.insert(key, value),
        None => _ = map.remove(&key),
    }
}

/// Takes an entry out of the set at `key`; whether it was there. There are no empty sets.
pub(super) fn forget<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, entry: &V) -> bool {
    let Some(set) = map.get_mut(key) else { return false };
    let was_there = set.remove(entry);
    if set.is_empty() {
        map.remove(key);
    }
    was_there
}
