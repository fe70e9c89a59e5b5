//! Applications.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use model::{ApplicationId, ServiceId};
use root_core::{Application, FreshIds, State as Truth, sla};
use serde::Serialize;

use super::{
    Body, Shared,
    error::{Error, ErrorBody},
    views::{self, ApplicationView},
};
use crate::auth::Caller;

/// What a change is answered with.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Message {
    pub(crate) message: String,
}

/// List all applications
#[utoipa::path(get, path = "/api/applications", tag = "applications", responses(
    (status = 200, body = Vec<ApplicationView>),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For administrators", body = ErrorBody),
))]
pub(super) async fn list(
    State(context): Shared,
    caller: Caller,
) -> Result<Json<Vec<ApplicationView>>, Error> {
    if !caller.is_admin() {
        return Err(Error::forbidden());
    }
    let state = context.brain.read().await;
    Ok(Json(state.applications().map(|application| views::application(&state, application)).collect()))
}

/// List the caller's applications
#[utoipa::path(get, path = "/api/applications/{user}", tag = "applications",
    params(("user" = String, Path, description = "Id of the caller")), responses(
    (status = 200, body = Vec<ApplicationView>),
    (status = 401, description = "Not the caller's id", body = ErrorBody),
))]
pub(super) async fn list_of_user(
    State(context): Shared,
    caller: Caller,
    Path(user): Path<String>,
) -> Result<Json<Vec<ApplicationView>>, Error> {
    if user != caller.id.to_string() {
        let message = "these are not your applications; give your own user id";
        return Err(Error::new(StatusCode::UNAUTHORIZED, "not_yours", message));
    }
    Ok(Json(own(&*context.brain.read().await, &caller)))
}

fn own(state: &Truth, caller: &Caller) -> Vec<ApplicationView> {
    state
        .applications()
        .filter(|application| application.owner == caller.name)
        .map(|application| views::application(state, application))
        .collect()
}

/// Create the applications of an SLA with their services
///
/// Nothing is deployed by it. Answers with all applications of the caller. Either all of the document is created or
/// nothing.
#[utoipa::path(post, path = "/api/application", tag = "applications",
    request_body(content = Object, description = "An SLA, version v2.0; see the project's docs/sla.md"), responses(
    (status = 200, body = Vec<ApplicationView>),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 409, description = "An application of that name exists", body = ErrorBody),
    (status = 413, description = "Too large", body = ErrorBody),
    (status = 422, description = "The document is not valid; every problem names its field", body = ErrorBody),
))]
pub(super) async fn create(
    State(context): Shared,
    caller: Caller,
    body: Body,
) -> Result<Json<Vec<ApplicationView>>, Error> {
    let mut sla = sla::parse(&body?)?;
    let (owner, organization) = (caller.name.clone(), caller.organization);
    context
        .brain
        .ask(move |state, now| {
            let services = sla.applications.iter_mut().flat_map(|application| &mut application.services);
            state.find_secrets(organization, services)?;
            state.create_applications(&owner, sla.applications, &mut RandomIds, now.date)
        })
        .await??;
    Ok(Json(own(&*context.brain.read().await, &caller)))
}

/// Show one application
#[utoipa::path(get, path = "/api/application/{id}", tag = "applications",
    params(("id" = String, Path, description = "Application id")), responses(
    (status = 200, body = ApplicationView),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn get(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ApplicationView>, Error> {
    let state = context.brain.read().await;
    let application = find(&state, &caller, &id)?;
    Ok(Json(views::application(&state, application)))
}

/// Delete an application with its services and instances
#[utoipa::path(delete, path = "/api/application/{id}", tag = "applications",
    params(("id" = String, Path, description = "Application id")), responses(
    (status = 200, body = Message),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn delete(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Message>, Error> {
    context
        .brain
        .ask(move |state, now| {
            let application = find(state, &caller, &id)?;
            Ok::<_, Error>(((), state.delete_application(application, now.date)))
        })
        .await??;
    Ok(Json(Message { message: "Application Deleted".to_owned() }))
}

/// An application of the caller; administrators have all.
pub(super) fn find<'a>(state: &'a Truth, caller: &Caller, id: &str) -> Result<&'a Application, Error> {
    let found = id.parse::<ApplicationId>().ok().and_then(|id| state.application(id));
    found.filter(|application| may_use(caller, application)).ok_or_else(|| Error::no_application(id))
}

pub(super) fn may_use(caller: &Caller, application: &Application) -> bool {
    caller.is_admin() || application.owner == caller.name
}

/// Ids for new documents.
#[derive(Debug)]
pub(super) struct RandomIds;

impl FreshIds for RandomIds {
    fn application(&mut self) -> ApplicationId {
        daemon::fresh_application_id()
    }

    fn service(&mut self) -> ServiceId {
        daemon::fresh_service_id()
    }
}
