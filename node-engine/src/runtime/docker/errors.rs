//! What a "no" of Docker means.

use bollard::errors::Error;
use node_core::ContainerId;

use crate::runtime::RuntimeError;

/// The HTTP status of a "no".
#[expect(clippy::wildcard_enum_match_arm, reason = "an enum of another crate; the rest carries no status")]
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// A start can be refused with 404 for a missing container, but also for a missing command in it.
pub(super) fn is_no_such_container(error: &Error) -> bool {
    error.to_string().contains("No such container")
}

pub(super) fn is_being_removed(error: &Error) -> bool {
    error.to_string().contains("marked for removal")
}

pub(super) fn unless_missing(error: Error) -> Result<(), Error> {
    match status(&error) {
        Some(404 | 304) => Ok(()),
        Some(_) | None => Err(error),
    }
}

/// Whether the engine said no, or said nothing.
#[expect(clippy::wildcard_enum_match_arm, reason = "an enum of another crate; the rest is transport")]
pub(super) fn failure(error: Error) -> RuntimeError {
    match error {
        Error::DockerResponseServerError { message, .. } => {
            RuntimeError::Refused { detail: message.trim().to_owned() }
        }
        Error::DockerStreamError { error } => RuntimeError::Refused { detail: error },
        other => RuntimeError::Unreachable { detail: daemon::chain(&other).to_string() },
    }
}

pub(super) fn refused(error: impl std::fmt::Display) -> RuntimeError {
    RuntimeError::Refused { detail: error.to_string() }
}

pub(super) fn gone_if_missing(error: RuntimeError, container: &ContainerId) -> RuntimeError {
    match error {
        RuntimeError::Refused { detail } if detail.contains("No such container") => {
            RuntimeError::Gone { container: container.clone() }
        }
        RuntimeError::Refused { .. }
        | RuntimeError::ImageMissing { .. }
        | RuntimeError::NameTaken { .. }
        | RuntimeError::Gone { .. }
        | RuntimeError::Unreachable { .. } => error,
    }
}

/// Says what was attempted before the engine's own words.
pub(super) fn in_words(what: &str, error: RuntimeError) -> RuntimeError {
    match error {
        RuntimeError::Refused { detail } => RuntimeError::Refused { detail: format!("{what}: {detail}") },
        RuntimeError::ImageMissing { .. }
        | RuntimeError::NameTaken { .. }
        | RuntimeError::Gone { .. }
        | RuntimeError::Unreachable { .. } => error,
    }
}
