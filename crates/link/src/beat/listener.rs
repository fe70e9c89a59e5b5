//! The parent's side of beats.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use liveness::{Arrival, Window};
use model::Load;
use rustix::{
    event::{Timespec, epoll},
    io::Errno,
    net::RecvFlags,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep,
};

use super::datagram::{self, Claim, Kind};
use crate::{DatagramKey, DatagramSession};

/// Datagrams that wait while the parent is busy: at 100,000 beats a second the kernel's usual 208 KiB hold those of a
/// few milliseconds, this holds those of some hundred. Memory is used only as they come.
const RECEIVE_BUFFER: usize = 32 << 20;
/// Beats are taken in together: being woken, and what follows, such as a turn of a brain, cost more than they do. Meanwhile
/// the kernel wakes nobody (see [`Bell`]). So little later changes no verdict: brains look at who is silent in steps of 50 ms.
const GATHER: Duration = Duration::from_millis(40);
/// Taken in at once, in twenty milliseconds or so; then others on this thread get their turn.
const BATCH: usize = 16_384;
const ONCE: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::ONESHOT);
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
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

/// Takes in the beats of all children. To be shared: one task calls [`BeatListener::rung`], any may call the rest.
///
/// What is malformed, of no known session, not genuine or repeated is dropped without an answer.
pub struct BeatListener {
    socket: UdpSocket,
    bell: Bell,
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
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        // Beyond the system's bound only with CAP_NET_ADMIN; without it, what the system grants.
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
        }
        Ok(Self { bell: Bell::hang(&socket)?, socket, sessions: Mutex::default() })
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
        if let Err(error) = self.socket.send_to(&datagram, address) {
            tracing::debug!(%address, %error, "a child could not be asked for a beat");
        }
    }

    /// Waits until something has come, and a few milliseconds more for others. It stays until it is taken in. May be
    /// dropped and called again.
    pub async fn rung(&self) {
        while let Err(error) = self.bell.rung(&self.socket).await {
            tracing::warn!(%error, "the port for beats fails; trying again");
            sleep(PAUSE).await;
        }
        sleep(GATHER).await;
    }

    /// The beats that have come, in their order, without waiting for any.
    #[must_use]
    pub fn take_in(&self) -> Vec<Beat> {
        let mut beats = Vec::new();
        let mut sessions = self.sessions();
        // One byte more than the longest, so that what is too long is not taken for one of the right length.
        let mut buffer = [0; datagram::LENGTH + 1];
        for _ in 0..BATCH {
            match rustix::net::recvfrom(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((length, _, from)) => {
                    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                    beats.extend(accept(&mut sessions, &buffer[..length], from));
                }
                Err(Errno::AGAIN) => break,
                Err(error) => {
                    tracing::warn!(%error, "the port for beats fails; trying again");
                    break;
                }
            }
        }
        beats
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<u64, Session>> {
        // Whoever panicked with it has left it whole: each change is one step.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rings once when a datagram waits, then not again until it is asked. A socket that the runtime itself watched would wake
/// its thread for every datagram, wanted or not.
struct Bell(AsyncFd<OwnedFd>);

impl Bell {
    /// An epoll of its own, which the runtime watches in the socket's place. To be called within a tokio runtime.
    fn hang(socket: &UdpSocket) -> io::Result<Self> {
        let bell = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&bell, socket, epoll::EventData::new_u64(0), ONCE)?;
        #[expect(
            deprecated,
            reason = "the other way is unsafe; an owned descriptor is open as long as it is held"
        )]
        let bell = AsyncFd::with_interest(bell, Interest::READABLE)?;
        Ok(Self(bell))
    }

    /// Waits until a datagram waits. May be dropped and called again.
    async fn rung(&self, socket: &UdpSocket) -> io::Result<()> {
        epoll::modify(&self.0, socket, epoll::EventData::new_u64(0), ONCE)?;
        loop {
            let mut guard = self.0.readable().await?;
            // Taking the event is what silences it.
            let taken =
                epoll::wait(&self.0, rustix::buffer::spare_capacity(&mut Vec::with_capacity(1)), Some(&NOW))?;
            guard.clear_ready();
            if taken > 0 {
                return Ok(());
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_bell_rings_once_until_it_is_asked_again() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let bell = Bell::hang(&socket).expect("the kernel has epoll");
        let send = || socket.send_to(b"beat", socket.local_addr().expect("a port")).expect("to itself");
        send();
        bell.rung(&socket).await.expect("one waits");
        send();
        timeout(Duration::from_millis(20), bell.0.readable()).await.expect_err("nobody asked");
        for _ in 0..2 {
            bell.rung(&socket).await.expect("two wait");
        }
        for _ in 0..2 {
            socket.recv(&mut [0; 4]).expect("one of two");
        }
        let silent = timeout(Duration::from_millis(20), bell.rung(&socket)).await;
        silent.expect_err("none waits");
        send();
        bell.rung(&socket).await.expect("one waits again, though the last who asked is gone");
    }
}
