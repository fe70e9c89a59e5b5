//! Scaling, updating, going back, and what becomes of it.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{Home, done, failed, fake_root::FakeRoot, finished};

const NAME: &str = "shop.default.web.default";

fn running(number: u64) -> Value {
    json!({"instance_number": number, "phase": "running", "ready": true, "addresses": ["10.30.0.2"]})
}

/// A root with one service of revision 2 whose instance 0 runs.
fn deployed() -> (FakeRoot, Home) {
    let root = FakeRoot::with_script(vec![json!({"phase": "creating"}), running(1)]);
    root.state().services = vec![json!({
        "microserviceID": "s-1", "applicationID": "a-1", "job_name": NAME, "app_name": "shop",
        "app_ns": "default", "service_name": "web", "service_ns": "default", "image": "image:1",
        "revision": 2, "instance_list": [running(0)],
    })];
    root.state().revisions = vec![
        json!({"number": 1, "created": "2999-01-01T00:00:00Z", "current": false, "failed": null, "image": "i:1"}),
        json!({"number": 2, "created": "2999-01-01T00:00:00Z", "current": true, "failed": null, "image": "i:2"}),
    ];
    let home = Home::logged_in_to(&root);
    (root, home)
}

fn microservice(name: &str, memory: i64) -> Value {
    json!({
        "microservice_name": name, "microservice_namespace": "default", "virtualization": "container",
        "code": "image:2", "memory": memory,
    })
}

fn sla(services: &[Value]) -> String {
    let other = json!({
        "application_name": "blog", "application_namespace": "default",
        "microservices": [microservice("web", 1)],
    });
    let shop = json!({
        "application_name": "shop", "application_namespace": "default", "microservices": services,
    });
    json!({"sla_version": "v2.0", "applications": [other, shop]}).to_string()
}

fn under_way(from: u64, to: u64, rollback: bool) -> Value {
    json!({"from": from, "to": to, "instances": 1, "ready": 0, "rollback": rollback, "stalled": null})
}

#[test]
fn a_service_is_scaled_up_and_down_and_followed() {
    let (root, home) = deployed();
    assert_eq!(
        home.run(&["scale", "web", "2"]),
        done(
            "shop.default web.default/0  running  10.30.0.2\nshop.default web.default/1  running  10.30.0.2\n",
            &format!(
                "{NAME}: 1 → 2 instances\nshop.default web.default/0  running  10.30.0.2\n\
                 shop.default web.default/1  requested\nshop.default web.default/1  creating\n\
                 shop.default web.default/1  running  10.30.0.2\n"
            )
        )
    );
    assert_eq!(
        root.requests(),
        [
            "GET /api/services/",
            r#"POST /api/service/s-1/scale {"instances":2}"#,
            "GET /api/watch?application=a-1",
        ]
    );
    assert_eq!(home.run(&["scale", "web", "0"]), done("", &format!("{NAME}: 2 → 0 instances\n")));
    let unwatched = home.run(&["scale", "web", "1", "--no-wait"]);
    let advice = "not waiting; `mangrove get instances --app shop.default` shows how it goes";
    assert_eq!(unwatched, done("", &format!("{NAME}: 0 → 1 instance\n{advice}\n")));
    assert_eq!(home.run(&["scale", "web", "10001"]).code, 2);
}

#[test]
fn instances_that_nothing_can_take_are_told_with_the_way_back() {
    let (root, home) = deployed();
    root.state().script = vec![json!({"phase": "refused", "reason": {"code": "NoResourcesAvailable"}})];
    let scaled = home.run(&["scale", "shop.web", "3"]);
    assert_eq!(scaled.code, 1);
    let end = format!(
        "error: nothing can take 2 instances: {NAME}/1, {NAME}/2\n  hint: it stays pending and is placed when \
         capacity appears: `mangrove get instances --app shop.default` shows it, `mangrove scale {NAME} 1` gives it \
         up\n"
    );
    assert!(scaled.stderr.ends_with(&end), "{}", scaled.stderr);
}

#[test]
fn an_instance_that_is_not_ready_is_waited_for() {
    let (root, home) = deployed();
    let mut unready = running(1);
    unready["ready"] = json!(false);
    unready["status_detail"] = json!("GET /healthz answered 503");
    root.state().script = vec![unready];
    assert_eq!(
        home.run(&["scale", "web", "2", "--timeout", "1s"]),
        failed(
            1,
            &format!(
                "{NAME}: 1 → 2 instances\nshop.default web.default/0  running  10.30.0.2\n\
                 shop.default web.default/1  requested\n\
                 shop.default web.default/1  running, not ready  GET /healthz answered 503\n\
                 error: not everything runs after 1 s:\n  \
                 shop.default web.default/1  running, not ready  GET /healthz answered 503\n  \
                 hint: it is still being tried: `mangrove get instances -o wide --app shop.default` shows it, \
                 `mangrove logs` what it wrote\n"
            )
        )
    );
}

#[test]
fn an_update_takes_its_service_out_of_the_file_and_is_followed() {
    let (root, home) = deployed();
    root.state().service_script = [
        json!({"rollout": under_way(2, 3, false), "instance_list": [running(0), {"instance_number": 1}]}),
        json!({"rollout": null, "instance_list": [running(1)]}),
    ]
    .into();
    let file = home.file("shop.json", &sla(&[microservice("db", 1), microservice("web", 64)]));
    assert_eq!(
        home.run(&["update", "web", "-f", &file]),
        done(
            "shop.default web.default/1  running  10.30.0.2\n",
            &format!(
                "{NAME}: revision 3 replaces 2\nshop.default web.default/0  running  10.30.0.2\n\
                 shop.default web.default/1  requested\nshop.default web.default/1  running  10.30.0.2\n"
            )
        )
    );
    assert_eq!(root.requests()[1], format!("PUT /api/service/s-1 {}", microservice("web", 64)));
    let alone = home.file("web.json", &microservice("web", 65).to_string());
    assert_eq!(home.run(&["update", "web", "-f", &alone, "-d"]).code, 0);
    assert_eq!(root.requests()[1], format!("PUT /api/service/s-1 {}", microservice("web", 65)));
}

#[test]
fn a_file_without_the_service_changes_nothing() {
    let (root, home) = deployed();
    let file = home.file("shop.json", &sla(&[microservice("db", 1)]));
    assert_eq!(
        home.run(&["update", "web", "-f", &file]),
        failed(
            2,
            &format!(
                "error: {file} does not describe service `{NAME}`; it describes blog.default.web.default, \
                 shop.default.db.default\n"
            )
        )
    );
    assert!(!root.requests().iter().any(|request| request.starts_with("PUT")));
    let wrong = home.file("wrong.json", &sla(&[microservice("web", -1)]));
    assert_eq!(
        home.run(&["update", "web", "-f", &wrong]),
        failed(
            1,
            "error: the root refused PUT /api/service/s-1: `memory` must be an integer from 0 on, but is -1 (422)\n"
        )
    );
}

#[test]
fn a_change_that_is_taken_back_fails_with_the_reason() {
    let (root, home) = deployed();
    root.state().revisions.push(json!({"number": 3, "failed": "instance 1 was not ready within 2m: DEAD"}));
    root.state().service_script = [
        json!({"rollout": under_way(2, 3, false)}),
        json!({"revision": 2, "rollout": under_way(3, 2, true)}),
        json!({"rollout": null}),
    ]
    .into();
    let file = home.file("shop.json", &sla(&[microservice("web", 64)]));
    assert_eq!(
        home.run(&["update", "web", "-f", &file]),
        failed(
            1,
            &format!(
                "{NAME}: revision 3 replaces 2\nshop.default web.default/0  running  10.30.0.2\n\
                 going back to revision 2: instance 1 was not ready within 2m: DEAD\n\
                 error: the change of `{NAME}` failed and was taken back, it is of revision 2 again: instance 1 was \
                 not ready within 2m: DEAD\n  \
                 hint: `mangrove history {NAME}` lists its revisions; change the file and update again\n"
            )
        )
    );
}

#[test]
fn a_change_that_gets_no_further_fails_with_the_reason() {
    let (root, home) = deployed();
    let mut stalled = under_way(2, 3, false);
    stalled["stalled"] = json!("no such image");
    root.state().service_script = [json!({"rollout": stalled})].into();
    let file = home.file("shop.json", &sla(&[microservice("web", 64)]));
    let updated = home.run(&["update", "web", "-f", &file]);
    assert_eq!(updated.code, 1);
    let end = format!(
        "error: the change of `{NAME}` gets no further: no such image\n  hint: it is still being tried: `mangrove \
         rollback {NAME}` takes it back, `mangrove logs {NAME}` shows what it wrote\n"
    );
    assert!(updated.stderr.ends_with(&end), "{}", updated.stderr);
}

#[test]
fn a_change_by_somebody_else_meanwhile_is_told() {
    let (root, home) = deployed();
    root.state().service_script = [json!({"revision": 4})].into();
    root.state().revisions.push(json!({"number": 3, "failed": null}));
    let file = home.file("shop.json", &sla(&[microservice("web", 64)]));
    let updated = home.run(&["update", "web", "-f", &file]);
    assert_eq!(updated.code, 1);
    let told = format!("error: `{NAME}` was changed to revision 4 before it was of revision 3\n");
    assert!(updated.stderr.contains(&told), "{}", updated.stderr);
}

#[test]
fn a_service_goes_back_and_tells_its_history() {
    let (root, home) = deployed();
    let back = home.run(&["rollback", "web"]);
    assert_eq!(back.stdout, "shop.default web.default/0  running  10.30.0.2\n");
    assert!(back.stderr.starts_with(&format!("{NAME}: so it is again\n")), "{}", back.stderr);
    assert_eq!(root.requests()[1], "POST /api/service/s-1/rollback {}");
    assert_eq!(home.run(&["rollback", "web", "--to", "2", "--no-wait"]).code, 0);
    assert_eq!(root.requests()[1], r#"POST /api/service/s-1/rollback {"revision":2}"#);
    assert_eq!(home.run(&["rollback", "web", "--to", "9"]).code, 1);
    root.state().revisions[0]["failed"] = json!("no such image");
    assert_eq!(
        home.run(&["history", "web"]),
        done(
            "REVISION   AGE   STATE     IMAGE   WHY\n1          0s    failed    i:1     no such image\n\
             2          0s    current   i:2     -\n",
            ""
        )
    );
    assert_eq!(home.run(&["history", "web", "-o", "name"]), done("1\n2\n", ""));
}

#[test]
fn interrupting_an_update_leaves_it_going() {
    let (root, home) = deployed();
    root.state().service_script = [json!({"rollout": under_way(2, 3, false)})].into();
    let file = home.file("shop.json", &sla(&[microservice("web", 64)]));
    let mut command = home.mangrove(&["update", "web", "-f", &file]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("running")), "it ended before it was interrupted");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let said: Vec<String> = lines.collect();
    let expected =
        "interrupted; the change goes on: `mangrove get instances --app shop.default` shows it".to_owned();
    assert_eq!(said, [expected]);
    assert_eq!(finished(child.wait_with_output().unwrap()), failed(130, ""));
}
