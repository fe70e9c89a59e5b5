//! Workflows: runs of small tasks, each of which knows what starts it. Pure.
//!
//! ```text
//!   Task, Ignitor ──spec──► TaskSpec, IgnitorSpec ──┐
//!                                                   ├─► accept  ─┐
//!   fire, cancel, retry ────────────────────────────┘            ├─► changes ──► apply
//!   what ran, what was called, what happened ─────────► observe ─┘
//!
//!   reconcile(now) ──► Plan { changes, effects, wake_at }   the only place that asks for effects
//! ```
//!
//! Who drives it commits the changes of a turn all or none, and before any effect. Then each attempt of a task is started
//! once, each join fires once for what it was given, and each action is called until it was taken or given up, whenever the
//! process ends. Effects are named by what they are for ([`AttemptId`], [`CallId`]) and may be asked for again: what was
//! started under a name is not started again under it.

mod engine;
mod expression;
mod nesting;
mod spec;
mod time;

pub use engine::{
    ANSWER_MILLIS, ASK_AGAIN_MILLIS, AttemptEnd, AttemptId, Call, CallId, CallIn, CallPhase, CalledIn,
    Change, Counters, Delivery, EVENT_FIRES_MILLIS, Effect, Ended, Event, Exit, Fact, FireCause, Graph,
    GraphEdge, Heard, Ignitor, Item, ItemPhase, JoinState, MAX_OUTPUT_BYTES, MOST_EVENT_FIRES, MOST_STARTS,
    ObjectName, Outcome, Owner, Rejected, Run, RunId, RunPhase, RunReason, STOP_MILLIS, Source, Start,
    StopReason, Stopping, Task, TaskColumns, TaskRun, TaskRunId, TaskRunPhase, Told, Workflow,
};
pub use expression::{Expression, ExpressionError, Question, Reference};
pub use spec::{
    API_VERSION, Action, CatchUp, CatchUpPolicy, Cause, CauseReason, Concurrency, Container, EventSelector,
    ForEach, HistoryLimits, IgnitorSpec, Items, Join, MAX_DATA_BYTES, MOST_ITEMS, Overlap, Retry, Schedule,
    Schemas, TaskSpec, Webhook,
};
pub use time::{
    cron::{Cron, CronError},
    date::{parse_rfc3339, rfc3339},
    zone::{Zone, ZoneError},
};
