//! Which objects somebody wants to see: by their labels, or by some of their fields.

use serde_json::Value;

use crate::{kind::Kind, metadata, path, status::Status};

/// What labels must be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

/// What fields must be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldRequirement {
    path: String,
    is: bool,
    value: String,
}

/// See the module's description.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<FieldRequirement>,
}

impl Selector {
    /// Understands both selectors of a request for objects of a kind.
    ///
    /// # Errors
    /// When one of them cannot be understood, or the kind cannot be selected by a field.
    pub fn read(kind: &Kind, labels: &str, fields: &str) -> Result<Self, Status> {
        Ok(Self { labels: read_labels(labels)?, fields: read_fields(kind, fields)? })
    }

    /// Whether it selects all there are.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one name it selects, if it does.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let of_name = |field: &&FieldRequirement| field.is && field.path == ".metadata.name";
        self.fields.iter().find(of_name).map(|field| field.value.as_str())
    }

    /// Whether it selects this one.
    #[must_use]
    pub fn admits(&self, object: &Value) -> bool {
        let label = |name: &str| object["metadata"]["labels"][name].as_str();
        let has = |requirement: &Requirement| match requirement {
            Requirement::In(name, values) => {
                label(name).is_some_and(|value| values.iter().any(|one| one == value))
            }
            Requirement::NotIn(name, values) => {
                label(name).is_none_or(|value| values.iter().all(|one| one != value))
            }
            Requirement::Exists(name) => label(name).is_some(),
            Requirement::Absent(name) => label(name).is_none(),
        };
        let is = |field: &FieldRequirement| (path::text_at(object, &field.path) == field.value) == field.is;
        self.labels.iter().all(has) && self.fields.iter().all(is)
    }
}

fn read_labels(text: &str) -> Result<Vec<Requirement>, Status> {
    let mut requirements = Vec::new();
    for part in split(text) {
        let wrong = || {
            let message = format!(
                "unable to parse requirement `{part}` of the label selector; it is like a=b, a!=b, a in (b,c), a notin (b), a or !a"
            );
            Status::bad_request(message)
        };
        let requirement = requirement(part).ok_or_else(wrong)?;
        let (name, values) = match &requirement {
            Requirement::In(name, values) | Requirement::NotIn(name, values) => (name, values.as_slice()),
            Requirement::Exists(name) | Requirement::Absent(name) => (name, &[][..]),
        };
        let is_sound = metadata::check_qualified(name).is_ok()
            && values.iter().all(|value| metadata::is_label_value(value));
        if !is_sound {
            return Err(wrong());
        }
        requirements.push(requirement);
    }
    Ok(requirements)
}

fn requirement(part: &str) -> Option<Requirement> {
    let named = |name: &str| name.trim().to_owned();
    if let Some((name, value)) = part.split_once("!=") {
        return Some(Requirement::NotIn(named(name), vec![named(value)]));
    }
    if let Some((name, value)) = part.split_once('=') {
        let value = value.strip_prefix('=').unwrap_or(value);
        return Some(Requirement::In(named(name), vec![named(value)]));
    }
    if let Some(list) = part.strip_suffix(')') {
        let (head, list) = list.split_once('(')?;
        let values = list.split(',').map(named).collect();
        let (name, word) = head.trim().rsplit_once(char::is_whitespace)?;
        return match word {
            "in" => Some(Requirement::In(named(name), values)),
            "notin" => Some(Requirement::NotIn(named(name), values)),
            _ => None,
        };
    }
    match part.strip_prefix('!') {
        Some(name) => Some(Requirement::Absent(named(name))),
        None => Some(Requirement::Exists(named(part))),
    }
}

/// At commas outside of brackets.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let is_end = |letter: char| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    };
    text.split(is_end).map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn read_fields(kind: &Kind, text: &str) -> Result<Vec<FieldRequirement>, Status> {
    let mut requirements = Vec::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let (name, value, is) = match (part.split_once("!="), part.split_once('=')) {
            (Some((name, value)), _) => (name, value, false),
            (None, Some((name, value))) => (name, value.strip_prefix('=').unwrap_or(value), true),
            (None, None) => {
                let message = format!(
                    "invalid field selector `{part}`; it is like metadata.name=a or metadata.name!=a"
                );
                return Err(Status::bad_request(message));
            }
        };
        let path = format!(".{}", name.trim());
        let is_known = [".metadata.name", ".metadata.namespace"].contains(&path.as_str())
            || kind.selectable.contains(&path);
        if !is_known {
            let message = format!(
                "field label not supported: {}; {} can be selected by metadata.name, metadata.namespace and what `selectableFields` says",
                name.trim(),
                kind.names.plural
            );
            return Err(Status::bad_request(message));
        }
        requirements.push(FieldRequirement { path, is, value: value.trim().to_owned() });
    }
    Ok(requirements)
}
