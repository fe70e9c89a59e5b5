//! What a service says about the time after its start: cut-off devices, health and changes.

use std::str::FromStr;

use model::{Check, Health, OnPartition, PolicyError, Probe, Span, Survival};
use serde_json::{Map, Value};

use crate::UpdatePolicy;

use super::{
    error::{Problems, SlaErrorCode, shown},
    fields::{HEALTH, HTTP_CHECK, PROBE, TCP_CHECK, UPDATE},
    read::Fields,
};

/// More often would be load rather than news.
const SHORTEST_INTERVAL: Span = Span::from_millis(100);
/// A moment's silence must not stop an instance, and no container starts faster.
const SHORTEST_WAIT: Span = Span::from_secs(1);
/// A worker that is emptied or a port that is wanted must not wait for ever for a client that never hangs up.
const LONGEST_DRAIN: Span = Span::from_secs(3600);
const NEVER: &str = "never";
const SPAN_FORM: &str = "whole number with `ms`, `s`, `m` or `h`, such as `10s`, at most a year";

/// What is wanted when a device or cluster is cut off.
pub(super) fn survival(fields: &Fields<'_>, problems: &mut Problems) -> Survival {
    let default = Survival::default();
    let on_partition = policy(fields, "on_partition", problems).unwrap_or(default.on_partition);
    if let OnPartition::StopAfter(after) = on_partition
        && after < SHORTEST_WAIT
    {
        let is_wrong = format!("must stop it after {SHORTEST_WAIT} at least, but after {after}");
        problems.add(SlaErrorCode::InvalidValue, &fields.path_of("on_partition"), &is_wrong);
    }
    Survival {
        on_partition,
        on_rejoin: policy(fields, "on_rejoin", problems).unwrap_or(default.on_rejoin),
        cluster_lost_after: match fields.text("cluster_lost_after") {
            NEVER => None,
            _ => span(fields, "cluster_lost_after", Some(NEVER), problems).or(default.cluster_lost_after),
        },
    }
}

/// How long connections may take to end.
pub(super) fn drain(fields: &Fields<'_>, problems: &mut Problems) -> Span {
    let drain = span(fields, "drain", None, problems).unwrap_or_default();
    if drain > LONGEST_DRAIN {
        let is_wrong = format!("must be {LONGEST_DRAIN} at most, but is {drain}");
        problems.add(SlaErrorCode::InvalidValue, &fields.path_of("drain"), &is_wrong);
    }
    drain
}

/// The probes.
pub(super) fn health(fields: &Fields<'_>, problems: &mut Problems) -> Health {
    let Some((path, object)) = fields.object("health") else { return Health::default() };
    let fields = Fields::read(&HEALTH, &path, object, problems);
    Health {
        start: probe(&fields, "start", problems),
        ready: probe(&fields, "ready", problems),
        live: probe(&fields, "live", problems),
    }
}

fn probe(fields: &Fields<'_>, name: &'static str, problems: &mut Problems) -> Option<Probe> {
    let (path, object) = fields.object(name)?;
    let fields = Fields::read(&PROBE, &path, object, problems);
    let default = Probe::new(check(&fields, &path, object, problems)?);
    let interval = span(&fields, "interval", None, problems).unwrap_or(default.interval);
    let timeout = span(&fields, "timeout", None, problems).unwrap_or(default.timeout);
    at_least(SHORTEST_INTERVAL, interval, &fields, "interval", problems);
    at_least(Span::from_millis(1), timeout, &fields, "timeout", problems);
    let failures = if fields.has("failures") { fields.integer("failures") } else { default.failures };
    if failures == 0 {
        let is_wrong = "must be 1 at least: so many failures in a row count";
        problems.add(SlaErrorCode::InvalidValue, &fields.path_of("failures"), is_wrong);
    }
    Some(Probe { interval, timeout, failures, ..default })
}

/// The one check of a probe. What was refused already is not told of again.
fn check(
    fields: &Fields<'_>,
    path: &str,
    object: &Map<String, Value>,
    problems: &mut Problems,
) -> Option<Check> {
    const KINDS: [&str; 3] = ["http", "tcp", "exec"];
    let given: Vec<&str> =
        KINDS.into_iter().filter(|kind| object.get(*kind).is_some_and(|value| !value.is_null())).collect();
    match given[..] {
        [] => {
            let is_wrong = "says nothing to check: give it one of `http`, `tcp` and `exec`";
            problems.add(SlaErrorCode::MissingField, path, is_wrong);
            None
        }
        ["http"] => {
            let (path, object) = fields.object("http")?;
            Some(http(&path, object, problems))
        }
        ["tcp"] => {
            let (path, object) = fields.object("tcp")?;
            let fields = Fields::read(&TCP_CHECK, &path, object, problems);
            Some(Check::Tcp { port: port(&fields, problems) })
        }
        ["exec"] if fields.has("exec") => Some(exec(fields, problems)),
        [_] => None,
        _ => {
            let given: Vec<String> = given.iter().map(|kind| format!("`{kind}`")).collect();
            let is_wrong = format!("has several checks ({}): keep one", given.join(", "));
            problems.add(SlaErrorCode::Conflict, path, &is_wrong);
            None
        }
    }
}

fn http(place: &str, object: &Map<String, Value>, problems: &mut Problems) -> Check {
    let fields = Fields::read(&HTTP_CHECK, place, object, problems);
    let path = match fields.text("path") {
        "" => "/",
        path => path,
    };
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        let is_wrong = format!(
            "must begin with `/` and be written in ASCII without spaces, as in `/healthz`, but is \"{}\"",
            shown(path)
        );
        problems.add(SlaErrorCode::InvalidValue, &fields.path_of("path"), &is_wrong);
    }
    Check::Http { port: port(&fields, problems), path: path.to_owned() }
}

fn exec(fields: &Fields<'_>, problems: &mut Problems) -> Check {
    let command: Vec<String> = fields.texts("exec").into_iter().map(str::to_owned).collect();
    if command.first().is_none_or(String::is_empty) {
        let is_wrong = "must be a command and its arguments, but names no command";
        problems.add(SlaErrorCode::InvalidValue, &fields.path_of("exec"), is_wrong);
    }
    Check::Exec { command }
}

/// The port of a check; 0, next to a problem, when there is none.
fn port(fields: &Fields<'_>, problems: &mut Problems) -> u16 {
    let port = u16::try_from(fields.integer("port")).expect("the table allows no greater one");
    if port == 0 && fields.has("port") {
        problems.add(
            SlaErrorCode::InvalidValue,
            &fields.path_of("port"),
            "must be a port from 1 to 65535, but is 0",
        );
    }
    port
}

/// How the service is changed.
pub(super) fn update(fields: &Fields<'_>, problems: &mut Problems) -> UpdatePolicy {
    let default = UpdatePolicy::default();
    let Some((path, object)) = fields.object("update") else { return default };
    let fields = Fields::read(&UPDATE, &path, object, problems);
    let number = |name, default| if fields.has(name) { fields.integer(name) } else { default };
    let policy = UpdatePolicy {
        max_unavailable: number("max_unavailable", default.max_unavailable),
        max_surge: number("max_surge", default.max_surge),
        ready_within: span(&fields, "ready_within", None, problems).unwrap_or(default.ready_within),
        rollback: if fields.has("rollback") { fields.flag("rollback") } else { default.rollback },
    };
    at_least(SHORTEST_WAIT, policy.ready_within, &fields, "ready_within", problems);
    if policy.max_unavailable == 0 && policy.max_surge == 0 {
        let is_wrong = "allows no instance to be missing and none to be more: \
                        let `max_unavailable` or `max_surge` be 1 at least";
        problems.add(SlaErrorCode::Conflict, &path, is_wrong);
    }
    policy
}

fn at_least(shortest: Span, given: Span, fields: &Fields<'_>, name: &'static str, problems: &mut Problems) {
    if given < shortest {
        let is_wrong = format!("must be {shortest} at least, but is {given}");
        problems.add(SlaErrorCode::InvalidValue, &fields.path_of(name), &is_wrong);
    }
}

/// A span of time; `or` is what else the field may say.
fn span(fields: &Fields<'_>, name: &'static str, or: Option<&str>, problems: &mut Problems) -> Option<Span> {
    let text = fields.text(name);
    if text.is_empty() {
        return None;
    }
    let span = text.parse().ok();
    if span.is_none() {
        let or = or.map(|word| format!(", or `{word}`")).unwrap_or_default();
        let is_wrong = format!("must be a {SPAN_FORM}{or}, but is \"{}\"", shown(text));
        problems.add(SlaErrorCode::InvalidValue, &fields.path_of(name), &is_wrong);
    }
    span
}

/// A policy; an empty text is none.
fn policy<T: FromStr<Err = PolicyError>>(
    fields: &Fields<'_>,
    name: &'static str,
    problems: &mut Problems,
) -> Option<T> {
    let text = fields.text(name);
    if text.is_empty() {
        return None;
    }
    let is_wrong = match text.parse() {
        Ok(policy) => return Some(policy),
        Err(PolicyError::Unknown { expected, .. }) => {
            format!("must be {expected}, but is \"{}\"", shown(text))
        }
        Err(PolicyError::Span(_)) => {
            format!("must have a {SPAN_FORM} in its parentheses, but is \"{}\"", shown(text))
        }
    };
    problems.add(SlaErrorCode::InvalidValue, &fields.path_of(name), &is_wrong);
    None
}
