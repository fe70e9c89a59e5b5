//! JSON Schema, as far as documents are described by it: what a document must be. Whatever a schema says is heeded or
//! refused by name when the schema is given, never ignored (`read.rs`).
//!
//! Why not all of it: checking must end, soon, whoever wrote the schema. Here it takes at most as many steps as the schema
//! has parts for each part of the document. Schemas that refer to themselves, fetch others or say what holds for what is left
//! over do not have that property.

mod check;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Number, Value};

/// What a document is not as it must be, or a schema cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaProblem {
    /// Where, such as `network.ports[2]`; empty for the whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

/// What is said of a field that is required and not there.
pub(crate) const MISSING: &str = "it is missing";

/// How much of a schema is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Parts, those it refers to counted at each reference.
    pub(crate) nodes: usize,
    /// Patterns, counted likewise: making them ready takes a while.
    pub(crate) patterns: usize,
}

impl Limits {
    /// For descriptions of resources, of which a large one has some hundred parts.
    const USUAL: Self = Self { nodes: 500, patterns: 20 };
}

/// A schema that was understood.
#[derive(Debug, Clone)]
pub struct Schema(Node);

/// One schema of a schema. What it does not say is absent.
#[derive(Debug, Clone, Default)]
struct Node {
    /// Nothing is valid.
    never: bool,
    types: Option<Vec<Type>>,
    /// `enum`, or `const` as the only one.
    values: Option<Vec<Value>>,
    properties: BTreeMap<String, Self>,
    required: Vec<String>,
    /// For properties that are not named.
    additional: Option<Box<Self>>,
    property_count: Count,
    items: Option<Box<Self>>,
    item_count: Count,
    unique_items: bool,
    length: Count,
    pattern: Option<Regex>,
    bounds: Vec<Bound>,
    multiple_of: Option<u64>,
    all_of: Vec<Self>,
    any_of: Option<Vec<Self>>,
    one_of: Option<Vec<Self>>,
    not: Option<Box<Self>>,
}

/// From how many to how many.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    least: Option<u64>,
    most: Option<u64>,
}

/// A limit of numbers.
#[derive(Debug, Clone)]
struct Bound {
    limit: Number,
    is_upper: bool,
    is_exclusive: bool,
}

/// The kinds of JSON values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Null,
    Boolean,
    Integer,
    Number,
    Text,
    List,
    Object,
}

impl Type {
    const ALL: [(&'static str, Self); 7] = [
        ("null", Self::Null),
        ("boolean", Self::Boolean),
        ("integer", Self::Integer),
        ("number", Self::Number),
        ("string", Self::Text),
        ("array", Self::List),
        ("object", Self::Object),
    ];

    fn word(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, this)| *this == self).map_or("", |(word, _)| word)
    }
}

impl Schema {
    /// Understands a schema.
    ///
    /// # Errors
    /// What in it cannot be heeded, and where.
    pub fn read(schema: &Value) -> Result<Self, SchemaProblem> {
        Self::read_within(schema, Limits::USUAL)
    }

    /// The same with other limits.
    pub(crate) fn read_within(schema: &Value, limits: Limits) -> Result<Self, SchemaProblem> {
        read::read(schema, limits).map(Self)
    }

    /// What is wrong with a document; the first few things.
    #[must_use]
    pub fn check(&self, document: &Value) -> Vec<SchemaProblem> {
        check::check(&self.0, document)
    }
}
