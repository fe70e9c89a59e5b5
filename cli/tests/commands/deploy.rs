//! Deploying: progress, refusals, failures, interruptions, and doing it twice.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{Home, done, failed, fake_root::FakeRoot, finish_with_input, finished};

fn sla(memory: u32) -> String {
    json!({"sla_version": "v2.0", "customerID": "Admin", "applications": [application("hello", memory)]})
        .to_string()
}

fn application(name: &str, memory: u32) -> Value {
    json!({
        "application_name": name, "application_namespace": "default", "applicationID": "",
        "microservices": [{
            "microserviceID": "", "microservice_name": "hello", "microservice_namespace": "default",
            "virtualization": "container", "code": "mangrove/hello:latest", "memory": memory, "cmd": [],
        }],
    })
}

fn running() -> Value {
    json!({
        "phase": "running", "status": "RUNNING", "published_at": "192.0.2.7", "ports": ["8080:8080/tcp"],
        "addresses": ["10.30.0.2", "fd00::2"],
    })
}

fn refused() -> Value {
    json!({"phase": "refused", "status": "NO_WORKER_CAPACITY", "reason": {
        "code": "NoResourcesAvailable", "summary": "no cluster has what it needs",
        "candidates": [
            {"candidate": "north", "reason": "32 MiB of memory needed, 16 MiB free"},
            {"candidate": "south", "reason": "its 3 workers are cordoned"},
        ],
    }})
}

const RUNNING_LINE: &str = "hello.default hello.default/0  running  http://192.0.2.7:8080\n";
const SUMMARY_LINE: &str =
    "hello.default hello.default/0  running  http://192.0.2.7:8080  10.30.0.2 fd00::2\n";

#[test]
fn a_deployment_is_followed_until_it_runs() {
    let root = FakeRoot::with_script(vec![json!({"phase": "creating", "status": "CREATING"}), running()]);
    let home = Home::logged_in_to(&root);
    let file = home.file("hello.sla.json", &sla(32));
    assert_eq!(
        home.run(&["deploy", "-f", &file]),
        done(
            SUMMARY_LINE,
            &format!(
                "hello.default created with 1 service\n\
                 hello.default hello.default/0  requested\n\
                 hello.default hello.default/0  creating\n{RUNNING_LINE}"
            )
        )
    );
    let requests = root.requests();
    assert_eq!(requests[0], format!("POST /api/application/ {}", sla(32)));
    assert_eq!(
        requests[1..],
        [
            "GET /api/services/000000000000000000000a00",
            "POST /api/service/000000000000000000000500/instance",
            "GET /api/watch?application=000000000000000000000a00",
        ]
    );
}

#[test]
fn doubly_encoded_answers_serve_as_well() {
    let root = FakeRoot::with_script(vec![running()]);
    root.state().doubly_encoded = true;
    let home = Home::logged_in_to(&root);
    let deployed = finish_with_input(&mut home.mangrove(&["deploy", "-f", "-"]), &sla(32));
    assert_eq!((deployed.code, deployed.stdout.as_str()), (0, SUMMARY_LINE), "{deployed:?}");
}

#[test]
fn one_shot_instances_that_complete_are_done() {
    let root = FakeRoot::with_script(vec![json!({"phase": "completed", "status": "COMPLETED"})]);
    let home = Home::logged_in_to(&root);
    let file = home.file("hello.sla.json", &sla(32));
    let deployed = home.run(&["deploy", "-f", &file, "--instances", "2"]);
    assert_eq!(
        (deployed.code, deployed.stdout.as_str()),
        (0, "hello.default hello.default/0  completed\nhello.default hello.default/1  completed\n")
    );
}

#[test]
fn a_refusal_is_told_with_every_reason_and_what_happens_next() {
    let root = FakeRoot::with_script(vec![refused()]);
    let home = Home::logged_in_to(&root);
    let file = home.file("hello.sla.json", &sla(32));
    assert_eq!(
        home.run(&["deploy", "-f", &file]),
        failed(
            1,
            "hello.default created with 1 service\n\
             hello.default hello.default/0  requested\n\
             hello.default hello.default/0  refused  NoResourcesAvailable: no cluster has what it needs\n    \
             north: 32 MiB of memory needed, 16 MiB free\n    \
             south: its 3 workers are cordoned\n\
             error: nothing can take instance hello.default.hello.default/0\n  \
             hint: it stays pending and is placed when capacity appears: `mangrove get instances --app \
             hello.default` shows it, `mangrove delete app hello.default` gives it up\n"
        )
    );
}

#[test]
fn a_refusal_that_resolves_in_time_is_no_failure() {
    let root =
        FakeRoot::with_script(vec![refused(), json!({"phase": "creating", "reason": null}), running()]);
    let home = Home::logged_in_to(&root);
    let file = home.file("hello.sla.json", &sla(32));
    let deployed = home.run(&["deploy", "-f", &file]);
    assert_eq!((deployed.code, deployed.stdout.as_str()), (0, SUMMARY_LINE), "{deployed:?}");
}

#[test]
fn an_instance_that_keeps_failing_is_reported_at_the_timeout() {
    let failing = json!({"phase": "failed", "status": "FAILED", "status_detail": "no such image:\nhello"});
    let root = FakeRoot::with_script(vec![failing]);
    let home = Home::logged_in_to(&root);
    let file = home.file("hello.sla.json", &sla(32));
    let deployed = home.run(&["deploy", "-f", &file, "--timeout", "1s"]);
    assert_eq!(
        deployed,
        failed(
            1,
            "hello.default created with 1 service\n\
             hello.default hello.default/0  requested\n\
             hello.default hello.default/0  failed  no such image: hello\n\
             error: not everything runs after 1 s:\n  \
             hello.default hello.default/0  failed  no such image: hello\n  \
             hint: it is still being tried: `mangrove get instances -o wide --app hello.default` shows it, \
             `mangrove logs` what it wrote\n"
        )
    );
}

#[test]
fn interrupting_leaves_the_deployment_going() {
    let root = FakeRoot::with_script(vec![json!({"phase": "creating", "status": "CREATING"})]);
    let home = Home::logged_in_to(&root);
    let file = home.file("hello.sla.json", &sla(32));
    let mut command = home.mangrove(&["deploy", "-f", &file]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let creating = lines.find(|line| line.ends_with("creating"));
    assert!(creating.is_some(), "it ended before it was interrupted");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let said: Vec<String> = lines.collect();
    assert_eq!(finished(child.wait_with_output().unwrap()), failed(130, ""));
    assert_eq!(
        said,
        [format!(
            "interrupted; the deployment goes on: `mangrove get instances --app hello.default` shows it, \
             `mangrove deploy -f {file}` watches it again"
        )]
    );
    assert!(!root.requests().iter().any(|request| request.starts_with("DELETE")));
    assert_eq!(root.state().services[0]["instance_list"].as_array().unwrap().len(), 1);
}

#[test]
fn detached_it_returns_once_the_root_has_accepted() {
    let root = FakeRoot::start();
    let home = Home::logged_in_to(&root);
    let file = home.file("hello.sla.json", &sla(32));
    assert_eq!(
        home.run(&["deploy", "-f", &file, "--detach"]),
        done(
            "",
            "hello.default created with 1 service\n\
             not waiting; `mangrove get instances --app hello.default` shows how it goes\n"
        )
    );
}

#[test]
fn deploying_twice_changes_nothing_and_succeeds() {
    let root = FakeRoot::with_script(vec![running()]);
    let home = Home::logged_in_to(&root);
    let file = home.file("hello.sla.json", &sla(32));
    assert_eq!(home.run(&["deploy", "-f", &file]).code, 0);
    root.requests();
    assert_eq!(
        home.run(&["deploy", "-f", &file]),
        done(SUMMARY_LINE, &format!("hello.default already exists; unchanged\n{RUNNING_LINE}"))
    );
    assert!(!root.requests().iter().any(|request| request.ends_with("/instance")));
}

#[test]
fn deploying_again_gives_instances_to_services_without_any() {
    let root = FakeRoot::with_script(vec![running()]);
    let home = Home::logged_in_to(&root);
    let file = home.file("hello.sla.json", &sla(32));
    assert_eq!(home.run(&["deploy", "-f", &file, "--detach"]).code, 0);
    root.state().services[0]["instance_list"] = json!([]);
    let again = home.run(&["deploy", "-f", &file]);
    assert_eq!((again.code, again.stdout.as_str()), (0, SUMMARY_LINE), "{again:?}");
    assert!(again.stderr.starts_with("hello.default already exists; 1 instance added\n"), "{}", again.stderr);
}

#[test]
fn only_the_missing_applications_of_a_file_are_created() {
    let root = FakeRoot::with_script(vec![running()]);
    let home = Home::logged_in_to(&root);
    let first = home.file("first.json", &sla(32));
    assert_eq!(home.run(&["deploy", "-f", &first]).code, 0);
    let mut both: Value = serde_json::from_str(&sla(32)).unwrap();
    both["applications"].as_array_mut().unwrap().push(application("second", 32));
    let both = home.file("both.json", &both.to_string());
    let deployed = home.run(&["deploy", "-f", &both, "--detach"]);
    assert_eq!(
        deployed,
        done(
            "",
            "some applications of the file already exist; creating the others\n\
             hello.default already exists; unchanged\n\
             second.default created with 1 service\n\
             not waiting; `mangrove get instances --app hello.default` shows how it goes\n"
        )
    );
    assert_eq!(root.state().applications.len(), 2);
}

#[test]
fn a_file_that_differs_from_what_is_deployed_is_refused() {
    let root = FakeRoot::with_script(vec![running()]);
    let home = Home::logged_in_to(&root);
    let file = home.file("hello.sla.json", &sla(32));
    assert_eq!(home.run(&["deploy", "-f", &file]).code, 0);
    let changed = home.file("changed.json", &sla(64));
    assert_eq!(
        home.run(&["deploy", "-f", &changed]),
        failed(
            1,
            &format!(
                "error: application `hello.default` already exists and differs from {changed}: `memory` of \
                 service hello.default is 32, the file says 64\n  \
                 hint: deploy changes nothing that exists: run `mangrove update hello.default.hello.default -f \
                 {changed}`\n"
            )
        )
    );
    let mut longer: Value = serde_json::from_str(&sla(32)).unwrap();
    longer["applications"][0]["microservices"][0]["on_partition"] = json!("keep");
    let longer = home.file("longer.json", &longer.to_string());
    let refused = home.run(&["deploy", "-f", &longer]);
    let told = "`on_partition` of service hello.default is not set, the file says \"keep\"";
    assert!(refused.code == 1 && refused.stderr.contains(told), "{refused:?}");
    let mut other: Value = serde_json::from_str(&sla(32)).unwrap();
    other["applications"][0]["microservices"][0]["microservice_name"] = json!("other");
    let other = home.file("other.json", &other.to_string());
    let refused = home.run(&["deploy", "-f", &other]);
    let told = "hint: deploy changes nothing that exists: run `mangrove delete app hello.default` first";
    assert!(refused.code == 1 && refused.stderr.contains(told), "{refused:?}");
}

#[test]
fn an_image_sent_under_its_other_name_is_no_difference() {
    let root = FakeRoot::with_script(vec![running()]);
    let home = Home::logged_in_to(&root);
    let file = home.file("hello.sla.json", &sla(32));
    assert_eq!(home.run(&["deploy", "-f", &file]).code, 0);
    root.state().services[0].as_object_mut().unwrap().remove("code");
    assert_eq!(home.run(&["deploy", "-f", &file]).code, 0);
    root.state().services[0]["image"] = json!("mangrove/hello:older");
    assert_eq!(home.run(&["deploy", "-f", &file]).code, 1);
}

#[test]
fn a_lost_watch_is_taken_up_again() {
    let root = FakeRoot::with_script(vec![running()]);
    root.state().broken_watches = 1;
    let home = Home::logged_in_to(&root);
    let file = home.file("hello.sla.json", &sla(32));
    let deployed = home.run(&["deploy", "-f", &file]);
    assert_eq!((deployed.code, deployed.stdout.as_str()), (0, SUMMARY_LINE), "{deployed:?}");
    let watches = root.requests().iter().filter(|request| request.contains("/api/watch")).count();
    assert_eq!(watches, 2);
}

#[test]
fn an_application_without_services_is_done_at_once() {
    let root = FakeRoot::start();
    let home = Home::logged_in_to(&root);
    let empty = json!({"application_name": "empty", "application_namespace": "default", "microservices": []});
    let file = home.file("empty.json", &json!({"applications": [empty]}).to_string());
    assert_eq!(home.run(&["deploy", "-f", &file]), done("", "empty.default created with 0 services\n"));
}

#[test]
fn an_application_deleted_meanwhile_ends_the_waiting() {
    let root = FakeRoot::with_script(vec![json!({"phase": "creating", "status": "CREATING"})]);
    let home = Home::logged_in_to(&root);
    let file = home.file("hello.sla.json", &sla(32));
    let mut command = home.mangrove(&["deploy", "-f", &file]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.ends_with("creating")));
    assert_eq!(home.run(&["delete", "app", "hello", "--yes"]).code, 0);
    let said: Vec<String> = lines.collect();
    assert_eq!(said, ["error: hello.default was deleted before it ran"]);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_file_with_a_mistake_is_shown_with_its_line() {
    let home = Home::new();
    let file = home.file("bad.json", "{\n  \"sla_version\": \"v2.0\",\n  \"applications\": [,]\n}\n");
    assert_eq!(
        home.run(&["deploy", "-f", &file]),
        failed(
            2,
            &format!(
                "error: {file}:3:20 is not valid JSON: expected value\n  \
                 3 |   \"applications\": [,]\n    |                    ^\n"
            )
        )
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    assert_eq!(
        Home::new().run(&["deploy", "-f", "nowhere.json"]),
        failed(2, "error: cannot read nowhere.json: No such file or directory (os error 2)\n")
    );
}
