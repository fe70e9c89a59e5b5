//! How the parts of an object hang together, where its schema says so: which lists are sets or maps, and which maps are one
//! value. What nothing is said of is a map field by field, and a list as a whole.

use serde_json::{Value, json};

/// Of the metadata of every object.
static METADATA: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| {
    json!({"properties": {
        "finalizers": {"x-kubernetes-list-type": "set"},
        "ownerReferences": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uid"]},
    }})
});

/// What the entries of a list are to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListType<'a> {
    /// The list is one value.
    Atomic,
    /// Each value once.
    Set,
    /// Each entry is known by these of its fields.
    Map(Vec<&'a str>),
}

/// What is known of one part of an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Typing<'a> {
    schema: Option<&'a Value>,
    is_whole: bool,
}

impl<'a> Typing<'a> {
    /// Of a whole object.
    pub(crate) fn of_object(schema: &'a Value) -> Self {
        Self { schema: Some(schema), is_whole: true }
    }

    fn part(schema: Option<&'a Value>) -> Self {
        Self { schema: schema.filter(|schema| schema.is_object()), is_whole: false }
    }

    /// Of a field of it.
    pub(crate) fn field(self, name: &str) -> Self {
        if self.is_whole && name == "metadata" {
            return Self::part(Some(&METADATA));
        }
        let Some(schema) = self.schema else { return self };
        let named = schema.get("properties").and_then(|properties| properties.get(name));
        Self::part(named.or_else(|| schema.get("additionalProperties")))
    }

    /// Of its entries.
    pub(crate) fn entry(self) -> Self {
        Self::part(self.schema.and_then(|schema| schema.get("items")))
    }

    /// Whether a map is one value.
    pub(crate) fn is_atomic_map(self) -> bool {
        self.schema.is_some_and(|schema| schema["x-kubernetes-map-type"] == "atomic")
    }

    /// What a list is.
    pub(crate) fn list_type(self) -> ListType<'a> {
        let said = |schema: &'a Value| match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => ListType::Set,
            Some("map") => {
                let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
                ListType::Map(keys.filter_map(Value::as_str).collect())
            }
            Some(_) | None => ListType::Atomic,
        };
        self.schema.map_or(ListType::Atomic, said)
    }

    /// The name of an entry among field sets; none for an entry that has none of its keys.
    pub(crate) fn name_of(self, entry: &Value) -> Option<String> {
        match self.list_type() {
            ListType::Atomic => None,
            ListType::Set => Some(format!("v:{entry}")),
            ListType::Map(keys) => {
                let default =
                    |key: &str| self.entry().field(key).schema.and_then(|schema| schema.get("default"));
                let key = |key: &&str| {
                    let value = entry.get(*key).or_else(|| default(key))?;
                    Some(((*key).to_owned(), value.clone()))
                };
                let key: serde_json::Map<String, Value> = keys.iter().filter_map(key).collect();
                (!key.is_empty()).then(|| format!("k:{}", Value::Object(key)))
            }
        }
    }
}
