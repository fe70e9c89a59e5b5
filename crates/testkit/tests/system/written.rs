//! Applications and services made and changed by the resource API: the same documents as by the REST API, the same checks,
//! what clients of Kubernetes note at them, and what they are told has happened.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, Api, Root, hello_sla, wait_until};

const ALL: &str = "/apis/mangrove.io/v1/namespaces/root";
const SERVICE: &str = "/apis/mangrove.io/v1/namespaces/root/services/shop.test.hello.test";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

fn application() -> Value {
    json!({
        "apiVersion": "mangrove.io/v1", "kind": "Application", "metadata": {"name": "shop.test"},
        "spec": {"description": "Sells things."},
    })
}

/// The service of [`hello_sla`] as an object, without what its name says.
fn service() -> Value {
    let mut spec = hello_sla("shop")["applications"][0]["microservices"][0].clone();
    for said in ["microserviceID", "microservice_name", "microservice_namespace"] {
        spec.as_object_mut().expect("fields").remove(said);
    }
    json!({
        "apiVersion": "mangrove.io/v1", "kind": "Service", "spec": spec,
        "metadata": {"name": "shop.test.hello.test", "labels": {"tier": "web"}},
    })
}

async fn patch(api: &Api, path: &str, kind: &str, patch: &Value) -> Answer {
    let request =
        api.client().request(Method::PATCH, format!("{}{path}", api.base())).bearer_auth(api.bearer());
    let response =
        request.header("content-type", kind).body(patch.to_string()).send().await.expect("an answer");
    let status = response.status().as_u16();
    Answer { status, body: response.json().await.expect("JSON") }
}

fn causes(answer: &Answer) -> Vec<(&str, &str)> {
    let causes = answer.body["details"]["causes"].as_array().map_or(&[][..], Vec::as_slice);
    causes
        .iter()
        .map(|cause| (cause["reason"].as_str().expect("a reason"), cause["field"].as_str().expect("a field")))
        .collect()
}

/// A root with the application and the service, made by the resource API.
async fn shop() -> Root {
    let root = Root::start().await;
    for (kind, object) in [("applications", application()), ("services", service())] {
        let made = root.api.post(&format!("{ALL}/{kind}"), &object).await;
        assert_eq!(made.status, 201, "{}", made.body);
    }
    root
}

/// The service as the REST API shows it.
async fn shown(api: &Api) -> Value {
    let all = api.get("/api/services/").await.ok();
    all[0].clone()
}

#[tokio::test]
async fn what_is_made_by_one_api_is_there_in_the_other() {
    let root = shop().await;
    let seen = root.api.get("/api/applications/").await.ok();
    assert_eq!(
        (&seen[0]["application_name"], &seen[0]["application_desc"]),
        (&json!("shop"), &json!("Sells things."))
    );
    let seen = shown(&root.api).await;
    assert_eq!(
        (&seen["microservice_name"], &seen["image"], &seen["memory"]),
        (&json!("hello"), &json!("mangrove/hello:latest"), &json!(32))
    );
    let object = root.api.get(SERVICE).await.ok();
    assert_eq!(object["spec"]["application"], "shop.test");
    assert_eq!(object["metadata"]["labels"], json!({"tier": "web"}));
    let again = root.api.post(&format!("{ALL}/services"), &service()).await;
    assert_eq!((again.status, &again.body["reason"]), (409, &json!("AlreadyExists")));
    let none = root.api.get(&format!("{ALL}/services?labelSelector=tier%3Ddb")).await.ok();
    assert_eq!(none["items"], json!([]));
    let mut orphan = service();
    orphan["metadata"]["name"] = json!("nowhere.test.hello.test");
    let refused = root.api.post(&format!("{ALL}/services"), &orphan).await;
    assert_eq!((refused.status, &refused.body["reason"]), (404, &json!("NotFound")));
}

#[tokio::test]
async fn what_is_wrong_is_told_field_by_field_as_by_the_rest_api() {
    let root = shop().await;
    let path = format!("{ALL}/services");
    let mut wrong = service();
    wrong["metadata"]["name"] = json!("shop.test.other.test");
    wrong["spec"] =
        json!({"virtualization": "container", "memory": -1, "cod": "x", "microservice_name": "third"});
    let refused = root.api.post(&path, &wrong).await;
    assert_eq!(
        (refused.status, causes(&refused)),
        (422, vec![("FieldValueInvalid", "spec.microservice_name")])
    );
    wrong["spec"].as_object_mut().expect("fields").remove("microservice_name");
    let refused = root.api.post(&path, &wrong).await;
    let expected = vec![
        ("FieldValueInvalid", "spec.cod"),
        ("FieldValueInvalid", "spec.memory"),
        ("FieldValueRequired", "spec.code"),
    ];
    assert_eq!((refused.status, causes(&refused)), (422, expected), "{}", refused.body);
    let mut held = service();
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    held["metadata"]["name"] = json!("shop.test");
    let refused = root.api.post(&path, &held).await;
    let expected =
        vec![("FieldValueForbidden", "metadata.finalizers"), ("FieldValueInvalid", "metadata.name")];
    assert_eq!((refused.status, causes(&refused)), (422, expected), "{}", refused.body);
    let mut long = application();
    long["metadata"]["name"] = json!("long.test");
    long["spec"]["description"] = json!("x".repeat(5000));
    let refused = root.api.post(&format!("{ALL}/applications"), &long).await;
    assert_eq!((refused.status, causes(&refused)), (422, vec![("FieldValueInvalid", "spec.description")]));
    let tried = root
        .api
        .post(
            &format!("{path}?dryRun=All"),
            &json!({
                "apiVersion": "mangrove.io/v1", "kind": "Service", "spec": service()["spec"],
                "metadata": {"name": "shop.test.second.test"},
            }),
        )
        .await;
    assert_eq!(tried.status, 201, "{}", tried.body);
    assert_eq!(
        root.api.get(&path).await.ok()["items"].as_array().expect("a list").len(),
        1,
        "it was only tried"
    );
}

#[tokio::test]
async fn a_change_of_a_service_rolls_as_one_by_the_rest_api_does() {
    let root = shop().await;
    let cluster = root.cluster("one").await;
    let _worker = cluster.worker(&root.api, "device").await;
    let scaled =
        patch(&root.api, &format!("{SERVICE}/scale"), MERGE, &json!({"spec": {"replicas": 2}})).await.ok();
    assert_eq!((&scaled["kind"], &scaled["spec"]["replicas"]), (&json!("Scale"), &json!(2)));
    let is_ready = async |revision: u64| {
        wait_until("two that are ready", async || {
            let status = root.api.get(SERVICE).await.ok()["status"].clone();
            let is = (&status["ready"], &status["instances"], &status["revision"]);
            if is == (&json!(2), &json!(2), &json!(revision)) { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    };
    is_ready(1).await;
    let labelled =
        patch(&root.api, SERVICE, MERGE, &json!({"metadata": {"labels": {"tier": null, "a": "b"}}}))
            .await
            .ok();
    assert_eq!(
        (&labelled["metadata"]["labels"], &labelled["status"]["revision"]),
        (&json!({"a": "b"}), &json!(1))
    );
    let changed = patch(&root.api, SERVICE, MERGE, &json!({"spec": {"code": "mangrove/hello:2"}})).await.ok();
    assert_eq!(changed["status"]["revision"], 2);
    is_ready(2).await;
    let instances = root.api.get(&format!("{ALL}/instances")).await.ok();
    let numbers: Vec<&Value> =
        instances["items"].as_array().expect("a list").iter().map(|it| &it["spec"]["number"]).collect();
    assert_eq!(numbers, [2, 3], "each was replaced once, and none by a label");
    assert_eq!(shown(&root.api).await["image"], "mangrove/hello:2");
    let steps = json!([{"op": "test", "path": "/spec/code", "value": "mangrove/hello:1"}]);
    let refused = patch(&root.api, SERVICE, "application/json-patch+json", &steps).await;
    assert_eq!(refused.status, 422, "{}", refused.body);
    let refused =
        patch(&root.api, &format!("{SERVICE}/scale"), MERGE, &json!({"spec": {"replicas": 10_001}})).await;
    assert_eq!((refused.status, causes(&refused)), (422, vec![("FieldValueInvalid", "spec.replicas")]));
    let none = root.api.get(&format!("{ALL}/applications/shop.test/scale")).await;
    assert_eq!(none.status, 404, "{}", none.body);
}

#[tokio::test]
async fn what_was_changed_meanwhile_is_not_written_over() {
    let mut root = shop().await;
    let stale = root.api.get(SERVICE).await.ok();
    let mut newer = stale.clone();
    newer["spec"]["memory"] = json!(64);
    newer["metadata"]["annotations"] = json!({"note": "larger"});
    let replaced = root.api.put(SERVICE, &newer).await.ok();
    assert_eq!((&replaced["spec"]["memory"], &replaced["status"]["revision"]), (&json!(64), &json!(2)));
    let refused = root.api.put(SERVICE, &stale).await;
    assert_eq!((refused.status, &refused.body["reason"]), (409, &json!("Conflict")));
    let old = &stale["metadata"]["resourceVersion"];
    let condition = json!({"preconditions": {"resourceVersion": old}});
    let refused = root.api.send(Method::DELETE, SERVICE, Some(condition.to_string())).await;
    assert_eq!(refused.status, 409, "{}", refused.body);
    let unread = root.api.put(SERVICE, &service()).await;
    assert_eq!(
        (unread.status, causes(&unread)),
        (422, vec![("FieldValueInvalid", "metadata.resourceVersion")])
    );
    root.kill();
    root.start_again().await;
    let kept = root.api.get(SERVICE).await.ok();
    assert_eq!(kept["metadata"]["annotations"], json!({"note": "larger"}), "it is durable");
    let condition = json!({"preconditions": {"resourceVersion": kept["metadata"]["resourceVersion"]}});
    root.api.send(Method::DELETE, SERVICE, Some(condition.to_string())).await.ok();
    assert_eq!(root.api.get(SERVICE).await.status, 404);
}

#[tokio::test]
async fn managers_that_apply_own_their_fields_of_services_too() {
    let root = shop().await;
    let mut wanted = service();
    wanted["metadata"].as_object_mut().expect("metadata").remove("labels");
    let path = |manager: &str| format!("{SERVICE}?fieldManager={manager}");
    let made = patch(&root.api, &path("one"), APPLY, &wanted).await;
    assert_eq!(made.status, 200, "{}", made.body);
    wanted["spec"]["memory"] = json!(48);
    let refused = patch(&root.api, &path("two"), APPLY, &wanted).await;
    assert_eq!((refused.status, &refused.body["reason"]), (409, &json!("Conflict")));
    assert!(causes(&refused).contains(&("FieldManagerConflict", ".spec.memory")), "{}", refused.body);
    let forced = patch(&root.api, &format!("{}&force=true", path("two")), APPLY, &wanted).await.ok();
    assert_eq!(
        (&forced["spec"]["memory"], &forced["metadata"]["labels"]),
        (&json!(48), &json!({"tier": "web"}))
    );
    assert_eq!(shown(&root.api).await["memory"], 48);
    wanted["metadata"]["name"] = json!("shop.test.second.test");
    let other = SERVICE.replace("hello", "second");
    let made = patch(&root.api, &format!("{other}?fieldManager=one"), APPLY, &wanted).await;
    assert_eq!(made.status, 201, "{}", made.body);
}

#[tokio::test]
async fn what_has_happened_is_listed_and_watched() {
    const EVENTS: &str = "/api/v1/namespaces/root/events";
    let root = shop().await;
    let cluster = root.cluster("one").await;
    let _worker = cluster.worker(&root.api, "device").await;
    patch(&root.api, &format!("{SERVICE}/scale"), MERGE, &json!({"spec": {"replicas": 1}})).await.ok();
    let of_instance = format!("{EVENTS}?fieldSelector=involvedObject.name%3Dshop.test.hello.test-0");
    let started = wait_until("its start to be told", async || {
        let events = root.api.get(&of_instance).await.ok();
        let started = events["items"].as_array().expect("a list").iter().find(|it| it["reason"] == "Started");
        started.cloned().ok_or_else(|| events.to_string())
    })
    .await;
    assert_eq!(started["involvedObject"]["kind"], "Instance");
    assert_eq!((&started["type"], &started["count"]), (&json!("Normal"), &json!(1)));
    let name = started["metadata"]["name"].as_str().expect("a name");
    assert_eq!(root.api.get(&format!("{EVENTS}/{name}")).await.ok()["reason"], "Started");
    let all = root.api.get("/api/v1/events").await.ok();
    let since = &all["metadata"]["resourceVersion"].as_str().expect("a revision");
    patch(&root.api, SERVICE, MERGE, &json!({"spec": {"code": "mangrove/hello:2"}})).await.ok();
    let path = format!("{EVENTS}?watch=true&resourceVersion={since}");
    let is_done = |lines: &[Value]| lines.iter().any(|line| line["object"]["reason"] == "RolloutFinished");
    let lines = super::resources::watch_until(&root.api, &path, is_done).await;
    let reasons: Vec<&str> = lines.iter().filter_map(|line| line["object"]["reason"].as_str()).collect();
    assert!(reasons.contains(&"RolloutStarted") && reasons.contains(&"Scheduled"), "{reasons:?}");
    assert_eq!(root.api.delete(&format!("{EVENTS}/{name}")).await.status, 405, "nobody writes them");
}
