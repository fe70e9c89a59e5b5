//! Tasks, ignitors and runs: the engine of `crates/workflow` in the brain of the root. An attempt is a service of its own with
//! one instance, placed like all others.
//!
//! ```text
//!   wishes.rs ──► Change::Workflow ──► engine ──reconcile──► Start ──► Change::Service, Change::Instance   (attempt.rs)
//!                                        ▲                                        │
//!                                        └───── Ended ◄───── its instance's report ┘
//! ```
//!
//! Users write tasks and ignitors as objects of the resource API, and see runs as such (`objects.rs`).
//!
//! Guarantee: the service of an attempt is made in the commit that says that the attempt is wanted, so it is there once
//! whenever the root ends. One that is gone before its attempt has ended was removed by somebody: it is not made again.

mod actions;
mod attempt;
mod calls;
mod objects;
mod placement;
mod status;
mod triggers;
mod wishes;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ::resources::Schema;
use model::{Brain, Desired, Now, Phase, ServiceId};
use serde_json::Value;
use workflow::{AttemptEnd, AttemptId, Effect, Exit, Fact, Schemas, TaskRun, TaskRunId, Workflow};

pub use calls::ActionCall;
pub use objects::WorkflowKind;
pub use wishes::{Accepted, RunWish};

use objects::Stirred;

use crate::{Change, Service, State, reconcile::Plan};

/// A pass deals so often with what follows from starts that were not possible; what is left is for the next.
const ROUNDS: usize = 4;

/// The schemas of custom resources, for what tasks are given and write.
#[derive(Debug)]
struct OurSchemas;

impl Schemas for OurSchemas {
    fn ensure_schema(&self, schema: &Value) -> Result<(), (String, String)> {
        let read = Schema::read(schema).map(drop);
        read.map_err(|problem| {
            let place = problem.field.strip_prefix("schema").unwrap_or_default().to_owned();
            (place, problem.message)
        })
    }

    fn ensure_valid(&self, schema: &Value, document: &Value) -> Result<(), String> {
        let schema = Schema::read(schema).map_err(|problem| problem.message)?;
        match schema.check(document).first() {
            None => Ok(()),
            Some(problem) if problem.field.is_empty() => Err(problem.message.clone()),
            Some(problem) => Err(format!("`{}`: {}", problem.field, problem.message)),
        }
    }
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Workflows {
    pub(crate) engine: Workflow,
    /// The services of attempts. Follows from the services.
    attempts: BTreeMap<ServiceId, AttemptId>,
    services: BTreeMap<AttemptId, ServiceId>,
    /// Services of attempts of whose instances there is news.
    news: BTreeSet<ServiceId>,
    /// Services of attempts whose instances were not looked at for what keeps them from running.
    unseen: BTreeSet<ServiceId>,
    /// What keeps the instances of attempts from running, in the words of whoever has them. Follows from their reports.
    obstacles: BTreeMap<AttemptId, String>,
    /// Attempts that once had a service.
    begun: BTreeSet<AttemptId>,
    /// What has happened to objects in this turn.
    happened: Vec<workflow::Event>,
    /// Actions that others are asked for.
    calls: calls::Calls,
    /// Task runs that are forgotten, whose services go.
    forgotten: Vec<TaskRunId>,
    /// The objects of tasks, ignitors and runs.
    seen: objects::Seen,
    /// What may be otherwise than its object says.
    stirred: BTreeSet<Stirred>,
    /// What is stored was looked at once.
    is_known: bool,
}

impl Default for Workflows {
    fn default() -> Self {
        Self {
            engine: Workflow::new(Arc::new(OurSchemas)),
            attempts: BTreeMap::new(),
            services: BTreeMap::new(),
            news: BTreeSet::new(),
            unseen: BTreeSet::new(),
            obstacles: BTreeMap::new(),
            begun: BTreeSet::new(),
            happened: Vec::new(),
            calls: calls::Calls::default(),
            forgotten: Vec::new(),
            seen: objects::Seen::default(),
            stirred: BTreeSet::new(),
            is_known: false,
        }
    }
}

impl Workflows {
    pub(crate) fn take(&mut self, change: workflow::Change) {
        self.overhear(&change);
        self.engine.apply(change);
    }

    fn overhear(&mut self, change: &workflow::Change) {
        match change {
            workflow::Change::Task(name, _) => _ = self.stirred.insert(Stirred::Task(name.clone())),
            workflow::Change::Ignitor(name, _) => _ = self.stirred.insert(Stirred::Ignitor(name.clone())),
            workflow::Change::Run(id, _) => _ = self.stirred.insert(Stirred::Run(*id)),
            workflow::Change::TaskRun(id, after) => {
                self.stirred.insert(Stirred::Run(id.run));
                match after {
                    Some(after) => _ = self.stirred.insert(Stirred::Task(after.task())),
                    None => self.forgotten.push(id.clone()),
                }
            }
            workflow::Change::Call(id, _) => _ = self.stirred.insert(Stirred::Run(id.task_run.run)),
            workflow::Change::Counters(_) => {}
        }
    }

    pub(crate) fn take_service(&mut self, id: ServiceId, service: Option<&Service>) {
        match service.and_then(|service| service.attempt.as_ref()) {
            Some(attempt) => {
                self.attempts.insert(id, attempt.clone());
                self.services.insert(attempt.clone(), id);
                self.news.insert(id);
                self.unseen.insert(id);
            }
            None => {
                if let Some(attempt) = self.attempts.remove(&id) {
                    self.services.remove(&attempt);
                    self.obstacles.remove(&attempt);
                }
            }
        }
    }

    pub(crate) fn take_instance(&mut self, of: ServiceId) {
        if self.attempts.contains_key(&of) {
            self.news.insert(of);
            self.unseen.insert(of);
        }
    }

    /// What keeps the first of the attempts under way that something keeps from running.
    fn obstacle(&self, part: &TaskRun) -> Option<&str> {
        part.attempts_under_way().find_map(|attempt| self.obstacles.get(&attempt)).map(String::as_str)
    }

    fn note_obstacle(&mut self, attempt: &AttemptId, obstacle: Option<String>) {
        if self.obstacles.get(attempt) == obstacle.as_ref() {
            return;
        }
        match obstacle {
            Some(obstacle) => drop(self.obstacles.insert(attempt.clone(), obstacle)),
            None => drop(self.obstacles.remove(attempt)),
        }
        self.stirred.insert(Stirred::Run(attempt.task_run.run));
    }

    /// What was read from the store did not happen now.
    pub(crate) fn loaded(&mut self) {
        self.happened.clear();
    }

    /// What a process that has just started has to know.
    fn look_at_what_is_stored(&mut self) {
        let open = self.engine.runs().filter(|run| !run.phase.is_over());
        let parts = open.flat_map(|run| self.engine.task_runs(run.id));
        self.begun = parts.flat_map(|part| part.attempts_under_way().collect::<Vec<_>>()).collect();
        let orphans = self.services.keys().filter(|attempt| !self.engine.owns(attempt));
        self.forgotten.extend(orphans.map(|attempt| attempt.task_run.clone()));
        self.is_known = true;
    }
}

impl State {
    /// Takes steps in runs: what has ended is settled, and what follows is started.
    pub(crate) fn run_tasks(&mut self, plan: &mut Plan, now: Now) {
        if !self.workflows.is_known {
            self.workflows.look_at_what_is_stored();
            self.stir_all();
        }
        self.take_on_objects(plan, now);
        let news = self.task_news();
        self.take_in(plan, news, now);
        for round in 1..=ROUNDS {
            let tasks = self.workflows.engine.reconcile(now);
            tasks.changes.iter().for_each(|change| self.workflows.overhear(change));
            // They are applied already.
            plan.changes.extend(tasks.changes.into_iter().map(Change::Workflow));
            tasks.wake_at.into_iter().for_each(|at| plan.wake(at));
            let mut facts = Vec::new();
            for effect in tasks.effects {
                facts.extend(self.carry_out(plan, effect, now));
            }
            facts.extend(self.offer_calls(plan, now));
            // What was stopped before it was anywhere is gone at once.
            facts.extend(self.task_news());
            if facts.is_empty() {
                break;
            }
            // All of them: what was done is never asked for again.
            self.take_in(plan, facts, now);
            if round == ROUNDS {
                plan.wake(now.moment);
            }
        }
        self.forget_attempts(plan, now);
    }

    fn take_in(&mut self, plan: &mut Plan, facts: Vec<Fact>, now: Now) {
        for fact in facts {
            for change in self.workflows.engine.observe(fact, now) {
                self.change(plan, Change::Workflow(change));
            }
        }
    }

    /// What can be said of the attempts of whose instances there is news.
    fn task_news(&mut self) -> Vec<Fact> {
        let news = std::mem::take(&mut self.workflows.news);
        let facts = news.into_iter().filter_map(|service| {
            let attempt = self.workflows.attempts.get(&service)?.clone();
            let Some(instance) = self.instances_of(service).next() else {
                return Some(lost(attempt, "its instance was removed"));
            };
            match (instance.desired, instance.report.phase) {
                // It is told of when it is gone.
                (Desired::Removed, _) => None,
                (Desired::Running, Phase::Completed) => {
                    Some(Fact::Ended(attempt, attempt::end(&instance.report)))
                }
                (Desired::Running, _) => Some(Fact::Confirmed(attempt)),
            }
        });
        facts.collect()
    }

    /// What keeps attempts from running, where it may have changed. Late in a pass: it is placed after it was begun.
    fn look_for_obstacles(&mut self) {
        for service in std::mem::take(&mut self.workflows.unseen) {
            let Some(attempt) = self.workflows.attempts.get(&service).cloned() else { continue };
            let obstacle = self.instances_of(service).next().and_then(|it| attempt::obstacle(&it.report));
            self.workflows.note_obstacle(&attempt, obstacle);
        }
    }

    fn carry_out(&mut self, plan: &mut Plan, effect: Effect, now: Now) -> Option<Fact> {
        match effect {
            Effect::Start(start) => {
                let attempt = start.attempt.clone();
                if self.workflows.services.contains_key(&attempt) {
                    return Some(Fact::Confirmed(attempt));
                }
                if !self.workflows.begun.insert(attempt.clone()) {
                    return Some(lost(attempt, "its service was removed"));
                }
                let refused = self.begin_attempt(plan, &start, now).err()?;
                Some(ended(attempt, Exit::Refused(refused)))
            }
            Effect::Stop(attempt) => {
                let Some(service) = self.workflows.services.get(&attempt).copied() else {
                    return Some(lost(attempt, "its service was removed"));
                };
                for change in self.undeploy_all(service, now.date) {
                    self.change(plan, change);
                }
                None
            }
            Effect::Call { id, namespace, action } => self.act(plan, id, &namespace, &action, now),
        }
    }

    /// Deletes the services of attempts that nobody remembers.
    fn forget_attempts(&mut self, plan: &mut Plan, now: Now) {
        for id in std::mem::take(&mut self.workflows.forgotten) {
            let first = AttemptId { task_run: id.clone(), item: 0, attempt: 0 };
            let of_run =
                self.workflows.services.range(first..).take_while(|(attempt, _)| attempt.task_run == id);
            let services: Vec<ServiceId> = of_run.map(|(_, service)| *service).collect();
            for service in services {
                let Some(service) = self.services.get(&service).filter(|service| !service.deleted) else {
                    continue;
                };
                for change in self.delete_service(&service.clone(), now.date) {
                    self.change(plan, change);
                }
            }
            let first = AttemptId { task_run: id.clone(), item: 0, attempt: 0 };
            let begun = self.workflows.begun.range(first..).take_while(|attempt| attempt.task_run == id);
            for attempt in begun.cloned().collect::<Vec<AttemptId>>() {
                self.workflows.begun.remove(&attempt);
            }
        }
    }
}

fn lost(attempt: AttemptId, why: &str) -> Fact {
    ended(attempt, Exit::Lost(why.to_owned()))
}

/// It ended without a word, and nobody knows when.
fn ended(attempt: AttemptId, exit: Exit) -> Fact {
    let at = model::Timestamp(u64::MAX);
    Fact::Ended(attempt, AttemptEnd { exit, at, data: String::new(), output: None })
}
