//! Tasks and ignitors against those outside, over real connections: actions that are called until they are taken, and calls
//! that make ignitors fire. Attempts find no cluster here, so each fails when its time is over.

use data_encoding::HEXLOWER;
use model::Span;
use ring::hmac;
use root_orchestrator::HooksConfig;
use serde_json::{Value, json};
use testkit::{Answer, Root, wait_until};

use super::receiver::{Receiver, Told};

const WORKFLOWS: &str = "/apis/sirocco.cloud/v1alpha1/namespaces/root";
const SECRET: &str = "marker-91c0 of a bell";
const MARKER: &[u8] = b"marker-91c0";

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "sirocco.cloud/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// A task that the ignitor `bell` starts, and that fails after a second.
fn failing(name: &str, actions: &Value) -> Value {
    let spec = json!({
        "startOnIgnition": ["bell"], "timeout": "1s", "failureActions": actions,
        "template": {"spec": {"containers": [{"name": "c", "image": "busybox"}]}},
    });
    object("Task", name, &spec)
}

async fn keep(root: &Root, plural: &str, object: &Value) {
    let made = root.api.post(&format!("{WORKFLOWS}/{plural}"), object).await;
    assert_eq!(made.status, 201, "{}", made.body);
}

/// A root that may call what is on this device, with a secret and an ignitor that takes calls.
async fn root_with_bell() -> Root {
    let hooks = HooksConfig {
        hook_allow: vec!["127.0.0.1/32".parse().expect("a range")],
        hook_timeout: Span::from_secs(2),
        ..HooksConfig::default()
    };
    let root = Root::start_with_hooks(hooks).await;
    let made = root.api.post("/api/v1/secrets", &json!({"name": "alarm", "text": SECRET})).await;
    assert_eq!(made.status, 201, "{}", made.body);
    keep(
        &root,
        "ignitors",
        &object("Ignitor", "bell", &json!({"webhook": {"secret": "alarm"}, "data": "own"})),
    )
    .await;
    root
}

fn signature(secret: &str, delivery: &str, timestamp: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signed = hmac::sign(&key, format!("{delivery}.{timestamp}.{body}").as_bytes());
    format!("v2={}", HEXLOWER.encode(signed.as_ref()))
}

fn seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("it is after 1970").as_secs()
}

/// A call from outside.
struct Ring<'a> {
    ignitor: &'a str,
    secret: &'a str,
    delivery: &'a str,
    at: u64,
    body: &'a str,
}

const RING: Ring<'static> = Ring { ignitor: "bell", secret: SECRET, delivery: "1", at: 0, body: "" };

impl Ring<'_> {
    async fn send(&self, root: &Root) -> Answer {
        let timestamp = self.at.to_string();
        let signature = signature(self.secret, self.delivery, &timestamp, self.body);
        self.send_signed(root, &timestamp, &signature).await
    }

    async fn send_signed(&self, root: &Root, timestamp: &str, signature: &str) -> Answer {
        let url = format!("{}/api/v1/ignitors/root/{}/calls", root.api.base(), self.ignitor);
        let request = root.api.client().post(url).body(self.body.to_owned());
        let request = request.header("mangrove-delivery", self.delivery);
        let request = request.header("mangrove-timestamp", timestamp).header("mangrove-signature", signature);
        let response = request.send().await.expect("the root answers");
        let status = response.status().as_u16();
        let body = response.json().await.expect("JSON");
        Answer { status, body }
    }
}

async fn run(root: &Root, number: u64) -> Value {
    root.api.get(&format!("{WORKFLOWS}/runs/{number}")).await.ok()
}

/// Waits until what is shown of the actions of the first task of a run is so.
async fn actions(root: &Root, number: u64, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    wait_until(what, async || {
        let shown = run(root, number).await;
        let actions = shown["status"]["tasks"][0]["actions"].clone();
        if is_so(&actions) { Ok(actions) } else { Err(shown.to_string()) }
    })
    .await
}

fn assert_signed(told: &Told) {
    let header = |name: &str| told.headers[name].as_str();
    let expected = signature(SECRET, header("mangrove-delivery"), header("mangrove-timestamp"), &told.text);
    assert_eq!(header("mangrove-signature"), expected);
}

#[tokio::test]
async fn a_call_from_outside_leads_to_a_run_whose_end_is_told_once_though_the_root_is_killed() {
    let receiver = Receiver::start().await;
    let address = receiver.address;
    let mut root = root_with_bell().await;
    let webhook = json!([{"webhook": {"url": receiver.url(), "secret": "alarm"}}]);
    keep(&root, "tasks", &failing("one", &webhook)).await;
    drop(receiver);
    let rung = Ring { body: "spark", at: seconds(), ..RING }.send(&root).await;
    assert_eq!((rung.status, &rung.body), (202, &json!({"outcome": "began", "run": "1"})));
    let shown = run(&root, 1).await;
    assert_eq!(
        (&shown["spec"]["data"], &shown["status"]["cause"]),
        (&json!("spark"), &json!({"webhook": "1"}))
    );

    let failed = actions(&root, 1, "the call to fail", |actions| !actions["error"].is_null()).await;
    assert_eq!((&failed["waiting"], &failed["delivery"]), (&json!(1), &json!("1-one-1-1-0")));
    let error = failed["error"].as_str().expect("a text");
    assert!(error.starts_with(&format!("{address} cannot be reached: ")), "{error}");
    root.kill();
    let receiver = Receiver::start_at(address, None).await;
    root.start_again().await;
    actions(&root, 1, "the call to be taken", |actions| actions["taken"] == 1).await;
    let told = receiver.told();
    assert_eq!(told.len(), 1, "{told:?}");
    let body = &told[0].body;
    assert_eq!(
        (&body["delivery"], told[0].headers["mangrove-delivery"].as_str()),
        (&json!("1-one-1-1-0"), "1-one-1-1-0")
    );
    assert_eq!(
        (&body["namespace"], &body["ignitor"], &body["task"]),
        (&json!("root"), &json!("bell"), &json!("one"))
    );
    assert_eq!((&body["result"], &body["reason"]), (&json!("failure"), &json!("TimedOut")));
    assert_signed(&told[0]);
    assert!(!root.stored().windows(MARKER.len()).any(|window| window == MARKER), "it is kept sealed");

    root.kill();
    root.start_again().await;
    let again = Ring { body: "spark", at: seconds(), ..RING }.send(&root).await;
    assert_eq!((again.status, &again.body["outcome"]), (200, &json!("known")), "also after a restart");
    assert_eq!(receiver.told().len(), 1, "what was taken is not told again");
}

#[tokio::test]
async fn a_plugin_is_asked_and_what_leads_to_the_root_itself_is_refused() {
    let receiver = Receiver::start().await;
    let root = root_with_bell().await;
    let spec = json!({"url": receiver.url(), "secret": "alarm"});
    keep(&root, "plugins", &object("Plugin", "tell", &spec)).await;
    let actions = json!([{"plugin": {"name": "tell", "with": {"loud": true}}}, {"writeEvent": {"reason": "Late", "message": "so late"}}]);
    keep(&root, "tasks", &failing("one", &actions)).await;
    let rung = Ring { at: seconds(), ..RING }.send(&root).await;
    assert_eq!(rung.status, 202, "{}", rung.body);
    let told = receiver.wait_for(1).await;
    assert_eq!((&told[0].body["plugin"], &told[0].body["with"]), (&json!("tell"), &json!({"loud": true})));
    assert_signed(&told[0]);
    assert_eq!(run(&root, 1).await["spec"]["data"], "own", "an empty body leaves it as it is");
    let path = "/api/v1/namespaces/root/events?fieldSelector=involvedObject.kind=Task";
    let events = root.api.get(path).await.ok();
    let event = &events["items"][0];
    assert_eq!((&event["reason"], &event["message"]), (&json!("Late"), &json!("so late")), "{events}");
    assert_eq!(event["involvedObject"]["apiVersion"], "sirocco.cloud/v1alpha1");

    let refused = async |plural: &str, object: Value| {
        let answer = root.api.post(&format!("{WORKFLOWS}/{plural}"), &object).await;
        assert_eq!(answer.status, 422, "{}", answer.body);
        answer.body["details"]["causes"][0]["field"].as_str().unwrap_or_default().to_owned()
    };
    for url in ["http://[::1]:1/", "http://10.0.0.1/", "https://user:word@example.com/"] {
        let webhook = json!(["tell", {"webhook": {"url": url}}]);
        assert_eq!(refused("tasks", failing("two", &webhook)).await, "spec.failureActions[1].webhook.url");
        assert_eq!(refused("plugins", object("Plugin", "other", &json!({"url": url}))).await, "spec.url");
    }
    assert_eq!(refused("plugins", object("Plugin", "other", &json!({}))).await, "spec.url");
    let on = json!({"on": [{"event": "instance.sad"}]});
    assert_eq!(refused("ignitors", object("Ignitor", "i", &on)).await, "spec.on[0].event");
}

#[tokio::test]
async fn who_does_not_know_the_secret_is_told_nothing_and_slowed_down() {
    let root = root_with_bell().await;
    let now = seconds();
    let good = Ring { at: now, ..RING };
    let timestamp = now.to_string();
    let right = signature(SECRET, "1", &timestamp, "");
    let mut answers = vec![
        Ring { ignitor: "nobody", at: now, ..RING }.send(&root).await,
        Ring { secret: "another that is long", at: now, ..RING }.send(&root).await,
        // Overheard, and made again with something else.
        Ring { delivery: "2", ..good }.send_signed(&root, &timestamp, &right).await,
        Ring { body: "x", ..good }.send_signed(&root, &timestamp, &right).await,
        good.send_signed(&root, &(now + 1).to_string(), &right).await,
    ];
    let answer = answers.remove(0);
    assert_eq!((answer.status, &answer.body["error"]), (401, &json!("not_signed")));
    for other in answers {
        assert_eq!((other.status, &other.body["message"]), (401, &answer.body["message"]));
    }
    let stale = Ring { at: now - 301, ..RING }.send(&root).await;
    assert_eq!((stale.status, &stale.body["error"]), (401, &json!("stale_signature")), "{}", stale.body);
    assert_eq!(good.send(&root).await.status, 202);

    let long = "x".repeat(4097);
    assert_eq!(Ring { body: &long, ..good }.send(&root).await.status, 413);
    let wrong = Ring { delivery: &"d".repeat(129), ..good }.send(&root).await;
    assert_eq!((wrong.status, &wrong.body["error"]), (422, &json!("invalid_value")), "{}", wrong.body);
    let suspended = json!({"webhook": {"secret": "alarm"}, "suspend": true});
    keep(&root, "ignitors", &object("Ignitor", "mute", &suspended)).await;
    let mute = Ring { ignitor: "mute", ..good }.send(&root).await;
    assert_eq!((mute.status, &mute.body["error"]), (409, &json!("ignitor_suspended")));

    wait_until("guesses to be slowed down", async || {
        let guess = Ring { secret: "another that is long", ..good }.send(&root).await;
        if guess.status == 429 { Ok(()) } else { Err(guess.body.to_string()) }
    })
    .await;
    assert_eq!(Ring { ignitor: "mute", ..good }.send(&root).await.status, 409, "others are not");
}
