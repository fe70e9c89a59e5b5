//! What is recorded of who changed what, and of who tried to. The form of the records and their chain is in
//! `crates/audit`; what they show of things in `things.rs`; how those that come again and again are kept few in
//! `repeats.rs`.
//!
//! A call that changes documents leaves a record in the same commit, so that neither is ever there without the other. All
//! other calls leave one when they have ended. Records are in the store only: the brain knows where they end, and every so
//! often one of their hashes, so that it can forget the oldest.

mod repeats;
mod things;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ::audit::{Actor, Checkpoint, Entry, Head, Outcome, Record, rfc3339};
use model::{Now, OrganizationId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Change, State, access::Rights, reconcile::Plan};
use repeats::Repeats;

/// So many of the oldest records are forgotten at once: one record tells of them all, and few enough are removed that the
/// commit stays small.
pub const FORGOTTEN_AT_ONCE: u64 = 256;

/// A call as it comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Id of the request, if it is one.
    pub request: Option<String>,
    /// Who calls.
    pub actor: Actor,
    /// From which address.
    pub from: Option<IpAddr>,
    /// Method and route, or what else it is in words.
    pub action: String,
    /// What it is called with, as far as it may be shown.
    pub parameters: BTreeMap<String, String>,
    /// The organisation it is about when who calls is of none.
    pub organization: Option<OrganizationId>,
    /// Those who work with the root do it all the time: doing it again soon is counted, and no record of its own.
    pub is_routine: bool,
}

impl Call {
    /// A call of the root by itself.
    #[must_use]
    pub fn of_root(action: &str) -> Self {
        Self {
            request: None,
            actor: Actor::Root,
            from: None,
            action: action.to_owned(),
            parameters: BTreeMap::new(),
            organization: None,
            is_routine: false,
        }
    }
}

/// Where the records begin and end. Durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AuditEnds {
    /// The last that was forgotten.
    pub forgotten: Head,
    /// The newest.
    pub newest: Head,
}

/// What the brain knows of the records.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) ends: AuditEnds,
    /// Some of them on the way, by their numbers: up to each it may be forgotten.
    pub(crate) marks: BTreeMap<u64, Head>,
    /// At least so many are kept; all of them, if it is not said.
    most: Option<u64>,
    repeats: Repeats,
}

impl State {
    /// Keeps that many records, and up to [`FORGOTTEN_AT_ONCE`] more.
    pub fn keep_records(&mut self, most: u64) {
        self.audit.most = Some(most);
    }

    /// Where the records begin and end.
    #[must_use]
    pub const fn audit_ends(&self) -> AuditEnds {
        self.audit.ends
    }

    /// The record of a call that makes these changes, which are not applied yet. Nothing for one of those that come all the
    /// time, if nothing changes that a record would show: it is counted when it has ended.
    #[must_use]
    pub fn record(&self, call: Call, changes: &[Change], now: Timestamp) -> Vec<Change> {
        let (objects, more) = self.changed_things(changes, now);
        if call.is_routine && objects.is_empty() {
            return Vec::new();
        }
        let organizations = objects.iter().filter_map(|object| object.organization.clone()).collect();
        let entry = Entry { objects, more, ..entry_of(call, Outcome::Done, organizations) };
        self.appended(entry, now)
    }

    /// The record of a call that has ended and changed nothing here, if it is not one of many of its kind: those are
    /// counted.
    pub fn note(&mut self, call: Call, outcome: Outcome, now: Now) -> Vec<Change> {
        let (is_routine, user) = (call.is_routine, user_of(&call.actor));
        let is_counted = is_routine || outcome != Outcome::Done;
        let is_limited = outcome != Outcome::Done;
        let entry = entry_of(call, outcome, BTreeSet::new());
        if is_counted && !self.audit.repeats.is_new(&entry, user.filter(|_| is_limited), is_limited, now) {
            return Vec::new();
        }
        self.appended(entry, now.date)
    }

    fn appended(&self, entry: Entry, now: Timestamp) -> Vec<Change> {
        let AuditEnds { forgotten, newest } = self.audit.ends;
        let record = newest.append(rfc3339(now.0), entry);
        let newest = Head::from(&record);
        let number = newest.sequence;
        let mut changes = vec![
            Change::AuditRecord(number, Some(Arc::new(record))),
            Change::AuditEnds(AuditEnds { forgotten, newest }),
        ];
        if number.is_multiple_of(FORGOTTEN_AT_ONCE) {
            changes.push(Change::AuditMark(number, Some(newest)));
        }
        changes
    }

    /// Writes down what was counted, and forgets the oldest records.
    pub(crate) fn keep_books(&mut self, plan: &mut Plan, now: Now) {
        for entry in self.audit.repeats.due(now) {
            let changes = self.appended(entry, now.date);
            changes.into_iter().for_each(|change| self.change(plan, change));
        }
        if let Some(at) = self.audit.repeats.wake_at() {
            plan.wake(at);
        }
        while let Some(mark) = self.audit.to_be_forgotten() {
            let AuditEnds { forgotten, newest } = self.audit.ends;
            for number in forgotten.sequence + 1..=mark.sequence {
                self.change(plan, Change::AuditRecord(number, None));
            }
            self.change(plan, Change::AuditMark(mark.sequence, None));
            self.change(plan, Change::AuditEnds(AuditEnds { forgotten: mark, newest }));
            let changes = self.appended(Checkpoint(mark).entry(), now.date);
            changes.into_iter().for_each(|change| self.change(plan, change));
        }
    }
}

impl Ledger {
    /// The mark up to which there is more than is to be kept.
    fn to_be_forgotten(&self) -> Option<Head> {
        let most = self.most?;
        let (_, mark) = self.marks.first_key_value()?;
        (self.ends.newest.sequence - mark.sequence >= most).then_some(*mark)
    }
}

/// Which records somebody wants to see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// Those about this organisation.
    pub organization: Option<OrganizationId>,
    /// Calls of the user of this id or name, and attempts to be that one.
    pub user: Option<String>,
    /// Not before; in the form of [`rfc3339`].
    pub since: Option<String>,
}

impl AuditFilter {
    /// Whether a record is one of those.
    #[must_use]
    pub fn admits(&self, record: &Record) -> bool {
        let entry = &record.entry;
        let is_about = |organization: &OrganizationId| {
            entry.organizations.iter().any(|listed| *listed == organization.to_string())
        };
        let is_by = |user: &String| match &entry.actor {
            Actor::User { id, name, .. } => id == user || name == user,
            Actor::Anonymous => entry.parameters.get("username") == Some(user),
            Actor::Cluster { .. } | Actor::Root => false,
        };
        self.organization.as_ref().is_none_or(is_about)
            && self.user.as_ref().is_none_or(is_by)
            && self.since.as_ref().is_none_or(|since| record.time >= *since)
    }
}

/// What an organisation is shown of an entry: nothing of what belongs to others, and not from where those come who are of
/// others. `None` if it has nothing to do with it.
#[must_use]
pub fn seen_by(entry: Entry, organization: OrganizationId) -> Option<Entry> {
    let organization = organization.to_string();
    if !entry.organizations.contains(&organization) {
        return None;
    }
    let is_ours = match &entry.actor {
        Actor::User { organization: of, .. } => *of == organization,
        Actor::Anonymous => true,
        Actor::Cluster { .. } | Actor::Root => false,
    };
    let is_seen = |of: &Option<String>| of.as_ref().map_or(is_ours, |of| *of == organization);
    Some(Entry {
        from: entry.from.filter(|_| is_ours),
        objects: entry.objects.into_iter().filter(|object| is_seen(&object.organization)).collect(),
        organizations: vec![organization],
        ..entry
    })
}

/// Who somebody is in records.
#[must_use]
pub fn actor(rights: &Rights, name: &str, api_token: Option<model::TokenId>) -> Actor {
    Actor::User {
        id: rights.user.to_string(),
        name: name.to_owned(),
        organization: rights.organization.to_string(),
        api_token: api_token.map(|id| id.to_string()),
    }
}

fn user_of(actor: &Actor) -> Option<String> {
    match actor {
        Actor::User { id, .. } => Some(id.clone()),
        Actor::Anonymous | Actor::Cluster { .. } | Actor::Root => None,
    }
}

fn entry_of(call: Call, outcome: Outcome, mut organizations: BTreeSet<String>) -> Entry {
    let Call { request, actor, from, action, parameters, organization, is_routine: _ } = call;
    organizations.extend(organization.map(|id| id.to_string()));
    if let Actor::User { organization, .. } = &actor {
        organizations.insert(organization.clone());
    }
    Entry {
        request,
        actor,
        from,
        action,
        parameters,
        outcome,
        objects: Vec::new(),
        more: 0,
        organizations: organizations.into_iter().collect(),
        repeated: None,
    }
}
