//! What is noted at applications and services.

use serde_json::json;

use super::*;
use crate::{Notes, noted};

fn notes(metadata: &serde_json::Value) -> Notes {
    Notes::of(metadata).expect("little")
}

#[test]
fn notes_are_kept_through_changes_and_change_nothing_else() {
    let mut root = Root::new();
    let id = root.service(small());
    let before = root.state.service(id).expect("there").clone();
    let labelled = notes(&json!({"labels": {"tier": "web"}, "annotations": {}, "name": "not noted"}));
    let changes =
        root.state.rewrite_service(&before, None, labelled.clone(), root.now.date).expect("no quota");
    let expected = crate::Service { notes: labelled.clone(), ..before };
    assert_eq!(changes, [Change::Service(id, Some(expected.clone()))]);
    root.apply(changes);
    let again = root.state.rewrite_service(&expected, None, labelled.clone(), root.now.date);
    assert_eq!(again, Ok(Vec::new()), "they are so already");
    let fields: Vec<_> = expected.notes.fields().map(|(name, _)| name.as_str()).collect();
    assert_eq!(fields, ["labels"]);
    let application = root.state.application(expected.application).expect("there").clone();
    let described = root.state.rewrite_application(&application, "new".to_owned(), labelled.clone());
    let [Change::Application(_, Some(described))] = &described[..] else { panic!("{described:?}") };
    assert_eq!((described.description.as_str(), &described.notes), ("new", &labelled));
    let plain = noted(vec![Change::Application(application.id, Some(described.clone()))], &Notes::default());
    let [Change::Application(_, Some(plain))] = &plain[..] else { panic!("{plain:?}") };
    assert!(plain.notes.is_empty());
}

#[test]
fn notes_have_a_limit() {
    let large = json!({"annotations": {"all": "x".repeat(crate::MAX_OBJECT_BYTES)}});
    let why = Notes::of(&large).expect_err("more than there may be");
    assert!(why.contains("--server-side"), "{why}");
}
