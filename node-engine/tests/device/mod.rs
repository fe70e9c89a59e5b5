//! A device under test: a NodeEngine service in this process, and the cluster's side of its uplink.

#![expect(dead_code, reason = "each test file uses its own part of the device")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use model::{
    AssignedInstance, AssignedService, Assignment, Desired, Generation, InstanceId, InstanceReport, Moment,
    Phase, ServiceId, ServiceNames, ServiceSpec, WorkerInventory, WorkerReport,
};
use node_core::{Held, History};
use node_engine::{
    AssignmentStore, ClusterEnds, FromCluster, HistoryStore, Parts, Service, ToCluster,
    network::InstanceNetwork, runtime::ContainerRuntime,
};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// Far above what anything here takes, and below the patience of a test run.
const PATIENCE: Duration = Duration::from_secs(30);

/// A state directory in memory; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept(pub(crate) Arc<Mutex<KeptState>>);

#[derive(Debug, Default)]
pub(crate) struct KeptState {
    pub(crate) assignment: Option<Assignment>,
    pub(crate) history: History,
    pub(crate) contact: Option<Moment>,
    pub(crate) disk_full: bool,
}

impl AssignmentStore for Kept {
    fn load(&self) -> anyhow::Result<Option<Held>> {
        let assignment = self.0.lock().expect("no test panics with it").assignment.clone();
        Ok(assignment.map(|assignment| Held { assignment, ..Held::default() }))
    }

    fn save(&self, held: &Held) -> anyhow::Result<()> {
        let mut state = self.0.lock().expect("no test panics with it");
        anyhow::ensure!(!state.disk_full, "no space left on device");
        state.assignment = Some(held.assignment.clone());
        Ok(())
    }
}

impl HistoryStore for Kept {
    fn load(&self) -> History {
        self.0.lock().expect("no test panics with it").history.clone()
    }

    fn save(&self, history: &History) -> anyhow::Result<()> {
        let mut state = self.0.lock().expect("no test panics with it");
        anyhow::ensure!(!state.disk_full, "no space left on device");
        state.history = history.clone();
        Ok(())
    }

    fn note_contact(&self, sent: Moment) {
        self.0.lock().expect("no test panics with it").contact = Some(sent);
    }

    fn last_contact(&self) -> Option<Moment> {
        self.0.lock().expect("no test panics with it").contact
    }
}

/// The running service and what it has said.
#[derive(Debug)]
pub(crate) struct Device {
    ends: ClusterEnds,
    shutdown: CancellationToken,
    service: JoinHandle<anyhow::Result<()>>,
    pub(crate) inventory: Option<WorkerInventory>,
    pub(crate) report: WorkerReport,
    logs: BTreeMap<u64, (Vec<u8>, Option<Option<String>>)>,
    next_request: u64,
    /// Echoes are sent back. A cluster that is cut off does not.
    pub(crate) echoes: bool,
}

impl Device {
    /// Starts a service that is connected to its cluster.
    pub(crate) async fn start(
        runtime: Arc<dyn ContainerRuntime>,
        network: Option<Arc<dyn InstanceNetwork>>,
        kept: &Kept,
    ) -> Self {
        let device = Self::start_cut_off(runtime, network, kept);
        device.say(FromCluster::Connected).await;
        device
    }

    /// Starts a service that has no cluster.
    pub(crate) fn start_cut_off(
        runtime: Arc<dyn ContainerRuntime>,
        network: Option<Arc<dyn InstanceNetwork>>,
        kept: &Kept,
    ) -> Self {
        let (assignments, history) = (Arc::new(kept.clone()), Arc::new(kept.clone()));
        let parts = Parts { name: "device".to_owned(), runtime, network, assignments, history };
        let service = Service::new(parts).expect("the kept assignment is readable");
        let (service_ends, ends) = node_engine::channels();
        let shutdown = CancellationToken::new();
        let service = tokio::spawn(service.run(service_ends, shutdown.clone()));
        Self {
            ends,
            shutdown,
            service,
            inventory: None,
            report: WorkerReport::default(),
            logs: BTreeMap::new(),
            next_request: 0,
            echoes: true,
        }
    }

    pub(crate) async fn say(&self, message: FromCluster) {
        self.ends.to_service.send(message).await.expect("the service runs");
    }

    pub(crate) async fn assign(&self, assignment: Assignment) {
        self.say(FromCluster::Assignment(assignment)).await;
    }

    /// Waits until the instance's report satisfies `wanted`.
    pub(crate) async fn until(
        &mut self,
        id: InstanceId,
        wanted: impl Fn(&InstanceReport) -> bool,
    ) -> InstanceReport {
        let wait = async {
            loop {
                if let Some(report) = self.instance(id).filter(|report| wanted(report)) {
                    return report;
                }
                self.listen().await;
            }
        };
        if let Ok(report) = timeout(PATIENCE, wait).await {
            return report;
        }
        panic!("{id} is still {:?}", self.instance(id));
    }

    pub(crate) async fn until_phase(&mut self, id: InstanceId, phase: Phase) -> InstanceReport {
        self.until(id, |report| report.phase == phase).await
    }

    /// Waits for a report that satisfies `wanted`.
    pub(crate) async fn until_report(&mut self, wanted: impl Fn(&WorkerReport) -> bool) {
        let wait = async {
            while !wanted(&self.report) {
                self.listen().await;
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!("the last report is {:?}", self.report);
        }
    }

    /// Waits until the device was measured, which its beats tell, and asks for a report that tells it too.
    pub(crate) async fn until_measured(&mut self) {
        let measured = timeout(PATIENCE, self.ends.load.wait_for(|load| load.memory_percent > 0.0)).await;
        assert!(measured.is_ok_and(|load| load.is_ok()), "its beats tell nothing");
        while self.report.load.memory_percent <= 0.0 {
            self.say(FromCluster::ReportRequest { anew: false }).await;
            assert!(
                timeout(PATIENCE, self.listen()).await.is_ok(),
                "a report that was asked for does not come"
            );
        }
    }

    /// Takes in one message.
    pub(crate) async fn listen(&mut self) {
        match self.ends.from_service.recv().await.expect("the service runs") {
            ToCluster::Inventory(inventory) => self.inventory = Some(inventory),
            ToCluster::Report(report) => self.report = report,
            ToCluster::Echo { number } if self.echoes => self.say(FromCluster::Echo { number }).await,
            ToCluster::Echo { .. } => {}
            ToCluster::LogChunk { request, data } => {
                self.logs.entry(request).or_default().0.extend_from_slice(&data)
            }
            ToCluster::LogEnd { request, error } => self.logs.entry(request).or_default().1 = Some(error),
        }
    }

    pub(crate) fn instance(&self, id: InstanceId) -> Option<InstanceReport> {
        self.report.instances.iter().find(|report| report.id == id).cloned()
    }

    pub(crate) async fn ask_for_logs(&mut self, instance: InstanceId, tail: u32, follow: bool) -> u64 {
        self.next_request += 1;
        self.say(FromCluster::Logs { request: self.next_request, instance, tail, follow }).await;
        self.next_request
    }

    /// Waits until a log contains `text`.
    pub(crate) async fn until_logged(&mut self, request: u64, text: &str) {
        let wait = async {
            while !self.logged(request).contains(text) {
                self.listen().await;
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!("the log is still {:?}", self.logged(request));
        }
    }

    /// Waits for the end of a log; its text, or why there is none.
    pub(crate) async fn log_to_its_end(&mut self, request: u64) -> Result<String, String> {
        let wait = async {
            loop {
                if let Some((_, Some(end))) = self.logs.get(&request) {
                    return end.clone();
                }
                self.listen().await;
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(None) => Ok(self.logged(request)),
            Ok(Some(error)) => Err(error),
            Err(_) => panic!("the log does not end: {:?}", self.logged(request)),
        }
    }

    fn logged(&self, request: u64) -> String {
        self.logs
            .get(&request)
            .map(|(data, _)| String::from_utf8_lossy(data).into_owned())
            .unwrap_or_default()
    }

    /// Ends the service as SIGKILL would.
    pub(crate) async fn kill(self) {
        self.service.abort();
        drop(self.service.await);
    }

    /// Ends the service as a signal would.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.service.await.expect("it does not panic").expect("it ends well");
    }
}

/// A service id of a test's own, so that tests can share an engine.
pub(crate) fn service(test: u8) -> ServiceId {
    let mut bytes = [0xee; 12];
    bytes[0..4].copy_from_slice(&std::process::id().to_be_bytes());
    bytes[4] = test;
    ServiceId::from_bytes(bytes)
}

pub(crate) fn instance(service: ServiceId, number: u32) -> InstanceId {
    InstanceId { service, number }
}

pub(crate) fn assigned(id: InstanceId, generation: u64, desired: Desired) -> AssignedInstance {
    AssignedInstance { id, revision: 1, generation: Generation(generation), desired, address: None }
}

pub(crate) fn running(id: InstanceId) -> AssignedInstance {
    assigned(id, 1, Desired::Running)
}

pub(crate) fn assignment(
    generation: u64,
    spec: &ServiceSpec,
    instances: impl IntoIterator<Item = AssignedInstance>,
) -> Assignment {
    let instances: Vec<_> = instances.into_iter().collect();
    let service = |instance: &AssignedInstance| {
        let names = ServiceNames {
            application: "app".to_owned(),
            application_namespace: "test".to_owned(),
            service: format!("service{}", instance.id.service),
            service_namespace: "test".to_owned(),
        };
        (
            instance.revision_id(),
            AssignedService {
                names: names.into(),
                spec: spec.clone().into(),
                addresses: std::sync::Arc::default(),
                allowed_callers: std::sync::Arc::default(),
            },
        )
    };
    Assignment {
        generation: Generation(generation),
        services: instances.iter().map(service).collect(),
        instances,
        ..Assignment::default()
    }
}
