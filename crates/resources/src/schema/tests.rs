//! What schemas say, and what they cannot.

use serde_json::{Value, json};

use super::*;

fn problems(schema: &Value, document: &Value) -> Vec<(String, String)> {
    let schema = Schema::read(schema).unwrap_or_else(|problem| unreachable!("{problem:?}"));
    schema.check(document).into_iter().map(|problem| (problem.field, problem.message)).collect()
}

fn fields(schema: &Value, document: &Value) -> Vec<String> {
    problems(schema, document).into_iter().map(|(field, _)| field).collect()
}

#[test]
fn each_word_is_heeded_and_names_the_field() {
    let valid_and_not = [
        (json!({"type": "string"}), json!("a"), json!(1)),
        (json!({"type": ["string", "null"]}), json!(null), json!(true)),
        (json!({"type": "integer"}), json!(2.0), json!(2.5)),
        (json!({"type": "number"}), json!(2.5), json!("2.5")),
        (json!({"type": "array"}), json!([]), json!({})),
        (json!({"enum": ["a", 1]}), json!(1.0), json!("b")),
        (json!({"const": {"a": 1}}), json!({"a": 1}), json!({"a": 2})),
        (json!({"minLength": 2}), json!("äö"), json!("ä")),
        (json!({"maxLength": 2}), json!("äö"), json!("äöü")),
        (json!({"pattern": "^[a-z]+$"}), json!("abc"), json!("a1")),
        (json!({"pattern": r"^[\w.-]{1,63}@\d+\/\S$"}), json!("a.b_c@12/ä"), json!("ä@12/a")),
        (json!({"pattern": r"\bab\b"}), json!("a ab b"), json!("abc")),
        (json!({"minimum": 1}), json!(1), json!(0.9)),
        (json!({"maximum": 1.5}), json!(1.5), json!(2)),
        (json!({"exclusiveMinimum": 1}), json!(1.1), json!(1)),
        (json!({"exclusiveMaximum": 1}), json!(0), json!(1.0)),
        (json!({"maximum": u64::MAX}), json!(u64::MAX), json!(1e300)),
        (json!({"multipleOf": 5}), json!(10), json!(11)),
        (json!({"minItems": 1}), json!([1]), json!([])),
        (json!({"maxItems": 1}), json!([1]), json!([1, 2])),
        (json!({"minProperties": 1}), json!({"a": 1}), json!({})),
        (json!({"maxProperties": 1}), json!({"a": 1}), json!({"a": 1, "b": 1})),
        (json!({"allOf": [{"minimum": 1}, {"maximum": 2}]}), json!(2), json!(3)),
        (json!({"anyOf": [{"type": "string"}, {"minimum": 2}]}), json!(2), json!(1)),
        (json!({"oneOf": [{"minimum": 1}, {"minimum": 2}]}), json!(1), json!(2)),
        (json!({"not": {"type": "string"}}), json!(1), json!("a")),
        (json!({"$defs": {"a/b": {"type": "string"}}, "$ref": "#/$defs/a~1b"}), json!("a"), json!(1)),
        (json!(true), json!(1), json!(null)),
        (json!({"title": "t", "format": "email", "x-ui": 1}), json!("anything"), json!(null)),
    ];
    for (schema, valid, invalid) in valid_and_not {
        let within =
            json!({"type": "object", "properties": {"a": {"items": schema}}, "$defs": schema["$defs"]});
        let within =
            if schema["$defs"].is_null() { json!({"properties": {"a": {"items": schema}}}) } else { within };
        assert_eq!(problems(&within, &json!({"a": [valid]})), [], "{schema}");
        // The last two say nothing.
        let says_nothing = schema == json!(true) || schema["title"] == "t";
        let expected: &[&str] = if says_nothing { &[] } else { &["a[1]"] };
        assert_eq!(fields(&within, &json!({"a": [valid, invalid]})), expected, "{schema}");
    }
}

#[test]
fn fields_are_needed_known_and_described() {
    let schema = json!({
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"properties": {"c": {"type": "integer"}}, "required": ["c"]}},
        "required": ["a"],
        "additionalProperties": false,
    });
    assert_eq!(problems(&schema, &json!({"a": "x", "b": {"c": 1, "other": 2}})), []);
    let told = problems(&schema, &json!({"b": {}, "other": 1}));
    let expected = [("a", "it is missing"), ("b.c", "it is missing"), ("other", "it is an unknown field")];
    assert_eq!(told, expected.map(|(field, message)| (field.to_owned(), message.to_owned())));
    let typed = json!({"additionalProperties": {"type": "integer"}});
    assert_eq!(fields(&typed, &json!({"a": 1, "b": "x"})), ["b"]);
    assert_eq!(fields(&json!({"uniqueItems": true}), &json!([1, {"a": 1}, {"a": 1}])), ["[2]"]);
    assert_eq!(problems(&json!(false), &json!({})).len(), 1);
}

#[test]
fn what_cannot_be_heeded_is_refused_by_name() {
    let refused = [
        (json!([]), "schema", "a schema is an object"),
        (json!({"if": {}}), "schema.if", "`if` is not supported"),
        (
            json!({"properties": {"a": {"prefixItems": []}}}),
            "schema.properties.a.prefixItems",
            "not supported",
        ),
        (json!({"type": "text"}), "schema.type", "it is one of null"),
        (json!({"type": 1}), "schema.type", "a list of texts"),
        (json!({"required": "a"}), "schema.required", "a list of texts"),
        (json!({"required": [1]}), "schema.required[0]", "it is a text"),
        (json!({"minLength": -1}), "schema.minLength", "whole number"),
        (json!({"minimum": "1"}), "schema.minimum", "a number"),
        (json!({"enum": []}), "schema.enum", "at least one entry"),
        (json!({"multipleOf": 0}), "schema.multipleOf", "multiple of 0"),
        (json!({"pattern": "(a)\\1"}), "schema.pattern", "one pass"),
        (json!({"pattern": "a{1000}{1000}"}), "schema.pattern", "one pass"),
        (json!({"$ref": "https://example.com/schema.json"}), "schema.$ref", "a place in this schema"),
        (json!({"$ref": "#/$defs/nothing"}), "schema.$ref", "a place in this schema"),
    ];
    for (schema, field, message) in refused {
        let problem = Schema::read(&schema).expect_err("it cannot be heeded");
        assert_eq!(problem.field, field);
        assert!(problem.message.contains(message), "{problem:?}");
    }
}

#[test]
fn a_schema_that_has_no_end_or_unfolds_into_a_large_one_is_refused() {
    let endless = Schema::read(&json!({"$ref": "#"})).expect_err("it refers to itself");
    assert!(endless.message.contains("refer to themselves"), "{endless:?}");
    let tree = json!({"properties": {"children": {"items": {"$ref": "#"}}}});
    assert!(Schema::read(&tree).is_err());
    // Each doubles the one before.
    let mut parts = json!({"d0": {"type": "string"}});
    for number in 1..12 {
        let before = json!({"$ref": format!("#/$defs/d{}", number - 1)});
        parts[format!("d{number}")] = json!({"anyOf": [before, before]});
    }
    let large = Schema::read(&json!({"$defs": parts, "$ref": "#/$defs/d11"})).expect_err("it is large");
    assert!(large.message.contains("more than 500 parts"), "{large:?}");
}

#[test]
fn only_the_first_problems_are_told() {
    let schema = json!({"items": {"type": "string"}});
    let many: Vec<u32> = (0..1000).collect();
    assert_eq!(problems(&schema, &json!(many)).len(), 20);
}
