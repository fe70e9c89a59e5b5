//! Restarts in the middle: nothing acknowledged is lost, nothing healthy is restarted.

use serde_json::json;
use testkit::{Daemon, Root, hello_sla, wait_until};

#[tokio::test]
async fn a_restarted_root_knows_everything_and_restarts_nothing() {
    let mut root = Root::start().await;
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
}

#[tokio::test]
async fn what_was_asked_while_the_cluster_was_away_happens_when_it_is_back() {
    let root = Root::start().await;
    let mut cluster = root.cluster("one").await;
    let worker = cluster.worker(&root.api, "device").await;
    let service = root.api.create(&hello_sla("shop")).await;
    let first = root.api.deploy(&service).await;
    root.api.wait_for(&service, first, "RUNNING").await;
    cluster.kill();
    wait_until("the root to notice", async || {
        let active = root.api.get("/api/clusters/active").await.ok();
        if active == json!([]) { Ok(()) } else { Err(active.to_string()) }
    })
    .await;
    let second = root.api.deploy(&service).await;
    let waiting = root.api.wait_for(&service, second, "TargetClusterNotFound").await;
    assert_eq!(waiting["reason"]["candidates"], json!([{"candidate": "one", "reason": "not connected"}]));
    root.api.delete(&format!("/api/service/{service}/instance/{first}")).await.ok();
    worker.settle().await;
    assert_eq!(worker.starts(), [1], "the worker goes on alone");

    cluster.start_again().await;
    root.api.wait_for(&service, second, "RUNNING").await;
    wait_until("the removed one to go", async || {
        let instance = root.api.instance(&service, first).await;
        if instance.is_null() && worker.starts() == [1] { Ok(()) } else { Err(instance.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_restarted_worker_adopts_its_containers_and_does_what_it_missed() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let mut worker = cluster.worker(&root.api, "device").await;
    let service = root.api.create(&hello_sla("shop")).await;
    let [first, second] = [root.api.deploy(&service).await, root.api.deploy(&service).await];
    root.api.wait_for(&service, first, "RUNNING").await;
    root.api.wait_for(&service, second, "RUNNING").await;
    worker.kill();
    wait_until("the loss to be told", async || {
        let instance = root.api.instance(&service, first).await;
        let detail = instance["status_detail"].as_str().unwrap_or_default().to_owned();
        if detail.contains("its worker is cut off") { Ok(()) } else { Err(instance.to_string()) }
    })
    .await;
    root.api.delete(&format!("/api/service/{service}/instance/{second}")).await.ok();
    worker.start_again().await;
    wait_until("one to stay and one to go", async || {
        let kept = root.api.instance(&service, first).await;
        let gone = root.api.instance(&service, second).await;
        if kept["status_detail"] == "" && gone.is_null() { Ok(()) } else { Err(format!("{kept} {gone}")) }
    })
    .await;
    assert_eq!(worker.starts(), [1]);
}

#[tokio::test]
async fn everything_at_once_comes_back_as_it_was() {
    let mut root = Root::start().await;
    let mut cluster = root.cluster("one").await;
    let mut worker = cluster.worker(&root.api, "device").await;
    let service = root.api.create(&hello_sla("shop")).await;
    let number = root.api.deploy(&service).await;
    root.api.wait_for(&service, number, "RUNNING").await;
    root.kill();
    cluster.kill();
    worker.kill();
    // Children first: they must wait for their parents.
    worker.start_again().await;
    cluster.start_again().await;
    root.start_again().await;
    let another = root.api.deploy(&service).await;
    root.api.wait_for(&service, another, "RUNNING").await;
    assert_eq!(worker.starts(), [1, 1]);
}

#[tokio::test]
async fn a_token_lets_one_in_once() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let first = cluster.worker(&root.api, "alpha").await;
    let second = first.twin("beta");
    let refusal = Daemon::failure(second.start()).await;
    assert!(refusal.contains("the join token was used already"), "{refusal}");
}

#[tokio::test]
async fn a_cluster_under_another_name_is_told_which_it_is() {
    let root = Root::start().await;
    let mut cluster = root.cluster("one").await;
    cluster.kill();
    cluster.rename("two");
    cluster.start_again().await;
    wait_until("the root to keep it out", async || {
        let active = root.api.get("/api/clusters/active").await.ok();
        if active == json!([]) { Ok(()) } else { Err(active.to_string()) }
    })
    .await;
    let names = root.api.get("/api/clusters").await.ok();
    assert_eq!(names[0]["cluster_name"], "one");
}
