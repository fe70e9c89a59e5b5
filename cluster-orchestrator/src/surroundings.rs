//! What happens around the brain: documents to the store, assignments and leases to workers, news to the root.

use std::sync::Arc;

use cluster_core::{Change, Effect, Notice, State};
use control::Surroundings;
use link::{Revocations, Revoked, Sealer, SealingKey};
use model::{Assignment, Now, WorkerId};
use proto::v1;
use store::Write;

use crate::{beats::Beats, documents, links::Links, news::News, relays::Relays};

pub(crate) struct ClusterSurroundings {
    links: Arc<Links>,
    beats: Arc<Beats>,
    relays: Arc<Relays>,
    sealing: SealingKey,
    sealer: Sealer,
    revocations: Revocations,
    news: Arc<News>,
}

impl ClusterSurroundings {
    pub(crate) fn new(
        links: Arc<Links>,
        beats: Arc<Beats>,
        relays: Arc<Relays>,
        revocations: Revocations,
        sealing: SealingKey,
        news: Arc<News>,
    ) -> Self {
        Self { links, beats, relays, revocations, sealing, sealer: Sealer::default(), news }
    }

    /// Opens what was sealed for this cluster, and seals it for the worker.
    fn seal_for(&mut self, worker: WorkerId, assignment: Assignment) -> Assignment {
        if assignment.secrets.is_empty() {
            return assignment;
        }
        let Some(key) = self.links.sealing_key_of(worker) else {
            tracing::warn!(%worker, "the worker gave no key for secrets, so it gets none; is it an older NodeEngine?");
            return Assignment { secrets: Arc::default(), ..assignment };
        };
        let open = |version| {
            let opened = self.sealing.open(version, assignment.secrets.get(&version)?);
            opened.inspect_err(|error| tracing::error!(%worker, "a secret is not passed on: {error}")).ok()
        };
        let secrets = self.sealer.seal_all(&key, assignment.secrets.keys().copied(), open);
        Assignment { secrets: Arc::new(secrets), ..assignment }
    }
}

impl Surroundings<State> for ClusterSurroundings {
    fn write(&self, change: &Change) -> Write {
        documents::write(change)
    }

    fn take_in(&mut self, state: &mut State, now: Now) -> bool {
        self.beats.take_in(state, now)
    }

    fn after_commit(&mut self, state: &State, changes: &[Change], effects: Vec<Effect>) {
        if changes.iter().any(|change| matches!(change, Change::Revoked(_))) {
            self.revocations.replace(state.revoked().map(Revoked::Worker).collect());
        }
        self.news.changed(changes);
        for effect in effects {
            match effect {
                Effect::SendAssignment { worker, session, assignment } => {
                    let assignment = self.seal_for(worker, assignment);
                    let message = v1::cluster_to_worker::Message::Assignment((&assignment).into());
                    self.links.send_over(worker, session, message);
                }
                Effect::SetBeats { worker, session, interval_millis } => {
                    if let Some(order) = self.beats.order(worker, session, interval_millis) {
                        self.links.send_over(worker, session, v1::cluster_to_worker::Message::Beats(order));
                    }
                }
                Effect::AskForBeat { worker, session } => self.beats.ask(worker, session),
                Effect::RequestReport { worker, session, anew } => {
                    let request = v1::cluster_to_worker::Message::ReportRequest(v1::ReportRequest { anew });
                    self.links.send_over(worker, session, request);
                }
                Effect::Report { about } => self.news.add(about),
                Effect::TellNeighbour { session, to, epoch, news } => {
                    let told = v1::ToNeighbour::new(to, epoch, &news);
                    self.links.send_over_to_root(session, v1::cluster_to_root::Message::ToNeighbour(told));
                }
                Effect::OfferRelay { worker, session, key } => {
                    self.relays.offer(&self.links, worker, session, key);
                }
                Effect::Note(notice) => note(&notice),
                Effect::CloseRelay { worker } => self.relays.close(worker),
                Effect::TellNetwork { worker, session, lease, news } => {
                    self.links.send_to_network(
                        worker,
                        session,
                        proto::network_message(lease.as_ref(), &news),
                    );
                }
            }
        }
    }
}

fn note(notice: &Notice) {
    match notice {
        Notice::WorkerLost { worker, silent_millis } => {
            tracing::warn!(%worker, silent_millis, "the worker is lost; is its device on, and does its UDP get here?");
        }
        Notice::WorkerBack { worker } => tracing::info!(%worker, "the worker is back"),
        Notice::Replaced { instance, from, to } => {
            tracing::info!(%instance, %from, %to, "the instance goes to another worker");
        }
    }
}
