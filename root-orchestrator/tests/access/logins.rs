//! Logins, passwords and tokens.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, Api, Root};

use super::{Site, deploy, password, register};

async fn log_in(api: &Api, name: &str, password: &str) -> Answer {
    api.anonymous().post("/api/auth/login", &json!({"username": name, "password": password})).await
}

async fn post(api: &Api, path: &str) -> Answer {
    api.send(Method::POST, path, None).await
}

/// The access and the refresh token.
async fn tokens(api: &Api, name: &str) -> [Api; 2] {
    let pair = log_in(api, name, &password(name)).await.ok();
    ["token", "refresh_token"].map(|kind| api.with_token(pair[kind].as_str().expect("a token")))
}

#[tokio::test]
async fn a_login_lasts_over_a_restart_and_until_it_is_ended() {
    let mut root = Root::start().await;
    register(&root.api, "kim", &["Application_Provider"]).await;
    let [access, refresh] = tokens(&root.api, "kim").await;
    let [other, _] = tokens(&root.api, "kim").await;
    root.kill();
    root.start_again().await;
    assert_eq!(access.get("/api/applications").await.status, 200, "the key is kept");

    // Roles are read anew.
    root.api.put("/api/user/kim", &json!({"roles": []})).await.ok();
    assert_eq!(access.get("/api/applications").await.status, 403);
    root.api.put("/api/user/kim", &json!({"roles": ["Application_Provider"]})).await.ok();
    let renewed = post(&refresh, "/api/auth/refresh").await.ok();
    let renewed = access.with_token(renewed["token"].as_str().expect("a token"));
    assert_eq!(renewed.get("/api/applications").await.status, 200);

    post(&renewed, "/api/auth/logout").await.ok();
    assert_eq!(renewed.get("/api/applications").await.status, 401);
    assert_eq!(access.get("/api/applications").await.status, 401);
    assert_eq!(post(&refresh, "/api/auth/refresh").await.status, 401);
    assert_eq!(other.get("/api/applications").await.status, 200, "another login");
    root.kill();
    root.start_again().await;
    assert_eq!(post(&refresh, "/api/auth/refresh").await.status, 401, "also after a restart");
}

#[tokio::test]
async fn passwords_are_changed_by_their_user_and_by_an_administrator_and_never_shown() {
    let root = Root::start().await;
    let made = register(&root.api, "kim", &[]).await;
    assert_eq!(made["name"], "kim");
    let twice = json!({"name": "kim", "password": "other"});
    let twice = root.api.post("/api/auth/register", &twice).await;
    assert_eq!((twice.status, &twice.body["error"]), (409, &json!("user_exists")));
    let [kim, _] = tokens(&root.api, "kim").await;

    // What the dashboard sends back changes no password.
    let mut profile = kim.get("/api/user/kim").await.ok();
    profile["password"] = Value::Null;
    assert_eq!(root.api.put("/api/user/kim", &profile).await.ok(), json!("ok"));
    let change = |old: &str, new: &str| json!({"oldPassword": old, "newPassword": new});
    let wrong = kim.post("/api/user/kim", &change("guess", "new")).await;
    assert_eq!((wrong.status, &wrong.body["message"]), (400, &json!("Old password is not valid!")));
    assert_eq!(root.api.post("/api/user/kim", &change("guess", "new")).await.status, 403);
    assert_eq!(kim.post("/api/user/kim", &change(&password("kim"), "new")).await.ok(), json!({}));
    assert_eq!(kim.get("/api/user/kim").await.status, 401, "other logins end with the password");
    assert_eq!(log_in(&root.api, "kim", &password("kim")).await.status, 401);

    root.api.put("/api/user/kim", &json!({"password": "newer"})).await.ok();
    let kim = log_in(&root.api, "kim", "newer").await.ok();
    let kim = root.api.with_token(kim["token"].as_str().expect("a token"));

    for (api, path) in [
        (&kim, "/api/user/kim"),
        (&root.api, "/api/users/"),
        (&root.api, "/api/organization/"),
        (&kim, "/api/permission/kim"),
    ] {
        let answer = api.get(path).await.ok().to_string();
        assert!(!answer.contains("argon2") && !answer.contains("password"), "{path}: {answer}");
    }
    let left = root.api.delete("/api/user/kim").await.ok();
    assert!(!left.to_string().contains("argon2"));
    assert_eq!(left.as_array().map(|users| users.len()), Some(1));
    assert_eq!(kim.get("/api/user/kim").await.status, 401);
}

#[tokio::test]
async fn a_reset_token_sets_a_password_once_and_mail_is_sent_to_nobody() {
    let root = Root::start().await;
    register(&root.api, "kim", &[]).await;
    let forgotten = async |name: &str| {
        let asked = json!({"username": name, "domain": "http://evil.example"});
        root.api.anonymous().post("/api/user/", &asked).await
    };
    let (mut known, mut unknown) = (forgotten("kim").await, forgotten("nobody").await);
    for answer in [&mut known, &mut unknown] {
        assert!(answer.body["request_id"].take().is_string());
    }
    assert_eq!(known, unknown, "who exists is not told");
    assert_eq!(known.status, 404);

    let made = post(&root.api, "/api/user/kim/reset").await.ok();
    let token = made["token"].as_str().expect("a token");
    let redeem = async |token: &str| {
        root.api.anonymous().put("/api/user/", &json!({"token": token, "password": "new"})).await
    };
    let (id, _) = token.split_once('.').expect("an id and a secret");
    for guess in ["", "x", &format!("{id}.guess"), &format!("{}.guess", "0".repeat(24))] {
        assert_eq!(redeem(guess).await.status, 400, "{guess}");
    }
    assert_eq!(redeem(token).await.ok(), json!({}));
    assert_eq!(log_in(&root.api, "kim", "new").await.status, 200);
    let again = redeem(token).await;
    assert_eq!((again.status, &again.body["error"]), (400, &json!("reset_invalid")));
}

#[tokio::test]
async fn an_api_token_may_what_its_scopes_say_and_nothing_of_it_is_stored() {
    let site = Site::start().await;
    let (application, _) = deploy(&site.bob, "shop").await;
    let refused = site.bob.post("/api/auth/tokens", &json!({"name": "build", "scopes": ["Admin"]})).await;
    assert_eq!((refused.status, &refused.body["error"]), (403, &json!("more_than_held")));
    let wanted = json!({"name": "build", "scopes": ["get:application"], "ttl_seconds": 60});
    let made = site.bob.post("/api/auth/tokens", &wanted).await.ok();
    let text = made["token"].as_str().expect("a token");
    let build = site.bob.with_token(text);
    let path = format!("/api/application/{application}");
    assert_eq!(build.get(&path).await.status, 200);
    assert_eq!(build.delete(&path).await.status, 403);
    assert_eq!(post(&build, "/api/auth/logout").await.status, 403);
    // One that may all its user may makes no others either: they would outlive it.
    let all = site.bob.post("/api/auth/tokens", &json!({"name": "all"})).await.ok();
    let all_token = site.bob.with_token(all["token"].as_str().expect("a token"));
    let more = all_token.post("/api/auth/tokens", &json!({"name": "more"})).await;
    assert_eq!((more.status, &more.body["error"]), (403, &json!("needs_login")));
    site.bob.delete(&format!("/api/auth/tokens/{}", all["id"].as_str().expect("an id"))).await.ok();
    let listed = site.bob.get("/api/auth/tokens").await.ok();
    assert_eq!((&listed[0]["name"], &listed[0]["token"]), (&json!("build"), &Value::Null));
    let secret = text.rsplit('.').next().expect("a secret").as_bytes();
    let stored = site.root.stored();
    assert!(!stored.windows(secret.len()).any(|window| window == secret), "a hash is kept of it");

    let id = made["id"].as_str().expect("an id");
    assert_eq!(site.eve.delete(&format!("/api/auth/tokens/{id}")).await.status, 404);
    site.bob.delete(&format!("/api/auth/tokens/{id}")).await.ok();
    assert_eq!(build.get(&path).await.status, 401);
}

#[tokio::test]
async fn what_one_may_is_told() {
    let site = Site::start().await;
    let ask = async |verb: &str, resource: &str| {
        site.bob.get(&format!("/api/auth/can-i?verb={verb}&resource={resource}")).await
    };
    assert_eq!(ask("create", "application").await.ok(), json!({"allowed": true, "reason": null}));
    let no = ask("update", "worker").await.ok();
    assert_eq!(no["allowed"], json!(false));
    assert!(no["reason"].as_str().is_some_and(|why| why.contains("Infrastructure_Provider")), "{no}");
    let wrong = ask("eat", "application").await;
    assert_eq!((wrong.status, &wrong.body["problems"][0]["field"]), (422, &json!("verb")));
}

#[tokio::test]
async fn the_public_key_is_that_of_the_tokens() {
    let root = Root::start().await;
    let keys = root.api.anonymous().get("/.well-known/jwks.json").await.ok();
    assert_eq!((&keys["keys"][0]["kty"], &keys["keys"][0]["alg"]), (&json!("EC"), &json!("ES256")));
    assert!(keys["keys"][0].get("d").is_none(), "the private half stays");
}

#[tokio::test]
async fn who_guesses_passwords_has_to_wait_and_nobody_else() {
    let root = Root::start().await;
    for _ in 0..5 {
        assert_eq!(log_in(&root.api, "kim", "guess").await.status, 401);
    }
    let login = json!({"username": "kim", "password": "guess"}).to_string();
    let client = reqwest::Client::new();
    // On a slow machine the first waits may be over before the next guess; each guess doubles them.
    let refused = testkit::wait_until("guesses to be refused", async || {
        let request = client.post(format!("{}/api/auth/login", root.api.base())).body(login.clone());
        let answer = request.send().await.expect("the root answers");
        if answer.status().as_u16() == 429 { Ok(answer) } else { Err(answer.status().to_string()) }
    })
    .await;
    let after = refused.headers().get("retry-after").expect("when to try again");
    let after: u64 = after.to_str().expect("a text").parse().expect("seconds");
    assert!((1..=300).contains(&after), "{after}");
    for _ in 0..3 {
        let admin = log_in(&root.api, "Admin", "correct horse").await;
        assert_eq!(admin.status, 200, "{}", admin.body);
    }
}
