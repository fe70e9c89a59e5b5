//! Ways in virtual time.

use super::*;
use crate::PrivateKey;

const SECOND: Duration = Duration::from_secs(1);

fn place(port: u16) -> SocketAddr {
    ([192, 0, 2, 7], port).into()
}

fn direct(port: u16) -> Origin {
    Origin::Direct(place(port).into())
}

fn by_relay() -> Origin {
    Origin::Relayed(place(50105).into())
}

/// A peer at these ports, with a relay at port 9 or without.
fn peer(ports: &[u16], has_relay: bool) -> settings::Peer {
    settings::Peer {
        public_key: PrivateKey::from([7; 32]).public(),
        endpoints: ports.iter().copied().map(place).collect(),
        relay: has_relay.then_some(settings::Relay { address: place(9), prefix: [1; 17] }),
        allowed: Vec::new(),
        keepalive: None,
    }
}

fn ports<'path>(targets: impl Iterator<Item = Target<'path>>) -> Vec<u16> {
    targets.map(|target| target.to.address.port()).collect()
}

fn now_at(path: &Path) -> u16 {
    path.target().map_or(0, |target| target.to.address.port())
}

/// Found by the relay at that time.
fn relayed(now: Instant) -> Path {
    let mut path = Path::new(&peer(&[1, 2], true));
    assert_eq!(ports(path.greet(now)), [1, 2, 9]);
    assert_eq!(path.hear(by_relay(), now), None);
    assert_eq!(path.target(), Some(Target { to: place(9).into(), prefix: &[1; 17] }));
    path
}

#[test]
fn the_first_answer_decides() {
    let now = Instant::now();
    let mut path = Path::new(&peer(&[1, 2], true));
    assert_eq!(ports(path.greet(now)), [1, 2, 9], "everywhere at once");
    assert!(path.hear(direct(2), now).is_some());
    assert_eq!(now_at(&path), 2);
    assert_eq!(ports(path.greet(now)), [2], "a settled way is greeted alone");
    assert_eq!(ports(path.greet(now)), [2, 1, 9], "and everybody when that was not answered");
}

#[test]
fn what_comes_by_the_relay_moves_nobody_from_a_direct_way() {
    let now = Instant::now();
    let mut path = relayed(now);
    path.hear(direct(1), now);
    path.hear(by_relay(), now);
    assert_eq!(now_at(&path), 1);
}

#[test]
fn a_direct_way_is_taken_once_both_directions_are_known_to_work() {
    let now = Instant::now();
    let later = now + PROBE_COUNTS;
    let mut path = relayed(now);
    assert_eq!(
        path.hear(direct(77), later),
        Some(place(77).into()),
        "what comes from there is answered there"
    );
    assert_eq!(now_at(&path), 9, "it may be deaf");
    assert_eq!(path.hear(direct(77), later + SECOND), Some(place(77).into()), "and the other side told");
    assert_eq!(now_at(&path), 77);
    assert_eq!(path.hear(direct(77), later + SECOND), None);
}

#[test]
fn an_answer_to_a_probe_that_was_long_ago_proves_nothing() {
    let now = Instant::now();
    let mut path = relayed(now);
    path.hear(direct(1), now + PROBE_COUNTS);
    assert_eq!(now_at(&path), 9);
}

#[test]
fn while_packets_go_by_the_relay_direct_places_are_probed_soon_and_then_seldom() {
    let start = Instant::now();
    let mut path = relayed(start);
    let mut probes = Vec::new();
    for second in 0..45 {
        let now = start + SECOND * second;
        if path.tick(now) == Due::Probe {
            let places: Vec<u16> = path.probe(now).iter().map(|place| place.address.port()).collect();
            assert_eq!(places, [1, 2]);
            probes.push(second);
        }
    }
    assert_eq!(probes, [0, 1, 2, 22, 42]);
    path.hear(direct(1), start + SECOND * 45);
    assert_eq!(path.tick(start + SECOND * 99), Due::Nothing);
}

#[test]
fn new_places_are_probed_at_once() {
    let now = Instant::now();
    let mut path = relayed(now);
    for _ in 0..PROBES_SOON {
        path.probe(now);
    }
    assert_eq!(path.tick(now), Due::Nothing);
    assert!(!path.configure(&peer(&[1, 2, 3], true)), "nobody has to be greeted");
    assert_eq!(path.tick(now), Due::Probe);
}

#[test]
fn a_silent_direct_way_is_left_for_the_relay_and_everything_is_tried() {
    let now = Instant::now();
    let mut path = relayed(now);
    path.hear(direct(1), now);
    path.note_sent(now);
    assert_eq!(path.tick(now + DEAD_AFTER - SECOND), Due::Nothing);
    assert_eq!(path.tick(now + DEAD_AFTER), Due::Search);
    assert_eq!(now_at(&path), 9);
    assert_eq!(ports(path.greet(now + DEAD_AFTER)), [1, 2, 9]);
    path.hear(direct(2), now + DEAD_AFTER);
    assert_eq!(now_at(&path), 2);
}

#[test]
fn a_way_that_is_answered_or_not_used_does_not_die() {
    let now = Instant::now();
    let mut path = relayed(now);
    path.hear(direct(1), now);
    assert_eq!(path.tick(now + DEAD_AFTER * 9), Due::Nothing);
    for second in 0..60 {
        path.note_sent(now + SECOND * second);
        path.hear(direct(1), now + SECOND * second);
        assert_eq!(path.tick(now + SECOND * second), Due::Nothing);
    }
}

#[test]
fn a_direct_way_that_the_other_side_has_left_is_left_as_well() {
    let now = Instant::now();
    let mut path = relayed(now);
    path.hear(direct(1), now);
    path.note_sent(now);
    path.hear(by_relay(), now + DESERTED_AFTER - SECOND);
    assert_eq!(now_at(&path), 1, "it may not have found it yet");
    path.hear(by_relay(), now + DESERTED_AFTER);
    assert_eq!(now_at(&path), 9);
    assert_eq!(path.tick(now + DESERTED_AFTER), Due::Probe, "it may come back");
}

#[test]
fn a_silent_relay_is_no_reason_to_stop_trying() {
    let now = Instant::now();
    let mut path = relayed(now);
    path.note_sent(now);
    assert_eq!(path.tick(now + DEAD_AFTER), Due::Search);
    assert_eq!(ports(path.greet(now + DEAD_AFTER)), [1, 2, 9]);
    path.hear(by_relay(), now + DEAD_AFTER);
    assert_eq!(path.tick(now + DEAD_AFTER), Due::Probe, "as when it was found");
}

#[test]
fn without_a_relay_a_peer_is_followed_wherever_it_speaks_from() {
    let now = Instant::now();
    let mut path = Path::new(&peer(&[1], false));
    assert_eq!(path.hear(direct(5), now), None);
    assert_eq!(now_at(&path), 5);
    path.hear(by_relay(), now);
    assert_eq!(now_at(&path), 5, "there is no way back");
    path.give_up();
    assert_eq!(now_at(&path), 1, "where it should be");
    let mut passive = Path::new(&peer(&[], false));
    assert_eq!(now_at(&passive), 0);
    passive.hear(direct(5), now);
    passive.note_sent(now);
    assert_eq!(passive.tick(now + DEAD_AFTER), Due::Search);
    passive.configure(&peer(&[], false));
    assert_eq!(now_at(&passive), 5, "nobody knows better");
}

#[test]
fn a_peer_that_moved_is_tried_at_its_new_place_at_once() {
    let now = Instant::now();
    let mut path = Path::new(&peer(&[1], false));
    path.hear(direct(1), now);
    assert!(!path.configure(&peer(&[1], false)));
    assert!(!path.configure(&peer(&[1, 2], false)), "it is where it was");
    assert!(path.configure(&peer(&[3], false)));
    assert_eq!(now_at(&path), 3);
}

#[test]
fn a_relay_that_changes_is_tried_at_once_by_whoever_uses_it() {
    let now = Instant::now();
    let mut path = relayed(now);
    let mut wanted = peer(&[1, 2], true);
    wanted.relay.as_mut().expect("a relay").address = place(10);
    assert!(path.configure(&wanted));
    assert_eq!(ports(path.greet(now)), [1, 2, 10]);
    path.hear(direct(1), now);
    assert!(!path.configure(&peer(&[1, 2], true)));
}
