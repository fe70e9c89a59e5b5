//! Encrypted links that the kernel's own WireGuard carries. Most developers' kernels have none, so these run in a virtual
//! machine: `scripts/test-kernel`.
//!
//! ```text
//!   instance 0 ══ 192.0.2.1 first ── engine, 50103 ── second 192.0.2.2 ══ instance 1
//!                                └── kernel, 50107 ──┘
//! ```

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use model::{Moment, Peer, TunnelKey, Way};
use net_core::{Effect, EngineReason, NetworkState};
use net_manager::{
    datapath::Datapath,
    secure::{KERNEL_PORT, PORT},
};
use nlink::netlink::{
    Connection, Wireguard,
    genl::wireguard::{AllowedIp, WgPeerBuilder},
    link::WireguardLink,
};
use tunnel::PrivateKey;

use crate::support::{Lab, Place, lease, run, stable, worker};

const PLACES: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
const SUBNETS: [(&str, &str); 2] = [("10.18.0.0/26", "fc00::/120"), ("10.18.0.64/26", "fc00::100/120")];
/// The engine repeats a handshake after five seconds, as does the kernel.
const FOUND_WITHIN: Duration = Duration::from_secs(20);
const BLOCK: &str =
    "table inet block { chain input { type filter hook input priority 0; udp dport 50107 drop; }; }\n";
/// Longer than silence is borne with, and than a link rests afterwards.
const LATER_MILLIS: u64 = 61_000;

struct Pair {
    labs: [Lab; 2],
    instances: [Place; 2],
    keys: [PrivateKey; 2],
    /// The present, as these devices are told.
    now: u64,
}

impl Pair {
    /// Two devices that were told of each other; the kernel of the second has a WireGuard as far as the first is told.
    async fn new(second_has_wireguard: bool) -> Self {
        let (first, second) = Lab::pair().await;
        let keys = [PrivateKey::generate(), PrivateKey::generate()];
        let mut labs = [first, second];
        for (lab, key) in labs.iter_mut().zip(&keys) {
            lab.start_engine(key).await;
            assert_eq!(lab.datapath.add_wireguard(key.clone(), KERNEL_PORT).await, Some(KERNEL_PORT));
        }
        let instances = [labs[0].attach_stable(0).await, labs[1].attach_stable(1).await];
        instances[1].serve("second", 80);
        let mut pair = Self { labs, instances, keys, now: 0 };
        for index in [0, 1] {
            let way = pair.way_to(1 - index, index == 1 || second_has_wireguard);
            pair.tell(index, way).await;
        }
        pair
    }

    fn way_to(&self, index: usize, has_wireguard: bool) -> Way {
        Way::Secure {
            endpoint: format!("{}:{PORT}", PLACES[index]).parse().expect("an endpoint"),
            observed: None,
            relay: None,
            key: TunnelKey(*self.keys[index].public().as_bytes()),
            kernel_port: has_wireguard.then_some(KERNEL_PORT),
        }
    }

    async fn tell(&mut self, index: usize, way: Way) {
        let other = 1 - index;
        let (v4, v6) = SUBNETS[other];
        let number = |index: usize| u8::try_from(index + 1).expect("two");
        let peer = (worker(number(other)), Peer { way, lease: lease(v4, v6) });
        self.labs[index].hear(&[(0, worker(1), true), (1, worker(2), true)], &[peer]).await;
    }

    /// A device looks after its link; why the engine carries it afterwards.
    async fn look(&mut self, index: usize) -> Option<EngineReason> {
        let way = self.way_to(1 - index, true);
        let lab = &mut self.labs[index];
        let signs = lab.datapath.signs().await;
        lab.state.look(&signs, Moment(self.now));
        lab.settle().await;
        lab.state.why_by_engine(way)
    }

    /// Looks until the link of that device is carried as wanted.
    async fn find(&mut self, index: usize, wanted: Option<EngineReason>) {
        let begun = Instant::now();
        loop {
            let found = self.look(index).await;
            if found == wanted {
                return;
            }
            assert!(begun.elapsed() < FOUND_WITHIN, "{index}: {found:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Both devices agree that the kernel carries.
    async fn move_to_kernel(&mut self) {
        self.assert_calls();
        for index in [0, 1] {
            self.find(index, Some(EngineReason::NoHandshake)).await;
        }
        for index in [0, 1] {
            self.find(index, None).await;
        }
    }

    /// By both of its addresses, once there is a way.
    fn assert_calls(&self) {
        let begun = Instant::now();
        for (address, answer) in
            [("10.30.1.1:80", "second to 10.30.1.0"), ("[fdff::101]:80", "second to fdff::100")]
        {
            loop {
                match self.instances[0].ask(address) {
                    Ok(heard) if heard == answer => break,
                    heard => assert!(begun.elapsed() < FOUND_WITHIN, "{address}: {heard:?}"),
                }
            }
        }
    }

    fn connect(&self) -> [TcpStream; 2] {
        let listener = self.instances[1].run(|| TcpListener::bind((stable(1), 7))).expect("a free port");
        let callee = (stable(1), 7).into();
        let stream = self.instances[0].run(|| TcpStream::connect_timeout(&callee, FOUND_WITHIN));
        let stream = stream.expect("a connection");
        let (accepted, _) = listener.accept().expect("a connection");
        for stream in [&stream, &accepted] {
            stream.set_read_timeout(Some(FOUND_WITHIN)).expect("a deadline");
            stream.set_write_timeout(Some(FOUND_WITHIN)).expect("a deadline");
        }
        [stream, accepted]
    }

    /// Bytes that came and went by the first device's kernel.
    async fn by_kernel(&mut self) -> u64 {
        self.labs[0].datapath.in_kernel().await.iter().map(|link| link.received + link.sent).sum()
    }

    /// What goes over a connection, both ways: more than all handshakes and keepalives meanwhile.
    async fn bytes_by_kernel(&mut self, connection: &mut [TcpStream; 2]) -> u64 {
        let before = self.by_kernel().await;
        exchange(connection);
        self.by_kernel().await - before
    }

    fn has_interface(&self, index: usize) -> bool {
        self.labs[index]
            .device
            .run(|| std::path::Path::new("/proc/thread-self/net/dev_snmp6/mgvkernel").exists())
    }
}

const LENGTH: usize = 50_000;

fn exchange(connection: &mut [TcpStream; 2]) {
    for (from, to) in [(0, 1), (1, 0)] {
        connection[from].write_all(&[7; LENGTH]).expect("it goes on");
        connection[to].read_exact(&mut [0; LENGTH]).expect("it goes on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs WireGuard in the kernel: scripts/test-kernel"]
async fn direct_links_move_into_the_kernel_and_back_while_connections_go_on() {
    let mut pair = Pair::new(true).await;
    pair.assert_calls();
    let mut connection = pair.connect();
    assert_eq!(pair.bytes_by_kernel(&mut connection).await, 0);
    pair.find(0, Some(EngineReason::NoHandshake)).await;
    exchange(&mut connection);
    pair.find(1, Some(EngineReason::NoHandshake)).await;
    // Until the other looks too, each direction has a carrier of its own.
    pair.find(0, None).await;
    assert!(pair.bytes_by_kernel(&mut connection).await > LENGTH as u64);
    pair.assert_calls();
    pair.find(1, None).await;
    assert!(pair.bytes_by_kernel(&mut connection).await > 2 * LENGTH as u64);
    pair.assert_calls();

    // Nothing is let in any more, on the second device.
    run(&pair.labs[1].device, "nft", BLOCK);
    pair.now += LATER_MILLIS;
    pair.look(1).await;
    pair.now += LATER_MILLIS;
    pair.find(1, Some(EngineReason::Broke)).await;
    // As the second is silent now, the first leaves the kernel too.
    pair.look(0).await;
    pair.now += LATER_MILLIS / 2;
    pair.find(0, Some(EngineReason::Broke)).await;
    assert_eq!(pair.bytes_by_kernel(&mut connection).await, 0);
    pair.assert_calls();

    run(&pair.labs[1].device, "nft", "delete table inet block\n");
    pair.now += LATER_MILLIS;
    pair.move_to_kernel().await;
    assert!(pair.bytes_by_kernel(&mut connection).await > 2 * LENGTH as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs WireGuard in the kernel: scripts/test-kernel"]
async fn a_blocked_kernel_port_leaves_the_link_with_the_engine() {
    let mut pair = Pair::new(true).await;
    for lab in &pair.labs {
        run(&lab.device, "nft", BLOCK);
    }
    pair.assert_calls();
    let mut connection = pair.connect();
    for index in [0, 1] {
        pair.find(index, Some(EngineReason::NoHandshake)).await;
    }
    for _ in 0..5 {
        pair.now += LATER_MILLIS;
        for index in [0, 1] {
            assert_eq!(pair.look(index).await, Some(EngineReason::NoHandshake));
        }
        exchange(&mut connection);
    }
    pair.assert_calls();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs WireGuard in the kernel: scripts/test-kernel"]
async fn a_restart_of_netmanager_loses_no_connection() {
    let mut pair = Pair::new(true).await;
    pair.move_to_kernel().await;
    let mut connection = pair.connect();
    let lab = &mut pair.labs[0];
    let kept = serde_json::to_vec(&lab.state).expect("what is kept");
    let mut again: NetworkState = serde_json::from_slice(&kept).expect("what was kept");
    again.recall(lab.state.surroundings().clone());
    lab.state = again;
    // The engine has a process of its own, which stays.
    lab.datapath.add_wireguard(pair.keys[0].clone(), KERNEL_PORT).await;
    let signs = lab.datapath.signs().await;
    assert!(lab.state.look(&signs, Moment(0)), "the kernel carries");
    let done = lab.settle().await;
    let is_of_a_link =
        |effect: &&Effect| matches!(effect, Effect::SetKernelPeers(_) | Effect::ChangePaths { .. });
    assert_eq!(done.iter().find(is_of_a_link), None);
    exchange(&mut connection);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs WireGuard in the kernel: scripts/test-kernel"]
async fn a_device_without_wireguard_in_its_kernel_is_reached_by_the_engine() {
    let mut pair = Pair::new(false).await;
    pair.assert_calls();
    for index in [0, 1] {
        pair.look(index).await;
    }
    let way = pair.way_to(1, false);
    assert_eq!(pair.labs[0].state.why_by_engine(way), Some(EngineReason::OtherHasNone));
    assert_eq!([0, 1].map(|index| pair.has_interface(index)), [false, true], "the other one waits");
    pair.assert_calls();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs WireGuard in the kernel: scripts/test-kernel"]
async fn an_interface_that_is_taken_away_is_put_back_and_a_purge_leaves_none() {
    let mut pair = Pair::new(true).await;
    pair.move_to_kernel().await;
    let mut connection = pair.connect();
    run(&pair.labs[0].device, "ip", "link delete mgvkernel\n");
    pair.look(0).await;
    assert!(pair.has_interface(0));
    exchange(&mut connection);
    pair.find(0, None).await;
    exchange(&mut connection);
    pair.labs[0].datapath.purge_all().await.expect("a purge");
    assert!(!pair.has_interface(0));
}

/// What is led into the kernel at one end may be the engine's at the other: a device with a WireGuard of its own, set up by
/// hand, is as good as one with NetManager.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs WireGuard in the kernel: scripts/test-kernel"]
async fn the_engine_and_a_kernel_speak_one_protocol_whoever_begins() {
    for engine_begins in [true, false] {
        let (mut first, mut second) = Lab::pair().await;
        second.datapath.purge_all().await.expect("a purge");
        let keys = [PrivateKey::generate(), PrivateKey::generate()];
        first.start_engine(&keys[0]).await;
        let instance = first.attach_stable(0).await;
        instance.serve("first", 80);
        let other = second.device.another();
        set_up_by_hand(&other, &keys).await;
        other.serve("second", 81);
        let way = Way::Secure {
            endpoint: format!("{}:{KERNEL_PORT}", PLACES[1]).parse().expect("an endpoint"),
            observed: None,
            relay: None,
            key: TunnelKey(*keys[1].public().as_bytes()),
            kernel_port: None,
        };
        let (v4, v6) = SUBNETS[1];
        let peer = (worker(2), Peer { way, lease: lease(v4, v6) });
        first.hear(&[(0, worker(1), true), (1, worker(2), true)], &[peer]).await;

        let mut calls = [
            (&instance, "10.30.1.1:81", "second to 10.30.1.0"),
            (&instance, "[fdff::101]:81", "second to fdff::100"),
            (&other, "10.30.1.0:80", "first to 10.30.1.1"),
            (&other, "[fdff::100]:80", "first to fdff::101"),
        ];
        if !engine_begins {
            calls.reverse();
        }
        let begun = Instant::now();
        for (caller, address, answer) in calls {
            while caller.ask(address).ok().as_deref() != Some(answer) {
                assert!(begun.elapsed() < FOUND_WITHIN, "{address}, the engine begins: {engine_begins}");
            }
        }
        transfer(&instance, &other, stable(1));
        transfer(&other, &instance, stable(0));
    }
}

/// The second device with the kernel's WireGuard and nothing else, which has the addresses of instance 1 itself.
async fn set_up_by_hand(place: &Place, keys: &[PrivateKey; 2]) {
    place.route().add_link(WireguardLink::new("wg0").mtu(1420)).await.expect("an interface");
    let wireguard = Connection::<Wireguard>::new_in_async(&place.netns).await.expect("generic netlink");
    let allowed = ["10.18.0.0", "10.30.1.0", "fc00::", "fdff::100"].map(|address| {
        let addr: IpAddr = address.parse().expect("an address");
        AllowedIp { addr, cidr: if addr.is_ipv4() { 26 } else { 120 } }
    });
    let other = WgPeerBuilder::new(*keys[0].public().as_bytes())
        .endpoint(format!("{}:{PORT}", PLACES[0]).parse().expect("an endpoint"))
        .replace_allowed_ips()
        .allowed_ips(allowed);
    let key = *keys[1].as_bytes();
    wireguard
        .set_device_by_name("wg0", |device| device.private_key(key).listen_port(KERNEL_PORT).peer(other))
        .await
        .expect("a WireGuard");
    run(
        place,
        "ip",
        "link set wg0 up\naddress add 10.30.1.1/32 dev wg0\naddress add fdff::101/128 dev wg0 nodad\n\
         route add 10.30.1.0/32 dev wg0 src 10.30.1.1\nroute add fdff::100/128 dev wg0 src fdff::101\n",
    );
}

/// More than fits into buffers, in packets of full length.
fn transfer(from: &Place, to: &Place, address: Ipv4Addr) {
    const LENGTH: usize = 1_000_000;
    let listener = to.run(|| TcpListener::bind((address, 9))).expect("a free port");
    let receiver = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(FOUND_WITHIN)).expect("a deadline");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).map(|_| received)
    });
    let mut stream = from.run(|| TcpStream::connect((address, 9))).expect("a connection");
    stream.set_write_timeout(Some(FOUND_WITHIN)).expect("a deadline");
    stream.write_all(&vec![7; LENGTH]).expect("all of it");
    drop(stream);
    assert!(receiver.join().expect("a receiver").expect("all of it") == vec![7; LENGTH]);
}
