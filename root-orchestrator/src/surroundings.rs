//! What happens around the brain: documents to the store, assignments to clusters, news to watchers.

use std::{collections::BTreeSet, sync::Arc};

use control::Surroundings;
use link::{Revocations, Revoked, Sealer};
use model::{Assignment, ClusterId, ServiceId};
use proto::v1;
use root_core::{Change, Effect, RevokedId, State};
use store::Write;
use tokio::sync::broadcast;

use crate::{documents, hooks::Messenger, lending::Lending, links::Links, vault::Vault};

/// News a watcher may be behind by before it is sent everything again.
const WATCH_BACKLOG: usize = 1024;

/// Announces services that changed, themselves or an instance of theirs.
pub(crate) type Watch = broadcast::Sender<ServiceId>;

pub(crate) struct RootSurroundings {
    links: Arc<Links>,
    lending: Option<Arc<Lending>>,
    vault: Arc<Vault>,
    sealer: Sealer,
    revocations: Revocations,
    messenger: Messenger,
    watch: Watch,
}

impl RootSurroundings {
    pub(crate) fn new(
        links: Arc<Links>,
        lending: Option<Arc<Lending>>,
        revocations: Revocations,
        vault: Arc<Vault>,
        messenger: Messenger,
    ) -> (Self, Watch) {
        let (watch, _) = broadcast::channel(WATCH_BACKLOG);
        let sealer = Sealer::default();
        (Self { links, lending, revocations, vault, sealer, messenger, watch: watch.clone() }, watch)
    }

    /// Seals for a cluster the secrets that its assignment refers to.
    fn seal_for(&mut self, state: &State, cluster: ClusterId, assignment: Assignment) -> Assignment {
        let wanted = assignment.secret_versions();
        if wanted.is_empty() {
            return assignment;
        }
        let Some(key) = self.links.sealing_key_of(cluster) else {
            tracing::warn!(%cluster, "the cluster gave no key for secrets, so it gets none; is it of an older version?");
            return assignment;
        };
        let open = |version| {
            let value = self.vault.unseal(version, state.envelope(version)?);
            if value.is_none() {
                tracing::error!(%version, "a secret cannot be opened: it was changed in the store; restore a backup");
            }
            value
        };
        Assignment { secrets: Arc::new(self.sealer.seal_all(&key, wanted, open)), ..assignment }
    }

    /// Only devices of clusters there are, and are not revoked, may use the relay.
    fn lend(&self, state: &State, changes: &[Change]) {
        let Some(lending) = &self.lending else { return };
        for change in changes {
            match change {
                Change::Cluster(id, None) => lending.expel(*id),
                Change::Cluster(id, Some(_)) if state.revocation(*id, None).is_none() => lending.admit(*id),
                Change::Revocation(RevokedId { cluster, worker: None }, Some(_)) => lending.expel(*cluster),
                Change::Application(..)
                | Change::Cluster(..)
                | Change::Service(..)
                | Change::Instance(..)
                | Change::Token(..)
                | Change::Certificate(..)
                | Change::Revocation(..)
                | Change::Secret(..)
                | Change::Hook(..)
                | Change::Delivery(..)
                | Change::ResourceType(..)
                | Change::Object(..)
                | Change::Resource(..)
                | Change::Workflow(_)
                | Change::Blocks(_)
                | Change::AuditRecord(..)
                | Change::AuditEnds(_)
                | Change::AuditMark(..)
                | Change::People(_) => {}
            }
        }
    }
}

impl Surroundings<State> for RootSurroundings {
    fn write(&self, change: &Change) -> Write {
        documents::write(change)
    }

    fn after_commit(&mut self, state: &State, changes: &[Change], effects: Vec<Effect>) {
        self.lend(state, changes);
        if changes.iter().any(|change| matches!(change, Change::Revocation(..))) {
            self.revocations.replace(revoked(state));
        }
        for effect in effects {
            match effect {
                Effect::SendAssignment { cluster, session, assignment } => {
                    let assignment = self.seal_for(state, cluster, assignment);
                    let message = v1::root_to_cluster::Message::Assignment((&assignment).into());
                    self.links.send_over(cluster, session, message);
                }
                Effect::SendTokens { cluster, session, tokens, settled } => {
                    let tokens = v1::WorkerTokens {
                        tokens: tokens.iter().map(Into::into).collect(),
                        settled: settled.iter().map(Into::into).collect(),
                    };
                    self.links.send_over(cluster, session, v1::root_to_cluster::Message::Tokens(tokens));
                }
                Effect::SendRevocations { cluster, session, workers } => {
                    let workers = v1::RevokedWorkers { workers: workers.iter().map(Into::into).collect() };
                    self.links.send_over(cluster, session, v1::root_to_cluster::Message::Revoked(workers));
                }
                Effect::TellNeighbours { cluster, session, neighbours } => {
                    let message = v1::root_to_cluster::Message::Neighbours((&neighbours).into());
                    self.links.send_over(cluster, session, message);
                }
                Effect::PassOn { cluster, session, from, news } => {
                    let passed = v1::FromNeighbour::new(from, &news);
                    let message = v1::root_to_cluster::Message::FromNeighbour(passed);
                    self.links.send_over(cluster, session, message);
                }
                Effect::Deliver(id) => self.messenger.deliver(state, id),
                Effect::CallAction(call) => self.messenger.call(state, *call),
            }
        }
        let changed: BTreeSet<ServiceId> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Service(id, _) => Some(*id),
                Change::Instance(id, instance) => {
                    log_refusal(state, instance.as_ref());
                    Some(id.service)
                }
                Change::Application(..)
                | Change::Cluster(..)
                | Change::Token(..)
                | Change::Certificate(..)
                | Change::Revocation(..)
                | Change::Secret(..)
                | Change::Hook(..)
                | Change::Delivery(..)
                | Change::ResourceType(..)
                | Change::Object(..)
                | Change::Resource(..)
                | Change::Workflow(_)
                | Change::Blocks(_)
                | Change::AuditRecord(..)
                | Change::AuditEnds(_)
                | Change::AuditMark(..)
                | Change::People(_) => None,
            })
            .collect();
        for service in changed {
            // Nobody watching is fine.
            drop(self.watch.send(service));
        }
    }
}

/// Whose certificates count no more at the port for clusters.
pub(crate) fn revoked(state: &State) -> BTreeSet<Revoked> {
    let clusters = state.revocations().filter(|revocation| revocation.id.worker.is_none());
    clusters.map(|revocation| Revoked::Cluster(revocation.id.cluster)).collect()
}

/// A deployment that finds no place is told to the log too, in the words the user reads.
fn log_refusal(state: &State, instance: Option<&root_core::Instance>) {
    let Some(instance) = instance else { return };
    let Some(refusal) = &instance.report.refusal else { return };
    let service = state.service(instance.id.service).map(|service| service.names.to_string());
    tracing::warn!(service, instance = %instance.id, "{refusal}");
}
