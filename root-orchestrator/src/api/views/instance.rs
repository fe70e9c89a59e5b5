//! Instances, as far as the root can know them: one whose cluster is silent is shown as lost.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::{AddressKind, Desired, InstanceReport, Now, Phase, RefusalCode, StableAddress, Timestamp};
use root_core::{Instance, Service, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Sample, location, rfc3339, seconds};

/// One instance.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct InstanceView {
    instance_number: u32,
    cluster_id: Option<String>,
    cluster_location: String,
    /// One of Oakestra's status words.
    #[schema(example = "RUNNING")]
    status: &'static str,
    status_detail: String,
    /// Where its port mappings are reached.
    publicip: String,
    host_ip: String,
    host_port: Option<u16>,
    /// Always null: workers are known to their cluster only.
    worker_id: Option<String>,
    /// Percent of one core.
    cpu_percent: Option<String>,
    /// Bytes of main memory; the name is Oakestra's.
    memory_percent: Option<String>,
    /// Bytes.
    disk: Option<String>,
    /// The last kilobyte of its log; filled where one service is asked for.
    logs: String,
    cpu_history: Vec<Sample>,
    memory_history: Vec<Sample>,
    /// Seconds since 1970.
    last_modified_timestamp: f64,
    phase: &'static str,
    /// RFC 3339.
    since: String,
    /// Which revision of its service it is a copy of.
    revision: u32,
    /// It runs and its probes say that it may be counted on; or it has completed.
    ready: bool,
    /// Those it has on its present device.
    #[schema(value_type = Vec<String>)]
    addresses: Vec<IpAddr>,
    /// The address it keeps wherever it runs; other instances reach it there.
    #[schema(value_type = Option<String>)]
    instance_ip: Option<Ipv4Addr>,
    #[schema(value_type = Option<String>)]
    instance_ip_v6: Option<Ipv6Addr>,
    /// `host:container/protocol`
    ports: Vec<String>,
    #[schema(value_type = Option<String>)]
    published_at: Option<IpAddr>,
    /// How often it was started again after it ended.
    restarts: u32,
    /// How it last ended, if it did.
    last_exit: Option<ExitView>,
    /// Why it is not placed, when it is not.
    reason: Option<ReasonView>,
}

/// How a container ended.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ExitView {
    /// Exit code; 128 + n after signal n.
    code: i64,
    /// RFC 3339.
    at: String,
    /// The last lines it wrote.
    tail: String,
}

/// Why an instance is not placed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ReasonView {
    #[schema(example = "NoResourcesAvailable")]
    code: &'static str,
    summary: String,
    candidates: Vec<VerdictView>,
}

/// Why one candidate was not chosen.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct VerdictView {
    candidate: String,
    reason: String,
}

/// What the root can say of an instance now: what it last heard, unless nobody can know any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) phase: Phase,
    pub(super) detail: String,
    pub(super) since: Timestamp,
    pub(super) ready: bool,
}

impl Seen {
    pub(super) fn of(state: &State, instance: &Instance, now: Now) -> Self {
        let report = &instance.report;
        if let Some((detail, since)) = lost_with_its_cluster(state, instance, now) {
            return Self { phase: Phase::Lost, detail, since, ready: false };
        }
        Self {
            phase: report.phase,
            detail: report.detail.clone(),
            since: report.since,
            ready: instance.desired == Desired::Running && instance.is_ready(),
        }
    }
}

/// Why nobody knows how an instance is, and since when, if its cluster is silent.
pub(crate) fn lost_with_its_cluster(
    state: &State,
    instance: &Instance,
    now: Now,
) -> Option<(String, Timestamp)> {
    let cluster = instance.cluster().filter(|_| instance.is_live())?;
    let last_heard = state.given_up_since(cluster, now.moment)?;
    let silent_millis = now.moment.millis_since(last_heard);
    let name = state.cluster(cluster).map_or_else(|| cluster.to_string(), |cluster| cluster.name.clone());
    let service = state.service(instance.id.service);
    let spec = service.and_then(|service| service.spec_of(instance.revision));
    let next = match spec.and_then(|spec| spec.survival.cluster_lost_after) {
        None => "it is waited for, however long (cluster_lost_after is `never`)".to_owned(),
        Some(after) if silent_millis < after.as_millis() => {
            format!("after {after} of silence another cluster gets it (cluster_lost_after)")
        }
        Some(after) => {
            format!("no other cluster can take it, though {after} have passed (cluster_lost_after)")
        }
    };
    let how = if state.is_connected(cluster) { "silent" } else { "not connected" };
    let detail =
        format!("its cluster {name} is {how}; it was {} when last heard of; {next}", instance.report.phase);
    Some((detail, Timestamp(now.date.0.saturating_sub(silent_millis))))
}

/// Oakestra's word for a phase; its clients know no others.
pub(super) fn status(phase: Phase, report: &InstanceReport) -> &'static str {
    match report.refusal.as_ref().map(|refusal| refusal.code) {
        Some(RefusalCode::NoTargetCluster) if phase == Phase::Refused => "TargetClusterNotFound",
        Some(RefusalCode::NoResourcesAvailable) if phase == Phase::Refused => "NoActiveClusterWithCapacity",
        Some(_) | None => phase.oakestra(),
    }
}

pub(super) fn instance(
    state: &State,
    service: &Service,
    instance: &Instance,
    seen: &Seen,
    logs: String,
) -> InstanceView {
    let report = &instance.report;
    let cluster = instance.cluster().and_then(|id| state.cluster(id));
    let usage = state.usage(instance.id);
    let published_at = report.published_at.filter(|_| seen.phase == Phase::Running);
    let public = published_at.map(|address| address.to_string()).unwrap_or_default();
    let stable = instance.address.and_then(|address| StableAddress::of(AddressKind::Instance, address));
    let ports = &service.spec_of(instance.revision).unwrap_or_else(|| service.spec()).ports;
    InstanceView {
        instance_number: instance.id.number,
        cluster_id: instance.cluster().map(|id| id.to_string()),
        cluster_location: location(cluster),
        status: status(seen.phase, report),
        status_detail: seen.detail.clone(),
        publicip: public.clone(),
        host_ip: public,
        host_port: ports.first().map(|port| port.host),
        worker_id: None,
        cpu_percent: usage.map(|usage| format!("{:.2}", usage.cpu_percent)),
        memory_percent: usage.map(|usage| usage.memory_bytes.to_string()),
        disk: usage.map(|usage| usage.disk_bytes.to_string()),
        logs,
        cpu_history: Vec::new(),
        memory_history: Vec::new(),
        last_modified_timestamp: seconds(seen.since),
        phase: seen.phase.as_str(),
        since: rfc3339(seen.since),
        revision: instance.revision,
        ready: seen.ready,
        addresses: report.addresses.clone(),
        instance_ip: stable.map(|address| address.v4),
        instance_ip_v6: stable.map(|address| address.v6),
        ports: ports.iter().map(ToString::to_string).collect(),
        published_at,
        restarts: report.restarts,
        last_exit: report.last_exit.as_ref().map(|exit| ExitView {
            code: exit.code,
            at: rfc3339(exit.at),
            tail: exit.tail.clone(),
        }),
        reason: report.refusal.as_ref().map(|refusal| ReasonView {
            code: refusal.code.as_str(),
            summary: refusal.summary.clone(),
            candidates: refusal
                .candidates
                .iter()
                .map(|verdict| VerdictView {
                    candidate: verdict.candidate.clone(),
                    reason: verdict.reason.clone(),
                })
                .collect(),
        }),
    }
}
