//! What the root records of clusters and of what it asks them for.

use serde_json::{Value, json};
use testkit::{Api, Root};

async fn recorded(api: &Api) -> Vec<Value> {
    let page = api.get("/api/v1/audit?limit=1000").await.ok();
    page["records"].as_array().expect("a list").clone()
}

fn of<'a>(records: &'a [Value], action: &str) -> &'a Value {
    let found = records.iter().find(|record| record["action"] == action);
    found.unwrap_or_else(|| panic!("there is no record of `{action}` in {records:?}"))
}

#[tokio::test]
async fn a_cluster_that_joins_is_recorded_and_what_is_asked_of_it_and_no_worker_is_named() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let worker = cluster.worker(&root.api, "edge-device").await;
    let id = worker.id();
    let path = format!("/api/cluster/one/worker/{id}/cordon");
    root.api.send(reqwest::Method::POST, &path, None).await.ok();
    let records = recorded(&root.api).await;

    let joined = records.iter().rfind(|record| record["action"] == "enrol a cluster").expect("it is there");
    assert_eq!((&joined["from"], &joined["result"]), (&json!("127.0.0.1"), &json!("done")));
    assert_eq!(joined["actor"]["kind"], "anonymous", "a token is all that is known of it");
    let kinds: Vec<&Value> =
        joined["objects"].as_array().expect("a list").iter().map(|object| &object["kind"]).collect();
    assert_eq!(kinds, ["cluster", "join-token"]);
    let token = &joined["objects"][1]["id"];
    assert_eq!(&joined["parameters"]["token"], token);
    let lent = of(&records, "lend an authority to a cluster");
    assert_eq!(
        (&lent["actor"]["kind"], &lent["actor"]["id"]),
        (&json!("cluster"), &joined["objects"][0]["id"])
    );

    // It is passed on, so it is not in any change of the root's.
    let cordoned = of(&records, "POST /api/cluster/{id}/worker/{worker}/cordon");
    assert_eq!((&cordoned["result"], &cordoned["objects"]), (&json!("done"), &Value::Null));
    assert_eq!(cordoned["parameters"], json!({"id": "one", "worker": "(not shown)"}));
    let text = serde_json::to_string(&records).expect("JSON");
    assert!(!text.contains("edge-device") && !text.contains(id.as_str()), "{text}");
}

#[tokio::test]
async fn who_may_not_join_is_recorded() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    root.api.delete("/api/certificates/one").await.ok();
    let revoked = &recorded(&root.api).await[0];
    assert_eq!(
        (&revoked["action"], &revoked["result"]),
        (&json!("DELETE /api/certificates/{id}"), &json!("done"))
    );
    assert_eq!(revoked["objects"][0]["kind"], "revocation");
    drop(cluster);
    root.posing_as("one").await.failure().await;
    let records = recorded(&root.api).await;
    let refused = of(&records, "enrol a cluster");
    assert_eq!((&refused["result"], &refused["error"]), (&json!("refused"), &json!("revoked")));
}
