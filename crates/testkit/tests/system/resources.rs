//! The resource API against a real root: objects and their revisions, lists in parts, watches that resume, and what is kept of
//! it in the records. `scripts/test kubectl` drives it by the real `kubectl`.

use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use testkit::{Api, Root, hello_sla};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/root/widgets";
/// A watch that tells nothing for so long has nothing to tell.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "spec": {"type": "object", "properties": {
                            "size": {"type": "integer", "minimum": 1}, "note": {"type": "string"},
                        }},
                    },
                }},
            }],
        },
    })
}

pub(super) fn widget(name: &str, size: u64) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": size}})
}

/// A root that knows widgets, and has these.
async fn root_with(names: &[&str]) -> Root {
    let root = Root::start().await;
    let made = root.api.post(DEFINITIONS, &definition()).await;
    assert_eq!(made.status, 201, "{}", made.body);
    for name in names {
        create(&root.api, name).await;
    }
    root
}

async fn create(api: &Api, name: &str) -> Value {
    let made = api.post(WIDGETS, &widget(name, 1)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    made.body
}

async fn get(api: &Api, name: &str) -> Value {
    api.get(&format!("{WIDGETS}/{name}")).await.ok()
}

/// Gives a widget another size; what it is then.
async fn resize(api: &Api, name: &str, size: u64) -> Value {
    let mut widget = get(api, name).await;
    widget["spec"]["size"] = json!(size);
    api.put(&format!("{WIDGETS}/{name}"), &widget).await.ok()
}

fn revision(of: &Value) -> &str {
    of["metadata"]["resourceVersion"].as_str().expect("a revision")
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("a list").iter();
    items.map(|item| item["metadata"]["name"].as_str().expect("a name")).collect()
}

/// The first lines of a watch of widgets.
async fn watch(api: &Api, query: &str, lines: usize) -> Vec<Value> {
    watch_until(api, &format!("{WIDGETS}?watch=true&{query}"), |told| told.len() == lines).await
}

/// The lines of a watch up to the first with which it is so.
pub(super) async fn watch_until(api: &Api, path: &str, is_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let url = format!("{}{path}", api.base());
    let request = Client::new().get(url).bearer_auth(api.bearer());
    let reading = async {
        let mut response = request.send().await.expect("the root answers");
        assert_eq!(response.status(), 200);
        let (mut text, mut lines) = (String::new(), Vec::new());
        loop {
            while let Some((line, rest)) = text.split_once('\n') {
                lines.push(serde_json::from_str(line).expect("JSON"));
                if is_so(&lines) {
                    return lines;
                }
                text = rest.to_owned();
            }
            let piece = response.chunk().await.expect("it goes on").expect("it does not end");
            text.push_str(std::str::from_utf8(&piece).expect("text"));
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the lines come in time")
}

/// What lines tell: of what kind, of which widget, of what size.
fn told<'a>(lines: &'a [Value]) -> Vec<(&'a str, &'a str, u64)> {
    let line = |line: &'a Value| {
        let (of, object) = (line["type"].as_str(), &line["object"]);
        let name = object["metadata"]["name"].as_str();
        (of.unwrap_or_default(), name.unwrap_or_default(), object["spec"]["size"].as_u64().unwrap_or(0))
    };
    lines.iter().map(line).collect()
}

#[tokio::test]
async fn objects_keep_their_revisions_over_a_restart_and_watches_resume() {
    let mut root = root_with(&["one", "two"]).await;
    let before = root.api.get(WIDGETS).await.ok();
    root.kill();
    root.start_again().await;
    let after = root.api.get(WIDGETS).await.ok();
    assert_eq!(after["items"], before["items"]);
    resize(&root.api, "one", 5).await;
    root.api.delete(&format!("{WIDGETS}/two")).await.ok();
    create(&root.api, "three").await;
    let lines = watch(&root.api, &format!("resourceVersion={}", revision(&before)), 3).await;
    assert_eq!(told(&lines), [("MODIFIED", "one", 5), ("DELETED", "two", 1), ("ADDED", "three", 1)]);
    let revisions: Vec<u64> =
        lines.iter().map(|line| revision(&line["object"]).parse().expect("a number")).collect();
    assert!(revisions.is_sorted(), "{revisions:?}");
    let again = watch(&root.api, &format!("resourceVersion={}", revisions[0]), 2).await;
    assert_eq!(again, lines[1..], "from any of them it goes on");
}

#[tokio::test]
async fn a_watch_without_a_revision_begins_with_what_there_is() {
    let root = root_with(&["one", "two"]).await;
    let lines = watch(&root.api, "sendInitialEvents=true&allowWatchBookmarks=true", 3).await;
    assert_eq!(told(&lines[..2]), [("ADDED", "one", 1), ("ADDED", "two", 1)]);
    assert_eq!(lines[2]["type"], "BOOKMARK");
    assert_eq!(lines[2]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let selected = watch(&root.api, "fieldSelector=metadata.name%3Dtwo", 1).await;
    assert_eq!(told(&selected), [("ADDED", "two", 1)]);
}

#[tokio::test]
async fn who_is_ahead_of_the_root_has_to_list_anew() {
    let root = root_with(&[]).await;
    let ahead = root.api.get(&format!("{WIDGETS}?watch=true&resourceVersion=1000000")).await;
    assert_eq!((ahead.status, &ahead.body["reason"]), (410, &json!("Expired")));
    let ahead = root.api.get(&format!("{WIDGETS}?resourceVersion=1000000")).await;
    assert_eq!((ahead.status, &ahead.body["kind"]), (504, &json!("Status")));
    let wrong = root.api.get(&format!("{WIDGETS}?continue=x")).await;
    assert_eq!(wrong.status, 400, "{}", wrong.body);
}

#[tokio::test]
async fn pages_of_one_list_belong_together() {
    let root = root_with(&["a", "b", "c"]).await;
    let first = root.api.get(&format!("{WIDGETS}?limit=1")).await.ok();
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["a"], &json!(2)));
    root.api.delete(&format!("{WIDGETS}/b")).await.ok();
    resize(&root.api, "c", 9).await;
    create(&root.api, "d").await;
    let token = first["metadata"]["continue"].as_str().expect("there is more");
    let rest = root.api.get(&format!("{WIDGETS}?limit=5&continue={token}")).await.ok();
    assert_eq!(names(&rest), ["b", "c"], "as of when it began");
    assert_eq!(rest["items"][1]["spec"]["size"], 1);
    assert_eq!((revision(&rest), &rest["metadata"]["continue"]), (revision(&first), &Value::Null));
    let anew = root.api.get(WIDGETS).await.ok();
    assert_eq!(names(&anew), ["a", "c", "d"]);
    let exact = format!("{WIDGETS}?resourceVersionMatch=Exact&resourceVersion={}", revision(&first));
    assert_eq!(names(&root.api.get(&exact).await.ok()), ["a", "b", "c"]);
}

#[tokio::test]
async fn of_two_who_change_the_same_the_second_is_told() {
    let root = root_with(&["one"]).await;
    let mut stale = get(&root.api, "one").await;
    resize(&root.api, "one", 2).await;
    stale["spec"]["size"] = json!(3);
    let refused = root.api.put(&format!("{WIDGETS}/one"), &stale).await;
    assert_eq!((refused.status, &refused.body["reason"]), (409, &json!("Conflict")));
    let again = root.api.post(WIDGETS, &widget("one", 1)).await;
    assert_eq!((again.status, &again.body["reason"]), (409, &json!("AlreadyExists")));
    let wrong = root.api.post(WIDGETS, &widget("bad", 0)).await;
    let cause =
        json!([{"reason": "FieldValueInvalid", "message": "it must be at least 1", "field": "spec.size"}]);
    assert_eq!((wrong.status, &wrong.body["details"]["causes"]), (422, &cause));
    let condition = format!("{WIDGETS}/one?propagationPolicy=Background");
    assert_eq!(root.api.delete(&condition).await.ok()["status"], "Success");
    assert_eq!(root.api.get(&format!("{WIDGETS}/one")).await.status, 404);
}

#[tokio::test]
async fn what_is_only_tried_is_not_kept() {
    let root = root_with(&["one"]).await;
    let before = get(&root.api, "one").await;
    let made = root.api.post(&format!("{WIDGETS}?dryRun=All"), &widget("two", 1)).await;
    assert_eq!((made.status, &made.body["metadata"]["name"]), (201, &json!("two")));
    let exists = root.api.post(&format!("{WIDGETS}?dryRun=All"), &widget("one", 1)).await;
    assert_eq!(exists.status, 409, "{}", exists.body);
    let mut changed = before.clone();
    changed["spec"]["size"] = json!(7);
    let tried = root.api.put(&format!("{WIDGETS}/one?dryRun=All"), &changed).await.ok();
    assert_eq!(tried["spec"]["size"], 7);
    root.api.delete(&format!("{WIDGETS}/one?dryRun=All")).await.ok();
    let all = root.api.get(WIDGETS).await.ok();
    assert_eq!(all["items"], json!([before]));
}

#[tokio::test]
async fn records_tell_who_changed_which_object_and_not_what_is_in_it() {
    let root = root_with(&[]).await;
    let mut noted = widget("one", 1);
    noted["spec"]["note"] = json!("marker-5be1");
    assert_eq!(root.api.post(WIDGETS, &noted).await.status, 201);
    assert_eq!(root.api.post(WIDGETS, &noted).await.status, 409);
    let records = root.api.get("/api/v1/audit").await.ok();
    let text = records.to_string();
    assert!(text.contains("widgets.example.com/") && text.contains("\"AlreadyExists\""), "{text}");
    assert!(!text.contains("marker-5be1"), "what users keep is not shown");
}

#[tokio::test]
async fn applications_services_and_instances_are_objects_too() {
    const ALL: &str = "/apis/mangrove.io/v1/namespaces/root";
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let _worker = cluster.worker(&root.api, "device").await;
    let service = root.api.create(&hello_sla("shop")).await;
    let shown = root.api.get(&format!("/api/service/{service}")).await.ok();
    let name = shown["job_name"].as_str().expect("a name").to_owned();
    let before = root.api.get(&format!("{ALL}/services")).await.ok();
    assert_eq!(
        (names(&before), &before["items"][0]["status"]["instances"]),
        (vec![name.as_str()], &json!(0))
    );
    let number = root.api.deploy(&service).await;
    let since = format!("watch=true&resourceVersion={}", revision(&before));
    let services = format!("{ALL}/services?{since}");
    let is_ready = |lines: &[Value]| lines.last().is_some_and(|line| line["object"]["status"]["ready"] == 1);
    let lines = watch_until(&root.api, &services, is_ready).await;
    assert!(lines.iter().all(|line| line["type"] == "MODIFIED"), "{lines:?}");
    let instance = format!("{name}-{number}");
    let one = root.api.get(&format!("{ALL}/instances/{instance}")).await.ok();
    assert_eq!((&one["status"]["phase"], &one["status"]["cluster"]), (&json!("RUNNING"), &json!("one")));
    let clusters = root.api.get("/apis/mangrove.io/v1/clusters").await.ok();
    assert_eq!((names(&clusters), &clusters["items"][0]["status"]["workers"]), (vec!["one"], &json!(1)));
    let made = root.api.post(&format!("{ALL}/services"), &json!({})).await;
    assert_eq!(made.status, 400, "it is no service: {}", made.body);
    root.api.delete(&format!("{ALL}/services/{name}")).await.ok();
    let is_gone = |lines: &[Value]| lines.last().is_some_and(|line| line["type"] == "DELETED");
    // From long ago: what it was then is worked out from what was stored then.
    let lines = watch_until(&root.api, &services, is_gone).await;
    assert_eq!(lines.last().expect("a line")["object"]["metadata"]["name"], name);
    assert_eq!(root.api.get(&format!("/api/service/{service}")).await.status, 404);
    assert_eq!(names(&root.api.get(&format!("{ALL}/applications")).await.ok()).len(), 1, "it stays");
}

const WORKFLOWS: &str = "/apis/sirocco.cloud/v1alpha1/namespaces/root";

fn workflow(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "sirocco.cloud/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn task(name: &str, listens: &Value) -> Value {
    let mut spec = listens.clone();
    spec["template"] =
        json!({"spec": {"containers": [{"name": "c", "image": "busybox"}], "restartPolicy": "Never"}});
    workflow("Task", name, &spec)
}

#[tokio::test]
async fn a_task_and_an_ignitor_make_a_run_that_can_be_watched_cancelled_and_fired_again() {
    let mut root = Root::start().await;
    let tasks = format!("{WORKFLOWS}/tasks");
    let made = root.api.post(&tasks, &task("one", &json!({"startOnIgnition": ["now"]}))).await;
    assert_eq!((made.status, made.body["status"]["state"].as_str()), (201, Some("Pending")), "{}", made.body);
    assert_eq!(made.body["status"]["conditions"][0]["status"], "False");
    let ignitors = format!("{WORKFLOWS}/ignitors");
    let made = root.api.post(&ignitors, &workflow("Ignitor", "now", &json!({"scheduled": "NOW"}))).await;
    assert_eq!(
        (made.status, made.body["status"]["state"].as_str()),
        (201, Some("Completed")),
        "{}",
        made.body
    );
    let runs = format!("{WORKFLOWS}/runs");
    let run = format!("{runs}/1");
    assert_eq!(root.api.get(&run).await.ok()["status"]["phase"], "Running");
    root.kill();
    root.start_again().await;
    assert_eq!(names(&root.api.get(&runs).await.ok()), ["1"], "it does not fire again");
    let mut wanted = root.api.get(&run).await.ok();
    wanted["spec"]["cancel"] = json!(true);
    let cancelled = root.api.put(&run, &wanted).await.ok();
    assert_eq!(cancelled["status"]["tasks"][0]["name"], "one");
    let path = format!("{runs}?watch=true&sendInitialEvents=true");
    let lines = watch_until(&root.api, &path, |told| {
        told.last().is_some_and(|line| line["object"]["status"]["phase"] == "Cancelled")
    });
    lines.await;
    let again = json!({"apiVersion": "sirocco.cloud/v1alpha1", "kind": "Run", "spec": {"ignitor": "now", "data": "x"}});
    let fired = root.api.post(&runs, &again).await;
    assert_eq!((fired.status, fired.body["metadata"]["name"].as_str()), (201, Some("2")), "{}", fired.body);
    assert_eq!(fired.body["status"]["cause"], json!({"hand": true}));
    assert_eq!(root.api.delete(&format!("{runs}/2")).await.status, 409, "it is in progress");
}

#[tokio::test]
async fn tasks_and_ignitors_that_cannot_be_are_refused_with_their_fields() {
    let root = Root::start().await;
    let refused = async |plural: &str, object: Value| {
        let answer = root.api.post(&format!("{WORKFLOWS}/{plural}"), &object).await;
        assert_eq!(answer.status, 422, "{}", answer.body);
        answer.body["details"]["causes"][0]["field"].as_str().unwrap_or_default().to_owned()
    };
    let ignitor = |scheduled: &str| workflow("Ignitor", "i", &json!({"scheduled": scheduled}));
    assert_eq!(refused("ignitors", ignitor("61 * * * *")).await, "spec.scheduled");
    assert_eq!(refused("ignitors", ignitor("2020-01-01T00:00:00Z")).await, "spec.scheduled");
    let data = json!({"data": "x".repeat(4097)});
    assert_eq!(refused("ignitors", workflow("Ignitor", "i", &data)).await, "spec.data");
    assert_eq!(refused("tasks", task("t", &json!({"startOnSucces": []}))).await, "spec.startOnSucces");
    assert_eq!(refused("tasks", workflow("Task", "t", &json!({}))).await, "spec.template");
    let run = json!({"apiVersion": "sirocco.cloud/v1alpha1", "kind": "Run", "spec": {"ignitor": "none"}});
    assert_eq!(refused("runs", run).await, "spec.ignitor");
}
