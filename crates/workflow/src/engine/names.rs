//! What identifies things. A run has a number that is never given again; all in it is named by that.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A task or an ignitor: its name in its namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectName {
    /// Where it is. Things of different namespaces know nothing of each other.
    pub namespace: String,
    /// What it is called there.
    pub name: String,
}

impl ObjectName {
    /// Joins both.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One run. Counts from 1 over all namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A task in a run, the `round`th time that it starts there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskRunId {
    /// In which run.
    pub run: RunId,
    /// The name of the task.
    pub task: String,
    /// Counts from 1.
    pub round: u32,
}

impl fmt::Display for TaskRunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.run, self.task, self.round)
    }
}

/// One attempt: what is started at most once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AttemptId {
    /// Of which task run.
    pub task_run: TaskRunId,
    /// Of which of its items; 0 if it has no `forEach`.
    pub item: u32,
    /// Counts from 1.
    pub attempt: u32,
}

/// `RUN-TASK-ROUND-ITEM-ATTEMPT`: distinct for distinct attempts, as no part but the task has a hyphen.
impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.task_run, self.item, self.attempt)
    }
}

/// One call of an action: the id of its delivery.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CallId {
    /// What ended.
    pub task_run: TaskRunId,
    /// It ended so often: more than once if its run was retried.
    pub ending: u32,
    /// Which of its actions.
    pub action: u32,
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.task_run, self.ending, self.action)
    }
}
