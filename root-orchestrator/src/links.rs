//! The connections of clusters, and what is asked over them: logs, and what concerns workers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use link::SealingPublicKey;
use model::{ClusterAnswer, ClusterId, ClusterRequest, InstanceId};
use proto::v1::{self, root_to_cluster::Message};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

/// Messages on their way to one cluster. Assignments replace one another, so a cluster that reads too slowly for this
/// many is cut off and told everything anew when it returns.
const OUTBOX: usize = 256;
/// Pieces of a log on their way to one reader; a reader that does not keep up with this many loses the log.
const LOG_PIECES: usize = 256;
/// A cluster answers from memory; one that does not within this is cut off.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

pub(crate) type Outbox = mpsc::Receiver<Result<v1::RootToCluster, Status>>;

/// A piece of a log, or why there is no more.
pub(crate) type LogPiece = Result<Bytes, String>;

/// Who is connected. Decides nothing.
#[derive(Debug, Default)]
pub(crate) struct Links {
    connections: Mutex<BTreeMap<ClusterId, Connection>>,
    logs: Mutex<BTreeMap<u64, mpsc::Sender<LogPiece>>>,
    questions: Mutex<BTreeMap<u64, oneshot::Sender<ClusterAnswer>>>,
    next: AtomicU64,
}

/// A cluster that was asked something did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// It is away.
    #[error(
        "the cluster is not connected to the root, and only it knows its workers; try again when it is back"
    )]
    NotConnected,
    /// It may be away, or be of a version that does not know the question.
    #[error("the cluster did not answer within 5 s; look at its state and try again")]
    NoAnswer,
}

#[derive(Debug)]
struct Connection {
    number: u64,
    outbox: mpsc::Sender<Result<v1::RootToCluster, Status>>,
    /// What secrets are sealed for; `None` when it can open none.
    sealing: Option<SealingPublicKey>,
}

impl Links {
    /// Registers a connection in place of the one before; its number tells them apart.
    pub(crate) fn connect(&self, cluster: ClusterId, sealing: Option<SealingPublicKey>) -> (u64, Outbox) {
        let (sender, outbox) = mpsc::channel(OUTBOX);
        let number = self.fresh_number();
        lock(&self.connections).insert(cluster, Connection { number, outbox: sender, sealing });
        (number, outbox)
    }

    /// What secrets are sealed for that a cluster shall open.
    pub(crate) fn sealing_key_of(&self, cluster: ClusterId) -> Option<SealingPublicKey> {
        lock(&self.connections).get(&cluster)?.sealing.clone()
    }

    /// Forgets a connection; false when another has taken its place.
    pub(crate) fn disconnect(&self, cluster: ClusterId, number: u64) -> bool {
        let mut connections = lock(&self.connections);
        let current = connections.get(&cluster).is_some_and(|connection| connection.number == number);
        if current {
            connections.remove(&cluster);
        }
        current
    }

    /// Sends without waiting; false when the cluster is not connected or does not read.
    pub(crate) fn send(&self, cluster: ClusterId, message: Message) -> bool {
        let mut connections = lock(&self.connections);
        let Some(connection) = connections.get(&cluster) else { return false };
        let sent = connection.outbox.try_send(Ok(v1::RootToCluster { message: Some(message) })).is_ok();
        if !sent {
            tracing::warn!(%cluster, "the cluster does not read what it is sent; its connection is cut");
            connections.remove(&cluster);
        }
        sent
    }

    /// As [`Links::send`], over the connection `number` only: what was meant for one that has ended is worth nothing.
    pub(crate) fn send_over(&self, cluster: ClusterId, number: u64, message: Message) -> bool {
        let is_current =
            lock(&self.connections).get(&cluster).is_some_and(|current| current.number == number);
        is_current && self.send(cluster, message)
    }

    /// Asks a cluster something about its workers. Nothing of the answer is kept.
    ///
    /// # Errors
    /// When there is no answer.
    pub(crate) async fn ask(
        &self,
        cluster: ClusterId,
        wish: ClusterRequest,
    ) -> Result<ClusterAnswer, AskError> {
        let request = self.fresh_number();
        let (sender, answer) = oneshot::channel();
        lock(&self.questions).insert(request, sender);
        // Whoever asks may go away at any time.
        let _forgotten = Question { links: self, request };
        let asked = v1::ClusterRequest::new(request, &wish);
        if !self.send(cluster, Message::Request(asked)) {
            return Err(AskError::NotConnected);
        }
        let answered = tokio::time::timeout(ANSWER_WITHIN, answer).await;
        answered.ok().and_then(Result::ok).ok_or(AskError::NoAnswer)
    }

    /// A cluster answered.
    pub(crate) fn answered(&self, request: u64, answer: ClusterAnswer) {
        if let Some(question) = lock(&self.questions).remove(&request) {
            // Whoever asked may have given up.
            drop(question.send(answer));
        }
    }

    /// From 1, each greater than those before.
    fn fresh_number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Asks a cluster for the log of an instance. Dropping the answer stops it.
    pub(crate) fn open_log(
        self: &Arc<Self>,
        cluster: ClusterId,
        instance: InstanceId,
        tail: u32,
        follow: bool,
    ) -> Option<LogReader> {
        let request = self.fresh_number();
        let (sender, pieces) = mpsc::channel(LOG_PIECES);
        lock(&self.logs).insert(request, sender);
        let reader = LogReader { request, cluster, pieces, links: Arc::clone(self) };
        let asked = v1::LogRequest { request, instance: Some(instance.into()), tail, follow };
        self.send(cluster, Message::LogRequest(asked)).then_some(reader)
    }

    /// Passes on a piece of a log to whoever asked for it.
    pub(crate) fn log_chunk(&self, chunk: v1::LogChunk) {
        let mut logs = lock(&self.logs);
        let Some(reader) = logs.get(&chunk.request) else { return };
        if reader.try_send(Ok(chunk.data)).is_err() {
            logs.remove(&chunk.request);
        }
    }

    /// A log came to its end.
    pub(crate) fn log_end(&self, end: v1::LogEnd) {
        let Some(reader) = lock(&self.logs).remove(&end.request) else { return };
        if !end.error.is_empty() {
            // A reader that is full or gone does not need to hear why there is no more.
            drop(reader.try_send(Err(end.error)));
        }
    }
}

/// A question under way; forgotten with whoever asks it.
struct Question<'a> {
    links: &'a Links,
    request: u64,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        lock(&self.links.questions).remove(&self.request);
    }
}

/// A log being read.
#[derive(Debug)]
pub(crate) struct LogReader {
    request: u64,
    cluster: ClusterId,
    pieces: mpsc::Receiver<LogPiece>,
    links: Arc<Links>,
}

impl LogReader {
    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<LogPiece> {
        self.pieces.recv().await
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        // Still registered: the log has not ended by itself, so the cluster must stop sending it.
        if lock(&self.links.logs).remove(&self.request).is_some() {
            self.links.send(self.cluster, Message::LogCancel(v1::LogCancel { request: self.request }));
        }
    }
}

/// Nothing that is done under these locks can be interrupted half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
