//! Secrets: what is sent, and that no value is an argument or shown.

use serde_json::json;

use crate::{Home, done, failed, fake_root::FakeRoot, finish_with_input};

fn with_a_secret(users: &[&str]) -> (FakeRoot, Home) {
    let root = FakeRoot::start();
    root.state().secrets = vec![json!({
        "id": "id-1", "name": "database", "kind": "opaque", "version": 2, "updated_at": "2020-01-01T00:00:00Z",
        "versions": [], "users": users,
    })];
    let home = Home::logged_in_to(&root);
    (root, home)
}

#[test]
fn a_value_comes_from_standard_input_or_a_file_as_it_is() {
    let (root, home) = with_a_secret(&[]);
    let created = finish_with_input(&mut home.mangrove(&["secret", "create", "token"]), "hunter2\n");
    assert_eq!(created, done("", "secret token is stored\n"));
    assert_eq!(
        root.requests(),
        [r#"POST /api/v1/secrets {"data":"aHVudGVyMgo=","kind":"opaque","name":"token"}"#]
    );
    let file = home.file("password", "hunter2\n");
    let login = ["secret", "rotate", "database", "--registry", "r.example", "--username", "robot", "--file"];
    assert_eq!(
        home.run(&[&login[..], &[&file]].concat()),
        done("", "secret database is of version 3\n1 service being updated to it: shop.prod.web.front\n")
    );
    assert_eq!(
        root.requests(),
        [concat!(
            "PUT /api/v1/secrets/database ",
            r#"{"kind":"registry","registry":{"password":"hunter2","server":"r.example","username":"robot"}}"#
        )]
    );
}

#[test]
fn there_is_no_argument_for_a_value() {
    let (_root, home) = with_a_secret(&[]);
    let refused = home.run(&["secret", "create", "token", "hunter2"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("unexpected argument"), "{}", refused.stderr);
}

#[test]
fn secrets_and_their_users_are_listed() {
    let (_root, home) = with_a_secret(&["shop.prod.web.front", "shop.prod.till.front"]);
    let listed = home.run(&["secret", "list"]);
    assert_eq!(listed.code, 0);
    let lines: Vec<Vec<&str>> = listed.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "KIND", "VERSION", "CHANGED", "USERS"]);
    assert_eq!((lines[1][..3].to_vec(), lines[1].last()), (vec!["database", "opaque", "2"], Some(&"2")));
    assert_eq!(
        home.run(&["secret", "users", "database"]),
        done("shop.prod.web.front\nshop.prod.till.front\n", "")
    );
    let unknown = home.run(&["secret", "users", "nothing"]);
    assert_eq!(
        unknown,
        failed(
            1,
            "error: there is no secret `nothing`\n  hint: `mangrove secret list` lists what there is\n"
        )
    );
}

#[test]
fn one_in_use_is_not_deleted_and_the_root_says_by_whom() {
    let (root, home) = with_a_secret(&["shop.prod.web.front"]);
    assert_eq!(
        home.run(&["secret", "delete", "database"]),
        failed(1, "error: the root refused DELETE /api/v1/secrets/database: it is used (409)\n")
    );
    assert_eq!(root.requests(), ["DELETE /api/v1/secrets/database"]);
    root.state().secrets.clear();
    assert_eq!(home.run(&["secret", "delete", "a", "b"]), done("", "deleted secret a\ndeleted secret b\n"));
}
