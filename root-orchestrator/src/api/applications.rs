//! Applications.

use axum::{Json, http::StatusCode};
use model::{ApplicationId, ServiceId};
use root_core::{
    Application, Author, FreshIds, Rejected, State as Truth,
    access::{Kind, Of, Verb, Verdict},
    sla,
};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::{
    Body, Path, Shared, State, body,
    error::{Error, ErrorBody},
    views::{self, ApplicationView},
};
use crate::auth::Caller;

/// What a change is answered with.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Message {
    pub(crate) message: String,
}

/// What an application shall be; null is as if it were not sent.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApplicationChange {
    application_desc: Option<String>,
    /// As it is.
    application_name: Option<String>,
    /// As it is.
    application_namespace: Option<String>,
    /// Ignored, as are the next four: clients send back what they were shown.
    #[serde(default, rename = "microservices")]
    #[schema(value_type = Option<Vec<String>>)]
    _microservices: IgnoredAny,
    #[serde(default, rename = "_id")]
    #[schema(value_type = Option<Object>)]
    _id: IgnoredAny,
    #[serde(default, rename = "applicationID")]
    #[schema(value_type = Option<String>)]
    _application_id: IgnoredAny,
    #[serde(default, rename = "userId")]
    #[schema(value_type = Option<String>)]
    _user_id: IgnoredAny,
    #[serde(default, rename = "organization")]
    #[schema(value_type = Option<String>)]
    _organization: IgnoredAny,
}

/// List the applications the caller may look at: those of the organisation, for an administrator of the platform all
#[utoipa::path(get, path = "/api/applications", tag = "applications", responses(
    (status = 200, body = Vec<ApplicationView>),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
))]
pub(super) async fn list(
    State(context): Shared,
    caller: Caller,
) -> Result<Json<Vec<ApplicationView>>, Error> {
    caller.must(Verb::Get, Kind::Application)?;
    let state = context.brain.read().await;
    let seen = state.applications().filter(|application| {
        caller.may(Verb::Get, Kind::Application, Of::Organization(application.organization))
            == Verdict::Allowed
    });
    Ok(Json(seen.map(|application| views::application(&state, application)).collect()))
}

/// List the applications of the caller's organisation
#[utoipa::path(get, path = "/api/applications/{user}", tag = "applications",
    params(("user" = String, Path, description = "Id of the caller")), responses(
    (status = 200, body = Vec<ApplicationView>),
    (status = 401, description = "Not the caller's id", body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
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
    caller.must(Verb::Get, Kind::Application)?;
    Ok(Json(own(&*context.brain.read().await, &caller)))
}

fn own(state: &Truth, caller: &Caller) -> Vec<ApplicationView> {
    state
        .applications()
        .filter(|application| application.organization == caller.organization)
        .map(|application| views::application(state, application))
        .collect()
}

/// Create the applications of an SLA with their services
///
/// Nothing is deployed by it. Answers with all applications of the caller's organisation. Either all of the document is
/// created or nothing.
#[utoipa::path(post, path = "/api/application", tag = "applications",
    request_body(content = Object, description = "An SLA, version v2.0; see the project's docs/sla.md"), responses(
    (status = 200, body = Vec<ApplicationView>),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 409, description = "An application of that name exists", body = ErrorBody),
    (status = 413, description = "Too large", body = ErrorBody),
    (status = 422, description = "The document is not valid; every problem names its field", body = ErrorBody),
))]
pub(super) async fn create(
    State(context): Shared,
    caller: Caller,
    body: Body,
) -> Result<Json<Vec<ApplicationView>>, Error> {
    caller.must(Verb::Create, Kind::Application)?;
    let mut sla = sla::parse(&body?)?;
    let author = Author { organization: caller.organization, name: caller.name.clone() };
    context
        .brain
        .ask(move |state, now| {
            let services = sla.applications.iter_mut().flat_map(|application| &mut application.services);
            state.find_secrets(author.organization, services)?;
            state.create_applications(&author, sla.applications, &mut RandomIds, now.date)
        })
        .await??;
    Ok(Json(own(&*context.brain.read().await, &caller)))
}

/// Show one application
#[utoipa::path(get, path = "/api/application/{id}", tag = "applications",
    params(("id" = String, Path, description = "Application id")), responses(
    (status = 200, body = ApplicationView),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn get(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ApplicationView>, Error> {
    let state = context.brain.read().await;
    let application = find(&state, &caller, Verb::Get, Kind::Application, &id)?;
    Ok(Json(views::application(&state, application)))
}

/// Change the description of an application
///
/// What is not sent stays as it is. Names and owner cannot be changed, services only by their own requests; what the
/// root shows of an application may be sent back.
#[utoipa::path(put, path = "/api/application/{id}", tag = "applications",
    params(("id" = String, Path, description = "Application id")), request_body = ApplicationChange, responses(
    (status = 200, body = Message),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "A change that cannot be made, such as of its name", body = ErrorBody),
    (status = 413, description = "Too large", body = ErrorBody),
    (status = 422, description = "A field is unknown, too long or of the wrong type", body = ErrorBody),
))]
pub(super) async fn update(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Message>, Error> {
    // Whoever may not see the application is not told what is wrong with the document.
    find(&*context.brain.read().await, &caller, Verb::Update, Kind::Application, &id)?;
    let wanted: ApplicationChange = body::parse(&body?)?;
    let length = wanted.application_desc.as_ref().map_or(0, |text| text.chars().count());
    if length > sla::MAX_TEXT_LENGTH {
        let most = sla::MAX_TEXT_LENGTH;
        let message = format!("application_desc must have at most {most} characters, but has {length}");
        return Err(Error::bad_field("application_desc", message));
    }
    context
        .brain
        .ask(move |state, _| {
            let application = find(state, &caller, Verb::Update, Kind::Application, &id)?;
            wanted.refuse_other_names(application)?;
            let description = wanted.application_desc.unwrap_or_else(|| application.description.clone());
            Ok::<_, Error>(((), state.describe(application, description)))
        })
        .await??;
    Ok(Json(Message { message: "Application is updated".to_owned() }))
}

impl ApplicationChange {
    fn refuse_other_names(&self, application: &Application) -> Result<(), Error> {
        for (field, sent, is) in [
            ("application_name", &self.application_name, &application.name),
            ("application_namespace", &self.application_namespace, &application.namespace),
        ] {
            if sent.as_ref().is_some_and(|sent| sent != is) {
                let message = format!("{field} is `{is}` and cannot be changed; create another application");
                return Err(Rejected::NotChangeable(message).into());
            }
        }
        Ok(())
    }
}

/// Delete an application with its services and instances
#[utoipa::path(delete, path = "/api/application/{id}", tag = "applications",
    params(("id" = String, Path, description = "Application id")), responses(
    (status = 200, body = Message),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
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
            let application = find(state, &caller, Verb::Delete, Kind::Application, &id)?;
            Ok::<_, Error>(((), state.delete_application(application, now.date)))
        })
        .await??;
    Ok(Json(Message { message: "Application Deleted".to_owned() }))
}

/// An application, if the caller may do that to it or to what is of that kind in it.
pub(super) fn find<'a>(
    state: &'a Truth,
    caller: &Caller,
    verb: Verb,
    kind: Kind,
    id: &str,
) -> Result<&'a Application, Error> {
    let found = id.parse::<ApplicationId>().ok().and_then(|id| state.application(id));
    let found = found.map(|application| (application, application.organization));
    caller.must_for(verb, kind, found, || Error::no_application(id))
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
