//! Users, organisations and API tokens as they are shown. Hashes of passwords and secrets have no place here.

use model::OrganizationId;
use root_core::{ApiToken, Organization, Quota, State, User};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Oid, rfc3339};

/// A user.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct UserView {
    _id: Oid,
    name: String,
    email: String,
    /// `dd/MM/yyyy HH:mm`.
    created_at: String,
    /// What it is in the organisation that was asked about.
    roles: Vec<String>,
}

/// A user as a member of an organisation.
pub(crate) fn user(state: &State, user: &User, organization: OrganizationId) -> UserView {
    let roles = state.organization(organization).and_then(|organization| organization.members.get(&user.id));
    UserView {
        _id: Oid::of(user.id),
        name: user.name.clone(),
        email: user.email.clone(),
        created_at: user.created_at.clone(),
        roles: roles.into_iter().flatten().map(ToString::to_string).collect(),
    }
}

/// An organisation.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct OrganizationView {
    _id: Oid,
    name: String,
    member: Vec<MemberView>,
}

/// A member of an organisation.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct MemberView {
    user_id: String,
    roles: Vec<String>,
}

pub(crate) fn organization(organization: &Organization) -> OrganizationView {
    let members = organization.members.iter();
    OrganizationView {
        _id: Oid::of(organization.id),
        name: organization.name.clone(),
        member: members
            .map(|(user, roles)| MemberView {
                user_id: user.to_string(),
                roles: roles.iter().map(ToString::to_string).collect(),
            })
            .collect(),
    }
}

/// What the applications of an organisation may take, and what they take.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct QuotaView {
    /// `null` is not limited.
    quota: QuotaAmounts<Option<u64>>,
    usage: QuotaAmounts<u64>,
}

/// Amounts.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct QuotaAmounts<T> {
    instances: T,
    /// Processor cores.
    vcpus: T,
    /// MiB.
    memory: T,
    /// MiB.
    storage: T,
}

pub(crate) fn quota(state: &State, organization: &Organization) -> QuotaView {
    let usage = state.quota_usage(organization.id);
    let Quota { instances, vcpus, memory, storage } = organization.quota;
    QuotaView {
        quota: QuotaAmounts { instances, vcpus, memory, storage },
        usage: QuotaAmounts {
            instances: usage.instances,
            vcpus: usage.vcpus(),
            memory: usage.memory,
            storage: usage.storage,
        },
    }
}

/// An API token; its text is shown only when it is made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApiTokenView {
    id: String,
    /// Whoever has this may what its scopes say, as `Authorization: Bearer …`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    name: String,
    /// What it is limited to; `null` is all its user may.
    scopes: Option<Vec<String>>,
    /// RFC 3339.
    created: String,
    /// RFC 3339.
    expires_at: String,
}

pub(crate) fn api_token(token: &ApiToken, text: Option<String>) -> ApiTokenView {
    ApiTokenView {
        id: token.id.to_string(),
        token: text,
        name: token.name.clone(),
        scopes: token.scopes.as_ref().map(|scopes| scopes.iter().map(ToString::to_string).collect()),
        created: rfc3339(token.created),
        expires_at: rfc3339(token.expires_at),
    }
}
