//! One simulated worker. The connection is held as `node-engine/src/uplink.rs` holds it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use link::{Backoff, Dial, Identity, Subject, dial};
use model::{
    Assignment, Capability, Desired, Generation, InstanceId, InstanceReport, LastExit, Load, Mebibytes,
    Millicores, Phase, Resources, Timestamp, Usage, WorkerInventory, WorkerReport,
};
use proto::v1::{
    self, cluster_link_client::ClusterLinkClient, cluster_to_worker, worker_to_cluster::Message,
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{
    Shared,
    beats::{Beating, Beats},
};
use crate::{
    events::{Event, now_nanos, tell},
    ledger::Entry,
};

/// A connection that held for this long was good: the next attempt starts without delay.
const GOOD: Duration = Duration::from_secs(10);
/// Messages on their way to the cluster.
const OUTBOX: usize = 8;

/// What a worker is.
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) identity: Identity,
    pub(super) parent: Subject,
    pub(super) address: SocketAddr,
    pub(super) report_every: Duration,
    /// `None` leaves them out.
    pub(super) beats: Option<Beats>,
    pub(super) shared: Arc<Shared>,
}

/// What it has on its disk and in its container engine.
#[derive(Default)]
struct Device {
    generation: Generation,
    instances: BTreeMap<InstanceId, Held>,
    /// Tombstones it confirms.
    removed: BTreeMap<InstanceId, Generation>,
    turn: u32,
}

/// An instance it has.
struct Held {
    generation: Generation,
    since: Timestamp,
    /// What runs once ends at once, and well.
    has_ended: bool,
}

type Outbox = mpsc::Sender<v1::WorkerToCluster>;

impl Worker {
    /// Connects, and connects again, for ever. `turn` is given back after the first time.
    pub(super) async fn hold(self, turn: OwnedSemaphorePermit) {
        let mut turn = Some(turn);
        let mut device = Device::default();
        let mut beating = None;
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            if let Err(reason) = self.talk(&mut device, &mut beating, &mut turn).await {
                tracing::debug!(worker = self.index, reason, "disconnected");
            }
            Shared::count(&self.shared.broken);
            if started.elapsed() > GOOD {
                backoff.reset();
            }
            sleep(backoff.wait()).await;
        }
    }

    async fn talk(
        &self,
        device: &mut Device,
        beating: &mut Option<Beating>,
        turn: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<(), String> {
        let address = self.address.to_string();
        let channel = dial(&address, Dial::As(&self.identity, self.parent)).await;
        let channel = channel.map_err(|error| error.to_string())?;
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let mut sequence = 0;
        send(&outbox, Message::Inventory((&self.inventory()).into())).await?;
        self.report(device, &outbox, &mut sequence).await?;
        let answer = ClusterLinkClient::new(channel).connect_worker(ReceiverStream::new(messages)).await;
        let mut said = answer.map_err(|status| status.message().to_owned())?.into_inner();
        drop(turn.take());
        self.shared.attached();
        let ended = self.converse(device, beating, &mut said, &outbox, &mut sequence).await;
        self.shared.connected.fetch_sub(1, Ordering::Relaxed);
        ended
    }

    async fn converse(
        &self,
        device: &mut Device,
        beating: &mut Option<Beating>,
        said: &mut Streaming<v1::ClusterToWorker>,
        outbox: &Outbox,
        sequence: &mut u64,
    ) -> Result<(), String> {
        // Spread over the period, as workers that were not started together are.
        let phase = self.report_every.mul_f64((self.index % 997) as f64 / 997.0);
        let mut reports = interval_at(Instant::now() + phase, self.report_every);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                _ = reports.tick() => {
                    self.report(device, outbox, sequence).await?;
                    continue;
                }
                message = said.message() => match message {
                    Ok(Some(v1::ClusterToWorker { message })) => message,
                    Ok(None) => return Ok(()),
                    Err(status) => return Err(status.message().to_owned()),
                },
            };
            match message {
                Some(cluster_to_worker::Message::Assignment(assignment)) => {
                    let arrived = now_nanos();
                    let assignment = Assignment::try_from(assignment).map_err(|error| error.to_string())?;
                    if self.take_on(device, &assignment, arrived) {
                        self.report(device, outbox, sequence).await?;
                    }
                }
                Some(cluster_to_worker::Message::Beats(ordered)) => self.beat(beating, &ordered),
                Some(cluster_to_worker::Message::ReportRequest(_)) => {
                    self.report(device, outbox, sequence).await?;
                }
                Some(cluster_to_worker::Message::Echo(echo)) => send(outbox, Message::Echo(echo)).await?,
                // Nothing was ever written.
                Some(cluster_to_worker::Message::LogRequest(asked)) => {
                    let end = v1::LogEnd { request: asked.request, error: String::new() };
                    send(outbox, Message::LogEnd(end)).await?;
                }
                Some(cluster_to_worker::Message::LogCancel(_)) | None => {}
            }
        }
    }

    /// Does what it is told; false when it is nothing new.
    fn take_on(&self, device: &mut Device, assignment: &Assignment, arrived: u64) -> bool {
        let shared = &self.shared;
        if assignment.generation <= device.generation {
            Shared::count(&shared.stale);
            return false;
        }
        Shared::count(&shared.assignments);
        device.generation = assignment.generation;
        let mut changed = false;
        for wanted in &assignment.instances {
            match wanted.desired {
                Desired::Running => {
                    let service = assignment.services.get(&wanted.revision_id());
                    let has_ended = service.is_some_and(|service| service.spec.one_shot);
                    let held = Held { generation: wanted.generation, since: daemon::now(), has_ended };
                    changed |= self.run_instance(device, wanted.id, held, arrived);
                }
                Desired::Removed => changed |= self.remove(device, wanted.id, wanted.generation),
            }
        }
        let listed: BTreeSet<InstanceId> = assignment.instances.iter().map(|wanted| wanted.id).collect();
        // What was confirmed gone and is no longer spoken of is forgotten.
        device.removed.retain(|id, _| listed.contains(id));
        if changed {
            Shared::count(&shared.changing);
        }
        true
    }

    fn run_instance(&self, device: &mut Device, id: InstanceId, held: Held, arrived: u64) -> bool {
        let (shared, generation) = (&self.shared, held.generation);
        let before = device.instances.get(&id).map(|held| held.generation);
        if before == Some(generation) {
            return false;
        }
        match shared.ledger.take(self.index, id, generation) {
            Entry::Fine => {}
            Entry::Duplicate => Shared::count(&shared.duplicates),
            Entry::WentBack => Shared::count(&shared.went_back),
        }
        device.instances.insert(id, held);
        if before.is_none() {
            shared.last_arrival_nanos.fetch_max(arrived, Ordering::Relaxed);
            Shared::count(&shared.instances);
            if shared.tell_each.load(Ordering::Relaxed) {
                let service = id.service.to_string();
                // Whoever measured may have gone.
                drop(tell(&Event::Arrived { service, number: id.number, at_nanos: arrived }));
            }
        }
        true
    }

    fn remove(&self, device: &mut Device, id: InstanceId, generation: Generation) -> bool {
        let was_there = device.instances.remove(&id).is_some();
        if was_there {
            self.shared.ledger.release(self.index, id);
            self.shared.instances.fetch_sub(1, Ordering::Relaxed);
        }
        device.removed.insert(id, generation);
        was_there
    }

    async fn report(&self, device: &mut Device, outbox: &Outbox, sequence: &mut u64) -> Result<(), String> {
        *sequence += 1;
        device.turn = device.turn.wrapping_add(1);
        Shared::count(&self.shared.reports);
        // A little different every time, as measured loads are.
        let wobble = f32::from(u16::try_from((device.turn as usize * 7 + self.index) % 100).unwrap_or(0));
        let held = device.instances.iter().map(|(id, held)| held.report(*id, wobble));
        let removed = device
            .removed
            .iter()
            .map(|(id, generation)| InstanceReport::new(*id, *generation, Phase::Removed, daemon::now()));
        let report = WorkerReport {
            observed_generation: device.generation,
            sequence: *sequence,
            load: Load { cpu_percent: 10.0 + wobble / 10.0, memory_percent: 30.0 },
            instances: held.chain(removed).collect(),
        };
        send(outbox, Message::Report((&report).into())).await
    }

    fn inventory(&self) -> WorkerInventory {
        WorkerInventory {
            name: format!("w{:06}", self.index),
            architecture: "amd64".to_owned(),
            allocatable: Resources {
                cpu: Millicores(4_000),
                memory: Mebibytes(4_096),
                storage: Mebibytes(32_768),
                gpus: 0,
            },
            capabilities: vec![Capability::Container, Capability::Overlay],
        }
    }

    fn beat(&self, beating: &mut Option<Beating>, ordered: &v1::BeatSession) {
        let interval = Duration::from_millis(u64::from(ordered.interval_millis));
        let (Some(beats), Ok(key)) = (&self.beats, <[u8; 32]>::try_from(ordered.key.as_ref())) else {
            return;
        };
        // The new order before the end of the old one, so that a session goes on counting.
        *beating = Some(beats.order(ordered.id, key, interval, self.address));
    }
}

impl Held {
    fn report(&self, id: InstanceId, wobble: f32) -> InstanceReport {
        if self.has_ended {
            let exit = LastExit { code: 0, at: self.since, tail: String::new(), output: None };
            let ended = InstanceReport::new(id, self.generation, Phase::Completed, self.since);
            return InstanceReport { last_exit: Some(exit), ..ended };
        }
        InstanceReport {
            addresses: vec![IpAddr::V4(Ipv4Addr::new(10, 30, 0, 2))],
            ready: true,
            usage: Usage { cpu_percent: wobble / 10.0, memory_bytes: 8 << 20, disk_bytes: 1 << 20 },
            ..InstanceReport::new(id, self.generation, Phase::Running, self.since)
        }
    }
}

async fn send(outbox: &Outbox, message: Message) -> Result<(), String> {
    let message = v1::WorkerToCluster { message: Some(message) };
    outbox.send(message).await.map_err(|_| "the cluster stopped listening".to_owned())
}
