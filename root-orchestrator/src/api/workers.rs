//! The workers of one cluster. Only it knows them: what is asked is passed on, and nothing of the answer is kept.

use axum::{Json, http::StatusCode};
use model::{ClusterAnswer, ClusterId, ClusterRequest, Scheduling};
use root_core::{
    State as Truth,
    access::{Kind, Of, Verb},
};
use serde::Serialize;

use super::{
    Context, Path, Shared, State,
    error::{Error, ErrorBody},
    views::{self, WorkerView},
};
use crate::auth::Caller;

/// The answer to a wish about workers.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Begun {
    message: String,
    /// Instances that move or are given up.
    instances: u32,
}

/// Why a wish about workers is not fulfilled, for the description of the API.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "only its description is of use")]
pub(super) enum Refusals {
    /// No valid token
    #[response(status = 401)]
    NotLoggedIn(ErrorBody),
    /// For those who look after the platform or that cluster
    #[response(status = 403)]
    Forbidden(ErrorBody),
    /// No such cluster
    #[response(status = 404)]
    NoCluster(ErrorBody),
    /// The cluster refuses it, for instance because it has no such worker
    #[response(status = 409)]
    Refused(ErrorBody),
    /// The cluster answers something else
    #[response(status = 502)]
    NotAnAnswer(ErrorBody),
    /// The cluster is not connected
    #[response(status = 503)]
    NotConnected(ErrorBody),
    /// The cluster does not answer
    #[response(status = 504)]
    NoAnswer(ErrorBody),
}

/// List the workers of a cluster
#[utoipa::path(get, path = "/api/cluster/{id}/workers", tag = "clusters",
    params(("id" = String, Path, description = "Name or id of the cluster")), responses(
    (status = 200, body = Vec<WorkerView>),
    Refusals,
))]
pub(super) async fn list(
    State(context): Shared,
    caller: Caller,
    Path(cluster): Path<String>,
) -> Result<Json<Vec<WorkerView>>, Error> {
    match ask(&context, &caller, &cluster, ClusterRequest::ListWorkers).await? {
        ClusterAnswer::Workers(workers) => Ok(Json(workers.into_iter().map(views::worker).collect())),
        ClusterAnswer::Rejected { reason } => Err(refused(&reason)),
        ClusterAnswer::Begun { .. } | ClusterAnswer::Certificates(_) => Err(not_an_answer()),
    }
}

/// Let a worker take no more instances; it keeps those it has
#[utoipa::path(post, path = "/api/cluster/{id}/worker/{worker}/cordon", tag = "clusters",
    params(
        ("id" = String, Path, description = "Name or id of the cluster"),
        ("worker" = String, Path, description = "Name or id of the worker"),
    ),
    responses(
    (status = 200, body = Begun),
    Refusals,
))]
pub(super) async fn cordon(
    State(context): Shared,
    caller: Caller,
    Path((cluster, worker)): Path<(String, String)>,
) -> Result<Json<Begun>, Error> {
    let done = format!("worker {worker} takes no more instances");
    let wish = ClusterRequest::Schedule { worker, scheduling: Scheduling::Cordoned };
    begin(&context, &caller, &cluster, wish, done).await
}

/// Let a worker take instances again; ends a drain
#[utoipa::path(post, path = "/api/cluster/{id}/worker/{worker}/uncordon", tag = "clusters",
    params(
        ("id" = String, Path, description = "Name or id of the cluster"),
        ("worker" = String, Path, description = "Name or id of the worker"),
    ),
    responses(
    (status = 200, body = Begun),
    Refusals,
))]
pub(super) async fn uncordon(
    State(context): Shared,
    caller: Caller,
    Path((cluster, worker)): Path<(String, String)>,
) -> Result<Json<Begun>, Error> {
    let done = format!("worker {worker} takes instances");
    let wish = ClusterRequest::Schedule { worker, scheduling: Scheduling::Open };
    begin(&context, &caller, &cluster, wish, done).await
}

/// Move the instances of a worker to others
///
/// It takes no more; what it has stops as soon as it is ready elsewhere. The list of workers shows how many are left.
#[utoipa::path(post, path = "/api/cluster/{id}/worker/{worker}/drain", tag = "clusters",
    params(
        ("id" = String, Path, description = "Name or id of the cluster"),
        ("worker" = String, Path, description = "Name or id of the worker"),
    ),
    responses(
    (status = 200, body = Begun),
    Refusals,
))]
pub(super) async fn drain(
    State(context): Shared,
    caller: Caller,
    Path((cluster, worker)): Path<(String, String)>,
) -> Result<Json<Begun>, Error> {
    let done = format!("worker {worker} takes no more instances, and those it has move to others");
    let wish = ClusterRequest::Schedule { worker, scheduling: Scheduling::Draining };
    begin(&context, &caller, &cluster, wish, done).await
}

/// Forget a worker that will not return; what it had counts as gone
#[utoipa::path(delete, path = "/api/cluster/{id}/worker/{worker}", tag = "clusters",
    params(
        ("id" = String, Path, description = "Name or id of the cluster"),
        ("worker" = String, Path, description = "Name or id of the worker"),
    ),
    responses(
    (status = 200, body = Begun),
    Refusals,
))]
pub(super) async fn forget(
    State(context): Shared,
    caller: Caller,
    Path((cluster, worker)): Path<(String, String)>,
) -> Result<Json<Begun>, Error> {
    let done = format!("worker {worker} is forgotten");
    begin(&context, &caller, &cluster, ClusterRequest::Forget { worker }, done).await
}

/// Move instances from full workers of a cluster to empty ones
#[utoipa::path(post, path = "/api/cluster/{id}/rebalance", tag = "clusters",
    params(("id" = String, Path, description = "Name or id of the cluster")), responses(
    (status = 200, body = Begun),
    Refusals,
))]
pub(super) async fn rebalance(
    State(context): Shared,
    caller: Caller,
    Path(cluster): Path<String>,
) -> Result<Json<Begun>, Error> {
    let done = "instances move from full workers to empty ones".to_owned();
    begin(&context, &caller, &cluster, ClusterRequest::Rebalance, done).await
}

async fn begin(
    context: &Context,
    caller: &Caller,
    cluster: &str,
    wish: ClusterRequest,
    done: String,
) -> Result<Json<Begun>, Error> {
    match ask(context, caller, cluster, wish).await? {
        ClusterAnswer::Begun { instances } => Ok(Json(Begun { message: done, instances })),
        ClusterAnswer::Rejected { reason } => Err(refused(&reason)),
        ClusterAnswer::Workers(_) | ClusterAnswer::Certificates(_) => Err(not_an_answer()),
    }
}

pub(super) async fn ask(
    context: &Context,
    caller: &Caller,
    cluster: &str,
    wish: ClusterRequest,
) -> Result<ClusterAnswer, Error> {
    let verb = match wish {
        ClusterRequest::ListWorkers | ClusterRequest::ListCertificates => Verb::Get,
        ClusterRequest::Schedule { .. } | ClusterRequest::Rebalance => Verb::Update,
        ClusterRequest::Forget { .. } => Verb::Delete,
    };
    let id = caller.must_at(&*context.brain.read().await, verb, Kind::Worker, cluster)?;
    Ok(context.links.ask(id, wish).await?)
}

/// A cluster by its id, or by its name.
pub(super) fn find(state: &Truth, name: &str) -> Result<ClusterId, Error> {
    let by_id = name.parse().ok().filter(|id| state.cluster(*id).is_some());
    let by_name = || state.clusters().find(|cluster| cluster.name == name).map(|cluster| cluster.id);
    by_id.or_else(by_name).ok_or_else(|| Error::no_cluster(name))
}

/// Whose something of a cluster is that was looked for. One that is not there is answered as one that no role is for.
pub(super) fn owner(found: &Result<ClusterId, Error>) -> Of {
    Of::Cluster(*found.as_ref().unwrap_or(&ClusterId::new(uuid::Uuid::nil())))
}

pub(super) fn refused(reason: &str) -> Error {
    Error::new(StatusCode::CONFLICT, "refused_by_cluster", reason)
}

pub(super) fn not_an_answer() -> Error {
    let message =
        "the cluster answered something else than was asked; root and cluster may be of different versions";
    Error::new(StatusCode::BAD_GATEWAY, "not_an_answer", message)
}
