//! Objects of any kind as lists and watches go through them, wherever they are.

use std::{collections::BTreeMap, sync::Arc};

use ::resources::kind::Verb;
use model::{ClusterId, OrganizationId};
use root_core::{Document, Object, ObjectKey, Organization, Seen, State as Truth, access::Verdict};
use serde_json::{Value, json};

use super::kinds::{Served, Source, Whose};
use crate::{
    auth::Caller,
    documents::{OBJECTS, ORGANIZATIONS},
};

/// One object.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Whose it is.
    pub(super) organization: Option<OrganizationId>,
    /// Which cluster it is, if it is one.
    pub(super) cluster: Option<ClusterId>,
    pub(super) name: String,
    pub(super) content: Arc<Value>,
    /// The commit that wrote it.
    pub(super) revision: u64,
}

impl Row {
    /// Where a list goes on behind it.
    pub(super) fn cursor(&self) -> (Option<OrganizationId>, &str) {
        (self.organization, &self.name)
    }

    pub(super) const fn owner(&self) -> Owner {
        (self.organization, self.cluster)
    }

    /// Whether a list that goes on behind another one has it still to come.
    pub(super) fn is_behind(&self, cursor: Option<&(Option<OrganizationId>, String)>) -> bool {
        cursor.is_none_or(|(organization, name)| self.cursor() > (*organization, name.as_str()))
    }
}

/// Whose an object is, or which cluster it is.
pub(super) type Owner = (Option<OrganizationId>, Option<ClusterId>);

/// An object that a list goes through: whose it is can be told without a copy of it.
pub(super) enum Listed<'a> {
    Kept(&'a Truth, &'a ObjectKey, &'a Seen),
    Made(Row),
}

impl Listed<'_> {
    pub(super) fn cursor(&self) -> (Option<OrganizationId>, &str) {
        match self {
            Self::Kept(_, key, _) => (key.organization, &key.name),
            Self::Made(row) => row.cursor(),
        }
    }

    pub(super) const fn owner(&self) -> Owner {
        match self {
            Self::Kept(_, key, _) => (key.organization, None),
            Self::Made(row) => row.owner(),
        }
    }

    pub(super) fn into_row(self) -> Row {
        match self {
            Self::Kept(state, key, seen) => row_of(state, key, seen),
            Self::Made(row) => row,
        }
    }
}

/// What organisations are called.
pub(super) type Namespaces = BTreeMap<OrganizationId, String>;

/// What organisations are called now.
pub(super) fn namespaces(state: &Truth) -> Namespaces {
    state.organizations().map(|it| (it.id, it.name.clone())).collect()
}

/// The first organisation, whose names are told as they are.
pub(super) fn first_organization(state: &Truth) -> OrganizationId {
    let first = state.organizations().map(|it| it.id).find(|id| state.is_root(*id));
    first.unwrap_or(OrganizationId::from_bytes([0; 12]))
}

impl Served {
    /// The collection its objects are documents of, one each.
    pub(super) const fn collection(&self) -> Option<&'static str> {
        match self.source {
            Source::Objects => Some(OBJECTS),
            Source::Organizations => Some(ORGANIZATIONS),
            Source::View(_) => None,
        }
    }

    /// Which document an object is, of those that are documents of their own.
    pub(super) fn key(&self, whose: &Whose, name: &str) -> ObjectKey {
        let organization = whose.namespace().map(|(id, _)| id);
        ObjectKey { resource: self.kind.resource(), organization, name: name.to_owned() }
    }

    /// One object.
    pub(super) fn row(&self, state: &Truth, whose: &Whose, name: &str) -> Option<Row> {
        match self.source {
            Source::Objects => {
                let key = self.key(whose, name);
                let seen = state.object(&key)?;
                let revision = seen.revision.unwrap_or_else(|| state.revision());
                let content = Arc::clone(&seen.content);
                Some(Row { organization: key.organization, cluster: None, name: key.name, content, revision })
            }
            Source::Organizations => {
                let organization = state.organization_named(name)?;
                Some(namespace(organization, state.written(&Document::Organization(organization.id))))
            }
            Source::View(view) => {
                let of = whose.namespace().map(|(id, _)| id);
                view.named(state, of, name).map(|(_, row)| row)
            }
        }
    }

    /// All objects of the kind behind one, whosever they are, in order.
    pub(super) fn rows_behind<'a>(
        &self,
        state: &'a Truth,
        cursor: Option<&(Option<OrganizationId>, String)>,
    ) -> Box<dyn Iterator<Item = Listed<'a>> + 'a> {
        let cursor = cursor.cloned();
        if self.source != Source::Objects {
            let rows = self.rows(state).into_iter();
            return Box::new(rows.filter(move |row| row.is_behind(cursor.as_ref())).map(Listed::Made));
        }
        let (organization, name) = cursor.unwrap_or_default();
        let key = ObjectKey { resource: self.kind.resource(), organization, name };
        Box::new(state.objects_behind(key).map(|(key, seen)| Listed::Kept(state, key, seen)))
    }

    /// All objects of the kind, whosever they are, in order.
    pub(super) fn rows(&self, state: &Truth) -> Vec<Row> {
        match self.source {
            Source::Objects => {
                let resource = self.kind.resource();
                state.objects_of(&resource).map(|(key, seen)| row_of(state, key, seen)).collect()
            }
            Source::Organizations => {
                let revision = |id| state.written(&Document::Organization(id));
                state.organizations().map(|it| namespace(it, revision(it.id))).collect()
            }
            Source::View(view) => {
                let mut rows: Vec<Row> = view.rows(state).into_values().collect();
                rows.sort_by(|one, other| one.cursor().cmp(&other.cursor()));
                rows
            }
        }
    }

    /// Whether a document is one of this kind.
    pub(super) fn is_of(&self, collection: &str, key: &str) -> bool {
        let is_of_kind = || match self.source {
            Source::Objects => {
                key.strip_prefix(&self.kind.resource()).is_some_and(|rest| rest.starts_with('/'))
            }
            Source::Organizations => true,
            Source::View(_) => false,
        };
        self.collection() == Some(collection) && is_of_kind()
    }

    /// A document of the kind.
    pub(super) fn read(&self, value: &[u8], revision: u64) -> Option<Row> {
        match self.source {
            Source::Objects => {
                let Object { key, content } = serde_json::from_slice(value).ok()?;
                Some(Row { organization: key.organization, cluster: None, name: key.name, content, revision })
            }
            Source::Organizations => {
                let organization: Organization = serde_json::from_slice(value).ok()?;
                Some(namespace(&organization, revision))
            }
            Source::View(_) => None,
        }
    }

    /// Whether the caller is to see an object of that owner.
    pub(super) fn shows(&self, caller: &Caller, whose: &Whose, (organization, cluster): Owner) -> bool {
        let may_look = || match (organization, cluster) {
            (Some(_), _) => self.verdict(caller, Verb::Get, organization) == Verdict::Allowed,
            (None, Some(cluster)) => caller.sees(cluster),
            (None, None) => true,
        };
        match whose {
            Whose::Organization(id, _) => organization == Some(*id),
            Whose::Platform | Whose::All => may_look(),
        }
    }

    /// An object as it is shown.
    pub(super) fn shown(&self, row: &Row, namespaces: &Namespaces) -> Value {
        let mut object = Value::clone(&row.content);
        object["apiVersion"] = Value::from(self.kind.api_version());
        if self.kind.is_namespaced {
            let name = row.organization.and_then(|id| namespaces.get(&id));
            object["metadata"]["namespace"] = Value::from(name.map_or("", String::as_str));
        }
        object["metadata"]["resourceVersion"] = Value::from(row.revision.to_string());
        object
    }

    /// An object as it is stored.
    pub(super) fn stored(&self, mut object: Value) -> Value {
        object["apiVersion"] = Value::from(self.stored_api_version());
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("namespace");
            metadata.remove("resourceVersion");
        }
        object
    }
}

fn row_of(state: &Truth, key: &ObjectKey, seen: &Seen) -> Row {
    Row {
        organization: key.organization,
        cluster: None,
        name: key.name.clone(),
        content: Arc::clone(&seen.content),
        revision: seen.revision.unwrap_or_else(|| state.revision()),
    }
}

fn namespace(organization: &Organization, revision: u64) -> Row {
    let content = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": organization.name, "uid": organization.id.to_string(),
            "labels": {"kubernetes.io/metadata.name": organization.name},
        },
        "spec": {},
        "status": {"phase": "Active"},
    });
    Row {
        organization: Some(organization.id),
        cluster: None,
        name: organization.name.clone(),
        content: Arc::new(content),
        revision,
    }
}
