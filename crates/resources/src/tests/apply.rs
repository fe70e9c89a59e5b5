//! Applying: each manager says what it wants of an object, and owns that.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    Status,
    status::{CauseKind, Reason},
    write::{Part, Writing},
};

use super::*;

fn apply_as(manager: &str, before: Option<&Value>, spec: Value, by_force: bool) -> Result<Value, Status> {
    let kind = kind();
    let place = Place { name: "one", ..PLACE };
    let writing = Writing { now: LATER, ..writing(&kind, manager) };
    let written = writing.apply(before, widget("one", spec), place, by_force, "uid-1")?;
    Ok(at_revision(written.object, 8))
}

fn owned_by<'a>(object: &'a Value, manager: &str) -> &'a Value {
    let entries = object["metadata"]["managedFields"].as_array().expect("a list");
    let own = entries.iter().find(|entry| entry["manager"] == manager);
    own.map_or(&Value::Null, |entry| &entry["fieldsV1"]["f:spec"])
}

#[test]
fn what_is_not_there_is_made() {
    let made = apply_as("ada", None, json!({"size": 1}), false).expect("sound");
    assert_eq!(made["spec"], json!({"size": 1, "color": "green"}));
    assert_eq!(*owned_by(&made, "ada"), json!({"f:size": {}}), "what was filled in is nobody's");
    assert_eq!(made["metadata"]["managedFields"][0]["operation"], "Apply");
}

#[test]
fn what_is_wanted_no_more_goes_unless_others_own_it() {
    let made = apply_as(
        "ada",
        None,
        json!({"size": 1, "settings": {"a": "1", "b": "2"}, "tags": ["x", "y"]}),
        false,
    );
    let shared =
        apply_as("bob", Some(&made.expect("sound")), json!({"size": 1, "settings": {"b": "2"}}), false);
    let shared = shared.expect("they want the same");
    let after = apply_as("ada", Some(&shared), json!({"size": 1, "tags": ["y"]}), false).expect("sound");
    assert_eq!(after["spec"], json!({"size": 1, "color": "green", "settings": {"b": "2"}, "tags": ["y"]}));
    assert_eq!(*owned_by(&after, "bob"), json!({"f:size": {}, "f:settings": {"f:b": {}}}));
    let last = apply_as("bob", Some(&after), json!({"size": 1}), false).expect("sound");
    assert_eq!(last["spec"], json!({"size": 1, "color": "green", "tags": ["y"]}), "nothing empty is left");
}

#[test]
fn what_others_want_otherwise_is_a_conflict_that_names_them() {
    let made = apply_as("ada", None, json!({"size": 1, "parts": [{"name": "a", "count": 2}]}), false)
        .expect("sound");
    let wanted = json!({"size": 2, "parts": [{"name": "a", "count": 3}, {"name": "b"}]});
    let refused = apply_as("bob", Some(&made), wanted.clone(), false).expect_err("ada wants 1");
    assert_eq!(refused.reason, Reason::Conflict);
    let causes: Vec<(CauseKind, &str, &str)> = refused
        .causes
        .iter()
        .map(|cause| (cause.kind, cause.field.as_str(), cause.message.as_str()))
        .collect();
    let message = "conflict with \"ada\" using example.com/v1";
    assert_eq!(
        causes,
        [
            (CauseKind::ManagerConflict, ".spec.parts[name=\"a\"].count", message),
            (CauseKind::ManagerConflict, ".spec.size", message),
        ]
    );
    let forced = apply_as("bob", Some(&made), wanted, true).expect("by force");
    assert_eq!(forced["spec"]["size"], 2);
    let parts = json!([{"name": "a", "count": 3}, {"name": "b", "count": 1}]);
    assert_eq!(forced["spec"]["parts"], parts);
    let of_ada = json!({"f:parts": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}}}});
    assert_eq!(*owned_by(&forced, "ada"), of_ada, "they are bob's now");
}

#[test]
fn entries_of_lists_that_are_maps_are_merged_by_their_keys() {
    let made = apply_as("ada", None, json!({"size": 1, "parts": [{"name": "a", "count": 2}]}), false)
        .expect("sound");
    let both =
        apply_as("bob", Some(&made), json!({"parts": [{"name": "b"}, {"name": "a", "unit": "kg"}]}), false);
    let both = both.expect("nothing of ada's is another");
    let parts = json!([{"name": "a", "count": 2, "unit": "kg"}, {"name": "b", "count": 1}]);
    assert_eq!(both["spec"]["parts"], parts);
    let after = apply_as("ada", Some(&both), json!({"size": 1}), false).expect("sound");
    let left = json!([{"name": "a", "unit": "kg"}, {"name": "b", "count": 1}]);
    let mut with_default = left.clone();
    with_default[0]["count"] = json!(1);
    assert_eq!(after["spec"]["parts"], with_default, "bob still wants it");
}

#[test]
fn lists_of_which_nothing_is_said_are_one_value() {
    let made = apply_as("ada", None, json!({"size": 1, "words": ["a", "b"]}), false).expect("sound");
    assert!(apply_as("bob", Some(&made), json!({"words": ["c"]}), false).is_err());
    let after = apply_as("ada", Some(&made), json!({"size": 1, "words": ["b"]}), false).expect("her own");
    assert_eq!(after["spec"]["words"], json!(["b"]));
}

#[test]
fn what_somebody_wrote_without_applying_is_theirs_too() {
    let kind = kind();
    let before = stored(&kind, "kubectl-edit", json!({"size": 1}));
    let refused = apply_as("ada", Some(&before), json!({"size": 2}), false).expect_err("it was edited");
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using example.com/v1: .spec.size"
    );
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let kind = kind();
    let made = apply_as("ada", None, json!({"size": 1}), false).expect("sound");
    let place = Place { name: "one", ..PLACE };
    let again = Writing { now: "2027-01-01T00:00:00Z", ..writing(&kind, "ada") };
    let again =
        again.apply(Some(&made), widget("one", json!({"size": 1})), place, false, "uid-2").expect("sound");
    assert_eq!((again.is_changed, &again.object), (false, &made));
}

#[test]
fn a_status_is_applied_by_itself() {
    let kind = kind();
    let made = apply_as("ada", None, json!({"size": 1}), false).expect("sound");
    let mut wanted = widget("one", json!({"size": 9}));
    wanted["status"] = json!({"ready": true});
    let status = Writing { part: Part::Status, ..writing(&kind, "controller") };
    let place = Place { name: "one", ..PLACE };
    let after = status.apply(Some(&made), wanted, place, false, "").expect("sound").object;
    assert_eq!((&after["spec"]["size"], &after["status"]["ready"]), (&json!(1), &json!(true)));
    assert_eq!(*owned_by(&after, "ada"), json!({"f:size": {}}));
    let managers = after["metadata"]["managedFields"].as_array().expect("a list");
    assert_eq!(managers[1]["subresource"], "status");
}

#[test]
fn who_applies_has_a_name_and_says_nothing_of_owners() {
    let refused = apply_as("", None, json!({"size": 1}), false).expect_err("nobody");
    assert_eq!(refused.reason, Reason::BadRequest);
    let kind = kind();
    let mut wanted = widget("one", json!({"size": 1}));
    wanted["metadata"]["managedFields"] = json!([]);
    let place = Place { name: "one", ..PLACE };
    let refused = writing(&kind, "ada").apply(None, wanted, place, false, "uid-1").expect_err("not there");
    assert_eq!(refused.reason, Reason::BadRequest);
}

fn some_spec() -> impl Strategy<Value = Value> {
    let settings = prop::collection::btree_map("[abc]", "[xy]", 0..3);
    let tags = prop::collection::btree_set("[pqr]", 0..3);
    let parts = prop::collection::btree_map("[mno]", prop::option::of(1..3_u64), 0..3);
    (1..4_u64, settings, tags, parts).prop_map(|(size, settings, tags, parts)| {
        let part = |(name, count): (String, Option<u64>)| {
            count.map_or_else(|| json!({"name": name}), |count| json!({"name": name, "count": count}))
        };
        let parts: Vec<Value> = parts.into_iter().map(part).collect();
        json!({"size": size, "settings": settings, "tags": tags, "parts": parts})
    })
}

/// Whether everything that is wanted is there.
fn holds(is: &Value, wanted: &Value) -> bool {
    match (is, wanted) {
        (Value::Object(is), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| is.get(name).is_some_and(|is| holds(is, wanted)))
        }
        (Value::Array(is), Value::Array(wanted)) => {
            wanted.iter().all(|wanted| is.iter().any(|is| holds(is, wanted)))
        }
        (is, wanted) => is == wanted,
    }
}

proptest! {
    #[test]
    fn whoever_applies_last_gets_what_they_want(specs in prop::collection::vec((0..3_usize, some_spec()), 1..8)) {
        let mut object: Option<Value> = None;
        for (manager, spec) in specs {
            let manager = ["ada", "bob", "eve"][manager];
            let after = apply_as(manager, object.as_ref(), spec.clone(), true).expect("by force");
            prop_assert!(holds(&after["spec"], &spec), "{} does not hold {spec}", after["spec"]);
            let again = apply_as(manager, Some(&after), spec, false).expect("nobody wants it otherwise now");
            prop_assert_eq!(&again, &after);
            object = Some(after);
        }
    }

    #[test]
    fn of_an_object_that_one_manager_applies_nothing_old_is_left(first in some_spec(), second in some_spec()) {
        let once = apply_as("ada", None, first, false).expect("sound");
        let twice = apply_as("ada", Some(&once), second.clone(), false).expect("sound");
        let fresh = apply_as("ada", None, second, false).expect("sound");
        let tidy = |spec: &Value| {
            let mut spec = spec.clone();
            spec["parts"].as_array_mut().into_iter().for_each(|parts| parts.sort_by_key(ToString::to_string));
            spec["tags"].as_array_mut().into_iter().for_each(|tags| tags.sort_by_key(ToString::to_string));
            spec
        };
        prop_assert_eq!(tidy(&twice["spec"]), tidy(&fresh["spec"]));
    }
}
