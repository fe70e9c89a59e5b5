//! Logs to standard error, filtered by `MANGROVE_LOG` (`info` unless told otherwise).

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is logged unless told otherwise. `nlink` warns of every refusal of the kernel, also of those that are expected
/// (a device that went with its container), and returns them all the same: who handles them logs them.
const DEFAULT: &str = "info,nlink=error";

/// Starts logging once; a second call in one process (tests) changes nothing.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("MANGROVE_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT));
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
