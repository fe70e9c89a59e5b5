//! Structural schemas: what objects of a kind must be, in the words of OpenAPI 3 that definitions are written in. Beside
//! saying what is wrong with an object they tell which fields nobody described, and what is meant by those left out.
//! The judging is done by `schema/`, which a structural schema is translated for.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Map, Value, json};

use crate::{
    schema::{Limits, Schema, SchemaProblem},
    status::Cause,
};

/// Words of these extensions that are heeded; others that begin like them are refused.
const EXTENSIONS: [&str; 6] = [
    PRESERVE,
    EMBEDDED,
    INT_OR_STRING,
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
];
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";
/// What describes nothing that holds where schemas are combined.
const NOT_IN_COMBINATIONS: [&str; 6] =
    ["type", "default", "additionalProperties", "nullable", "description", "title"];
/// What every object has at its top, whatever the schema says.
const OF_EVERY_OBJECT: [&str; 3] = ["apiVersion", "kind", "metadata"];
/// Of real kinds: the largest known ones have some thousand parts.
const LIMITS: Limits = Limits { nodes: 20_000, patterns: 500 };

/// A structural schema that was understood. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Structure {
    raw: Arc<Value>,
    /// What clients are told; mostly the same.
    description: Arc<Value>,
    check: Arc<Schema>,
}

impl Structure {
    /// Understands a schema. `at` is where it stands, for errors.
    ///
    /// # Errors
    /// What in it is not structural, or cannot be heeded.
    pub fn read(schema: &Value, at: &str) -> Result<Self, Vec<Cause>> {
        let mut causes = Vec::new();
        if schema["type"] != "object" {
            causes.push(Cause::invalid(format!("{at}.type"), "it must be \"object\" at the root"));
        }
        judge(schema, at, &mut causes);
        if !causes.is_empty() {
            return Err(causes);
        }
        let read = Schema::read_within(&in_json_schema(schema), LIMITS).map_err(|problem| {
            let field = problem.field.strip_prefix("schema").map(str::to_owned).unwrap_or(problem.field);
            vec![Cause::invalid(format!("{at}{field}"), problem.message)]
        })?;
        let raw = Arc::new(schema.clone());
        let structure = Self { description: Arc::clone(&raw), raw, check: Arc::new(read) };
        structure.judge_defaults(at)?;
        Ok(structure)
    }

    /// One for objects of which nothing is said.
    ///
    /// # Panics
    /// Never: the schema is a constant.
    #[must_use]
    pub fn open() -> Self {
        let raw = Arc::new(json!({"type": "object", PRESERVE: true}));
        let check = Schema::read_within(&json!({"type": "object"}), LIMITS);
        Self {
            description: Arc::clone(&raw),
            raw,
            check: Arc::new(check.expect("a schema that is a constant")),
        }
    }

    /// The same, described otherwise: where somebody else judges what is left open here, clients are told of it all the
    /// same.
    #[must_use]
    pub fn described_as(self, description: Value) -> Self {
        Self { description: Arc::new(description), ..self }
    }

    /// What clients are told.
    #[must_use]
    pub fn description(&self) -> &Value {
        &self.description
    }

    /// As it was given.
    #[must_use]
    pub fn raw(&self) -> &Value {
        &self.raw
    }

    /// Puts in what is meant by fields that were left out.
    pub fn fill_in(&self, object: &mut Value) {
        fill_in(&self.raw, object);
    }

    /// Takes out fields that nobody described, and tells which.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut unknown = Vec::new();
        prune(&self.raw, object, "", true, &mut unknown);
        unknown
    }

    /// What is wrong with an object.
    #[must_use]
    pub fn check(&self, object: &Value) -> Vec<Cause> {
        let mut causes: Vec<Cause> = self.check.check(object).into_iter().map(cause).collect();
        find_twins(&self.raw, object, "", &mut causes);
        causes
    }

    fn judge_defaults(&self, at: &str) -> Result<(), Vec<Cause>> {
        let mut causes = Vec::new();
        judge_defaults(&self.raw, at, &mut causes);
        if causes.is_empty() { Ok(()) } else { Err(causes) }
    }
}

fn cause(problem: SchemaProblem) -> Cause {
    let SchemaProblem { field, message } = problem;
    if message == crate::schema::MISSING {
        Cause::required(field, "it is required")
    } else {
        Cause::invalid(field, message)
    }
}

fn flag(schema: &Value, word: &str) -> bool {
    schema[word] == true
}

/// Schemas right below one, with where they stand.
fn children<'a>(schema: &'a Value, at: &str) -> Vec<(String, &'a Value)> {
    let properties = schema["properties"].as_object().into_iter().flatten();
    let mut children: Vec<(String, &Value)> =
        properties.map(|(name, child)| (format!("{at}.properties[{name}]"), child)).collect();
    for word in ["items", "additionalProperties"] {
        if schema[word].is_object() {
            children.push((format!("{at}.{word}"), &schema[word]));
        }
    }
    children
}

/// Whether a schema is structural: each part of an object has one type, said outside of combinations.
fn judge(schema: &Value, at: &str, causes: &mut Vec<Cause>) {
    let Some(said) = schema.as_object() else {
        causes.push(Cause::invalid(at, "a schema is an object"));
        return;
    };
    if !said.contains_key("type") && !flag(schema, INT_OR_STRING) && !flag(schema, PRESERVE) {
        causes.push(Cause::required(format!("{at}.type"), "every part of a structural schema has a type"));
    }
    for word in said.keys() {
        let heeded = !word.starts_with("x-") || EXTENSIONS.contains(&word.as_str());
        if !heeded || word == "$ref" || word == "definitions" || word == "$defs" {
            let message = "it is not supported, and what is not heeded is not taken; leave it out";
            causes.push(Cause::forbidden(format!("{at}.{word}"), message));
        }
    }
    if said.contains_key("properties") && said.contains_key("additionalProperties") {
        let message = "a schema has either properties or additionalProperties";
        causes.push(Cause::forbidden(format!("{at}.additionalProperties"), message));
    }
    if schema["additionalProperties"] == false {
        causes.push(Cause::forbidden(
            format!("{at}.additionalProperties"),
            "fields that are not described are left out anyway; leave it out",
        ));
    }
    if schema["uniqueItems"] == true {
        let message = "say x-kubernetes-list-type: set instead";
        causes.push(Cause::forbidden(format!("{at}.uniqueItems"), message));
    }
    judge_list(schema, at, causes);
    for (at, child) in children(schema, at) {
        judge(child, &at, causes);
    }
    for word in ["allOf", "anyOf", "oneOf"] {
        for (index, part) in schema[word].as_array().into_iter().flatten().enumerate() {
            judge_combined(part, &format!("{at}.{word}[{index}]"), flag(schema, INT_OR_STRING), causes);
        }
    }
    if schema["not"].is_object() {
        judge_combined(&schema["not"], &format!("{at}.not"), false, causes);
    }
}

fn judge_list(schema: &Value, at: &str, causes: &mut Vec<Cause>) {
    let field = format!("{at}.x-kubernetes-list-type");
    match schema["x-kubernetes-list-type"].as_str() {
        None | Some("atomic" | "set") => {}
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array();
            let are_texts = keys.is_some_and(|keys| !keys.is_empty() && keys.iter().all(Value::is_string));
            if !are_texts {
                let message = "a list that is a map says by which fields of its entries";
                causes.push(Cause::required(format!("{at}.x-kubernetes-list-map-keys"), message));
            }
        }
        Some(_) => causes.push(Cause::invalid(field, "it is atomic, set or map")),
    }
}

fn judge_combined(schema: &Value, at: &str, is_int_or_string: bool, causes: &mut Vec<Cause>) {
    for word in schema.as_object().into_iter().flat_map(Map::keys) {
        // The form in which others write that something is a number or a text.
        let is_usual = is_int_or_string && word == "type";
        if (NOT_IN_COMBINATIONS.contains(&word.as_str()) || word.starts_with("x-")) && !is_usual {
            causes.push(Cause::forbidden(format!("{at}.{word}"), "say it outside of the combination"));
        }
    }
    for (at, child) in children(schema, at) {
        judge_combined(child, &at, false, causes);
    }
}

fn judge_defaults(schema: &Value, at: &str, causes: &mut Vec<Cause>) {
    if let Some(default) = schema.get("default") {
        let found = Schema::read_within(&in_json_schema(schema), LIMITS).map(|schema| schema.check(default));
        if let Some(problem) = found.ok().and_then(|problems| problems.into_iter().next()) {
            let message = format!("the default is not what the schema says: {}", problem.message);
            causes.push(Cause::invalid(format!("{at}.default"), message));
        }
        let mut pruned = default.clone();
        let mut unknown = Vec::new();
        prune(schema, &mut pruned, "", false, &mut unknown);
        causes.extend(unknown.into_iter().map(|field| {
            Cause::invalid(format!("{at}.default"), format!("the default has an unknown field `{field}`"))
        }));
    }
    for (at, child) in children(schema, at) {
        judge_defaults(child, &at, causes);
    }
}

/// The same in the words that `schema/` heeds.
fn in_json_schema(schema: &Value) -> Value {
    let Some(said) = schema.as_object() else { return schema.clone() };
    let mut written = Map::new();
    for (word, value) in said {
        match word.as_str() {
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                let properties = properties.map(|(name, child)| (name.clone(), in_json_schema(child)));
                written.insert(word.clone(), Value::Object(properties.collect()));
            }
            "items" | "additionalProperties" | "not" => {
                written.insert(word.clone(), in_json_schema(value));
            }
            "allOf" | "anyOf" | "oneOf" => {
                let parts = value.as_array().into_iter().flatten().map(in_json_schema);
                written.insert(word.clone(), parts.collect());
            }
            "type" if flag(schema, "nullable") => {
                written.insert(word.clone(), json!([value, "null"]));
            }
            "enum" if flag(schema, "nullable") => {
                let mut values = value.as_array().cloned().unwrap_or_default();
                values.push(Value::Null);
                written.insert(word.clone(), Value::Array(values));
            }
            // A flag there that goes with a limit, a limit here.
            "exclusiveMinimum" | "exclusiveMaximum" if value.is_boolean() => {}
            "minimum" | "maximum" => {
                let exclusive = if word == "minimum" { "exclusiveMinimum" } else { "exclusiveMaximum" };
                let word = if flag(schema, exclusive) { exclusive } else { word };
                written.insert(word.to_owned(), value.clone());
            }
            "nullable" | "externalDocs" | "example" => {}
            word if word.starts_with("x-") => {}
            word => {
                written.insert(word.to_owned(), value.clone());
            }
        }
    }
    if flag(schema, INT_OR_STRING) {
        let null = flag(schema, "nullable").then_some("null");
        let types: Vec<&str> = ["integer", "string"].into_iter().chain(null).collect();
        written.insert("type".to_owned(), json!(types));
        written.remove("anyOf");
    }
    Value::Object(written)
}

fn fill_in(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, child) in schema["properties"].as_object().into_iter().flatten() {
                let is_left_out = match fields.get(name) {
                    None => true,
                    // Where nothing is no value, it stands for what is meant by it.
                    Some(Value::Null) => !flag(child, "nullable"),
                    Some(_) => false,
                };
                if is_left_out && let Some(default) = child.get("default") {
                    fields.insert(name.clone(), default.clone());
                }
                if let Some(value) = fields.get_mut(name) {
                    fill_in(child, value);
                }
            }
            if schema["additionalProperties"].is_object() {
                fields.values_mut().for_each(|value| fill_in(&schema["additionalProperties"], value));
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(|entry| fill_in(&schema["items"], entry)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn prune(schema: &Value, value: &mut Value, at: &str, is_object: bool, unknown: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let properties = schema["properties"].as_object();
            let others = &schema["additionalProperties"];
            let keeps_all = flag(schema, PRESERVE) || *others == true;
            let is_object = is_object || flag(schema, EMBEDDED);
            fields.retain(|name, value| {
                let field = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                if is_object && OF_EVERY_OBJECT.contains(&name.as_str()) {
                    return true;
                }
                if let Some(child) = properties.and_then(|properties| properties.get(name)) {
                    prune(child, value, &field, false, unknown);
                    return true;
                }
                if others.is_object() {
                    prune(others, value, &field, false, unknown);
                    return true;
                }
                if !keeps_all {
                    unknown.push(field);
                }
                keeps_all
            });
        }
        Value::Array(entries) if schema["items"].is_object() => {
            for (index, entry) in entries.iter_mut().enumerate() {
                prune(&schema["items"], entry, &format!("{at}[{index}]"), false, unknown);
            }
        }
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Finds entries that are in a list twice though it is a set or a map.
fn find_twins(schema: &Value, value: &Value, at: &str, causes: &mut Vec<Cause>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let child = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                if child.is_object() {
                    let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                    find_twins(child, value, &at, causes);
                }
            }
        }
        Value::Array(entries) => {
            let kind = schema["x-kubernetes-list-type"].as_str();
            let keys = schema["x-kubernetes-list-map-keys"].as_array();
            let mut seen = BTreeSet::new();
            for (index, entry) in entries.iter().enumerate() {
                let at = format!("{at}[{index}]");
                let key = match (kind, keys) {
                    (Some("set"), _) => Some(entry.to_string()),
                    (Some("map"), Some(keys)) => {
                        let key = |key: &Value| entry.get(key.as_str().unwrap_or_default()).cloned();
                        Some(
                            Value::from_iter(keys.iter().map(|name| key(name).unwrap_or_default()))
                                .to_string(),
                        )
                    }
                    _ => None,
                };
                if key.is_some_and(|key| !seen.insert(key)) {
                    causes.push(Cause::invalid(&at, "it is in the list already"));
                }
                find_twins(&schema["items"], entry, &at, causes);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
