//! The engine with a shell that keeps what is committed, and a runtime that remembers what it was asked.
//!
//! Whatever happens, two things are asked each turn: without news there is nothing to do before the moment that was asked
//! for, and whatever is not over has an owner.

mod actions;
mod crash;
mod flow;
mod items;
mod messages;
mod retry;
mod schedule;

use std::collections::{BTreeMap, BTreeSet};

use model::{Brain, Moment, Now, Span, Timestamp};
use serde_json::Value;

use super::*;
use crate::{IgnitorSpec, Schedule, Schemas, parse_rfc3339};

/// Takes texts that begin as the schema says, which is all that is needed here.
#[derive(Debug)]
pub(super) struct Prefixes;

impl Schemas for Prefixes {
    fn ensure_schema(&self, schema: &Value) -> Result<(), (String, String)> {
        if schema.is_string() { Ok(()) } else { Err((".type".to_owned(), "it is a text".to_owned())) }
    }

    fn ensure_valid(&self, schema: &Value, document: &Value) -> Result<(), String> {
        let begins =
            document.as_str().zip(schema.as_str()).is_some_and(|(text, prefix)| text.starts_with(prefix));
        if begins { Ok(()) } else { Err(format!("it does not begin with {schema}")) }
    }
}

pub(super) struct World {
    pub(super) workflow: Workflow,
    /// What is committed.
    stored: Stored,
    pub(super) now: Now,
    /// What the runtime was asked to start, each once; the first asking of each.
    pub(super) started: BTreeMap<AttemptId, Start>,
    /// The order of these.
    pub(super) order: Vec<AttemptId>,
    /// What it was asked to stop, since the last look.
    pub(super) stops: Vec<AttemptId>,
    /// What was called, since the last look.
    pub(super) calls: Vec<(CallId, Action, Value)>,
    pub(super) wake_at: Option<Moment>,
}

/// Documents by what they are, as a store has them.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    tasks: BTreeMap<ObjectName, Task>,
    ignitors: BTreeMap<ObjectName, Ignitor>,
    runs: BTreeMap<RunId, Run>,
    task_runs: BTreeMap<TaskRunId, TaskRun>,
    calls: BTreeMap<CallId, Call>,
    counters: Counters,
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => _ = map.insert(key, value),
        None => _ = map.remove(&key),
    }
}

impl Stored {
    pub(super) fn commit(&mut self, changes: &[Change]) {
        for change in changes.iter().cloned() {
            match change {
                Change::Task(key, value) => put(&mut self.tasks, key, value),
                Change::Ignitor(key, value) => put(&mut self.ignitors, key, value),
                Change::Run(key, value) => put(&mut self.runs, key, value),
                Change::TaskRun(key, value) => put(&mut self.task_runs, key, value),
                Change::Call(key, value) => put(&mut self.calls, key, value),
                Change::Counters(value) => self.counters = value,
            }
        }
    }

    /// A process that has just started, from documents that were text in between.
    pub(super) fn open(&self) -> Workflow {
        fn again<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
            let text = serde_json::to_string(value).expect("it is written");
            serde_json::from_str(&text).expect("it is read")
        }
        let mut workflow = Workflow::new(Arc::new(Prefixes));
        workflow.apply(Change::Counters(again(&self.counters)));
        // In no order that makes sense: a store has its own.
        for (key, value) in &self.calls {
            workflow.apply(Change::Call(key.clone(), Some(again(value))));
        }
        for (key, value) in &self.task_runs {
            workflow.apply(Change::TaskRun(key.clone(), Some(again(value))));
        }
        for (key, value) in &self.runs {
            workflow.apply(Change::Run(*key, Some(again(value))));
        }
        for (key, value) in &self.ignitors {
            workflow.apply(Change::Ignitor(key.clone(), Some(again(value))));
        }
        for (key, value) in &self.tasks {
            workflow.apply(Change::Task(key.clone(), Some(again(value))));
        }
        workflow
    }
}

pub(super) fn name(name: &str) -> ObjectName {
    ObjectName::new("team", name)
}

/// A task that is started by `ignitor i`, and by others as these lists say.
pub(super) fn task(success: &[&str], failure: &[&str]) -> TaskSpec {
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
    let mut spec = TaskSpec::running("image");
    spec.start_on_success = names(success);
    spec.start_on_failure = names(failure);
    spec
}

/// A task that the ignitor `i` starts.
pub(super) fn first() -> TaskSpec {
    let mut spec = TaskSpec::running("image");
    spec.start_on_ignition = BTreeSet::from(["i".to_owned()]);
    spec
}

pub(super) fn ended(code: i64) -> AttemptEnd {
    AttemptEnd { exit: Exit::Code(code), at: Timestamp(0), data: String::new(), output: None }
}

pub(super) fn saying(data: &str) -> AttemptEnd {
    AttemptEnd { data: data.to_owned(), ..ended(0) }
}

impl World {
    /// At noon of a winter's day in UTC, with the ignitor `i`.
    pub(super) fn new() -> Self {
        let mut world = Self::empty("2026-01-15T12:00:00Z");
        world.ignitor("i", IgnitorSpec { data: "spark".to_owned(), ..IgnitorSpec::by_hand() });
        world
    }

    pub(super) fn empty(date: &str) -> Self {
        let now = Now { date: parse_rfc3339(date).expect("a date"), moment: Moment(1_000_000) };
        Self {
            workflow: Workflow::new(Arc::new(Prefixes)),
            stored: Stored::default(),
            now,
            started: BTreeMap::new(),
            order: Vec::new(),
            stops: Vec::new(),
            calls: Vec::new(),
            wake_at: None,
        }
    }

    /// One turn of the loop: these changes, what follows, one commit, and the effects.
    pub(super) fn turn(&mut self, changes: Vec<Change>) {
        changes.iter().for_each(|change| self.workflow.apply(change.clone()));
        self.finish(&changes);
    }

    /// The rest of a turn whose changes are applied.
    pub(super) fn finish(&mut self, changes: &[Change]) {
        let plan = self.workflow.reconcile(self.now);
        self.stored.commit(changes);
        self.stored.commit(&plan.changes);
        self.wake_at = plan.wake_at;
        self.effects(plan.effects);
        let again = self.workflow.reconcile(self.now);
        assert_eq!((again.changes, again.effects), (Vec::new(), Vec::new()), "there is rest without news");
        assert_eq!(again.wake_at, plan.wake_at, "it wants to be asked at the same moment");
        for part in self.workflow.task_runs.values() {
            assert_eq!(part.owner().is_some(), !part.phase.is_over(), "{part:?}");
        }
        for run in self.workflow.runs.values().filter(|run| !run.phase.is_over()) {
            let waits = run.phase == RunPhase::Queued && self.workflow.in_progress[&run.ignitor].len() > 1;
            assert!(waits || self.workflow.open.contains_key(&run.id), "nobody moves {run:?} on");
        }
    }

    pub(super) fn effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Start(start) => match self.started.get(&start.attempt) {
                    Some(before) => assert_eq!(before, &*start, "the same is asked for under the same name"),
                    None => {
                        self.order.push(start.attempt.clone());
                        self.started.insert(start.attempt.clone(), *start);
                    }
                },
                Effect::Stop(attempt) => self.stops.push(attempt),
                Effect::Call { id, action, .. } => {
                    let about = self.workflow.about(&id);
                    self.calls.push((id, action, about));
                }
            }
        }
    }

    pub(super) fn observe(&mut self, fact: Fact) {
        let changes = self.workflow.observe(fact, self.now);
        self.turn(changes);
    }

    pub(super) fn task(&mut self, of: &str, spec: TaskSpec) {
        let changes = self.workflow.set_task(name(of), spec);
        self.turn(changes);
    }

    pub(super) fn ignitor(&mut self, of: &str, spec: IgnitorSpec) {
        let changes = self.workflow.set_ignitor(name(of), spec, self.now);
        self.turn(changes);
    }

    pub(super) fn fire(&mut self, of: &str) -> RunId {
        let (run, changes) = self.workflow.fire(&name(of), None, self.now).expect("it fires");
        self.turn(changes);
        run
    }

    /// Lets time pass, asking whenever it was wanted.
    pub(super) fn pass(&mut self, millis: u64) {
        let end = self.now.moment.plus_millis(millis);
        loop {
            let next = self.wake_at.filter(|at| *at <= end).unwrap_or(end).max(self.now.moment);
            let passed = next.millis_since(self.now.moment);
            self.now = Now { date: self.now.date.plus_millis(passed), moment: next };
            self.turn(Vec::new());
            if next >= end && self.wake_at.is_none_or(|at| at > end) {
                return;
            }
        }
    }

    /// The process ends, and starts again after that long.
    pub(super) fn restart_after(&mut self, millis: u64) {
        self.workflow = self.stored.open();
        self.now = Now { date: self.now.date.plus_millis(millis), moment: Moment(5) };
        self.turn(Vec::new());
    }

    /// The attempt, as `run-task-round-item-attempt`, ends.
    pub(super) fn end(&mut self, attempt: &str, end: AttemptEnd) {
        let id = self.attempt(attempt);
        let at = self.now.date;
        self.observe(Fact::Ended(id, AttemptEnd { at, ..end }));
    }

    pub(super) fn attempt(&self, text: &str) -> AttemptId {
        let found = self.order.iter().find(|attempt| attempt.to_string() == text);
        found.unwrap_or_else(|| panic!("{text} was started; these were: {:?}", self.names())).clone()
    }

    /// What was started, in its order.
    pub(super) fn names(&self) -> Vec<String> {
        self.order.iter().map(ToString::to_string).collect()
    }

    pub(super) fn variable(&self, attempt: &str, variable: &str) -> &str {
        &self.started[&self.attempt(attempt)].environment[variable]
    }

    pub(super) fn phase(&self, run: RunId) -> RunPhase {
        self.workflow.runs[&run].phase
    }

    pub(super) fn part(&self, run: RunId, task: &str, round: u32) -> &TaskRun {
        &self.workflow.task_runs[&TaskRunId { run, task: task.to_owned(), round }]
    }

    pub(super) fn the_ignitor(&self, of: &str) -> &Ignitor {
        &self.workflow.ignitors[&name(of)]
    }
}

pub(super) fn span(text: &str) -> Span {
    text.parse().expect("a span")
}

pub(super) fn cron(text: &str, zone: &str) -> Option<Schedule> {
    let (expression, zone) = (text.parse().expect("an expression"), zone.parse().expect("a zone"));
    Some(Schedule::Cron { expression, zone })
}
