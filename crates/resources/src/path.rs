//! Where in an object something is: as much of JSONPath as columns and selectors are written in.

use serde_json::Value;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
    All,
    /// Entries of which a field is a text.
    Where(String, String),
}

/// What is there; several where the path leads to several.
#[must_use]
pub fn find<'a>(object: &'a Value, path: &str) -> Vec<&'a Value> {
    let Some(steps) = read(path) else { return Vec::new() };
    let mut found = vec![object];
    for step in steps {
        found = found.into_iter().flat_map(|value| taken(value, &step)).collect();
    }
    found
}

/// Whether a path can be understood.
#[must_use]
pub fn is_path(path: &str) -> bool {
    path.starts_with('.') && read(path).is_some()
}

/// What is there, as a text; empty if there is nothing.
pub(crate) fn text_at(object: &Value, path: &str) -> String {
    match find(object, path).first() {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn taken<'a>(value: &'a Value, step: &Step) -> Vec<&'a Value> {
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Index(index) => value.get(index).into_iter().collect(),
        Step::All => match value {
            Value::Array(entries) => entries.iter().collect(),
            Value::Object(fields) => fields.values().collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
        },
        Step::Where(field, wanted) => {
            let entries = value.as_array().into_iter().flatten();
            let is = |entry: &&Value| {
                let value = &entry[field];
                value.as_str().map_or_else(|| value.to_string(), str::to_owned) == *wanted
            };
            entries.filter(is).collect()
        }
    }
}

fn read(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path.strip_prefix('$').unwrap_or(path);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            if after.starts_with('[') {
                rest = after;
                continue;
            }
            let end = end_of_name(after);
            let name = &after[..end];
            rest = &after[end..];
            match name {
                "" => return None,
                "*" => steps.push(Step::All),
                name => steps.push(Step::Field(name.replace("\\.", "."))),
            }
        } else if let Some(after) = rest.strip_prefix('[') {
            let (inner, after) = bracket(after)?;
            steps.push(inner);
            rest = after;
        } else {
            return None;
        }
    }
    Some(steps)
}

/// At the first dot or bracket; a backslash takes a dot into the name.
fn end_of_name(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, letter) in text.char_indices() {
        if (letter == '.' || letter == '[') && !is_escaped {
            return at;
        }
        is_escaped = letter == '\\';
    }
    text.len()
}

fn bracket(text: &str) -> Option<(Step, &str)> {
    if let Some(filter) = text.strip_prefix("?(") {
        let (filter, rest) = filter.split_once(")]")?;
        let (field, value) = filter.split_once("==")?;
        let field = field.trim().strip_prefix("@.")?.trim().to_owned();
        return Some((Step::Where(field, unquoted(value.trim()).to_owned()), rest));
    }
    for quote in ['\'', '"'] {
        if let Some(name) = text.strip_prefix(quote) {
            let end = name.find(quote)?;
            let rest = name[end + 1..].strip_prefix(']')?;
            return Some((Step::Field(name[..end].to_owned()), rest));
        }
    }
    let (inner, rest) = text.split_once(']')?;
    match inner.trim() {
        "*" => Some((Step::All, rest)),
        index => Some((Step::Index(index.parse().ok()?), rest)),
    }
}

fn unquoted(text: &str) -> &str {
    let inner = |quote: char| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}
