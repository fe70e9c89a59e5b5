//! What concerns users, organisations, passwords and API tokens.

use serde_json::{Value, json};

use crate::{Home, done, failed, fake_root::FakeRoot, finish, finish_with_input};

fn telling(answers: impl IntoIterator<Item = (&'static str, Value)>) -> (FakeRoot, Home) {
    let root = FakeRoot::start();
    root.state().people = answers.into_iter().map(|(asked, answer)| (asked.to_owned(), answer)).collect();
    let home = Home::logged_in_to(&root);
    (root, home)
}

fn user(name: &str, roles: &[&str]) -> Value {
    json!({
        "_id": {"$oid": format!("id-{name}")}, "name": name, "email": format!("{name}@example"),
        "created_at": "22/11/2026 09:00", "roles": roles,
    })
}

fn acme() -> Value {
    json!([{
        "_id": {"$oid": "id-acme"}, "name": "acme", "member": [{"user_id": "id-eve", "roles": ["Admin"]}],
    }])
}

#[test]
fn users_are_listed_with_their_roles() {
    let users = json!([user("eve", &["Admin"]), user("bob", &[])]);
    let (_root, home) = telling([("GET /api/users/", users)]);
    let listed = home.run(&["user", "list"]);
    let rows: Vec<Vec<&str>> = listed.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let wanted = [["NAME", "ROLES", "EMAIL"], ["bob", "-", "bob@example"], ["eve", "Admin", "eve@example"]];
    assert_eq!((listed.code, rows), (0, wanted.map(Vec::from).into()));
    assert_eq!(home.run(&["user", "list", "-o", "name"]), done("bob\neve\n", ""));
}

#[test]
fn a_user_is_created_with_a_password_nobody_sees() {
    let (root, home) = telling([("POST /api/auth/register", user("kim", &["Admin"]))]);
    let mut create = home.mangrove(&["user", "create", "kim", "--role", "Admin", "--password-stdin"]);
    assert_eq!(finish_with_input(&mut create, "pass word\n"), done("", "created user kim\n"));
    let wanted = json!({"name": "kim", "password": "pass word", "email": "", "roles": ["Admin"]});
    assert_eq!(root.requests(), [format!("POST /api/auth/register {wanted}")]);
    assert_eq!(home.run(&["user", "create", "kim"]).code, 2, "there is no terminal to ask on");
}

#[test]
fn a_member_joins_beside_the_others() {
    let (root, home) = telling([
        ("GET /api/organization/", acme()),
        ("GET /api/user/bob", user("bob", &[])),
        ("PUT /api/organization/id-acme", json!({"message": "ok"})),
    ]);
    let enlisted = home.run(&["organization", "enlist", "acme", "bob", "--role", "Application_Provider"]);
    assert_eq!(enlisted, done("", "in acme user bob is Application_Provider\n"));
    let members = json!({"member": [
        {"user_id": "id-eve", "roles": ["Admin"]},
        {"user_id": "id-bob", "roles": ["Application_Provider"]},
    ]});
    assert_eq!(root.requests()[2..], [format!("PUT /api/organization/id-acme {members}")]);
    let unknown = home.run(&["organization", "expel", "acne", "bob"]);
    let wanted = "error: there is no organization `acne`\n  hint: did you mean `acme`?\n";
    assert_eq!(unknown, failed(1, wanted));
}

#[test]
fn a_changed_password_logs_in_again() {
    let (root, home) = telling([("POST /api/user/Admin", json!({}))]);
    let mut change = home.mangrove(&["password", "--password-stdin"]);
    let changed = "the password of Admin was changed; other logins and API tokens of Admin have ended\n";
    assert_eq!(finish_with_input(&mut change, "before\nsecret\n"), done("", changed));
    let body = json!({"oldPassword": "before", "newPassword": "secret"});
    assert_eq!(root.requests(), [format!("POST /api/user/Admin {body}")]);
}

#[test]
fn a_reset_token_needs_no_login() {
    let root = FakeRoot::start();
    root.state().people.insert("PUT /api/user/".to_owned(), json!({}));
    let home = Home::new();
    let arguments = ["password", "--root", &root.url, "--reset-token", "a.b", "--password-stdin"];
    let set = finish_with_input(&mut home.mangrove(&arguments), "new\n");
    assert_eq!(set, done("", "the password was set; run `mangrove login`\n"));
    let body = json!({"token": "a.b", "password": "new"});
    assert_eq!(root.requests(), [format!("PUT /api/user/ {body} by nobody")]);
}

#[test]
fn what_one_may_is_told_in_a_word_and_a_reason() {
    let (_root, home) = telling([("GET /api/auth/can-i", json!({"allowed": true, "reason": null}))]);
    assert_eq!(home.run(&["auth", "can-i", "get", "service"]), done("yes\n", ""));
    let (_root, home) = telling([("GET /api/auth/can-i", json!({"allowed": false, "reason": "ask eve"}))]);
    let no = home.run(&["auth", "can-i", "delete", "user"]);
    assert_eq!((no.code, no.stdout.as_str()), (1, "no\n"));
    assert_eq!(no.stderr, "error: you may not delete user: ask eve\n");
    let (root, home) = telling([("GET /api/auth/can-i", json!({"allowed": false, "reason": "ask eve"}))]);
    let no = home.run(&["auth", "can-i", "update", "worker", "--cluster", "edge"]);
    assert_eq!(no.stderr, "error: you may not update worker at cluster edge: ask eve\n");
    let asked = "GET /api/auth/can-i?verb=update&resource=worker&cluster=edge";
    assert!(root.requests().iter().any(|request| request.starts_with(asked)), "{:?}", root.requests());
}

#[test]
fn an_api_token_is_printed_alone() {
    let made = json!({"token": "mga1.x.y", "expires_at": "2999-01-01T00:00:00Z"});
    let (root, home) = telling([("POST /api/auth/tokens", made)]);
    let created = home.run(&["auth", "token", "create", "build", "--scope", "get:service", "--ttl", "1d"]);
    assert_eq!((created.code, created.stdout.as_str()), (0, "mga1.x.y\n"));
    let body = json!({"name": "build", "scopes": ["get:service"], "ttl_seconds": 86400});
    assert_eq!(root.requests(), [format!("POST /api/auth/tokens {body}")]);
}

#[test]
fn a_login_is_to_an_organisation_and_a_logout_ends_it_at_the_root() {
    let root = FakeRoot::start();
    root.state().people.insert("POST /api/auth/logout".to_owned(), json!({"message": "ok"}));
    let home = Home::new();
    let arguments = ["login", "--root", &root.url, "--organization", "acme"];
    assert_eq!(finish(home.mangrove(&arguments).env("MANGROVE_PASSWORD", "secret")).code, 0);
    assert_eq!(root.state().organization, json!("acme"));
    assert_eq!(home.run(&["logout"]), done("", &format!("logged out of {}\n", root.url)));
    assert_eq!(root.requests(), ["POST /api/auth/logout  by Bearer refresh"]);
}

#[test]
fn a_quota_is_shown_and_changed_where_something_is_said() {
    let before = json!({
        "quota": {"instances": 5, "vcpus": null, "memory": 100, "storage": null},
        "usage": {"instances": 2, "vcpus": 1, "memory": 64, "storage": 0},
    });
    let (root, home) = telling([
        ("GET /api/organization/", acme()),
        ("GET /api/organization/id-acme/quota", before.clone()),
        ("PUT /api/organization/id-acme/quota", before),
    ]);
    let shown = home.run(&["organization", "quota", "acme"]);
    let rows: Vec<Vec<&str>> = shown.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1..3], [vec!["instances", "2", "5"], vec!["vcpus", "1", "no", "limit"]], "{shown:?}");
    root.requests();
    assert_eq!(home.run(&["organization", "quota", "acme", "--memory", "none", "--vcpus", "8"]).code, 0);
    let wanted = json!({"instances": 5, "vcpus": 8, "memory": null, "storage": null});
    assert_eq!(root.requests()[2..], [format!("PUT /api/organization/id-acme/quota {wanted}")]);
    assert_eq!(home.run(&["organization", "quota", "acme", "--vcpus", "many"]).code, 2);
}
