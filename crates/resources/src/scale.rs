//! How many there shall be of what an object stands for, as an object of its own: what `kubectl scale` reads and writes.

use serde_json::{Value, json};

use crate::{
    kind::{Kind, Names},
    metadata,
    structure::Structure,
};

/// The group of the kind.
pub const GROUP: &str = "autoscaling";
/// Its version.
pub const VERSION: &str = "v1";
/// Its name.
pub const KIND: &str = "Scale";

/// The kind, where there may be so many at most. No path leads to its objects but `/scale` of others.
#[must_use]
pub fn kind(is_namespaced: bool, most: u32) -> Kind {
    let count = |most: u32| json!({"type": "integer", "minimum": 0, "maximum": most});
    let schema = json!({
        "type": "object",
        "properties": {
            "spec": {"type": "object", "default": {}, "properties": {"replicas": count(most)}},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        },
    });
    Kind {
        group: GROUP.to_owned(),
        version: VERSION.to_owned(),
        names: Names::of(KIND, "scales", &[]),
        is_namespaced,
        verbs: Vec::new(),
        has_status: true,
        has_scale: false,
        columns: Vec::new(),
        structure: Structure::read(&schema, "").unwrap_or_else(|_| Structure::open()),
        selectable: Vec::new(),
    }
}

/// The scale of an object: so many are wanted, and so many there.
#[must_use]
pub fn scale(of: &Value, wanted: u32, there: u32) -> Value {
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion"] {
        let text = metadata::text(of, field);
        if !text.is_empty() {
            metadata[field] = Value::from(text);
        }
    }
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": KIND, "metadata": metadata,
        "spec": {"replicas": wanted}, "status": {"replicas": there},
    })
}

/// How many a scale wants; none if it does not say.
#[must_use]
pub fn wanted(scale: &Value) -> u32 {
    scale["spec"]["replicas"].as_u64().and_then(|wanted| u32::try_from(wanted).ok()).unwrap_or(0)
}
