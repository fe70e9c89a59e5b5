//! The loop that owns the device's state: takes in assignments and observations, saves before it acts, and reports.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use model::{Assignment, InstanceId, Load, WorkerInventory, WorkerReport};
use node_core::{Before, ContainerId, Node, Observation, Settings};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    AssignmentStore, Device,
    contact::Contact,
    executor::Executor,
    history::{HistoryStore, Keeper},
    log_relay::LogRelay,
    network::InstanceNetwork,
    runtime::{Bytes, ContainerRuntime, LogRange},
    watch::{watch_engine, watch_network},
};

/// A report goes out at least this often. That the worker lives its beats tell, and what is new is told at once; this
/// keeps small differences in what instances use from adding up unseen.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How often load and usage are looked at.
const SAMPLE_PERIOD: Duration = Duration::from_secs(5);
/// An engine that does not answer for this long after the start is something to report.
const FIRST_LOOK_WITHIN: Duration = Duration::from_secs(10);
/// Without a moment to wait for, the loop still looks round this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Outcomes and events in hand; more than an engine gives while the loop saves an assignment.
const OBSERVATIONS: usize = 1024;
/// Messages on their way to the uplink. Logs wait when it is full; a report is skipped and made anew.
const TO_CLUSTER: usize = 64;
/// Messages from the uplink; each is handled within milliseconds.
const FROM_CLUSTER: usize = 64;
/// Nothing else happens meanwhile, so an engine that is slow to say where its data is goes unheard.
const ENGINE_TELLS_WITHIN: Duration = Duration::from_secs(1);
/// What the uplink brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromCluster {
    /// The stream is up; inventory and report are due.
    Connected,
    /// The stream is down, with the reason.
    Disconnected(String),
    /// What should run from now on.
    Assignment(Assignment),
    /// It has heard nothing for a while and asks for a report.
    ReportRequest {
        /// It does not know any more what it was told over this connection.
        anew: bool,
    },
    /// An echo came back.
    Echo {
        /// As it was sent.
        number: u64,
    },
    /// The output of an instance is wanted.
    Logs {
        /// Chosen by the asker; answers carry it.
        request: u64,
        /// Whose output.
        instance: InstanceId,
        /// Lines from the end; 0 is all there are.
        tail: u32,
        /// Go on until the container ends.
        follow: bool,
    },
    /// A log request is no longer of interest.
    CancelLogs {
        /// Which.
        request: u64,
    },
}

/// What the uplink takes.
#[derive(Debug, Clone, PartialEq)]
pub enum ToCluster {
    /// First of all after each [`FromCluster::Connected`].
    Inventory(WorkerInventory),
    /// Whole, replacing the one before.
    Report(WorkerReport),
    /// To be sent back as it is: while it comes back, this device is not cut off.
    Echo {
        /// Grows with every one.
        number: u64,
    },
    /// Output, in order.
    LogChunk {
        /// Of which request.
        request: u64,
        /// Bytes as the container wrote them.
        data: Bytes,
    },
    /// A log request has ended; nothing more comes of it.
    LogEnd {
        /// Which.
        request: u64,
        /// Why, if it did not end by itself.
        error: Option<String>,
    },
}

/// The service's ends of the channels to the uplink.
#[derive(Debug)]
pub struct UplinkEnds {
    /// From the cluster.
    pub from_cluster: mpsc::Receiver<FromCluster>,
    /// To the cluster.
    pub to_cluster: mpsc::Sender<ToCluster>,
    /// How busy the device is, for its beats.
    pub load: watch::Sender<Load>,
}

/// The uplink's ends of the same channels.
#[derive(Debug)]
pub struct ClusterEnds {
    /// To the service.
    pub to_service: mpsc::Sender<FromCluster>,
    /// From the service.
    pub from_service: mpsc::Receiver<ToCluster>,
    /// How busy the device is.
    pub load: watch::Receiver<Load>,
}

/// The channels between service and uplink.
#[must_use]
pub fn channels() -> (UplinkEnds, ClusterEnds) {
    let (to_service, from_cluster) = mpsc::channel(FROM_CLUSTER);
    let (to_cluster, from_service) = mpsc::channel(TO_CLUSTER);
    let (tell_load, load) = watch::channel(Load::default());
    let uplink = UplinkEnds { from_cluster, to_cluster, load: tell_load };
    (uplink, ClusterEnds { to_service, from_service, load })
}

/// What a service is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The device's name.
    pub name: String,
    /// Runs the containers.
    pub runtime: Arc<dyn ContainerRuntime>,
    /// Gives them networks; `None` leaves them on the engine's own.
    pub network: Option<Arc<dyn InstanceNetwork>>,
    /// Keeps the last assignment.
    pub assignments: Arc<dyn AssignmentStore>,
    /// Keeps what else outlives this process.
    pub history: Arc<dyn HistoryStore>,
}

/// See the module's description.
#[derive(Debug)]
pub struct Service {
    parts: Parts,
    node: Node,
    device: Device,
    executor: Executor,
    observations: (mpsc::Sender<Observation>, mpsc::Receiver<Observation>),
    logs: LogRelay,
    history: Keeper,
    contact: Contact,
    started: Instant,
    connected: bool,
    inventory_due: bool,
    /// The revision of the last report sent over this connection.
    reported: Option<u64>,
    /// Accepted, but the disk refused it; tried again with each sample.
    unsaved: Option<Assignment>,
    /// Containers that no assignment names and that were told of.
    unknown: BTreeSet<(InstanceId, ContainerId)>,
}

impl Service {
    /// Takes up the last assignment. Does nothing to any container yet.
    ///
    /// # Errors
    /// The last assignment cannot be read (going on without would look like an empty one), or the device cannot be
    /// measured.
    pub fn new(parts: Parts) -> anyhow::Result<Self> {
        let held = parts.assignments.load()?.unwrap_or_default();
        tracing::info!(
            generation = %held.assignment.generation,
            instances = held.assignment.instances.len(),
            overlay = parts.network.is_some(),
            "going on with the last assignment"
        );
        let settings = Settings { overlay: parts.network.is_some() };
        let observations = mpsc::channel(OBSERVATIONS);
        let executor =
            Executor::new(Arc::clone(&parts.runtime), parts.network.clone(), observations.0.clone());
        Ok(Self {
            node: Node::new(
                settings,
                Before { held, history: parts.history.load(), contact: parts.history.last_contact() },
                daemon::present(),
            ),
            history: Keeper::new(Arc::clone(&parts.history)),
            contact: Contact::new(Arc::clone(&parts.history)),
            started: Instant::now(),
            parts,
            device: Device::new().context("measure this device")?,
            executor,
            observations,
            logs: LogRelay::default(),
            connected: false,
            inventory_due: false,
            reported: None,
            unsaved: None,
            unknown: BTreeSet::new(),
        })
    }

    /// Runs until `shutdown`, and keeps running when the uplink ends before. Containers are left running.
    ///
    /// # Errors
    /// None so far; whatever fails is tried again.
    pub async fn run(mut self, mut uplink: UplinkEnds, shutdown: CancellationToken) -> anyhow::Result<()> {
        let tasks = CancellationToken::new();
        let _ended_with_this = tasks.clone().drop_guard();
        let observations = self.observations.0.clone();
        tokio::spawn(
            tasks.clone().run_until_cancelled_owned(watch_engine(
                Arc::clone(&self.parts.runtime),
                observations.clone(),
            )),
        );
        if let Some(network) = self.parts.network.clone() {
            tokio::spawn(tasks.clone().run_until_cancelled_owned(watch_network(network, observations)));
        }

        let mut heartbeat = ticker(HEARTBEAT);
        let mut sample = ticker(SAMPLE_PERIOD);
        let mut uplink_open = true;
        let mut wake = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => {
                    self.history.keep_the_last(&self.node).await;
                    return Ok(());
                }
                message = uplink.from_cluster.recv(), if uplink_open => match message {
                    Some(message) => self.hear(message, &uplink.to_cluster).await,
                    None => uplink_open = false,
                },
                Some(observation) = self.observations.1.recv() => {
                    self.observe(observation);
                    while let Ok(observation) = self.observations.1.try_recv() {
                        self.observe(observation);
                    }
                }
                _ = heartbeat.tick() => self.reported = None,
                _ = sample.tick() => {
                    uplink.load.send_replace(self.sample().await);
                }
                () = tokio::time::sleep_until(wake) => {}
            }
            let now = daemon::present();
            let plan = self.node.reconcile(now);
            self.executor.submit(plan.submissions);
            self.report(&uplink.to_cluster).await;
            let plan_due = plan.wake_at.map(|at| Instant::from_std(daemon::instant_of(at)));
            let history_due = self.history.keep(&self.node);
            let echo_due = self.ask_for_contact(&uplink.to_cluster);
            let longest = Some(Instant::now() + LONGEST_SLEEP);
            wake = [plan_due, history_due, echo_due, longest].into_iter().flatten().min().unwrap_or(wake);
        }
    }

    async fn hear(&mut self, message: FromCluster, cluster: &mpsc::Sender<ToCluster>) {
        match message {
            FromCluster::Connected => {
                tracing::info!("connected to the cluster");
                (self.connected, self.inventory_due, self.reported) = (true, true, None);
                self.contact.begin_anew();
                self.node.tell_anew();
            }
            FromCluster::Disconnected(reason) => {
                tracing::warn!(%reason, "cut off from the cluster; going on with the last assignment");
                self.connected = false;
                self.logs.cancel_all();
            }
            FromCluster::Assignment(assignment) => self.take_on(assignment).await,
            FromCluster::ReportRequest { anew } => {
                self.reported = None;
                if anew {
                    self.node.tell_anew();
                }
            }
            FromCluster::Echo { number } => {
                if let Some(sent) = self.contact.answered(number) {
                    self.observe(Observation::Contact { sent });
                }
            }
            FromCluster::Logs { request, instance, tail, follow } => match self.node.container_of(instance) {
                Some(container) => {
                    let range = LogRange { tail, follow };
                    self.logs.begin(request, &self.parts.runtime, container, range, cluster.clone());
                }
                None => {
                    let error =
                        format!("instance {instance} has no container on this device, so there is no output");
                    let end = ToCluster::LogEnd { request, error: Some(error) };
                    if cluster.try_send(end).is_err() {
                        tracing::warn!(request, "a log request is not answered: the uplink is busy");
                    }
                }
            },
            FromCluster::CancelLogs { request } => self.logs.cancel(request),
        }
    }

    /// Saves an assignment, then makes it count.
    async fn take_on(&mut self, assignment: Assignment) {
        let accepted = match self.node.accept(assignment) {
            Ok(accepted) => accepted,
            Err(stale) => return tracing::debug!(%stale, "not taken on"),
        };
        let store = Arc::clone(&self.parts.assignments);
        let to_save = accepted.held().clone();
        let saved = tokio::task::spawn_blocking(move || {
            store.save(&to_save).map_err(|error| (error, Box::new(to_save)))
        })
        .await;
        match saved {
            Ok(Ok(())) => {
                self.unsaved = None;
                let assignment = &accepted.held().assignment;
                tracing::info!(generation = %assignment.generation, instances = assignment.instances.len(), "assigned");
                self.node.apply(accepted, daemon::present());
                self.tell_of_unknown_containers();
            }
            Ok(Err((error, held))) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "an assignment is not taken on because it cannot be saved; trying again"
                );
                self.unsaved = Some(held.assignment);
            }
            Err(error) => tracing::error!(%error, "saving an assignment broke off"),
        }
    }

    /// Once of each: assignments may come many times a second.
    fn tell_of_unknown_containers(&mut self) {
        let unknown: BTreeSet<_> = self
            .node
            .unknown_containers()
            .map(|(instance, container)| (instance, container.clone()))
            .collect();
        for (instance, container) in unknown.difference(&self.unknown) {
            tracing::warn!(%instance, %container, "not in the assignment; left alone");
        }
        self.unknown = unknown;
    }

    fn observe(&mut self, observation: Observation) {
        self.node.observe(daemon::present(), observation);
    }

    /// Measures the device and its containers, and tries again what could not be saved. Returns how busy the device is.
    async fn sample(&mut self) -> Load {
        if let Some(assignment) = self.unsaved.take() {
            self.take_on(assignment).await;
        }
        let load = self.device.load();
        let containers: Vec<_> = self.node.running_containers().cloned().collect();
        let (runtime, observations) = (Arc::clone(&self.parts.runtime), self.observations.0.clone());
        tokio::spawn(async move {
            let usage = if containers.is_empty() { BTreeMap::new() } else { runtime.usage(containers).await };
            let sampled = Observation::Sampled { load, usage };
            if observations.send(sampled).await.is_err() {
                tracing::debug!("a measurement is not told: the service has ended");
            }
        });
        load
    }

    /// Sends an echo if one is due; returns when the next is.
    fn ask_for_contact(&mut self, cluster: &mpsc::Sender<ToCluster>) -> Option<Instant> {
        if !self.connected || self.inventory_due || !self.node.needs_contact() {
            return None;
        }
        Some(self.contact.ask(|number| cluster.try_send(ToCluster::Echo { number }).is_ok()))
    }

    /// Sends what is due: the inventory once per connection, a report when it says something new, is asked for, or with
    /// a heartbeat.
    async fn report(&mut self, cluster: &mpsc::Sender<ToCluster>) {
        if !self.connected {
            return;
        }
        if self.inventory_due {
            let data = self.parts.runtime.data_directory();
            let data = tokio::time::timeout(ENGINE_TELLS_WITHIN, data).await.unwrap_or_default();
            let inventory =
                self.device.inventory(self.parts.name.clone(), &data, self.parts.network.is_some());
            if cluster.try_send(ToCluster::Inventory(inventory)).is_err() {
                return;
            }
            self.inventory_due = false;
        }
        // Before the containers were looked at, all of them would seem to be missing.
        if !self.node.has_looked() && self.started.elapsed() < FIRST_LOOK_WITHIN {
            return;
        }
        // What finds no room in one report is in the next.
        while self.reported != Some(self.node.revision()) {
            // Made when there is room for it: what it tells counts as told.
            let Ok(room) = cluster.try_reserve() else { return };
            self.reported = Some(self.node.revision());
            room.send(ToCluster::Report(self.node.report()));
        }
    }
}

fn ticker(period: Duration) -> tokio::time::Interval {
    let mut ticker = interval(period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}
