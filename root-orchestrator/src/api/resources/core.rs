//! The routes of the core group: namespaces, which are organisations, and events.

use super::{
    super::{Path, body::Body},
    Answer, Asking, Shared, State,
    answer::Answers,
    asked::{self, Asked, Selection},
    read::{self, Place},
    write,
};

fn place() -> Place {
    let [group, version, plural] = ["", "v1", "namespaces"].map(str::to_owned);
    Place { group, version, namespace: None, plural }
}

/// List namespaces, or watch them
///
/// With `watch=true` the answer is a line for each change, and does not end.
#[utoipa::path(get, path = "/api/v1/namespaces", tag = "resources", params(Selection), responses(Answers))]
pub(in crate::api) async fn list(State(context): Shared, caller: Asking, asked: Asked) -> Answer {
    read::all(context, caller?, place(), asked).await
}

/// Make a namespace: an organisation without members
#[utoipa::path(post, path = "/api/v1/namespaces", tag = "resources",
    request_body(content = Object, description = "The namespace"), responses(Answers))]
pub(in crate::api) async fn create(
    State(context): Shared,
    caller: Asking,
    asked: Asked,
    body: Body,
) -> Answer {
    write::create(context, caller?, place(), asked, asked::body(body)?).await
}

/// Show a namespace
#[utoipa::path(get, path = "/api/v1/namespaces/{name}", tag = "resources",
    params(("name" = String, Path, description = "Name of the organisation")), responses(Answers))]
pub(in crate::api) async fn get(
    State(context): Shared,
    caller: Asking,
    Path(name): Path<String>,
    asked: Asked,
) -> Answer {
    read::one(context, caller?, place(), &name, asked).await
}

/// Delete a namespace with the organisation
#[utoipa::path(delete, path = "/api/v1/namespaces/{name}", tag = "resources",
    params(("name" = String, Path, description = "Name of the organisation")),
    request_body(content = Object, description = "`DeleteOptions`; may be absent"), responses(Answers))]
pub(in crate::api) async fn delete(
    State(context): Shared,
    caller: Asking,
    Path(name): Path<String>,
    asked: Asked,
    body: Body,
) -> Answer {
    write::delete(context, caller?, place(), &name, asked, asked::body(body)?).await
}

fn events(namespace: Option<String>) -> Place {
    let [group, version, plural] = ["", "v1", "events"].map(str::to_owned);
    Place { group, version, namespace, plural }
}

/// List what has happened in all organisations, or watch it
///
/// With `watch=true` the answer is a line for each event, and does not end.
#[utoipa::path(get, path = "/api/v1/events", tag = "resources", params(Selection), responses(Answers))]
pub(in crate::api) async fn list_all_events(State(context): Shared, caller: Asking, asked: Asked) -> Answer {
    read::all(context, caller?, events(None), asked).await
}

/// List what has happened in an organisation, or watch it
///
/// With `watch=true` the answer is a line for each event, and does not end.
#[utoipa::path(get, path = "/api/v1/namespaces/{namespace}/events", tag = "resources",
    params(
        Selection,
        ("namespace" = String, Path, description = "Name of the organisation"),
    ), responses(Answers))]
pub(in crate::api) async fn list_events(
    State(context): Shared,
    caller: Asking,
    Path(namespace): Path<String>,
    asked: Asked,
) -> Answer {
    read::all(context, caller?, events(Some(namespace)), asked).await
}

/// Show what has happened
#[utoipa::path(get, path = "/api/v1/namespaces/{namespace}/events/{name}", tag = "resources",
    params(
        ("namespace" = String, Path, description = "Name of the organisation"),
        ("name" = String, Path, description = "Name of the event"),
    ), responses(Answers))]
pub(in crate::api) async fn get_event(
    State(context): Shared,
    caller: Asking,
    Path((namespace, name)): Path<(String, String)>,
    asked: Asked,
) -> Answer {
    read::one(context, caller?, events(Some(namespace)), &name, asked).await
}
