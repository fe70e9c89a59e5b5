//! Who owns which fields of an object, and what follows when somebody applies what they want of it: fields they wanted
//! before and want no longer go, and those that others own are refused, unless taken by force.

use serde_json::{Map, Value, json};

use crate::{
    fields::Fields,
    status::{About, Cause, CauseKind, Reason, Status},
    typing::{ListType, Typing},
};

/// What the root gives every object by itself; nobody owns it.
const OF_THE_ROOT: [&str; 9] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "selfLink",
    "managedFields",
];

/// How somebody changes objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Apply,
    Update,
}

impl Operation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who changes an object, how and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manager<'a> {
    pub(crate) name: &'a str,
    pub(crate) operation: Operation,
    pub(crate) api_version: &'a str,
    pub(crate) now: &'a str,
    /// `status`, where that alone is written.
    pub(crate) subresource: Option<&'a str>,
}

impl Manager<'_> {
    fn is(&self, entry: &Entry) -> bool {
        entry.manager == self.name
            && entry.operation == self.operation.as_str()
            && entry.subresource.as_deref() == self.subresource
            && (entry.api_version == self.api_version || self.operation == Operation::Apply)
    }
}

/// One entry of `managedFields`.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    manager: String,
    operation: String,
    api_version: String,
    time: String,
    subresource: Option<String>,
    fields: Fields,
}

fn read(object: &Value) -> Vec<Entry> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entry = |entry: &Value| {
        Some(Entry {
            manager: text(&entry["manager"]),
            operation: text(&entry["operation"]),
            api_version: text(&entry["apiVersion"]),
            time: text(&entry["time"]),
            subresource: entry["subresource"].as_str().map(str::to_owned),
            fields: Fields::from_value(&entry["fieldsV1"])?,
        })
    };
    entries.filter_map(entry).filter(|entry| !entry.manager.is_empty()).collect()
}

fn write(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    let written = |entry: &Entry| {
        let mut written = json!({
            "manager": entry.manager, "operation": entry.operation, "apiVersion": entry.api_version,
            "time": entry.time, "fieldsType": "FieldsV1", "fieldsV1": entry.fields.to_value(),
        });
        if let Some(subresource) = &entry.subresource {
            written["subresource"] = Value::from(subresource.as_str());
        }
        written
    };
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".to_owned(), entries.iter().map(written).collect());
    }
}

/// An object without what nobody owns.
pub(crate) fn ownable(object: &Value) -> Value {
    let mut fields = object.as_object().cloned().unwrap_or_default();
    fields.remove("apiVersion");
    fields.remove("kind");
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|name, _| !OF_THE_ROOT.contains(&name.as_str()));
        if metadata.is_empty() {
            fields.remove("metadata");
        }
    }
    Value::Object(fields)
}

/// Notes who has changed what between two versions of an object.
pub(crate) fn note_update(before: Option<&Value>, after: &mut Value, schema: &Value, manager: Manager<'_>) {
    let typing = Typing::of_object(schema);
    let empty = Value::Object(Map::new());
    let (changed, gone) = Fields::changed(&before.map_or(empty, ownable), &ownable(after), typing);
    // What its sender says of the past of an object counts, so that it can be put right.
    let mut entries = read(after);
    if entries.is_empty() && after["metadata"]["managedFields"].is_null() {
        entries = before.map(read).unwrap_or_default();
    }
    for entry in &mut entries {
        entry.fields = entry.fields.without(&gone);
        if !manager.is(entry) {
            entry.fields = entry.fields.without(&changed);
        }
    }
    add(&mut entries, manager, changed);
    write(after, entries);
}

fn add(entries: &mut Vec<Entry>, manager: Manager<'_>, fields: Fields) {
    if fields.is_empty() {
        return;
    }
    if let Some(own) = entries.iter_mut().find(|entry| manager.is(entry)) {
        own.fields.add(&fields);
        manager.now.clone_into(&mut own.time);
        return;
    }
    entries.push(Entry {
        manager: manager.name.to_owned(),
        operation: manager.operation.as_str().to_owned(),
        api_version: manager.api_version.to_owned(),
        time: manager.now.to_owned(),
        subresource: manager.subresource.map(str::to_owned),
        fields,
    });
}

/// What comes of an object when a manager applies what it wants of it.
///
/// # Errors
/// When other managers own fields of it that have other values, unless `by_force`.
pub(crate) fn apply(
    live: &Value,
    wanted: &Value,
    schema: &Value,
    manager: Manager<'_>,
    by_force: bool,
    about: About,
) -> Result<Value, Status> {
    let typing = Typing::of_object(schema);
    let own_wish = ownable(wanted);
    let fields = Fields::of(&own_wish, typing);
    let mut entries = read(live);
    let live_ownable = ownable(live);
    let mut causes = Vec::new();
    for entry in entries.iter_mut().filter(|entry| !manager.is(entry)) {
        let disputed = entry.fields.shared(&fields).that_differ(Some(&live_ownable), Some(&own_wish), typing);
        if disputed.is_empty() {
            continue;
        }
        if by_force {
            entry.fields = entry.fields.without(&disputed);
            continue;
        }
        let message = format!("conflict with \"{}\" using {}", entry.manager, entry.api_version);
        causes.extend(disputed.paths().into_iter().map(|field| Cause {
            kind: CauseKind::ManagerConflict,
            field,
            message: message.clone(),
        }));
    }
    if !causes.is_empty() {
        return Err(refused(about, causes));
    }
    let own = entries.iter().position(|entry| manager.is(entry));
    let before = own.map(|index| entries.remove(index));
    let mut merged = live.clone();
    merge(&mut merged, wanted, typing);
    if let Some(before) = &before {
        let mut others = fields.clone();
        entries.iter().for_each(|entry| others.add(&entry.fields));
        before.fields.without(&others).take_out(&mut merged, typing, &others);
    }
    let is_same =
        before.as_ref().is_some_and(|before| before.fields == fields) && ownable(&merged) == live_ownable;
    let now = before.filter(|_| is_same).map_or_else(|| manager.now.to_owned(), |before| before.time);
    add(&mut entries, Manager { now: &now, ..manager }, fields);
    write(&mut merged, entries);
    Ok(merged)
}

fn refused(about: About, causes: Vec<Cause>) -> Status {
    let shown: Vec<String> =
        causes.iter().map(|cause| format!("{}: {}", cause.message, cause.field)).collect();
    let message = match shown.as_slice() {
        [only] => format!("Apply failed with 1 conflict: {only}"),
        several => format!("Apply failed with {} conflicts: {}", several.len(), several.join("; ")),
    };
    Status { about: about.into(), causes, ..Status::new(Reason::Conflict, message) }
}

/// Puts what is wanted into an object, part by part.
fn merge(live: &mut Value, wanted: &Value, typing: Typing<'_>) {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) if !typing.is_atomic_map() => {
            for (name, wanted) in wanted {
                match live.get_mut(name) {
                    Some(live) => merge(live, wanted, typing.field(name)),
                    None => drop(live.insert(name.clone(), wanted.clone())),
                }
            }
        }
        (Value::Array(live), Value::Array(wanted)) if typing.list_type() != ListType::Atomic => {
            for wanted in wanted {
                let name = typing.name_of(wanted);
                match live.iter_mut().find(|live| typing.name_of(live) == name) {
                    Some(live) => merge(live, wanted, typing.entry()),
                    None => live.push(wanted.clone()),
                }
            }
        }
        (live, wanted) => *live = wanted.clone(),
    }
}
