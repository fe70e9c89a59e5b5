//! What every daemon does alike: logging, shutdown on signals, the clock, fresh ids, its state directory, and error
//! chains in one line.
//!
//! A daemon's `main` parses its arguments and calls [`run`]; its `lib` is the entry tests use in-process.

mod clock;
mod error;
mod ids;
mod logging;
mod recent;
mod remembered;
mod state_directory;
mod twin_file;

use std::{future::Future, process::ExitCode};

use tokio_util::sync::CancellationToken;

pub use clock::{instant_of, now, present};
pub use error::chain;
pub use ids::{
    fresh_application_id, fresh_hook_id, fresh_organization_id, fresh_resource_id, fresh_resource_type_id,
    fresh_secret_id, fresh_service_id, fresh_signing_key, fresh_user_id, fresh_uuid, random_hex,
};
pub use recent::RecentLines;
pub use remembered::Remembered;
pub use state_directory::{StateDirectory, StateDirectoryError};
pub use twin_file::TwinFile;

/// How many threads a daemon's runtime uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// One: the least memory and the fewest wake-ups. For everything below the root.
    One,
    /// This many, so that one busy request does not delay the others.
    Many(usize),
}

/// Runs a daemon until it ends or a signal (SIGINT, SIGTERM) asks it to; logs the error it ends with.
pub fn run<F>(name: &'static str, threads: Threads, daemon: impl FnOnce(CancellationToken) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    logging::start(None);
    run_logged(name, threads, daemon)
}

/// As [`run`], for a daemon that tells its last lines to whoever asks.
pub fn run_keeping<F>(
    name: &'static str,
    threads: Threads,
    daemon: impl FnOnce(CancellationToken, RecentLines) -> F,
) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    let recent = RecentLines::default();
    logging::start(Some(recent.clone()));
    run_logged(name, threads, |shutdown| daemon(shutdown, recent))
}

fn run_logged<F>(
    name: &'static str,
    threads: Threads,
    daemon: impl FnOnce(CancellationToken) -> F,
) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    let mut builder = match threads {
        Threads::One => tokio::runtime::Builder::new_current_thread(),
        Threads::Many(count) => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(count);
            builder
        }
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(error = %chain(&error), "{name} cannot start its runtime");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        tokio::spawn(cancel_on_signal(shutdown.clone()));
        daemon(shutdown).await
    });
    // A blocking thread (a log being read, say) must not hold the process back.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "{name} stopped");
            ExitCode::FAILURE
        }
    }
}

async fn cancel_on_signal(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::warn!("signals cannot be received; end this process with SIGKILL");
        return;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    shutdown.cancel();
}
