//! Certificates for the workers of this cluster and their NetManagers: from the authority the root has lent to this cluster,
//! with the root or without; from the root itself while there is none yet. Who may have one is decided in
//! `core/src/certificates.rs`.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context;
use cluster_core::Claim;
use daemon::StateDirectory;
use link::{
    Credentials, IdentityError, Intermediate, Subject, device_uuid, keep_renewed, key_fingerprint, record_of,
    secret_hash,
};
use model::{ClusterId, Holder, Lifetime, NotIssued, Span, Timestamp, TokenId, WorkerId};
use proto::v1::{self, root_link_client::RootLinkClient};
use tokio::sync::watch;
use tonic::{Code, Status, transport::Channel};
use uuid::Uuid;

use crate::Brain;

/// A root that is cut off may not be known to be: after this the cluster decides by itself.
const ROOT_WITHIN: Duration = Duration::from_secs(5);

/// The authority that the root lends is not there.
#[derive(Debug, thiserror::Error)]
enum NotLent {
    #[error("without an authority of its own this cluster certifies nobody while the root is away: {0}")]
    Refused(String),
    #[error("the authority that the root lends cannot be kept")]
    Unusable(#[from] IdentityError),
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Certifier {
    directory: Arc<StateDirectory>,
    credentials: Arc<Credentials>,
    root: Uuid,
    cluster: ClusterId,
    intermediate: RwLock<Option<Arc<Intermediate>>>,
    /// How long what is signed here lasts.
    life: Span,
}

impl Certifier {
    pub(crate) fn open(
        directory: Arc<StateDirectory>,
        credentials: Arc<Credentials>,
        (root, cluster): (Uuid, ClusterId),
        life: Span,
    ) -> anyhow::Result<Self> {
        let intermediate = Intermediate::load(&directory, &credentials.identity())
            .context("open the cluster's authority")?;
        let intermediate = RwLock::new(intermediate.map(Arc::new));
        Ok(Self { directory, credentials, root, cluster, intermediate, life })
    }

    /// Has the root lend this cluster an authority, and renew it whenever it is time. Ends never.
    pub(crate) async fn keep_authority(&self, channel: Channel) -> std::convert::Infallible {
        let lifetime = || {
            let none = Lifetime { issued: Timestamp(0), expires: Timestamp(0) };
            let lifetime = self.intermediate().map_or(none, |held| held.lifetime());
            (lifetime, self.credentials.identity().now())
        };
        keep_renewed(0, lifetime, || self.borrow_authority(channel.clone())).await
    }

    async fn borrow_authority(&self, channel: Channel) -> Result<(), NotLent> {
        let certificate_request_pem = Intermediate::request(&self.directory)?;
        let request = v1::CertificateRequest { certificate_request_pem };
        let answer = RootLinkClient::new(channel).certify_intermediate(request).await;
        let certificate =
            answer.map_err(|status| NotLent::Refused(status.message().to_owned()))?.into_inner();
        let identity = self.credentials.identity();
        let held = Intermediate::install(&self.directory, &identity, &certificate.certificate_pem)?;
        tracing::info!("this cluster can certify its own workers, with or without the root");
        *self.intermediate.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(held));
        Ok(())
    }

    /// Lets a worker in.
    pub(crate) async fn enrol(
        &self,
        request: v1::EnrolRequest,
        root: &watch::Receiver<Option<Channel>>,
        brain: &Brain,
    ) -> Result<v1::Certificate, Status> {
        let key = key_fingerprint(&request.certificate_request_pem)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let worker = WorkerId::new(device_uuid(&key));
        brain.read().await.may_certify(worker).map_err(not_issued)?;
        let by_root = self.ask_root(&request, root).await?;
        if by_root.is_none() {
            self.spend_here(&request, &key, brain).await?;
            tracing::info!(%worker, "a worker joined while the root is away");
        }
        let certificate = match by_root {
            Some(certificate) if self.intermediate().is_none() => certificate,
            // What the root signs lasts as long as it likes; here it is for this cluster to say.
            Some(_) | None => {
                let subject = Subject::Worker { root: self.root, cluster: self.cluster, worker };
                self.certify(&request.certificate_request_pem, subject)?
            }
        };
        keep(Holder::Worker(worker), certificate, brain).await
    }

    /// What the root says to an enrolment; `None` when it is not there.
    async fn ask_root(
        &self,
        request: &v1::EnrolRequest,
        root: &watch::Receiver<Option<Channel>>,
    ) -> Result<Option<v1::Certificate>, Status> {
        let Some(channel) = root.borrow().clone() else { return Ok(None) };
        let mut client = RootLinkClient::new(channel);
        match tokio::time::timeout(ROOT_WITHIN, client.enrol_worker(request.clone())).await {
            Ok(Ok(certificate)) => Ok(Some(certificate.into_inner())),
            Ok(Err(status)) if !is_absence(&status) => Err(status),
            Ok(Err(_)) | Err(_) => Ok(None),
        }
    }

    /// Honours a token by itself.
    async fn spend_here(&self, request: &v1::EnrolRequest, key: &str, brain: &Brain) -> Result<(), Status> {
        let invalid = |error: String| Status::invalid_argument(error);
        let token: TokenId =
            request.token_id.parse().map_err(|error: model::IdError| invalid(error.to_string()))?;
        let secret_hash_shown = secret_hash(&request.token_secret);
        let fingerprint = secret_hash(&format!("{}{key}", request.token_id));
        if self.intermediate().is_none() {
            return Err(Status::unavailable(
                "the root is not connected to this cluster and has not lent it an authority yet; try again",
            ));
        }
        let enrolled = brain
            .ask(move |state, now| {
                let claim = Claim { token, secret_hash: &secret_hash_shown, key_fingerprint: &fingerprint };
                state.enrol(claim, now.date)
            })
            .await
            .map_err(|stopping| Status::unavailable(stopping.to_string()))?;
        enrolled.map_err(|error| match error {
            cluster_core::EnrolmentRejected::NotHere => Status::unavailable(error.to_string()),
            cluster_core::EnrolmentRejected::Expired | cluster_core::EnrolmentRejected::Spent => {
                Status::permission_denied(error.to_string())
            }
        })
    }

    /// A certificate for the NetManager of a worker.
    pub(crate) async fn certify_network(
        &self,
        worker: WorkerId,
        request_pem: String,
        root: &watch::Receiver<Option<Channel>>,
        brain: &Brain,
    ) -> Result<v1::Certificate, Status> {
        brain.read().await.may_certify(worker).map_err(not_issued)?;
        let holder = Holder::Network(worker);
        if self.intermediate().is_some() {
            let subject = Subject::Network { root: self.root, cluster: self.cluster, worker };
            return keep(holder, self.certify(&request_pem, subject)?, brain).await;
        }
        let channel = root.borrow().clone().ok_or_else(|| {
            Status::unavailable(
                "the root is not connected to this cluster and has not lent it an authority yet; try again",
            )
        })?;
        let wanted =
            v1::CertifyNetworkRequest { worker: worker.to_string(), certificate_request_pem: request_pem };
        let certificate = RootLinkClient::new(channel).certify_network(wanted).await?.into_inner();
        keep(holder, certificate, brain).await
    }

    /// A certificate in place of one that was shown, for the same holder and key.
    pub(crate) async fn renew(
        &self,
        subject: Subject,
        has_ended: bool,
        request_pem: &str,
        brain: &Brain,
    ) -> Result<v1::Certificate, Status> {
        let holder = match subject {
            Subject::Worker { worker, .. } => Holder::Worker(worker),
            Subject::Network { worker, .. } => Holder::Network(worker),
            Subject::Root { .. } | Subject::Cluster { .. } => {
                return Err(Status::permission_denied("a cluster renews certificates of its workers only"));
            }
        };
        brain.read().await.may_renew(holder, has_ended).map_err(not_issued)?;
        keep(holder, self.certify(request_pem, subject)?, brain).await
    }

    fn certify(&self, request_pem: &str, subject: Subject) -> Result<v1::Certificate, Status> {
        let held = self.intermediate().ok_or_else(|| Status::unavailable("no authority was lent yet"))?;
        let identity = self.credentials.identity();
        let certificate_pem =
            held.certify(request_pem, subject, self.life, identity.now()).map_err(|error| match error {
                link::AuthorityError::Request(_) | link::AuthorityError::NotEntitled { .. } => {
                    Status::invalid_argument(error.to_string())
                }
                link::AuthorityError::File { .. }
                | link::AuthorityError::Damaged { .. }
                | link::AuthorityError::Signing(_) => Status::unavailable(error.to_string()),
            })?;
        let ca_certificate_pem = identity.authority_pem();
        Ok(v1::Certificate { subject: subject.to_string(), certificate_pem, ca_certificate_pem })
    }

    fn intermediate(&self) -> Option<Arc<Intermediate>> {
        self.intermediate.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether a call failed because the root is not there, rather than because it said no.
fn is_absence(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown)
}

/// Hands over a certificate when it is durable that there is one, and if it was not revoked meanwhile.
async fn keep(holder: Holder, issued: v1::Certificate, brain: &Brain) -> Result<v1::Certificate, Status> {
    let record = record_of(&issued.certificate_pem).map_err(|error| Status::internal(error.to_string()))?;
    let kept = brain
        .ask(move |state, _| state.certified(holder, record))
        .await
        .map_err(|stopping| Status::unavailable(stopping.to_string()))?;
    kept.map_err(not_issued)?;
    Ok(issued)
}

fn not_issued(error: NotIssued) -> Status {
    tracing::warn!(%error, "a certificate is not issued");
    Status::permission_denied(error.to_string())
}
