//! A daemon in a runtime of its own, so that it can be killed with everything it started.

use std::{future::Future, net::TcpListener};

use tokio::{runtime::Runtime, sync::oneshot};
use tokio_util::sync::CancellationToken;

/// One run of a daemon. Dropping it kills it in the middle of whatever it does: sockets close, nothing is finished.
#[derive(Debug)]
pub struct Daemon {
    runtime: Option<Runtime>,
    ended: oneshot::Receiver<anyhow::Result<()>>,
}

impl Daemon {
    /// Starts `run` in a new runtime, with a token that is never cancelled: tests kill.
    ///
    /// # Panics
    /// When the system has no threads left.
    pub fn start<F>(run: impl FnOnce(CancellationToken) -> F + Send + 'static) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads are left");
        let (end, ended) = oneshot::channel();
        runtime.spawn(async move {
            let outcome = run(CancellationToken::new()).await;
            // Killed daemons have nobody who waits for their end.
            drop(end.send(outcome));
        });
        Self { runtime: Some(runtime), ended }
    }

    /// Waits for it to end by itself; its error as one line.
    ///
    /// # Panics
    /// When it ends without an error, or panics.
    pub async fn failure(mut self) -> String {
        let ended = (&mut self.ended).await.expect("the daemon does not panic");
        format!("{:#}", ended.expect_err("the daemon should have failed"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A bound port as the current runtime uses it.
///
/// # Panics
/// When the socket cannot be used.
pub(crate) fn adopt(listener: TcpListener) -> tokio::net::TcpListener {
    listener.set_nonblocking(true).expect("a socket can be switched");
    tokio::net::TcpListener::from_std(listener).expect("inside a runtime")
}
