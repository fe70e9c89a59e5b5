//! Hooks from the API to who listens, over real connections: what is told, and what is not lost; and whom nobody can make the
//! root call.

use std::sync::Arc;

use model::Span;
use reqwest::Method;
use ring::hmac;
use root_orchestrator::HooksConfig;
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::{Value, json};
use testkit::{Api, Root, wait_until};
use tokio_rustls::TlsAcceptor;

use super::receiver::{Receiver, Reply};

const SECRET: &str = "marker-7f3a of a hook";

/// Receivers of these tests are at this address.
fn allowing(range: &str) -> HooksConfig {
    HooksConfig { hook_allow: vec![range.parse().expect("a range")], ..HooksConfig::default() }
}

async fn hook(api: &Api, url: &str) -> String {
    let wanted = json!({
        "hook_name": "listener", "webhook_url": url, "entity": "applications", "secret": SECRET,
        "events": ["post_create", "post_delete"],
    });
    let made = api.post("/api/v1/hooks/", &wanted).await;
    assert_eq!(made.status, 201, "{}", made.body);
    made.body["_id"].as_str().expect("an id").to_owned()
}

/// Makes an application; its id.
async fn application(api: &Api, name: &str) -> String {
    let sla = json!({
        "sla_version": "v2.0", "customerID": "",
        "applications": [{
            "applicationID": "", "application_name": name, "application_namespace": "test",
            "application_desc": "", "microservices": [],
        }],
    });
    let all = api.post("/api/application/", &sla).await.ok();
    let mut all = all.as_array().expect("a list").iter();
    let made = all.find(|one| one["application_name"] == name).expect("listed");
    made["applicationID"].as_str().expect("an id").to_owned()
}

/// Waits until what is shown of a hook is so.
async fn shown(api: &Api, id: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    wait_until(what, async || {
        let hook = api.get(&format!("/api/v1/hooks/{id}")).await.ok();
        if is_so(&hook) { Ok(hook) } else { Err(hook.to_string()) }
    })
    .await
}

async fn error_of(api: &Api, id: &str) -> String {
    let hook = shown(api, id, "a delivery to fail", |hook| !hook["last_error"].is_null()).await;
    assert_eq!(hook["pending"], 1, "{hook}");
    hook["last_error"]["reason"].as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn what_happens_is_told_and_signed_and_the_secret_is_nowhere() {
    let receiver = Receiver::start().await;
    let root = Root::start_with_hooks(allowing("127.0.0.1/32")).await;
    let id = hook(&root.api, &receiver.url()).await;
    let shop = application(&root.api, "shop").await;
    root.api.delete(&format!("/api/application/{shop}")).await.ok();
    let told = receiver.wait_for(2).await;
    for (index, (told, event)) in told.iter().zip(["post_create", "post_delete"]).enumerate() {
        let expected = (&json!("applications"), &json!(shop), &json!(event), &json!("listener"));
        let body = &told.body;
        assert_eq!((&body["entity"], &body["entity_id"], &body["event"], &body["hook_name"]), expected);
        assert_eq!(body["delivery_id"], format!("{id}-{}", index + 1));
        assert_eq!(body["delivery_id"], told.headers["mangrove-delivery"]);
        let signed = format!("{}.{}", told.headers["mangrove-timestamp"], told.text);
        let signature = told.headers["mangrove-signature"].strip_prefix("v1=").expect("its version");
        let signature = data_encoding::HEXLOWER.decode(signature.as_bytes()).expect("hexadecimal digits");
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        hmac::verify(&key, signed.as_bytes(), &signature).expect("it is signed with the secret");
    }
    let hook = shown(&root.api, &id, "it to be taken", |hook| hook["pending"] == 0).await;
    assert_eq!((&hook["signed"], &hook["last_error"]), (&json!(true), &Value::Null));
    assert!(hook["last_delivery"].is_string(), "{hook}");
    let listed = root.api.get("/api/v1/hooks").await.ok();
    assert_eq!(listed, json!([hook]));
    assert!(!listed.to_string().contains("marker-7f3a"));
    assert!(!root.stored().windows(11).any(|window| window == b"marker-7f3a"), "it is kept sealed");
}

#[tokio::test]
async fn what_was_not_taken_outlives_a_kill_of_the_root() {
    let receiver = Receiver::start().await;
    let address = receiver.address;
    let mut root = Root::start_with_hooks(allowing("127.0.0.1/32")).await;
    let id = hook(&root.api, &receiver.url()).await;
    drop(receiver);
    let shop = application(&root.api, "shop").await;
    root.kill();
    root.start_again().await;
    let why = error_of(&root.api, &id).await;
    assert!(why.starts_with(&format!("{address} cannot be reached: ")), "{why}");
    root.kill();
    let receiver = Receiver::start_at(address, None).await;
    root.start_again().await;
    let told = receiver.wait_for(1).await;
    assert_eq!(
        (&told[0].body["entity_id"], &told[0].body["delivery_id"]),
        (&json!(shop), &json!(format!("{id}-1")))
    );
    // It comes back while the root runs, and what came meanwhile follows.
    shown(&root.api, &id, "it to be taken", |hook| hook["pending"] == 0).await;
    drop(receiver);
    application(&root.api, "bank").await;
    shown(&root.api, &id, "it to fail again", |hook| hook["failures"] != 0).await;
    let receiver = Receiver::start_at(address, None).await;
    let told = receiver.wait_for(1).await;
    assert_eq!(told[0].body["delivery_id"], format!("{id}-2"));
    let hook = shown(&root.api, &id, "it to be taken", |hook| hook["pending"] == 0).await;
    assert_eq!((&hook["failures"], &hook["given_up"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn a_receiver_that_is_slow_or_refuses_is_asked_again() {
    let receiver = Receiver::start().await;
    receiver.reply(Reply::Never);
    let hooks = HooksConfig { hook_timeout: Span::from_millis(300), ..allowing("127.0.0.1/32") };
    let root = Root::start_with_hooks(hooks).await;
    let id = hook(&root.api, &receiver.url()).await;
    application(&root.api, "shop").await;
    assert_eq!(error_of(&root.api, &id).await, "the receiver did not answer within 300 ms");
    receiver.reply(Reply::With(503, String::new()));
    let refuses = |hook: &Value| hook["last_error"]["reason"].as_str().is_some_and(|why| why.contains("503"));
    shown(&root.api, &id, "it to be refused", refuses).await;
    receiver.reply(Reply::With(204, String::new()));
    shown(&root.api, &id, "it to be taken", |hook| hook["pending"] == 0).await;
    let told = receiver.told();
    assert!(told.len() >= 3, "{}", told.len());
    let ids: Vec<&Value> = told.iter().map(|told| &told.body["delivery_id"]).collect();
    assert!(ids.iter().all(|told| **told == format!("{id}-1")), "it is one delivery: {ids:?}");
}

#[tokio::test]
async fn nobody_makes_the_root_call_itself() {
    let inner = Receiver::start().await;
    let root = Root::start().await;
    let wanted = |url: String| json!({"hook_name": "inner", "webhook_url": url, "entity": "applications", "events": ["post_create"]});
    let port = inner.address.port();
    for host in ["127.0.0.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1"] {
        let refused = root.api.post("/api/v1/hooks", &wanted(format!("http://{host}:{port}/"))).await;
        assert_eq!(
            (refused.status, &refused.body["problems"][0]["field"]),
            (422, &json!("webhook_url")),
            "{host}"
        );
    }
    // A name is looked up when it is called.
    let id = hook(&root.api, &format!("http://localhost:{port}/")).await;
    application(&root.api, "shop").await;
    let why = error_of(&root.api, &id).await;
    assert!(why.starts_with("refused: ") && why.contains("--hook-allow"), "{why}");
    assert_eq!(inner.told().len(), 0);
}

#[tokio::test]
async fn nobody_leads_the_root_on_by_a_redirect() {
    let (outer, inner) = (Receiver::start().await, Receiver::start().await);
    outer.reply(Reply::With(307, format!("location: {}\r\n", inner.url())));
    let root = Root::start_with_hooks(allowing("127.0.0.1/32")).await;
    let id = hook(&root.api, &outer.url()).await;
    application(&root.api, "shop").await;
    let why = error_of(&root.api, &id).await;
    assert!(why.contains("307") && why.contains("redirects are not followed"), "{why}");
    assert_eq!(inner.told().len(), 0);
}

/// An authority, as PEM, and a server for `localhost` that it vouches for.
fn tls() -> (String, TlsAcceptor) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&key).expect("signed");
    let issuer = rcgen::Issuer::new(authority, key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let server = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let server = server.signed_by(&key, &issuer).expect("signed");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![server.der().clone()], key)
        .expect("usable");
    (certificate.pem(), TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn receivers_at_https_are_told_if_an_authority_vouches_for_them() {
    let (authority, vouched_for) = tls();
    let (_, foreign) = tls();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("authorities.pem");
    std::fs::write(&path, authority).expect("writable");
    let hooks = HooksConfig { hook_ca_file: Some(path), ..allowing("127.0.0.1/32") };
    let root = Root::start_with_hooks(hooks).await;
    let anywhere = "127.0.0.1:0".parse().expect("an address");
    let stranger = Receiver::start_at(anywhere, Some(foreign)).await;
    let id = hook(&root.api, &format!("https://localhost:{}/", stranger.address.port())).await;
    application(&root.api, "shop").await;
    let why = error_of(&root.api, &id).await;
    assert!(why.starts_with("no encrypted connection to 127.0.0.1:"), "{why}");
    assert_eq!(stranger.told().len(), 0);

    // What waits goes where the hook says now, at once.
    let receiver = Receiver::start_at(anywhere, Some(vouched_for)).await;
    let url = format!("https://localhost:{}/", receiver.address.port());
    let change = json!({"webhook_url": url, "secret": ""}).to_string();
    let changed = root.api.send(Method::PATCH, &format!("/api/v1/hooks/{id}"), Some(change)).await.ok();
    assert_eq!((&changed["webhook_url"], &changed["signed"]), (&json!(url), &json!(false)));
    let told = receiver.wait_for(1).await;
    assert_eq!(told[0].headers.get("mangrove-signature"), None);
    assert_eq!(told[0].headers["host"], format!("localhost:{}", receiver.address.port()));
    let gone = root.api.delete(&format!("/api/v1/hooks/{id}/")).await;
    assert_eq!((gone.status, gone.body), (204, json!("")));
    assert_eq!(root.api.get(&format!("/api/v1/hooks/{id}")).await.status, 404);
}
