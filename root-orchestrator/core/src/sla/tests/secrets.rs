//! What a service may say of secrets.

use model::SecretTarget;

use super::*;

fn wishes_with(extra: Value) -> SecretWishes {
    let sla = parsed(&sla_with(service_with(extra))).unwrap_or_else(|errors| panic!("{errors}"));
    sla.applications[0].services[0].secrets.clone()
}

fn file(path: &str, mode: u32) -> SecretTarget {
    SecretTarget::File { path: path.to_owned(), mode }
}

#[test]
fn a_secret_is_a_file_below_run_secrets_unless_the_service_says_otherwise() {
    let wishes = wishes_with(json!({
        "secrets": [
            {"name": "database"},
            {"name": "key", "file": "tls/key.pem", "mode": "0444"},
            {"name": "key", "file": "/etc/app/key.pem"},
            {"name": "token", "env": "TOKEN", "file": "", "mode": ""},
        ],
        "image_pull_secret": "registry",
    }));
    let expected = [
        ("database", file("/run/secrets/database", 0o400)),
        ("key", file("/run/secrets/tls/key.pem", 0o444)),
        ("key", file("/etc/app/key.pem", 0o400)),
        ("token", SecretTarget::Variable("TOKEN".to_owned())),
    ];
    assert_eq!(wishes.uses, expected.map(|(name, target)| (name.to_owned(), target)));
    assert_eq!(wishes.image_pull.as_deref(), Some("registry"));
    assert_eq!(wishes_with(json!({"secrets": [], "image_pull_secret": ""})), SecretWishes::default());
}

#[test]
fn what_cannot_be_is_refused_at_its_place() {
    let refused = |secret: Value| {
        let problems = service_problems(json!({"secrets": [secret]}));
        assert_eq!(problems.len(), 1, "{problems:?}");
        (problems[0].0, problems[0].1.clone())
    };
    let invalid = |field: &str| (SlaErrorCode::InvalidValue, format!("secrets[0].{field}"));
    for name in ["", "-a", "a/b", "..", &"n".repeat(64)] {
        assert_eq!(refused(json!({"name": name})), invalid("name"), "{name}");
    }
    for path in ["a/../b", "/", "/a/", "/.mangrove/gate", "/etc/hosts"] {
        assert_eq!(refused(json!({"name": "a", "file": path})), invalid("file"), "{path}");
    }
    for mode in ["0644", "0777", "4400", "rw", "9"] {
        assert_eq!(refused(json!({"name": "a", "mode": mode})), invalid("mode"), "{mode}");
    }
    assert_eq!(refused(json!({"name": "a", "env": "A=B"})), invalid("env"));
    for beside in [json!({"file": "a"}), json!({"mode": "0400"})] {
        let mut both = json!({"name": "a", "env": "A"});
        both.as_object_mut().unwrap().extend(beside.as_object().unwrap().clone());
        assert_eq!(refused(both), (SlaErrorCode::Conflict, "secrets[0].env".to_owned()));
    }
    assert_eq!(refused(json!({})), (SlaErrorCode::MissingField, "secrets[0].name".to_owned()));
    let unknown = refused(json!({"name": "a", "value": "b"}));
    assert_eq!(unknown, (SlaErrorCode::UnknownField, "secrets[0].value".to_owned()));
    let problems = service_problems(json!({"image_pull_secret": "a b"}));
    assert_eq!((problems[0].0, &*problems[0].1), (SlaErrorCode::InvalidValue, "image_pull_secret"));
}

#[test]
fn two_things_of_one_service_have_no_place_or_variable_in_common() {
    let refused = |service: Value| {
        let problems = service_problems(service);
        assert_eq!(problems.len(), 1, "{problems:?}");
        (problems[0].0, problems[0].1.clone())
    };
    let conflict = |place: &str| (SlaErrorCode::Conflict, place.to_owned());
    let twice = json!({"secrets": [{"name": "a"}, {"name": "b", "file": "a"}]});
    assert_eq!(refused(twice), conflict("secrets[1].file"));
    let inside = json!({"secrets": [{"name": "a"}, {"name": "b", "file": "a/b"}]});
    assert_eq!(refused(inside), conflict("secrets[1].file"));
    let added = json!({"added_files": [{"path": "/etc/a", "content": ""}], "secrets": [{"name": "a", "file": "/etc/a"}]});
    assert_eq!(refused(added), conflict("secrets[0].file"));
    let set = json!({"environment": ["A=1"], "secrets": [{"name": "a", "env": "A"}]});
    assert_eq!(refused(set), conflict("secrets[0].env"));
}
