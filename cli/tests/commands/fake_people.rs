//! What the fake root answers about users, organisations, API tokens, hooks and objects: what a test says, by method and path;
//! of null there is nothing to say.

use super::{IntoResponse, Json, Request, Response, Router, Shared, State, StatusCode, json};
use axum::routing::any;

/// Those for who is logged in.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/users/", any(answer))
        .route("/api/organization/", any(answer))
        .route("/api/organization/{id}", any(answer))
        .route("/api/organization/{id}/quota", any(answer))
        .route("/api/auth/register", any(answer))
        .route("/api/auth/can-i", any(answer))
        .route("/api/auth/tokens", any(answer))
        .route("/api/auth/tokens/{id}", any(answer))
        .route("/api/user/{name}", any(answer))
        .route("/api/v1/hooks", any(answer))
        .route("/api/v1/hooks/{id}", any(answer))
        .route("/api/user/{name}/reset", any(answer))
        .route("/apis/{*path}", any(answer))
}

/// Those for everybody.
pub(super) fn open_routes() -> Router<Shared> {
    Router::new()
        .route("/api/user/", any(record_and_answer))
        .route("/api/auth/logout", any(record_and_answer))
        .route("/api/auth/oidc/device", any(record_and_answer))
        .route("/api/auth/oidc/device/token", any(poll))
}

async fn poll(State(root): State<Shared>, body: String) -> Response {
    let mut root = root.lock().unwrap();
    root.requests.push(format!("poll {body}"));
    let (status, answer) = root.polls.pop_front().unwrap();
    (StatusCode::from_u16(status).unwrap(), Json(answer)).into_response()
}

async fn answer(State(root): State<Shared>, request: Request) -> Response {
    let asked = format!("{} {}", request.method(), request.uri().path());
    match root.lock().unwrap().people.get(&asked) {
        Some(serde_json::Value::Null) => StatusCode::NO_CONTENT.into_response(),
        Some(answer) => Json(answer.clone()).into_response(),
        None => (StatusCode::NOT_FOUND, Json(json!({"message": format!("no {asked}")}))).into_response(),
    }
}

async fn record_and_answer(root: State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let bearer = parts.headers.get("authorization").map(|given| given.to_str().unwrap().to_owned());
    let bearer = bearer.unwrap_or_else(|| "nobody".to_owned());
    let line = format!("{} {} {} by {bearer}", parts.method, parts.uri, String::from_utf8_lossy(&body));
    root.lock().unwrap().requests.push(line);
    answer(root, Request::from_parts(parts, body.into())).await
}
