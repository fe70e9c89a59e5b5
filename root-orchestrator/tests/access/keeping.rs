//! What organisations keep at the root and are told of by it: custom resources with their types, and hooks.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, Api};

use super::{Site, enlist, password, register};

async fn patch(api: &Api, path: &str, body: &Value) -> Answer {
    api.send(Method::PATCH, path, Some(body.to_string())).await
}

fn fields(answer: &Answer) -> Vec<&str> {
    let problems = answer.body["problems"].as_array().expect("a list");
    problems.iter().map(|problem| problem["field"].as_str().expect("a text")).collect()
}

/// As they are listed: by their ids, which are in the order of their making from one second to the next only.
fn in_order(resources: [&Value; 2]) -> Value {
    let mut resources = resources.map(Clone::clone);
    resources.sort_by_key(|resource| resource["_id"].to_string());
    json!(resources)
}

fn device() -> Value {
    json!({
        "resource_type": "device",
        "schema": {
            "type": "object",
            "properties": {
                "place": {"type": "string"},
                "ports": {"type": "array", "items": {"type": "integer", "minimum": 1}},
            },
            "required": ["place"],
            "additionalProperties": false,
        },
    })
}

#[tokio::test]
async fn custom_resources_are_what_their_type_says_and_outlive_a_restart() {
    let mut site = Site::start().await;
    let types = "/api/v1/custom-resources";
    let made = site.bob.post(types, &device()).await;
    assert_eq!((made.status, &made.body["schema"]), (201, &device()["schema"]));
    assert_eq!(site.bob.post(types, &device()).await.status, 409);
    let devices = "/api/v1/custom-resources/device";
    let wrong = site.bob.post(devices, &json!({"ports": [80, 0, "x"], "other": 1})).await;
    assert_eq!((wrong.status, &wrong.body["error"]), (400, &json!("invalid_value")));
    assert_eq!(fields(&wrong), ["place", "other", "ports[1]", "ports[2]"]);
    assert_eq!(site.bob.post(devices, &json!(["roof"])).await.status, 422);

    let roof = site.bob.post(&format!("{devices}/"), &json!({"place": "roof", "ports": [80]})).await.ok();
    let cellar = site.bob.post(devices, &json!({"place": "cellar"})).await.ok();
    let path = format!("{devices}/{}", roof["_id"].as_str().expect("an id"));
    assert_eq!(site.bob.get(&path).await.ok(), roof);
    for (query, expected) in [
        ("", in_order([&roof, &cellar])),
        ("?place=cellar", json!([cellar])),
        ("?place=roof&ports=[80]", json!([roof])),
        ("?other=1", json!([])),
    ] {
        assert_eq!(site.bob.get(&format!("{devices}{query}")).await.ok(), expected, "{query}");
    }
    // What was shown may be sent back, and what is not sent stays.
    let mut changed = roof.clone();
    changed["ports"] = json!([81]);
    assert_eq!(patch(&site.bob, &path, &changed).await.ok(), changed);
    changed["place"] = json!("attic");
    assert_eq!(patch(&site.bob, &path, &json!({"place": "attic"})).await.ok(), changed);
    let wrong = patch(&site.bob, &path, &json!({"place": 1})).await;
    assert_eq!((wrong.status, fields(&wrong)), (400, vec!["place"]));
    let wrong = patch(&site.bob, &path, &json!({"_id": "mine"})).await;
    assert_eq!((wrong.status, fields(&wrong)), (400, vec!["_id"]));

    site.root.kill();
    site.root.start_again().await;
    assert_eq!(site.bob.get(devices).await.ok(), in_order([&changed, &cellar]));
    assert_eq!(site.bob.delete(&path).await.ok(), changed);
    assert_eq!(site.bob.get(&path).await.status, 404);
    site.bob.delete(devices).await.ok();
    let gone = site.bob.get(devices).await;
    assert_eq!((gone.status, &gone.body["error"]), (404, &json!("no_resource_type")));
    assert_eq!(site.bob.get(types).await.ok(), json!([]));
}

#[tokio::test]
async fn a_type_that_cannot_be_is_told_where() {
    let site = Site::start().await;
    for (wanted, field) in [
        (json!({"resource_type": "jobs"}), "resource_type"),
        (json!({"resource_type": "a b"}), "resource_type"),
        (json!({"resource_type": "a", "schema": 1}), "schema"),
        (
            json!({"resource_type": "a", "schema": {"properties": {"b": {"if": {}}}}}),
            "schema.properties.b.if",
        ),
        (json!({"resource_type": "a", "schema": {"$ref": "#"}}), "schema.$ref"),
    ] {
        let refused = site.bob.post("/api/v1/custom-resources", &wanted).await;
        assert_eq!(refused.status, 422, "{wanted}: {}", refused.body);
        assert!(fields(&refused)[0].starts_with(field), "{wanted}: {}", refused.body);
    }
}

#[tokio::test]
async fn what_an_organisation_keeps_is_nobody_elses_affair() {
    let site = Site::start().await;
    site.bob.post("/api/v1/custom-resources", &device()).await;
    let kept = site.bob.post("/api/v1/custom-resources/device", &json!({"place": "roof"})).await.ok();
    let id = kept["_id"].as_str().expect("an id");
    // The same name is another type.
    let made = site.mallory.post("/api/v1/custom-resources", &json!({"resource_type": "device"})).await;
    assert_eq!(made.status, 201);
    assert_eq!(site.mallory.get("/api/v1/custom-resources/device").await.ok(), json!([]));
    let path = format!("/api/v1/custom-resources/device/{id}");
    assert_eq!(site.mallory.get(&path).await.status, 404);
    assert_eq!(patch(&site.mallory, &path, &json!({"place": "hers"})).await.status, 404);
    assert_eq!(site.mallory.delete(&path).await.status, 404);
    site.mallory.delete("/api/v1/custom-resources/device").await.ok();
    assert_eq!(site.bob.get(&path).await.ok(), kept);

    let hook = |name: &str, entity: &str| {
        json!({
            "hook_name": name, "webhook_url": format!("https://{name}.invalid/"), "entity": entity,
            "events": ["post_create"],
        })
    };
    let ours = site.bob.post("/api/v1/hooks", &hook("ours", "device")).await;
    assert_eq!((ours.status, &ours.body["organization"]), (201, &json!("acme")));
    let theirs = site.mallory.post("/api/v1/hooks", &hook("ours", "applications")).await;
    assert_eq!(theirs.status, 201);
    // She has no such type any more, and clusters are the platform's.
    let refused = site.mallory.post("/api/v1/hooks", &hook("devices", "device")).await;
    assert_eq!((refused.status, fields(&refused)), (422, vec!["entity"]));
    let refused = site.mallory.post("/api/v1/hooks", &hook("clusters", "resources")).await;
    assert_eq!((refused.status, &refused.body["error"]), (403, &json!("forbidden")));
    assert_eq!(site.ada().post("/api/v1/hooks", &hook("clusters", "resources")).await.status, 201);

    site.bob.post("/api/v1/custom-resources/device", &json!({"place": "cellar"})).await.ok();
    let shown = |api: &Api| {
        let api = api.clone();
        async move {
            let listed = api.get("/api/v1/hooks").await.ok();
            let listed = listed.as_array().expect("a list").clone();
            listed
                .iter()
                .map(|hook| (hook["organization"].clone(), hook["pending"].clone()))
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(shown(&site.mallory).await, [(json!("other"), json!(0))]);
    assert_eq!(shown(&site.eve).await, [(json!("acme"), json!(1))]);
    assert_eq!(shown(site.ada()).await.len(), 3);
    let path = format!("/api/v1/hooks/{}", ours.body["_id"].as_str().expect("an id"));
    assert_eq!(
        patch(&site.mallory, &path, &json!({"webhook_url": "https://evil.invalid/"})).await.status,
        404
    );
    assert_eq!(site.mallory.delete(&path).await.status, 404);
    let wrong = patch(&site.eve, &path, &json!({"events": ["post_create", "pre_create"]})).await;
    assert_eq!((wrong.status, fields(&wrong)), (422, vec!["events[1]"]));

    // Who deploys in the organisation that looks after the platform does not look after it.
    let all = site.ada().get("/api/organization/").await.ok();
    let root = all.as_array().expect("a list").iter().find(|known| known["name"] == "root").expect("there");
    let kim = register(site.ada(), "kim", &[]).await;
    enlist(site.ada(), root["_id"]["$oid"].as_str().expect("an id"), &kim, "Application_Provider").await;
    let kim = site.ada().as_user("kim", &password("kim"), "root").await;
    assert_eq!(kim.post("/api/v1/hooks", &hook("kims", "jobs")).await.status, 201);
    let refused = kim.post("/api/v1/hooks", &hook("clusters2", "resources")).await;
    assert_eq!((refused.status, &refused.body["error"]), (403, &json!("forbidden")));
}
