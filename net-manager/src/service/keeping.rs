//! What outlives the daemon: who has which address, and what the cluster told.

use std::{io, sync::Arc};

use anyhow::Context;
use model::InstanceId;
use net_core::{Change, NetworkState};
use tokio::task::JoinHandle;

use super::Service;
use crate::datapath::Datapath;

pub(super) const STATE_FILE: &str = "network.json";
/// What the cluster tells of others, for a start while it is away.
pub(super) const SURROUNDINGS_FILE: &str = "surroundings.json";

/// A state that counts already and is being written.
#[derive(Debug)]
pub(super) struct Keeping {
    before: NetworkState,
    written: JoinHandle<io::Result<()>>,
}

impl<D: Datapath> Service<D> {
    /// Keeps the state with `changes` and goes on with it.
    pub(super) fn commit(&mut self, changes: Vec<Change>) -> anyhow::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let (next, content) = self.changed(changes)?;
        self.directory.replace_file(STATE_FILE, &content).context("keep the network state")?;
        self.state = next;
        self.bulletin.tell(&self.state);
        Ok(())
    }

    /// Goes on with `changes` of attachments, and writes them meanwhile: what is done to the kernel takes as long. Nobody may
    /// be told before [`Service::finish_keeping`].
    ///
    /// When the device crashes, its instances and their namespaces are gone, so the file may be an older one then.
    pub(super) fn begin_to_keep(&mut self, changes: Vec<Change>) -> anyhow::Result<Option<Keeping>> {
        if changes.is_empty() {
            return Ok(None);
        }
        let (next, content) = self.changed(changes)?;
        let directory = Arc::clone(&self.directory);
        let written =
            tokio::task::spawn_blocking(move || directory.replace_file_for_now(STATE_FILE, &content));
        Ok(Some(Keeping { before: std::mem::replace(&mut self.state, next), written }))
    }

    /// Waits until the changes are kept. If they cannot be, they are taken back, also from the kernel.
    pub(super) async fn finish_keeping(&mut self, keeping: Keeping, id: InstanceId) -> anyhow::Result<()> {
        let Keeping { before, written } = keeping;
        let outcome = written.await.map_err(anyhow::Error::from).and_then(|written| Ok(written?));
        if outcome.is_err() {
            self.state = before;
            if self.state.attachment(id).is_none() {
                self.datapath.release_ports(id);
            }
            self.put_right().await;
        }
        self.bulletin.tell(&self.state);
        outcome.context("keep the network state")
    }

    fn changed(&self, changes: Vec<Change>) -> anyhow::Result<(NetworkState, Vec<u8>)> {
        let mut next = self.state.clone();
        for change in changes {
            next.apply(change);
        }
        let content = serde_json::to_vec(&next).context("write the network state")?;
        Ok((next, content))
    }

    pub(super) fn write_surroundings(&mut self) {
        if self.unwritten_since.take().is_none() {
            return;
        }
        let written = serde_json::to_vec(self.state.surroundings())
            .context("write down")
            .and_then(|content| Ok(self.directory.replace_file(SURROUNDINGS_FILE, &content)?));
        if let Err(error) = written {
            tracing::error!(error = format!("{error:#}"), "what the cluster told could not be kept");
        }
    }
}
