//! Lists in parts: a token says as of which revision the list is, and behind which object it goes on.

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::status::{Reason, Status};

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The list is as of this revision, whatever has changed since.
    pub revision: u64,
    /// The last object there was.
    pub after: String,
}

impl Token {
    /// As it is given to clients.
    #[must_use]
    pub fn write(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        BASE64URL_NOPAD.encode(&text)
    }

    /// As it comes back.
    ///
    /// # Errors
    /// When it is none of ours.
    pub fn read(text: &str) -> Result<Self, Status> {
        let read = BASE64URL_NOPAD.decode(text.as_bytes()).ok();
        read.and_then(|text| serde_json::from_slice(&text).ok()).ok_or_else(|| {
            Status::bad_request(
                "continue key is not valid: send what the list before answered, or list anew without it",
            )
        })
    }
}

/// What lists and watches are answered with that ask for a revision that is no longer kept.
#[must_use]
pub fn expired(asked: u64, oldest: u64) -> Status {
    let message = format!(
        "too old resource version: {asked} ({oldest}); what changed up to then is no longer kept: list anew"
    );
    Status::new(Reason::Expired, message)
}

/// What they are answered with that ask for a revision that is not there yet.
#[must_use]
pub fn too_large(asked: u64, newest: u64) -> Status {
    let message = format!("Too large resource version: {asked}, current: {newest}; list anew");
    Status::new(Reason::Timeout, message)
}
