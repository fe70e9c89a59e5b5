//! Clusters, as sums over their workers: to those who may look at them.

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

/// List the clusters the caller may look at: all, or those the caller looks after
#[utoipa::path(get, path = "/api/clusters", tag = "clusters", responses(
    (status = 200, body = Vec<ClusterView>),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For those who deploy, or look after the platform or a cluster", body = ErrorBody),
))]
pub(super) async fn list(State(context): Shared, caller: Caller) -> Result<Json<Vec<ClusterView>>, Error> {
    Ok(Json(seen(&context, &caller).await?))
}

/// List those of the clusters the caller may look at that reported within thirty seconds
#[utoipa::path(get, path = "/api/clusters/active", tag = "clusters", responses(
    (status = 200, body = Vec<ClusterView>),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For those who deploy, or look after the platform or a cluster", body = ErrorBody),
))]
pub(super) async fn list_active(
    State(context): Shared,
    caller: Caller,
) -> Result<Json<Vec<ClusterView>>, Error> {
    Ok(Json(seen(&context, &caller).await?.into_iter().filter(ClusterView::is_active).collect()))
}

/// The text of a role or scope with the id of its cluster, if it is for one cluster and names that. Ids are what is kept: a name
/// may come to be another's.
pub(super) fn with_id(state: &Truth, text: &str) -> String {
    let of_cluster = text.split_once(Role::AT);
    let found = of_cluster.and_then(|(role, name)| Some((role, workers::find(state, name).ok()?)));
    found.map_or_else(|| text.to_owned(), |(role, id)| format!("{role}{}{id}", Role::AT))
}

async fn seen(context: &Context, caller: &Caller) -> Result<Vec<ClusterView>, Error> {
    caller.must_somewhere(Verb::Get, Kind::Cluster)?;
    let now = daemon::now();
    let state = context.brain.read().await;
    let seen = state.clusters().filter(|cluster| caller.sees(cluster.id));
    Ok(seen.map(|cluster| views::cluster(&state, cluster, now)).collect())
}
