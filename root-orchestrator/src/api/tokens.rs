//! Join tokens for clusters and workers.

use axum::{Json, http::StatusCode};
use model::TokenId;
use root_core::{
    Change, JoinKind, State as Truth, Token,
    access::{Kind as Resource, Verb, Verdict, join_token_owner},
};
use serde::{Deserialize, Serialize};

use super::{
    Body, Path, Shared, State,
    applications::Message,
    body,
    error::{Error, ErrorBody},
    views,
};
use crate::{auth::Caller, downlink};

const HOUR_SECONDS: u64 = 3600;
/// A year: long enough for any roll-out, short enough that a forgotten token dies.
const LONGEST_SECONDS: u64 = 365 * 24 * HOUR_SECONDS;
const MOST_USES: u32 = 100_000;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Cluster,
    Worker,
}

/// A token to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    kind: Kind,
    /// For a cluster its name, which is needed; for workers the name of the only cluster they may join, if any.
    cluster: Option<String>,
    /// How many may join with it; 1 if not given.
    uses: Option<u32>,
    /// For how long; an hour if not given.
    ttl_seconds: Option<u64>,
}

/// A token; its text is shown only when it is made.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct TokenView {
    id: String,
    /// Whoever has this may join.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    kind: Kind,
    cluster: Option<String>,
    /// How often it may still be used.
    uses: u32,
    /// RFC 3339.
    expires_at: String,
}

fn view(state: &Truth, token: &Token, text: Option<String>) -> TokenView {
    let (kind, cluster) = match &token.kind {
        JoinKind::Cluster { name } => (Kind::Cluster, Some(name.clone())),
        JoinKind::Worker { cluster } => {
            let name = cluster.and_then(|id| state.cluster(id)).map(|cluster| cluster.name.clone());
            (Kind::Worker, name)
        }
    };
    TokenView {
        id: token.id.to_string(),
        token: text,
        kind,
        cluster,
        uses: token.uses_left,
        expires_at: views::rfc3339(token.expires_at),
    }
}

/// List the join tokens the caller may look at: all, or those of the clusters the caller looks after
#[utoipa::path(get, path = "/api/tokens", tag = "tokens", responses(
    (status = 200, body = Vec<TokenView>),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For those who look after the platform or that cluster", body = ErrorBody),
))]
pub(super) async fn list(State(context): Shared, caller: Caller) -> Result<Json<Vec<TokenView>>, Error> {
    caller.must_somewhere(Verb::Get, Resource::JoinToken)?;
    let state = context.brain.read().await;
    let seen = state.tokens().filter(|token| {
        let of = join_token_owner(&token.kind);
        caller.may(Verb::Get, Resource::JoinToken, of) == Verdict::Allowed
    });
    Ok(Json(seen.map(|token| view(&state, token, None)).collect()))
}

/// Make a join token
#[utoipa::path(post, path = "/api/tokens", tag = "tokens", request_body = NewToken, responses(
    (status = 200, body = TokenView),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For those who look after the platform or that cluster", body = ErrorBody),
    (status = 404, description = "No such cluster", body = ErrorBody),
    (status = 422, description = "A field is missing or out of range", body = ErrorBody),
))]
pub(super) async fn create(
    State(context): Shared,
    caller: Caller,
    body: Body,
) -> Result<Json<TokenView>, Error> {
    caller.must_somewhere(Verb::Create, Resource::JoinToken)?;
    let wanted: NewToken = body::parse(&body?)?;
    let uses = wanted.uses.unwrap_or(1);
    if !(1..=MOST_USES).contains(&uses) {
        return Err(Error::bad_field("uses", format!("uses must be from 1 to {MOST_USES}, not {uses}")));
    }
    let seconds = wanted.ttl_seconds.unwrap_or(HOUR_SECONDS);
    if !(1..=LONGEST_SECONDS).contains(&seconds) {
        let message = format!("ttl_seconds must be from 1 to {LONGEST_SECONDS}, not {seconds}");
        return Err(Error::bad_field("ttl_seconds", message));
    }
    let cluster = wanted.cluster.filter(|name| !name.is_empty());
    if wanted.kind == Kind::Cluster {
        check_cluster_name(cluster.as_deref())?;
    }
    let id = TokenId::new(daemon::fresh_uuid());
    let (text, secret_hash) = downlink::new_token(id, context.ca_pin);
    let token = context
        .brain
        .ask(move |state, now| {
            let kind = join_kind(state, wanted.kind, cluster)?;
            caller.must_of(Verb::Create, Resource::JoinToken, join_token_owner(&kind))?;
            let expires_at = now.date.plus_millis(seconds * 1000);
            let token = Token { id, kind, secret_hash, uses_left: uses, expires_at, used_by: Vec::new() };
            Ok::<_, Error>((token.clone(), vec![Change::Token(id, Some(token))]))
        })
        .await??;
    let state = context.brain.read().await;
    Ok(Json(view(&state, &token, Some(text.reveal()))))
}

fn check_cluster_name(name: Option<&str>) -> Result<(), Error> {
    let name =
        name.ok_or_else(|| Error::bad_field("cluster", "cluster is missing; it names the new cluster"))?;
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if name.len() <= 63 && name.chars().all(allowed) {
        Ok(())
    } else {
        let message = format!("`{name}` is not a cluster name: up to 63 letters, digits, `-`, `_` and `.`");
        Err(Error::bad_field("cluster", message))
    }
}

fn join_kind(state: &Truth, kind: Kind, cluster: Option<String>) -> Result<JoinKind, Error> {
    match (kind, cluster) {
        (Kind::Cluster, name) => Ok(JoinKind::Cluster { name: name.unwrap_or_default() }),
        (Kind::Worker, None) => Ok(JoinKind::Worker { cluster: None }),
        (Kind::Worker, Some(name)) => {
            let found = state.clusters().find(|cluster| cluster.name == name);
            let found = found.ok_or_else(|| Error::no_cluster(&name))?;
            Ok(JoinKind::Worker { cluster: Some(found.id) })
        }
    }
}

/// Revoke a join token; who joined with it stays
#[utoipa::path(delete, path = "/api/tokens/{id}", tag = "tokens",
    params(("id" = String, Path, description = "Token id")), responses(
    (status = 200, body = Message),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For those who look after the platform or that cluster", body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn revoke(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Message>, Error> {
    caller.must_somewhere(Verb::Delete, Resource::JoinToken)?;
    context
        .brain
        .ask(move |state, _| {
            let found = state.tokens().find(|token| token.id.to_string() == id);
            let token = found.ok_or_else(|| {
                let message = format!("there is no token {id}; list them with `mangrove token list`");
                Error::new(StatusCode::NOT_FOUND, "no_token", message)
            })?;
            caller.must_of(Verb::Delete, Resource::JoinToken, join_token_owner(&token.kind))?;
            Ok::<_, Error>(((), vec![Change::Token(token.id, None)]))
        })
        .await??;
    Ok(Json(Message { message: "Token revoked".to_owned() }))
}
