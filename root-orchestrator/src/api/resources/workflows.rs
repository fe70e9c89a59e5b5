//! Tasks, ignitors and runs: their kinds, and what is asked of them beyond what is asked of all objects. What becomes of them
//! is decided in `core/src/workflows`.

mod described;

use std::sync::OnceLock;

use ::resources::{
    Kind, Status,
    kind::{Column, ColumnType, Names, Verb},
    metadata,
    status::Cause,
    structure::Structure,
    write,
};
use axum::http::StatusCode;
use model::{OrganizationId, Timestamp};
use root_core::{State as Truth, WorkflowKind};
use serde_json::{Value, json};
use workflow::{CauseReason, Rejected, RunId};

use super::{
    Answer, Failure,
    answer::{answered, rejected_run},
    write::Writer,
};
use crate::hooks::{Client, parse_url};

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// The kind of one of these.
pub(super) fn kind(of: WorkflowKind) -> Kind {
    let text = |name: &str, path: &str| Column::new(name, ColumnType::Text, path);
    let date = |name: &str, path: &str| Column::new(name, ColumnType::Date, path);
    let (names, mut columns, selectable) = match of {
        // As ORCA prints them.
        WorkflowKind::Task => (
            Names::of("Task", "tasks", &[]),
            vec![
                text("State", ".status.state"),
                date("LastSuccess", ".status.lastSuccess"),
                date("LastFailure", ".status.lastFailure"),
                Column::new("FailuresCount", ColumnType::Integer, ".status.failuresCount"),
                text("Ignitors", ".spec.startOnIgnition[*]"),
                text("OnSuccessTask", ".spec.startOnSuccess[*]"),
                text("OnFailureTask", ".spec.startOnFailure[*]"),
            ],
            vec![".status.state".to_owned()],
        ),
        WorkflowKind::Ignitor => (
            Names::of("Ignitor", "ignitors", &[]),
            vec![
                text("Scheduled", ".spec.scheduled"),
                text("State", ".status.state"),
                Column::new("Fired", ColumnType::Integer, ".status.fired"),
                date("LastFired", ".status.lastFired"),
                text("Next", ".status.next[0]"),
            ],
            vec![".status.state".to_owned()],
        ),
        WorkflowKind::Run => (
            Names::of("Run", "runs", &[]),
            vec![
                text("Ignitor", ".spec.ignitor"),
                text("Phase", ".status.phase"),
                text("Reason", ".status.reason"),
                date("Finished", ".status.finished"),
            ],
            vec![".spec.ignitor".to_owned(), ".status.phase".to_owned()],
        ),
        WorkflowKind::Plugin => (
            Names::of("Plugin", "plugins", &[]),
            vec![text("URL", ".spec.url"), text("Secret", ".spec.secret")],
            Vec::new(),
        ),
    };
    columns.push(Column::age());
    let mut verbs = Verb::ALL.to_vec();
    verbs.sort_unstable();
    Kind {
        group: WorkflowKind::GROUP.to_owned(),
        version: WorkflowKind::VERSION.to_owned(),
        names,
        is_namespaced: true,
        verbs,
        has_status: of != WorkflowKind::Plugin,
        has_scale: false,
        columns,
        structure: Structure::read(&judged(of), "")
            .unwrap_or_else(|_| Structure::open())
            .described_as(described::described(of)),
        selectable,
    }
}

/// What is judged here. Tasks and ignitors are read by the engine, which tells of unknown fields by itself; their status and
/// that of runs is written by the root alone.
fn judged(of: WorkflowKind) -> Value {
    let mut schema = described::described(of);
    let open = json!({"type": "object", PRESERVE: true});
    if matches!(of, WorkflowKind::Task | WorkflowKind::Ignitor) {
        schema["properties"]["spec"] = open.clone();
    }
    schema["properties"]["status"] = open;
    schema
}

/// All kinds of workflows.
pub(super) fn kinds() -> [(WorkflowKind, Kind); WorkflowKind::ALL.len()] {
    static KINDS: OnceLock<[(WorkflowKind, Kind); WorkflowKind::ALL.len()]> = OnceLock::new();
    KINDS.get_or_init(|| WorkflowKind::ALL.map(|of| (of, kind(of)))).clone()
}

/// Looks at what is to be written.
pub(super) fn check(
    of: WorkflowKind,
    kind: &Kind,
    object: &Value,
    before: Option<&Value>,
    now: Timestamp,
) -> Result<(), Status> {
    let cause = |cause: workflow::Cause| match cause.reason {
        CauseReason::Required => Cause::required(cause.field, cause.message),
        CauseReason::Invalid
        | CauseReason::TypeInvalid
        | CauseReason::NotSupported
        | CauseReason::TooLong
        | CauseReason::Duplicate
        | CauseReason::Unknown
        | CauseReason::NotFound => Cause::invalid(cause.field, cause.message),
    };
    of.check(object, before, now).map_err(|causes| {
        let about = kind.about_fields(metadata::text(object, "name"));
        Status::invalid(about, causes.into_iter().map(cause).collect())
    })
}

/// Refuses URLs that the root would not call, as far as that is known without looking up their names.
pub(super) fn ensure_callable(
    of: WorkflowKind,
    kind: &Kind,
    object: &Value,
    client: &Client,
) -> Result<(), Status> {
    let spec = &object["spec"];
    let wrong = urls(of, spec).into_iter().filter_map(|(path, url)| {
        let url = url.as_str()?;
        let parsed = parse_url(url);
        let judged = parsed.and_then(|url| client.judge(&url).map_err(|refused| refused.to_string()));
        judged.err().map(|why| Cause::invalid(format!("spec.{path}"), why))
    });
    let causes: Vec<Cause> = wrong.collect();
    if causes.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(kind.about_fields(metadata::text(object, "name")), causes))
}

/// Where the root is asked to call, with the paths of that.
fn urls(of: WorkflowKind, spec: &Value) -> Vec<(String, &Value)> {
    match of {
        WorkflowKind::Task => ["successActions", "failureActions"]
            .into_iter()
            .flat_map(|list| {
                let actions = (0..).zip(spec[list].as_array().into_iter().flatten());
                actions.map(move |(index, action): (usize, &Value)| {
                    (format!("{list}[{index}].webhook.url"), &action["webhook"]["url"])
                })
            })
            .collect(),
        WorkflowKind::Plugin => vec![("url".to_owned(), &spec["url"])],
        WorkflowKind::Ignitor | WorkflowKind::Run => Vec::new(),
    }
}

/// What is odd about an object and may be right later.
pub(super) fn warnings(
    state: &Truth,
    of: WorkflowKind,
    organization: Option<OrganizationId>,
    object: &Value,
) -> Vec<String> {
    match (of, organization) {
        (WorkflowKind::Task, Some(organization)) => {
            let warnings = state.warnings_of_task(organization, object);
            warnings.iter().map(ToString::to_string).collect()
        }
        (WorkflowKind::Task | WorkflowKind::Ignitor | WorkflowKind::Run | WorkflowKind::Plugin, _) => {
            Vec::new()
        }
    }
}

/// Makes a run: its ignitor fires. Runs are numbered by the root.
pub(super) async fn fire(writer: &Writer, mut object: Value) -> Answer {
    let kind = writer.kind();
    let (now, about) = (super::now(), || kind.about_fields(""));
    if !metadata::text(&object, "name").is_empty() {
        let message = "runs are numbered by the root; leave the name out, or say generateName";
        return Err(Status::invalid(about(), vec![Cause::forbidden("metadata.name", message)]).into());
    }
    object["metadata"]["name"] = Value::from(WorkflowKind::Run.plural());
    let place = write::Place { namespace: writer.whose.namespace().map(|(_, name)| name), name: "" };
    let written = writer.writing(&now).create(object, place, "", "")?;
    let spec = &written.object["spec"];
    let ignitor = spec["ignitor"].as_str().unwrap_or_default().to_owned();
    let data = spec["data"].as_str().map(str::to_owned);
    let Some((organization, _)) = writer.whose.namespace() else {
        return Err(Status::bad_request("runs are of a namespace each; name it in the path").into());
    };
    let is_dry = writer.asked.options.dry_run;
    let fired = move |state: &Truth, now: model::Now| -> Result<(RunId, Vec<root_core::Change>), Rejected> {
        let (run, changes) = state.fire(organization, &ignitor, data, now)?;
        Ok((run, if is_dry { Vec::new() } else { changes }))
    };
    let run = match writer.context.brain.ask(fired).await? {
        Ok(run) => run,
        Err(Rejected::None { .. }) => {
            let message = "there is no ignitor of that name; `kubectl get ignitors` lists them";
            return Err(Status::invalid(about(), vec![Cause::invalid("spec.ignitor", message)]).into());
        }
        Err(Rejected::Data(message)) => {
            return Err(Status::invalid(about(), vec![Cause::invalid("spec.data", message)]).into());
        }
        Err(other) => return Err(Failure(rejected_run(kind, "", &other))),
    };
    let object = if is_dry { None } else { writer.shown(&run.to_string()).await };
    let object = object.unwrap_or(written.object);
    Ok(answered(StatusCode::CREATED, &writer.asked.form.one(kind, object), &written.warnings))
}
