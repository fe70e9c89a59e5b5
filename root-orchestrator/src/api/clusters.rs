//! Clusters, as sums over their workers.

use axum::Json;
use root_core::{
    State as Truth,
    access::{Kind, Role, Verb},
};

use super::{
    Context, Shared, State,
    error::{Error, ErrorBody},
    views::{self, ClusterView},
    workers,
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

/// The text of a role or scope with the id of its cluster, if it is for one cluster and names that. Ids are what is kept: a name
/// may come to be another's.
pub(super) fn with_id(state: &Truth, text: &str) -> String {
    let of_cluster = text.split_once(Role::AT);
    let found = of_cluster.and_then(|(role, name)| Some((role, workers::find(state, name).ok()?)));
    found.map_or_else(|| text.to_owned(), |(role, id)| format!("{role}{}{id}", Role::AT))
}

async fn all(context: &Context) -> Vec<ClusterView> {
    let now = daemon::now();
    let state = context.brain.read().await;
    state.clusters().map(|cluster| views::cluster(&state, cluster, now)).collect()
}
