//! The parent's side: one TLS port, gRPC on it, and who is calling. Whom the port lets in is decided in `lineage.rs`.

use std::{
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{
    Request, Status,
    transport::server::{Connected, Router},
};

use crate::{
    Identity, Revocations, Subject,
    authority::whole_key_of,
    connection,
    record::{key_of, lifetime_of},
    refusal::{Kind, Refusal, Told},
    revocations::Standing,
    tls,
    turns::{self, Turns},
};

/// A handshake that takes longer is given up where others wait to be let in, so that idle connections cannot pile up. The
/// time until it is its turn does not count: its peer would come again, and wait behind all others.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// It is given up after this in any case. Where there is room it may be that the peer is slow, or as busy as this host is.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(60);
/// Handshakes under way: a thousand silent connections must not keep the next one out.
const HANDSHAKES: usize = 2048;
/// How often it is told that somebody waits to be let in.
const STILL_HERE: Duration = Duration::from_secs(1);
/// Connections that are not yet picked up.
const ACCEPT_QUEUE: usize = 64;
const REVOKED: &str = "its certificate was revoked";
const NO_CERTIFICATE: &str = "this call needs a certificate; join with a token from `mangrove token create`";

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// What its certificate says; `None` when it showed none that is good.
    pub subject: Option<Subject>,
    /// What its certificate said, which has ended: it may be renewed, and is good for nothing else.
    pub ended: Option<Subject>,
    /// Which key it has shown that it has.
    key: Option<[u8; 32]>,
    /// Where it connects from, as seen here.
    pub address: SocketAddr,
    newcomer: Arc<Newcomer>,
}

/// A connection that has asked for nothing yet. Counted until it does, or ends.
#[derive(Debug)]
struct Newcomer {
    all: Arc<AtomicUsize>,
    is_counted: AtomicBool,
}

impl Newcomer {
    fn among(all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self { all: Arc::clone(all), is_counted: AtomicBool::new(true) }
    }

    fn is_heard(&self) {
        if self.is_counted.swap(false, Ordering::Relaxed) {
            self.all.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.is_heard();
    }
}

/// An accepted connection.
#[derive(Debug)]
pub struct Incoming {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// Of those with a certificate.
    standing: Option<Standing>,
}

impl Connected for Incoming {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Incoming {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // HTTP/2 always waits for something to read, so it ends with this.
        if self.standing.as_mut().is_some_and(|standing| standing.poll_cut(context).is_ready()) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, REVOKED)));
        }
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

/// Who sent a request. With its first one a connection does not knock any more: see [`serve`].
///
/// # Panics
/// When the request did not come through [`serve`].
pub fn peer_of<T>(request: &Request<T>) -> &Peer {
    let peer = request.extensions().get::<Peer>().expect("requests arrive through serve()");
    peer.newcomer.is_heard();
    peer
}

/// Who sent a request, which must have shown a certificate.
///
/// # Errors
/// `UNAUTHENTICATED` when it has not.
pub fn require_peer<T>(request: &Request<T>) -> Result<Subject, Status> {
    let peer = peer_of(request);
    peer.subject.ok_or_else(|| match peer.ended {
        Some(_) => Status::unauthenticated("the certificate has ended, and must be renewed first"),
        None => Status::unauthenticated(NO_CERTIFICATE),
    })
}

/// Who asks for a certificate in place of the one it has shown, which may have ended. That it has the key it has proved
/// just now, by the handshake of this connection.
///
/// # Errors
/// `UNAUTHENTICATED` when it has shown none, `INVALID_ARGUMENT` when it asks for one for another key.
pub fn renewing_peer<T>(request: &Request<T>, certificate_request_pem: &str) -> Result<Subject, Status> {
    let peer = peer_of(request);
    let subject = peer.subject.or(peer.ended).ok_or_else(|| Status::unauthenticated(NO_CERTIFICATE))?;
    let asked =
        whole_key_of(certificate_request_pem).map_err(|error| Status::invalid_argument(error.to_string()))?;
    if peer.key != Some(asked) {
        return Err(Status::invalid_argument(
            "a certificate is renewed for the key it is for; to have another key, remove the identity files and join anew",
        ));
    }
    Ok(subject)
}

/// Serves the routes on `listener` until `shutdown`, as who `identity` is at each connection: those that stand go on when
/// it is renewed, and end when who is there is revoked. Streams that are open at the end, end with the process; peers
/// reconnect. `knocked` is called for each connection before it is known who it is from, and each second while there is one
/// that has yet to ask for something.
///
/// # Errors
/// When the identity cannot be used for TLS or the port fails.
pub async fn serve(
    listener: TcpListener,
    identity: watch::Receiver<Identity>,
    revocations: Revocations,
    knocked: impl Fn() + Send + Sync + 'static,
    routes: impl FnOnce(tonic::transport::Server) -> Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let door = Door::new(identity, revocations).map_err(io::Error::other)?;
    let (accepted, connections) = mpsc::channel(ACCEPT_QUEUE);
    // Ends with this future, however that ends: nobody may be let in whom nobody serves.
    let _accepting = AbortOnDropHandle::new(tokio::spawn(accept_all(listener, door, knocked, accepted)));
    let router = routes(tonic::transport::Server::builder());
    tokio::select! {
        result = router.serve_with_incoming(ReceiverStream::new(connections)) => {
            result.map_err(io::Error::other)
        }
        () = shutdown.cancelled() => Ok(()),
    }
}

/// Whom this parent is to those who come.
struct Door {
    identity: watch::Receiver<Identity>,
    revocations: Revocations,
    acceptor: TlsAcceptor,
}

impl Door {
    fn new(mut identity: watch::Receiver<Identity>, revocations: Revocations) -> Result<Self, rustls::Error> {
        let config = tls::server_config(&identity.borrow_and_update(), &revocations)?;
        Ok(Self { identity, revocations, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// With the newest certificate.
    fn acceptor(&mut self) -> TlsAcceptor {
        if self.identity.has_changed().unwrap_or(false) {
            match tls::server_config(&self.identity.borrow_and_update(), &self.revocations) {
                Ok(config) => self.acceptor = TlsAcceptor::from(Arc::new(config)),
                Err(error) => {
                    tracing::error!(%error, "the renewed certificate cannot be shown, the old one is")
                }
            }
        }
        self.acceptor.clone()
    }
}

async fn accept_all(
    listener: TcpListener,
    mut door: Door,
    knocked: impl Fn() + Sync,
    accepted: mpsc::Sender<io::Result<Incoming>>,
) {
    let entrance = Arc::new(Entrance {
        places: Arc::new(Semaphore::new(HANDSHAKES)),
        newcomers: Arc::new(AtomicUsize::new(0)),
        turns: turns::handshakes(),
        deadline: HANDSHAKE_DEADLINE,
        patience: HANDSHAKE_PATIENCE,
    });
    let told = Arc::new(Told::default());
    loop {
        let (stream, address) = match entrance.meanwhile(listener.accept(), &knocked).await {
            Ok(connection) => connection,
            Err(error) => {
                // Out of file descriptors, most likely: others keep working, this one tries again.
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        knocked();
        let newcomer = Newcomer::among(&entrance.newcomers);
        let place = Arc::clone(&entrance.places).acquire_owned();
        let Ok(place) = entrance.meanwhile(place, &knocked).await else { return };
        let (acceptor, accepted, told) = (door.acceptor(), accepted.clone(), Arc::clone(&told));
        let (identity, revocations) = (door.identity.clone(), door.revocations.clone());
        let entrance = Arc::clone(&entrance);
        tokio::spawn(async move {
            let shaken = entrance.handshake(stream, &acceptor).await;
            drop(place);
            match shaken {
                Ok(stream) => {
                    let peer = peer_behind(&stream, address, &identity.borrow(), newcomer);
                    if let Some(subject) = peer.ended {
                        let detail = format!("the certificate of {subject} has ended; it may renew it");
                        told.tell(address, &Refusal { kind: Kind::Expired, detail });
                    }
                    let standing = peer.subject.or(peer.ended).and_then(|it| revocations.watch(it));
                    let incoming = Incoming { stream, peer, standing };
                    if accepted.send(Ok(incoming)).await.is_err() {
                        tracing::debug!(%address, "a peer came while the port was closing");
                    }
                }
                Err(refusal) => told.tell(address, &refusal),
            }
        });
    }
}

/// Where those wait whom it is not known who they are.
struct Entrance {
    places: Arc<Semaphore>,
    /// How many have asked for nothing yet, whether or not their handshake is over: among thousands that come at once
    /// each waits for the others at every step.
    newcomers: Arc<AtomicUsize>,
    turns: Arc<Turns>,
    deadline: Duration,
    patience: Duration,
}

impl Entrance {
    /// Waits for something, and tells each second that there are newcomers, as long as there are.
    async fn meanwhile<T>(&self, something: impl Future<Output = T>, knocked: &(impl Fn() + Sync)) -> T {
        let mut something = pin!(something);
        loop {
            // Nobody comes but by this way, so there is nothing to look for while there is nobody.
            let is_anybody_here = || self.newcomers.load(Ordering::Relaxed) > 0;
            tokio::select! {
                done = &mut something => return done,
                () = sleep(STILL_HERE), if is_anybody_here() => {
                    if is_anybody_here() {
                        knocked();
                    }
                }
            }
        }
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        acceptor: &TlsAcceptor,
    ) -> Result<TlsStream<TcpStream>, Refusal> {
        connection::set_up(&stream)?;
        // Who says nothing takes nobody's turn.
        self.in_time(stream.readable()).await?;
        let work = async {
            if stream.ready(Interest::READABLE).await?.is_read_closed() {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "it hung up before its turn"));
            }
            acceptor.accept(stream).await
        };
        Ok(self.turns.take(self.in_time(work)).await?)
    }

    /// Does work that waits for the peer, unless it takes too long: see the constants above.
    async fn in_time<T>(&self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let mut work = pin!(work);
        let patient_until = Instant::now() + self.patience;
        loop {
            match timeout(self.deadline, &mut work).await {
                Ok(done) => return done,
                Err(_) if self.places.available_permits() > 0 && Instant::now() < patient_until => {}
                Err(_) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long"));
                }
            }
        }
    }
}

/// Who has shaken hands. What the certificate says was checked then.
fn peer_behind(
    stream: &TlsStream<TcpStream>,
    address: SocketAddr,
    identity: &Identity,
    newcomer: Newcomer,
) -> Peer {
    let nobody = Peer { subject: None, ended: None, key: None, address, newcomer: Arc::new(newcomer) };
    let chain = stream.get_ref().1.peer_certificates();
    let Some(certificate) = chain.and_then(|chain| chain.first()) else { return nobody };
    let (named, key) = (tls::named_by(certificate), key_of(certificate));
    let good = lifetime_of(certificate).is_some_and(|lifetime| !lifetime.has_ended(identity.now()));
    let (subject, ended) = if good { (named, None) } else { (None, named) };
    Peer { subject, ended, key, ..nobody }
}

#[cfg(test)]
mod tests {
    use daemon::StateDirectory;
    use model::ClusterId;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{Authority, Dial, KeyPair, dial};

    /// A handshake takes less.
    const SHORT: Duration = Duration::from_millis(700);

    fn entrance(places: usize, deadline: Duration, patience: Duration) -> Entrance {
        let turns = Arc::new(Turns::new(1, Duration::from_secs(3600)));
        let newcomers = Arc::new(AtomicUsize::new(0));
        Entrance { places: Arc::new(Semaphore::new(places)), newcomers, turns, deadline, patience }
    }

    #[tokio::test]
    async fn who_waits_for_its_turn_is_not_given_up() {
        let directory = tempfile::tempdir().expect("a directory");
        let state = StateDirectory::open(directory.path()).expect("usable");
        let root = Subject::Root { root: daemon::fresh_uuid() };
        let authority = Authority::load_or_create(&state, root.root(), daemon::now()).expect("made");
        let identity_of = |subject| {
            let key = KeyPair::load_or_generate(&state).expect("a key");
            let request = key.certificate_request().expect("a request");
            let certificate = authority.certify(&request, subject, daemon::now()).expect("signed");
            Identity::new(&key, &certificate, authority.certificate_pem()).expect("fits")
        };
        let door = Door::new(watch::channel(identity_of(root)).1, Revocations::default()).expect("usable");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let entrance = entrance(0, SHORT, SHORT);
        let (end, ended) = oneshot::channel::<()>();
        let first = entrance.turns.take(async { drop(ended.await) });
        let cluster = ClusterId::new(daemon::fresh_uuid());
        let child = identity_of(Subject::Cluster { root: root.root(), cluster });
        let child = async { dial(&address, Dial::As(&child, root)).await };
        let second = async {
            let (stream, _) = listener.accept().await.expect("the child comes");
            stream.readable().await.expect("it speaks first");
            entrance.handshake(stream, &door.acceptor).await
        };
        let wait = async {
            sleep(SHORT * 3).await;
            end.send(()).expect("awaited by the first");
        };
        let ((), child, shaken, ()) = tokio::join!(first, child, second, wait);
        child.expect("it was patient");
        shaken.unwrap_or_else(|refusal| panic!("{}", refusal.detail));
    }

    #[tokio::test]
    async fn who_is_slow_is_waited_for_while_there_is_room() {
        const LATE: Duration = Duration::from_millis(1);
        let entrance = entrance(1, LATE, Duration::from_secs(3600));
        let mut slow = pin!(entrance.in_time(std::future::pending::<io::Result<()>>()));
        assert!(timeout(LATE * 100, &mut slow).await.is_err(), "nobody needs its place");
        let _all_there_is = entrance.places.acquire().await.expect("open");
        let ended = timeout(Duration::from_secs(60), slow).await.expect("others wait");
        assert_eq!(ended.expect_err("given up").kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn nobody_is_waited_for_without_end() {
        let entrance = entrance(1, Duration::from_millis(1), Duration::from_millis(5));
        let slow = entrance.in_time(std::future::pending::<io::Result<()>>());
        let ended = timeout(Duration::from_secs(60), slow).await.expect("it ends");
        assert_eq!(ended.expect_err("given up").kind(), io::ErrorKind::TimedOut);
    }
}
