//! Users: who may log in, and their passwords.

use std::{collections::BTreeSet, net::SocketAddr};

use axum::{Json, extract::ConnectInfo, http::StatusCode};
use link::secret_hash;
use model::{OrganizationId, UserId};
use root_core::{
    NewUser, PasswordReset, PeopleRejected, State as Truth, User, UserChange,
    access::{Kind, Role, Verb},
};
use serde::{Deserialize, Serialize};

use super::{
    Body, Context, Path, Shared, State, body, clusters,
    error::{Error, ErrorBody},
    views::{self, UserView},
};
use crate::auth::{AuthError, Caller};

const LONGEST_NAME: usize = 64;
const LONGEST_EMAIL: usize = 254;
/// Long enough for any phrase; hashing takes as long for all of them.
const LONGEST_PASSWORD: usize = 512;
/// A reset token is used at once, or asked for again.
const RESET_SECONDS: u64 = 3600;

/// A user to be made.
#[derive(Deserialize, utoipa::ToSchema)]
pub(crate) struct Registration {
    /// Letters, digits, `-`, `_`, `.`, `@` and `+`.
    name: String,
    password: String,
    #[serde(default)]
    email: String,
    /// `dd/MM/yyyy HH:mm`; now, if not given.
    created_at: Option<String>,
    /// What it is in the caller's organisation. `Infrastructure_Provider@` and the name or id of a cluster is for that one
    /// alone.
    #[serde(default)]
    roles: Vec<String>,
}

/// What is changed about a user; what is absent, `null` or an empty password stays. What else is sent is ignored.
#[derive(Deserialize, utoipa::ToSchema)]
pub(crate) struct Change {
    /// The name it has: it cannot be changed.
    name: Option<String>,
    email: Option<String>,
    /// Another password, set by an administrator.
    password: Option<String>,
    /// What it shall be in the caller's organisation.
    roles: Option<Vec<String>>,
}

/// Another password, by the user.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PasswordChange {
    old_password: String,
    new_password: String,
}

/// Who has forgotten the password.
#[derive(Deserialize, utoipa::ToSchema)]
pub(crate) struct Forgotten {
    #[expect(dead_code, reason = "the answer is the same for everybody")]
    username: String,
}

/// Another password, by who was given a reset token.
#[derive(Deserialize, utoipa::ToSchema)]
pub(crate) struct Redemption {
    token: String,
    password: String,
}

/// What sets another password, once.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct ResetToken {
    /// For `PUT /api/user/` or `mangrove password --reset-token`.
    token: String,
    /// RFC 3339.
    expires_at: String,
}

/// An object without fields.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Done {}

/// What a user is in the organisation of the login.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Permissions {
    roles: Vec<String>,
}

/// Make a user, a member of the caller's organisation
#[utoipa::path(post, path = "/api/auth/register", tag = "users", request_body = Registration, responses(
    (status = 200, body = UserView),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For administrators, with roles they hold", body = ErrorBody),
    (status = 409, description = "There is one of that name", body = ErrorBody),
    (status = 422, description = "A field is missing or out of range", body = ErrorBody),
))]
pub(super) async fn register(
    State(context): Shared,
    caller: Caller,
    body: Body,
) -> Result<Json<UserView>, Error> {
    caller.must(Verb::Create, Kind::User)?;
    let wanted: Registration = body::parse(&body?)?;
    check_name(&wanted.name)?;
    check_email(&wanted.email)?;
    check_password("password", &wanted.password)?;
    let roles = read_roles(&*context.brain.read().await, "roles", &wanted.roles)?;
    let created_at = wanted.created_at.unwrap_or_else(|| views::date(daemon::now()));
    if created_at.len() > LONGEST_NAME {
        return Err(Error::bad_field("created_at", "created_at must be a date, as dd/MM/yyyy HH:mm"));
    }
    let user = User {
        id: daemon::fresh_user_id(),
        name: wanted.name,
        email: wanted.email,
        created_at,
        password_hash: hash(&context, wanted.password).await?,
        epoch: 0,
        reset: None,
        provider: None,
    };
    let (id, organization) = (user.id, caller.organization);
    context
        .brain
        .ask(move |state, _| {
            let changes = state.register(&caller.rights, NewUser { user, roles })?;
            Ok::<_, PeopleRejected>(((), changes))
        })
        .await??;
    let state = context.brain.read().await;
    let made = state.user(id).ok_or_else(|| PeopleRejected::NoUser(id.to_string()))?;
    Ok(Json(views::user(&state, made, organization)))
}

/// Show a user: oneself, or a member of the organisation to its administrators
#[utoipa::path(get, path = "/api/user/{name}", tag = "users",
    params(("name" = String, Path, description = "Name of the user")), responses(
    (status = 200, body = UserView),
    (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn get(
    State(context): Shared,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<UserView>, Error> {
    let state = context.brain.read().await;
    let user = state.user_seen_by(&caller.rights, &name)?;
    Ok(Json(views::user(&state, user, caller.organization)))
}

/// Change one's own password; ends all one's logins and revokes one's API tokens
#[utoipa::path(post, path = "/api/user/{name}", tag = "users",
    params(("name" = String, Path, description = "Name of the caller")), request_body = PasswordChange, responses(
    (status = 200, body = Done),
    (status = 400, description = "Not JSON, not the old password, or the new one is the old one", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "Not the caller's name, or an API token", body = ErrorBody),
    (status = 422, description = "A field is missing or out of range", body = ErrorBody),
    (status = 429, description = "Too many wrong passwords", body = ErrorBody),
))]
pub(super) async fn change_password(
    State(context): Shared,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    caller: Caller,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Done>, Error> {
    if name != caller.name {
        return Err(Error::forbidden(
            "You have not enough permissions! This is for the user alone; give your own name.",
        ));
    }
    if caller.api_token.is_some() {
        return Err(AuthError::NeedsLogin.into());
    }
    let wanted: PasswordChange = body::parse(&body?)?;
    check_password("newPassword", &wanted.new_password)?;
    let user = context.brain.read().await.user(caller.id).cloned();
    let is_same = wanted.new_password == wanted.old_password;
    let checked =
        context.authentication.check_password(&name, wanted.old_password, user.as_ref(), from.ip()).await;
    match checked {
        Ok(()) if is_same => {
            let message = "The old password can't be the new password!";
            return Err(Error::new(StatusCode::BAD_REQUEST, "same_password", message));
        }
        Ok(()) => {}
        Err(AuthError::Credentials) => {
            let message = "Old password is not valid!";
            return Err(Error::new(StatusCode::BAD_REQUEST, "wrong_password", message));
        }
        Err(other) => return Err(other.into()),
    }
    let hash = hash(&context, wanted.new_password).await?;
    context
        .brain
        .ask(move |state, _| Ok::<_, PeopleRejected>(((), state.change_own_password(caller.id, hash))))
        .await??;
    Ok(Json(Done {}))
}

/// Change a user: its roles in the caller's organisation, its address, its password
///
/// Another password ends all its logins and revokes its API tokens. Everybody may change their own address.
#[utoipa::path(put, path = "/api/user/{name}", tag = "users",
    params(("name" = String, Path, description = "Name of the user")), request_body = Change, responses(
    (status = 200, body = String),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For administrators, and not of who holds more", body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "Another name, or nobody would administrate the platform", body = ErrorBody),
    (status = 422, description = "A field is out of range", body = ErrorBody),
))]
pub(super) async fn update(
    State(context): Shared,
    caller: Caller,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<&'static str>, Error> {
    // Whoever may not change the user is not told what is wrong with the document.
    context.brain.read().await.change_user(&caller.rights, &name, UserChange::default())?;
    let wanted: Change = body::parse(&body?)?;
    if wanted.name.is_some_and(|sent| sent != name) {
        let message = "a user keeps its name; make another user instead";
        return Err(Error::new(StatusCode::CONFLICT, "not_changeable", message));
    }
    if let Some(email) = &wanted.email {
        check_email(email)?;
    }
    let password_hash = match wanted.password.filter(|password| !password.is_empty()) {
        Some(password) => {
            check_password("password", &password)?;
            Some(hash(&context, password).await?)
        }
        None => None,
    };
    let roles = match wanted.roles {
        Some(roles) => Some(read_roles(&*context.brain.read().await, "roles", &roles)?),
        None => None,
    };
    let change = UserChange { email: wanted.email, password_hash, roles };
    context
        .brain
        .ask(move |state, _| {
            let changes = state.change_user(&caller.rights, &name, change)?;
            Ok::<_, PeopleRejected>(((), changes))
        })
        .await??;
    Ok(Json("ok"))
}

/// Remove a user with its logins and API tokens; answers with those that are left
///
/// What the user made stays its organisation's.
#[utoipa::path(delete, path = "/api/user/{name}", tag = "users",
    params(("name" = String, Path, description = "Name of the user")), responses(
    (status = 200, body = Vec<UserView>),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For administrators, and not of who holds more", body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "Nobody would administrate the platform", body = ErrorBody),
))]
pub(super) async fn delete(
    State(context): Shared,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Vec<UserView>>, Error> {
    let by = caller.rights.clone();
    context
        .brain
        .ask(move |state, _| Ok::<_, PeopleRejected>(((), state.delete_user(&by, &name)?)))
        .await??;
    Ok(Json(seen_by(&context, &caller).await))
}

/// Make a token by which a user sets another password, once and within an hour
///
/// Nothing is sent to the user: whoever asks hands the token over.
#[utoipa::path(post, path = "/api/user/{name}/reset", tag = "users",
    params(("name" = String, Path, description = "Name of the user")), responses(
    (status = 200, body = ResetToken),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For administrators, and not of who holds more", body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn offer_reset(
    State(context): Shared,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<ResetToken>, Error> {
    let secret = daemon::random_hex::<32>();
    let kept = secret_hash(&secret);
    let (user, expires_at) = context
        .brain
        .ask(move |state, now| {
            let expires_at = now.date.plus_millis(RESET_SECONDS * 1000);
            let reset = PasswordReset { secret_hash: kept, expires_at };
            let (user, changes) = state.offer_reset(&caller.rights, &name, reset)?;
            Ok::<_, PeopleRejected>(((user, expires_at), changes))
        })
        .await??;
    Ok(Json(ResetToken { token: format!("{user}.{secret}"), expires_at: views::rfc3339(expires_at) }))
}

/// Always refused: the root sends no mail; an administrator makes reset tokens
#[utoipa::path(post, path = "/api/user", tag = "users", request_body = Forgotten, security(()), responses(
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 404, description = "Whoever the user is", body = ErrorBody),
    (status = 422, description = "A field is missing", body = ErrorBody),
))]
pub(super) async fn no_mail(body: Body) -> Result<Json<Done>, Error> {
    let Forgotten { .. } = body::parse(&body?)?;
    let message = "no mail can be sent to a user of that name; ask an administrator for a reset token \
                   (`mangrove user reset-password NAME`)";
    Err(Error::new(StatusCode::NOT_FOUND, "no_mail", message))
}

/// Set another password by a reset token
#[utoipa::path(put, path = "/api/user", tag = "users", request_body = Redemption, security(()), responses(
    (status = 200, body = Done),
    (status = 400, description = "Not JSON, or not a good token", body = ErrorBody),
    (status = 422, description = "A field is missing or out of range", body = ErrorBody),
))]
pub(super) async fn redeem_reset(State(context): Shared, body: Body) -> Result<Json<Done>, Error> {
    let Redemption { token, password } = body::parse(&body?)?;
    check_password("password", &password)?;
    let (user, secret) = token.split_once('.').ok_or(PeopleRejected::ResetInvalid)?;
    let user: UserId = user.parse().map_err(|_| PeopleRejected::ResetInvalid)?;
    let secret = secret_hash(secret);
    // Before the costly hash too: nobody shall make the root work by guessing.
    context.brain.read().await.check_reset(user, &secret, daemon::now())?;
    let hash = hash(&context, password).await?;
    context
        .brain
        .ask(move |state, now| {
            state.check_reset(user, &secret, now.date)?;
            Ok::<_, PeopleRejected>(((), state.change_own_password(user, hash)))
        })
        .await??;
    Ok(Json(Done {}))
}

/// List the users the caller may look at: the members of the organisation, for an administrator of the platform all
///
/// Their roles are those in the caller's organisation.
#[utoipa::path(get, path = "/api/users", tag = "users", responses(
    (status = 200, body = Vec<UserView>),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For administrators", body = ErrorBody),
))]
pub(super) async fn list(State(context): Shared, caller: Caller) -> Result<Json<Vec<UserView>>, Error> {
    caller.must(Verb::Get, Kind::User)?;
    Ok(Json(seen_by(&context, &caller).await))
}

/// List the members of an organisation with their roles there
#[utoipa::path(get, path = "/api/users/{organization}", tag = "users",
    params(("organization" = String, Path, description = "Organisation id")), responses(
    (status = 200, body = Vec<UserView>),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For administrators", body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn list_of_organization(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Vec<UserView>>, Error> {
    let state = context.brain.read().await;
    let found = id.parse::<OrganizationId>().ok().and_then(|id| state.organization(id));
    let found = found.map(|organization| (organization, organization.id));
    let absent = || PeopleRejected::NoOrganization(id.clone()).into();
    let organization = caller.must_for(Verb::Get, Kind::User, found, absent)?;
    let members = organization.members.keys().filter_map(|id| state.user(*id));
    Ok(Json(members.map(|user| views::user(&state, user, organization.id)).collect()))
}

/// Show the caller's roles in the organisation of the login
#[utoipa::path(get, path = "/api/permission/{name}", tag = "users",
    params(("name" = String, Path, description = "Name of the caller")), responses(
    (status = 200, body = Permissions),
    (status = 401, body = ErrorBody),
    (status = 403, description = "Not the caller's name", body = ErrorBody),
))]
pub(super) async fn permissions(
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Permissions>, Error> {
    if name != caller.name {
        return Err(Error::forbidden("You have not enough permissions! Roles are shown to the user alone."));
    }
    Ok(Json(Permissions { roles: caller.rights.roles.iter().map(ToString::to_string).collect() }))
}

async fn seen_by(context: &Context, caller: &Caller) -> Vec<UserView> {
    let state = context.brain.read().await;
    let everybody = caller.rights.is_platform_admin();
    let is_member = |user: &&User| state.rights(user.id, caller.organization).is_some();
    let seen = state.users().filter(|user| everybody || is_member(user));
    seen.map(|user| views::user(&state, user, caller.organization)).collect()
}

async fn hash(context: &Context, password: String) -> Result<String, Error> {
    context.authentication.passwords.hash(password).await.map_err(|error| {
        tracing::error!(error = format!("{error:#}"), "a password cannot be hashed");
        let message = "the password cannot be hashed now; the root's log says why";
        Error::new(StatusCode::SERVICE_UNAVAILABLE, "no_hash", message)
    })
}

/// Roles by their words; a role for one cluster says its name or id.
pub(super) fn read_roles(state: &Truth, field: &str, texts: &[String]) -> Result<BTreeSet<Role>, Error> {
    let read = |(index, text): (usize, &String)| {
        let role = clusters::with_id(state, text).parse();
        role.map_err(|error| Error::bad_field(&format!("{field}[{index}]"), format!("{error}")))
    };
    texts.iter().enumerate().map(read).collect()
}

fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.@+".contains(letter);
    let leads_elsewhere = name.bytes().all(|byte| byte == b'.');
    if !leads_elsewhere && name.len() <= LONGEST_NAME && name.chars().all(allowed) {
        return Ok(());
    }
    let message = format!("name must have 1 to {LONGEST_NAME} letters, digits, `-`, `_`, `.`, `@` or `+`");
    Err(Error::bad_field("name", message))
}

fn check_email(email: &str) -> Result<(), Error> {
    if email.len() <= LONGEST_EMAIL && !email.chars().any(char::is_control) {
        return Ok(());
    }
    let message = format!("email must have at most {LONGEST_EMAIL} bytes and no control characters");
    Err(Error::bad_field("email", message))
}

fn check_password(field: &str, password: &str) -> Result<(), Error> {
    if (1..=LONGEST_PASSWORD).contains(&password.len()) {
        return Ok(());
    }
    Err(Error::bad_field(field, format!("{field} must have 1 to {LONGEST_PASSWORD} bytes")))
}
