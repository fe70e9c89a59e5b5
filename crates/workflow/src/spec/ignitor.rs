//! An ignitor: when a run begins.

use std::collections::BTreeMap;

use model::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Cause, CauseReason, Causes,
    object::{Object, cut, shown},
    spec_of,
};
use crate::{Cron, Zone, time::date};

/// Bytes of data that go from one to the next, as Kubernetes has it for what a container says at its end.
pub const MAX_DATA_BYTES: usize = 4096;
/// Event selectors of one ignitor.
const MOST_SELECTORS: usize = 32;
/// How far back missed times may be made up for: each minute of a week is ten thousand.
const LONGEST_WINDOW: Span = Span::from_secs(7 * 86_400);
const LONGEST_JITTER: Span = Span::from_secs(86_400);

/// An ignitor as its user wants it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IgnitorSpec {
    /// For people.
    pub description: String,
    /// What the tasks are given.
    pub data: String,
    /// When it fires by itself.
    pub schedule: Option<Schedule>,
    /// It fires up to so much later, each time by another part of it.
    pub jitter: Span,
    /// What becomes of times that were missed.
    pub catch_up: CatchUp,
    /// What happens when it is due while a run of it is in progress.
    pub overlap: Overlap,
    /// It does not fire by itself.
    pub suspend: bool,
    /// It fires when somebody outside calls.
    pub webhook: Option<Webhook>,
    /// It fires when one of these happens.
    pub on: Vec<EventSelector>,
}

/// When an ignitor fires by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Schedule {
    /// Once, as soon as it is known.
    Now,
    /// Once, then.
    At(Timestamp),
    /// Again and again.
    Cron {
        /// When.
        expression: Cron,
        /// By which clocks.
        zone: Zone,
    },
}

/// What becomes of times at which the root was away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchUp {
    /// How many of them are made up for.
    pub policy: CatchUpPolicy,
    /// Only those that are no longer ago.
    pub window: Span,
}

/// How many missed times are made up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CatchUpPolicy {
    /// None.
    Skip,
    /// The last.
    One,
    /// Each.
    All,
}

/// What happens when an ignitor is due while a run of it is in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Overlap {
    /// Another run begins.
    Allow,
    /// That time is skipped, and counted.
    Skip,
    /// The new run begins when the others have ended.
    Queue,
    /// The others are cancelled, and then the new one begins.
    Replace,
}

/// Calls from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// The secret of the organisation that callers sign with.
    pub secret: String,
}

/// Events that make an ignitor fire. What is not said is any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSelector {
    /// Which kind of event, such as `instance.failed`.
    pub event: String,
    /// Which kind of thing it is about.
    pub kind: Option<String>,
    /// The name of the thing.
    pub name: Option<String>,
    /// Labels that the thing has.
    pub labels: BTreeMap<String, String>,
}

impl IgnitorSpec {
    /// One that fires only when it is told to; a base for tests and builders.
    #[must_use]
    pub const fn by_hand() -> Self {
        Self {
            description: String::new(),
            data: String::new(),
            schedule: None,
            jitter: Span::from_secs(0),
            catch_up: CatchUp { policy: CatchUpPolicy::Skip, window: Span::from_secs(3600) },
            overlap: Overlap::Allow,
            suspend: false,
            webhook: None,
            on: Vec::new(),
        }
    }

    /// Reads a whole object of the kind `Ignitor`. A time that is past is taken if it may be made up for, or if it was in
    /// the spec `before`.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(document: &Value, before: Option<&Self>, now: Timestamp) -> Result<Self, Vec<Cause>> {
        let mut causes = Causes::default();
        let spec = spec_of(document, "Ignitor", &mut causes);
        let read = spec.map(|spec| read(spec, before, now, &mut causes));
        causes.judge(read)
    }
}

fn read(
    mut spec: Object<'_>,
    before: Option<&IgnitorSpec>,
    now: Timestamp,
    causes: &mut Causes,
) -> IgnitorSpec {
    let zone_is_said = spec.has("timeZone");
    let zone: Zone = spec.parsed("timeZone", usize::MAX, causes).unwrap_or_default();
    let schedule = schedule(&mut spec, zone, causes);
    if zone_is_said && !matches!(schedule, Some(Schedule::Cron { .. })) && !spec.has("scheduled") {
        causes
            .invalid(&spec.path_of("timeZone"), "is for a cron expression in `scheduled`, and there is none");
    }
    let ignitor = IgnitorSpec {
        description: spec.text("description", 4096, causes).unwrap_or_default().to_owned(),
        data: spec.text("data", MAX_DATA_BYTES, causes).unwrap_or_default().to_owned(),
        jitter: spec.span("jitter", Span::default()..=LONGEST_JITTER, causes).unwrap_or_default(),
        catch_up: catch_up(&mut spec, causes),
        overlap: overlap(&mut spec, causes),
        suspend: spec.flag("suspend", causes),
        webhook: webhook(&mut spec, causes),
        on: selectors(&mut spec, causes),
        schedule,
    };
    if let Some(Schedule::At(at)) = &ignitor.schedule
        && *at < now
        && before.and_then(|before| before.schedule.as_ref()) != ignitor.schedule.as_ref()
        && (ignitor.catch_up.policy == CatchUpPolicy::Skip
            || now.millis_since(*at) > ignitor.catch_up.window.as_millis())
    {
        let message = format!(
            "is past: it is {}. Say a later time, or NOW, or let it be made up for by `catchUp`",
            date::rfc3339(now)
        );
        causes.invalid(&spec.path_of("scheduled"), &message);
    }
    spec.finish(causes);
    ignitor
}

fn schedule(spec: &mut Object<'_>, zone: Zone, causes: &mut Causes) -> Option<Schedule> {
    let text = spec.text("scheduled", usize::MAX, causes)?.trim();
    if text.eq_ignore_ascii_case("now") {
        return Some(Schedule::Now);
    }
    if let Some(at) = date::parse_rfc3339(text) {
        return Some(Schedule::At(at));
    }
    match text.parse() {
        Ok(expression) => Some(Schedule::Cron { expression, zone }),
        Err(error) => {
            let message = format!(
                "is neither NOW nor a date such as 2026-11-22T10:00:00Z nor a cron expression: as one, \"{}\" {error}",
                cut(text)
            );
            causes.invalid(&spec.path_of("scheduled"), &message);
            None
        }
    }
}

fn catch_up(spec: &mut Object<'_>, causes: &mut Causes) -> CatchUp {
    let usual = IgnitorSpec::by_hand().catch_up;
    let words = [("skip", CatchUpPolicy::Skip), ("one", CatchUpPolicy::One), ("all", CatchUpPolicy::All)];
    if spec.take("catchUp").is_some_and(Value::is_string) {
        let policy = spec.choice("catchUp", &words, causes).unwrap_or(usual.policy);
        return CatchUp { policy, ..usual };
    }
    let Some(mut object) = spec.object("catchUp", causes) else { return usual };
    let catch_up = CatchUp {
        policy: object.choice("policy", &words, causes).unwrap_or(usual.policy),
        window: object.span("window", Span::from_secs(1)..=LONGEST_WINDOW, causes).unwrap_or(usual.window),
    };
    object.finish(causes);
    catch_up
}

fn overlap(spec: &mut Object<'_>, causes: &mut Causes) -> Overlap {
    let words = [
        ("allow", Overlap::Allow),
        ("skip", Overlap::Skip),
        ("queue", Overlap::Queue),
        ("replace", Overlap::Replace),
    ];
    spec.choice("overlap", &words, causes).unwrap_or(Overlap::Allow)
}

fn webhook(spec: &mut Object<'_>, causes: &mut Causes) -> Option<Webhook> {
    let mut object = spec.object("webhook", causes)?;
    let secret = object.needed_text("secret", 63, "name the secret that callers sign with", causes);
    object.finish(causes);
    Some(Webhook { secret: secret?.to_owned() })
}

fn selectors(spec: &mut Object<'_>, causes: &mut Causes) -> Vec<EventSelector> {
    let mut selectors = Vec::new();
    for (path, value) in spec.list("on", MOST_SELECTORS, causes) {
        let Some(mut object) = Object::of(&path, value, causes) else { continue };
        let event = object.needed_text("event", 128, "say what happens", causes).map(str::to_owned);
        let kind = object.text("kind", 128, causes).map(str::to_owned);
        let name = object.text("name", 253, causes).map(str::to_owned);
        let labels = labels(&mut object, causes);
        object.finish(causes);
        selectors.extend(event.map(|event| EventSelector { event, kind, name, labels }));
    }
    selectors
}

fn labels(object: &mut Object<'_>, causes: &mut Causes) -> BTreeMap<String, String> {
    let path = object.path_of("labels");
    let Some(value) = object.take("labels") else { return BTreeMap::new() };
    let texts = value.as_object().filter(|fields| fields.len() <= 32).and_then(|fields| {
        let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        fields.iter().map(text).collect::<Option<BTreeMap<String, String>>>()
    });
    if texts.is_none() {
        let message = format!("must be an object of at most 32 texts, but is {}", shown(value));
        causes.add(CauseReason::TypeInvalid, &path, &message);
    }
    texts.unwrap_or_default()
}
