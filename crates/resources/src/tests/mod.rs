//! The tests of this crate, on a kind such as users define.

mod apply;
mod definitions;
mod documents;
mod reading;
mod structure;
mod writing;

use serde_json::{Value, json};

use crate::{
    definition::Definition,
    kind::Kind,
    write::{FieldValidation, Part, Place, Writing},
};

const NOW: &str = "2026-11-22T12:00:00Z";
const LATER: &str = "2026-11-22T12:05:00Z";
const PLACE: Place<'_> = Place { namespace: Some("acme"), name: "" };

/// A definition of widgets.
fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1},
                ],
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "schema": {"openAPIV3Schema": schema()},
            }],
        },
    })
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "minimum": 1},
                    "color": {"type": "string", "default": "green", "enum": ["green", "red"]},
                    "note": {"type": "string", "nullable": true},
                    "port": {"x-kubernetes-int-or-string": true},
                    "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                    "words": {"type": "array", "items": {"type": "string"}},
                    "settings": {"type": "object", "additionalProperties": {"type": "string"}},
                    "anything": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "parts": {
                        "type": "array",
                        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                        "items": {
                            "type": "object",
                            "required": ["name"],
                            "properties": {
                                "name": {"type": "string"},
                                "count": {"type": "integer", "default": 1},
                                "unit": {"type": "string"},
                            },
                        },
                    },
                },
            },
            "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
        },
    })
}

fn kind() -> Kind {
    Definition::read(&definition()).expect("a sound definition").kinds.remove(0)
}

fn writing<'a>(kind: &'a Kind, manager: &'a str) -> Writing<'a> {
    Writing { kind, manager, now: NOW, validation: FieldValidation::Warn, part: Part::Main }
}

fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

/// A widget that is there, as it is shown.
fn stored(kind: &Kind, manager: &str, spec: Value) -> Value {
    let made = writing(kind, manager).create(widget("one", spec), PLACE, "uid-1", "");
    at_revision(made.expect("a sound widget").object, 7)
}

fn at_revision(mut object: Value, revision: u64) -> Value {
    object["metadata"]["resourceVersion"] = Value::from(revision.to_string());
    object
}
