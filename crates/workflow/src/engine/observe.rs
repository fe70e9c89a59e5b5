//! What is seen: how attempts went, what came of calls, and what happened elsewhere.

use std::collections::BTreeMap;

use model::{Now, Output, Timestamp};
use serde_json::{Value, json};

use super::{
    AttemptId, CallId, CallPhase, Change, Counters, Ended, FireCause, Ignitor, ItemPhase, Outcome, RunId,
    TaskRun, Workflow,
};
use crate::{
    EventSelector, MAX_DATA_BYTES,
    nesting::{DEEPEST, is_too_deep},
};

/// Bytes of what a task run may write as its output, all of its items together.
pub const MAX_OUTPUT_BYTES: usize = Output::MAX_BYTES;
/// A call is given up this long after it was first due: receivers are mended within a day, or not soon.
const GIVE_UP_MILLIS: u64 = 24 * 3_600_000;
/// Before the second attempt of a call; each further one waits twice as long.
const FIRST_PAUSE_MILLIS: u64 = 1000;
/// Between attempts of a call at most.
const LONGEST_PAUSE_MILLIS: u64 = 600_000;
/// An ignitor fires so often at events in that time, and then not until the first of these is over: what its tasks do may be
/// what it waits for.
pub const MOST_EVENT_FIRES: usize = 30;
/// See [`MOST_EVENT_FIRES`].
pub const EVENT_FIRES_MILLIS: u64 = 600_000;
/// Characters of a reason that are kept.
const REASON_LENGTH: usize = 300;

/// Something that was seen. The same may be said twice.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// An instance of that name was made.
    Confirmed(AttemptId),
    /// It has ended.
    Ended(AttemptId, AttemptEnd),
    /// A call was made: it was taken, or why not.
    Called(CallId, Result<(), String>),
    /// A call is not possible, and is not to be made again: what was right when its task ended may be wrong later.
    Refused(CallId, String),
    /// Something happened that ignitors may wait for.
    Happened(Event),
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptEnd {
    /// In which way.
    pub exit: Exit,
    /// When, as far as is known.
    pub at: Timestamp,
    /// What it wrote to the termination log.
    pub data: String,
    /// What it wrote to the file of its output, if anything.
    pub output: Option<Output>,
}

/// In which way an instance ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// Its process did, with that code; 128 + n after signal n.
    Code(i64),
    /// Its device is lost for good, or it vanished.
    Lost(String),
    /// It could not be made.
    Refused(String),
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Counts up in the order of the log they are read from.
    pub number: u64,
    /// Whose.
    pub namespace: String,
    /// Which kind, such as `instance.failed`.
    pub event: String,
    /// Which kind of thing it is about.
    pub kind: String,
    /// The name of the thing.
    pub name: String,
    /// The name of what it is a part of.
    pub part_of: Option<String>,
    /// The labels of the thing.
    pub labels: BTreeMap<String, String>,
    /// For people.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

impl Event {
    /// What tasks are told of it whose ignitor has no data.
    fn data(&self) -> String {
        let Self { event, kind, name, .. } = self;
        let mut message = self.message.clone();
        loop {
            let data = json!({"event": event, "kind": kind, "name": name, "message": message}).to_string();
            if data.len() <= MAX_DATA_BYTES || message.pop().is_none() {
                return clean(&data);
            }
        }
    }
}

impl EventSelector {
    /// Whether it waits for this event.
    #[must_use]
    pub fn selects(&self, event: &Event) -> bool {
        self.event == event.event
            && self.kind.as_ref().is_none_or(|kind| *kind == event.kind)
            && self
                .name
                .as_ref()
                .is_none_or(|name| *name == event.name || Some(name) == event.part_of.as_ref())
            && self.labels.iter().all(|(label, value)| event.labels.get(label) == Some(value))
    }
}

impl Workflow {
    /// Takes in what was seen.
    pub fn observe(&mut self, fact: Fact, now: Now) -> Vec<Change> {
        match fact {
            Fact::Confirmed(attempt) => {
                let wanted = |part: &&TaskRun| part.is_wanted(&attempt);
                if self.task_runs.get(&attempt.task_run).filter(wanted).is_some() {
                    self.confirm(&attempt);
                }
                Vec::new()
            }
            Fact::Ended(attempt, end) => self.attempt_ended(&attempt, &end, now),
            Fact::Called(id, outcome) => self.called(id, outcome, now),
            Fact::Refused(id, reason) => self.refused(id, &reason),
            Fact::Happened(event) => self.happened(&event, now),
        }
    }

    /// Whether an instance of that name is wanted, or was and is remembered. Others are nobody's, and can go.
    #[must_use]
    pub fn owns(&self, attempt: &AttemptId) -> bool {
        self.task_runs.get(&attempt.task_run).is_some_and(|part| {
            let index = usize::try_from(attempt.item).unwrap_or(usize::MAX);
            part.items.get(index).is_some_and(|item| (1..=item.attempts).contains(&attempt.attempt))
        })
    }

    fn attempt_ended(&self, attempt: &AttemptId, end: &AttemptEnd, now: Now) -> Vec<Change> {
        let Some(mut part) = self.task_runs.get(&attempt.task_run).cloned() else { return Vec::new() };
        // What is said of an earlier attempt, or said again, is known.
        if !part.is_under_way(attempt) {
            return Vec::new();
        }
        let outcome = self.outcome(&part, attempt.item, end, now.date);
        part.end_attempt(attempt.item, outcome, end.at);
        vec![Change::TaskRun(part.id.clone(), Some(part))]
    }

    fn called(&self, id: CallId, outcome: Result<(), String>, now: Now) -> Vec<Change> {
        let Some(mut call) = self.calls.get(&id).filter(|call| call.is_due()).cloned() else {
            return Vec::new();
        };
        match outcome {
            Ok(()) => call.phase = CallPhase::Done,
            Err(reason) => {
                call.failures = call.failures.saturating_add(1);
                call.error = shortened(&reason);
                let pause = FIRST_PAUSE_MILLIS.saturating_mul(1 << (call.failures - 1).min(20));
                call.phase = if now.date.millis_since(call.at) >= GIVE_UP_MILLIS {
                    CallPhase::GivenUp
                } else {
                    CallPhase::Due(now.date.plus_millis(pause.min(LONGEST_PAUSE_MILLIS)))
                };
            }
        }
        vec![Change::Call(id, Some(call))]
    }

    fn refused(&self, id: CallId, reason: &str) -> Vec<Change> {
        let Some(mut call) = self.calls.get(&id).filter(|call| call.is_due()).cloned() else {
            return Vec::new();
        };
        call.failures = call.failures.saturating_add(1);
        call.error = shortened(reason);
        call.phase = CallPhase::GivenUp;
        vec![Change::Call(id, Some(call))]
    }

    /// Whether any ignitor waits for events.
    #[must_use]
    pub fn awaits_any(&self) -> bool {
        !self.awaiting.is_empty()
    }

    /// Whether an ignitor waits for events of that kind.
    #[must_use]
    pub fn awaits(&self, namespace: &str, event: &str) -> bool {
        self.awaiting.contains_key(&(namespace.to_owned(), event.to_owned()))
    }

    /// A number for the next event.
    #[must_use]
    pub const fn next_event(&self) -> u64 {
        self.counters.events + 1
    }

    /// Ignitors that wait for it fire. Of an event that was taken in before, nothing follows.
    fn happened(&self, event: &Event, now: Now) -> Vec<Change> {
        if event.number <= self.counters.events {
            return Vec::new();
        }
        let key = (event.namespace.clone(), event.event.clone());
        let names = self.awaiting.get(&key).into_iter().flatten();
        let named = names.filter_map(|name| {
            self.ignitors.get(&super::ObjectName::new(event.namespace.as_str(), name.as_str()))
        });
        let waiting = named.filter(|ignitor| {
            // What happened before there was anybody to wait for it is past.
            !ignitor.spec.suspend
                && ignitor.armed_at() <= event.at
                && ignitor.spec.on.iter().any(|selector| selector.selects(event))
        });
        let mut changes = Vec::new();
        let mut counters = Counters { events: event.number, ..self.counters };
        for ignitor in waiting {
            let mut ignitor = ignitor.clone();
            let fired = if ignitor.may_fire_at_event(now.date) {
                let Event { number, event: what, name, .. } = event;
                let cause = FireCause::Event { number: *number, event: what.clone(), name: name.clone() };
                self.fire_now(&mut ignitor, cause, now.date)
            } else {
                Vec::new()
            };
            for change in fired {
                // Each is given the number after the last; several fire at once here.
                if let Change::Run(_, Some(mut run)) = change {
                    counters.runs += 1;
                    run.id = RunId(counters.runs);
                    if ignitor.spec.data.is_empty() {
                        run.data = event.data();
                    }
                    changes.push(Change::Run(run.id, Some(run)));
                }
            }
            changes.push(Change::Ignitor(ignitor.name.clone(), Some(ignitor)));
        }
        if !changes.is_empty() {
            changes.push(Change::Counters(counters));
        }
        changes
    }

    /// What an attempt came to.
    fn outcome(&self, part: &TaskRun, item: u32, end: &AttemptEnd, now: Timestamp) -> Outcome {
        let data = clean(&end.data);
        let mut outcome =
            Outcome { ended: Ended::Failed, code: None, detail: String::new(), at: now, data, output: None };
        match &end.exit {
            Exit::Code(0) => {
                outcome.code = Some(0);
                match self.output(part, item, end.output.as_ref()) {
                    Ok(output) => {
                        outcome.ended = Ended::Succeeded;
                        outcome.output = output;
                    }
                    Err(refusal) => outcome.detail = refusal,
                }
            }
            Exit::Code(code) => {
                outcome.code = Some(*code);
                outcome.detail = format!("it ended with exit code {code}");
                // What went wrong may be told in it; it need not be as it must be after a success.
                outcome.output = read(part, item, end.output.as_ref()).unwrap_or_default();
            }
            Exit::Lost(why) => outcome.detail = format!("it was lost: {}", shortened(why)),
            Exit::Refused(why) => outcome.detail = format!("it could not be started: {}", shortened(why)),
        }
        outcome
    }

    /// The output of an attempt that succeeded, or why it is not as it must be.
    fn output(&self, part: &TaskRun, item: u32, written: Option<&Output>) -> Result<Option<Value>, String> {
        let output = read(part, item, written)?;
        match (&part.spec.outputs, &output) {
            (None, _) => {}
            (Some(_), None) => {
                return Err("it wrote no output, and its task says what it must be like".to_owned());
            }
            (Some(schema), Some(output)) => {
                let judged = self.ensure_valid(schema, output);
                judged.map_err(|wrong| format!("its output is not as it must be: {}", shortened(&wrong)))?;
            }
        }
        Ok(output)
    }
}

impl Ignitor {
    /// Notes that an event has come: whether it fires, or has done so too often.
    fn may_fire_at_event(&mut self, now: Timestamp) -> bool {
        self.event_fires.retain(|at| now.millis_since(*at) < EVENT_FIRES_MILLIS);
        let may_fire = self.event_fires.len() < MOST_EVENT_FIRES;
        if may_fire {
            self.event_fires.push(now);
            self.flooded = None;
        } else {
            self.skipped += 1;
            self.flooded = Some(now);
        }
        may_fire
    }
}

impl TaskRun {
    fn is_under_way(&self, attempt: &AttemptId) -> bool {
        let item = usize::try_from(attempt.item).ok().and_then(|index| self.items.get(index));
        item.is_some_and(|item| {
            item.attempts == attempt.attempt && matches!(item.phase, ItemPhase::Active { .. })
        })
    }

    /// Whether it is under way and not to be stopped.
    fn is_wanted(&self, attempt: &AttemptId) -> bool {
        let item = usize::try_from(attempt.item).ok().and_then(|index| self.items.get(index));
        self.is_under_way(attempt)
            && item.is_some_and(|item| matches!(item.phase, ItemPhase::Active { stopping: None, .. }))
    }
}

/// What was written, or why it is of no use.
fn read(part: &TaskRun, item: u32, written: Option<&Output>) -> Result<Option<Value>, String> {
    let text = match written {
        None => return Ok(None),
        Some(Output::Text(text)) => text,
        Some(Output::Withheld(why)) => return Err(format!("its output {}", shortened(why))),
        Some(Output::AsTold) => return Err("its output was told before, and is not known".to_owned()),
    };
    if text.len() > room(part, item) {
        let bytes = text.len();
        return Err(format!(
            "its output has {bytes} bytes; all outputs of a task run may have {MAX_OUTPUT_BYTES}"
        ));
    }
    let read: Value =
        serde_json::from_str(text).map_err(|error| format!("its output is not JSON: {error}"))?;
    if is_too_deep(&read) {
        return Err(format!("its output is nested deeper than {DEEPEST}"));
    }
    Ok(Some(read))
}

/// Bytes that the output of an item may have beside those of the others.
fn room(part: &TaskRun, item: u32) -> usize {
    let others = (0..).zip(&part.items).filter(|(index, _)| *index != item);
    let outputs = others.filter_map(|(_, other)| other.outcome.as_ref()?.output.as_ref());
    let taken: usize =
        if part.items.len() > 1 { outputs.map(|output| output.to_string().len()).sum() } else { 0 };
    MAX_OUTPUT_BYTES.saturating_sub(taken)
}

/// As much of a text as a variable of a container is given.
fn clean(text: &str) -> String {
    let mut text = text.replace('\0', "");
    let mut end = text.len().min(MAX_DATA_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

fn shortened(text: &str) -> String {
    text.chars().take(REASON_LENGTH).collect()
}
