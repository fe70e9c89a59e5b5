//! Hooks: who outside is told when something of an organisation has changed. What they are told and when is decided in
//! `outbox.rs`; the shell (`root-orchestrator/src/hooks.rs`) only delivers.

use std::{collections::BTreeSet, fmt, str::FromStr};

use model::{HookId, OrganizationId, SecretId, SecretVersionId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Change, Envelope, State};

/// An organisation's hooks: each may hold as many deliveries as `outbox.rs` says.
pub const MOST_HOOKS: usize = 50;
/// Characters of a name.
pub const MAX_HOOK_NAME_LENGTH: usize = 63;
/// Characters of a URL.
pub const MAX_HOOK_URL_LENGTH: usize = 2048;

/// What a hook may be told of, in the words of Oakestra.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookEvent {
    /// There is a new one.
    PostCreate,
    /// One has changed.
    PostUpdate,
    /// One is gone.
    PostDelete,
}

impl HookEvent {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::PostCreate, Self::PostUpdate, Self::PostDelete];

    /// Oakestra's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PostCreate => "post_create",
            Self::PostUpdate => "post_update",
            Self::PostDelete => "post_delete",
        }
    }
}

impl fmt::Display for HookEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for HookEvent {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|event| event.as_str() == text).ok_or(())
    }
}

/// What kind of things a hook is told of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Applications.
    Applications,
    /// Services with their instances.
    Jobs,
    /// Clusters.
    Resources,
    /// Custom resources of the type of that name.
    Custom(String),
}

impl Topic {
    /// What Oakestra calls an entity; `job` is another word for `jobs` there.
    #[must_use]
    pub fn of(entity: &str) -> Self {
        match entity {
            "applications" => Self::Applications,
            "jobs" | "job" => Self::Jobs,
            "resources" => Self::Resources,
            name => Self::Custom(name.to_owned()),
        }
    }
}

/// Who is told of what. Durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Which one.
    pub id: HookId,
    /// Whose; of nothing else it is told.
    pub organization: OrganizationId,
    /// Unique in its organisation.
    pub name: String,
    /// Where it is told.
    pub url: String,
    /// What of, as its user wrote it: a text that is a [`Topic`].
    pub entity: String,
    /// Which changes.
    pub events: BTreeSet<HookEvent>,
    /// What deliveries are signed with.
    pub secret: Option<HookSecret>,
    /// The number of its next delivery.
    pub next: u64,
    /// How it goes.
    pub status: HookStatus,
}

/// What the deliveries of a hook are signed with, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookSecret {
    /// Counts from 1.
    pub number: u32,
    /// The value.
    pub envelope: Envelope,
}

/// How the deliveries of a hook go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HookStatus {
    /// When the last one was taken.
    pub delivered: Option<Timestamp>,
    /// Attempts in a row that failed.
    pub failures: u32,
    /// Why the last one that failed did, also when others were taken since.
    pub error: Option<HookError>,
    /// Deliveries that were given up, each after a day.
    pub given_up: u64,
    /// Events for which there was no room.
    pub dropped: u64,
}

/// A delivery that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookError {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

impl Hook {
    /// What its secret is sealed as: hooks are the only ones whose secrets have ids of hooks.
    #[must_use]
    pub const fn secret_version(id: HookId, number: u32) -> SecretVersionId {
        SecretVersionId { secret: SecretId::from_bytes(id.to_bytes()), number }
    }

    fn hears_what(&self, other: &Self) -> bool {
        self.entity == other.entity && self.url == other.url
    }
}

/// A hook as its user wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookWish {
    /// Its name.
    pub name: String,
    /// Where.
    pub url: String,
    /// What of.
    pub entity: String,
    /// Which changes.
    pub events: BTreeSet<HookEvent>,
}

/// What becomes of a hook's secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretWish<Seal> {
    /// It stays.
    Keep,
    /// There is none any more.
    Remove,
    /// It is what this seals as the version it is given.
    Set(Seal),
}

/// A wish for a hook that is not fulfilled. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookRejected {
    /// Something is wrong with a field.
    #[error("{message}")]
    Field {
        /// Which.
        field: &'static str,
        /// What.
        message: String,
    },
    /// The organisation has one of that name.
    #[error("there is a hook `{0}` already; choose another hook_name, or change that one")]
    NameTaken(String),
    /// The organisation has one for that entity and URL.
    #[error("hook `{0}` tells the same URL of the same entity already; give that one more events")]
    Duplicate(String),
    /// The organisation has as many as it may.
    #[error("an organisation has at most {MOST_HOOKS} hooks; delete one that is not needed")]
    TooMany,
    /// Clusters belong to the platform.
    #[error(
        "clusters belong to the platform: only hooks of the organisation `root` are told of `resources`, and an \
         administrator of the platform makes them"
    )]
    OfThePlatform,
    /// There is none of that id.
    #[error("there is no hook {0}; list them at /api/v1/hooks")]
    None(String),
}

impl State {
    /// The hooks of all organisations, oldest first.
    pub fn hooks(&self) -> impl Iterator<Item = &Hook> {
        self.hooks.values()
    }

    /// A hook, unless there is none of that id.
    #[must_use]
    pub fn hook(&self, id: HookId) -> Option<&Hook> {
        self.hooks.get(&id)
    }

    /// Makes a hook; `seal` is given what its secret is sealed as.
    ///
    /// # Errors
    /// When a field is not valid or the organisation cannot have it.
    pub fn create_hook(
        &self,
        id: HookId,
        organization: OrganizationId,
        wish: HookWish,
        secret: Option<impl FnOnce(SecretVersionId) -> Envelope>,
    ) -> Result<(HookId, Vec<Change>), HookRejected> {
        let of_same = self.hooks().filter(|hook| hook.organization == organization);
        if of_same.count() >= MOST_HOOKS {
            return Err(HookRejected::TooMany);
        }
        let HookWish { name, url, entity, events } = wish;
        let secret = secret.map(|seal| seal_as(id, 1, seal));
        let status = HookStatus::default();
        let hook = Hook { id, organization, name, url, entity, events, secret, next: 1, status };
        self.ensure_usable(&hook)?;
        Ok((id, vec![Change::Hook(id, Some(hook))]))
    }

    /// Changes a hook. What waits to be delivered goes where it says now, unless it is told of something else since; and at
    /// once.
    ///
    /// # Errors
    /// When a field is not valid or the organisation cannot have it.
    pub fn update_hook(
        &self,
        before: &Hook,
        wish: HookWish,
        secret: SecretWish<impl FnOnce(SecretVersionId) -> Envelope>,
    ) -> Result<((), Vec<Change>), HookRejected> {
        let HookWish { name, url, entity, events } = wish;
        let mut hook = Hook { name, url, entity, events, ..before.clone() };
        match secret {
            SecretWish::Keep => {}
            SecretWish::Remove => hook.secret = None,
            SecretWish::Set(seal) => {
                let number = before.secret.as_ref().map_or(1, |secret| secret.number + 1);
                hook.secret = Some(seal_as(hook.id, number, seal));
            }
        }
        self.ensure_usable(&hook)?;
        // Whoever changes it has mended something, or wants it tried.
        hook.status.failures = 0;
        let unwanted = self.deliveries_of(hook.id).filter(|delivery| {
            Topic::of(&hook.entity) != Topic::of(&before.entity) || !hook.events.contains(&delivery.event)
        });
        let mut changes: Vec<Change> = unwanted.map(|delivery| Change::Delivery(delivery.id, None)).collect();
        changes.push(Change::Hook(hook.id, Some(hook)));
        Ok(((), changes))
    }

    /// Forgets a hook with all that waits to be delivered.
    #[must_use]
    pub fn delete_hook(&self, id: HookId) -> Vec<Change> {
        let waiting = self.deliveries_of(id).map(|delivery| Change::Delivery(delivery.id, None));
        waiting.chain([Change::Hook(id, None)]).collect()
    }

    fn ensure_usable(&self, hook: &Hook) -> Result<(), HookRejected> {
        ensure_fields(hook)?;
        match Topic::of(&hook.entity) {
            Topic::Applications | Topic::Jobs => {}
            Topic::Resources if self.is_root(hook.organization) => {}
            Topic::Resources => return Err(HookRejected::OfThePlatform),
            Topic::Custom(name) => {
                if self.resource_type(hook.organization, &name).is_err() {
                    let name: String = name.chars().take(40).collect();
                    let message = format!(
                        "entity must be `applications`, `jobs` (or `job`), `resources` or a resource type of your \
                         organisation, and there is no `{name}`"
                    );
                    return Err(HookRejected::Field { field: "entity", message });
                }
            }
        }
        let others =
            || self.hooks().filter(|other| other.organization == hook.organization && other.id != hook.id);
        if others().any(|other| other.name == hook.name) {
            return Err(HookRejected::NameTaken(hook.name.clone()));
        }
        match others().find(|other| other.hears_what(hook)) {
            Some(other) => Err(HookRejected::Duplicate(other.name.clone())),
            None => Ok(()),
        }
    }
}

fn seal_as(id: HookId, number: u32, seal: impl FnOnce(SecretVersionId) -> Envelope) -> HookSecret {
    HookSecret { number, envelope: seal(Hook::secret_version(id, number)) }
}

fn ensure_fields(hook: &Hook) -> Result<(), HookRejected> {
    let wrong = |field, message| Err(HookRejected::Field { field, message });
    let length = hook.name.chars().count();
    if length == 0 || length > MAX_HOOK_NAME_LENGTH || hook.name.chars().any(char::is_control) {
        let message = format!(
            "hook_name must have from 1 to {MAX_HOOK_NAME_LENGTH} characters, none of them a control character"
        );
        return wrong("hook_name", message);
    }
    let length = hook.url.chars().count();
    if length > MAX_HOOK_URL_LENGTH {
        let message =
            format!("webhook_url must have at most {MAX_HOOK_URL_LENGTH} characters, but has {length}");
        return wrong("webhook_url", message);
    }
    if hook.events.is_empty() {
        return wrong(
            "events",
            "events must name at least one of post_create, post_update, post_delete".to_owned(),
        );
    }
    Ok(())
}
