//! What a record shows of a thing: fields that were chosen one by one, and of others only that they changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Of longer texts the beginning is shown.
const LONGEST_TEXT: usize = 200;
/// Of longer lists and maps so many entries are shown.
const MOST_ENTRIES: usize = 32;

/// A thing as a record may show it. What is hidden is compared, so that a change of it is seen, and never written.
#[derive(Clone, Default)]
pub struct View {
    shown: Map<String, Value>,
    hidden: BTreeMap<String, Value>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hidden: Vec<&String> = self.hidden.keys().collect();
        write!(f, "View(shown {:?}, hidden {hidden:?})", self.shown)
    }
}

impl View {
    /// With a field that whoever reads records may see. Of what is long the beginning is written.
    #[must_use]
    pub fn show(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.shown.insert(cut_text(field), value.into());
        self
    }

    /// With a field of which nobody sees more than that it changed.
    #[must_use]
    pub fn hide(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.hidden.insert(cut_text(field), value.into());
        self
    }
}

/// A thing that was made, changed or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Of what kind.
    pub kind: String,
    /// Which one.
    pub id: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Id of the organisation it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// What it was; of one that only changed, the fields that did. Absent of one that is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Map<String, Value>>,
    /// What it is; of one that only changed, the fields that did. Absent of one that is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Map<String, Value>>,
    /// Fields that changed and are shown to nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<String>,
}

impl Object {
    /// What is new about a thing; `None` if nothing is that it has a field for.
    #[must_use]
    pub fn of(kind: &str, id: String, before: Option<View>, after: Option<View>) -> Option<Self> {
        let (mut shown_before, mut shown_after) = (None, None);
        let mut hidden: Vec<String> = Vec::new();
        match (before, after) {
            (None, None) => return None,
            (Some(gone), None) => shown_before = Some(gone.shown),
            (None, Some(new)) => {
                hidden.extend(new.hidden.into_keys());
                shown_after = Some(new.shown);
            }
            (Some(mut was), Some(mut is)) => {
                let changed = |field: &String| was.hidden.get(field) != is.hidden.get(field);
                let fields = was
                    .hidden
                    .keys()
                    .chain(is.hidden.keys().filter(|field| !was.hidden.contains_key(*field)));
                hidden.extend(fields.filter(|field| changed(field)).cloned());
                let same: Vec<String> = was
                    .shown
                    .keys()
                    .filter(|field| was.shown.get(*field) == is.shown.get(*field))
                    .cloned()
                    .collect();
                for field in same {
                    was.shown.remove(&field);
                    is.shown.remove(&field);
                }
                if was.shown.is_empty() && is.shown.is_empty() && hidden.is_empty() {
                    return None;
                }
                (shown_before, shown_after) = (Some(was.shown), Some(is.shown));
            }
        }
        hidden.sort();
        hidden.truncate(MOST_ENTRIES);
        Some(Self {
            kind: kind.to_owned(),
            id,
            name: String::new(),
            organization: None,
            before: shown_before.map(cut_fields),
            after: shown_after.map(cut_fields),
            hidden,
        })
    }

    /// The same with the names of its fields in place of what they were and are.
    pub(crate) fn condensed(self) -> Self {
        let fields = self.before.iter().chain(&self.after).flat_map(Map::keys).chain(&self.hidden);
        let mut hidden: Vec<String> = fields.cloned().collect();
        hidden.sort();
        hidden.dedup();
        hidden.truncate(MOST_ENTRIES);
        Self {
            before: self.before.map(|_| Map::new()),
            after: self.after.map(|_| Map::new()),
            hidden,
            ..self
        }
    }
}

fn cut_fields(fields: Map<String, Value>) -> Map<String, Value> {
    fields.into_iter().map(|(field, value)| (field, cut(value))).collect()
}

fn cut(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(cut_text(&text)),
        Value::Array(entries) => {
            let more = entries.len().saturating_sub(MOST_ENTRIES);
            let mut kept: Vec<Value> = entries.into_iter().take(MOST_ENTRIES).map(cut).collect();
            if more > 0 {
                kept.push(Value::String(format!("… {more} more")));
            }
            Value::Array(kept)
        }
        Value::Object(entries) => {
            let more = entries.len().saturating_sub(MOST_ENTRIES);
            let kept =
                entries.into_iter().take(MOST_ENTRIES).map(|(key, value)| (cut_text(&key), cut(value)));
            let mut kept: Map<String, Value> = kept.collect();
            if more > 0 {
                kept.insert("…".to_owned(), Value::String(format!("{more} more")));
            }
            Value::Object(kept)
        }
        // A fraction may be another when it is read again, and then its record could not be checked.
        Value::Number(number) if number.is_f64() => Value::String(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

fn cut_text(text: &str) -> String {
    if text.chars().count() <= LONGEST_TEXT {
        return text.to_owned();
    }
    text.chars().take(LONGEST_TEXT).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn user(email: &str, password: &str) -> View {
        View::default().show("name", "kim").show("email", email).hide("password", password)
    }

    fn fields(value: Value) -> Option<Map<String, Value>> {
        value.as_object().cloned()
    }

    #[test]
    fn of_a_change_the_fields_that_changed_are_shown_and_of_hidden_ones_their_names() {
        let changed = Object::of("user", "1".to_owned(), Some(user("a", "old")), Some(user("b", "new")));
        let changed = changed.expect("something changed");
        assert_eq!(changed.before, fields(json!({"email": "a"})));
        assert_eq!(changed.after, fields(json!({"email": "b"})));
        assert_eq!(changed.hidden, ["password"]);
        assert_eq!(Object::of("user", "1".to_owned(), Some(user("a", "old")), Some(user("a", "old"))), None);
    }

    #[test]
    fn of_what_is_new_or_gone_all_that_may_be_seen_is_shown() {
        let made = Object::of("user", "1".to_owned(), None, Some(user("a", "new"))).expect("it is new");
        assert_eq!((made.before, made.after), (None, fields(json!({"name": "kim", "email": "a"}))));
        let gone = Object::of("user", "1".to_owned(), Some(user("a", "old")), None).expect("it is gone");
        assert_eq!((gone.before, gone.after), (fields(json!({"name": "kim", "email": "a"})), None));
    }

    #[test]
    fn nothing_that_is_hidden_is_written_or_printed() {
        let made = Object::of("user", "1".to_owned(), None, Some(user("a", "hunter2")));
        let written = serde_json::to_string(&made).expect("it can be written");
        assert!(!written.contains("hunter2"), "{written}");
        let printed = format!("{:?}", user("a", "hunter2"));
        assert!(!printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn a_change_behind_what_is_shown_is_seen() {
        let with = |last: u32| Some(View::default().show("many", (0..99).chain([last]).collect::<Vec<_>>()));
        let changed = Object::of("thing", "1".to_owned(), with(1), with(2)).expect("it changed");
        assert!(changed.before.is_some_and(|fields| fields.contains_key("many")));
    }

    #[test]
    fn what_is_large_is_cut() {
        let many: Vec<u32> = (0..100).collect();
        let view = View::default().show("long", "é".repeat(1000)).show("many", many).show("part", 0.5);
        let made = Object::of("thing", "1".to_owned(), None, Some(view)).expect("it is new");
        let shown = made.after.expect("it is there");
        assert_eq!(shown["long"], json!("é".repeat(LONGEST_TEXT) + "…"));
        assert_eq!(shown["many"].as_array().map(Vec::len), Some(MOST_ENTRIES + 1));
        assert_eq!(shown["many"][MOST_ENTRIES], json!("… 68 more"));
        assert_eq!(shown["part"], json!("0.5"));
    }
}
