//! The words of who may do what: roles, verbs and kinds of resources. What they mean together is in `access.rs`.

use std::{fmt, str::FromStr};

use model::ClusterId;
use serde::{Deserialize, Serialize};

/// What a member is in an organisation, in the words of Oakestra.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Role {
    /// Everything in the organisation.
    Admin,
    /// Its people, and a look at all it has.
    OrganizationAdmin,
    /// Its applications.
    ApplicationProvider,
    /// Clusters and workers; of use in `root` only, as they belong to the platform.
    InfrastructureProvider,
    /// One cluster and its workers, and no other; of use in `root` only too.
    InfrastructureProviderOf(ClusterId),
}

impl Role {
    /// All that are not for one cluster alone.
    pub const ALL: [Self; 4] =
        [Self::Admin, Self::OrganizationAdmin, Self::ApplicationProvider, Self::InfrastructureProvider];

    /// Stands between a role and the cluster it is for.
    pub const AT: char = '@';

    /// Oakestra's word, without the cluster.
    const fn word(self) -> &'static str {
        match self {
            Self::Admin => "Admin",
            Self::OrganizationAdmin => "Organization_Admin",
            Self::ApplicationProvider => "Application_Provider",
            Self::InfrastructureProvider | Self::InfrastructureProviderOf(_) => "Infrastructure_Provider",
        }
    }

    /// The cluster it is for alone.
    pub(super) const fn cluster(self) -> Option<ClusterId> {
        match self {
            Self::InfrastructureProviderOf(cluster) => Some(cluster),
            Self::Admin
            | Self::OrganizationAdmin
            | Self::ApplicationProvider
            | Self::InfrastructureProvider => None,
        }
    }

    /// The same for that cluster alone; `None` of a role that is not of clusters, or is for one already.
    #[must_use]
    pub const fn at(self, cluster: ClusterId) -> Option<Self> {
        match self {
            Self::InfrastructureProvider => Some(Self::InfrastructureProviderOf(cluster)),
            Self::Admin
            | Self::OrganizationAdmin
            | Self::ApplicationProvider
            | Self::InfrastructureProviderOf(_) => None,
        }
    }

    /// Whether who holds this one holds the other too.
    pub(super) fn includes(self, other: Self) -> bool {
        let is_for_all = || other.cluster().is_some_and(|cluster| self.at(cluster) == Some(other));
        self == Self::Admin || self == other || is_for_all()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self.cluster() {
            Some(cluster) => write!(f, "{}{cluster}", Self::AT),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for Role {
    type Error = WordError;

    fn try_from(text: String) -> Result<Self, WordError> {
        text.parse()
    }
}

impl From<Role> for String {
    fn from(role: Role) -> Self {
        role.to_string()
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

    /// Whether such a resource may be a cluster's, so that a role for that one is enough.
    #[must_use]
    pub const fn is_of_clusters(self) -> bool {
        match self {
            Self::Cluster | Self::Worker | Self::JoinToken => true,
            Self::Application
            | Self::Service
            | Self::Secret
            | Self::Hook
            | Self::CustomResource
            | Self::ResourceDefinition
            | Self::User
            | Self::Organization
            | Self::Quota
            | Self::ApiToken
            | Self::Audit
            | Self::Metrics => false,
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
        let Some((role, id)) = text.split_once(Self::AT) else {
            return word("a role", &Self::ALL, Self::word, text);
        };
        let role = word("a role", &Self::ALL, Self::word, role)?;
        id.parse().ok().and_then(|cluster| role.at(cluster)).ok_or_else(|| WordError {
            what: "a role",
            text: text.chars().take(80).collect(),
            expected: format!("{}{} and the name or id of a cluster", Self::InfrastructureProvider, Self::AT),
        })
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
