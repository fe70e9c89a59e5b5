//! Becoming somebody: once, with a token.

use daemon::StateDirectory;
use proto::v1::{self, enrolment_client::EnrolmentClient};
use tonic::Code;

use crate::{Backoff, Dial, Identity, IdentityError, JoinToken, KeyPair, dial};

/// A daemon that does not become a child of its parent.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token cannot be had.
    #[error("no join token")]
    Token(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Key or certificate.
    #[error("key or certificate cannot be kept")]
    Identity(#[from] IdentityError),
    /// The parent said no, and would say so again.
    #[error("{parent} refused: {reason}")]
    Refused {
        /// Where.
        parent: String,
        /// Its words.
        reason: String,
    },
}

/// The identity in the state directory, or a new one bought from the parent at `address` with the token that `token`
/// gives (`None`: not there yet). Tries for ever while parent or token are not there, and starts over with the same
/// key after an interruption, so that a token is not spent twice.
///
/// # Errors
/// See [`JoinError`].
pub async fn join(
    address: &str,
    directory: &StateDirectory,
    mut token: impl FnMut() -> Result<Option<JoinToken>, Box<dyn std::error::Error + Send + Sync>>,
) -> Result<Identity, JoinError> {
    if let Some(identity) = Identity::load(directory)? {
        return Ok(identity);
    }
    let key = KeyPair::load_or_generate(directory)?;
    let request = key.certificate_request()?;
    let mut backoff = Backoff::default();
    loop {
        // Asked for at every attempt: a file may be written, or replaced by a parent that started anew.
        let attempt = match token().map_err(JoinError::Token)? {
            Some(token) => enrol(address, &token, &request).await,
            None => Err(Refusal::Later("the join token is not there yet".to_owned())),
        };
        match attempt {
            Ok(certificate) => {
                Identity::save(directory, &certificate.certificate_pem, &certificate.ca_certificate_pem)?;
                tracing::info!(subject = certificate.subject, "joined");
                let missing = "it is not there although it was just kept".to_owned();
                let missing = IdentityError::Invalid { what: "the certificate", problem: missing };
                return Ok(Identity::load(directory)?.ok_or(missing)?);
            }
            Err(Refusal::Final(reason)) => {
                return Err(JoinError::Refused { parent: address.to_owned(), reason });
            }
            Err(Refusal::Later(reason)) => {
                let wait = backoff.wait();
                tracing::warn!(parent = address, reason, retry_in = ?wait, "cannot join yet");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

enum Refusal {
    Final(String),
    Later(String),
}

async fn enrol(address: &str, token: &JoinToken, request: &str) -> Result<v1::Certificate, Refusal> {
    let channel =
        dial(address, Dial::Joining(token)).await.map_err(|error| Refusal::Later(error.to_string()))?;
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
