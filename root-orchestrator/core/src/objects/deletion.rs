//! How objects go: not before all have agreed who said they must be asked, and with or without what belongs to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ::resources::{definition, metadata, options::Propagation};
use serde_json::Value;

use super::{Object, ObjectKey, ObjectRejected, Seen};
use crate::{Change, State, WorkflowKind};

/// Holds a definition until its objects are gone.
const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Holds an object until what belongs to it is gone.
const FOREGROUND: &str = "foregroundDeletion";

/// What a deletion came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Deleted {
    /// It is gone; this is what it was.
    Gone(Arc<Value>),
    /// It goes when all have agreed.
    Going(Arc<Value>),
}

/// Objects as they will be.
struct Draft<'a> {
    state: &'a State,
    now: &'a str,
    changed: BTreeMap<ObjectKey, Option<Arc<Value>>>,
    /// Those looked at already: objects may belong to each other in a circle.
    visited: BTreeSet<ObjectKey>,
    /// Of these those that wait for the one looked at now, so it waits for none of them.
    waiting: BTreeSet<ObjectKey>,
}

impl State {
    /// Deletes an object that is as it was `seen`, and what belongs to it as the policy says.
    ///
    /// # Errors
    /// When it is not that any more, or others would go with it and nobody said so.
    pub fn delete_object(
        &self,
        key: &ObjectKey,
        seen: &Seen,
        propagation: Option<Propagation>,
        now: &str,
    ) -> Result<(Deleted, Vec<Change>), ObjectRejected> {
        let before = Arc::clone(&self.object_as(key, seen)?.content);
        if key.resource == definition::RESOURCE {
            let count = self.objects_of(&key.name).count();
            if count > 0 && matches!(propagation, None | Some(Propagation::Orphan)) {
                return Err(ObjectRejected::HasObjects { resource: key.name.clone(), count });
            }
        }
        self.ensure_over(key)?;
        let mut draft = Draft::of(self, now);
        draft.delete(key, propagation.unwrap_or(Propagation::Background));
        let deleted = match draft.get(key) {
            Some(content) => Deleted::Going(content),
            None => Deleted::Gone(before),
        };
        Ok((deleted, draft.changes()))
    }

    /// Of a run in progress the object is its own.
    fn ensure_over(&self, key: &ObjectKey) -> Result<(), ObjectRejected> {
        let run = WorkflowKind::of(&key.resource).filter(|kind| *kind == WorkflowKind::Run);
        let run = run.and_then(|_| key.name.parse().ok()).map(workflow::RunId);
        match run.and_then(|run| self.workflow().run(run)) {
            Some(run) if !run.phase.is_over() => {
                Err(ObjectRejected::Run(workflow::Rejected::InProgress(run.id)))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Deletes an object that the root keeps for others to see, with what belongs to it.
    pub(crate) fn withdraw_object(&self, key: &ObjectKey, now: &str) -> Vec<Change> {
        let mut draft = Draft::of(self, now);
        draft.delete(key, Propagation::Background);
        draft.changes()
    }

    /// Removes an object nobody has to agree to any more; `content` is the last of it.
    pub(super) fn removal_of(&self, key: &ObjectKey, content: Value) -> Vec<Change> {
        let now = metadata::text(&content, "deletionTimestamp").to_owned();
        let mut draft = Draft::of(self, &now);
        draft.changed.insert(key.clone(), Some(Arc::new(content)));
        draft.remove(key, Propagation::Background);
        draft.changes()
    }
}

impl<'a> Draft<'a> {
    fn of(state: &'a State, now: &'a str) -> Self {
        Self { state, now, changed: BTreeMap::new(), visited: BTreeSet::new(), waiting: BTreeSet::new() }
    }

    fn get(&self, key: &ObjectKey) -> Option<Arc<Value>> {
        match self.changed.get(key) {
            Some(changed) => changed.clone(),
            None => self.state.object(key).map(|seen| Arc::clone(&seen.content)),
        }
    }

    fn changes(self) -> Vec<Change> {
        let change = |(key, content): (ObjectKey, Option<Arc<Value>>)| {
            let object = content.map(|content| Object { key: key.clone(), content });
            Change::Object(key, object)
        };
        self.changed.into_iter().map(change).collect()
    }

    fn edit(&mut self, key: &ObjectKey, edit: impl FnOnce(&mut Value)) {
        if let Some(mut content) = self.get(key) {
            edit(Arc::make_mut(&mut content));
            self.changed.insert(key.clone(), Some(content));
        }
    }

    /// Begins to delete an object, and ends it if nobody has to agree.
    fn delete(&mut self, key: &ObjectKey, propagation: Propagation) {
        if !self.visited.insert(key.clone()) {
            return;
        }
        let Some(content) = self.get(key) else { return };
        let mut holders: Vec<&str> = Vec::new();
        if key.resource == definition::RESOURCE && self.delete_all_of(&key.name) {
            holders.push(CLEANUP);
        }
        if propagation == Propagation::Foreground {
            self.waiting.insert(key.clone());
            if self.delete_dependents(&content) {
                holders.push(FOREGROUND);
            }
            self.waiting.remove(key);
        }
        if propagation == Propagation::Orphan {
            self.set_free(&content);
        }
        if holders.is_empty() && metadata::finalizers(&content).next().is_none() {
            self.remove(key, propagation);
            return;
        }
        let now = self.now.to_owned();
        self.edit(key, |object| {
            let metadata = &mut object["metadata"];
            if metadata["deletionTimestamp"].is_null() {
                metadata["deletionTimestamp"] = Value::from(now);
                metadata["deletionGracePeriodSeconds"] = Value::from(0);
                metadata["generation"] = Value::from(metadata["generation"].as_u64().unwrap_or(0) + 1);
            }
            let mut finalizers = metadata["finalizers"].as_array().cloned().unwrap_or_default();
            let new = holders.iter().map(|holder| Value::from(*holder));
            let new: Vec<Value> = new.filter(|holder| !finalizers.contains(holder)).collect();
            finalizers.extend(new);
            metadata["finalizers"] = Value::Array(finalizers);
        });
    }

    /// Deletes all objects of a kind; whether some are still there.
    fn delete_all_of(&mut self, resource: &str) -> bool {
        let state = self.state;
        let keys: Vec<ObjectKey> = state.objects_of(resource).map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.delete(key, Propagation::Background));
        keys.iter().any(|key| self.get(key).is_some())
    }

    /// Deletes what belongs to an object; whether something is still there that holds it.
    fn delete_dependents(&mut self, owner: &Value) -> bool {
        let uid = metadata::text(owner, "uid");
        let dependents = self.dependents(uid);
        for dependent in &dependents {
            self.delete(dependent, Propagation::Foreground);
        }
        dependents.iter().any(|dependent| self.holds(dependent, uid))
    }

    fn dependents(&self, uid: &str) -> Vec<ObjectKey> {
        self.state.objects.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// Whether an object is there and must go before its owner.
    fn holds(&self, dependent: &ObjectKey, owner: &str) -> bool {
        let Some(content) = self.get(dependent).filter(|_| !self.waiting.contains(dependent)) else {
            return false;
        };
        let references = content["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        references.into_iter().any(|it| it["uid"] == owner && it["blockOwnerDeletion"] == true)
    }

    /// What belonged to an object belongs to it no more.
    fn set_free(&mut self, owner: &Value) {
        let uid = metadata::text(owner, "uid");
        for dependent in self.dependents(uid) {
            self.edit(&dependent, |object| leave(object, uid));
        }
    }

    /// Ends an object, and then what belonged to nobody else.
    fn remove(&mut self, key: &ObjectKey, propagation: Propagation) {
        let Some(content) = self.get(key) else { return };
        self.changed.insert(key.clone(), None);
        let uid = metadata::text(&content, "uid");
        if propagation != Propagation::Orphan {
            for dependent in self.dependents(uid) {
                let Some(of) = self.get(&dependent) else { continue };
                let others: Vec<&str> = metadata::owners(&of).filter(|owner| *owner != uid).collect();
                if others.iter().any(|owner| self.is_there(owner)) {
                    self.edit(&dependent, |object| leave(object, uid));
                } else {
                    self.delete(&dependent, Propagation::Background);
                }
            }
        }
        let owners: Vec<String> = metadata::owners(&content).map(str::to_owned).collect();
        owners.iter().for_each(|owner| self.release_owner(owner));
        self.release_definition(&key.resource);
    }

    fn is_there(&self, uid: &str) -> bool {
        self.state.objects.by_uid.get(uid).is_some_and(|key| self.get(key).is_some())
    }

    /// An owner that only waited for the last of what belongs to it goes.
    fn release_owner(&mut self, uid: &str) {
        let Some(key) = self.state.objects.by_uid.get(uid).cloned() else { return };
        if !self.dependents(uid).iter().any(|dependent| self.holds(dependent, uid)) {
            self.release(&key, FOREGROUND);
        }
    }

    /// So does a definition that only waited for the last of its objects.
    fn release_definition(&mut self, resource: &str) {
        if !self.state.objects_of(resource).any(|(key, _)| self.get(key).is_some()) {
            let resource = resource.to_owned();
            let key =
                ObjectKey { resource: definition::RESOURCE.to_owned(), organization: None, name: resource };
            self.release(&key, CLEANUP);
        }
    }

    fn release(&mut self, key: &ObjectKey, holder: &str) {
        let Some(content) = self.get(key) else { return };
        if !metadata::is_terminating(&content) || !metadata::finalizers(&content).any(|it| it == holder) {
            return;
        }
        self.edit(key, |object| {
            if let Some(finalizers) = object["metadata"]["finalizers"].as_array_mut() {
                finalizers.retain(|finalizer| finalizer != holder);
            }
        });
        let is_free = self.get(key).is_some_and(|content| metadata::finalizers(&content).next().is_none());
        if is_free {
            self.remove(key, Propagation::Background);
        }
    }
}

fn leave(object: &mut Value, owner: &str) {
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    if let Some(references) = metadata.get_mut("ownerReferences").and_then(Value::as_array_mut) {
        references.retain(|reference| reference["uid"] != owner);
        if references.is_empty() {
            metadata.remove("ownerReferences");
        }
    }
}
