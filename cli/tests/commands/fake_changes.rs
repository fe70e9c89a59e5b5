//! The fake root's answers to changes of services and to what concerns workers.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{Shared, refusal};

/// Makes the next revision current; what happens then is in the script, and without one it is done at once.
pub(super) async fn update(State(root): State<Shared>, Json(wanted): Json<Value>) -> Response {
    let mut root = root.lock().unwrap();
    if wanted["memory"] == json!(-1) {
        return refusal(StatusCode::UNPROCESSABLE_ENTITY, "`memory` must be an integer from 0 on, but is -1");
    }
    let goes_on = !root.service_script.is_empty();
    let service = &mut root.services[0];
    let revision = service["revision"].as_u64().unwrap() + 1;
    service["revision"] = json!(revision);
    if goes_on {
        service["rollout"] = json!({"from": revision - 1, "to": revision, "instances": 1, "ready": 0});
    }
    let message = format!("revision {revision} replaces {}", revision - 1);
    Json(json!({"message": message, "revision": revision})).into_response()
}

pub(super) async fn roll_back(State(root): State<Shared>, Json(body): Json<Value>) -> Response {
    let mut root = root.lock().unwrap();
    let service = &mut root.services[0];
    let revision = body["revision"].as_u64().unwrap_or(1);
    if revision > 7 {
        return refusal(StatusCode::NOT_FOUND, "the service has no revision 9 to go back to");
    }
    service["revision"] = json!(revision);
    Json(json!({"message": "so it is again", "revision": revision})).into_response()
}

/// Takes from the end or adds requested instances, which then follow their script.
pub(super) async fn scale(State(root): State<Shared>, Json(body): Json<Value>) -> Json<Value> {
    let mut root = root.lock().unwrap();
    let wanted = usize::try_from(body["instances"].as_u64().unwrap()).unwrap();
    let instances = root.services[0]["instance_list"].as_array_mut().unwrap();
    instances.truncate(wanted);
    let added: Vec<usize> = (instances.len()..wanted).collect();
    for number in &added {
        instances.push(json!({"instance_number": number, "phase": "requested", "step": 0}));
    }
    Json(json!({"message": "ok", "instances": wanted, "added": added}))
}

pub(super) async fn revisions(State(root): State<Shared>) -> Json<Value> {
    Json(Value::Array(root.lock().unwrap().revisions.clone()))
}

pub(super) async fn workers(State(root): State<Shared>) -> Response {
    let mut root = root.lock().unwrap();
    let (status, body) = match root.workers.len() {
        0 => (404, json!({"message": "there is no cluster `nowhere`"})),
        1 => root.workers[0].clone(),
        _ => root.workers.pop_front().unwrap(),
    };
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

pub(super) async fn revoke() -> Json<Value> {
    Json(json!({"message": "they are revoked"}))
}

pub(super) async fn on_worker(
    method: Method,
    Path(names): Path<Vec<(String, String)>>,
    _body: Bytes,
) -> Response {
    if names.iter().any(|(_, name)| name == "stranger") {
        return refusal(StatusCode::CONFLICT, "the cluster has no worker `stranger`");
    }
    let message = if method == Method::DELETE { "it is forgotten" } else { "it is begun" };
    Json(json!({"message": message, "instances": 2})).into_response()
}

pub(super) async fn rotate_secret() -> Json<Value> {
    Json(json!({"message": "version 3 is stored", "version": 3, "users": ["shop.prod.web.front"]}))
}

pub(super) async fn delete_secret(State(root): State<Shared>) -> Response {
    if root.lock().unwrap().secrets.is_empty() {
        return Json(json!({"message": "Secret deleted"})).into_response();
    }
    refusal(StatusCode::CONFLICT, "it is used")
}
