//! What was recorded of Oakestra's root (`exchanges.json`), and what is meant to differ from it (`differences.json`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

/// One line of the recording.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Step {
    /// A request and what it was answered with.
    Exchange(Box<Exchange>),
    /// A cluster of that name joins, with a worker: what the recording leaves out.
    Join {
        /// Its name.
        join: String,
    },
    /// A request that the recording leaves out and later ones rely on.
    Ask(Box<Ask>),
}

/// A request and what Oakestra answered. Texts in braces stand for what was learnt from earlier answers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exchange {
    /// The number of the recording's part, and what is tried.
    pub(super) name: String,
    /// Whose token is sent: `admin`, `bob`, `refresh` (the administrator's refresh token), `garbage` or `nobody`.
    #[serde(rename = "as")]
    pub(super) caller: String,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: Option<Value>,
    /// A body that is not JSON.
    pub(super) text: Option<String>,
    pub(super) status: u16,
    /// The shape of the answer, see `shape.rs`; absent if it told nothing.
    pub(super) answer: Option<Value>,
    /// Whether clients need a JSON text that holds JSON.
    #[serde(default)]
    pub(super) twice: bool,
    /// Names for parts of the live answer.
    #[serde(default)]
    pub(super) learn: BTreeMap<String, String>,
}

/// A request of the administrator that is not compared.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    /// What it stands for.
    #[serde(rename = "prepare")]
    _why: String,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: Option<Value>,
    #[serde(default)]
    pub(super) learn: BTreeMap<String, String>,
    /// Asked again and again until the answer is so.
    pub(super) until: Option<Until>,
}

/// What an answer is waited for to be.
#[derive(Debug, Deserialize)]
pub(super) struct Until {
    pub(super) at: String,
    pub(super) is: Value,
}

/// Everything that is meant to differ.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Intended {
    pub(super) differences: Vec<Difference>,
    pub(super) not_yet: NotYet,
}

/// How the answers to some exchanges differ, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Difference {
    pub(super) exchanges: Vec<String>,
    /// The status, if it is another.
    pub(super) status: Option<u16>,
    /// Parts of the recorded shape that the answer lacks.
    #[serde(default)]
    pub(super) missing: BTreeSet<String>,
    /// Refused without a token; with the administrator's the answer is as recorded, but for `status` and what is `missing`.
    #[serde(default)]
    pub(super) needs_token: bool,
    /// For people: why it is better so.
    pub(super) because: String,
}

/// What is still to be built.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NotYet {
    /// Nothing is served at the path.
    pub(super) paths: BTreeSet<String>,
    /// Asked by somebody who cannot be registered yet, or about ids that nobody can know yet.
    pub(super) people: BTreeSet<String>,
}

pub(super) fn steps() -> Vec<Step> {
    serde_json::from_str(include_str!("exchanges.json")).expect("the recording is well formed")
}

pub(super) fn intended() -> Intended {
    serde_json::from_str(include_str!("differences.json")).expect("the differences are well formed")
}
