//! Questions about names of others are handed on to the name servers the device itself asks. An answer from elsewhere is
//! not believed: every question leaves by a port and under an id of its own, and comes back over a socket that hears
//! nobody but the server asked.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::message::{Request, is_refusal};

/// Where name servers listen.
const PORT: u16 = 53;
/// A server that is there answers much sooner; the C library of the instance gives up after five seconds.
const ATTEMPT: Duration = Duration::from_secs(2);
/// For all attempts together.
const DEADLINE: Duration = Duration::from_secs(5);
/// One for each name server `resolv.conf` may have; more do not fit into the deadline.
const ATTEMPTS: usize = 3;
/// What clients and servers agree on for one datagram at most; beyond it an answer is asked for by TCP.
const LARGEST_DATAGRAM: usize = 4096;

/// How a question came, and is handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Upstream {
    file: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Of which file, and as of when.
    version: Option<(u64, SystemTime)>,
    resolvers: Vec<IpAddr>,
}

impl Upstream {
    /// `file` is a `resolv.conf`.
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, known: Mutex::default() }
    }

    /// The answer to `request`, which came as `bytes`; a failure when nobody gives one.
    pub(super) async fn ask(&self, request: &Request, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let resolvers = self.resolvers();
        let attempts = async {
            let mut refusal = None;
            for resolver in resolvers.iter().cycle().take(ATTEMPTS) {
                let resolver = SocketAddr::new(*resolver, PORT);
                let attempt = async {
                    match transport {
                        Transport::Udp => ask_by_udp(resolver, request, bytes).await,
                        Transport::Tcp => ask_by_tcp(resolver, request, bytes).await,
                    }
                };
                match timeout(ATTEMPT, attempt).await {
                    Ok(Ok(reply)) if is_refusal(&reply) => refusal = Some(reply),
                    Ok(Ok(reply)) => return Some(reply),
                    Ok(Err(error)) => tracing::debug!(%resolver, %error, "a name server cannot be asked"),
                    Err(_) => tracing::debug!(%resolver, "a name server does not answer"),
                }
            }
            refusal
        };
        timeout(DEADLINE, attempts).await.ok().flatten().or_else(|| request.unanswered())
    }

    /// Read again whenever the file is another one or was written to.
    fn resolvers(&self) -> Vec<IpAddr> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let metadata = std::fs::metadata(&self.file);
        let version = metadata.and_then(|metadata| Ok((metadata.ino(), metadata.modified()?))).ok();
        if version.is_none() || known.version != version {
            let resolvers = match std::fs::read_to_string(&self.file) {
                Ok(text) => net_core::resolvers_of(&text),
                Err(error) => {
                    tracing::debug!(file = %self.file.display(), %error, "no name servers are known");
                    Vec::new()
                }
            };
            if resolvers != known.resolvers {
                tracing::info!(?resolvers, "names of others are asked of these servers");
            }
            *known = Known { version, resolvers };
        }
        known.resolvers.clone()
    }
}

/// The question with another id, which nobody else knows.
fn in_disguise(bytes: &[u8]) -> (u16, Vec<u8>) {
    let id = u16::from_str_radix(&daemon::random_hex::<2>(), 16).expect("four hexadecimal digits");
    (id, with_id(bytes, id))
}

fn with_id(bytes: &[u8], id: u16) -> Vec<u8> {
    let mut message = bytes.to_vec();
    if let Some(place) = message.first_chunk_mut() {
        *place = id.to_be_bytes();
    }
    message
}

async fn ask_by_udp(resolver: SocketAddr, request: &Request, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if resolver.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    let (id, question) = in_disguise(bytes);
    socket.send(&question).await?;
    // One byte more shows that there would be more.
    let mut reply = vec![0; LARGEST_DATAGRAM + 1];
    loop {
        let length = socket.recv(&mut reply).await?;
        if !request.is_answered_by(id, &reply[..length]) {
            continue;
        }
        if length > LARGEST_DATAGRAM {
            return request.truncated().ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
        return Ok(with_id(&reply[..length], request.id()));
    }
}

async fn ask_by_tcp(resolver: SocketAddr, request: &Request, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let (id, question) = in_disguise(bytes);
    write_message(&mut stream, &question).await?;
    let reply = read_message(&mut stream).await?;
    if request.is_answered_by(id, &reply) {
        Ok(with_id(&reply, request.id()))
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// Over TCP each message begins with its length, so none is larger than 64 KiB.
pub(super) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    // In one piece: some programs take what comes first for all of it.
    let framed = [&length.to_be_bytes()[..], message].concat();
    stream.write_all(&framed).await
}

/// See [`write_message`].
pub(super) async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
