//! Logging in and out, and what one may do.

use std::net::SocketAddr;

use axum::{
    Json,
    extract::{ConnectInfo, Query, rejection::QueryRejection},
    http::HeaderMap,
};
use root_core::access::{Kind, Verb, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Body, Shared, State,
    applications::Message,
    authorization, body,
    error::{Error, ErrorBody},
    workers,
};
use crate::auth::{Attempt, Caller, TokenPair};

/// Who wants to log in.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct Login {
    #[schema(example = "Admin")]
    username: String,
    password: String,
    /// The organisation to log in to, of which the user is a member; `root` if not given.
    organization_name: Option<String>,
}

/// A new access token.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AccessToken {
    token: String,
}

/// What may be done.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Question {
    /// `get`, `create`, `update` or `delete`.
    verb: String,
    /// `application`, `service`, `secret`, `hook`, `custom-resource`, `resource-definition`, `user`, `organization`,
    /// `quota`, `cluster`, `worker`, `join-token`, `api-token` or `audit`.
    resource: String,
    /// Name or id of a cluster: asks about that one alone. For `cluster`, `worker` and `join-token`.
    cluster: Option<String>,
}

/// Whether it may.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct MayI {
    allowed: bool,
    /// Why not.
    reason: Option<String>,
}

/// Log in with name and password
#[utoipa::path(post, path = "/api/auth/login", tag = "auth", request_body = Login, security(()), responses(
    (status = 200, body = TokenPair),
    (status = 400, description = "The body is not JSON", body = ErrorBody),
    (status = 401, description = "Wrong name or password, or not a member of the organisation", body = ErrorBody),
    (status = 404, description = "No such organisation", body = ErrorBody),
    (status = 422, description = "A field is missing", body = ErrorBody),
    (status = 429, description = "Too many wrong passwords; `Retry-After` says when to try again", body = ErrorBody),
))]
pub(super) async fn log_in(
    State(context): Shared,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    body: Body,
) -> Result<Json<TokenPair>, Error> {
    let login: Login = body::parse(&body?)?;
    let attempt = Attempt {
        name: login.username,
        password: login.password,
        organization: login.organization_name.filter(|name| !name.is_empty()),
        from: from.ip(),
    };
    Ok(Json(context.authentication.log_in(&context.brain, attempt).await?))
}

/// Get a new access token with the refresh token as bearer
#[utoipa::path(post, path = "/api/auth/refresh", tag = "auth", responses(
    (status = 200, body = AccessToken),
    (status = 401, description = "The token is missing, expired or not valid", body = ErrorBody),
    (status = 422, description = "Not a refresh token", body = ErrorBody),
    (status = 502, description = "The identity provider the user logged in at gives no good answer", body = ErrorBody),
))]
pub(super) async fn refresh(State(context): Shared, headers: HeaderMap) -> Result<Json<AccessToken>, Error> {
    let token = context.authentication.refresh(&context.brain, authorization(&headers)).await?;
    Ok(Json(AccessToken { token }))
}

/// End the login that the access token or refresh token is of
#[utoipa::path(post, path = "/api/auth/logout", tag = "auth", responses(
    (status = 200, body = Message),
    (status = 401, description = "The token is missing, expired or not valid", body = ErrorBody),
    (status = 403, description = "An API token: revoke it instead", body = ErrorBody),
))]
pub(super) async fn log_out(State(context): Shared, headers: HeaderMap) -> Result<Json<Message>, Error> {
    context.authentication.log_out(&context.brain, authorization(&headers)).await?;
    Ok(Json(Message { message: "Logged out".to_owned() }))
}

/// Ask whether the caller may do that, in the organisation of the login or at one cluster
#[utoipa::path(get, path = "/api/auth/can-i", tag = "auth", params(Question), responses(
    (status = 200, body = MayI),
    (status = 401, body = ErrorBody),
    (status = 404, description = "No such cluster", body = ErrorBody),
    (status = 422, description = "No such verb or kind of resource, or a cluster has none of it", body = ErrorBody),
))]
pub(super) async fn can_i(
    State(context): Shared,
    caller: Caller,
    question: Result<Query<Question>, QueryRejection>,
) -> Result<Json<MayI>, Error> {
    let Query(question) = question.map_err(|rejection| Error::bad_field("query", rejection.body_text()))?;
    let verb = question.verb.parse().map_err(|error| Error::bad_field("verb", format!("{error}")))?;
    let kind: Kind =
        question.resource.parse().map_err(|error| Error::bad_field("resource", format!("{error}")))?;
    let verdict = match question.cluster {
        None => caller.may_usually(verb, kind),
        Some(_) if !kind.is_of_clusters() => {
            let message = format!("no {} is of a cluster; ask without `cluster`", kind.as_str());
            return Err(Error::bad_field("cluster", message));
        }
        Some(cluster) => {
            let found = workers::find(&*context.brain.read().await, &cluster);
            let of = workers::owner(&found);
            // Who does not look at all clusters is not told which there are.
            if caller.may_usually(Verb::Get, Kind::Cluster) == Verdict::Allowed {
                found?;
            }
            caller.may(verb, kind, of)
        }
    };
    Ok(Json(match verdict {
        Verdict::Allowed => MayI { allowed: true, reason: None },
        Verdict::Hidden => MayI { allowed: false, reason: None },
        Verdict::Refused(refused) => MayI { allowed: false, reason: Some(refused.to_string()) },
    }))
}

/// The keys by which others check access tokens (JWKS)
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "auth", security(()), responses(
    (status = 200, body = Object),
))]
pub(super) async fn public_keys(State(context): Shared) -> Json<Value> {
    Json(serde_json::to_value(context.authentication.public_keys()).expect("public keys serialise to JSON"))
}
