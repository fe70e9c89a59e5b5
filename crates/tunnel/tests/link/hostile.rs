//! Nothing that arrives from outside, and nothing a peer does, gets through that should not, or stops what should.

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
};

use boringtun::{
    noise::{Tunn, TunnResult},
    x25519,
};
use tunnel::{PeerDrops, PrivateKey};

use crate::support::{
    INTERFACE, PATIENCE, PORT, Place, SILENCE, Side, content, pair, peer, places, strangers, transfer,
    wait_until,
};

#[test]
fn a_wrong_key_gets_nothing_through() {
    let (left, right) = strangers();
    left.set_peers(vec![right.as_peer()]);
    right.set_peers(vec![peer(&left.place, PrivateKey::generate().public())]);
    assert!(!left.place.pings(right.place.inside(), 56, SILENCE));
    assert!(!right.place.pings(left.place.inside(), 56, SILENCE));
    assert_eq!(left.peer_status().last_handshake, None);
    assert_eq!(right.peer_status().received, 0);
    assert!(right.tunnel().drops().unknown_sender > 0);
    assert!(left.tunnel().drops().malformed_outside > 0, "a handshake for another key");
}

#[test]
fn a_source_that_is_not_allowed_is_dropped() {
    let (left, right) = pair();
    assert!(left.place.pings(right.place.inside(), 56, PATIENCE));
    let mut narrow = right.as_peer();
    narrow.allowed = vec![right.place.inside().into()];
    left.set_peers(vec![narrow]);
    assert!(!right.place.pings(left.place.inside_v6(), 56, SILENCE));
    assert!(left.peer_status().drops.source_not_allowed > 0);
    assert!(right.place.pings(left.place.inside(), 56, PATIENCE));
}

#[test]
fn garbage_at_the_port_changes_nothing() {
    let (left, right) = pair();
    assert!(left.place.pings(right.place.inside(), 56, PATIENCE));
    let to = SocketAddr::new(left.place.outside(), PORT);
    let socket = right.place.udp(SocketAddr::new(right.place.outside(), 0));
    let noise = content(65_507);
    for length in [0, 1, 3, 4, 31, 32, 63, 64, 91, 92, 147, 148, 149, 1_452, 9_000, 65_507] {
        for kind in 0..6 {
            let mut datagram = noise[..length].to_vec();
            for (byte, value) in datagram.iter_mut().zip([kind, 0, 0, 0, 1, 0, 0, 0]) {
                *byte = value;
            }
            socket.send_to(&datagram, to).expect("a route");
        }
    }
    wait_until(|| left.tunnel().drops(), |drops| drops.malformed_outside > 20 && drops.asides > 10);
    transfer(&left.place, &right.place, right.place.inside(), 1_000_000);
    assert_eq!(left.peer_status().endpoint, Some(right.as_peer().endpoints[0]), "garbage moves nobody");
}

/// A flood of handshakes by somebody who knows our key is answered by cookies, and costs no peer its link.
#[test]
fn a_flood_of_handshakes_is_held_off() {
    let (left, right) = pair();
    assert!(left.place.pings(right.place.inside(), 56, PATIENCE));
    let socket = right.place.udp(SocketAddr::new(right.place.outside(), 0));
    let to = SocketAddr::new(left.place.outside(), PORT);
    let mut stranger = Stranger::new(&left);
    for _ in 0..400 {
        socket.send_to(&stranger.greeting(), to).expect("a route");
    }
    let drops = wait_until(|| left.tunnel().drops(), |drops| drops.under_load > 0);
    assert!(drops.unknown_sender > 0, "the first ones were looked at: {drops:?}");
    let mut answer = [0; 2_000];
    let length = socket.recv(&mut answer).expect("a cookie");
    assert_eq!((length, answer[0]), (64, 3));
    transfer(&left.place, &right.place, right.place.inside(), 1_000_000);
}

/// Everything passes through a relay that sends each datagram twice, and some of them altered.
#[test]
fn repeated_and_altered_packets_are_dropped() {
    let (left, right) = strangers();
    let middle = SocketAddr::new(right.place.outside(), 4_000);
    let relay = right.place.udp(middle);
    let ends = [&left, &right].map(|side| SocketAddr::new(side.place.outside(), PORT));
    thread::spawn(move || relay_twice(&relay, ends));
    for (side, other) in [(&left, &right), (&right, &left)] {
        let mut wanted = other.as_peer();
        wanted.endpoints = vec![middle];
        side.set_peers(vec![wanted]);
    }
    transfer(&left.place, &right.place, right.place.inside(), 300_000);
    let drops = right.peer_status().drops;
    assert!(drops.replayed > 100 && drops.not_authentic > 10, "{drops:?}");
    assert_eq!(
        drops,
        PeerDrops { replayed: drops.replayed, not_authentic: drops.not_authentic, ..PeerDrops::default() }
    );
}

fn relay_twice(relay: &UdpSocket, [left, right]: [SocketAddr; 2]) {
    let mut buffer = [0; 2_000];
    let mut count = 0_usize;
    while let Ok((length, from)) = relay.recv_from(&mut buffer) {
        let to = if from == left { right } else { left };
        count += 1;
        for _ in 0..2 {
            let _full = relay.send_to(&buffer[..length], to);
        }
        if count.is_multiple_of(10) {
            buffer[length - 1] ^= 1;
            // A number that was not seen yet.
            buffer[9] ^= 0x10;
            let _full = relay.send_to(&buffer[..length], to);
        }
    }
}

/// A peer with a proper key may still put anything inside.
#[test]
fn packets_inside_that_are_none_are_dropped() {
    let (left, right) = places();
    let key = PrivateKey::generate();
    let mut side = Side { place: left, key, tunnel: None };
    let settings = Side::settings(&side.key);
    side.start(settings);
    let mut insider = Insider::new(&side, &right);
    let good = insider.packet(&[]);

    let mut lies = vec![vec![0], vec![0x45], vec![0x60; 39], vec![0xff; 1_400], vec![0x45; 19]];
    for (at, value) in [(0, 0x40), (0, 0x44), (0, 0x4f), (0, 0x65), (0, 0x05), (2, 0xff), (3, 0), (3, 19)] {
        let mut lie = good.clone();
        lie[at] = value;
        lies.push(lie);
    }
    for lie in &lies {
        insider.send(lie);
    }
    let drops = wait_until(
        || side.peer_status().drops,
        |drops| drops.malformed + drops.source_not_allowed >= lies.len() as u64,
    );
    assert_eq!(drops.not_authentic, 0);

    let receiver = side.place.udp(SocketAddr::new(side.place.inside(), 7));
    insider.send(&insider.packet(b"well formed"));
    let mut buffer = [0; 100];
    let length = receiver.recv(&mut buffer).expect("the packet");
    assert_eq!(&buffer[..length], b"well formed");
}

/// Also while packets wait for a handshake, when they are kept whole.
#[test]
fn packets_that_somebody_made_too_long_are_dropped() {
    let (left, right) = strangers();
    left.set_peers(vec![right.as_peer()]);
    left.place.set_mtu(INTERFACE, 9_000);
    let sender = left.place.udp(SocketAddr::new(left.place.inside(), 0));
    let receiver = right.place.udp(SocketAddr::new(right.place.inside(), 0));
    let to = receiver.local_addr().expect("a bound socket");
    for size in [1_392, 1_393, 1_396, 1_397, 1_500, 5_000, 8_972, 7] {
        sender.send_to(&content(size), to).expect("a route");
    }
    wait_until(|| left.tunnel().drops().malformed_inside, |dropped| *dropped >= 4);
    right.set_peers(vec![left.as_peer()]);
    let mut buffer = [0; 9_000];
    let arrived = [(); 4].map(|()| receiver.recv(&mut buffer).expect("a datagram"));
    assert_eq!(arrived, [1_392, 1_393, 1_396, 7]);
}

/// Somebody who knows the public key of a side, and whom it does not know.
struct Stranger(Tunn);

impl Stranger {
    fn new(side: &Side) -> Self {
        let public = x25519::PublicKey::from(*side.key.public().as_bytes());
        Self(Tunn::new(x25519::StaticSecret::from([9; 32]), public, None, None, 1, None))
    }

    fn greeting(&mut self) -> Vec<u8> {
        let mut buffer = [0; 148];
        let result = self.0.format_handshake_initiation(&mut buffer, true);
        let TunnResult::WriteToNetwork(message) = result else { panic!("{result:?}") };
        message.to_vec()
    }
}

/// A peer that says what it likes.
struct Insider {
    tunn: Tunn,
    socket: UdpSocket,
    to: SocketAddr,
    addresses: [[u8; 4]; 2],
}

impl Insider {
    fn new(side: &Side, place: &Place) -> Self {
        let secret = [5; 32];
        side.set_peers(vec![peer(place, PrivateKey::from(secret).public())]);
        let public = x25519::PublicKey::from(*side.key.public().as_bytes());
        let mut tunn = Tunn::new(x25519::StaticSecret::from(secret), public, None, None, 1, None);
        let socket = place.udp(SocketAddr::new(place.outside(), 0));
        let to = SocketAddr::new(side.place.outside(), PORT);
        let mut buffer = [0; 2_000];
        if let TunnResult::WriteToNetwork(message) = tunn.format_handshake_initiation(&mut buffer, true) {
            socket.send_to(message, to).expect("a route");
        }
        let mut answer = [0; 2_000];
        let length = socket.recv(&mut answer).expect("an answer to the handshake");
        if let TunnResult::WriteToNetwork(message) = tunn.decapsulate(None, &answer[..length], &mut buffer) {
            socket.send_to(message, to).expect("a route");
        }
        Self { tunn, socket, to, addresses: [[10, 9, 0, place.number], [10, 9, 0, side.place.number]] }
    }

    /// A datagram to port 7 of the other side.
    fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let length = |header: usize| u16::try_from(header + payload.len()).expect("short").to_be_bytes();
        let mut packet = vec![0x45, 0, length(28)[0], length(28)[1], 0, 0, 0, 0, 64, 17, 0, 0];
        packet.extend_from_slice(self.addresses.as_flattened());
        let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("folded");
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend_from_slice(&[0, 9, 0, 7, length(8)[0], length(8)[1], 0, 0]);
        packet.extend_from_slice(payload);
        packet
    }

    fn send(&mut self, packet: &[u8]) {
        let mut buffer = [0; 2_000];
        let result = self.tunn.encapsulate(packet, &mut buffer);
        let TunnResult::WriteToNetwork(message) = result else { panic!("{result:?}") };
        self.socket.send_to(message, self.to).expect("a route");
    }
}
