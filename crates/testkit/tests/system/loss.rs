//! Workers and clusters that are lost and return: another takes over, and one copy is left.

use serde_json::{Value, json};
use testkit::{Root, Worker, hello_sla, sla, wait_until};

/// The SLA of a small container with these fields beside.
fn with(application: &str, fields: Value) -> Value {
    let mut sla = hello_sla(application);
    let service = sla["applications"][0]["microservices"][0].as_object_mut().expect("a service");
    service.extend(fields.as_object().expect("fields").clone());
    sla
}

/// Running containers on each device.
fn running(workers: &[&Worker]) -> Vec<usize> {
    workers.iter().map(|worker| worker.running()).collect()
}

#[tokio::test]
async fn a_lost_workers_instance_runs_elsewhere_and_one_copy_is_left_when_it_returns() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let mut first = cluster.worker(&root.api, "first").await;
    let service = root.api.create(&hello_sla("shop")).await;
    let number = root.api.deploy(&service).await;
    root.api.wait_for(&service, number, "RUNNING").await;
    let second = cluster.worker(&root.api, "second").await;

    first.kill();
    wait_until("another to run it", async || {
        let instance = root.api.instance(&service, number).await;
        let runs = instance["status"] == "RUNNING" && second.running() == 1;
        if runs { Ok(()) } else { Err(instance.to_string()) }
    })
    .await;
    assert_eq!(running(&[&first, &second]), [1, 1], "nobody could stop the copy that was lost");

    first.start_again().await;
    wait_until("one copy to be left", async || {
        let left = running(&[&first, &second]);
        if left == [0, 1] { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert_eq!(second.starts(), [1]);
    assert_eq!(root.api.instance(&service, number).await["status"], "RUNNING");
}

#[tokio::test]
async fn keep_original_lets_the_returning_copy_live() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let mut first = cluster.worker(&root.api, "first").await;
    let service = root.api.create(&with("shop", json!({"on_rejoin": "keep_original"}))).await;
    let number = root.api.deploy(&service).await;
    root.api.wait_for(&service, number, "RUNNING").await;
    let second = cluster.worker(&root.api, "second").await;
    first.kill();
    wait_until("another to run it", async || {
        let count = second.running();
        if count == 1 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
    first.start_again().await;
    wait_until("one copy to be left", async || {
        let left = running(&[&first, &second]);
        if left == [1, 0] { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert_eq!(first.starts(), [1], "it was never restarted");
}

#[tokio::test]
async fn without_the_root_a_cluster_replaces_what_was_lost_and_lets_workers_in() {
    let mut root = Root::start().await;
    let cluster = root.cluster("one").await;
    let mut first = cluster.worker(&root.api, "first").await;
    let service = root.api.create(&hello_sla("shop")).await;
    let number = root.api.deploy(&service).await;
    root.api.wait_for(&service, number, "RUNNING").await;
    let mut second = cluster.device(&root.api, "second").await;
    // The token is handed down in the moment it is made, and the authority with the first connection.
    second.settle().await;
    root.kill();

    second.start_again().await;
    wait_until("the new worker to have joined", async || second.joined()).await;
    first.kill();
    wait_until("the new worker to run it", async || {
        let count = second.running();
        if count == 1 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;

    root.start_again().await;
    root.api.wait_for(&service, number, "RUNNING").await;
    wait_until("the use of the token to be counted", async || {
        let tokens = root.api.get("/api/tokens").await.ok();
        let left = tokens.as_array().expect("a list").iter().filter(|token| token["uses"] != 0).count();
        if left == 0 { Ok(()) } else { Err(tokens.to_string()) }
    })
    .await;
    assert_eq!(second.starts(), [1]);
}

#[tokio::test]
async fn a_lost_clusters_instance_goes_to_another_and_one_copy_is_left_when_it_returns() {
    let root = Root::start().await;
    let mut one = root.cluster("one").await;
    let first = one.worker(&root.api, "first").await;
    let service = root.api.create(&with("shop", json!({"cluster_lost_after": "1s"}))).await;
    let number = root.api.deploy(&service).await;
    root.api.wait_for(&service, number, "RUNNING").await;
    let two = root.cluster("two").await;
    let second = two.worker(&root.api, "second").await;

    one.kill();
    wait_until("the other cluster to run it", async || {
        let count = second.running();
        if count == 1 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
    root.api.wait_for(&service, number, "RUNNING").await;
    one.start_again().await;
    wait_until("one copy to be left", async || {
        let left = running(&[&first, &second]);
        if left == [0, 1] { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert_eq!(second.starts(), [1]);
}

#[tokio::test]
async fn what_no_cluster_can_keep_waits_and_is_where_it_was_when_its_worker_returns() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let mut worker = cluster.worker(&root.api, "device").await;
    let service = root.api.create(&hello_sla("shop")).await;
    let number = root.api.deploy(&service).await;
    root.api.wait_for(&service, number, "RUNNING").await;
    worker.kill();
    let lost = root.api.wait_for(&service, number, "DEAD").await;
    assert_eq!((&lost["phase"], &lost["ready"]), (&json!("lost"), &json!(false)));
    let detail = lost["status_detail"].as_str().unwrap_or_default();
    assert!(
        detail.starts_with("its worker is cut off; no other worker of its cluster can take it"),
        "{detail}"
    );
    worker.start_again().await;
    root.api.wait_for(&service, number, "RUNNING").await;
    assert_eq!(worker.starts(), [1]);
}

#[tokio::test]
async fn a_drained_worker_is_left_without_a_gap() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let first = cluster.worker(&root.api, "first").await;
    let service = root.api.create(&hello_sla("shop")).await;
    let numbers = [root.api.deploy(&service).await, root.api.deploy(&service).await];
    for number in numbers {
        root.api.wait_for(&service, number, "RUNNING").await;
    }
    let second = cluster.worker(&root.api, "second").await;
    root.api.post("/api/cluster/one/worker/first/drain", &json!({})).await.ok();
    wait_until("all to have moved", async || {
        let left = running(&[&first, &second]);
        assert!(left.iter().sum::<usize>() >= 2, "fewer than two run: {left:?}");
        if left == [0, 2] { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    let workers = root.api.get("/api/cluster/one/workers").await.ok();
    let drained =
        workers.as_array().expect("a list").iter().find(|worker| worker["name"] == "first").cloned();
    assert_eq!(drained.expect("listed")["scheduling"], "draining");
    let more = root.api.deploy(&service).await;
    root.api.wait_for(&service, more, "RUNNING").await;
    assert_eq!(running(&[&first, &second]), [0, 3]);
}

#[tokio::test]
async fn policies_that_are_not_understood_are_refused_by_name() {
    let root = Root::start().await;
    let wrong = json!({"on_partition": "replace_after(soon)", "microservice_name": "hello"});
    let mut document = sla("shop", json!({}));
    document["applications"][0]["microservices"] =
        with("shop", wrong)["applications"][0]["microservices"].clone();
    let answer = root.api.post("/api/application/", &document).await;
    assert_eq!(answer.status, 422);
    assert!(answer.body.to_string().contains("on_partition"), "{}", answer.body);
}
