//! What is durable: all that the engine needs to go on after a start.

use std::{collections::BTreeMap, sync::Arc};

use model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CallId, ObjectName, RunId, TaskRunId};
use crate::{Action, IgnitorSpec, TaskSpec};

/// A task with how it went lately. Durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Which one.
    pub name: ObjectName,
    /// As its user wants it.
    pub spec: Arc<TaskSpec>,
    /// When it last succeeded.
    pub last_success: Option<Timestamp>,
    /// When it last failed.
    pub last_failure: Option<Timestamp>,
    /// Failures in a row.
    pub failures: u32,
}

/// An ignitor with what it did. Durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ignitor {
    /// Which one.
    pub name: ObjectName,
    /// As its user wants it.
    pub spec: Arc<IgnitorSpec>,
    /// Since when it is there.
    pub since: Timestamp,
    /// All times of its schedule until then have been dealt with.
    pub considered: Timestamp,
    /// It was to fire once, and that has been dealt with.
    pub done: bool,
    /// How often it fired.
    pub fired: u64,
    /// When it last fired.
    pub last_fired: Option<Timestamp>,
    /// Times that were skipped because of runs in progress.
    pub skipped: u64,
    /// Times that were missed and not made up for.
    pub missed: u64,
    /// The last calls from outside, oldest first, so that none counts twice.
    pub deliveries: Vec<Delivery>,
    /// When it last fired at events, oldest first: it does so only so often.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_fires: Vec<Timestamp>,
    /// When events last came too fast for it, unless it has fired at one since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flooded: Option<Timestamp>,
}

/// A call from outside that was taken. Part of an ignitor's document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The id its caller gave it.
    pub id: String,
    /// Until then whoever overheard it could say it again.
    pub until: Timestamp,
}

/// One run: what followed from one firing of an ignitor. Durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Which one.
    pub id: RunId,
    /// The ignitor that began it.
    pub ignitor: ObjectName,
    /// Why that fired.
    pub cause: FireCause,
    /// What its first tasks are given.
    pub data: String,
    /// When it was asked for.
    pub created: Timestamp,
    /// It begins only when earlier runs of its ignitor have ended.
    pub waits: bool,
    /// Where it is in its life.
    pub phase: RunPhase,
    /// Since when.
    pub since: Timestamp,
    /// Why it failed.
    pub reason: Option<RunReason>,
    /// What joins have heard so far, by task.
    pub joins: BTreeMap<String, JoinState>,
    /// How often each task was started.
    pub rounds: BTreeMap<String, u32>,
}

/// Why an ignitor fired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FireCause {
    /// It was due then.
    Schedule(Timestamp),
    /// Somebody asked for it.
    Hand,
    /// Somebody outside called.
    Webhook(String),
    /// Something happened that it waits for.
    Event {
        /// The number of the event.
        number: u64,
        /// What, such as `instance.failed`.
        event: String,
        /// To what.
        name: String,
    },
}

/// Where a run is in its life. `Queued` waits for other runs of its ignitor, `Running` and `Cancelling` for its task runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunPhase {
    /// It has not begun.
    Queued,
    /// Something of it is under way.
    Running,
    /// All of it is being stopped.
    Cancelling,
    /// All that failed was seen to by another task.
    Succeeded,
    /// See `reason`.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl RunPhase {
    /// Whether nothing happens in it any more.
    #[must_use]
    pub const fn is_over(self) -> bool {
        match self {
            Self::Queued | Self::Running | Self::Cancelling => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunReason {
    /// That task failed, and no other was there for it.
    TaskFailed(String),
    /// That task was to start, and more starts would have followed from each other than it allows.
    MaxHops(String),
    /// It had more starts than any run may have.
    TooManyStarts,
}

impl RunReason {
    /// A stable word.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::TaskFailed(_) => "TaskFailed",
            Self::MaxHops(_) => "MaxHops",
            Self::TooManyStarts => "TooManyStarts",
        }
    }
}

/// What starts a task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// The ignitor of the run.
    Ignitor(String),
    /// A task of the run.
    Task(String),
}

impl Source {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Ignitor(name) | Self::Task(name) => name,
        }
    }
}

/// What is told of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Told {
    /// The ignitor fired.
    Fired,
    /// The task succeeded.
    Success,
    /// The task failed.
    Failure,
}

/// Something a task heard. What it carries is found in the run and its task runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Who.
    pub source: Source,
    /// What.
    pub told: Told,
    /// In which round of the source; 1 for ignitors.
    pub round: u32,
}

/// What a join has heard since it last fired.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JoinState {
    /// The latest of each source.
    pub heard: Vec<Heard>,
    /// How often it fired.
    pub firings: u32,
    /// Rounds of tasks that count no more: those that had begun when it last fired, and the first of those that had not.
    pub spent: BTreeMap<String, u32>,
}

/// A task in a run. Durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRun {
    /// Which one.
    pub id: TaskRunId,
    /// Where.
    pub namespace: String,
    /// The task as it was when this began.
    pub spec: Arc<TaskSpec>,
    /// How many starts followed from each other until this one.
    pub hops: u32,
    /// What made it start.
    pub initiator: Heard,
    /// All that it was waiting for, the initiator too.
    pub inputs: Vec<Heard>,
    /// Where it is in its life.
    pub phase: TaskRunPhase,
    /// Since when.
    pub since: Timestamp,
    /// Why it is there, for people.
    pub detail: String,
    /// One, or those of `forEach`.
    pub items: Vec<Item>,
    /// How often it has ended.
    pub endings: u32,
    /// What follows from its end has followed.
    pub settled: bool,
    /// Another task was there for its failure.
    pub handled: bool,
}

/// Where a task run is in its life. Waiting for a join is no phase: then there is no task run yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskRunPhase {
    /// It waits until others of its task have ended.
    Queued,
    /// Its items are under way.
    Running,
    /// All items succeeded.
    Succeeded,
    /// An item failed for good.
    Failed,
    /// An item took too long, and none failed otherwise.
    TimedOut,
    /// It was stopped on request.
    Cancelled,
    /// It was not to start. Nothing follows.
    Skipped,
}

impl TaskRunPhase {
    /// Whether it has ended.
    #[must_use]
    pub const fn is_over(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::TimedOut | Self::Cancelled | Self::Skipped => true,
        }
    }

    /// Whether it ended without success, on its own.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        match self {
            Self::Failed | Self::TimedOut => true,
            Self::Queued | Self::Running | Self::Succeeded | Self::Cancelled | Self::Skipped => false,
        }
    }
}

/// One item of a task run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// What it is, if there is a `forEach`.
    pub value: Option<Value>,
    /// Where it is in its life.
    pub phase: ItemPhase,
    /// Attempts that have begun.
    pub attempts: u32,
    /// Those that had begun when it was last retried by hand.
    pub attempts_before: u32,
    /// How the last attempt that ended went.
    pub outcome: Option<Outcome>,
}

/// Where an item is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemPhase {
    /// It waits until fewer items are under way.
    Waiting,
    /// Its last attempt is wanted, or is to be stopped.
    Active {
        /// Since when it is wanted.
        since: Timestamp,
        /// Why it is to be stopped.
        stopping: Option<Stopping>,
    },
    /// The next attempt begins then.
    Pausing {
        /// When.
        until: Timestamp,
    },
    /// See its outcome.
    Over,
}

/// That an attempt is to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// Why.
    pub why: StopReason,
    /// Since when.
    pub since: Timestamp,
}

/// Why an attempt is to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    /// It took too long.
    TimedOut,
    /// Its run is cancelled.
    Cancelled,
    /// A newer one of its task takes its place.
    Replaced,
}

/// How an attempt went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// In a word.
    pub ended: Ended,
    /// The exit code, if there was one.
    pub code: Option<i64>,
    /// For people.
    pub detail: String,
    /// When.
    pub at: Timestamp,
    /// What it said at its end.
    pub data: String,
    /// What it wrote as its output.
    pub output: Option<Value>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// With exit code 0, and its output was as it must be.
    Succeeded,
    /// In every other way.
    Failed,
    /// It was stopped because it took too long.
    TimedOut,
    /// It was stopped on request.
    Cancelled,
}

/// An action that is to be called, or was. Durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Which one; also the id of its delivery.
    pub id: CallId,
    /// Where.
    pub namespace: String,
    /// What.
    pub action: Action,
    /// When it was first due.
    pub at: Timestamp,
    /// Attempts that failed.
    pub failures: u32,
    /// Why the last one that failed did.
    pub error: String,
    /// Where it is in its life.
    pub phase: CallPhase,
}

impl Call {
    /// Whether it is still to be made.
    #[must_use]
    pub const fn is_due(&self) -> bool {
        matches!(self.phase, CallPhase::Due(_))
    }
}

/// Where a call is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallPhase {
    /// To be made, not before then.
    Due(Timestamp),
    /// It was taken.
    Done,
    /// It was tried for too long.
    GivenUp,
}

/// What is counted over all namespaces. Durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// The number of the last run.
    pub runs: u64,
    /// The number of the last event that made an ignitor fire.
    pub events: u64,
}
