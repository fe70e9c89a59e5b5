//! What changes users and organisations. Each wish returns the changes it makes, or why it makes none.
//!
//! Nobody gives or takes a role they do not hold, and nobody changes the password, the address or the existence of
//! somebody who holds more, or who is in an organisation beyond their reach: else a small administrator could become a
//! great one by another's login.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use model::{OrganizationId, Timestamp, TokenId, UserId};

use crate::{
    Change, Quota, State,
    access::{Kind, Of, Rights, Role, Verb, Verdict, may},
    people::{Organization, PasswordReset, PeopleChange, User},
    sessions::MAX_API_TOKENS,
};

/// A wish about people that is not fulfilled. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeopleRejected {
    /// A user of that name.
    #[error("Username already exists: `{0}`; choose another name")]
    UserExists(String),
    /// An organisation of that name.
    #[error("an organisation `{0}` exists already; choose another name")]
    OrganizationExists(String),
    /// No such user, or none the caller may know of.
    #[error("there is no user `{0}`; list them with `mangrove user list`")]
    NoUser(String),
    /// No such organisation, or none the caller may know of.
    #[error("there is no organisation {0}; list them with `mangrove organization list`")]
    NoOrganization(String),
    /// No such API token.
    #[error("you have no API token {0}; list them with `mangrove auth token list`")]
    NoToken(TokenId),
    /// Not allowed at all.
    #[error("{0}")]
    Forbidden(String),
    /// Allowed, and not that much.
    #[error("You have not enough permissions! {0} is more than you hold yourself.")]
    MoreThanHeld(String),
    /// Somebody who holds more, or is elsewhere too.
    #[error(
        "You have not enough permissions! `{0}` holds roles you do not hold, or is in another organisation too; ask an \
         administrator of the platform."
    )]
    BeyondReach(String),
    /// Somebody else decides on that.
    #[error(
        "`{0}` logs in at the identity provider, by which roles and password are decided; change them there, or the grants \
         of this root"
    )]
    OfProvider(String),
    /// Nobody would be left to administrate.
    #[error(
        "the organisation `root` must keep a member with the role Admin who logs in here; give the role to another user \
         first"
    )]
    LastAdmin,
    /// The first organisation stays.
    #[error("the organisation `root` is needed and keeps its name")]
    RootStays,
    /// Its applications would be nobody's.
    #[error("the organisation has {0} applications; delete them first")]
    HasApplications(usize),
    /// A member who is nobody.
    #[error("`member` names {0}, and there is no such user; list them with `mangrove user list`")]
    NoSuchMember(UserId),
    /// Not the token that was made, or used before.
    #[error("Link invalid! There is no such reset token, or it was used; ask an administrator for another")]
    ResetInvalid,
    /// Too late.
    #[error("Link expired! Ask an administrator for another reset token")]
    ResetExpired,
    /// A user who makes tokens and forgets them.
    #[error("you have {MAX_API_TOKENS} API tokens, and nobody may have more; revoke those that are not used")]
    TooManyTokens,
}

/// A user to be made, a member of the organisation of who makes it.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The user.
    pub user: User,
    /// What it is there.
    pub roles: BTreeSet<Role>,
}

/// What is changed about a user; nothing where nothing is said.
#[derive(Clone, Default)]
pub struct UserChange {
    /// Another address.
    pub email: Option<String>,
    /// The hash of another password.
    pub password_hash: Option<String>,
    /// What it shall be in the organisation of who asks.
    pub roles: Option<BTreeSet<Role>>,
}

impl fmt::Debug for UserChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserChange(email {:?}, roles {:?}, password withheld)", self.email, self.roles)
    }
}

impl State {
    /// Makes a user.
    ///
    /// # Errors
    /// When there is one of that name, or who asks may not give those roles.
    pub fn register(&self, by: &Rights, new: NewUser) -> Result<Vec<Change>, PeopleRejected> {
        allowed(by, Verb::Create, Kind::User, Of::Organization(by.organization))?;
        may_give(by, &new.roles)?;
        if self.user_named(&new.user.name).is_some() {
            return Err(PeopleRejected::UserExists(new.user.name));
        }
        let mut organization = self.organization_of(by)?.clone();
        organization.members.insert(new.user.id, new.roles);
        let changes = [
            PeopleChange::User(new.user.id, Some(new.user)),
            PeopleChange::Organization(organization.id, Some(organization)),
        ];
        Ok(changes.map(Change::People).into())
    }

    /// A user as who asks may look at it: oneself, or one in reach.
    ///
    /// # Errors
    /// When who asks may not know of it.
    pub fn user_seen_by(&self, by: &Rights, name: &str) -> Result<&User, PeopleRejected> {
        let found = self.user_named(name);
        if let Some(oneself) = found.filter(|user| user.id == by.user) {
            allowed(by, Verb::Get, Kind::User, Of::Person(by.user))?;
            return Ok(oneself);
        }
        self.member(by, Verb::Get, name)
    }

    /// Changes a user. Of oneself the address alone; the password takes the old one.
    ///
    /// # Errors
    /// When that is more than who asks may.
    pub fn change_user(
        &self,
        by: &Rights,
        name: &str,
        change: UserChange,
    ) -> Result<Vec<Change>, PeopleRejected> {
        let named = self.user_named(name).map(|user| user.id);
        let is_oneself = named == Some(by.user);
        // Clients send back what they were shown. For one who is no member that is no role, and makes it none.
        let organization = self.organization_of(by)?;
        let shown = named.and_then(|user| organization.members.get(&user)).cloned().unwrap_or_default();
        let roles = change.roles.filter(|roles| *roles != shown);
        let harmless = change.password_hash.is_none() && roles.is_none();
        let user = if is_oneself && harmless {
            allowed(by, Verb::Update, Kind::User, Of::Person(by.user))?;
            self.user_seen_by(by, name)?
        } else {
            self.member(by, Verb::Update, name)?
        };
        if change.password_hash.is_some() || roles.is_some() {
            must_be_ours(user)?;
        }
        let mut changes = Vec::new();
        if let Some(roles) = roles {
            let mut members = organization.members.clone();
            members.insert(user.id, roles);
            changes.extend(self.with_members(by, organization, organization.name.clone(), members)?);
        }
        let email = change.email.unwrap_or_else(|| user.email.clone());
        let differs = email != user.email;
        // A password also of oneself: a limited token could get hold of the whole login.
        if change.password_hash.is_some() || differs && !is_oneself {
            self.must_reach(by, user)?;
        }
        let addressed = User { email, ..user.clone() };
        match change.password_hash {
            Some(hash) => changes.extend(self.with_password(&addressed, hash)),
            None if differs => {
                changes.push(Change::People(PeopleChange::User(user.id, Some(addressed))));
            }
            None => {}
        }
        Ok(changes)
    }

    /// Another password, by the user, whose old one was checked.
    #[must_use]
    pub fn change_own_password(&self, user: UserId, password_hash: String) -> Vec<Change> {
        self.user(user).map(|user| self.with_password(user, password_hash)).unwrap_or_default()
    }

    /// Removes a user with all its logins and API tokens. What it made stays its organisations'.
    ///
    /// # Errors
    /// When that is more than who asks may, or nobody would be left to administrate.
    pub fn delete_user(&self, by: &Rights, name: &str) -> Result<Vec<Change>, PeopleRejected> {
        let user = self.member(by, Verb::Delete, name)?;
        self.must_reach(by, user)?;
        let mut changes = self.without_tokens(user.id);
        changes.extend(self.without_provider_logins(user.id));
        for organization in self.organizations_of(user.id) {
            let mut members = organization.members.clone();
            members.remove(&user.id);
            changes.extend(self.with_members(by, organization, organization.name.clone(), members)?);
        }
        changes.push(Change::People(PeopleChange::User(user.id, None)));
        Ok(changes)
    }

    /// Lets a user set another password by a token, once, for as long as is said.
    ///
    /// # Errors
    /// When that is more than who asks may.
    pub fn offer_reset(
        &self,
        by: &Rights,
        name: &str,
        reset: PasswordReset,
    ) -> Result<(UserId, Vec<Change>), PeopleRejected> {
        let user = self.member(by, Verb::Update, name)?;
        self.must_reach(by, user)?;
        must_be_ours(user)?;
        let changed = User { reset: Some(reset), ..user.clone() };
        Ok((user.id, vec![Change::People(PeopleChange::User(user.id, Some(changed)))]))
    }

    /// Whether a reset token is good.
    ///
    /// # Errors
    /// When it is not.
    pub fn check_reset(&self, user: UserId, secret_hash: &str, now: Timestamp) -> Result<(), PeopleRejected> {
        let reset = self.user(user).and_then(|user| user.reset.as_ref());
        let reset = reset.filter(|reset| reset.secret_hash == secret_hash);
        match reset {
            None => Err(PeopleRejected::ResetInvalid),
            Some(reset) if reset.expires_at <= now => Err(PeopleRejected::ResetExpired),
            Some(_) => Ok(()),
        }
    }

    /// Makes an organisation with its members.
    ///
    /// # Errors
    /// When there is one of that name, a member is nobody, or who asks may not.
    pub fn create_organization(&self, by: &Rights, new: Organization) -> Result<Vec<Change>, PeopleRejected> {
        allowed(by, Verb::Create, Kind::Organization, Of::Platform)?;
        let empty = Organization { members: BTreeMap::new(), ..new };
        self.must_leave_to_provider(&empty.members, &new.members)?;
        self.with_members(by, &empty, empty.name.clone(), new.members)
    }

    /// Gives an organisation another name or other members; nothing changes where nothing is said.
    ///
    /// # Errors
    /// When that is more than who asks may.
    pub fn change_organization(
        &self,
        by: &Rights,
        id: OrganizationId,
        name: Option<String>,
        members: Option<BTreeMap<UserId, BTreeSet<Role>>>,
    ) -> Result<Vec<Change>, PeopleRejected> {
        let organization = self.organization_in_reach(by, Verb::Update, Kind::Organization, id)?;
        let name = name.unwrap_or_else(|| organization.name.clone());
        if name != organization.name {
            // Users of all organisations log in by these names.
            allowed(by, Verb::Create, Kind::Organization, Of::Platform)?;
            if self.is_root(id) {
                return Err(PeopleRejected::RootStays);
            }
        }
        let members = members.unwrap_or_else(|| organization.members.clone());
        self.must_leave_to_provider(&organization.members, &members)?;
        if !by.is_platform_admin() {
            // Whoever is added could be looked at and named by the organisation's administrators.
            if let Some(stranger) = members.keys().find(|id| !organization.members.contains_key(id)) {
                return Err(PeopleRejected::NoSuchMember(*stranger));
            }
        }
        self.with_members(by, organization, name, members)
    }

    /// Removes an organisation that has no applications. Its members stay users.
    ///
    /// # Errors
    /// When it is needed, or who asks may not.
    pub fn delete_organization(
        &self,
        by: &Rights,
        id: OrganizationId,
    ) -> Result<Vec<Change>, PeopleRejected> {
        let organization = self.organization_in_reach(by, Verb::Delete, Kind::Organization, id)?;
        if self.is_root(id) {
            return Err(PeopleRejected::RootStays);
        }
        let applications = self.applications().filter(|application| application.organization == id).count();
        if applications > 0 {
            return Err(PeopleRejected::HasApplications(applications));
        }
        let roles = organization.members.values().flatten().copied().collect();
        may_give(by, &roles)?;
        let tokens = self.people.tokens.values().filter(|token| token.organization == id);
        let tokens = tokens.map(|token| PeopleChange::ApiToken(token.id, None));
        let people = tokens.chain([PeopleChange::Organization(id, None)]);
        let hooks = self.hooks().filter(|hook| hook.organization == id);
        let hooks = hooks.flat_map(|hook| self.delete_hook(hook.id));
        let types = self.resource_types_of(id);
        let types = types.flat_map(|kind| self.delete_resource_type(kind.id));
        let objects = self.forget_objects_of(id);
        Ok(hooks.chain(types).chain(objects).chain(people.map(Change::People)).collect())
    }

    /// Sets what the applications of an organisation may take. What they take already stays.
    ///
    /// # Errors
    /// When who asks may not.
    pub fn set_quota(
        &self,
        by: &Rights,
        id: OrganizationId,
        quota: Quota,
    ) -> Result<Vec<Change>, PeopleRejected> {
        let organization = self.organization_in_reach(by, Verb::Update, Kind::Quota, id)?;
        let changed = Organization { quota, ..organization.clone() };
        Ok(vec![Change::People(PeopleChange::Organization(id, Some(changed)))])
    }

    /// An organisation to which, or to what is of that kind in it, somebody may do that.
    ///
    /// # Errors
    /// When there is none, or who asks may not, or not even know of it.
    pub fn organization_in_reach(
        &self,
        by: &Rights,
        verb: Verb,
        kind: Kind,
        id: OrganizationId,
    ) -> Result<&Organization, PeopleRejected> {
        let none = || PeopleRejected::NoOrganization(id.to_string());
        match may(by, verb, kind, Of::Organization(id)) {
            Verdict::Allowed => self.organization(id).ok_or_else(none),
            Verdict::Hidden => Err(none()),
            Verdict::Refused(refused) => Err(PeopleRejected::Forbidden(refused.to_string())),
        }
    }

    fn organization_of(&self, by: &Rights) -> Result<&Organization, PeopleRejected> {
        let none = || PeopleRejected::NoOrganization(by.organization.to_string());
        self.organization(by.organization).ok_or_else(none)
    }

    /// A user to whom who asks may do that: a member of the same organisation, for an administrator of the platform any.
    fn member(&self, by: &Rights, verb: Verb, name: &str) -> Result<&User, PeopleRejected> {
        allowed(by, verb, Kind::User, Of::Organization(by.organization))?;
        let user = self.user_named(name);
        let is_member = |user: &&User| self.organizations_of(user.id).any(|one| one.id == by.organization);
        let seen = user.filter(|user| by.is_platform_admin() || is_member(user));
        seen.ok_or_else(|| PeopleRejected::NoUser(name.to_owned()))
    }

    /// Refuses when a user holds more than who asks, or is where who asks has no say.
    fn must_reach(&self, by: &Rights, user: &User) -> Result<(), PeopleRejected> {
        for organization in self.organizations_of(user.id) {
            let in_reach = by.is_platform_admin() || organization.id == by.organization;
            let roles = &organization.members[&user.id];
            if !in_reach || !roles.iter().all(|role| by.holds(*role)) {
                return Err(PeopleRejected::BeyondReach(user.name.clone()));
            }
        }
        Ok(())
    }

    /// Refuses when somebody would become another kind of member whom the identity provider makes one.
    fn must_leave_to_provider(
        &self,
        before: &BTreeMap<UserId, BTreeSet<Role>>,
        after: &BTreeMap<UserId, BTreeSet<Role>>,
    ) -> Result<(), PeopleRejected> {
        let changed = before.keys().chain(after.keys()).filter(|id| before.get(id) != after.get(id));
        changed.filter_map(|id| self.user(*id)).try_for_each(must_be_ours)
    }

    /// The organisation with these members and that name, if who asks may make it so.
    fn with_members(
        &self,
        by: &Rights,
        before: &Organization,
        name: String,
        members: BTreeMap<UserId, BTreeSet<Role>>,
    ) -> Result<Vec<Change>, PeopleRejected> {
        if self.organizations().any(|other| other.id != before.id && other.name == name) {
            return Err(PeopleRejected::OrganizationExists(name));
        }
        if let Some(nobody) = members.keys().find(|id| self.user(**id).is_none()) {
            return Err(PeopleRejected::NoSuchMember(*nobody));
        }
        may_give(by, &roles_that_differ(&before.members, &members))?;
        let has_admin = |members: &BTreeMap<UserId, BTreeSet<Role>>| {
            // Whom a provider makes one, it may make none at any time.
            let logs_in_here = |id: &UserId| self.user(*id).is_some_and(|user| user.provider.is_none());
            members.iter().any(|(id, roles)| roles.contains(&Role::Admin) && logs_in_here(id))
        };
        if self.is_root(before.id) && !has_admin(&members) {
            return Err(PeopleRejected::LastAdmin);
        }
        let changed = Organization { name, members, ..before.clone() };
        Ok(vec![Change::People(PeopleChange::Organization(changed.id, Some(changed)))])
    }
}

fn allowed(by: &Rights, verb: Verb, kind: Kind, of: Of) -> Result<(), PeopleRejected> {
    match may(by, verb, kind, of) {
        Verdict::Allowed => Ok(()),
        Verdict::Hidden => Err(PeopleRejected::NoOrganization(by.organization.to_string())),
        Verdict::Refused(refused) => Err(PeopleRejected::Forbidden(refused.to_string())),
    }
}

fn must_be_ours(user: &User) -> Result<(), PeopleRejected> {
    match &user.provider {
        Some(_) => Err(PeopleRejected::OfProvider(user.name.clone())),
        None => Ok(()),
    }
}

fn may_give(by: &Rights, roles: &BTreeSet<Role>) -> Result<(), PeopleRejected> {
    match roles.iter().find(|role| !by.holds(**role)) {
        Some(role) => Err(PeopleRejected::MoreThanHeld(format!("the role {role}"))),
        None => Ok(()),
    }
}

/// Every role that somebody has in one of them only.
fn roles_that_differ(
    before: &BTreeMap<UserId, BTreeSet<Role>>,
    after: &BTreeMap<UserId, BTreeSet<Role>>,
) -> BTreeSet<Role> {
    let of = |members: &BTreeMap<UserId, BTreeSet<Role>>, id| members.get(id).cloned().unwrap_or_default();
    before.keys().chain(after.keys()).flat_map(|id| &of(before, id) ^ &of(after, id)).collect()
}
