//! What follows from the end of a task run: tasks that listen, actions, and how the task went.

use model::{Now, Plan};
use serde_json::json;

use super::{
    ANSWER_MILLIS, Call, CallId, CallPhase, Change, Effect, Heard, RunPhase, Source, TaskRun, TaskRunId,
    TaskRunPhase, Told, Workflow,
};
use crate::{Action, time::date::rfc3339};

impl Workflow {
    /// Draws the consequences of task runs that have ended.
    pub(super) fn settle_all(&mut self, plan: &mut Plan<Change, Effect>, now: Now) {
        while let Some(id) = self.unsettled.pop_first() {
            self.settle(plan, &id, now);
        }
    }

    fn settle(&mut self, plan: &mut Plan<Change, Effect>, id: &TaskRunId, now: Now) {
        let Some(ended) = self.task_runs.get(id).cloned() else { return };
        let told = match ended.phase {
            TaskRunPhase::Succeeded => Some(Told::Success),
            TaskRunPhase::Failed | TaskRunPhase::TimedOut => Some(Told::Failure),
            TaskRunPhase::Queued | TaskRunPhase::Running => return,
            TaskRunPhase::Cancelled | TaskRunPhase::Skipped => None,
        };
        let goes_on = self.runs.get(&id.run).is_some_and(|run| run.phase == RunPhase::Running);
        let Some(told) = told else {
            self.edit_task_run(plan, id, |task_run| task_run.settled = true);
            return;
        };
        self.note(plan, &ended, told, now);
        let heard = Heard { source: Source::Task(id.task.clone()), told, round: id.round };
        let actions = match told {
            Told::Success | Told::Fired => &ended.spec.success_actions,
            Told::Failure => &ended.spec.failure_actions,
        };
        let started: Vec<&str> = actions.iter().filter_map(started_by).collect();
        let is_heard = !started.is_empty() || !self.listeners_of(id.run, &heard).is_empty();
        self.edit_task_run(plan, id, |task_run| {
            task_run.settled = true;
            task_run.handled = told == Told::Failure && is_heard;
        });
        if !goes_on {
            return;
        }
        for (index, action) in (0..).zip(actions).filter(|(_, action)| started_by(action).is_none()) {
            let call = CallId { task_run: id.clone(), ending: ended.endings, action: index };
            let document = Call {
                id: call.clone(),
                namespace: ended.namespace.clone(),
                action: action.clone(),
                at: now.date,
                failures: 0,
                error: String::new(),
                phase: CallPhase::Due(now.date),
            };
            self.change(plan, Change::Call(call, Some(document)));
        }
        for task in started {
            self.start(plan, id.run, task, vec![heard.clone()], heard.clone(), ended.hops + 1, now);
        }
        self.hear(plan, id.run, &heard, ended.hops, now);
    }

    /// Notes at the task how it went.
    fn note(&mut self, plan: &mut Plan<Change, Effect>, ended: &TaskRun, told: Told, now: Now) {
        let name = ended.task();
        let Some(mut task) = self.tasks.get(&name).cloned() else { return };
        if told == Told::Success {
            task.last_success = Some(now.date);
            task.failures = 0;
        } else {
            task.last_failure = Some(now.date);
            task.failures = task.failures.saturating_add(1);
        }
        self.change(plan, Change::Task(name, Some(task)));
    }

    /// Asks for the calls that are due.
    pub(super) fn make_calls(&mut self, plan: &mut Plan<Change, Effect>, now: Now) {
        while let Some(id) = self.fresh_calls.pop_first() {
            if let Some(CallPhase::Due(at)) = self.calls.get(&id).map(|call| call.phase) {
                self.call_at(id, now.moment.plus_millis(at.millis_since(now.date)));
            }
        }
        while self.calls_due.first().is_some_and(|(at, _)| *at <= now.moment) {
            let Some((_, id)) = self.calls_due.pop_first() else { break };
            let Some(call) = self.calls.get(&id) else { continue };
            plan.effects.push(Effect::Call {
                id: id.clone(),
                namespace: call.namespace.clone(),
                action: call.action.clone(),
            });
            self.call_at(id, now.moment.plus_millis(ANSWER_MILLIS));
        }
    }

    fn call_at(&mut self, id: CallId, at: model::Moment) {
        self.call_next.insert(id.clone(), at);
        self.calls_due.insert((at, id));
    }

    /// What those who are called are told.
    #[must_use]
    pub fn about(&self, id: &CallId) -> serde_json::Value {
        let run = self.runs.get(&id.task_run.run);
        let Some(task_run) = self.task_runs.get(&id.task_run) else { return json!({}) };
        let heard = Heard {
            source: Source::Task(id.task_run.task.clone()),
            told: Told::Success,
            round: id.task_run.round,
        };
        let code =
            task_run.items.first().and_then(|item| item.outcome.as_ref()).and_then(|outcome| outcome.code);
        json!({
            "delivery": id.to_string(),
            "run": id.task_run.run,
            "ignitor": run.map(|run| &run.ignitor.name),
            "task": id.task_run.task,
            "round": id.task_run.round,
            "result": if task_run.phase == TaskRunPhase::Succeeded { "success" } else { "failure" },
            "reason": format!("{:?}", task_run.phase),
            "detail": task_run.detail,
            "exitCode": code,
            "initiator": task_run.initiator.source.name(),
            "data": self.data_of(id.task_run.run, &heard),
            "at": rfc3339(task_run.since),
        })
    }
}

fn started_by(action: &Action) -> Option<&str> {
    match action {
        Action::RunTask { name } => Some(name),
        Action::Webhook { .. }
        | Action::RestartService { .. }
        | Action::ScaleService { .. }
        | Action::RollbackService { .. }
        | Action::SetStatus { .. }
        | Action::WriteEvent { .. }
        | Action::Plugin { .. } => None,
    }
}
