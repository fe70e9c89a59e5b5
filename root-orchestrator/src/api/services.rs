//! Services. Their instances and what changes them are in `changes.rs`.

use std::{collections::BTreeMap, time::Duration};

use axum::Json;
use futures_util::future::join_all;
use model::{InstanceId, ServiceId};
use root_core::{
    Service, State as Truth,
    access::{Kind, Of, Verb, Verdict},
    sla,
};
use serde::Serialize;

use super::{
    Body, Context, Path, Shared, State,
    applications::{self, Message, RandomIds},
    error::{Error, ErrorBody},
    logs,
    views::{self, ServiceView},
};
use crate::auth::Caller;

/// How much of a log is shown with its service, as Oakestra's clients expect.
const LOG_BYTES: usize = 1024;
/// Lines asked for to fill it.
const LOG_LINES: u32 = 20;
/// A device that does not answer within this is shown without its log.
const LOG_DEADLINE: Duration = Duration::from_millis(700);
/// Instances whose logs are shown with their service; a service with more is read one by one.
const MOST_LOGS: usize = 16;

/// The answer to added services.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Added {
    /// The last of the new services.
    job_id: String,
    deployed_services: Vec<AddedService>,
    failed_services: Vec<AddedService>,
}

/// One added service.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AddedService {
    service_name: String,
    status: u16,
}

/// List the services the caller may look at: those of the organisation, for an administrator of the platform all
#[utoipa::path(get, path = "/api/services", tag = "services", responses(
    (status = 200, body = Vec<ServiceView>),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
))]
pub(super) async fn list(State(context): Shared, caller: Caller) -> Result<Json<Vec<ServiceView>>, Error> {
    caller.must(Verb::Get, Kind::Service)?;
    let state = context.brain.read().await;
    let now = daemon::present();
    let seen = state.services().filter(|service| {
        state.application(service.application).is_some_and(|application| {
            caller.may(Verb::Get, Kind::Service, Of::Organization(application.organization))
                == Verdict::Allowed
        })
    });
    Ok(Json(seen.map(|service| views::service(&state, service, &BTreeMap::new(), now)).collect()))
}

/// List the services of an application
#[utoipa::path(get, path = "/api/services/{application}", tag = "services",
    params(("application" = String, Path, description = "Application id")), responses(
    (status = 200, body = Vec<ServiceView>),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn list_of_application(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Vec<ServiceView>>, Error> {
    let state = context.brain.read().await;
    let application = applications::find(&state, &caller, Verb::Get, Kind::Service, &id)?;
    let services = state.services_of(application.id);
    let now = daemon::present();
    Ok(Json(services.map(|service| views::service(&state, service, &BTreeMap::new(), now)).collect()))
}

/// Add the services of an SLA to the application it names
#[utoipa::path(post, path = "/api/service", tag = "services",
    request_body(content = Object, description = "An SLA with one application that has its `applicationID`"), responses(
    (status = 200, body = Added),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 404, description = "No such application", body = ErrorBody),
    (status = 409, description = "A service of that name exists", body = ErrorBody),
    (status = 413, description = "Too large", body = ErrorBody),
    (status = 422, description = "The document is not valid; every problem names its field", body = ErrorBody),
))]
pub(super) async fn create(State(context): Shared, caller: Caller, body: Body) -> Result<Json<Added>, Error> {
    caller.must(Verb::Create, Kind::Service)?;
    let mut sla = sla::parse(&body?)?;
    if sla.applications.len() != 1 {
        return Err(Error::bad_field("applications", "services are added to exactly one application"));
    }
    let mut wanted = sla.applications.remove(0);
    let id = wanted.id.ok_or_else(|| {
        let message = "applications[0].applicationID is missing; it says which application gets the services";
        Error::bad_field("applications[0].applicationID", message)
    })?;
    let names: Vec<String> = wanted.services.iter().map(|service| service.name.clone()).collect();
    let added = context
        .brain
        .ask(move |state, now| {
            let application = applications::find(state, &caller, Verb::Create, Kind::Service, &id)?;
            state.find_secrets(application.organization, &mut wanted.services)?;
            Ok::<_, Error>(state.add_services(application, wanted.services, &mut RandomIds, now.date)?)
        })
        .await??;
    Ok(Json(Added {
        job_id: added.last().map(ToString::to_string).unwrap_or_default(),
        deployed_services: names
            .into_iter()
            .map(|service_name| AddedService { service_name, status: 200 })
            .collect(),
        failed_services: Vec::new(),
    }))
}

/// Show one service with the ends of its instances' logs
#[utoipa::path(get, path = "/api/service/{id}", tag = "services",
    params(("id" = String, Path, description = "Service id")), responses(
    (status = 200, body = ServiceView),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn get(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ServiceView>, Error> {
    let started: Vec<InstanceId> = {
        let state = context.brain.read().await;
        let service = find(&state, &caller, Verb::Get, &id)?;
        state
            .instances_of(service.id)
            .filter(|instance| logs::has_log(instance.report.phase))
            .map(|instance| instance.id)
            .take(MOST_LOGS)
            .collect()
    };
    // Fetched with nothing locked: a slow device must not hold up the others.
    let ends = join_all(started.into_iter().map(|instance| log_end(&context, instance))).await;
    let ends: BTreeMap<u32, String> = ends.into_iter().flatten().collect();
    let state = context.brain.read().await;
    let service = find(&state, &caller, Verb::Get, &id)?;
    Ok(Json(views::service(&state, service, &ends, daemon::present())))
}

async fn log_end(context: &Context, instance: InstanceId) -> Option<(u32, String)> {
    let collecting = async {
        let mut log = logs::open(context, instance, LOG_LINES, false).await.ok()?;
        let mut text = Vec::new();
        while let Some(Ok(piece)) = log.next().await {
            text.extend_from_slice(&piece);
        }
        let start = text.len().saturating_sub(LOG_BYTES);
        Some((instance.number, String::from_utf8_lossy(&text[start..]).into_owned()))
    };
    tokio::time::timeout(LOG_DEADLINE, collecting).await.ok()?
}

/// Delete a service with its instances
#[utoipa::path(delete, path = "/api/service/{id}", tag = "services",
    params(("id" = String, Path, description = "Service id")), responses(
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
            let service = find(state, &caller, Verb::Delete, &id)?;
            Ok::<_, Error>(((), state.delete_service(service, now.date)))
        })
        .await??;
    Ok(Json(Message { message: "Job deleted".to_owned() }))
}

/// A service, if the caller may do that to it. What is done to its instances changes the service.
pub(super) fn find<'a>(
    state: &'a Truth,
    caller: &Caller,
    verb: Verb,
    id: &str,
) -> Result<&'a Service, Error> {
    let found = id.parse::<ServiceId>().ok().and_then(|id| state.service(id));
    let found =
        found.and_then(|service| Some((service, state.application(service.application)?.organization)));
    caller.must_for(verb, Kind::Service, found, || Error::no_service(id))
}
