//! Clusters, as sums over their workers.

use axum::Json;
use root_core::access::{Kind, Verb};

use super::{
    Context, Shared, State,
    error::{Error, ErrorBody},
    views::{self, ClusterView},
};
use crate::auth::Caller;

/// List all clusters
#[utoipa::path(get, path = "/api/clusters", tag = "clusters", responses(
    (status = 200, body = Vec<ClusterView>),
    (status = 401, body = ErrorBody),
    (status = 403, description = "An API token that may not", body = ErrorBody),
))]
pub(super) async fn list(State(context): Shared, caller: Caller) -> Result<Json<Vec<ClusterView>>, Error> {
    caller.must(Verb::Get, Kind::Cluster)?;
    Ok(Json(all(&context).await))
}

/// List the clusters that reported within thirty seconds
#[utoipa::path(get, path = "/api/clusters/active", tag = "clusters", responses(
    (status = 200, body = Vec<ClusterView>),
    (status = 401, body = ErrorBody),
    (status = 403, description = "An API token that may not", body = ErrorBody),
))]
pub(super) async fn list_active(
    State(context): Shared,
    caller: Caller,
) -> Result<Json<Vec<ClusterView>>, Error> {
    caller.must(Verb::Get, Kind::Cluster)?;
    Ok(Json(all(&context).await.into_iter().filter(ClusterView::is_active).collect()))
}

async fn all(context: &Context) -> Vec<ClusterView> {
    let now = daemon::now();
    let state = context.brain.read().await;
    state.clusters().map(|cluster| views::cluster(&state, cluster, now)).collect()
}
