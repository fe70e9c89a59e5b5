//! What is wrong with an SLA, in words a person can act on. Found by the rest of this module, shown by the API.

use std::fmt;

/// The kinds of problems an SLA can have, stable for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlaErrorCode {
    /// The body is not JSON, or gives one field twice.
    InvalidJson,
    /// `sla_version` is not `v2.0`.
    UnsupportedVersion,
    /// No field of that name exists at that place.
    UnknownField,
    /// A required field is absent or null.
    MissingField,
    /// A value is of the wrong JSON type.
    WrongType,
    /// A value is of the right type and breaks a rule.
    InvalidValue,
    /// Two entries carry the same name.
    Duplicate,
    /// Two parts of the document contradict each other, such as two mappings of one port.
    Conflict,
    /// Known to Oakestra and not honoured here.
    NotSupported,
    /// More than the limit.
    TooLarge,
}

impl SlaErrorCode {
    /// The stable lower-case word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::UnsupportedVersion => "unsupported_version",
            Self::UnknownField => "unknown_field",
            Self::MissingField => "missing_field",
            Self::WrongType => "wrong_type",
            Self::InvalidValue => "invalid_value",
            Self::Duplicate => "duplicate",
            Self::Conflict => "conflict",
            Self::NotSupported => "not_supported",
            Self::TooLarge => "too_large",
        }
    }
}

impl fmt::Display for SlaErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One problem at one place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SlaError {
    /// The kind of problem.
    pub code: SlaErrorCode,
    /// Where: `applications[0].microservices[1].port`; empty for the document as a whole.
    pub path: String,
    /// What is wrong there and what to do; a full sentence that names the place.
    pub message: String,
}

/// Every problem of a refused SLA: at least one, listed up to [`SlaErrors::MAX_LISTED`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlaErrors {
    first: SlaError,
    others: Vec<SlaError>,
    omitted: usize,
}

impl SlaErrors {
    /// As many as a person reads in one go; the rest is counted.
    pub const MAX_LISTED: usize = 20;

    /// The problem found first.
    #[must_use]
    pub const fn first(&self) -> &SlaError {
        &self.first
    }

    /// The listed problems, in the order of the document's fields.
    pub fn iter(&self) -> impl Iterator<Item = &SlaError> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// How many problems were found beyond the listed ones.
    #[must_use]
    pub const fn omitted(&self) -> usize {
        self.omitted
    }
}

impl fmt::Display for SlaErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first.message)?;
        for error in &self.others {
            write!(f, "; {}", error.message)?;
        }
        if self.omitted > 0 {
            write!(f, "; and {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for SlaErrors {}

impl From<SlaError> for SlaErrors {
    fn from(first: SlaError) -> Self {
        Self { first, others: Vec::new(), omitted: 0 }
    }
}

/// Collects problems while a document is read to its end.
#[derive(Debug, Default)]
pub(super) struct Problems {
    listed: Vec<SlaError>,
    omitted: usize,
}

impl Problems {
    /// Notes that what is at `path` `is_wrong`, a phrase that follows the place: "must be …".
    pub(super) fn add(&mut self, code: SlaErrorCode, path: &str, is_wrong: &str) {
        if self.is_full() {
            self.omitted += 1;
        } else {
            self.listed.push(problem(code, path, is_wrong));
        }
    }

    /// Whether further problems are only counted.
    pub(super) const fn is_full(&self) -> bool {
        self.listed.len() >= SlaErrors::MAX_LISTED
    }

    /// `value` if nothing was wrong. What was read next to a problem is a placeholder and is discarded here.
    pub(super) fn into_result<T>(self, value: T) -> Result<T, SlaErrors> {
        let mut listed = self.listed.into_iter();
        match listed.next() {
            None => Ok(value),
            Some(first) => Err(SlaErrors { first, others: listed.collect(), omitted: self.omitted }),
        }
    }
}

/// One problem, outside of a collection.
pub(super) fn problem(code: SlaErrorCode, path: &str, is_wrong: &str) -> SlaError {
    let place = if path.is_empty() { "the SLA".to_owned() } else { format!("`{path}`") };
    SlaError { code, path: path.to_owned(), message: format!("{place} {is_wrong}") }
}

/// The user's own text, safe to show: one line, at most 60 characters of it.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
