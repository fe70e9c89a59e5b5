//! Who looks after one cluster, and tries it at another.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, Api, Root};

use super::{password, register};

/// A root with the clusters `shop` and `yard`, and somebody who was given a role for `shop`.
struct Fleet {
    root: Root,
    /// Administrates users, and holds the role for `shop`.
    olga: Api,
    _machines: (testkit::Cluster, testkit::Worker, testkit::Cluster, testkit::Worker),
}

impl Fleet {
    async fn start() -> Self {
        let root = Root::start().await;
        let (shop, yard) = (root.cluster("shop").await, root.cluster("yard").await);
        let (till, gate) = (shop.worker(&root.api, "till").await, yard.worker(&root.api, "gate").await);
        register(&root.api, "olga", &["Organization_Admin", "Infrastructure_Provider@shop"]).await;
        let olga = root.api.as_user("olga", &password("olga"), "root").await;
        Self { root, olga, _machines: (shop, till, yard, gate) }
    }

    async fn id(&self, cluster: &str) -> String {
        let all = self.root.api.get("/api/clusters").await.ok();
        let found = all.as_array().expect("a list").iter().find(|one| one["cluster_name"] == cluster);
        let id = &found.expect("listed")["_id"];
        id.as_str().expect("an id").to_owned()
    }
}

fn worker_token(cluster: Option<&str>) -> Value {
    json!({"kind": "worker", "cluster": cluster})
}

fn is_refused(answer: &Answer) -> bool {
    answer.status == 403
}

#[tokio::test]
async fn a_role_for_one_cluster_opens_that_and_no_other() {
    let fleet = Fleet::start().await;
    let (olga, ada) = (&fleet.olga, &fleet.root.api);
    for (method, path, worker) in [
        (Method::GET, "workers", None),
        (Method::GET, "certificates", None),
        (Method::POST, "rebalance", None),
        (Method::POST, "worker", Some("cordon")),
        (Method::POST, "worker", Some("uncordon")),
        (Method::POST, "worker", Some("drain")),
        (Method::DELETE, "certificates", Some("")),
        (Method::DELETE, "worker", Some("")),
    ] {
        let path = |cluster: &str, name: &str| match worker {
            None => format!("/api/cluster/{cluster}/{path}"),
            Some("") => format!("/api/cluster/{cluster}/{path}/{name}"),
            Some(action) => format!("/api/cluster/{cluster}/{path}/{name}/{action}"),
        };
        for (cluster, name) in [("yard".to_owned(), "gate"), (fleet.id("yard").await, "gate")] {
            let there = olga.send(method.clone(), &path(&cluster, name), None).await;
            assert!(is_refused(&there), "{method} {}: {} {}", path(&cluster, name), there.status, there.body);
        }
        let nowhere = olga.send(method.clone(), &path("nowhere", "gate"), None).await;
        assert!(is_refused(&nowhere), "{method} {}: {}", path("nowhere", "gate"), nowhere.status);
        // A worker is forgotten once its cluster has let go of it, which its revoked certificates make it do.
        testkit::wait_until("it to be done at the cluster the role is for", async || {
            let here = olga.send(method.clone(), &path("shop", "till"), None).await;
            let is_still_there = here.status == 409 && worker == Some("") && path("", "").contains("worker");
            match here.status {
                200 => Ok(()),
                _ if is_still_there => Err(here.body.to_string()),
                status => panic!("{method} {}: {status} {}", path("shop", "till"), here.body),
            }
        })
        .await;
    }
    // What is of the platform is not of a cluster.
    assert!(is_refused(&olga.get("/metrics").await));
    assert!(is_refused(&olga.delete("/api/certificates/shop").await));
    assert_eq!(ada.get("/api/cluster/yard/workers").await.status, 200);
}

fn names(listed: &Value, name: &str) -> Vec<String> {
    let all = listed.as_array().expect("a list").iter();
    all.map(|one| one.pointer(name).and_then(Value::as_str).expect("a name").to_owned()).collect()
}

const OBJECTS: &str = "/apis/mangrove.io/v1/clusters";

#[tokio::test]
async fn who_looks_after_one_cluster_is_shown_that_one_alone() {
    let fleet = Fleet::start().await;
    let ada = &fleet.root.api;
    register(ada, "kim", &["Infrastructure_Provider@shop"]).await;
    let kim = ada.as_user("kim", &password("kim"), "root").await;
    for path in ["/api/clusters", "/api/clusters/active"] {
        assert_eq!(names(&kim.get(path).await.ok(), "/cluster_name"), ["shop"], "{path}");
        assert_eq!(names(&ada.get(path).await.ok(), "/cluster_name").len(), 2, "{path}");
        assert_eq!(
            names(&fleet.olga.get(path).await.ok(), "/cluster_name").len(),
            2,
            "{path}: by another role"
        );
    }
    let of_shop = kim.get("/api/certificates").await.ok();
    assert_eq!(names(&of_shop, "/owner"), ["shop", "shop"]);
    assert_eq!(names(&of_shop, "/kind"), ["cluster", "intermediate"]);
    assert_eq!(names(&fleet.olga.get("/api/certificates").await.ok(), "/owner"), ["shop", "shop"]);

    // As objects.
    assert_eq!(names(&kim.get(OBJECTS).await.ok()["items"], "/metadata/name"), ["shop"]);
    assert_eq!(kim.get(&format!("{OBJECTS}/shop")).await.status, 200);
    // The same of one that is there, and of one that is not.
    for path in ["/api/cluster/NAME/workers".to_owned(), format!("{OBJECTS}/NAME")] {
        let [there, nowhere] = ["yard", "nowhere"].map(|name| (path.replace("NAME", name), name));
        let [there, nowhere] = [there, nowhere].map(async |(path, name)| {
            let answer = kim.get(&path).await;
            assert!(is_refused(&answer), "{path}: {}", answer.body);
            answer.body["message"].as_str().expect("a message").replace(name, "NAME")
        });
        assert_eq!(there.await, nowhere.await);
    }
    let may = async |name: &str| {
        let answer = kim.get(&format!("/api/auth/can-i?verb=get&resource=worker&cluster={name}")).await;
        answer.ok()["allowed"].clone()
    };
    assert_eq!([may("shop").await, may("yard").await, may("nowhere").await], [true, false, false]);
    assert_eq!(watched(&kim).await, ["shop"]);
    assert_eq!(watched(ada).await, ["shop", "yard"]);
    let may = async |name: &str| {
        let of = json!({"group": "mangrove.io", "resource": "clusters", "verb": "get", "name": name});
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": of},
        });
        kim.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).await.body["status"]
            ["allowed"]
            .clone()
    };
    assert_eq!([may("shop").await, may("yard").await], [true, false]);
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": "root"},
    });
    let rules = kim.post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &review).await.body;
    let rules = rules["status"]["resourceRules"].as_array().expect("rules").clone();
    let of_clusters: Vec<&Value> =
        rules.iter().filter(|rule| rule["resources"] == json!(["clusters"])).collect();
    assert_eq!(of_clusters.len(), 1, "{rules:?}");
    assert_eq!(of_clusters[0]["resourceNames"], json!(["shop"]));

    // Without a role there is nothing to be seen.
    register(ada, "max", &[]).await;
    let max = ada.as_user("max", &password("max"), "root").await;
    for path in ["/api/clusters", "/api/clusters/active", "/api/certificates", OBJECTS] {
        assert!(is_refused(&max.get(path).await), "{path}");
    }
}

/// The clusters somebody who watches them is told of first.
async fn watched(api: &Api) -> Vec<String> {
    let path = format!("{}{OBJECTS}?watch=true&timeoutSeconds=1", api.base());
    let told = api.client().get(path).bearer_auth(api.bearer()).send().await.expect("the root answers");
    let told = told.text().await.expect("lines");
    let mut names: Vec<String> = told
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("an event"))
        .filter(|event| event["type"] == "ADDED")
        .map(|event| event["object"]["metadata"]["name"].as_str().expect("a name").to_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn join_tokens_of_one_cluster_are_made_listed_and_revoked_by_who_looks_after_it() {
    let fleet = Fleet::start().await;
    let (olga, ada) = (&fleet.olga, &fleet.root.api);
    let listed = async |api: &Api| -> Vec<String> {
        let all = api.get("/api/tokens").await.ok();
        let ids = all.as_array().expect("a list").iter().map(|token| token["id"].as_str().expect("an id"));
        ids.map(str::to_owned).collect()
    };
    let before = listed(olga).await;
    let mine = olga.post("/api/tokens", &worker_token(Some("shop"))).await.ok();
    let mine = mine["id"].as_str().expect("an id").to_owned();
    for wanted in
        [worker_token(Some("yard")), worker_token(None), json!({"kind": "cluster", "cluster": "new"})]
    {
        assert!(is_refused(&olga.post("/api/tokens", &wanted).await), "{wanted}");
    }
    let theirs = ada.post("/api/tokens", &worker_token(Some("yard"))).await.ok();
    let theirs = format!("/api/tokens/{}", theirs["id"].as_str().expect("an id"));
    let seen: Vec<String> = listed(olga).await.into_iter().filter(|id| !before.contains(id)).collect();
    assert_eq!(seen, [mine.as_str()]);
    let all = ada.get("/api/tokens").await.ok();
    let of_shop =
        all.as_array().expect("a list").iter().filter(|it| it["kind"] == "worker" && it["cluster"] == "shop");
    assert_eq!(listed(olga).await.len(), of_shop.count());
    assert!(is_refused(&olga.delete(&theirs).await));
    olga.delete(&format!("/api/tokens/{mine}")).await.ok();
}

#[tokio::test]
async fn nobody_gives_a_cluster_they_do_not_hold_and_roles_are_told_by_its_id() {
    let fleet = Fleet::start().await;
    let olga = &fleet.olga;
    let held = format!("Infrastructure_Provider@{}", fleet.id("shop").await);
    let shown = olga.get("/api/permission/olga").await.ok();
    assert_eq!(shown, json!({"roles": ["Organization_Admin", held]}));
    register(olga, "max", &["Infrastructure_Provider@shop"]).await;
    for more in ["Infrastructure_Provider@yard", "Infrastructure_Provider", "Admin"] {
        let refused = olga.put("/api/user/max", &json!({"roles": [more]})).await;
        assert_eq!((refused.status, &refused.body["error"]), (403, &json!("more_than_held")), "{more}");
        let scope = json!({"name": "more", "scopes": [more]});
        assert!(is_refused(&olga.post("/api/auth/tokens", &scope).await), "{more}");
    }
    let unknown = olga.put("/api/user/max", &json!({"roles": ["Infrastructure_Provider@nowhere"]})).await;
    assert_eq!(
        (unknown.status, &unknown.body["problems"][0]["field"]),
        (422, &json!("roles[0]")),
        "{}",
        unknown.body
    );
    // As it is shown it is taken.
    olga.put("/api/user/max", &json!({"roles": [held]})).await.ok();
    let max = fleet.root.api.as_user("max", &password("max"), "root").await;
    assert_eq!(max.get("/api/cluster/shop/workers").await.status, 200);
    olga.put("/api/user/max", &json!({"roles": []})).await.ok();
    assert!(is_refused(&max.get("/api/cluster/shop/workers").await), "what was taken away is away at once");

    let narrow = json!({"name": "narrow", "scopes": ["Infrastructure_Provider@shop"]});
    let narrow = fleet.root.api.post("/api/auth/tokens", &narrow).await.ok();
    let narrow = olga.with_token(narrow["token"].as_str().expect("a token"));
    assert_eq!(narrow.get("/api/cluster/shop/workers").await.status, 200);
    assert!(is_refused(&narrow.get("/api/cluster/yard/workers").await));
}

#[tokio::test]
async fn what_one_may_is_asked_about_one_cluster() {
    let fleet = Fleet::start().await;
    let asked = async |query: &str| fleet.olga.get(&format!("/api/auth/can-i?{query}")).await;
    let may = async |query: &str| asked(query).await.ok()["allowed"].clone();
    assert_eq!(may("verb=update&resource=worker&cluster=shop").await, true);
    assert_eq!(may("verb=update&resource=worker&cluster=yard").await, false);
    assert_eq!(may("verb=update&resource=worker").await, false, "not at all of them");
    assert_eq!(asked("verb=get&resource=worker&cluster=nowhere").await.status, 404);
    let wrong = asked("verb=get&resource=service&cluster=shop").await;
    assert_eq!(
        (wrong.status, &wrong.body["problems"][0]["field"]),
        (422, &json!("cluster")),
        "{}",
        wrong.body
    );
}
