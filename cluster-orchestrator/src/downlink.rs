//! What workers may call: enrolment, the connection of each NodeEngine, and that of each NetManager.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use link::{Identity, Revocations, SealingPublicKey, Subject, peer_of, renewing_peer, require_peer};
use model::{ClusterId, WorkerId, WorkerInventory, WorkerReport};
use proto::v1::{
    self, cluster_link_server::ClusterLinkServer, enrolment_server::EnrolmentServer,
    worker_to_cluster::Message,
};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{Request, Response, Status, Streaming, transport::Channel};
use uuid::Uuid;

use crate::{Brain, beats::Beats, certifier::Certifier, links::Links};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Of those who knock the brain hears as often as this, and only for so long after a start as it may matter.
const BETWEEN_KNOCKS: Duration = Duration::from_millis(500);
const KNOCKS_MATTER: Duration = Duration::from_millis(cluster_core::COMING_BACK_AT_MOST_MILLIS);

/// See the module's description. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Downlink {
    pub(crate) brain: Brain,
    pub(crate) links: Arc<Links>,
    pub(crate) beats: Arc<Beats>,
    pub(crate) certifier: Arc<Certifier>,
    pub(crate) root_channels: watch::Receiver<Option<Channel>>,
    pub(crate) revocations: Revocations,
    pub(crate) root: Uuid,
    pub(crate) cluster: ClusterId,
    pub(crate) shutdown: CancellationToken,
}

impl Downlink {
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        identity: watch::Receiver<Identity>,
    ) -> io::Result<()> {
        let (shutdown, revocations) = (self.shutdown.clone(), self.revocations.clone());
        let knocks = Arc::new(Notify::new());
        let knocked = {
            let knocks = Arc::clone(&knocks);
            move || knocks.notify_one()
        };
        let _hearing = AbortOnDropHandle::new(tokio::spawn(hear_knocks(knocks, self.brain.clone())));
        let routes = |mut server: tonic::transport::Server| {
            server.add_service(EnrolmentServer::new(self.clone())).add_service(ClusterLinkServer::new(self))
        };
        link::serve(listener, identity, revocations, knocked, routes, shutdown).await
    }

    fn calling_worker<T>(&self, request: &Request<T>) -> Result<WorkerId, Status> {
        match require_peer(request)? {
            Subject::Worker { root, cluster, worker } if (root, cluster) == (self.root, self.cluster) => {
                Ok(worker)
            }
            Subject::Worker { .. } => {
                Err(Status::permission_denied("the certificate is of a worker of another cluster"))
            }
            Subject::Root { .. } | Subject::Cluster { .. } | Subject::Network { .. } => {
                Err(Status::permission_denied("only a NodeEngine may call this"))
            }
        }
    }

    fn calling_network<T>(&self, request: &Request<T>) -> Result<WorkerId, Status> {
        match require_peer(request)? {
            Subject::Network { root, cluster, worker } if (root, cluster) == (self.root, self.cluster) => {
                Ok(worker)
            }
            Subject::Network { .. } => {
                Err(Status::permission_denied("the certificate is of a NetManager of another cluster"))
            }
            Subject::Root { .. } | Subject::Cluster { .. } | Subject::Worker { .. } => {
                Err(Status::permission_denied("only a NetManager may call this"))
            }
        }
    }

    async fn listen(
        &self,
        worker: WorkerId,
        number: u64,
        said: &mut Streaming<v1::WorkerToCluster>,
    ) -> Result<(), Status> {
        while let Some(v1::WorkerToCluster { message }) = said.message().await? {
            match message {
                Some(Message::Report(report)) => {
                    let report = WorkerReport::try_from(report)?;
                    self.brain
                        .notice(move |state, now| state.worker_reported(worker, number, report, now))
                        .await
                        .map_err(stopping)?;
                }
                Some(Message::LogChunk(chunk)) => self.links.log_chunk(worker, chunk),
                Some(Message::LogEnd(end)) => self.links.log_ended(Some(worker), end),
                Some(Message::Echo(echo)) => self.send_back(worker, number, echo).await?,
                // A second inventory changes nothing; a message of a later version is of no use here.
                Some(Message::Inventory(_)) | None => {}
            }
        }
        Ok(())
    }

    /// A NetManager says where its device is reached, until it is gone.
    async fn listen_to_network(
        &self,
        worker: WorkerId,
        number: u64,
        said: &mut Streaming<v1::NetworkToCluster>,
    ) -> Result<(), Status> {
        while let Some(v1::NetworkToCluster { mailbox, .. }) = said.message().await? {
            let Some(mailbox) = mailbox else { continue };
            let at_root = proto::read_mailbox(&mailbox)?;
            let observed = self.brain.observe(move |state, _| {
                state.network_at_root(worker, number, at_root);
                Vec::new()
            });
            observed.await.map_err(stopping)?;
        }
        Ok(())
    }

    /// Answers a worker that wants to know whether it is cut off, after everything it was to be told before: a copy that
    /// stopped for being cut off must not start again before the worker has heard that another has taken its place.
    async fn send_back(&self, worker: WorkerId, number: u64, echo: v1::Echo) -> Result<(), Status> {
        // The answer to the first comes before the effects of its turn, that to the second after them.
        for _ in 0..2 {
            let turn = self.brain.ask(|_, _| Ok::<_, std::convert::Infallible>(((), Vec::new())));
            let Ok(()) = turn.await.map_err(stopping)?;
        }
        self.links.send_over(worker, number, v1::cluster_to_worker::Message::Echo(echo));
        Ok(())
    }

    async fn worker_left(&self, worker: WorkerId, number: u64, ended: Result<(), Status>) {
        if !self.links.disconnect_worker(worker, number) {
            // Another connection of the same worker counts now.
            return;
        }
        match ended {
            Ok(()) => tracing::info!(%worker, "worker disconnected"),
            Err(status) => tracing::warn!(%worker, reason = status.message(), "worker disconnected"),
        }
        let observed = self.brain.observe(move |state, now| {
            state.worker_disconnected(worker, number, now);
            Vec::new()
        });
        if observed.await.is_err() {
            tracing::debug!("stopping; nobody is left to tell");
        }
    }
}

fn stopping(error: control::Stopping) -> Status {
    Status::unavailable(error.to_string())
}

#[tonic::async_trait]
impl v1::enrolment_server::Enrolment for Downlink {
    /// Passed on to the root, which knows all tokens; while it is away, decided here.
    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::Certificate>, Status> {
        let address = peer_of(&request).address;
        let request = request.into_inner();
        let certificate = self.certifier.enrol(request, &self.root_channels, &self.brain).await?;
        tracing::info!(subject = certificate.subject, %address, "a worker joined");
        Ok(Response::new(certificate))
    }

    /// For a worker or NetManager that shows a certificate, which may have ended. With the root or without.
    async fn renew(
        &self,
        request: Request<v1::CertificateRequest>,
    ) -> Result<Response<v1::Certificate>, Status> {
        let has_ended = peer_of(&request).subject.is_none();
        let subject = renewing_peer(&request, &request.get_ref().certificate_request_pem)?;
        let request_pem = request.into_inner().certificate_request_pem;
        let certificate = self.certifier.renew(subject, has_ended, &request_pem, &self.brain).await?;
        tracing::info!(%subject, has_ended, "a certificate is renewed");
        Ok(Response::new(certificate))
    }
}

#[tonic::async_trait]
impl v1::cluster_link_server::ClusterLink for Downlink {
    type ConnectWorkerStream = Answers<v1::ClusterToWorker>;
    type ConnectNetworkStream = Answers<v1::ClusterToNetwork>;

    async fn connect_worker(
        &self,
        request: Request<Streaming<v1::WorkerToCluster>>,
    ) -> Result<Response<Self::ConnectWorkerStream>, Status> {
        let worker = self.calling_worker(&request)?;
        let address = peer_of(&request).address;
        let mut said = request.into_inner();
        let (inventory, sealing) = match said.message().await? {
            Some(v1::WorkerToCluster { message: Some(Message::Inventory(inventory)) }) => {
                let sealing = SealingPublicKey::from_wire(&inventory.sealing_key);
                (WorkerInventory::try_from(inventory)?, sealing)
            }
            Some(_) | None => return Err(Status::invalid_argument("the first message must be `inventory`")),
        };
        tracing::info!(%worker, name = inventory.name, %address, "worker connected");
        let (number, outbox) = self.links.connect_worker(worker, sealing);
        self.beats.connected(worker, number);
        let seen_at = address.ip().to_canonical();
        self.brain
            .observe(move |state, now| state.worker_connected(worker, number, inventory, seen_at, now))
            .await
            .map_err(stopping)?;
        let listening = self.clone();
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = listening.listen(worker, number, &mut said) => ended,
                () = listening.shutdown.cancelled() => Ok(()),
            };
            listening.worker_left(worker, number, ended).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outbox).map(|message| Ok(*message)))))
    }

    async fn connect_network(
        &self,
        request: Request<Streaming<v1::NetworkToCluster>>,
    ) -> Result<Response<Self::ConnectNetworkStream>, Status> {
        let worker = self.calling_network(&request)?;
        let mut said = request.into_inner();
        let Some(hello) = said.message().await? else {
            return Err(Status::invalid_argument("it must say first who it is"));
        };
        let reach = proto::read_network_hello(hello)?;
        let address = reach.map(|reach| reach.address.to_string()).unwrap_or_default();
        tracing::info!(%worker, address, "NetManager connected");
        let (number, outbox) = self.links.connect_network(worker);
        self.brain
            .observe(move |state, _| {
                state.network_connected(worker, number, reach);
                Vec::new()
            })
            .await
            .map_err(stopping)?;
        let listening = self.clone();
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = listening.listen_to_network(worker, number, &mut said) => ended,
                () = listening.shutdown.cancelled() => Ok(()),
            };
            if let Err(status) = ended {
                tracing::debug!(%worker, reason = status.message(), "the connection of its NetManager ends");
            }
            if listening.links.disconnect_network(worker, number) {
                tracing::info!(%worker, "NetManager disconnected");
                let observed = listening.brain.observe(move |state, _| {
                    state.network_disconnected(worker, number);
                    Vec::new()
                });
                if observed.await.is_err() {
                    tracing::debug!("stopping; nobody is left to tell");
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outbox).map(|message| Ok(*message)))))
    }

    async fn certify_network(
        &self,
        request: Request<v1::CertificateRequest>,
    ) -> Result<Response<v1::Certificate>, Status> {
        let worker = self.calling_worker(&request)?;
        let request_pem = request.into_inner().certificate_request_pem;
        let certificate =
            self.certifier.certify_network(worker, request_pem, &self.root_channels, &self.brain).await?;
        Ok(Response::new(certificate))
    }
}

async fn hear_knocks(knocks: Arc<Notify>, brain: Brain) {
    let hear = async {
        loop {
            knocks.notified().await;
            let noticed = brain.notice(|state, now| {
                state.somebody_knocked(now);
                None
            });
            if noticed.await.is_err() {
                return;
            }
            tokio::time::sleep(BETWEEN_KNOCKS).await;
        }
    };
    // Whatever ends it: nothing depends on it any more.
    let _over = tokio::time::timeout(KNOCKS_MATTER, hear).await;
}
