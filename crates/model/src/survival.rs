//! What a service wants when its device or its cluster is cut off, and when it comes back.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Span, SpanError};

/// What becomes of an instance whose worker is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum OnPartition {
    /// Another worker gets a copy this long after the last sign of life, but never before the worker counts as lost.
    ReplaceAfter(Span),
    /// It waits for its worker, however long.
    Keep,
    /// The cut-off worker stops it after this long; only then does another worker get it. Never two at once.
    StopAfter(Span),
}

impl Default for OnPartition {
    /// As soon as the worker counts as lost.
    fn default() -> Self {
        Self::ReplaceAfter(Span::from_secs(0))
    }
}

impl fmt::Display for OnPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReplaceAfter(after) => write!(f, "replace_after({after})"),
            Self::Keep => f.write_str("keep"),
            Self::StopAfter(after) => write!(f, "stop_after({after})"),
        }
    }
}

/// A text that is not one of the policies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Another word.
    #[error("`{found}` is not known: expected {expected}")]
    Unknown {
        /// What was found.
        found: String,
        /// What there is.
        expected: &'static str,
    },
    /// The word is right, the time in it is not.
    #[error(transparent)]
    Span(#[from] SpanError),
}

impl FromStr for OnPartition {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let inside = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
        if text == "keep" {
            return Ok(Self::Keep);
        }
        if let Some(after) = inside("replace_after") {
            return Ok(Self::ReplaceAfter(after.parse()?));
        }
        if let Some(after) = inside("stop_after") {
            return Ok(Self::StopAfter(after.parse()?));
        }
        let expected = "`replace_after(10s)`, `keep` or `stop_after(30s)`";
        Err(PolicyError::Unknown { found: text.to_owned(), expected })
    }
}

impl From<OnPartition> for String {
    fn from(policy: OnPartition) -> Self {
        policy.to_string()
    }
}

impl TryFrom<String> for OnPartition {
    type Error = PolicyError;

    fn try_from(text: String) -> Result<Self, PolicyError> {
        text.parse()
    }
}

/// Which copy stays when a lost worker or cluster returns and both run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnRejoin {
    /// The copy that was lost.
    KeepOriginal,
    /// The copy that was made instead.
    #[default]
    KeepReplacement,
}

impl FromStr for OnRejoin {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        match text {
            "keep_original" => Ok(Self::KeepOriginal),
            "keep_replacement" => Ok(Self::KeepReplacement),
            found => {
                let expected = "`keep_original` or `keep_replacement`";
                Err(PolicyError::Unknown { found: found.to_owned(), expected })
            }
        }
    }
}

/// All of it for one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Survival {
    /// When a worker is cut off.
    pub on_partition: OnPartition,
    /// When it returns.
    pub on_rejoin: OnRejoin,
    /// How long a cluster may be silent before the root gives its instances to others; `None` is for ever.
    pub cluster_lost_after: Option<Span>,
}

impl Default for Survival {
    fn default() -> Self {
        Self {
            on_partition: OnPartition::default(),
            on_rejoin: OnRejoin::default(),
            // Longer than a reboot of the device the cluster orchestrator runs on.
            cluster_lost_after: Some(Span::from_secs(60)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_survive_their_text_form() {
        for text in ["replace_after(0ms)", "replace_after(10s)", "keep", "stop_after(30s)"] {
            assert_eq!(text.parse::<OnPartition>().map(|policy| policy.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "replace", "replace_after", "replace_after(x)", "stop_after(10s", "Keep"] {
            assert!(text.parse::<OnPartition>().is_err(), "{text}");
        }
    }
}
