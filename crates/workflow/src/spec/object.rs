//! One object of a document: each field is taken once, and what nobody took is unknown.

use std::{collections::BTreeSet, fmt::Display, ops::RangeInclusive, str::FromStr};

use model::Span;
use serde_json::{Map, Value};

use super::{CauseReason, Causes};

/// Characters of a text that is shown again in a message.
const SHOWN: usize = 60;

#[derive(Debug)]
pub(super) struct Object<'a> {
    path: String,
    fields: &'a Map<String, Value>,
    known: BTreeSet<&'static str>,
}

impl<'a> Object<'a> {
    pub(super) fn of(path: &str, value: &'a Value, causes: &mut Causes) -> Option<Self> {
        let fields = value.as_object();
        if fields.is_none() {
            causes.add(
                CauseReason::TypeInvalid,
                path,
                &format!("must be an object, but is {}", shown(value)),
            );
        }
        Some(Self { path: path.to_owned(), fields: fields?, known: BTreeSet::new() })
    }

    /// The path of a field.
    pub(super) fn path_of(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    /// Where it is itself.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Whether something is said of it.
    pub(super) fn has(&self, field: &str) -> bool {
        self.fields.get(field).is_some_and(|value| !value.is_null())
    }

    /// The value of a field, if anything is said of it: null says nothing.
    pub(super) fn take(&mut self, field: &'static str) -> Option<&'a Value> {
        self.known.insert(field);
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// A text of at most `most` bytes.
    pub(super) fn text(&mut self, field: &'static str, most: usize, causes: &mut Causes) -> Option<&'a str> {
        let path = self.path_of(field);
        text(&path, self.take(field)?, most, causes)
    }

    /// A text that must be there.
    pub(super) fn needed_text(
        &mut self,
        field: &'static str,
        most: usize,
        why: &str,
        causes: &mut Causes,
    ) -> Option<&'a str> {
        let there = self.has(field);
        let found = self.text(field, most, causes).filter(|text| !text.is_empty());
        if !there || (found.is_none() && self.fields.get(field).is_some_and(|value| value == "")) {
            causes.required(&self.path_of(field), why);
        }
        found
    }

    /// A text that is one of something.
    pub(super) fn parsed<T>(&mut self, field: &'static str, most: usize, causes: &mut Causes) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        let text = self.text(field, most, causes)?;
        text.parse().map_err(|error: T::Err| causes.invalid(&self.path_of(field), &error.to_string())).ok()
    }

    /// A span of time from `least` to `most`.
    pub(super) fn span(
        &mut self,
        field: &'static str,
        range: RangeInclusive<Span>,
        causes: &mut Causes,
    ) -> Option<Span> {
        let span: Span = self.parsed(field, 32, causes)?;
        if !range.contains(&span) {
            let (least, most) = (range.start(), range.end());
            causes.invalid(&self.path_of(field), &format!("must be from {least} to {most}, but is {span}"));
            return None;
        }
        Some(span)
    }

    /// A whole number.
    pub(super) fn number(
        &mut self,
        field: &'static str,
        range: RangeInclusive<u32>,
        causes: &mut Causes,
    ) -> Option<u32> {
        let value = self.take(field)?;
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        let fits = number.filter(|number| range.contains(number));
        if fits.is_none() {
            let (least, most) = (range.start(), range.end());
            let message = format!("must be a whole number from {least} to {most}, but is {}", shown(value));
            causes.invalid(&self.path_of(field), &message);
        }
        fits
    }

    pub(super) fn flag(&mut self, field: &'static str, causes: &mut Causes) -> bool {
        let Some(value) = self.take(field) else { return false };
        let flag = value.as_bool();
        if flag.is_none() {
            let message = format!("must be true or false, but is {}", shown(value));
            causes.add(CauseReason::TypeInvalid, &self.path_of(field), &message);
        }
        flag.unwrap_or_default()
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        field: &'static str,
        words: &[(&str, T)],
        causes: &mut Causes,
    ) -> Option<T> {
        let text = self.text(field, usize::MAX, causes)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        if found.is_none() {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let message = format!("must be one of {}, but is \"{}\"", all.join(", "), cut(text));
            causes.add(CauseReason::NotSupported, &self.path_of(field), &message);
        }
        found
    }

    /// The object that a field is.
    pub(super) fn object(&mut self, field: &'static str, causes: &mut Causes) -> Option<Self> {
        let path = self.path_of(field);
        Self::of(&path, self.take(field)?, causes)
    }

    /// The entries of a list of at most `most`, each with its path.
    pub(super) fn list(
        &mut self,
        field: &'static str,
        most: usize,
        causes: &mut Causes,
    ) -> Vec<(String, &'a Value)> {
        let path = self.path_of(field);
        let Some(value) = self.take(field) else { return Vec::new() };
        let Some(entries) = value.as_array() else {
            let message = format!("must be a list, but is {}", shown(value));
            causes.add(CauseReason::TypeInvalid, &path, &message);
            return Vec::new();
        };
        if entries.len() > most {
            let message = format!("must have at most {most} entries, but has {}", entries.len());
            causes.add(CauseReason::TooLong, &path, &message);
            return Vec::new();
        }
        entries.iter().enumerate().map(|(index, entry)| (format!("{path}[{index}]"), entry)).collect()
    }

    /// Refuses all that nobody took.
    pub(super) fn finish(self, causes: &mut Causes) {
        for field in self.fields.keys().filter(|field| !self.known.contains(field.as_str())) {
            let near = self.known.iter().filter(|known| strsim::damerau_levenshtein(known, field) <= 2);
            let advice = match near.min_by_key(|known| strsim::damerau_levenshtein(known, field)) {
                // What YAML 1.1 makes of a bare `on`.
                _ if field == "true" && self.known.contains("on") => {
                    "did you mean \"on\"? YAML reads it as true unless it is in quotation marks".to_owned()
                }
                Some(known) => format!("did you mean `{known}`?"),
                None => {
                    let known: Vec<&str> = self.known.iter().copied().collect();
                    format!("there are {}", known.join(", "))
                }
            };
            let path = self.path_of(&cut(field));
            causes.add(CauseReason::Unknown, &path, &format!("is an unknown field; {advice}"));
        }
    }
}

/// A value that must be a text of at most `most` bytes.
pub(super) fn text<'a>(path: &str, value: &'a Value, most: usize, causes: &mut Causes) -> Option<&'a str> {
    let Some(text) = value.as_str() else {
        causes.add(CauseReason::TypeInvalid, path, &format!("must be a text, but is {}", shown(value)));
        return None;
    };
    if text.len() > most {
        let message = format!("must have at most {most} bytes, but has {}", text.len());
        causes.add(CauseReason::TooLong, path, &message);
        return None;
    }
    if text.contains('\0') {
        causes.invalid(path, "must not contain a NUL character");
        return None;
    }
    Some(text)
}

/// A value in a message.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("the text \"{}\"", cut(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

pub(super) fn cut(text: &str) -> String {
    text.chars().take(SHOWN).flat_map(char::escape_debug).collect()
}
