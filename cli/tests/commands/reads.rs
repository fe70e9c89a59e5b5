//! Everything that lists or prints.

use serde_json::{Value, json};

use crate::{Home, done, failed, fake_root::FakeRoot};

fn an_application(id: &str, name: &str) -> Value {
    json!({
        "_id": {"$oid": id}, "applicationID": id, "application_name": name,
        "application_namespace": "default", "application_desc": "", "microservices": ["s"], "userId": "Admin",
    })
}

fn a_service(id: &str, application: &str, name: &str, instances: Value) -> Value {
    json!({
        "_id": {"$oid": id}, "microserviceID": id, "applicationID": format!("id-{application}"),
        "job_name": format!("{application}.default.{name}.default"), "app_name": application,
        "app_ns": "default", "service_name": name, "service_ns": "default", "image": "image:1",
        "port": "8080:80/tcp", "memory": 32, "vcpus": 1, "status": "RUNNING", "instance_list": instances,
        "revision": 3, "rollout": {"from": 2, "to": 3, "instances": 2, "ready": 1, "rollback": false},
    })
}

fn an_instance(number: u32) -> Value {
    json!({
        "instance_number": number, "cluster_id": "c-1", "phase": "running", "status": "RUNNING",
        "since": "2999-01-01T00:00:00Z", "addresses": ["10.30.0.2"], "ports": ["8080:80/tcp"],
        "published_at": "192.0.2.7", "restarts": 2, "reason": null, "ready": true, "revision": 3,
        "last_exit": {"code": 137, "at": "2999-01-01T00:00:00Z", "tail": "killed"},
    })
}

fn filled() -> (FakeRoot, Home) {
    let root = FakeRoot::start();
    let refused = json!({
        "instance_number": 1, "phase": "refused", "reason": {
            "code": "NoTargetCluster", "summary": "no cluster has joined", "candidates": [],
        },
    });
    {
        let mut state = root.state();
        state.applications = vec![an_application("id-shop", "shop"), an_application("id-blog", "blog")];
        state.services = vec![
            a_service("s-1", "shop", "web", json!([an_instance(0), refused])),
            a_service("s-2", "blog", "web", json!([])),
            a_service("s-3", "blog", "store", json!([an_instance(0)])),
        ];
        state.clusters = vec![json!({
            "_id": "c-1", "cluster_name": "north", "cluster_location": "48.1,11.5,1000", "active": true,
            "active_nodes": 2, "aggregated_cpu_percent": 12.5, "total_cpu_cores": 8, "memory_in_mb": 4096,
            "virtualization": ["docker"], "supported_addons": null,
        })];
        state.tokens = vec![json!({
            "id": "t1", "kind": "worker", "cluster": null, "uses": 3, "expires_at": "2000-01-01T00:00:00Z",
        })];
    }
    let home = Home::logged_in_to(&root);
    (root, home)
}

#[test]
fn applications_are_listed() {
    let (_root, home) = filled();
    assert_eq!(
        home.run(&["get", "apps"]),
        done(
            "NAME   NAMESPACE   SERVICES   ID\n\
             blog   default     1          id-blog\n\
             shop   default     1          id-shop\n",
            ""
        )
    );
    assert_eq!(home.run(&["get", "app", "-o", "name", "--app", "blog"]), done("blog.default\n", ""));
}

#[test]
fn services_are_listed_with_how_many_run() {
    let (_root, home) = filled();
    assert_eq!(
        home.run(&["get", "services"]),
        done(
            "APPLICATION    SERVICE         RUNNING   STATUS    IMAGE\n\
             blog.default   store.default   1/1       RUNNING   image:1\n\
             blog.default   web.default     0/0       RUNNING   image:1\n\
             shop.default   web.default     1/2       RUNNING   image:1\n",
            ""
        )
    );
    assert_eq!(
        home.run(&["get", "svc", "--app", "shop.default", "-o", "wide"]),
        done(
            "APPLICATION    SERVICE       RUNNING   STATUS    IMAGE     ID    PORTS         MEMORY   VCPUS   \
             REVISION   CHANGE\n\
             shop.default   web.default   1/2       RUNNING   image:1   s-1   8080:80/tcp   32 MiB   1       \
             3          from 2 to 3: 1/2 ready\n",
            ""
        )
    );
}

#[test]
fn instances_are_listed_with_where_they_are_and_why_they_are_not() {
    let (_root, home) = filled();
    assert_eq!(
        home.run(&["get", "instances", "--app", "shop"]),
        done(
            "APPLICATION    INSTANCE        PHASE     READY   FOR   RESTARTS   REVISION   CLUSTER   \
             REACHED AT              WHY\n\
             shop.default   web.default/0   running   yes     0s    2          3          north     \
             http://192.0.2.7:8080   -\n\
             shop.default   web.default/1   refused   -       -     0          -          -         \
             -                       NoTargetCluster: no cluster has joined\n",
            ""
        )
    );
    let wide = home.run(&["get", "instances", "--app", "blog", "-o", "wide"]);
    assert!(wide.stdout.ends_with("10.30.0.2   code 137, 0s ago\n"), "{wide:?}");
    assert_eq!(
        home.run(&["get", "instances", "-o", "name"]),
        done("blog.default.store.default/0\nshop.default.web.default/0\nshop.default.web.default/1\n", "")
    );
}

#[test]
fn json_is_what_the_root_said() {
    let (root, home) = filled();
    let printed = |arguments: &[&str]| -> Value {
        let finished = home.run(arguments);
        assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{arguments:?}");
        serde_json::from_str(&finished.stdout).unwrap()
    };
    let state = |look: &dyn Fn(&crate::fake_root::Root) -> Value| look(&root.state());
    assert_eq!(
        printed(&["get", "apps", "-o", "json"]),
        state(&|root| json!([root.applications[1], root.applications[0]]))
    );
    assert_eq!(
        printed(&["get", "services", "-o", "json", "--app", "shop"]),
        state(&|root| json!([root.services[0]]))
    );
    assert_eq!(printed(&["get", "clusters", "-o", "json"]), state(&|root| json!(root.clusters)));
    assert_eq!(printed(&["get", "tokens", "-o", "json"]), state(&|root| json!(root.tokens)));
    assert_eq!(printed(&["token", "list", "-o", "json"]), state(&|root| json!(root.tokens)));
    let mut instance = state(&|root| root.services[2]["instance_list"][0].clone());
    instance["microserviceID"] = json!("s-3");
    instance["job_name"] = json!("blog.default.store.default");
    assert_eq!(printed(&["get", "instances", "-o", "json", "--app", "blog"]), json!([instance]));
}

#[test]
fn clusters_and_tokens_are_listed() {
    let (_root, home) = filled();
    assert_eq!(
        home.run(&["get", "clusters"]),
        done(
            "NAME    ACTIVE   WORKERS   CPU    VCPUS   MEMORY FREE   LOCATION\n\
             north   yes      2         12 %   8       4096 MiB      48.1,11.5,1000\n",
            ""
        )
    );
    assert_eq!(
        home.run(&["token", "list"]),
        done(
            "ID   KIND     CLUSTER   USES LEFT   EXPIRES IN\nt1   worker   -         3           expired\n",
            ""
        )
    );
}

#[test]
fn an_empty_list_says_how_to_fill_it() {
    let root = FakeRoot::start();
    let home = Home::logged_in_to(&root);
    assert_eq!(
        home.run(&["get", "apps"]),
        done("", "there are no applications; `mangrove deploy -f FILE` makes one\n")
    );
    assert_eq!(home.run(&["get", "instances", "-o", "name"]), done("", ""));
}

#[test]
fn an_unknown_application_suggests_the_nearest() {
    let (_root, home) = filled();
    assert_eq!(
        home.run(&["get", "services", "--app", "shpo"]),
        failed(1, "error: there is no application `shpo`\n  hint: did you mean `shop`?\n")
    );
}

#[test]
fn logs_of_one_instance_are_printed_as_they_are() {
    let (root, home) = filled();
    let first = done("0: first\n0: second\n", "");
    assert_eq!(home.run(&["logs", "store"]), first);
    assert_eq!(home.run(&["logs", "blog.store/0"]), first);
    assert_eq!(home.run(&["logs", "web/1", "--app", "shop", "--tail", "1"]), done("1: second\n", ""));
    root.requests();
    assert_eq!(home.run(&["logs", "s-3", "-f", "--tail", "1"]), done("0: second\n0: live\n", ""));
    assert_eq!(
        root.requests(),
        ["GET /api/services/", "GET /api/service/s-3/instance/0/logs?tail=1&follow=true"]
    );
}

#[test]
fn logs_of_several_instances_name_the_writer_of_each_line() {
    let (_root, home) = filled();
    assert_eq!(
        home.run(&["logs", "shop.web"]),
        done(
            "web.default/0 | 0: first\nweb.default/0 | 0: second\n\
             web.default/1 | 1: first\nweb.default/1 | 1: second\n",
            ""
        )
    );
    let followed = home.run(&["logs", "shop.web", "-f"]);
    let mut lines: Vec<&str> = followed.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "web.default/0 | 0: first",
            "web.default/0 | 0: live",
            "web.default/0 | 0: second",
            "web.default/1 | 1: first",
            "web.default/1 | 1: live",
            "web.default/1 | 1: second",
        ]
    );
}

#[test]
fn an_instance_that_has_not_started_hides_no_other_log() {
    let (root, home) = filled();
    root.state().services[2]["instance_list"] = json!([an_instance(9), an_instance(0)]);
    assert_eq!(
        home.run(&["logs", "store"]),
        done(
            "store.default/0 | 0: first\nstore.default/0 | 0: second\n",
            "store.default/9: instance 9 has not started: it is requested\n"
        )
    );
    assert_eq!(
        home.run(&["logs", "store/9"]),
        failed(
            1,
            "error: the root refused GET /api/service/s-3/instance/9/logs: instance 9 has not started: it is \
             requested (409)\n"
        )
    );
}

#[test]
fn logs_of_what_is_not_there_say_what_is() {
    let (_root, home) = filled();
    assert_eq!(
        home.run(&["logs", "web"]),
        failed(
            1,
            "error: `web` may be any of 2 services: blog.default.web.default, shop.default.web.default\n  \
             hint: use one of these names, or the id\n"
        )
    );
    assert_eq!(
        home.run(&["logs", "stroe"]),
        failed(1, "error: there is no service `stroe`\n  hint: did you mean `store`?\n")
    );
    assert_eq!(
        home.run(&["logs", "store/7"]),
        failed(1, "error: service `blog.default.store.default` has no instance 7; it has 0\n")
    );
    assert_eq!(
        home.run(&["logs", "blog.web"]),
        failed(
            1,
            "error: service `blog.default.web.default` has no instance; it has none at all\n  \
             hint: `mangrove deploy` with the SLA of `blog.default.web.default` gives it one\n"
        )
    );
    assert_eq!(home.run(&["logs", "store/x"]).code, 2);
}

#[test]
fn completions_and_the_version_need_no_root() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let completions = home.run(&["completions", shell]);
        assert_eq!((completions.code, completions.stderr.as_str()), (0, ""), "{shell}");
        assert!(completions.stdout.contains("mangrove"), "{shell}");
    }
    assert_eq!(home.run(&["version"]), done(&format!("mangrove {}\n", env!("CARGO_PKG_VERSION")), ""));
}
