//! What starts tasks: who listens, what joins wait for, and whether a task may start.

use model::{Now, Plan, Timestamp};
use serde_json::Value;

use super::{
    Change, Effect, Heard, Item, ObjectName, RunId, RunPhase, RunReason, Source, StopReason, Task, TaskRun,
    TaskRunId, TaskRunPhase, Told, Trigger, Workflow,
};
use crate::nesting::is_too_deep;
use crate::{Concurrency, Expression, Items, Join, MOST_ITEMS, Question, Reference, TaskSpec};

/// Starts of one run: a circle that branches grows fast.
pub const MOST_STARTS: u32 = 1000;
/// Task runs of one task that may wait for each other.
const MOST_QUEUED: usize = 1000;

/// What became of a start.
enum Begins {
    /// With these items.
    With(Vec<Item>),
    /// It does not: so it is, and that is why.
    Ended(TaskRunPhase, String),
}

impl Workflow {
    /// Tells all who listen that something has happened in a run. `hops` are those until then.
    pub(super) fn hear(
        &mut self,
        plan: &mut Plan<Change, Effect>,
        run: RunId,
        heard: &Heard,
        hops: u32,
        now: Now,
    ) {
        for name in self.listeners_of(run, heard) {
            let Some(task) = self.task_in(run, &name) else { continue };
            if task.spec.join == Join::Any {
                self.start(plan, run, &name, vec![heard.clone()], heard.clone(), hops + 1, now);
            } else if let Some((inputs, before)) = self.join(plan, run, &name, heard) {
                self.start(plan, run, &name, inputs, heard.clone(), hops.max(before) + 1, now);
            }
        }
    }

    pub(super) fn listeners_of(&self, run: RunId, heard: &Heard) -> Vec<String> {
        let Some(run) = self.runs.get(&run) else { return Vec::new() };
        let trigger = Trigger {
            namespace: run.ignitor.namespace.clone(),
            source: heard.source.name().to_owned(),
            told: heard.told,
        };
        self.listeners.get(&trigger).into_iter().flatten().cloned().collect()
    }

    fn task_in(&self, run: RunId, name: &str) -> Option<&Task> {
        let namespace = &self.runs.get(&run)?.ignitor.namespace;
        self.tasks.get(&ObjectName::new(namespace, name))
    }

    /// Notes what a join heard. If that was the last it waited for: all it heard, and the most hops until then.
    fn join(
        &mut self,
        plan: &mut Plan<Change, Effect>,
        run_id: RunId,
        name: &str,
        heard: &Heard,
    ) -> Option<(Vec<Heard>, u32)> {
        let spec = &self.task_in(run_id, name)?.spec;
        let run = self.runs.get(&run_id)?;
        let mut state = run.joins.get(name).cloned().unwrap_or_default();
        if state.spent.get(heard.source.name()).is_some_and(|spent| heard.round <= *spent) {
            return None;
        }
        state.heard.retain(|earlier| earlier.source != heard.source);
        state.heard.push(heard.clone());
        let fires = match &spec.join {
            Join::Any => true,
            Join::All => is_complete(spec, &state.heard),
            Join::Expression(condition) => self.holds(condition, run_id, &state.heard),
        };
        let mut fired = None;
        if fires {
            state.firings += 1;
            let sources = spec.start_on_success.iter().chain(&spec.start_on_failure);
            state.spent = sources
                .map(|source| (source.clone(), run.rounds.get(source).copied().unwrap_or_default().max(1)))
                .collect();
            let inputs = std::mem::take(&mut state.heard);
            let hops = inputs.iter().filter_map(|heard| self.heard_of(run_id, heard)).map(|part| part.hops);
            fired = Some((hops.max().unwrap_or_default(), inputs));
        }
        self.edit_run(plan, run_id, |run| _ = run.joins.insert(name.to_owned(), state));
        fired.map(|(hops, inputs)| (inputs, hops))
    }

    /// The task run that was heard of.
    pub(super) fn heard_of(&self, run: RunId, heard: &Heard) -> Option<&TaskRun> {
        match &heard.source {
            Source::Ignitor(_) => None,
            Source::Task(task) => {
                self.task_runs.get(&TaskRunId { run, task: task.clone(), round: heard.round })
            }
        }
    }

    /// Whether a condition holds for what was heard.
    fn holds(&self, condition: &Expression, run: RunId, heard: &[Heard]) -> bool {
        condition.holds(&|asked: &Reference| self.answer(asked, run, heard))
    }

    fn answer(&self, asked: &Reference, run: RunId, heard: &[Heard]) -> Value {
        let is_told = |told: Told| {
            let so = |heard: &Heard| heard.source.name() == asked.source && heard.told == told;
            Value::Bool(heard.iter().any(so))
        };
        // A task comes before an ignitor of the same name.
        let mut of_name = heard.iter().filter(|heard| heard.source.name() == asked.source);
        let said = of_name.clone().find(|heard| heard.told != Told::Fired).or_else(|| of_name.next());
        match &asked.question {
            Question::Success => is_told(Told::Success),
            Question::Failure => is_told(Told::Failure),
            Question::Fired => is_told(Told::Fired),
            Question::Data => said.map_or(Value::Null, |heard| Value::String(self.data_of(run, heard))),
            Question::Output(places) => {
                let output = said.and_then(|heard| self.output_of(run, heard));
                output.and_then(|output| within(output, places)).unwrap_or_default()
            }
        }
    }

    /// Starts a task in a run, or notes why it does not start.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is of another type, and they are told in one place only"
    )]
    pub(super) fn start(
        &mut self,
        plan: &mut Plan<Change, Effect>,
        run_id: RunId,
        name: &str,
        inputs: Vec<Heard>,
        initiator: Heard,
        hops: u32,
        now: Now,
    ) {
        let Some(run) = self.runs.get(&run_id).filter(|run| run.phase == RunPhase::Running) else { return };
        let Some(spec) = self.task_in(run_id, name).map(|task| std::sync::Arc::clone(&task.spec)) else {
            return;
        };
        let too_many = run.rounds.values().sum::<u32>() >= MOST_STARTS;
        if too_many || hops > spec.max_hops {
            let reason =
                if too_many { RunReason::TooManyStarts } else { RunReason::MaxHops(name.to_owned()) };
            self.edit_run(plan, run_id, |run| _ = run.reason.get_or_insert(reason));
            return;
        }
        let round = run.rounds.get(name).copied().unwrap_or_default() + 1;
        let namespace = run.ignitor.namespace.clone();
        self.edit_run(plan, run_id, |run| _ = run.rounds.insert(name.to_owned(), round));
        let id = TaskRunId { run: run_id, task: name.to_owned(), round };
        let mut task_run = TaskRun {
            id: id.clone(),
            namespace,
            spec,
            hops,
            initiator,
            inputs,
            phase: TaskRunPhase::Running,
            since: now.date,
            detail: String::new(),
            items: Vec::new(),
            endings: 0,
            settled: false,
            handled: false,
        };
        match self.begins(&task_run) {
            Begins::Ended(phase, detail) => task_run.end(phase, detail, now.date),
            Begins::With(items) => {
                task_run.items = items;
                self.admit(plan, &mut task_run, now.date);
            }
        }
        self.change(plan, Change::TaskRun(id, Some(task_run)));
    }

    /// Whether a task that was started begins, as far as it alone is concerned.
    fn begins(&self, task_run: &TaskRun) -> Begins {
        let (spec, run) = (&task_run.spec, task_run.id.run);
        if let Some(when) = &spec.when
            && !self.holds(when, run, &task_run.inputs)
        {
            return Begins::Ended(TaskRunPhase::Skipped, format!("`when` does not hold: {when}"));
        }
        if let Some(schema) = &spec.inputs
            && let Err(wrong) = self.ensure_valid(schema, &self.inputs(task_run))
        {
            return Begins::Ended(
                TaskRunPhase::Failed,
                format!("what it is given is not as it must be: {wrong}"),
            );
        }
        let values = match spec.for_each.as_ref().map(|each| &each.items) {
            None => return Begins::With(vec![Item::new(None)]),
            Some(Items::Given(values)) => values.clone(),
            Some(Items::From(source)) => {
                let heard = task_run.inputs.iter().find(|heard| heard.source.name() == source);
                let output = heard.and_then(|heard| self.output_of(run, heard));
                let data = || serde_json::from_str(&self.data_of(run, heard?)).ok();
                match output.or_else(data).filter(|given| !is_too_deep(given)) {
                    Some(Value::Array(values)) if values.len() <= MOST_ITEMS => values,
                    Some(Value::Array(values)) => {
                        let detail =
                            format!("`{source}` gave {} items; there may be {MOST_ITEMS}", values.len());
                        return Begins::Ended(TaskRunPhase::Failed, detail);
                    }
                    Some(_) | None => {
                        let detail = format!("`{source}` gave no list of items, as its output or its data");
                        return Begins::Ended(TaskRunPhase::Failed, detail);
                    }
                }
            }
        };
        Begins::With(values.into_iter().map(|value| Item::new(Some(value))).collect())
    }

    /// Has a task run begin, wait or not, as others of its task are under way.
    fn admit(&mut self, plan: &mut Plan<Change, Effect>, task_run: &mut TaskRun, now: Timestamp) {
        let task = task_run.task();
        let (running, queued) = (self.running.get(&task), self.queued.get(&task));
        if running.is_none() && queued.is_none() {
            task_run.advance(now);
            return;
        }
        match task_run.spec.concurrency {
            Concurrency::Allow => task_run.advance(now),
            Concurrency::Skip => {
                task_run.end(TaskRunPhase::Skipped, "another of this task is under way".to_owned(), now);
            }
            Concurrency::Queue if queued.is_some_and(|queued| queued.len() >= MOST_QUEUED) => {
                let detail = format!("{MOST_QUEUED} of this task wait already");
                task_run.end(TaskRunPhase::Skipped, detail, now);
            }
            Concurrency::Queue => task_run.phase = TaskRunPhase::Queued,
            Concurrency::Replace => {
                let others: Vec<TaskRunId> = running.into_iter().chain(queued).flatten().cloned().collect();
                for other in others {
                    self.edit_task_run(plan, &other, |other| other.stop(StopReason::Replaced, now));
                }
                task_run.phase = TaskRunPhase::Queued;
            }
        }
    }

    /// Begins task runs that waited for others of their task.
    pub(super) fn begin_queued(&mut self, plan: &mut Plan<Change, Effect>, now: Now) {
        while let Some(task) = self.queues.pop_first() {
            if self.running.contains_key(&task) {
                continue;
            }
            let Some(first) = self.queued.get(&task).and_then(|queued| queued.first()).cloned() else {
                continue;
            };
            self.edit_task_run(plan, &first, |task_run| {
                task_run.phase = TaskRunPhase::Running;
                task_run.since = now.date;
                task_run.advance(now.date);
            });
        }
    }
}

/// Whether all that a task lists was heard.
fn is_complete(spec: &TaskSpec, heard: &[Heard]) -> bool {
    let told = |name: &String, told: Told| {
        heard.iter().any(|heard| heard.source.name() == name && heard.told == told)
    };
    spec.start_on_ignition.iter().all(|name| told(name, Told::Fired))
        && spec.start_on_success.iter().all(|name| told(name, Told::Success))
        && spec.start_on_failure.iter().all(|name| told(name, Told::Failure))
}

fn within(output: Value, places: &[String]) -> Option<Value> {
    places.iter().try_fold(output, |value, place| match value {
        Value::Object(mut fields) => fields.remove(place),
        Value::Array(entries) => entries.into_iter().nth(place.parse().ok()?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    })
}
