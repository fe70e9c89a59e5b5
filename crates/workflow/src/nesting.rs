//! How deep values may be nested: what is stored must be readable, and readers of JSON stop at 128.

use serde_json::Value;

/// Levels of a value. What is stored of it is within some ten more.
pub(crate) const DEEPEST: usize = 64;

pub(crate) fn is_too_deep(value: &Value) -> bool {
    is_deeper(value, DEEPEST)
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        Value::Array(_) | Value::Object(_) if levels == 0 => true,
        Value::Array(entries) => entries.iter().any(|entry| is_deeper(entry, levels - 1)),
        Value::Object(fields) => fields.values().any(|field| is_deeper(field, levels - 1)),
    }
}
