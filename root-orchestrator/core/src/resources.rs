//! Custom resources: documents of types that an organisation has defined, in which its programs keep what they need. The root
//! makes sure that they are what their type says, keeps them and tells hooks; they mean nothing to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ::resources::{Schema, SchemaProblem};
use model::{OrganizationId, ResourceId, ResourceTypeId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Change, State};

/// Types of one organisation.
pub const MOST_RESOURCE_TYPES: usize = 100;
/// Bytes of a schema, as JSON.
pub const MAX_SCHEMA_BYTES: usize = 64 * 1024;
/// Bytes of a custom resource, as JSON.
pub const MAX_RESOURCE_BYTES: usize = 64 * 1024;
/// Custom resources of one organisation, of all types.
pub const MOST_RESOURCES: usize = 10_000;
/// Bytes of them together: the root has them all in memory.
pub const MOST_RESOURCE_BYTES: usize = 16 * 1024 * 1024;
/// Characters of the name of a type.
pub const MAX_TYPE_NAME_LENGTH: usize = 63;

/// Where an id is shown; no field of a resource's own may have that name.
const ID_FIELD: &str = "_id";
/// What hooks are told of beside custom resources.
const RESERVED: [&str; 4] = ["applications", "jobs", "job", "resources"];

/// A type of custom resources. Durable. It does not change: another schema is another type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceType {
    /// Which one.
    pub id: ResourceTypeId,
    /// Whose.
    pub organization: OrganizationId,
    /// Unique in its organisation.
    pub name: String,
    /// What its resources are, if that was said; JSON Schema.
    pub schema: Option<Value>,
}

/// A custom resource. Durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CustomResource {
    /// Which one.
    pub id: ResourceId,
    /// Of which type.
    pub of: ResourceTypeId,
    /// What its users keep in it.
    pub content: Map<String, Value>,
}

/// A wish for a type or a resource that is not fulfilled. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceRejected {
    /// Something is wrong with a field of a type.
    #[error("{}", .0.message)]
    Type(SchemaProblem),
    /// A resource is not what its type says.
    #[error("{}", in_words(.0))]
    Invalid(Vec<SchemaProblem>),
    /// The organisation has a type of that name.
    #[error(
        "there is a resource type `{0}` already; delete it with all its resources first, or choose another resource_type"
    )]
    TypeExists(String),
    /// There is no type of that name, or none the caller may know of.
    #[error("there is no resource type `{0}`; list them at /api/v1/custom-resources")]
    NoType(String),
    /// Somebody else changed it meanwhile.
    #[error("it was changed by somebody else meanwhile; try again")]
    Changed,
    /// There is no resource of that id.
    #[error("there is no `{of}` {id}; list them at /api/v1/custom-resources/{of}")]
    NoResource {
        /// Its type.
        of: String,
        /// The id asked for.
        id: String,
    },
    /// More than an organisation may have.
    #[error("{0}; delete what is not needed")]
    TooMuch(String),
}

fn in_words(problems: &[SchemaProblem]) -> String {
    let one = |problem: &SchemaProblem| match problem.field.as_str() {
        "" => problem.message.clone(),
        field => format!("`{field}`: {}", problem.message),
    };
    problems.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Checks documents against a type. That may take a while, so it is not for the brain's own time. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ResourceCheck {
    of: ResourceTypeId,
    /// None that can be heeded in one that an older version had stored.
    schema: Result<Option<Arc<Schema>>, SchemaProblem>,
}

/// A document that is what its type says; only [`ResourceCheck::check`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedResource {
    of: ResourceTypeId,
    content: Map<String, Value>,
}

impl ResourceCheck {
    fn new(of: &ResourceType) -> Self {
        let schema = of.schema.as_ref().map(Schema::read).transpose();
        Self { of: of.id, schema: schema.map(|schema| schema.map(Arc::new)) }
    }

    /// Looks whether a document is what the type says, and not too large.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, content: Map<String, Value>) -> Result<CheckedResource, ResourceRejected> {
        if content.contains_key(ID_FIELD) {
            let message = format!("{ID_FIELD} is given by the root; leave it out");
            return Err(ResourceRejected::Invalid(vec![problem(ID_FIELD, message)]));
        }
        let whole = Value::Object(content.clone());
        if ::resources::is_too_deep(&whole) {
            let message = format!("values are nested deeper than {}", ::resources::DEEPEST);
            return Err(ResourceRejected::Invalid(vec![problem("", message)]));
        }
        let bytes = size(&content);
        if bytes > MAX_RESOURCE_BYTES {
            let message =
                format!("a custom resource has at most {MAX_RESOURCE_BYTES} bytes, but this has {bytes}");
            return Err(ResourceRejected::Invalid(vec![problem("", message)]));
        }
        let problems = match &self.schema {
            Ok(Some(schema)) => schema.check(&whole),
            Ok(None) => Vec::new(),
            Err(problem) => vec![problem.clone()],
        };
        if problems.is_empty() {
            return Ok(CheckedResource { of: self.of, content });
        }
        Err(ResourceRejected::Invalid(problems))
    }
}

/// See the module's description. What follows from the documents is kept beside them.
#[derive(Debug, Default)]
pub(crate) struct Resources {
    types: BTreeMap<ResourceTypeId, (ResourceType, ResourceCheck)>,
    names: BTreeMap<(OrganizationId, String), ResourceTypeId>,
    resources: BTreeMap<ResourceId, CustomResource>,
    of_type: BTreeMap<ResourceTypeId, BTreeSet<ResourceId>>,
    /// How many, and how many bytes.
    taken: BTreeMap<OrganizationId, (usize, usize)>,
}

impl Resources {
    pub(crate) fn take_type(&mut self, id: ResourceTypeId, after: Option<ResourceType>) {
        if let Some((before, _)) = self.types.remove(&id) {
            self.names.remove(&(before.organization, before.name));
        }
        if let Some(after) = after {
            self.names.insert((after.organization, after.name.clone()), id);
            let check = ResourceCheck::new(&after);
            self.types.insert(id, (after, check));
        }
    }

    /// A resource is applied after its type, and gone before it.
    pub(crate) fn take_resource(&mut self, id: ResourceId, after: Option<CustomResource>) {
        if let Some(before) = self.resources.remove(&id) {
            crate::state::forget(&mut self.of_type, Some(before.of), &id);
            let size = size(&before.content);
            if let Some((count, bytes)) = self.owner(before.of).and_then(|owner| self.taken.get_mut(&owner)) {
                *count -= 1;
                *bytes -= size;
            }
        }
        if let Some(after) = after {
            self.of_type.entry(after.of).or_default().insert(id);
            if let Some(owner) = self.owner(after.of) {
                let (count, bytes) = self.taken.entry(owner).or_default();
                *count += 1;
                *bytes += size(&after.content);
            }
            self.resources.insert(id, after);
        }
    }

    fn owner(&self, of: ResourceTypeId) -> Option<OrganizationId> {
        self.get_type(of).map(|it| it.organization)
    }

    pub(crate) fn get_type(&self, id: ResourceTypeId) -> Option<&ResourceType> {
        self.types.get(&id).map(|(kind, _)| kind)
    }

    pub(crate) fn get(&self, id: ResourceId) -> Option<&CustomResource> {
        self.resources.get(&id)
    }
}

impl State {
    /// The types of an organisation, in order of their names.
    pub fn resource_types_of(&self, organization: OrganizationId) -> impl Iterator<Item = &ResourceType> {
        let own = (organization, String::new())..;
        let named = self.resources.names.range(own).take_while(move |((owner, _), _)| *owner == organization);
        named.filter_map(|(_, id)| self.resources.get_type(*id))
    }

    /// A type by its name.
    ///
    /// # Errors
    /// When the organisation has none of that name.
    pub fn resource_type(&self, of: OrganizationId, name: &str) -> Result<&ResourceType, ResourceRejected> {
        let found = self.resources.names.get(&(of, name.to_owned()));
        let found = found.and_then(|id| self.resources.get_type(*id));
        found.ok_or_else(|| ResourceRejected::NoType(name.chars().take(MAX_TYPE_NAME_LENGTH).collect()))
    }

    /// The resources of a type, oldest first.
    pub fn custom_resources_of(&self, of: ResourceTypeId) -> impl Iterator<Item = &CustomResource> {
        let ids = self.resources.of_type.get(&of).into_iter().flatten();
        ids.filter_map(|id| self.resources.resources.get(id))
    }

    /// One resource of a type.
    ///
    /// # Errors
    /// When there is none of that id.
    pub fn custom_resource(&self, of: &ResourceType, id: &str) -> Result<&CustomResource, ResourceRejected> {
        let found = id.parse().ok().and_then(|id| self.resources.resources.get(&id));
        found.filter(|found| found.of == of.id).ok_or_else(|| {
            let id = id.chars().take(40).collect();
            ResourceRejected::NoResource { of: of.name.clone(), id }
        })
    }

    /// Defines a type.
    ///
    /// # Errors
    /// When its name or schema cannot be, or the organisation has it or enough of them.
    pub fn create_resource_type(&self, wanted: ResourceType) -> Result<((), Vec<Change>), ResourceRejected> {
        ensure_name(&wanted.name)?;
        if let Some(schema) = &wanted.schema {
            let bytes = schema.to_string().len();
            if bytes > MAX_SCHEMA_BYTES {
                let message = format!("schema must have at most {MAX_SCHEMA_BYTES} bytes, but has {bytes}");
                return Err(ResourceRejected::Type(problem("schema", message)));
            }
            Schema::read(schema).map_err(|SchemaProblem { field, message }| {
                let message = format!("`{field}`: {message}");
                ResourceRejected::Type(SchemaProblem { field, message })
            })?;
        }
        if self.resource_type(wanted.organization, &wanted.name).is_ok() {
            return Err(ResourceRejected::TypeExists(wanted.name));
        }
        if self.resource_types_of(wanted.organization).count() >= MOST_RESOURCE_TYPES {
            let message = format!("an organisation has at most {MOST_RESOURCE_TYPES} resource types");
            return Err(ResourceRejected::TooMuch(message));
        }
        Ok(((), vec![Change::ResourceType(wanted.id, Some(wanted))]))
    }

    /// Forgets a type with all its resources.
    #[must_use]
    pub fn delete_resource_type(&self, id: ResourceTypeId) -> Vec<Change> {
        let resources = self.custom_resources_of(id).map(|resource| Change::Resource(resource.id, None));
        resources.chain([Change::ResourceType(id, None)]).collect()
    }

    /// What checks documents against a type.
    ///
    /// # Errors
    /// When there is no such type.
    pub fn check_for(&self, of: &ResourceType) -> Result<ResourceCheck, ResourceRejected> {
        let found = self.resources.types.get(&of.id).map(|(_, check)| check.clone());
        found.ok_or_else(|| ResourceRejected::NoType(of.name.clone()))
    }

    /// Keeps a resource.
    ///
    /// # Errors
    /// When its type is gone, or the organisation has enough.
    pub fn create_resource(
        &self,
        id: ResourceId,
        checked: CheckedResource,
    ) -> Result<(CustomResource, Vec<Change>), ResourceRejected> {
        let CheckedResource { of, content } = checked;
        let resource = CustomResource { id, of, content };
        self.ensure_room(&resource, None)?;
        Ok((resource.clone(), vec![Change::Resource(id, Some(resource))]))
    }

    /// Gives a resource another content, made of what it was `before`.
    ///
    /// # Errors
    /// When it is not that any more, or the organisation has enough.
    pub fn update_resource(
        &self,
        before: &CustomResource,
        checked: CheckedResource,
    ) -> Result<(CustomResource, Vec<Change>), ResourceRejected> {
        if self.resources.get(before.id) != Some(before) || before.of != checked.of {
            return Err(ResourceRejected::Changed);
        }
        let resource = CustomResource { content: checked.content, ..before.clone() };
        self.ensure_room(&resource, Some(before))?;
        let changes = if resource == *before {
            Vec::new()
        } else {
            vec![Change::Resource(resource.id, Some(resource.clone()))]
        };
        Ok((resource, changes))
    }

    fn ensure_room(
        &self,
        resource: &CustomResource,
        before: Option<&CustomResource>,
    ) -> Result<(), ResourceRejected> {
        let owner = self.resources.owner(resource.of);
        let owner = owner.ok_or_else(|| ResourceRejected::NoType(resource.of.to_string()))?;
        let (count, taken) = self.resources.taken.get(&owner).copied().unwrap_or_default();
        let (bytes, freed) = (size(&resource.content), before.map_or(0, |before| size(&before.content)));
        if before.is_none() && count >= MOST_RESOURCES {
            let message = format!("an organisation has at most {MOST_RESOURCES} custom resources");
            return Err(ResourceRejected::TooMuch(message));
        }
        let total = taken - freed + bytes;
        if total > MOST_RESOURCE_BYTES && bytes > freed {
            let message = format!(
                "the custom resources of an organisation have at most {MOST_RESOURCE_BYTES} bytes, and with this would have \
                 {total}"
            );
            return Err(ResourceRejected::TooMuch(message));
        }
        Ok(())
    }
}

fn problem(field: &str, message: String) -> SchemaProblem {
    SchemaProblem { field: field.to_owned(), message }
}

/// Names are parts of paths, and what hooks hear of.
fn ensure_name(name: &str) -> Result<(), ResourceRejected> {
    let wrong = |message: String| Err(ResourceRejected::Type(problem("resource_type", message)));
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let begins_well = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    if !begins_well || name.len() > MAX_TYPE_NAME_LENGTH || !name.chars().all(allowed) {
        return wrong(format!(
            "resource_type must be up to {MAX_TYPE_NAME_LENGTH} letters, digits, `-`, `_` and `.`, a letter or digit first"
        ));
    }
    if RESERVED.contains(&name) {
        return wrong(format!("`{name}` is what the root has by itself; choose another resource_type"));
    }
    Ok(())
}

fn size(content: &Map<String, Value>) -> usize {
    content.iter().map(|(name, value)| name.len() + value.to_string().len() + 4).sum()
}
