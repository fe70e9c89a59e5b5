//! What happens around the brain: documents to the store, assignments and leases to workers, news to the root.

use std::sync::Arc;

use cluster_core::{Change, Effect, State};
use control::Surroundings;
use proto::v1;
use store::Write;
use tokio::sync::watch;

use crate::{documents, links::Links};

/// Counts turns that the root should hear of.
pub(crate) type News = watch::Receiver<u64>;

pub(crate) struct ClusterSurroundings {
    links: Arc<Links>,
    news: watch::Sender<u64>,
}

impl ClusterSurroundings {
    pub(crate) fn new(links: Arc<Links>) -> (Self, News) {
        let (news, receiver) = watch::channel(0);
        (Self { links, news }, receiver)
    }
}

impl Surroundings<State> for ClusterSurroundings {
    fn write(&self, change: &Change) -> Write {
        documents::write(change)
    }

    fn after_commit(&mut self, _state: &State, changes: &[Change], effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::SendAssignment { worker, assignment } => {
                    let message = v1::cluster_to_worker::Message::Assignment((&assignment).into());
                    self.links.send_to_worker(worker, message);
                }
                Effect::SendLease { worker, lease } => {
                    let lease = v1::ClusterToNetwork { lease: lease.as_ref().map(Into::into) };
                    self.links.send_to_network(worker, lease);
                }
            }
        }
        if !changes.is_empty() {
            self.news.send_modify(|turn| *turn += 1);
        }
    }
}
