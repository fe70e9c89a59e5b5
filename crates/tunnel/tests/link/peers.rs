//! Peers come, go, move and restart.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use tunnel::{Error, Peer, PrivateKey, Settings, Tunnel};

use crate::support::{
    INTERFACE, PATIENCE, PORT, SILENCE, Side, pair, peer, strangers, transfer, wait_until, with_asides,
};

#[test]
fn a_tunnel_that_ends_leaves_nothing_behind() {
    let (mut left, _right) = pair();
    assert!(left.place.has_interface(INTERFACE));
    left.tunnel.take().expect("a tunnel").stop();
    assert!(!left.place.has_interface(INTERFACE));
    let settings = Side::settings(&left.key);
    left.start(settings);
    assert_eq!(left.tunnel().port(), PORT);
}

#[test]
fn a_tunnel_ends_while_traffic_flows() {
    let (mut left, right) = pair();
    assert!(left.place.pings(right.place.inside(), 56, PATIENCE));
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let floods = [
            (&left.place, left.place.inside(), right.place.inside()),
            (&right.place, right.place.inside(), left.place.inside()),
            (&right.place, right.place.outside(), left.place.outside()),
        ];
        for (place, from, to) in floods {
            let socket = place.udp(SocketAddr::new(from, 0));
            let ended = &ended;
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let _no_route = socket.send_to(&[7; 1_000], SocketAddr::new(to, PORT));
                }
            });
        }
        thread::sleep(SILENCE);
        let stopping = Instant::now();
        left.tunnel.take().expect("a tunnel").stop();
        let took = stopping.elapsed();
        ended.store(true, Ordering::Relaxed);
        assert!(took < Duration::from_secs(3), "{took:?}");
    });
    assert!(!left.place.has_interface(INTERFACE));
}

#[test]
fn a_port_or_a_name_that_is_taken_is_refused() {
    let (left, _right) = pair();
    let other = |name: &str, port| {
        let settings = Settings { name: name.to_owned(), port, ..Side::settings(&PrivateKey::generate()) };
        left.place.run(|| Tunnel::start(settings).map(|tunnel| tunnel.port()))
    };
    assert!(matches!(other("wg1", PORT), Err(Error::Port { port: PORT, .. })));
    assert!(matches!(other(INTERFACE, 0), Err(Error::Device { name, .. }) if name == INTERFACE));
    assert!(matches!(other("", 0), Err(Error::Device { .. })));
    assert!(matches!(other("a-name-too-long-for-the-kernel", 0), Err(Error::Device { .. })));
    assert!(!left.place.has_interface("wg1"), "nothing is left behind");
    assert_ne!(other("wg1", 0).expect("a tunnel"), 0);
}

#[test]
fn sets_of_peers_that_contradict_themselves_change_nothing() {
    let (left, right) = pair();
    let before = left.tunnel().status().len();
    let (one, mut two) = (right.as_peer(), peer(&right.place, PrivateKey::generate().public()));
    let network = two.allowed[0];
    let refused = |peers| left.tunnel().set_peers(peers).expect_err("a contradiction").to_string();
    let [first, second] = {
        let mut keys = [one.public_key, two.public_key];
        keys.sort_by_key(|key| *key != one.public_key);
        keys
    };
    assert_eq!(
        refused(vec![one.clone(), two.clone()]),
        format!("the network {network} is allowed to both {first} and {second}")
    );
    assert_eq!(refused(vec![one.clone(), one.clone()]), format!("the peer {first} is in the set twice"));
    assert_eq!(
        refused(vec![left.as_peer()]),
        format!("the peer {} is this tunnel itself", left.key.public())
    );
    assert_eq!(left.tunnel().status().len(), before);
    two.allowed = vec!["10.9.0.0/24".parse().expect("a network")];
    left.set_peers(vec![one, two]);
    assert!(left.place.pings(right.place.inside(), 56, PATIENCE), "the longer network wins");
}

#[test]
fn two_peers_get_what_is_theirs() {
    let (left, right) = pair();
    let (here, there) = (IpAddr::from([10, 10, 0, 1]), IpAddr::from([10, 10, 0, 2]));
    let key = PrivateKey::generate();
    let settings = Settings { name: "wg1".to_owned(), port: 0, ..Side::settings(&key) };
    let second = right.place.run(|| Tunnel::start(settings)).expect("a tunnel");
    left.place.address(INTERFACE, here);
    right.place.address("wg1", there);
    second.set_peers(vec![Peer { allowed: vec![here.into()], ..left.as_peer() }]).expect("a set of peers");
    let other = Peer {
        public_key: key.public(),
        endpoints: vec![SocketAddr::new(right.place.outside(), second.port())],
        relay: None,
        allowed: vec![there.into()],
        keepalive: None,
    };
    let both = vec![right.as_peer(), other.clone()];
    left.set_peers(both.clone());
    thread::scope(|scope| {
        for address in [right.place.inside(), there] {
            let (from, to) = (&left.place, &right.place);
            scope.spawn(move || transfer(from, to, address, 3_000_000));
        }
    });
    assert!(left.tunnel().status().iter().all(|status| status.sent > 3_000_000));

    left.set_peers(vec![other]);
    assert!(!left.place.pings(right.place.inside(), 56, SILENCE));
    assert!(left.place.pings(there, 56, PATIENCE));
    left.set_peers(both);
    assert!(left.place.pings(right.place.inside(), 56, PATIENCE));
    assert!(left.place.pings(there, 56, PATIENCE));
}

#[test]
fn setting_the_same_peers_again_keeps_their_sessions() {
    let (left, right) = pair();
    assert!(left.place.pings(right.place.inside(), 56, PATIENCE));
    let before = wait_until(|| left.peer_status(), |status| status.last_handshake > Some(SILENCE));
    left.set_peers(vec![right.as_peer()]);
    assert!(left.place.pings(right.place.inside(), 56, PATIENCE));
    let after = left.peer_status();
    assert!(after.last_handshake > before.last_handshake, "the same handshake");
    assert!(after.sent > before.sent);
}

#[test]
fn a_peer_that_moves_is_followed() {
    let (left, right) = pair();
    assert!(left.place.pings(right.place.inside(), 56, PATIENCE));
    let elsewhere = IpAddr::from(Ipv4Addr::new(192, 0, 2, 77));
    right.place.remove_address("up0", right.place.outside());
    right.place.address("up0", elsewhere);
    assert!(right.place.pings(left.place.inside(), 56, PATIENCE), "the one that moved speaks first");
    assert_eq!(left.peer_status().endpoint, Some(SocketAddr::new(elsewhere, PORT)));
    transfer(&left.place, &right.place, right.place.inside(), 1_000_000);
}

#[test]
fn a_peer_is_tried_at_its_new_endpoint_at_once() {
    let (left, right) = strangers();
    let mut passive = left.as_peer();
    passive.endpoints.clear();
    right.set_peers(vec![passive]);
    let mut wanted = right.as_peer();
    wanted.endpoints = vec!["192.0.2.99:51820".parse().expect("an address")];
    left.set_peers(vec![wanted]);
    assert!(!left.place.pings(right.place.inside(), 56, SILENCE));
    left.set_peers(vec![right.as_peer()]);
    assert!(left.place.pings(right.place.inside(), 56, Duration::from_secs(3)));
}

#[test]
fn repeating_an_endpoint_does_not_move_a_peer_back() {
    let (left, right) = pair();
    assert!(left.place.pings(right.place.inside(), 56, PATIENCE));
    let elsewhere = IpAddr::from(Ipv4Addr::new(192, 0, 2, 77));
    right.place.remove_address("up0", right.place.outside());
    right.place.address("up0", elsewhere);
    assert!(right.place.pings(left.place.inside(), 56, PATIENCE));
    left.set_peers(vec![right.as_peer()]);
    assert_eq!(left.peer_status().endpoint, Some(SocketAddr::new(elsewhere, PORT)));
}

#[test]
fn a_peer_that_restarts_is_found_again_within_seconds() {
    let (left, mut right) = pair();
    transfer(&left.place, &right.place, right.place.inside(), 100_000);
    let settings = Side::settings(&right.key);
    right.start(settings);
    right.set_peers(vec![left.as_peer()]);
    let restarted = Instant::now();
    assert!(left.place.pings(right.place.inside(), 56, PATIENCE));
    assert!(restarted.elapsed() < Duration::from_secs(4), "{:?}", restarted.elapsed());
    transfer(&left.place, &right.place, right.place.inside(), 100_000);
}

#[test]
fn a_peer_without_endpoint_is_known_when_it_speaks() {
    let (left, right) = strangers();
    let mut passive = right.as_peer();
    passive.endpoints.clear();
    left.set_peers(vec![passive]);
    assert!(!left.place.pings(right.place.inside(), 56, SILENCE));
    assert!(left.peer_status().drops.no_endpoint > 0);
    right.set_peers(vec![left.as_peer()]);
    assert!(left.place.pings(right.place.inside(), 56, PATIENCE));
}

#[test]
fn a_keepalive_tells_where_a_silent_peer_is() {
    let (left, right) = strangers();
    let mut passive = right.as_peer();
    passive.endpoints.clear();
    left.set_peers(vec![passive]);
    let mut kept = left.as_peer();
    kept.keepalive = Some(Duration::from_secs(1));
    right.set_peers(vec![kept]);
    wait_until(|| left.peer_status().last_handshake, Option::is_some);
    let elsewhere = IpAddr::from(Ipv4Addr::new(192, 0, 2, 77));
    right.place.remove_address("up0", right.place.outside());
    right.place.address("up0", elsewhere);
    wait_until(
        || left.peer_status().endpoint,
        |endpoint| *endpoint == Some(SocketAddr::new(elsewhere, PORT)),
    );
}

#[test]
fn a_peer_that_is_removed_gets_nothing_more() {
    let (left, right) = pair();
    let listener = right.place.run(|| TcpListener::bind((right.place.inside(), 0))).expect("an address");
    let address = listener.local_addr().expect("a bound socket");
    let reader = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(SILENCE)).expect("a deadline");
        // Ends when nothing comes any more.
        let _until_silence = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let mut stream = left.place.run(|| TcpStream::connect_timeout(&address, PATIENCE)).expect("a connection");
    stream.set_write_timeout(Some(SILENCE)).expect("a deadline");
    let writer = thread::spawn(move || while stream.write_all(&[7; 10_000]).is_ok() {});
    wait_until(|| right.peer_status().received, |received| *received > 3_000_000);

    left.set_peers(Vec::new());
    let settled = right.peer_status().received + 4_000_000;
    writer.join().expect("a writer that gives up");
    reader.join().expect("a reader that gives up");
    assert!(right.peer_status().received < settled, "only what was under way arrived");
    assert_eq!(left.tunnel().status(), []);
    assert!(!right.place.pings(left.place.inside(), 56, SILENCE));
    assert!(!left.place.pings(right.place.inside(), 56, SILENCE));
    assert!(left.tunnel().drops().no_peer > 0);

    left.set_peers(vec![right.as_peer()]);
    transfer(&left.place, &right.place, right.place.inside(), 100_000);
}

#[test]
fn an_interface_that_somebody_removes_is_noticed() {
    let (left, _right) = pair();
    assert!(left.tunnel().is_running());
    left.place.remove_interface(INTERFACE);
    wait_until(|| left.tunnel().is_running(), |running| !running);
}

#[test]
fn asides_arrive_past_the_protocol() {
    let (mut left, mut right) = strangers();
    let (settings, mut to_left) = with_asides(&left.key, 10);
    left.start(settings);
    let (settings, mut to_right) = with_asides(&right.key, 2);
    right.start(settings);
    let (left_end, right_end) = (left.as_peer().endpoints[0], right.as_peer().endpoints[0]);
    left.tunnel().send_aside(b"where am I?", right_end);
    let question = to_right.blocking_recv().expect("an aside");
    assert_eq!((question.from, &question.payload[..]), (left_end, &b"where am I?"[..]));
    right.tunnel().send_aside(question.from.to_string().as_bytes(), question.from);
    let answer = to_left.blocking_recv().expect("an aside");
    assert_eq!((answer.from, answer.payload), (right_end, left_end.to_string().into_bytes()));

    for number in 0..5 {
        left.tunnel().send_aside(&[number], right_end);
    }
    wait_until(|| right.tunnel().drops().asides, |dropped| *dropped == 3);
    assert_eq!(to_right.blocking_recv().map(|aside| aside.payload), Some(vec![0]));
    assert_eq!(to_right.blocking_recv().map(|aside| aside.payload), Some(vec![1]));
}
