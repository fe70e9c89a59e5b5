//! Whether a document is what a schema says.

use std::{cmp::Ordering, collections::BTreeSet, fmt};

use serde_json::{Map, Number, Value};

use super::{Bound, Count, MISSING, Node, SchemaProblem, Type};

/// Problems that are told at once; who mends these asks again.
const MOST_PROBLEMS: usize = 20;

pub(super) fn check(schema: &Node, document: &Value) -> Vec<SchemaProblem> {
    let mut checker = Checker::default();
    checker.node(schema, document, &At::Whole);
    checker.problems
}

/// Where in the document; written out only when something is wrong there.
#[derive(Clone, Copy)]
enum At<'a> {
    Whole,
    Field(&'a At<'a>, &'a str),
    Entry(&'a At<'a>, usize),
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Field(Self::Whole, name) => f.write_str(name),
            Self::Field(within, name) => write!(f, "{within}.{name}"),
            Self::Entry(within, index) => write!(f, "{within}[{index}]"),
        }
    }
}

#[derive(Default)]
struct Checker {
    problems: Vec<SchemaProblem>,
}

impl Checker {
    fn wrong(&mut self, at: &At<'_>, message: String) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(SchemaProblem { field: at.to_string(), message });
        }
    }

    fn node(&mut self, schema: &Node, value: &Value, at: &At<'_>) {
        if self.problems.len() >= MOST_PROBLEMS {
            return;
        }
        if schema.never {
            return self.wrong(at, "nothing is allowed here".to_owned());
        }
        if let Some(types) = &schema.types
            && !types.iter().any(|this| is_of(*this, value))
        {
            let words: Vec<&str> = types.iter().map(|this| this.word()).collect();
            return self.wrong(at, format!("it must be of type {}", words.join(" or ")));
        }
        if let Some(values) = &schema.values
            && !values.iter().any(|one| is_same(one, value))
        {
            let shown: Vec<String> = values.iter().take(10).map(ToString::to_string).collect();
            let more = if values.len() > shown.len() { ", …" } else { "" };
            return self.wrong(at, format!("it must be one of {}{more}", shown.join(", ")));
        }
        match value {
            Value::Object(fields) => self.object(schema, fields, at),
            Value::Array(entries) => self.list(schema, entries, at),
            Value::String(text) => self.text(schema, text, at),
            Value::Number(number) => self.number(schema, number, at),
            Value::Null | Value::Bool(_) => {}
        }
        self.combined(schema, value, at);
    }

    fn object(&mut self, schema: &Node, fields: &Map<String, Value>, at: &At<'_>) {
        for name in &schema.required {
            if !fields.contains_key(name) {
                self.wrong(&At::Field(at, name), MISSING.to_owned());
            }
        }
        self.count(schema.property_count, fields.len(), "fields", at);
        for (name, value) in fields {
            match (schema.properties.get(name), &schema.additional) {
                (Some(schema), _) => self.node(schema, value, &At::Field(at, name)),
                (None, Some(schema)) if schema.never => {
                    self.wrong(&At::Field(at, name), "it is an unknown field".to_owned());
                }
                (None, Some(schema)) => self.node(schema, value, &At::Field(at, name)),
                (None, None) => {}
            }
        }
    }

    fn list(&mut self, schema: &Node, entries: &[Value], at: &At<'_>) {
        self.count(schema.item_count, entries.len(), "entries", at);
        if schema.unique_items {
            let mut seen = BTreeSet::new();
            if let Some(index) = entries.iter().position(|entry| !seen.insert(entry.to_string())) {
                self.wrong(&At::Entry(at, index), "it is in the list already".to_owned());
            }
        }
        if let Some(schema) = &schema.items {
            for (index, entry) in entries.iter().enumerate() {
                self.node(schema, entry, &At::Entry(at, index));
            }
        }
    }

    fn text(&mut self, schema: &Node, text: &str, at: &At<'_>) {
        if schema.length.least.is_some() || schema.length.most.is_some() {
            self.count(schema.length, text.chars().count(), "characters", at);
        }
        if let Some(pattern) = &schema.pattern
            && !pattern.is_match(text)
        {
            self.wrong(at, format!("it must match the pattern `{pattern}`"));
        }
    }

    fn number(&mut self, schema: &Node, number: &Number, at: &At<'_>) {
        for Bound { limit, is_upper, is_exclusive } in &schema.bounds {
            let order = compare(number, limit);
            let beyond = if *is_upper { Ordering::Greater } else { Ordering::Less };
            if order == beyond || (*is_exclusive && order == Ordering::Equal) {
                let word = match (is_upper, is_exclusive) {
                    (true, false) => "at most",
                    (true, true) => "less than",
                    (false, false) => "at least",
                    (false, true) => "more than",
                };
                self.wrong(at, format!("it must be {word} {limit}"));
            }
        }
        if let Some(unit) = schema.multiple_of
            && whole(number).is_none_or(|number| number % i128::from(unit) != 0)
        {
            self.wrong(at, format!("it must be a multiple of {unit}"));
        }
    }

    fn combined(&mut self, schema: &Node, value: &Value, at: &At<'_>) {
        for schema in &schema.all_of {
            self.node(schema, value, at);
        }
        if let Some(any) = &schema.any_of
            && !any.iter().any(|schema| is_valid(schema, value))
        {
            self.wrong(at, format!("it must be what one of the {} schemas of `anyOf` says", any.len()));
        }
        if let Some(one) = &schema.one_of {
            let valid = one.iter().filter(|schema| is_valid(schema, value)).count();
            if valid != 1 {
                let message = format!(
                    "it must be what exactly one of the {} schemas of `oneOf` says, and is of {valid}",
                    one.len()
                );
                self.wrong(at, message);
            }
        }
        if schema.not.as_ref().is_some_and(|schema| is_valid(schema, value)) {
            self.wrong(at, "it must not be what the schema of `not` says".to_owned());
        }
    }

    fn count(&mut self, limits: Count, is: usize, of: &str, at: &At<'_>) {
        let is = u64::try_from(is).unwrap_or(u64::MAX);
        if let Some(least) = limits.least.filter(|least| is < *least) {
            self.wrong(at, format!("it must have at least {least} {of}, but has {is}"));
        }
        if let Some(most) = limits.most.filter(|most| is > *most) {
            self.wrong(at, format!("it must have at most {most} {of}, but has {is}"));
        }
    }
}

fn is_valid(schema: &Node, value: &Value) -> bool {
    let mut checker = Checker::default();
    checker.node(schema, value, &At::Whole);
    checker.problems.is_empty()
}

fn is_of(this: Type, value: &Value) -> bool {
    match (this, value) {
        (Type::Integer, Value::Number(number)) => whole(number).is_some(),
        (Type::Null, Value::Null)
        | (Type::Boolean, Value::Bool(_))
        | (Type::Number, Value::Number(_))
        | (Type::Text, Value::String(_))
        | (Type::List, Value::Array(_))
        | (Type::Object, Value::Object(_)) => true,
        (_, _) => false,
    }
}

fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => compare(one, other) == Ordering::Equal,
        (one, other) => one == other,
    }
}

/// The number, if it is a whole one; 1.0 is.
fn whole(number: &Number) -> Option<i128> {
    number.as_i128().or_else(|| {
        let number = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15)?;
        #[expect(clippy::cast_possible_truncation, reason = "whole and small enough, see above")]
        let whole = number as i128;
        Some(whole)
    })
}

fn compare(one: &Number, other: &Number) -> Ordering {
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        _ => {
            let number = |number: &Number| number.as_f64().unwrap_or(f64::NAN);
            number(one).total_cmp(&number(other))
        }
    }
}
