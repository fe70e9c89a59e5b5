//! What is in the database.
//!
//! | collection | a document is | changed |
//! |---|---|---|
//! | `log` | a commit, by its revision: inserting it is what makes the commit happen | never |
//! | `parts` | the writes of a commit that is too large for one document | never |
//! | `versions` | what one document was from one revision on, copied from the log | never |
//! | `head` | one only: whose the store is, how far versions are copied, how far back the log goes | by its writer |

use mongodb::bson::{Binary, Document, doc, spec::BinarySubtype};
use serde::{Deserialize, Serialize};

use crate::{Change, Revision, StoreError, history::Size, settle::Name};

/// Of what is written here.
pub(super) const FORMAT: i64 = 1;
/// The one document of `head`.
pub(super) const HEAD: &str = "store";
/// MongoDB takes documents of 16 MiB; this leaves room for names.
pub(super) const LARGEST: usize = 15 << 20;
/// Of a commit, that is put into one document.
const PART: usize = 8 << 20;
/// What a write takes beside its names and its value.
const OVERHEAD: usize = 64;

/// A commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(rename = "_id")]
    pub(super) id: String,
    pub(super) revision: i64,
    /// Who committed it: an id of one opening of the store. No two commits of one have the same revision.
    pub(super) writer: String,
    /// All changes and bytes that were ever written to the log, with this.
    pub(super) changes: i64,
    pub(super) bytes: i64,
    /// How many parts it has, if its writes are elsewhere.
    pub(super) parts: i64,
    pub(super) writes: Vec<Written>,
}

impl Entry {
    pub(super) fn written(&self) -> Size {
        Size { changes: unsigned(self.changes), bytes: unsigned(self.bytes) }
    }
}

/// An entry without what is in it.
#[derive(Debug, Deserialize)]
pub(super) struct EntryEnd {
    pub(super) revision: i64,
    pub(super) writer: String,
    changes: i64,
    bytes: i64,
}

impl EntryEnd {
    /// The fields of an entry it is made of.
    pub(super) fn fields() -> Document {
        doc! { "revision": 1, "writer": 1, "changes": 1, "bytes": 1 }
    }

    pub(super) fn written(&self) -> Size {
        Size { changes: unsigned(self.changes), bytes: unsigned(self.bytes) }
    }
}

/// Some of the writes of a commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Part {
    #[serde(rename = "_id")]
    id: String,
    pub(super) revision: i64,
    pub(super) writer: String,
    pub(super) number: i64,
    pub(super) writes: Vec<Written>,
}

/// What a document became.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) name: String,
    /// `None` when it was deleted.
    pub(super) value: Option<Binary>,
}

/// What a document was from a revision on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StoredVersion {
    #[serde(rename = "_id")]
    pub(super) id: String,
    pub(super) name: String,
    pub(super) revision: i64,
    /// There was none any more.
    pub(super) deleted: bool,
    pub(super) value: Option<Binary>,
}

impl From<&Change> for StoredVersion {
    fn from(change: &Change) -> Self {
        Self::of(signed(change.revision.0), &Written::from(change))
    }
}

impl From<&Change> for Written {
    fn from(change: &Change) -> Self {
        let value = change.value.clone().map(|bytes| Binary { subtype: BinarySubtype::Generic, bytes });
        Self { name: name(&change.collection, &change.key), value }
    }
}

impl StoredVersion {
    pub(super) fn of(revision: i64, written: &Written) -> Self {
        Self {
            id: format!("{}@{revision}", written.name),
            name: written.name.clone(),
            revision,
            deleted: written.value.is_none(),
            value: written.value.clone(),
        }
    }
}

/// A version without what is in it.
#[derive(Debug, Deserialize)]
pub(super) struct VersionName {
    #[serde(rename = "_id")]
    pub(super) id: String,
    pub(super) name: String,
    pub(super) deleted: bool,
}

impl VersionName {
    /// The fields of a version it is made of.
    pub(super) fn fields() -> Document {
        doc! { "_id": 1, "name": 1, "deleted": 1 }
    }
}

/// Whose the store is, and how far it has come.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Head {
    #[serde(rename = "_id")]
    pub(super) id: String,
    pub(super) format: i64,
    /// Counts who took it over.
    pub(super) term: i64,
    /// Which opening of the store has it.
    pub(super) writer: String,
    /// Counts signs of life of the writer.
    pub(super) beat: i64,
    /// Which state directory it is that has the store, and how it is called in messages.
    pub(super) holder: String,
    pub(super) holder_shown: String,
    /// Commits up to this are in `versions`.
    pub(super) copied: i64,
    /// Commits up to this are not in the log any more, or about to be removed from it.
    pub(super) compacted: i64,
}

/// The id of an entry: a text of one length, so that servers which compare ids as texts have them in order too.
pub(super) fn entry_id(revision: i64) -> String {
    format!("{revision:020}")
}

/// The document by which a name is stored: collections have no slash in their names.
pub(super) fn name(collection: &str, key: &str) -> String {
    format!("{collection}/{key}")
}

/// The reverse of [`name`].
pub(super) fn split(name: &str) -> Name {
    let (collection, key) = name.split_once('/').unwrap_or((name, ""));
    (collection.to_owned(), key.to_owned())
}

/// One commit as it is written, and its parts, if it is large.
pub(super) fn entry(writer: &str, written: Size, changes: &[Change]) -> (Entry, Vec<Part>) {
    let revision = changes.first().map_or(0, |change| signed(change.revision.0));
    let mut parts: Vec<Vec<Written>> = vec![Vec::new()];
    let mut bytes = 0;
    for change in changes {
        let written = Written::from(change);
        let size = OVERHEAD + written.name.len() + change.value.as_ref().map_or(0, Vec::len);
        if bytes > 0 && bytes + size > PART {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(part) = parts.last_mut() {
            part.push(written);
        }
    }
    let entry = |parts: usize, writes| Entry {
        id: entry_id(revision),
        revision,
        writer: writer.to_owned(),
        changes: signed(written.changes),
        bytes: signed(written.bytes),
        parts: signed(parts as u64),
        writes,
    };
    if parts.len() == 1 {
        return (entry(0, parts.pop().unwrap_or_default()), Vec::new());
    }
    let part = |(number, writes)| Part {
        id: format!("{revision}/{writer}/{number}"),
        revision,
        writer: writer.to_owned(),
        number: signed(number as u64),
        writes,
    };
    (entry(parts.len(), Vec::new()), parts.into_iter().enumerate().map(part).collect())
}

/// What is larger than one document may be is refused before anything is written.
pub(super) fn ensure_fits(write: &crate::Write) -> Result<(), StoreError> {
    let bytes = write.value.as_ref().map_or(0, Vec::len) + write.key.len();
    if bytes <= LARGEST {
        return Ok(());
    }
    let (collection, key) = (write.collection.to_owned(), write.key.clone());
    Err(StoreError::TooLarge { collection, key, bytes, limit: LARGEST })
}

/// BSON has no unsigned integers; nothing that is counted here comes near the end of the signed ones.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The reverse of [`signed`].
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A stored revision.
pub(super) fn revision(number: i64) -> Revision {
    Revision(unsigned(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, bytes: usize) -> Change {
        Change {
            revision: Revision(7),
            collection: "things".to_owned(),
            key: key.to_owned(),
            value: Some(vec![0; bytes]),
            before: None,
        }
    }

    #[test]
    fn a_name_leads_back_to_collection_and_key() {
        assert_eq!(split(&name("elsewhere", "a/b@3")), ("elsewhere".to_owned(), "a/b@3".to_owned()));
    }

    #[test]
    fn a_large_commit_is_in_parts_that_each_fit_into_a_document() {
        let changes = [change("a", 5 << 20), change("b", 5 << 20), change("c", 14 << 20), change("d", 1)];
        let (entry, parts) = entry("me", Size::default(), &changes);
        let keys = |part: &Part| part.writes.iter().map(|it| it.name.clone()).collect::<Vec<_>>().join(" ");
        assert_eq!(
            parts.iter().map(keys).collect::<Vec<_>>(),
            ["things/a", "things/b", "things/c", "things/d"]
        );
        assert_eq!((entry.parts, entry.writes.len(), entry.revision), (4, 0, 7));
    }

    #[test]
    fn a_small_commit_is_one_document() {
        let changes = [change("a", 10), change("b", 10)];
        let (entry, parts) = entry("me", Size { changes: 2, bytes: 20 }, &changes);
        assert_eq!((entry.parts, entry.writes.len(), parts.len()), (0, 2, 0));
    }
}
