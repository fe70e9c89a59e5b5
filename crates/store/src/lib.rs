//! Durable documents: what is acknowledged is kept.
//!
//! A [`Store`] holds documents by collection and key, each with the revision of the commit that wrote it. A commit is
//! atomic over any number of documents, checks what it expects of them, and appends to an ordered change log from
//! which a watcher resumes. Two backends, behind one trait and one queue (`queued.rs`): SQLite in the state
//! directory ([`SqliteStore`]) and MongoDB ([`MongoStore`]); [`Location`] says which. The contract both pass is in `tests/contract`.
//!
//! A store has one writer. Whoever opens it takes it over: what the writer before still asks for is refused, whatever of
//! it is on its way.
//!
//! Telemetry does not belong here.

mod error;
mod history;
mod location;
mod loss;
mod mongo;
mod queued;
mod settle;
mod sqlite;
mod typed;

use std::{future::Future, pin::Pin};

use tokio::sync::watch;

pub use error::StoreError;
pub use history::History;
pub use location::Location;
pub use mongo::{Holder, Mongo, MongoStore};
pub use queued::QueuedStore;
pub use sqlite::{Sqlite, SqliteStore};
pub use typed::{decode, put, remove};

/// Counts commits from 1; the order of everything that was ever acknowledged. Opening a store may count too.
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

/// One line of the change log: a document became something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The commit it was part of.
    pub revision: Revision,
    /// Which kind.
    pub collection: String,
    /// Which document.
    pub key: String,
    /// What it became; `None` when it was deleted.
    pub value: Option<Vec<u8>>,
    /// What it was; `None` when there was none.
    pub before: Option<Version>,
}

impl Change {
    /// Not so when something was deleted that was not there.
    pub(crate) fn alters(&self) -> bool {
        self.value.is_some() || self.before.is_some()
    }
}

/// What a document was at some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The commit that wrote it.
    pub revision: Revision,
    /// What was written.
    pub value: Vec<u8>,
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

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// See the crate's description.
pub trait Store: Send + Sync {
    /// All documents of a collection, in order of their keys. It holds every commit that was asked for before.
    fn list<'a>(&'a self, collection: &'a str) -> BoxFuture<'a, Result<Vec<Document>, StoreError>>;

    /// The same as of a revision, whatever was committed since: pages of one list belong together.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when the log does not go back so far, [`StoreError::Ahead`] when nothing of that
    /// revision was committed.
    fn list_at<'a>(
        &'a self,
        collection: &'a str,
        at: Revision,
    ) -> BoxFuture<'a, Result<Vec<Document>, StoreError>>;

    /// Some documents of a collection, for one that is too large to be read at once.
    fn page<'a>(
        &'a self,
        collection: &'a str,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Document>, StoreError>>;

    /// Writes all or nothing and returns once it is durable. An empty commit returns the newest revision.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a write does not find what it expects, [`StoreError::TooLarge`] when the backend does
    /// not take it: nothing of the commit is written, and the store goes on.
    /// After any other error it is of no use until it is opened again.
    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Revision, StoreError>>;

    /// The changes after a revision, oldest first: whole commits, as many as make up at most `limit`, but at least one.
    /// Whoever goes on from the revision of the last misses nothing.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when the log does not go back so far.
    fn changes(&self, after: Revision, limit: usize) -> BoxFuture<'_, Result<Vec<Change>, StoreError>>;

    /// The newest revision, and a wake-up at every later one.
    fn revisions(&self) -> watch::Receiver<Revision>;

    /// Comes to an end when this store can no longer be written: it was taken over, or it failed.
    fn lost(&self) -> BoxFuture<'_, StoreError>;
}
