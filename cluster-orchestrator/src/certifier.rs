//! Certificates for the workers of this cluster and their NetManagers: from the root while it is there, from the
//! authority the root has lent to this cluster otherwise.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context;
use cluster_core::Claim;
use daemon::StateDirectory;
use link::{Identity, Intermediate, Subject, device_uuid, key_fingerprint, secret_hash};
use model::{ClusterId, TokenId, WorkerId};
use proto::v1::{self, root_link_client::RootLinkClient};
use tokio::sync::watch;
use tonic::{Code, Status, transport::Channel};
use uuid::Uuid;

use crate::Brain;

/// A root that is cut off may not be known to be: after this the cluster decides by itself.
const ROOT_WITHIN: Duration = Duration::from_secs(5);
/// An authority with less left than this is replaced at the next connection to the root.
const RENEW_BEFORE_MILLIS: u64 = 120 * 86_400_000;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Certifier {
    directory: Arc<StateDirectory>,
    identity: Identity,
    root: Uuid,
    cluster: ClusterId,
    intermediate: RwLock<Option<Arc<Intermediate>>>,
}

impl Certifier {
    pub(crate) fn open(
        directory: Arc<StateDirectory>,
        identity: Identity,
        root: Uuid,
        cluster: ClusterId,
    ) -> anyhow::Result<Self> {
        let intermediate =
            Intermediate::load(&directory, &identity).context("open the cluster's authority")?;
        let intermediate = RwLock::new(intermediate.map(Arc::new));
        Ok(Self { directory, identity, root, cluster, intermediate })
    }

    /// Has the root lend this cluster an authority, unless it has one that lasts.
    pub(crate) async fn renew(&self, channel: Channel) -> anyhow::Result<()> {
        let soon = daemon::now().plus_millis(RENEW_BEFORE_MILLIS);
        if self.intermediate().is_some_and(|held| held.expires() > soon) {
            return Ok(());
        }
        let certificate_request_pem = Intermediate::request(&self.directory)?;
        let request = v1::CertificateRequest { certificate_request_pem };
        let answer = RootLinkClient::new(channel).certify_intermediate(request).await;
        let certificate = answer.map_err(|status| anyhow::anyhow!(status.message().to_owned()))?.into_inner();
        let held = Intermediate::install(&self.directory, &self.identity, &certificate.certificate_pem)?;
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
        let channel = root.borrow().clone();
        if let Some(channel) = channel {
            let mut client = RootLinkClient::new(channel);
            match tokio::time::timeout(ROOT_WITHIN, client.enrol_worker(request.clone())).await {
                Ok(Ok(certificate)) => return Ok(certificate.into_inner()),
                Ok(Err(status)) if !is_absence(&status) => return Err(status),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        self.enrol_here(request, brain).await
    }

    async fn enrol_here(&self, request: v1::EnrolRequest, brain: &Brain) -> Result<v1::Certificate, Status> {
        let invalid = |error: String| Status::invalid_argument(error);
        let request_pem = request.certificate_request_pem;
        let key = key_fingerprint(&request_pem).map_err(|error| invalid(error.to_string()))?;
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
        })?;
        let worker = WorkerId::new(device_uuid(&key));
        tracing::info!(%worker, "a worker joined while the root is away");
        self.certify(&request_pem, Subject::Worker { root: self.root, cluster: self.cluster, worker })
    }

    /// A certificate for the NetManager of a worker.
    pub(crate) async fn certify_network(
        &self,
        worker: WorkerId,
        request_pem: String,
        root: &watch::Receiver<Option<Channel>>,
    ) -> Result<v1::Certificate, Status> {
        if self.intermediate().is_some() {
            let subject = Subject::Network { root: self.root, cluster: self.cluster, worker };
            return self.certify(&request_pem, subject);
        }
        let channel = root.borrow().clone().ok_or_else(|| {
            Status::unavailable(
                "the root is not connected to this cluster and has not lent it an authority yet; try again",
            )
        })?;
        let wanted =
            v1::CertifyNetworkRequest { worker: worker.to_string(), certificate_request_pem: request_pem };
        Ok(RootLinkClient::new(channel).certify_network(wanted).await?.into_inner())
    }

    fn certify(&self, request_pem: &str, subject: Subject) -> Result<v1::Certificate, Status> {
        let held = self.intermediate().ok_or_else(|| Status::unavailable("no authority was lent yet"))?;
        let certificate_pem = held
            .certify(request_pem, subject, daemon::now())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let ca_certificate_pem = self.identity.authority_pem();
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
