//! The two places, what joins them, and what is sent between them.

use std::{
    fmt::Debug,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use nlink::netlink::{
    Connection, Route,
    addr::{Ipv4Address, Ipv6Address},
    link::VethLink,
    namespace::Netns,
};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, socket};
use tunnel::{Aside, Peer, PeerStatus, PrivateKey, PublicKey, Settings, Tunnel};

/// Long enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);

/// Long enough to expect that nothing comes.
pub(crate) const SILENCE: Duration = Duration::from_millis(700);

pub(crate) const INTERFACE: &str = "wg0";
pub(crate) const PORT: u16 = 51820;

/// A fresh network namespace that is gone when it is dropped.
pub(crate) struct Place {
    pub(crate) netns: Netns,
    /// The last part of all its addresses.
    pub(crate) number: u8,
}

/// A place with a tunnel.
pub(crate) struct Side {
    pub(crate) place: Place,
    pub(crate) key: PrivateKey,
    /// `None` while it is down.
    pub(crate) tunnel: Option<Tunnel>,
}

impl Place {
    pub(crate) fn new(number: u8) -> Self {
        let fd: OwnedFd = thread::spawn(|| {
            #[expect(deprecated, reason = "only flags that split file descriptor tables make it unsafe")]
            rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET)
                .expect("root may make network namespaces");
            std::fs::File::open("/proc/thread-self/ns/net")
                .expect("a thread's namespace can be opened")
                .into()
        })
        .join()
        .expect("the thread makes a namespace");
        Self { netns: Netns::from_fd(fd).expect("a network namespace"), number }
    }

    pub(crate) fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        self.netns.run(action).expect("a thread in the namespace")
    }

    pub(crate) fn outside(&self) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, self.number).into()
    }

    pub(crate) fn outside_v6(&self) -> IpAddr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, self.number.into()).into()
    }

    pub(crate) fn inside(&self) -> IpAddr {
        Ipv4Addr::new(10, 9, 0, self.number).into()
    }

    pub(crate) fn inside_v6(&self) -> IpAddr {
        Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, self.number.into()).into()
    }

    fn route(&self) -> Connection<Route> {
        Connection::new_in(&self.netns).expect("netlink")
    }

    pub(crate) fn udp(&self, address: SocketAddr) -> UdpSocket {
        let socket = self.run(|| UdpSocket::bind(address)).expect("an address of this namespace");
        socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        socket
    }

    /// Gives `interface` an address, and with it a route to its neighbours.
    pub(crate) fn address(&self, interface: &str, address: IpAddr) {
        block_on(async {
            let route = self.route();
            let index = index_of(&route, interface).await;
            match address {
                IpAddr::V4(v4) => route.add_address(Ipv4Address::with_index(index, v4, 24)).await,
                IpAddr::V6(v6) => route.add_address(Ipv6Address::with_index(index, v6, 64).nodad()).await,
            }
            .expect("an address");
        });
    }

    pub(crate) fn remove_address(&self, interface: &str, address: IpAddr) {
        let length = if address.is_ipv4() { 24 } else { 64 };
        block_on(async {
            self.route().del_address(interface, address, length).await.expect("an address that was there");
        });
    }

    pub(crate) fn has_interface(&self, name: &str) -> bool {
        block_on(async { self.route().get_link_by_name(name).await.expect("netlink").is_some() })
    }

    pub(crate) fn set_mtu(&self, name: &str, mtu: u32) {
        block_on(async { self.route().set_link_mtu(name, mtu).await.expect("an interface that is there") });
    }

    pub(crate) fn remove_interface(&self, name: &str) {
        block_on(async { self.route().del_link(name).await.expect("an interface that was there") });
    }

    /// Whether `to` answers to an ICMP echo of `size` bytes within `patience`.
    pub(crate) fn pings(&self, to: IpAddr, size: usize, patience: Duration) -> bool {
        self.run(|| {
            let deadline = Instant::now() + patience;
            while Instant::now() < deadline {
                if echo(to, size, Duration::from_millis(500)).unwrap_or(false) {
                    return true;
                }
            }
            false
        })
    }
}

impl Side {
    pub(crate) fn settings(key: &PrivateKey) -> Settings {
        Settings {
            name: INTERFACE.to_owned(),
            key: key.clone(),
            port: PORT,
            mtu: 1420,
            queues: None,
            relayed: None,
            asides: None,
        }
    }

    /// Starts the tunnel and gives its interface the addresses of the place.
    pub(crate) fn start(&mut self, settings: Settings) {
        self.tunnel = None;
        let tunnel = self.place.run(|| Tunnel::start(settings)).expect("a tunnel");
        self.place.address(INTERFACE, self.place.inside());
        self.place.address(INTERFACE, self.place.inside_v6());
        self.tunnel = Some(tunnel);
    }

    pub(crate) fn tunnel(&self) -> &Tunnel {
        self.tunnel.as_ref().expect("it was started")
    }

    pub(crate) fn set_peers(&self, peers: Vec<Peer>) {
        self.tunnel().set_peers(peers).expect("a set of peers");
    }

    /// How the only peer is.
    pub(crate) fn peer_status(&self) -> PeerStatus {
        self.tunnel().status().remove(0)
    }

    /// This side, as a peer of the other.
    pub(crate) fn as_peer(&self) -> Peer {
        peer(&self.place, self.key.public())
    }
}

/// Whoever is at `place`, reached by IPv4.
pub(crate) fn peer(place: &Place, public_key: PublicKey) -> Peer {
    Peer {
        public_key,
        endpoints: vec![SocketAddr::new(place.outside(), PORT)],
        relay: None,
        allowed: vec![place.inside().into(), place.inside_v6().into()],
        keepalive: None,
    }
}

/// Two places that are joined.
pub(crate) fn places() -> (Place, Place) {
    let (left, right) = (Place::new(1), Place::new(2));
    block_on(async {
        let near = left.route();
        near.add_link(VethLink::new("up0", "up0").peer_netns_fd(&right.netns)).await.expect("a cable");
        for route in [near, right.route()] {
            route.set_link_up_by_index(1).await.expect("loopback");
            let index = index_of(&route, "up0").await;
            route.set_link_up_by_index(index).await.expect("an interface");
        }
    });
    for place in [&left, &right] {
        place.address("up0", place.outside());
        place.address("up0", place.outside_v6());
    }
    (left, right)
}

/// Two tunnels that know each other.
pub(crate) fn pair() -> (Side, Side) {
    let (left, right) = strangers();
    left.set_peers(vec![right.as_peer()]);
    right.set_peers(vec![left.as_peer()]);
    (left, right)
}

/// Two tunnels that do not.
pub(crate) fn strangers() -> (Side, Side) {
    let (left, right) = places();
    let [left, right] = [left, right].map(|place| {
        let key = PrivateKey::generate();
        let mut side = Side { place, key, tunnel: None };
        let settings = Side::settings(&side.key);
        side.start(settings);
        side
    });
    (left, right)
}

/// Settings with somebody who takes up to `bound` asides.
pub(crate) fn with_asides(key: &PrivateKey, bound: usize) -> (Settings, tokio::sync::mpsc::Receiver<Aside>) {
    let (sender, receiver) = tokio::sync::mpsc::channel(bound);
    (Settings { asides: Some(sender), ..Side::settings(key) }, receiver)
}

/// Waits until `look` gives what is wanted, and says what it gave when it did not.
pub(crate) fn wait_until<T: Debug>(mut look: impl FnMut() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if wanted(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "still {seen:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// `length` bytes that do not repeat at any small distance.
pub(crate) fn content(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Sends `length` bytes over TCP and checks that they arrive.
pub(crate) fn transfer(from: &Place, to: &Place, address: IpAddr, length: usize) {
    let listener = to.run(|| TcpListener::bind((address, 0))).expect("an address of this namespace");
    let address = listener.local_addr().expect("a bound socket");
    let receiver = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).expect("the whole content");
        received
    });
    let mut stream = from.run(|| TcpStream::connect_timeout(&address, PATIENCE)).expect("a connection");
    stream.set_write_timeout(Some(PATIENCE)).expect("a deadline");
    let sent = content(length);
    stream.write_all(&sent).expect("the whole content");
    drop(stream);
    let received = receiver.join().expect("a receiver");
    assert!(received == sent, "{} of {length} bytes, or others", received.len());
}

fn echo(to: IpAddr, size: usize, patience: Duration) -> io::Result<bool> {
    let (family, protocol, request, reply, header) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0, 20),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129, 0),
    };
    let raw = socket(family, SocketType::RAW, Some(protocol))?;
    rustix::net::sockopt::set_socket_timeout(&raw, rustix::net::sockopt::Timeout::Recv, Some(patience))?;
    let mut message = vec![request, 0, 0, 0, 0x4d, 0x47, 0, 1];
    message.extend_from_slice(&content(size));
    if to.is_ipv4() {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    sendto(&raw, &message, SendFlags::empty(), &SocketAddr::new(to, 0))?;
    let deadline = Instant::now() + patience;
    let mut buffer = vec![0; 65_536];
    while Instant::now() < deadline {
        let (length, _) = recv(&raw, &mut buffer[..], RecvFlags::empty())?;
        let answer = &buffer[..length];
        if answer.len() > header && answer[header] == reply && answer[header + 4..] == message[4..] {
            return Ok(true);
        }
    }
    Ok(false)
}

fn checksum(message: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in message.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

async fn index_of(route: &Connection<Route>, name: &str) -> u32 {
    route.get_link_by_name(name).await.expect("netlink").expect("the interface is there").ifindex()
}
