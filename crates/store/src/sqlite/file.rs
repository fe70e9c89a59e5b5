//! The tables of the SQLite file: documents as they are, the log of what they became and were, and where it stands.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::backend;
use crate::{
    Change, Document, Expect, History, Page, Revision, StoreError, Version, Write,
    history::{Size, whole_commits},
    settle::{Name, Settled, last_of_each, settle},
};

/// Of what is written here; files from before there was one say 0, and their log had no documents in it.
const FORMAT: i64 = 1;

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
        bytes INTEGER NOT NULL,
        collection TEXT NOT NULL,
        key TEXT NOT NULL,
        value BLOB,
        before_revision INTEGER,
        before BLOB
    );
    CREATE INDEX IF NOT EXISTS changes_by_revision ON changes (revision);
    CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT OR IGNORE INTO meta VALUES ('revision', 0), ('compacted', 0), ('term', 0), ('logged', 0);
";

/// Changes after a revision. In the order of the index: by the sequence alone, the whole log is gone through for its end.
const CHANGES: &str = "SELECT revision, collection, key, value, before_revision, before FROM changes
    WHERE revision > ?1 ORDER BY revision, sequence";
/// What documents of a collection were before such changes; the latest first, so that the earliest of each key is what
/// stays.
const BEFORE: &str =
    "SELECT key, before_revision, before FROM changes WHERE revision > ?1 AND collection = ?2
    ORDER BY revision DESC, sequence DESC";

/// The file, as its one writer has it.
pub(super) struct File {
    connection: Connection,
    history: History,
    /// Whoever opens the file takes the next one, and then this one may write no more.
    term: u64,
    newest: Revision,
    /// All that was ever written to the log: the last line has the same.
    written: Size,
}

impl File {
    /// Brings the file to the present format and takes the next term.
    pub(super) fn open(mut connection: Connection, history: History) -> Result<Self, StoreError> {
        // FULL makes every group commit durable before it is acknowledged, WAL makes that one fsync.
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -1024;
                 PRAGMA journal_size_limit = 4194304; PRAGMA temp_store = MEMORY;",
            )
            .map_err(backend)?;
        let transaction = writing(&mut connection).map_err(backend)?;
        let format = format_of(&transaction).map_err(backend)?;
        if format > FORMAT {
            return Err(StoreError::Format { found: format, known: FORMAT });
        }
        let prepared = prepare(&transaction, format, history).map_err(backend)?;
        transaction.commit().map_err(backend)?;
        let (term, newest, written) = prepared;
        Ok(Self { connection, history, term, newest, written })
    }

    pub(super) fn newest(&self) -> Revision {
        self.newest
    }

    /// Takes in a group of commits. After an error nothing of it is written: the transaction was rolled back.
    pub(super) fn commit(
        &mut self,
        group: &[Vec<Write>],
    ) -> Result<Vec<Result<Revision, StoreError>>, StoreError> {
        let transaction = writing(&mut self.connection).map_err(backend)?;
        if meta(&transaction, "term").map_err(backend)? != self.term {
            return Err(StoreError::TakenOver);
        }
        let found = find(&transaction, group, self.history).map_err(backend)?;
        let settled = settle(self.newest, group, found);
        let written = write(&transaction, &settled, self.history, self.written).map_err(backend)?;
        transaction.commit().map_err(backend)?;
        (self.newest, self.written) = (settled.newest, written);
        Ok(settled.outcomes)
    }

    pub(super) fn list(&self, collection: &str, at: Option<Revision>) -> Result<Vec<Document>, StoreError> {
        if let Some(asked) = at {
            self.ensure_kept(asked)?;
            if asked > self.newest {
                return Err(StoreError::Ahead { asked, newest: self.newest });
            }
        }
        let mut present = self.read_documents(collection).map_err(backend)?;
        if let Some(at) = at.filter(|at| *at < self.newest) {
            for (key, before) in self.read_before(collection, at).map_err(backend)? {
                match before {
                    Some(version) => drop(present.insert(key, version)),
                    None => drop(present.remove(&key)),
                }
            }
        }
        Ok(documents(collection, present))
    }

    pub(super) fn page(&self, collection: &str, page: &Page) -> Result<Vec<Document>, StoreError> {
        self.read_page(collection, page).map(|found| documents(collection, found)).map_err(backend)
    }

    pub(super) fn changes(&self, after: Revision, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.ensure_kept(after)?;
        self.read_changes(after, limit).map_err(backend)
    }

    fn ensure_kept(&self, asked: Revision) -> Result<(), StoreError> {
        // Without a log only what is now is known.
        let compacted = if self.history.is_kept() {
            Revision(meta(&self.connection, "compacted").map_err(backend)?)
        } else {
            self.newest
        };
        if asked < compacted { Err(StoreError::Compacted { asked, oldest: compacted }) } else { Ok(()) }
    }

    fn read_documents(&self, collection: &str) -> rusqlite::Result<BTreeMap<String, Version>> {
        let query = "SELECT key, revision, value FROM documents WHERE collection = ?1";
        Ok(self.read_versions(query, params![collection])?.into_iter().collect())
    }

    fn read_page(&self, collection: &str, page: &Page) -> rusqlite::Result<Vec<(String, Version)>> {
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
        self.read_versions(query, params![collection, page.beyond, limit])
    }

    fn read_versions(
        &self,
        query: &str,
        parameters: impl rusqlite::Params,
    ) -> rusqlite::Result<Vec<(String, Version)>> {
        let mut statement = self.connection.prepare_cached(query)?;
        statement
            .query_map(parameters, |row| {
                Ok((row.get(0)?, Version { revision: Revision(row.get(1)?), value: row.get(2)? }))
            })?
            .collect()
    }

    /// What those that changed after a revision were at it.
    fn read_before(
        &self,
        collection: &str,
        at: Revision,
    ) -> rusqlite::Result<BTreeMap<String, Option<Version>>> {
        let mut statement = self.connection.prepare_cached(BEFORE)?;
        statement
            .query_map(params![at.0, collection], |row| Ok((row.get(0)?, version(row.get(1)?, row.get(2)?))))?
            .collect()
    }

    fn read_changes(&self, after: Revision, limit: usize) -> rusqlite::Result<Vec<Change>> {
        let mut statement = self.connection.prepare_cached(CHANGES)?;
        let mut rows = statement.query([after.0])?;
        let mut changes: Vec<Change> = Vec::new();
        while let Some(row) = rows.next()? {
            let change = Change {
                revision: Revision(row.get(0)?),
                collection: row.get(1)?,
                key: row.get(2)?,
                value: row.get(3)?,
                before: version(row.get(4)?, row.get(5)?),
            };
            let begins = changes.last().is_some_and(|last| last.revision < change.revision);
            if begins && changes.len() >= limit {
                break;
            }
            changes.push(change);
        }
        Ok(whole_commits(changes, limit))
    }
}

fn documents(collection: &str, found: impl IntoIterator<Item = (String, Version)>) -> Vec<Document> {
    let document = |(key, Version { revision, value })| Document {
        collection: collection.to_owned(),
        key,
        revision,
        value,
    };
    found.into_iter().map(document).collect()
}

fn version(revision: Option<u64>, value: Option<Vec<u8>>) -> Option<Version> {
    Some(Version { revision: Revision(revision?), value: value? })
}

/// Takes the right to write at once, so that nobody takes a term in between.
fn writing(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

fn format_of(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT * FROM pragma_user_version", [], |row| row.get(0))
}

/// Term, newest revision, and all that was ever written to the log.
fn prepare(
    transaction: &Transaction<'_>,
    format: i64,
    history: History,
) -> rusqlite::Result<(u64, Revision, Size)> {
    if format == 0 {
        transaction.execute_batch("DROP TABLE IF EXISTS changes")?;
    }
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    let newest = meta(transaction, "revision")?;
    if !history.is_kept() {
        transaction.execute_batch("DELETE FROM changes")?;
    } else if meta(transaction, "logged")? == 0 {
        // What was committed until now is in no log.
        set_meta(transaction, "compacted", newest)?;
    }
    set_meta(transaction, "logged", u64::from(history.is_kept()))?;
    let written = transaction
        .query_row("SELECT sequence, bytes FROM changes ORDER BY sequence DESC LIMIT 1", [], |row| {
            Ok(Size { changes: row.get(0)?, bytes: row.get(1)? })
        })
        .optional()?;
    let term = meta(transaction, "term")? + 1;
    set_meta(transaction, "term", term)?;
    Ok((term, Revision(newest), written.unwrap_or_default()))
}

/// The documents a group is about: all of them if they go into the log, else those it expects something of.
fn find(
    connection: &Connection,
    group: &[Vec<Write>],
    history: History,
) -> rusqlite::Result<BTreeMap<Name, Version>> {
    let mut statement = connection
        .prepare_cached("SELECT revision, value FROM documents WHERE collection = ?1 AND key = ?2")?;
    let mut found = BTreeMap::new();
    for write in group.iter().flatten() {
        if history.is_kept() || write.expect != Expect::Anything {
            let version = statement
                .query_row(params![write.collection, write.key], |row| {
                    Ok(Version { revision: Revision(row.get(0)?), value: row.get(1)? })
                })
                .optional()?;
            found.extend(version.map(|it| ((write.collection.to_owned(), write.key.clone()), it)));
        }
    }
    Ok(found)
}

/// Writes what a group comes to; all that was ever written to the log, then.
fn write(
    transaction: &Transaction<'_>,
    settled: &Settled,
    history: History,
    mut written: Size,
) -> rusqlite::Result<Size> {
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO documents VALUES (?1, ?2, ?3, ?4)")?;
    let mut remove =
        transaction.prepare_cached("DELETE FROM documents WHERE collection = ?1 AND key = ?2")?;
    for ((collection, key), change) in last_of_each(&settled.changes) {
        match &change.value {
            Some(value) => put.execute(params![collection, key, change.revision.0, value])?,
            None => remove.execute(params![collection, key])?,
        };
    }
    if history.is_kept() {
        let mut log =
            transaction.prepare_cached("INSERT INTO changes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
        for change in settled.changes.iter().filter(|change| change.alters()) {
            written = written.with(change);
            let before = change.before.as_ref();
            log.execute(params![
                written.changes,
                change.revision.0,
                written.bytes,
                change.collection,
                change.key,
                change.value,
                before.map(|version| version.revision.0),
                before.map(|version| &version.value),
            ])?;
        }
        compact(transaction, history, written)?;
    }
    set_meta(transaction, "revision", settled.newest.0)?;
    Ok(written)
}

/// Drops the oldest whole commits from the log once it is longer than it should be.
fn compact(connection: &Connection, history: History, written: Size) -> rusqlite::Result<()> {
    let first = connection
        .prepare_cached("SELECT sequence, bytes FROM changes ORDER BY sequence LIMIT 1")?
        .query_row([], |row| Ok(Size { changes: row.get(0)?, bytes: row.get(1)? }))
        .optional()?;
    if !first.is_some_and(|first| history.is_exceeded(written.since(first))) {
        return Ok(());
    }
    let cut: Option<u64> = connection
        .prepare_cached(
            "SELECT revision FROM changes WHERE sequence <= ?1 OR bytes <= ?2 ORDER BY sequence DESC LIMIT 1",
        )?
        .query_row(
            params![
                signed(written.changes) - signed(history.changes),
                signed(written.bytes) - signed(history.bytes),
            ],
            |row| row.get(0),
        )
        .optional()?;
    let Some(cut) = cut else { return Ok(()) };
    tracing::debug!(revision = cut, "the change log is compacted");
    connection.execute("DELETE FROM changes WHERE revision <= ?1", [cut])?;
    set_meta(connection, "compacted", cut)
}

/// A number below nothing is before the beginning of the log.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_in_the_log_is_found_without_going_through_what_is_old() {
        let connection = Connection::open_in_memory().expect("a file");
        let file = File::open(connection, History::USUAL).expect("opened");
        for query in [CHANGES, BEFORE] {
            let mut statement =
                file.connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).expect("a query");
            let steps = statement
                .query_map(rusqlite::params_from_iter(vec!["0"; statement.parameter_count()]), |row| {
                    row.get::<_, String>(3)
                });
            let steps: Vec<String> = steps.and_then(Iterator::collect).expect("a plan");
            let [step] = steps.as_slice() else { panic!("{query} takes {steps:?}") };
            assert!(step.starts_with("SEARCH changes USING INDEX changes_by_revision"), "{query}: {step}");
        }
    }
}
