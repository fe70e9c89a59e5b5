//! One object of an SLA against its table: what is known, of the right type and honoured comes out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    MAX_ENTRY_BYTES, MAX_LIST_ENTRIES, MAX_NAME_LENGTH, MAX_TEXT_LENGTH,
    error::{Problems, SlaErrorCode, shown},
    fields::{Field, Kind, LEVELS, Level, Support},
};

/// The honoured and kept fields of one object, by their names in the table and of the type the table says.
///
/// A field that is absent, null or was refused reads as empty.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    path: &'a str,
    found: BTreeMap<&'static str, (&'a str, &'a Value)>,
}

impl<'a> Fields<'a> {
    /// Reads `object`, which is at `path` and is one of `level`, and notes all that is wrong with it.
    pub(super) fn read(
        level: &Level,
        path: &'a str,
        object: &'a Map<String, Value>,
        problems: &mut Problems,
    ) -> Self {
        let mut found = BTreeMap::new();
        let mut refused = BTreeSet::new();
        for (spelling, value) in object {
            let field_path = child(path, spelling);
            let Some(field) = level.find(spelling) else {
                unknown_field(level, &field_path, spelling, problems);
                continue;
            };
            match field.support {
                Support::ServerSet => {}
                Support::NotYet => refuse_unless_blank(field, &field_path, value, problems),
                Support::Honoured | Support::Kept => {
                    if value.is_null() {
                        continue;
                    }
                    if !conforms(field.kind, &field_path, value, problems) {
                        refused.insert(field.name);
                        continue;
                    }
                    take(&mut found, field, &field_path, (spelling.as_str(), value), problems);
                }
            }
        }
        for field in level.fields.iter().filter(|field| field.required) {
            if !found.contains_key(field.name) && !refused.contains(field.name) {
                let is_wrong = format!("is missing: {} needs it ({})", level.noun, sentence(field.about));
                problems.add(SlaErrorCode::MissingField, &child(path, field.name), &is_wrong);
            }
        }
        Self { path, found }
    }

    /// Where the field is, spelt as the user did.
    pub(super) fn path_of(&self, name: &'static str) -> String {
        child(self.path, self.found.get(name).map_or(name, |(spelling, _)| spelling))
    }

    /// Whether the field is there and of the right type.
    pub(super) fn has(&self, name: &'static str) -> bool {
        self.found.contains_key(name)
    }

    pub(super) fn text(&self, name: &'static str) -> &'a str {
        self.value(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn integer(&self, name: &'static str) -> u32 {
        self.value(name).and_then(whole).unwrap_or_default()
    }

    pub(super) fn flag(&self, name: &'static str) -> bool {
        self.value(name).and_then(Value::as_bool).unwrap_or_default()
    }

    pub(super) fn texts(&self, name: &'static str) -> Vec<&'a str> {
        self.items(name).iter().filter_map(Value::as_str).collect()
    }

    /// The objects of a list, each with its path.
    pub(super) fn objects(&self, name: &'static str) -> Vec<(String, &'a Map<String, Value>)> {
        let path = self.path_of(name);
        let items = self.items(name).iter().enumerate();
        items.filter_map(|(index, value)| Some((item(&path, index), value.as_object()?))).collect()
    }

    /// The object that a field is, with its path.
    pub(super) fn object(&self, name: &'static str) -> Option<(String, &'a Map<String, Value>)> {
        Some((self.path_of(name), self.value(name)?.as_object()?))
    }

    fn items(&self, name: &'static str) -> &'a [Value] {
        self.value(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn value(&self, name: &'static str) -> Option<&'a Value> {
        self.found.get(name).map(|(_, value)| *value)
    }
}

/// The path of a field of what is at `path`.
pub(super) fn child(path: &str, name: &str) -> String {
    if path.is_empty() { shown(name) } else { format!("{path}.{}", shown(name)) }
}

/// The path of an entry of the list at `path`.
pub(super) fn item(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// Whether a value asks for nothing: clients send such defaults for fields their users left alone.
pub(super) fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.trim().is_empty() || text.trim().eq_ignore_ascii_case("none"),
        Value::Array(items) => items.iter().all(is_blank),
        Value::Object(fields) => fields.values().all(is_blank),
    }
}

/// Notes a spelling that no field of `level` has, with what to do about it.
pub(super) fn unknown_field(level: &Level, path: &str, spelling: &str, problems: &mut Problems) {
    if problems.is_full() {
        // Suggestions take time, and nobody would see this one.
        problems.add(SlaErrorCode::UnknownField, path, "");
        return;
    }
    let elsewhere = LEVELS
        .iter()
        .find(|other| other.find(spelling).is_some_and(|field| field.support != Support::ServerSet));
    let advice = match (level.nearest(spelling), elsewhere) {
        (Some(name), _) => format!("did you mean `{name}`?"),
        (None, Some(other)) => format!("it belongs to {}, not to {}", other.noun, level.noun),
        (None, None) => format!("remove it; {} may have: {}", level.noun, level.honoured()),
    };
    problems.add(SlaErrorCode::UnknownField, path, &format!("is an unknown field; {advice}"));
}

/// A value as an error message shows it.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("the string \"{}\"", shown(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

fn refuse_unless_blank(field: &Field, path: &str, value: &Value, problems: &mut Problems) {
    if let (Kind::Nested(level), Value::Object(object)) = (field.kind, value) {
        Fields::read(level, path, object, problems);
    } else if !is_blank(value) {
        let is_wrong = format!("is not supported yet ({}): remove the field", field.about);
        problems.add(SlaErrorCode::NotSupported, path, &is_wrong);
    }
}

fn take<'a>(
    found: &mut BTreeMap<&'static str, (&'a str, &'a Value)>,
    field: &'static Field,
    path: &str,
    (spelling, value): (&'a str, &'a Value),
    problems: &mut Problems,
) {
    match found.get(field.name) {
        Some((_, earlier)) if is_empty(value) || *earlier == value => {}
        Some((other, earlier)) if !is_empty(earlier) => {
            let is_wrong = format!("contradicts `{other}`, another spelling of it: keep one of them");
            problems.add(SlaErrorCode::Conflict, path, &is_wrong);
        }
        Some(_) | None => {
            found.insert(field.name, (spelling, value));
        }
    }
}

/// An empty string or list says no more than an absent one.
fn is_empty(value: &Value) -> bool {
    value.as_str().is_some_and(str::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// Whether `value` is of `kind`; if not, that is noted.
fn conforms(kind: Kind, path: &str, value: &Value, problems: &mut Problems) -> bool {
    let refusal = match (kind, value) {
        (Kind::Text, Value::String(text)) => text_refusal(text),
        (Kind::Name, Value::String(name)) => name_refusal(name),
        (Kind::EmptyText, Value::String(text)) => empty_text_refusal(text),
        (Kind::Integer(max), Value::Number(_)) => integer_refusal(max, value),
        (Kind::Texts, Value::Array(items)) => return all_texts(path, items, problems),
        (Kind::Objects(most), Value::Array(items)) => return all_objects(path, items, most, problems),
        (Kind::Content, Value::String(_))
        | (Kind::Flag, Value::Bool(_))
        | (Kind::Nested(_), Value::Object(_))
        | (Kind::Any, _) => None,
        (
            Kind::Text
            | Kind::Content
            | Kind::Name
            | Kind::EmptyText
            | Kind::Integer(_)
            | Kind::Flag
            | Kind::Texts
            | Kind::Objects(_)
            | Kind::Nested(_),
            _,
        ) => Some((SlaErrorCode::WrongType, type_refusal(kind, value))),
    };
    if let Some((code, is_wrong)) = &refusal {
        problems.add(*code, path, is_wrong);
    }
    refusal.is_none()
}

type Refusal = Option<(SlaErrorCode, String)>;

fn type_refusal(kind: Kind, value: &Value) -> String {
    let expected = match kind {
        Kind::Text | Kind::Content | Kind::Name | Kind::EmptyText => "a string".to_owned(),
        Kind::Integer(max) => format!("an integer from 0 to {max}"),
        Kind::Flag => "true or false".to_owned(),
        Kind::Texts => "a list of strings".to_owned(),
        Kind::Objects(_) => "a list of objects".to_owned(),
        Kind::Nested(_) => "an object".to_owned(),
        Kind::Any => "a value".to_owned(),
    };
    format!("must be {expected}, but is {}", found(value))
}

fn text_refusal(text: &str) -> Refusal {
    let length = text.chars().count();
    if length > MAX_TEXT_LENGTH {
        let is_wrong = format!("must have at most {MAX_TEXT_LENGTH} characters, but has {length}");
        return Some((SlaErrorCode::TooLarge, is_wrong));
    }
    text.contains('\0').then(|| (SlaErrorCode::InvalidValue, "must not contain a NUL character".to_owned()))
}

fn name_refusal(name: &str) -> Refusal {
    let length = name.chars().count();
    let strange = name.chars().find(|character| !character.is_ascii_alphanumeric());
    let reason = match strange {
        _ if name.is_empty() => "is empty".to_owned(),
        _ if length > MAX_NAME_LENGTH => format!("has {length} characters"),
        Some(character) => format!("contains `{}`", character.escape_debug()),
        None => return None,
    };
    let is_wrong = format!("must be 1 to {MAX_NAME_LENGTH} letters (a-z, A-Z) or digits, but {reason}");
    Some((SlaErrorCode::InvalidValue, is_wrong))
}

fn empty_text_refusal(text: &str) -> Refusal {
    let is_wrong =
        || format!("must be empty, because the root gives services their ids, but is \"{}\"", shown(text));
    (!text.is_empty()).then(|| (SlaErrorCode::InvalidValue, is_wrong()))
}

fn integer_refusal(max: u32, value: &Value) -> Refusal {
    let fits = whole(value).is_some_and(|number| number <= max);
    (!fits).then(|| (SlaErrorCode::InvalidValue, type_refusal(Kind::Integer(max), value)))
}

fn whole(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

fn all_texts(path: &str, items: &[Value], problems: &mut Problems) -> bool {
    if !short_enough(path, items, MAX_LIST_ENTRIES, problems) {
        return false;
    }
    let mut all = true;
    for (index, value) in items.iter().enumerate() {
        let refusal = match value {
            Value::String(text) if text.len() > MAX_ENTRY_BYTES => {
                let is_wrong = format!("must have at most {MAX_ENTRY_BYTES} bytes, but has {}", text.len());
                (SlaErrorCode::TooLarge, is_wrong)
            }
            Value::String(text) if text.contains('\0') => {
                (SlaErrorCode::InvalidValue, "must not contain a NUL character".to_owned())
            }
            Value::String(_) => continue,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                (SlaErrorCode::WrongType, type_refusal(Kind::Text, value))
            }
        };
        problems.add(refusal.0, &item(path, index), &refusal.1);
        all = false;
    }
    all
}

fn all_objects(path: &str, items: &[Value], most: usize, problems: &mut Problems) -> bool {
    if !short_enough(path, items, most, problems) {
        return false;
    }
    let mut all = true;
    for (index, value) in items.iter().enumerate().filter(|(_, value)| !value.is_object()) {
        let is_wrong = format!("must be an object, but is {}", found(value));
        problems.add(SlaErrorCode::WrongType, &item(path, index), &is_wrong);
        all = false;
    }
    all
}

fn short_enough(path: &str, items: &[Value], most: usize, problems: &mut Problems) -> bool {
    let fits = items.len() <= most;
    if !fits {
        let is_wrong = format!("must have at most {most} entries, but has {}", items.len());
        problems.add(SlaErrorCode::TooLarge, path, &is_wrong);
    }
    fits
}

fn sentence(about: &str) -> &str {
    about.trim_end_matches('.')
}
