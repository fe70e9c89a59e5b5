//! What clusters may call: enrolment, and the one connection each of them holds.

use std::{collections::BTreeMap, io, pin::Pin, sync::Arc};

use audit::{Actor, Outcome};
use link::{
    Authority, Identity, JoinToken, Revocations, SealingPublicKey, Subject, device_uuid, key_fingerprint,
    peer_of, record_of, renewing_peer, require_peer, secret_hash,
};
use model::{
    ClusterAnswer, ClusterId, ClusterReport, Generation, Holder, Location, NotIssued, TokenId, WorkerId,
};
use proto::v1::{
    self, cluster_to_root::Message, enrolment_server::EnrolmentServer, root_link_server::RootLinkServer,
};
use root_core::{Call, Claim, EnrolmentRejected};
use tokio::{net::TcpListener, sync::watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::{Brain, audit::Audited, lending::Lending, links::Links};

/// An assignment with many services is one message.
const LARGEST_MESSAGE: usize = 64 << 20;

/// See the module's description. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Downlink {
    pub(crate) brain: Brain,
    pub(crate) links: Arc<Links>,
    pub(crate) authority: Arc<Authority>,
    /// Its clock says what time it is.
    pub(crate) own: watch::Receiver<Identity>,
    pub(crate) revocations: Revocations,
    pub(crate) lending: Option<Arc<Lending>>,
    pub(crate) root: Uuid,
    pub(crate) shutdown: CancellationToken,
}

impl Downlink {
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        identity: watch::Receiver<Identity>,
    ) -> io::Result<()> {
        let (shutdown, revocations) = (self.shutdown.clone(), self.revocations.clone());
        let routes = |mut server: tonic::transport::Server| {
            server
                .add_service(EnrolmentServer::new(self.clone()))
                .add_service(RootLinkServer::new(self).max_decoding_message_size(LARGEST_MESSAGE))
        };
        link::serve(listener, identity, revocations, || {}, routes, shutdown).await
    }

    fn certificate(&self, request_pem: &str, subject: Subject) -> Result<v1::Certificate, Status> {
        let certificate_pem = self
            .authority
            .certify(request_pem, subject, self.own.borrow().now())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(v1::Certificate {
            subject: subject.to_string(),
            certificate_pem,
            ca_certificate_pem: self.authority.certificate_pem().to_owned(),
        })
    }

    /// Whether a worker may have a certificate that its cluster asks for.
    async fn is_not_revoked(&self, cluster: ClusterId, worker: WorkerId) -> Result<(), Status> {
        match self.brain.read().await.revocation(cluster, Some(worker)) {
            Some(_) => Err(not_issued(NotIssued::Revoked)),
            None => Ok(()),
        }
    }

    /// A certificate of a cluster is handed over when it is durable that there is one.
    async fn keep(
        &self,
        audited: &Audited,
        holder: Holder,
        issued: v1::Certificate,
    ) -> Result<Response<v1::Certificate>, Status> {
        let record =
            record_of(&issued.certificate_pem).map_err(|error| Status::internal(error.to_string()))?;
        let kept = audited.ask(move |state, _| state.certified(holder, record)).await.map_err(stopping)?;
        recorded(audited, kept, NotIssued::code).await?.map_err(not_issued)?;
        Ok(Response::new(issued))
    }

    /// The brain for a call of a cluster, or of somebody who wants to be one.
    fn audited<T>(&self, request: &Request<T>, cluster: Option<ClusterId>, action: &str) -> Audited {
        let actor = cluster.map_or(Actor::Anonymous, |id| Actor::Cluster { id: id.to_string() });
        let from = Some(peer_of(request).address.ip().to_canonical());
        Audited::new(self.brain.clone(), Call { actor, from, ..Call::of_root(action) })
    }

    async fn calling_cluster<T>(&self, request: &Request<T>) -> Result<ClusterId, Status> {
        let Subject::Cluster { root, cluster } = require_peer(request)? else {
            return Err(Status::permission_denied("only cluster orchestrators may call this"));
        };
        if root != self.root {
            return Err(Status::permission_denied("the certificate is of another root"));
        }
        if self.brain.read().await.cluster(cluster).is_none() {
            return Err(Status::permission_denied("the cluster was removed; join again with a new token"));
        }
        Ok(cluster)
    }
}

/// What an enrolling child sent, checked.
struct Enrolling {
    token: TokenId,
    secret_hash: String,
    /// Fingerprint of the key itself; not stored.
    key: String,
    /// The same key as seen through this token; tells nothing without the key.
    key_fingerprint: String,
    request_pem: String,
}

impl Enrolling {
    fn claim(&self) -> Claim<'_> {
        Claim { token: self.token, secret_hash: &self.secret_hash, key_fingerprint: &self.key_fingerprint }
    }

    /// What records show of it: nothing that tells of a worker, as the root knows none.
    fn parameters(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("token".to_owned(), self.token.to_string())])
    }
}

impl TryFrom<v1::EnrolRequest> for Enrolling {
    type Error = Status;

    fn try_from(wire: v1::EnrolRequest) -> Result<Self, Status> {
        let key = key_fingerprint(&wire.certificate_request_pem)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Self {
            token: wire
                .token_id
                .parse()
                .map_err(|error: model::IdError| Status::invalid_argument(error.to_string()))?,
            secret_hash: secret_hash(&wire.token_secret),
            key_fingerprint: secret_hash(&format!("{}{key}", wire.token_id)),
            key,
            request_pem: wire.certificate_request_pem,
        })
    }
}

/// What was refused is recorded too, before it is said.
async fn recorded<T, E>(
    audited: &Audited,
    answer: Result<T, E>,
    code: impl FnOnce(&E) -> &'static str,
) -> Result<Result<T, E>, Status> {
    if let Err(error) = &answer {
        let error = code(error).to_owned();
        audited.ended(Outcome::Refused { error, status: None }).await.map_err(stopping)?;
    }
    Ok(answer)
}

fn refused(error: EnrolmentRejected) -> Status {
    tracing::warn!(%error, "an enrolment was refused");
    Status::permission_denied(error.to_string())
}

fn not_issued(error: NotIssued) -> Status {
    tracing::warn!(%error, "a certificate is not issued");
    Status::permission_denied(error.to_string())
}

fn stopping(error: control::Stopping) -> Status {
    Status::unavailable(error.to_string())
}

#[tonic::async_trait]
impl v1::enrolment_server::Enrolment for Downlink {
    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::Certificate>, Status> {
        let audited = self.audited(&request, None, "enrol a cluster");
        let enrolling = Enrolling::try_from(request.into_inner())?;
        audited.describe(|call| call.parameters = enrolling.parameters());
        let request_pem = enrolling.request_pem.clone();
        let fresh = ClusterId::new(daemon::fresh_uuid());
        let enrolled = audited
            .ask(move |state, now| state.enrol_cluster(enrolling.claim(), fresh, now.date))
            .await
            .map_err(stopping)?;
        let cluster = recorded(&audited, enrolled, EnrolmentRejected::code).await?.map_err(refused)?;
        audited.describe(|call| call.actor = Actor::Cluster { id: cluster.to_string() });
        tracing::info!(%cluster, "a cluster joined");
        let issued = self.certificate(&request_pem, Subject::Cluster { root: self.root, cluster })?;
        self.keep(&audited, Holder::Cluster(cluster), issued).await
    }

    /// For a cluster that shows a certificate, which may have ended: the same for longer.
    async fn renew(
        &self,
        request: Request<v1::CertificateRequest>,
    ) -> Result<Response<v1::Certificate>, Status> {
        let has_ended = peer_of(&request).subject.is_none();
        let request_pem = &request.get_ref().certificate_request_pem;
        let subject = renewing_peer(&request, request_pem)?;
        let Subject::Cluster { cluster, .. } = subject else {
            return Err(Status::permission_denied("the root renews certificates of clusters only"));
        };
        let audited = self.audited(&request, Some(cluster), "renew the certificate of a cluster");
        let allowed = audited.read().await.may_renew(cluster, has_ended);
        recorded(&audited, allowed, NotIssued::code).await?.map_err(not_issued)?;
        let issued = self.certificate(request_pem, subject)?;
        tracing::info!(%cluster, has_ended, "the certificate of a cluster is renewed");
        self.keep(&audited, Holder::Cluster(cluster), issued).await
    }
}

#[tonic::async_trait]
impl v1::root_link_server::RootLink for Downlink {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<v1::RootToCluster, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::ClusterToRoot>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let cluster = self.calling_cluster(&request).await?;
        let address = peer_of(&request).address;
        let mut said = request.into_inner();
        let hello = match said.message().await? {
            Some(v1::ClusterToRoot { message: Some(Message::Hello(hello)) }) => hello,
            Some(_) | None => return Err(Status::invalid_argument("the first message must be `hello`")),
        };
        let location: Location = hello
            .location
            .parse()
            .map_err(|error: model::LocationError| Status::invalid_argument(error.to_string()))?;
        self.check_name(cluster, &hello.name).await?;
        let (number, outbox) = self.links.connect(cluster, SealingPublicKey::from_wire(&hello.sealing_key));
        if let Some(lending) = &self.lending {
            let loan = v1::root_to_cluster::Message::Relay((&lending.loan_to(cluster)).into());
            self.links.send_over(cluster, number, loan);
        }
        let observed = Generation(hello.observed_generation);
        self.brain
            .observe(move |state, now| state.cluster_connected(cluster, number, location, observed, now))
            .await
            .map_err(stopping)?;
        tracing::info!(%cluster, name = hello.name, version = hello.version, %address, "cluster connected");
        let listening = self.clone();
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = listening.listen(cluster, number, &mut said) => ended,
                () = listening.shutdown.cancelled() => Ok(()),
            };
            if !listening.links.disconnect(cluster, number) {
                // Another connection of the same cluster counts now.
                return;
            }
            match ended {
                Ok(()) => tracing::info!(%cluster, "cluster disconnected"),
                Err(status) => tracing::warn!(%cluster, reason = status.message(), "cluster disconnected"),
            }
            let observed = listening.brain.observe(move |state, _| {
                state.cluster_disconnected(cluster, number);
                Vec::new()
            });
            if observed.await.is_err() {
                tracing::debug!("stopping; nobody is left to tell");
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outbox))))
    }

    async fn enrol_worker(
        &self,
        request: Request<v1::EnrolRequest>,
    ) -> Result<Response<v1::Certificate>, Status> {
        let cluster = self.calling_cluster(&request).await?;
        let audited = self.audited(&request, Some(cluster), "enrol a worker of a cluster");
        let enrolling = Enrolling::try_from(request.into_inner())?;
        audited.describe(|call| call.parameters = enrolling.parameters());
        let request_pem = enrolling.request_pem.clone();
        // Its id follows from its key, so that nothing about it need be kept here.
        let worker = WorkerId::new(device_uuid(&enrolling.key));
        self.is_not_revoked(cluster, worker).await?;
        let enrolled = audited
            .ask(move |state, now| state.enrol_worker(enrolling.claim(), cluster, now.date))
            .await
            .map_err(stopping)?;
        recorded(&audited, enrolled, EnrolmentRejected::code).await?.map_err(refused)?;
        tracing::info!(%cluster, "a worker joined the cluster");
        self.certificate(&request_pem, Subject::Worker { root: self.root, cluster, worker })
            .map(Response::new)
    }

    async fn certify_network(
        &self,
        request: Request<v1::CertifyNetworkRequest>,
    ) -> Result<Response<v1::Certificate>, Status> {
        let cluster = self.calling_cluster(&request).await?;
        let wire = request.into_inner();
        let worker: WorkerId = wire
            .worker
            .parse()
            .map_err(|error: model::IdError| Status::invalid_argument(error.to_string()))?;
        self.is_not_revoked(cluster, worker).await?;
        self.certificate(&wire.certificate_request_pem, Subject::Network { root: self.root, cluster, worker })
            .map(Response::new)
    }

    async fn certify_intermediate(
        &self,
        request: Request<v1::CertificateRequest>,
    ) -> Result<Response<v1::Certificate>, Status> {
        let cluster = self.calling_cluster(&request).await?;
        let audited = self.audited(&request, Some(cluster), "lend an authority to a cluster");
        let subject = Subject::Cluster { root: self.root, cluster };
        let certificate_pem = self
            .authority
            .certify_intermediate(
                &request.into_inner().certificate_request_pem,
                subject,
                self.own.borrow().now(),
            )
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        tracing::info!(%cluster, "the cluster may certify its own workers");
        let issued = v1::Certificate {
            subject: subject.to_string(),
            certificate_pem,
            ca_certificate_pem: self.authority.certificate_pem().to_owned(),
        };
        self.keep(&audited, Holder::Intermediate(cluster), issued).await
    }
}

impl Downlink {
    /// A cluster keeps the name its token was made for; anything else is a mistake in its configuration.
    async fn check_name(&self, cluster: ClusterId, name: &str) -> Result<(), Status> {
        let state = self.brain.read().await;
        match state.cluster(cluster) {
            Some(known) if known.name == name => Ok(()),
            Some(known) => Err(Status::failed_precondition(format!(
                "this cluster joined as `{}` but calls itself `{name}`; set CLUSTER_NAME={}",
                known.name, known.name
            ))),
            None => Err(Status::permission_denied("the cluster was removed; join again with a new token")),
        }
    }

    async fn listen(
        &self,
        cluster: ClusterId,
        number: u64,
        said: &mut Streaming<v1::ClusterToRoot>,
    ) -> Result<(), Status> {
        while let Some(v1::ClusterToRoot { message }) = said.message().await? {
            match message {
                Some(Message::Report(report)) => {
                    let report = ClusterReport::try_from(report)?;
                    self.brain
                        .observe(move |state, now| state.cluster_reported(cluster, number, report, now))
                        .await
                        .map_err(stopping)?;
                }
                Some(Message::LogChunk(chunk)) => self.links.log_chunk(chunk),
                Some(Message::LogEnd(end)) => self.links.log_end(end),
                Some(Message::Answer(answer)) => {
                    let request = answer.request;
                    self.links.answered(request, ClusterAnswer::try_from(answer)?);
                }
                Some(Message::ToNeighbour(told)) => {
                    let (to, epoch, news) = told.read()?;
                    self.brain
                        .observe(move |state, _| {
                            state.neighbour_told(cluster, number, to, epoch, news);
                            Vec::new()
                        })
                        .await
                        .map_err(stopping)?;
                }
                // A second greeting changes nothing; a message of a later version is of no use here.
                Some(Message::Hello(_)) | None => {}
            }
        }
        Ok(())
    }
}

/// The token's text for a new token.
pub(crate) fn new_token(id: TokenId, ca_pin: [u8; 32]) -> (JoinToken, String) {
    let token = JoinToken::generate(id, ca_pin);
    let hash = secret_hash(token.secret());
    (token, hash)
}
