//! What users ask for.

use std::sync::Arc;

use model::{Now, Timestamp};

use super::{
    Change, Delivery, FireCause, Ignitor, ObjectName, RunId, RunPhase, Task, TaskRun, TaskRunPhase, Workflow,
    ignition::cancel,
};
use crate::{Cause, CauseReason, IgnitorSpec, Join, MAX_DATA_BYTES, Schedule, TaskSpec, time::date::rfc3339};

/// Calls from outside that are remembered of each ignitor, so that none counts twice. One a second is taken for as long as
/// somebody could say again what was overheard.
const MOST_DELIVERIES: usize = 300;
/// A call is taken so long after it was signed: clocks differ, and callers try again.
const SIGNED_FOR_MILLIS: u64 = 300_000;
/// Clocks of callers may be so much ahead.
const AHEAD_MILLIS: u64 = 60_000;
/// Bytes of the id of a call from outside.
const MOST_DELIVERY_BYTES: usize = 128;

/// A wish that is not fulfilled. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// There is none of that name.
    #[error("there is no {kind} {name}")]
    None {
        /// Of what kind.
        kind: &'static str,
        /// Which.
        name: String,
    },
    /// It was to be made and is there already.
    #[error("run {0} is over; `retry` has what failed in it tried again")]
    Over(RunId),
    /// It is in progress.
    #[error("run {0} is in progress; cancel it first")]
    InProgress(RunId),
    /// There is nothing to try again.
    #[error("nothing in run {0} can be tried again: no task in it failed without another being there for it")]
    NothingFailed(RunId),
    /// The data is too long or cannot be given to a container.
    #[error("{0}")]
    Data(String),
    /// It takes no calls from outside.
    #[error("ignitor {0} takes no calls: it has no `webhook`")]
    NoWebhook(ObjectName),
    /// It does not fire.
    #[error("ignitor {0} is suspended; `mangrove ignitor suspend NAME --off` has it fire again")]
    Suspended(ObjectName),
    /// It was signed too long ago, or its caller's clock is wrong.
    #[error(
        "the call was signed at {}, and here it is {}: sign calls when they are made, by a clock that is right",
        rfc3339(*.signed), rfc3339(*.now)
    )]
    Stale {
        /// When it was signed.
        signed: Timestamp,
        /// What time it is.
        now: Timestamp,
    },
    /// More calls than are remembered.
    #[error("ignitor {name} takes {MOST_DELIVERIES} calls in five minutes; try again in {seconds} s")]
    TooManyCalls {
        /// Which.
        name: ObjectName,
        /// When there is room again.
        seconds: u64,
    },
}

/// A call from outside, by who has proved to know the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallIn {
    /// The id its caller gave it; the same when it is made again.
    pub delivery: String,
    /// Takes the place of the ignitor's data.
    pub data: Option<String>,
    /// When it was signed.
    pub signed: Timestamp,
}

/// What came of a call from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalledIn {
    /// This run began.
    Began(RunId),
    /// It was taken before.
    Known,
    /// Runs are in progress, and its ignitor skips what overlaps.
    Skipped,
}

impl Workflow {
    /// Makes a task, or changes it. What has begun goes on as it was.
    #[must_use]
    pub fn set_task(&self, name: ObjectName, spec: TaskSpec) -> Vec<Change> {
        let fresh = Task {
            name: name.clone(),
            spec: Arc::new(TaskSpec::running("")),
            last_success: None,
            last_failure: None,
            failures: 0,
        };
        let before = self.tasks.get(&name).cloned().unwrap_or(fresh);
        vec![Change::Task(name, Some(Task { spec: Arc::new(spec), ..before }))]
    }

    /// Forgets a task. What has begun goes on.
    #[must_use]
    pub fn remove_task(&self, name: &ObjectName) -> Vec<Change> {
        self.tasks.contains_key(name).then(|| Change::Task(name.clone(), None)).into_iter().collect()
    }

    /// Makes an ignitor, or changes it. It fires anew if its schedule is another.
    #[must_use]
    pub fn set_ignitor(&self, name: ObjectName, spec: IgnitorSpec, now: Now) -> Vec<Change> {
        let fresh = |spec| Ignitor {
            name: name.clone(),
            spec,
            since: now.date,
            considered: now.date,
            done: false,
            fired: 0,
            last_fired: None,
            skipped: 0,
            missed: 0,
            deliveries: Vec::new(),
            event_fires: Vec::new(),
            flooded: None,
        };
        let spec = Arc::new(spec);
        let ignitor = match self.ignitors.get(&name).cloned() {
            None => fresh(spec),
            Some(before) => {
                let is_same = before.spec.schedule == spec.schedule;
                let was_suspended = before.spec.suspend && !spec.suspend;
                Ignitor {
                    since: if is_same { before.since } else { now.date },
                    // Times at which it was suspended are not missed.
                    considered: if is_same && !was_suspended { before.considered } else { now.date },
                    done: before.done && is_same,
                    spec,
                    ..before
                }
            }
        };
        vec![Change::Ignitor(name, Some(ignitor))]
    }

    /// Forgets an ignitor. Its runs go on.
    #[must_use]
    pub fn remove_ignitor(&self, name: &ObjectName) -> Vec<Change> {
        self.ignitors.contains_key(name).then(|| Change::Ignitor(name.clone(), None)).into_iter().collect()
    }

    /// Has an ignitor fire, also one that is suspended, whatever it says of overlapping runs. `data` takes the place of its
    /// own.
    ///
    /// # Errors
    /// When there is none, or the data is not valid.
    pub fn fire(
        &self,
        name: &ObjectName,
        data: Option<String>,
        now: Now,
    ) -> Result<(RunId, Vec<Change>), Rejected> {
        let mut ignitor = self.ignitor_named(name)?.clone();
        let data = data.unwrap_or_else(|| ignitor.spec.data.clone());
        ensure_data(&data)?;
        let mut changes = self.new_run(&mut ignitor, FireCause::Hand, data, false, now.date);
        changes.push(Change::Ignitor(name.clone(), Some(ignitor)));
        Ok((RunId(self.counters.runs + 1), changes))
    }

    /// Somebody outside calls, and has proved who they are. The same delivery counts once.
    ///
    /// # Errors
    /// When there is no such ignitor, it takes no calls, is suspended or has taken too many, or when what it is given is not
    /// valid.
    pub fn call_in(
        &self,
        name: &ObjectName,
        call: CallIn,
        now: Now,
    ) -> Result<(CalledIn, Vec<Change>), Rejected> {
        let CallIn { delivery, data, signed } = call;
        let mut ignitor = self.ignitor_named(name)?.clone();
        if ignitor.spec.webhook.is_none() {
            return Err(Rejected::NoWebhook(name.clone()));
        }
        if delivery.is_empty() || delivery.len() > MOST_DELIVERY_BYTES {
            let message = format!("the id of a delivery must have 1 to {MOST_DELIVERY_BYTES} bytes");
            return Err(Rejected::Data(message));
        }
        let until = signed.plus_millis(SIGNED_FOR_MILLIS);
        if until <= now.date || signed.millis_since(now.date) > AHEAD_MILLIS {
            return Err(Rejected::Stale { signed, now: now.date });
        }
        if ignitor.deliveries.iter().any(|known| known.id == delivery) {
            return Ok((CalledIn::Known, Vec::new()));
        }
        if ignitor.spec.suspend {
            return Err(Rejected::Suspended(name.clone()));
        }
        ensure_data(data.as_deref().unwrap_or_default())?;
        ignitor.remember(Delivery { id: delivery.clone(), until }, now.date)?;
        let mut changes = self.fire_now(&mut ignitor, FireCause::Webhook(delivery), now.date);
        let began = !changes.is_empty();
        for change in &mut changes {
            if let (Change::Run(_, Some(run)), Some(data)) = (change, &data) {
                run.data.clone_from(data);
            }
        }
        changes.push(Change::Ignitor(name.clone(), Some(ignitor)));
        let came = if began { CalledIn::Began(RunId(self.counters.runs + 1)) } else { CalledIn::Skipped };
        Ok((came, changes))
    }

    /// Has an ignitor fire by itself no more, or again.
    ///
    /// # Errors
    /// When there is none.
    pub fn suspend(&self, name: &ObjectName, suspend: bool, now: Now) -> Result<Vec<Change>, Rejected> {
        let spec = IgnitorSpec { suspend, ..(*self.ignitor_named(name)?.spec).clone() };
        Ok(self.set_ignitor(name.clone(), spec, now))
    }

    /// Stops all of a run.
    ///
    /// # Errors
    /// When there is none, or it is over.
    pub fn cancel(&self, id: RunId, now: Now) -> Result<Vec<Change>, Rejected> {
        let mut run = self.run_numbered(id)?.clone();
        if run.phase.is_over() {
            return Err(Rejected::Over(id));
        }
        cancel(&mut run, now.date);
        Ok(vec![Change::Run(id, Some(run))])
    }

    /// Has all that failed in a run, or was cancelled, be tried again; what succeeded is not.
    ///
    /// # Errors
    /// When there is none, it is in progress, or there is nothing to try again.
    pub fn retry(&self, id: RunId, now: Now) -> Result<Vec<Change>, Rejected> {
        let mut run = self.run_numbered(id)?.clone();
        if !run.phase.is_over() {
            return Err(Rejected::InProgress(id));
        }
        let failed = |part: &&TaskRun| {
            let is_unmet = part.phase.is_failure() && !part.handled || part.phase == TaskRunPhase::Cancelled;
            is_unmet && !part.items.is_empty()
        };
        let mut changes: Vec<Change> = Vec::new();
        for part in self.parts(id).filter(failed) {
            let mut part = part.clone();
            part.retry(now.date);
            changes.push(Change::TaskRun(part.id.clone(), Some(part)));
        }
        if changes.is_empty() {
            return Err(Rejected::NothingFailed(id));
        }
        run.phase = RunPhase::Running;
        run.since = now.date;
        run.reason = None;
        // The run first: what its parts lead to is asked of it.
        changes.insert(0, Change::Run(id, Some(run)));
        Ok(changes)
    }

    /// Forgets a run that is over.
    ///
    /// # Errors
    /// When there is none, or it is in progress.
    pub fn remove_run(&self, id: RunId) -> Result<Vec<Change>, Rejected> {
        if !self.run_numbered(id)?.phase.is_over() {
            return Err(Rejected::InProgress(id));
        }
        Ok(self.without_run(id))
    }

    /// Forgets all of a namespace, also what is in progress.
    #[must_use]
    pub fn remove_namespace(&self, namespace: &str) -> Vec<Change> {
        let first = ObjectName::new(namespace, "");
        let tasks = self.tasks.range(first.clone()..).map(|(name, _)| name);
        let tasks = tasks.take_while(|name| name.namespace == namespace);
        let ignitors = self.ignitors.range(first..).map(|(name, _)| name);
        let ignitors = ignitors.take_while(|name| name.namespace == namespace);
        let runs = self.runs.values().filter(|run| run.ignitor.namespace == namespace);
        let tasks = tasks.map(|name| Change::Task(name.clone(), None));
        let ignitors = ignitors.map(|name| Change::Ignitor(name.clone(), None));
        tasks.chain(ignitors).chain(runs.flat_map(|run| self.without_run(run.id))).collect()
    }

    /// What a task waits for that is not there, and may come: warnings.
    #[must_use]
    pub fn warnings(&self, namespace: &str, own_name: &str, spec: &TaskSpec) -> Vec<Cause> {
        let mut warnings = Vec::new();
        let mut warn = |list: &str, index: usize, name: &str, kind: &str| {
            warnings.push(Cause {
                field: format!("spec.{list}[{index}]"),
                reason: CauseReason::NotFound,
                message: format!("there is no {kind} `{name}` yet; the task starts when there is one"),
            });
        };
        for (index, name) in spec.start_on_ignition.iter().enumerate() {
            if !self.ignitors.contains_key(&ObjectName::new(namespace, name)) {
                warn("startOnIgnition", index, name, "ignitor");
            }
        }
        for (list, names) in
            [("startOnSuccess", &spec.start_on_success), ("startOnFailure", &spec.start_on_failure)]
        {
            for (index, name) in names.iter().enumerate() {
                if name != own_name && !self.tasks.contains_key(&ObjectName::new(namespace, name)) {
                    warn(list, index, name, "task");
                }
            }
        }
        if self.waits_for_itself(namespace, own_name, spec) {
            warnings.push(Cause {
                field: "spec.join".to_owned(),
                reason: CauseReason::Invalid,
                message: "waits for tasks that wait for this one, so none of them ever starts".to_owned(),
            });
        }
        warnings
    }

    /// Whether a chain of joins that wait for all leads from a task back to itself.
    fn waits_for_itself(&self, namespace: &str, own_name: &str, spec: &TaskSpec) -> bool {
        let mut seen = std::collections::BTreeSet::new();
        let mut next = needs(spec);
        while let Some(name) = next.pop() {
            if name == own_name {
                return true;
            }
            let task = self.tasks.get(&ObjectName::new(namespace, &name));
            if seen.insert(name) {
                next.extend(task.map(|task| needs(&task.spec)).unwrap_or_default());
            }
        }
        false
    }

    fn ignitor_named(&self, name: &ObjectName) -> Result<&Ignitor, Rejected> {
        self.ignitors.get(name).ok_or_else(|| Rejected::None { kind: "ignitor", name: name.to_string() })
    }

    fn run_numbered(&self, id: RunId) -> Result<&super::Run, Rejected> {
        self.runs.get(&id).ok_or_else(|| Rejected::None { kind: "run", name: id.to_string() })
    }
}

/// The tasks without which it cannot start.
fn needs(spec: &TaskSpec) -> Vec<String> {
    let tasks = || spec.start_on_success.iter().chain(&spec.start_on_failure);
    match spec.join {
        Join::All => tasks().cloned().collect(),
        // With one trigger it makes no difference.
        Join::Any if spec.sources().count() == 1 => tasks().cloned().collect(),
        Join::Any | Join::Expression(_) => Vec::new(),
    }
}

fn ensure_data(data: &str) -> Result<(), Rejected> {
    if data.len() > MAX_DATA_BYTES {
        let message = format!("data must have at most {MAX_DATA_BYTES} bytes, but has {}", data.len());
        return Err(Rejected::Data(message));
    }
    if data.contains('\0') {
        return Err(Rejected::Data(
            "data must not contain a NUL character: containers are given it".to_owned(),
        ));
    }
    Ok(())
}

impl Ignitor {
    /// Remembers a call. One is forgotten for it only if nobody could say that again.
    fn remember(&mut self, delivery: Delivery, now: Timestamp) -> Result<(), Rejected> {
        if self.deliveries.len() >= MOST_DELIVERIES {
            let soonest = (0..).zip(&self.deliveries).min_by_key(|(_, known)| known.until);
            if let Some((index, known)) = soonest {
                if known.until > now {
                    let seconds = known.until.millis_since(now).div_ceil(1000);
                    return Err(Rejected::TooManyCalls { name: self.name.clone(), seconds });
                }
                self.deliveries.remove(index);
            }
        }
        self.deliveries.push(delivery);
        Ok(())
    }

    /// Whether it was to fire once and has been dealt with.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        self.done && !matches!(self.spec.schedule, Some(Schedule::Cron { .. }) | None)
    }

    /// Since when it is there, or its schedule is another.
    #[must_use]
    pub const fn armed_at(&self) -> Timestamp {
        self.since
    }
}
