//! The connection to the cluster: enrolment, mutual TLS and the stream of assignments and reports.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use daemon::StateDirectory;
use link::{Backoff, Credentials, Dialled, Identity, JoinToken, SealingKey, SealingPublicKey, Subject};
use model::Assignment;
use proto::v1::{
    self, cluster_link_client::ClusterLinkClient, cluster_to_worker, worker_to_cluster::Message,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Streaming, transport::Channel};

use crate::{
    Config, FromCluster, ToCluster,
    beats::Beats,
    network::{NetManagerClient, Registration},
    service::ClusterEnds,
};

/// A connection that held for this long was good: the next attempt starts without delay.
const GOOD: Duration = Duration::from_secs(10);
/// Messages on their way to the cluster.
const OUTBOX: usize = 64;
/// An assignment with many services is one message.
const LARGEST_MESSAGE: usize = 64 << 20;
/// How long to leave a NetManager alone that could not be introduced to the cluster, first and later: after a boot it is
/// there a moment later, and instances wait for it.
const INTRODUCE_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// And one that was: it may be replaced by one that knows nothing.
const INTRODUCED: Duration = Duration::from_secs(30);

/// Joins the cluster if this device has not, then keeps the connection until `shutdown`.
///
/// # Errors
/// The cluster refuses this device for good, or its identity cannot be used.
pub(crate) async fn run(
    config: &Config,
    state: Arc<StateDirectory>,
    net_manager: Option<Arc<NetManagerClient>>,
    ends: ClusterEnds,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let address = config.cluster();
    let identity = tokio::select! {
        identity = link::join(&address, &state, || token(config)) => identity.context("join the cluster")?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let Subject::Worker { root, cluster, worker } = identity.subject() else {
        anyhow::bail!("the state directory belongs to {}; pass another --state-dir", identity.subject());
    };
    tracing::info!(%worker, %cluster, "this device is a worker of the cluster");
    let parent = Subject::Cluster { root, cluster };
    let sealing = SealingKey::load_or_generate(&state).context("open the key for secrets")?.public();
    let beats = Beats::new(ends.load.clone());
    let credentials = Arc::new(Credentials::new(state, identity));
    let mut uplink = Uplink { address, credentials, parent, net_manager, ends, beats, sealing };
    tokio::select! {
        () = uplink.hold() => {}
        () = shutdown.cancelled() => {}
    }
    Ok(())
}

fn token(config: &Config) -> Result<Option<JoinToken>, Box<dyn std::error::Error + Send + Sync>> {
    let text = config.token.as_deref().ok_or(
        "this device has not joined a cluster yet: create a token with `mangrove token create --worker` \
         and pass it as --token or MANGROVE_TOKEN",
    )?;
    Ok(Some(text.parse()?))
}

struct Uplink {
    address: String,
    credentials: Arc<Credentials>,
    parent: Subject,
    net_manager: Option<Arc<NetManagerClient>>,
    ends: ClusterEnds,
    /// Of the last connection on which the cluster asked for them; they outlive it.
    beats: Beats,
    /// What the cluster seals secrets for.
    sealing: SealingPublicKey,
}

impl Uplink {
    /// Connects, and connects again, until the service ends.
    async fn hold(&mut self) {
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let reason = match self.credentials.connect(&self.address, self.parent).await {
                Ok(dialled) => self.talk(dialled).await,
                Err(error) => error.to_string(),
            };
            if self.ends.to_service.send(FromCluster::Disconnected(reason.clone())).await.is_err() {
                return;
            }
            if started.elapsed() > GOOD {
                backoff.reset();
            }
            let wait = backoff.wait();
            tracing::warn!(
                cluster = self.address,
                reason,
                retry_in = ?wait,
                "the cluster is away; what is assigned keeps running"
            );
            sleep(wait).await;
        }
    }

    /// Talks until the connection ends; says why it did.
    async fn talk(&mut self, Dialled { channel, address }: Dialled) -> String {
        let (outbox, messages) = mpsc::channel(OUTBOX);
        // What was meant for the connection before is worth nothing on this one.
        while self.ends.from_service.try_recv().is_ok() {}
        if self.ends.to_service.send(FromCluster::Connected).await.is_err() {
            return "NodeEngine is stopping".to_owned();
        }
        let mut client = ClusterLinkClient::new(channel.clone()).max_decoding_message_size(LARGEST_MESSAGE);
        // The cluster answers once it has the inventory, so sending must not wait for the answer.
        let sending = pass_on(&mut self.ends.from_service, &self.sealing, &outbox);
        let credentials = Arc::clone(&self.credentials);
        let listening = async {
            match client.connect_worker(ReceiverStream::new(messages)).await {
                Ok(response) => {
                    tracing::info!(cluster = self.address, "connected to the cluster");
                    listen(response.into_inner(), &self.ends.to_service, &mut self.beats, address).await
                }
                Err(status) => {
                    credentials.refused(&status);
                    status.message().to_owned()
                }
            }
        };
        let introducing =
            introduce(self.net_manager.as_deref(), &self.credentials, &self.address, channel.clone());
        tokio::select! {
            reason = sending => reason,
            reason = listening => reason,
            never = introducing => match never {},
            never = credentials.keep_fresh(channel) => match never {},
        }
    }
}

async fn pass_on(
    from_service: &mut mpsc::Receiver<ToCluster>,
    sealing: &SealingPublicKey,
    outbox: &mpsc::Sender<v1::WorkerToCluster>,
) -> String {
    while let Some(message) = from_service.recv().await {
        let message = match message {
            ToCluster::Inventory(inventory) => Message::Inventory(v1::WorkerInventory {
                sealing_key: sealing.to_wire(),
                ..(&inventory).into()
            }),
            ToCluster::Report(report) => Message::Report((&report).into()),
            ToCluster::Echo { number } => Message::Echo(v1::Echo { number }),
            ToCluster::LogChunk { request, data } => Message::LogChunk(v1::LogChunk { request, data }),
            ToCluster::LogEnd { request, error } => {
                Message::LogEnd(v1::LogEnd { request, error: error.unwrap_or_default() })
            }
        };
        if outbox.send(v1::WorkerToCluster { message: Some(message) }).await.is_err() {
            return "the cluster stopped listening".to_owned();
        }
    }
    "NodeEngine is stopping".to_owned()
}

async fn listen(
    mut said: Streaming<v1::ClusterToWorker>,
    to_service: &mpsc::Sender<FromCluster>,
    beats: &mut Beats,
    parent: SocketAddr,
) -> String {
    loop {
        let message = match said.message().await {
            Ok(Some(v1::ClusterToWorker { message })) => message,
            Ok(None) => return "the cluster closed the connection".to_owned(),
            Err(status) => return status.message().to_owned(),
        };
        let news = match message {
            Some(cluster_to_worker::Message::Assignment(assignment)) => {
                match Assignment::try_from(assignment) {
                    Ok(assignment) => FromCluster::Assignment(assignment),
                    Err(error) => {
                        // Kept out whole: what is held stays as it is.
                        tracing::error!(%error, "the cluster sent an assignment that cannot be understood");
                        continue;
                    }
                }
            }
            Some(cluster_to_worker::Message::LogRequest(asked)) => {
                let Some(instance) = asked.instance.map(Into::into) else { continue };
                FromCluster::Logs { request: asked.request, instance, tail: asked.tail, follow: asked.follow }
            }
            Some(cluster_to_worker::Message::LogCancel(cancel)) => {
                FromCluster::CancelLogs { request: cancel.request }
            }
            Some(cluster_to_worker::Message::Echo(v1::Echo { number })) => FromCluster::Echo { number },
            Some(cluster_to_worker::Message::ReportRequest(v1::ReportRequest { anew })) => {
                FromCluster::ReportRequest { anew }
            }
            Some(cluster_to_worker::Message::Beats(ordered)) => {
                beats.order(parent, ordered);
                continue;
            }
            // A message of a later version is of no use here.
            None => continue,
        };
        if to_service.send(news).await.is_err() {
            return "NodeEngine is stopping".to_owned();
        }
    }
}

/// Makes NetManager a member of the cluster in its own right: its key stays with it, the cluster certifies it on the
/// word of this NodeEngine. Ends never.
async fn introduce(
    net_manager: Option<&NetManagerClient>,
    credentials: &Credentials,
    address: &str,
    channel: Channel,
) -> std::convert::Infallible {
    let Some(net_manager) = net_manager else { return std::future::pending().await };
    let mut backoff = Backoff::between(INTRODUCE_AGAIN.0, INTRODUCE_AGAIN.1);
    loop {
        match introduce_once(net_manager, &credentials.identity(), address, channel.clone()).await {
            Ok(()) => {
                backoff.reset();
                sleep(INTRODUCED).await;
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "NetManager has no part in the cluster yet");
                sleep(backoff.wait()).await;
            }
        }
    }
}

async fn introduce_once(
    net_manager: &NetManagerClient,
    identity: &Identity,
    address: &str,
    channel: Channel,
) -> anyhow::Result<()> {
    let Subject::Worker { root, cluster, worker } = identity.subject() else {
        anyhow::bail!("this NodeEngine is {}", identity.subject());
    };
    let registration = Registration {
        worker_id: worker.to_string(),
        cluster_id: cluster.to_string(),
        cluster_address: address.to_owned(),
        root_id: root.to_string(),
        ca_certificate: identity.authority_pem(),
    };
    let registered = net_manager.register(&registration).await.context("register at NetManager")?;
    let Some(certificate_request_pem) = registered.certificate_request else { return Ok(()) };
    let request = v1::CertificateRequest { certificate_request_pem };
    let answer = ClusterLinkClient::new(channel).certify_network(request).await;
    let certificate = answer
        .map_err(|status| anyhow::anyhow!("the cluster did not certify it: {}", status.message()))?
        .into_inner();
    net_manager
        .install_certificate(&certificate.certificate_pem)
        .await
        .context("hand NetManager its certificate")
}
