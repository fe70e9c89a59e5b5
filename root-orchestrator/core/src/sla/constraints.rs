//! Entries of `constraints` to what placement decides by: names of clusters and workers, and distances. What placement
//! cannot keep to for certain is refused by name.

use model::{DirectConstraint, DistanceConstraint, Microdegrees};
use serde_json::{Map, Value};

use super::{
    error::{Problems, SlaErrorCode},
    fields::{CONSTRAINT, CONSTRAINT_TYPES, Support},
    read::{Fields, child, found, is_blank, unknown_field},
    service::choose,
};

/// No two places are farther apart.
const FARTHEST_KILOMETRES: f64 = 20_038.0;

/// What the constraints of a service come to. Those that constrain nothing, as of a form that nobody filled in, are
/// left out.
pub(super) fn read(
    fields: &Fields<'_>,
    problems: &mut Problems,
) -> (Vec<DirectConstraint>, Vec<DistanceConstraint>) {
    let (mut named, mut distances) = (Vec::new(), Vec::new());
    for (path, object) in fields.objects("constraints") {
        match constraint(&path, object, problems) {
            Some(Constraint::Named(constraint)) => named.push(constraint),
            Some(Constraint::Distance(constraint)) => distances.push(constraint),
            None => {}
        }
    }
    (named, distances)
}

enum Constraint {
    Named(DirectConstraint),
    Distance(DistanceConstraint),
}

/// `None` for a constraint that constrains nothing, and next to a problem.
fn constraint(path: &str, object: &Map<String, Value>, problems: &mut Problems) -> Option<Constraint> {
    let kind = object.get("type").and_then(Value::as_str).unwrap_or_default();
    let known = CONSTRAINT_TYPES.iter().find(|choice| choice.name == kind);
    if known.is_some_and(|choice| choice.support == Support::NotYet) {
        refuse_unless_blank(path, object, problems);
        return None;
    }
    let fields = Fields::read(&CONSTRAINT, path, object, problems);
    let is_known = fields.has("type") && choose(kind, &CONSTRAINT_TYPES, &fields.path_of("type"), problems);
    if !is_known || refuse_fields_of_others(kind, &fields, problems) {
        return None;
    }
    match kind {
        "direct" => named(fields.text("cluster").split(';'), fields.text("node").split(';')),
        "clusters" => named(fields.texts("allowed").into_iter(), std::iter::empty()),
        "geo" => distance(&fields, problems).map(Constraint::Distance),
        _ => None,
    }
}

/// `None` if nothing is named.
fn named<'a>(
    clusters: impl Iterator<Item = &'a str>,
    nodes: impl Iterator<Item = &'a str>,
) -> Option<Constraint> {
    let constraint = DirectConstraint { clusters: names(clusters), nodes: names(nodes) };
    (constraint != DirectConstraint::default()).then_some(Constraint::Named(constraint))
}

/// A constraint of a kind that is not honoured, whose form nobody filled in, is left out.
fn refuse_unless_blank(path: &str, object: &Map<String, Value>, problems: &mut Problems) {
    for name in object.keys().filter(|name| CONSTRAINT.find(name).is_none()) {
        unknown_field(&CONSTRAINT, &child(path, name), name, problems);
    }
    if object.iter().any(|(name, value)| name != "type" && !is_blank(value)) {
        let kind = object.get("type").and_then(Value::as_str).unwrap_or_default();
        choose(kind, &CONSTRAINT_TYPES, &child(path, "type"), problems);
    }
}

/// Fields that say something, in a constraint of another type than theirs; whether there were any.
fn refuse_fields_of_others(kind: &str, fields: &Fields<'_>, problems: &mut Problems) -> bool {
    const OWNERS: [(&str, &[&str]); 3] = [
        ("direct", &["cluster", "node"]),
        ("clusters", &["allowed"]),
        ("geo", &["location", "threshold", "rigidness", "convergence_time"]),
    ];
    let mut refused = false;
    for (owner, names) in OWNERS.into_iter().filter(|(owner, _)| *owner != kind) {
        let said = |name: &&'static str| fields.value(name).is_some_and(|value| !is_blank(value));
        for name in names.iter().copied().filter(said) {
            let is_wrong =
                format!("belongs to a constraint of type `{owner}`: remove the field or change the type");
            problems.add(SlaErrorCode::NotSupported, &fields.path_of(name), &is_wrong);
            refused = true;
        }
    }
    refused
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// A distance that must hold always asks for more than one that may be exceeded now and then.
fn distance(fields: &Fields<'_>, problems: &mut Problems) -> Option<DistanceConstraint> {
    let said =
        |name| fields.value(name).filter(|value| value.as_str().is_none_or(|text| !text.trim().is_empty()));
    let rigidness = said("rigidness");
    if let Some(value) = rigidness.filter(|value| value.as_f64().is_none_or(|it| !(0.0..=1.0).contains(&it)))
    {
        refuse(fields, "rigidness", "a number from 0 to 1", value, problems);
    }
    let convergence = said("convergence_time");
    if let Some(value) = convergence.filter(|value| value.as_u64().is_none()) {
        refuse(fields, "convergence_time", "a whole number of seconds", value, problems);
    }
    let (location, threshold) = (said("location"), said("threshold"));
    if location.is_none() && threshold.is_none_or(is_blank) {
        return None;
    }
    for (name, missing) in [("location", location.is_none()), ("threshold", threshold.is_none())] {
        if missing {
            let is_wrong = "is missing: a constraint of type `geo` needs `location` and `threshold`";
            problems.add(SlaErrorCode::MissingField, &fields.path_of(name), is_wrong);
        }
    }
    let (location, threshold) = (location?, threshold?);
    let place = location.as_str().and_then(place);
    if place.is_none() {
        let expected = "`longitude;latitude` in degrees, such as `11.575;48.137`";
        refuse(fields, "location", expected, location, problems);
    }
    let within_metres = threshold.as_f64().and_then(metres);
    if within_metres.is_none() {
        let expected = format!("a number of kilometres from 0 to {FARTHEST_KILOMETRES}");
        refuse(fields, "threshold", &expected, threshold, problems);
    }
    let ((longitude, latitude), within_metres) = (place?, within_metres?);
    Some(DistanceConstraint { latitude, longitude, within_metres })
}

fn refuse(fields: &Fields<'_>, name: &'static str, expected: &str, value: &Value, problems: &mut Problems) {
    let is_wrong = format!("must be {expected}, but is {}", found(value));
    problems.add(SlaErrorCode::InvalidValue, &fields.path_of(name), &is_wrong);
}

/// Longitude and latitude, in the order of Oakestra's documents.
fn place(text: &str) -> Option<(Microdegrees, Microdegrees)> {
    let (longitude, latitude) = text.split_once(';')?;
    let degrees = |text: &str, limit| Microdegrees::of_degrees(text.trim().parse().ok()?, limit);
    Some((degrees(longitude, 180.0)?, degrees(latitude, 90.0)?))
}

fn metres(kilometres: f64) -> Option<u32> {
    #[expect(clippy::cast_possible_truncation, reason = "the greatest is twenty million")]
    #[expect(clippy::cast_sign_loss, reason = "the least is 0")]
    let metres = (kilometres * 1000.0).round() as u32;
    (0.0..=FARTHEST_KILOMETRES).contains(&kilometres).then_some(metres)
}
