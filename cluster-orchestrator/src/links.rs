//! The connections of workers and their NetManagers, and logs on their way from a worker to the root.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use link::SealingPublicKey;
use model::WorkerId;
use proto::v1::{self, cluster_to_worker::Message};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Messages on their way to one child; one that reads too slowly for this many is cut off and told everything anew
/// when it returns.
const OUTBOX: usize = 256;

/// Messages of one child, on their way. In boxes: a channel makes room for 32 of them at once, for every child.
pub(crate) type Outbox<T> = mpsc::Receiver<Box<T>>;
type Sender<T> = mpsc::Sender<Box<T>>;

/// Connections of one kind by worker.
#[derive(Debug)]
struct Table<T>(Mutex<BTreeMap<WorkerId, (u64, Sender<T>)>>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }
}

impl<T> Table<T> {
    fn connect(&self, worker: WorkerId, number: u64) -> Outbox<T> {
        let (sender, outbox) = mpsc::channel(OUTBOX);
        lock(&self.0).insert(worker, (number, sender));
        outbox
    }

    fn disconnect(&self, worker: WorkerId, number: u64) -> bool {
        let mut connections = lock(&self.0);
        let current = connections.get(&worker).is_some_and(|(found, _)| *found == number);
        if current {
            connections.remove(&worker);
        }
        current
    }

    fn is_current(&self, worker: WorkerId, number: u64) -> bool {
        lock(&self.0).get(&worker).is_some_and(|(found, _)| *found == number)
    }

    fn send(&self, worker: WorkerId, message: T) -> bool {
        let mut connections = lock(&self.0);
        let Some((_, outbox)) = connections.get(&worker) else { return false };
        let sent = outbox.try_send(Box::new(message)).is_ok();
        if !sent {
            tracing::warn!(%worker, "the worker does not read what it is sent; its connection is cut");
            connections.remove(&worker);
        }
        sent
    }
}

/// The connection to the root.
#[derive(Debug)]
struct ToRoot {
    number: u64,
    outbox: mpsc::Sender<v1::ClusterToRoot>,
    /// Ends it.
    cut: CancellationToken,
}

/// Who is connected. Decides nothing.
#[derive(Debug, Default)]
pub(crate) struct Links {
    workers: Table<v1::ClusterToWorker>,
    networks: Table<v1::ClusterToNetwork>,
    /// What secrets are sealed for, of the workers that are connected and can open any.
    sealing: Mutex<BTreeMap<WorkerId, SealingPublicKey>>,
    /// Logs the root asked for, and the worker that sends each.
    logs: Mutex<BTreeMap<u64, WorkerId>>,
    to_root: Mutex<Option<ToRoot>>,
    next: AtomicU64,
}

impl Links {
    /// Registers a worker's connection in place of the one before; its number tells them apart.
    pub(crate) fn connect_worker(
        &self,
        worker: WorkerId,
        sealing: Option<SealingPublicKey>,
    ) -> (u64, Outbox<v1::ClusterToWorker>) {
        let number = self.fresh_number();
        match sealing {
            Some(key) => lock(&self.sealing).insert(worker, key),
            None => lock(&self.sealing).remove(&worker),
        };
        (number, self.workers.connect(worker, number))
    }

    /// What secrets are sealed for that a worker shall open.
    pub(crate) fn sealing_key_of(&self, worker: WorkerId) -> Option<SealingPublicKey> {
        lock(&self.sealing).get(&worker).cloned()
    }

    /// Forgets a worker's connection; false when another has taken its place.
    pub(crate) fn disconnect_worker(&self, worker: WorkerId, number: u64) -> bool {
        let current = self.workers.disconnect(worker, number);
        if current {
            lock(&self.sealing).remove(&worker);
            self.end_logs_of(worker);
        }
        current
    }

    /// Sends without waiting; false when the worker is not connected or does not read.
    pub(crate) fn send_to_worker(&self, worker: WorkerId, message: Message) -> bool {
        self.workers.send(worker, v1::ClusterToWorker { message: Some(message) })
    }

    /// As [`Links::send_to_worker`], over the connection `number` only: what was meant for one that has ended is worth
    /// nothing.
    pub(crate) fn send_over(&self, worker: WorkerId, number: u64, message: Message) -> bool {
        self.workers.is_current(worker, number) && self.send_to_worker(worker, message)
    }

    /// Sends to the root without waiting; false when it is away or does not read.
    pub(crate) fn send_to_root(&self, message: v1::cluster_to_root::Message) -> bool {
        self.to_root(message)
    }

    /// Sends over the connection `number` to the root, and cuts it if that cannot be: whoever is to hear this would miss
    /// it. What was meant for one that has ended is worth nothing.
    pub(crate) fn send_over_to_root(&self, number: u64, message: v1::cluster_to_root::Message) {
        let root = lock(&self.to_root);
        let Some(root) = root.as_ref().filter(|root| root.number == number) else { return };
        if root.outbox.try_send(v1::ClusterToRoot { message: Some(message) }).is_err() {
            tracing::warn!("the root does not read what it is sent; the connection is cut");
            root.cut.cancel();
        }
    }

    /// From 1, each greater than those before.
    fn fresh_number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// As [`Links::connect_worker`], for its NetManager.
    pub(crate) fn connect_network(&self, worker: WorkerId) -> (u64, Outbox<v1::ClusterToNetwork>) {
        let number = self.fresh_number();
        (number, self.networks.connect(worker, number))
    }

    /// As [`Links::disconnect_worker`], for its NetManager.
    pub(crate) fn disconnect_network(&self, worker: WorkerId, number: u64) -> bool {
        self.networks.disconnect(worker, number)
    }

    /// As [`Links::send_over`], to its NetManager.
    pub(crate) fn send_to_network(
        &self,
        worker: WorkerId,
        number: u64,
        message: v1::ClusterToNetwork,
    ) -> bool {
        self.networks.is_current(worker, number) && self.networks.send(worker, message)
    }

    /// From now on messages to the root go this way, until the token is cancelled. The number tells the connection from
    /// others.
    pub(crate) fn connect_root(&self, outbox: mpsc::Sender<v1::ClusterToRoot>) -> (u64, CancellationToken) {
        let (number, cut) = (self.fresh_number(), CancellationToken::new());
        *lock(&self.to_root) = Some(ToRoot { number, outbox, cut: cut.clone() });
        (number, cut)
    }

    /// The root is away.
    pub(crate) fn disconnect_root(&self) {
        *lock(&self.to_root) = None;
        // Whoever asked the root has been told that the log broke off.
        let logs = std::mem::take(&mut *lock(&self.logs));
        for (request, worker) in logs {
            self.send_to_worker(worker, Message::LogCancel(v1::LogCancel { request }));
        }
    }

    /// Asks a worker for a log on behalf of the root; `worker` is `None` when it is not connected.
    pub(crate) fn log_asked(&self, asked: v1::LogRequest, worker: Option<WorkerId>) {
        let request = asked.request;
        if let Some(worker) = worker {
            lock(&self.logs).insert(request, worker);
            if self.send_to_worker(worker, Message::LogRequest(asked)) {
                return;
            }
        }
        let error = "the device of this instance is not connected; its log can be read when it is back";
        self.log_ended(None, v1::LogEnd { request, error: error.to_owned() });
    }

    /// The root wants no more of a log.
    pub(crate) fn log_cancelled(&self, cancel: v1::LogCancel) {
        let worker = lock(&self.logs).remove(&cancel.request);
        if let Some(worker) = worker {
            self.send_to_worker(worker, Message::LogCancel(cancel));
        }
    }

    /// A worker sent a piece of a log. A root that does not keep up gets the end instead.
    pub(crate) fn log_chunk(&self, worker: WorkerId, chunk: v1::LogChunk) {
        let request = chunk.request;
        // Only the worker that was asked may answer.
        if lock(&self.logs).get(&request) != Some(&worker) {
            return;
        }
        if !self.to_root(v1::cluster_to_root::Message::LogChunk(chunk)) {
            self.log_cancelled(v1::LogCancel { request });
        }
    }

    /// A log came to its end.
    pub(crate) fn log_ended(&self, worker: Option<WorkerId>, end: v1::LogEnd) {
        let asked = lock(&self.logs).remove(&end.request);
        if worker.is_none() || asked == worker {
            self.to_root(v1::cluster_to_root::Message::LogEnd(end));
        }
    }

    fn end_logs_of(&self, worker: WorkerId) {
        let broken: Vec<u64> = {
            let logs = lock(&self.logs);
            logs.iter().filter(|(_, asked)| **asked == worker).map(|(request, _)| *request).collect()
        };
        for request in broken {
            let error = "the device of this instance lost its connection".to_owned();
            self.log_ended(Some(worker), v1::LogEnd { request, error });
        }
    }

    fn to_root(&self, message: v1::cluster_to_root::Message) -> bool {
        let root = lock(&self.to_root);
        root.as_ref()
            .is_some_and(|root| root.outbox.try_send(v1::ClusterToRoot { message: Some(message) }).is_ok())
    }
}

/// Nothing that is done under these locks can be interrupted half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
