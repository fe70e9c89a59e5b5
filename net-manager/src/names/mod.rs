//! Answers what instances ask about names: those of services and instances from what the cluster told, all others by
//! asking whom the device asks. What a name leads to is decided by `net_core::Names`.
//!
//! ```text
//!   instance ──169.254.1.1:53──► Responder ──► Desk ──► net_core::Names ◄── Bulletin ◄── service
//!                                    └───────► Upstream ──► name servers of the device
//! ```
//!
//! Only instances get here and each speaks under its own address: `datapath/kernel/ruleset.rs`.

mod message;
mod upstream;

use std::{
    io,
    net::{IpAddr, SocketAddr, SocketAddrV4},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use link::Backoff;
use model::Surroundings;
use net_core::{Attachment, NAME_SERVER, Names, NetworkState};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use message::{NoRequest, Request};
use upstream::{Transport, Upstream, read_message, write_message};

const PORT: u16 = 53;
/// Questions handed on at a time, each with a socket of its own: a quarter of the files a process may open by default.
const UNDER_WAY: usize = 256;
/// Connections at a time; nearly everything is asked by datagram.
const CONNECTIONS: usize = 64;
/// A client that keeps its connection asks again within this, or takes an answer from it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// A question is smaller by far; what is longer is cut and then refused.
const LARGEST_REQUEST: usize = 4096;

/// What the service tells the responder, and the responder the service. A cheap handle.
#[derive(Debug, Clone)]
pub struct Bulletin {
    told: Arc<watch::Sender<Option<Arc<Told>>>>,
    trouble: Arc<Mutex<Option<String>>>,
}

#[derive(Debug)]
struct Told {
    surroundings: Surroundings,
    attachments: Vec<Attachment>,
}

impl Default for Bulletin {
    fn default() -> Self {
        Self { told: Arc::new(watch::Sender::new(None)), trouble: Arc::default() }
    }
}

impl Bulletin {
    /// Names are answered from `state` from now on; before the first time they are not answered at all.
    pub fn tell(&self, state: &NetworkState) {
        let told =
            Told { surroundings: state.surroundings().clone(), attachments: state.attachments().to_vec() };
        self.told.send_replace(Some(Arc::new(told)));
    }

    /// Why names are not answered; `None` when they are.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// See the module.
#[derive(Debug)]
pub struct Responder {
    bulletin: Bulletin,
    upstream: Arc<Upstream>,
}

impl Responder {
    /// `resolvers` is the `resolv.conf` of the device.
    #[must_use]
    pub fn new(bulletin: Bulletin, resolvers: PathBuf) -> Self {
        Self { bulletin, upstream: Arc::new(Upstream::new(resolvers)) }
    }

    /// Answers until `shutdown`, in the network namespace this is called in. What keeps it from answering is told, and
    /// tried again.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.answer() => {}
        }
    }

    async fn answer(self) {
        let mut told = self.bulletin.told.subscribe();
        // By then the address is there.
        if told.wait_for(Option::is_some).await.is_err() {
            return;
        }
        told.mark_changed();
        let desk = Arc::new(Desk {
            shelf: Mutex::new(Shelf { told, names: Arc::default() }),
            upstream: Arc::clone(&self.upstream),
            under_way: Arc::new(Semaphore::new(UNDER_WAY)),
        });
        let mut backoff = Backoff::default();
        loop {
            let problem = match Sockets::bind() {
                Ok(sockets) => {
                    self.bulletin.set_trouble(None);
                    backoff.reset();
                    tracing::info!(address = %NAME_SERVER, "answering names");
                    match sockets.serve(&desk).await {
                        Ok(never) => match never {},
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            let trouble = format!(
                "instances cannot ask for names: cannot listen on {NAME_SERVER}:{PORT}: {problem}; if a name server runs \
                 on this device, let it listen on addresses of its own"
            );
            if self.bulletin.trouble().is_none() {
                tracing::warn!("{trouble}");
            }
            self.bulletin.set_trouble(Some(trouble));
            tokio::time::sleep(backoff.wait()).await;
        }
    }
}

/// What there is to say about each question.
#[derive(Debug)]
struct Desk {
    shelf: Mutex<Shelf>,
    upstream: Arc<Upstream>,
    under_way: Arc<Semaphore>,
}

/// Names are sorted when the first question comes after they changed.
#[derive(Debug)]
struct Shelf {
    told: watch::Receiver<Option<Arc<Told>>>,
    names: Arc<Names>,
}

/// What is done about a question.
#[derive(Debug)]
enum Step {
    Nothing,
    Reply(Vec<u8>),
    HandOn(Request, OwnedSemaphorePermit),
}

impl Desk {
    fn names(&self) -> Arc<Names> {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.told.has_changed().unwrap_or(false) {
            let told = shelf.told.borrow_and_update().clone();
            if let Some(told) = told {
                shelf.names = Arc::new(Names::of(&told.surroundings, &told.attachments));
            }
        }
        Arc::clone(&shelf.names)
    }

    fn consider(&self, bytes: &[u8], asker: IpAddr) -> Step {
        let request = match Request::read(bytes) {
            Ok(request) => request,
            Err(NoRequest::Noise) => return Step::Nothing,
            Err(NoRequest::Refused(reply)) => return Step::Reply(reply),
        };
        let reply = match self.names().answer(&request.name(), request.wanted(), asker) {
            Some(answer) => request.answered(&answer, bytes),
            None => match Arc::clone(&self.under_way).try_acquire_owned() {
                Ok(permit) => return Step::HandOn(request, permit),
                Err(_) => request.unanswered(),
            },
        };
        reply.map_or(Step::Nothing, Step::Reply)
    }

    /// The whole answer to `bytes`, if they deserve one.
    async fn reply(&self, bytes: &[u8], asker: IpAddr, transport: Transport) -> Option<Vec<u8>> {
        match self.consider(bytes, asker) {
            Step::Nothing => None,
            Step::Reply(reply) => Some(reply),
            Step::HandOn(request, _permit) => self.upstream.ask(&request, bytes, transport).await,
        }
    }
}

struct Sockets {
    datagrams: Arc<UdpSocket>,
    connections: TcpListener,
}

impl Sockets {
    fn bind() -> io::Result<Self> {
        let bound = |kind| -> io::Result<_> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::INET, kind, flags, None)?;
            sockopt::set_socket_reuseaddr(&socket, true)?;
            // Beside an instance's own port 53 of the device (`datapath/kernel/ports.rs`).
            sockopt::set_socket_reuseport(&socket, true)?;
            bind(&socket, &SocketAddrV4::new(NAME_SERVER, PORT))?;
            Ok(socket)
        };
        let connections = bound(SocketType::STREAM)?;
        listen(&connections, BACKLOG)?;
        Ok(Self {
            datagrams: Arc::new(UdpSocket::from_std(bound(SocketType::DGRAM)?.into())?),
            connections: TcpListener::from_std(connections.into())?,
        })
    }

    /// Ends only when a socket fails; questions under way end with it.
    async fn serve(self, desk: &Arc<Desk>) -> io::Result<std::convert::Infallible> {
        let mut tasks = JoinSet::new();
        let open = Arc::new(Semaphore::new(CONNECTIONS));
        let mut buffer = vec![0; LARGEST_REQUEST];
        loop {
            tokio::select! {
                received = self.datagrams.recv_from(&mut buffer) => {
                    let (length, asker) = received?;
                    self.take(&buffer[..length], asker, desk, &mut tasks);
                }
                accepted = self.connections.accept() => {
                    let (stream, asker) = accepted?;
                    // One too many is closed at once; its client asks again.
                    if let Ok(permit) = Arc::clone(&open).try_acquire_owned() {
                        let desk = Arc::clone(desk);
                        tasks.spawn(async move {
                            let outcome = converse(stream, asker.ip(), &desk).await;
                            drop(permit);
                            if let Err(error) = outcome {
                                tracing::debug!(%asker, %error, "a client that asked by TCP went away");
                            }
                        });
                    }
                }
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    fn take(&self, bytes: &[u8], asker: SocketAddr, desk: &Arc<Desk>, tasks: &mut JoinSet<()>) {
        match desk.consider(bytes, asker.ip()) {
            Step::Nothing => {}
            Step::Reply(reply) => send(&self.datagrams, &reply, asker),
            Step::HandOn(request, permit) => {
                let (bytes, desk, datagrams) =
                    (bytes.to_vec(), Arc::clone(desk), Arc::clone(&self.datagrams));
                tasks.spawn(async move {
                    let reply = desk.upstream.ask(&request, &bytes, Transport::Udp).await;
                    drop(permit);
                    if let Some(reply) = reply {
                        send(&datagrams, &reply, asker);
                    }
                });
            }
        }
    }
}

/// An answer that cannot be sent at once is as lost as any datagram can be: the client asks again.
fn send(datagrams: &UdpSocket, reply: &[u8], asker: SocketAddr) {
    if let Err(error) = datagrams.try_send_to(reply, asker) {
        tracing::debug!(%asker, %error, "an answer could not be sent");
    }
}

/// One question after the other, until the client closes or is idle.
async fn converse(mut stream: TcpStream, asker: IpAddr, desk: &Desk) -> io::Result<()> {
    loop {
        let bytes = timeout(PATIENCE, read_message(&mut stream)).await??;
        let Some(reply) = desk.reply(&bytes, asker, Transport::Tcp).await else { return Ok(()) };
        timeout(PATIENCE, write_message(&mut stream, &reply)).await??;
    }
}

#[cfg(test)]
mod tests;
