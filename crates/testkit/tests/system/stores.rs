//! A root whose documents are elsewhere than in its state directory.

use std::env;

use store::{History, Holder, Location, MongoStore};
use testkit::{Root, hello_sla};

fn mongodb() -> String {
    let server = env::var("MANGROVE_TEST_MONGODB").expect(
        "MANGROVE_TEST_MONGODB names no MongoDB for tests, such as mongodb://127.0.0.1:27017; \
         `scripts/test workspace` installs and starts one",
    );
    format!("{}/test_{}", server.trim_end_matches('/'), daemon::random_hex::<8>())
}

#[tokio::test]
async fn a_root_over_mongodb_comes_back_with_everything() {
    let mut root = Root::start_on(Location::from(mongodb())).await;
    let cluster = root.cluster("one").await;
    let worker = cluster.worker(&root.api, "device").await;
    let service = root.api.create(&hello_sla("shop")).await;
    let number = root.api.deploy(&service).await;
    root.api.wait_for(&service, number, "RUNNING").await;
    root.kill();
    root.start_again().await;
    let instance = root.api.instance(&service, number).await;
    assert_eq!(instance["status"], "RUNNING", "what was last heard is kept");
    let another = root.api.deploy(&service).await;
    root.api.wait_for(&service, another, "RUNNING").await;
    assert_eq!(worker.starts(), [1, 1]);
    let stored = String::from_utf8_lossy(&root.stored()).into_owned();
    assert!(!stored.contains("shop"), "nothing of it is in the state directory");
}

#[tokio::test]
async fn two_roots_never_have_one_store() {
    let store = Location::from(mongodb());
    let root = Root::start_on(store.clone()).await;
    root.api.create(&hello_sla("shop")).await;
    let refusal = Root::refused_on(store).await;
    assert!(refusal.contains("the store is in use by"), "{refusal}");
    let service = root.api.create(&hello_sla("bakery")).await;
    assert!(root.api.get(&format!("/api/service/{service}")).await.ok().is_object(), "the first goes on");
}

#[tokio::test]
async fn a_root_whose_store_was_taken_over_ends() {
    let url = mongodb();
    let mut root = Root::start_on(Location::from(url.clone())).await;
    let id = std::fs::read_to_string(root.state().join("store.holder")).expect("it has a store elsewhere");
    let holder = Holder { id, shown: "a copy of its state directory".to_owned() };
    let _taken = MongoStore::open(&url, holder, History::USUAL).await.expect("it is taken over");
    let failure = root.failure().await;
    assert!(failure.contains("another process has taken this store over"), "{failure}");
}
