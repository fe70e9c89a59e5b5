//! Two applications on a real kernel: who may connect to whom, on one device and between two.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use crate::support::{Lab, PATIENCE, Place, TILL, echo, lease, parse, ping, shop, till, worker};
use model::{Peer, Way, WorkerId};
use net_manager::datapath::{Datapath, KernelDatapath};
use nlink::netlink::{
    Connection, Nftables,
    nftables::{Family, Set, SetElement, SetKeyType},
};

const HERE: u8 = 1;
const THERE: u8 = 2;
/// The addresses of the instance of `shop`: in both families the one it keeps, and by its service.
const SHOP: [&str; 4] = ["10.30.1.1", "fdff::101", "10.30.0.1", "fdff:2000::1"];

fn to(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

fn peer(underlay: &str, v4: &str, v6: &str) -> Peer {
    Peer { way: Way::Direct { underlay: parse(underlay) }, lease: lease(v4, v6) }
}

/// An instance of `shop` that serves, one that calls, and one of `till`, on one device or with `till` on another.
struct Scene {
    labs: Vec<Lab>,
    server: Place,
    sibling: Place,
    till: Place,
}

impl Scene {
    async fn new(devices: usize) -> Self {
        let mut labs = match devices {
            1 => vec![Lab::new().await],
            _ => {
                let (first, second) = Lab::pair().await;
                vec![first, second]
            }
        };
        // The kernel sends few refusals by ICMP a second to each address, and these tests ask for more.
        for setting in ["net.ipv4.icmp_ratelimit", "net.ipv6.icmp.ratelimit"] {
            labs.iter().for_each(|lab| lab.device.netns.sysctl().set(setting, "0").expect("a setting"));
        }
        let server = labs[0].attach_stable(1).await;
        let sibling = labs[0].attach_stable(2).await;
        let till = labs.last_mut().expect("a device").attach_till("").await.0;
        server.serve("shop", 80);
        server.serve_udp("shop", 53);
        till.serve("till", 80);
        let mut scene = Self { labs, server, sibling, till };
        scene.allow(&[]).await;
        scene
    }

    /// From now on `shop` lets these connect.
    async fn allow(&mut self, allowed: &[&str]) {
        let beyond: WorkerId = worker(if self.labs.len() == 1 { HERE } else { THERE });
        let peers = [
            (worker(THERE), peer("192.0.2.2", "10.18.0.64/26", "fc00::100/120")),
            (worker(HERE), peer("192.0.2.1", "10.18.0.0/26", "fc00::/120")),
        ];
        let mut told = peers.iter();
        for lab in &mut self.labs {
            let instances = [(1, worker(HERE), true), (2, worker(HERE), false)];
            let services = vec![shop(&instances, allowed), till(beyond, &[])];
            let others = told.next().filter(|_| beyond == worker(THERE)).cloned();
            lab.hear_of(services, others.as_slice()).await;
        }
    }

    /// How `till` fares when it calls `shop` in every way there is; all of them fare alike.
    fn till_calls(&self) -> Vec<(String, Option<ErrorKind>)> {
        let kind = |outcome: io::Result<()>| outcome.err().map(|error| error.kind());
        let mut outcomes = Vec::new();
        for address in SHOP {
            outcomes.push((format!("tcp {address}"), kind(self.till.ask(&to(address, 80)).map(drop))));
            outcomes.push((format!("udp {address}"), kind(datagram(&self.till, &to(address, 53)))));
            outcomes.push((
                format!("ping {address}"),
                kind(ping(&self.till.pinger(address), address.contains(':'))),
            ));
        }
        outcomes
    }
}

fn datagram(place: &Place, address: &str) -> io::Result<()> {
    ask(&asker(place, address)?)
}

/// A connected UDP socket, which hears of a refusal.
fn asker(place: &Place, address: &str) -> io::Result<UdpSocket> {
    let socket = place.udp(if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" });
    place.run(|| socket.connect(address))?;
    Ok(socket)
}

fn ask(socket: &UdpSocket) -> io::Result<()> {
    socket.send(b"?")?;
    socket.recv(&mut [0; 8]).map(drop)
}

fn assert_all_answered(outcomes: &[(String, Option<ErrorKind>)]) {
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_none()), "{outcomes:#?}");
}

fn assert_all_refused(outcomes: &[(String, Option<ErrorKind>)]) {
    for (way, outcome) in outcomes {
        let refusals: &[ErrorKind] = if way.starts_with("tcp") {
            &[ErrorKind::ConnectionRefused]
        } else {
            &[ErrorKind::HostUnreachable, ErrorKind::PermissionDenied]
        };
        assert!(outcome.is_some_and(|kind| refusals.contains(&kind)), "{way}: {outcome:?}");
    }
}

async fn applications_are_apart_until_allowed(devices: usize) {
    let mut scene = Scene::new(devices).await;
    let begin = Instant::now();
    assert_all_refused(&scene.till_calls());
    assert!(begin.elapsed() < PATIENCE, "refused at once: {:?}", begin.elapsed());
    for address in SHOP {
        assert!(scene.sibling.ask(&to(address, 80)).is_ok(), "{address} within the application");
        assert!(scene.labs[0].device.ask(&to(address, 80)).is_ok(), "{address} from the device");
        assert!(scene.labs[devices - 1].device.ask(&to(address, 80)).is_ok(), "{address} from a device");
    }

    scene.allow(&["bank.prod", "till.prod"]).await;
    assert_all_answered(&scene.till_calls());
    let back = scene.server.ask(&format!("{TILL}:80")).expect_err("not the other way round");
    assert_eq!(back.kind(), ErrorKind::ConnectionRefused);

    scene.allow(&["*"]).await;
    assert_all_answered(&scene.till_calls());
    scene.allow(&["bank.prod"]).await;
    assert_all_refused(&scene.till_calls());
}

#[tokio::test]
async fn applications_of_one_device_are_apart_until_one_is_allowed() {
    applications_are_apart_until_allowed(1).await;
}

#[tokio::test]
async fn applications_of_two_devices_are_apart_until_one_is_allowed() {
    applications_are_apart_until_allowed(2).await;
}

#[tokio::test]
async fn the_callees_device_refuses_what_the_callers_lets_out() {
    let mut scene = Scene::new(2).await;
    scene.allow(&["till.prod"]).await;
    assert_all_answered(&scene.till_calls());
    // The caller's device has not heard yet.
    let instances = [(1, worker(HERE), true), (2, worker(HERE), false)];
    let others = [(worker(THERE), peer("192.0.2.2", "10.18.0.64/26", "fc00::100/120"))];
    scene.labs[0].hear_of(vec![shop(&instances, &[]), till(worker(THERE), &[])], &others).await;
    assert_all_refused(&scene.till_calls());
}

#[tokio::test]
async fn the_addresses_of_a_device_are_no_way_around() {
    for devices in [1, 2] {
        let mut scene = Scene::new(devices).await;
        let inside = ["10.18.0.2", "fc00::2"];
        for address in inside {
            let refused = scene.till.ask(&to(address, 80)).expect_err("another application");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{address}, devices: {devices}");
            assert!(scene.sibling.ask(&to(address, 80)).is_ok(), "{address} within the application");
        }
        scene.allow(&["till.prod"]).await;
        for address in inside {
            assert!(scene.till.ask(&to(address, 80)).is_ok(), "{address}, devices: {devices}");
        }
        // Nobody can tell whose the source is that is not the one it keeps.
        if devices == 2 {
            let own = scene.till.udp("10.18.0.66:0");
            assert_eq!(echo(&own, "10.30.1.1:53"), None);
        }
    }
}

#[tokio::test]
async fn a_port_of_the_device_is_open_to_every_application() {
    let mut lab = Lab::new().await;
    let (till_place, _) = lab.attach_till("8080:80").await;
    let shop_place = lab.attach_stable(1).await;
    till_place.serve("till", 80);
    lab.hear_of(vec![shop(&[(1, worker(HERE), true)], &[]), till(worker(HERE), &[])], &[]).await;
    assert!(shop_place.ask(&to("10.18.0.2", 80)).is_err(), "but not the instance itself");
    for place in [&shop_place, &till_place, &lab.outside] {
        assert!(place.ask("192.0.2.1:8080").is_ok());
        assert!(place.ask("[2001:db8::1]:8080").is_ok());
    }
}

#[tokio::test]
async fn an_instance_of_a_service_nobody_told_of_is_alone() {
    let mut lab = Lab::new().await;
    let (till_place, _) = lab.attach_till("").await;
    let server = lab.attach_stable(1).await;
    server.serve("shop", 80);
    lab.outside.serve("outside", 80);
    lab.hear_of(vec![shop(&[(1, worker(HERE), true)], &["*"])], &[]).await;
    let refused = till_place.ask("10.30.1.1:80").expect_err("who it is is not known");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(till_place.ask("198.51.100.7:80").expect("an answer"), "outside to 192.0.2.1");
}

/// Connections both ways that go on by themselves.
struct Flow {
    client: TcpStream,
    server: TcpStream,
}

impl Flow {
    fn open(from: &Place, listener: &TcpListener, address: &str) -> Self {
        let client = from.run(|| TcpStream::connect(address)).expect("a connection");
        let (server, _) = listener.accept().expect("a connection");
        for end in [&client, &server] {
            end.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        }
        Self { client, server }
    }

    /// Whether a byte comes to the server and back.
    fn goes_on(&mut self) -> io::Result<()> {
        self.client.write_all(b"?")?;
        self.server.read_exact(&mut [0; 1])?;
        self.server.write_all(b"!")?;
        self.client.read_exact(&mut [0; 1])
    }
}

/// What somebody hears who goes on talking although it is no longer allowed: not with the first word perhaps, which a
/// packet of before may have left a passage for.
fn cut(end: &mut TcpStream) -> Option<ErrorKind> {
    end.set_read_timeout(Some(Duration::from_millis(100))).expect("a deadline");
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        // Only a packet learns of it, and what answers it is heard by reading: after such a first word, if it came.
        match end.write_all(b"?").and_then(|()| end.read_exact(&mut [0; 1])) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Some(error.kind()),
            Ok(()) | Err(_) => {}
        }
    }
    None
}

async fn a_stricter_policy_cuts(devices: usize) {
    let mut scene = Scene::new(devices).await;
    scene.allow(&["till.prod"]).await;
    let listener = scene.server.run(|| TcpListener::bind(("::", 7))).expect("a free port");
    let mut forbidden: Vec<Flow> =
        SHOP.map(|address| Flow::open(&scene.till, &listener, &to(address, 7))).into_iter().collect();
    let mut own: Vec<Flow> =
        SHOP.map(|address| Flow::open(&scene.sibling, &listener, &to(address, 7))).into_iter().collect();
    for flow in forbidden.iter_mut().chain(&mut own) {
        flow.goes_on().expect("allowed");
    }
    let datagrams = SHOP.map(|address| asker(&scene.till, &to(address, 53)).expect("a socket"));
    let pings = SHOP.map(|address| (scene.till.pinger(address), address.contains(':')));
    datagrams.iter().for_each(|socket| ask(socket).expect("allowed"));
    pings.iter().for_each(|(socket, is_v6)| ping(socket, *is_v6).expect("allowed"));
    scene.allow(&["till.prod", "bank.prod"]).await;
    for flow in forbidden.iter_mut().chain(&mut own) {
        flow.goes_on().expect("nothing became stricter for it");
    }
    scene.allow(&[]).await;
    for flow in &mut own {
        flow.goes_on().expect("of the same application");
    }
    for flow in &mut forbidden {
        assert_eq!(cut(&mut flow.client), Some(ErrorKind::ConnectionReset));
    }
    for (socket, address) in datagrams.iter().zip(SHOP) {
        assert!(ask(socket).is_err(), "datagrams to {address} go on");
    }
    for ((socket, is_v6), address) in pings.iter().zip(SHOP) {
        assert!(ping(socket, *is_v6).is_err(), "pings of {address} go on");
    }
    // The other end hears of it as soon as it says something.
    for flow in &mut forbidden {
        assert!(cut(&mut flow.server).is_some(), "the server goes on talking to nobody");
    }
}

#[tokio::test]
async fn a_stricter_policy_cuts_connections_on_one_device() {
    a_stricter_policy_cuts(1).await;
}

#[tokio::test]
async fn a_stricter_policy_cuts_connections_between_devices() {
    a_stricter_policy_cuts(2).await;
}

#[tokio::test]
async fn a_restart_ends_what_was_forbidden_meanwhile() {
    let mut scene = Scene::new(1).await;
    scene.allow(&["till.prod"]).await;
    let listener = scene.server.run(|| TcpListener::bind(("::", 7))).expect("a free port");
    let mut flow = Flow::open(&scene.till, &listener, "10.30.0.1:7");
    flow.goes_on().expect("allowed");
    // The entries are changed, and before the connections were ended NetManager is killed.
    let instances = [(1, worker(HERE), true), (2, worker(HERE), false)];
    let services = [shop(&instances, &[]), till(worker(HERE), &[])];
    let lab = &mut scene.labs[0];
    lab.state.hear(model::NetworkNews {
        whole: true,
        services: services.into_iter().map(|(id, service)| (id, Some(service.into()))).collect(),
        ..model::NetworkNews::default()
    });
    let effects = lab.pending().await;
    let [changed @ net_core::Effect::ChangeElements { .. }, net_core::Effect::EndForbidden(_)] = &effects[..]
    else {
        panic!("{effects:?}");
    };
    lab.datapath.apply(changed).await.expect("entries");
    let netns = lab.device.netns.try_clone().expect("a namespace");
    lab.datapath = KernelDatapath::open_in(netns).await.expect("a datapath");
    flow.goes_on().expect("it was judged before");
    lab.settle().await;
    assert_eq!(cut(&mut flow.client), Some(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_restart_ends_connections_to_who_went_meanwhile() {
    let mut scene = Scene::new(2).await;
    scene.allow(&["till.prod"]).await;
    let listener = scene.server.run(|| TcpListener::bind(("::", 7))).expect("a free port");
    let mut flow = Flow::open(&scene.till, &listener, "10.30.0.1:7");
    flow.goes_on().expect("allowed");
    // Nobody has the address any more, and before connections to it were forgotten NetManager is killed.
    let lab = &mut scene.labs[1];
    let (id, service) = till(worker(THERE), &[]);
    lab.state.hear(model::NetworkNews {
        whole: true,
        services: [(id, Some(service.into()))].into(),
        ..model::NetworkNews::default()
    });
    let nftables: Connection<Nftables> = Connection::new_in(&lab.device.netns).expect("netlink");
    let known = Set::new("mangrove", "known4").family(Family::Inet).key_type(SetKeyType::Ipv4Addr);
    let gone = [SetElement::ipv4(parse("10.30.1.1"))];
    nftables.transaction().del_set_elements(&known, &gone).commit(&nftables).await.expect("an entry");
    let netns = lab.device.netns.try_clone().expect("a namespace");
    lab.datapath = KernelDatapath::open_in(netns).await.expect("a datapath");
    flow.goes_on().expect("it was judged before");
    lab.settle().await;
    assert_eq!(cut(&mut flow.client), Some(ErrorKind::ConnectionReset));
}
