//! Certificates that end, are renewed and are revoked, in the whole hierarchy.

use model::Span;
use serde_json::{Value, json};
use testkit::{Api, Cluster, Root, Worker, hello_sla, wait_until};

/// Short enough to see the end of, long enough to do something before.
const SHORT: Span = Span::from_secs(4);

async fn active_clusters(api: &Api) -> usize {
    api.get("/api/clusters/active").await.ok().as_array().expect("a list").len()
}

/// As the cluster tells of them; a refusal while it is not connected.
async fn workers(api: &Api) -> Value {
    api.get("/api/cluster/one/workers").await.body
}

async fn until_alive(api: &Api, worker: &Worker, alive: bool) {
    let id = worker.id();
    wait_until(&format!("{id} to be alive: {alive}"), async || {
        let workers = workers(api).await;
        let mut listed = workers.as_array().into_iter().flatten();
        let found = listed.find(|worker| worker["id"] == id.as_str());
        if found.is_some_and(|worker| worker["alive"] == alive) { Ok(()) } else { Err(workers.to_string()) }
    })
    .await;
}

fn serial(worker: &Worker) -> String {
    worker.identity().record().serial.clone()
}

/// The state of the newest certificate of a kind and owner, by the API.
async fn state_of(api: &Api, path: &str, kind: &str, owner: &str) -> Value {
    let listed = api.get(path).await.ok();
    let listed = listed.as_array().expect("a list").clone();
    let found = listed.into_iter().find(|it| it["kind"] == kind && it["owner"] == owner);
    found.unwrap_or_default()["state"].clone()
}

#[tokio::test]
async fn workers_are_renewed_by_their_cluster_alone_and_nothing_of_them_stops() {
    let mut root = Root::start().await;
    let cluster = root.cluster_certifying_for("one", SHORT).await;
    let worker = cluster.worker(&root.api, "device").await;
    let service = root.api.create(&hello_sla("shop")).await;
    let number = root.api.deploy(&service).await;
    root.api.wait_for(&service, number, "RUNNING").await;
    root.kill();
    let mut before = serial(&worker);
    for _ in 0..2 {
        before = wait_until("another certificate", async || {
            let now = serial(&worker);
            if now == before { Err(now) } else { Ok(now) }
        })
        .await;
    }
    root.start_again().await;
    until_alive(&root.api, &worker, true).await;
    assert_eq!(worker.starts(), [1]);
    let path = "/api/cluster/one/certificates";
    assert_eq!(state_of(&root.api, path, "worker", "one/device").await, "valid");
}

#[tokio::test]
async fn a_worker_that_was_off_beyond_the_life_of_its_certificate_comes_back_by_itself() {
    let root = Root::start().await;
    let cluster = root.cluster_certifying_for("one", SHORT).await;
    let mut worker = cluster.worker(&root.api, "device").await;
    let service = root.api.create(&hello_sla("shop")).await;
    let number = root.api.deploy(&service).await;
    root.api.wait_for(&service, number, "RUNNING").await;
    worker.kill();
    until_alive(&root.api, &worker, false).await;
    let path = "/api/cluster/one/certificates";
    wait_until("its certificate to end", async || {
        match state_of(&root.api, path, "worker", "one/device").await {
            state if state == "expired" => Ok(()),
            state => Err(state.to_string()),
        }
    })
    .await;
    let before = (worker.id(), serial(&worker));
    worker.start_again().await;
    until_alive(&root.api, &worker, true).await;
    assert_eq!(worker.id(), before.0, "it is whom it was");
    assert_ne!(serial(&worker), before.1);
    assert_eq!(state_of(&root.api, path, "worker", "one/device").await, "valid");
    root.api.wait_for(&service, number, "RUNNING").await;
    assert_eq!(worker.starts(), [1]);
}

#[tokio::test]
async fn one_that_was_forgotten_does_not_come_back_with_a_certificate_that_has_ended() {
    let root = Root::start().await;
    let cluster = root.cluster_certifying_for("one", SHORT).await;
    let mut worker = cluster.worker(&root.api, "device").await;
    worker.kill();
    until_alive(&root.api, &worker, false).await;
    root.api.delete("/api/cluster/one/worker/device").await.ok();
    let ends = worker.identity().lifetime().expires;
    wait_until("its certificate to end", async || {
        if worker.identity().now() > ends { Ok(()) } else { Err("it has not ended".to_owned()) }
    })
    .await;
    worker.start_again().await;
    worker.settle().await;
    assert_eq!(workers(&root.api).await, json!([]));
}

async fn revoke(api: &Api, path: &str) {
    let answer = api.delete(path).await.ok();
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(message.contains("are revoked until"), "{answer}");
}

#[tokio::test]
async fn a_revoked_worker_is_cut_off_and_what_it_had_runs_elsewhere() {
    let root = Root::start().await;
    let mut cluster = root.cluster("one").await;
    let worker = cluster.worker(&root.api, "stolen").await;
    let service = root.api.create(&hello_sla("shop")).await;
    let number = root.api.deploy(&service).await;
    root.api.wait_for(&service, number, "RUNNING").await;
    let spare = cluster.worker(&root.api, "spare").await;
    revoke(&root.api, "/api/cluster/one/certificates/stolen").await;
    until_alive(&root.api, &worker, false).await;
    wait_until("the spare to have it", async || {
        if spare.running() == 1 { Ok(()) } else { Err(format!("{}", spare.running())) }
    })
    .await;
    let path = "/api/cluster/one/certificates";
    assert_eq!(state_of(&root.api, path, "worker", "one/stolen").await, "revoked");
    assert_eq!(state_of(&root.api, path, "worker", "one/spare").await, "valid");

    // It is known after a restart, and with the root away.
    cluster.kill();
    cluster.start_again().await;
    until_alive(&root.api, &spare, true).await;
    worker.settle().await;
    until_alive(&root.api, &worker, false).await;
    // The same key is not let in with another token either.
    let token = root.api.token(json!({"kind": "worker"})).await;
    let again = worker.rejoining(token);
    let joined = again.start().failure().await;
    assert!(joined.contains("were revoked"), "{joined}");
}

#[tokio::test]
async fn a_worker_that_is_revoked_while_its_cluster_is_away_is_cut_off_when_that_is_back() {
    let root = Root::start().await;
    let mut cluster = root.cluster("one").await;
    let worker = cluster.worker(&root.api, "stolen").await;
    cluster.kill();
    wait_until("the root to notice", async || match active_clusters(&root.api).await {
        0 => Ok(()),
        active => Err(active.to_string()),
    })
    .await;
    // By its name only the cluster would know it.
    let refused = root.api.delete("/api/cluster/one/certificates/stolen").await;
    assert_eq!((refused.status, &refused.body["error"]), (503, &json!("cluster_not_connected")));
    revoke(&root.api, &format!("/api/cluster/one/certificates/{}", worker.id())).await;
    cluster.start_again().await;
    wait_until("it to be shut out", async || {
        let listed = root.api.get("/api/cluster/one/certificates").await;
        let revoked = listed.body.as_array().is_some_and(|all| all.iter().all(|it| it["state"] == "revoked"));
        if listed.status == 200 && revoked { Ok(()) } else { Err(listed.body.to_string()) }
    })
    .await;
    until_alive(&root.api, &worker, false).await;
}

#[tokio::test]
async fn a_revoked_cluster_is_shut_out_and_nobody_joins_under_its_name() {
    let mut root = Root::start().await;
    let _one = root.cluster("one").await;
    let _two = root.cluster("two").await;
    assert_eq!(state_of(&root.api, "/api/certificates", "cluster", "one").await, "valid");
    revoke(&root.api, "/api/certificates/one").await;
    wait_until("it to be cut off", async || match active_clusters(&root.api).await {
        1 => Ok(()),
        active => Err(active.to_string()),
    })
    .await;
    root.kill();
    root.start_again().await;
    wait_until("the other to be back", async || match active_clusters(&root.api).await {
        1 => Ok(()),
        active => Err(active.to_string()),
    })
    .await;
    let all = root.api.get("/api/certificates").await.ok();
    let mut states: Vec<String> = all
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| format!("{} {} {}", it["owner"], it["kind"], it["state"]).replace('"', ""))
        .collect();
    states.sort();
    assert_eq!(
        states,
        [
            "one cluster revoked",
            "one intermediate revoked",
            "root authority valid",
            "root root valid",
            "two cluster valid",
            "two intermediate valid",
        ]
    );
    let posing = root.posing_as("one").await.failure().await;
    assert!(posing.contains("were revoked"), "{posing}");
}

#[tokio::test]
async fn certificates_are_for_administrators_and_unknown_ones_are_refused_with_what_to_do() {
    let root = Root::start().await;
    let cluster: Cluster = root.cluster("one").await;
    let worker = cluster.worker(&root.api, "device").await;
    for path in ["/api/certificates", "/api/cluster/one/certificates"] {
        assert_eq!(root.api.anonymous().get(path).await.status, 401);
        assert_eq!(root.api.anonymous().delete(&format!("{path}/device")).await.status, 401);
    }
    let refused = root.api.delete("/api/certificates/nowhere").await;
    assert_eq!((refused.status, &refused.body["error"]), (404, &json!("no_cluster")));
    let refused = root.api.delete("/api/cluster/one/certificates/nobody").await;
    assert_eq!((refused.status, &refused.body["error"]), (404, &json!("no_certificate")));
    assert_eq!(worker.joined(), Ok(()), "and nothing happened to it");
    until_alive(&root.api, &worker, true).await;
    revoke(&root.api, &format!("/api/cluster/one/certificates/{}", serial(&worker))).await;
    until_alive(&root.api, &worker, false).await;
}

/// What a collector with a token for nothing else is told.
async fn metrics(collector: &Api) -> String {
    let asked =
        collector.client().get(format!("{}/metrics", collector.base())).bearer_auth(collector.bearer());
    let answer = asked.send().await.expect("the root answers");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    answer.text().await.expect("text")
}

#[tokio::test]
async fn a_collector_is_told_when_certificates_end_and_of_no_worker_by_name() {
    let root = Root::start().await;
    let mut cluster = root.cluster("one").await;
    let worker = cluster.worker(&root.api, "device").await;
    let wanted = json!({"name": "collector", "scopes": ["get:metrics"]});
    let token = root.api.post("/api/auth/tokens", &wanted).await.ok();
    let collector = root.api.with_token(token["token"].as_str().expect("a token"));
    assert_eq!(collector.get("/api/certificates").await.status, 403, "the token is for nothing else");

    let told = metrics(&collector).await;
    let has = |told: &str, line: &str| assert!(told.lines().any(|it| it == line), "{line} is not in\n{told}");
    let ends = |identity: &link::Identity| identity.lifetime().expires.0 / 1000;
    let of_cluster = "mangrove_certificate_expiry_timestamp_seconds{owner=\"one\",kind=\"cluster\"}";
    assert!(told.contains(of_cluster), "{told}");
    let first = "mangrove_worker_certificate_first_expiry_timestamp_seconds{cluster=\"one\",kind=\"worker\"}";
    has(&told, &format!("{first} {}", ends(&worker.identity())));
    has(&told, "mangrove_worker_certificates{cluster=\"one\",kind=\"worker\",state=\"valid\"} 1");
    has(&told, "mangrove_cluster_answers{cluster=\"one\"} 1");
    assert!(!told.contains("device") && !told.contains(&worker.id()), "{told}");

    revoke(&root.api, "/api/cluster/one/certificates/device").await;
    wait_until("it to be told of as revoked", async || {
        let told = metrics(&collector).await;
        let revoked = "mangrove_worker_certificates{cluster=\"one\",kind=\"worker\",state=\"revoked\"} 1";
        if told.contains(revoked) && !told.contains(first) { Ok(()) } else { Err(told) }
    })
    .await;
    cluster.kill();
    wait_until("it to be told that the cluster is away", async || {
        let told = metrics(&collector).await;
        let away = "mangrove_cluster_answers{cluster=\"one\"} 0";
        if told.contains(away) && told.contains(of_cluster) { Ok(()) } else { Err(told) }
    })
    .await;
}
