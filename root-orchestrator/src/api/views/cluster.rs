//! Clusters as sums over their workers, and the workers of one cluster as it tells of them on demand.

use model::{Capability, Resources, Scheduling, Timestamp, WorkerStatus};
use root_core::{Cluster, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Sample, location, seconds};

/// A cluster whose last report is older than this counts as inactive, as in Oakestra.
const ACTIVE_MILLIS: u64 = 30_000;

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

impl From<Resources> for ResourcesView {
    fn from(resources: Resources) -> Self {
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
        .filter(|capability| **capability == Capability::Container)
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

/// One worker of a cluster, as the cluster tells of it now. Kept nowhere.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct WorkerView {
    id: String,
    name: String,
    /// Whether it is connected and alive.
    alive: bool,
    /// Milliseconds since its last sign of life; null before the first since its cluster started.
    silent_ms: Option<u64>,
    /// After how much silence it counts as lost; grows on a link that loses much.
    lost_after_ms: u64,
    /// Of a hundred signs of life sent, how many were not received lately.
    loss_percent: u8,
    /// `open`, `cordoned` or `draining`.
    #[schema(example = "open")]
    scheduling: &'static str,
    /// Copies on it, those that must go included.
    instances: u32,
    /// What services have not reserved.
    free: ResourcesView,
    /// What it can give in all.
    allocatable: ResourcesView,
}

pub(crate) fn worker(status: WorkerStatus) -> WorkerView {
    WorkerView {
        id: status.id.to_string(),
        name: status.name,
        alive: status.alive,
        silent_ms: status.silent_millis,
        lost_after_ms: status.threshold_millis,
        loss_percent: status.loss_percent,
        scheduling: match status.scheduling {
            Scheduling::Open => "open",
            Scheduling::Cordoned => "cordoned",
            Scheduling::Draining => "draining",
        },
        instances: status.instances,
        free: status.free.into(),
        allocatable: status.allocatable.into(),
    }
}
