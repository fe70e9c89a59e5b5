//! Objects of the resource API: when one may take the place of another, how they go, and what goes with them.

use ::resources::options::Propagation;
use serde_json::{Value, json};

use super::*;
use crate::{Deleted, MAX_OBJECT_BYTES, ObjectKey, ObjectRejected, Seen};

const AT: &str = "2026-11-22T12:00:00Z";
const CRDS: &str = "customresourcedefinitions.apiextensions.k8s.io";

fn crd(plural: &str, kind: &str) -> (ObjectKey, Value) {
    let name = format!("{plural}.example.com");
    let content = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": name, "uid": name},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}},
            }],
        },
    });
    (ObjectKey { resource: CRDS.to_owned(), organization: None, name }, content)
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { resource: "widgets.example.com".to_owned(), organization: Some(ACME), name: name.to_owned() }
}

fn widget(name: &str, owners: &[&str], finalizers: &[&str]) -> Value {
    let owner = |owner: &&str| json!({"apiVersion": "v1", "kind": "Widget", "name": owner, "uid": owner, "blockOwnerDeletion": true});
    let owners: Vec<Value> = owners.iter().map(owner).collect();
    json!({
        "apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": name, "uid": name, "generation": 1, "ownerReferences": owners, "finalizers": finalizers},
    })
}

/// A root with a definition of widgets.
fn root() -> Root {
    let mut root = Root::new();
    let (key, content) = crd("widgets", "Widget");
    root.create(key, content);
    root
}

impl Root {
    /// As the loop around the brain does it.
    fn commit(&mut self, changes: Vec<Change>) {
        self.apply(changes.clone());
        let revision = self.state.revision() + 1;
        self.state.committed(&changes, revision);
    }

    fn create(&mut self, key: ObjectKey, content: Value) {
        let ((), changes) = self.state.create_object(key, content).expect("it can be");
        self.commit(changes);
    }

    fn make(&mut self, name: &str, owners: &[&str], finalizers: &[&str]) {
        self.create(key(name), widget(name, owners, finalizers));
    }

    fn seen(&self, key: &ObjectKey) -> Seen {
        self.state.object(key).expect("there").clone()
    }

    fn delete(&mut self, key: &ObjectKey, propagation: Option<Propagation>) -> Deleted {
        let seen = self.seen(key);
        let (deleted, changes) = self.state.delete_object(key, &seen, propagation, AT).expect("it can go");
        self.commit(changes);
        deleted
    }

    fn edit(&mut self, key: &ObjectKey, edit: impl FnOnce(&mut Value)) {
        let seen = self.seen(key);
        let mut content = Value::clone(&seen.content);
        edit(&mut content);
        let ((), changes) = self.state.update_object(key.clone(), &seen, content).expect("as it was");
        self.commit(changes);
    }

    /// The names of the widgets there are.
    fn widgets(&self) -> Vec<&str> {
        self.state.objects_of("widgets.example.com").map(|(key, _)| key.name.as_str()).collect()
    }
}

fn no_finalizers(object: &mut Value) {
    object["metadata"]["finalizers"] = json!([]);
}

#[test]
fn an_object_is_replaced_only_by_what_was_made_of_it() {
    let mut root = root();
    root.make("one", &[], &[]);
    let seen = root.seen(&key("one"));
    assert_eq!(seen.revision, Some(2), "the commit that wrote it");
    let again = root.state.create_object(key("one"), widget("one", &[], &[]));
    assert_eq!(again, Err(ObjectRejected::Exists(key("one"))));
    let mut changed = widget("one", &[], &[]);
    changed["spec"] = json!({"size": 1});
    let ((), changes) = root.state.update_object(key("one"), &seen, changed.clone()).expect("as it was");
    root.apply(changes.clone());
    // Of the same turn: what it was made of is another already, and has no revision yet.
    let late = root.state.update_object(key("one"), &seen, changed.clone());
    assert_eq!(late, Err(ObjectRejected::Changed(key("one"))));
    let unborn = root.seen(&key("one"));
    let early = root.state.update_object(key("one"), &unborn, changed.clone());
    assert_eq!(early, Err(ObjectRejected::Changed(key("one"))), "it might never become durable");
    root.state.committed(&changes, 9);
    assert_eq!((root.seen(&key("one")).revision, root.state.revision()), (Some(9), 9));
    let gone = root.state.update_object(key("none"), &seen, changed);
    assert_eq!(gone, Err(ObjectRejected::None(key("none"))));
}

#[test]
fn objects_are_of_kinds_that_are_defined() {
    let mut root = Root::new();
    let refused = root.state.create_object(key("one"), widget("one", &[], &[]));
    assert_eq!(refused, Err(ObjectRejected::NoKind("widgets.example.com".to_owned())));
    let (definition, content) = crd("widgets", "Widget");
    root.create(definition, content);
    root.make("one", &[], &[]);
    assert_eq!(root.state.definition("widgets.example.com").expect("there").storage_version, "v1");
    let (other, content) = crd("gadgets", "Widget");
    let refused = root.state.create_object(other, content).expect_err("clients find kinds by their names");
    assert_eq!(refused.to_string(), "the name `widget` is taken by widgets.example.com in the same group");
}

#[test]
fn there_is_room_for_so_much() {
    let root = root();
    let mut large = widget("one", &[], &[]);
    large["spec"] = json!("x".repeat(MAX_OBJECT_BYTES));
    let refused = root.state.create_object(key("one"), large);
    assert!(matches!(refused, Err(ObjectRejected::TooMuch(_))), "{refused:?}");
}

#[test]
fn an_object_goes_when_all_have_agreed() {
    let mut root = root();
    root.make("one", &[], &["example.com/a"]);
    let Deleted::Going(going) = root.delete(&key("one"), None) else { unreachable!("somebody must agree") };
    assert_eq!(
        (&going["metadata"]["deletionTimestamp"], &going["metadata"]["generation"]),
        (&json!(AT), &json!(2))
    );
    let Deleted::Going(again) = root.delete(&key("one"), None) else { unreachable!("still") };
    assert_eq!(again, going, "asking again changes nothing");
    root.edit(&key("one"), no_finalizers);
    assert_eq!(root.widgets(), [""; 0]);
}

#[test]
fn what_belongs_to_an_object_goes_with_it_unless_it_belongs_to_another_too() {
    let mut root = root();
    root.make("owner", &[], &[]);
    root.make("other", &[], &[]);
    root.make("child", &["owner"], &[]);
    root.make("grandchild", &["child"], &[]);
    root.make("shared", &["owner", "other"], &[]);
    root.make("stranger", &["nobody"], &[]);
    root.delete(&key("owner"), None);
    assert_eq!(root.widgets(), ["other", "shared", "stranger"]);
    let shared = root.seen(&key("shared"));
    assert_eq!(shared.content["metadata"]["ownerReferences"][0]["uid"], "other");
    assert_eq!(shared.content["metadata"]["ownerReferences"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_is_orphaned_stays_and_belongs_to_nobody() {
    let mut root = root();
    root.make("owner", &[], &[]);
    root.make("child", &["owner"], &[]);
    root.delete(&key("owner"), Some(Propagation::Orphan));
    assert_eq!(root.widgets(), ["child"]);
    assert_eq!(root.seen(&key("child")).content["metadata"]["ownerReferences"], Value::Null);
}

#[test]
fn in_the_foreground_an_owner_waits_for_what_belongs_to_it() {
    let mut root = root();
    root.make("owner", &[], &[]);
    root.make("child", &["owner"], &["example.com/a"]);
    let deleted = root.delete(&key("owner"), Some(Propagation::Foreground));
    assert!(matches!(deleted, Deleted::Going(_)), "{deleted:?}");
    assert_eq!(root.widgets(), ["child", "owner"]);
    root.edit(&key("child"), no_finalizers);
    assert_eq!(root.widgets(), [""; 0]);
}

#[test]
fn objects_that_belong_to_each_other_in_a_circle_all_go() {
    for propagation in [Propagation::Background, Propagation::Foreground] {
        let mut root = root();
        root.make("a", &["b"], &[]);
        root.make("b", &["a"], &[]);
        root.delete(&key("a"), Some(propagation));
        assert_eq!(root.widgets(), [""; 0], "{propagation:?}");
    }
}

#[test]
fn a_definition_goes_with_its_objects_only_if_that_was_said() {
    let mut root = root();
    root.make("one", &[], &[]);
    root.make("held", &[], &["example.com/a"]);
    let (definition, _) = crd("widgets", "Widget");
    let seen = root.seen(&definition);
    let refused = root.state.delete_object(&definition, &seen, None, AT).expect_err("there are widgets");
    assert_eq!(refused, ObjectRejected::HasObjects { resource: "widgets.example.com".to_owned(), count: 2 });
    let deleted = root.delete(&definition, Some(Propagation::Background));
    assert!(matches!(deleted, Deleted::Going(_)), "{deleted:?}");
    assert_eq!(root.widgets(), ["held"]);
    let refused = root.state.create_object(key("new"), widget("new", &[], &[]));
    assert_eq!(refused, Err(ObjectRejected::NoKind("widgets.example.com".to_owned())), "its kind goes");
    root.edit(&key("held"), no_finalizers);
    assert!(root.state.object(&definition).is_none(), "it only waited for its objects");
    assert!(root.state.definition("widgets.example.com").is_none());
}

#[test]
fn an_organisation_takes_its_objects_along() {
    let mut root = root();
    root.make("one", &[], &["example.com/a"]);
    let changes = root.state.forget_objects_of(ACME).collect::<Vec<_>>();
    root.commit(changes);
    assert_eq!(root.widgets(), [""; 0]);
    assert_eq!(root.state.forget_objects_of(ACME).count(), 0);
}
