//! Organisations that use the same names, and try to get at each other's.

use serde_json::{Value, json};

use super::{Site, deploy, enlist, organization, password, register};

#[tokio::test]
async fn the_same_names_in_another_organisation_take_nothing_over() {
    let site = Site::start().await;
    let (application, service) = deploy(&site.bob, "shop").await;
    site.bob.deploy(&service).await;
    let before = site.bob.get(&format!("/api/service/{service}")).await.ok();

    let (theirs, their_service) = deploy(&site.mallory, "shop").await;
    assert_ne!((&theirs, &their_service), (&application, &service));
    let again = site.bob.post("/api/application/", &json!({})).await;
    assert_eq!(again.status, 422, "an empty SLA is none");
    let after = site.bob.get(&format!("/api/service/{service}")).await.ok();
    assert_eq!(after["instance_list"], before["instance_list"]);
    for (api, id) in [(&site.bob, &application), (&site.mallory, &theirs)] {
        let listed = api.get("/api/applications/").await.ok();
        let ids: Vec<&Value> =
            listed.as_array().expect("a list").iter().map(|one| &one["applicationID"]).collect();
        assert_eq!(ids, [&json!(id)]);
    }
    // Both see the names they wrote, and who looks after the platform whose they are.
    assert_eq!(after["job_name"], "shop.prod.web.prod");
    let theirs = site.mallory.get(&format!("/api/service/{their_service}")).await.ok();
    assert_eq!(theirs["job_name"], "shop.prod.web.prod");
    let all = site.ada().get("/api/applications/").await.ok();
    let mut whose: Vec<&str> =
        all.as_array().expect("a list").iter().filter_map(|one| one["organization"].as_str()).collect();
    whose.sort_unstable();
    assert_eq!(whose, ["acme", "other"]);
}

#[tokio::test]
async fn an_application_changes_neither_its_owner_nor_its_organisation() {
    let site = Site::start().await;
    let (application, _) = deploy(&site.bob, "shop").await;
    let path = format!("/api/application/{application}");
    let shown = site.bob.get(&path).await.ok();
    let mut taken = shown.clone();
    taken["userId"] = json!("mallory");
    taken["organization"] = json!("other");
    taken["application_desc"] = json!("mine");
    taken["microservices"] = Value::Null;
    assert_eq!(site.mallory.put(&path, &taken).await.status, 404);
    assert_eq!(site.bob.get(&path).await.ok(), shown);

    // Another member may describe it otherwise; it stays bob's.
    site.eve.put(&path, &taken).await.ok();
    let mut described = shown.clone();
    described["application_desc"] = json!("mine");
    assert_eq!(site.bob.get(&path).await.ok(), described);
    let renamed = site.eve.put(&path, &json!({"application_name": "other"})).await;
    assert_eq!((renamed.status, &renamed.body["error"]), (409, &json!("not_changeable")));
}

#[tokio::test]
async fn an_administrator_rules_in_one_organisation_only() {
    let site = Site::start().await;
    deploy(&site.bob, "shop").await;
    let (own, _) = deploy(&site.mallory, "till").await;
    let seen = site.mallory.get("/api/applications").await.ok();
    assert_eq!(seen.as_array().map(|list| list.len()), Some(1));
    assert_eq!(seen[0]["applicationID"], json!(own));
    let names = |users: Value| -> Vec<String> {
        let users = users.as_array().expect("a list").iter();
        users.map(|user| user["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(site.mallory.get("/api/users/").await.ok()), ["mallory"]);
    assert_eq!(site.mallory.get(&format!("/api/users/{}", site.acme)).await.status, 404);
    for user in ["bob", "eve", "Admin"] {
        let path = format!("/api/user/{user}");
        assert_eq!(site.mallory.get(&path).await.status, 404, "{user}");
        let taken = json!({"password": "mine", "roles": ["Admin"]});
        assert_eq!(site.mallory.put(&path, &taken).await.status, 404, "{user}");
        assert_eq!(site.mallory.delete(&path).await.status, 404, "{user}");
    }
}

#[tokio::test]
async fn nobody_logs_in_where_they_are_no_member() {
    let site = Site::start().await;
    for (user, organization) in [("mallory", "acme"), ("mallory", "root"), ("eve", "root"), ("Admin", "acme")]
    {
        let password = if user == "Admin" { "correct horse".to_owned() } else { password(user) };
        let login = json!({"username": user, "password": password, "organization_name": organization});
        let answer = site.ada().anonymous().post("/api/auth/login", &login).await;
        assert_eq!(answer.status, 401, "{user} in {organization}: {}", answer.body);
    }
    // Whoever is expelled is out at once.
    assert_eq!(site.bob.get("/api/applications").await.status, 200);
    let elsewhere = organization(site.ada(), "elsewhere").await;
    let bob = site.ada().get("/api/user/bob").await.ok();
    enlist(site.ada(), &elsewhere, &bob, "Admin").await;
    assert_eq!(site.bob.get("/api/applications").await.status, 401);
}

#[tokio::test]
async fn a_small_administrator_does_not_become_a_great_one() {
    let site = Site::start().await;
    let more = site.bob.post("/api/auth/register", &json!({})).await;
    assert_eq!(more.status, 403);
    let people = register(&site.eve, "max", &["Organization_Admin"]).await;
    assert_eq!(people["roles"], json!(["Organization_Admin"]));
    let max = site.ada().as_user("max", &password("max"), "acme").await;
    let wanted = json!({"name": "kim", "password": "secret", "roles": ["Admin"]});
    let refused = max.post("/api/auth/register", &wanted).await;
    assert_eq!((refused.status, &refused.body["error"]), (403, &json!("more_than_held")));
    let refused = max.put("/api/user/max", &json!({"roles": ["Admin"]})).await;
    assert_eq!((refused.status, &refused.body["error"]), (403, &json!("more_than_held")));
    let refused = max.put("/api/user/eve", &json!({"password": "mine"})).await;
    assert_eq!((refused.status, &refused.body["error"]), (403, &json!("beyond_reach")));
    let refused = max.send(reqwest::Method::POST, "/api/user/eve/reset", None).await;
    assert_eq!((refused.status, &refused.body["error"]), (403, &json!("beyond_reach")));
}

#[tokio::test]
async fn an_organisation_takes_no_more_than_its_quota() {
    let site = Site::start().await;
    let (_, service) = deploy(&site.bob, "shop").await;
    let (_, theirs) = deploy(&site.mallory, "shop").await;
    let path = format!("/api/organization/{}/quota", site.acme);
    assert_eq!(site.eve.put(&path, &json!({"instances": 99})).await.status, 403);
    let wrong = site.ada().put(&path, &json!({"instances": "many"})).await;
    assert_eq!(wrong.status, 422);
    site.ada().put(&path, &json!({"instances": 1, "memory": 64})).await.ok();
    site.bob.deploy(&service).await;
    let scaled = site.bob.post(&format!("/api/service/{service}/scale"), &json!({"instances": 3})).await;
    assert_eq!((scaled.status, &scaled.body["error"]), (409, &json!("quota_exceeded")));
    let message = scaled.body["message"].as_str().expect("a text");
    assert!(message.contains("3 instances, 2 more than its quota of 1"), "{message}");
    let shown = site.bob.get(&path).await.ok();
    let wanted = json!({
        "quota": {"instances": 1, "vcpus": null, "memory": 64, "storage": null},
        "usage": {"instances": 1, "vcpus": 0, "memory": 16, "storage": 0},
    });
    assert_eq!(shown, wanted);
    site.mallory.deploy(&theirs).await;
    site.mallory.deploy(&theirs).await;
}
