//! The child's side: dialling a parent, and waiting between attempts.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rand::Rng;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::{Identity, JoinToken, Subject, connection, tls};

/// A parent whose kernel does not answer within this is tried again later.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How often a parent is asked whether its process lives.
const ASK: Duration = Duration::from_secs(60);
/// How long it may take to answer, also with a handshake: thousands may be before this one. One that is busy is not made less
/// so by who gives up and dials again, and that one waits behind all others then. That its host lives is looked after by the
/// kernels, see `connection`.
const ANSWER: Duration = Duration::from_secs(60);

/// How to dial.
#[derive(Debug, Clone, Copy)]
pub enum Dial<'a> {
    /// With a certificate, and only to this parent.
    As(&'a Identity, Subject),
    /// With a token, to enrol.
    Joining(&'a JoinToken),
}

/// A parent that cannot be reached or is not who it should be.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Key or certificate cannot be used for TLS.
    #[error("own key or certificate cannot be used")]
    Identity(#[source] rustls::Error),
    /// No connection, or a refused one.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// The innermost cause, which is what a person needs.
        reason: String,
    },
}

/// A connection and where it leads.
#[derive(Debug, Clone)]
pub struct Dialled {
    /// The connection.
    pub channel: Channel,
    /// Which of the parent's addresses answered. Beats go there too.
    pub address: SocketAddr,
}

/// Connects to `address` (`host:port`, an IPv6 address in brackets).
///
/// # Errors
/// See [`DialError`]; each attempt is bounded by ten seconds until there is a connection, and sixty for the handshake.
pub async fn dial(address: &str, how: Dial<'_>) -> Result<Channel, DialError> {
    dial_to(address, how).await.map(|dialled| dialled.channel)
}

/// As [`dial`], and says which of the parent's addresses answered.
///
/// # Errors
/// See [`dial`].
pub async fn dial_to(address: &str, how: Dial<'_>) -> Result<Dialled, DialError> {
    let config = match how {
        Dial::As(identity, parent) => tls::client_config(identity, parent),
        Dial::Joining(token) => tls::joining_config(*token.ca_pin()),
    };
    let config = Arc::new(config.map_err(DialError::Identity)?);
    let unreachable = |reason: String| DialError::Unreachable { address: address.to_owned(), reason };
    // The authority of the URI is not used to dial; the connector below knows the address.
    let endpoint = Endpoint::from_static("http://parent.mangrove")
        .http2_keep_alive_interval(ASK)
        .keep_alive_timeout(ANSWER)
        .keep_alive_while_idle(true);
    let target = address.to_owned();
    let reached = Arc::new(OnceLock::new());
    let reaching = Arc::clone(&reached);
    let connector =
        service_fn(move |_: Uri| connect(target.clone(), Arc::clone(&config), Arc::clone(&reaching)));
    let connected = endpoint.connect_with_connector(connector).await;
    let channel = connected.map_err(|error| unreachable(innermost(&error)))?;
    let address = *reached.get().ok_or_else(|| unreachable("its address is not known".to_owned()))?;
    Ok(Dialled { channel, address })
}

async fn connect(
    address: String,
    config: Arc<ClientConfig>,
    reached: Arc<OnceLock<SocketAddr>>,
) -> io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
    let stream = within(CONNECT_DEADLINE, "no answer", TcpStream::connect(&address)).await?;
    connection::set_up(&stream)?;
    // The first is the one that is told; a connection that is made anew ends the session anyway.
    let peer = stream.peer_addr()?;
    reached.get_or_init(|| peer);
    let name = ServerName::try_from("parent.mangrove").expect("a valid DNS name");
    let shaking = TlsConnector::from(config).connect(name, stream);
    let busy = "it took the connection and said nothing; it is busy, or no Mangrove listens there: no answer";
    Ok(TokioIo::new(within(ANSWER, busy, shaking).await?))
}

async fn within<T>(
    deadline: Duration,
    what: &str,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {} s", deadline.as_secs()));
    tokio::time::timeout(deadline, work).await.map_err(late)?
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// How long to wait before the next attempt: doubling, unless told from a quarter of a second to four seconds, spread over
/// half of it so that a thousand children of a restarted parent do not come at once.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    next: Duration,
    last: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        // Children of a parent that is back are all there within five seconds.
        Self::between(Duration::from_millis(250), Duration::from_secs(4))
    }
}

impl Backoff {
    /// Doubling from `first` to `last`.
    #[must_use]
    pub const fn between(first: Duration, last: Duration) -> Self {
        Self { first, next: first, last }
    }

    /// The wait before the next attempt.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.next = (self.next * 2).min(self.last);
        wait
    }

    /// To be called after a success.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}
