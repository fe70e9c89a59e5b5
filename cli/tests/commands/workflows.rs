//! Runs and ignitors: what is asked of the root, and how it is shown.

use serde_json::{Value, json};

use crate::{Home, done, fake_root::FakeRoot};

const RUNS: &str = "/apis/sirocco.cloud/v1alpha1/namespaces/root/runs";
const IGNITORS: &str = "/apis/sirocco.cloud/v1alpha1/namespaces/root/ignitors";

fn with(answers: &[(&str, &str, Value)]) -> (FakeRoot, Home) {
    let root = FakeRoot::start();
    let home = Home::logged_in_to(&root);
    for (method, path, answer) in answers {
        root.state().people.insert(format!("{method} {path}"), answer.clone());
    }
    root.requests();
    (root, home)
}

#[test]
fn a_run_is_shown_with_what_led_to_what() {
    let run = json!({"status": {
        "phase": "Failed", "message": "task b failed, and no other was there for it",
        "tasks": [
            {"name": "a", "round": 1, "phase": "Succeeded", "attempts": 1, "exitCode": 0,
             "after": [{"ignitor": "go", "result": "fired"}]},
            {"name": "b", "round": 2, "phase": "Failed", "attempts": 3, "exitCode": 2, "detail": "it ended with exit code 2",
             "actions": {"taken": 1, "waiting": 1, "givenUp": 2, "error": "nobody is there"},
             "after": [{"task": "a", "round": 1, "result": "success"}, {"task": "b", "round": 1, "result": "failure"}]},
        ],
    }});
    let (_root, home) = with(&[("GET", &format!("{RUNS}/7"), run)]);
    let shown = home.run(&["run", "graph", "7"]);
    let lines: Vec<String> =
        shown.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "TASK PHASE AFTER ATTEMPTS EXIT CODE DETAIL",
            "a Succeeded go fired 1 0 -",
            "b#2 Failed a success, b failure 3 2 it ended with exit code 2",
        ]
    );
    let actions = "actions of b#2: 1 wait, 2 were given up: nobody is there";
    assert_eq!(shown.stderr, format!("{actions}\nFailed: task b failed, and no other was there for it\n"));
}

#[test]
fn a_run_is_stopped_and_tried_again_by_what_is_written_to_it() {
    let path = format!("{RUNS}/7");
    let stopped = json!({"spec": {"ignitor": "go", "cancel": true, "retries": 1}});
    let (root, home) = with(&[("GET", &path, stopped), ("PUT", &path, json!({}))]);
    assert_eq!(home.run(&["run", "cancel", "7"]), done("", "run 7 is being stopped\n"));
    assert_eq!(root.requests(), [format!("GET {path}")], "it is already");
    assert_eq!(home.run(&["run", "retry", "7"]), done("", "what failed in run 7 is tried again\n"));
    let written = format!(r#"PUT {path} {{"spec":{{"cancel":false,"ignitor":"go","retries":2}}}}"#);
    assert_eq!(root.requests(), [format!("GET {path}"), written]);
}

#[test]
fn ignitors_are_fired_suspended_and_looked_at() {
    let path = format!("{IGNITORS}/go");
    let ignitor = json!({"spec": {"scheduled": "@daily"}, "status": {"next": ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]}});
    let made = json!({"metadata": {"name": "8"}});
    let (root, home) = with(&[("GET", &path, ignitor), ("PUT", &path, json!({})), ("POST", RUNS, made)]);
    assert_eq!(home.run(&["ignitor", "fire", "go", "--data", "x"]), done("8\n", ""));
    let fired = r#"{"apiVersion":"sirocco.cloud/v1alpha1","kind":"Run","spec":{"data":"x","ignitor":"go"}}"#;
    assert_eq!(root.requests(), [format!("POST {RUNS} {fired}")]);
    assert_eq!(
        home.run(&["ignitor", "next", "go"]),
        done("2026-01-01T00:00:00Z\n2026-01-02T00:00:00Z\n", "")
    );
    assert_eq!(home.run(&["ignitor", "suspend", "go"]), done("", "ignitor go fires by hand only\n"));
    assert!(root.requests().iter().any(|request| request.contains(r#""suspend":true"#)));
}
