//! Objects as rows of a table, which is how people who list them see them.

use serde_json::{Value, json};

use crate::{
    age,
    kind::{Column, ColumnType, Kind},
    path,
};

/// What of its object goes with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Include {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl Include {
    /// The one of a word; what is no word is the usual.
    #[must_use]
    pub fn named(word: &str) -> Self {
        match word {
            "None" => Self::None,
            "Object" => Self::Object,
            _ => Self::Metadata,
        }
    }
}

/// A table of these objects, which are as they are shown. `metadata` is that of the list.
#[must_use]
pub fn table<'a>(
    kind: &Kind,
    objects: impl IntoIterator<Item = &'a Value>,
    metadata: Value,
    include: Include,
    now: &str,
) -> Value {
    let name = json!({
        "name": "Name", "type": "string", "format": "name", "priority": 0,
        "description": "Name of the object, unique among those of its kind in its namespace",
    });
    let column = |column: &Column| {
        json!({
            "name": column.name, "type": column.kind.as_str(), "format": column.format, "priority": column.priority,
            "description": column.description,
        })
    };
    let columns: Vec<Value> = std::iter::once(name).chain(kind.columns.iter().map(column)).collect();
    let row = |object: &Value| {
        let cells = kind.columns.iter().map(|column| cell(object, column, now));
        let cells: Vec<Value> = std::iter::once(object["metadata"]["name"].clone()).chain(cells).collect();
        let mut row = json!({"cells": cells});
        match include {
            Include::None => {}
            Include::Metadata => {
                row["object"] = json!({
                    "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
                });
            }
            Include::Object => row["object"] = object.clone(),
        }
        row
    };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns,
        "rows": objects.into_iter().map(row).collect::<Vec<_>>(),
    })
}

fn cell(object: &Value, column: &Column, now: &str) -> Value {
    let found = path::find(object, &column.path);
    let Some(&first) = found.first() else {
        return if column.kind == ColumnType::Date { Value::from("<unknown>") } else { Value::Null };
    };
    match column.kind {
        ColumnType::Integer if first.is_i64() || first.is_u64() => first.clone(),
        ColumnType::Number if first.is_number() => first.clone(),
        ColumnType::Boolean if first.is_boolean() => first.clone(),
        ColumnType::Date => Value::from(age::between(first.as_str().unwrap_or_default(), now)),
        ColumnType::Text => {
            let text = |value: &&Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Value::from(found.iter().map(text).collect::<Vec<_>>().join(","))
        }
        ColumnType::Integer | ColumnType::Number | ColumnType::Boolean => Value::Null,
    }
}
