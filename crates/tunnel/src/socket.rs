//! The UDP port: opened once per queue, read and written many datagrams at a time. What is to be sent is gathered in
//! `outbox`.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::{
    event::PollFlags,
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt},
};

use crate::stop::{Stop, Wake};

/// Room for a burst of some milliseconds at several Gbit/s; the kernel's default holds four full batches.
const KERNEL_BUFFER: usize = 4 << 20;

/// How long a full send buffer is waited for. Longer than any link needs to drain it, short enough for a thread to see
/// other peers.
const SEND_PATIENCE: Duration = Duration::from_millis(50);

/// How long segmentation stays off after the kernel refused it: a route may have changed back by then.
const SEGMENTATION_PAUSE: Duration = Duration::from_secs(10);

/// One of the sockets that share the port of the tunnel.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: UdpSocket,
    /// Whether addresses of IPv4 have to be given in their IPv6 form.
    dual: bool,
}

/// A far end, and which of our addresses it knows us by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// As the kernel told it; `None` lets the kernel choose.
    pub(crate) local: Option<IpAddr>,
}

/// Sends from one socket; each thread has its own.
#[derive(Debug)]
pub(crate) struct Sender {
    socket: Arc<Socket>,
    state: UdpSocketState,
    segmentation_off_until: Option<Instant>,
}

/// Receives from one socket; each thread has its own.
#[derive(Debug)]
pub(crate) struct Receiver {
    socket: Arc<Socket>,
    state: UdpSocketState,
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self { address, local: None }
    }
}

impl Socket {
    /// As many sockets as asked for, on one port. Nobody else can open that port, even in the same way.
    pub(crate) fn open(port: u16, count: usize) -> io::Result<Vec<Arc<Self>>> {
        let first = match Self::bind(AddressFamily::INET6, port, false) {
            Err(error) if is_without_ipv6(&error) => Self::bind(AddressFamily::INET, port, false)?,
            other => other?,
        };
        let port = first.port()?;
        // Sharing is allowed only after the port was got for ourselves.
        sockopt::set_socket_reuseport(&first.socket, true)?;
        let family = if first.dual { AddressFamily::INET6 } else { AddressFamily::INET };
        let mut sockets = vec![Arc::new(first)];
        while sockets.len() < count {
            sockets.push(Arc::new(Self::bind(family, port, true)?));
        }
        Ok(sockets)
    }

    fn bind(family: AddressFamily, port: u16, shared: bool) -> io::Result<Self> {
        let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let dual = family == AddressFamily::INET6;
        if dual {
            sockopt::set_ipv6_v6only(&socket, false)?;
        }
        sockopt::set_socket_reuseport(&socket, shared)?;
        // Past the limit for everybody where we may, up to it where not.
        if sockopt::set_socket_recv_buffer_size_force(&socket, KERNEL_BUFFER).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, KERNEL_BUFFER)?;
        }
        if sockopt::set_socket_send_buffer_size_force(&socket, KERNEL_BUFFER).is_err() {
            sockopt::set_socket_send_buffer_size(&socket, KERNEL_BUFFER)?;
        }
        let everywhere: IpAddr =
            if dual { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        bind(&socket, &SocketAddr::new(everywhere, port))?;
        Ok(Self { socket: socket.into(), dual })
    }

    pub(crate) fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Turns on what batches need, and lets routers cut datagrams that are too long for a link on the way: a lost
    /// packet that nobody hears of is worse than one in two pieces.
    fn prepare(&self) -> io::Result<UdpSocketState> {
        let state = UdpSocketState::new(UdpSockRef::from(&self.socket))?;
        sockopt::set_ip_mtu_discover(&self.socket, sockopt::Ipv4PathMtuDiscovery::DONT)?;
        if self.dual {
            sockopt::set_ipv6_mtu_discover(&self.socket, sockopt::Ipv6PathMtuDiscovery::DONT)?;
        }
        Ok(state)
    }

    /// `address` in the form of the socket's family.
    fn wire(&self, address: SocketAddr) -> SocketAddr {
        match address {
            SocketAddr::V4(v4) if self.dual => {
                SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
            }
            SocketAddr::V4(_) | SocketAddr::V6(_) => address,
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Sender {
    pub(crate) fn new(socket: &Arc<Socket>) -> io::Result<Self> {
        Ok(Self { socket: Arc::clone(socket), state: socket.prepare()?, segmentation_off_until: None })
    }

    /// Sends `datagrams`, which are `size` long each but for a shorter last one. Returns how many were not sent.
    pub(crate) fn send(&mut self, stop: &Stop, to: Endpoint, datagrams: &[u8], size: usize) -> u64 {
        if datagrams.len() <= size || self.may_segment() {
            match self.send_once(stop, to, datagrams, size) {
                Ok(()) => return 0,
                Err(error) if datagrams.len() <= size => {
                    return self.send_elsewise(stop, to, datagrams, &error);
                }
                Err(error) => self.note_refusal(&error),
            }
        }
        let mut failed = 0;
        for datagram in datagrams.chunks(size) {
            if let Err(error) = self.send_once(stop, to, datagram, size) {
                failed += self.send_elsewise(stop, to, datagram, &error);
            }
        }
        failed
    }

    /// A second try for one datagram: from whichever address the kernel chooses, as ours may be gone.
    fn send_elsewise(&mut self, stop: &Stop, to: Endpoint, datagram: &[u8], error: &io::Error) -> u64 {
        self.note_refusal(error);
        let again = Endpoint { local: None, ..to };
        let sent = to.local.is_some()
            && error.kind() != io::ErrorKind::WouldBlock
            && self.send_once(stop, again, datagram, datagram.len()).is_ok();
        u64::from(!sent)
    }

    fn send_once(&self, stop: &Stop, to: Endpoint, datagrams: &[u8], size: usize) -> io::Result<()> {
        let transmit = Transmit {
            destination: self.socket.wire(to.address),
            ecn: None,
            contents: datagrams,
            segment_size: (datagrams.len() > size).then_some(size),
            src_ip: to.local,
        };
        let deadline = Instant::now() + SEND_PATIENCE;
        loop {
            match self.state.try_send(UdpSockRef::from(&self.socket.socket), &transmit) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero()
                        || stop.wait_for(self.socket.as_fd(), PollFlags::OUT, left) == Wake::Stopped
                    {
                        return Err(error);
                    }
                }
                other => return other,
            }
        }
    }

    fn may_segment(&mut self) -> bool {
        if self.segmentation_off_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        self.segmentation_off_until = None;
        self.state.max_gso_segments() > 1
    }

    /// The library gives up segmentation for good at errors that may pass; we do for a while.
    fn note_refusal(&mut self, error: &io::Error) {
        let refused = [Errno::INVAL, Errno::IO].map(Errno::raw_os_error);
        if error.raw_os_error().is_some_and(|code| refused.contains(&code)) {
            self.segmentation_off_until = Some(Instant::now() + SEGMENTATION_PAUSE);
            if let Ok(state) = self.socket.prepare() {
                self.state = state;
            }
        }
    }
}

impl Receiver {
    pub(crate) fn new(socket: &Arc<Socket>) -> io::Result<Self> {
        Ok(Self { socket: Arc::clone(socket), state: socket.prepare()? })
    }

    /// Fills `buffers` from the front with what is there. Each may hold several datagrams, as its entry in `details`
    /// says. Fails with `WouldBlock` when nothing is there.
    pub(crate) fn receive(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        details: &mut [RecvMeta],
    ) -> io::Result<usize> {
        self.state.recv(UdpSockRef::from(&self.socket.socket), buffers, details)
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }
}

/// Where a datagram is from, with addresses of IPv4 in their own form.
pub(crate) fn origin(details: &RecvMeta) -> Endpoint {
    let address = match details.addr {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
        },
        v4 @ SocketAddr::V4(_) => v4,
    };
    Endpoint { address, local: details.dst_ip }
}

fn is_without_ipv6(error: &io::Error) -> bool {
    let codes = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next datagrams at `receiver`, one by one, with where they are from.
    fn arrivals(receiver: &Receiver, count: usize) -> Vec<(IpAddr, Vec<u8>)> {
        let mut buffer = vec![0; 65_535];
        let mut details = [RecvMeta::default()];
        let mut arrived = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(5);
        while arrived.len() < count && Instant::now() < deadline {
            if receiver.receive(&mut [IoSliceMut::new(&mut buffer)], &mut details).is_ok() {
                let from = origin(&details[0]).address.ip();
                let datagrams = buffer[..details[0].len].chunks(details[0].stride);
                arrived.extend(datagrams.map(|datagram| (from, datagram.to_vec())));
            }
        }
        arrived
    }

    fn endpoint(address: IpAddr, socket: &Socket) -> Endpoint {
        SocketAddr::new(address, socket.port().unwrap()).into()
    }

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_port_is_shared_with_nobody_else() {
        let sockets = Socket::open(0, 3).unwrap();
        let port = sockets[0].port().unwrap();
        assert!(sockets.iter().all(|socket| socket.port().unwrap() == port));
        assert_eq!(Socket::open(port, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn datagrams_arrive_one_by_one_with_and_without_segmentation() {
        let stop = Stop::new().unwrap();
        let to = Socket::open(0, 1).unwrap().remove(0);
        let receiver = Receiver::new(&to).unwrap();
        let mut sender = Sender::new(&Socket::open(0, 1).unwrap()[0]).unwrap();
        let datagrams = [[1; 100], [2; 100], [3; 100]].concat();
        for address in [LOCALHOST, Ipv6Addr::LOCALHOST.into()] {
            for pause in [Duration::ZERO, SEGMENTATION_PAUSE] {
                sender.segmentation_off_until = Some(Instant::now() + pause);
                assert_eq!(sender.send(&stop, endpoint(address, &to), &datagrams[..250], 100), 0);
                let expected = [(address, vec![1; 100]), (address, vec![2; 100]), (address, vec![3; 50])];
                assert_eq!(arrivals(&receiver, 3), expected);
            }
        }
    }

    #[test]
    fn without_ipv6_there_is_ipv4() {
        let stop = Stop::new().unwrap();
        let to = Arc::new(Socket::bind(AddressFamily::INET, 0, false).unwrap());
        let receiver = Receiver::new(&to).unwrap();
        let mut sender = Sender::new(&to).unwrap();
        assert_eq!(sender.send(&stop, endpoint(LOCALHOST, &to), &[7], 1), 0);
        assert_eq!(arrivals(&receiver, 1), [(LOCALHOST, vec![7])]);
        assert_eq!(sender.send(&stop, endpoint(Ipv6Addr::LOCALHOST.into(), &to), &[7], 1), 1);
    }

    #[test]
    fn an_address_of_ours_that_is_gone_stops_nothing() {
        let stop = Stop::new().unwrap();
        let to = Socket::open(0, 1).unwrap().remove(0);
        let receiver = Receiver::new(&to).unwrap();
        let mut sender = Sender::new(&Socket::open(0, 1).unwrap()[0]).unwrap();
        let gone = Ipv4Addr::new(192, 0, 2, 99).to_ipv6_mapped();
        let endpoint = Endpoint { local: Some(gone.into()), ..endpoint(LOCALHOST, &to) };
        assert_eq!(sender.send(&stop, endpoint, &[7; 250], 100), 0);
        assert_eq!(arrivals(&receiver, 3).len(), 3);
    }

    #[test]
    fn what_the_kernel_refuses_is_counted() {
        let stop = Stop::new().unwrap();
        let mut sender = Sender::new(&Socket::open(0, 1).unwrap()[0]).unwrap();
        let nowhere = SocketAddr::new(Ipv4Addr::BROADCAST.into(), 9).into();
        assert_eq!(sender.send(&stop, nowhere, &[7; 250], 100), 3);
    }
}
