//! The socket of a relay; `mailboxes` decides.

use std::{
    io,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use link::DatagramSession;
use model::ClusterId;
use rustix::net::sockopt;
use tokio::{io::Interest, net::UdpSocket, time::sleep};

use crate::{
    ClusterKey, FORWARDED, keys,
    mailboxes::{Mailboxes, Seen, Verdict},
    tenants::Tenants,
    wire::{Destination, LONGEST},
};

/// Room for the bursts of some devices at once; the kernel's usual 208 KiB hold less than one of them.
const KERNEL_BUFFER: usize = 4 << 20;
/// Taken in at once, in a millisecond or so; then others on this thread get their turn.
const BATCH: usize = 256;
/// How long to leave a port alone that fails.
const PAUSE: Duration = Duration::from_millis(100);

/// A relay. To be shared: one task calls [`Relay::serve`], any may call the rest.
#[derive(Debug)]
pub struct Relay {
    socket: UdpSocket,
    mailboxes: Mutex<Mailboxes>,
}

impl Relay {
    /// Listens on a UDP port. To be called within a tokio runtime.
    ///
    /// # Errors
    /// When the port is taken or not allowed.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        // Beyond the system's bound only with CAP_NET_ADMIN; without it, what the system grants.
        if sockopt::set_socket_recv_buffer_size_force(&socket, KERNEL_BUFFER).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, KERNEL_BUFFER)?;
        }
        let tenants = Tenants::new(u64::from_be_bytes(keys::random()));
        let mailboxes = Mutex::new(Mailboxes::new(tenants));
        Ok(Self { socket: UdpSocket::from_std(socket)?, mailboxes })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Opens a mailbox, in place of the session `before` of the same device. `None` when the mailbox is another device's.
    #[must_use]
    pub fn open(&self, destination: Destination, before: Option<u64>) -> Option<DatagramSession> {
        let session = DatagramSession::generate();
        self.mailboxes().open(&session, destination, before).then_some(session)
    }

    /// Devices of this cluster may register by keys that follow from this one.
    pub fn admit(&self, cluster: ClusterId, key: ClusterKey) {
        self.mailboxes().tenants.admit(cluster, key);
    }

    /// Devices of this cluster may register no more, and get nothing more.
    pub fn expel(&self, cluster: ClusterId) {
        self.mailboxes().tenants.expel(cluster);
    }

    /// Closes the mailbox of a session, if it is open.
    pub fn close(&self, session: u64) {
        self.mailboxes().close(session);
    }

    /// Answers and passes on, until a device is seen at another place than before. May be dropped and called again.
    pub async fn serve(&self) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            let served = match self.socket.readable().await {
                Ok(()) => self.take_in(&mut seen),
                Err(error) => Err(error),
            };
            if !seen.is_empty() {
                return seen;
            }
            match served {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => {
                    tracing::warn!(%error, "the port of the relay fails; trying again");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// What waits in the socket, up to a batch.
    fn take_in(&self, seen: &mut Vec<Seen>) -> io::Result<()> {
        let now = daemon::present().moment;
        let mut mailboxes = self.mailboxes();
        // One byte more than the longest, so that what is too long is not taken for one of the right length.
        let mut buffer = [0; LONGEST + 1];
        let mut passed = [FORWARDED; LONGEST + 1];
        let result = self.socket.try_io(Interest::READABLE, || {
            for _ in 0..BATCH {
                let flags = rustix::net::RecvFlags::DONTWAIT;
                let (length, _, from) = rustix::net::recvfrom(&self.socket, &mut buffer, flags)?;
                let Some(from) = from.and_then(|from| SocketAddr::try_from(from).ok()) else { continue };
                match mailboxes.take(&buffer[..length], from, now) {
                    Verdict::Drop => {}
                    Verdict::Answer { bytes, to, seen: news } => {
                        self.send(&bytes, to);
                        seen.extend(news);
                    }
                    Verdict::Pass { message, to } => {
                        passed[1..=message.len()].copy_from_slice(message);
                        self.send(&passed[..=message.len()], to);
                    }
                }
            }
            Ok(())
        });
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Ok(()) | Err(_) => result,
        }
    }

    /// What cannot be sent now is lost, as any datagram may be.
    fn send(&self, bytes: &[u8], to: SocketAddr) {
        let flags = rustix::net::SendFlags::DONTWAIT;
        if let Err(error) = rustix::net::sendto(&self.socket, bytes, flags, &to) {
            tracing::debug!(%to, %error, "a datagram could not be passed on");
        }
    }

    fn mailboxes(&self) -> MutexGuard<'_, Mailboxes> {
        // Whoever panicked with it has left it whole: each change is one step.
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
