//! Logs to standard error, filtered by `MANGROVE_LOG` (`info` unless told otherwise).

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging once; a second call in one process (tests) changes nothing.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("MANGROVE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}
