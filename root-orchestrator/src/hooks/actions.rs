//! Calls actions of tasks. Which are called, when and how often is decided in the brain (`core/src/workflows`); this carries it
//! out, by the same client as hooks.
//!
//! A call is one POST of a JSON document with the headers of a hook's delivery. Its signature also covers the id of the
//! delivery, so that nobody who overheard a call can make it again under another id:
//!
//! ```text
//!   Mangrove-Signature: v2=9f86…        HMAC-SHA256 of delivery, `.`, timestamp, `.` and body
//! ```

use bytes::Bytes;
use link::SecretValue;
use model::Timestamp;
use ring::hmac;
use root_core::{ActionCall, State};

use super::{
    DELIVERY, Messenger, SIGNATURE, TIMESTAMP,
    client::{Headers, PostError},
    signature,
};

impl Messenger {
    /// Begins a call. Nothing is waited for.
    pub(crate) fn call(&self, state: &State, call: ActionCall) {
        let ActionCall { id, url, secret: _, body } = &call;
        let (id, url) = (id.clone(), url.clone());
        let was_failing = state.workflow().call(&id).is_some_and(|call| call.failures > 0);
        let body = Bytes::from(body.to_string());
        let headers = self.headers_of_call(state, &call, daemon::now(), &body);
        let (brain, client) = (self.brain.clone(), self.client.clone());
        tokio::spawn(async move {
            let outcome = match headers {
                Ok(headers) => client.post(&url, headers, body).await,
                Err(error) => Err(error),
            };
            match &outcome {
                Err(error) if !was_failing => {
                    tracing::warn!(delivery = %id, %error, "an action of a task is not taken; it is tried again");
                }
                Ok(()) | Err(_) => {}
            }
            let outcome = outcome.map_err(|error| error.to_string());
            let told = id.clone();
            let observed = brain.observe(move |state, now| state.action_called(told, outcome, now)).await;
            if let Err(stopping) = observed {
                tracing::debug!(delivery = %id, %stopping, "the next start tries again");
            }
        });
    }

    fn headers_of_call(
        &self,
        state: &State,
        call: &ActionCall,
        now: Timestamp,
        body: &[u8],
    ) -> Result<Headers, PostError> {
        let delivery = call.id.to_string();
        let timestamp = (now.0 / 1000).to_string();
        let mut headers = Vec::new();
        if let Some(version) = call.secret {
            let envelope = state.envelope(version).ok_or(PostError::NoSecret)?;
            let value = self.vault.unseal(version, envelope).ok_or(PostError::NoSecret)?;
            let signed = signature(&value, &signed_parts(&delivery, &timestamp, body));
            let digits = data_encoding::HEXLOWER.encode(signed.as_ref());
            headers.push((SIGNATURE, format!("{VERSION}{digits}")));
        }
        headers.extend([(DELIVERY, delivery), (TIMESTAMP, timestamp)]);
        Ok(headers)
    }
}

const VERSION: &str = "v2=";

fn signed_parts<'a>(delivery: &'a str, timestamp: &'a str, body: &'a [u8]) -> [&'a [u8]; 5] {
    [delivery.as_bytes(), b".", timestamp.as_bytes(), b".", body]
}

/// Whether a call from outside is signed as one of the root is, in a time that says nothing of how wrong it is.
pub(crate) fn is_signed(
    secret: &SecretValue,
    signature: &str,
    delivery: &str,
    timestamp: &str,
    body: &[u8],
) -> bool {
    let digits = signature.strip_prefix(VERSION).unwrap_or_default();
    let Ok(given) = data_encoding::HEXLOWER.decode(digits.as_bytes()) else { return false };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal());
    hmac::verify(&key, &signed_parts(delivery, timestamp, body).concat(), &given).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_delivery_timestamp_and_body() {
        let secret = SecretValue::new(b"key".to_vec());
        // printf 'x.1.{}' | openssl dgst -sha256 -hmac key
        let right = "v2=094ce37bda178c38538737be2819cdab94385688d9f1eff279c3e0918762c57e";
        let is_right = |signature: &str, delivery: &str, timestamp: &str, body: &str| {
            is_signed(&secret, signature, delivery, timestamp, body.as_bytes())
        };
        assert!(is_right(right, "x", "1", "{}"));
        for (signature, delivery, timestamp, body) in [
            (right, "y", "1", "{}"),
            (right, "x", "2", "{}"),
            (right, "x", "1", "[]"),
            (right, "x.1", "", "{}"),
            (&right.replace("v2=", "v1="), "x", "1", "{}"),
            (&right[..right.len() - 1], "x", "1", "{}"),
            ("v2=", "x", "1", "{}"),
            ("", "x", "1", "{}"),
        ] {
            assert!(
                !is_right(signature, delivery, timestamp, body),
                "{signature} {delivery} {timestamp} {body}"
            );
        }
    }
}
