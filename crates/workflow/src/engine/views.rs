//! What readers see: how tasks, ignitors and runs are.

use model::Timestamp;

use super::{
    AttemptId, Call, CallId, Ignitor, ItemPhase, ObjectName, Run, RunId, STOP_MILLIS, Task, TaskRun,
    TaskRunId, TaskRunPhase, Told, Workflow,
};

/// Who moves something on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// This engine.
    Workflow,
    /// Who runs instances.
    Runtime,
}

/// The columns that a list of tasks has, as ORCA prints them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskColumns {
    /// `Running` or `Pending`.
    pub state: &'static str,
    /// When it last succeeded.
    pub last_success: Option<Timestamp>,
    /// When it last failed.
    pub last_failure: Option<Timestamp>,
    /// Failures in a row.
    pub failures_count: u32,
    /// What starts it.
    pub ignitors: Vec<String>,
    /// See `ignitors`.
    pub on_success_task: Vec<String>,
    /// See `ignitors`.
    pub on_failure_task: Vec<String>,
}

/// A run as it went: who started whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph<'a> {
    /// The run.
    pub run: &'a Run,
    /// All that was started in it.
    pub nodes: Vec<&'a TaskRun>,
    /// All that led to them.
    pub edges: Vec<GraphEdge>,
}

/// That something led to a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphEdge {
    /// Which task run; none for the ignitor.
    pub from: Option<TaskRunId>,
    /// What it told.
    pub told: Told,
    /// What started.
    pub to: TaskRunId,
}

impl TaskRun {
    /// Who moves it on, and until when at the latest; `None` when it is over and settled.
    #[must_use]
    pub fn owner(&self) -> Option<(Owner, Option<Timestamp>)> {
        match self.phase {
            // Those it waits for have deadlines.
            TaskRunPhase::Queued => Some((Owner::Workflow, None)),
            TaskRunPhase::Running => self
                .items
                .iter()
                .filter_map(|item| match item.phase {
                    ItemPhase::Active { since, stopping: None } => {
                        Some((Owner::Runtime, Some(since.plus_millis(self.spec.timeout.as_millis()))))
                    }
                    ItemPhase::Active { stopping: Some(stopping), .. } => {
                        Some((Owner::Runtime, Some(stopping.since.plus_millis(STOP_MILLIS))))
                    }
                    ItemPhase::Pausing { until } => Some((Owner::Workflow, Some(until))),
                    // Those under way have deadlines.
                    ItemPhase::Waiting | ItemPhase::Over => None,
                })
                .min_by_key(|(_, until)| *until),
            TaskRunPhase::Succeeded
            | TaskRunPhase::Failed
            | TaskRunPhase::TimedOut
            | TaskRunPhase::Cancelled
            | TaskRunPhase::Skipped => (!self.settled).then_some((Owner::Workflow, None)),
        }
    }

    /// The attempt that is wanted of each item that is under way.
    pub fn attempts_under_way(&self) -> impl Iterator<Item = AttemptId> {
        let active =
            (0..).zip(&self.items).filter(|(_, item)| matches!(item.phase, ItemPhase::Active { .. }));
        active.filter_map(|(index, _)| self.attempt(index))
    }
}

impl Workflow {
    /// A task, unless there is none of that name.
    #[must_use]
    pub fn task(&self, name: &ObjectName) -> Option<&Task> {
        self.tasks.get(name)
    }

    /// All tasks, by their names.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values()
    }

    /// An ignitor, unless there is none of that name.
    #[must_use]
    pub fn ignitor(&self, name: &ObjectName) -> Option<&Ignitor> {
        self.ignitors.get(name)
    }

    /// All ignitors, by their names.
    pub fn ignitors(&self) -> impl Iterator<Item = &Ignitor> {
        self.ignitors.values()
    }

    /// A run, unless there is none of that number.
    #[must_use]
    pub fn run(&self, id: RunId) -> Option<&Run> {
        self.runs.get(&id)
    }

    /// What was started in a run.
    pub fn task_runs(&self, run: RunId) -> impl Iterator<Item = &TaskRun> {
        self.parts(run)
    }

    /// A call of an action, unless it is not remembered.
    #[must_use]
    pub fn call(&self, id: &CallId) -> Option<&Call> {
        self.calls.get(id)
    }

    /// The calls that the ends of a task run led to.
    pub fn calls_of(&self, of: &TaskRunId) -> impl Iterator<Item = &Call> {
        let first = CallId { task_run: of.clone(), ending: 0, action: 0 };
        self.calls.range(first..).map(|(_, call)| call).take_while(move |call| call.id.task_run == *of)
    }

    /// All calls of actions that are remembered.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.values()
    }

    /// The columns of a task.
    #[must_use]
    pub fn columns(&self, task: &Task) -> TaskColumns {
        let list = |names: &std::collections::BTreeSet<String>| names.iter().cloned().collect();
        TaskColumns {
            state: if self.running.contains_key(&task.name) { "Running" } else { "Pending" },
            last_success: task.last_success,
            last_failure: task.last_failure,
            failures_count: task.failures,
            ignitors: list(&task.spec.start_on_ignition),
            on_success_task: list(&task.spec.start_on_success),
            on_failure_task: list(&task.spec.start_on_failure),
        }
    }

    /// How a run went, unless there is none of that number.
    #[must_use]
    pub fn graph(&self, id: RunId) -> Option<Graph<'_>> {
        let run = self.runs.get(&id)?;
        let nodes: Vec<&TaskRun> = self.parts(id).collect();
        let edges = nodes.iter().flat_map(|node| {
            node.inputs.iter().map(|heard| GraphEdge {
                from: self.heard_of(id, heard).map(|from| from.id.clone()),
                told: heard.told,
                to: node.id.clone(),
            })
        });
        Some(Graph { run, edges: edges.collect(), nodes })
    }
}
