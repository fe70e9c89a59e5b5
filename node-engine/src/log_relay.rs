//! Sends the output of containers upward, on demand.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::StreamExt;
use tokio::{sync::mpsc, task::AbortHandle};

use crate::{
    ToCluster,
    runtime::{Bytes, ContainerRuntime, LogRange},
};
use node_core::ContainerId;

/// A chunk is sent when it has grown to this, or when nothing more is there yet: few messages, no waiting.
const CHUNK_BYTES: usize = 32 * 1024;
/// Engine messages taken at once; a line each, usually.
const MESSAGES_AT_ONCE: usize = 256;

/// The log requests under way. Dropping it ends them.
#[derive(Debug, Default)]
pub(crate) struct LogRelay {
    requests: BTreeMap<u64, AbortHandle>,
}

impl LogRelay {
    /// Begins to send the log of a container. A request of the same number is replaced.
    pub(crate) fn begin(
        &mut self,
        request: u64,
        runtime: &Arc<dyn ContainerRuntime>,
        container: &ContainerId,
        range: LogRange,
        cluster: mpsc::Sender<ToCluster>,
    ) {
        self.cancel(request);
        self.requests.retain(|_, task| !task.is_finished());
        let mut messages = runtime.logs(container, range).ready_chunks(MESSAGES_AT_ONCE);
        let task = tokio::spawn(async move {
            let mut error = None;
            while let Some(batch) = messages.next().await {
                for message in together(batch) {
                    match message {
                        Ok(data) => {
                            if cluster.send(ToCluster::LogChunk { request, data }).await.is_err() {
                                return;
                            }
                        }
                        Err(reason) => error = Some(reason),
                    }
                }
            }
            if cluster.send(ToCluster::LogEnd { request, error }).await.is_err() {
                tracing::debug!(request, "the end of a log is not told: the uplink has ended");
            }
        });
        self.requests.insert(request, task.abort_handle());
    }

    /// Ends a request without a word.
    pub(crate) fn cancel(&mut self, request: u64) {
        if let Some(task) = self.requests.remove(&request) {
            task.abort();
        }
    }

    /// Ends all requests: whoever asked is no longer connected.
    pub(crate) fn cancel_all(&mut self) {
        for task in std::mem::take(&mut self.requests).into_values() {
            task.abort();
        }
    }
}

impl Drop for LogRelay {
    fn drop(&mut self) {
        self.cancel_all();
    }
}

/// Joins neighbouring messages into chunks.
fn together(batch: Vec<Result<Bytes, crate::runtime::RuntimeError>>) -> Vec<Result<Bytes, String>> {
    let mut chunks = Vec::new();
    let mut chunk: Vec<u8> = Vec::new();
    for message in batch {
        match message {
            Ok(data) => {
                chunk.extend_from_slice(&data);
                if chunk.len() >= CHUNK_BYTES {
                    chunks.push(Ok(Bytes::from(std::mem::take(&mut chunk))));
                }
            }
            Err(error) => chunks.push(Err(error.to_string())),
        }
    }
    if !chunk.is_empty() {
        chunks.push(Ok(Bytes::from(chunk)));
    }
    chunks
}
