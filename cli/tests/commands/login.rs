//! Logging in, staying logged in, and roots that are not there.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::{Value, json};

use crate::{Finished, Home, done, failed, fake_root::FakeRoot, finish, finish_with_input};

fn saved(home: &Home) -> Value {
    serde_json::from_slice(&fs::read(home.config()).unwrap()).unwrap()
}

#[test]
fn a_login_is_saved_for_its_owner_alone() {
    let (root, home) = (FakeRoot::start(), Home::new());
    let login =
        finish(home.mangrove(&["login"]).env("MANGROVE_ROOT", &root.url).env("MANGROVE_PASSWORD", "secret"));
    assert_eq!(login, done("", &format!("logged in to {} as Admin\n", root.url)));
    assert_eq!(
        saved(&home),
        json!({"root": root.url, "username": "Admin", "token": "access 0", "refresh_token": "refresh"})
    );
    assert_eq!(fs::metadata(home.config()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_password_may_come_from_standard_input() {
    let (root, home) = (FakeRoot::start(), Home::new());
    let mut login = home.mangrove(&["login", "--root", &root.url, "--password-stdin"]);
    assert_eq!(finish_with_input(&mut login, "secret\n").code, 0);
    assert_eq!(home.run(&["get", "apps", "-o", "json"]), done("[]\n", ""));
}

#[test]
fn a_wrong_password_is_told_as_the_root_tells_it() {
    let (root, home) = (FakeRoot::start(), Home::new());
    let login =
        finish(home.mangrove(&["login", "--root", &root.url, "-u", "Eve"]).env("MANGROVE_PASSWORD", "guess"));
    assert_eq!(
        login,
        failed(1, &format!("error: {} does not let `Eve` in: invalid username or password\n", root.url))
    );
    assert!(!home.config().exists());
}

#[test]
fn an_expired_access_token_is_refreshed_once_and_saved() {
    let root = FakeRoot::start();
    let home = Home::logged_in_to(&root);
    root.state().token_age = 1;
    assert_eq!(home.run(&["get", "apps", "-o", "json"]), done("[]\n", ""));
    assert_eq!(root.requests(), ["GET /api/applications/", "GET /api/applications/"]);
    assert_eq!(saved(&home)["token"], "access 1");
    assert_eq!(saved(&home)["refresh_token"], "refresh");
    assert_eq!(home.run(&["get", "apps", "-o", "json"]), done("[]\n", ""));
    assert_eq!(root.requests(), ["GET /api/applications/"]);
}

#[test]
fn an_expired_login_says_how_to_renew_it() {
    let root = FakeRoot::start();
    let home = Home::logged_in_to(&root);
    (root.state().token_age, root.state().refuses_refresh) = (1, true);
    let url = &root.url;
    assert_eq!(
        home.run(&["get", "apps"]),
        failed(
            1,
            &format!("error: the login to {url} has expired\n  hint: run `mangrove login --root {url}`\n")
        )
    );
}

#[test]
fn a_login_is_never_sent_to_another_root() {
    let (root, other) = (FakeRoot::start(), FakeRoot::start());
    let home = Home::logged_in_to(&root);
    let url = &other.url;
    assert_eq!(
        home.run(&["get", "apps", "--root", url]),
        failed(1, &format!("error: not logged in to {url}\n  hint: run `mangrove login --root {url}`\n"))
    );
}

#[test]
fn a_logout_forgets_the_tokens() {
    let root = FakeRoot::start();
    root.state().people.insert("POST /api/auth/logout".to_owned(), json!({"message": "ok"}));
    let home = Home::logged_in_to(&root);
    assert_eq!(home.run(&["logout"]), done("", &format!("logged out of {}\n", root.url)));
    assert_eq!(
        saved(&home),
        json!({"root": root.url, "username": "Admin", "token": null, "refresh_token": null})
    );
    assert_eq!(home.run(&["get", "apps"]).code, 1);
    assert_eq!(home.run(&["logout"]), done("", "nobody was logged in\n"));
}

#[test]
fn a_root_that_is_not_there_is_told_with_what_to_do() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    assert_eq!(
        Home::new().run(&["get", "clusters", "--root", &url]),
        failed(
            1,
            &format!(
                "error: the root at {url} does not answer: Connection refused (os error 111)\n  \
                 hint: start it with `scripts/up`, or name another one with --root or MANGROVE_ROOT\n"
            )
        )
    );
}

#[test]
fn wrong_arguments_exit_with_2_and_help_documents_it() {
    let home = Home::new();
    assert_eq!(home.run(&["get"]).code, 2);
    assert_eq!(home.run(&["deploy"]).code, 2);
    assert_eq!(home.run(&["get", "apps", "--root", "ftp://edge"]).code, 2);
    let help = home.run(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    assert!(help.stdout.contains("Exit codes:\n  0    done\n  1    it failed"), "{}", help.stdout);
}

/// Begun at the identity provider; what is answered whether it is finished.
fn at_provider(expires_in: u64, polls: &[(u16, Value)]) -> (FakeRoot, Finished, Home) {
    let root = FakeRoot::start();
    let begun = json!({
        "device_code": "sealed", "user_code": "WDJB\u{1b}[2J", "verification_uri": "http://id.example/device",
        "expires_in": expires_in, "interval": 1,
    });
    root.state().people.insert("POST /api/auth/oidc/device".to_owned(), begun);
    root.state().polls = polls.iter().cloned().collect();
    let home = Home::new();
    let login = home.run(&["login", "--root", &root.url, "--oidc", "--organization", "acme"]);
    (root, login, home)
}

#[test]
fn a_login_at_the_identity_provider_is_finished_in_a_browser() {
    let claims = data_encoding::BASE64URL_NOPAD.encode(br#"{"sub":"kim"}"#);
    let pair = json!({"token": format!("x.{claims}.y"), "refresh_token": "refresh"});
    let pending = json!({"error": "authorization_pending", "message": "not yet"});
    let (root, login, home) = at_provider(60, &[(400, pending), (200, pair)]);
    let said = format!(
        "open http://id.example/device in a browser and log in there\n\
         the code is WDJB [2J; it is good for 60 s\nlogged in to {} as kim\n",
        root.url
    );
    assert_eq!(login, done("", &said));
    let asked = ["POST /api/auth/oidc/device {\"organization_name\":\"acme\"} by nobody".to_owned()];
    let polls =
        [r#"poll {"device_code":"sealed"}"#.to_owned(), r#"poll {"device_code":"sealed"}"#.to_owned()];
    assert_eq!(root.requests(), [&asked[..], &polls].concat());
    let saved = saved(&home);
    assert_eq!((&saved["username"], &saved["organization"]), (&json!("kim"), &json!("acme")));
    assert_eq!(saved["refresh_token"], "refresh");
}

#[test]
fn a_login_at_the_identity_provider_that_is_refused_or_never_finished_ends() {
    let refused = json!({"error": "no_grant", "message": "no grant of this root is for you"});
    let (_root, login, home) = at_provider(60, &[(403, refused)]);
    assert_eq!(login.code, 1);
    assert!(login.stderr.contains("no grant of this root is for you"), "{login:?}");
    assert!(!home.config().exists());
    let (root, login, _home) = at_provider(0, &[]);
    assert_eq!(login.code, 1);
    assert!(login.stderr.contains("nobody logged in at the identity provider within 0 s"), "{login:?}");
    assert_eq!(root.requests().len(), 1, "nothing is asked when it is too late");
}
