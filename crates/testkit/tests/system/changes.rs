//! What changes a service that runs: more and fewer instances, other revisions, workers that are emptied.

use node_engine::network::fake::FakeNetwork;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, Api, Root, hello_sla, sla, wait_until};

/// The microservice of [`hello_sla`] with these fields beside.
fn microservice(fields: Value) -> Value {
    let mut service = hello_sla("shop")["applications"][0]["microservices"][0].clone();
    service.as_object_mut().expect("a service").extend(fields.as_object().expect("fields").clone());
    service
}

async fn put(api: &Api, service: &str, document: &Value) -> Answer {
    api.send(Method::PUT, &format!("/api/service/{service}"), Some(document.to_string())).await
}

async fn shown(api: &Api, service: &str) -> Value {
    api.get(&format!("/api/service/{service}")).await.ok()
}

/// Waits until a service has so many instances, all ready, and no change is under way; their numbers.
async fn settled(api: &Api, service: &str, revision: u64, instances: usize) -> Vec<u64> {
    wait_until(&format!("{instances} instances of revision {revision}"), async || {
        let service = shown(api, service).await;
        let list = service["instance_list"].as_array().expect("a list");
        let is_right = |instance: &Value| instance["revision"] == revision && instance["ready"] == true;
        let done = service["rollout"].is_null() && service["revision"] == revision;
        if done && list.len() == instances && list.iter().all(is_right) {
            Ok(list.iter().map(|instance| instance["instance_number"].as_u64().expect("a number")).collect())
        } else {
            Err(service.to_string())
        }
    })
    .await
}

async fn revisions(api: &Api, service: &str) -> Vec<Value> {
    let list = api.get(&format!("/api/service/{service}/revisions")).await.ok();
    list.as_array().expect("a list").clone()
}

async fn scale(api: &Api, service: &str, instances: u64) -> Answer {
    api.post(&format!("/api/service/{service}/scale"), &json!({"instances": instances})).await
}

async fn workers(api: &Api, cluster: &str) -> Vec<Value> {
    let list = api.get(&format!("/api/cluster/{cluster}/workers")).await.ok();
    list.as_array().expect("a list").clone()
}

#[tokio::test]
async fn a_service_is_scaled_up_and_down() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let worker = cluster.worker(&root.api, "device").await;
    let service = root.api.create(&hello_sla("shop")).await;
    let scaled = scale(&root.api, &service, 3).await.ok();
    assert_eq!(scaled, json!({"message": "ok", "instances": 3, "added": [0, 1, 2]}));
    assert_eq!(settled(&root.api, &service, 1, 3).await, [0, 1, 2]);
    let scaled = scale(&root.api, &service, 1).await.ok();
    assert_eq!(scaled["added"], json!([]));
    assert_eq!(settled(&root.api, &service, 1, 1).await, [0], "the newest go first");
    assert_eq!(worker.starts(), [1], "what stays is left alone");
    scale(&root.api, &service, 0).await.ok();
    settled(&root.api, &service, 1, 0).await;
    for (body, named) in
        [(json!({"instances": 10_001}), "10000"), (json!({}), "instances"), (json!([]), "expected")]
    {
        let answer = root.api.post(&format!("/api/service/{service}/scale"), &body).await;
        let message = answer.body["message"].as_str().unwrap_or_default();
        assert!(answer.status == 422 && message.contains(named), "{body}: {answer:?}");
    }
}

#[tokio::test]
async fn users_see_how_many_connections_an_instance_that_goes_waits_for() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let network = FakeNetwork::new();
    let _worker = cluster.worker_behind(&root.api, "device", network.clone()).await;
    let document = sla("shop", microservice(json!({"drain": "10m"})));
    let service = root.api.create(&document).await;
    let number = root.api.deploy(&service).await;
    root.api.wait_for(&service, number, "RUNNING").await;
    network.connect(3);
    root.api.delete(&format!("/api/service/{service}/instance/{number}")).await.ok();
    wait_until("the connections to be told", async || {
        let instance = root.api.instance(&service, number).await;
        let told = (&instance["phase"], &instance["status_detail"]);
        let expected = (&json!("undeploying"), &json!("waiting for 3 connections to end, 10m at most"));
        if told == expected { Ok(()) } else { Err(instance.to_string()) }
    })
    .await;
    network.connect(0);
    settled(&root.api, &service, 1, 0).await;
}

#[tokio::test]
async fn an_update_replaces_every_instance_and_a_rollback_brings_it_back() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let worker = cluster.worker(&root.api, "device").await;
    let service = root.api.create(&hello_sla("shop")).await;
    scale(&root.api, &service, 2).await.ok();
    settled(&root.api, &service, 1, 2).await;

    let wanted = microservice(json!({"code": "mangrove/hello:2", "environment": ["STAGE=new"]}));
    let answer = put(&root.api, &service, &wanted).await.ok();
    assert_eq!(answer, json!({"message": "revision 2 replaces 1", "revision": 2}));
    assert_eq!(settled(&root.api, &service, 2, 2).await, [2, 3]);
    wait_until("the old containers to go", async || {
        let orders: Vec<String> =
            worker.runtime.containers().iter().map(|(_, it)| format!("{:?}", it.order)).collect();
        let is_new =
            |order: &String| order.contains("mangrove/hello:2") && order.contains("\"STAGE\": \"new\"");
        if orders.len() == 2 && orders.iter().all(is_new) { Ok(()) } else { Err(format!("{orders:?}")) }
    })
    .await;

    let again = shown(&root.api, &service).await;
    let answer = put(&root.api, &service, &again).await.ok();
    assert_eq!(answer["revision"], 2, "what the root shows may be sent back: {answer}");
    assert_eq!(settled(&root.api, &service, 2, 2).await, [2, 3], "and changes nothing");

    let path = format!("/api/service/{service}/rollback");
    let answer = root.api.send(Method::POST, &path, None).await.ok();
    assert_eq!(answer, json!({"message": "revision 1 replaces 2 again", "revision": 1}));
    assert_eq!(settled(&root.api, &service, 1, 2).await, [4, 5]);
    let current: Vec<Value> =
        revisions(&root.api, &service).await.iter().map(|it| it["current"].clone()).collect();
    assert_eq!(current, [json!(true), json!(false)]);
    root.api.post(&path, &json!({"revision": 2})).await.ok();
    settled(&root.api, &service, 2, 2).await;
}

#[tokio::test]
async fn an_update_that_does_not_become_ready_is_taken_back_with_its_reason() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let worker = cluster.worker(&root.api, "device").await;
    let service = root.api.create(&hello_sla("shop")).await;
    scale(&root.api, &service, 2).await.ok();
    settled(&root.api, &service, 1, 2).await;
    worker.runtime.refuse_pull("mangrove/hello:broken", "no such image");

    let wanted = microservice(json!({"code": "mangrove/hello:broken", "update": {"ready_within": "1s"}}));
    put(&root.api, &service, &wanted).await.ok();
    let during = shown(&root.api, &service).await["rollout"].clone();
    assert_eq!(
        during,
        json!({"from": 1, "to": 2, "instances": 2, "ready": 0, "rollback": false, "stalled": null})
    );
    assert_eq!(settled(&root.api, &service, 1, 2).await, [0, 1]);
    assert_eq!(worker.starts(), [1, 1], "those that ran were never touched");
    let failed = &revisions(&root.api, &service).await[1];
    let reason = failed["failed"].as_str().unwrap_or_default();
    assert!(reason.contains("was not ready within 1s") && reason.contains("no such image"), "{failed}");
    assert_eq!((&failed["current"], &failed["image"]), (&json!(false), &json!("mangrove/hello:broken")));
    assert_eq!(failed["document"]["code"], "mangrove/hello:broken");
}

#[tokio::test]
async fn a_change_that_cannot_be_says_why_and_changes_nothing() {
    let root = Root::start().await;
    let service = root.api.create(&hello_sla("shop")).await;
    root.api.deploy(&service).await;
    let before = shown(&root.api, &service).await;
    let mut two = hello_sla("shop");
    let services = two["applications"][0]["microservices"].as_array_mut().expect("a list");
    services.push(microservice(json!({"microservice_name": "second"})));
    for (document, status, error, named) in [
        (microservice(json!({"memory": -1})), 422, "invalid_value", "`memory`"),
        (microservice(json!({"memry": 1})), 422, "unknown_field", "did you mean `memory`"),
        (microservice(json!({"microservice_name": "other"})), 409, "not_changeable", "keeps its name"),
        (microservice(json!({"microserviceID": "x"})), 422, "invalid_value", "microserviceID"),
        (hello_sla("blog"), 422, "invalid_value", "`blog`"),
        (two, 422, "invalid_value", "one microservice"),
        (json!([]), 422, "wrong_type", "object"),
    ] {
        let answer = put(&root.api, &service, &document).await;
        let message = answer.body["message"].as_str().unwrap_or_default();
        let is_right = answer.status == status && answer.body["error"] == error && message.contains(named);
        assert!(is_right, "{document}: {answer:?}");
    }
    let back = format!("/api/service/{service}/rollback");
    for (body, status, error) in [
        (json!({"revision": 9}), 404, "no_revision"),
        (json!({"revision": 0}), 422, "invalid_value"),
        (json!({}), 404, "no_revision"),
    ] {
        let answer = root.api.post(&back, &body).await;
        assert_eq!((answer.status, &answer.body["error"]), (status, &json!(error)), "{body}");
    }
    assert_eq!(shown(&root.api, &service).await, before);
}

#[tokio::test]
async fn a_worker_is_emptied_through_its_cluster_and_the_root_keeps_nothing_of_it() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let first = cluster.worker(&root.api, "first-device").await;
    let service = root.api.create(&hello_sla("shop")).await;
    scale(&root.api, &service, 2).await.ok();
    settled(&root.api, &service, 1, 2).await;
    let second = cluster.worker(&root.api, "second-device").await;

    let drained = root.api.send(Method::POST, "/api/cluster/one/worker/first-device/drain", None).await.ok();
    assert_eq!(drained["instances"], 2, "{drained}");
    wait_until("the first to be empty", async || {
        let workers = workers(&root.api, "one").await;
        let one = workers.iter().find(|worker| worker["name"] == "first-device").expect("listed").clone();
        let is_empty = one["instances"] == 0 && one["scheduling"] == "draining" && one["alive"] == true;
        if is_empty { Ok(()) } else { Err(one.to_string()) }
    })
    .await;
    assert_eq!((first.running(), second.running()), (0, 2));
    assert_eq!(settled(&root.api, &service, 1, 2).await, [0, 1], "the same instances, elsewhere");

    let second_id = second.id();
    let by_id = format!("/api/cluster/one/worker/{second_id}/cordon");
    root.api.send(Method::POST, &by_id, None).await.ok();
    let number = root.api.deploy(&service).await;
    root.api.wait_for(&service, number, "NoActiveClusterWithCapacity").await;
    root.api.send(Method::POST, "/api/cluster/one/worker/first-device/uncordon", None).await.ok();
    root.api.wait_for(&service, number, "RUNNING").await;
    assert_eq!(first.running(), 1);

    let stored = root.stored();
    for secret in ["first-device", "second-device", &second_id] {
        let is_there = stored.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!is_there, "{secret} is in the root's store");
    }
}

#[tokio::test]
async fn wishes_about_workers_that_cannot_be_fulfilled_say_why() {
    let root = Root::start().await;
    let mut cluster = root.cluster("one").await;
    let worker = cluster.worker(&root.api, "device").await;
    let ask = async |path: &str| {
        let answer = root.api.send(Method::POST, path, None).await;
        (answer.status, answer.body["error"].clone(), answer.body["message"].to_string())
    };
    let (status, error, message) = ask("/api/cluster/nowhere/rebalance").await;
    assert_eq!((status, error), (404, json!("no_cluster")), "{message}");
    let (status, error, message) = ask("/api/cluster/one/worker/stranger/drain").await;
    assert_eq!((status, error), (409, json!("refused_by_cluster")), "{message}");
    assert!(message.contains("stranger"), "{message}");
    drop(worker);
    cluster.kill();
    wait_until("the cluster to be away", async || {
        let (status, error, message) = ask("/api/cluster/one/worker/device/drain").await;
        if (status, error) == (503, json!("cluster_not_connected")) { Ok(()) } else { Err(message) }
    })
    .await;
}

#[tokio::test]
async fn an_instance_of_a_silent_cluster_is_shown_as_lost_with_what_happens_next() {
    let root = Root::start().await;
    let mut cluster = root.cluster("one").await;
    let _worker = cluster.worker(&root.api, "device").await;
    let mut waiting = hello_sla("shop");
    waiting["applications"][0]["microservices"][0] = microservice(json!({"cluster_lost_after": "never"}));
    let service = root.api.create(&waiting).await;
    let number = root.api.deploy(&service).await;
    root.api.wait_for(&service, number, "RUNNING").await;
    let mut heard = watch(&root.api, &service).await;
    cluster.kill();
    let lost = root.api.wait_for(&service, number, "DEAD").await;
    assert_eq!((&lost["phase"], &lost["ready"]), (&json!("lost"), &json!(false)));
    let detail = "its cluster one is not connected; it was running when last heard of; it is waited for, however long \
                  (cluster_lost_after is `never`)";
    assert_eq!(lost["status_detail"], detail);
    hear(&mut heard, detail).await;
    cluster.start_again().await;
    root.api.wait_for(&service, number, "RUNNING").await;
    hear(&mut heard, "\"phase\":\"running\"").await;
}

/// The news of the application of a service.
async fn watch(api: &Api, service: &str) -> reqwest::Response {
    let application = shown(api, service).await["applicationID"].clone();
    let login = json!({"username": "Admin", "password": "correct horse"});
    let token = api.post("/api/auth/login", &login).await.ok()["token"].clone();
    let path = format!("{}/api/watch?application={}", api.base(), application.as_str().expect("an id"));
    let request = reqwest::Client::new().get(path).bearer_auth(token.as_str().expect("a token"));
    request.send().await.expect("the root answers")
}

/// Reads news until `what` is in it.
async fn hear(news: &mut reqwest::Response, what: &str) {
    let hearing = async {
        let mut heard = String::new();
        while !heard.contains(what) {
            let piece = news.chunk().await.expect("no error").expect("not the end");
            heard.push_str(&String::from_utf8_lossy(&piece));
        }
    };
    let patience = std::time::Duration::from_secs(20);
    tokio::time::timeout(patience, hearing).await.unwrap_or_else(|_| panic!("nobody told of {what}"));
}
