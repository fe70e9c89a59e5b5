//! A device, its instances and the world around it, each in a network namespace of the test's own.
//!
//! ```text
//!   outside 192.0.2.2, 2001:db8::2, 198.51.100.7 ── 192.0.2.1, 2001:db8::1 device ══ instances
//! ```

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    process::{self, Stdio},
    thread,
    time::Duration,
};

use model::{
    AddressKind, AllowedCallers, CallableInstance, CallableService, Generation, InstanceId, NetworkLease,
    NetworkNews, Peer, PortMapping, ServiceId, ServiceNames, TunnelKey, Weight, WorkerId,
};
use net_core::{AttachRequest, Attachment, Command, Effect, Namespace, NetworkState, reconcile};
use net_manager::{
    datapath::{Datapath, KernelDatapath},
    secure::{Engine, PORT, SecureLinks},
};
use nlink::netlink::{
    Connection, Route,
    addr::{Ipv4Address, Ipv6Address},
    link::VethLink,
    namespace::Netns,
    route::{Ipv4Route, Ipv6Route},
};
use socket2::{Domain, Socket, Type};
use tokio::sync::watch;
use tunnel::PrivateKey;

/// Long enough for a busy machine, short enough for a test that expects silence.
pub(crate) const PATIENCE: Duration = Duration::from_millis(700);

/// A fresh network namespace that is gone when it is dropped.
pub(crate) struct Place {
    pub(crate) netns: Netns,
    fd: OwnedFd,
}

impl Place {
    pub(crate) fn new() -> Self {
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
        let netns = Netns::from_fd(fd.try_clone().expect("a file descriptor")).expect("a network namespace");
        Self { netns, fd }
    }

    /// The same namespace, for somebody else to hold.
    pub(crate) fn another(&self) -> Self {
        Self {
            netns: self.netns.try_clone().expect("a namespace"),
            fd: self.fd.try_clone().expect("a file descriptor"),
        }
    }

    /// As NodeEngine would name it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.fd.as_raw_fd())
    }

    pub(crate) fn namespace(&self) -> Namespace {
        Namespace { path: self.path(), inode: self.netns.id().ino() }
    }

    pub(crate) fn route(&self) -> Connection<Route> {
        Connection::new_in(&self.netns).expect("netlink")
    }

    pub(crate) fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        self.netns.run(action).expect("a thread in the namespace")
    }

    /// Answers every TCP connection with who it is and who asks, for the life of the test.
    pub(crate) fn serve(&self, name: &'static str, port: u16) {
        let listener = self.run(|| TcpListener::bind(("::", port))).expect("a free port");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let peer = stream.peer_addr().expect("a connected socket").ip().to_canonical();
                let _hung_up = write!(stream, "{name} to {peer}");
            }
        });
    }

    /// What the server at `address` answers.
    pub(crate) fn ask(&self, address: &str) -> io::Result<String> {
        let address: SocketAddr = address.parse().expect("a socket address");
        let mut stream = self.run(|| TcpStream::connect_timeout(&address, PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Answers every UDP datagram with its name, for the life of the test.
    pub(crate) fn serve_udp(&self, name: &'static str, port: u16) {
        let socket = self.run(|| UdpSocket::bind(("::", port))).expect("a free port");
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let _unreachable = socket.send_to(name.as_bytes(), peer);
            }
        });
    }

    /// Tells everybody on the interface that this is a router with a default route.
    pub(crate) async fn advertise_router(&self, interface: &str) {
        use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket, sockopt};
        const ROUTER_ADVERTISEMENT: u8 = 134;
        const LIFETIME: [u8; 2] = 1800_u16.to_be_bytes();
        let index = index_of(&self.route(), interface).await;
        let mut message = [0; 16];
        message[0] = ROUTER_ADVERTISEMENT;
        message[6..8].copy_from_slice(&LIFETIME);
        self.run(|| {
            let raw =
                socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).expect("a raw socket");
            sockopt::set_ipv6_multicast_hops(&raw, 255).expect("a setting");
            let everybody = SocketAddrV6::new("ff02::1".parse().expect("v6"), 0, 0, index);
            let _not_yet_up = sendto(&raw, &message, SendFlags::empty(), &everybody);
        });
    }

    /// A socket that pings `address`.
    pub(crate) fn pinger(&self, address: &str) -> OwnedFd {
        use rustix::net::{AddressFamily, SocketType, connect, ipproto, socket, sockopt};
        let to: IpAddr = address.parse().expect("an address");
        let (family, protocol) = match to {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
        };
        // As in containers.
        self.netns.sysctl().set("net.ipv4.ping_group_range", "0 2147483647").expect("a setting");
        let socket = self.run(|| socket(family, SocketType::DGRAM, Some(protocol))).expect("a socket");
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE)).expect("a deadline");
        connect(&socket, &SocketAddr::new(to, 0)).expect("a route");
        socket
    }

    /// A UDP socket bound to `address`.
    pub(crate) fn udp(&self, address: &str) -> UdpSocket {
        let socket = self.run(|| UdpSocket::bind(address)).expect("an address of this namespace");
        socket.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        socket
    }
}

/// What comes of one more ping over a socket of [`Place::pinger`] to an address of that version.
pub(crate) fn ping(socket: &OwnedFd, is_v6: bool) -> io::Result<()> {
    use rustix::net::{RecvFlags, SendFlags, recv, send};
    const ECHO_REQUEST: [u8; 2] = [8, 128];
    send(socket, &[ECHO_REQUEST[usize::from(is_v6)], 0, 0, 0, 0, 0, 0, 1], SendFlags::empty())?;
    recv(socket, &mut [0; 64], RecvFlags::empty())?;
    Ok(())
}

/// A connection from that port, which may be in use by one that is over.
pub(crate) fn connect_from(port: u16, address: &str) -> io::Result<TcpStream> {
    let to: SocketAddr = address.parse().expect("a socket address");
    let unspecified = if to.is_ipv4() { "0.0.0.0" } else { "::" };
    let own = SocketAddr::new(parse(unspecified), port);
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&own.into())?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

/// What comes back over `socket` for one datagram; `None` when nothing does.
pub(crate) fn echo(socket: &UdpSocket, to: &str) -> Option<String> {
    socket.send_to(b"?", to).ok()?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

pub(crate) fn instance(number: u32) -> InstanceId {
    InstanceId { service: ServiceId::from_bytes([3; 12]), number }
}

/// The addresses of the service all instances are of.
pub(crate) const SERVICE: [(AddressKind, &str); 4] = [
    (AddressKind::RoundRobin, "10.30.0.1"),
    (AddressKind::Closest, "10.30.0.2"),
    (AddressKind::LeastUsed, "10.30.0.3"),
    (AddressKind::Affinity, "10.30.0.4"),
];

/// The address instance `number` keeps.
pub(crate) fn stable(number: u32) -> Ipv4Addr {
    let last = u8::try_from(number).expect("few instances");
    Ipv4Addr::new(10, 30, 1, last)
}

/// The only instance of the other application, and the address it keeps.
pub(crate) fn till_instance() -> InstanceId {
    InstanceId { service: ServiceId::from_bytes([4; 12]), number: 0 }
}

pub(crate) const TILL: Ipv4Addr = Ipv4Addr::new(10, 30, 2, 0);

/// The service of `shop.prod`, which lets these connect.
pub(crate) fn shop(instances: &[(u32, WorkerId, bool)], allowed: &[&str]) -> (ServiceId, CallableService) {
    let instances = instances.iter().map(|(number, worker, ready)| CallableInstance {
        number: *number,
        address: stable(*number),
        worker: *worker,
        ready: *ready,
        weight: Weight::default(),
    });
    let addresses = SERVICE.map(|(kind, v4)| (kind, parse(v4)));
    (instance(0).service, callable("shop", &addresses, allowed, instances.collect()))
}

/// The service of `till.prod` with its instance on that device.
pub(crate) fn till(worker: WorkerId, allowed: &[&str]) -> (ServiceId, CallableService) {
    let instance =
        CallableInstance { number: 0, address: TILL, worker, ready: true, weight: Weight::default() };
    let addresses = [(AddressKind::RoundRobin, parse("10.30.0.9"))];
    (till_instance().service, callable("till", &addresses, allowed, vec![instance]))
}

fn callable(
    application: &str,
    addresses: &[(AddressKind, Ipv4Addr)],
    allowed: &[&str],
    instances: Vec<CallableInstance>,
) -> CallableService {
    let names = ServiceNames {
        application: application.to_owned(),
        application_namespace: "prod".to_owned(),
        service: "web".to_owned(),
        service_namespace: "front".to_owned(),
    };
    let allowed: AllowedCallers = allowed.iter().map(|caller| caller.parse().expect("a caller")).collect();
    CallableService {
        names: names.into(),
        addresses: addresses.iter().copied().collect::<BTreeMap<_, _>>().into(),
        allowed_callers: allowed.into(),
        instances,
    }
}

/// Who has the device with this number.
pub(crate) fn worker(number: u8) -> WorkerId {
    WorkerId::new(uuid::Uuid::from_bytes([number; 16]))
}

pub(crate) fn lease(v4: &str, v6: &str) -> NetworkLease {
    NetworkLease { v4: vec![v4.parse().expect("a network")], v6: vec![v6.parse().expect("a network")] }
}

/// The device with its datapath and the brain that drives it.
pub(crate) struct Lab {
    pub(crate) device: Place,
    pub(crate) outside: Place,
    pub(crate) datapath: KernelDatapath,
    pub(crate) state: NetworkState,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let (device, outside) = (Place::new(), Place::new());
        connect(&device, &outside).await;
        Self::on(device, outside, lease("10.18.0.0/26", "fc00::/120")).await
    }

    pub(crate) async fn on(device: Place, outside: Place, lease: NetworkLease) -> Self {
        let datapath = KernelDatapath::open_in(device.netns.try_clone().expect("a namespace"))
            .await
            .expect("a datapath");
        let mut lab = Self { device, outside, datapath, state: NetworkState::default() };
        lab.submit(Command::UseLease(lease)).await;
        lab
    }

    /// Two devices that are each other's outside: 192.0.2.1 and 192.0.2.2.
    pub(crate) async fn pair() -> (Self, Self) {
        let (first, second) = (Place::new(), Place::new());
        connect(&first, &second).await;
        let (beyond_first, beyond_second) = (second.another(), first.another());
        (
            Self::on(first, beyond_first, lease("10.18.0.0/26", "fc00::/120")).await,
            Self::on(second, beyond_second, lease("10.18.0.64/26", "fc00::100/120")).await,
        )
    }

    /// As [`Lab::pair`], each with an engine of encrypted links; and the keys of these.
    pub(crate) async fn secure_pair() -> ([Self; 2], [TunnelKey; 2]) {
        let (first, second) = Self::pair().await;
        let keys = [PrivateKey::generate(), PrivateKey::generate()];
        let mut labs = [first, second];
        for (lab, key) in labs.iter_mut().zip(&keys) {
            lab.start_engine(key).await;
        }
        (labs, keys.map(|key| TunnelKey(*key.public().as_bytes())))
    }

    /// From now on there is an engine of encrypted links. Returns where the relay of the root sees it.
    pub(crate) async fn start_engine(&mut self, key: &PrivateKey) -> watch::Receiver<Option<SocketAddr>> {
        let runtime = tokio::runtime::Handle::current();
        let engine = self.device.run(|| {
            let _within = runtime.enter();
            Engine::start(key.clone(), PORT, None).expect("an engine")
        });
        let at_root = engine.at_root();
        self.datapath.add_secure(SecureLinks::Here(engine));
        self.settle().await;
        at_root
    }

    /// Accepts a command and brings the kernel after it. Returns what was done.
    pub(crate) async fn submit(&mut self, command: Command) -> Vec<Effect> {
        for change in self.state.accept(command).expect("a command that is granted") {
            self.state.apply(change);
        }
        self.settle().await
    }

    /// Brings the kernel to what it should be, and checks that it is there.
    pub(crate) async fn settle(&mut self) -> Vec<Effect> {
        let effects = self.pending().await;
        for effect in &effects {
            self.datapath
                .apply(effect)
                .await
                .unwrap_or_else(|error| panic!("{effect:?}: {}", daemon::chain(&error)));
        }
        assert_eq!(self.pending().await, [], "nothing is left to do");
        effects
    }

    /// What separates the kernel from what it should be, freshly read.
    pub(crate) async fn pending(&mut self) -> Vec<Effect> {
        let observed =
            self.datapath.observe().await.unwrap_or_else(|error| panic!("{}", daemon::chain(&error)));
        reconcile(&self.state.desired(), &observed)
    }

    /// Attaches instance `number` in a namespace of its own.
    pub(crate) async fn attach(&mut self, number: u32, ports: &str) -> (Place, Attachment) {
        let place = Place::new();
        let attachment = self.attach_in(&place, number, ports).await;
        (place, attachment)
    }

    pub(crate) async fn attach_in(&mut self, place: &Place, number: u32, ports: &str) -> Attachment {
        self.attach_as(place, instance(number), ports, None).await
    }

    /// Attaches instance `number` in a namespace of its own, with the address it keeps.
    pub(crate) async fn attach_stable(&mut self, number: u32) -> Place {
        let place = Place::new();
        self.attach_as(&place, instance(number), "", Some(stable(number))).await;
        place
    }

    /// Attaches instance 0 of the service of the other application, with the address it keeps.
    pub(crate) async fn attach_till(&mut self, ports: &str) -> (Place, Attachment) {
        let place = Place::new();
        let attachment = self.attach_as(&place, till_instance(), ports, Some(TILL)).await;
        (place, attachment)
    }

    async fn attach_as(
        &mut self,
        place: &Place,
        id: InstanceId,
        ports: &str,
        address: Option<Ipv4Addr>,
    ) -> Attachment {
        let ports = PortMapping::parse_list(ports).expect("port mappings");
        let request =
            AttachRequest { id, generation: Generation(1), namespace: place.namespace(), ports, address };
        self.submit(Command::Attach(request)).await;
        self.state.attachment(id).expect("it was attached").clone()
    }

    pub(crate) async fn detach(&mut self, number: u32) -> Vec<Effect> {
        self.submit(Command::Detach(instance(number))).await
    }

    /// The cluster tells all there is to know of the service, and of other devices.
    pub(crate) async fn hear(&mut self, instances: &[(u32, WorkerId, bool)], peers: &[(WorkerId, Peer)]) {
        self.hear_of(vec![shop(instances, &[])], peers).await;
    }

    /// The cluster tells all there is to know of several services, and of other devices.
    pub(crate) async fn hear_of(
        &mut self,
        services: Vec<(ServiceId, CallableService)>,
        peers: &[(WorkerId, Peer)],
    ) {
        self.state.hear(NetworkNews {
            whole: true,
            services: services.into_iter().map(|(id, service)| (id, Some(service.into()))).collect(),
            peers: peers.iter().map(|(worker, peer)| (*worker, Some(peer.clone().into()))).collect(),
            ..NetworkNews::default()
        });
        self.settle().await;
    }
}

/// Runs `ip` or `nft` in `place` with that input.
pub(crate) fn run(place: &Place, program: &str, input: &str) {
    place.run(|| {
        let mut command = match program {
            "ip" => process::Command::new("ip"),
            _ => process::Command::new("nft"),
        };
        let arguments: &[&str] = if program == "ip" { &["-batch", "-"] } else { &["-f", "-"] };
        let mut child = command.args(arguments).stdin(Stdio::piped()).spawn().expect("a program");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
        assert!(child.wait().expect("an end").success(), "{program}: {input}");
    });
}

/// A cable from `place`, where its end is `name`, to `world`, where its end is `far`.
pub(crate) fn cable(place: &Place, name: &str, world: &Place, far: &str) {
    run(place, "ip", &format!("link add {name} type veth peer name {far} netns {}\n", world.path()));
}

/// Bytes that look like chance and are the same in every run.
pub(crate) fn noise(seed: &mut u64, length: usize) -> Vec<u8> {
    (0..length)
        .map(|_| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed.to_be_bytes()[0]
        })
        .collect()
}

async fn connect(device: &Place, outside: &Place) {
    let (near, far) = (device.route(), outside.route());
    near.add_link(VethLink::new("up0", "up0").peer_netns_fd(&outside.netns))
        .await
        .expect("a cable to the world");
    let sides = [(&near, "192.0.2.1", "2001:db8::1"), (&far, "192.0.2.2", "2001:db8::2")];
    for (route, v4, v6) in sides {
        let index = index_of(route, "up0").await;
        route.set_link_up_by_index(1).await.expect("loopback");
        route.set_link_up_by_index(index).await.expect("an interface");
        route.add_address(Ipv4Address::with_index(index, parse(v4), 24)).await.expect("an address");
        route.add_address(Ipv6Address::with_index(index, parse(v6), 64).nodad()).await.expect("an address");
    }
    far.add_address(Ipv4Address::with_index(1, parse("198.51.100.7"), 32)).await.expect("an address");
    let index = index_of(&near, "up0").await;
    near.add_route(Ipv4Route::default_route().gateway(parse("192.0.2.2")).dev_index(index))
        .await
        .expect("a route");
    near.add_route(Ipv6Route::default_route().gateway(parse("2001:db8::2")).dev_index(index))
        .await
        .expect("a route");
}

pub(crate) async fn index_of(route: &Connection<Route>, name: &str) -> u32 {
    route.get_link_by_name(name).await.expect("netlink").expect("the interface is there").ifindex()
}

pub(crate) fn parse<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("an address")
}
