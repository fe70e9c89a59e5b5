//! Tells hooks what has happened. What they are told, when, and how often it is tried is decided in the brain
//! (`core/src/outbox.rs`); whom the root may call in `core/src/reach.rs`; this carries it out.
//!
//! A delivery is one POST of a small JSON document with these headers:
//!
//! ```text
//!   Mangrove-Delivery: 64b1…-17         the same at each attempt
//!   Mangrove-Timestamp: 1795342800      seconds, of this attempt
//!   Mangrove-Signature: v1=9f86…        HMAC-SHA256 of timestamp, `.` and body under the hook's secret, if it has one
//! ```

mod actions;
mod client;

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use clap::Args;
use ipnet::IpNet;
use link::SecretValue;
use model::{Span, Timestamp};
use ring::hmac;
use root_core::{Delivery, DeliveryId, Hook, State};
use serde::Serialize;

use crate::{Brain, vault::Vault};

pub(crate) use actions::is_signed;
pub(crate) use client::{Client, parse_url};
use client::{Headers, PostError};

pub(crate) const DELIVERY: &str = "mangrove-delivery";
pub(crate) const TIMESTAMP: &str = "mangrove-timestamp";
pub(crate) const SIGNATURE: &str = "mangrove-signature";

/// How hooks are called.
#[derive(Debug, Clone, Args)]
pub struct HooksConfig {
    /// Ranges of addresses, such as 10.0.0.0/8, that hooks may lead to beside the internet. Without it those of private
    /// networks, of links, of loopback and of the root itself are refused.
    #[arg(long, env = "MANGROVE_HOOK_ALLOW", value_delimiter = ',')]
    pub hook_allow: Vec<IpNet>,

    /// A file with certificates (PEM) of the authorities that the receivers of hooks are trusted by, in place of those of
    /// the system.
    #[arg(long, env = "MANGROVE_HOOK_CA_FILE")]
    pub hook_ca_file: Option<PathBuf>,

    /// How long the receiver of a hook may take, from the look-up of its name to its answer; at most a minute.
    #[arg(long, env = "MANGROVE_HOOK_TIMEOUT", default_value_t = Self::TIMEOUT)]
    pub hook_timeout: Span,
}

impl HooksConfig {
    const TIMEOUT: Span = Span::from_secs(10);
}

impl Default for HooksConfig {
    fn default() -> Self {
        Self { hook_allow: Vec::new(), hook_ca_file: None, hook_timeout: Self::TIMEOUT }
    }
}

/// What a receiver reads; the first three as of Oakestra.
#[derive(Debug, Serialize)]
struct Message<'a> {
    entity: &'a str,
    entity_id: &'a str,
    event: &'a str,
    delivery_id: String,
    hook_name: &'a str,
    /// When it happened; RFC 3339.
    occurred_at: String,
}

/// Carries deliveries and calls of actions out and tells the brain what came of them.
pub(crate) struct Messenger {
    brain: Brain,
    vault: Arc<Vault>,
    client: Client,
}

impl Messenger {
    pub(crate) fn new(brain: Brain, vault: Arc<Vault>, client: Client) -> Self {
        Self { brain, vault, client }
    }

    /// Begins a delivery. Nothing is waited for.
    pub(crate) fn deliver(&self, state: &State, id: DeliveryId) {
        let (Some(hook), Some(delivery)) = (state.hook(id.hook), state.delivery(id)) else { return };
        let message = Message {
            entity: &hook.entity,
            entity_id: &delivery.entity_id,
            event: delivery.event.as_str(),
            delivery_id: id.to_string(),
            hook_name: &hook.name,
            occurred_at: crate::api::rfc3339(delivery.at),
        };
        let body = Bytes::from(serde_json::to_vec(&message).expect("texts can be written as JSON"));
        let headers = self.headers(hook, delivery, daemon::now(), &body);
        let (brain, client) = (self.brain.clone(), self.client.clone());
        let (url, name, was_failing) = (hook.url.clone(), hook.name.clone(), hook.status.failures > 0);
        tokio::spawn(async move {
            let outcome = match headers {
                Ok(headers) => client.post(&url, headers, body).await,
                Err(error) => Err(error),
            };
            match &outcome {
                Ok(()) if was_failing => tracing::info!(hook = name, "the hook is taken again"),
                Err(error) if !was_failing => {
                    tracing::warn!(hook = name, %error, "a hook is not taken; it is tried again")
                }
                Ok(()) | Err(_) => {}
            }
            let outcome = outcome.map_err(|error| error.to_string());
            if let Err(stopping) = brain.observe(move |state, now| state.delivered(id, outcome, now)).await {
                tracing::debug!(delivery = %id, %stopping, "the next start tries again");
            }
        });
    }

    fn headers(
        &self,
        hook: &Hook,
        delivery: &Delivery,
        now: Timestamp,
        body: &[u8],
    ) -> Result<Headers, PostError> {
        let timestamp = (now.0 / 1000).to_string();
        let mut headers = vec![(DELIVERY, delivery.id.to_string())];
        if let Some(secret) = &hook.secret {
            let version = Hook::secret_version(hook.id, secret.number);
            let value = self.vault.unseal(version, &secret.envelope).ok_or(PostError::NoSecret)?;
            headers.push((SIGNATURE, sign(&value, &timestamp, body)));
        }
        headers.push((TIMESTAMP, timestamp));
        Ok(headers)
    }
}

/// The receiver does the same and compares.
fn sign(secret: &SecretValue, timestamp: &str, body: &[u8]) -> String {
    let signed = signature(secret, &[timestamp.as_bytes(), b".", body]);
    format!("v1={}", data_encoding::HEXLOWER.encode(signed.as_ref()))
}

fn signature(secret: &SecretValue, parts: &[&[u8]]) -> hmac::Tag {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal());
    let mut context = hmac::Context::with_key(&key);
    parts.iter().for_each(|part| context.update(part));
    context.sign()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_timestamp_and_body() {
        let secret = SecretValue::new(b"key".to_vec());
        // printf '1.{}' | openssl dgst -sha256 -hmac key
        let expected = "v1=1ba6b8171186efc613e8bcc0cbdab2748f24984d7c5a84faa2637afa0e40d224";
        assert_eq!(sign(&secret, "1", b"{}"), expected);
    }
}
