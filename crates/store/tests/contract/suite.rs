//! What every backend does alike.

use std::sync::Arc;

use store::{Change, Expect, History, Page, Revision, Store, StoreError, Version, Write};

use crate::places::{Place, THINGS, put, remove, things, things_at, write};

/// So little that a test can exceed it.
const SHORT: History = History { changes: 20, bytes: 1 << 20 };

fn newest(store: &dyn Store) -> Revision {
    *store.revisions().borrow()
}

async fn commit(store: &dyn Store, writes: Vec<Write>) -> Revision {
    store.commit(writes).await.expect("committed")
}

pub(crate) async fn what_was_committed_is_there_after_opening_again(place: Place) {
    let store = place.open().await;
    let revision = commit(store.as_ref(), vec![write("a", "1", Expect::Absent)]).await;
    drop(store);
    let store = place.open().await;
    assert_eq!(things(store.as_ref()).await, ["a=1"]);
    assert!(newest(store.as_ref()) >= revision);
    let [document] = &store.list(THINGS).await.expect("listed")[..] else { panic!("one thing") };
    assert_eq!(document.revision, revision);
    assert!(commit(store.as_ref(), vec![put("b", "2")]).await > revision, "revisions go on");
}

pub(crate) async fn a_commit_is_written_whole_or_not_at_all(place: Place) {
    let store = place.open().await;
    commit(store.as_ref(), vec![write("a", "1", Expect::Absent)]).await;
    let refused = store.commit(vec![write("b", "2", Expect::Absent), write("a", "3", Expect::Absent)]).await;
    assert!(
        matches!(refused, Err(StoreError::Conflict { collection, key }) if collection == THINGS && key == "a")
    );
    assert_eq!(things(store.as_ref()).await, ["a=1"]);
}

pub(crate) async fn a_commit_that_fails_undoes_none_of_its_neighbours(place: Place) {
    let store = place.open().await;
    commit(store.as_ref(), vec![put("a", "1")]).await;
    let (one, two, three) = tokio::join!(
        store.commit(vec![put("b", "1")]),
        store.commit(vec![put("c", "1"), write("a", "2", Expect::Absent)]),
        store.commit(vec![put("d", "1")]),
    );
    assert!(matches!(two, Err(StoreError::Conflict { .. })), "{two:?}");
    assert_eq!(three.expect("committed").0, one.expect("committed").0 + 1);
    assert_eq!(things(store.as_ref()).await, ["a=1", "b=1", "d=1"]);
}

pub(crate) async fn only_one_of_two_writers_with_the_same_expectation_wins(place: Place) {
    let store = place.open().await;
    let seen = commit(store.as_ref(), vec![write("a", "1", Expect::Absent)]).await;
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

pub(crate) async fn a_document_is_replaced_as_of_its_revision_only(place: Place) {
    let store = place.open().await;
    let first = commit(store.as_ref(), vec![put("a", "1")]).await;
    let other = commit(store.as_ref(), vec![put("b", "1")]).await;
    let wrong = store.commit(vec![write("a", "2", Expect::Revision(other))]).await;
    assert!(matches!(wrong, Err(StoreError::Conflict { .. })), "{wrong:?}");
    let second = commit(store.as_ref(), vec![write("a", "2", Expect::Revision(first))]).await;
    let stale = store.commit(vec![write("a", "3", Expect::Revision(first))]).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })), "{stale:?}");
    commit(store.as_ref(), vec![remove("a")]).await;
    let gone = store.commit(vec![write("a", "3", Expect::Revision(second))]).await;
    assert!(matches!(gone, Err(StoreError::Conflict { .. })), "{gone:?}");
    commit(store.as_ref(), vec![write("a", "4", Expect::Absent)]).await;
    assert_eq!(things(store.as_ref()).await, ["a=4", "b=1"]);
}

pub(crate) async fn commits_of_many_writers_are_all_kept(place: Place) {
    let store = place.open().await;
    let before = newest(store.as_ref());
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
    assert_eq!(things(store.as_ref()).await.len(), 500);
    assert_eq!(newest(store.as_ref()), Revision(before.0 + 500));
}

/// Larger than a document of MongoDB may be, of which there are several documents then.
pub(crate) async fn a_large_commit_is_one_commit(place: Place) {
    let store = place.open().await;
    let before = newest(store.as_ref());
    let value = "x".repeat(1 << 20);
    let writes: Vec<Write> = (0..20).map(|key| put(&format!("{key:02}"), &value)).collect();
    let revision = commit(store.as_ref(), writes).await;
    drop(store);
    let store = place.open().await;
    let documents = store.list(THINGS).await.expect("listed");
    assert!(documents.iter().all(|it| it.revision == revision && it.value.len() == value.len()));
    assert_eq!(documents.len(), 20);
    let changes = store.changes(before, 1).await.expect("kept");
    assert_eq!(changes.len(), 20, "a commit is told whole");
}

pub(crate) async fn documents_are_listed_in_the_order_of_their_keys(place: Place) {
    let store = place.open().await;
    let keys = ["b", "a", "a/c", "a b", "B", "ü", "a@1", "10", "9", ""];
    commit(store.as_ref(), keys.iter().map(|key| put(key, "x")).collect()).await;
    let elsewhere = ["thing", "things2", "things."].map(|collection| Write {
        collection,
        key: "a".to_owned(),
        value: Some(b"y".to_vec()),
        expect: Expect::Anything,
    });
    commit(store.as_ref(), elsewhere.into()).await;
    let mut sorted: Vec<String> = keys.iter().map(|key| format!("{key}=x")).collect();
    sorted.sort_by(|one, other| one.trim_end_matches("=x").cmp(other.trim_end_matches("=x")));
    assert_eq!(things(store.as_ref()).await, sorted);
}

pub(crate) async fn a_collection_is_read_page_by_page_from_either_end(place: Place) {
    let store = place.open().await;
    let other = Write { collection: "others", ..put("b", "x") };
    let writes = ["d", "a", "c", "bc", "b"].map(|key| put(key, "x"));
    commit(store.as_ref(), writes.into_iter().chain([other]).collect()).await;
    // What was replaced is there once, and what was deleted is not.
    commit(store.as_ref(), vec![put("b", "y"), put("d", "y"), remove("bc")]).await;
    let page = async |beyond: Option<&str>, descending, limit| {
        let page = Page { beyond: beyond.map(str::to_owned), descending, limit };
        let documents = store.page(THINGS, page).await.expect("read");
        documents.into_iter().map(|it| it.key + &String::from_utf8_lossy(&it.value)).collect::<Vec<_>>()
    };
    assert_eq!(page(None, false, 3).await, ["ax", "by", "cx"]);
    assert_eq!(page(Some("c"), false, 3).await, ["dy"]);
    assert_eq!(page(None, true, 3).await, ["dy", "cx", "by"]);
    assert_eq!(page(Some("b"), true, 3).await, ["ax"]);
    assert_eq!(page(Some("bb"), true, 3).await, ["by", "ax"], "a key that is not there is a place too");
    assert_eq!(page(Some("a"), true, 3).await, [""; 0]);
    assert_eq!(page(None, false, 0).await, [""; 0]);
}

fn change(revision: Revision, key: &str, value: Option<&str>, before: Option<(Revision, &str)>) -> Change {
    Change {
        revision,
        collection: THINGS.to_owned(),
        key: key.to_owned(),
        value: value.map(Into::into),
        before: before.map(|(revision, value)| Version { revision, value: value.into() }),
    }
}

pub(crate) async fn changes_resume_in_order_from_any_revision(place: Place) {
    let store = place.open().await;
    let start = newest(store.as_ref());
    let first = commit(store.as_ref(), vec![put("a", "1")]).await;
    let second = commit(store.as_ref(), vec![put("b", "1"), put("a", "2")]).await;
    let third = commit(store.as_ref(), vec![put("c", "1")]).await;
    let told = [
        change(first, "a", Some("1"), None),
        change(second, "b", Some("1"), None),
        change(second, "a", Some("2"), Some((first, "1"))),
        change(third, "c", Some("1"), None),
    ];
    assert_eq!(store.changes(start, 10).await.expect("kept"), told);
    assert_eq!(store.changes(first, 10).await.expect("kept"), told[1..]);
    assert_eq!(store.changes(second, 10).await.expect("kept"), told[3..]);
    assert_eq!(store.changes(third, 10).await.expect("kept"), []);
    drop(store);
    let store = place.open().await;
    assert_eq!(store.changes(first, 10).await.expect("kept"), told[1..], "also after opening again");
}

pub(crate) async fn what_is_deleted_says_what_it_was(place: Place) {
    let store = place.open().await;
    let first = commit(store.as_ref(), vec![put("a", "1")]).await;
    let second = commit(store.as_ref(), vec![remove("a"), remove("never there")]).await;
    let third = commit(store.as_ref(), vec![put("a", "2")]).await;
    assert_eq!(
        store.changes(first, 10).await.expect("kept"),
        [change(second, "a", None, Some((first, "1"))), change(third, "a", Some("2"), None)]
    );
}

pub(crate) async fn a_commit_is_never_told_in_halves(place: Place) {
    let store = place.open().await;
    let start = newest(store.as_ref());
    commit(store.as_ref(), vec![put("a", "1"), put("b", "1"), put("c", "1")]).await;
    commit(store.as_ref(), vec![put("d", "1"), put("e", "1")]).await;
    let told = async |limit| {
        let changes = store.changes(start, limit).await.expect("kept");
        changes.into_iter().map(|change| change.key).collect::<Vec<_>>().concat()
    };
    assert_eq!([told(1).await, told(3).await, told(4).await, told(5).await], ["abc", "abc", "abc", "abcde"]);
}

pub(crate) async fn a_list_is_as_of_its_revision(place: Place) {
    let store = place.open().await;
    let first = commit(store.as_ref(), vec![put("a", "1"), put("b", "1")]).await;
    let second = commit(store.as_ref(), vec![put("a", "2"), put("c", "1")]).await;
    let third = commit(store.as_ref(), vec![remove("b"), put("a", "3")]).await;
    commit(store.as_ref(), vec![put("b", "4")]).await;
    let at = async |revision| things_at(store.as_ref(), revision).await.expect("kept");
    assert_eq!(at(first).await, ["a=1", "b=1"]);
    assert_eq!(at(second).await, ["a=2", "b=1", "c=1"]);
    assert_eq!(at(third).await, ["a=3", "c=1"]);
    let documents = store.list_at(THINGS, third).await.expect("kept");
    assert_eq!(documents.iter().map(|it| it.revision).collect::<Vec<_>>(), [third, second]);
    let newest = newest(store.as_ref());
    assert_eq!(at(newest).await, things(store.as_ref()).await);
    let ahead = store.list_at(THINGS, Revision(newest.0 + 1)).await;
    assert!(matches!(ahead, Err(StoreError::Ahead { newest: known, .. }) if known == newest), "{ahead:?}");
}

/// All that can be listed or watched is right, and all that cannot says from where on it can.
async fn ensure_compacted(store: &dyn Store, revisions: &[Revision], at_each: &[Vec<String>]) -> Revision {
    let refused = store.changes(revisions[0], 10).await;
    let Err(StoreError::Compacted { asked, oldest }) = refused else { panic!("not compacted: {refused:?}") };
    assert_eq!(asked, revisions[0]);
    for (revision, expected) in revisions.iter().zip(at_each) {
        let (listed, told) = (things_at(store, *revision).await, store.changes(*revision, 1000).await);
        if *revision < oldest {
            assert!(matches!(listed, Err(StoreError::Compacted { .. })), "{listed:?}");
            assert!(matches!(told, Err(StoreError::Compacted { .. })), "{told:?}");
        } else {
            assert_eq!(&listed.expect("kept"), expected);
            let later = revisions.iter().filter(|later| *later > revision);
            assert_eq!(
                told.expect("kept").iter().map(|change| &change.revision).collect::<Vec<_>>(),
                later.collect::<Vec<_>>()
            );
        }
    }
    oldest
}

pub(crate) async fn a_watcher_that_was_away_too_long_is_told_to_list_again(place: Place) {
    let store = place.open_keeping(SHORT).await.expect("a store");
    let (mut revisions, mut at_each) = (Vec::new(), Vec::new());
    for number in 0..60 {
        // Some are deleted and made again.
        let key = (number % 7).to_string();
        let write = if number % 5 == 4 {
            remove(&((number + 6) % 7).to_string())
        } else {
            put(&key, &number.to_string())
        };
        revisions.push(commit(store.as_ref(), vec![write]).await);
        at_each.push(things(store.as_ref()).await);
    }
    let oldest = ensure_compacted(store.as_ref(), &revisions, &at_each).await;
    let kept = revisions.iter().filter(|revision| **revision > oldest).count();
    assert!((20..=24).contains(&kept), "{kept} are kept");
    drop(store);
    let store = place.open_keeping(SHORT).await.expect("a store");
    assert_eq!(
        ensure_compacted(store.as_ref(), &revisions, &at_each).await,
        oldest,
        "also after opening again"
    );
}

pub(crate) async fn the_log_is_bounded_by_its_bytes_too(place: Place) {
    let store = place.open_keeping(SHORT).await.expect("a store");
    let start = newest(store.as_ref());
    let value = "x".repeat(256 << 10);
    for number in 0..10 {
        commit(store.as_ref(), vec![put(&number.to_string(), &value)]).await;
    }
    let refused = store.changes(start, 10).await;
    assert!(matches!(refused, Err(StoreError::Compacted { .. })), "{refused:?}");
    assert_eq!(things(store.as_ref()).await.len(), 10);
}

pub(crate) async fn a_store_that_keeps_no_history_has_none(place: Place) {
    let store = place.open_keeping(History::NONE).await.expect("a store");
    let first = commit(store.as_ref(), vec![put("a", "1")]).await;
    let second = commit(store.as_ref(), vec![put("a", "2")]).await;
    let older = store.list_at(THINGS, first).await;
    assert!(matches!(older, Err(StoreError::Compacted { oldest, .. }) if oldest == second), "{older:?}");
    assert!(matches!(store.changes(first, 10).await, Err(StoreError::Compacted { .. })));
    assert_eq!(things_at(store.as_ref(), second).await.expect("it is the newest"), ["a=2"]);
    assert_eq!(store.changes(second, 10).await.expect("it is the newest"), []);
    drop(store);
    let store = place.open().await;
    // What was not kept is known by chance or not at all; nobody is told that nothing changed.
    match store.changes(first, 10).await {
        Ok(told) => assert_eq!(told, [change(second, "a", Some("2"), Some((first, "1")))]),
        Err(error) => assert!(matches!(error, StoreError::Compacted { .. }), "{error}"),
    }
    let third = commit(store.as_ref(), vec![put("a", "3")]).await;
    let told = store.changes(second, 10).await.expect("kept from there on");
    assert_eq!(told, [change(third, "a", Some("3"), Some((second, "2")))]);
}

pub(crate) async fn every_commit_wakes_who_waits(place: Place) {
    let store = place.open().await;
    let mut revisions = store.revisions();
    let before = *revisions.borrow_and_update();
    let committed = commit(store.as_ref(), vec![put("a", "1")]).await;
    revisions.changed().await.expect("it is open");
    assert_eq!((*revisions.borrow_and_update(), committed > before), (committed, true));
    assert_eq!(commit(store.as_ref(), vec![]).await, committed, "nothing is no commit");
}

pub(crate) async fn who_was_taken_over_writes_no_more(place: Place) {
    let first = place.open().await;
    commit(first.as_ref(), vec![put("a", "1")]).await;
    let second = place.open().await;
    let refused = first.commit(vec![put("a", "by the first")]).await;
    assert!(matches!(refused, Err(StoreError::TakenOver)), "{refused:?}");
    assert!(matches!(first.lost().await, StoreError::TakenOver));
    commit(second.as_ref(), vec![put("b", "2")]).await;
    assert_eq!(things(second.as_ref()).await, ["a=1", "b=2"]);
    assert!(first.commit(vec![put("a", "again")]).await.is_err());
    assert_eq!(things(second.as_ref()).await, ["a=1", "b=2"]);
}

/// Whatever the first has on its way when it is taken over: what it was told is kept, and all revisions are one order.
pub(crate) async fn what_was_taken_over_is_whole(place: Place) {
    let first = place.open().await;
    let writing = tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        for number in 0.. {
            let pair = vec![put("one", &number.to_string()), put("other", &number.to_string())];
            match first.commit(pair).await {
                Ok(revision) => acknowledged.push(revision),
                Err(error) => {
                    assert!(matches!(error, StoreError::TakenOver), "{error}");
                    break;
                }
            }
        }
        acknowledged
    });
    let mut last = Revision(0);
    for number in 0..5 {
        let store = place.open().await;
        let mine = commit(store.as_ref(), vec![put("mine", &number.to_string())]).await;
        assert!(mine > last);
        last = mine;
    }
    let acknowledged = writing.await.expect("no panic");
    let store = place.open().await;
    let changes = store.changes(Revision(0), usize::MAX).await.expect("kept");
    assert!(changes.is_sorted_by_key(|change| change.revision));
    let pairs: Vec<_> =
        changes.iter().filter(|change| change.key == "one").map(|change| change.revision).collect();
    assert!(acknowledged.iter().all(|revision| pairs.contains(revision)));
    let listed = things(store.as_ref()).await;
    let of = |key: &str| listed.iter().find_map(|thing| thing.strip_prefix(key));
    assert_eq!((of("one="), of("mine=")), (of("other="), Some("4")));
}
