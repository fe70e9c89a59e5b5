//! Deleting, and join tokens.

use serde_json::json;

use crate::{Home, done, failed, fake_root::FakeRoot};

fn filled() -> (FakeRoot, Home) {
    let root = FakeRoot::start();
    {
        let mut state = root.state();
        state.applications = vec![json!({
            "applicationID": "a-1", "application_name": "shop", "application_namespace": "default",
            "microservices": ["s-1"], "userId": "Admin",
        })];
        state.services = vec![json!({
            "microserviceID": "s-1", "applicationID": "a-1", "job_name": "shop.default.web.default",
            "app_name": "shop", "app_ns": "default", "service_name": "web", "service_ns": "default",
            "instance_list": [{"instance_number": 3, "phase": "running"}],
        })];
    }
    let home = Home::logged_in_to(&root);
    (root, home)
}

#[test]
fn what_is_named_is_deleted() {
    let (root, home) = filled();
    assert_eq!(
        home.run(&["delete", "instance", "shop.web/3", "--yes"]),
        done("", "deleted instance shop.default.web.default/3\n")
    );
    assert_eq!(
        home.run(&["delete", "service", "web", "--yes"]),
        done("", "deleted service shop.default.web.default with 1 instance\n")
    );
    assert_eq!(
        home.run(&["delete", "app", "shop", "--yes"]),
        done("", "deleted application shop.default with 1 service\n")
    );
    let deletions: Vec<String> =
        root.requests().into_iter().filter(|request| request.starts_with("DELETE")).collect();
    assert_eq!(
        deletions,
        ["DELETE /api/service/s-1/instance/3", "DELETE /api/service/s-1", "DELETE /api/application/a-1"]
    );
}

#[test]
fn nothing_is_deleted_without_a_confirmation() {
    let (root, home) = filled();
    assert_eq!(
        home.run(&["delete", "app", "a-1"]),
        failed(
            2,
            "error: delete application shop.default with 1 service needs a confirmation, and there is no \
             terminal to ask on\n  hint: pass --yes\n"
        )
    );
    assert!(!root.requests().iter().any(|request| request.starts_with("DELETE")));
}

#[test]
fn nothing_is_deleted_when_one_name_is_unknown() {
    let (root, home) = filled();
    assert_eq!(home.run(&["delete", "app", "shop", "nothing", "--yes"]).code, 1);
    assert_eq!(
        home.run(&["delete", "instance", "web/3", "web/4", "--yes"]),
        failed(1, "error: service `shop.default.web.default` has no instance 4; it has 3\n")
    );
    assert_eq!(home.run(&["delete", "instance", "web", "--yes"]).code, 2);
    assert!(!root.requests().iter().any(|request| request.starts_with("DELETE")));
}

#[test]
fn a_token_stands_alone_on_stdout_and_its_use_on_stderr() {
    let (root, home) = filled();
    let created = home.run(&["token", "create", "--cluster", "north", "--uses", "2", "--ttl", "2h"]);
    assert_eq!((created.code, created.stdout.as_str()), (0, "mgv1.t1.secret.pin\n"));
    assert!(created.stderr.contains("CLUSTER_NAME=north"), "{}", created.stderr);
    assert!(
        created.stderr.contains("It can be used 2 times, until 2126-11-21T10:00:00Z."),
        "{}",
        created.stderr
    );
    assert_eq!(
        root.requests(),
        [r#"POST /api/tokens {"cluster":"north","kind":"cluster","ttl_seconds":7200,"uses":2}"#]
    );
}

#[test]
fn a_worker_token_may_be_limited_to_a_cluster() {
    let (root, home) = filled();
    assert_eq!(home.run(&["token", "create", "--worker"]).stdout, "mgv1.t1.secret.pin\n");
    let created = home.run(&["token", "create", "--worker", "--for-cluster", "north", "-o", "json"]);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&created.stdout).unwrap(),
        json!({
            "id": "t1", "kind": "worker", "cluster": "north", "uses": 1, "token": "mgv1.t1.secret.pin",
            "expires_at": "2126-11-21T10:00:00Z",
        })
    );
    assert_eq!(
        root.requests(),
        [r#"POST /api/tokens {"kind":"worker"}"#, r#"POST /api/tokens {"cluster":"north","kind":"worker"}"#]
    );
}

#[test]
fn tokens_are_revoked_and_what_cannot_be_is_told() {
    let (root, home) = filled();
    assert_eq!(home.run(&["token", "revoke", "t1"]), done("", "revoked token t1\n"));
    assert_eq!(root.requests(), ["DELETE /api/tokens/t1"]);
    assert_eq!(
        home.run(&["token", "revoke", "../application/a-1"]),
        failed(
            1,
            "error: there is no token `../application/a-1`\n  hint: `mangrove get tokens` lists what there is\n"
        )
    );
    assert_eq!(root.requests(), Vec::<String>::new());
    assert_eq!(
        home.run(&["token", "revoke", "unknown", "t2"]),
        failed(
            1,
            "error: the root refused DELETE /api/tokens/unknown: there is no token unknown (404)\n\
             revoked token t2\nerror: 1 of 2 failed\n"
        )
    );
}
