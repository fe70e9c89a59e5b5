//! The state machine: documents, what follows from them, and what is to be done.
//!
//! ```text
//!   ring (ignition.rs) ──► Run Queued ──ignite──► hear (start.rs) ──► TaskRun Running
//!                                                   ▲                       │ look (attempts.rs): Start, Stop, timeouts, pauses
//!                                                   │                       ▼
//!                                    settle (settle.rs) ◄────────── TaskRun over ◄── observe: an attempt has ended
//!                                       └──► Call Due ──► Effect::Call
//! ```
//!
//! What must be done about a document is seen from the document (`apply.rs`), so that it is done after a start too.

mod accept;
mod apply;
mod attempts;
mod documents;
mod environment;
mod history;
mod ignition;
mod names;
mod observe;
mod settle;
mod start;
#[cfg(test)]
mod tests;
mod views;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{Brain, Moment, Now, Plan, Timestamp};
use serde_json::Value;

pub use accept::{CallIn, CalledIn, Rejected};
pub use documents::{
    Call, CallPhase, Counters, Delivery, Ended, FireCause, Heard, Ignitor, Item, ItemPhase, JoinState,
    Outcome, Run, RunPhase, RunReason, Source, StopReason, Stopping, Task, TaskRun, TaskRunPhase, Told,
};
pub use names::{AttemptId, CallId, ObjectName, RunId, TaskRunId};
pub use observe::{AttemptEnd, EVENT_FIRES_MILLIS, Event, Exit, Fact, MAX_OUTPUT_BYTES, MOST_EVENT_FIRES};
pub use start::MOST_STARTS;
pub use views::{Graph, GraphEdge, Owner, TaskColumns};

use crate::{Action, Schemas, TaskSpec};
use attempts::Watch;

/// What was not confirmed is asked for again after this long.
pub const ASK_AGAIN_MILLIS: u64 = 5_000;
/// An attempt that is to be stopped and of which nothing is heard for so long counts as ended: its device may be cut off
/// for good.
pub const STOP_MILLIS: u64 = 600_000;
/// A call of which nothing was heard for so long is made again. Longer than any attempt may take.
pub const ANSWER_MILLIS: u64 = 120_000;
/// Schedules are by the date, which may be set: it is looked at at least so often while any is due.
const DATE_MILLIS: u64 = 60_000;

/// One document that becomes this, or goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A task.
    Task(ObjectName, Option<Task>),
    /// An ignitor.
    Ignitor(ObjectName, Option<Ignitor>),
    /// A run.
    Run(RunId, Option<Run>),
    /// A task in a run.
    TaskRun(TaskRunId, Option<TaskRun>),
    /// A call of an action.
    Call(CallId, Option<Call>),
    /// The counters.
    Counters(Counters),
}

/// Something for the shell to do, safe to repeat.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Have an instance run to its end, unless there was ever one of that name.
    Start(Box<Start>),
    /// End the instance of that name, and say when it has ended; at once if there is none.
    Stop(AttemptId),
    /// Call an action, and say what came of it.
    Call {
        /// The id of the delivery.
        id: CallId,
        /// Where.
        namespace: String,
        /// What. What happened is told by [`Workflow::about`].
        action: Action,
    },
}

/// A one-shot instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Its name.
    pub attempt: AttemptId,
    /// Where.
    pub namespace: String,
    /// What it is an attempt of.
    pub spec: Arc<TaskSpec>,
    /// All variables, those of the container too.
    pub environment: BTreeMap<String, String>,
    /// The content of the file that `MANGROVE_INPUTS_FILE` names.
    pub inputs: String,
}

/// An item of a task run.
type ItemKey = (TaskRunId, u32);

/// What starts a task, in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Trigger {
    namespace: String,
    source: String,
    told: Told,
}

/// See the crate's description.
#[derive(Debug, Default)]
pub struct Workflow {
    /// Who judges what tasks are given and write; what nobody judges is not as it must be.
    schemas: Option<Arc<dyn Schemas>>,
    tasks: BTreeMap<ObjectName, Task>,
    ignitors: BTreeMap<ObjectName, Ignitor>,
    runs: BTreeMap<RunId, Run>,
    task_runs: BTreeMap<TaskRunId, TaskRun>,
    calls: BTreeMap<CallId, Call>,
    counters: Counters,

    // What follows from the documents.
    /// The tasks that each trigger may start.
    listeners: BTreeMap<Trigger, BTreeSet<String>>,
    /// When each ignitor is next due.
    alarms: BTreeSet<(Timestamp, ObjectName)>,
    alarm_of: BTreeMap<ObjectName, Timestamp>,
    /// The ignitors that wait for events, by namespace and event.
    awaiting: BTreeMap<(String, String), BTreeSet<String>>,
    /// Runs in progress of each ignitor.
    in_progress: BTreeMap<ObjectName, BTreeSet<RunId>>,
    /// Those of them that have not begun.
    waiting: BTreeMap<ObjectName, BTreeSet<RunId>>,
    /// Task runs in progress of each run.
    open: BTreeMap<RunId, BTreeSet<TaskRunId>>,
    /// Task runs of each task that run.
    running: BTreeMap<ObjectName, BTreeSet<TaskRunId>>,
    /// Task runs of each task that wait for those.
    queued: BTreeMap<ObjectName, BTreeSet<TaskRunId>>,
    /// Task runs that ended, by task and whether they succeeded; those beyond the limits are in `beyond`.
    history: BTreeMap<(ObjectName, bool), BTreeSet<TaskRunId>>,
    beyond: BTreeSet<TaskRunId>,
    /// Runs that started nothing.
    idle: BTreeMap<ObjectName, BTreeSet<RunId>>,

    // What is to be looked at, since a document has changed.
    igniting: BTreeSet<RunId>,
    cancelling: BTreeSet<RunId>,
    unsettled: BTreeSet<TaskRunId>,
    queues: BTreeSet<ObjectName>,
    closing: BTreeSet<RunId>,
    prunable: BTreeSet<RunId>,
    /// Runs that are over since this was looked at.
    just_ended: BTreeSet<RunId>,
    crowded: BTreeSet<(ObjectName, bool)>,
    fresh: BTreeSet<ItemKey>,
    fresh_calls: BTreeSet<CallId>,

    // What is remembered only while it runs.
    /// Until when runs are kept that are over, in any case.
    resting: BTreeMap<RunId, Moment>,
    /// When they are looked at again.
    rest_ends: BTreeSet<(Moment, RunId)>,
    watches: BTreeMap<ItemKey, Watch>,
    due: BTreeSet<(Moment, ItemKey)>,
    calls_due: BTreeSet<(Moment, CallId)>,
    call_next: BTreeMap<CallId, Moment>,
}

impl Brain for Workflow {
    type Change = Change;
    type Effect = Effect;

    fn apply(&mut self, change: Change) {
        self.take(change);
    }

    fn reconcile(&mut self, now: Now) -> Plan<Change, Effect> {
        let mut plan = Plan::default();
        self.ring(&mut plan, now);
        self.look_at_due(&mut plan, now);
        // Each pass deals with what the one before has made; cycles of tasks are bounded by their hops.
        while self.has_news() {
            self.ignite(&mut plan, now);
            self.cancel_all(&mut plan, now);
            self.settle_all(&mut plan, now);
            self.begin_queued(&mut plan, now);
            self.look_at_fresh(&mut plan, now);
            self.close_runs(&mut plan, now);
        }
        self.make_calls(&mut plan, now);
        self.prune(&mut plan, now);
        self.set_alarm(&mut plan, now);
        plan
    }
}

impl Workflow {
    /// One with nothing in it, for which `schemas` judges what tasks are given and write.
    #[must_use]
    pub fn new(schemas: Arc<dyn Schemas>) -> Self {
        Self { schemas: Some(schemas), ..Self::default() }
    }

    /// Whether something is as a schema says.
    fn ensure_valid(&self, schema: &Value, document: &Value) -> Result<(), String> {
        match &self.schemas {
            Some(schemas) => schemas.ensure_valid(schema, document),
            None => Err("there is nobody who judges it".to_owned()),
        }
    }

    fn change(&mut self, plan: &mut Plan<Change, Effect>, change: Change) {
        self.take(change.clone());
        plan.changes.push(change);
    }

    fn has_news(&self) -> bool {
        !(self.igniting.is_empty()
            && self.cancelling.is_empty()
            && self.unsettled.is_empty()
            && self.queues.is_empty()
            && self.closing.is_empty()
            && self.fresh.is_empty())
    }

    fn edit_run(&mut self, plan: &mut Plan<Change, Effect>, id: RunId, edit: impl FnOnce(&mut Run)) {
        if let Some(mut run) = self.runs.get(&id).cloned() {
            edit(&mut run);
            self.change(plan, Change::Run(id, Some(run)));
        }
    }

    fn edit_task_run(
        &mut self,
        plan: &mut Plan<Change, Effect>,
        id: &TaskRunId,
        edit: impl FnOnce(&mut TaskRun),
    ) {
        if let Some(mut task_run) = self.task_runs.get(id).cloned() {
            edit(&mut task_run);
            self.change(plan, Change::TaskRun(id.clone(), Some(task_run)));
        }
    }

    /// The task runs of a run, those that ended too.
    fn parts(&self, run: RunId) -> impl Iterator<Item = &TaskRun> {
        let first = TaskRunId { run, task: String::new(), round: 0 };
        let end = TaskRunId { run: RunId(run.0.saturating_add(1)), task: String::new(), round: 0 };
        self.task_runs.range(first..end).map(|(_, task_run)| task_run)
    }

    /// When to be asked again.
    fn set_alarm(&self, plan: &mut Plan<Change, Effect>, now: Now) {
        if let Some((at, _)) = self.due.first() {
            plan.wake(*at);
        }
        if let Some((at, _)) = self.calls_due.first() {
            plan.wake(*at);
        }
        if let Some((until, _)) = self.rest_ends.first() {
            plan.wake(*until);
        }
        if let Some((at, _)) = self.alarms.first() {
            plan.wake(now.moment.plus_millis(at.millis_since(now.date).min(DATE_MILLIS)));
        }
    }
}
