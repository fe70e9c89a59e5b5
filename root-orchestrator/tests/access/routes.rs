//! Every route the root describes, by every kind of caller over TLS, against the table in `routes.txt`. A route that is not
//! in the table fails the test: who adds one decides whom it is for. What certificates do open, `certificates.rs` says.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Api, Cluster, Root, Worker};

use super::{Site, deploy, password, register};

const TABLE: &str = include_str!("routes.txt");
const CALLERS: [&str; 10] = [
    "anonymous",
    "cluster",
    "worker",
    "expired",
    "other",
    "member",
    "admin",
    "platform",
    "here",
    "elsewhere",
];
/// Ends the logins of those who try it, so it is tried last.
const LAST: &str = "/api/auth/logout";

pub(super) type Route = (String, String);

/// The statuses in the order of [`CALLERS`].
fn table() -> BTreeMap<Route, Vec<u16>> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let read = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        let route = (words.next().expect("a method"), words.next().expect("a path"));
        let statuses: Vec<u16> = words.map(|word| word.parse().expect("a status")).collect();
        assert_eq!(statuses.len(), CALLERS.len(), "{line}");
        (route, statuses)
    };
    lines.map(read).collect()
}

/// The routes of the live description.
pub(super) async fn routes(api: &Api) -> Vec<Route> {
    let description = api.get("/docs/openapi.json").await.ok();
    let paths = description["paths"].as_object().expect("paths");
    let methods = |(path, methods): (&String, &Value)| {
        let methods = methods.as_object().expect("methods").keys();
        methods.map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
    };
    let mut routes: Vec<Route> = paths.iter().flat_map(methods).collect();
    routes.sort_by_key(|(method, path)| (path == LAST, path.clone(), method.clone()));
    routes
}

/// What the routes are tried with; made anew where a caller may have removed it.
struct Things {
    site: Site,
    /// They have certificates of this root, and are not connected to it.
    machines: (Cluster, Worker),
    expired: Api,
    /// Looks after the cluster `one`, which is asked about.
    here: Api,
    /// Looks after another.
    elsewhere: Api,
    bob: String,
    /// An application and its service, which has one instance.
    shop: Option<(String, String)>,
    shops: u32,
}

impl Things {
    async fn new() -> Self {
        let root = Root::start_over_tls().await;
        let mut cluster = root.cluster("one").await;
        let mut worker = cluster.worker(&root.api, "good").await;
        worker.kill();
        cluster.kill();
        root.cluster("two").await.kill();
        testkit::wait_until("the cluster to be gone", async || {
            let active = root.api.get("/api/clusters/active").await.ok();
            if active == json!([]) { Ok(()) } else { Err(active.to_string()) }
        })
        .await;
        let site = Site::of(root).await;
        register(&site.eve, "kim", &[]).await;
        let looks_after = async |name: &str, cluster: &str| {
            register(site.ada(), name, &[&format!("Infrastructure_Provider@{cluster}")]).await;
            site.ada().as_user(name, &password(name), "root").await
        };
        let (here, elsewhere) = (looks_after("here", "one").await, looks_after("elsewhere", "two").await);
        let soon = json!({"name": "soon over", "ttl_seconds": 1});
        let token = site.ada().post("/api/auth/tokens", &soon).await.ok();
        let expired = site.ada().with_token(token["token"].as_str().expect("a token"));
        testkit::wait_until("the token to expire", async || {
            match expired.get("/api/clusters").await.status {
                401 => Ok(()),
                status => Err(status.to_string()),
            }
        })
        .await;
        let bob = site.bob.get("/api/user/bob").await.ok();
        let bob = bob["_id"]["$oid"].as_str().expect("an id").to_owned();
        Self { site, machines: (cluster, worker), expired, here, elsewhere, bob, shop: None, shops: 0 }
    }

    fn caller(&self, name: &str) -> Api {
        match name {
            "anonymous" => self.site.ada().anonymous(),
            "cluster" => self.site.root.showing(&self.machines.0.state()),
            "worker" => self.site.root.showing(&self.machines.1.state()),
            "expired" => self.expired.clone(),
            "other" => self.site.mallory.clone(),
            "member" => self.site.bob.clone(),
            "admin" => self.site.eve.clone(),
            "platform" => self.site.ada().clone(),
            "here" => self.here.clone(),
            "elsewhere" => self.elsewhere.clone(),
            _ => unreachable!("there is no caller {name}"),
        }
    }

    async fn shop(&mut self) -> (String, String) {
        if let Some(shop) = &self.shop {
            return shop.clone();
        }
        self.shops += 1;
        let (application, service) = deploy(&self.site.bob, &format!("shop{}", self.shops)).await;
        self.site.bob.deploy(&service).await;
        self.shop.insert((application, service)).clone()
    }

    /// A custom resource of the type `device`, which is made if it is not there.
    async fn device(&self) -> String {
        // It is there already, or it is not.
        self.site.bob.post("/api/v1/custom-resources", &json!({"resource_type": "device"})).await;
        let made = self.site.bob.post("/api/v1/custom-resources/device", &json!({})).await.ok();
        made["_id"].as_str().expect("an id").to_owned()
    }

    async fn hook(&mut self) -> String {
        self.shops += 1;
        let url = format!("https://hooks.example/{}", self.shops);
        let wanted = json!({
            "hook_name": format!("hook{}", self.shops), "webhook_url": url, "entity": "jobs", "events": ["post_delete"],
        });
        let made = self.site.bob.post("/api/v1/hooks", &wanted).await;
        made.body["_id"].as_str().expect("an id").to_owned()
    }

    /// A kind that is defined, with an object of `acme`; both are made if they are not there.
    async fn widget(&self) {
        self.site.ada().post(&format!("/apis/{DEFINITIONS}"), &definition()).await;
        let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "one"}});
        self.site.bob.post("/apis/example.com/v1/namespaces/acme/widgets", &widget).await;
    }

    /// The path of the resource API with a widget of `acme`, or the definition of widgets.
    async fn fill_resource(&self, path: &str) -> String {
        self.widget().await;
        let is_one = path.contains("{namespace}") || !path.contains("{plural}");
        let path = if is_one {
            path.replace("{group}/{version}", "example.com/v1")
                .replace("{plural}", "widgets")
                .replace("{name}", "one")
        } else {
            path.replace("{group}/{version}/{plural}", DEFINITIONS).replace("{name}", "widgets.example.com")
        };
        path.replace("{group}", "example.com").replace("{namespace}", "acme")
    }

    /// The path with something of `acme` in the place of its parameters.
    async fn fill(&mut self, path: &str) -> String {
        if path.contains("{group}") {
            return self.fill_resource(path).await;
        }
        if path == "/api/v1/namespaces/{name}" {
            // It is there already, or it is not.
            self.site.ada().post("/api/organization/", &json!({"name": "spare", "member": []})).await;
            return path.replace("{name}", "spare");
        }
        let mut filled = path.to_owned();
        let mut put = |name: &str, value: &str| filled = filled.replace(&format!("{{{name}}}"), value);
        match path.split('/').nth(2).unwrap_or_default() {
            "application" | "service" | "services" | "watch"
                if path.contains('{') || path == "/api/watch" =>
            {
                let (application, service) = self.shop().await;
                put("id", if path.starts_with("/api/application/") { &application } else { &service });
                put("application", &application);
                put("number", "0");
                if path == "/api/watch" {
                    return format!("{path}?application={application}");
                }
            }
            "applications" => put("user", &self.bob),
            "v1" if path.starts_with("/api/v1/custom-resources/") => {
                put("type", "device");
                put("id", &self.device().await);
            }
            "v1" if path.starts_with("/api/v1/hooks/") => put("id", &self.hook().await),
            "v1" if path.starts_with("/api/v1/secrets/") => put("name", "nowhere"),
            // Only the signature counts. Each is called once: who is wrong too often has to wait.
            "v1" if path.starts_with("/api/v1/ignitors/") => {
                self.shops += 1;
                put("organization", "acme");
                put("ignitor", &format!("bell{}", self.shops));
            }
            "v1" if path.starts_with("/api/v1/namespaces/{namespace}/events") => {
                put("namespace", "acme");
                put("name", "nothing");
            }
            "user" | "permission" => {
                if self.site.ada().get("/api/user/kim").await.status == 404 {
                    register(&self.site.eve, "kim", &[]).await;
                }
                put("name", "kim");
            }
            "users" | "organization" => {
                put("organization", &self.site.acme);
                put("id", &self.site.acme);
            }
            "cluster" => {
                put("id", "one");
                put("worker", "nobody");
            }
            "certificates" => put("id", "nowhere"),
            "tokens" if path.contains('{') => {
                let made = self
                    .site
                    .ada()
                    .post("/api/tokens", &json!({"kind": "worker", "cluster": "one"}))
                    .await
                    .ok();
                put("id", made["id"].as_str().expect("an id"));
            }
            "auth" if path.contains('{') => {
                let made = self.site.bob.post("/api/auth/tokens", &json!({"name": "build"})).await.ok();
                put("id", made["id"].as_str().expect("an id"));
            }
            "auth" if path == "/api/auth/can-i" => return format!("{path}?verb=get&resource=service"),
            _ => {}
        }
        assert!(!filled.contains('{'), "say with what {path} is tried");
        filled
    }
}

/// Group, version and plural of definitions.
const DEFINITIONS: &str = "apiextensions.k8s.io/v1/customresourcedefinitions";

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object"}},
            }],
        },
    })
}

fn body(path: &str) -> Value {
    match path.rsplit('/').next() {
        Some("rollback") => json!({"revision": 1}),
        Some("scale") => json!({"instances": 2}),
        Some(_) | None => json!({}),
    }
}

/// The status alone: some answers never end.
async fn status(caller: &Api, method: &str, path: &str, body: Value) -> u16 {
    let method: Method = method.parse().expect("a method");
    let mut request = caller.client().request(method.clone(), format!("{}{path}", caller.base()));
    if !caller.bearer().is_empty() {
        request = request.bearer_auth(caller.bearer());
    }
    if matches!(method, Method::POST | Method::PUT | Method::PATCH) {
        request = request.json(&body);
    }
    request.send().await.expect("the root answers").status().as_u16()
}

#[tokio::test]
async fn every_route_is_for_whom_the_table_says() {
    let mut things = Things::new().await;
    let mut table = table();
    let callers = CALLERS.map(|name| things.caller(name));
    let mut wrong = Vec::new();
    for (method, path) in routes(things.site.ada()).await {
        let Some(wanted) = table.remove(&(method.clone(), path.clone())) else {
            wrong.push(format!("{method} {path} is not in the table"));
            continue;
        };
        let mut seen = Vec::new();
        for caller in &callers {
            let filled = things.fill(&path).await;
            seen.push(status(caller, &method, &filled, body(&path)).await);
            if method == "DELETE" {
                things.shop = None;
            }
        }
        // Whatever the table says: a certificate is no login.
        let opened = seen[1..3].iter().any(|by_machine| *by_machine != seen[0]);
        if seen != wanted || opened {
            wrong.push(format!("{method} {path} answers {seen:?}, and not {wanted:?}"));
        }
    }
    wrong.extend(table.keys().map(|(method, path)| format!("{method} {path} is in the table only")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
