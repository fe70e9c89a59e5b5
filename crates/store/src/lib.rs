//! Durable documents: what is acknowledged is kept.
//!
//! A [`Store`] holds documents by collection and key, each with the revision of the commit that wrote it. A commit is
//! atomic over any number of documents, checks what it expects of them, and appends to an ordered change log from
//! which a watcher resumes. SQLite is behind it ([`SqliteStore`]); the contract every backend passes is in
//! `tests/contract.rs`.
//!
//! Telemetry does not belong here.

mod sqlite;
mod typed;

use std::{future::Future, pin::Pin};

use tokio::sync::watch;

pub use sqlite::SqliteStore;
pub use typed::{decode, put, remove};

/// Counts commits from 1; the order of everything that was ever acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Revision(pub u64);

/// A stored document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Which kind.
    pub collection: String,
    /// Unique in its collection.
    pub key: String,
    /// The commit that wrote it.
    pub revision: Revision,
    /// What was written.
    pub value: Vec<u8>,
}

/// What a write expects to find; the whole commit fails when it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Anything or nothing.
    Anything,
    /// No document of that key.
    Absent,
    /// The document as of exactly this revision.
    Revision(Revision),
}

/// One change to one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which kind.
    pub collection: &'static str,
    /// Unique in its collection.
    pub key: String,
    /// The new content; `None` deletes.
    pub value: Option<Vec<u8>>,
    /// What must be true before.
    pub expect: Expect,
}

/// One line of the change log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The commit it was part of.
    pub revision: Revision,
    /// Which kind.
    pub collection: String,
    /// Which document.
    pub key: String,
    /// Whether it was deleted.
    pub deleted: bool,
}

/// Which documents of a collection to read: those with keys beyond `beyond`, in the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Begin behind this key; `None` is at the end that the direction begins with.
    pub beyond: Option<String>,
    /// From the last key down, not from the first up.
    pub descending: bool,
    /// At most so many.
    pub limit: usize,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A write did not find what it expected; nothing of its commit was written.
    #[error("{collection}/{key} was changed by someone else; read it again and repeat")]
    Conflict {
        /// Which kind.
        collection: String,
        /// Which document.
        key: String,
    },
    /// The changes asked for are older than the log goes back.
    #[error("changes after revision {} are no longer kept; the oldest is {}; list again", asked.0, oldest.0)]
    Compacted {
        /// Asked for.
        asked: Revision,
        /// The oldest revision that can be resumed from.
        oldest: Revision,
    },
    /// A stored document cannot be understood.
    #[error("stored document {collection}/{key} cannot be read")]
    Corrupt {
        /// Which kind.
        collection: String,
        /// Which document.
        key: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The backend failed; whether the commit was written is not known.
    #[error("the store failed")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// See the crate's description.
pub trait Store: Send + Sync {
    /// All documents of a collection, in order of their keys.
    fn list<'a>(&'a self, collection: &'a str) -> BoxFuture<'a, Result<Vec<Document>, StoreError>>;

    /// Some documents of a collection, for one that is too large to be read at once.
    fn page<'a>(
        &'a self,
        collection: &'a str,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Document>, StoreError>>;

    /// Writes all or nothing and returns once it is durable. An empty commit returns the newest revision.
    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Revision, StoreError>>;

    /// The changes after a revision, oldest first, at most `limit`.
    fn changes(&self, after: Revision, limit: usize) -> BoxFuture<'_, Result<Vec<Change>, StoreError>>;

    /// The newest revision, and a wake-up at every later one.
    fn revisions(&self) -> watch::Receiver<Revision>;
}
