//! The conditions of `when` and `join`: a language so small that it always ends, and never fails.
//!
//! ```text
//!   or         = and { "||" and }
//!   and        = not { "&&" not }
//!   not        = "!" not | comparison
//!   comparison = value [ ( "==" | "!=" | "<" | "<=" | ">" | ">=" ) value ]
//!   value      = "(" or ")" | text | number | "true" | "false" | "null" | reference
//!   reference  = source "." ( "success" | "failure" | "fired" | "data" | "output" { "." name | "[" text "]" } )
//!   source     = name | "[" text "]"
//! ```
//!
//! A source is an ignitor or a task. What has not happened is false, what there is not is null. Only numbers have an order
//! with numbers, and texts with texts; every other comparison but `!=` is false.

mod parse;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A condition that was understood.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Expression {
    text: String,
    root: Node,
}

/// A text that is not a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at character {at}")]
pub struct ExpressionError {
    /// Counts from 1.
    at: usize,
    problem: String,
}

/// What is asked of a source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// A task that succeeded.
    Success,
    /// A task that failed.
    Failure,
    /// An ignitor that fired.
    Fired,
    /// Its data, a text.
    Data,
    /// What it wrote as its output, or what is at that place in it.
    Output(Vec<String>),
}

/// What is asked of which source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The name of the task or ignitor.
    pub source: String,
    /// What is asked of it.
    pub question: Question,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Or(Vec<Node>),
    And(Vec<Node>),
    Not(Box<Node>),
    Compare(Box<Node>, Comparison, Box<Node>),
    Literal(Value),
    Reference(Reference),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
}

impl Expression {
    /// Whether it holds where `answer` tells what is so.
    pub fn holds(&self, answer: &impl Fn(&Reference) -> Value) -> bool {
        is_true(&value(&self.root, answer))
    }

    /// All that it asks.
    #[must_use]
    pub fn references(&self) -> BTreeSet<&Reference> {
        let mut found = BTreeSet::new();
        collect(&self.root, &mut found);
        found
    }
}

fn collect<'a>(node: &'a Node, found: &mut BTreeSet<&'a Reference>) {
    match node {
        Node::Or(parts) | Node::And(parts) => parts.iter().for_each(|part| collect(part, found)),
        Node::Not(part) => collect(part, found),
        Node::Compare(left, _, right) => [left, right].into_iter().for_each(|part| collect(part, found)),
        Node::Literal(_) => {}
        Node::Reference(reference) => {
            found.insert(reference);
        }
    }
}

fn value(node: &Node, answer: &impl Fn(&Reference) -> Value) -> Value {
    let holds = |part: &Node| is_true(&value(part, answer));
    match node {
        Node::Or(parts) => Value::Bool(parts.iter().any(holds)),
        Node::And(parts) => Value::Bool(parts.iter().all(holds)),
        Node::Not(part) => Value::Bool(!holds(part)),
        Node::Compare(left, comparison, right) => {
            Value::Bool(comparison.holds(&value(left, answer), &value(right, answer)))
        }
        Node::Literal(value) => value.clone(),
        Node::Reference(reference) => answer(reference),
    }
}

fn is_true(value: &Value) -> bool {
    value.as_bool().unwrap_or(false)
}

impl Comparison {
    fn holds(self, left: &Value, right: &Value) -> bool {
        let order = match (left, right) {
            (Value::Number(left), Value::Number(right)) => {
                left.as_f64().zip(right.as_f64()).and_then(|(left, right)| left.partial_cmp(&right))
            }
            (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
            _ => (left == right).then_some(std::cmp::Ordering::Equal),
        };
        let ordered = left.is_number() && right.is_number() || left.is_string() && right.is_string();
        match self {
            Self::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
            Self::Unequal => !order.is_some_and(std::cmp::Ordering::is_eq),
            Self::Less => ordered && order.is_some_and(std::cmp::Ordering::is_lt),
            Self::AtMost => ordered && order.is_some_and(std::cmp::Ordering::is_le),
            Self::More => ordered && order.is_some_and(std::cmp::Ordering::is_gt),
            Self::AtLeast => ordered && order.is_some_and(std::cmp::Ordering::is_ge),
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        parse::parse(text).map(|root| Self { text: text.to_owned(), root })
    }
}

impl From<Expression> for String {
    fn from(expression: Expression) -> Self {
        expression.text
    }
}

impl TryFrom<String> for Expression {
    type Error = ExpressionError;

    fn try_from(text: String) -> Result<Self, ExpressionError> {
        text.parse()
    }
}
