//! The parent's side of beats.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use liveness::{Arrival, Window};
use model::Load;
use tokio::{io::Interest, net::UdpSocket, time::sleep};

use super::datagram::{self, Claim, Kind};
use crate::{DatagramKey, DatagramSession};

/// Datagrams that wait while the parent is busy: at 100,000 beats a second the kernel's usual 208 KiB hold those of a
/// few milliseconds, this holds those of some hundred. Memory is used only as they come.
const RECEIVE_BUFFER: usize = 32 << 20;
/// Beats are taken in together: being woken, and what follows, such as a turn of a brain, cost more than they do. So little
/// later changes no verdict: brains look at who is silent in steps of 50 ms.
const GATHER: Duration = Duration::from_millis(40);
/// Taken in at once, in three milliseconds or so; then others on this thread get their turn.
const BATCH: usize = 2048;
/// How long to leave a port alone that fails.
const PAUSE: Duration = Duration::from_millis(100);

/// A beat that is genuine, and is not one that came before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beat {
    /// Of which session.
    pub session: u64,
    /// Its number, from 0. Beats may overtake each other.
    pub sequence: u64,
    /// How busy the child was then.
    pub load: Load,
}

pub(super) struct Session {
    pub(super) key: DatagramKey,
    pub(super) came: Window,
    /// Where its newest beat came from.
    pub(super) address: Option<SocketAddr>,
    pub(super) asks: u32,
}

/// Takes in the beats of all children. To be shared: one task calls [`BeatListener::recv`], any may call the rest.
///
/// What is malformed, of no known session, not genuine or repeated is dropped without an answer.
pub struct BeatListener {
    socket: UdpSocket,
    sessions: Mutex<HashMap<u64, Session>>,
}

impl std::fmt::Debug for BeatListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BeatListener").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl BeatListener {
    /// Listens on a UDP port. To be called within a tokio runtime.
    ///
    /// # Errors
    /// When the port is taken or not allowed.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        // Beyond the system's bound only with CAP_NET_ADMIN; without it, what the system grants.
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
        }
        Ok(Self { socket: UdpSocket::from_std(socket)?, sessions: Mutex::default() })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// A new session with a fresh key. It lasts until [`BeatListener::forget`].
    #[must_use]
    pub fn register(&self) -> DatagramSession {
        let mut sessions = self.sessions();
        loop {
            let fresh = DatagramSession::generate();
            if let Entry::Vacant(place) = sessions.entry(fresh.id) {
                place.insert(Session {
                    key: fresh.datagram_key(),
                    came: Window::EMPTY,
                    address: None,
                    asks: 0,
                });
                return fresh;
            }
        }
    }

    /// Ends a session: its beats are dropped from now on.
    pub fn forget(&self, session: u64) {
        self.sessions().remove(&session);
    }

    /// Asks a child for a beat at once. Nothing happens when none of its beats came yet, when the session is over or
    /// when nothing can be sent now; whoever asks asks again.
    pub fn ask(&self, session: u64) {
        let (datagram, address) = {
            let mut sessions = self.sessions();
            let Some(asked) = sessions.get_mut(&session) else { return };
            let Some(address) = asked.address else { return };
            // Above all before, so that the child can tell it from one that is repeated by a stranger.
            asked.asks = asked.asks.saturating_add(1);
            (datagram::compose(Kind::Ask, session, asked.asks, Load::default(), &asked.key), address)
        };
        if let Err(error) = self.socket.try_send_to(&datagram, address) {
            tracing::debug!(%address, %error, "a child could not be asked for a beat");
        }
    }

    /// The beats that have come; waits for one, and a few milliseconds more for others. May be dropped and called again
    /// without losing any.
    pub async fn recv(&self) -> Vec<Beat> {
        let mut beats = Vec::new();
        loop {
            let taken = match self.socket.readable().await {
                Ok(()) => {
                    sleep(GATHER).await;
                    self.take_in(&mut beats)
                }
                Err(error) => Err(error),
            };
            if !beats.is_empty() {
                return beats;
            }
            if let Err(error) = taken {
                tracing::warn!(%error, "the port for beats fails; trying again");
                sleep(PAUSE).await;
            }
        }
    }

    /// What waits in the socket, up to a batch.
    fn take_in(&self, beats: &mut Vec<Beat>) -> io::Result<()> {
        let mut sessions = self.sessions();
        // One byte more than the longest, so that what is too long is not taken for one of the right length.
        let mut buffer = [0; datagram::LENGTH + 1];
        let mut room = BATCH;
        let result = self.socket.try_io(Interest::READABLE, || {
            while room > 0 {
                let (length, address) = receive(&self.socket, &mut buffer)?;
                room -= 1;
                beats.extend(accept(&mut sessions, &buffer[..length], address));
            }
            Ok(())
        });
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Ok(()) | Err(_) => result,
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<u64, Session>> {
        // Whoever panicked with it has left it whole: each change is one step.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Option<SocketAddr>)> {
    let flags = rustix::net::RecvFlags::DONTWAIT;
    let (length, _, from) = rustix::net::recvfrom(socket, buffer, flags)?;
    Ok((length, from.and_then(|from| SocketAddr::try_from(from).ok())))
}

pub(super) fn accept(
    sessions: &mut HashMap<u64, Session>,
    bytes: &[u8],
    from: Option<SocketAddr>,
) -> Option<Beat> {
    let claim = Claim::parse(bytes)?;
    let session = sessions.get_mut(&claim.session)?;
    if !claim.holds(Kind::Beat, &session.key) {
        return None;
    }
    let sequence = u64::from(claim.number);
    match session.came.record(sequence) {
        // Only the newest says where the child is: an older one may have been held back by a stranger.
        Arrival::Newest { .. } => session.address = from,
        Arrival::Late => {}
        Arrival::Repeated => return None,
    }
    Some(Beat { session: claim.session, sequence, load: claim.load() })
}
