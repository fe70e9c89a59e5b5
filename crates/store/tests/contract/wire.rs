//! What is particular to MongoDB: others may have it, and connections are lost.

use std::{sync::Arc, time::Instant};

use store::{Expect, History, MongoStore, Store, StoreError};

use crate::{
    places::{Database, open_at, put, remove, things, write},
    relay::{Fault, Progress, Relay},
};

const ME: &str = "the tests";

/// A store by way of a relay.
async fn relayed() -> (Database, Relay, Arc<MongoStore>) {
    let database = Database::fresh();
    let relay = Relay::to(database.address()).await;
    let store = open_at(&database.url_by(relay.address), ME, History::USUAL).await.expect("a store");
    (database, relay, Arc::new(store))
}

async fn ensure_it_happens_once(fault: Fault) {
    let (database, relay, store) = relayed().await;
    let before = store.commit(vec![put("a", "1")]).await.expect("committed");
    assert_eq!(things(store.as_ref()).await, ["a=1"], "it is copied by then: the fault is for the next");
    relay.expect(fault);
    let during = store.commit(vec![write("b", "2", Expect::Absent), put("a", "2")]).await.expect("committed");
    assert_eq!(during.0, before.0 + 1);
    assert_eq!(things(store.as_ref()).await, ["a=2", "b=2"]);
    relay.has_come_to(Progress::Idle).await;
    drop(store);
    let store = database.open(ME, History::USUAL).await.expect("a store");
    assert_eq!(things(&store).await, ["a=2", "b=2"]);
    assert_eq!(store.changes(before, 10).await.expect("kept").len(), 2);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_happens_once() {
    ensure_it_happens_once(Fault::LoseAnswer("log")).await;
}

#[tokio::test]
async fn a_commit_that_does_not_arrive_is_sent_again() {
    ensure_it_happens_once(Fault::LoseRequest("log")).await;
}

#[tokio::test]
async fn a_copy_whose_answer_is_lost_is_made_once() {
    ensure_it_happens_once(Fault::LoseAnswer("versions")).await;
}

#[tokio::test]
async fn a_copy_that_does_not_arrive_is_made_again() {
    ensure_it_happens_once(Fault::LoseRequest("versions")).await;
}

#[tokio::test]
async fn a_commit_that_comes_late_finds_its_place_taken() {
    let (database, relay, first) = relayed().await;
    relay.expect(Fault::Hold("log"));
    let late = tokio::spawn({
        let first = Arc::clone(&first);
        async move { first.commit(vec![put("a", "by the first"), put("b", "by the first")]).await }
    });
    relay.has_come_to(Progress::Held).await;
    let second = database.open(ME, History::USUAL).await.expect("it is taken over");
    relay.release();
    let late = late.await.expect("no panic");
    assert!(matches!(late, Err(StoreError::TakenOver)), "{late:?}");
    second.commit(vec![put("b", "by the second")]).await.expect("committed");
    assert_eq!(things(&second).await, ["b=by the second"]);
    drop(second);
    assert_eq!(things(&database.open(ME, History::USUAL).await.expect("a store")).await, ["b=by the second"]);
}

#[tokio::test]
async fn a_copy_that_comes_late_brings_nothing_back() {
    let (database, relay, first) = relayed().await;
    relay.expect(Fault::Hold("versions"));
    first.commit(vec![put("a", "1"), put("b", "1")]).await.expect("it is durable without a copy");
    relay.has_come_to(Progress::Held).await;
    let second = database.open(ME, History::USUAL).await.expect("it is taken over");
    assert_eq!(things(&second).await, ["a=1", "b=1"], "what was acknowledged is kept");
    second.commit(vec![remove("a"), put("b", "2")]).await.expect("committed");
    relay.release();
    relay.has_come_to(Progress::Arrived).await;
    assert_eq!(things(&second).await, ["b=2"]);
}

#[tokio::test]
async fn who_did_not_commit_anything_learns_too_that_it_was_taken_over() {
    let database = Database::fresh();
    let first = database.open(ME, History::USUAL).await.expect("a store");
    let _second = database.open(ME, History::USUAL).await.expect("it is taken over");
    // By its next sign of life.
    assert!(matches!(first.lost().await, StoreError::TakenOver));
}

#[tokio::test]
async fn a_store_that_is_in_use_elsewhere_is_refused_until_nobody_shows_a_sign_of_life() {
    let database = Database::fresh();
    let first = database.open("the first", History::USUAL).await.expect("a store");
    first.commit(vec![put("a", "1")]).await.expect("committed");
    let refused = database.open("the second", History::USUAL).await.expect_err("it is in use");
    assert!(matches!(&refused, StoreError::InUse { holder } if holder == "the first"), "{refused}");
    first.commit(vec![put("a", "2")]).await.expect("the first goes on");
    drop(first);
    let began = Instant::now();
    let second = database.open("the second", History::USUAL).await.expect("it is free");
    assert!(began.elapsed().as_secs() >= 9, "it waited long enough");
    assert_eq!(things(&second).await, ["a=2"]);
}

#[tokio::test]
async fn a_document_that_is_too_large_is_refused_and_the_store_goes_on() {
    let store = Database::fresh().open(ME, History::USUAL).await.expect("a store");
    let large = "x".repeat(16 << 20);
    let (refused, taken) = tokio::join!(
        store.commit(vec![put("a", "1"), put("large", &large)]),
        store.commit(vec![put("b", "1")]),
    );
    assert!(matches!(&refused, Err(StoreError::TooLarge { key, .. }) if key == "large"), "{refused:?}");
    taken.expect("its neighbour is committed");
    assert_eq!(things(&store).await, ["b=1"]);
}
