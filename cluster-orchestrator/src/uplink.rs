//! The one connection to the root: dialled for ever, reports up, assignments down.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use link::{Backoff, Credentials, Dialled, SealingKey, Subject};
use model::{
    Assignment, ClusterReport, ClusterRequest, InstanceId, InstanceReport, Neighbours, Output, RelayLoan,
    RevokedWorker, SpentToken, WorkerToken,
};
use proto::v1::{self, cluster_to_root, root_link_client::RootLinkClient, root_to_cluster};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::{
    Brain, Config,
    certifier::Certifier,
    links::Links,
    news::{News, Pace},
    relays::Relays,
};

/// How often the root hears of loads and usage when nothing else happens.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A connection that held for this long was good: the next attempt starts without delay.
const GOOD: Duration = Duration::from_secs(10);
/// Many instances change together; what changes within this is told at once.
const BETWEEN_REPORTS: Duration = Duration::from_millis(10);
/// Messages on their way to the root.
const OUTBOX: usize = 1024;
const LARGEST_MESSAGE: usize = 64 << 20;

pub(crate) struct Uplink {
    pub(crate) brain: Brain,
    pub(crate) links: Arc<Links>,
    pub(crate) news: Arc<News>,
    pub(crate) certifier: Arc<Certifier>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) relays: Arc<Relays>,
    pub(crate) sealing: SealingKey,
    /// Lets the workers' side pass requests on to the root while it is there.
    pub(crate) root_channel: watch::Sender<Option<Channel>>,
    pub(crate) config: Config,
}

impl Uplink {
    /// Connects, and connects again, for ever.
    pub(crate) async fn hold(mut self) {
        let root = self.config.root();
        let parent = Subject::Root { root: self.credentials.identity().subject().root() };
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let reason = match self.credentials.connect(&root, parent).await {
                Ok(dialled) => self.talk(dialled).await,
                Err(error) => error.to_string(),
            };
            self.links.disconnect_root();
            self.root_channel.send_replace(None);
            if started.elapsed() > GOOD {
                backoff.reset();
            }
            let wait = backoff.wait();
            tracing::warn!(root, reason, retry_in = ?wait, "the root is away; the cluster goes on without it");
            tokio::time::sleep(wait).await;
        }
    }

    /// Talks until the connection ends; says why it did.
    async fn talk(&mut self, Dialled { channel, address }: Dialled) -> String {
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let hello = v1::ClusterHello {
            name: self.config.name.clone(),
            location: self.config.location.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            observed_generation: self.brain.read().await.generation().0,
            sealing_key: self.sealing.public().to_wire(),
        };
        if send(&outbox, cluster_to_root::Message::Hello(hello)).await.is_err() {
            return "the connection closed at once".to_owned();
        }
        let mut client = RootLinkClient::new(channel.clone()).max_decoding_message_size(LARGEST_MESSAGE);
        let mut said = match client.connect(ReceiverStream::new(messages)).await {
            Ok(response) => response.into_inner(),
            Err(status) => {
                self.credentials.refused(&status);
                return status.message().to_owned();
            }
        };
        tracing::info!(root = self.config.root(), "connected to the root");
        let (number, cut) = self.links.connect_root(outbox.clone());
        self.root_channel.send_replace(Some(channel.clone()));
        let brain = self.brain.clone();
        let (certifier, credentials) = (Arc::clone(&self.certifier), Arc::clone(&self.credentials));
        tokio::select! {
            reason = self.listen(number, address.ip().to_canonical(), &mut said) => reason,
            () = cut.cancelled() => "the root does not read what it is sent".to_owned(),
            reason = report(&brain, &self.news, &outbox) => reason,
            never = certifier.keep_authority(channel.clone()) => match never {},
            never = credentials.keep_fresh(channel) => match never {},
        }
    }

    async fn listen(&self, number: u64, root: IpAddr, said: &mut Streaming<v1::RootToCluster>) -> String {
        loop {
            let message = match said.message().await {
                Ok(Some(v1::RootToCluster { message })) => message,
                Ok(None) => return "the root closed the connection".to_owned(),
                Err(status) => return status.message().to_owned(),
            };
            match message {
                Some(root_to_cluster::Message::Assignment(assignment)) => self.take_on(assignment).await,
                Some(root_to_cluster::Message::LogRequest(asked)) => {
                    let instance = asked.instance.map(InstanceId::from);
                    let state = self.brain.read().await;
                    let worker = instance.and_then(|id| state.connected_worker_of(id));
                    self.links.log_asked(asked, worker);
                }
                Some(root_to_cluster::Message::LogCancel(cancel)) => self.links.log_cancelled(cancel),
                Some(root_to_cluster::Message::Tokens(tokens)) => self.honour(tokens).await,
                Some(root_to_cluster::Message::Revoked(revoked)) => self.revoke(revoked).await,
                Some(root_to_cluster::Message::Request(asked)) => self.answer(asked).await,
                Some(root_to_cluster::Message::Neighbours(named)) => self.neighbours(number, named).await,
                Some(root_to_cluster::Message::FromNeighbour(said)) => self.neighbour_said(said).await,
                Some(root_to_cluster::Message::Relay(lent)) => match RelayLoan::try_from(lent) {
                    Ok(lent) => self.relays.borrow(&self.links, lent, root),
                    Err(error) => {
                        tracing::error!(%error, "the root lends its relay in a way that cannot be understood");
                    }
                },
                // A message of a later version is of no use here.
                None => {}
            }
        }
    }

    /// Keeps the tokens this cluster may honour by itself.
    async fn honour(&self, sent: v1::WorkerTokens) {
        let tokens: Result<Vec<WorkerToken>, _> = sent.tokens.into_iter().map(TryInto::try_into).collect();
        let settled: Result<Vec<SpentToken>, _> = sent.settled.into_iter().map(TryInto::try_into).collect();
        let (tokens, settled) = match (tokens, settled) {
            (Ok(tokens), Ok(settled)) => (tokens, settled),
            (Err(error), _) | (_, Err(error)) => {
                return tracing::error!(%error, "the root sent tokens that cannot be understood");
            }
        };
        let kept = self.brain.observe(move |state, _| state.honour(tokens, &settled)).await;
        if let Err(stopping) = kept {
            tracing::debug!(%stopping, "tokens came too late");
        }
    }

    /// Lets in no more whom the root names.
    async fn revoke(&self, revoked: v1::RevokedWorkers) {
        let workers: Result<Vec<RevokedWorker>, _> =
            revoked.workers.into_iter().map(TryInto::try_into).collect();
        let workers = match workers {
            Ok(workers) => workers,
            Err(error) => {
                return tracing::error!(%error, "the root revokes certificates in a way that cannot be understood");
            }
        };
        if let Err(stopping) = self.brain.observe(move |state, _| state.revoke(&workers)).await {
            tracing::debug!(%stopping, "revocations came too late");
        }
    }

    /// Answers what a person asks of the workers, by way of the root.
    async fn answer(&self, asked: v1::ClusterRequest) {
        let request = asked.request;
        let wish = match ClusterRequest::try_from(asked) {
            Ok(wish) => wish,
            Err(error) => return tracing::error!(%error, "the root asks something that cannot be understood"),
        };
        let answered = self
            .brain
            .ask(move |state, now| Ok::<_, std::convert::Infallible>(state.request(&wish, now)))
            .await;
        if let Ok(Ok(answer)) = answered {
            let answer = v1::ClusterAnswer::new(request, answer);
            // A root that does not read loses its answers and is told so by its own deadline.
            self.links.send_to_root(cluster_to_root::Message::Answer(answer));
        }
    }

    /// The root says who has instances of the same applications.
    async fn neighbours(&self, number: u64, named: v1::Neighbours) {
        let named = match Neighbours::try_from(named) {
            Ok(named) => named,
            Err(error) => {
                return tracing::error!(%error, "the root names neighbours that cannot be understood");
            }
        };
        if let Err(stopping) = self.brain.observe(move |state, _| state.neighbours_named(number, named)).await
        {
            tracing::debug!(%stopping, "neighbours came too late");
        }
    }

    /// A neighbour says, by way of the root, which instances it has.
    async fn neighbour_said(&self, said: v1::FromNeighbour) {
        let (from, news) = match said.read() {
            Ok(said) => said,
            Err(error) => return tracing::warn!(%error, "a neighbour says what cannot be understood"),
        };
        let heard = self
            .brain
            .ask(move |state, _| Ok::<_, std::convert::Infallible>(state.neighbour_said(from, news)))
            .await;
        for why in heard.into_iter().flatten().flatten() {
            tracing::warn!(neighbour = %from, "a neighbour says what it may not, which is left out: {why}");
        }
    }

    async fn take_on(&self, assignment: v1::Assignment) {
        let assignment = match Assignment::try_from(assignment) {
            Ok(assignment) => assignment,
            Err(error) => {
                // Kept out whole: what is held stays as it is.
                tracing::error!(%error, "the root sent an assignment that cannot be understood");
                return;
            }
        };
        let taken = self
            .brain
            .ask(move |state, now| state.take_on(assignment, now).map(|changes| ((), changes)))
            .await;
        match taken {
            Ok(Ok(())) => {}
            Ok(Err(stale)) => tracing::debug!(%stale, "an old assignment was left aside"),
            Err(stopping) => tracing::debug!(%stopping, "an assignment came too late"),
        }
    }
}

/// Sends a report after every change, of what it changed, and at every heartbeat of all that is new; says why it stopped.
async fn report(brain: &Brain, news: &News, outbox: &mpsc::Sender<v1::ClusterToRoot>) -> String {
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = Told::default();
    let mut pace = Pace::new(Instant::now());
    loop {
        let report = tokio::select! {
            // First, so that a new connection begins with everything.
            biased;
            _ = heartbeat.tick() => {
                // Before the state is read: what changes afterwards is for the next one.
                news.take();
                told.what_is_new(brain.read().await.report(told.reports + 1, daemon::present()))
            }
            () = news.wait(pace.next()) => {
                let about = news.take();
                if about.is_empty() {
                    pace.sums_alone(Instant::now());
                }
                told.of_some(brain.read().await.report_about(&about, told.reports + 1, daemon::present()))
            }
        };
        if send(outbox, cluster_to_root::Message::Report((&report).into())).await.is_err() {
            return "the root stopped listening".to_owned();
        }
        pace.told(Instant::now());
        tokio::time::sleep(BETWEEN_REPORTS).await;
    }
}

/// What this connection has carried: an instance that has not changed since need not be told again.
#[derive(Debug, Default)]
struct Told {
    reports: u64,
    instances: BTreeMap<InstanceId, InstanceReport>,
}

impl Told {
    /// Of a whole report.
    fn what_is_new(&mut self, report: ClusterReport) -> ClusterReport {
        let held: BTreeSet<InstanceId> = report.instances.iter().map(|said| said.id).collect();
        self.instances.retain(|id, _| held.contains(id));
        self.of_some(report)
    }

    /// Of a report that tells of some instances only. An instance whose output finds no room is left to the next heartbeat.
    fn of_some(&mut self, mut report: ClusterReport) -> ClusterReport {
        self.reports = report.sequence;
        let mut room = Output::BYTES_IN_A_REPORT;
        report.instances.retain(|said| {
            if self.instances.get(&said.id) == Some(said) {
                return false;
            }
            let output = said.last_exit.as_ref().and_then(|exit| exit.output.as_ref());
            let Some(left) = room.checked_sub(output.map_or(0, Output::bytes)) else { return false };
            room = left;
            self.instances.insert(said.id, said.clone());
            true
        });
        report
    }
}

async fn send(
    outbox: &mpsc::Sender<v1::ClusterToRoot>,
    message: cluster_to_root::Message,
) -> Result<(), mpsc::error::SendError<v1::ClusterToRoot>> {
    outbox.send(v1::ClusterToRoot { message: Some(message) }).await
}

#[cfg(test)]
mod tests {
    use model::{Generation, LastExit, Phase, ServiceId, Timestamp};

    use super::*;

    #[test]
    fn what_finds_no_room_in_a_report_is_told_by_the_next() {
        let long: std::sync::Arc<str> = "x".repeat(Output::MAX_BYTES).into();
        let all = |sequence| {
            let wrote = |number| {
                let id = InstanceId { service: ServiceId::from_bytes([7; 12]), number };
                let mut report = InstanceReport::new(id, Generation(1), Phase::Completed, Timestamp(1));
                let output = Some(Output::Text(std::sync::Arc::clone(&long)));
                report.last_exit = Some(LastExit { output, ..LastExit::new(0, Timestamp(1)) });
                report
            };
            ClusterReport { sequence, instances: (0..100).map(wrote).collect(), ..ClusterReport::default() }
        };
        let mut told = Told::default();
        let in_reports = [1, 2, 3].map(|sequence| told.what_is_new(all(sequence)).instances.len());
        assert_eq!(in_reports, [64, 36, 0]);
    }
}
