//! What clients ask for: selectors, pages, options.

use serde_json::{Value, json};

use crate::{
    options::{Options, Propagation},
    page::Token,
    selector::Selector,
    watch::EventType,
    write::{self, FieldValidation},
};

use super::{kind, widget};

fn options(query: &[(&str, &str)]) -> Result<Options, crate::Status> {
    Options::read(query.iter().copied())
}

fn red() -> Value {
    let mut object = widget("one", json!({"size": 1, "color": "red"}));
    object["metadata"]["labels"] = json!({"app": "shop", "tier": "web"});
    object["metadata"]["namespace"] = json!("acme");
    object
}

fn selects(labels: &str, fields: &str) -> bool {
    Selector::read(&kind(), labels, fields).expect("a selector").admits(&red())
}

#[test]
fn labels_are_selected_by_all_that_is_required_of_them() {
    for yes in [
        "",
        "app=shop",
        "app==shop",
        "app!=bank",
        "other!=x",
        "app",
        "!other",
        "app in (bank, shop)",
        "app notin (bank),tier=web",
        "other notin (a)",
        "app=shop,tier in (web,db),!gone",
    ] {
        assert!(selects(yes, ""), "{yes}");
    }
    for no in [
        "app=bank",
        "app!=shop",
        "other",
        "!app",
        "app in (bank)",
        "app notin (shop,bank)",
        "app=shop,tier=db",
    ] {
        assert!(!selects(no, ""), "{no}");
    }
    for wrong in ["app=a b", "=x", "app in shop", "app within (a)", "a b", "app=-"] {
        assert!(Selector::read(&kind(), wrong, "").is_err(), "{wrong}");
    }
}

#[test]
fn fields_are_selected_where_the_kind_allows_it() {
    assert!(selects("", "metadata.name=one,metadata.namespace==acme,spec.color!=green"));
    assert!(!selects("", "metadata.name=two"));
    assert!(!selects("", "spec.color=green"));
    let refused = Selector::read(&kind(), "", "spec.size=1").expect_err("it is not selectable");
    assert!(refused.message.contains("field label not supported: spec.size"), "{refused}");
    let by_name = Selector::read(&kind(), "", "metadata.name=two").expect("a selector");
    assert_eq!((by_name.name(), by_name.is_everything()), (Some("two"), false));
}

#[test]
fn whoever_watches_a_part_sees_things_come_and_go() {
    let selector = Selector::read(&kind(), "tier=web", "").expect("a selector");
    let (web, plain) = (red(), widget("one", json!({})));
    let seen = |before, after| EventType::of(before, after, &selector);
    assert_eq!(seen(None, Some(&web)), Some(EventType::Added));
    assert_eq!(seen(Some(&plain), Some(&web)), Some(EventType::Added));
    assert_eq!(seen(Some(&web), Some(&web)), Some(EventType::Modified));
    assert_eq!(seen(Some(&web), Some(&plain)), Some(EventType::Deleted));
    assert_eq!(seen(Some(&web), None), Some(EventType::Deleted));
    assert_eq!(seen(Some(&plain), Some(&plain)), None);
}

#[test]
fn a_token_comes_back_as_it_was_given() {
    let token = Token { revision: 42, after: "acme/one".to_owned() };
    assert_eq!(Token::read(&token.write()), Ok(token));
    assert!(Token::read("bm90IG91cnM").is_err());
}

#[test]
fn options_are_read_and_wrong_ones_named() {
    let read = options(&[
        ("limit", "500"),
        ("watch", "1"),
        ("resourceVersion", "0"),
        ("dryRun", "All"),
        ("fieldValidation", "Strict"),
        ("pretty", "true"),
        ("force", "true"),
        ("propagationPolicy", "Foreground"),
    ]);
    let read = read.expect("sound");
    assert_eq!((read.limit, read.watch, read.revision, read.dry_run), (Some(500), true, None, true));
    assert_eq!((read.validation, read.propagation), (FieldValidation::Strict, Some(Propagation::Foreground)));
    for wrong in [
        ("limit", "-1"),
        ("watch", "perhaps"),
        ("dryRun", "Some"),
        ("fieldValidation", "strict"),
        ("resourceVersion", "x"),
        ("resourceVersionMatch", "Exact"),
        ("propagationPolicy", "Sideways"),
    ] {
        let refused = options(&[wrong]).expect_err("it is refused");
        assert!(refused.message.contains(wrong.0), "{refused}");
    }
}

#[test]
fn a_deletion_may_say_more_in_its_body() {
    let mut options = Options::default();
    let body = json!({
        "kind": "DeleteOptions", "propagationPolicy": "Orphan", "dryRun": ["All"],
        "preconditions": {"uid": "u", "resourceVersion": "7"},
    });
    options.read_deletion(None, body.to_string().as_bytes()).expect("sound");
    assert_eq!((options.propagation, options.dry_run), (Some(Propagation::Orphan), true));
    assert_eq!((options.uid.as_deref(), options.only_revision.as_deref()), (Some("u"), Some("7")));
    assert!(options.read_deletion(None, b"{").is_err());
}

/// A field of a message as protobuf writes it.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).expect("short")], bytes].concat()
}

fn body(kind: &str, raw: &[u8]) -> Vec<u8> {
    let of = [field(1, b"v1"), field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), field(1, &of), field(2, raw)].concat()
}

#[test]
fn bodies_in_protobuf_are_read_for_the_kinds_that_come_so() {
    let content_type = Some("application/vnd.kubernetes.protobuf");
    let label = [field(1, b"a"), field(2, b"b")].concat();
    let metadata = [field(1, b"acme"), field(5, b"ignored"), field(11, &label), vec![7 << 3, 3]].concat();
    let read = write::read(content_type, &body("Namespace", &field(1, &metadata)));
    let named = json!({"name": "acme", "labels": {"a": "b"}});
    assert_eq!(read, Ok(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": named})));
    let asked = [field(2, b"get"), field(5, b"widgets")].concat();
    let read = write::read(content_type, &body("SelfSubjectAccessReview", &field(2, &field(1, &asked))));
    let attributes = json!({"verb": "get", "resource": "widgets"});
    assert_eq!(read.expect("a review")["spec"]["resourceAttributes"], attributes);
    let whole = body("Namespace", &field(1, &metadata));
    for end in 0..whole.len() {
        // Whatever is missing, it is refused or read as what is there.
        drop(write::read(content_type, &whole[..end]));
    }
    assert!(write::read(content_type, &whole[..whole.len() - 1]).is_err());
    assert!(write::read(content_type, &body("Pod", &[])).is_err());
    assert!(write::read(content_type, b"{}").is_err());
}
