//! Hooks of organisations, in the shapes of Oakestra's. Secrets come in and never go out.

use std::collections::BTreeSet;

use axum::{Json, http::StatusCode};
use link::SecretValue;
use model::{HookId, SecretVersionId};
use root_core::{
    Envelope, Hook, HookEvent, HookRejected, HookWish, SecretWish, State as Truth, Topic,
    access::{Kind, Of, Verb, Verdict},
};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::{
    Body, Context, Path, Shared, State,
    body::parse_unshown,
    error::{Error, ErrorBody},
    views,
};
use crate::{
    auth::Caller,
    hooks::{Client, parse_url},
};

/// Shorter ones can be guessed from a signature; longer ones are hashed first and gain nothing.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 16..=256;
const EXPECTED: &str = "`hook_name`, `webhook_url`, `entity` and `secret` are texts, `events` is a list of texts, and there is \
                        nothing else";

/// A hook to be made, or what is to be otherwise about one; null is as if it were not sent. Never printed.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HookBody {
    /// Unique in the organisation.
    #[schema(example = "inventory")]
    hook_name: Option<String>,
    /// Where it is told, by POST; `http` or `https`.
    #[schema(example = "https://hooks.example/told")]
    webhook_url: Option<String>,
    /// `applications`, `jobs` (or `job`: services with their instances), `resources` (clusters) or a type of custom
    /// resources.
    #[schema(example = "jobs")]
    entity: Option<String>,
    /// `post_create`, `post_update`, `post_delete`.
    #[schema(example = json!(["post_create", "post_delete"]))]
    events: Option<Vec<String>>,
    /// What deliveries are signed with, from 16 to 256 bytes; an empty text removes it.
    secret: Option<String>,
    /// Ignored: clients send back what they were shown.
    #[serde(default, rename = "_id")]
    #[schema(value_type = Option<String>)]
    _id: IgnoredAny,
}

/// A hook, without its secret.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct HookView {
    _id: String,
    hook_name: String,
    webhook_url: String,
    entity: String,
    events: Vec<&'static str>,
    /// Name of the organisation it belongs to.
    organization: String,
    /// Whether it has a secret, so that deliveries are signed.
    signed: bool,
    /// Deliveries that wait.
    pending: usize,
    /// When one was last taken; RFC 3339.
    last_delivery: Option<String>,
    /// Why the last attempt that failed did, also when others were taken since.
    last_error: Option<HookErrorView>,
    /// Attempts in a row that failed.
    failures: u32,
    /// Deliveries that were given up, each after a day.
    given_up: u64,
    /// Events for which there was no room.
    dropped: u64,
}

/// Why a delivery was not taken.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct HookErrorView {
    /// RFC 3339.
    at: String,
    reason: String,
}

fn view(state: &Truth, hook: &Hook) -> HookView {
    let organization = state.organization(hook.organization).map(|it| it.name.clone());
    let status = &hook.status;
    let error = status.error.as_ref();
    HookView {
        _id: hook.id.to_string(),
        hook_name: hook.name.clone(),
        webhook_url: hook.url.clone(),
        entity: hook.entity.clone(),
        events: hook.events.iter().map(|event| event.as_str()).collect(),
        organization: organization.unwrap_or_default(),
        signed: hook.secret.is_some(),
        pending: state.deliveries_of(hook.id).count(),
        last_delivery: status.delivered.map(views::rfc3339),
        last_error: error.map(|it| HookErrorView { at: views::rfc3339(it.at), reason: it.reason.clone() }),
        failures: status.failures,
        given_up: status.given_up,
        dropped: status.dropped,
    }
}

/// List the hooks the caller may look at: those of the organisation, for an administrator of the platform all
#[utoipa::path(get, path = "/api/v1/hooks", tag = "hooks", responses(
    (status = 200, body = Vec<HookView>),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
))]
pub(super) async fn list(State(context): Shared, caller: Caller) -> Result<Json<Vec<HookView>>, Error> {
    caller.must(Verb::Get, Kind::Hook)?;
    let state = context.brain.read().await;
    let seen = state.hooks().filter(|hook| {
        caller.may(Verb::Get, Kind::Hook, Of::Organization(hook.organization)) == Verdict::Allowed
    });
    Ok(Json(seen.map(|hook| view(&state, hook)).collect()))
}

/// Make a hook
///
/// What happens from now on is told to it by POST, at least once, in order, until it is taken or a day has passed.
#[utoipa::path(post, path = "/api/v1/hooks", tag = "hooks", request_body = HookBody, responses(
    (status = 201, body = HookView),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may, or it is about what belongs to the platform", body = ErrorBody),
    (status = 409, description = "There is one of that name or for that entity and URL, or too many", body = ErrorBody),
    (status = 413, description = "Too large", body = ErrorBody),
    (status = 422, description = "A field is missing or not valid", body = ErrorBody),
))]
pub(super) async fn create(
    State(context): Shared,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<HookView>), Error> {
    caller.must(Verb::Create, Kind::Hook)?;
    let body: HookBody = parse_unshown(&body?, EXPECTED)?;
    let wish = HookWish {
        name: needed("hook_name", body.hook_name)?,
        url: needed("webhook_url", body.webhook_url)?,
        entity: needed("entity", body.entity)?,
        events: events(needed("events", body.events)?)?,
    };
    ensure_callable(&context.hook_client, &wish.url)?;
    ensure_for(&caller, &wish.entity)?;
    let secret = secret(&context, body.secret)?;
    let id = context
        .brain
        .ask(move |state, _| {
            let seal = match secret {
                SecretWish::Set(seal) => Some(seal),
                SecretWish::Keep | SecretWish::Remove => None,
            };
            state.create_hook(daemon::fresh_hook_id(), caller.organization, wish, seal)
        })
        .await??;
    let state = context.brain.read().await;
    let hook = state.hook(id).ok_or_else(|| HookRejected::None(id.to_string()))?;
    Ok((StatusCode::CREATED, Json(view(&state, hook))))
}

/// Show one hook
#[utoipa::path(get, path = "/api/v1/hooks/{id}", tag = "hooks",
    params(("id" = String, Path, description = "Hook id")), responses(
    (status = 200, body = HookView),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn get(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<HookView>, Error> {
    let state = context.brain.read().await;
    let hook = find(&state, &caller, Verb::Get, &id)?;
    Ok(Json(view(&state, hook)))
}

/// Change a hook
///
/// What is not sent stays as it is. What waits is delivered where it says now, at once.
#[utoipa::path(patch, path = "/api/v1/hooks/{id}", tag = "hooks",
    params(("id" = String, Path, description = "Hook id")), request_body = HookBody, responses(
    (status = 200, body = HookView),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may, or it is about what belongs to the platform", body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "There is another of that name or for that entity and URL", body = ErrorBody),
    (status = 413, description = "Too large", body = ErrorBody),
    (status = 422, description = "A field is not valid", body = ErrorBody),
))]
pub(super) async fn update(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<HookView>, Error> {
    // Whoever may not see the hook is not told what is wrong with the document.
    find(&*context.brain.read().await, &caller, Verb::Update, &id)?;
    let body: HookBody = parse_unshown(&body?, EXPECTED)?;
    let events = body.events.map(events).transpose()?;
    if let Some(url) = &body.webhook_url {
        ensure_callable(&context.hook_client, url)?;
    }
    if let Some(entity) = &body.entity {
        ensure_for(&caller, entity)?;
    }
    let secret = secret(&context, body.secret)?;
    let id = context
        .brain
        .ask(move |state, _| {
            let before = find(state, &caller, Verb::Update, &id)?;
            let wish = HookWish {
                name: body.hook_name.unwrap_or_else(|| before.name.clone()),
                url: body.webhook_url.unwrap_or_else(|| before.url.clone()),
                entity: body.entity.unwrap_or_else(|| before.entity.clone()),
                events: events.unwrap_or_else(|| before.events.clone()),
            };
            let ((), changes) = state.update_hook(before, wish, secret)?;
            Ok::<_, Error>((before.id, changes))
        })
        .await??;
    let state = context.brain.read().await;
    let hook = state.hook(id).ok_or_else(|| HookRejected::None(id.to_string()))?;
    Ok(Json(view(&state, hook)))
}

/// Delete a hook; what waits to be delivered is forgotten
#[utoipa::path(delete, path = "/api/v1/hooks/{id}", tag = "hooks",
    params(("id" = String, Path, description = "Hook id")), responses(
    (status = 204),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn delete(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Error> {
    context
        .brain
        .ask(move |state, _| {
            let hook = find(state, &caller, Verb::Delete, &id)?;
            Ok::<_, Error>(((), state.delete_hook(hook.id)))
        })
        .await??;
    Ok(StatusCode::NO_CONTENT)
}

/// A hook, if the caller may do that to it.
fn find<'a>(state: &'a Truth, caller: &Caller, verb: Verb, id: &str) -> Result<&'a Hook, Error> {
    let found = id.parse::<HookId>().ok().and_then(|id| state.hook(id));
    let found = found.map(|hook| (hook, hook.organization));
    caller.must_for(verb, Kind::Hook, found, || HookRejected::None(id.to_owned()).into())
}

fn needed<T>(field: &str, given: Option<T>) -> Result<T, Error> {
    given.ok_or_else(|| {
        Error::bad_field(field, format!("{field} is missing; without it nobody would be told anything"))
    })
}

fn events(given: Vec<String>) -> Result<BTreeSet<HookEvent>, Error> {
    let read = |(index, word): (usize, String)| {
        word.parse::<HookEvent>().map_err(|()| {
            let field = format!("events[{index}]");
            let word: String = word.chars().take(40).collect();
            let message = if word.starts_with("pre_") {
                format!(
                    "{field} is `{word}`: nobody is asked before something is done; name post_create, post_update or \
                     post_delete"
                )
            } else {
                format!("{field} must be one of post_create, post_update, post_delete, and not `{word}`")
            };
            Error::bad_field(&field, message)
        })
    };
    given.into_iter().enumerate().map(read).collect()
}

fn ensure_callable(client: &Client, url: &str) -> Result<(), Error> {
    let wrong = |why: String| Error::bad_field("webhook_url", format!("webhook_url: {why}"));
    let url = parse_url(url).map_err(wrong)?;
    client.judge(&url).map_err(|refused| wrong(refused.to_string()))
}

/// Clusters are for who looks after the platform.
fn ensure_for(caller: &Caller, entity: &str) -> Result<(), Error> {
    match Topic::of(entity) {
        Topic::Resources if caller.rights.is_platform_admin() => caller.must_be_admin(),
        Topic::Resources => Err(HookRejected::OfThePlatform.into()),
        Topic::Applications | Topic::Jobs | Topic::Custom(_) => Ok(()),
    }
}

fn secret(
    context: &Context,
    given: Option<String>,
) -> Result<SecretWish<impl FnOnce(SecretVersionId) -> Envelope + Send + use<>>, Error> {
    let Some(given) = given else { return Ok(SecretWish::Keep) };
    if given.is_empty() {
        return Ok(SecretWish::Remove);
    }
    let value = SecretValue::new(given.into_bytes());
    let size = value.reveal().len();
    if !SECRET_BYTES.contains(&size) {
        let (least, most) = SECRET_BYTES.into_inner();
        let message = format!("secret must have from {least} to {most} bytes, but has {size}");
        return Err(Error::bad_field("secret", message));
    }
    let vault = std::sync::Arc::clone(&context.vault);
    Ok(SecretWish::Set(move |version: SecretVersionId| vault.seal(version, &value)))
}
