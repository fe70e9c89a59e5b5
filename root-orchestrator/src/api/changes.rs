//! What changes a service after it was created: instances, revisions.

use axum::{Json, http::StatusCode};
use root_core::{
    Service,
    access::Verb,
    sla::{self, MAX_INSTANCES, Shown, SlaChange},
};
use serde::{Deserialize, Serialize};

use super::{
    Body, Path, Shared, State,
    applications::Message,
    body,
    error::{Error, ErrorBody},
    services::find,
    views::{self, RevisionView},
};
use crate::auth::Caller;

/// The answer to a deployment.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Deployed {
    message: String,
    instance_number: u32,
}

/// The answer to a change of what a service is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Changed {
    message: String,
    /// What new instances are copies of from now on.
    revision: u32,
}

/// How many instances there shall be.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scale {
    /// From 0 to 10000.
    instances: u32,
}

/// The answer to a change of their number.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Scaled {
    message: String,
    /// How many there will be.
    instances: u32,
    /// The numbers of new ones made at once; a change of revision under way makes its own.
    added: Vec<u32>,
}

/// Which revision to go back to.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollBack {
    /// Its number; if not given, the newest one before that has not failed.
    revision: Option<u32>,
}

/// Change what a service is
///
/// Its instances give way one after another, as its `update` says. What is the same already changes nothing. What the
/// root shows of a service may be sent back with changes in it.
#[utoipa::path(put, path = "/api/service/{id}", tag = "services",
    params(("id" = String, Path, description = "Service id")),
    request_body(content = Object,
        description = "The service as in `microservices` of an SLA, or an SLA with this service alone"),
    responses(
    (status = 200, body = Changed),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "A change that cannot be made, such as of its name, or beyond the quota", body = ErrorBody),
    (status = 413, description = "Too large", body = ErrorBody),
    (status = 422, description = "The document is not valid; every problem names its field", body = ErrorBody),
))]
pub(super) async fn update(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Changed>, Error> {
    // Whoever may not see the service is not told what is wrong with the document.
    let image = find(&*context.brain.read().await, &caller, Verb::Update, &id)?.spec().image.clone();
    let SlaChange { application, service: mut wanted } =
        sla::parse_change(&body?, Shown { id: &id, image: &image })?;
    let (before, revision, same) = context
        .brain
        .ask(move |state, now| {
            let service = find(state, &caller, Verb::Update, &id)?;
            if let Some((name, namespace)) = application {
                refuse_other_application(service, &name, &namespace)?;
            }
            let organization =
                state.application(service.application).map(|application| application.organization);
            state.find_secrets(organization.unwrap_or(caller.organization), [&mut wanted])?;
            let (revision, changes) = state.update(service, wanted, now.date)?;
            Ok::<_, Error>(((service.revision, revision, changes.is_empty()), changes))
        })
        .await??;
    let message = match (revision == before, same) {
        (true, true) => "it is so already; no instance is replaced".to_owned(),
        (true, false) => "changed; no instance is replaced".to_owned(),
        (false, _) => format!("revision {revision} replaces {before}"),
    };
    Ok(Json(Changed { message, revision }))
}

fn refuse_other_application(service: &Service, name: &str, namespace: &str) -> Result<(), Error> {
    let names = service.written_names();
    if (name, namespace) == (&*names.application, &*names.application_namespace) {
        return Ok(());
    }
    let message = format!(
        "`applications[0]` is `{name}` in namespace `{namespace}`, but the service belongs to `{}` in namespace `{}`; \
         send the SLA of that application, or the microservice alone",
        names.application, names.application_namespace
    );
    Err(Error::bad_field("applications[0].application_name", message))
}

/// Go back to an earlier revision
#[utoipa::path(post, path = "/api/service/{id}/rollback", tag = "services",
    params(("id" = String, Path, description = "Service id")),
    request_body(content = RollBack, description = "May be absent"), responses(
    (status = 200, body = Changed),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 404, description = "No such service or revision", body = ErrorBody),
    (status = 409, description = "More than the quota of the organisation", body = ErrorBody),
    (status = 422, body = ErrorBody),
))]
pub(super) async fn roll_back(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Changed>, Error> {
    find(&*context.brain.read().await, &caller, Verb::Update, &id)?;
    let body = body?;
    let wanted: RollBack = if body.is_empty() { RollBack::default() } else { body::parse(&body)? };
    if wanted.revision == Some(0) {
        return Err(Error::bad_field(
            "revision",
            "revision must be 1 or more; leave it out for the one before",
        ));
    }
    let (before, revision) = context
        .brain
        .ask(move |state, _| {
            let service = find(state, &caller, Verb::Update, &id)?;
            let (revision, changes) = state.roll_back(service, wanted.revision)?;
            Ok::<_, Error>(((service.revision, revision), changes))
        })
        .await??;
    let message = if revision == before {
        format!("it is of revision {revision} already; no instance is replaced")
    } else {
        format!("revision {revision} replaces {before} again")
    };
    Ok(Json(Changed { message, revision }))
}

/// List what a service was and is, oldest first
///
/// The ten newest, and older ones that instances are copies of.
#[utoipa::path(get, path = "/api/service/{id}/revisions", tag = "services",
    params(("id" = String, Path, description = "Service id")), responses(
    (status = 200, body = Vec<RevisionView>),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn list_revisions(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Vec<RevisionView>>, Error> {
    let state = context.brain.read().await;
    Ok(Json(views::revisions(find(&state, &caller, Verb::Get, &id)?)))
}

/// Set how many instances there are
///
/// Of too many those that are not ready go first, then those with the highest numbers.
#[utoipa::path(post, path = "/api/service/{id}/scale", tag = "services",
    params(("id" = String, Path, description = "Service id")), request_body = Scale, responses(
    (status = 200, body = Scaled),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "More than the quota of the organisation", body = ErrorBody),
    (status = 422, description = "A field is missing or out of range", body = ErrorBody),
))]
pub(super) async fn scale(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Scaled>, Error> {
    find(&*context.brain.read().await, &caller, Verb::Update, &id)?;
    let Scale { instances } = body::parse(&body?)?;
    if instances > MAX_INSTANCES {
        let message = format!("instances must be from 0 to {MAX_INSTANCES}, not {instances}");
        return Err(Error::bad_field("instances", message));
    }
    let added = context
        .brain
        .ask(move |state, now| {
            let service = find(state, &caller, Verb::Update, &id)?;
            Ok::<_, Error>(state.scale(service, instances, now.date)?)
        })
        .await??;
    Ok(Json(Scaled { message: "ok".to_owned(), instances, added }))
}

/// Deploy one more instance; a body is ignored
#[utoipa::path(post, path = "/api/service/{id}/instance", tag = "services",
    params(("id" = String, Path, description = "Service id")), responses(
    (status = 200, body = Deployed),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It has as many as one service may have, or the organisation as many as its quota", body = ErrorBody),
))]
pub(super) async fn deploy(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Deployed>, Error> {
    let instance = context
        .brain
        .ask(move |state, now| {
            let service = find(state, &caller, Verb::Update, &id)?;
            if state.instances_of(service.id).count() >= MAX_INSTANCES as usize {
                let message =
                    format!("the service has {MAX_INSTANCES} instances, and no service may have more");
                return Err(Error::new(StatusCode::CONFLICT, "too_many_instances", message));
            }
            Ok::<_, Error>(state.deploy(service, now.date)?)
        })
        .await??;
    Ok(Json(Deployed { message: "ok".to_owned(), instance_number: instance.number }))
}

/// Remove one instance, or all of them with the number -1
#[utoipa::path(delete, path = "/api/service/{id}/instance/{number}", tag = "services",
    params(
        ("id" = String, Path, description = "Service id"),
        ("number" = i64, Path, description = "Instance number, or -1 for all"),
    ),
    responses(
    (status = 200, body = Message),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 422, description = "Not a number", body = ErrorBody),
))]
pub(super) async fn undeploy(
    State(context): Shared,
    caller: Caller,
    Path((id, number)): Path<(String, String)>,
) -> Result<Json<Message>, Error> {
    let number = match number.parse::<i64>() {
        Ok(-1) => None,
        Ok(number) => Some(u32::try_from(number).map_err(|_| not_a_number(&number.to_string()))?),
        Err(_) => return Err(not_a_number(&number)),
    };
    context
        .brain
        .ask(move |state, now| {
            let service = find(state, &caller, Verb::Update, &id)?.id;
            let changes = match number {
                Some(number) => state.undeploy(service, number, now.date)?,
                None => state.undeploy_all(service, now.date),
            };
            Ok::<_, Error>(((), changes))
        })
        .await??;
    Ok(Json(Message { message: "ok".to_owned() }))
}

fn not_a_number(text: &str) -> Error {
    Error::bad_field("number", format!("`{text}` is not an instance number; give one, or -1 for all"))
}
