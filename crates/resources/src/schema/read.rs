//! Schemas as they are written, into what is checked.

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::{Bound, Limits, Node, SchemaProblem, Type};

/// Schemas within schemas; a schema that refers to itself has no end.
const DEEPEST: usize = 32;
/// Of a compiled pattern: many times what a name or an address takes.
const PATTERN_BYTES: usize = 64 * 1024;

/// What tells people or programs something and limits nothing; `format` too, as JSON Schema has it by default.
const ANNOTATIONS: [&str; 14] = [
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
];

struct Reader<'a> {
    whole: &'a Value,
    limits: Limits,
    nodes: usize,
    patterns: usize,
}

pub(super) fn read(schema: &Value, limits: Limits) -> Result<Node, SchemaProblem> {
    Reader { whole: schema, limits, nodes: 0, patterns: 0 }.node(schema, "schema", 0)
}

fn wrong<T>(field: &str, message: impl Into<String>) -> Result<T, SchemaProblem> {
    Err(SchemaProblem { field: field.to_owned(), message: message.into() })
}

impl<'a> Reader<'a> {
    fn node(&mut self, schema: &Value, at: &str, depth: usize) -> Result<Node, SchemaProblem> {
        self.nodes += 1;
        let most = self.limits.nodes;
        if self.nodes > most {
            return wrong(at, format!("the schema has more than {most} parts, references counted each time"));
        }
        if depth > DEEPEST {
            return wrong(at, format!("schemas are nested deeper than {DEEPEST}, or refer to themselves"));
        }
        match schema {
            Value::Bool(valid) => Ok(Node { never: !valid, ..Node::default() }),
            Value::Object(said) => self.object(said, at, depth + 1),
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                wrong(at, "a schema is an object, or true or false")
            }
        }
    }

    fn object(&mut self, said: &Map<String, Value>, at: &str, depth: usize) -> Result<Node, SchemaProblem> {
        let mut node = Node::default();
        for (word, value) in said {
            let at = format!("{at}.{word}");
            match word.as_str() {
                "$ref" => {
                    let target = self.target(value, &at)?;
                    node.all_of.push(self.node(target, &at, depth)?);
                }
                "type" => node.types = Some(types(value, &at)?),
                "enum" => node.values = Some(list(value, &at)?.clone()),
                "const" => node.values = Some(vec![value.clone()]),
                "properties" => {
                    let Value::Object(properties) = value else {
                        return wrong(&at, "it is an object of schemas");
                    };
                    for (name, schema) in properties {
                        let schema = self.node(schema, &format!("{at}.{name}"), depth)?;
                        node.properties.insert(name.clone(), schema);
                    }
                }
                "required" => node.required = texts(value, &at)?,
                "additionalProperties" => node.additional = Some(self.boxed(value, &at, depth)?),
                "minProperties" => node.property_count.least = Some(count(value, &at)?),
                "maxProperties" => node.property_count.most = Some(count(value, &at)?),
                "items" => node.items = Some(self.boxed(value, &at, depth)?),
                "minItems" => node.item_count.least = Some(count(value, &at)?),
                "maxItems" => node.item_count.most = Some(count(value, &at)?),
                "uniqueItems" => node.unique_items = flag(value, &at)?,
                "minLength" => node.length.least = Some(count(value, &at)?),
                "maxLength" => node.length.most = Some(count(value, &at)?),
                "pattern" => {
                    self.patterns += 1;
                    let most = self.limits.patterns;
                    if self.patterns > most {
                        return wrong(&at, format!("the schema has more than {most} patterns"));
                    }
                    node.pattern = Some(pattern(value, &at)?);
                }
                "minimum" => node.bounds.push(bound(value, &at, false, false)?),
                "exclusiveMinimum" => node.bounds.push(bound(value, &at, false, true)?),
                "maximum" => node.bounds.push(bound(value, &at, true, false)?),
                "exclusiveMaximum" => node.bounds.push(bound(value, &at, true, true)?),
                "multipleOf" => match count(value, &at)? {
                    0 => return wrong(&at, "nothing is a multiple of 0 but 0; say `const`"),
                    unit => node.multiple_of = Some(unit),
                },
                "allOf" => node.all_of.extend(self.nodes(value, &at, depth)?),
                "anyOf" => node.any_of = Some(self.nodes(value, &at, depth)?),
                "oneOf" => node.one_of = Some(self.nodes(value, &at, depth)?),
                "not" => node.not = Some(self.boxed(value, &at, depth)?),
                word if ANNOTATIONS.contains(&word) || word.starts_with("x-") => {}
                word => {
                    let word: String = word.chars().take(40).collect();
                    return wrong(
                        &at,
                        format!("`{word}` is not supported, and what is not heeded is not taken"),
                    );
                }
            }
        }
        Ok(node)
    }

    fn boxed(&mut self, schema: &Value, at: &str, depth: usize) -> Result<Box<Node>, SchemaProblem> {
        self.node(schema, at, depth).map(Box::new)
    }

    fn nodes(&mut self, schemas: &Value, at: &str, depth: usize) -> Result<Vec<Node>, SchemaProblem> {
        let schemas = list(schemas, at)?.iter().enumerate();
        schemas.map(|(index, schema)| self.node(schema, &format!("{at}[{index}]"), depth)).collect()
    }

    /// The schema that a reference stands for.
    fn target(&self, reference: &Value, at: &str) -> Result<&'a Value, SchemaProblem> {
        let text = text(reference, at)?;
        let found = text.strip_prefix('#').and_then(|pointer| self.whole.pointer(pointer));
        found.map_or_else(
            || {
                wrong(
                    at,
                    "it is a place in this schema, such as `#/$defs/port`, and there must be something there",
                )
            },
            Ok,
        )
    }
}

fn list<'a>(value: &'a Value, at: &str) -> Result<&'a Vec<Value>, SchemaProblem> {
    match value {
        Value::Array(entries) if !entries.is_empty() => Ok(entries),
        Value::Array(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Object(_) => wrong(at, "it is a list with at least one entry"),
    }
}

fn text<'a>(value: &'a Value, at: &str) -> Result<&'a str, SchemaProblem> {
    value.as_str().map_or_else(|| wrong(at, "it is a text"), Ok)
}

fn texts(value: &Value, at: &str) -> Result<Vec<String>, SchemaProblem> {
    let Value::Array(entries) = value else { return wrong(at, "it is a list of texts") };
    let entries = entries.iter().enumerate();
    entries.map(|(index, entry)| text(entry, &format!("{at}[{index}]")).map(str::to_owned)).collect()
}

fn types(value: &Value, at: &str) -> Result<Vec<Type>, SchemaProblem> {
    let words = if value.is_string() { vec![text(value, at)?.to_owned()] } else { texts(value, at)? };
    let read = |word: String| {
        let found = Type::ALL.into_iter().find(|(known, _)| *known == word).map(|(_, found)| found);
        let words = Type::ALL.map(|(known, _)| known).join(", ");
        found.map_or_else(|| wrong(at, format!("it is one of {words}, or a list of these")), Ok)
    };
    words.into_iter().map(read).collect()
}

fn flag(value: &Value, at: &str) -> Result<bool, SchemaProblem> {
    value.as_bool().map_or_else(|| wrong(at, "it is true or false"), Ok)
}

fn count(value: &Value, at: &str) -> Result<u64, SchemaProblem> {
    value.as_u64().map_or_else(|| wrong(at, "it is a whole number, not below 0"), Ok)
}

fn bound(value: &Value, at: &str, is_upper: bool, is_exclusive: bool) -> Result<Bound, SchemaProblem> {
    let Value::Number(limit) = value else { return wrong(at, "it is a number") };
    Ok(Bound { limit: limit.clone(), is_upper, is_exclusive })
}

fn pattern(value: &Value, at: &str) -> Result<Regex, SchemaProblem> {
    let text = text(value, at)?;
    let read = RegexBuilder::new(&in_our_words(text))
        .size_limit(PATTERN_BYTES)
        .dfa_size_limit(PATTERN_BYTES)
        .build();
    read.or_else(|error| {
        let error = error.to_string();
        let last = error.lines().last().unwrap_or_default().trim();
        wrong(at, format!("it is no pattern that is matched in one pass: {last}"))
    })
}

/// Patterns are those of JavaScript, where `\w` and its like are of ASCII; here they would be of all scripts, and large.
fn in_our_words(pattern: &str) -> String {
    let mut written = String::with_capacity(pattern.len());
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            written.push(letter);
            continue;
        }
        match letters.next() {
            Some('d') => written.push_str("[0-9]"),
            Some('D') => written.push_str("[^0-9]"),
            Some('w') => written.push_str("[0-9A-Za-z_]"),
            Some('W') => written.push_str("[^0-9A-Za-z_]"),
            Some('s') => written.push_str("[ \\t\\n\\v\\f\\r]"),
            Some('S') => written.push_str("[^ \\t\\n\\v\\f\\r]"),
            Some('b') => written.push_str("(?-u:\\b)"),
            Some('B') => written.push_str("(?-u:\\B)"),
            other => {
                written.push('\\');
                written.extend(other);
            }
        }
    }
    written
}
