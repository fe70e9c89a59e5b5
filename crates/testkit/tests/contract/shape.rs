//! Shapes of JSON: `text`, `number`, `flag` and `null` for scalars, objects by their fields, lists by the shapes of their
//! entries. An answer may have more than a shape asks for, never less.

use std::collections::BTreeSet;

use serde_json::Value;

/// The places where `live` has less than `shape` asks for: `[].instance_list[].status`; `.` is the whole.
///
/// What was null tells nothing. Of a list, for each recorded shape one entry must have it: the nearest tells what lacks.
pub(super) fn lacking(shape: &Value, live: &Value) -> BTreeSet<String> {
    let mut places = BTreeSet::new();
    compare(shape, live, "", &mut places);
    places
}

fn compare(shape: &Value, live: &Value, place: &str, places: &mut BTreeSet<String>) {
    let fits = match (shape, live) {
        (Value::String(kind), live) => match kind.as_str() {
            "text" => live.is_string(),
            "number" => live.is_number(),
            "flag" => live.is_boolean(),
            _ => true,
        },
        (Value::Object(fields), Value::Object(live)) => {
            for (name, shape) in fields {
                let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                match live.get(name) {
                    Some(value) => compare(shape, value, &place, places),
                    None => {
                        places.insert(place);
                    }
                }
            }
            true
        }
        (Value::Array(shapes), Value::Array(entries)) => {
            let place = format!("{place}[]");
            for shape in shapes {
                let nearest = entries.iter().map(|entry| {
                    let mut places = BTreeSet::new();
                    compare(shape, entry, &place, &mut places);
                    places
                });
                places.extend(nearest.min_by_key(BTreeSet::len).unwrap_or_else(|| [place.clone()].into()));
            }
            true
        }
        (Value::Object(_) | Value::Array(_), _) => false,
        (Value::Null | Value::Bool(_) | Value::Number(_), _) => panic!("no shape: {shape}"),
    };
    if !fits {
        places.insert(if place.is_empty() { ".".to_owned() } else { place.to_owned() });
    }
}

/// What `path` leads to: `/0/name` as in JSON pointers, with `[field=value]` for the first entry of a list of which that
/// is so.
pub(super) fn part<'a>(live: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('/').skip(1).try_fold(live, |value, step| match step.strip_prefix('[') {
        Some(wanted) => {
            let (field, is) = wanted.strip_suffix(']')?.split_once('=')?;
            value.as_array()?.iter().find(|entry| entry[field] == is)
        }
        None => value.pointer(&format!("/{step}")),
    })
}

#[test]
fn an_answer_may_have_more_and_never_less() {
    let shape =
        serde_json::json!([{"id": "text", "logs": "null", "list": [{"number": "number"}]}, {"gone": "flag"}]);
    let lacks = |live: Value| lacking(&shape, &live).into_iter().collect::<Vec<_>>();
    let whole = serde_json::json!([
        {"id": "a", "logs": 7, "list": [{"number": 1, "more": 2}]}, {"gone": true}, {"other": 1},
    ]);
    assert_eq!(lacks(whole), Vec::<String>::new());
    assert_eq!(
        lacks(serde_json::json!([{"id": 1, "list": [], "gone": true}])),
        ["[].id", "[].list[]", "[].logs"]
    );
    assert_eq!(lacks(serde_json::json!([])), ["[]"]);
    assert_eq!(lacks(serde_json::json!({})), ["."]);
}

#[test]
fn parts_are_found_by_place_and_by_what_they_hold() {
    let live = serde_json::json!([{"name": "a", "id": 1}, {"name": "b", "id": {"$oid": "x"}}]);
    assert_eq!(part(&live, "/1/id/$oid"), Some(&Value::from("x")));
    assert_eq!(part(&live, "/[name=a]/id"), Some(&Value::from(1)));
    assert_eq!([part(&live, "/[name=c]/id"), part(&live, "/2")], [None, None]);
    assert_eq!(part(&live, ""), Some(&live));
}
