//! What the root has yet to hear of: gathered after each commit, taken by the next report over the connection to it.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use cluster_core::Change;
use model::InstanceId;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct News {
    /// Of these instances; sums are in every report.
    about: Mutex<BTreeSet<InstanceId>>,
    there: Notify,
}

impl News {
    /// Some of what was committed a report would tell of.
    pub(crate) fn changed(&self, changes: &[Change]) {
        if changes.iter().any(Change::concerns_the_root) {
            self.add(changes.iter().filter_map(Change::instance));
        }
    }

    /// Sums are others than they were, and something is to be told of these.
    pub(crate) fn add(&self, instances: impl IntoIterator<Item = InstanceId>) {
        self.about.lock().unwrap_or_else(PoisonError::into_inner).extend(instances);
        self.there.notify_one();
    }

    /// Waits until there is something to tell. Nothing is lost if nobody waits any longer.
    pub(crate) async fn wait(&self) {
        self.there.notified().await;
    }

    /// What is to be told of, from now on no more.
    pub(crate) fn take(&self) -> BTreeSet<InstanceId> {
        std::mem::take(&mut *self.about.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
