//! What is particular to SQLite: files of earlier versions.

use rusqlite::Connection;
use store::{History, Revision, SqliteStore, Store, StoreError};

use crate::places::{put, things};

fn file() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.sqlite");
    (directory, path)
}

#[tokio::test]
async fn a_file_whose_log_has_no_documents_is_taken_as_it_is() {
    let (_directory, path) = file();
    Connection::open(&path)
        .expect("a file")
        .execute_batch(
            "CREATE TABLE documents (collection TEXT NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL,
                 value BLOB NOT NULL, PRIMARY KEY (collection, key)) WITHOUT ROWID;
             CREATE TABLE changes (sequence INTEGER PRIMARY KEY, revision INTEGER NOT NULL, collection TEXT NOT NULL,
                 key TEXT NOT NULL, deleted INTEGER NOT NULL);
             CREATE INDEX changes_by_revision ON changes (revision);
             CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
             INSERT INTO meta VALUES ('revision', 7), ('compacted', 0);
             INSERT INTO documents VALUES ('things', 'a', 7, X'31');
             INSERT INTO changes VALUES (1, 7, 'things', 'a', 0);",
        )
        .expect("written");
    let store = SqliteStore::open(&path, History::USUAL).expect("a store");
    assert_eq!(things(&store).await, ["a=1"]);
    assert_eq!(*store.revisions().borrow(), Revision(7));
    let before = store.changes(Revision(6), 10).await;
    assert!(matches!(before, Err(StoreError::Compacted { oldest: Revision(7), .. })), "{before:?}");
    assert_eq!(store.commit(vec![put("b", "2")]).await.expect("committed"), Revision(8));
    assert_eq!(store.changes(Revision(7), 10).await.expect("kept").len(), 1);
}

#[test]
fn a_file_of_a_later_version_is_refused() {
    let (_directory, path) = file();
    Connection::open(&path).expect("a file").pragma_update(None, "user_version", 2).expect("written");
    let refused = SqliteStore::open(&path, History::USUAL).expect_err("refused");
    assert!(matches!(refused, StoreError::Format { found: 2, known: 1 }), "{refused}");
}
