//! Why something was not placed. Every "no" carries one of these up to the user.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The stable codes of a refusal, in the words of Oakestra's users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RefusalCode {
    /// There is no candidate at all: none joined, none connected, or none of that name.
    NoTargetCluster,
    /// There are candidates, and none has what is needed.
    NoResourcesAvailable,
}

impl RefusalCode {
    /// The code as users see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoTargetCluster => "NoTargetCluster",
            Self::NoResourcesAvailable => "NoResourcesAvailable",
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why one candidate, or a group of like ones, was not chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateVerdict {
    /// A cluster's name at the root; "3 workers" in what a cluster says, which names no worker.
    pub candidate: String,
    /// What was missing, with what was needed and what there was.
    pub reason: String,
}

/// Why nothing was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The stable code.
    pub code: RefusalCode,
    /// One line for a person when there is no candidate to speak of.
    pub summary: String,
    /// The verdicts, most numerous first.
    pub candidates: Vec<CandidateVerdict>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.summary)?;
        for verdict in &self.candidates {
            write!(f, "; {}: {}", verdict.candidate, verdict.reason)?;
        }
        Ok(())
    }
}
