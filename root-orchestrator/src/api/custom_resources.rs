//! Custom resources of organisations and their types, in the shapes of Oakestra's.

use std::collections::BTreeMap;

use axum::{Json, extract::Query, http::StatusCode};
use root_core::{
    CheckedResource, CustomResource, ResourceCheck, ResourceRejected, ResourceType,
    access::{Kind, Verb},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Body, Path, Shared, State,
    applications::Message,
    body,
    error::{Error, ErrorBody},
};
use crate::auth::Caller;

/// Others may change a resource while its new content is looked at; so often it is looked at again.
const ATTEMPTS: usize = 5;

/// A type to be defined.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewResourceType {
    /// Up to 63 letters, digits, `-`, `_` and `.`, a letter or digit first; unique in the organisation.
    #[schema(example = "sensor")]
    resource_type: String,
    /// What its resources must be: JSON Schema, as far as docs/hooks.md says. Without it they are any objects.
    #[schema(value_type = Option<Object>)]
    schema: Option<Value>,
}

/// A type of custom resources.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ResourceTypeView {
    _id: String,
    resource_type: String,
    /// As it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<Value>,
}

fn type_view(kind: &ResourceType) -> ResourceTypeView {
    ResourceTypeView {
        _id: kind.id.to_string(),
        resource_type: kind.name.clone(),
        schema: kind.schema.clone(),
    }
}

/// Its fields, and `_id`.
fn view(resource: &CustomResource) -> Value {
    let mut shown = resource.content.clone();
    shown.insert("_id".to_owned(), Value::String(resource.id.to_string()));
    Value::Object(shown)
}

/// List the types of custom resources of the organisation
#[utoipa::path(get, path = "/api/v1/custom-resources", tag = "custom resources", responses(
    (status = 200, body = Vec<ResourceTypeView>),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
))]
pub(super) async fn list_types(
    State(context): Shared,
    caller: Caller,
) -> Result<Json<Vec<ResourceTypeView>>, Error> {
    caller.must(Verb::Get, Kind::CustomResource)?;
    let state = context.brain.read().await;
    Ok(Json(state.resource_types_of(caller.organization).map(type_view).collect()))
}

/// Define a type of custom resources
#[utoipa::path(post, path = "/api/v1/custom-resources", tag = "custom resources", request_body = NewResourceType, responses(
    (status = 201, body = ResourceTypeView),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 409, description = "There is one of that name, or too many", body = ErrorBody),
    (status = 413, description = "Too large", body = ErrorBody),
    (status = 422, description = "A field is missing or not valid, or the schema says what cannot be heeded", body = ErrorBody),
))]
pub(super) async fn create_type(
    State(context): Shared,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<ResourceTypeView>), Error> {
    caller.must(Verb::Create, Kind::CustomResource)?;
    let NewResourceType { resource_type, schema } = body::parse(&body?)?;
    let wanted = ResourceType {
        id: daemon::fresh_resource_type_id(),
        organization: caller.organization,
        name: resource_type,
        schema,
    };
    let made = type_view(&wanted);
    context.brain.ask(move |state, _| state.create_resource_type(wanted)).await??;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Delete a type with all its custom resources
#[utoipa::path(delete, path = "/api/v1/custom-resources/{type}", tag = "custom resources",
    params(("type" = String, Path, description = "Name of the type")), responses(
    (status = 200, body = Message),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn delete_type(
    State(context): Shared,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Message>, Error> {
    caller.must(Verb::Delete, Kind::CustomResource)?;
    context
        .brain
        .ask(move |state, _| {
            let kind = state.resource_type(caller.organization, &name)?;
            Ok::<_, Error>(((), state.delete_resource_type(kind.id)))
        })
        .await??;
    Ok(Json(Message { message: "the resource type and its resources are deleted".to_owned() }))
}

/// List custom resources of a type
///
/// Parameters of the query name fields: only resources with exactly these values are listed. A number or a truth value is
/// written as in JSON.
#[utoipa::path(get, path = "/api/v1/custom-resources/{type}", tag = "custom resources",
    params(("type" = String, Path, description = "Name of the type")), responses(
    (status = 200, body = Vec<Object>),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 422, description = "The query is none", body = ErrorBody),
))]
pub(super) async fn list(
    State(context): Shared,
    caller: Caller,
    Path(name): Path<String>,
    query: Result<Query<BTreeMap<String, String>>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Vec<Value>>, Error> {
    caller.must(Verb::Get, Kind::CustomResource)?;
    let Query(wanted) = query.map_err(|rejection| {
        Error::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_value", rejection.body_text())
    })?;
    let state = context.brain.read().await;
    let kind = state.resource_type(caller.organization, &name)?;
    let matching = state.custom_resources_of(kind.id).filter(|resource| {
        wanted.iter().all(|(field, text)| match resource.content.get(field) {
            Some(Value::String(is)) => is == text,
            // As the root writes it, so that 1 is not 1.0.
            Some(is) => serde_json::to_string(is).is_ok_and(|is| is == *text),
            None => field == "_id" && resource.id.to_string() == *text,
        })
    });
    Ok(Json(matching.map(view).collect()))
}

/// Make a custom resource
#[utoipa::path(post, path = "/api/v1/custom-resources/{type}", tag = "custom resources",
    params(("type" = String, Path, description = "Name of the type")),
    request_body(content = Object, description = "What the type says"), responses(
    (status = 200, body = Object),
    (status = 400, description = "Not JSON, or not what the type says; every problem names its field", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "The organisation has as many as it may", body = ErrorBody),
    (status = 413, description = "Too large", body = ErrorBody),
    (status = 422, description = "Not an object", body = ErrorBody),
))]
pub(super) async fn create(
    State(context): Shared,
    caller: Caller,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Value>, Error> {
    caller.must(Verb::Create, Kind::CustomResource)?;
    let check = {
        let state = context.brain.read().await;
        state.check_for(state.resource_type(caller.organization, &name)?)?
    };
    let content: Map<String, Value> = body::parse(&body?)?;
    let checked = checked(check, content).await?;
    let id = daemon::fresh_resource_id();
    let made = context.brain.ask(move |state, _| state.create_resource(id, checked)).await??;
    Ok(Json(view(&made)))
}

/// Show one custom resource
#[utoipa::path(get, path = "/api/v1/custom-resources/{type}/{id}", tag = "custom resources",
    params(("type" = String, Path, description = "Name of the type"), ("id" = String, Path, description = "Its id")), responses(
    (status = 200, body = Object),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn get(
    State(context): Shared,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
) -> Result<Json<Value>, Error> {
    caller.must(Verb::Get, Kind::CustomResource)?;
    let state = context.brain.read().await;
    let kind = state.resource_type(caller.organization, &name)?;
    Ok(Json(view(state.custom_resource(kind, &id)?)))
}

/// Change fields of a custom resource
///
/// What is sent takes the place of the fields of the same names; the others stay. The whole must be what the type says.
#[utoipa::path(patch, path = "/api/v1/custom-resources/{type}/{id}", tag = "custom resources",
    params(("type" = String, Path, description = "Name of the type"), ("id" = String, Path, description = "Its id")),
    request_body(content = Object, description = "Fields with their new values"), responses(
    (status = 200, body = Object),
    (status = 400, description = "Not JSON, or then not what the type says; every problem names its field", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "Others change it all the time, or the organisation has as much as it may", body = ErrorBody),
    (status = 413, description = "Too large", body = ErrorBody),
    (status = 422, description = "Not an object", body = ErrorBody),
))]
pub(super) async fn update(
    State(context): Shared,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
    body: Body,
) -> Result<Json<Value>, Error> {
    caller.must(Verb::Update, Kind::CustomResource)?;
    let body = body?;
    for _ in 0..ATTEMPTS {
        let (check, before) = {
            let state = context.brain.read().await;
            let kind = state.resource_type(caller.organization, &name)?;
            (state.check_for(kind)?, state.custom_resource(kind, &id)?.clone())
        };
        let mut fields: Map<String, Value> = body::parse(&body)?;
        // Clients send back what they were shown.
        if fields.get("_id").is_some_and(|sent| *sent == before.id.to_string()) {
            fields.remove("_id");
        }
        let mut content = before.content.clone();
        content.extend(fields);
        let checked = checked(check, content).await?;
        match context.brain.ask(move |state, _| state.update_resource(&before, checked)).await? {
            Ok(changed) => return Ok(Json(view(&changed))),
            Err(ResourceRejected::Changed) => {}
            Err(rejected) => return Err(rejected.into()),
        }
    }
    Err(ResourceRejected::Changed.into())
}

/// Delete a custom resource
#[utoipa::path(delete, path = "/api/v1/custom-resources/{type}/{id}", tag = "custom resources",
    params(("type" = String, Path, description = "Name of the type"), ("id" = String, Path, description = "Its id")), responses(
    (status = 200, description = "What it was", body = Object),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn delete(
    State(context): Shared,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
) -> Result<Json<Value>, Error> {
    caller.must(Verb::Delete, Kind::CustomResource)?;
    let gone = context
        .brain
        .ask(move |state, _| {
            let kind = state.resource_type(caller.organization, &name)?;
            let resource = state.custom_resource(kind, &id)?;
            Ok::<_, Error>((resource.clone(), vec![root_core::Change::Resource(resource.id, None)]))
        })
        .await??;
    Ok(Json(view(&gone)))
}

/// Looks at a document beside what else is to be done: a large one may take a while.
async fn checked(check: ResourceCheck, content: Map<String, Value>) -> Result<CheckedResource, Error> {
    let checked = tokio::task::spawn_blocking(move || check.check(content)).await;
    let failed =
        |_| Error::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the root is stopping; try again");
    Ok(checked.map_err(failed)??)
}
