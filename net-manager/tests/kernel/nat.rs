//! Two devices, each behind a router that translates addresses as it likes, and two relays that both reach, of their
//! cluster and of the root:
//!
//! ```text
//!   device 10.1.0.2 ── router 203.0.113.1 ──┐
//!                                           ├── world, with the relays at 203.0.113.9
//!   device 10.2.0.2 ── router 203.0.113.2 ──┘
//! ```

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use model::{ClusterId, Peer, RelayPlace, TunnelKey, Way};
use net_manager::{datapath::Datapath, secure::LinkPath};
use nlink::netlink::{Connection, Netfilter};
use relay::{Destination, Lent, Order, Proof, Relay, RootSecret};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tunnel::PrivateKey;
use uuid::Uuid;

use crate::support::{Lab, Place, cable, lease, noise, run, stable, worker};

const RELAY: &str = "203.0.113.9:50105";
const RELAY_OF_ROOT: &str = "203.0.113.9:50106";
/// What finding a way takes at most: a handshake that is repeated after five seconds, and some probes.
const FOUND_WITHIN: Duration = Duration::from_secs(12);
/// Until a device knows that a relay cannot be reached: the next registration, and two that are repeated.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

/// What a router does to what leaves its site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nat {
    /// Nothing: the device is as good as in the world.
    Open,
    /// Everything a device sends from a port leaves from one and the same port.
    KeepsPorts,
    /// Each flow leaves from another port.
    Random,
}

/// The devices in their sites, and what is around them.
struct World {
    labs: [Lab; 2],
    keys: [TunnelKey; 2],
    routers: [Place; 2],
    world: Place,
    /// Where the relay sees each.
    observed: [Option<SocketAddr>; 2],
    /// Where that of the root sees each while it is reached by it.
    at_root: Vec<watch::Receiver<Option<SocketAddr>>>,
    root: Option<AbortOnDropHandle<()>>,
    relay: Option<Arc<Relay>>,
    serving: Option<AbortOnDropHandle<()>>,
    instances: [Place; 2],
}

impl World {
    async fn new(nats: [Nat; 2]) -> Self {
        let (world, routers) = (Place::new(), [Place::new(), Place::new()]);
        run(
            &world,
            "ip",
            "link set lo up\nlink add b0 type bridge\naddress add 203.0.113.9/24 dev b0\nlink set b0 up\n",
        );
        let keys = [PrivateKey::generate(), PrivateKey::generate()];
        let mut labs = Vec::new();
        for ((number, router), nat) in (1..).zip(&routers).zip(nats) {
            cable(router, "out", &world, &format!("r{number}"));
            run(
                &world,
                "ip",
                &format!(
                    "link set r{number} master b0 up\nroute add 10.{number}.0.0/16 via 203.0.113.{number}\n"
                ),
            );
            let device = Place::new();
            cable(&device, "up0", router, "in");
            run(
                router,
                "ip",
                &format!(
                    "link set lo up\nlink set out up\nlink set in up\naddress add 203.0.113.{number}/24 dev out\n\
                 address add 10.{number}.0.1/24 dev in\nroute add default via 203.0.113.9\n"
                ),
            );
            run(
                &device,
                "ip",
                &format!(
                    "link set lo up\nlink set up0 up\naddress add 10.{number}.0.2/24 dev up0\nroute add default via 10.{number}.0.1\n"
                ),
            );
            router.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("root may"));
            translate(router, nat);
            let lent =
                lease(&format!("10.18.0.{}/26", (number - 1) * 64), &format!("fc00::{}00/120", number - 1));
            labs.push(Lab::on(device, world.another(), lent).await);
        }
        world.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("root may"));
        let mut labs: [Lab; 2] = labs.try_into().map_err(|_| "two").expect("two");
        let mut at_root = Vec::new();
        for (lab, key) in labs.iter_mut().zip(&keys) {
            at_root.push(lab.start_engine(key).await);
        }
        let instances = [labs[0].attach_stable(0).await, labs[1].attach_stable(1).await];
        let keys = keys.map(|key| TunnelKey(*key.public().as_bytes()));
        let mut made = Self {
            labs,
            keys,
            routers,
            world,
            observed: [None; 2],
            at_root,
            root: None,
            relay: None,
            serving: None,
            instances,
        };
        made.open_relay().await;
        made.tell().await;
        made
    }

    /// A relay that knows nothing of one before, as after a restart of its cluster.
    async fn open_relay(&mut self) {
        self.relay = None;
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _aborted = serving.await;
        }
        let relay = self.bind(RELAY);
        let mut sessions = Vec::new();
        for (lab, key) in self.labs.iter_mut().zip(&self.keys) {
            let session = relay.open(Destination::of(&key.0), None).expect("nobody's mailbox");
            sessions.push(session.id);
            let proof = Proof::Session(session);
            let order = Order { relay: RELAY.parse().expect("an address"), own: None, proof };
            lab.datapath.use_relay(order).await;
        }
        let relay = Arc::new(relay);
        let mut observed = [None; 2];
        while observed.contains(&None) {
            let seen = tokio::time::timeout(FOUND_WITHIN, relay.serve()).await.expect("registrations");
            for seen in seen {
                let index =
                    sessions.iter().position(|session| *session == seen.session).expect("one of ours");
                observed[index] = Some(seen.endpoint);
            }
        }
        self.observed = observed;
        let serve = Arc::clone(&relay);
        self.relay = Some(relay);
        self.serving = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                serve.serve().await;
            }
        })));
    }

    fn bind(&self, address: &str) -> Relay {
        let runtime = tokio::runtime::Handle::current();
        self.world.run(|| {
            let _within = runtime.enter();
            Relay::bind(address.parse().expect("an address")).expect("a free port")
        })
    }

    /// The relay of the root, for when the other cannot be reached.
    async fn open_relay_of_root(&mut self) {
        let relay = self.bind(RELAY_OF_ROOT);
        let cluster = ClusterId::new(Uuid::from_u128(1));
        let lent = RootSecret::generate().lend(cluster);
        relay.admit(cluster, lent.clone());
        for (lab, key) in self.labs.iter_mut().zip(&self.keys) {
            let mailbox = Destination::of(&key.0);
            let proof = Proof::Lent(Lent { cluster, mailbox, key: lent.of_mailbox(mailbox) });
            let order = Order { relay: RELAY_OF_ROOT.parse().expect("an address"), own: None, proof };
            lab.datapath.use_relay(order).await;
        }
        self.root = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            relay.serve().await;
        })));
    }

    /// Waits until each device says whether it is reached by the relay of the root, and tells the other.
    async fn reached(&mut self, at_root: [bool; 2]) {
        for (place, wanted) in self.at_root.iter_mut().zip(at_root) {
            let said = place.wait_for(|place| place.is_some() == wanted);
            tokio::time::timeout(NOTICED_WITHIN, said).await.expect("in time").expect("an engine");
        }
        self.tell().await;
    }

    /// Waits until each device sends by this relay.
    async fn relayed_by(&mut self, relays: [&str; 2]) {
        let begun = Instant::now();
        let wanted = relays.map(|relay| Some(relay.parse::<SocketAddr>().expect("an address")));
        loop {
            let mut found = [None; 2];
            for (found, lab) in found.iter_mut().zip(&mut self.labs) {
                let link = lab.datapath.encrypted().await.into_iter().next();
                let link = link.filter(|link| link.path == Some(LinkPath::Relayed));
                *found = link.and_then(|link| link.endpoint);
            }
            if found == wanted {
                return;
            }
            assert!(begun.elapsed() < FOUND_WITHIN, "still {found:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Each device is told of the other, as their cluster does.
    async fn tell(&mut self) {
        let there = [(0, worker(1), true), (1, worker(2), true)];
        let at_root: Vec<_> = self.at_root.iter().map(|place| *place.borrow()).collect();
        for (index, lab) in self.labs.iter_mut().enumerate() {
            let other = 1 - index;
            let way = Way::Secure {
                endpoint: format!("10.{}.0.2:50103", other + 1).parse().expect("an endpoint"),
                observed: at_root[other].or(self.observed[other]),
                relay: at_root[other].map(|_| RelayPlace::Root),
                key: self.keys[other],
                kernel_port: None,
            };
            let lease = lease(&format!("10.18.0.{}/26", other * 64), &format!("fc00::{other}00/120"));
            let peer = (worker(u8::try_from(other + 1).expect("two")), Peer { way, lease });
            lab.hear(&there, &[peer]).await;
        }
    }

    async fn paths(&mut self) -> [Option<LinkPath>; 2] {
        let mut paths = [None; 2];
        for (path, lab) in paths.iter_mut().zip(&mut self.labs) {
            *path = lab.datapath.encrypted().await.first().and_then(|link| link.path);
        }
        paths
    }

    /// Waits until both devices go this way, each with a call now and then.
    async fn find(&mut self, wanted: [LinkPath; 2]) -> Duration {
        let begun = Instant::now();
        loop {
            let paths = self.paths().await;
            if paths == wanted.map(Some) {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < FOUND_WITHIN, "still {paths:?}");
            self.call(Duration::from_millis(200));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Whether an instance of one device reaches that of the other over UDP, both ways and by either version of IP.
    fn call(&self, patience: Duration) -> bool {
        let server = self.instances[1].udp("[::]:7");
        server.set_read_timeout(Some(patience)).expect("a deadline");
        [("0.0.0.0:0", "10.30.1.1:7"), ("[::]:0", "[fdff::101]:7")].into_iter().all(|(own, address)| {
            let caller = self.instances[0].udp(own);
            caller.set_read_timeout(Some(patience)).expect("a deadline");
            caller.send_to(b"hello", address).is_ok_and(|_| {
                let mut buffer = [0; 64];
                let Ok((length, from)) = server.recv_from(&mut buffer) else { return false };
                server.send_to(&buffer[..length], from).is_ok() && caller.recv(&mut buffer).is_ok()
            })
        })
    }

    fn calls_within(&self, patience: Duration) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if self.call(Duration::from_millis(500)) {
                return true;
            }
        }
        false
    }

    /// Sends `length` bytes over TCP from instance to instance.
    fn transfer(&self, length: usize) -> Duration {
        let address = SocketAddr::from((stable(1), 8));
        let listener = self.instances[1].run(|| TcpListener::bind(("0.0.0.0", 8))).expect("a free port");
        let receiver = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.set_read_timeout(Some(FOUND_WITHIN)).expect("a deadline");
            let mut received = Vec::new();
            stream.read_to_end(&mut received).expect("all of it");
            received
        });
        let begun = Instant::now();
        let content: Vec<u8> = (0..length).map(|index| u8::try_from(index % 251).expect("small")).collect();
        let mut stream = self.instances[0]
            .run(|| TcpStream::connect_timeout(&address, FOUND_WITHIN))
            .expect("a connection");
        stream.set_write_timeout(Some(FOUND_WITHIN)).expect("a deadline");
        stream.write_all(&content).expect("all of it");
        drop(stream);
        assert!(receiver.join().expect("a receiver") == content);
        begun.elapsed()
    }
}

/// Routers let nothing in but answers, as those of homes and branches do.
fn translate(router: &Place, nat: Nat) {
    let masquerade = match nat {
        Nat::Open => return,
        Nat::KeepsPorts => "masquerade",
        Nat::Random => "masquerade random,fully-random",
    };
    run(
        router,
        "nft",
        &format!(
            "flush ruleset\n\
         table ip nat {{ chain out {{ type nat hook postrouting priority 100; oif out {masquerade}; }}; }}\n\
         table ip guard {{\n\
           chain input {{ type filter hook input priority 0; iif out ct state established accept; iif out drop; }}\n\
           chain forward {{ type filter hook forward priority 0; iif out ct state established accept; iif out drop; }}\n\
         }}\n"
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_behind_translation_and_one_that_is_not_find_each_other() {
    let mut world = World::new([Nat::Random, Nat::Open]).await;
    world.find([LinkPath::Direct, LinkPath::HolePunched]).await;
    assert!(world.call(FOUND_WITHIN));
    world.transfer(3_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_devices_behind_translation_that_keeps_ports_punch_a_hole_each() {
    let mut world = World::new([Nat::KeepsPorts, Nat::KeepsPorts]).await;
    let took = world.find([LinkPath::HolePunched, LinkPath::HolePunched]).await;
    println!("found after {took:?}");
    // Nothing goes by the relay any more.
    world.serving = None;
    assert!(world.call(FOUND_WITHIN));
    world.transfer(3_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_hole_can_be_punched_the_relay_carries_everything() {
    let mut world = World::new([Nat::Random, Nat::Random]).await;
    world.find([LinkPath::Relayed, LinkPath::Relayed]).await;
    assert!(world.call(FOUND_WITHIN));
    let took = world.transfer(10_000_000);
    println!("10 MB by the relay in {took:?}");
    assert_eq!(world.paths().await, [Some(LinkPath::Relayed); 2]);
    world.serving = None;
    assert!(!world.calls_within(Duration::from_secs(2)), "there is no other way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_started_anew_carries_on() {
    let mut world = World::new([Nat::Random, Nat::Random]).await;
    world.find([LinkPath::Relayed, LinkPath::Relayed]).await;
    world.open_relay().await;
    assert!(world.calls_within(Duration::from_secs(2)));
}

/// Drops what is sent to the relay of the cluster, where it arrives or on its way.
fn block(place: &Place, hook: &str) {
    run(
        place,
        "nft",
        &format!(
            "table ip block {{ chain it {{ type filter hook {hook} priority -10; udp dport 50105 drop; }}; }}\n"
        ),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_relay_of_the_cluster_is_blocked_that_of_the_root_carries_everything_until_it_is_not() {
    let mut world = World::new([Nat::Random, Nat::Random]).await;
    world.open_relay_of_root().await;
    world.find([LinkPath::Relayed, LinkPath::Relayed]).await;
    world.relayed_by([RELAY; 2]).await;
    block(&world.world, "input");
    world.reached([true; 2]).await;
    assert!(world.calls_within(FOUND_WITHIN));
    world.relayed_by([RELAY_OF_ROOT; 2]).await;
    world.transfer(3_000_000);
    run(&world.world, "nft", "delete table ip block\n");
    world.reached([false; 2]).await;
    assert!(world.calls_within(FOUND_WITHIN));
    world.relayed_by([RELAY; 2]).await;
    // Nothing goes by that of the root any more.
    world.root = None;
    world.transfer(3_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_alone_does_not_reach_the_relay_of_its_cluster_meets_others_at_that_of_the_root() {
    let mut world = World::new([Nat::Random, Nat::Random]).await;
    world.open_relay_of_root().await;
    world.find([LinkPath::Relayed, LinkPath::Relayed]).await;
    block(&world.routers[0], "forward");
    world.reached([true, false]).await;
    assert!(world.calls_within(FOUND_WITHIN));
    world.relayed_by([RELAY_OF_ROOT; 2]).await;
    world.transfer(3_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_forgets_its_flows_and_changes_its_ways_interrupts_for_seconds() {
    let mut world = World::new([Nat::KeepsPorts, Nat::KeepsPorts]).await;
    world.find([LinkPath::HolePunched, LinkPath::HolePunched]).await;
    // Flows are forgotten, and the new ones leave from other ports: no hole can be punched any more.
    for router in &world.routers {
        translate(router, Nat::Random);
        let conntrack = Connection::<Netfilter>::new_in(&router.netns).expect("netlink");
        conntrack.flush_conntrack().await.expect("flows that are forgotten");
    }
    assert!(world.calls_within(Duration::from_secs(30)), "by the relay");
    assert_eq!(world.paths().await, [Some(LinkPath::Relayed); 2]);
    for router in &world.routers {
        translate(router, Nat::KeepsPorts);
    }
    assert!(world.calls_within(FOUND_WITHIN));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_sent_to_a_relay_and_to_devices_behind_it_they_talk_on() {
    let mut world = World::new([Nat::Random, Nat::Random]).await;
    world.open_relay_of_root().await;
    world.find([LinkPath::Relayed, LinkPath::Relayed]).await;
    let stranger = world.world.udp("203.0.113.9:0");
    let [relay, relay_of_root] = [RELAY, RELAY_OF_ROOT].map(|relay| relay.parse().expect("an address"));
    let observed = world.observed.map(|observed| observed.expect("both are registered"));
    let mut seed = 1;
    for round in 0..300 {
        // What is theirs by its beginning: messages of WireGuard, registrations and answers, what is or was passed on.
        let beginnings: [&[u8]; 11] = [
            b"",
            b"\x01\0\0\0",
            b"\x02\0\0\0",
            b"\x03\0\0\0",
            b"\x04\0\0\0",
            b"R",
            b"S",
            b"E",
            b"T",
            b"F",
            b"G\x04\0\0\0",
        ];
        for beginning in beginnings {
            let mut datagram = [beginning, &noise(&mut seed, [0, 31, 42, 56, 144, 1500][round % 6])].concat();
            if beginning == b"F" && datagram.len() > 20 {
                // To a mailbox there is.
                let key = &world.keys[round % 2].0;
                let message = [&[4, 0, 0, 0], &datagram[20..]].concat();
                datagram = [&relay::forward_prefix(Destination::of(key))[..], &message].concat();
            }
            for to in [relay, relay_of_root, observed[0], observed[1]] {
                let _full = stranger.send_to(&datagram, to);
            }
        }
        if round % 100 == 0 {
            assert!(world.call(FOUND_WITHIN), "round {round}");
        }
    }
    world.transfer(1_000_000);
    assert_eq!(world.paths().await, [Some(LinkPath::Relayed); 2]);
}
