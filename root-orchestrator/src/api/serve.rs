//! The port of the REST API: whoever connects is held to limits (`serve/patience.rs`), and speaks plain HTTP or TLS as `tls.rs`
//! says.

mod patience;
#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::tls::{Tls, Transport};
pub(super) use patience::{BodyError, Patience};
use patience::{Taken, TimelyBody};

/// Connections at once, those that follow something among them; more wait until one ends. Each holds a few ten kilobytes.
const CONNECTIONS: usize = 4096;
/// The port is left alone for so long when the process has no room for another connection.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(500);
/// How TLS begins.
const HANDSHAKE_RECORD: u8 = 22;
const SPEAK_TLS: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 84\r\nconnection: close\r\n\r\n{\"error\":\"tls_only\",\"message\":\"this port speaks TLS only; put https:// before it\"}\r\n";

/// Serves until `shutdown`; requests under way may finish unless they follow something.
pub(crate) async fn serve(
    listener: TcpListener,
    transport: Transport,
    router: Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    serve_patiently(listener, transport, router, shutdown, Patience::default()).await
}

/// The same with other limits.
pub(super) async fn serve_patiently(
    listener: TcpListener,
    transport: Transport,
    router: Router,
    shutdown: CancellationToken,
    patience: Patience,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // However this future ends, its connections are told.
    let ended = shutdown.child_token();
    let _ending = ended.clone().drop_guard();
    loop {
        let accepting = async {
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((accept(&listener).await, place))
        };
        let ((stream, from), place) = tokio::select! {
            accepted = accepting => accepted?,
            () = shutdown.cancelled() => return Ok(()),
        };
        let (router, ended) = (router.clone(), ended.clone());
        let connection = Connection { from, router, ended, patience, _place: place };
        match &transport {
            Transport::Plain => drop(tokio::spawn(connection.hold(stream))),
            Transport::Tls(tls) => drop(tokio::spawn(connection.hold_encrypted(stream, Arc::clone(tls)))),
        }
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => match stream.set_nodelay(true) {
                // What happens is told at once: else the kernel keeps it until the client has confirmed what came before,
                // for which it takes up to 40 ms.
                Ok(()) => return (stream, from),
                Err(error) => tracing::debug!(%from, %error, "a client of the API has gone again"),
            },
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                tracing::error!(%error, "the API cannot take another connection, it tries again; are there enough open files (ulimit -n)?");
                sleep(NO_ROOM_PAUSE).await;
            }
        }
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    [ConnectionAborted, ConnectionRefused, ConnectionReset].contains(&error.kind())
}

/// One that was accepted.
struct Connection {
    from: SocketAddr,
    router: Router,
    ended: CancellationToken,
    patience: Patience,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn hold_encrypted(self, stream: TcpStream, tls: Arc<Tls>) {
        let from = self.from;
        let greeting = async {
            let mut first = [0];
            if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE_RECORD {
                ask_for_tls(stream).await?;
                return Err(io::Error::other("it does not speak TLS"));
            }
            tls.acceptor().await.accept(stream).await
        };
        match timeout(self.patience.handshake, greeting).await {
            Ok(Ok(stream)) => self.hold(stream).await,
            Ok(Err(error)) => tracing::debug!(%from, %error, "no handshake with a client of the API"),
            Err(_) => tracing::debug!(%from, "a client of the API began no handshake in time"),
        }
    }

    async fn hold(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self { from, router, ended, patience, _place } = self;
        let answer = service_fn(move |mut request: Request<Incoming>| {
            // Whoever guesses passwords is slowed down by the address they come from.
            request.extensions_mut().insert(ConnectInfo(from));
            router.clone().oneshot(request.map(|body| match body.is_end_stream() {
                true => Body::empty(),
                false => Body::new(TimelyBody::new(body, patience.body)),
            }))
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(patience.head);
        let stream = TokioIo::new(Taken::new(stream, patience.taking));
        let serving = builder.serve_connection(stream, answer);
        tokio::pin!(serving);
        let served = tokio::select! {
            served = serving.as_mut() => served,
            () = ended.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = served {
            // A client may leave whenever it likes.
            tracing::debug!(%from, error = %daemon::chain(&error), "a connection of the API broke");
        }
    }
}

/// Answers who speaks plain HTTP. What was sent is read first: a connection that is closed with something unread in it takes
/// the answer back.
async fn ask_for_tls(mut stream: TcpStream) -> io::Result<()> {
    let mut unread = [0; 4096];
    let _part = stream.read(&mut unread).await?;
    stream.write_all(SPEAK_TLS.as_bytes()).await?;
    stream.shutdown().await?;
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}
