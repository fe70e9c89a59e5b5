//! What is wrong with a document: a list, in the words of Kubernetes.

use std::fmt;

/// Told at once; more help nobody.
const MOST_CAUSES: usize = 50;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Where, such as `spec.template.spec.containers[0].image`.
    pub field: String,
    /// What kind of mistake.
    pub reason: CauseReason,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// A stable word for a kind of mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CauseReason {
    /// Something is missing.
    Required,
    /// The value is not one of those that are possible.
    Invalid,
    /// It is of another type.
    TypeInvalid,
    /// It is understood and not done.
    NotSupported,
    /// It is too long, too many or too large.
    TooLong,
    /// It is there twice.
    Duplicate,
    /// There is no such field.
    Unknown,
    /// It names what does not exist. Only a warning: it may come later.
    NotFound,
}

impl CauseReason {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::TooLong => "FieldValueTooLong",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Unknown => "FieldUnknown",
            Self::NotFound => "FieldValueNotFound",
        }
    }
}

impl fmt::Display for CauseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Those found so far.
#[derive(Debug, Default)]
pub(super) struct Causes {
    found: Vec<Cause>,
}

impl Causes {
    pub(super) fn add(&mut self, reason: CauseReason, field: &str, message: &str) {
        if self.found.len() < MOST_CAUSES {
            self.found.push(Cause { field: field.to_owned(), reason, message: message.to_owned() });
        }
    }

    pub(super) fn invalid(&mut self, field: &str, message: &str) {
        self.add(CauseReason::Invalid, field, message);
    }

    pub(super) fn required(&mut self, field: &str, message: &str) {
        self.add(CauseReason::Required, field, &format!("is missing: {message}"));
    }

    /// `value`, unless something is wrong.
    pub(super) fn judge<T>(self, value: Option<T>) -> Result<T, Vec<Cause>> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            Some(_) | None => Err(self.found),
        }
    }
}
