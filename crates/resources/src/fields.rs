//! Sets of fields, as `managedFields` says who owns what: written `{"f:spec": {"f:size": {}}}`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::typing::{ListType, Typing};

/// A set of fields of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Fields {
    /// This one is in it itself.
    is_in: bool,
    /// Those within, by the names they are written with.
    within: BTreeMap<String, Self>,
}

impl Fields {
    /// The fields of an object that have a value of their own.
    pub(crate) fn of(value: &Value, typing: Typing<'_>) -> Self {
        let mut fields = Self::default();
        match value {
            Value::Object(map) if !typing.is_atomic_map() && !map.is_empty() => {
                for (name, value) in map {
                    fields.within.insert(format!("f:{name}"), Self::of(value, typing.field(name)));
                }
            }
            Value::Array(entries) if typing.list_type() != ListType::Atomic && !entries.is_empty() => {
                for entry in entries {
                    if let Some(name) = typing.name_of(entry) {
                        let within = Self::of(entry, typing.entry());
                        fields.within.insert(name, Self { is_in: true, within: within.within });
                    }
                }
            }
            Value::Object(_)
            | Value::Array(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_) => fields.is_in = true,
        }
        fields
    }

    /// The fields that have another value than they had, or had none, and those that have gone.
    pub(crate) fn changed(before: &Value, after: &Value, typing: Typing<'_>) -> (Self, Self) {
        let (before_fields, after_fields) = (Self::of(before, typing), Self::of(after, typing));
        let gone = before_fields.without(&after_fields);
        let mut changed = after_fields.without(&before_fields);
        changed.add(&Self::differing(before, after, typing));
        (changed, gone)
    }

    /// Fields that both have, with other values.
    fn differing(one: &Value, other: &Value, typing: Typing<'_>) -> Self {
        let mut fields = Self::default();
        if one == other {
            return fields;
        }
        match (one, other) {
            (Value::Object(one), Value::Object(other)) if !typing.is_atomic_map() => {
                for (name, value) in one {
                    let Some(other) = other.get(name) else { continue };
                    fields.put(format!("f:{name}"), Self::differing(value, other, typing.field(name)));
                }
            }
            (Value::Array(one), Value::Array(other)) if typing.list_type() != ListType::Atomic => {
                for entry in one {
                    let Some(name) = typing.name_of(entry) else { continue };
                    let same = other.iter().find(|other| typing.name_of(other).as_ref() == Some(&name));
                    if let Some(other) = same {
                        fields.put(name, Self::differing(entry, other, typing.entry()));
                    }
                }
            }
            _ => fields.is_in = true,
        }
        fields
    }

    fn put(&mut self, name: String, fields: Self) {
        if !fields.is_empty() {
            self.within.insert(name, fields);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.is_in && self.within.values().all(Self::is_empty)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.is_in |= other.is_in;
        for (name, fields) in &other.within {
            self.within.entry(name.clone()).or_default().add(fields);
        }
    }

    /// Those that are not in the other set.
    #[must_use]
    pub(crate) fn without(&self, other: &Self) -> Self {
        let mut left = Self { is_in: self.is_in && !other.is_in, within: BTreeMap::new() };
        for (name, fields) in &self.within {
            let fields = other.within.get(name).map_or_else(|| fields.clone(), |other| fields.without(other));
            left.put(name.clone(), fields);
        }
        left
    }

    /// Those that are in the other set too.
    #[must_use]
    pub(crate) fn shared(&self, other: &Self) -> Self {
        let mut shared = Self { is_in: self.is_in && other.is_in, within: BTreeMap::new() };
        for (name, fields) in &self.within {
            if let Some(other) = other.within.get(name) {
                shared.put(name.clone(), fields.shared(other));
            }
        }
        shared
    }

    /// Of these fields those that have another value in `one` than in `other`. What holds others has none of its own.
    #[must_use]
    pub(crate) fn that_differ(&self, one: Option<&Value>, other: Option<&Value>, typing: Typing<'_>) -> Self {
        let holds_others = |value: Option<&Value>| match value {
            Some(Value::Object(_)) => !typing.is_atomic_map(),
            Some(Value::Array(_)) => typing.list_type() != ListType::Atomic,
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => false,
        };
        let differs = !(holds_others(one) && holds_others(other)) && one != other;
        let mut fields = Self { is_in: self.is_in && differs, within: BTreeMap::new() };
        for (name, within) in &self.within {
            let (one, other) = (part_of(one, name, typing), part_of(other, name, typing));
            let typing = name.strip_prefix("f:").map_or_else(|| typing.entry(), |field| typing.field(field));
            fields.put(name.clone(), within.that_differ(one, other, typing));
        }
        fields
    }

    /// As people read them, such as `.spec.size`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.walk("", &mut paths);
        paths
    }

    fn walk(&self, at: &str, paths: &mut Vec<String>) {
        if self.is_in {
            paths.push(at.to_owned());
        }
        for (name, fields) in &self.within {
            let part = match name.split_once(':') {
                Some(("f", field)) => format!(".{field}"),
                Some(("k", key)) => {
                    let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
                    let key: Vec<String> =
                        key.iter().map(|(name, value)| format!("{name}={value}")).collect();
                    format!("[{}]", key.join(","))
                }
                Some((_, value)) => format!("[={value}]"),
                None => name.clone(),
            };
            fields.walk(&format!("{at}{part}"), paths);
        }
    }

    /// Takes these fields out of an object, and what is left empty by it, but for what is `kept`.
    pub(crate) fn take_out(&self, value: &mut Value, typing: Typing<'_>, kept: &Self) {
        let nothing = Self::default();
        let kept_within = |name: &str| kept.within.get(name).unwrap_or(&nothing);
        match value {
            Value::Object(map) => {
                for (written, fields) in &self.within {
                    let Some(name) = written.strip_prefix("f:") else { continue };
                    let Some(value) = map.get_mut(name) else { continue };
                    let (kept, was_empty) = (kept_within(written), is_hollow(value));
                    fields.take_out(value, typing.field(name), kept);
                    let goes = (fields.is_in && fields.within.is_empty()) || (!was_empty && is_hollow(value));
                    if goes && kept.is_empty() {
                        map.remove(name);
                    }
                }
            }
            Value::Array(entries) => {
                entries.retain_mut(|entry| {
                    let Some(name) = typing.name_of(entry) else { return true };
                    let Some(fields) = self.within.get(&name) else { return true };
                    let kept = kept_within(&name);
                    if fields.is_in && kept.is_empty() {
                        return false;
                    }
                    fields.take_out(entry, typing.entry(), kept);
                    true
                });
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// As it is written.
    pub(crate) fn to_value(&self) -> Value {
        let mut written = Map::new();
        if self.is_in && !self.within.is_empty() {
            written.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (name, fields) in &self.within {
            written.insert(name.clone(), fields.to_value());
        }
        Value::Object(written)
    }

    /// As it was written; what cannot be read is no set.
    pub(crate) fn from_value(value: &Value) -> Option<Self> {
        let Self { within, .. } = Self::part(value, 0)?;
        Some(Self { is_in: false, within })
    }

    fn part(value: &Value, depth: usize) -> Option<Self> {
        /// Objects are nested less deeply.
        const DEEPEST: usize = 110;
        let map = value.as_object().filter(|_| depth < DEEPEST)?;
        let mut fields = Self { is_in: map.is_empty() || map.contains_key("."), within: BTreeMap::new() };
        for (name, value) in map {
            if name != "." {
                fields.within.insert(name.clone(), Self::part(value, depth + 1)?);
            }
        }
        Some(fields)
    }
}

/// What has that name in a value.
fn part_of<'a>(value: Option<&'a Value>, name: &str, typing: Typing<'_>) -> Option<&'a Value> {
    let value = value?;
    match name.strip_prefix("f:") {
        Some(field) => value.get(field),
        None => value.as_array()?.iter().find(|entry| typing.name_of(entry).as_deref() == Some(name)),
    }
}

fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(entries) => entries.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
