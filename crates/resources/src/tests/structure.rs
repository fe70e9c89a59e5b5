//! Structural schemas: what they say, what is left out and put in by them, and what they cannot say.

use serde_json::{Value, json};

use crate::{status::CauseKind, structure::Structure};

use super::schema;

fn structure() -> Structure {
    Structure::read(&schema(), "schema").expect("structural")
}

fn problems(spec: Value) -> Vec<(String, String)> {
    let found = structure().check(&json!({"spec": spec}));
    found.into_iter().map(|cause| (cause.field, cause.message)).collect()
}

#[test]
fn what_is_left_out_is_filled_in_also_within_lists() {
    let mut object = json!({"spec": {"size": 1, "parts": [{"name": "a"}, {"name": "b", "count": 3}]}});
    structure().fill_in(&mut object);
    let parts = json!([{"name": "a", "count": 1}, {"name": "b", "count": 3}]);
    assert_eq!(object, json!({"spec": {"size": 1, "color": "green", "parts": parts}}));
    let mut object = json!({"spec": {"size": 1, "color": null, "note": null}});
    structure().fill_in(&mut object);
    assert_eq!(
        object,
        json!({"spec": {"size": 1, "color": "green", "note": null}}),
        "nothing is a value of `note` only"
    );
}

#[test]
fn what_nobody_described_is_taken_out_and_named() {
    let mut object = json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "one"}, "extra": 1,
        "spec": {
            "size": 1, "sise": 2, "settings": {"any": "a"}, "anything": {"b": {"c": 1}},
            "parts": [{"name": "a", "weight": 1}],
        },
    });
    let unknown = structure().prune(&mut object);
    assert_eq!(unknown, ["extra", "spec.parts[0].weight", "spec.sise"]);
    assert_eq!(
        object,
        json!({
            "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "one"},
            "spec": {
                "size": 1, "settings": {"any": "a"}, "anything": {"b": {"c": 1}}, "parts": [{"name": "a"}],
            },
        })
    );
}

#[test]
fn what_is_wrong_is_told_by_field() {
    assert_eq!(problems(json!({"size": 1, "port": 80, "note": null})), []);
    assert_eq!(problems(json!({"size": 1, "port": "http"})), []);
    let found = problems(json!({
        "size": 0, "color": "blue", "port": true, "tags": ["a", "a"], "parts": [{"name": "a"}, {"name": "a"}],
    }));
    let fields: Vec<&str> = found.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields, ["spec.color", "spec.port", "spec.size", "spec.parts[1]", "spec.tags[1]"]);
    let missing = structure().check(&json!({"spec": {}}));
    assert_eq!((missing[0].kind, missing[0].field.as_str()), (CauseKind::Required, "spec.size"));
}

#[test]
fn limits_that_exclude_themselves_are_those_of_openapi() {
    let schema = json!({
        "type": "object",
        "properties": {"a": {"type": "number", "minimum": 1, "exclusiveMinimum": true, "maximum": 3}},
    });
    let structure = Structure::read(&schema, "schema").expect("structural");
    let fits = |value: f64| structure.check(&json!({"a": value})).is_empty();
    assert_eq!([fits(1.0), fits(1.5), fits(3.0), fits(3.5)], [false, true, true, false]);
}

#[test]
fn what_is_not_structural_or_not_heeded_is_refused_by_name() {
    let refused = |schema: Value| -> Vec<String> {
        let read = Structure::read(&schema, "s");
        read.map(drop).expect_err("it is refused").into_iter().map(|cause| cause.field).collect()
    };
    let within = |schema: Value| json!({"type": "object", "properties": {"a": schema}});
    assert_eq!(refused(json!({"type": "string"})), ["s.type"]);
    assert_eq!(refused(within(json!({"description": "no type"}))), ["s.properties[a].type"]);
    assert_eq!(refused(within(json!({"type": "string", "$ref": "#/b"}))), ["s.properties[a].$ref"]);
    let rules = json!({"type": "object", "x-kubernetes-validations": [{"rule": "true"}]});
    assert_eq!(refused(within(rules)), ["s.properties[a].x-kubernetes-validations"]);
    let both = json!({"type": "object", "properties": {}, "additionalProperties": {"type": "string"}});
    assert_eq!(refused(within(both)), ["s.properties[a].additionalProperties"]);
    assert_eq!(
        refused(within(
            json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "map"})
        )),
        ["s.properties[a].x-kubernetes-list-map-keys"]
    );
    assert_eq!(
        refused(within(json!({"type": "string", "anyOf": [{"type": "string"}]}))),
        ["s.properties[a].anyOf[0].type"]
    );
    assert_eq!(refused(within(json!({"type": "integer", "default": "one"}))), ["s.properties[a].default"]);
    assert_eq!(refused(within(json!({"type": "string", "pattern": "("}))), ["s.properties.a.pattern"]);
}
