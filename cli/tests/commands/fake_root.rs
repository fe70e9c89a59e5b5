//! A root that keeps everything in memory and plays the life of instances from a script.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Query, Request, State},
    http::{HeaderMap, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use futures_util::stream;
use serde_json::{Value, json};

/// Between two steps of an instance's script.
const STEP: Duration = Duration::from_millis(50);

/// Answers to changes of services and to what concerns workers.
#[path = "fake_changes.rs"]
mod changes;
/// Answers about users and organisations.
#[path = "fake_people.rs"]
mod people;

pub(crate) struct FakeRoot {
    pub(crate) url: String,
    state: Shared,
    _runtime: tokio::runtime::Runtime,
}

type Shared = Arc<Mutex<Root>>;

/// Status and body.
pub(crate) type Answer = (u16, Value);

/// What the fake root has and how it behaves.
#[derive(Default)]
pub(crate) struct Root {
    pub(crate) applications: Vec<Value>,
    pub(crate) services: Vec<Value>,
    pub(crate) clusters: Vec<Value>,
    pub(crate) tokens: Vec<Value>,
    pub(crate) secrets: Vec<Value>,
    /// Those of itself and of its clusters.
    pub(crate) certificates: Vec<Value>,
    /// Everything asked of it after the login: method, path with query, body.
    pub(crate) requests: Vec<String>,
    /// What every new instance goes through, a step at a time, while somebody watches.
    pub(crate) script: Vec<Value>,
    /// Whether lists are JSON inside a JSON string.
    pub(crate) doubly_encoded: bool,
    /// Access tokens end in this number; older ones have expired.
    pub(crate) token_age: u32,
    /// Whether refresh tokens are taken.
    pub(crate) refuses_refresh: bool,
    /// How many watches end after their first event.
    pub(crate) broken_watches: u32,
    /// What the first service goes through, a step at a time, while somebody watches.
    pub(crate) service_script: VecDeque<Value>,
    /// What its revisions are.
    pub(crate) revisions: Vec<Value>,
    /// What it answers about people, by method and path.
    pub(crate) people: BTreeMap<String, Value>,
    /// What it answers whoever asks whether a device is logged in, one answer after another.
    pub(crate) polls: VecDeque<Answer>,
    /// To which organisation somebody logged in last.
    pub(crate) organization: Value,
    /// What a cluster tells of its workers or their certificates, one answer after another; the last one again and again.
    pub(crate) workers: VecDeque<Answer>,
    /// Whether the records of who changed what are whole.
    pub(crate) audit: Value,
    /// Pages of them, one after another.
    pub(crate) audit_pages: VecDeque<Value>,
    /// All of them.
    pub(crate) audit_lines: String,
}

impl FakeRoot {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let state = Shared::default();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = router(state.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { url, state, _runtime: runtime }
    }

    /// A root whose new instances go through these phases.
    pub(crate) fn with_script(script: Vec<Value>) -> Self {
        let root = Self::start();
        root.state().script = script;
        root
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, Root> {
        self.state.lock().unwrap()
    }

    /// What was asked of it since the last look.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }
}

fn router(state: Shared) -> Router {
    Router::new()
        .route(
            "/api/applications/",
            get(|State(root): State<Shared>| async move {
                let root = root.lock().unwrap();
                root.list(&root.applications)
            }),
        )
        .route("/api/application/", post(create_application))
        .route("/api/application/{id}", delete(remove))
        .route(
            "/api/services/",
            get(|State(root): State<Shared>| async move {
                let root = root.lock().unwrap();
                root.list(&root.services)
            }),
        )
        .route("/api/services/{id}", get(services_of))
        .route("/api/service/{id}", delete(remove).put(changes::update))
        .route("/api/service/{id}/scale", post(changes::scale))
        .route("/api/service/{id}/rollback", post(changes::roll_back))
        .route("/api/service/{id}/revisions", get(changes::revisions))
        .route("/api/cluster/{id}/workers", get(changes::workers))
        .route("/api/cluster/{id}/worker/{worker}", delete(changes::on_worker))
        .route("/api/cluster/{id}/worker/{worker}/{verb}", post(changes::on_worker))
        .route("/api/cluster/{id}/rebalance", post(changes::on_worker))
        .route("/api/service/{id}/instance", post(create_instance))
        .route("/api/service/{id}/instance/{number}", delete(|| async { Json(json!({"message": "ok"})) }))
        .route("/api/service/{id}/instance/{number}/logs", get(logs))
        .route(
            "/api/clusters/",
            get(|State(root): State<Shared>| async move {
                Json(Value::Array(root.lock().unwrap().clusters.clone()))
            }),
        )
        .route("/api/watch", get(watch))
        .route(
            "/api/tokens",
            get(|State(root): State<Shared>| async move {
                Json(Value::Array(root.lock().unwrap().tokens.clone()))
            })
            .post(create_token),
        )
        .route(
            "/api/v1/secrets",
            get(|State(root): State<Shared>| async move {
                let root = root.lock().unwrap();
                root.list(&root.secrets)
            })
            .post(|| async { (StatusCode::CREATED, Json(json!({"message": "version 1 is stored"}))) }),
        )
        .route("/api/v1/secrets/{name}", delete(changes::delete_secret).put(changes::rotate_secret))
        .route("/api/tokens/{id}", delete(remove))
        .merge(people::routes())
        .route(
            "/api/certificates",
            get(|State(root): State<Shared>| async move {
                Json(Value::Array(root.lock().unwrap().certificates.clone()))
            }),
        )
        .route(
            "/api/v1/audit",
            get(|State(root): State<Shared>| async move {
                Json(root.lock().unwrap().audit_pages.pop_front().unwrap())
            }),
        )
        .route(
            "/api/v1/audit/verify",
            get(|State(root): State<Shared>| async move { Json(root.lock().unwrap().audit.clone()) }),
        )
        .route(
            "/api/v1/audit/export",
            get(|State(root): State<Shared>| async move { root.lock().unwrap().audit_lines.clone() }),
        )
        .route("/api/certificates/{id}", delete(changes::revoke))
        .route("/api/cluster/{id}/certificates", get(changes::workers))
        .route("/api/cluster/{id}/certificates/{worker}", delete(changes::revoke))
        .layer(middleware::from_fn_with_state(state.clone(), authorise))
        .merge(people::open_routes())
        .route("/api/auth/login", post(login))
        .route("/api/auth/refresh", post(refresh))
        .with_state(state)
}

impl Root {
    fn list(&self, items: &[Value]) -> Json<Value> {
        let list = Value::Array(items.to_vec());
        Json(if self.doubly_encoded { Value::String(list.to_string()) } else { list })
    }

    /// Takes every instance one step further; a service whose instances changed is returned.
    fn step(&mut self) -> Vec<Value> {
        let mut changed = Vec::new();
        let mut next = self.service_script.pop_front();
        for service in &mut self.services {
            let before = service.clone();
            for (key, value) in next.take().iter().flat_map(|next| next.as_object().unwrap()) {
                service[key] = value.clone();
            }
            for instance in service["instance_list"].as_array_mut().unwrap() {
                let step = instance["step"].as_u64().map(|step| usize::try_from(step).unwrap());
                if let Some(next) = step.and_then(|step| self.script.get(step)) {
                    for (key, value) in next.as_object().unwrap() {
                        instance[key] = value.clone();
                    }
                    instance["step"] = json!(step.unwrap() + 1);
                }
            }
            if *service != before {
                changed.push(service.clone());
            }
        }
        changed
    }
}

impl Root {
    /// Takes a step and tells what changed, as events.
    fn news(&mut self, known: &mut Vec<Value>) -> String {
        let changed = self.step();
        let mut events: String =
            changed.iter().map(|service| format!("event: service\ndata: {service}\n\n")).collect();
        known.retain(|id| {
            let stays = self.services.iter().any(|service| service["microserviceID"] == *id);
            if !stays {
                events.push_str(&format!("event: deleted\ndata: {}\n\n", json!({"id": id})));
            }
            stays
        });
        events
    }
}

async fn login(State(root): State<Shared>, Json(body): Json<Value>) -> Response {
    if body["username"] != "Admin" || body["password"] != "secret" {
        return refusal(StatusCode::UNAUTHORIZED, "invalid username or password");
    }
    let mut root = root.lock().unwrap();
    root.organization = body["organization_name"].clone();
    let token = format!("access {}", root.token_age);
    Json(json!({"token": token, "refresh_token": "refresh"})).into_response()
}

async fn refresh(State(root): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let root = root.lock().unwrap();
    if root.refuses_refresh || headers["authorization"] != "Bearer refresh" || body != json!({}) {
        return (StatusCode::UNAUTHORIZED, Json(json!({"msg": "Token has expired"}))).into_response();
    }
    Json(json!({"token": format!("access {}", root.token_age)})).into_response()
}

async fn authorise(State(root): State<Shared>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    {
        let mut root = root.lock().unwrap();
        let line = format!("{} {} {}", parts.method, parts.uri, String::from_utf8_lossy(&body));
        root.requests.push(line.trim_end().to_owned());
        let expected = format!("Bearer access {}", root.token_age);
        if parts.headers.get("authorization").is_none_or(|given| *given != expected) {
            return (StatusCode::UNAUTHORIZED, Json(json!({"msg": "Token has expired"}))).into_response();
        }
    }
    next.run(Request::from_parts(parts, Body::from(body))).await
}

fn refusal(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"message": message, "code": status.as_u16()}))).into_response()
}

async fn create_application(State(root): State<Shared>, Json(sla): Json<Value>) -> Response {
    let mut root = root.lock().unwrap();
    for wanted in sla["applications"].as_array().unwrap() {
        let same = |known: &Value| {
            ["application_name", "application_namespace"].iter().all(|key| known[*key] == wanted[*key])
        };
        if root.applications.iter().any(same) {
            return refusal(StatusCode::CONFLICT, "the application exists");
        }
    }
    for wanted in sla["applications"].as_array().unwrap() {
        let id = format!("{:024x}", 0xa00 + root.applications.len());
        for service in wanted["microservices"].as_array().unwrap() {
            let service = a_service(&format!("{:024x}", 0x500 + root.services.len()), &id, wanted, service);
            root.services.push(service);
        }
        root.applications.push(json!({
            "_id": {"$oid": id}, "applicationID": id, "application_name": wanted["application_name"],
            "application_namespace": wanted["application_namespace"], "application_desc": "",
            "microservices": wanted["microservices"], "userId": "Admin",
        }));
    }
    let stranger = json!({
        "applicationID": "0", "application_name": "hello", "application_namespace": "default",
        "microservices": [], "userId": "Stranger",
    });
    let all: Vec<Value> = [stranger].into_iter().chain(root.applications.clone()).collect();
    root.list(&all).into_response()
}

fn a_service(id: &str, application_id: &str, application: &Value, sla: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let names = [
        text(&application["application_name"]),
        text(&application["application_namespace"]),
        text(&sla["microservice_name"]),
        text(&sla["microservice_namespace"]),
    ];
    let mut service = sla.clone();
    let more = json!({
        "_id": {"$oid": id}, "microserviceID": id, "applicationID": application_id,
        "job_name": names.join("."), "app_name": names[0], "app_ns": names[1], "service_name": names[2],
        "service_ns": names[3], "image": sla["code"], "virtualization": "docker", "instance_list": [],
    });
    for (key, value) in more.as_object().unwrap() {
        service[key] = value.clone();
    }
    service
}

async fn services_of(State(root): State<Shared>, Path(id): Path<String>) -> Json<Value> {
    let root = root.lock().unwrap();
    let services: Vec<Value> =
        root.services.iter().filter(|service| service["applicationID"] == id).cloned().collect();
    root.list(&services)
}

async fn create_instance(State(root): State<Shared>, Path(id): Path<String>) -> Response {
    let mut root = root.lock().unwrap();
    let Some(service) = root.services.iter_mut().find(|service| service["microserviceID"] == id) else {
        return refusal(StatusCode::NOT_FOUND, "no such service");
    };
    let instances = service["instance_list"].as_array_mut().unwrap();
    let number = instances.len();
    instances
        .push(json!({"instance_number": number, "phase": "requested", "status": "REQUESTED", "step": 0}));
    Json(json!({"message": "ok", "instance_number": number})).into_response()
}

async fn watch(State(root): State<Shared>) -> Response {
    let (breaks, current) = {
        let mut root = root.lock().unwrap();
        let breaks = root.broken_watches > 0;
        root.broken_watches = root.broken_watches.saturating_sub(1);
        (breaks, root.services.clone())
    };
    let known: Vec<Value> = current.iter().map(|service| service["microserviceID"].clone()).collect();
    let first = current.iter().map(|service| format!("event: service\ndata: {service}\n\n")).collect();
    let events = stream::unfold((root, known, Some(first)), move |(root, mut known, first)| async move {
        let text: String = match first {
            Some(text) => text,
            None if breaks => return None,
            None => {
                tokio::time::sleep(STEP).await;
                root.lock().unwrap().news(&mut known)
            }
        };
        Some((Ok::<_, Infallible>(Bytes::from(format!(": here\n\n{text}"))), (root, known, None)))
    });
    ([("content-type", "text/event-stream")], Body::from_stream(events)).into_response()
}

#[derive(serde::Deserialize)]
struct LogsQuery {
    tail: Option<usize>,
    follow: Option<bool>,
}

async fn logs(Path((_, number)): Path<(String, u64)>, Query(query): Query<LogsQuery>) -> Response {
    if number == 9 {
        return refusal(StatusCode::CONFLICT, "instance 9 has not started: it is requested");
    }
    let all = [format!("{number}: first\n"), format!("{number}: sec"), "ond\n".to_owned()];
    let skipped = if query.tail == Some(1) { 1 } else { 0 };
    let mut chunks: Vec<String> = all[skipped..].to_vec();
    if query.follow == Some(true) {
        chunks.push(format!("{number}: live\n"));
    }
    Body::from_stream(stream::iter(chunks.into_iter().map(Ok::<_, Infallible>))).into_response()
}

async fn create_token(State(root): State<Shared>, Json(body): Json<Value>) -> Json<Value> {
    let mut token = body.clone();
    token["id"] = json!("t1");
    token["uses"] = body.get("uses").cloned().unwrap_or(json!(1));
    token["expires_at"] = json!("2126-11-21T10:00:00Z");
    root.lock().unwrap().tokens.push(token.clone());
    token["token"] = json!("mgv1.t1.secret.pin");
    Json(token)
}

async fn remove(State(root): State<Shared>, Path(id): Path<String>) -> Response {
    if id == "unknown" {
        return refusal(StatusCode::NOT_FOUND, "there is no token unknown");
    }
    let mut root = root.lock().unwrap();
    root.services.retain(|service| service["microserviceID"] != id && service["applicationID"] != id);
    root.applications.retain(|application| application["applicationID"] != id);
    Json(json!({"message": "gone"})).into_response()
}
