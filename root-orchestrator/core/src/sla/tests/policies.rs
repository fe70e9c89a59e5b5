//! Cut-off devices, health and changes.

use model::{Check, Health, OnPartition, OnRejoin, Probe, Span, Survival};

use super::*;

fn update_of(extra: Value) -> UpdatePolicy {
    let sla = parsed(&sla_with(service_with(extra))).unwrap_or_else(|errors| panic!("{errors}"));
    sla.applications[0].services[0].update
}

#[test]
fn every_policy_reaches_the_spec() {
    let spec = spec_with(json!({
        "on_partition": "stop_after(30s)", "on_rejoin": "keep_original", "cluster_lost_after": "5m",
        "health": {
            "start": {"exec": ["test", "-e", ""], "interval": "100ms", "timeout": "1ms", "failures": 1},
            "ready": {"http": {"port": 80, "path": "/healthz?a=b"}},
            "live": {"tcp": {"port": 65535}, "failures": 10},
        },
    }));
    let survival = Survival {
        on_partition: OnPartition::StopAfter(Span::from_secs(30)),
        on_rejoin: OnRejoin::KeepOriginal,
        cluster_lost_after: Some(Span::from_secs(300)),
    };
    let command = ["test", "-e", ""].map(str::to_owned).to_vec();
    let health = Health {
        start: Some(Probe {
            check: Check::Exec { command },
            interval: Span::from_millis(100),
            timeout: Span::from_millis(1),
            failures: 1,
        }),
        ready: Some(Probe::new(Check::Http { port: 80, path: "/healthz?a=b".to_owned() })),
        live: Some(Probe { failures: 10, ..Probe::new(Check::Tcp { port: 65535 }) }),
    };
    assert_eq!((spec.survival, spec.health), (survival, health));
}

#[test]
fn what_is_not_said_is_the_default() {
    let nothing = json!({
        "on_partition": "", "on_rejoin": null, "cluster_lost_after": "", "health": {"start": null}, "update": {},
    });
    assert_eq!(spec_with(nothing.clone()), spec_with(json!({})));
    assert_eq!(update_of(nothing), UpdatePolicy::default());
    let http = spec_with(json!({"health": {"ready": {"http": {"port": 80}}}})).health;
    assert_eq!(http.ready, Some(Probe::new(Check::Http { port: 80, path: "/".to_owned() })));
}

#[test]
fn the_other_policies_have_their_words() {
    let survival = |field: &str, text: &str| spec_with(json!({field: text})).survival;
    assert_eq!(survival("on_partition", "keep").on_partition, OnPartition::Keep);
    let at_once = OnPartition::ReplaceAfter(Span::from_secs(0));
    assert_eq!(survival("on_partition", "replace_after(0s)").on_partition, at_once);
    assert_eq!(survival("on_rejoin", "keep_replacement").on_rejoin, OnRejoin::KeepReplacement);
    assert_eq!(survival("cluster_lost_after", "never").cluster_lost_after, None);
}

#[test]
fn policies_that_are_none_say_what_there_is() {
    let words = "must be `replace_after(10s)`, `keep` or `stop_after(30s)`, but is";
    let time = "whole number with `ms`, `s`, `m` or `h`, such as `10s`, at most a year";
    let in_parentheses = format!("must have a {time} in its parentheses, but is");
    let refused = [
        ("on_partition", "Keep", format!("{words} \"Keep\"")),
        ("on_partition", "replace\n", format!("{words} \"replace\\n\"")),
        ("on_partition", "stop_after(10)", format!("{in_parentheses} \"stop_after(10)\"")),
        ("on_partition", "replace_after(-1s)", format!("{in_parentheses} \"replace_after(-1s)\"")),
        ("on_partition", "stop_after(999ms)", "must stop it after 1s at least, but after 999ms".to_owned()),
        ("on_rejoin", "keep", "must be `keep_original` or `keep_replacement`, but is \"keep\"".to_owned()),
        ("cluster_lost_after", "60", format!("must be a {time}, or `never`, but is \"60\"")),
        ("cluster_lost_after", "9999999h", format!("must be a {time}, or `never`, but is \"9999999h\"")),
    ];
    for (field, text, is_wrong) in refused {
        assert_eq!(service_problems(json!({field: text})), one(SlaErrorCode::InvalidValue, field, &is_wrong));
    }
    let number = "must be a string, but is 60";
    for field in ["on_partition", "on_rejoin", "cluster_lost_after"] {
        assert_eq!(service_problems(json!({field: 60})), one(SlaErrorCode::WrongType, field, number));
    }
}

#[test]
fn a_probe_has_one_check() {
    let problems = |probe: Value| service_problems(json!({"health": {"ready": probe}}));
    assert_eq!(
        problems(json!({"interval": "1s"})),
        one(
            SlaErrorCode::MissingField,
            "health.ready",
            "says nothing to check: give it one of `http`, `tcp` and `exec`"
        )
    );
    assert_eq!(
        problems(json!({"http": {"port": 1}, "tcp": {"port": 1}, "exec": null})),
        one(SlaErrorCode::Conflict, "health.ready", "has several checks (`http`, `tcp`): keep one")
    );
    assert_eq!(
        problems(json!({"exec": "true"})),
        one(
            SlaErrorCode::WrongType,
            "health.ready.exec",
            "must be a list of strings, but is the string \"true\""
        )
    );
    assert_eq!(
        problems(json!({"grpc": {"port": 1}, "tcp": {"port": 1}})),
        one(
            SlaErrorCode::UnknownField,
            "health.ready.grpc",
            "is an unknown field; remove it; a probe may have: http, tcp, exec, interval, timeout, failures"
        )
    );
    assert_eq!(
        service_problems(json!({"health": {"readyness": {"tcp": {"port": 1}}}})),
        one(SlaErrorCode::UnknownField, "health.readyness", "is an unknown field; did you mean `ready`?")
    );
}

#[test]
fn the_values_of_a_probe_are_in_range() {
    let time = "must be a whole number with `ms`, `s`, `m` or `h`, such as `10s`, at most a year, but is";
    let path = "must begin with `/` and be written in ASCII without spaces, as in `/healthz`, but is";
    let refused = [
        (json!({"tcp": {"port": 0}}), "tcp.port", "must be a port from 1 to 65535, but is 0".to_owned()),
        (
            json!({"tcp": {"port": 65536}}),
            "tcp.port",
            "must be an integer from 0 to 65535, but is 65536".to_owned(),
        ),
        (json!({"http": {"port": 1, "path": "healthz"}}), "http.path", format!("{path} \"healthz\"")),
        (json!({"http": {"port": 1, "path": "/a b"}}), "http.path", format!("{path} \"/a b\"")),
        (json!({"exec": []}), "exec", "must be a command and its arguments, but names no command".to_owned()),
        (
            json!({"exec": ["", "a"]}),
            "exec",
            "must be a command and its arguments, but names no command".to_owned(),
        ),
        (
            json!({"tcp": {"port": 1}, "failures": 0}),
            "failures",
            "must be 1 at least: so many failures in a row count".to_owned(),
        ),
        (
            json!({"tcp": {"port": 1}, "interval": "99ms"}),
            "interval",
            "must be 100ms at least, but is 99ms".to_owned(),
        ),
        (
            json!({"tcp": {"port": 1}, "timeout": "0s"}),
            "timeout",
            "must be 1ms at least, but is 0ms".to_owned(),
        ),
        (json!({"tcp": {"port": 1}, "timeout": "1.5s"}), "timeout", format!("{time} \"1.5s\"")),
    ];
    for kind in ["start", "ready", "live"] {
        for (probe, place, is_wrong) in &refused {
            let place = format!("health.{kind}.{place}");
            assert_eq!(
                service_problems(json!({"health": {kind: probe}})),
                one(SlaErrorCode::InvalidValue, &place, is_wrong)
            );
        }
    }
    assert_eq!(
        service_problems(json!({"health": {"live": {"http": {"path": "/"}}}})),
        one(
            SlaErrorCode::MissingField,
            "health.live.http.port",
            "is missing: an http check needs it (Port inside the instance)"
        )
    );
}

#[test]
fn an_update_lets_go_of_old_instances_or_makes_new_ones() {
    assert_eq!(
        update_of(json!({"update": {
            "max_unavailable": 2, "max_surge": 0, "ready_within": "10s", "rollback": false,
        }})),
        UpdatePolicy { max_unavailable: 2, max_surge: 0, ready_within: Span::from_secs(10), rollback: false }
    );
    let refused = [
        (
            json!({"max_surge": 0}),
            SlaErrorCode::Conflict,
            "update",
            "allows no instance to be missing and none to be more: let `max_unavailable` or `max_surge` be 1 at least",
        ),
        (
            json!({"ready_within": "0s"}),
            SlaErrorCode::InvalidValue,
            "update.ready_within",
            "must be 1s at least, but is 0ms",
        ),
        (
            json!({"max_surge": 10_001}),
            SlaErrorCode::InvalidValue,
            "update.max_surge",
            "must be an integer from 0 to 10000, but is 10001",
        ),
        (
            json!({"rollback": 1}),
            SlaErrorCode::WrongType,
            "update.rollback",
            "must be true or false, but is 1",
        ),
    ];
    for (update, code, place, is_wrong) in refused {
        assert_eq!(service_problems(json!({"update": update})), one(code, place, is_wrong));
    }
    let not_an_object = "must be an object, but is the string \"rolling\"";
    assert_eq!(
        service_problems(json!({"update": "rolling"})),
        one(SlaErrorCode::WrongType, "update", not_an_object)
    );
}

#[test]
fn connections_may_take_a_while_to_end() {
    let drain = |extra: Value| spec_with(extra).drain;
    assert_eq!(drain(json!({})), Span::from_secs(0));
    assert_eq!(drain(json!({"drain": "10s"})), Span::from_secs(10));
    assert_eq!(drain(json!({"drain": "1h"})), Span::from_secs(3600));
    let (field, is_wrong) = ("drain", "must be 1h at most, but is 61m");
    assert_eq!(service_problems(json!({field: "61m"})), one(SlaErrorCode::InvalidValue, field, is_wrong));
    let is_wrong =
        "must be a whole number with `ms`, `s`, `m` or `h`, such as `10s`, at most a year, but is \"10\"";
    assert_eq!(service_problems(json!({field: "10"})), one(SlaErrorCode::InvalidValue, field, is_wrong));
}

#[test]
fn a_port_is_free_before_a_change_has_failed() {
    let is_wrong = "is 2m, and an instance of another revision may wait so long for its port: let it be less than \
                    `update.ready_within`, 2m";
    let service = json!({"drain": "2m", "port": "80"});
    assert_eq!(service_problems(service), one(SlaErrorCode::Conflict, "drain", is_wrong));
    assert_eq!(spec_with(json!({"drain": "2m"})).drain, Span::from_secs(120), "without a port");
    let patient = json!({"drain": "2m", "port": "80", "update": {"ready_within": "3m"}});
    assert_eq!(spec_with(patient).drain, Span::from_secs(120));
}
