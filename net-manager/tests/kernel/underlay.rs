//! Trusted sites whose devices reach each other over IPv6, and one where not all speak the same version of IP:
//!
//! ```text
//!   both  203.0.113.1, 2001:db8::1 ──┐
//!   four  203.0.113.2 ───────────────┼── the site, with the relay at 203.0.113.9 and 2001:db8::9
//!   six   2001:db8::3 ───────────────┘
//! ```

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use model::{Peer, TunnelKey, Way};
use net_core::{Echo, EchoOver, Family};
use net_manager::{
    datapath::Datapath,
    secure::{LinkPath, PORT},
};
use relay::{Destination, Order, Proof, Relay};
use tokio_util::task::AbortOnDropHandle;
use tunnel::PrivateKey;

use crate::support::{Lab, PATIENCE, Place, cable, lease, parse, run, stable, worker};

/// What finding a way by the relay takes at most: a handshake that is repeated after five seconds.
const FOUND_WITHIN: Duration = Duration::from_secs(12);
const NAMES: [&str; 3] = ["zero", "one", "two"];

/// Devices with an instance each.
struct Site {
    labs: Vec<Lab>,
    instances: Vec<Place>,
    world: Place,
}

impl Site {
    async fn new(devices: &[&[&str]]) -> Self {
        let world = Place::new();
        run(
            &world,
            "ip",
            "link set lo up\nlink add b0 type bridge\naddress add 203.0.113.9/24 dev b0\n\
             address add 2001:db8::9/64 dev b0 nodad\nlink set b0 up\n",
        );
        let (mut labs, mut instances) = (Vec::new(), Vec::new());
        for (index, addresses) in devices.iter().enumerate() {
            let device = Place::new();
            cable(&device, "up0", &world, &format!("d{index}"));
            run(&world, "ip", &format!("link set d{index} master b0 up\n"));
            run(&device, "ip", "link set lo up\nlink set up0 up\n");
            for address in *addresses {
                let (length, flag) = if address.contains(':') { (64, "nodad") } else { (24, "") };
                run(&device, "ip", &format!("address add {address}/{length} dev up0 {flag}\n"));
            }
            let mut lab = Lab::on(device, world.another(), lease_of(index)).await;
            let instance = lab.attach_stable(u32::try_from(index).expect("few")).await;
            instance.serve(NAMES[index], 80);
            instances.push(instance);
            labs.push(lab);
        }
        Self { labs, instances, world }
    }

    /// Each device is told how it gets to each other one.
    async fn tell(&mut self, way: impl Fn(usize, usize) -> Way) {
        let all = 0..self.labs.len();
        let instances: Vec<_> =
            all.clone().map(|index| (u32::try_from(index).expect("few"), worker_of(index), true)).collect();
        for (from, lab) in self.labs.iter_mut().enumerate() {
            let others = all.clone().filter(|to| *to != from);
            let peer = |to| (worker_of(to), Peer { way: way(from, to), lease: lease_of(to) });
            lab.hear(&instances, &others.map(peer).collect::<Vec<_>>()).await;
        }
    }

    /// What the instance of a device hears when it calls that of another, by both of its addresses.
    fn calls(&self, from: usize, to: usize) -> [std::io::Result<String>; 2] {
        let number = u32::try_from(to).expect("few");
        [format!("{}:80", stable(number)), format!("[fdff::10{number}]:80")]
            .map(|address| self.instances[from].ask(&address))
    }

    fn assert_calls(&self, from: usize, to: usize) {
        let heard = self.calls(from, to).map(|heard| heard.expect("an answer"));
        let expected = [format!("{} to {}", NAMES[to], stable(u32::try_from(from).expect("few")))];
        assert_eq!(heard, [expected[0].clone(), format!("{} to fdff::10{from}", NAMES[to])]);
    }

    /// Once there is a way.
    fn assert_calls_in_the_end(&self, from: usize, to: usize) {
        let begun = Instant::now();
        while self.calls(from, to).iter().any(Result::is_err) {
            assert!(begun.elapsed() < FOUND_WITHIN, "{:?}", self.calls(from, to));
        }
        self.assert_calls(from, to);
    }

    /// More than fits into the buffers, from one instance to another, to that address of it.
    fn transfer(&self, from: usize, to: usize, address: &str) {
        let content = vec![7; 3_000_000];
        let length = content.len();
        let listener = self.instances[to].run(|| TcpListener::bind("[::]:9")).expect("a free port");
        let receiver = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.set_read_timeout(Some(10 * PATIENCE)).expect("a deadline");
            let mut received = Vec::new();
            stream.read_to_end(&mut received).map(|_| received.len())
        });
        let address: SocketAddr = parse(address);
        let mut stream = self.instances[from].run(|| TcpStream::connect(address)).expect("a connection");
        stream.set_write_timeout(Some(10 * PATIENCE)).expect("a deadline");
        stream.write_all(&content).expect("all of it");
        drop(stream);
        assert_eq!(receiver.join().expect("a receiver").expect("all of it"), length);
    }
}

fn worker_of(index: usize) -> model::WorkerId {
    worker(u8::try_from(index + 1).expect("few"))
}

fn lease_of(index: usize) -> model::NetworkLease {
    lease(&format!("10.18.0.{}/26", index * 64), &format!("fc00::{index}00/120"))
}

/// Every device gets an engine of encrypted links; the keys of these.
async fn start_engines(site: &mut Site) -> Vec<TunnelKey> {
    let mut keys = Vec::new();
    for lab in &mut site.labs {
        let key = PrivateKey::generate();
        lab.start_engine(&key).await;
        keys.push(TunnelKey(*key.public().as_bytes()));
    }
    keys
}

fn secure(address: &str, key: TunnelKey) -> Way {
    Way::Secure {
        endpoint: SocketAddr::new(parse(address), PORT),
        observed: None,
        relay: None,
        key,
        kernel_port: None,
    }
}

fn direct(address: &str) -> Way {
    Way::Direct { underlay: parse(address) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_trusted_site_without_ipv4_instances_call_each_other() {
    let addresses = ["2001:db8::1", "2001:db8::2"];
    let mut site = Site::new(&[&addresses[..1], &addresses[1..]]).await;
    site.tell(|_, to| direct(addresses[to])).await;
    site.assert_calls(0, 1);
    site.assert_calls(1, 0);
    // Packets of full length: there is less room than over IPv4.
    for address in ["10.30.1.1:9", "[fdff::101]:9"] {
        site.transfer(0, 1, address);
    }
    let echo = Echo { from: parse("fc00::1"), to: parse("fc00::101"), over: EchoOver::Direct(Family::V6) };
    assert!(site.labs[0].datapath.echo(echo).await.is_some(), "it is measured by that link too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_devices_without_ipv4_that_do_not_trust_their_network_calls_are_encrypted() {
    let addresses = ["2001:db8::1", "2001:db8::2"];
    let mut site = Site::new(&[&addresses[..1], &addresses[1..]]).await;
    let keys = start_engines(&mut site).await;
    site.tell(|_, to| secure(addresses[to], keys[to])).await;
    site.assert_calls_in_the_end(0, 1);
    site.assert_calls(1, 0);
    for address in ["10.30.1.1:9", "[fdff::101]:9"] {
        site.transfer(0, 1, address);
    }
    let links = site.labs[0].datapath.encrypted().await;
    assert_eq!(links.iter().map(|link| link.path).collect::<Vec<_>>(), [Some(LinkPath::Direct)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_go_on_when_the_way_to_a_device_becomes_another() {
    let v4 = ["203.0.113.1", "203.0.113.2"];
    let v6 = ["2001:db8::1", "2001:db8::2"];
    let mut site = Site::new(&[&[v4[0], v6[0]], &[v4[1], v6[1]]]).await;
    site.tell(|_, to| direct(v4[to])).await;
    let listener = site.instances[1].run(|| TcpListener::bind("10.30.1.1:7")).expect("a free port");
    let mut stream = site.instances[0].run(|| TcpStream::connect("10.30.1.1:7")).expect("a connection");
    let (mut accepted, _) = listener.accept().expect("a connection");
    let keys = start_engines(&mut site).await;
    let ways: [[Way; 2]; 5] = [
        v6.map(direct),
        v4.map(direct),
        [secure(v6[0], keys[0]), secure(v6[1], keys[1])],
        v6.map(direct),
        v4.map(direct),
    ];
    for way in ways {
        site.tell(|_, to| way[to]).await;
        stream.write_all(b"?").expect("it goes on");
        accepted.set_read_timeout(Some(FOUND_WITHIN)).expect("a deadline");
        accepted.read_exact(&mut [0; 1]).expect("it goes on");
        site.assert_calls_in_the_end(0, 1);
        site.assert_calls(1, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_that_share_no_version_of_ip_are_joined_by_the_relay() {
    let [both_v4, both_v6] = ["203.0.113.1", "2001:db8::1"];
    let [four, six] = ["203.0.113.2", "2001:db8::3"];
    let mut site = Site::new(&[&[both_v4, both_v6], &[four], &[six]]).await;
    let keys = start_engines(&mut site).await;
    let _serving = open_relay(&mut site, &keys, ["203.0.113.9", "203.0.113.9", "2001:db8::9"]).await;
    // The first is beside the one over IPv4 and beside the other over IPv6, without the relay.
    let ways = [
        [None, Some(direct(four)), Some(direct(six))],
        [Some(direct(both_v4)), None, Some(secure(six, keys[2]))],
        [Some(direct(both_v6)), Some(secure(four, keys[1])), None],
    ];
    site.tell(|from, to| ways[from][to].expect("another device")).await;
    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0)] {
        site.assert_calls(from, to);
    }
    site.assert_calls_in_the_end(1, 2);
    site.assert_calls(2, 1);
    for lab in &mut site.labs[1..] {
        let paths: Vec<_> = lab.datapath.encrypted().await.iter().map(|link| link.path).collect();
        assert_eq!(paths, [Some(LinkPath::Relayed)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_half_of_the_direct_link_is_put_back_and_a_purge_takes_what_is_left() {
    let addresses = ["2001:db8::1", "2001:db8::2"];
    let mut site = Site::new(&[&addresses[..1], &addresses[1..]]).await;
    site.tell(|_, to| direct(addresses[to])).await;
    for half in ["mgvdirect6", "mgvdirect"] {
        run(&site.labs[0].device, "ip", &format!("link delete {half}\n"));
        site.labs[0].settle().await;
        site.assert_calls(0, 1);
    }
    run(&site.labs[0].device, "ip", "link delete mgvdirect6\n");
    site.labs[0].datapath.purge_all().await.expect("a purge");
    let left = site.labs[0].device.route().get_links().await.expect("netlink");
    let ours = |name: &&str| name.starts_with("mgv");
    assert_eq!(left.iter().filter_map(|link| link.name()).find(ours), None);
}

/// A relay in the world that each device is told of at an address of a version that it speaks.
async fn open_relay(site: &mut Site, keys: &[TunnelKey], addresses: [&str; 3]) -> AbortOnDropHandle<()> {
    let runtime = tokio::runtime::Handle::current();
    let relay = site.world.run(|| {
        let _within = runtime.enter();
        Relay::bind(parse("[::]:50105")).expect("a free port")
    });
    for ((lab, key), address) in site.labs.iter_mut().zip(keys).zip(addresses) {
        let session = relay.open(Destination::of(&key.0), None).expect("nobody's mailbox");
        let relay = SocketAddr::new(parse::<IpAddr>(address), 50105);
        lab.datapath.use_relay(Order { relay, own: None, proof: Proof::Session(session) }).await;
    }
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            relay.serve().await;
        }
    }))
}
