//! The contract every backend of the store passes.

#[cfg(test)]
mod contract {
    use std::sync::Arc;

    use store::{Change, Expect, Page, Revision, SqliteStore, Store, StoreError, Write};

    fn write(key: &str, value: &str, expect: Expect) -> Write {
        Write { collection: "things", key: key.to_owned(), value: Some(value.into()), expect }
    }

    fn open(directory: &tempfile::TempDir) -> SqliteStore {
        SqliteStore::open(&directory.path().join("store.sqlite")).expect("a store")
    }

    async fn keys(store: &dyn Store) -> Vec<(String, Vec<u8>)> {
        let documents = store.list("things").await.expect("listed");
        documents.into_iter().map(|document| (document.key, document.value)).collect()
    }

    #[tokio::test]
    async fn what_was_committed_is_there_after_opening_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(&directory);
        let revision = store.commit(vec![write("a", "1", Expect::Absent)]).await.expect("committed");
        drop(store);
        let store = open(&directory);
        assert_eq!(keys(&store).await, [("a".to_owned(), b"1".to_vec())]);
        assert_eq!(*store.revisions().borrow(), revision);
    }

    #[tokio::test]
    async fn a_commit_is_written_whole_or_not_at_all() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(&directory);
        store.commit(vec![write("a", "1", Expect::Absent)]).await.expect("committed");
        let refused =
            store.commit(vec![write("b", "2", Expect::Absent), write("a", "3", Expect::Absent)]).await;
        assert!(matches!(refused, Err(StoreError::Conflict { key, .. }) if key == "a"));
        assert_eq!(keys(&store).await, [("a".to_owned(), b"1".to_vec())]);
    }

    #[tokio::test]
    async fn only_one_of_two_writers_with_the_same_expectation_wins() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Arc::new(open(&directory));
        let seen = store.commit(vec![write("a", "1", Expect::Absent)]).await.expect("committed");
        let racers: Vec<_> = (0..20)
            .map(|racer| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    store.commit(vec![write("a", &racer.to_string(), Expect::Revision(seen))]).await.is_ok()
                })
            })
            .collect();
        let mut winners = 0;
        for racer in racers {
            winners += usize::from(racer.await.expect("no panic"));
        }
        assert_eq!(winners, 1);
    }

    #[tokio::test]
    async fn changes_resume_in_order_from_any_revision() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(&directory);
        let first = store.commit(vec![write("a", "1", Expect::Anything)]).await.expect("committed");
        let second = store
            .commit(vec![
                write("b", "1", Expect::Anything),
                Write { collection: "things", key: "a".to_owned(), value: None, expect: Expect::Anything },
            ])
            .await
            .expect("committed");
        let change = |revision, key: &str, deleted| Change {
            revision,
            collection: "things".to_owned(),
            key: key.to_owned(),
            deleted,
        };
        assert_eq!(
            store.changes(first, 10).await.expect("kept"),
            [change(second, "b", false), change(second, "a", true)]
        );
        assert_eq!(store.changes(Revision(0), 1).await.expect("kept"), [change(first, "a", false)]);
    }

    #[tokio::test]
    async fn a_watcher_that_was_away_too_long_is_told_to_list_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(&directory);
        for _ in 0..5 {
            let writes = (0..5000).map(|key| write(&key.to_string(), "x", Expect::Anything)).collect();
            store.commit(writes).await.expect("committed");
        }
        let error = store.changes(Revision(0), 10).await.expect_err("compacted");
        assert!(matches!(error, StoreError::Compacted { oldest: Revision(1), .. }), "{error}");
        assert_eq!(store.changes(Revision(4), 10_000).await.expect("kept").len(), 5000);
    }

    #[tokio::test]
    async fn a_collection_is_read_page_by_page_from_either_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(&directory);
        let other = Write { collection: "others", ..write("b", "x", Expect::Anything) };
        let writes = ["d", "a", "c", "b"].map(|key| write(key, "x", Expect::Anything));
        store.commit(writes.into_iter().chain([other]).collect()).await.expect("committed");
        let page = async |beyond: Option<&str>, descending, limit| {
            let page = Page { beyond: beyond.map(str::to_owned), descending, limit };
            let documents = store.page("things", page).await.expect("read");
            documents.into_iter().map(|document| document.key).collect::<Vec<_>>()
        };
        assert_eq!(page(None, false, 3).await, ["a", "b", "c"]);
        assert_eq!(page(Some("c"), false, 3).await, ["d"]);
        assert_eq!(page(None, true, 3).await, ["d", "c", "b"]);
        assert_eq!(page(Some("b"), true, 3).await, ["a"]);
        assert_eq!(page(Some("bb"), true, 3).await, ["b", "a"], "a key that is not there is a place too");
        assert_eq!(page(Some("a"), true, 3).await, [""; 0]);
        assert_eq!(page(None, false, 0).await, [""; 0]);
    }

    #[tokio::test]
    async fn commits_of_many_writers_are_all_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Arc::new(open(&directory));
        let writers: Vec<_> = (0..500)
            .map(|key| {
                let store = Arc::clone(&store);
                tokio::spawn(
                    async move { store.commit(vec![write(&key.to_string(), "x", Expect::Absent)]).await },
                )
            })
            .collect();
        for writer in writers {
            writer.await.expect("no panic").expect("committed");
        }
        assert_eq!(keys(store.as_ref()).await.len(), 500);
        assert_eq!(*store.revisions().borrow(), Revision(500));
    }
}
