//! What a record says.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::Object;

/// Bytes of a record, at most: what is beyond is left out, and said to be.
pub const LARGEST_RECORD: usize = 8192;
/// What is in a record beside its entry.
const FRAME: usize = 512;
/// Things that a record shows, at most: those beyond are counted.
pub const MOST_OBJECTS: usize = 64;

/// One record: a call, and its place in the chain. As it is written it is one line of JSON in just one form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Counts records from 1, without gaps.
    pub sequence: u64,
    /// When; see [`crate::rfc3339`].
    pub time: String,
    /// What was called.
    #[serde(flatten)]
    pub entry: Entry,
    /// The hash of the record before; zeros in the first.
    pub previous: Hash,
    /// SHA-256 of all the rest of the record as it is written.
    pub hash: Hash,
}

impl Record {
    /// The record as it is stored and exported, without an end of line.
    ///
    /// # Panics
    /// Never: texts, numbers and maps by texts serialise to JSON.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record serialises to JSON")
    }
}

/// A call that changes something, or would have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Id of the request, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Who called.
    pub actor: Actor,
    /// From which address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// What was called: method and route of the API, or what else it was in words.
    pub action: String,
    /// What it was called with, as far as it may be shown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What it changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<Object>,
    /// Things it changed beside those.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
    /// Ids of the organisations it is about: those of who called and of what changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub organizations: Vec<String>,
    /// It stands for more of the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated: Option<Repeated>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Entry {
    /// The same, of a size that fits a record: details of large things are left out first, then things.
    #[must_use]
    pub(crate) fn fitting(mut self) -> Self {
        self.more += self.objects.len().saturating_sub(MOST_OBJECTS) as u64;
        self.objects.truncate(MOST_OBJECTS);
        if self.fits() {
            return self;
        }
        self.objects = self.objects.into_iter().map(Object::condensed).collect();
        while !self.fits() && self.objects.pop().is_some() {
            self.more += 1;
        }
        self
    }

    fn fits(&self) -> bool {
        serde_json::to_vec(self).is_ok_and(|text| text.len() <= LARGEST_RECORD - FRAME)
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// A person, or a program with an API token of one.
    User {
        /// Which.
        id: String,
        /// The name.
        name: String,
        /// Id of the organisation of the login.
        organization: String,
        /// Id of the API token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        api_token: Option<String>,
    },
    /// Nobody who was known.
    Anonymous,
    /// A cluster.
    Cluster {
        /// Which.
        id: String,
    },
    /// The root by itself.
    Root,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// What was wanted is done.
    Done,
    /// It was refused, and nothing was changed.
    Refused {
        /// The code of the error.
        error: String,
        /// The status of the answer, if it was one of HTTP.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
    },
    /// It failed; nothing was changed here.
    Failed {
        /// The code of the error.
        error: String,
        /// The status of the answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
    },
}

/// How often the same happened since it was recorded before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeated {
    /// So often.
    pub times: u64,
    /// The last time.
    pub until: String,
}

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

/// A text that is no hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256: expected 64 hexadecimal digits, all of them small")]
pub struct HashError;

impl TryFrom<String> for Hash {
    type Error = HashError;

    fn try_from(text: String) -> Result<Self, HashError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| HashError)?;
        Ok(Self(bytes.try_into().map_err(|_| HashError)?))
    }
}
