//! What is recorded of who changed what: all of it, nothing that is secret, and whole whatever happens.

use audit::{Record, Start, Verifier};
use reqwest::Method;
use serde_json::{Value, json};
use store::{Expect, History, SqliteStore, Store, Write};
use testkit::{Api, Root};

use super::{Site, deploy, password, register};

async fn exported(ada: &Api) -> String {
    let text = ada.get("/api/v1/audit/export").await.body;
    // One line alone reads as JSON.
    text.as_str().map_or_else(|| format!("{text}\n"), str::to_owned)
}

/// The records, of which each was checked to follow on the one before.
async fn records(ada: &Api) -> Vec<Record> {
    let text = exported(ada).await;
    let mut verifier = Verifier::new(Start::Anywhere);
    text.lines().map(|line| verifier.check(line.as_bytes()).expect("whole")).collect()
}

async fn listed(by: &Api, filter: &str) -> Vec<Value> {
    let page = by.get(&format!("/api/v1/audit?limit=1000{filter}")).await.ok();
    page["records"].as_array().expect("a list").clone()
}

async fn with_id(
    by: &Api,
    method: Method,
    path: &str,
    id: &str,
    body: &Value,
) -> (reqwest::StatusCode, String, Value) {
    let request = reqwest::Client::new().request(method, format!("{}{path}", by.base()));
    let request = request.bearer_auth(by.bearer()).header("X-Request-Id", id).json(body);
    let answer = request.send().await.expect("the root answers");
    let answered = answer.headers()["x-request-id"].to_str().expect("a text").to_owned();
    (answer.status(), answered, answer.json().await.expect("JSON"))
}

#[tokio::test]
async fn a_change_is_recorded_with_who_made_it_and_what_it_was_and_from_where() {
    let site = Site::start().await;
    let (application, _) = deploy(&site.bob, "shop").await;
    let path = format!("/api/application/{application}");
    let change = json!({"application_desc": "much better"});
    let (status, id, _) = with_id(&site.bob, Method::PUT, &path, "trace-1", &change).await;
    assert_eq!((status.as_u16(), id.as_str()), (200, "trace-1"));
    let found = listed(site.ada(), "&user=bob").await;
    let record = &found[0];
    assert_eq!(record["request"], "trace-1");
    assert_eq!(
        (&record["actor"]["name"], &record["actor"]["organization"]),
        (&json!("bob"), &json!(site.acme))
    );
    assert_eq!((&record["from"], &record["result"]), (&json!("127.0.0.1"), &json!("done")));
    assert_eq!(record["action"], "PUT /api/application/{id}");
    assert_eq!(record["parameters"], json!({"id": application}));
    let object = &record["objects"][0];
    assert_eq!((&object["kind"], &object["name"]), (&json!("application"), &json!("shop")));
    assert_eq!(object["before"], json!({"description": ""}));
    assert_eq!(object["after"], json!({"description": "much better"}));
    let created = found.iter().find(|record| record["action"] == "POST /api/application").expect("recorded");
    let kinds: Vec<&Value> =
        created["objects"].as_array().expect("a list").iter().map(|object| &object["kind"]).collect();
    assert_eq!(kinds, ["service", "application"]);

    let brew = Method::from_bytes(b"BREW").expect("a method");
    assert_eq!(site.bob.send(brew, &path, None).await.status, 405);
    let latest = listed(site.ada(), "").await;
    assert_eq!(latest[0]["request"], "trace-1", "what no route takes changes nothing");

    // What asks for nothing is not recorded, and an id that is none is not taken over.
    let before = records(site.ada()).await.len();
    let (_, id, _) = with_id(&site.bob, Method::GET, "/api/applications", "a b", &json!({})).await;
    assert_eq!(id.len(), 32, "{id}");
    assert_eq!(records(site.ada()).await.len(), before);
}

#[tokio::test]
async fn what_is_refused_is_recorded_once_and_told_with_its_id() {
    let site = Site::start().await;
    let (application, _) = deploy(&site.bob, "shop").await;
    let path = format!("/api/application/{application}");
    for attempt in 0..20 {
        let id = format!("try-{attempt}");
        let (status, _, body) = with_id(&site.mallory, Method::DELETE, &path, &id, &json!({})).await;
        assert_eq!((status.as_u16(), &body["request_id"]), (404, &json!(id)));
    }
    assert_eq!(site.bob.anonymous().delete(&path).await.status, 401);
    let wrong = json!({"username": "bob", "password": "guess", "organization_name": "acme"});
    assert_eq!(site.bob.anonymous().post("/api/auth/login", &wrong).await.status, 401);
    let found: Vec<Value> = listed(site.ada(), "").await;
    let refused: Vec<(&Value, &Value, &Value, &Value)> = found
        .iter()
        .filter(|record| record["result"] == "refused")
        .map(|record| (&record["request"], &record["status"], &record["error"], &record["actor"]["kind"]))
        .collect();
    let [guess, anonymous, mallory] = refused[..] else { panic!("three, not {refused:?}") };
    assert_eq!((guess.1, guess.2), (&json!(401), &json!("wrong_credentials")));
    assert_eq!((anonymous.2, anonymous.3), (&json!("no_token"), &json!("anonymous")));
    assert_eq!(mallory, (&json!("try-0"), &json!(404), &json!("no_application"), &json!("user")));
    // Who is attacked is told: the guess is about the organisation's own user.
    let seen = listed(&site.eve, "&user=bob").await;
    assert!(seen.iter().any(|record| record["error"] == "wrong_credentials"), "{seen:?}");
    assert!(listed(&site.mallory, "&user=bob").await.is_empty());
}

#[tokio::test]
async fn a_login_that_only_seems_to_read_is_recorded() {
    let site = Site::start().await;
    let path = "/api/auth/oidc/callback";
    assert_eq!(site.ada().anonymous().get(path).await.status, 404, "there is no identity provider");
    let seen = listed(site.ada(), "").await;
    assert!(seen.iter().any(|record| record["action"] == format!("GET {path}")), "{seen:?}");
}

#[tokio::test]
async fn an_organisation_sees_its_own_records_only() {
    let site = Site::start().await;
    deploy(&site.bob, "shop").await;
    deploy(&site.mallory, "till").await;
    let path = format!("/api/organization/{}/quota", site.acme);
    site.ada().put(&path, &json!({"instances": 7})).await.ok();
    let seen = listed(&site.eve, "").await;
    let text = serde_json::to_string(&seen).expect("JSON");
    assert!(text.contains("shop") && !text.contains("till") && !text.contains("mallory"), "{text}");
    let by_ada = seen.iter().find(|record| record["action"] == "PUT /api/organization/{id}/quota");
    let by_ada = by_ada.expect("what is done to it is seen");
    assert_eq!((&by_ada["actor"]["name"], &by_ada["from"]), (&json!("Admin"), &Value::Null));
    assert_eq!(by_ada["objects"][0]["after"]["quota"], json!({"instances": 7}));
    assert!(by_ada.get("hash").is_none() && by_ada.get("previous").is_none());
    let exported = site.eve.get("/api/v1/audit/export").await.body;
    let exported = exported.as_str().expect("lines").to_owned();
    assert_eq!(exported.lines().count(), listed(&site.eve, "").await.len());
    for other in ["root", "other", "nowhere"] {
        let asked = site.eve.get(&format!("/api/v1/audit?organization={other}")).await;
        assert_eq!((asked.status, &asked.body["error"]), (404, &json!("no_organization")), "{other}");
    }
    let of_acme = listed(site.ada(), "&organization=acme").await;
    assert_eq!(of_acme.len(), listed(&site.eve, "").await.len());
    let exported = site.ada().get("/api/v1/audit/export?organization=acme").await.body;
    assert_eq!(exported.as_str().expect("lines").lines().count(), of_acme.len());
    let of_bob = listed(&site.eve, "&organization=acme&user=bob").await;
    assert!(!of_bob.is_empty() && of_bob.iter().all(|record| record["actor"]["name"] == "bob"), "{of_bob:?}");
    assert!(listed(&site.eve, "&since=2999-01-01T00:00:00Z").await.is_empty());
    let wrong = site.eve.get("/api/v1/audit?since=yesterday").await;
    assert_eq!((wrong.status, &wrong.body["problems"][0]["field"]), (422, &json!("since")));
}

#[tokio::test]
async fn pages_follow_one_another_without_gaps() {
    let site = Site::start().await;
    let all: Vec<u64> = records(site.ada()).await.iter().map(|record| record.sequence).rev().collect();
    let mut seen: Vec<u64> = Vec::new();
    let mut path = "/api/v1/audit?limit=3".to_owned();
    loop {
        let page = site.ada().get(&path).await.ok();
        let numbers = page["records"].as_array().expect("a list").iter();
        seen.extend(numbers.map(|record| record["sequence"].as_u64().expect("a number")));
        let Some(next) = page["next"].as_u64() else { break };
        path = format!("/api/v1/audit?limit=3&before={next}");
    }
    assert_eq!(seen, all);
    let after = site.ada().get(&format!("/api/v1/audit/export?after={}", all[1])).await.body;
    assert_eq!(after["sequence"], json!(all[0]), "one line, which reads as JSON");
}

/// Everything that is secret in what these calls send, get and leave behind.
#[tokio::test]
async fn no_secret_is_in_any_record() {
    let site = Site::start().await;
    let (ada, bob) = (site.ada(), &site.bob);
    let mut secrets: Vec<String> = ["eve", "bob", "mallory"].map(password).into();
    secrets.extend(
        ["correct horse", "v4lue-one", "v4lue-two", "r3gistry-pass", "env-s3cret", "file-s3cret"]
            .map(str::to_owned),
    );

    bob.post("/api/v1/secrets", &json!({"name": "key", "text": "v4lue-one"})).await;
    bob.put("/api/v1/secrets/key", &json!({"text": "v4lue-two"})).await.ok();
    let login = json!({"server": "r.example", "username": "robot", "password": "r3gistry-pass"});
    bob.post("/api/v1/secrets", &json!({"name": "pull", "kind": "registry", "registry": login})).await;
    let sla = json!({
        "sla_version": "v2.0", "customerID": "",
        "applications": [{
            "applicationID": "", "application_name": "shop", "application_namespace": "prod", "application_desc": "",
            "microservices": [{
                "microserviceID": "", "microservice_name": "web", "microservice_namespace": "prod",
                "virtualization": "container", "code": "docker.io/library/nginx:1.27", "memory": 16, "vcpus": 0,
                "cmd": ["serve", "--key=cmd-s3cret"], "environment": ["KEY=env-s3cret"],
                "added_files": [{"path": "/etc/key", "content": "file-s3cret"}],
            }],
        }],
    });
    secrets.push("cmd-s3cret".to_owned());
    let created = bob.post("/api/application", &sla).await;
    assert_eq!(created.status, 200, "{}", created.body);
    bob.post("/api/v1/custom-resources", &json!({"resource_type": "device"})).await;
    bob.post("/api/v1/custom-resources/device", &json!({"key": "device-s3cret"})).await.ok();
    let hook = json!({
        "hook_name": "told", "webhook_url": "https://hooks.example/path-s3cret", "entity": "jobs", "events": ["post_create"],
        "secret": "hook-s3cret-hook-s3cret",
    });
    assert_eq!(bob.post("/api/v1/hooks", &hook).await.status, 201);
    secrets.extend(["device-s3cret", "path-s3cret", "hook-s3cret"].map(str::to_owned));

    let kim = register(&site.eve, "kim", &[]).await;
    secrets.push(password("kim"));
    assert_eq!(kim["name"], "kim");
    let pair = json!({"username": "kim", "password": password("kim"), "organization_name": "acme"});
    let pair = ada.anonymous().post("/api/auth/login", &pair).await.ok();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let (access, refresh) = (text(&pair["token"]), text(&pair["refresh_token"]));
    ada.with_token(&refresh).send(Method::POST, "/api/auth/refresh", None).await.ok();
    ada.with_token(&access).send(Method::POST, "/api/auth/logout", None).await.ok();
    secrets.extend([access, refresh]);
    // The password where the name should be, and a token where an id should be.
    ada.anonymous().post("/api/auth/login", &json!({"username": "m1stake", "password": "x"})).await;
    let made = bob.post("/api/auth/tokens", &json!({"name": "build"})).await.ok();
    let token = text(&made["token"]);
    bob.delete(&format!("/api/auth/tokens/{token}")).await;
    ada.with_token(&token).delete("/api/application/0").await;
    let join = ada.token(json!({"kind": "worker"})).await;
    let reset = text(&ada.send(Method::POST, "/api/user/kim/reset", None).await.ok()["token"]);
    let redeemed = json!({"token": reset, "password": "n3w-password"});
    ada.anonymous().put("/api/user/", &redeemed).await.ok();
    ada.anonymous().put("/api/user/", &redeemed).await;
    let halves = [&token, &join, &reset].map(|token| token.split('.').map(str::to_owned).collect::<Vec<_>>());
    secrets.extend([halves[0][2].clone(), halves[1][2].clone(), halves[2][1].clone()]);
    secrets.extend(["m1stake", "n3w-password", "argon2", "guess-1"].map(str::to_owned));
    let change = json!({"oldPassword": "guess-1", "newPassword": "n3w-password"});
    bob.post("/api/user/bob", &change).await;

    let text = exported(ada).await;
    for action in [
        "POST /api/v1/secrets",
        "PUT /api/v1/secrets/{name}",
        "POST /api/auth/tokens",
        "POST /api/tokens",
        "POST /api/v1/hooks",
    ] {
        assert!(text.contains(action), "{action} is recorded");
    }
    assert!(
        text.contains("environment.KEY") && text.contains("added_files./etc/key"),
        "that they are there is shown"
    );
    for secret in &secrets {
        let digest = link::secret_hash(secret);
        for hidden in [secret, &digest, &data_encoding::BASE64.encode(secret.as_bytes())] {
            assert!(!text.contains(hidden.as_str()), "{secret} is in a record: {}", line_with(&text, hidden));
        }
    }
    records(ada).await;
}

fn line_with<'a>(text: &'a str, part: &str) -> &'a str {
    text.lines().find(|line| line.contains(part)).unwrap_or_default()
}

#[tokio::test]
async fn whatever_moment_the_root_is_killed_at_there_is_no_change_without_its_record() {
    let mut root = Root::start().await;
    for round in 0..3 {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let api = root.api.clone();
                tokio::spawn(async move {
                    for number in 0..1000 {
                        let name = json!({"name": format!("o-{round}-{writer}-{number}"), "member": []});
                        let request = reqwest::Client::new().post(format!("{}/api/organization", api.base()));
                        if request.bearer_auth(api.bearer()).json(&name).send().await.is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        testkit::wait_until("some to be made", async || {
            let made = root.api.get("/api/organization").await.ok().as_array().map_or(0, Vec::len);
            if made > 20 * (round + 1) { Ok(()) } else { Err(made.to_string()) }
        })
        .await;
        root.kill();
        for writer in writers {
            writer.abort();
        }
        root.start_again().await;
        let there = root.api.get("/api/organization").await.ok();
        let mut there: Vec<String> = there
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|one| one["name"].as_str().filter(|name| name.starts_with("o-")).map(str::to_owned))
            .collect();
        there.sort();
        let mut recorded: Vec<String> = records(&root.api)
            .await
            .iter()
            .flat_map(|record| &record.entry.objects)
            .filter(|object| object.kind == "organization" && object.before.is_none())
            .map(|object| object.name.clone())
            .collect();
        recorded.sort();
        assert_eq!(there, recorded);
        let verified = root.api.get("/api/v1/audit/verify").await.ok();
        assert_eq!(verified["whole"], json!(true), "{verified}");
    }
}

#[tokio::test]
async fn what_is_done_to_the_store_behind_its_back_is_found_at_the_first_record() {
    let mut root = Root::start().await;
    for number in 0..10 {
        let name = json!({"name": format!("o{number}"), "member": []});
        root.api.post("/api/organization", &name).await.ok();
    }
    let line = |record: &Record| Some(record.line());
    let all = records(&root.api).await;
    let key = |number: u64| format!("{number:020}");
    let mut other = all[4].clone();
    other.entry.action = "GET /nothing".to_owned();
    let newest = all.len() as u64;
    for (what, number, value, broken) in [
        ("changed", 5, line(&other), Some(5)),
        ("as it was", 5, line(&all[4]), None),
        ("in another's place", 5, line(&all[5]), Some(5)),
        ("no record", 5, Some(b"{".to_vec()), Some(5)),
        ("taken out", 5, None, Some(5)),
        ("as it was", 5, line(&all[4]), None),
        ("the first taken out", 1, None, Some(1)),
        ("as it was", 1, line(&all[0]), None),
    ] {
        root.kill();
        let write = Write { collection: "audit", key: key(number), value, expect: Expect::Anything };
        commit(&root, vec![write]).await;
        root.start_again().await;
        let verified = root.api.get("/api/v1/audit/verify").await.ok();
        assert_eq!(verified["broken"]["sequence"].as_u64(), broken, "{what}: {verified}");
        assert_eq!(verified["whole"], json!(broken.is_none()), "{what}");
    }
    // What is behind the end is nobody's, and the end is known.
    let put = |key: String, value| Write { collection: "audit", key, value, expect: Expect::Anything };
    root.kill();
    let (last, far) = (records_in(&root).await, key(1_000_000));
    assert!(last > newest, "logins are recorded");
    commit(&root, vec![put(far.clone(), line(&all[4]))]).await;
    root.start_again().await;
    let verified = root.api.get("/api/v1/audit/verify").await.ok();
    assert_eq!(verified["broken"]["reason"], "it is there, and was never written", "{verified}");
    root.kill();
    let last = records_in(&root).await.min(last + 1);
    commit(&root, vec![put(far, None)]).await;
    commit(&root, vec![put(key(last), None)]).await;
    root.start_again().await;
    let verified = root.api.get("/api/v1/audit/verify").await.ok();
    assert_eq!(verified["broken"]["sequence"], json!(last), "{verified}");
}

async fn commit(root: &Root, writes: Vec<Write>) {
    let store = opened(root).await;
    store.commit(writes).await.expect("durable");
}

async fn records_in(root: &Root) -> u64 {
    let stored = opened(root).await.list("audit").await.expect("readable");
    stored.last().map_or(0, |document| document.key.parse().expect("a number"))
}

/// Once the root has let go of it.
async fn opened(root: &Root) -> SqliteStore {
    testkit::wait_until("the store to be free", async || {
        SqliteStore::open(&root.store(), History::USUAL).map_err(|error| error.to_string())
    })
    .await
}
