//! Instances that go while others are connected to them, on a real kernel.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use crate::support::{Lab, PATIENCE, Place, echo, instance, lease, parse, worker};
use model::{Peer, Way, WorkerId};
use net_core::Command;
use net_manager::datapath::Datapath;
use nlink::netlink::{Connection, Netfilter, OwnedEventStream, netfilter::ConntrackGroup};
use tokio_stream::StreamExt;

const HERE: u8 = 1;
const THERE: u8 = 2;
/// The kernel calls a UDP flow assured when it is older than two seconds.
const ASSURED_AFTER: Duration = Duration::from_millis(2100);

/// A connection that both sides hold open.
struct Held {
    caller: TcpStream,
    server: TcpStream,
}

impl Held {
    /// From `caller` to what `server` serves.
    fn open(caller: &Place, to: &str, server: &Place) -> Self {
        let listener = server.run(|| TcpListener::bind(("::", 7))).expect("a free port");
        let to: SocketAddr = to.parse().expect("an address");
        let caller = caller.run(|| TcpStream::connect_timeout(&to, PATIENCE)).expect("a connection");
        let (server, _) = listener.accept().expect("it was made");
        caller.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        Self { caller, server }
    }

    /// What comes of another byte in both directions.
    fn goes_on(&mut self) -> std::io::Result<()> {
        let mut byte = [0; 1];
        self.caller.write_all(b"?")?;
        self.server.read_exact(&mut byte)?;
        self.server.write_all(b"!")?;
        self.caller.read_exact(&mut byte)
    }
}

async fn connections(lab: &mut Lab, number: u32) -> u32 {
    let to = lab.state.connected_at(instance(number));
    lab.datapath.connections(&to).await.expect("the kernel counts")
}

/// What changes about connections of a device. Of those that began before, the kernel does not tell.
async fn changes(device: &Place) -> OwnedEventStream<Netfilter> {
    let conntrack = Connection::<Netfilter>::new_in(&device.netns).expect("netlink");
    conntrack.subscribe(&[ConntrackGroup::Update]).expect("events");
    conntrack.into_events().await
}

/// The end of a connection takes a moment.
async fn none_left(lab: &mut Lab, number: u32, changes: &mut OwnedEventStream<Netfilter>) {
    let ended = async {
        while connections(lab, number).await > 0 {
            changes.next().await.expect("the kernel goes on").expect("an event");
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("no connection is left");
}

/// Two devices, with instances 2 and 3 on the second.
struct Scene {
    first: Lab,
    second: Lab,
    servers: [Place; 2],
}

impl Scene {
    async fn new() -> Self {
        let (first, mut second) = Lab::pair().await;
        let servers = [second.attach_stable(2).await, second.attach_stable(3).await];
        servers[0].serve("two", 80);
        servers[1].serve("three", 80);
        Self { first, second, servers }
    }

    /// Both devices are told of the caller, instance 0 on the first, and of these on the second: whether they are ready.
    async fn tell(&mut self, there: &[(u32, bool)]) {
        let peer = |underlay: &str, v4: &str, v6: &str| {
            let way = Way::Direct { underlay: parse(underlay) };
            Peer { way, lease: lease(v4, v6) }
        };
        let there = there.iter().map(|(number, ready)| (*number, worker(THERE), *ready));
        let instances: Vec<(u32, WorkerId, bool)> =
            std::iter::once((0, worker(HERE), false)).chain(there).collect();
        let beyond = peer("192.0.2.2", "10.18.0.64/26", "fc00::100/120");
        self.first.hear(&instances, &[(worker(THERE), beyond)]).await;
        let beyond = peer("192.0.2.1", "10.18.0.0/26", "fc00::/120");
        self.second.hear(&instances, &[(worker(HERE), beyond)]).await;
    }
}

#[tokio::test]
async fn connections_go_on_while_new_ones_go_elsewhere_until_the_last_one_ends() {
    let mut scene = Scene::new().await;
    let caller = scene.first.attach_stable(0).await;
    let mut changes = changes(&scene.second.device).await;
    for (service, kept) in [("10.30.0.1", "v4"), ("[fdff:2000::1]", "v6")] {
        scene.tell(&[(2, true)]).await;
        let mut held = Held::open(&caller, &format!("{service}:7"), &scene.servers[0]);
        scene.tell(&[(2, false), (3, true)]).await;
        scene.second.submit(Command::Drain(instance(2))).await;
        for _ in 0..3 {
            let answer = caller.ask(&format!("{service}:80")).expect("an answer");
            assert!(answer.starts_with("three to"), "{answer}");
            held.goes_on().unwrap_or_else(|error| panic!("{kept}: {error}"));
            assert_eq!(connections(&mut scene.second, 2).await, 1, "{kept}");
        }
        drop(held);
        none_left(&mut scene.second, 2, &mut changes).await;
        // The other direction does not count: it may be busy for ever.
        let _calls = Held::open(&scene.servers[0], "10.30.1.3:7", &scene.servers[1]);
        assert_eq!(connections(&mut scene.second, 2).await, 0, "{kept}");
    }
}

#[tokio::test]
async fn what_is_left_at_the_end_is_reset() {
    let mut scene = Scene::new().await;
    let caller = scene.first.attach_stable(0).await;
    scene.tell(&[(2, true)]).await;
    let mut held = Held::open(&caller, "10.30.0.1:7", &scene.servers[0]);
    scene.tell(&[(2, false), (3, true)]).await;
    scene.second.submit(Command::Drain(instance(2))).await;
    held.goes_on().expect("its time is not over");

    scene.second.detach(2).await;
    scene.tell(&[(3, true)]).await;
    held.caller.write_all(b"?").expect("it is not known yet");
    let ended = held.caller.read(&mut [0; 1]).expect_err("nobody answers");
    assert_eq!(ended.kind(), ErrorKind::ConnectionReset);
    assert_eq!(connections(&mut scene.second, 2).await, 0);
}

#[tokio::test]
async fn ports_of_one_that_goes_are_refused_to_others_and_kept_by_those_connected() {
    let mut lab = Lab::new().await;
    let (server, _) = lab.attach(0, "8080:7;8081:80").await;
    server.serve("server", 80);
    let mut changes = changes(&lab.device).await;
    for device in ["192.0.2.1", "[2001:db8::1]"] {
        let mut held = Held::open(&lab.outside, &format!("{device}:8080"), &server);
        assert!(lab.outside.ask(&format!("{device}:8081")).is_ok());
        lab.submit(Command::Drain(instance(0))).await;
        let refused = lab.outside.ask(&format!("{device}:8081")).expect_err("it goes");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        held.goes_on().expect("it was there before");
        assert_eq!(connections(&mut lab, 0).await, 1);
        drop(held);
        none_left(&mut lab, 0, &mut changes).await;
        lab.attach_in(&server, 0, "8080:7;8081:80").await;
    }
}

#[tokio::test]
async fn a_udp_flow_counts_while_both_ends_speak() {
    for (device, caller) in [("192.0.2.1", "192.0.2.2:0"), ("[2001:db8::1]", "[2001:db8::2]:0")] {
        let mut lab = Lab::new().await;
        let (server, _) = lab.attach(0, "5353:53/udp;9000:9/udp").await;
        server.serve_udp("server", 53);
        let caller = lab.outside.udp(caller);
        let set = |lab: &Lab, timeout: &str, seconds: &str| {
            let setting = format!("net.netfilter.nf_conntrack_{timeout}");
            lab.device.netns.sysctl().set(&setting, seconds).expect("a setting");
        };
        let asks = || echo(&caller, &format!("{device}:5353")).expect("an answer");
        caller.send_to(b"?", format!("{device}:9000")).expect("a way");
        assert_eq!(connections(&mut lab, 0).await, 0, "nobody has answered");
        asks();
        assert_eq!(connections(&mut lab, 0).await, 1);
        // It looks as if 30 of 60 seconds had passed, then as if 120 of 240 had.
        set(&lab, "udp_timeout", "60");
        assert_eq!(connections(&mut lab, 0).await, 0, "nobody speaks any more");
        asks();
        assert_eq!(connections(&mut lab, 0).await, 1);
        tokio::time::sleep(ASSURED_AFTER).await;
        asks();
        assert_eq!(connections(&mut lab, 0).await, 1);
        set(&lab, "udp_timeout_stream", "240");
        assert_eq!(connections(&mut lab, 0).await, 0, "nobody speaks any more");
        asks();
        assert_eq!(connections(&mut lab, 0).await, 1);
    }
}
