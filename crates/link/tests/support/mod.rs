//! A root, whoever it certifies, and a parent that says who called.

use std::sync::{Arc, Mutex};

use daemon::StateDirectory;
use link::{
    Authority, Dial, DialError, Identity, JoinToken, KeyPair, Revocations, Subject, dial, peer_of,
    require_peer,
};
use model::{ClusterId, TokenId, WorkerId};
use proto::v1::{
    self,
    enrolment_client::EnrolmentClient,
    enrolment_server::{Enrolment, EnrolmentServer},
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

/// Says who called; asks for a certificate when told to.
#[derive(Clone, Default)]
pub(crate) struct Doorman {
    pub(crate) needs_certificate: bool,
    pub(crate) seen: Arc<Mutex<Vec<Option<Subject>>>>,
    /// Who asked for another certificate.
    pub(crate) renewed: watch::Sender<Vec<Subject>>,
    /// Signs for them.
    pub(crate) authority: Option<Arc<Authority>>,
}

#[tonic::async_trait]
impl Enrolment for Doorman {
    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::Certificate>, Status> {
        self.seen.lock().expect("not poisoned").push(peer_of(&request).subject);
        if self.needs_certificate {
            require_peer(&request)?;
        }
        Ok(Response::new(v1::Certificate::default()))
    }

    async fn renew(
        &self,
        request: Request<v1::CertificateRequest>,
    ) -> Result<Response<v1::Certificate>, Status> {
        let request_pem = &request.get_ref().certificate_request_pem;
        let subject = link::renewing_peer(&request, request_pem)?;
        self.renewed.send_modify(|renewed| renewed.push(subject));
        let authority = self.authority.as_ref().ok_or_else(|| Status::unavailable("it only looks"))?;
        let certificate_pem = authority
            .certify(request_pem, subject, daemon::now())
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(v1::Certificate { certificate_pem, ..v1::Certificate::default() }))
    }
}

pub(crate) struct Root {
    _directory: tempfile::TempDir,
    pub(crate) authority: Arc<Authority>,
    pub(crate) id: Uuid,
}

impl Root {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let state = StateDirectory::open(&directory.path().join("root")).expect("usable");
        let id = daemon::fresh_uuid();
        let authority = Authority::load_or_create(&state, id, daemon::now()).expect("made");
        Self { _directory: directory, authority: Arc::new(authority), id }
    }

    pub(crate) fn identity(&self, subject: Subject) -> Identity {
        let directory = tempfile::tempdir().expect("a directory");
        let state = StateDirectory::open(directory.path()).expect("usable");
        let key = KeyPair::load_or_generate(&state).expect("a key");
        let request = key.certificate_request().expect("a request");
        let certificate = self.authority.certify(&request, subject, daemon::now()).expect("signed");
        Identity::new(&key, &certificate, self.authority.certificate_pem()).expect("fits")
    }

    pub(crate) fn root(&self) -> Subject {
        Subject::Root { root: self.id }
    }

    pub(crate) fn cluster(&self) -> Subject {
        Subject::Cluster { root: self.id, cluster: ClusterId::new(Uuid::from_u128(1)) }
    }

    pub(crate) fn worker(&self) -> Subject {
        let cluster = ClusterId::new(Uuid::from_u128(1));
        Subject::Worker { root: self.id, cluster, worker: WorkerId::new(Uuid::from_u128(2)) }
    }

    pub(crate) fn token(&self) -> JoinToken {
        JoinToken::generate(TokenId::new(Uuid::from_u128(3)), self.authority.pin())
    }
}

pub(crate) async fn serve(identity: Identity, doorman: Doorman) -> (String, CancellationToken) {
    serve_as(watch::channel(identity).1, Revocations::default(), doorman).await
}

pub(crate) async fn serve_as(
    identity: watch::Receiver<Identity>,
    revocations: Revocations,
    doorman: Doorman,
) -> (String, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let routes = |mut server: tonic::transport::Server| server.add_service(EnrolmentServer::new(doorman));
        link::serve(listener, identity, revocations, || {}, routes, stop).await
    });
    (address, shutdown)
}

pub(crate) async fn call(address: &str, how: Dial<'_>) -> Result<Result<(), Code>, DialError> {
    let channel = dial(address, how).await?;
    let answer = EnrolmentClient::new(channel).enrol(v1::EnrolRequest::default()).await;
    Ok(answer.map(drop).map_err(|status| status.code()))
}

pub(crate) fn reason(outcome: Result<Result<(), Code>, DialError>) -> String {
    match outcome {
        Err(DialError::Unreachable { reason, .. }) => reason,
        other => panic!("expected no connection, got {other:?}"),
    }
}
