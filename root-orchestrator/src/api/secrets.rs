//! Secrets of the caller's organisation. Values come in and never go out.

use axum::{Json, http::StatusCode};
use link::SecretValue;
use model::{RegistryCredentials, SecretVersionId};
use root_core::{
    NewSecret, Rotation, Secret, SecretKind, State as Truth,
    access::{Kind as Resource, Verb},
    sla::{MAX_SECRET_BYTES, MAX_SECRET_NAME_LENGTH, is_secret_name},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::{
    Body, Path, Shared, State,
    applications::Message,
    body,
    error::{Error, ErrorBody},
    views,
};
use crate::auth::Caller;

/// What a secret is for.
#[derive(Clone, Copy, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Bytes that instances are given.
    Opaque,
    /// A login at a registry, for fetching images.
    Registry,
}

impl From<SecretKind> for Kind {
    fn from(kind: SecretKind) -> Self {
        match kind {
            SecretKind::Opaque => Self::Opaque,
            SecretKind::Registry => Self::Registry,
        }
    }
}

impl From<Kind> for SecretKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Opaque => Self::Opaque,
            Kind::Registry => Self::Registry,
        }
    }
}

/// A value: `text` or `data` for an opaque secret, `registry` for one of that kind. Never printed.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewValue {
    /// `opaque` if not given. A new version is of the kind of the one before.
    kind: Option<Kind>,
    /// The value itself, when it is text.
    text: Option<String>,
    /// The value in base64.
    data: Option<String>,
    /// A login.
    registry: Option<Registry>,
}

/// A secret to be made. Never printed.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSecretBody {
    /// Up to 63 letters, digits, `-`, `_` and `.`, a letter or digit first.
    #[schema(example = "database-password")]
    name: String,
    /// `opaque` if not given.
    kind: Option<Kind>,
    /// The value itself, when it is text.
    text: Option<String>,
    /// The value in base64.
    data: Option<String>,
    /// A login.
    registry: Option<Registry>,
}

/// A login at a registry. Never printed.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Registry {
    /// Host, with the port if there is one.
    #[schema(example = "registry.example:5000")]
    server: String,
    username: String,
    password: String,
}

/// A secret, without its value.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SecretView {
    id: String,
    name: String,
    /// `opaque` or `registry`.
    kind: &'static str,
    /// The newest.
    version: u32,
    /// When that was made; RFC 3339.
    updated_at: String,
    /// The versions that are kept: the newest, and those of revisions of services.
    versions: Vec<SecretVersionView>,
    /// Full names of the services that use it.
    users: Vec<String>,
}

/// A version of a secret, without its value.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SecretVersionView {
    number: u32,
    /// RFC 3339.
    created: String,
}

/// The answer to a new version.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Rotated {
    message: String,
    version: u32,
    /// Full names of the services whose instances give way to ones that have it.
    users: Vec<String>,
}

/// List the secrets of the organisation, without their values
#[utoipa::path(get, path = "/api/v1/secrets", tag = "secrets", responses(
    (status = 200, body = Vec<SecretView>),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
))]
pub(super) async fn list(State(context): Shared, caller: Caller) -> Result<Json<Vec<SecretView>>, Error> {
    caller.must(Verb::Get, Resource::Secret)?;
    let state = context.brain.read().await;
    let mut users = state.secret_users();
    let view = |secret: &Secret| SecretView {
        id: secret.id.to_string(),
        name: secret.name.clone(),
        kind: secret.kind.as_str(),
        version: secret.newest(),
        updated_at: secret.versions.last().map(|it| views::rfc3339(it.created)).unwrap_or_default(),
        versions: secret
            .versions
            .iter()
            .map(|it| SecretVersionView { number: it.number, created: views::rfc3339(it.created) })
            .collect(),
        users: names(&state, users.remove(&secret.id).unwrap_or_default()),
    };
    Ok(Json(state.secrets_of(caller.organization).map(view).collect()))
}

/// Make a secret
#[utoipa::path(post, path = "/api/v1/secrets", tag = "secrets", request_body = NewSecretBody, responses(
    (status = 201, body = Message),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 409, description = "There is one of that name", body = ErrorBody),
    (status = 422, description = "A field is missing or out of range", body = ErrorBody),
))]
pub(super) async fn create(
    State(context): Shared,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<Message>), Error> {
    caller.must(Verb::Create, Resource::Secret)?;
    let NewSecretBody { name, kind, text, data, registry } = parse(&body?)?;
    if !is_secret_name(&name) {
        let message = format!(
            "name must be up to {MAX_SECRET_NAME_LENGTH} letters, digits, `-`, `_` and `.`, a letter or digit first"
        );
        return Err(Error::bad_field("name", message));
    }
    let (kind, value) = read(NewValue { kind, text, data, registry })?;
    let organization = caller.organization;
    let wanted = NewSecret { id: daemon::fresh_secret_id(), organization, name, kind };
    let vault = context.vault;
    let seal = move |version: SecretVersionId| vault.seal(version, &value);
    context.brain.ask(move |state, now| state.create_secret(wanted, now.date, seal)).await??;
    Ok((StatusCode::CREATED, Json(Message { message: "version 1 is stored".to_owned() })))
}

/// Give a secret a new value
///
/// The services that use it get a revision with it, and their instances give way one after another.
#[utoipa::path(put, path = "/api/v1/secrets/{name}", tag = "secrets",
    params(("name" = String, Path, description = "Its name")), request_body = NewValue, responses(
    (status = 200, body = Rotated),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 422, description = "A field is missing or out of range, or it is of another kind", body = ErrorBody),
))]
pub(super) async fn rotate(
    State(context): Shared,
    caller: Caller,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Rotated>, Error> {
    caller.must(Verb::Update, Resource::Secret)?;
    let (kind, value) = read(parse(&body?)?)?;
    let vault = context.vault;
    let seal = move |version: SecretVersionId| vault.seal(version, &value);
    let organization = caller.organization;
    let Rotation { version, users } = context
        .brain
        .ask(move |state, now| state.rotate_secret(organization, &name, kind, now.date, seal))
        .await??;
    let users = names(&*context.brain.read().await, users);
    let message = match users.len() {
        0 => format!("version {version} is stored; no service uses it"),
        1 => format!("version {version} is stored; 1 service is being updated"),
        count => format!("version {version} is stored; {count} services are being updated"),
    };
    Ok(Json(Rotated { message, version, users }))
}

/// Delete a secret that no service uses
#[utoipa::path(delete, path = "/api/v1/secrets/{name}", tag = "secrets",
    params(("name" = String, Path, description = "Its name")), responses(
    (status = 200, body = Message),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "Services use it; the message names them", body = ErrorBody),
))]
pub(super) async fn delete(
    State(context): Shared,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Message>, Error> {
    caller.must(Verb::Delete, Resource::Secret)?;
    context.brain.ask(move |state, _| state.delete_secret(caller.organization, &name)).await??;
    Ok(Json(Message { message: "Secret deleted".to_owned() }))
}

fn names(state: &Truth, services: impl IntoIterator<Item = model::ServiceId>) -> Vec<String> {
    let known = services.into_iter().filter_map(|id| state.service(id));
    known.map(|service| service.names.to_string()).collect()
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let expected = "`name` (for a new one), `kind` (opaque or registry), and `text` or `data`, or `registry` with `server`, \
                    `username` and `password`; all of them strings";
    body::parse_unshown(body, expected)
}

/// The value a body has, of the kind it says; the error names the field and shows nothing of it.
fn read(body: NewValue) -> Result<(SecretKind, SecretValue), Error> {
    let kind = SecretKind::from(body.kind.unwrap_or(Kind::Opaque));
    let (field, value) = match (kind, body.text, body.data, body.registry) {
        (SecretKind::Opaque, Some(text), None, None) => ("text", text.into_bytes()),
        (SecretKind::Opaque, None, Some(data), None) => {
            let data = Zeroizing::new(data);
            let decoded = data_encoding::BASE64.decode(data.as_bytes());
            ("data", decoded.map_err(|_| Error::bad_field("data", "data must be base64 with padding"))?)
        }
        (SecretKind::Opaque, ..) => {
            return Err(Error::bad_field(
                "data",
                "a secret of kind opaque has either `text` or `data` (base64), and no `registry`",
            ));
        }
        (SecretKind::Registry, None, None, Some(registry)) => ("registry", credentials(registry)?),
        (SecretKind::Registry, ..) => {
            return Err(Error::bad_field(
                "registry",
                "a secret of kind registry has `registry` with server, username and password, and nothing else",
            ));
        }
    };
    let value = SecretValue::new(value);
    let size = value.reveal().len();
    if size == 0 || size > MAX_SECRET_BYTES {
        let message = format!("{field} must have from 1 to {MAX_SECRET_BYTES} bytes, but has {size}");
        return Err(Error::bad_field(field, message));
    }
    Ok((kind, value))
}

fn credentials(registry: Registry) -> Result<Vec<u8>, Error> {
    let Registry { server, username, password } = registry;
    let is_host = !server.is_empty() && server.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if !is_host {
        let message = "registry.server must be a host, with its port if it has one, such as `registry.example:5000`, \
                       without `https://` or a path";
        return Err(Error::bad_field("registry.server", message));
    }
    for (field, given) in [("registry.username", &username), ("registry.password", &password)] {
        if given.is_empty() {
            return Err(Error::bad_field(field, format!("{field} is empty")));
        }
    }
    let credentials = RegistryCredentials { server, username, password };
    Ok(serde_json::to_vec(&credentials).expect("three texts can be written as JSON"))
}
