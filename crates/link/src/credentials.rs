//! An identity that is renewed: by the parent, over the connection there is, long before its certificate ends; or, when it
//! has ended meanwhile, over a connection that is good for that alone. When, `model::Lifetime` says.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use daemon::StateDirectory;
use model::{Lifetime, Timestamp};
use proto::v1::{self, enrolment_client::EnrolmentClient};
use rand::Rng;
use tokio::sync::watch;
use tonic::{Code, Status, transport::Channel};

use crate::{Backoff, Dial, DialError, Dialled, Identity, IdentityError, KeyPair, Subject, dial_to};

/// Between attempts of a renewal that fails. There is a third of a certificate's life for them.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_LAST: Duration = Duration::from_secs(3600);
/// The clock may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(86_400);
/// A parent signs within milliseconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A certificate that is not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// The parent does not answer, or says no.
    #[error("the parent did not renew it: {0}")]
    Refused(String),
    /// What came is of no use, or cannot be kept.
    #[error("the new certificate cannot be used")]
    Unusable(#[from] IdentityError),
    /// What certificates vouched for cannot be kept.
    #[error("the time cannot be kept")]
    Clock(#[source] io::Error),
    /// The authority that signs ends soon itself.
    #[error("the parent's own authority ends with it; it is renewed when the root is connected")]
    NothingGained,
}

/// See the module's description.
#[derive(Debug)]
pub struct Credentials {
    directory: Arc<StateDirectory>,
    identity: watch::Sender<Identity>,
    /// Of the parent, that the certificate has ended, whatever the clock here shows.
    doubted: AtomicBool,
    spread: u8,
}

impl Credentials {
    /// Of the identity that `directory` holds.
    #[must_use]
    pub fn new(directory: Arc<StateDirectory>, identity: Identity) -> Self {
        let spread = renewal_spread();
        Self { directory, identity: watch::Sender::new(identity), doubted: AtomicBool::new(false), spread }
    }

    /// As it is now.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity.borrow().clone()
    }

    /// As it is now and will be, for [`serve`](crate::serve).
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Identity> {
        self.identity.subscribe()
    }

    /// Dials the parent, having the certificate renewed before if it has ended.
    ///
    /// # Errors
    /// See [`dial_to`]; also when it has ended and is not renewed.
    pub async fn connect(&self, address: &str, parent: Subject) -> Result<Dialled, DialError> {
        let identity = self.identity();
        let dialled = dial_to(address, Dial::As(&identity, parent)).await?;
        if !identity.lifetime().has_ended(identity.now()) && !self.doubted.load(Ordering::Relaxed) {
            return Ok(dialled);
        }
        self.renew(dialled.channel).await.map_err(|error| DialError::Unreachable {
            address: address.to_owned(),
            reason: format!("the certificate has ended: {}", daemon::chain(&error)),
        })?;
        dial_to(address, Dial::As(&self.identity(), parent)).await
    }

    /// The parent refused a call. If it says that the certificate has ended, it is renewed at the next connection.
    pub fn refused(&self, status: &Status) {
        if must_renew(status) {
            self.doubted.store(true, Ordering::Relaxed);
        }
    }

    /// Has the certificate renewed over `channel` whenever it is time, for as long as the connection stands. Ends never.
    pub async fn keep_fresh(&self, channel: Channel) -> std::convert::Infallible {
        if let Err(error) = self.identity.borrow().clock().keep(&self.directory) {
            tracing::warn!(%error, "the time cannot be kept; with a clock that begins anew this device may be behind");
        }
        let lifetime = || {
            let identity = self.identity.borrow();
            (identity.lifetime(), identity.now())
        };
        keep_renewed(self.spread, lifetime, || self.renew(channel.clone())).await
    }

    async fn renew(&self, channel: Channel) -> Result<(), RenewalError> {
        let before = self.identity();
        let key = KeyPair::load_or_generate(&self.directory)?;
        let request = v1::CertificateRequest { certificate_request_pem: key.certificate_request()? };
        let mut parent = EnrolmentClient::new(channel);
        let answer = tokio::time::timeout(ANSWER_WITHIN, parent.renew(request)).await;
        let certificate = answer
            .map_err(|_| RenewalError::Refused(format!("no answer within {} s", ANSWER_WITHIN.as_secs())))?
            .map_err(|status| RenewalError::Refused(status.message().to_owned()))?
            .into_inner();
        let renewed = before.renewed(&key, &certificate.certificate_pem)?;
        if renewed.lifetime().expires <= before.lifetime().expires {
            return Err(RenewalError::NothingGained);
        }
        Identity::save(&self.directory, &certificate.certificate_pem, &before.authority_pem())?;
        renewed.clock().keep(&self.directory).map_err(RenewalError::Clock)?;
        self.identity.send_replace(renewed);
        self.doubted.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// Whether a parent that refused a call says by that that the certificate has ended.
#[must_use]
pub fn must_renew(status: &Status) -> bool {
    status.code() == Code::Unauthenticated
}

/// Chosen by chance: how much earlier than need be this device renews its certificate.
#[must_use]
pub fn renewal_spread() -> u8 {
    rand::rng().random_range(0..=100)
}

/// Renews something whenever it is time; tries again later and later when that fails, and tells the log. `lifetime` is what
/// it has, and the present. Ends never.
pub async fn keep_renewed<E: std::error::Error, Renewing: Future<Output = Result<(), E>>>(
    spread: u8,
    lifetime: impl Fn() -> (Lifetime, Timestamp),
    mut renew: impl FnMut() -> Renewing,
) -> std::convert::Infallible {
    let mut backoff = Backoff::between(AGAIN_FIRST, AGAIN_LAST);
    loop {
        let (current, now) = lifetime();
        let left = current.renew_at(spread).millis_since(now);
        if left > 0 {
            tokio::time::sleep(Duration::from_millis(left).min(LONGEST_SLEEP)).await;
            continue;
        }
        match renew().await {
            Ok(()) => {
                backoff.reset();
                let renewed = lifetime().0;
                tracing::info!(
                    days_left = renewed.expires.millis_since(now) / 86_400_000,
                    "a certificate was renewed"
                );
                // With a clock that is ahead the next would be due at once, and the one after.
                let rest = Duration::from_millis(renewed.length() / 10);
                tokio::time::sleep(rest.min(LONGEST_SLEEP)).await;
            }
            Err(error) => {
                let wait = backoff.wait();
                tracing::warn!(
                    error = %daemon::chain(&error),
                    minutes_left = current.expires.millis_since(now) / 60_000,
                    retry_in = ?wait,
                    "a certificate is not renewed yet"
                );
                tokio::time::sleep(wait).await;
            }
        }
    }
}
