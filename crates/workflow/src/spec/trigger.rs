//! Lists of names that start a task, and the conditions over them.

use std::collections::BTreeSet;

use super::{
    CauseReason, Causes, TaskSpec, is_name,
    object::{Object, cut, text},
};
use crate::{Expression, Join, Question};

/// Names in one list: as many as a person can follow.
const MOST_NAMES: usize = 32;

/// The names of ignitors or tasks in a list.
pub(super) fn names(object: &mut Object<'_>, field: &'static str, causes: &mut Causes) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (path, value) in object.list(field, MOST_NAMES, causes) {
        let Some(name) = text(&path, value, usize::MAX, causes) else { continue };
        if !is_name(name) {
            let message = format!("must be the name of a resource, but is \"{}\"", cut(name));
            causes.invalid(&path, &message);
        } else if !names.insert(name.to_owned()) {
            causes.add(CauseReason::Duplicate, &path, &format!("names `{name}` again; once is enough"));
        }
    }
    names
}

/// Whether the conditions ask only what can come, and do not wait for their own task.
pub(super) fn ensure_conditions(spec: &TaskSpec, own_name: Option<&str>, path: &str, causes: &mut Causes) {
    if let Some(when) = &spec.when {
        ensure_heard(spec, when, &format!("{path}.when"), causes);
    }
    match &spec.join {
        Join::Any => {}
        Join::All => {
            if spec.sources().next().is_none() {
                causes.invalid(&format!("{path}.join"), "has nothing to wait for: name what starts the task");
            }
            let waits =
                |name: &str| spec.start_on_success.contains(name) || spec.start_on_failure.contains(name);
            if own_name.is_some_and(waits) {
                let message = "waits for its own task, which never starts so: take it out of startOnSuccess and \
                               startOnFailure, or let any trigger start it";
                causes.invalid(&format!("{path}.join"), message);
            }
            for name in spec.start_on_success.intersection(&spec.start_on_failure) {
                let message = format!("waits for `{name}` to succeed and to fail, and it does one of them");
                causes.invalid(&format!("{path}.join"), &message);
            }
        }
        Join::Expression(expression) => {
            let path = format!("{path}.join.expression");
            ensure_heard(spec, expression, &path, causes);
            if expression.references().iter().any(|asked| Some(asked.source.as_str()) == own_name) {
                causes.invalid(&path, "asks about its own task, which it is to start: that is a circle");
            }
        }
    }
}

/// What is not in the lists is never heard of, so that asking it is a mistake.
fn ensure_heard(spec: &TaskSpec, expression: &Expression, path: &str, causes: &mut Causes) {
    for asked in expression.references() {
        let name = &asked.source;
        let (list, heard) = match asked.question {
            Question::Success => ("startOnSuccess", spec.start_on_success.contains(name)),
            Question::Failure => ("startOnFailure", spec.start_on_failure.contains(name)),
            Question::Fired => ("startOnIgnition", spec.start_on_ignition.contains(name)),
            Question::Data | Question::Output(_) => (
                "startOnIgnition, startOnSuccess or startOnFailure",
                spec.sources().any(|source| source == name),
            ),
        };
        if !heard {
            causes.invalid(path, &format!("asks about `{}`, which is not in {list}", cut(name)));
        }
    }
}
