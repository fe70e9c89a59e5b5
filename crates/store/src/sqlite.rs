//! The embedded backend: one SQLite file in WAL mode, one writer thread, group commit.
//!
//! Commits that arrive while another is being made durable share the next `fsync`: each runs in a savepoint of one
//! transaction, so that one conflict does not undo its neighbours.

use std::{
    path::Path,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{oneshot, watch};

use crate::{BoxFuture, Change, Document, Expect, Page, Revision, Store, StoreError, Write};

/// How many changes the log keeps: a watcher may be away for that many before it must list again.
const LOG_LENGTH: u64 = 20_000;
/// Compact when the log is this much longer than it should be, so that it happens rarely.
const LOG_SLACK: u64 = 2_000;
/// How many waiting commits share one `fsync`: enough for a burst, few enough to keep the wait short.
const GROUP: usize = 256;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS documents (
        collection TEXT NOT NULL,
        key TEXT NOT NULL,
        revision INTEGER NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (collection, key)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS changes (
        sequence INTEGER PRIMARY KEY,
        revision INTEGER NOT NULL,
        collection TEXT NOT NULL,
        key TEXT NOT NULL,
        deleted INTEGER NOT NULL
    );
    CREATE INDEX IF NOT EXISTS changes_by_revision ON changes (revision);
    CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT OR IGNORE INTO meta VALUES ('revision', 0), ('compacted', 0);
";

enum Request {
    List { collection: String, reply: oneshot::Sender<Result<Vec<Document>, StoreError>> },
    Page { collection: String, page: Page, reply: oneshot::Sender<Result<Vec<Document>, StoreError>> },
    Commit { writes: Vec<Write>, reply: oneshot::Sender<Result<Revision, StoreError>> },
    Changes { after: Revision, limit: usize, reply: oneshot::Sender<Result<Vec<Change>, StoreError>> },
}

/// A [`Store`] in one SQLite file. Dropping it closes the file after the last commit.
#[derive(Debug)]
pub struct SqliteStore {
    requests: Sender<Request>,
    revisions: watch::Receiver<Revision>,
}

impl SqliteStore {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// When the file cannot be opened or is not a store.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::start(Connection::open(path).map_err(backend)?)
    }

    fn start(connection: Connection) -> Result<Self, StoreError> {
        // FULL makes every group commit durable before it is acknowledged, WAL makes that one fsync.
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -1024;
                 PRAGMA journal_size_limit = 4194304; PRAGMA temp_store = MEMORY;",
            )
            .map_err(backend)?;
        connection.execute_batch(SCHEMA).map_err(backend)?;
        let newest = Revision(meta(&connection, "revision").map_err(backend)?);
        let (requests, received) = channel();
        let (announce, revisions) = watch::channel(newest);
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || Writer { connection, newest, announce }.serve(&received))
            .map_err(|error| StoreError::Backend(Box::new(error)))?;
        Ok(Self { requests, revisions })
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let gone = || StoreError::Backend("the store's thread has ended".into());
        self.requests.send(request(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Store for SqliteStore {
    fn list<'a>(&'a self, collection: &'a str) -> BoxFuture<'a, Result<Vec<Document>, StoreError>> {
        Box::pin(self.ask(move |reply| Request::List { collection: collection.to_owned(), reply }))
    }

    fn page<'a>(
        &'a self,
        collection: &'a str,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Document>, StoreError>> {
        Box::pin(self.ask(move |reply| Request::Page { collection: collection.to_owned(), page, reply }))
    }

    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(self.ask(move |reply| Request::Commit { writes, reply }))
    }

    fn changes(&self, after: Revision, limit: usize) -> BoxFuture<'_, Result<Vec<Change>, StoreError>> {
        Box::pin(self.ask(move |reply| Request::Changes { after, limit, reply }))
    }

    fn revisions(&self) -> watch::Receiver<Revision> {
        self.revisions.clone()
    }
}

struct Writer {
    connection: Connection,
    newest: Revision,
    announce: watch::Sender<Revision>,
}

type Waiting = Vec<(Vec<Write>, oneshot::Sender<Result<Revision, StoreError>>)>;

impl Writer {
    fn serve(mut self, requests: &Receiver<Request>) {
        while let Ok(first) = requests.recv() {
            let mut group = Waiting::new();
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    Request::Commit { writes, reply } => group.push((writes, reply)),
                    // A read sees every commit asked for before it.
                    Request::List { collection, reply } => {
                        self.commit_group(&mut group);
                        answer(reply, self.list(&collection));
                    }
                    Request::Page { collection, page, reply } => {
                        self.commit_group(&mut group);
                        answer(reply, self.page(&collection, &page));
                    }
                    Request::Changes { after, limit, reply } => {
                        self.commit_group(&mut group);
                        answer(reply, self.changes(after, limit));
                    }
                }
                next = if group.len() < GROUP { requests.try_recv().ok() } else { None };
            }
            self.commit_group(&mut group);
        }
    }

    fn commit_group(&mut self, group: &mut Waiting) {
        if group.is_empty() {
            return;
        }
        let before = self.newest;
        let outcomes = self.try_commit_group(group);
        match outcomes {
            Ok(outcomes) => {
                if self.newest > before {
                    self.announce.send_replace(self.newest);
                }
                for ((_, reply), outcome) in group.drain(..).zip(outcomes) {
                    answer(reply, outcome);
                }
            }
            Err(error) => {
                // Nothing of the group was written: the transaction was rolled back when it was dropped.
                self.newest = before;
                let text = error.to_string();
                for (_, reply) in group.drain(..) {
                    answer(reply, Err(StoreError::Backend(text.clone().into())));
                }
            }
        }
    }

    fn try_commit_group(&mut self, group: &Waiting) -> rusqlite::Result<Vec<Result<Revision, StoreError>>> {
        let mut transaction = self.connection.transaction()?;
        let mut newest = self.newest;
        let mut outcomes = Vec::with_capacity(group.len());
        for (writes, _) in group {
            if writes.is_empty() {
                outcomes.push(Ok(newest));
                continue;
            }
            let savepoint = transaction.savepoint()?;
            let revision = Revision(newest.0 + 1);
            match write_all(&savepoint, writes, revision)? {
                None => {
                    savepoint.commit()?;
                    newest = revision;
                    outcomes.push(Ok(revision));
                }
                Some(conflict) => {
                    drop(savepoint);
                    outcomes.push(Err(conflict));
                }
            }
        }
        set_meta(&transaction, "revision", newest.0)?;
        compact(&transaction)?;
        transaction.commit()?;
        self.newest = newest;
        Ok(outcomes)
    }

    fn list(&self, collection: &str) -> Result<Vec<Document>, StoreError> {
        self.documents(
            "SELECT key, revision, value FROM documents WHERE collection = ?1 ORDER BY key",
            params![collection],
            collection,
        )
    }

    fn page(&self, collection: &str, page: &Page) -> Result<Vec<Document>, StoreError> {
        let query = if page.descending {
            // As a blob it is greater than every text.
            "SELECT key, revision, value FROM documents WHERE collection = ?1 AND key < ifnull(?2, x'00')
             ORDER BY key DESC LIMIT ?3"
        } else {
            // The empty text is less than every key.
            "SELECT key, revision, value FROM documents WHERE collection = ?1 AND key > ifnull(?2, '')
             ORDER BY key LIMIT ?3"
        };
        let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
        self.documents(query, params![collection, page.beyond, limit], collection)
    }

    fn documents(
        &self,
        query: &str,
        parameters: impl rusqlite::Params,
        collection: &str,
    ) -> Result<Vec<Document>, StoreError> {
        let read = || -> rusqlite::Result<Vec<Document>> {
            let mut statement = self.connection.prepare_cached(query)?;
            statement
                .query_map(parameters, |row| {
                    Ok(Document {
                        collection: collection.to_owned(),
                        key: row.get(0)?,
                        revision: Revision(row.get(1)?),
                        value: row.get(2)?,
                    })
                })?
                .collect()
        };
        read().map_err(backend)
    }

    fn changes(&self, after: Revision, limit: usize) -> Result<Vec<Change>, StoreError> {
        let oldest = Revision(meta(&self.connection, "compacted").map_err(backend)?);
        if after < oldest {
            return Err(StoreError::Compacted { asked: after, oldest });
        }
        let read = || -> rusqlite::Result<Vec<Change>> {
            let mut statement = self.connection.prepare_cached(
                "SELECT revision, collection, key, deleted FROM changes WHERE revision > ?1 ORDER BY sequence LIMIT ?2",
            )?;
            statement
                .query_map(params![after.0, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
                    Ok(Change {
                        revision: Revision(row.get(0)?),
                        collection: row.get(1)?,
                        key: row.get(2)?,
                        deleted: row.get(3)?,
                    })
                })?
                .collect()
        };
        read().map_err(backend)
    }
}

/// Writes all of a commit, or says which write found something else than it expected.
fn write_all(
    connection: &Connection,
    writes: &[Write],
    revision: Revision,
) -> rusqlite::Result<Option<StoreError>> {
    for write in writes {
        let found: Option<u64> = match write.expect {
            Expect::Anything => None,
            Expect::Absent | Expect::Revision(_) => connection
                .prepare_cached("SELECT revision FROM documents WHERE collection = ?1 AND key = ?2")?
                .query_row(params![write.collection, write.key], |row| row.get(0))
                .optional()?,
        };
        let as_expected = match write.expect {
            Expect::Anything => true,
            Expect::Absent => found.is_none(),
            Expect::Revision(expected) => found == Some(expected.0),
        };
        if !as_expected {
            return Ok(Some(StoreError::Conflict {
                collection: write.collection.to_owned(),
                key: write.key.clone(),
            }));
        }
        match &write.value {
            Some(value) => connection
                .prepare_cached("INSERT OR REPLACE INTO documents VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![write.collection, write.key, revision.0, value])?,
            None => connection
                .prepare_cached("DELETE FROM documents WHERE collection = ?1 AND key = ?2")?
                .execute(params![write.collection, write.key])?,
        };
        connection
            .prepare_cached(
                "INSERT INTO changes (revision, collection, key, deleted) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![revision.0, write.collection, write.key, write.value.is_none()])?;
    }
    Ok(None)
}

/// Drops the oldest whole commits from the log once it is longer than it should be.
fn compact(connection: &Connection) -> rusqlite::Result<()> {
    // Two subqueries, each answered from one end of the index; a count would read the whole log.
    let (first, last): (Option<u64>, Option<u64>) = connection
        .prepare_cached("SELECT (SELECT min(sequence) FROM changes), (SELECT max(sequence) FROM changes)")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(first), Some(last)) = (first, last) else { return Ok(()) };
    if last - first <= LOG_LENGTH + LOG_SLACK {
        return Ok(());
    }
    tracing::debug!(first, last, "the change log is compacted");
    let cut: u64 = connection.query_row(
        "SELECT revision FROM changes WHERE sequence = ?1",
        [last - LOG_LENGTH],
        |row| row.get(0),
    )?;
    connection.execute("DELETE FROM changes WHERE revision <= ?1", [cut])?;
    set_meta(connection, "compacted", cut)
}

fn meta(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?.query_row([name], |row| row.get(0))
}

fn set_meta(connection: &Connection, name: &str, value: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE meta SET value = ?2 WHERE name = ?1")?
        .execute(params![name, value])
        .map(|_| ())
}

fn backend(error: rusqlite::Error) -> StoreError {
    StoreError::Backend(Box::new(error))
}

fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    // The caller may have given up waiting; what it asked for has happened all the same.
    drop(reply.send(value));
}
