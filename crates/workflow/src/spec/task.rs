//! A task: what starts it, what runs, and what follows.

use std::collections::BTreeSet;

use model::Span;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Action, Cause, CauseReason, Causes, Container, Schemas, action, container,
    object::{Object, cut},
    spec_of, trigger,
};
use crate::Expression;

/// Items of one `forEach`: each is an instance of its own.
pub const MOST_ITEMS: usize = 1000;
/// Bytes of the items of one `forEach`, as JSON.
const MOST_ITEM_BYTES: usize = 256 << 10;
/// Bytes of a schema.
const MOST_SCHEMA_BYTES: usize = 64 << 10;
/// Attempts after the first.
const MOST_RETRIES: u32 = 100;
/// Runs of a kind that are kept.
const MOST_HISTORY: u32 = 1000;
/// How far one start may follow from another in a run.
const MOST_HOPS: u32 = 1000;

const SECOND: Span = Span::from_secs(1);
const DAY: Span = Span::from_secs(86_400);
const WEEK: Span = Span::from_secs(7 * 86_400);

/// A task as its user wants it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// For people.
    pub description: String,
    /// Ignitors that start it.
    pub start_on_ignition: BTreeSet<String>,
    /// Tasks that start it when they succeed.
    pub start_on_success: BTreeSet<String>,
    /// Tasks that start it when they fail.
    pub start_on_failure: BTreeSet<String>,
    /// How many of these it takes.
    pub join: Join,
    /// What must be so when it is to start; otherwise it is skipped.
    pub when: Option<Expression>,
    /// What happens when it has succeeded.
    pub success_actions: Vec<Action>,
    /// What happens when it has failed for good.
    pub failure_actions: Vec<Action>,
    /// What runs.
    pub container: Container,
    /// When it is tried again.
    pub retry: Retry,
    /// How long an attempt may take, from when it is asked for.
    pub timeout: Span,
    /// What happens when it is to start while it runs.
    pub concurrency: Concurrency,
    /// Whether it runs once for each of several items.
    pub for_each: Option<ForEach>,
    /// What it must be given, as a schema of what is known of what started it.
    pub inputs: Option<Value>,
    /// What it must write as its output, as a schema.
    pub outputs: Option<Value>,
    /// Constraints of where it may run, as a service has them. Their meaning is for the scheduler.
    pub placement: Option<Value>,
    /// How much is kept of the past.
    pub history: HistoryLimits,
    /// How many starts may follow from each other in a run until this one.
    pub max_hops: u32,
}

/// How many of its triggers a task waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Join {
    /// Each starts it, as in ORCA.
    Any,
    /// It starts when all have come in one run.
    All,
    /// It starts when this becomes so in one run.
    Expression(Expression),
}

/// When a task that failed is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts after the first.
    pub limit: u32,
    /// Before the second attempt; each further one waits `factor` times as long.
    pub pause: Span,
    /// See `pause`.
    pub factor: u32,
    /// Between attempts at most.
    pub longest_pause: Span,
    /// After which exit codes; after all but 0 if there are none. Also after those that have no exit code.
    pub on_exit_codes: BTreeSet<u32>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            limit: 0,
            pause: SECOND,
            factor: 2,
            longest_pause: Span::from_secs(300),
            on_exit_codes: BTreeSet::new(),
        }
    }
}

impl Retry {
    /// Milliseconds before the attempt after `attempts` that failed.
    #[must_use]
    pub fn pause_after(&self, attempts: u32) -> u64 {
        let factor = u64::from(self.factor).saturating_pow(attempts.saturating_sub(1));
        self.pause.as_millis().saturating_mul(factor).min(self.longest_pause.as_millis())
    }
}

/// What happens when a task is to start while it runs, in whatever run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Concurrency {
    /// It runs twice.
    Allow,
    /// It does not start.
    Skip,
    /// It starts when the other has ended.
    Queue,
    /// The other is stopped, and then it starts.
    Replace,
}

/// Several instances of one task, one for each item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForEach {
    /// Which.
    pub items: Items,
    /// How many at once.
    pub parallelism: u32,
}

/// Where items come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Items {
    /// Written down.
    Given(Vec<Value>),
    /// A list that this task or ignitor gave: its output, or else its data as JSON.
    From(String),
}

/// How many task runs that ended are kept. A run is kept as long as one of its task runs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryLimits {
    /// Those that succeeded or were skipped.
    pub successful: u32,
    /// All others.
    pub failed: u32,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { successful: 10, failed: 10 }
    }
}

impl TaskSpec {
    /// Hops that are allowed if nothing is said.
    pub const DEFAULT_MAX_HOPS: u32 = 100;
    /// A task that hangs ends some time.
    pub const DEFAULT_TIMEOUT: Span = DAY;

    /// A task that runs `image` and is started by nothing; a base for tests and builders.
    #[must_use]
    pub fn running(image: impl Into<String>) -> Self {
        Self {
            description: String::new(),
            start_on_ignition: BTreeSet::new(),
            start_on_success: BTreeSet::new(),
            start_on_failure: BTreeSet::new(),
            join: Join::Any,
            when: None,
            success_actions: Vec::new(),
            failure_actions: Vec::new(),
            container: Container {
                name: String::new(),
                image: image.into(),
                command: Vec::new(),
                args: Vec::new(),
                environment: std::collections::BTreeMap::new(),
                cpu: model::Millicores::default(),
                memory: model::Mebibytes::default(),
            },
            retry: Retry::default(),
            timeout: Self::DEFAULT_TIMEOUT,
            concurrency: Concurrency::Allow,
            for_each: None,
            inputs: None,
            outputs: None,
            placement: None,
            history: HistoryLimits::default(),
            max_hops: Self::DEFAULT_MAX_HOPS,
        }
    }

    /// All that may start it, those that do so in two ways twice.
    pub fn sources(&self) -> impl Iterator<Item = &String> {
        self.start_on_ignition.iter().chain(&self.start_on_success).chain(&self.start_on_failure)
    }

    /// Reads a whole object of the kind `Task`.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(document: &Value, schemas: &dyn Schemas) -> Result<Self, Vec<Cause>> {
        let mut causes = Causes::default();
        let spec = spec_of(document, "Task", &mut causes);
        let own_name = document.pointer("/metadata/name").and_then(Value::as_str);
        let read = spec.and_then(|spec| read(spec, own_name, schemas, &mut causes));
        causes.judge(read)
    }
}

fn read(
    mut spec: Object<'_>,
    own_name: Option<&str>,
    schemas: &dyn Schemas,
    causes: &mut Causes,
) -> Option<TaskSpec> {
    let container = container::container(&mut spec, causes);
    let task = TaskSpec {
        description: spec.text("description", 4096, causes).unwrap_or_default().to_owned(),
        start_on_ignition: trigger::names(&mut spec, "startOnIgnition", causes),
        start_on_success: trigger::names(&mut spec, "startOnSuccess", causes),
        start_on_failure: trigger::names(&mut spec, "startOnFailure", causes),
        join: join(&mut spec, causes),
        when: spec.parsed("when", usize::MAX, causes),
        success_actions: action::actions(&mut spec, "successActions", causes),
        failure_actions: action::actions(&mut spec, "failureActions", causes),
        retry: retry(&mut spec, causes),
        timeout: spec.span("timeout", SECOND..=WEEK, causes).unwrap_or(TaskSpec::DEFAULT_TIMEOUT),
        concurrency: concurrency(&mut spec, causes),
        for_each: for_each(&mut spec, causes),
        inputs: schema(&mut spec, "inputs", schemas, causes),
        outputs: schema(&mut spec, "outputs", schemas, causes),
        placement: spec.object("placement", causes).and_then(|_| spec.take("placement").cloned()),
        history: history(&mut spec, causes),
        max_hops: spec.number("maxHops", 1..=MOST_HOPS, causes).unwrap_or(TaskSpec::DEFAULT_MAX_HOPS),
        ..TaskSpec::running("")
    };
    let path = spec.path().to_owned();
    spec.finish(causes);
    trigger::ensure_conditions(&task, own_name, &path, causes);
    if let Some(ForEach { items: Items::From(source), .. }) = &task.for_each
        && !task.sources().any(|name| name == source)
    {
        let message = format!("names `{}`, which does not start the task", cut(source));
        causes.invalid(&format!("{path}.forEach.from"), &message);
    }
    Some(TaskSpec { container: container?, ..task })
}

/// A word, or an object with an expression.
fn join(spec: &mut Object<'_>, causes: &mut Causes) -> Join {
    let is_word = spec.take("join").is_some_and(Value::is_string);
    if is_word {
        #[derive(Clone, Copy)]
        enum Word {
            Any,
            All,
        }
        return match spec.choice("join", &[("any", Word::Any), ("all", Word::All)], causes) {
            Some(Word::All) => Join::All,
            Some(Word::Any) | None => Join::Any,
        };
    }
    let Some(mut object) = spec.object("join", causes) else { return Join::Any };
    let expression = object.parsed("expression", usize::MAX, causes);
    if !object.has("expression") {
        causes.required(&object.path_of("expression"), "say what must be so, or write `join: all`");
    }
    object.finish(causes);
    expression.map_or(Join::Any, Join::Expression)
}

fn retry(spec: &mut Object<'_>, causes: &mut Causes) -> Retry {
    let usual = Retry::default();
    let Some(mut object) = spec.object("retry", causes) else { return usual };
    let mut retry = Retry {
        limit: object.number("limit", 0..=MOST_RETRIES, causes).unwrap_or(usual.limit),
        on_exit_codes: exit_codes(&mut object, causes),
        ..usual
    };
    if let Some(mut backoff) = object.object("backoff", causes) {
        let range = || Span::from_millis(100)..=DAY;
        retry.pause = backoff.span("initial", range(), causes).unwrap_or(retry.pause);
        retry.factor = backoff.number("factor", 1..=10, causes).unwrap_or(retry.factor);
        retry.longest_pause = backoff.span("max", range(), causes).unwrap_or(retry.longest_pause);
        backoff.finish(causes);
    }
    object.finish(causes);
    retry
}

fn exit_codes(object: &mut Object<'_>, causes: &mut Causes) -> BTreeSet<u32> {
    let mut codes = BTreeSet::new();
    for (path, value) in object.list("onExitCodes", 255, causes) {
        let code = value.as_u64().and_then(|code| u32::try_from(code).ok());
        match code.filter(|code| (1..=255).contains(code)) {
            Some(code) => {
                codes.insert(code);
            }
            None => causes.invalid(&path, "must be an exit code from 1 to 255: 0 is no failure"),
        }
    }
    codes
}

fn concurrency(spec: &mut Object<'_>, causes: &mut Causes) -> Concurrency {
    let words = [
        ("allow", Concurrency::Allow),
        ("skip", Concurrency::Skip),
        ("queue", Concurrency::Queue),
        ("replace", Concurrency::Replace),
    ];
    spec.choice("concurrency", &words, causes).unwrap_or(Concurrency::Allow)
}

fn for_each(spec: &mut Object<'_>, causes: &mut Causes) -> Option<ForEach> {
    let mut object = spec.object("forEach", causes)?;
    let most = u32::try_from(MOST_ITEMS).unwrap_or(u32::MAX);
    let parallelism = object.number("parallelism", 1..=most, causes).unwrap_or(most);
    let path = object.path_of("items");
    let given: Vec<Value> =
        object.list("items", MOST_ITEMS, causes).into_iter().map(|(_, value)| value.clone()).collect();
    let bytes: usize = given.iter().map(|item| item.to_string().len()).sum();
    if bytes > MOST_ITEM_BYTES {
        let message = format!("must have at most {MOST_ITEM_BYTES} bytes as JSON, but has {bytes}");
        causes.add(CauseReason::TooLong, &path, &message);
    }
    let from = object.text("from", usize::MAX, causes).map(str::to_owned);
    let items = match (object.has("items"), from) {
        (true, None) => Some(Items::Given(given)),
        (false, Some(source)) => Some(Items::From(source)),
        (true, Some(_)) => {
            causes.invalid(&object.path_of("from"), "cannot be beside `items`: keep one of them");
            None
        }
        (false, None) => {
            causes.required(&path, "say the items, or `from` which task or ignitor they come");
            None
        }
    };
    object.finish(causes);
    Some(ForEach { items: items?, parallelism })
}

/// The schema of a field `schema`.
fn schema(
    spec: &mut Object<'_>,
    field: &'static str,
    schemas: &dyn Schemas,
    causes: &mut Causes,
) -> Option<Value> {
    let mut object = spec.object(field, causes)?;
    let path = object.path_of("schema");
    let schema = object.take("schema");
    object.finish(causes);
    let Some(schema) = schema else {
        causes.required(&path, "say what it must be like, as JSON Schema");
        return None;
    };
    let bytes = schema.to_string().len();
    if bytes > MOST_SCHEMA_BYTES {
        let message = format!("must have at most {MOST_SCHEMA_BYTES} bytes as JSON, but has {bytes}");
        causes.add(CauseReason::TooLong, &path, &message);
        return None;
    }
    match schemas.ensure_schema(schema) {
        Ok(()) => Some(schema.clone()),
        Err((place, message)) => {
            causes.invalid(&format!("{path}{place}"), &message);
            None
        }
    }
}

fn history(spec: &mut Object<'_>, causes: &mut Causes) -> HistoryLimits {
    let usual = HistoryLimits::default();
    let Some(mut object) = spec.object("historyLimits", causes) else { return usual };
    let limits = HistoryLimits {
        successful: object.number("successful", 0..=MOST_HISTORY, causes).unwrap_or(usual.successful),
        failed: object.number("failed", 0..=MOST_HISTORY, causes).unwrap_or(usual.failed),
    };
    object.finish(causes);
    limits
}
