//! Where a service may run: each type of constraint, honoured or refused by name. What becomes of them is in the tests of
//! placing, of the root and of the cluster.

use model::{DistanceConstraint, Microdegrees};

use super::*;

fn of(constraint: Value) -> ServiceSpec {
    spec_with(json!({"constraints": [constraint]}))
}

fn refused(constraint: Value) -> Vec<(SlaErrorCode, String, String)> {
    service_problems(json!({"constraints": [constraint]}))
}

#[test]
fn allowed_clusters_are_those_of_a_direct_constraint() {
    let spec = of(json!({"type": "clusters", "allowed": ["munich", " berlin ", ""]}));
    let clusters = ["munich", "berlin"].map(str::to_owned).to_vec();
    assert_eq!(spec.constraints, [DirectConstraint { clusters, nodes: vec![] }]);
    let is_wrong = "must be a list of strings, but is the string \"munich\"";
    assert_eq!(
        refused(json!({"type": "clusters", "allowed": "munich"})),
        one(SlaErrorCode::WrongType, "constraints[0].allowed", is_wrong)
    );
}

#[test]
fn a_distance_is_longitude_latitude_and_kilometres() {
    let spec = of(json!({
        "type": "geo", "location": " -0.1276 ; 51.5072 ", "threshold": 0.25, "rigidness": 0.9,
        "convergence_time": 300, "area": "", "needs": [], "allowed": [],
    }));
    let expected = DistanceConstraint {
        latitude: Microdegrees(51_507_200),
        longitude: Microdegrees(-127_600),
        within_metres: 250,
    };
    assert_eq!((spec.distances, spec.constraints), (vec![expected], vec![]));
}

#[test]
fn a_distance_that_makes_no_sense_is_refused() {
    let place = "must be `longitude;latitude` in degrees, such as `11.575;48.137`, but is";
    let reach = "must be a number of kilometres from 0 to 20038, but is";
    let missing = "is missing: a constraint of type `geo` needs `location` and `threshold`".to_owned();
    for (constraint, code, field, is_wrong) in [
        (
            json!({"location": "48.1,11.5", "threshold": 1}),
            SlaErrorCode::InvalidValue,
            "location",
            format!("{place} the string \"48.1,11.5\""),
        ),
        (
            json!({"location": "11.5;91", "threshold": 1}),
            SlaErrorCode::InvalidValue,
            "location",
            format!("{place} the string \"11.5;91\""),
        ),
        (
            json!({"location": "NaN;0", "threshold": 1}),
            SlaErrorCode::InvalidValue,
            "location",
            format!("{place} the string \"NaN;0\""),
        ),
        (
            json!({"location": "1;2", "threshold": -1}),
            SlaErrorCode::InvalidValue,
            "threshold",
            format!("{reach} -1"),
        ),
        (
            json!({"location": "1;2", "threshold": "near"}),
            SlaErrorCode::InvalidValue,
            "threshold",
            format!("{reach} the string \"near\""),
        ),
        (
            json!({"location": "1;2", "threshold": 1e9}),
            SlaErrorCode::InvalidValue,
            "threshold",
            format!("{reach} 1000000000.0"),
        ),
        (
            json!({"location": "1;2", "threshold": ""}),
            SlaErrorCode::MissingField,
            "threshold",
            missing.clone(),
        ),
        (json!({"threshold": 5}), SlaErrorCode::MissingField, "location", missing),
        (
            json!({"location": "1;2", "threshold": 1, "rigidness": 2}),
            SlaErrorCode::InvalidValue,
            "rigidness",
            "must be a number from 0 to 1, but is 2".to_owned(),
        ),
        (
            json!({"location": "1;2", "threshold": 1, "convergence_time": -3}),
            SlaErrorCode::InvalidValue,
            "convergence_time",
            "must be a whole number of seconds, but is -3".to_owned(),
        ),
    ] {
        let mut constraint = constraint;
        constraint["type"] = json!("geo");
        assert_eq!(
            refused(constraint.clone()),
            one(code, &format!("constraints[0].{field}"), &is_wrong),
            "{constraint}"
        );
    }
}

#[test]
fn a_field_of_another_type_of_constraint_is_refused() {
    for (kind, field, value, owner) in [
        ("direct", "rigidness", json!(0.5), "geo"),
        ("direct", "allowed", json!(["a"]), "clusters"),
        ("clusters", "cluster", json!("a"), "direct"),
        ("geo", "node", json!("a"), "direct"),
    ] {
        let is_wrong =
            format!("belongs to a constraint of type `{owner}`: remove the field or change the type");
        assert_eq!(
            refused(json!({"type": kind, field: value})),
            one(SlaErrorCode::NotSupported, &format!("constraints[0].{field}"), &is_wrong)
        );
    }
}

#[test]
fn what_nobody_can_keep_to_is_refused_with_its_reason_once_it_asks_for_something() {
    for (constraint, kind, reason) in [
        (json!({"type": "addons", "needs": ["FLOps-learner"]}), "addons", "no cluster has any"),
        (json!({"type": "latency", "area": "munich", "threshold": 20}), "latency", "nobody measures"),
    ] {
        let problems = refused(constraint);
        let [(code, place, is_wrong)] = &problems[..] else { panic!("{problems:?}") };
        assert_eq!((*code, place.as_str()), (SlaErrorCode::NotSupported, "constraints[0].type"));
        assert!(is_wrong.starts_with(&format!("is `{kind}` (")) && is_wrong.contains(reason), "{is_wrong}");
        assert!(is_wrong.ends_with("use `direct` or `clusters` or `geo`"), "{is_wrong}");
    }
}

#[test]
fn architectures_are_named_as_images_name_them() {
    let expected = |name: &str| {
        let is_wrong = format!(
            "must be a processor architecture as images name it, such as `amd64` or `arm64`, but is \"{name}\""
        );
        one(SlaErrorCode::InvalidValue, "arch[0]", &is_wrong)
    };
    for name in ["x86_64", "ARM64", "linux/amd64"] {
        assert_eq!(service_problems(json!({"arch": [name]})), expected(name));
    }
    assert_eq!(spec_with(json!({"arch": ["", ""]})), spec_with(json!({})));
}
