//! A service and its revisions.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use model::{
    AddressKind, AllowedCallers, ApplicationId, ServiceId, ServiceNames, ServiceSpec, Span, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::Notes;

/// Revisions that are kept beside those that instances are copies of.
pub(crate) const HISTORY: usize = 10;

/// One service of an application. Durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Which one.
    pub id: ServiceId,
    /// The application it belongs to.
    pub application: ApplicationId,
    /// Its full name, as clusters are told it; see [`Service::written_names`].
    pub names: Arc<ServiceNames>,
    /// The revision new instances are copies of.
    pub revision: u32,
    /// What it was and is, oldest first; the newest and those that instances are copies of are always there.
    pub revisions: Vec<Revision>,
    /// Its addresses by what they stand for; those of the IPv6 family follow from them. Missing ones are given in the
    /// next turn.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: Arc<BTreeMap<AddressKind, Ipv4Addr>>,
    /// Who may connect to its instances beside its own application, as clusters are told. Of the service, not of a revision: a change of it
    /// replaces no instance.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub allowed_callers: Arc<AllowedCallers>,
    /// How it is changed.
    pub update: UpdatePolicy,
    /// A change that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// The number of the next instance.
    pub next_number: u32,
    /// Deleted by its user; kept until the last of its instances is confirmed gone.
    pub deleted: bool,
    /// The attempt of a task that it is, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<workflow::AttemptId>,
    /// What clients of the resource API note at it.
    #[serde(default, skip_serializing_if = "Notes::is_empty")]
    pub notes: Notes,
}

/// What a service was at some time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// Counts from 1.
    pub number: u32,
    /// What each instance needs.
    pub spec: Arc<ServiceSpec>,
    /// The fields its user sent, which the API shows as they were.
    pub document: serde_json::Map<String, serde_json::Value>,
    /// When it was made.
    pub created: Timestamp,
    /// Why it was rolled back, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// How instances of an older revision give way to those of a newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdatePolicy {
    /// So many instances may be missing meanwhile.
    pub max_unavailable: u32,
    /// So many more than wanted may exist meanwhile.
    pub max_surge: u32,
    /// If nothing gets further for this long, the change has failed.
    pub ready_within: Span,
    /// A change that failed is taken back.
    pub rollback: bool,
}

impl Default for UpdatePolicy {
    fn default() -> Self {
        // Never fewer than wanted; two minutes fetch a middling image and start a slow program.
        Self { max_unavailable: 0, max_surge: 1, ready_within: Span::from_secs(120), rollback: true }
    }
}

/// A change of revision under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The revision before, to go back to.
    pub from: u32,
    /// Instances there shall be in the end.
    pub instances: u32,
    /// It takes a failed change back.
    pub is_rollback: bool,
    /// Why it gets no further, when that has lasted too long and it is not taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalled: Option<String>,
}

impl Service {
    /// What it is of that number, if that is still known.
    #[must_use]
    pub fn revision(&self, number: u32) -> Option<&Revision> {
        self.revisions.iter().find(|revision| revision.number == number)
    }

    /// What new instances are copies of.
    ///
    /// # Panics
    /// Never: the newest revision is always kept.
    #[must_use]
    pub fn current(&self) -> &Revision {
        self.revision(self.revision).expect("the revision of new instances is kept")
    }

    /// What each new instance needs.
    #[must_use]
    pub fn spec(&self) -> &Arc<ServiceSpec> {
        &self.current().spec
    }

    /// What each instance of that revision needs.
    #[must_use]
    pub fn spec_of(&self, number: u32) -> Option<&Arc<ServiceSpec>> {
        self.revision(number).map(|revision| &revision.spec)
    }
}
