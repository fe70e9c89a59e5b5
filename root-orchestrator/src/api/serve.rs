//! The port of the REST API: whoever connects is held to limits, and speaks plain HTTP or TLS as `tls.rs` says.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
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

/// Connections at once, those that follow something among them; more wait until one ends. Each holds a few ten kilobytes.
const CONNECTIONS: usize = 4096;
/// A connection that has sent no whole head of a request for so long is closed. Longer than clients keep one that they do
/// not use (90 s), so that none is closed while a request is on its way.
const HEAD_WITHIN: Duration = Duration::from_secs(120);
/// A handshake that takes longer is given up.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
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
        let connection = Connection { from, router: router.clone(), ended: ended.clone(), _place: place };
        match &transport {
            Transport::Plain => drop(tokio::spawn(connection.hold(stream))),
            Transport::Tls(tls) => drop(tokio::spawn(connection.hold_encrypted(stream, Arc::clone(tls)))),
        }
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
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
        match timeout(HANDSHAKE_WITHIN, greeting).await {
            Ok(Ok(stream)) => self.hold(stream).await,
            Ok(Err(error)) => tracing::debug!(%from, %error, "no handshake with a client of the API"),
            Err(_) => tracing::debug!(%from, "a client of the API began no handshake in time"),
        }
    }

    async fn hold(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self { from, router, ended, _place } = self;
        let answer = service_fn(move |mut request: Request<Incoming>| {
            // Whoever guesses passwords is slowed down by the address they come from.
            request.extensions_mut().insert(ConnectInfo(from));
            router.clone().oneshot(request.map(Body::new))
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
        let serving = builder.serve_connection(TokioIo::new(stream), answer);
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

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Arc};

    use axum::routing::get;
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn at_the_end_what_is_asked_already_is_answered_and_nothing_more() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow = {
            let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
            move || async move {
                begun.notify_one();
                go_on.notified().await;
                "done"
            }
        };
        let shutdown = CancellationToken::new();
        let router = Router::new().route("/", get(slow));
        let serving = tokio::spawn(serve(listener, Transport::Plain, router, shutdown.clone()));
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(b"GET / HTTP/1.1\r\nhost: root\r\n\r\n").await.expect("sent");
        begun.notified().await;
        shutdown.cancel();
        serving.await.expect("no panic").expect("it ends");
        assert!(TcpStream::connect(address).await.is_err(), "nobody is let in any more");
        go_on.notify_one();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the connection is closed after it");
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("done"), "{answer}");
    }

    #[test]
    fn who_speaks_no_tls_is_told_so_in_an_answer_that_is_whole() {
        let (head, body) = SPEAK_TLS.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.ends_with(&format!("content-length: {}\r\nconnection: close", body.len())), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["error"], "tls_only");
    }
}
