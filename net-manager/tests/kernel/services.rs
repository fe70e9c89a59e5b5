//! Calls to services on a real kernel: one device, and two that are joined.

use std::{collections::BTreeMap, net::Ipv4Addr, ops::RangeInclusive, sync::Arc};

use crate::support::{Lab, Place, SERVICE, echo, lease, parse, shop, stable, worker};
use model::{
    AddressKind, CallableInstance, CallableService, NetworkNews, Peer, ServiceId, ServiceNames, TunnelKey,
    Way, Weight,
};
use net_core::Effect;
use nlink::netlink::{Connection, Netfilter};

const HERE: u8 = 1;
const THERE: u8 = 2;

/// How often each answer came in so many calls.
fn answers(caller: &Place, address: &str, calls: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..calls {
        let answer = caller.ask(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        *counts.entry(answer).or_default() += 1;
    }
    counts
}

fn counts<const N: usize>(expected: [(&str, usize); N]) -> BTreeMap<String, usize> {
    expected.map(|(answer, count)| (answer.to_owned(), count)).into_iter().collect()
}

/// Four instances on one device, three of which serve.
async fn one_device() -> (Lab, Place, [Place; 3]) {
    let mut lab = Lab::new().await;
    let caller = lab.attach_stable(0).await;
    let servers = [lab.attach_stable(1).await, lab.attach_stable(2).await, lab.attach_stable(3).await];
    for (server, name) in servers.iter().zip(["one", "two", "three"]) {
        server.serve(name, 80);
        server.serve_udp(name, 53);
    }
    (lab, caller, servers)
}

fn at(number: u8, ready: &[u32]) -> Vec<(u32, model::WorkerId, bool)> {
    ready.iter().map(|instance| (*instance, worker(number), true)).collect()
}

#[tokio::test]
async fn calls_go_to_each_instance_in_turn_and_show_the_callers_own_address() {
    let (mut lab, caller, _servers) = one_device().await;
    lab.hear(&at(HERE, &[1, 2, 3]), &[]).await;

    let v4 = [("one to 10.30.1.0", 10), ("two to 10.30.1.0", 10), ("three to 10.30.1.0", 10)];
    assert_eq!(answers(&caller, "10.30.0.1:80", 30), counts(v4));
    let v6 = [("one to fdff::100", 10), ("two to fdff::100", 10), ("three to fdff::100", 10)];
    assert_eq!(answers(&caller, "[fdff:2000::1]:80", 30), counts(v6));
    let own = [("one to 10.18.0.1", 10), ("two to 10.18.0.1", 10), ("three to 10.18.0.1", 10)];
    assert_eq!(answers(&lab.device, "10.30.0.1:80", 30), counts(own), "the device itself calls too");
}

#[tokio::test]
async fn each_policy_has_an_address_and_each_instance_its_own() {
    let (mut lab, caller, _servers) = one_device().await;
    lab.hear(&at(HERE, &[1, 2, 3]), &[]).await;

    for (kind, address) in SERVICE {
        let all = answers(&caller, &format!("{address}:80"), 60);
        let expected = if kind == model::AddressKind::Affinity { 1 } else { 3 };
        assert_eq!(all.len(), expected, "{kind:?}: {all:?}");
    }
    assert_eq!(caller.ask("10.30.1.2:80").expect("an answer"), "two to 10.30.1.0");
    assert_eq!(caller.ask("[fdff::102]:80").expect("an answer"), "two to fdff::100");
    assert_eq!(echo(&caller.udp("0.0.0.0:0"), "10.30.1.2:53").as_deref(), Some("two"));
}

/// 600 calls, of which an instance with three times the weight gets 450: less than 405 or more than 495 would be more than
/// four standard deviations (10.6 calls) off, as happens in one of more than 10 000 runs.
#[tokio::test]
async fn the_least_used_address_leads_to_instances_by_their_weights() {
    const SEVERAL: RangeInclusive<usize> = 405..=495;
    let (mut lab, caller, _servers) = one_device().await;
    let weighted = |weights: [u32; 2]| {
        let (id, mut service) = shop(&at(HERE, &[1, 2]), &[]);
        for (instance, weight) in service.instances.iter_mut().zip(weights) {
            instance.weight = Weight::new(weight);
        }
        vec![(id, service)]
    };
    for (weights, address, most) in
        [([1, 3], "10.30.0.3:80", "two to 10.30.1.0"), ([6, 2], "[fdff:3000::3]:80", "one to fdff::100")]
    {
        lab.hear_of(weighted(weights), &[]).await;
        let all = answers(&caller, address, 600);
        assert!(all.len() == 2 && SEVERAL.contains(&all[most]), "{weights:?}: {all:?}");
    }
    let expected = counts([("one to 10.30.1.0", 20), ("two to 10.30.1.0", 20)]);
    assert_eq!(answers(&caller, "10.30.0.1:80", 40), expected, "in turn, whatever they weigh");

    lab.hear(&at(HERE, &[1, 2]), &[]).await;
    let unweighed = lab.state.desired();
    lab.hear_of(weighted([5, 5]), &[]).await;
    assert_eq!(lab.state.desired(), unweighed, "equal weights cost nothing");
}

#[tokio::test]
async fn whom_nobody_has_is_refused_at_once() {
    let (mut lab, caller, _servers) = one_device().await;
    lab.hear(&[], &[]).await;
    for address in ["10.30.0.1:80", "[fdff:2000::1]:80", "10.31.7.7:80", "10.30.1.9:80"] {
        let refused = caller.ask(address).expect_err("nobody is there");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{address}");
        let refused = lab.device.ask(address).expect_err("nobody is there");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{address} from the device");
    }
}

#[tokio::test]
async fn one_that_is_not_ready_gets_no_new_calls_and_keeps_its_own_address() {
    let (mut lab, caller, _servers) = one_device().await;
    let mut instances = at(HERE, &[1, 2, 3]);
    instances[1].2 = false;
    lab.hear(&instances, &[]).await;
    let expected = counts([("one to 10.30.1.0", 5), ("three to 10.30.1.0", 5)]);
    assert_eq!(answers(&caller, "10.30.0.1:80", 10), expected);
    assert_eq!(caller.ask("10.30.1.2:80").expect("an answer"), "two to 10.30.1.0");

    instances[0].2 = false;
    lab.hear(&instances, &[]).await;
    assert_eq!(answers(&caller, "10.30.0.1:80", 4), counts([("three to 10.30.1.0", 4)]));
}

#[tokio::test]
async fn an_instance_calls_itself_through_its_service() {
    let (mut lab, _caller, [one, ..]) = one_device().await;
    lab.hear(&at(HERE, &[1]), &[]).await;
    assert_eq!(one.ask("10.30.0.1:80").expect("an answer"), "one to 10.18.0.1");
    assert_eq!(one.ask("[fdff:2000::1]:80").expect("an answer"), "one to fc00::1");
    assert_eq!(one.ask("10.30.1.1:80").expect("an answer"), "one to 10.30.1.1");
}

#[tokio::test]
async fn an_instance_speaks_to_the_world_from_the_address_of_its_device() {
    let (lab, caller, _servers) = one_device().await;
    lab.outside.serve("outside", 80);
    assert_eq!(caller.ask("198.51.100.7:80").expect("an answer"), "outside to 192.0.2.1");
    assert_eq!(caller.ask("[2001:db8::2]:80").expect("an answer"), "outside to 2001:db8::1");
}

/// A service with one instance on the other device, as it is told of.
fn beyond(number: u16) -> (ServiceId, Option<Arc<CallableService>>) {
    let mut id = [9; 12];
    id[..2].copy_from_slice(&number.to_be_bytes());
    let kinds =
        [AddressKind::RoundRobin, AddressKind::Closest, AddressKind::LeastUsed, AddressKind::Affinity];
    let from = |base: &str, number: u32| Ipv4Addr::from(u32::from(parse::<Ipv4Addr>(base)) + number);
    let number = u32::from(number);
    let addresses: BTreeMap<_, _> =
        (0..).zip(kinds).map(|(place, kind)| (kind, from("10.30.16.0", 4 * number + place))).collect();
    let address = from("10.31.0.1", number);
    let names = ServiceNames {
        application: "many".to_owned(),
        application_namespace: "prod".to_owned(),
        service: format!("web{number}"),
        service_namespace: "front".to_owned(),
    };
    let instance = CallableInstance {
        number: 0,
        address,
        worker: worker(THERE),
        ready: true,
        weight: Weight::default(),
    };
    let service = CallableService {
        names: names.into(),
        addresses: addresses.into(),
        allowed_callers: Default::default(),
        instances: vec![instance],
    };
    (ServiceId::from_bytes(id), Some(service.into()))
}

#[tokio::test]
async fn thousands_of_services_are_led_to_in_one_change_and_forgotten_in_one() {
    let (mut lab, caller, _servers) = one_device().await;
    let peers = [(worker(THERE), peer("192.0.2.2", "10.18.0.64/26", "fc00::100/120"))];
    lab.hear(&at(HERE, &[1]), &peers).await;
    let services: BTreeMap<_, _> = (0..1_500).map(beyond).collect();
    let none = services.keys().map(|id| (*id, None)).collect();
    for services in [services, none] {
        lab.state.hear(NetworkNews { services, ..NetworkNews::default() });
        let effects = lab.settle().await;
        let changes = effects.iter().filter(|effect| matches!(effect, Effect::ChangeElements { .. }));
        assert_eq!(changes.count(), 1);
        assert_eq!(caller.ask("10.30.0.1:80").expect("an answer"), "one to 10.30.1.0");
    }
}

pub(crate) fn peer(underlay: &str, v4: &str, v6: &str) -> Peer {
    Peer { way: Way::Direct { underlay: parse(underlay) }, lease: lease(v4, v6) }
}

/// A caller on the first device; instance 1 beside it, instances 2 and 3 on the second.
async fn two_devices() -> (Lab, Lab, Place, [Place; 3]) {
    let (mut first, mut second) = Lab::pair().await;
    let caller = first.attach_stable(0).await;
    let servers =
        [first.attach_stable(1).await, second.attach_stable(2).await, second.attach_stable(3).await];
    for (server, name) in servers.iter().zip(["one", "two", "three"]) {
        server.serve(name, 80);
        server.serve_udp(name, 53);
    }
    let mut instances = at(HERE, &[0, 1]);
    instances[0].2 = false;
    instances.extend(at(THERE, &[2, 3]));
    tell_both(&mut first, &mut second, &instances).await;
    (first, second, caller, servers)
}

async fn tell_both(first: &mut Lab, second: &mut Lab, instances: &[(u32, model::WorkerId, bool)]) {
    let beyond = peer("192.0.2.2", "10.18.0.64/26", "fc00::100/120");
    first.hear(instances, &[(worker(THERE), beyond)]).await;
    let beyond = peer("192.0.2.1", "10.18.0.0/26", "fc00::/120");
    second.hear(instances, &[(worker(HERE), beyond)]).await;
}

#[tokio::test]
async fn instances_of_another_device_are_called_like_those_of_the_own() {
    let (first, _second, caller, [one, two, _three]) = two_devices().await;
    let v4 = [("one to 10.30.1.0", 5), ("two to 10.30.1.0", 5), ("three to 10.30.1.0", 5)];
    assert_eq!(answers(&caller, "10.30.0.1:80", 15), counts(v4));
    let v6 = [("one to fdff::100", 5), ("two to fdff::100", 5), ("three to fdff::100", 5)];
    assert_eq!(answers(&caller, "[fdff:2000::1]:80", 15), counts(v6));
    assert_eq!(caller.ask("10.30.1.3:80").expect("an answer"), "three to 10.30.1.0");
    assert_eq!(two.ask("10.30.1.1:80").expect("an answer"), "one to 10.30.1.2");
    assert_eq!(echo(&one.udp("0.0.0.0:0"), "10.30.1.3:53").as_deref(), Some("three"));
    assert_eq!(first.device.ask("10.30.1.3:80").expect("an answer"), "three to 10.18.0.1");
    assert_eq!(first.device.ask("[fdff::103]:80").expect("an answer"), "three to fc00::1");
    assert_eq!(answers(&caller, "10.30.0.2:80", 5), counts([("one to 10.30.1.0", 5)]), "the closest is here");
}

#[tokio::test]
async fn a_call_to_another_device_is_one_connection_on_each_of_both() {
    let (first, second, caller, _servers) = two_devices().await;
    for device in [&first.device, &second.device] {
        let conntrack = Connection::<Netfilter>::new_in(&device.netns).expect("netlink");
        conntrack.flush_conntrack().await.expect("nothing from before");
    }
    assert_eq!(caller.ask("10.30.1.3:80").expect("an answer"), "three to 10.30.1.0");
    for device in [&first.device, &second.device] {
        let conntrack = Connection::<Netfilter>::new_in(&device.netns).expect("netlink");
        let known = conntrack.get_conntrack().await.expect("what the kernel knows");
        let ports: Vec<Option<u16>> = known.iter().map(|entry| entry.orig.dst_port).collect();
        assert_eq!(ports, [Some(80)], "what carries it is none");
    }
}

#[tokio::test]
async fn an_instance_that_moves_keeps_its_address() {
    let (mut first, mut second, caller, [_, two, _]) = two_devices().await;
    assert_eq!(caller.ask("10.30.1.3:80").expect("an answer"), "three to 10.30.1.0");
    let moved = first.attach_stable(3).await;
    moved.serve("moved", 80);
    second.detach(3).await;
    let mut instances = at(HERE, &[0, 1, 3]);
    instances.extend(at(THERE, &[2]));
    tell_both(&mut first, &mut second, &instances).await;
    assert_eq!(caller.ask("10.30.1.3:80").expect("an answer"), "moved to 10.30.1.0");
    assert_eq!(two.ask("10.30.1.3:80").expect("an answer"), "moved to 10.30.1.2");
}

#[tokio::test]
async fn both_copies_of_an_instance_that_moves_call_others_and_one_of_them_is_called() {
    let (mut first, mut second, caller, [one, two, old]) = two_devices().await;
    let new = first.attach_stable(3).await;
    new.serve("new", 80);
    let all_call = |kept: &Place, guest: &Place, device: [&str; 2], callers: [&Place; 4]| {
        for (to, v6, answer) in [("10.30.1.1", "fdff::101", "one"), ("10.30.1.2", "fdff::102", "two")] {
            assert_eq!(kept.ask(&format!("{to}:80")).expect("an answer"), format!("{answer} to 10.30.1.3"));
            assert_eq!(kept.ask(&format!("[{v6}]:80")).expect("an answer"), format!("{answer} to fdff::103"));
            let [device_v4, device_v6] = device;
            assert_eq!(
                guest.ask(&format!("{to}:80")).expect("an answer"),
                format!("{answer} to {device_v4}")
            );
            assert_eq!(
                guest.ask(&format!("[{v6}]:80")).expect("an answer"),
                format!("{answer} to {device_v6}")
            );
        }
        callers.map(|caller| {
            ["10.30.1.3:80", "[fdff::103]:80"].map(|to| {
                let answer = caller.ask(to).expect("an answer");
                answer.split(' ').next().unwrap_or_default().to_owned()
            })
        })
    };
    let [old_one, new_one] = ["three", "new"].map(|name| [name.to_owned(), name.to_owned()]);
    let callers = [&caller, &one, &two, &first.device];
    let called = all_call(&old, &new, ["10.18.0.1", "fc00::1"], callers);
    assert!(called.iter().all(|who| *who == old_one), "it is not its turn yet: {called:?}");

    // Both have it for a while, on the old device as one that goes.
    let instances = [at(HERE, &[0, 1]), at(THERE, &[2]), at(HERE, &[3])].concat();
    tell_both(&mut first, &mut second, &instances).await;
    let callers = [&caller, &one, &two, &second.device];
    let called = all_call(&new, &old, ["10.18.0.65", "fc00::101"], callers);
    assert!(called.iter().all(|who| *who == new_one), "{called:?}");
    second.detach(3).await;
    assert_eq!(two.ask("10.30.1.3:80").expect("an answer"), "new to 10.30.1.2");

    // And back again.
    let instances = [at(HERE, &[0, 1]), at(THERE, &[2, 3])].concat();
    let newest = second.attach_stable(3).await;
    newest.serve("newest", 80);
    assert_eq!(two.ask("[fdff::103]:80").expect("an answer"), "new to fdff::102");
    tell_both(&mut first, &mut second, &instances).await;
    assert_eq!(caller.ask("10.30.1.3:80").expect("an answer"), "newest to 10.30.1.0");
    assert_eq!(caller.ask("[fdff::103]:80").expect("an answer"), "newest to fdff::100");
}

#[tokio::test]
async fn only_devices_of_the_site_may_send_packets_of_instances() {
    let (mut first, mut second, caller, _servers) = two_devices().await;
    assert_eq!(caller.ask("10.30.1.3:80").expect("an answer"), "three to 10.30.1.0");
    // The second no longer counts the first among its own, though the first knows the way.
    let mut instances = at(HERE, &[0, 1]);
    instances.extend(at(THERE, &[2, 3]));
    second.hear(&instances, &[]).await;
    caller.ask("10.30.1.3:80").expect_err("its packets are dropped");
    tell_both(&mut first, &mut second, &instances).await;
    assert_eq!(caller.ask("10.30.1.3:80").expect("an answer"), "three to 10.30.1.0");
}

#[tokio::test]
async fn a_connection_to_an_instance_that_is_gone_is_reset() {
    use std::io::{Read, Write};
    let (mut first, mut second, caller, [_, two, _]) = two_devices().await;
    // One that says nothing by itself.
    let listener = two.run(|| std::net::TcpListener::bind("10.30.1.2:7")).expect("a free port");
    let mut stream = caller.run(|| std::net::TcpStream::connect("10.30.1.2:7")).expect("a connection");
    let _accepted = listener.accept().expect("a connection");
    let mut instances = at(HERE, &[0, 1]);
    instances.extend(at(THERE, &[3]));
    tell_both(&mut first, &mut second, &instances).await;
    stream.write_all(b"?").expect("it is not known yet");
    stream.set_read_timeout(Some(crate::support::PATIENCE)).expect("a deadline");
    let ended = stream.read(&mut [0; 1]).expect_err("nobody answers");
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(stable(2).to_string(), "10.30.1.2");
}

/// The cluster tells of a caller when it has placed it, before anything of it runs.
#[tokio::test]
async fn the_first_packet_of_an_instance_reaches_another_device() {
    use std::time::{Duration, Instant};
    let (mut first, mut second) = Lab::pair().await;
    let server = second.attach_stable(2).await;
    server.serve("two", 80);
    let mut instances = at(HERE, &[0]);
    instances[0].2 = false;
    instances.extend(at(THERE, &[2]));
    tell_both(&mut first, &mut second, &instances).await;

    let caller = first.attach_stable(0).await;
    for address in ["10.30.0.1:80", "[fdff:2000::1]:80"] {
        let begun = Instant::now();
        caller.ask(address).expect("an answer");
        // One that is lost is sent again after a second.
        assert!(begun.elapsed() < Duration::from_millis(500), "{address}: {:?}", begun.elapsed());
    }
    let stranger = first.attach_stable(4).await;
    let unanswered = stranger.ask("10.30.0.1:80").expect_err("the other device was not told of it");
    assert_eq!(unanswered.kind(), std::io::ErrorKind::TimedOut);
}

/// As [`two_devices`], in a site that is not trusted.
async fn two_strangers() -> (Lab, Lab, Place, [Place; 2], [TunnelKey; 2]) {
    let ([mut first, mut second], keys) = Lab::secure_pair().await;
    let caller = first.attach_stable(0).await;
    let servers = [second.attach_stable(2).await, second.attach_stable(3).await];
    for (server, name) in servers.iter().zip(["two", "three"]) {
        server.serve(name, 80);
        server.serve_udp(name, 53);
    }
    tell_strangers(&mut first, &mut second, keys).await;
    (first, second, caller, servers, keys)
}

async fn tell_strangers(first: &mut Lab, second: &mut Lab, [first_key, second_key]: [TunnelKey; 2]) {
    let mut instances = at(HERE, &[0]);
    instances[0].2 = false;
    instances.extend(at(THERE, &[2, 3]));
    let secure = |endpoint: &str, key, v4, v6| {
        let endpoint = format!("{endpoint}:50103").parse().expect("an endpoint");
        let way = Way::Secure { endpoint, observed: None, relay: None, key, kernel_port: None };
        Peer { way, lease: lease(v4, v6) }
    };
    let beyond = secure("192.0.2.2", second_key, "10.18.0.64/26", "fc00::100/120");
    first.hear(&instances, &[(worker(THERE), beyond)]).await;
    let beyond = secure("192.0.2.1", first_key, "10.18.0.0/26", "fc00::/120");
    second.hear(&instances, &[(worker(HERE), beyond)]).await;
}

#[tokio::test]
async fn between_devices_that_do_not_trust_their_network_calls_are_encrypted() {
    let (first, _second, caller, [two, _three], _keys) = two_strangers().await;
    let v4 = [("two to 10.30.1.0", 5), ("three to 10.30.1.0", 5)];
    assert_eq!(answers(&caller, "10.30.0.1:80", 10), counts(v4));
    let v6 = [("two to fdff::100", 5), ("three to fdff::100", 5)];
    assert_eq!(answers(&caller, "[fdff:2000::1]:80", 10), counts(v6));
    assert_eq!(echo(&caller.udp("0.0.0.0:0"), "10.30.1.3:53").as_deref(), Some("three"));
    assert_eq!(first.device.ask("10.30.1.3:80").expect("an answer"), "three to 10.18.0.1");
    assert_eq!(first.device.ask("[fdff::103]:80").expect("an answer"), "three to fc00::1");
    caller.serve("caller", 80);
    assert_eq!(two.ask("10.30.1.0:80").expect("an answer"), "caller to 10.30.1.2");
}

#[tokio::test]
async fn a_device_without_the_right_key_gets_nothing_through() {
    let (mut first, mut second, caller, _servers, [first_key, second_key]) = two_strangers().await;
    assert!(caller.ask("10.30.1.2:80").is_ok());
    tell_strangers(&mut first, &mut second, [TunnelKey([7; 32]), second_key]).await;
    caller.ask("10.30.1.2:80").expect_err("the second no longer knows the first");
    tell_strangers(&mut first, &mut second, [first_key, second_key]).await;
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while caller.ask("10.30.1.2:80").is_err() {
        assert!(std::time::Instant::now() < until, "they know each other again");
    }
}

#[tokio::test]
async fn large_answers_pass_an_encrypted_link() {
    use std::io::{Read, Write};
    let (_first, _second, caller, [two, _], _keys) = two_strangers().await;
    let listener = two.run(|| std::net::TcpListener::bind("10.30.1.2:7")).expect("a free port");
    let sender = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.write_all(&vec![7; 3_000_000]).expect("a reader");
    });
    let mut stream = caller.run(|| std::net::TcpStream::connect("10.30.1.2:7")).expect("a connection");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("all of it");
    sender.join().expect("it sent");
    assert_eq!((received.len(), received.iter().all(|byte| *byte == 7)), (3_000_000, true));
}

#[tokio::test]
async fn hundreds_of_instances_are_led_to_wherever_they_go() {
    let mut lab = Lab::new().await;
    let _caller = lab.attach_stable(0).await;
    let peer = |underlay: &str, v4: &str, v6: &str| Peer {
        way: Way::Direct { underlay: parse(underlay) },
        lease: lease(v4, v6),
    };
    let peers = [
        (worker(THERE), peer("192.0.2.2", "10.18.0.64/26", "fc00::100/120")),
        (worker(3), peer("192.0.2.3", "10.18.0.128/26", "fc00::200/120")),
    ];
    let numbers: Vec<u32> = (1..=250).collect();
    for (device, gateways) in [(THERE, ["10.18.0.65", "fc00::101"]), (3, ["10.18.0.129", "fc00::201"])] {
        // Half of them, so that the rest meets those that are there.
        lab.hear(&at(device, &numbers[..125]), &peers).await;
        lab.hear(&at(device, &numbers), &peers).await;
        let routes = lab.device.route().get_routes().await.expect("netlink");
        for gateway in gateways.map(parse::<std::net::IpAddr>) {
            let led = routes.iter().filter(|route| route.gateway() == Some(&gateway));
            assert_eq!(led.count(), numbers.len() + 1, "with the range of the device by {gateway}");
        }
    }
}
