//! Who may do what: the one table, and who falls under it. Everybody else is refused.
//!
//! Whoever asks does so for one organisation and holds roles there. Roles count for what belongs to that organisation;
//! those of the first organisation, `root`, for the platform too: its clusters and workers, all of them or those of one
//! cluster. An `Admin` of `root` may do everything everywhere. The handlers of the API ask [`may`]; whom the roles belong
//! to is in `people.rs`.

mod words;

use std::{collections::BTreeSet, fmt, str::FromStr};

use model::{ClusterId, OrganizationId, UserId};
use serde::{Deserialize, Serialize};

use crate::JoinKind;
pub use words::{Kind, Role, Verb, WordError};

/// Whose something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Nobody's alone.
    Platform,
    /// A cluster's, and so the platform's too.
    Cluster(ClusterId),
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
        let lends = |scope: &Scope| match scope {
            Scope::Role(lent) => lent.includes(role),
            Scope::Action(..) => false,
        };
        let is_lent = |scopes: &BTreeSet<Scope>| scopes.iter().any(lends);
        self.roles.iter().any(|held| held.includes(role)) && self.scopes.as_ref().is_none_or(is_lent)
    }

    /// The clusters for which alone a role is held or lent.
    fn clusters(&self) -> impl Iterator<Item = ClusterId> + '_ {
        let lent = self.scopes.iter().flatten().filter_map(|scope| match scope {
            Scope::Role(role) => Some(*role),
            Scope::Action(..) => None,
        });
        self.roles.iter().copied().chain(lent).filter_map(Role::cluster)
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
    /// Of the platform: any of `everywhere` and `Admin` in any organisation, and those of [`Self::Roles`] in `root`.
    RolesEverywhere { everywhere: &'static [Role], in_root: &'static [Role] },
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
        (Kind::ResourceDefinition, Verb::Get) => Enough::Anybody,
        // Who deploys says to which clusters, and who looks at it is told where it is.
        (Kind::Cluster, Verb::Get) => Enough::RolesEverywhere {
            everywhere: &[OrganizationAdmin, ApplicationProvider],
            in_root: &[InfrastructureProvider],
        },
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
    if !is_in_scope(rights, verb, kind, of) {
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
            Enough::RolesEverywhere { .. } | Enough::PlatformAdmin => false,
        },
        Of::Platform | Of::Cluster(_) => match enough(verb, kind) {
            Enough::Anybody => true,
            Enough::Roles(roles) => has_one_of_platform(rights, roles, of),
            Enough::RolesEverywhere { everywhere, in_root } => {
                has_one(rights, everywhere) || has_one_of_platform(rights, in_root, of)
            }
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

/// Whether somebody may do that without it being said to which: if not to what is usual, then at a cluster whose role they
/// hold. What it is done to must still be asked about by [`may`].
#[must_use]
pub fn may_somewhere(rights: &Rights, verb: Verb, kind: Kind) -> Verdict {
    let usually = may(rights, verb, kind, usual_owner(rights, kind));
    let may_at = |cluster| may(rights, verb, kind, Of::Cluster(cluster)) == Verdict::Allowed;
    match usually {
        Verdict::Refused(_) if kind.is_of_clusters() && rights.clusters().any(may_at) => Verdict::Allowed,
        Verdict::Allowed | Verdict::Hidden | Verdict::Refused(_) => usually,
    }
}

/// Whose a join token is: the cluster's, if nothing but a worker of it can join with it.
#[must_use]
pub const fn join_token_owner(kind: &JoinKind) -> Of {
    match kind {
        JoinKind::Worker { cluster: Some(cluster) } => Of::Cluster(*cluster),
        JoinKind::Worker { cluster: None } | JoinKind::Cluster { .. } => Of::Platform,
    }
}

/// Whether somebody may give a token that scope: whoever may do it all without the token. A token may never do what its user
/// may not, so that an action at one cluster stays there.
#[must_use]
pub fn may_lend(rights: &Rights, scope: Scope) -> bool {
    match scope {
        Scope::Role(role) => rights.holds(role),
        Scope::Action(verb, kind) => may_somewhere(rights, verb, kind) == Verdict::Allowed,
    }
}

fn has_one(rights: &Rights, roles: &[Role]) -> bool {
    rights.roles.contains(&Role::Admin) || roles.iter().any(|role| rights.roles.contains(role))
}

/// Whether somebody has one of the roles for the platform, or for the cluster that something is of.
fn has_one_of_platform(rights: &Rights, roles: &[Role], of: Of) -> bool {
    let has_one_there = || rights.roles.iter().any(|held| is_one_there(*held, roles, of));
    rights.in_root && (has_one(rights, roles) || has_one_there())
}

/// Whether a role is one of `roles` for the cluster alone that something is of.
fn is_one_there(held: Role, roles: &[Role], of: Of) -> bool {
    let Of::Cluster(cluster) = of else { return false };
    roles.iter().any(|role| role.at(cluster) == Some(held))
}

fn is_in_scope(rights: &Rights, verb: Verb, kind: Kind, of: Of) -> bool {
    let covers = |scope: &Scope| match scope {
        Scope::Action(this, of) => (*this, *of) == (verb, kind),
        Scope::Role(Role::Admin) => true,
        Scope::Role(role) => match enough(verb, kind) {
            Enough::Anybody => true,
            Enough::Roles(roles) => roles.contains(role) || is_one_there(*role, roles, of),
            Enough::RolesEverywhere { everywhere, in_root } => {
                everywhere.contains(role) || in_root.contains(role) || is_one_there(*role, in_root, of)
            }
            Enough::PlatformAdmin => false,
        },
    };
    rights.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(covers))
}

fn needs(verb: Verb, kind: Kind, of: Of) -> String {
    let place = match of {
        Of::Platform | Of::Cluster(_) => "in the organisation `root`",
        Of::Organization(_) => "in the organisation you are logged in to",
        Of::Person(_) => {
            return "that it is your own, or the role Admin in the organisation `root`".to_owned();
        }
    };
    // Not by its id: whether there is such a cluster is nothing to tell.
    let there = match of {
        Of::Cluster(_) => " (of all clusters or of that one)",
        Of::Platform | Of::Organization(_) | Of::Person(_) => "",
    };
    let named = |roles: &[Role], there: &str| -> String {
        roles.iter().map(|role| format!("{role}{there} or ")).collect()
    };
    match enough(verb, kind) {
        Enough::Roles(roles) => format!("the role {}Admin {place}", named(roles, there)),
        Enough::RolesEverywhere { everywhere, in_root } => {
            let own = "in the organisation you are logged in to";
            let (everywhere, in_root) = (named(everywhere, ""), named(in_root, there));
            format!("the role {everywhere}Admin {own}, or {in_root}Admin {place}")
        }
        Enough::Anybody | Enough::PlatformAdmin => "the role Admin in the organisation `root`".to_owned(),
    }
}
