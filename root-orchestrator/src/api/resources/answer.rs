//! How requests of the resource API are answered: in the form the client asked for, or with a `Status` that says why not.

use std::collections::BTreeMap;

use ::resources::{
    Kind, Reason, Status,
    status::About,
    table::{self, Include},
};
use axum::{
    Json,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use control::Stopping;
use root_core::ObjectRejected;
use serde_json::{Value, json};
use store::StoreError;
use utoipa::openapi::{ContentBuilder, ObjectBuilder, RefOr, ResponseBuilder, schema::Schema};

use super::super::{calls::ErrorWord, error::Error};

/// Why a request is refused.
#[derive(Debug)]
pub(in crate::api) struct Failure(pub(super) Status);

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self(status)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error.into())
    }
}

impl From<Stopping> for Failure {
    fn from(stopping: Stopping) -> Self {
        Self(Status::new(Reason::ServiceUnavailable, stopping.to_string()))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::Compacted { asked, oldest } => ::resources::page::expired(asked.0, oldest.0),
            StoreError::Ahead { asked, newest } => ::resources::page::too_large(asked.0, newest.0),
            StoreError::Conflict { .. }
            | StoreError::Corrupt { .. }
            | StoreError::TakenOver
            | StoreError::InUse { .. }
            | StoreError::TooLarge { .. }
            | StoreError::Place(_)
            | StoreError::Format { .. }
            | StoreError::Unreachable { .. }
            | StoreError::Backend(_) => {
                tracing::error!(error = %daemon::chain(&error), "the store gives no answer to a list or a watch");
                Status::new(Reason::InternalError, "the store gives no answer; the log of the root says why")
            }
        };
        Self(status)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(status) = self;
        let code = StatusCode::from_u16(status.reason.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (code, Json(status.to_value())).into_response();
        response.extensions_mut().insert(ErrorWord(status.reason.as_str()));
        if code == StatusCode::PAYLOAD_TOO_LARGE {
            // The rest of the body is not read, so nothing more can be asked over this connection.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// What an object is refused with by the brain.
pub(super) fn rejected(kind: &Kind, name: &str, rejected: &ObjectRejected) -> Status {
    let about = || kind.about(name);
    match rejected {
        ObjectRejected::Exists(_) => Status::already_exists(about()),
        ObjectRejected::None(_) => Status::not_found(about()),
        ObjectRejected::Changed(_) => Status::modified(about()),
        ObjectRejected::NoKind(_) => Status::new(Reason::NotFound, rejected.to_string()),
        ObjectRejected::NameTaken(why) => Status::conflict(about(), why),
        ObjectRejected::HasObjects { .. } => Status::conflict(about(), &rejected.to_string()),
        ObjectRejected::TooMuch(why) => Status::forbidden(about(), why),
        ObjectRejected::Run(why) => rejected_run(kind, name, why),
    }
}

/// What a wish for a run is refused with.
pub(super) fn rejected_run(kind: &Kind, name: &str, rejected: &workflow::Rejected) -> Status {
    let about = kind.about(name);
    match rejected {
        workflow::Rejected::None { .. } => Status::not_found(about),
        workflow::Rejected::Over(_)
        | workflow::Rejected::InProgress(_)
        | workflow::Rejected::NothingFailed(_)
        | workflow::Rejected::NoWebhook(_)
        | workflow::Rejected::Suspended(_)
        | workflow::Rejected::Stale { .. }
        | workflow::Rejected::TooManyCalls { .. }
        | workflow::Rejected::Data(_) => Status::conflict(about, &rejected.to_string()),
    }
}

/// In which form objects are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are.
    Whole,
    /// As rows of a table.
    Table(Include),
    /// Their metadata alone.
    Metadata,
}

impl Form {
    /// The first form a client accepts that there is.
    pub(super) fn wanted(headers: &HeaderMap, include: Include) -> Result<Self, Status> {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if accept.trim().is_empty() {
            return Ok(Self::Whole);
        }
        let wanted = accept.split(',').find_map(|range| Self::of_range(range, include));
        wanted.ok_or_else(|| {
            let message = format!("none of `{accept}` can be sent; application/json can");
            Status::new(Reason::NotAcceptable, message)
        })
    }

    fn of_range(range: &str, include: Include) -> Option<Self> {
        let mut parts = range.split(';').map(str::trim);
        let is_json = ["application/json", "application/*", "*/*"].contains(&parts.next()?);
        let named: BTreeMap<&str, &str> = parts.filter_map(|part| part.split_once('=')).collect();
        if !is_json {
            return None;
        }
        match named.get("as").copied() {
            None => Some(Self::Whole),
            Some("Table") => Some(Self::Table(include)),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Some(Self::Metadata),
            Some(_) => None,
        }
    }

    /// One object in this form.
    pub(super) fn one(self, kind: &Kind, object: Value) -> Value {
        match self {
            Self::Whole => object,
            Self::Metadata => metadata_of(&object, true),
            Self::Table(include) => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                table::table(kind, [&object], metadata, include, &super::now())
            }
        }
    }

    /// A list of objects in this form.
    pub(super) fn list(self, kind: &Kind, objects: Vec<Value>, metadata: Value) -> Value {
        match self {
            Self::Whole => json!({
                "kind": kind.names.list_kind, "apiVersion": kind.api_version(), "metadata": metadata, "items": objects,
            }),
            Self::Metadata => json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                "items": objects.iter().map(|object| metadata_of(object, true)).collect::<Vec<_>>(),
            }),
            Self::Table(include) => table::table(kind, &objects, metadata, include, &super::now()),
        }
    }
}

fn metadata_of(object: &Value, is_named: bool) -> Value {
    let mut part = json!({"metadata": object["metadata"]});
    if is_named {
        part["kind"] = Value::from("PartialObjectMetadata");
        part["apiVersion"] = Value::from("meta.k8s.io/v1");
    }
    part
}

/// An answer with what the client should know beside it.
pub(super) fn answered(status: StatusCode, body: &Value, warnings: &[String]) -> Response {
    let mut response = (status, Json(body)).into_response();
    for warning in warnings {
        let text: String =
            warning.chars().filter(|letter| letter.is_ascii() && !letter.is_ascii_control()).collect();
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// The kind of what a path leads to, for errors about paths.
pub(super) fn about_namespace(name: &str) -> About {
    About { group: String::new(), kind: "namespaces".to_owned(), name: name.to_owned() }
}

/// What all these routes may be answered with.
pub(in crate::api) struct Answers;

impl utoipa::IntoResponses for Answers {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let said = [
            (200, "The object, the list, or a `Status`"),
            (201, "The object that was made"),
            (400, "Not understood"),
            (401, "The token is missing, expired or not valid"),
            (403, "No role that may"),
            (404, "No such object, namespace, kind or path"),
            (405, "The kind does not have that verb"),
            (406, "No form of answer is acceptable to the client"),
            (409, "There is one already, or it was changed meanwhile, or others own a field"),
            (410, "The revision is no longer kept"),
            (413, "Too large"),
            (415, "The body is of a form that is not read here"),
            (422, "Fields are not what they must be"),
            (503, "The root is stopping"),
            (504, "The revision is not there yet"),
        ];
        let response = |(code, description): (u16, &str)| {
            let object = Schema::Object(ObjectBuilder::new().build());
            let content = ContentBuilder::new().schema(Some(object)).build();
            let response =
                ResponseBuilder::new().description(description).content("application/json", content).build();
            (code.to_string(), RefOr::T(response))
        };
        said.map(response).into()
    }
}
