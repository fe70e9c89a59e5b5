//! The metadata of objects: what may be written into it, and what only the root writes.

use serde_json::{Map, Value};

use crate::status::Cause;

/// Bytes of all annotations of an object.
const MOST_ANNOTATION_BYTES: usize = 256 * 1024;
/// Characters of a name; part of paths, and of the names others are told by.
const LONGEST_NAME: usize = 253;
/// Characters of the value of a label, and of one part of a name.
const LONGEST_LABEL: usize = 63;
/// Random characters behind `generateName`.
pub const SUFFIX_LENGTH: usize = 5;

/// What metadata may have.
const KNOWN: [&str; 15] = [
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
];
/// What only the root writes.
const OF_THE_ROOT: [&str; 6] =
    ["uid", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"];

/// The metadata of an object; a text in place of anything missing.
#[must_use]
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// Whether an object is on its way out.
#[must_use]
pub fn is_terminating(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// Who has to agree before an object goes.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The ids of those it belongs to.
pub fn owners(object: &Value) -> impl Iterator<Item = &str> {
    let references = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    references.filter_map(|reference| reference["uid"].as_str())
}

/// Takes out what metadata does not have, and tells which.
pub(crate) fn prune(object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|name, value| {
            let is_known = KNOWN.contains(&name.as_str());
            if !is_known {
                unknown.push(format!("metadata.{name}"));
            }
            // Null stands for absent.
            is_known && !value.is_null()
        });
    }
    unknown
}

/// Gives an object what only the root writes as it was before; of a new one it has nothing.
pub(crate) fn keep(object: &mut Value, before: Option<&Value>) {
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    for name in OF_THE_ROOT {
        match before.map(|before| &before["metadata"][name]).filter(|value| !value.is_null()) {
            Some(value) => drop(metadata.insert(name.to_owned(), value.clone())),
            None => drop(metadata.remove(name)),
        }
    }
}

/// What is wrong with the metadata of an object.
pub(crate) fn check(object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if let Err(why) = check_name(name) {
        causes.push(Cause::invalid("metadata.name", format!("Invalid value: \"{name}\": {why}")));
    }
    check_map(metadata, "labels", &mut causes, |value| {
        (!is_label_value(value)).then(|| {
            format!("Invalid value: \"{value}\": up to {LONGEST_LABEL} letters, digits, `-`, `_` and `.`, a letter or digit at both ends")
        })
    });
    check_map(metadata, "annotations", &mut causes, |_| None);
    let annotations = metadata["annotations"].as_object().into_iter().flatten();
    let bytes: usize = annotations.map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum();
    if bytes > MOST_ANNOTATION_BYTES {
        let message = format!("they have {bytes} bytes, and at most {MOST_ANNOTATION_BYTES} are kept");
        causes.push(Cause::invalid("metadata.annotations", message));
    }
    check_finalizers(metadata, &mut causes);
    check_owners(metadata, &mut causes);
    causes
}

fn check_map(metadata: &Value, field: &str, causes: &mut Vec<Cause>, judge: impl Fn(&str) -> Option<String>) {
    let Some(map) = metadata.get(field) else { return };
    let Some(map) = map.as_object() else {
        causes.push(Cause::invalid(format!("metadata.{field}"), "it must be an object of texts"));
        return;
    };
    for (name, value) in map {
        let at = format!("metadata.{field}.{name}");
        if let Err(why) = check_qualified(name) {
            causes.push(Cause::invalid(
                format!("metadata.{field}"),
                format!("Invalid value: \"{name}\": {why}"),
            ));
        }
        match value.as_str().map(&judge) {
            None => causes.push(Cause::invalid(at, "it must be a text")),
            Some(Some(message)) => causes.push(Cause::invalid(at, message)),
            Some(None) => {}
        }
    }
}

fn check_finalizers(metadata: &Value, causes: &mut Vec<Cause>) {
    let Some(finalizers) = metadata.get("finalizers") else { return };
    let Some(finalizers) = finalizers.as_array() else {
        causes.push(Cause::invalid("metadata.finalizers", "it must be a list of texts"));
        return;
    };
    for (index, finalizer) in finalizers.iter().enumerate() {
        let found = finalizer.as_str().map(check_qualified);
        if !matches!(found, Some(Ok(()))) {
            let message = "it must be a name, such as example.com/cleanup";
            causes.push(Cause::invalid(format!("metadata.finalizers[{index}]"), message));
        }
    }
}

fn check_owners(metadata: &Value, causes: &mut Vec<Cause>) {
    let Some(references) = metadata.get("ownerReferences") else { return };
    let Some(references) = references.as_array() else {
        causes.push(Cause::invalid("metadata.ownerReferences", "it must be a list"));
        return;
    };
    for (index, reference) in references.iter().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if reference[field].as_str().is_none_or(str::is_empty) {
                let at = format!("metadata.ownerReferences[{index}].{field}");
                causes.push(Cause::required(at, "it must not be empty"));
            }
        }
    }
    let controllers = references.iter().filter(|reference| reference["controller"] == true).count();
    if controllers > 1 {
        let message = "only one of them can be the controller";
        causes.push(Cause::invalid("metadata.ownerReferences", message));
    }
}

/// Finalizers may only be taken away from an object that goes.
pub(crate) fn check_transition(before: &Value, after: &Value) -> Vec<Cause> {
    let is_new = |finalizer: &&str| !finalizers(before).any(|known| known == *finalizer);
    if is_terminating(before) && finalizers(after).any(|finalizer| is_new(&finalizer)) {
        let message = "no new finalizers can be added if the object is being deleted";
        return vec![Cause::forbidden("metadata.finalizers", message)];
    }
    Vec::new()
}

/// Whether a text can be the name of an object.
///
/// # Errors
/// What it must be.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.len() <= LONGEST_NAME && name.split('.').all(is_dns_label) {
        return Ok(());
    }
    Err(format!(
        "a name has at most {LONGEST_NAME} lower case letters, digits, `-` and `.`, and a letter or digit at both ends of \
         each part"
    ))
}

pub(crate) fn is_dns_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty()
        && text.len() <= LONGEST_LABEL
        && text.bytes().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether a text can be the name of a label or annotation: a name, or a domain, `/` and a name.
pub(crate) fn check_qualified(text: &str) -> Result<(), String> {
    let (domain, name) = match text.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, text),
    };
    if domain.is_none_or(|domain| check_name(domain).is_ok()) && !name.is_empty() && is_label_value(name) {
        return Ok(());
    }
    Err(format!(
        "up to {LONGEST_LABEL} letters, digits, `-`, `_` and `.`, a letter or digit at both ends; a domain and `/` may be before it"
    ))
}

pub(crate) fn is_label_value(text: &str) -> bool {
    let is_end = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.len() <= LONGEST_LABEL
        && text.bytes().all(allowed)
        && is_end(text.bytes().next())
        && is_end(text.bytes().next_back())
}

/// The fields of the metadata, made if there are none.
pub(crate) fn fields(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let fields = object.as_object_mut()?;
    fields.entry("metadata").or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}
