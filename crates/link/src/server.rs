//! The parent's side: one TLS port, gRPC on it, and who is calling.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{
    Request, Status,
    transport::server::{Connected, Router},
};

use crate::{Identity, Subject, connection, tls};

/// A handshake that takes longer is given up, so that idle connections cannot pile up.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Handshakes under way: a thousand silent connections must not keep the next one out.
const HANDSHAKES: usize = 2048;
/// Connections that are not yet picked up.
const ACCEPT_QUEUE: usize = 64;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// What its certificate says; `None` when it showed none.
    pub subject: Option<Subject>,
    /// Where it connects from, as seen here.
    pub address: SocketAddr,
}

/// An accepted connection.
#[derive(Debug)]
pub struct Incoming {
    stream: TlsStream<TcpStream>,
    peer: Peer,
}

impl Connected for Incoming {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Incoming {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Incoming {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Who sent a request.
///
/// # Panics
/// When the request did not come through [`serve`].
pub fn peer_of<T>(request: &Request<T>) -> Peer {
    *request.extensions().get::<Peer>().expect("requests arrive through serve()")
}

/// Who sent a request, which must have shown a certificate.
///
/// # Errors
/// `UNAUTHENTICATED` when it has not.
pub fn require_peer<T>(request: &Request<T>) -> Result<Subject, Status> {
    peer_of(request).subject.ok_or_else(|| {
        Status::unauthenticated(
            "this call needs a certificate; join with a token from `mangrove token create`",
        )
    })
}

/// Serves the routes on `listener` until `shutdown`. Streams that are open then end with the process; peers reconnect.
///
/// # Errors
/// When the identity cannot be used for TLS or the port fails.
pub async fn serve(
    listener: TcpListener,
    identity: &Identity,
    routes: impl FnOnce(tonic::transport::Server) -> Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let config = tls::server_config(identity).map_err(io::Error::other)?;
    let (accepted, connections) = mpsc::channel(ACCEPT_QUEUE);
    // Ends with this future, however that ends: nobody may be let in whom nobody serves.
    let _accepting = AbortOnDropHandle::new(tokio::spawn(accept_all(
        listener,
        TlsAcceptor::from(Arc::new(config)),
        accepted,
    )));
    let router = routes(tonic::transport::Server::builder());
    tokio::select! {
        result = router.serve_with_incoming(ReceiverStream::new(connections)) => {
            result.map_err(io::Error::other)
        }
        () = shutdown.cancelled() => Ok(()),
    }
}

async fn accept_all(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    accepted: mpsc::Sender<io::Result<Incoming>>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                // Out of file descriptors, most likely: others keep working, this one tries again.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let (acceptor, accepted) = (acceptor.clone(), accepted.clone());
        tokio::spawn(async move {
            let shaken = handshake(stream, address, &acceptor).await;
            drop(place);
            match shaken {
                Ok(incoming) => {
                    if accepted.send(Ok(incoming)).await.is_err() {
                        tracing::debug!(%address, "a peer came while the port was closing");
                    }
                }
                Err(error) => tracing::warn!(%address, %error, "a peer was refused"),
            }
        });
    }
}

async fn handshake(stream: TcpStream, address: SocketAddr, acceptor: &TlsAcceptor) -> io::Result<Incoming> {
    connection::set_up(&stream)?;
    let stream = tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long"))??;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let subject = match certificate {
        None => None,
        Some(certificate) => {
            let uri = tls::subject_of(certificate)
                .ok_or_else(|| io::Error::other("its certificate has no single URI name"))?;
            Some(uri.parse().map_err(io::Error::other)?)
        }
    };
    Ok(Incoming { stream, peer: Peer { subject, address } })
}
