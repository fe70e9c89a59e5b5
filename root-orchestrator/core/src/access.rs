//! Who may do what: the one table, and who falls under it. Everybody else is refused.
//!
//! Whoever asks does so for one organisation and holds roles there. Roles count for what belongs to that organisation;
//! those of the first organisation, `root`, for the platform too: its clusters and workers. An `Admin` of `root` may do
//! everything everywhere. The handlers of the API ask [`may`]; whom the roles belong to is in `people.rs`.

use std::{collections::BTreeSet, fmt, str::FromStr};

use model::{OrganizationId, UserId};
use serde::{Deserialize, Serialize};

/// What a member is in an organisation, in the words of Oakestra.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Everything in the organisation.
    Admin,
    /// Its people, and a look at all it has.
    #[serde(rename = "Organization_Admin")]
    OrganizationAdmin,
    /// Its applications.
    #[serde(rename = "Application_Provider")]
    ApplicationProvider,
    /// Clusters and workers; of use in `root` only, as they belong to the platform.
    #[serde(rename = "Infrastructure_Provider")]
    InfrastructureProvider,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Admin, Self::OrganizationAdmin, Self::ApplicationProvider, Self::InfrastructureProvider];

    /// Oakestra's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "Admin",
            Self::OrganizationAdmin => "Organization_Admin",
            Self::ApplicationProvider => "Application_Provider",
            Self::InfrastructureProvider => "Infrastructure_Provider",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Looking, at one or at all.
    Get,
    /// Making a new one.
    Create,
    /// Changing one, or what it does.
    Update,
    /// Removing one.
    Delete,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Get, Self::Create, Self::Update, Self::Delete];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// To what it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An application.
    Application,
    /// A service with its instances and their logs.
    Service,
    /// What services are given and nobody is shown.
    Secret,
    /// Who is told of changes.
    Hook,
    /// A type of custom resources, or one of them.
    CustomResource,
    /// A kind of objects that is defined and not built in.
    ResourceDefinition,
    /// A user, as a member of an organisation.
    User,
    /// An organisation.
    Organization,
    /// What the applications of an organisation may take.
    Quota,
    /// A cluster.
    Cluster,
    /// A worker.
    Worker,
    /// What clusters and workers join with.
    JoinToken,
    /// What a program logs in with in place of its user.
    ApiToken,
    /// Records of who changed what.
    Audit,
    /// Figures for a collector.
    Metrics,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Application,
        Self::Service,
        Self::Secret,
        Self::Hook,
        Self::CustomResource,
        Self::User,
        Self::Organization,
        Self::Quota,
        Self::ResourceDefinition,
        Self::Cluster,
        Self::Worker,
        Self::JoinToken,
        Self::ApiToken,
        Self::Audit,
        Self::Metrics,
    ];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Service => "service",
            Self::Secret => "secret",
            Self::Hook => "hook",
            Self::CustomResource => "custom-resource",
            Self::ResourceDefinition => "resource-definition",
            Self::User => "user",
            Self::Organization => "organization",
            Self::Quota => "quota",
            Self::Cluster => "cluster",
            Self::Worker => "worker",
            Self::JoinToken => "join-token",
            Self::ApiToken => "api-token",
            Self::Audit => "audit",
            Self::Metrics => "metrics",
        }
    }
}

/// A text that is none of the words it may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: expected {expected}")]
pub struct WordError {
    what: &'static str,
    text: String,
    expected: String,
}

fn word<T: Copy>(
    what: &'static str,
    all: &[T],
    as_str: impl Fn(T) -> &'static str,
    text: &str,
) -> Result<T, WordError> {
    all.iter().copied().find(|one| as_str(*one) == text).ok_or_else(|| WordError {
        what,
        text: text.chars().take(40).collect(),
        expected: all.iter().map(|one| as_str(*one)).collect::<Vec<_>>().join(", "),
    })
}

impl FromStr for Role {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        word("a role", &Self::ALL, Self::as_str, text)
    }
}

impl FromStr for Verb {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        word("a verb", &Self::ALL, Self::as_str, text)
    }
}

impl FromStr for Kind {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        word("a kind of resource", &Self::ALL, Self::as_str, text)
    }
}

/// Whose something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Nobody's alone.
    Platform,
    /// An organisation's.
    Organization(OrganizationId),
    /// A person's own.
    Person(UserId),
}

/// What an API token is limited to: what a role may, or one verb on one kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// What that role may.
    Role(Role),
    /// That alone.
    Action(Verb, Kind),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(role) => role.fmt(f),
            Self::Action(verb, kind) => write!(f, "{}:{}", verb.as_str(), kind.as_str()),
        }
    }
}

impl FromStr for Scope {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        match text.split_once(':') {
            Some((verb, kind)) => Ok(Self::Action(verb.parse()?, kind.parse()?)),
            None => text.parse().map(Self::Role),
        }
    }
}

impl TryFrom<String> for Scope {
    type Error = WordError;

    fn try_from(text: String) -> Result<Self, WordError> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

/// What somebody may do, as of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Who.
    pub user: UserId,
    /// For which organisation.
    pub organization: OrganizationId,
    /// It is the first organisation.
    pub in_root: bool,
    /// What the user is there.
    pub roles: BTreeSet<Role>,
    /// What the API token is limited to, if it is one and it is limited.
    pub scopes: Option<BTreeSet<Scope>>,
}

impl Rights {
    /// Whether this is somebody who may do everything everywhere, within the scopes.
    #[must_use]
    pub fn is_platform_admin(&self) -> bool {
        self.in_root && self.roles.contains(&Role::Admin)
    }

    /// Whether the role is held, so that it may be given to others and taken from them. What is limited to single actions
    /// holds no role.
    #[must_use]
    pub fn holds(&self, role: Role) -> bool {
        // An administrator holds every role.
        let is_lent = |scopes: &BTreeSet<Scope>| {
            [role, Role::Admin].iter().any(|role| scopes.contains(&Scope::Role(*role)))
        };
        has_one(self, &[role]) && self.scopes.as_ref().is_none_or(is_lent)
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allowed,
    /// It is another organisation's, and whoever asks is not told whether it exists.
    Hidden,
    /// No.
    Refused(Refused),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No role that is enough.
    #[error("You have not enough permissions! To {} a resource of kind `{}` takes {needs}.", verb.as_str(), kind.as_str())]
    Role {
        /// What was to be done.
        verb: Verb,
        /// To what.
        kind: Kind,
        /// What it takes.
        needs: String,
    },
    /// The token may less than its user.
    #[error("You have not enough permissions! The API token is limited, and `{}:{}` is not in its scopes.", verb.as_str(), kind.as_str())]
    Scope {
        /// What was to be done.
        verb: Verb,
        /// To what.
        kind: Kind,
    },
}

/// Whom something is for.
#[derive(Debug, Clone, Copy)]
enum Enough {
    /// Everybody who is logged in.
    Anybody,
    /// Any of these roles, and `Admin`.
    Roles(&'static [Role]),
    /// `Admin` of `root`.
    PlatformAdmin,
}

/// The table.
const fn enough(verb: Verb, kind: Kind) -> Enough {
    use Role::{ApplicationProvider, InfrastructureProvider, OrganizationAdmin};
    match (kind, verb) {
        (
            Kind::Application
            | Kind::Service
            | Kind::Secret
            | Kind::Hook
            | Kind::CustomResource
            | Kind::Quota,
            Verb::Get,
        ) => Enough::Roles(&[OrganizationAdmin, ApplicationProvider]),
        (
            Kind::Application | Kind::Service | Kind::Secret | Kind::Hook | Kind::CustomResource,
            Verb::Create | Verb::Update | Verb::Delete,
        ) => Enough::Roles(&[ApplicationProvider]),
        (Kind::User, _) | (Kind::Organization, Verb::Get | Verb::Update) | (Kind::Audit, Verb::Get) => {
            Enough::Roles(&[OrganizationAdmin])
        }
        (Kind::Organization, Verb::Create | Verb::Delete)
        | (Kind::Quota, Verb::Create | Verb::Update | Verb::Delete) => Enough::PlatformAdmin,
        (Kind::Cluster | Kind::ResourceDefinition, Verb::Get) => Enough::Anybody,
        (Kind::Cluster, Verb::Create | Verb::Update | Verb::Delete)
        | (Kind::Worker | Kind::JoinToken, _)
        | (Kind::Metrics, Verb::Get) => Enough::Roles(&[InfrastructureProvider]),
        // Of oneself only; others' are of no organisation.
        (Kind::ApiToken, _) => Enough::PlatformAdmin,
        // Every client is told of them.
        (Kind::ResourceDefinition, Verb::Create | Verb::Update | Verb::Delete) => Enough::PlatformAdmin,
        // Nobody does; there is nothing to do it with.
        (Kind::Audit | Kind::Metrics, Verb::Create | Verb::Update | Verb::Delete) => Enough::PlatformAdmin,
    }
}

/// What everybody may do with what is their own.
const fn is_ones_own(verb: Verb, kind: Kind) -> bool {
    match kind {
        Kind::User => matches!(verb, Verb::Get | Verb::Update),
        Kind::ApiToken => true,
        Kind::Application
        | Kind::Service
        | Kind::Secret
        | Kind::Hook
        | Kind::CustomResource
        | Kind::ResourceDefinition
        | Kind::Organization
        | Kind::Quota
        | Kind::Cluster
        | Kind::Worker
        | Kind::JoinToken
        | Kind::Audit
        | Kind::Metrics => false,
    }
}

/// Whether somebody may do that to something of `of`.
#[must_use]
pub fn may(rights: &Rights, verb: Verb, kind: Kind, of: Of) -> Verdict {
    if !is_in_scope(rights, verb, kind) {
        return Verdict::Refused(Refused::Scope { verb, kind });
    }
    if rights.is_platform_admin() {
        return Verdict::Allowed;
    }
    let allowed = match of {
        Of::Person(user) => user == rights.user && is_ones_own(verb, kind),
        Of::Organization(organization) if organization != rights.organization => return Verdict::Hidden,
        Of::Organization(_) => match enough(verb, kind) {
            Enough::Anybody => true,
            Enough::Roles(roles) => has_one(rights, roles),
            Enough::PlatformAdmin => false,
        },
        Of::Platform => match enough(verb, kind) {
            Enough::Anybody => true,
            Enough::Roles(roles) => rights.in_root && has_one(rights, roles),
            Enough::PlatformAdmin => false,
        },
    };
    if allowed {
        return Verdict::Allowed;
    }
    Verdict::Refused(Refused::Role { verb, kind, needs: needs(verb, kind, of) })
}

/// Whose a resource of that kind is that somebody makes, or asks for without naming one.
#[must_use]
pub const fn usual_owner(rights: &Rights, kind: Kind) -> Of {
    match kind {
        Kind::Application
        | Kind::Service
        | Kind::Secret
        | Kind::Hook
        | Kind::CustomResource
        | Kind::User
        | Kind::Organization
        | Kind::Quota
        | Kind::Audit => Of::Organization(rights.organization),
        Kind::Cluster | Kind::Worker | Kind::JoinToken | Kind::ResourceDefinition | Kind::Metrics => {
            Of::Platform
        }
        Kind::ApiToken => Of::Person(rights.user),
    }
}

/// Whether somebody may give a token that scope: whoever may do it all without the token.
#[must_use]
pub fn may_lend(rights: &Rights, scope: Scope) -> bool {
    match scope {
        Scope::Role(role) => rights.holds(role),
        Scope::Action(verb, kind) => may(rights, verb, kind, usual_owner(rights, kind)) == Verdict::Allowed,
    }
}

fn has_one(rights: &Rights, roles: &[Role]) -> bool {
    rights.roles.contains(&Role::Admin) || roles.iter().any(|role| rights.roles.contains(role))
}

fn is_in_scope(rights: &Rights, verb: Verb, kind: Kind) -> bool {
    let covers = |scope: &Scope| match scope {
        Scope::Action(this, of) => (*this, *of) == (verb, kind),
        Scope::Role(Role::Admin) => true,
        Scope::Role(role) => match enough(verb, kind) {
            Enough::Anybody => true,
            Enough::Roles(roles) => roles.contains(role),
            Enough::PlatformAdmin => false,
        },
    };
    rights.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(covers))
}

fn needs(verb: Verb, kind: Kind, of: Of) -> String {
    let place = match of {
        Of::Platform => "in the organisation `root`",
        Of::Organization(_) => "in the organisation you are logged in to",
        Of::Person(_) => {
            return "that it is your own, or the role Admin in the organisation `root`".to_owned();
        }
    };
    match enough(verb, kind) {
        Enough::Roles(roles) => {
            let named: String = roles.iter().map(|role| format!("{role} or ")).collect();
            format!("the role {named}Admin {place}")
        }
        Enough::Anybody | Enough::PlatformAdmin => "the role Admin in the organisation `root`".to_owned(),
    }
}
