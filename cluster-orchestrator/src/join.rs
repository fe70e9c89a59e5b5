//! Becoming a cluster of a root: once, with a token.

use anyhow::Context;
use daemon::StateDirectory;
use link::{Backoff, Dial, Identity, JoinToken, KeyPair, dial};
use proto::v1::{self, enrolment_client::EnrolmentClient};
use tonic::Code;

use crate::Config;

/// The identity in the state directory, or a new one bought with the token. Tries for ever while the root is away.
pub(crate) async fn identity(config: &Config, directory: &StateDirectory) -> anyhow::Result<Identity> {
    if let Some(identity) = Identity::load(directory)? {
        return Ok(identity);
    }
    let token = config.join_token()?.context(
        "this cluster has not joined a root yet: create a token with `mangrove token create --cluster NAME` \
         and export it as MANGROVE_TOKEN",
    )?;
    let key = KeyPair::load_or_generate(directory)?;
    let request = key.certificate_request()?;
    let mut backoff = Backoff::default();
    loop {
        match enrol(&config.root(), &token, &request).await {
            Ok(certificate) => {
                Identity::save(directory, &certificate.certificate_pem, &certificate.ca_certificate_pem)?;
                tracing::info!(subject = certificate.subject, "joined the root");
                return Ok(Identity::new(
                    &key,
                    &certificate.certificate_pem,
                    &certificate.ca_certificate_pem,
                )?);
            }
            Err(Refusal::Final(reason)) => anyhow::bail!("the root refused this cluster: {reason}"),
            Err(Refusal::Later(reason)) => {
                let wait = backoff.wait();
                tracing::warn!(reason, retry_in = ?wait, "cannot join yet");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

enum Refusal {
    Final(String),
    Later(String),
}

async fn enrol(root: &str, token: &JoinToken, request: &str) -> Result<v1::Certificate, Refusal> {
    let channel =
        dial(root, Dial::Joining(token)).await.map_err(|error| Refusal::Later(error.to_string()))?;
    let request = v1::EnrolRequest {
        token_id: token.id().to_string(),
        token_secret: token.secret().to_owned(),
        certificate_request_pem: request.to_owned(),
    };
    let answer = EnrolmentClient::new(channel).enrol(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| {
        let reason = status.message().to_owned();
        if matches!(status.code(), Code::PermissionDenied | Code::InvalidArgument) {
            Refusal::Final(reason)
        } else {
            Refusal::Later(reason)
        }
    })
}
