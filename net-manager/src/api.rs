//! The local API for NodeEngine: JSON over HTTP on the loopback interface, with a key only root can read.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{FromRequest, Path, Query, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use daemon::RecentLines;
use model::{Generation, InstanceId, PortMapping};
use net_core::{Attachment, Rejection};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::{
    handle::{AttachError, AttachOrder, Handle},
    status::{Link, Status},
    uplink::{Registered, Registration, Uplink, UplinkError},
};

/// What the routes need.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) handle: Handle,
    pub(crate) uplink: Uplink,
    pub(crate) key: String,
    pub(crate) log: RecentLines,
    /// Ends answers that would go on for ever.
    pub(crate) shutdown: CancellationToken,
}

impl Api {
    /// The routes.
    pub(crate) fn router(self) -> Router {
        let guarded = Router::new()
            .route("/register", post(register))
            .route("/certificate", post(certify))
            .route("/instances", get(list))
            .route("/links", get(links))
            .route("/logs", get(logs))
            .route("/instances/{service}/{number}", put(attach).delete(detach))
            .route("/instances/{service}/{number}/drain", post(drain))
            .route_layer(middleware::from_fn_with_state(self.clone(), require_key));
        Router::new()
            .route("/status", get(status))
            .merge(guarded)
            .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "not_found", "there is no such path"))
            .with_state(self)
    }
}

/// A body in the answer's own form when it is wrong.
struct Sent<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(Refusal::new(StatusCode::BAD_REQUEST, "invalid", rejection.body_text())),
        }
    }
}

/// Every refusal: a stable code and a sentence.
#[derive(Debug, Serialize)]
struct Refusal {
    #[serde(skip)]
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}

impl From<AttachError> for Refusal {
    fn from(error: AttachError) -> Self {
        let message = daemon::chain(&error).to_string();
        let (status, code) = match &error {
            AttachError::Rejected(rejection) => match rejection {
                Rejection::NoSubnet | Rejection::EmptyLease => (StatusCode::SERVICE_UNAVAILABLE, "no_subnet"),
                Rejection::Full(_) => (StatusCode::SERVICE_UNAVAILABLE, "subnet_full"),
                Rejection::PortConflict { .. } => (StatusCode::CONFLICT, "port_conflict"),
                Rejection::RepeatedPort(_) | Rejection::NotAnAddress(_) => {
                    (StatusCode::BAD_REQUEST, "invalid")
                }
                Rejection::AddressConflict { .. } => (StatusCode::CONFLICT, "address_conflict"),
                Rejection::OlderGeneration { .. } => (StatusCode::CONFLICT, "older_generation"),
            },
            AttachError::PortInUse(_) => (StatusCode::CONFLICT, "port_conflict"),
            AttachError::NoNamespace { .. } => (StatusCode::NOT_FOUND, "no_namespace"),
            AttachError::DevicesOwn { .. } => (StatusCode::CONFLICT, "devices_own_namespace"),
            AttachError::Datapath(_) => (StatusCode::INTERNAL_SERVER_ERROR, "kernel"),
            AttachError::State(_) => (StatusCode::INTERNAL_SERVER_ERROR, "state"),
            AttachError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = message, "a request of NodeEngine failed");
        }
        Self::new(status, code, message)
    }
}

impl From<UplinkError> for Refusal {
    fn from(error: UplinkError) -> Self {
        let (status, code) = match &error {
            UplinkError::OtherWorker { .. } => (StatusCode::CONFLICT, "other_worker"),
            UplinkError::NotRegistered => (StatusCode::CONFLICT, "not_registered"),
            UplinkError::OtherSubject { .. } | UplinkError::Unusable { .. } => {
                (StatusCode::BAD_REQUEST, "invalid")
            }
            UplinkError::State(_) => (StatusCode::INTERNAL_SERVER_ERROR, "state"),
        };
        Self::new(status, code, daemon::chain(&error).to_string())
    }
}

async fn require_key(State(api): State<Api>, request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .unwrap_or_default();
    if same_bytes(given, api.key.as_bytes()) {
        next.run(request).await
    } else {
        let message =
            "this call needs `Authorization: Bearer <key>` with the key of the file --local-key names";
        Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", message).into_response()
    }
}

/// Takes the same time wherever the first difference is, so that the key cannot be guessed byte by byte.
fn same_bytes(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |differences, (l, r)| differences | (l ^ r)) == 0
}

/// The empty answer `{}`.
#[derive(Debug, Serialize)]
struct Done {}

#[derive(Debug, Deserialize)]
struct CertificateBody {
    certificate_chain: String,
}

#[derive(Debug, Deserialize)]
struct AttachBody {
    generation: Generation,
    network_namespace: String,
    #[serde(default)]
    ports: Vec<String>,
    #[serde(default)]
    address: Option<Ipv4Addr>,
}

#[derive(Debug, Serialize)]
struct AttachAnswer {
    addresses: [IpAddr; 2],
}

#[derive(Debug, Serialize)]
struct DrainAnswer {
    connections: u32,
}

#[derive(Debug, Serialize)]
struct InstanceAnswer {
    id: String,
    generation: Generation,
    addresses: [IpAddr; 2],
    ports: Vec<String>,
}

impl From<Attachment> for InstanceAnswer {
    fn from(attachment: Attachment) -> Self {
        Self {
            id: attachment.id.to_string(),
            generation: attachment.generation,
            addresses: attachment.addresses.all(),
            ports: attachment.ports.iter().map(ToString::to_string).collect(),
        }
    }
}

async fn status(State(api): State<Api>) -> Result<Json<Status>, Refusal> {
    Ok(Json(api.handle.status().await?))
}

async fn register(
    State(api): State<Api>,
    Sent(body): Sent<Registration>,
) -> Result<Json<Registered>, Refusal> {
    Ok(Json(api.uplink.register(body)?))
}

async fn certify(State(api): State<Api>, Sent(body): Sent<CertificateBody>) -> Result<Json<Done>, Refusal> {
    api.uplink.certify(&body.certificate_chain)?;
    Ok(Json(Done {}))
}

fn instance_id((service, number): (String, String)) -> Result<InstanceId, Refusal> {
    format!("{service}/{number}")
        .parse()
        .map_err(|error: model::IdError| Refusal::new(StatusCode::BAD_REQUEST, "invalid", error.to_string()))
}

async fn attach(
    State(api): State<Api>,
    Path(id): Path<(String, String)>,
    Sent(body): Sent<AttachBody>,
) -> Result<Json<AttachAnswer>, Refusal> {
    let ports = body
        .ports
        .iter()
        .map(|port| port.parse::<PortMapping>())
        .collect::<Result<_, _>>()
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, "invalid", error.to_string()))?;
    let order = AttachOrder {
        id: instance_id(id)?,
        generation: body.generation,
        network_namespace: body.network_namespace,
        ports,
        address: body.address,
    };
    let attachment = api.handle.attach(order).await?;
    Ok(Json(AttachAnswer { addresses: attachment.addresses.all() }))
}

async fn detach(State(api): State<Api>, Path(id): Path<(String, String)>) -> Result<Json<Done>, Refusal> {
    api.handle.detach(instance_id(id)?).await?;
    Ok(Json(Done {}))
}

async fn drain(
    State(api): State<Api>,
    Path(id): Path<(String, String)>,
) -> Result<Json<DrainAnswer>, Refusal> {
    let connections = api.handle.drain(instance_id(id)?).await?;
    Ok(Json(DrainAnswer { connections }))
}

async fn links(State(api): State<Api>) -> Result<Json<Vec<Link>>, Refusal> {
    Ok(Json(api.handle.links().await?))
}

#[derive(Debug, Deserialize)]
struct LogsQuery {
    #[serde(default)]
    follow: bool,
}

/// As plain text, a line for each. A reader that is too slow misses what is no longer kept.
async fn logs(State(api): State<Api>, Query(LogsQuery { follow }): Query<LogsQuery>) -> Response {
    let (sender, receiver) = mpsc::channel::<Result<String, Infallible>>(1);
    tokio::spawn(async move {
        let mut next = 0;
        loop {
            let (lines, after) = api.log.since(next);
            next = after;
            let text = lines.into_iter().map(|line| line + "\n").collect();
            if sender.send(Ok(text)).await.is_err() || !follow {
                return;
            }
            tokio::select! {
                () = api.log.reached(next) => {}
                () = sender.closed() => return,
                () = api.shutdown.cancelled() => return,
            }
        }
    });
    Body::from_stream(ReceiverStream::new(receiver)).into_response()
}

async fn list(State(api): State<Api>) -> Result<Json<Vec<InstanceAnswer>>, Refusal> {
    Ok(Json(api.handle.list().await?.into_iter().map(InstanceAnswer::from).collect()))
}
