//! The one connection to the root: dialled for ever, reports up, assignments down.

use std::{sync::Arc, time::Duration};

use link::{Backoff, Dial, Identity, Subject, dial};
use model::Assignment;
use proto::v1::{self, cluster_to_root, root_link_client::RootLinkClient, root_to_cluster};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::{Brain, Config, links::Links, surroundings::News};

/// How often the root hears of loads and usage when nothing else happens.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A connection that held for this long was good: the next attempt starts without delay.
const GOOD: Duration = Duration::from_secs(10);
/// Messages on their way to the root.
const OUTBOX: usize = 1024;
const LARGEST_MESSAGE: usize = 64 << 20;

pub(crate) struct Uplink {
    pub(crate) brain: Brain,
    pub(crate) links: Arc<Links>,
    pub(crate) news: News,
    /// Lets the workers' side pass requests on to the root while it is there.
    pub(crate) root_channel: watch::Sender<Option<Channel>>,
    pub(crate) config: Config,
}

impl Uplink {
    /// Connects, and connects again, for ever.
    pub(crate) async fn hold(mut self, identity: &Identity) {
        let root = self.config.root();
        let parent = Subject::Root { root: identity.subject().root() };
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let reason = match dial(&root, Dial::As(identity, parent)).await {
                Ok(channel) => self.talk(channel).await,
                Err(error) => error.to_string(),
            };
            self.links.set_root(None);
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
    async fn talk(&mut self, channel: Channel) -> String {
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let hello = v1::ClusterHello {
            name: self.config.name.clone(),
            location: self.config.location.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            observed_generation: self.brain.read().await.generation().0,
        };
        if send(&outbox, cluster_to_root::Message::Hello(hello)).await.is_err() {
            return "the connection closed at once".to_owned();
        }
        let mut client = RootLinkClient::new(channel.clone()).max_decoding_message_size(LARGEST_MESSAGE);
        let mut said = match client.connect(ReceiverStream::new(messages)).await {
            Ok(response) => response.into_inner(),
            Err(status) => return status.message().to_owned(),
        };
        tracing::info!(root = self.config.root(), "connected to the root");
        self.links.set_root(Some(outbox.clone()));
        self.root_channel.send_replace(Some(channel));
        let brain = self.brain.clone();
        tokio::select! {
            reason = self.listen(&mut said) => reason,
            reason = report(&brain, self.news.clone(), &outbox) => reason,
        }
    }

    async fn listen(&self, said: &mut Streaming<v1::RootToCluster>) -> String {
        loop {
            let message = match said.message().await {
                Ok(Some(v1::RootToCluster { message })) => message,
                Ok(None) => return "the root closed the connection".to_owned(),
                Err(status) => return status.message().to_owned(),
            };
            match message {
                Some(root_to_cluster::Message::Assignment(assignment)) => self.take_on(assignment).await,
                Some(root_to_cluster::Message::LogRequest(asked)) => {
                    let instance = asked.instance.clone().and_then(|id| id.try_into().ok());
                    let state = self.brain.read().await;
                    let worker = instance.and_then(|id| state.connected_worker_of(id));
                    self.links.log_asked(asked, worker);
                }
                Some(root_to_cluster::Message::LogCancel(cancel)) => self.links.log_cancelled(cancel),
                // A message of a later version is of no use here.
                None => {}
            }
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

/// Sends the whole report after every change and at every heartbeat; says why it stopped.
async fn report(brain: &Brain, mut news: News, outbox: &mpsc::Sender<v1::ClusterToRoot>) -> String {
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    news.mark_changed();
    loop {
        tokio::select! {
            changed = news.changed() => if changed.is_err() { return "the cluster is stopping".to_owned() },
            _ = heartbeat.tick() => {}
        }
        let report = brain.read().await.report(daemon::now());
        if send(outbox, cluster_to_root::Message::Report((&report).into())).await.is_err() {
            return "the root stopped listening".to_owned();
        }
        heartbeat.reset();
    }
}

async fn send(
    outbox: &mpsc::Sender<v1::ClusterToRoot>,
    message: cluster_to_root::Message,
) -> Result<(), mpsc::error::SendError<v1::ClusterToRoot>> {
    outbox.send(v1::ClusterToRoot { message: Some(message) }).await
}
