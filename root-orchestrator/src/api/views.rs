//! What users are shown: the documents of the API, in the shapes clients of Oakestra's API read.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp as Date;
use model::{InstanceReport, Phase, RefusalCode, ServiceId, Timestamp};
use root_core::{Application, Cluster, Instance, Service, State};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A cluster whose last report is older than this counts as inactive, as in Oakestra.
const ACTIVE_MILLIS: u64 = 30_000;

/// An id in the form of a MongoDB document.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Oid {
    /// 24 hexadecimal digits.
    #[serde(rename = "$oid")]
    oid: String,
}

impl Oid {
    fn of(id: impl ToString) -> Self {
        Self { oid: id.to_string() }
    }
}

/// An application.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ApplicationView {
    _id: Oid,
    #[serde(rename = "applicationID")]
    application_id: String,
    application_name: String,
    application_namespace: String,
    application_desc: String,
    /// Ids of its services.
    microservices: Vec<String>,
    /// Name of the user it belongs to.
    #[serde(rename = "userId")]
    user_id: String,
}

pub(crate) fn application(state: &State, application: &Application) -> ApplicationView {
    ApplicationView {
        _id: Oid::of(application.id),
        application_id: application.id.to_string(),
        application_name: application.name.clone(),
        application_namespace: application.namespace.clone(),
        application_desc: application.description.clone(),
        microservices: state.services_of(application.id).map(|service| service.id.to_string()).collect(),
        user_id: application.owner.clone(),
    }
}

/// A service with its instances. Fields of the SLA stand beside these as they were sent.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ServiceView {
    _id: Oid,
    #[serde(rename = "microserviceID")]
    microservice_id: String,
    /// `application.namespace.service.namespace`
    job_name: String,
    #[serde(rename = "applicationID")]
    application_id: String,
    app_name: String,
    app_ns: String,
    application_name: String,
    application_namespace: String,
    service_name: String,
    service_ns: String,
    image: String,
    virtualization: String,
    next_instance_progressive_number: u32,
    /// Absent until the first deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_detail: Option<String>,
    instance_list: Vec<InstanceView>,
    #[serde(flatten)]
    #[schema(additional_properties)]
    sent: Map<String, Value>,
}

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
    #[schema(value_type = Vec<String>)]
    addresses: Vec<IpAddr>,
    /// `host:container/protocol`
    ports: Vec<String>,
    #[schema(value_type = Option<String>)]
    published_at: Option<IpAddr>,
    restarts: u32,
    /// Why it is not placed, when it is not.
    reason: Option<ReasonView>,
}

/// One point of a curve.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Sample {
    value: String,
    timestamp: String,
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

/// A service as users see it; `logs` by instance number.
pub(crate) fn service(state: &State, service: &Service, logs: &BTreeMap<u32, String>) -> ServiceView {
    let instances: Vec<&Instance> = state.instances_of(service.id).collect();
    let telling = most_telling(&instances);
    let mut sent = service.document.clone();
    // Those the root sets from them.
    sent.remove("image");
    sent.remove("virtualization");
    ServiceView {
        _id: Oid::of(service.id),
        microservice_id: service.id.to_string(),
        job_name: service.names.to_string(),
        application_id: service.application.to_string(),
        app_name: service.names.application.clone(),
        app_ns: service.names.application_namespace.clone(),
        application_name: service.names.application.clone(),
        application_namespace: service.names.application_namespace.clone(),
        service_name: service.names.service.clone(),
        service_ns: service.names.service_namespace.clone(),
        image: service.spec.image.clone(),
        virtualization: match service.spec.virtualization {
            model::Virtualization::Container => "docker".to_owned(),
        },
        next_instance_progressive_number: service.next_number,
        status: telling.map(|instance| status(&instance.report)),
        status_detail: telling.map(|instance| instance.report.detail.clone()),
        instance_list: instances
            .iter()
            .map(|instance| {
                let log = logs.get(&instance.id.number).cloned().unwrap_or_default();
                instance_view(state, service, instance, log)
            })
            .collect(),
        sent,
    }
}

/// The instance whose status stands for the service: the one furthest from running.
fn most_telling<'a>(instances: &[&'a Instance]) -> Option<&'a Instance> {
    let order = |phase: Phase| match phase {
        Phase::Refused => 0,
        Phase::Failed => 1,
        Phase::Dead => 2,
        Phase::Requested => 3,
        Phase::ClusterScheduled => 4,
        Phase::NodeScheduled => 5,
        Phase::Creating => 6,
        Phase::Running => 7,
        Phase::Completed => 8,
        Phase::Undeploying => 9,
        Phase::Removed => 10,
    };
    instances.iter().min_by_key(|instance| (order(instance.report.phase), instance.id)).copied()
}

/// Oakestra's word for a phase; its clients know no others.
fn status(report: &InstanceReport) -> &'static str {
    match report.phase {
        Phase::Requested => "REQUESTED",
        Phase::ClusterScheduled => "CLUSTER_SCHEDULED",
        Phase::NodeScheduled => "NODE_SCHEDULED",
        Phase::Creating => "CREATING",
        Phase::Running => "RUNNING",
        Phase::Completed => "COMPLETED",
        Phase::Dead => "DEAD",
        Phase::Failed => "FAILED",
        Phase::Refused => match report.refusal.as_ref().map(|refusal| refusal.code) {
            Some(RefusalCode::NoTargetCluster) => "TargetClusterNotFound",
            Some(RefusalCode::NoResourcesAvailable) | None => "NoActiveClusterWithCapacity",
        },
        Phase::Undeploying | Phase::Removed => "UNDEPLOYED",
    }
}

fn instance_view(state: &State, service: &Service, instance: &Instance, logs: String) -> InstanceView {
    let report = &instance.report;
    let cluster = instance.cluster.and_then(|id| state.cluster(id));
    let usage = state.usage(instance.id);
    let published_at = report.published_at.filter(|_| report.phase == Phase::Running);
    let public = published_at.map(|address| address.to_string()).unwrap_or_default();
    InstanceView {
        instance_number: instance.id.number,
        cluster_id: instance.cluster.map(|id| id.to_string()),
        cluster_location: location(cluster),
        status: status(report),
        status_detail: report.detail.clone(),
        publicip: public.clone(),
        host_ip: public,
        host_port: service.spec.ports.first().map(|port| port.host),
        worker_id: None,
        cpu_percent: usage.map(|usage| format!("{:.2}", usage.cpu_percent)),
        memory_percent: usage.map(|usage| usage.memory_bytes.to_string()),
        disk: usage.map(|usage| usage.disk_bytes.to_string()),
        logs,
        cpu_history: Vec::new(),
        memory_history: Vec::new(),
        last_modified_timestamp: seconds(report.since),
        phase: report.phase.as_str(),
        since: rfc3339(report.since),
        addresses: report.addresses.clone(),
        ports: service.spec.ports.iter().map(ToString::to_string).collect(),
        published_at,
        restarts: report.restarts,
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

/// A cluster: sums over its workers, none of which is named.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ClusterView {
    _id: String,
    cluster_name: String,
    candidate_name: String,
    /// `latitude,longitude,radius`
    cluster_location: String,
    candidate_location: String,
    ip: String,
    port: String,
    /// Connected, and heard of within thirty seconds.
    active: bool,
    active_nodes: u32,
    aggregated_cpu_percent: f32,
    cpu_percent: f32,
    /// Free memory.
    memory_in_mb: u32,
    memory: u32,
    total_cpu_cores: u32,
    vcpus: u32,
    total_gpu_cores: u32,
    vgpus: u32,
    memory_percent: f32,
    gpu_percent: f32,
    gpu_temp: f32,
    vram_percent: f32,
    vram: u32,
    virtualization: Vec<String>,
    supported_addons: Vec<String>,
    csi_drivers: Vec<String>,
    gpu_drivers: Vec<String>,
    cpu_history: Vec<Sample>,
    memory_history: Vec<Sample>,
    /// Seconds since 1970; 0 before the first report.
    last_modified_timestamp: f64,
    /// What services have not reserved.
    free: ResourcesView,
    /// What there is in all.
    allocatable: ResourcesView,
    architectures: Vec<String>,
}

impl ClusterView {
    pub(crate) const fn is_active(&self) -> bool {
        self.active
    }
}

/// Amounts of resources.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ResourcesView {
    cpu_millicores: u32,
    memory_mb: u32,
    storage_mb: u32,
    gpus: u32,
}

impl From<model::Resources> for ResourcesView {
    fn from(resources: model::Resources) -> Self {
        Self {
            cpu_millicores: resources.cpu.0,
            memory_mb: resources.memory.0,
            storage_mb: resources.storage.0,
            gpus: resources.gpus,
        }
    }
}

pub(crate) fn cluster(state: &State, cluster: &Cluster, now: Timestamp) -> ClusterView {
    let (aggregate, reported) = state.aggregate(cluster.id);
    let active = state.is_connected(cluster.id)
        && reported.is_some_and(|reported| now.millis_since(reported) < ACTIVE_MILLIS);
    let virtualization: Vec<String> = aggregate
        .capabilities
        .iter()
        .filter(|capability| **capability == model::Capability::Container)
        .map(|_| "docker".to_owned())
        .collect();
    ClusterView {
        _id: cluster.id.to_string(),
        cluster_name: cluster.name.clone(),
        candidate_name: cluster.name.clone(),
        cluster_location: location(Some(cluster)),
        candidate_location: location(Some(cluster)),
        // Clusters dial the root; there is no address to dial back.
        ip: String::new(),
        port: String::new(),
        active,
        active_nodes: aggregate.active_workers,
        aggregated_cpu_percent: aggregate.cpu_percent,
        cpu_percent: aggregate.cpu_percent,
        memory_in_mb: aggregate.free.memory.0,
        memory: aggregate.free.memory.0,
        total_cpu_cores: aggregate.allocatable.cpu.whole_cores(),
        vcpus: aggregate.allocatable.cpu.whole_cores(),
        total_gpu_cores: aggregate.allocatable.gpus,
        vgpus: aggregate.allocatable.gpus,
        memory_percent: aggregate.memory_percent,
        gpu_percent: 0.0,
        gpu_temp: 0.0,
        vram_percent: 0.0,
        vram: 0,
        virtualization,
        supported_addons: Vec::new(),
        csi_drivers: Vec::new(),
        gpu_drivers: Vec::new(),
        cpu_history: Vec::new(),
        memory_history: Vec::new(),
        last_modified_timestamp: reported.map_or(0.0, seconds),
        free: aggregate.free.into(),
        allocatable: aggregate.allocatable.into(),
        architectures: aggregate.architectures,
    }
}

fn location(cluster: Option<&Cluster>) -> String {
    cluster.and_then(|cluster| cluster.location).map(|location| location.to_string()).unwrap_or_default()
}

fn seconds(at: Timestamp) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of this era fit a double exactly")]
    let millis = at.0 as f64;
    millis / 1000.0
}

/// RFC 3339 in UTC.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    let date = i64::try_from(at.0).ok().and_then(|millis| Date::from_millisecond(millis).ok());
    date.map(|date| date.to_string()).unwrap_or_default()
}

/// The document that says a service is gone.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Deleted {
    pub(crate) id: ServiceId,
}
