//! Organisations and who is in them.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use model::{OrganizationId, UserId};
use root_core::{
    Organization, PeopleRejected, Quota, State as Truth,
    access::{Kind, Of, Role, Verb, Verdict},
};
use serde::Deserialize;

use super::{
    Body, Path, Shared, State,
    applications::Message,
    body,
    error::{Error, ErrorBody},
    users::read_roles,
    views::{self, OrganizationView, QuotaView},
};
use crate::auth::Caller;

const LONGEST_NAME: usize = 64;
/// Each is looked up; an organisation of more is many.
const MOST_MEMBERS: usize = 10_000;

/// An organisation to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct NewOrganization {
    name: String,
    #[serde(default)]
    member: Vec<Member>,
}

/// What is changed about an organisation; what is absent or `null` stays.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct OrganizationChange {
    name: Option<String>,
    /// All its members: who is not in the list is one no more.
    member: Option<Vec<Member>>,
}

/// What the applications of an organisation may take; what is absent or `null` is not limited.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    instances: Option<u64>,
    /// Whole processor cores.
    vcpus: Option<u64>,
    /// MiB.
    memory: Option<u64>,
    /// MiB.
    storage: Option<u64>,
}

/// A member of an organisation.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(crate) struct Member {
    user_id: String,
    #[serde(default)]
    roles: Vec<String>,
}

/// List the organisations the caller may look at: the caller's, for an administrator of the platform all
#[utoipa::path(get, path = "/api/organization", tag = "organizations", responses(
    (status = 200, body = Vec<OrganizationView>),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For administrators", body = ErrorBody),
))]
pub(super) async fn list(
    State(context): Shared,
    caller: Caller,
) -> Result<Json<Vec<OrganizationView>>, Error> {
    caller.must(Verb::Get, Kind::Organization)?;
    let state = context.brain.read().await;
    let seen = state.organizations().filter(|organization| {
        caller.may(Verb::Get, Kind::Organization, Of::Organization(organization.id)) == Verdict::Allowed
    });
    Ok(Json(seen.map(views::organization).collect()))
}

/// Make an organisation
///
/// The answer is the new id as a JSON text within a JSON text, as Oakestra's dashboard reads it.
#[utoipa::path(post, path = "/api/organization", tag = "organizations", request_body = NewOrganization, responses(
    (status = 200, body = String),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For administrators of the platform", body = ErrorBody),
    (status = 409, description = "There is one of that name", body = ErrorBody),
    (status = 422, description = "A field is missing or out of range", body = ErrorBody),
))]
pub(super) async fn create(
    State(context): Shared,
    caller: Caller,
    body: Body,
) -> Result<Json<String>, Error> {
    caller.must(Verb::Create, Kind::Organization)?;
    let wanted: NewOrganization = body::parse(&body?)?;
    check_name(&wanted.name)?;
    let members = read_members(&*context.brain.read().await, &wanted.member)?;
    let organization = Organization {
        id: daemon::fresh_organization_id(),
        name: wanted.name,
        members,
        quota: Quota::default(),
    };
    let id = organization.id;
    context
        .brain
        .ask(move |state, _| {
            Ok::<_, PeopleRejected>(((), state.create_organization(&caller.rights, organization)?))
        })
        .await??;
    Ok(Json(format!("\"{id}\"")))
}

/// Change the name or the members of an organisation
#[utoipa::path(put, path = "/api/organization/{id}", tag = "organizations",
    params(("id" = String, Path, description = "Organisation id")), request_body = OrganizationChange, responses(
    (status = 200, body = Message),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For administrators, with roles they hold", body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "There is one of that name, or nobody would administrate the platform", body = ErrorBody),
    (status = 422, description = "A field is out of range, or names nobody", body = ErrorBody),
))]
pub(super) async fn update(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Message>, Error> {
    let id = parse_id(&caller, Verb::Update, Kind::Organization, &id)?;
    // Whoever may not change the organisation is not told what is wrong with the document.
    context.brain.read().await.organization_in_reach(&caller.rights, Verb::Update, Kind::Organization, id)?;
    let wanted: OrganizationChange = body::parse(&body?)?;
    if let Some(name) = &wanted.name {
        check_name(name)?;
    }
    let members = match wanted.member {
        Some(members) => Some(read_members(&*context.brain.read().await, &members)?),
        None => None,
    };
    context
        .brain
        .ask(move |state, _| {
            let changes = state.change_organization(&caller.rights, id, wanted.name, members)?;
            Ok::<_, PeopleRejected>(((), changes))
        })
        .await??;
    Ok(Json(Message { message: "Organization is updated".to_owned() }))
}

/// Remove an organisation that has no applications; its members stay users
#[utoipa::path(delete, path = "/api/organization/{id}", tag = "organizations",
    params(("id" = String, Path, description = "Organisation id")), responses(
    (status = 200, body = Message),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For administrators of the platform", body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It has applications, or is `root`", body = ErrorBody),
))]
pub(super) async fn delete(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Message>, Error> {
    let id = parse_id(&caller, Verb::Delete, Kind::Organization, &id)?;
    context
        .brain
        .ask(move |state, _| Ok::<_, PeopleRejected>(((), state.delete_organization(&caller.rights, id)?)))
        .await??;
    Ok(Json(Message { message: "Organization deleted".to_owned() }))
}

/// Show what the applications of an organisation may take, and what they take
#[utoipa::path(get, path = "/api/organization/{id}/quota", tag = "organizations",
    params(("id" = String, Path, description = "Organisation id")), responses(
    (status = 200, body = QuotaView),
    (status = 401, body = ErrorBody),
    (status = 403, description = "No role that may", body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn get_quota(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<QuotaView>, Error> {
    let id = parse_id(&caller, Verb::Get, Kind::Quota, &id)?;
    let state = context.brain.read().await;
    let organization = state.organization_in_reach(&caller.rights, Verb::Get, Kind::Quota, id)?;
    Ok(Json(views::quota(&state, organization)))
}

/// Set what the applications of an organisation may take
///
/// What is absent or `null` is not limited. What is taken already stays, whatever the quota; nothing more is let be taken.
#[utoipa::path(put, path = "/api/organization/{id}/quota", tag = "organizations",
    params(("id" = String, Path, description = "Organisation id")), request_body = Limits, responses(
    (status = 200, body = QuotaView),
    (status = 400, description = "Not JSON", body = ErrorBody),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For administrators of the platform", body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 422, description = "A field is unknown or out of range", body = ErrorBody),
))]
pub(super) async fn set_quota(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<QuotaView>, Error> {
    let id = parse_id(&caller, Verb::Update, Kind::Quota, &id)?;
    context.brain.read().await.organization_in_reach(&caller.rights, Verb::Update, Kind::Quota, id)?;
    let Limits { instances, vcpus, memory, storage } = body::parse(&body?)?;
    let quota = Quota { instances, vcpus, memory, storage };
    let by = caller.rights.clone();
    context
        .brain
        .ask(move |state, _| Ok::<_, PeopleRejected>(((), state.set_quota(&by, id, quota)?)))
        .await??;
    let state = context.brain.read().await;
    let organization = state.organization_in_reach(&caller.rights, Verb::Get, Kind::Quota, id)?;
    Ok(Json(views::quota(&state, organization)))
}

/// What is no id is no organisation; whoever may not do that to any is told so first.
fn parse_id(caller: &Caller, verb: Verb, kind: Kind, text: &str) -> Result<OrganizationId, Error> {
    let absent = |_| PeopleRejected::NoOrganization(text.to_owned());
    let parsed = text.parse().map_err(absent);
    if parsed.is_err() {
        caller.must(verb, kind)?;
    }
    Ok(parsed?)
}

fn read_members(state: &Truth, members: &[Member]) -> Result<BTreeMap<UserId, BTreeSet<Role>>, Error> {
    if members.len() > MOST_MEMBERS {
        return Err(Error::bad_field(
            "member",
            format!("an organisation has at most {MOST_MEMBERS} members"),
        ));
    }
    let read = |(index, member): (usize, &Member)| {
        let field = format!("member[{index}].user_id");
        let user = member.user_id.parse().map_err(|error| Error::bad_field(&field, format!("{error}")))?;
        Ok((user, read_roles(state, &format!("member[{index}].roles"), &member.roles)?))
    };
    members.iter().enumerate().map(read).collect()
}

pub(super) fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_. ".contains(letter);
    let is_name = !name.trim().is_empty() && name.len() <= LONGEST_NAME && name.chars().all(allowed);
    if is_name {
        return Ok(());
    }
    let message = format!("name must have 1 to {LONGEST_NAME} letters, digits, `-`, `_`, `.` or spaces");
    Err(Error::bad_field("name", message))
}
