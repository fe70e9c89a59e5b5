//! Certificates: the root's own and those of clusters, as it has issued them; those of workers, as their cluster tells of
//! them now. Revoking them.

use axum::{Json, http::StatusCode};
use model::{
    CertificateRecord, ClusterAnswer, ClusterId, ClusterRequest, Holder, Lifetime, Timestamp,
    WorkerCertificate, WorkerId,
};
use root_core::{
    RevokedId, State as Truth,
    access::{Kind, Of, Verb, Verdict},
};
use serde::Serialize;

use super::{
    Context, Path, Shared, State,
    applications::Message,
    error::{Error, ErrorBody},
    views,
    workers::{self, Refusals},
};
use crate::auth::Caller;

/// A certificate, the newest of its kind and owner.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CertificateView {
    /// The name of the cluster, that of the cluster and the worker with a slash between them, or `root`.
    owner: String,
    /// Id of the cluster or the worker; empty for the root.
    id: String,
    /// `authority`, `root`, `cluster`, `intermediate`, `worker` or `network`
    #[schema(example = "worker")]
    kind: &'static str,
    /// Hexadecimal.
    serial: String,
    /// RFC 3339.
    issued_at: String,
    /// RFC 3339.
    expires_at: String,
    /// `valid`, `overdue` if it should have been renewed, `expired` or `revoked`
    #[schema(example = "valid")]
    state: &'static str,
}

/// Whose a certificate is.
pub(super) struct Owner {
    pub(super) name: String,
    id: String,
    pub(super) kind: &'static str,
    pub(super) revoked: bool,
}

/// The newest certificate of the root or a cluster, by its kind.
pub(super) struct Standing {
    pub(super) owner: Owner,
    of: Of,
    pub(super) record: CertificateRecord,
}

/// `revoked`, `expired`, `overdue` if it should have been renewed, or `valid`.
pub(super) const fn state(lifetime: Lifetime, revoked: bool, now: Timestamp) -> &'static str {
    match revoked {
        true => "revoked",
        false if lifetime.has_ended(now) => "expired",
        false if lifetime.is_overdue(now) => "overdue",
        false => "valid",
    }
}

fn view(owner: Owner, record: &CertificateRecord, now: Timestamp) -> CertificateView {
    let lifetime = record.lifetime;
    let state = state(lifetime, owner.revoked, now);
    CertificateView {
        owner: owner.name,
        id: owner.id,
        kind: owner.kind,
        serial: record.serial.clone(),
        issued_at: views::rfc3339(lifetime.issued),
        expires_at: views::rfc3339(lifetime.expires),
        state,
    }
}

/// List the certificates of the root and of all clusters, or those of the clusters the caller looks after
#[utoipa::path(get, path = "/api/certificates", tag = "certificates", responses(
    (status = 200, body = Vec<CertificateView>),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For those who look after the platform or a cluster", body = ErrorBody),
))]
pub(super) async fn list(
    State(context): Shared,
    caller: Caller,
) -> Result<Json<Vec<CertificateView>>, Error> {
    caller.must_somewhere(Verb::Get, Kind::Worker)?;
    let now = context.own.borrow().now();
    let is_seen = |it: &Standing| caller.may(Verb::Get, Kind::Worker, it.of) == Verdict::Allowed;
    let listed = standing(&context).await.into_iter().filter(is_seen);
    Ok(Json(listed.map(|Standing { owner, record, .. }| view(owner, &record, now)).collect()))
}

/// Those of the root and of all clusters, by whose they are.
pub(super) async fn standing(context: &Context) -> Vec<Standing> {
    let own = context.own.borrow().record().clone();
    let of_root = |kind, record| {
        let owner = Owner { name: "root".to_owned(), id: String::new(), kind, revoked: false };
        Standing { owner, of: Of::Platform, record }
    };
    let mut standing = vec![of_root("authority", context.authority.record().clone()), of_root("root", own)];
    let state = context.brain.read().await;
    standing.extend(state.certificates().filter_map(|(holder, record)| {
        let (owner, cluster) = owner_at(&state, holder)?;
        Some(Standing { owner, of: Of::Cluster(cluster), record: record.clone() })
    }));
    standing.sort_by(|one, other| one.owner.name.cmp(&other.owner.name));
    standing
}

/// `None` of a holder the root knows nothing of.
fn owner_at(state: &Truth, holder: Holder) -> Option<(Owner, ClusterId)> {
    let (id, kind) = match holder {
        Holder::Cluster(id) => (id, "cluster"),
        Holder::Intermediate(id) => (id, "intermediate"),
        Holder::Worker(_) | Holder::Network(_) => return None,
    };
    let name = state.cluster(id)?.name.clone();
    let revoked = state.revocation(id, None).is_some();
    Some((Owner { name, id: id.to_string(), kind, revoked }, id))
}

/// List the certificates of the workers of a cluster
#[utoipa::path(get, path = "/api/cluster/{id}/certificates", tag = "certificates",
    params(("id" = String, Path, description = "Name or id of the cluster")), responses(
    (status = 200, body = Vec<CertificateView>),
    Refusals,
))]
pub(super) async fn list_of_workers(
    State(context): Shared,
    caller: Caller,
    Path(cluster): Path<String>,
) -> Result<Json<Vec<CertificateView>>, Error> {
    let (id, name) = at(&context, &caller, Verb::Get, &cluster).await?;
    let now = context.own.borrow().now();
    let listed = certificates_of(&context, &caller, id).await?.into_iter().map(|certificate| {
        let WorkerCertificate { worker, name: worker_name, network, record, revoked } = certificate;
        let id = worker.to_string();
        let worker_name = if worker_name.is_empty() { &id } else { &worker_name };
        let kind = if network { "network" } else { "worker" };
        let owner = Owner { name: format!("{name}/{worker_name}"), id: id.clone(), kind, revoked };
        view(owner, &record, now)
    });
    Ok(Json(listed.collect()))
}

async fn certificates_of(
    context: &Context,
    caller: &Caller,
    cluster: ClusterId,
) -> Result<Vec<WorkerCertificate>, Error> {
    let wish = ClusterRequest::ListCertificates;
    match workers::ask(context, caller, &cluster.to_string(), wish).await? {
        ClusterAnswer::Certificates(certificates) => Ok(certificates),
        ClusterAnswer::Rejected { reason } => Err(workers::refused(&reason)),
        ClusterAnswer::Workers(_) | ClusterAnswer::Begun { .. } => Err(workers::not_an_answer()),
    }
}

/// Revoke the certificates of a cluster: it is let in no more
///
/// Its connection is closed. Its name cannot be joined under before its last certificate would have ended. Its workers go on
/// with it: it is the root that has nothing to do with it any more.
#[utoipa::path(delete, path = "/api/certificates/{id}", tag = "certificates",
    params(("id" = String, Path, description = "Name or id of the cluster, or the serial number of a certificate of it")),
    responses(
    (status = 200, body = Message),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For administrators", body = ErrorBody),
    (status = 404, body = ErrorBody),
))]
pub(super) async fn revoke(
    State(context): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Message>, Error> {
    caller.must_be_admin()?;
    let by_serial = {
        let state = context.brain.read().await;
        let found = state.certificates().find(|(_, record)| record.serial == id);
        found.and_then(|(holder, _)| match holder {
            Holder::Cluster(cluster) | Holder::Intermediate(cluster) => Some(cluster),
            Holder::Worker(_) | Holder::Network(_) => None,
        })
    };
    let (cluster, name) = find(&context, &by_serial.map_or(id, |cluster| cluster.to_string())).await?;
    put_into_force(&context, RevokedId { cluster, worker: None }, &format!("cluster {name}")).await
}

/// Revoke the certificates of a worker: its cluster lets it in no more
///
/// Its connections are closed, at once if its cluster is connected, else when it is. Its instances are replaced as if it
/// were lost. Given its id, its cluster need not be connected.
#[utoipa::path(delete, path = "/api/cluster/{id}/certificates/{worker}", tag = "certificates",
    params(
        ("id" = String, Path, description = "Name or id of the cluster"),
        ("worker" = String, Path, description = "Name or id of the worker, or the serial number of a certificate of it"),
    ),
    responses(
    (status = 200, body = Message),
    Refusals,
))]
pub(super) async fn revoke_of_worker(
    State(context): Shared,
    caller: Caller,
    Path((cluster, worker)): Path<(String, String)>,
) -> Result<Json<Message>, Error> {
    let (id, name) = at(&context, &caller, Verb::Delete, &cluster).await?;
    // As ids are written: a serial number is as many digits.
    let written = worker.parse::<WorkerId>().ok().filter(|known| known.to_string() == worker);
    let known = match written {
        Some(known) => known,
        None => named(certificates_of(&context, &caller, id).await?, &worker)?,
    };
    put_into_force(
        &context,
        RevokedId { cluster: id, worker: Some(known) },
        &format!("worker {name}/{worker}"),
    )
    .await
}

/// The one worker of that name, or with a certificate of that serial number.
fn named(certificates: Vec<WorkerCertificate>, name: &str) -> Result<WorkerId, Error> {
    let is_meant = |it: &WorkerCertificate| it.name == name || it.record.serial == name;
    let found: std::collections::BTreeSet<WorkerId> =
        certificates.iter().filter(|it| is_meant(it)).map(|it| it.worker).collect();
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(worker), None) => Ok(worker),
        (Some(_), Some(_)) => {
            let message =
                format!("several workers are named `{name}`; give the id of one, see `mangrove certs`");
            Err(Error::new(StatusCode::CONFLICT, "ambiguous_worker", message))
        }
        (None, _) => {
            let message = format!("there is no certificate of `{name}`; list them with `mangrove certs`");
            Err(Error::new(StatusCode::NOT_FOUND, "no_certificate", message))
        }
    }
}

async fn put_into_force(context: &Context, id: RevokedId, whose: &str) -> Result<Json<Message>, Error> {
    let lifetime_millis = context.authority.life().as_millis();
    let revoked = context.brain.ask(move |state, now| state.revoke(id, lifetime_millis, now.date)).await?;
    let revocation = revoked.map_err(|_| Error::no_cluster(&id.cluster.to_string()))?;
    let until = views::rfc3339(revocation.until);
    tracing::warn!(whose, until, "certificates are revoked");
    Ok(Json(Message { message: format!("the certificates of {whose} are revoked until {until}") }))
}

/// A cluster by its id or its name, with its name.
async fn find(context: &Context, cluster: &str) -> Result<(ClusterId, String), Error> {
    let state = context.brain.read().await;
    let id = workers::find(&state, cluster)?;
    Ok((id, name_of(&state, id)))
}

/// The same, unless the caller may not do that to its workers: a certificate is looked at as its worker is, and revoked by
/// who may forget the worker.
async fn at(
    context: &Context,
    caller: &Caller,
    verb: Verb,
    cluster: &str,
) -> Result<(ClusterId, String), Error> {
    let state = context.brain.read().await;
    let id = caller.must_at(&state, verb, Kind::Worker, cluster)?;
    Ok((id, name_of(&state, id)))
}

fn name_of(state: &Truth, cluster: ClusterId) -> String {
    state.cluster(cluster).map(|found| found.name.clone()).unwrap_or_default()
}
