//! Logs of instances: fetched from the device on demand, never kept here.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Query,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use model::{InstanceId, Phase};
use root_core::access::Verb;
use serde::Deserialize;

use super::{
    Context, Path, Shared, State,
    error::{Error, ErrorBody},
    services,
};
use crate::{auth::Caller, links::LogReader};

/// Which part of a log.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogQuery {
    /// This many lines from the end; 0 or nothing is all that is kept.
    #[serde(default)]
    tail: u32,
    /// Go on as more is written.
    #[serde(default)]
    follow: bool,
}

/// Read the log of an instance, while it runs and after it ended
#[utoipa::path(get, path = "/api/service/{id}/instance/{number}/logs", tag = "services",
    params(
        ("id" = String, Path, description = "Service id"),
        ("number" = u32, Path, description = "Instance number"),
        LogQuery,
    ),
    responses(
    (status = 200, body = String, content_type = "text/plain"),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 409, description = "It has not started yet", body = ErrorBody),
    (status = 422, body = ErrorBody),
    (status = 502, description = "Its device says no, or is away", body = ErrorBody),
    (status = 503, description = "Its cluster is not connected", body = ErrorBody),
))]
pub(super) async fn read(
    State(context): Shared,
    caller: Caller,
    Path((id, number)): Path<(String, String)>,
    query: Result<Query<LogQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Error> {
    let Query(query) = query.map_err(|rejection| Error::bad_field("query", rejection.body_text()))?;
    let number = number
        .parse()
        .map_err(|_| Error::bad_field("number", format!("`{number}` is not an instance number")))?;
    let service = services::find(&*context.brain.read().await, &caller, Verb::Get, &id)?.id;
    let mut log = open(&context, InstanceId { service, number }, query.tail, query.follow).await?;
    // The first piece decides: what fails before anything was said is an error, not an empty log.
    let first = match log.next().await {
        Some(Err(reason)) => {
            return Err(Error::new(StatusCode::BAD_GATEWAY, "log_unavailable", reason));
        }
        piece => piece,
    };
    let pieces = stream::unfold((first, log), async |(piece, mut log)| {
        let piece = match piece {
            Some(piece) => piece,
            None => return None,
        };
        let next = log.next().await;
        Some((piece.map_err(std::io::Error::other), (next, log)))
    });
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// Asks the cluster of an instance for its log.
pub(super) async fn open(
    context: &Context,
    id: InstanceId,
    tail: u32,
    follow: bool,
) -> Result<LogReader, Error> {
    let cluster = {
        let state = context.brain.read().await;
        let instance = state
            .instance(id)
            .ok_or(root_core::Rejected::NoInstance { service: id.service, number: id.number })?;
        if !has_log(instance.report.phase) {
            let message = format!("instance {} has not started: it is {}", id.number, instance.report.phase);
            return Err(Error::new(StatusCode::CONFLICT, "not_started", message));
        }
        instance.cluster()
    };
    let not_connected = || {
        let message = "the cluster of this instance is not connected; its log can be read when it is back";
        Error::new(StatusCode::SERVICE_UNAVAILABLE, "cluster_not_connected", message)
    };
    let cluster = cluster.ok_or_else(not_connected)?;
    Arc::clone(&context.links).open_log(cluster, id, tail, follow).ok_or_else(not_connected)
}

/// Whether there may be a container to read from.
pub(super) const fn has_log(phase: Phase) -> bool {
    match phase {
        Phase::Creating
        | Phase::Running
        | Phase::Completed
        | Phase::Dead
        | Phase::Failed
        | Phase::Lost
        | Phase::Undeploying => true,
        Phase::Requested
        | Phase::ClusterScheduled
        | Phase::NodeScheduled
        | Phase::Refused
        | Phase::Removed => false,
    }
}
