//! Users who log in at an identity provider. Who they are is (issuer, subject), never a name or an address; what they may
//! is what the provider says at each login and refresh, and nobody here gives or takes it.

use std::collections::{BTreeMap, BTreeSet};

use model::{OrganizationId, Timestamp, UserId};
use serde::{Deserialize, Serialize};

use crate::{
    Change, Session, State,
    access::Role,
    people::{Organization, PeopleChange, User},
};

/// API tokens of a user rest when the provider was not asked about that user for so long: nobody knows whether there is
/// still such a user.
pub const API_TOKEN_REST_MILLIS: u64 = 86_400_000;
const LONGEST_NAME: usize = 48;
const LONGEST_EMAIL: usize = 254;
/// Of the id, behind a name that is taken.
const SUFFIX: usize = 8;

/// Who somebody is to an identity provider. It gives no subject to another, ever.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProviderIdentity {
    /// The provider.
    pub issuer: String,
    /// Its word for the user.
    pub subject: String,
}

/// What is kept about a user who logs in at an identity provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfProvider {
    /// Who that is there.
    pub identity: ProviderIdentity,
    /// When the provider was last asked and knew that user.
    pub confirmed_at: Timestamp,
}

/// What the provider is asked with, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderToken {
    /// Buys others.
    Refresh(String),
    /// Of a provider that gave nothing better; soon over.
    Access(String),
}

/// A login that began at an identity provider. Durable until it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderLogin {
    /// The `jti` of our refresh token.
    pub id: String,
    /// Whose it is.
    pub user: UserId,
    /// What the provider is asked with.
    pub token: ProviderToken,
    /// When the provider was asked last.
    pub asked_at: Timestamp,
    /// When our refresh token expires.
    pub expires_at: Timestamp,
}

/// A user as the provider tells of them now.
#[derive(Debug, Clone)]
pub struct Confirmed {
    /// Who.
    pub identity: ProviderIdentity,
    /// What they would like to be called here.
    pub name: String,
    /// For people.
    pub email: String,
    /// Roles by the name of the organisation; see [`super::granted`].
    pub given: BTreeMap<String, BTreeSet<Role>>,
}

/// Somebody whom the provider knows and who has no business here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoGrant {
    /// Of all organisations.
    #[error(
        "the identity provider knows you as {0:?}, and no grant of this root is for you; ask its operator, who gives \
         rights by --oidc-grant"
    )]
    Nothing(String),
    /// Of the one that was asked for.
    #[error(
        "you are no member of the organisation {0:?}; log in to another, or ask the operator of this root"
    )]
    Organization(String),
}

impl State {
    /// A user, unless nobody of that identity has logged in.
    #[must_use]
    pub fn user_of_provider(&self, identity: &ProviderIdentity) -> Option<&User> {
        self.users()
            .find(|user| user.provider.as_ref().is_some_and(|provider| provider.identity == *identity))
    }

    /// A login that began at the provider and has not ended.
    #[must_use]
    pub fn provider_login(&self, id: &str) -> Option<&ProviderLogin> {
        self.people.provider_logins.get(id)
    }

    /// Lets in whom the provider has just confirmed, with what that user is given and nothing else. Who is given nothing
    /// is not let in, and has lost what there was before.
    pub fn log_in_confirmed(
        &self,
        confirmed: &Confirmed,
        wanted: Option<&str>,
        id: String,
        fresh: &User,
        now: Timestamp,
    ) -> (Result<Session, NoGrant>, Vec<Change>) {
        let known = self.user_of_provider(&confirmed.identity);
        let organization = self.organization_for(confirmed, wanted);
        if let (None, Err(no_grant)) = (known, &organization) {
            // Nothing is kept of strangers.
            return (Err(no_grant.clone()), Vec::new());
        }
        let user = known.cloned().unwrap_or_else(|| User {
            name: self.free_name(&confirmed.name, fresh.id),
            password_hash: String::new(),
            reset: None,
            ..fresh.clone()
        });
        let session =
            organization.map(|organization| Session { id, user: user.id, organization, epoch: user.epoch });
        (session, self.as_confirmed(&user, confirmed, now))
    }

    /// A login that goes on, as the provider has just confirmed its user: with what that user is given now.
    #[must_use]
    pub fn confirm(&self, login: &ProviderLogin, confirmed: &Confirmed, now: Timestamp) -> Vec<Change> {
        let Some(user) = self.user(login.user) else { return Vec::new() };
        let mut changes = self.as_confirmed(user, confirmed, now);
        changes.extend(self.keep_provider_login(login.clone(), now));
        changes
    }

    /// Keeps what the provider is asked with. Those of logins that have expired are forgotten.
    #[must_use]
    pub fn keep_provider_login(&self, login: ProviderLogin, now: Timestamp) -> Vec<Change> {
        let expired = self.people.provider_logins.values().filter(|kept| kept.expires_at <= now);
        let forgotten = expired.map(|kept| PeopleChange::ProviderLogin(kept.id.clone(), None));
        let kept = PeopleChange::ProviderLogin(login.id.clone(), Some(login));
        forgotten.chain([kept]).map(Change::People).collect()
    }

    pub(crate) fn without_provider_logins(&self, user: UserId) -> impl Iterator<Item = Change> {
        let logins = self.people.provider_logins.values().filter(move |login| login.user == user);
        logins.map(|login| Change::People(PeopleChange::ProviderLogin(login.id.clone(), None)))
    }

    /// The user and all memberships as the provider has it.
    fn as_confirmed(&self, user: &User, confirmed: &Confirmed, now: Timestamp) -> Vec<Change> {
        let is_address =
            confirmed.email.len() <= LONGEST_EMAIL && !confirmed.email.contains(char::is_control);
        let email = if is_address { confirmed.email.clone() } else { String::new() };
        let provider = OfProvider { identity: confirmed.identity.clone(), confirmed_at: now };
        let changed = User { email, provider: Some(provider), ..user.clone() };
        let mut changes = vec![PeopleChange::User(user.id, Some(changed))];
        for organization in self.organizations() {
            let given = confirmed.given.get(&organization.name);
            if organization.members.get(&user.id) == given {
                continue;
            }
            let mut members = organization.members.clone();
            match given {
                Some(roles) => drop(members.insert(user.id, roles.clone())),
                None => drop(members.remove(&user.id)),
            }
            let changed = Organization { members, ..organization.clone() };
            changes.push(PeopleChange::Organization(organization.id, Some(changed)));
        }
        changes.into_iter().map(Change::People).collect()
    }

    /// Which organisation a login is for: the one that is named, else `root`, else the first of those given.
    fn organization_for(
        &self,
        confirmed: &Confirmed,
        wanted: Option<&str>,
    ) -> Result<OrganizationId, NoGrant> {
        let given = || {
            let named = confirmed.given.keys().filter_map(|name| self.organization_named(name));
            named.map(|organization| (organization.id, organization.name.as_str()))
        };
        if given().next().is_none() {
            return Err(NoGrant::Nothing(confirmed.identity.subject.clone()));
        }
        if let Some(wanted) = wanted {
            let found = given().find(|(_, name)| *name == wanted);
            return found.map(|(id, _)| id).ok_or_else(|| NoGrant::Organization(wanted.to_owned()));
        }
        let found = given().find(|(id, _)| self.is_root(*id)).or_else(|| given().next());
        found.map(|(id, _)| id).ok_or_else(|| NoGrant::Nothing(confirmed.identity.subject.clone()))
    }

    /// The name somebody would like to have as far as it can be one, with something behind it if another has it.
    fn free_name(&self, wanted: &str, id: UserId) -> String {
        let allowed = |letter: &char| letter.is_ascii_alphanumeric() || "-_.@+".contains(*letter);
        let name: String = wanted.chars().filter(allowed).take(LONGEST_NAME).collect();
        let name = if name.chars().all(|letter| letter == '.') { "user".to_owned() } else { name };
        if self.user_named(&name).is_none() {
            return name;
        }
        let id = id.to_string();
        let short = id.get(id.len().saturating_sub(SUFFIX)..).unwrap_or(&id);
        let named = format!("{name}-{short}");
        if self.user_named(&named).is_none() { named } else { format!("user-{id}") }
    }
}
