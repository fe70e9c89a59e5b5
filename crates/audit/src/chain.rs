//! The chain: each record has the hash of the one before, so that what is changed, taken out, put in or moved is found.
//!
//! Records that were forgotten on purpose leave a record of that, a [`Checkpoint`]: it has the hash of the last of them, on
//! which the first that is left follows. Whoever can write all of the chain can write another one from the beginning; that
//! is found by who has kept the hash of a record elsewhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Actor, Entry, Hash, Outcome, Record};

/// The newest record of a chain, on which the next one follows; before the first it is all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Head {
    /// Its number.
    pub sequence: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Head {
    /// The record that follows, of that moment.
    #[must_use]
    pub fn append(self, time: String, entry: Entry) -> Record {
        let mut record = Record {
            sequence: self.sequence + 1,
            time,
            entry: entry.fitting(),
            previous: self.hash,
            hash: Hash::default(),
        };
        record.hash = hash_of(&record);
        record
    }
}

impl From<&Record> for Head {
    fn from(record: &Record) -> Self {
        Self { sequence: record.sequence, hash: record.hash }
    }
}

/// Everything of a record but its own hash, as it is hashed.
#[derive(Serialize)]
struct Sealed<'a> {
    sequence: u64,
    time: &'a str,
    #[serde(flatten)]
    entry: &'a Entry,
    previous: Hash,
}

fn hash_of(record: &Record) -> Hash {
    let Record { sequence, time, entry, previous, hash: _ } = record;
    let sealed = Sealed { sequence: *sequence, time, entry, previous: *previous };
    let text = serde_json::to_vec(&sealed).expect("texts, numbers and maps by texts serialise to JSON");
    Hash(Sha256::digest(text).into())
}

/// Records up to this one were forgotten on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint(pub Head);

impl Checkpoint {
    const ACTION: &str = "forget old records";
    const THROUGH: &str = "through";
    const HASH: &str = "hash";

    /// What the record of it says.
    #[must_use]
    pub fn entry(self) -> Entry {
        let parameters = [
            (Self::THROUGH.to_owned(), self.0.sequence.to_string()),
            (Self::HASH.to_owned(), self.0.hash.to_string()),
        ];
        Entry {
            request: None,
            actor: Actor::Root,
            from: None,
            action: Self::ACTION.to_owned(),
            parameters: BTreeMap::from(parameters),
            outcome: Outcome::Done,
            objects: Vec::new(),
            more: 0,
            organizations: Vec::new(),
            repeated: None,
        }
    }

    fn read(entry: &Entry) -> Option<Self> {
        if entry.actor != Actor::Root || entry.action != Self::ACTION {
            return None;
        }
        let sequence = entry.parameters.get(Self::THROUGH)?.parse().ok()?;
        let hash = entry.parameters.get(Self::HASH)?.clone().try_into().ok()?;
        Some(Self(Head { sequence, hash }))
    }
}

/// Where a chain that is checked begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Behind this record.
    Behind(Head),
    /// With whatever comes first: those before it are elsewhere, or forgotten.
    Anywhere,
}

/// The first thing that is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {sequence} is broken: {reason}")]
pub struct Broken {
    /// The number of the record that is, or should be, there.
    pub sequence: u64,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// It is none.
    #[error("it cannot be read as a record ({0})")]
    Unreadable(String),
    /// It was written by somebody else.
    #[error("it is not written as records are")]
    Form,
    /// Another has its place.
    #[error("record {0} is in its place: records were taken out, put in or moved")]
    Place(u64),
    /// It does not follow on the one before.
    #[error("it does not follow on the record before, of which it has another hash")]
    Predecessor,
    /// It was changed.
    #[error("what it says does not have the hash it has")]
    Content,
    /// There is nothing in its place.
    #[error("it is missing, and so is all that followed")]
    Missing,
    /// It is not the one that was written last.
    #[error("it is not the record that was written there")]
    Other,
    /// Nothing says that those before were forgotten on purpose.
    #[error("the records before it are missing, and none says that they were forgotten")]
    Beginning,
}

/// A chain that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// How many records there are.
    pub records: u64,
    /// The number of the first.
    pub first: u64,
    /// The last.
    pub last: Head,
    /// Whether nothing is missing before the first, or a record says that it was forgotten.
    pub is_anchored: bool,
}

/// Checks a chain, line by line.
#[derive(Debug, Clone)]
pub struct Verifier {
    before: Option<Head>,
    /// What the first that was seen followed on.
    beginning: Option<Head>,
    checkpoint: Option<Checkpoint>,
    records: u64,
}

impl Verifier {
    /// Nothing is checked yet.
    #[must_use]
    pub const fn new(start: Start) -> Self {
        let before = match start {
            Start::Behind(head) => Some(head),
            Start::Anywhere => None,
        };
        Self { before, beginning: before, checkpoint: None, records: 0 }
    }

    /// Checks the next record, as it was stored or exported, without its end of line.
    ///
    /// # Errors
    /// What is wrong with it, if all before it were whole.
    pub fn check(&mut self, line: &[u8]) -> Result<Record, Broken> {
        let expected = self.before.map_or(1, |before| before.sequence + 1);
        let broken = |sequence, reason| Broken { sequence, reason };
        let record: Record = serde_json::from_slice(line)
            .map_err(|error| broken(expected, Reason::Unreadable(error.to_string())))?;
        let before = self
            .before
            .unwrap_or(Head { sequence: record.sequence.saturating_sub(1), hash: record.previous });
        let expected = before.sequence + 1;
        if record.sequence != expected {
            return Err(broken(expected, Reason::Place(record.sequence)));
        }
        if record.line() != line {
            return Err(broken(expected, Reason::Form));
        }
        if hash_of(&record) != record.hash {
            return Err(broken(expected, Reason::Content));
        }
        let is_first_of_all = expected == 1 && record.previous != Hash::default();
        if record.previous != before.hash || is_first_of_all {
            return Err(broken(expected, Reason::Predecessor));
        }
        self.beginning.get_or_insert(before);
        self.checkpoint = Checkpoint::read(&record.entry).or(self.checkpoint);
        self.before = Some((&record).into());
        self.records += 1;
        Ok(record)
    }

    /// Checks that it ends there; `newest` is the record that was written last, if that is known.
    ///
    /// # Errors
    /// When it does not, or records are missing at its beginning that none says were forgotten. Those of a chain that began
    /// anywhere may be elsewhere.
    pub fn finish(self, newest: Option<Head>) -> Result<Verified, Broken> {
        let last = self.before.unwrap_or_default();
        let beginning = self.beginning.unwrap_or_default();
        let is_anchored = beginning == Head::default()
            || self.checkpoint.is_some_and(|Checkpoint(forgotten)| forgotten == beginning);
        if newest.is_some() && !is_anchored {
            return Err(Broken { sequence: beginning.sequence + 1, reason: Reason::Beginning });
        }
        if let Some(newest) = newest.filter(|newest| *newest != last) {
            let broken = match newest.sequence > last.sequence {
                true => Broken { sequence: last.sequence + 1, reason: Reason::Missing },
                false => Broken { sequence: newest.sequence, reason: Reason::Other },
            };
            return Err(broken);
        }
        Ok(Verified { records: self.records, first: beginning.sequence + 1, last, is_anchored })
    }
}
