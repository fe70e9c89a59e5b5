//! What becomes of objects that are created, replaced and patched.

use serde_json::{Value, json};

use crate::{
    patch::Patch,
    status::Reason,
    write::{FieldValidation, Part, Place, Writing},
};

use super::*;

fn patched(kind: &Kind, before: &Value, content_type: &str, patch: Value) -> Result<Value, crate::Status> {
    let patch = Patch::read(content_type, patch.to_string().as_bytes())?;
    writing(kind, "bob").patch(before, &patch).map(|written| written.object)
}

#[test]
fn a_new_object_gets_what_only_the_root_writes() {
    let kind = kind();
    let mut wanted = widget("one", json!({"size": 2}));
    wanted["metadata"]["uid"] = json!("mine");
    wanted["metadata"]["deletionTimestamp"] = json!(NOW);
    wanted["status"] = json!({"ready": true});
    let written = writing(&kind, "ada").create(wanted, PLACE, "uid-1", "").expect("sound");
    let managed = json!([{
        "manager": "ada", "operation": "Update", "apiVersion": "example.com/v1", "time": NOW,
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:color": {}, "f:size": {}}},
    }]);
    assert_eq!(
        written.object,
        json!({
            "apiVersion": "example.com/v1", "kind": "Widget", "spec": {"size": 2, "color": "green"},
            "metadata": {
                "name": "one", "namespace": "acme", "uid": "uid-1", "generation": 1, "creationTimestamp": NOW,
                "managedFields": managed,
            },
        })
    );
}

#[test]
fn a_generated_name_ends_in_the_suffix() {
    let kind = kind();
    let mut wanted = widget("", json!({"size": 2}));
    wanted["metadata"] = json!({"generateName": "try-"});
    let written = writing(&kind, "ada").create(wanted, PLACE, "uid-1", "x7k2p").expect("sound");
    assert_eq!(written.object["metadata"]["name"], "try-x7k2p");
}

#[test]
fn what_does_not_fit_its_place_is_refused() {
    let kind = kind();
    let refused = |object: Value, place: Place<'_>| {
        writing(&kind, "ada").create(object, place, "uid-1", "").expect_err("refused").reason
    };
    let sound = || widget("one", json!({"size": 1}));
    let with = |field: &str, value: Value| {
        let mut object = sound();
        object["metadata"][field] = value;
        object
    };
    let mut other = sound();
    other["kind"] = json!("Gadget");
    assert_eq!(refused(other, PLACE), Reason::BadRequest);
    assert_eq!(refused(json!([]), PLACE), Reason::BadRequest);
    assert_eq!(refused(with("namespace", json!("other")), PLACE), Reason::BadRequest);
    assert_eq!(refused(sound(), Place { name: "two", ..PLACE }), Reason::BadRequest);
    assert_eq!(refused(with("resourceVersion", json!("3")), PLACE), Reason::BadRequest);
    assert_eq!(refused(with("name", json!("")), PLACE), Reason::Invalid);
    assert_eq!(refused(with("name", json!("Not_A_Name")), PLACE), Reason::Invalid);
    assert_eq!(refused(with("labels", json!({"a b": "c"})), PLACE), Reason::Invalid);
    assert_eq!(refused(with("labels", json!({"a": "-"})), PLACE), Reason::Invalid);
    assert_eq!(refused(with("finalizers", json!(["a b"])), PLACE), Reason::Invalid);
    assert_eq!(refused(with("ownerReferences", json!([{"kind": "Widget"}])), PLACE), Reason::Invalid);
    assert_eq!(refused(with("annotations", json!({"a": "x".repeat(300_000)})), PLACE), Reason::Invalid);
}

#[test]
fn unknown_fields_are_refused_told_or_left_out() {
    let kind = kind();
    let create = |validation| {
        let writing = Writing { validation, ..writing(&kind, "ada") };
        let mut object = widget("one", json!({"size": 1, "sise": 2}));
        object["metadata"]["nme"] = json!("x");
        writing.create(object, PLACE, "uid-1", "")
    };
    let strict = create(FieldValidation::Strict).expect_err("refused");
    assert_eq!(strict.reason, Reason::BadRequest);
    assert!(
        strict.message.contains("unknown field \"spec.sise\", unknown field \"metadata.nme\""),
        "{strict}"
    );
    let warned = create(FieldValidation::Warn).expect("let through");
    assert_eq!(warned.warnings, ["unknown field \"spec.sise\"", "unknown field \"metadata.nme\""]);
    let ignored = create(FieldValidation::Ignore).expect("let through");
    assert_eq!((ignored.warnings.len(), &ignored.object["spec"]["sise"]), (0, &Value::Null));
}

#[test]
fn an_update_of_what_was_changed_meanwhile_is_refused() {
    let kind = kind();
    let before = stored(&kind, "ada", json!({"size": 1}));
    let update = |revision: &str, uid: &str| {
        let mut wanted = widget("one", json!({"size": 2}));
        wanted["metadata"]["resourceVersion"] = json!(revision);
        wanted["metadata"]["uid"] = json!(uid);
        writing(&kind, "bob").update(&before, wanted).map_err(|status| status.reason)
    };
    assert_eq!(update("6", "uid-1").expect_err("stale"), Reason::Conflict);
    assert_eq!(update("7", "uid-2").expect_err("another object"), Reason::Conflict);
    assert_eq!(update("", "uid-1").expect_err("it must say of what it is made"), Reason::Invalid);
    let after = update("7", "").expect("it is made of what is there").object;
    assert_eq!((&after["metadata"]["generation"], &after["spec"]["size"]), (&json!(2), &json!(2)));
    assert_eq!(after["metadata"]["uid"], "uid-1");
}

#[test]
fn only_what_is_wanted_counts_as_another_generation() {
    let kind = kind();
    let before = stored(&kind, "ada", json!({"size": 1}));
    let merge = "application/merge-patch+json";
    let labelled =
        patched(&kind, &before, merge, json!({"metadata": {"labels": {"a": "b"}}})).expect("sound");
    assert_eq!(labelled["metadata"]["generation"], 1);
    let same = writing(&kind, "bob")
        .patch(&before, &Patch::read(merge, br#"{"spec": {"size": 1}}"#).expect("a patch"))
        .expect("sound");
    assert_eq!((same.is_changed, same.object), (false, before));
}

#[test]
fn the_status_is_written_by_itself() {
    let kind = kind();
    let before = stored(&kind, "ada", json!({"size": 1}));
    let patch = json!({"spec": {"size": 9}, "status": {"ready": true}});
    let patch = Patch::read("application/merge-patch+json", patch.to_string().as_bytes()).expect("a patch");
    let status = Writing { part: Part::Status, ..writing(&kind, "controller") };
    let after = status.patch(&before, &patch).expect("sound").object;
    assert_eq!((&after["spec"]["size"], &after["status"]), (&json!(1), &json!({"ready": true})));
    assert_eq!(after["metadata"]["generation"], 1);
    assert_eq!(after["metadata"]["managedFields"][1]["subresource"], "status");
    let main = writing(&kind, "ada").patch(&after, &patch).expect("sound").object;
    assert_eq!((&main["spec"]["size"], &main["status"]), (&json!(9), &json!({"ready": true})));
    let unready =
        Patch::read("application/merge-patch+json", br#"{"status": {"ready": false}}"#).expect("a patch");
    let main = writing(&kind, "ada").patch(&main, &unready).expect("sound").object;
    assert_eq!(main["status"], json!({"ready": true}), "not beside the rest");
}

#[test]
fn each_type_of_patch_does_what_it_says() {
    let kind = kind();
    let before = stored(&kind, "ada", json!({"size": 1, "settings": {"a": "1", "b": "2"}}));
    let settings = |content_type: &str, patch: Value| {
        patched(&kind, &before, content_type, patch).map(|object| object["spec"]["settings"].clone())
    };
    let merge = json!({"spec": {"settings": {"a": null, "c": "3"}}});
    for content_type in
        ["application/merge-patch+json", "application/strategic-merge-patch+json; charset=utf-8"]
    {
        assert_eq!(settings(content_type, merge.clone()), Ok(json!({"b": "2", "c": "3"})));
    }
    let steps = json!([{"op": "test", "path": "/spec/settings/a", "value": "1"}, {"op": "remove", "path": "/spec/settings/a"}]);
    assert_eq!(settings("application/json-patch+json", steps), Ok(json!({"b": "2"})));
    let failing = json!([{"op": "test", "path": "/spec/settings/a", "value": "2"}]);
    let refused = settings("application/json-patch+json", failing).expect_err("it is not so");
    assert_eq!(refused.reason, Reason::Invalid);
    let unknown = settings("text/plain", json!({})).expect_err("no such type");
    assert_eq!(unknown.reason, Reason::UnsupportedMediaType);
}

#[test]
fn a_test_for_null_holds_where_there_is_nothing() {
    let kind = kind();
    let before = stored(&kind, "ada", json!({"size": 1, "settings": {"a": "1"}}));
    let add_where_none_is = |path: &str| {
        let steps = json!([
            {"op": "test", "path": path, "value": null}, {"op": "add", "path": path, "value": "2"},
        ]);
        let patched = patched(&kind, &before, "application/json-patch+json", steps);
        patched.map(|object| object["spec"]["settings"].clone()).map_err(|status| status.reason)
    };
    assert_eq!(add_where_none_is("/spec/settings/b"), Ok(json!({"a": "1", "b": "2"})));
    assert_eq!(add_where_none_is("/spec/settings/a"), Err(Reason::Invalid), "there is something");
    assert_eq!(add_where_none_is("/spec/none/a"), Err(Reason::Invalid), "what would have it is not there");
}

#[test]
fn an_object_on_its_way_out_loses_finalizers_and_gets_none() {
    let kind = kind();
    let mut before = stored(&kind, "ada", json!({"size": 1}));
    before["metadata"]["finalizers"] = json!(["example.com/a", "example.com/b"]);
    before["metadata"]["deletionTimestamp"] = json!(NOW);
    let with = |finalizers: Value| {
        let patch = json!({"metadata": {"finalizers": finalizers, "deletionTimestamp": null}});
        let patch =
            Patch::read("application/merge-patch+json", patch.to_string().as_bytes()).expect("a patch");
        writing(&kind, "bob").patch(&before, &patch)
    };
    let more = with(json!(["example.com/a", "example.com/b", "example.com/c"]));
    assert_eq!(more.expect_err("too late").reason, Reason::Invalid);
    let fewer = with(json!(["example.com/b"])).expect("sound");
    assert_eq!((fewer.is_gone(), &fewer.object["metadata"]["deletionTimestamp"]), (false, &json!(NOW)));
    assert!(with(json!([])).expect("sound").is_gone(), "nobody has to agree any more");
}

#[test]
fn who_changes_a_field_owns_it_from_then_on() {
    let kind = kind();
    let before = stored(&kind, "ada", json!({"size": 1, "parts": [{"name": "a"}]}));
    let patch = json!({"spec": {"size": 5}, "metadata": {"labels": {"x": "y"}}});
    let after = patched(&kind, &before, "application/merge-patch+json", patch).expect("sound");
    let owned: Vec<(&Value, &Value)> = after["metadata"]["managedFields"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| (&entry["manager"], &entry["fieldsV1"]))
        .collect();
    let part = json!({".": {}, "f:name": {}, "f:count": {}});
    let ada = json!({"f:spec": {"f:color": {}, "f:parts": {"k:{\"name\":\"a\"}": part}}});
    let bob = json!({"f:metadata": {"f:labels": {"f:x": {}}}, "f:spec": {"f:size": {}}});
    assert_eq!(owned, [(&json!("ada"), &ada), (&json!("bob"), &bob)]);
}

#[test]
fn a_field_that_has_gone_is_nobodys() {
    let kind = kind();
    let before = stored(&kind, "ada", json!({"size": 1, "settings": {"a": "1", "b": "2"}}));
    let patch = json!({"spec": {"settings": {"a": null}}});
    let after = patched(&kind, &before, "application/merge-patch+json", patch).expect("sound");
    let owned = &after["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:settings"];
    assert_eq!(*owned, json!({"f:b": {}}));
}

#[test]
fn nothing_grows_beyond_measure_by_a_patch() {
    let kind = kind();
    let before = stored(&kind, "ada", json!({"size": 1, "anything": {"note": "x".repeat(1000)}}));
    let refused = |patch: Value| {
        patched(&kind, &before, "application/json-patch+json", patch).expect_err("too much").reason
    };
    let double = |number: usize| json!({"op": "copy", "from": "/spec/anything", "path": format!("/spec/anything/{number}")});
    assert_eq!(refused((0..40).map(double).collect()), Reason::RequestEntityTooLarge);
    let idle = json!({"op": "test", "path": "/spec/size", "value": 1});
    assert_eq!(refused(vec![idle; 1001].into()), Reason::RequestEntityTooLarge);
    let nest = |depth: usize| {
        let path = format!("/spec/anything{}", "/a".repeat(depth));
        json!({"op": "add", "path": path, "value": {}})
    };
    // What is kept deeper than a reader goes could not be read again after a restart.
    assert_eq!(refused((1..100).map(nest).collect()), Reason::Invalid);
    let shallow = (1..50).map(nest).collect();
    assert!(patched(&kind, &before, "application/json-patch+json", shallow).is_ok());
}
