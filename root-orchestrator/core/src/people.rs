//! Users, the organisations they are members of, and what they log in with: the documents, and what is asked of them.
//! What changes them is in `membership.rs` and `sessions.rs`, who may do so in `access.rs`. Passwords are hashed and
//! tokens signed in the shell, `root-orchestrator/src/auth.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use model::{OrganizationId, Timestamp, TokenId, UserId};
use serde::{Deserialize, Serialize};

use crate::{
    Quota, State,
    access::{Rights, Role, Scope},
    oidc::{OfProvider, ProviderLogin},
};

/// Somebody who may log in. Durable.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Who.
    pub id: UserId,
    /// Unique, and never another.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub email: String,
    /// When it was made, as clients of Oakestra write it: `dd/MM/yyyy HH:mm`.
    #[serde(default)]
    pub created_at: String,
    /// An argon2id hash; empty for a user of an identity provider, who has no password here.
    pub password_hash: String,
    /// Counts passwords: what was signed or made for an earlier one is good no more.
    #[serde(default)]
    pub epoch: u32,
    /// The token that sets another password, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<PasswordReset>,
    /// Who that is to the identity provider where the user logs in; `None` for who logs in here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<OfProvider>,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({} {:?}, epoch {}, password withheld)", self.id, self.name, self.epoch)
    }
}

/// What sets another password, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordReset {
    /// SHA-256 of its secret.
    pub secret_hash: String,
    /// It is of no use from then on.
    pub expires_at: Timestamp,
}

/// Whose people share its applications. Durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    /// Which one.
    pub id: OrganizationId,
    /// Unique; what users name when they log in.
    pub name: String,
    /// Who is in it, and what they are there.
    pub members: BTreeMap<UserId, BTreeSet<Role>>,
    /// What its applications may take.
    #[serde(default)]
    pub quota: Quota,
}

/// What a program logs in with in place of its user. Durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiToken {
    /// Which one.
    pub id: TokenId,
    /// Whose it is.
    pub user: UserId,
    /// For which organisation.
    pub organization: OrganizationId,
    /// For people.
    pub name: String,
    /// What it is limited to; `None` is all its user may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<BTreeSet<Scope>>,
    /// SHA-256 of its secret.
    pub secret_hash: String,
    /// When it was made.
    pub created: Timestamp,
    /// It is of no use from then on.
    pub expires_at: Timestamp,
}

/// A login that was ended before its time. Durable until it would have ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedSession {
    /// The `jti` of its refresh token.
    pub id: String,
    /// When that expires.
    pub expires_at: Timestamp,
}

/// One document of these that becomes this, or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeopleChange {
    /// A user.
    User(UserId, Option<User>),
    /// An organisation.
    Organization(OrganizationId, Option<Organization>),
    /// An API token.
    ApiToken(TokenId, Option<ApiToken>),
    /// A login that was ended.
    EndedSession(String, Option<EndedSession>),
    /// A login that began at an identity provider.
    ProviderLogin(String, Option<ProviderLogin>),
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct People {
    pub(crate) users: BTreeMap<UserId, User>,
    /// Follows from the users.
    by_name: BTreeMap<String, UserId>,
    pub(crate) organizations: BTreeMap<OrganizationId, Organization>,
    pub(crate) tokens: BTreeMap<TokenId, ApiToken>,
    pub(crate) ended: BTreeMap<String, EndedSession>,
    pub(crate) provider_logins: BTreeMap<String, ProviderLogin>,
}

impl People {
    /// Takes on a change.
    pub(crate) fn take(&mut self, change: PeopleChange) {
        match change {
            PeopleChange::User(id, user) => {
                // A user keeps its name.
                match &user {
                    Some(user) => {
                        self.by_name.insert(user.name.clone(), id);
                    }
                    None => self.by_name.retain(|_, named| *named != id),
                }
                set(&mut self.users, id, user);
            }
            PeopleChange::Organization(id, organization) => set(&mut self.organizations, id, organization),
            PeopleChange::ApiToken(id, token) => set(&mut self.tokens, id, token),
            PeopleChange::EndedSession(id, session) => set(&mut self.ended, id, session),
            PeopleChange::ProviderLogin(id, login) => set(&mut self.provider_logins, id, login),
        }
    }
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

impl State {
    /// A user, unless there is none of that id.
    #[must_use]
    pub fn user(&self, id: UserId) -> Option<&User> {
        self.people.users.get(&id)
    }

    /// A user, unless there is none of that name.
    #[must_use]
    pub fn user_named(&self, name: &str) -> Option<&User> {
        self.user(*self.people.by_name.get(name)?)
    }

    /// All users, oldest first.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.people.users.values()
    }

    /// An organisation, unless there is none of that id.
    #[must_use]
    pub fn organization(&self, id: OrganizationId) -> Option<&Organization> {
        self.people.organizations.get(&id)
    }

    /// An organisation, unless there is none of that name.
    #[must_use]
    pub fn organization_named(&self, name: &str) -> Option<&Organization> {
        self.organizations().find(|organization| organization.name == name)
    }

    /// All organisations, oldest first.
    pub fn organizations(&self) -> impl Iterator<Item = &Organization> {
        self.people.organizations.values()
    }

    /// The organisations a user is a member of.
    pub fn organizations_of(&self, user: UserId) -> impl Iterator<Item = &Organization> {
        self.organizations().filter(move |organization| organization.members.contains_key(&user))
    }

    /// An API token, unless there is none of that id.
    #[must_use]
    pub fn api_token(&self, id: TokenId) -> Option<&ApiToken> {
        self.people.tokens.get(&id)
    }

    /// The API tokens of a user, in the order of their ids.
    pub fn api_tokens_of(&self, user: UserId) -> impl Iterator<Item = &ApiToken> {
        self.people.tokens.values().filter(move |token| token.user == user)
    }

    /// What a user may do in an organisation; `None` for one who is not a member.
    #[must_use]
    pub fn rights(&self, user: UserId, organization: OrganizationId) -> Option<Rights> {
        let roles = self.organization(organization)?.members.get(&self.user(user)?.id)?.clone();
        Some(Rights { user, organization, in_root: self.is_root(organization), roles, scopes: None })
    }
}
