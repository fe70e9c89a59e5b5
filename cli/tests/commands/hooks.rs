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
    // With all columns, and as the root tells of them: then the reasons are there already.
    let wide = home.run(&["hook", "list", "-o", "wide"]);
    let lines: Vec<Vec<&str>> = wide.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][6..], ["SIGNED", "ORGANIZATION", "ID"]);
    assert_eq!(lines[1][6..], ["yes", "acme", "id-1"]);
    let listed = home.run(&["hook", "list", "-o", "json"]);
    let told: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    assert_eq!(told[1]["last_error"]["reason"], "the receiver answered 500");
    assert_eq!((told[0]["_id"].as_str(), listed.stderr.as_str()), (Some("id-1"), ""));

    let (_root, home) = with_hooks(&[]);
    let none = home.run(&["hook", "list"]);
    assert_eq!(
        none,
        done("", "there are no hooks; `mangrove hook create NAME --url URL --entity jobs` makes one\n")
    );
}

#[test]
fn a_hook_is_given_another_entity_and_secret_and_one_that_is_not_there_is_not_changed() {
    let (root, home) = with_hooks(&[hook("id-1", "shop", "acme", 0)]);
    let secret = home.file("secret", "0123456789abcdef\r\n");
    let other = ["hook", "update", "id-1", "--entity", "applications", "--secret-file", &secret];
    assert_eq!(home.run(&other), done("", "hook shop is as you said, and nothing waits\n"));
    let body = r#"{"entity":"applications","secret":"0123456789abcdef"}"#;
    assert_eq!(root.requests()[1], format!("PATCH /api/v1/hooks/id-1 {body}"));
    let both = home.run(&[&other[..], &["--unsigned"]].concat());
    assert_eq!((both.code, root.requests().len()), (2, 0), "{both:?}");

    let unknown = home.run(&["hook", "update", "shpo", "--unsigned"]);
    assert_eq!(unknown, failed(1, "error: there is no hook `shpo`\n  hint: did you mean `shop`?\n"));
    assert_eq!(root.requests(), ["GET /api/v1/hooks"]);
    // What is no text is no secret, and nothing is asked of the root.
    let binary = home.file("binary", "");
    std::fs::write(&binary, [0xff, 0xfe]).expect("writable");
    let refused = home.run(&["hook", "update", "shop", "--secret-file", &binary]);
    assert_eq!((refused.code, root.requests().len()), (2, 0), "{refused:?}");
    assert!(refused.stderr.contains(&binary), "{}", refused.stderr);
}

#[test]
fn of_several_hooks_those_that_are_there_are_deleted() {
    let (root, home) = with_hooks(&[hook("id-1", "shop", "acme", 0), hook("id-2", "till", "acme", 0)]);
    let partly = home.run(&["hook", "delete", "nothing", "till", "shop"]);
    assert_eq!((partly.code, partly.stdout.as_str()), (1, ""), "{partly:?}");
    assert!(partly.stderr.contains("there is no hook `nothing`"), "{}", partly.stderr);
    assert!(partly.stderr.contains("deleted hook till\ndeleted hook shop\n"), "{}", partly.stderr);
    assert_eq!(root.requests()[1..], ["DELETE /api/v1/hooks/id-2", "DELETE /api/v1/hooks/id-1"]);
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
