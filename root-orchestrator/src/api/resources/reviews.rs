//! Who one is, and what one may do, as clients of Kubernetes ask for it: `kubectl auth can-i` and `kubectl auth whoami`.

use ::resources::{kind::Verb, write};
use axum::http::{HeaderMap, StatusCode, header};
use root_core::{
    State as Truth,
    access::{self, Verdict},
};
use serde_json::{Value, json};

use super::{
    super::{body::Body, error::Error},
    Answer, Asking, Shared, State,
    answer::{Answers, answered},
    asked,
    kinds::{self, Served},
    views::View,
};
use crate::{audit::Audited, auth::Caller};

/// Nothing changes by a question.
fn is_only_asked(brain: &Audited) {
    brain.describe(|call| call.is_routine = true);
}

fn read(headers: &HeaderMap, body: Body) -> Result<Value, super::Failure> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    Ok(write::read(content_type, &asked::body(body)?)?)
}

/// Ask whether the caller may do something
#[utoipa::path(post, path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", tag = "resources",
    request_body = Object, responses(Answers))]
pub(in crate::api) async fn may_i(
    State(context): Shared,
    caller: Asking,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let caller = caller?;
    is_only_asked(&context.brain);
    let mut review = read(&headers, body)?;
    let answer = {
        let state = context.brain.read().await;
        judge(&state, &caller, &review["spec"])
    };
    let Some(fields) = review.as_object_mut() else {
        return Err(Error::bad_field("spec", "the body must be an object").into());
    };
    fields.insert(
        "status".to_owned(),
        match answer {
            Ok(()) => json!({"allowed": true}),
            Err(reason) => json!({"allowed": false, "reason": reason}),
        },
    );
    Ok(answered(StatusCode::CREATED, &review, &[]))
}

/// Whether the caller may do what a review asks for, or why not.
fn judge(state: &Truth, caller: &Caller, spec: &Value) -> Result<(), String> {
    if let Some(path) = spec["nonResourceAttributes"]["path"].as_str() {
        let is_reading = spec["nonResourceAttributes"]["verb"] == "get";
        let known = ["/api", "/apis", "/openapi", "/version"];
        let is_known = known.iter().any(|known| path == *known || path.starts_with(&format!("{known}/")));
        return if is_reading && is_known { Ok(()) } else { Err("nobody may do that there".to_owned()) };
    }
    let text = |field: &str| spec["resourceAttributes"][field].as_str().unwrap_or_default();
    let kinds = match text("resource") {
        "*" => kinds::all(state),
        plural => kinds::preferred(state, text("group"), plural).into_iter().collect(),
    };
    if kinds.is_empty() {
        return Err("the root does not have a kind of that name".to_owned());
    }
    let verbs = match text("verb") {
        "*" => Verb::ALL.to_vec(),
        word => vec![Verb::named(word).ok_or_else(|| format!("`{word}` is no verb"))?],
    };
    for served in &kinds {
        for verb in &verbs {
            let namespace = Some(text("namespace")).filter(|it| !it.is_empty() && served.kind.is_namespaced);
            served.admit(state, caller, *verb, namespace, text("name")).map_err(|status| status.message)?;
        }
    }
    Ok(())
}

/// Ask what the caller may do
#[utoipa::path(post, path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", tag = "resources",
    request_body = Object, responses(Answers))]
pub(in crate::api) async fn what_may_i(
    State(context): Shared,
    caller: Asking,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let caller = caller?;
    is_only_asked(&context.brain);
    let review = read(&headers, body)?;
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
    let state = context.brain.read().await;
    let of = state.organization_named(namespace).map(|it| it.id);
    let may = |served: &Served, verb: Verb| {
        let of = if served.kind.is_namespaced { of } else { None };
        (of.is_some() || !served.kind.is_namespaced)
            && served.kind.has(verb)
            && served.verdict(&caller, verb, of) == Verdict::Allowed
    };
    let rule = |served: &Served| {
        let verbs = Verb::ALL.into_iter().filter(|verb| may(served, *verb)).map(Verb::as_str);
        let verbs: Vec<&str> = verbs.collect();
        (!verbs.is_empty()).then(|| {
            json!({"verbs": verbs, "apiGroups": [served.kind.group], "resources": [served.kind.names.plural]})
        })
    };
    let mut rules: Vec<Value> = kinds::all(&state).iter().filter_map(rule).collect();
    rules.extend(rule_of_clusters(&state, &caller));
    let answer = json!({
        "kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {},
        "spec": {"namespace": namespace},
        "status": {"resourceRules": rules, "nonResourceRules": [], "incomplete": false},
    });
    Ok(answered(StatusCode::CREATED, &answer, &[]))
}

/// What whoever does not look at all clusters may do with those that are named.
fn rule_of_clusters(state: &Truth, caller: &Caller) -> Option<Value> {
    if caller.may_usually(access::Verb::Get, access::Kind::Cluster) == Verdict::Allowed {
        return None;
    }
    let seen = state.clusters().filter(|it| caller.sees(it.id));
    let seen: Vec<&str> = seen.map(|it| it.name.as_str()).collect();
    let kind = View::Clusters.kind();
    (!seen.is_empty()).then(|| {
        json!({
            "verbs": Verb::READING.map(Verb::as_str), "apiGroups": [kind.group],
            "resources": [kind.names.plural], "resourceNames": seen,
        })
    })
}

/// Ask who the caller is
#[utoipa::path(post, path = "/apis/authentication.k8s.io/v1/selfsubjectreviews", tag = "resources",
    request_body = Object, responses(Answers))]
pub(in crate::api) async fn who_am_i(
    State(context): Shared,
    caller: Asking,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let caller = caller?;
    is_only_asked(&context.brain);
    read(&headers, body)?;
    let state = context.brain.read().await;
    let organization = state.organization(caller.organization).map_or("", |it| it.name.as_str());
    let roles: Vec<String> = caller.rights.roles.iter().map(ToString::to_string).collect();
    let answer = json!({
        "kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
        "status": {"userInfo": {
            "username": caller.name, "uid": caller.id.to_string(), "groups": roles,
            "extra": {"organization": [organization]},
        }},
    });
    Ok(answered(StatusCode::CREATED, &answer, &[]))
}
