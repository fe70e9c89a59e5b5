//! The objects of the resource API that are nobody else's documents: definitions of kinds, and the objects of these. What
//! becomes of one that is written is worked out before, in `crates/resources`; here is decided whether it may take the
//! place of what there is. How objects go is in `deletion.rs`.
//!
//! An object's revision is that of the commit that wrote it. In the turn that writes it there is none yet, so whoever made
//! something of the object before is too late.

mod deletion;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Bound,
    sync::Arc,
};

use ::resources::{
    definition::{self, Definition},
    metadata,
};
use model::{ApplicationId, ClusterId, InstanceId, OrganizationId, ServiceId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Change, PeopleChange, State, WorkflowKind};

pub use deletion::Deleted;

/// Bytes of an object, as JSON.
pub const MAX_OBJECT_BYTES: usize = 256 * 1024;
/// Objects of one organisation, of all kinds.
pub const MOST_OBJECTS: usize = 100_000;
/// Bytes of them together: the root has them all in memory.
pub const MOST_OBJECT_BYTES: usize = 128 * 1024 * 1024;
/// Kinds that are defined, of all organisations: all of them are told to every client.
pub const MOST_DEFINITIONS: usize = 500;

/// Which object. No two have the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectKey {
    /// Plural and group of its kind, such as `widgets.example.com`.
    pub resource: String,
    /// Whose it is; nobody's alone if its kind has no namespaces.
    pub organization: Option<OrganizationId>,
    /// Unique among these.
    pub name: String,
}

/// As it is stored: none of its parts has a `/`.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, organization, name } = self;
        match organization {
            Some(organization) => write!(f, "{resource}/{organization}/{name}"),
            None => write!(f, "{resource}//{name}"),
        }
    }
}

/// An object. Durable. Its namespace and revision are shown with it and not in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// Which one.
    pub key: ObjectKey,
    /// All of it.
    pub content: Arc<Value>,
}

/// A document that is shown as an object, or part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Document {
    /// An organisation.
    Organization(OrganizationId),
    /// An application.
    Application(ApplicationId),
    /// A service.
    Service(ServiceId),
    /// An instance.
    Instance(InstanceId),
    /// A cluster.
    Cluster(ClusterId),
}

impl Document {
    /// The document a change is of, if it is one of these, and whether it is there after it.
    fn of(change: &Change) -> Option<(Self, bool)> {
        match change {
            Change::Application(id, after) => Some((Self::Application(*id), after.is_some())),
            Change::Service(id, after) => Some((Self::Service(*id), after.is_some())),
            Change::Instance(id, after) => Some((Self::Instance(*id), after.is_some())),
            Change::Cluster(id, after) => Some((Self::Cluster(*id), after.is_some())),
            Change::People(PeopleChange::Organization(id, after)) => {
                Some((Self::Organization(*id), after.is_some()))
            }
            Change::People(_)
            | Change::Token(..)
            | Change::Secret(..)
            | Change::Blocks(_)
            | Change::Certificate(..)
            | Change::Revocation(..)
            | Change::Hook(..)
            | Change::Delivery(..)
            | Change::ResourceType(..)
            | Change::Resource(..)
            | Change::Object(..)
            | Change::Workflow(_)
            | Change::AuditRecord(..)
            | Change::AuditEnds(_)
            | Change::AuditMark(..) => None,
        }
    }
}

/// An object as somebody saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// All of it.
    pub content: Arc<Value>,
    /// The commit that wrote it; none in the turn that does.
    pub revision: Option<u64>,
}

/// A wish for an object that is not fulfilled. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectRejected {
    /// There is one of that name.
    #[error("there is an object {0} already")]
    Exists(ObjectKey),
    /// There is none.
    #[error("there is no object {0}")]
    None(ObjectKey),
    /// It is not any more what the wish was made of.
    #[error("the object {0} was changed by somebody else meanwhile; try again")]
    Changed(ObjectKey),
    /// Its kind is not defined any more, or goes.
    #[error("the kind {0} is not defined, or on its way out")]
    NoKind(String),
    /// Another definition has one of its names.
    #[error("{0}")]
    NameTaken(String),
    /// Its objects would go with it, and nobody said so.
    #[error(
        "there are {count} {resource}, which would go with their definition; delete them first, or delete with the \
         propagationPolicy Background or Foreground, as `kubectl delete` does"
    )]
    HasObjects {
        /// The kind.
        resource: String,
        /// How many there are.
        count: usize,
    },
    /// More than there may be.
    #[error("{0}")]
    TooMuch(String),
    /// It is a run, of which that cannot be done.
    #[error(transparent)]
    Run(workflow::Rejected),
}

/// See the module's description. What follows from the objects is kept beside them.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    all: BTreeMap<ObjectKey, Seen>,
    definitions: BTreeMap<String, Arc<Definition>>,
    by_uid: BTreeMap<String, ObjectKey>,
    /// By the ids of those they belong to.
    dependents: BTreeMap<String, BTreeSet<ObjectKey>>,
    /// How many, and how many bytes.
    taken: BTreeMap<Option<OrganizationId>, (usize, usize)>,
}

impl Objects {
    pub(crate) fn take(&mut self, key: ObjectKey, after: Option<Object>) {
        if let Some(before) = self.all.remove(&key) {
            self.by_uid.remove(metadata::text(&before.content, "uid"));
            for owner in metadata::owners(&before.content) {
                crate::state::forget(&mut self.dependents, Some(owner.to_owned()), &key);
            }
            if let Some((count, bytes)) = self.taken.get_mut(&key.organization) {
                *count -= 1;
                *bytes -= size(&before.content);
            }
        }
        if key.resource == definition::RESOURCE {
            // One that an older version had stored and this one does not understand serves nothing.
            let read = after.as_ref().and_then(|object| Definition::read(&object.content).ok());
            match read {
                Some(read) => drop(self.definitions.insert(key.name.clone(), Arc::new(read))),
                None => drop(self.definitions.remove(&key.name)),
            }
        }
        let Some(Object { content, .. }) = after else { return };
        self.by_uid.insert(metadata::text(&content, "uid").to_owned(), key.clone());
        for owner in metadata::owners(&content) {
            self.dependents.entry(owner.to_owned()).or_default().insert(key.clone());
        }
        let (count, bytes) = self.taken.entry(key.organization).or_default();
        *count += 1;
        *bytes += size(&content);
        self.all.insert(key, Seen { content, revision: None });
    }

    /// What was written is durable as of this revision.
    pub(crate) fn committed(&mut self, key: &ObjectKey, revision: u64) {
        if let Some(seen) = self.all.get_mut(key) {
            seen.revision = Some(revision);
        }
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Seen> {
        self.all.get(key)
    }
}

impl State {
    /// The newest revision that is durable.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// One object.
    #[must_use]
    pub fn object(&self, key: &ObjectKey) -> Option<&Seen> {
        self.objects.get(key)
    }

    /// The objects of a kind, by organisation and name.
    pub fn objects_of<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = (&'a ObjectKey, &'a Seen)> {
        let first = ObjectKey { resource: resource.to_owned(), organization: None, name: String::new() };
        self.objects.all.range(first..).take_while(move |(key, _)| key.resource == resource)
    }

    /// The objects of the same kind behind one, which need not be there, by organisation and name.
    pub fn objects_behind(&self, key: ObjectKey) -> impl Iterator<Item = (&ObjectKey, &Seen)> {
        let resource = key.resource.clone();
        let behind = (Bound::Excluded(key), Bound::Unbounded);
        self.objects.all.range(behind).take_while(move |(key, _)| key.resource == resource)
    }

    /// The definition of a kind.
    #[must_use]
    pub fn definition(&self, resource: &str) -> Option<&Definition> {
        self.objects.definitions.get(resource).map(Arc::as_ref)
    }

    /// All definitions.
    pub fn definitions(&self) -> impl Iterator<Item = &Definition> {
        self.objects.definitions.values().map(Arc::as_ref)
    }

    /// What is durable as of a revision.
    pub(crate) fn note_revision(&mut self, changes: &[Change], revision: u64) {
        self.revision = self.revision.max(revision);
        self.events.committed(revision);
        for change in changes {
            if let Change::Object(key, Some(_)) = change {
                self.objects.committed(key, revision);
            }
            match Document::of(change) {
                Some((document, true)) => drop(self.written.insert(document, revision)),
                Some((document, false)) => drop(self.written.remove(&document)),
                None => {}
            }
        }
    }

    /// The commit that wrote a document; 0 before it is durable.
    #[must_use]
    pub fn written(&self, document: &Document) -> u64 {
        self.written.get(document).copied().unwrap_or_default()
    }

    /// Keeps a new object.
    ///
    /// # Errors
    /// When there is one of that name, its kind is gone, or there are enough.
    pub fn create_object(&self, key: ObjectKey, content: Value) -> Result<((), Vec<Change>), ObjectRejected> {
        if self.object(&key).is_some() {
            return Err(ObjectRejected::Exists(key));
        }
        self.ensure_kind(&key)?;
        let object = Object { key: key.clone(), content: Arc::new(content) };
        if key.resource == definition::RESOURCE {
            self.ensure_names(&object)?;
        }
        self.ensure_object_room(&object, None)?;
        Ok(((), vec![Change::Object(key, Some(object))]))
    }

    /// Gives an object another content, made of what it was when it was `seen`. One that was only waiting for this goes.
    ///
    /// # Errors
    /// When it is not that any more, or there are enough.
    pub fn update_object(
        &self,
        key: ObjectKey,
        seen: &Seen,
        content: Value,
    ) -> Result<((), Vec<Change>), ObjectRejected> {
        let before = self.object_as(&key, seen)?;
        if metadata::is_terminating(&content) && metadata::finalizers(&content).next().is_none() {
            return Ok(((), self.removal_of(&key, content)));
        }
        let object = Object { key: key.clone(), content: Arc::new(content) };
        if key.resource == definition::RESOURCE {
            self.ensure_names(&object)?;
        }
        self.ensure_object_room(&object, Some(before))?;
        Ok(((), vec![Change::Object(key, Some(object))]))
    }

    /// The object, if it is what it was when it was seen.
    fn object_as(&self, key: &ObjectKey, seen: &Seen) -> Result<&Seen, ObjectRejected> {
        let before = self.object(key).ok_or_else(|| ObjectRejected::None(key.clone()))?;
        if before.revision.is_none() || before.revision != seen.revision {
            return Err(ObjectRejected::Changed(key.clone()));
        }
        Ok(before)
    }

    fn ensure_kind(&self, key: &ObjectKey) -> Result<(), ObjectRejected> {
        if key.resource == definition::RESOURCE || WorkflowKind::of(&key.resource).is_some() {
            return Ok(());
        }
        let of = ObjectKey {
            resource: definition::RESOURCE.to_owned(),
            organization: None,
            name: key.resource.clone(),
        };
        let is_defined = self.definition(&key.resource).is_some();
        let goes = self.object(&of).is_some_and(|seen| metadata::is_terminating(&seen.content));
        if is_defined && !goes {
            return Ok(());
        }
        Err(ObjectRejected::NoKind(key.resource.clone()))
    }

    /// Clients find kinds by each of their names.
    fn ensure_names(&self, object: &Object) -> Result<(), ObjectRejected> {
        if self.object(&object.key).is_none() && self.objects.definitions.len() >= MOST_DEFINITIONS {
            let message = format!("there are {MOST_DEFINITIONS} definitions, and there may not be more");
            return Err(ObjectRejected::TooMuch(message));
        }
        let group = &object.content["spec"]["group"];
        let names = |content: &Value| -> BTreeSet<String> {
            let names = &content["spec"]["names"];
            let short = names["shortNames"].as_array().into_iter().flatten();
            let all = [&names["plural"], &names["singular"], &names["kind"], &names["listKind"]].into_iter();
            let all = all.chain(short).filter_map(Value::as_str);
            all.map(str::to_lowercase).collect()
        };
        let own = names(&object.content);
        for (key, seen) in self.objects_of(definition::RESOURCE) {
            if *key == object.key || seen.content["spec"]["group"] != *group {
                continue;
            }
            if let Some(name) = names(&seen.content).intersection(&own).next() {
                let message = format!("the name `{name}` is taken by {} in the same group", key.name);
                return Err(ObjectRejected::NameTaken(message));
            }
        }
        Ok(())
    }

    pub(crate) fn ensure_object_room(
        &self,
        object: &Object,
        before: Option<&Seen>,
    ) -> Result<(), ObjectRejected> {
        let (bytes, freed) = (size(&object.content), before.map_or(0, |before| size(&before.content)));
        let most = if object.key.resource == definition::RESOURCE {
            definition::MAX_BYTES
        } else {
            MAX_OBJECT_BYTES
        };
        if bytes > most && bytes > freed {
            let message = format!("the object has {bytes} bytes, and may have {most}; keep less in it");
            return Err(ObjectRejected::TooMuch(message));
        }
        let (count, taken) = self.objects.taken.get(&object.key.organization).copied().unwrap_or_default();
        if before.is_none() && count >= MOST_OBJECTS {
            let message =
                format!("an organisation has at most {MOST_OBJECTS} objects; delete what is not needed");
            return Err(ObjectRejected::TooMuch(message));
        }
        let total = taken - freed + bytes;
        if total > MOST_OBJECT_BYTES && bytes > freed {
            let message = format!(
                "the objects of an organisation have at most {MOST_OBJECT_BYTES} bytes, and with this would have {total}; \
                 delete what is not needed"
            );
            return Err(ObjectRejected::TooMuch(message));
        }
        Ok(())
    }

    /// The objects of an organisation that goes.
    pub(crate) fn forget_objects_of(&self, organization: OrganizationId) -> impl Iterator<Item = Change> {
        let of = self.objects.all.keys().filter(move |key| key.organization == Some(organization));
        of.map(|key| Change::Object(key.clone(), None))
    }
}

fn size(content: &Value) -> usize {
    content.to_string().len()
}
