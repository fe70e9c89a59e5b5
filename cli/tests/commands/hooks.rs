//! Hooks: what is sent, and that no secret is an argument or shown.

use serde_json::{Value, json};

use crate::{Home, done, failed, fake_root::FakeRoot, finish_with_input};

fn hook(id: &str, name: &str, organization: &str, failures: u64) -> Value {
    let error =
        (failures > 0).then(|| json!({"at": "2026-11-22T10:00:00Z", "reason": "the receiver answered 500"}));
    json!({
        "_id": id, "hook_name": name, "webhook_url": "https://hooks.example/told", "entity": "jobs",
        "events": ["post_create", "post_delete"], "organization": organization, "signed": true, "pending": failures,
        "last_delivery": null, "last_error": error, "failures": failures, "given_up": 0, "dropped": 0,
    })
}

fn with_hooks(hooks: &[Value]) -> (FakeRoot, Home) {
    let root = FakeRoot::start();
    let mut answers = vec![("GET /api/v1/hooks".to_owned(), json!(hooks))];
    answers.push(("POST /api/v1/hooks".to_owned(), json!({})));
    for hook in hooks {
        let path = format!("/api/v1/hooks/{}", hook["_id"].as_str().expect("an id"));
        answers.push((format!("PATCH {path}"), hook.clone()));
        answers.push((format!("DELETE {path}"), Value::Null));
    }
    root.state().people.extend(answers);
    let home = Home::logged_in_to(&root);
    (root, home)
}

#[test]
fn a_hook_is_made_with_a_secret_that_is_no_argument() {
    let (root, home) = with_hooks(&[]);
    let create = ["hook", "create", "inventory", "--url", "https://hooks.example/told", "--entity", "jobs"];
    assert_eq!(home.run(&create), done("", "hook inventory is told from now on\n"));
    let body = r#"{"entity":"jobs","events":["post_create","post_update","post_delete"],"hook_name":"inventory","webhook_url":"https://hooks.example/told"}"#;
    assert_eq!(root.requests(), [format!("POST /api/v1/hooks {body}")]);
    let signed = [&create[..], &["--on", "delete", "--secret-file", "-"]].concat();
    let created = finish_with_input(&mut home.mangrove(&signed), "0123456789abcdef\n");
    assert_eq!(created, done("", "hook inventory is told from now on\n"));
    let body = r#"{"entity":"jobs","events":["post_delete"],"hook_name":"inventory","secret":"0123456789abcdef","webhook_url":"https://hooks.example/told"}"#;
    assert_eq!(root.requests(), [format!("POST /api/v1/hooks {body}")]);
    let refused = home.run(&[&create[..], &["--on", "pre_create"]].concat());
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("invalid value 'pre_create'"), "{}", refused.stderr);
}

#[test]
fn hooks_are_listed_with_why_they_are_not_taken() {
    let (_root, home) = with_hooks(&[hook("id-2", "till", "acme", 3), hook("id-1", "shop", "acme", 0)]);
    let listed = home.run(&["hook", "list"]);
    let lines: Vec<Vec<&str>> = listed.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "ENTITY", "EVENTS", "WAITING", "FAILURES", "URL"]);
    assert_eq!(lines[1], ["shop", "jobs", "create,delete", "0", "0", "https://hooks.example/told"]);
    assert_eq!(lines[2][..5], ["till", "jobs", "create,delete", "3", "3"]);
    assert_eq!(listed.stderr, "hook till is not taken: the receiver answered 500\n");
    assert_eq!(home.run(&["hook", "list", "-o", "name"]).stdout, "shop\ntill\n");
}

#[test]
fn a_hook_is_changed_where_something_is_said_and_told_at_once_in_any_case() {
    let (root, home) = with_hooks(&[hook("id-1", "shop", "acme", 0), hook("id-2", "till", "acme", 3)]);
    let nothing = home.run(&["hook", "update", "till"]);
    assert_eq!(nothing, done("", "hook till is as you said, and told at once of what waits (3)\n"));
    assert_eq!(root.requests(), ["GET /api/v1/hooks", "PATCH /api/v1/hooks/id-2 {}"]);
    let other = [
        "hook",
        "update",
        "shop",
        "--rename",
        "store",
        "--url",
        "https://b.example/",
        "--on",
        "update,delete",
        "--unsigned",
    ];
    assert_eq!(home.run(&other), done("", "hook store is as you said, and nothing waits\n"));
    let body = r#"{"events":["post_update","post_delete"],"hook_name":"store","secret":"","webhook_url":"https://b.example/"}"#;
    assert_eq!(root.requests()[1], format!("PATCH /api/v1/hooks/id-1 {body}"));
}

#[test]
fn hooks_are_deleted_by_name_and_one_that_may_be_any_of_two_by_its_organisation() {
    let (root, home) = with_hooks(&[hook("id-1", "shop", "acme", 0), hook("id-2", "shop", "other", 0)]);
    assert_eq!(
        home.run(&["hook", "delete", "shop"]),
        failed(
            1,
            "error: `shop` may be any of 2 hooks: acme/shop, other/shop\n  hint: use one of these names, or the id\n"
        )
    );
    assert_eq!(home.run(&["hook", "delete", "other/shop"]), done("", "deleted hook other/shop\n"));
    assert_eq!(root.requests().last().map(String::as_str), Some("DELETE /api/v1/hooks/id-2"));
    assert_eq!(
        home.run(&["hook", "delete", "nothing"]),
        failed(1, "error: there is no hook `nothing`\n  hint: `mangrove hook list` lists what there is\n")
    );
}
