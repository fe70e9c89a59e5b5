//! Secrets of organisations: their names and versions, and which services use them. Values come here sealed and are never
//! opened: that is for the shell (`root-orchestrator/src/vault.rs`).
//!
//! A revision of a service names versions, so a new version rolls those who use it like any other change (`rollout.rs`),
//! and what is rolled back gets the value it had.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    ImagePullSecret, OrganizationId, Sealed, SecretId, SecretUse, SecretVersionId, ServiceId, ServiceSpec,
    Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{Change, Rejected, Service, State, sla::SlaService};

/// What an organisation keeps to itself. Durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Which one; never that of another, as a name may be.
    pub id: SecretId,
    /// Whose.
    pub organization: OrganizationId,
    /// Unique in its organisation.
    pub name: String,
    /// What it is for.
    pub kind: SecretKind,
    /// Oldest first: the newest, and those that a revision of a service names.
    pub versions: Vec<SecretVersion>,
}

/// What a secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretKind {
    /// Bytes that instances are given.
    Opaque,
    /// A login at a registry, for fetching images.
    Registry,
}

impl SecretKind {
    /// As users write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::Registry => "registry",
        }
    }
}

/// What a secret was at some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretVersion {
    /// Counts from 1.
    pub number: u32,
    /// When it was made.
    pub created: Timestamp,
    /// The value.
    pub envelope: Envelope,
}

/// A value under a key of its own, and that key under the root's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Which key of the root.
    pub key: String,
    /// The key of this value, under that one.
    pub data_key: Sealed,
    /// The value, under the key of its own.
    pub value: Sealed,
}

impl Secret {
    /// The id of one of its versions.
    #[must_use]
    pub const fn version(&self, number: u32) -> SecretVersionId {
        SecretVersionId { secret: self.id, number }
    }

    /// The number of its newest version.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.versions.last().map_or(0, |version| version.number)
    }
}

impl State {
    /// The secrets of an organisation, in order of their names.
    pub fn secrets_of(&self, organization: OrganizationId) -> impl Iterator<Item = &Secret> {
        let own = (organization, String::new())..;
        let named = self.secret_names.range(own).take_while(move |((owner, _), _)| *owner == organization);
        named.filter_map(|(_, id)| self.secrets.get(id))
    }

    /// The value of a version, unless there is none.
    #[must_use]
    pub fn envelope(&self, id: SecretVersionId) -> Option<&Envelope> {
        let versions = self.secrets.get(&id.secret)?.versions.iter();
        versions.rev().find(|version| version.number == id.number).map(|version| &version.envelope)
    }

    /// The services that need a secret: new instances of theirs, those there are, or those of a change that is taken back.
    #[must_use]
    pub fn secret_users(&self) -> BTreeMap<SecretId, BTreeSet<ServiceId>> {
        let mut users: BTreeMap<SecretId, BTreeSet<ServiceId>> = BTreeMap::new();
        for service in self.services() {
            let names_some = |spec: &ServiceSpec| spec.secret_versions().next().is_some();
            if !service.revisions.iter().any(|revision| names_some(&revision.spec)) {
                continue;
            }
            let mut needed: BTreeSet<u32> = self.instances_of(service.id).map(|it| it.revision).collect();
            needed.insert(service.revision);
            needed.extend(service.rollout.as_ref().map(|rollout| rollout.from));
            for spec in needed.into_iter().filter_map(|number| service.spec_of(number)) {
                for version in spec.secret_versions() {
                    users.entry(version.secret).or_default().insert(service.id);
                }
            }
        }
        users
    }

    /// Makes a secret; `seal` is given the id of its first version.
    ///
    /// # Errors
    /// When the organisation has one of that name.
    pub fn create_secret(
        &self,
        wanted: NewSecret,
        now: Timestamp,
        seal: impl FnOnce(SecretVersionId) -> Envelope,
    ) -> Result<(SecretId, Vec<Change>), Rejected> {
        let NewSecret { id, organization, name, kind } = wanted;
        if self.secret(organization, &name).is_ok() {
            return Err(Rejected::SecretExists(name));
        }
        let envelope = seal(SecretVersionId { secret: id, number: 1 });
        let versions = vec![SecretVersion { number: 1, created: now, envelope }];
        let secret = Secret { id, organization, name, kind, versions };
        Ok((id, vec![Change::Secret(id, Some(secret))]))
    }

    /// Gives a secret a new version, and services that use it a revision with that.
    ///
    /// # Errors
    /// When there is none of that name, or of another kind.
    pub fn rotate_secret(
        &self,
        organization: OrganizationId,
        name: &str,
        kind: SecretKind,
        now: Timestamp,
        seal: impl FnOnce(SecretVersionId) -> Envelope,
    ) -> Result<(Rotation, Vec<Change>), Rejected> {
        let known = self.secret(organization, name)?;
        ensure_kind(known, kind)?;
        let number = known.newest() + 1;
        let newest = known.version(number);
        let mut secret = known.clone();
        secret.versions.push(SecretVersion { number, created: now, envelope: seal(newest) });
        let named: BTreeSet<SecretVersionId> = self
            .services
            .values()
            .flat_map(|service| &service.revisions)
            .flat_map(|revision| revision.spec.secret_versions())
            .collect();
        let id = secret.id;
        secret.versions.retain(|version| {
            let version = SecretVersionId { secret: id, number: version.number };
            version == newest || named.contains(&version)
        });
        // First, so that no service is applied before what it names.
        let mut changes = vec![Change::Secret(id, Some(secret))];
        let mut rolled = Vec::new();
        for service in self.services() {
            let mut spec = ServiceSpec::clone(service.spec());
            let older = spec.secret_versions_mut().filter(|version| version.secret == id);
            if older.map(|version| *version = newest).count() == 0 {
                continue;
            }
            let mut service: Service = service.clone();
            let document = service.current().document.clone();
            self.revise(&mut service, spec, document, now);
            rolled.push(service.id);
            changes.push(Change::Service(service.id, Some(service)));
        }
        Ok((Rotation { version: number, users: rolled }, changes))
    }

    /// Forgets a secret with all its versions.
    ///
    /// # Errors
    /// When there is none of that name, or services use it.
    pub fn delete_secret(
        &self,
        organization: OrganizationId,
        name: &str,
    ) -> Result<((), Vec<Change>), Rejected> {
        let secret = self.secret(organization, name)?;
        if let Some(users) = self.secret_users().remove(&secret.id) {
            let users = users.iter().filter_map(|id| self.service(*id));
            let users: Vec<String> = users.map(|service| service.names.to_string()).collect();
            return Err(Rejected::SecretInUse { name: name.to_owned(), users: users.join(", ") });
        }
        Ok(((), vec![Change::Secret(secret.id, None)]))
    }

    /// Finds the newest versions of the secrets that services ask for. To be called before they are created, or one is
    /// updated to them.
    ///
    /// # Errors
    /// When the organisation has none of a name, or it is of another kind.
    pub fn find_secrets<'a>(
        &self,
        organization: OrganizationId,
        services: impl IntoIterator<Item = &'a mut SlaService>,
    ) -> Result<(), Rejected> {
        for service in services {
            let find = |name: &str, kind| {
                let secret = self.secret(organization, name);
                let secret = secret.map_err(|_| Rejected::NoSuchSecret {
                    service: service.name.clone(),
                    name: name.to_owned(),
                })?;
                ensure_kind(secret, kind)?;
                Ok::<_, Rejected>(secret.version(secret.newest()))
            };
            let mut uses = Vec::new();
            for (name, target) in &service.secrets.uses {
                let version = find(name, SecretKind::Opaque)?;
                uses.push(SecretUse { name: name.clone(), version, target: target.clone() });
            }
            let pull = service.secrets.image_pull.as_deref();
            let pull = pull.map(|name| {
                let version = find(name, SecretKind::Registry)?;
                Ok::<_, Rejected>(ImagePullSecret { name: name.to_owned(), version })
            });
            let pull = pull.transpose()?;
            service.spec.secrets = uses;
            service.spec.image_pull_secret = pull;
            service.secrets = crate::sla::SecretWishes::default();
        }
        Ok(())
    }

    /// A secret that a revision names and that is no more, or no more in that version.
    pub(crate) fn ensure_secrets(&self, spec: &ServiceSpec) -> Result<(), Rejected> {
        let missing = |version: SecretVersionId| self.envelope(version).is_none();
        let named = spec.secrets.iter().map(|secret| (&secret.name, secret.version));
        let pull = spec.image_pull_secret.iter().map(|secret| (&secret.name, secret.version));
        let mut gone = named.chain(pull).filter(|(_, version)| missing(*version));
        gone.next().map_or(Ok(()), |(name, _)| Err(Rejected::SecretGone(name.clone())))
    }

    pub(crate) fn secret(&self, organization: OrganizationId, name: &str) -> Result<&Secret, Rejected> {
        let found = self.secret_names.get(&(organization, name.to_owned()));
        let found = found.and_then(|id| self.secrets.get(id));
        found.ok_or_else(|| Rejected::NoSecret(name.to_owned()))
    }

    pub(crate) fn apply_secret(&mut self, id: SecretId, secret: Option<Secret>) {
        // A secret keeps its name.
        if let Some(before) = self.secrets.remove(&id) {
            self.secret_names.remove(&(before.organization, before.name));
        }
        if let Some(secret) = secret {
            self.secret_names.insert((secret.organization, secret.name.clone()), id);
            self.secrets.insert(id, secret);
        }
    }
}

/// A secret to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSecret {
    /// One that nobody has.
    pub id: SecretId,
    /// Whose.
    pub organization: OrganizationId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub kind: SecretKind,
}

/// What a new version of a secret is and does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Its number.
    pub version: u32,
    /// The services that get a revision with it.
    pub users: Vec<ServiceId>,
}

fn ensure_kind(secret: &Secret, kind: SecretKind) -> Result<(), Rejected> {
    if secret.kind == kind {
        return Ok(());
    }
    Err(Rejected::OtherKind { name: secret.name.clone(), is: secret.kind.as_str(), wanted: kind.as_str() })
}
