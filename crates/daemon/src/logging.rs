//! Logs to standard error, filtered by `MANGROVE_LOG` (`info` unless told otherwise).

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, layer::SubscriberExt, registry::LookupSpan, util::SubscriberInitExt,
};

use crate::RecentLines;

/// What is logged unless told otherwise. `nlink` warns of every refusal of the kernel, also of those that are expected
/// (a device that went with its container), and returns them all the same: who handles them logs them.
const DEFAULT: &str = "info,nlink=error";

/// Starts logging once; a second call in one process (tests) changes nothing.
pub(crate) fn start(recent: Option<RecentLines>) {
    let filter = EnvFilter::try_from_env("MANGROVE_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let to_stderr = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let started = tracing_subscriber::registry().with(filter).with(to_stderr).with(recent.map(to)).try_init();
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}

/// Keeps what is logged.
pub(crate) fn to<S>(recent: RecentLines) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer().with_writer(recent).with_ansi(false).with_target(false)
}
