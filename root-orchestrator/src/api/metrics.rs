//! Figures for a collector, in the text format of Prometheus: when certificates end. Those of workers are sums for each
//! cluster, asked of it at that moment: the root keeps nothing of workers.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use model::{ClusterAnswer, ClusterRequest, Timestamp, WorkerCertificate};
use root_core::access::{Kind, Verb};

use super::{
    Context, Shared, State,
    certificates::{self, Standing},
    error::{Error, ErrorBody},
};
use crate::auth::Caller;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Clusters asked at once: each answer names every worker.
const ASKED_AT_ONCE: usize = 16;

/// What one cluster says of its workers.
struct OfCluster {
    name: String,
    /// `None` when it does not answer.
    certificates: Option<Vec<WorkerCertificate>>,
}

/// The end of a certificate of the root or a cluster.
struct End {
    owner: String,
    kind: &'static str,
    expires: Timestamp,
}

/// Read figures for a collector, such as Prometheus
#[utoipa::path(get, path = "/metrics", tag = "metrics", responses(
    (status = 200, description = "In the text format of Prometheus", body = String, content_type = "text/plain"),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For those who look after the platform", body = ErrorBody),
))]
pub(super) async fn read(State(context): Shared, caller: Caller) -> Result<Response, Error> {
    caller.must(Verb::Get, Kind::Metrics)?;
    let now = context.own.borrow().now();
    let ends = certificates::standing(&context).await.into_iter().filter(|it| !it.owner.revoked).map(
        |Standing { owner, record, .. }| End {
            owner: owner.name,
            kind: owner.kind,
            expires: record.lifetime.expires,
        },
    );
    let ends: Vec<End> = ends.collect();
    let clusters = ask_all(&context).await;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text(&ends, &clusters, now)).into_response())
}

async fn ask_all(context: &Context) -> Vec<OfCluster> {
    let known: Vec<_> = {
        let state = context.brain.read().await;
        state.clusters().map(|cluster| (cluster.id, cluster.name.clone())).collect()
    };
    let answers = stream::iter(known).map(async |(id, name)| {
        let certificates = match context.links.ask(id, ClusterRequest::ListCertificates).await {
            Ok(ClusterAnswer::Certificates(certificates)) => Some(certificates),
            Ok(ClusterAnswer::Workers(_) | ClusterAnswer::Begun { .. } | ClusterAnswer::Rejected { .. })
            | Err(_) => None,
        };
        OfCluster { name, certificates }
    });
    answers.buffered(ASKED_AT_ONCE).collect().await
}

fn text(ends: &[End], clusters: &[OfCluster], now: Timestamp) -> String {
    let mut lines = Vec::new();
    let mut metric = |name: &str, help: &str, samples: Vec<(Vec<(&str, &str)>, u64)>| {
        lines.push(format!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
        let sample = |(labels, value): (Vec<_>, u64)| format!("{name}{{{}}} {value}\n", Labels(&labels));
        lines.extend(samples.into_iter().map(sample));
    };
    metric(
        "mangrove_certificate_expiry_timestamp_seconds",
        "When the certificate of the root or a cluster ends, in seconds since 1970.",
        ends.iter()
            .map(|end| (vec![("owner", end.owner.as_str()), ("kind", end.kind)], seconds(end.expires)))
            .collect(),
    );
    let told = clusters.iter().filter_map(|it| Some((it.name.as_str(), it.certificates.as_ref()?)));
    let (mut first, mut counted) = (Vec::new(), Vec::new());
    for (cluster, certificates) in told {
        for (is_of_network, kind) in [(false, "worker"), (true, "network")] {
            let of_kind = || certificates.iter().filter(move |it| it.network == is_of_network);
            let ends = of_kind().filter(|it| !it.revoked).map(|it| it.record.lifetime.expires).min();
            first.extend(ends.map(|ends| (vec![("cluster", cluster), ("kind", kind)], seconds(ends))));
            let mut by_state: BTreeMap<&str, u64> = BTreeMap::new();
            for it in of_kind() {
                *by_state.entry(certificates::state(it.record.lifetime, it.revoked, now)).or_default() += 1;
            }
            counted.extend(
                by_state.into_iter().map(|(state, count)| {
                    (vec![("cluster", cluster), ("kind", kind), ("state", state)], count)
                }),
            );
        }
    }
    metric(
        "mangrove_worker_certificate_first_expiry_timestamp_seconds",
        "When the first of the certificates of the workers of a cluster ends, in seconds since 1970.",
        first,
    );
    metric("mangrove_worker_certificates", "Certificates of the workers of a cluster, by state.", counted);
    metric(
        "mangrove_cluster_answers",
        "Whether the cluster told of its workers just now: 1 or 0.",
        clusters
            .iter()
            .map(|it| (vec![("cluster", it.name.as_str())], u64::from(it.certificates.is_some())))
            .collect(),
    );
    lines.concat()
}

const fn seconds(at: Timestamp) -> u64 {
    at.0 / 1000
}

/// As between the braces of a sample.
struct Labels<'a>(&'a [(&'a str, &'a str)]);

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, value)) in self.0.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(f, "{comma}{name}=\"")?;
            for character in value.chars() {
                match character {
                    '\\' | '"' => write!(f, "\\{character}")?,
                    '\n' => f.write_str("\\n")?,
                    _ => f.write_char(character)?,
                }
            }
            f.write_char('"')?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use model::{CertificateRecord, Lifetime, WorkerId};

    use super::*;

    fn certificate(worker: u8, network: bool, expires: u64, revoked: bool) -> WorkerCertificate {
        let lifetime = Lifetime { issued: Timestamp(0), expires: Timestamp(expires * 1000) };
        WorkerCertificate {
            worker: WorkerId::new(uuid::Uuid::from_u128(worker.into())),
            name: format!("device{worker}"),
            network,
            record: CertificateRecord { serial: worker.to_string(), lifetime },
            revoked,
        }
    }

    #[test]
    fn of_each_cluster_the_first_end_is_told_and_how_many_there_are_and_no_worker_is_named() {
        let ends = [
            End { owner: "root".to_owned(), kind: "authority", expires: Timestamp(9_000_999) },
            End { owner: "a \"b\"\\\nc".to_owned(), kind: "cluster", expires: Timestamp(8_000_000) },
        ];
        let told = vec![
            certificate(1, false, 3000, false),
            certificate(2, false, 2000, false),
            certificate(3, false, 100, true),
            certificate(1, true, 500, false),
        ];
        let clusters = [
            OfCluster { name: "one".to_owned(), certificates: Some(told) },
            OfCluster { name: "away".to_owned(), certificates: None },
        ];
        let expected = r#"# HELP mangrove_certificate_expiry_timestamp_seconds When the certificate of the root or a cluster ends, in seconds since 1970.
# TYPE mangrove_certificate_expiry_timestamp_seconds gauge
mangrove_certificate_expiry_timestamp_seconds{owner="root",kind="authority"} 9000
mangrove_certificate_expiry_timestamp_seconds{owner="a \"b\"\\\nc",kind="cluster"} 8000
# HELP mangrove_worker_certificate_first_expiry_timestamp_seconds When the first of the certificates of the workers of a cluster ends, in seconds since 1970.
# TYPE mangrove_worker_certificate_first_expiry_timestamp_seconds gauge
mangrove_worker_certificate_first_expiry_timestamp_seconds{cluster="one",kind="worker"} 2000
mangrove_worker_certificate_first_expiry_timestamp_seconds{cluster="one",kind="network"} 500
# HELP mangrove_worker_certificates Certificates of the workers of a cluster, by state.
# TYPE mangrove_worker_certificates gauge
mangrove_worker_certificates{cluster="one",kind="worker",state="revoked"} 1
mangrove_worker_certificates{cluster="one",kind="worker",state="valid"} 2
mangrove_worker_certificates{cluster="one",kind="network",state="expired"} 1
# HELP mangrove_cluster_answers Whether the cluster told of its workers just now: 1 or 0.
# TYPE mangrove_cluster_answers gauge
mangrove_cluster_answers{cluster="one"} 1
mangrove_cluster_answers{cluster="away"} 0
"#;
        assert_eq!(text(&ends, &clusters, Timestamp(600_000)), expected);
    }
}
