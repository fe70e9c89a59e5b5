//! API tokens: what programs send in place of a login.

use std::collections::BTreeSet;

use axum::Json;
use model::TokenId;
use root_core::{
    NewApiToken, PeopleRejected, State as Truth,
    access::{Kind, Scope, Verb},
};
use serde::Deserialize;

use super::{
    Body, Path, Shared, State,
    applications::Message,
    body, clusters,
    error::{Error, ErrorBody},
    views::{self, ApiTokenView},
};
use crate::auth::{AuthError, Caller, new_api_token};

const DAY_SECONDS: u64 = 86_400;
/// Long enough to be renewed by hand, short enough that a forgotten token dies.
const USUAL_SECONDS: u64 = 90 * DAY_SECONDS;
const LONGEST_SECONDS: u64 = 365 * DAY_SECONDS;
const LONGEST_NAME: usize = 64;

/// An API token to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    /// What it is for, for people to read.
    name: String,
    /// What it is limited to: roles, such as `Application_Provider`, or a verb and a kind, such as `get:service`. If not
    /// given, it may all its user may.
    scopes: Option<Vec<String>>,
    /// For how long; ninety days if not given, at most a year.
    ttl_seconds: Option<u64>,
}

/// List the caller's API tokens
#[utoipa::path(get, path = "/api/auth/tokens", tag = "auth", responses(
    (status = 200, body = Vec<ApiTokenView>),
    (status = 401, body = ErrorBody),
    (status = 403, description = "An API token that may not", body = ErrorBody),
))]
pub(super) async fn list(State(context): Shared, caller: Caller) -> Result<Json<Vec<ApiTokenView>>, Error> {
    caller.must(Verb::Get, Kind::ApiToken)?;
    let state = context.brain.read().await;
    let now = daemon::now();
    let good = state.api_tokens_of(caller.id).filter(|token| token.expires_at > now);
    Ok(Json(good.map(|token| views::api_token(token, None)).collect()))
}

/// Make an API token for the caller, in the organisation of the login
///
/// Its text is in the answer and never shown again.
#[utoipa::path(post, path = "/api/auth/tokens", tag = "auth", request_body = NewToken, responses(
    (status = 200, body = ApiTokenView),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "A scope the caller does not have, or an API token", body = ErrorBody),
    (status = 409, description = "The caller has as many as one may have", body = ErrorBody),
    (status = 422, description = "A field is missing or out of range", body = ErrorBody),
))]
pub(super) async fn create(
    State(context): Shared,
    caller: Caller,
    body: Body,
) -> Result<Json<ApiTokenView>, Error> {
    // One that makes others could never be revoked.
    if caller.api_token.is_some() {
        return Err(AuthError::NeedsLogin.into());
    }
    caller.must(Verb::Create, Kind::ApiToken)?;
    let wanted: NewToken = body::parse(&body?)?;
    if wanted.name.is_empty() || wanted.name.len() > LONGEST_NAME || wanted.name.chars().any(char::is_control)
    {
        let message = format!("name must have 1 to {LONGEST_NAME} bytes and no control characters");
        return Err(Error::bad_field("name", message));
    }
    let seconds = wanted.ttl_seconds.unwrap_or(USUAL_SECONDS);
    if !(1..=LONGEST_SECONDS).contains(&seconds) {
        let message = format!("ttl_seconds must be from 1 to {LONGEST_SECONDS}, not {seconds}");
        return Err(Error::bad_field("ttl_seconds", message));
    }
    let scopes = match wanted.scopes {
        Some(scopes) => Some(read_scopes(&*context.brain.read().await, &scopes)?),
        None => None,
    };
    let id = TokenId::new(daemon::fresh_uuid());
    let (text, secret_hash) = new_api_token(id);
    context
        .brain
        .ask(move |state, now| {
            let expires_at = now.date.plus_millis(seconds * 1000);
            let wanted = NewApiToken { id, name: wanted.name, scopes, secret_hash, expires_at };
            Ok::<_, PeopleRejected>(((), state.create_api_token(&caller.rights, wanted, now.date)?))
        })
        .await??;
    let state = context.brain.read().await;
    let made = state.api_token(id).ok_or(PeopleRejected::NoToken(id))?;
    Ok(Json(views::api_token(made, Some(text))))
}

fn read_scopes(state: &Truth, texts: &[String]) -> Result<BTreeSet<Scope>, Error> {
    if texts.is_empty() {
        let message = "scopes names nothing, so the token could do nothing; leave it out for all you may";
        return Err(Error::bad_field("scopes", message));
    }
    let read = |(index, text): (usize, &String)| {
        let wrong = |error| {
            Error::bad_field(
                &format!("scopes[{index}]"),
                format!("{error}, or a verb, `:` and a kind of resource"),
            )
        };
        clusters::with_id(state, text).parse::<Scope>().map_err(wrong)
    };
    texts.iter().enumerate().map(read).collect()
}

/// Make one of the caller's API tokens useless at once
#[utoipa::path(delete, path = "/api/auth/tokens/{id}", tag = "auth",
    params(("id" = String, Path, description = "Token id")), responses(
    (status = 200, body = Message),
    (status = 401, body = ErrorBody),
    (status = 403, description = "An API token that may not", body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 422, description = "Not an id", body = ErrorBody),
))]
pub(super) async fn revoke(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Message>, Error> {
    caller.must(Verb::Delete, Kind::ApiToken)?;
    let id: TokenId = id.parse().map_err(|error| Error::bad_field("id", format!("{error}")))?;
    context
        .brain
        .ask(move |state, _| Ok::<_, PeopleRejected>(((), state.revoke_api_token(&caller.rights, id)?)))
        .await??;
    Ok(Json(Message { message: "Token revoked".to_owned() }))
}
