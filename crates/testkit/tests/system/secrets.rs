//! Secrets from the API to the device that runs who needs them, and nowhere else.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use daemon::{StateDirectory, TwinFile};
use data_encoding::BASE64;
use link::SealingKey;
use model::{Assignment, RegistryCredentials, Sealed, SecretTarget, SecretVersionId};
use node_core::StartOrder;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, Root, Worker, hello_sla, wait_until};

/// In every value of these tests, and nowhere else.
const MARKER: &str = "marker-7f3a";

/// Everything that any daemon of this process logs, down to the smallest detail.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics with it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Logged {
    fn begin() -> Self {
        let logged = Self::default();
        let writer = logged.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).expect("each test has a process of its own");
        logged
    }

    fn so_far(&self) -> Vec<u8> {
        self.0.lock().expect("nobody panics with it").clone()
    }
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Not as it is, nor in the forms that texts and bytes take in documents.
fn shows_the_marker(bytes: &[u8]) -> bool {
    let list = |text: &str| -> String {
        let bytes: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
        bytes.join(",")
    };
    // Wherever in a value it begins, some of it begins with a group of three bytes.
    let groups = (0..3).map(|skip| BASE64.encode(&MARKER.as_bytes()[skip..skip + 6]));
    has(bytes, MARKER) || has(bytes, &list(MARKER)) || groups.into_iter().any(|group| has(bytes, &group))
}

fn using(extra: Value) -> Value {
    let mut document = hello_sla("shop");
    let service = document["applications"][0]["microservices"][0].as_object_mut().expect("an object");
    service.extend(extra.as_object().expect("fields").clone());
    document
}

async fn put(root: &Root, path: &str, body: Value) -> Answer {
    root.api.send(Method::PUT, path, Some(body.to_string())).await
}

/// What the worker is to run, when its container is of that revision of the secret; older ones may still be there.
async fn order(worker: &Worker, version: u32) -> StartOrder {
    wait_until(&format!("a container with version {version}"), async || {
        let containers = worker.runtime.containers();
        let orders = containers.iter().map(|(_, container)| &container.order);
        let uses = |order: &&StartOrder| {
            order.spec.secrets.first().is_some_and(|secret| secret.version.number == version)
        };
        orders.rev().find(uses).cloned().ok_or_else(|| format!("{containers:?}"))
    })
    .await
}

#[tokio::test]
async fn a_value_reaches_the_device_sealed_and_is_seen_nowhere_on_its_way() {
    let logged = Logged::begin();
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let mut worker = cluster.worker(&root.api, "device").await;
    let value = format!("password {MARKER}");
    let stored = root.api.post("/api/v1/secrets", &json!({"name": "database", "text": value})).await;
    assert_eq!(stored.status, 201, "{stored:?}");
    let login = json!({"server": "r.example", "username": "robot", "password": MARKER});
    let login = json!({"name": "registry", "kind": "registry", "registry": login});
    assert_eq!(root.api.post("/api/v1/secrets", &login).await.status, 201);

    let service = root
        .api
        .create(&using(json!({
            "secrets": [{"name": "database"}, {"name": "database", "env": "PASSWORD"}],
            "image_pull_secret": "registry",
        })))
        .await;
    let number = root.api.deploy(&service).await;
    root.api.wait_for(&service, number, "RUNNING").await;
    let first = order(&worker, 1).await;
    let file = SecretTarget::File { path: "/run/secrets/database".to_owned(), mode: 0o400 };
    let targets: Vec<_> = first.spec.secrets.iter().map(|secret| secret.target.clone()).collect();
    assert_eq!(targets, [file, SecretTarget::Variable("PASSWORD".to_owned())]);

    // A new version rolls the service.
    let newer = BASE64.encode(format!("newer {MARKER}").as_bytes());
    let rotated = put(&root, "/api/v1/secrets/database", json!({"data": newer})).await.ok();
    assert_eq!((&rotated["version"], &rotated["users"]), (&json!(2), &json!(["shop.test.hello.test"])));
    let second = order(&worker, 2).await;
    assert_ne!(first.instance, second.instance);

    let mut shown = Vec::new();
    for path in ["/api/v1/secrets", "/api/services/", &format!("/api/service/{service}/revisions")] {
        shown.extend(root.api.get(path).await.ok().to_string().into_bytes());
    }
    let places = [
        ("answers", shown),
        ("root", root.stored()),
        ("cluster", cluster.stored()),
        ("worker", worker.stored()),
        ("log", logged.so_far()),
    ];
    for (place, bytes) in places {
        assert!(bytes.len() > 100, "{place} has something in it");
        assert!(!shows_the_marker(&bytes), "the value is seen in: {place}");
    }
    assert!(shows_the_marker(format!("-{value}").as_bytes()), "it would have been found");
    assert!(shows_the_marker(BASE64.encode(value.as_bytes()).as_bytes()), "in this form too");

    // The device alone can open it, by what it has on its disk.
    worker.kill();
    let state = wait_until("the state directory to be free", async || {
        StateDirectory::open(&worker.state()).map_err(|error| error.to_string())
    })
    .await;
    let key = SealingKey::load_or_generate(&state).expect("its own");
    let kept = TwinFile::new(Arc::new(state), "assignment.json").read().expect("readable").expect("there");
    let kept: Assignment = serde_json::from_slice(&kept).expect("an assignment");
    let opened = |sealed: &BTreeMap<SecretVersionId, Sealed>, version| {
        key.open(version, &sealed[&version]).expect("sealed for this device").reveal().to_vec()
    };
    assert_eq!(opened(&first.secrets, first.spec.secrets[0].version), value.as_bytes());
    let newer = second.spec.secrets[0].version;
    assert_eq!(opened(&kept.secrets, newer), format!("newer {MARKER}").as_bytes());
    let pull = second.spec.image_pull_secret.as_ref().expect("named").version;
    let login: RegistryCredentials = serde_json::from_slice(&opened(&kept.secrets, pull)).expect("a login");
    assert_eq!((&*login.server, &*login.username, &*login.password), ("r.example", "robot", MARKER));
}

#[tokio::test]
async fn what_is_no_secret_is_refused_by_its_field_and_never_shown() {
    let root = Root::start().await;
    let large = "x".repeat((64 << 10) + 1);
    let login = |server: &str| json!({"server": server, "username": "robot", "password": MARKER});
    let cases = [
        (json!({"name": "a b", "text": MARKER}), "name"),
        (json!({"name": "a"}), "data"),
        (json!({"name": "a", "text": ""}), "text"),
        (json!({"name": "a", "text": large}), "text"),
        (json!({"name": "a", "data": format!("{MARKER}!")}), "data"),
        (json!({"name": "a", "text": MARKER, "data": "AA=="}), "data"),
        (json!({"name": "a", "kind": "registry", "text": MARKER}), "registry"),
        (json!({"name": "a", "kind": "registry", "registry": login("https://r.example")}), "registry.server"),
        (json!({"name": "a", "registry": MARKER}), "registry"),
        (json!({"name": "a", "value": MARKER}), "data"),
    ];
    for (body, field) in cases {
        let answer = root.api.post("/api/v1/secrets", &body).await;
        let message = answer.body["message"].as_str().expect("a text");
        assert!(answer.status == 422 && message.contains(field), "{field}: {answer:?}");
        assert!(!message.contains(MARKER), "{message}");
    }
    let broken = root.api.send(Method::POST, "/api/v1/secrets", Some("{".to_owned())).await;
    assert_eq!((broken.status, &broken.body["error"]), (400, &json!("invalid_json")));
    assert_eq!(root.api.get("/api/v1/secrets").await.ok(), json!([]));
}

#[tokio::test]
async fn a_service_is_refused_what_its_organisation_does_not_have_and_a_used_secret_stays() {
    let root = Root::start().await;
    let refused = |answer: Answer, status: u16, code: &str, named: &str| {
        assert_eq!((answer.status, &answer.body["error"]), (status, &json!(code)), "{answer:?}");
        assert!(answer.body["message"].as_str().expect("a text").contains(named), "{answer:?}");
    };
    let wanted = using(json!({"secrets": [{"name": "database"}]}));
    refused(root.api.post("/api/application/", &wanted).await, 422, "no_secret", "`database`");
    let service = root.api.create(&hello_sla("shop")).await;
    let path = format!("/api/service/{service}");
    refused(put(&root, &path, wanted.clone()).await, 422, "no_secret", "`database`");
    let application = root.api.get(&path).await.ok()["applicationID"].clone();
    let mut added = wanted.clone();
    added["applications"][0]["applicationID"] = application;
    added["applications"][0]["microservices"][0]["microservice_name"] = json!("other");
    refused(root.api.post("/api/service", &added).await, 422, "no_secret", "`database`");

    let secret = json!({"name": "database", "text": "x"});
    assert_eq!(root.api.post("/api/v1/secrets", &secret).await.status, 201);
    refused(root.api.post("/api/v1/secrets", &secret).await, 409, "secret_exists", "database");
    let pull = using(json!({"image_pull_secret": "database"}));
    refused(put(&root, &path, pull).await, 422, "wrong_secret_kind", "kind opaque");
    assert_eq!(put(&root, &path, wanted).await.ok()["revision"], 2);
    let listed = root.api.get("/api/v1/secrets").await.ok();
    assert_eq!(listed[0]["users"], json!(["shop.test.hello.test"]));
    assert_eq!((&listed[0]["version"], &listed[0]["kind"]), (&json!(1), &json!("opaque")));

    let one = "/api/v1/secrets/database";
    refused(root.api.delete(one).await, 409, "secret_in_use", "shop.test.hello.test");
    let login = json!({"kind": "registry", "registry": {"server": "r", "username": "u", "password": "p"}});
    refused(put(&root, one, login).await, 422, "wrong_secret_kind", "kind opaque");
    refused(put(&root, "/api/v1/secrets/other", json!({"text": "x"})).await, 404, "no_secret", "`other`");
    root.api.delete(&path).await.ok();
    root.api.delete(one).await.ok();
    refused(root.api.delete(one).await, 404, "no_secret", "`database`");
}
