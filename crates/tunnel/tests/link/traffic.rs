//! Whatever is sent arrives as it was sent.

use std::{io::IoSliceMut, net::SocketAddr, thread};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tunnel::PeerDrops;

use crate::support::{PATIENCE, PORT, Place, content, pair, strangers, transfer, wait_until};

#[test]
fn packets_of_both_families_pass_both_ways() {
    let (left, right) = pair();
    for (from, to) in [(&left, &right), (&right, &left)] {
        for address in [to.place.inside(), to.place.inside_v6()] {
            assert!(from.place.pings(address, 56, PATIENCE), "{address}");
        }
    }
    let status = left.peer_status();
    assert_eq!(status.public_key, right.key.public());
    assert!(status.received > 0 && status.sent > 0 && status.last_handshake.is_some(), "{status:?}");
    // Two handshakes that cross may make one of their messages useless.
    let not_authentic = status.drops.not_authentic;
    assert_eq!(status.drops, PeerDrops { not_authentic, ..PeerDrops::default() });
}

#[test]
fn packets_in_pieces_are_put_together() {
    let (left, right) = pair();
    for address in [right.place.inside(), right.place.inside_v6()] {
        for size in [0, 1_372, 1_393, 5_000, 30_000] {
            assert!(left.place.pings(address, size, PATIENCE), "{size} bytes to {address}");
        }
    }
}

#[test]
fn streams_arrive_as_they_were_sent() {
    let (left, right) = pair();
    for (from, to) in [(&left, &right), (&right, &left)] {
        for address in [to.place.inside(), to.place.inside_v6()] {
            transfer(&from.place, &to.place, address, 6_000_000);
        }
    }
}

#[test]
fn streams_side_by_side_arrive_as_they_were_sent() {
    let (left, right) = pair();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| transfer(&left.place, &right.place, right.place.inside(), 3_000_000));
            scope.spawn(|| transfer(&right.place, &left.place, left.place.inside_v6(), 3_000_000));
        }
    });
}

#[test]
fn the_far_end_may_be_of_ipv6() {
    let (left, right) = strangers();
    for (side, other) in [(&left, &right), (&right, &left)] {
        let mut peer = other.as_peer();
        peer.endpoints = vec![SocketAddr::new(other.place.outside_v6(), PORT)];
        side.set_peers(vec![peer]);
    }
    transfer(&left.place, &right.place, right.place.inside(), 3_000_000);
    assert_eq!(left.peer_status().endpoint, Some(SocketAddr::new(right.place.outside_v6(), PORT)));
}

#[test]
fn datagrams_of_all_sizes_arrive_as_they_were_sent() {
    let (left, right) = pair();
    for pick in [Place::inside, Place::inside_v6] {
        let receiver = right.place.udp(SocketAddr::new(pick(&right.place), 0));
        let sender = left.place.udp(SocketAddr::new(pick(&left.place), 0));
        let to = receiver.local_addr().expect("a bound socket");
        let bytes = content(70_000);
        let mut buffer = vec![0; 65_536];
        for round in 0_usize..400 {
            let size = [0, 1, 15, 16, 17, 500, 1_372, 1_392, 1_393, 4_000, 20_000][round % 11];
            let sent = &bytes[round..round + size];
            sender.send_to(sent, to).expect("a route");
            let received = receiver.recv(&mut buffer).unwrap_or_else(|error| {
                let (sent, got) = (left.peer_status(), right.peer_status());
                panic!("{size} bytes to {to} in round {round}: {error}; {sent:?}; {got:?}")
            });
            assert!(buffer[..received] == *sent, "{received} of {size} bytes");
        }
    }
}

/// In a header of UDP a checksum of zero says that there is none, and over IPv6 there must be one: it is all ones then.
#[test]
fn a_datagram_whose_checksum_is_zero_arrives() {
    let (left, right) = pair();
    let receiver = right.place.udp(SocketAddr::new(right.place.inside_v6(), 0));
    let sender = left.place.udp(SocketAddr::new(left.place.inside_v6(), 0));
    let (from, to) = [&sender, &receiver].map(|socket| socket.local_addr().expect("a bound socket")).into();
    const LENGTH: u16 = 8 + 2;
    const UDP: u16 = 17;
    let mut sum = [from.port(), to.port(), LENGTH, LENGTH, UDP].map(u32::from).iter().sum::<u32>();
    for address in [from, to] {
        let SocketAddr::V6(address) = address else { panic!("{address}") };
        sum += address.ip().segments().map(u32::from).iter().sum::<u32>();
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // With these two bytes all adds up to ones.
    let content = (!u16::try_from(sum).expect("folded")).to_be_bytes();
    sender.send_to(&content, to).expect("a route");
    let mut buffer = [0; 8];
    let received = receiver.recv(&mut buffer).expect("the datagram");
    assert_eq!(buffer[..received], content);
}

/// The kernel hands such a batch to the interface as one packet where it can, and cuts it itself where not.
#[test]
fn datagrams_sent_as_one_batch_arrive_one_by_one() {
    let (left, right) = pair();
    for pick in [Place::inside, Place::inside_v6] {
        let receiver = right.place.udp(SocketAddr::new(pick(&right.place), 0));
        let sender = left.place.udp(SocketAddr::new(pick(&left.place), 0));
        let state = UdpSocketState::new(UdpSockRef::from(&sender)).expect("a socket");
        let segments = state.max_gso_segments().min(40);
        for size in [100, 1_200, 1_372] {
            let bytes = content(size * (segments - 1) + 50);
            let transmit = Transmit {
                destination: receiver.local_addr().expect("a bound socket"),
                ecn: None,
                contents: &bytes,
                segment_size: Some(size),
                src_ip: None,
            };
            state.try_send(UdpSockRef::from(&sender), &transmit).expect("room to send");
            let mut buffer = vec![0; 2_000];
            for expected in bytes.chunks(size) {
                let received = receiver.recv(&mut buffer).expect("the datagram");
                assert!(buffer[..received] == *expected, "{received} of {} bytes", expected.len());
            }
        }
    }
}

/// The other way round: what arrives in a batch may be put together for a socket that asks for it.
#[test]
fn a_socket_may_ask_for_batches() {
    let (left, right) = pair();
    // What waits for the handshake is sent by another thread than what comes right after it, so the order of these two
    // is open; of a tunnel that stands it is not.
    assert!(left.place.pings(right.place.inside(), 56, PATIENCE));
    let receiver = right.place.udp(SocketAddr::new(right.place.inside(), 0));
    let state = UdpSocketState::new(UdpSockRef::from(&receiver)).expect("a socket");
    let sender = left.place.udp(SocketAddr::new(left.place.inside(), 0));
    let to = receiver.local_addr().expect("a bound socket");
    let bytes = content(50 * 1_000);
    for datagram in bytes.chunks(1_000) {
        sender.send_to(datagram, to).expect("a route");
    }
    let mut received = Vec::new();
    let mut buffer = vec![0; 65_536];
    let mut details = [RecvMeta::default()];
    wait_until(
        || {
            while state
                .recv(UdpSockRef::from(&receiver), &mut [IoSliceMut::new(&mut buffer)], &mut details)
                .is_ok()
            {
                assert_eq!(details[0].stride, 1_000);
                received.extend_from_slice(&buffer[..details[0].len]);
            }
            received.len()
        },
        |length| *length == bytes.len(),
    );
    assert!(received == bytes);
}

#[test]
fn packets_sent_before_the_handshake_arrive_after_it() {
    let (left, right) = strangers();
    let receiver = right.place.udp(SocketAddr::new(right.place.inside(), 0));
    let sender = left.place.udp(SocketAddr::new(left.place.inside(), 0));
    left.set_peers(vec![right.as_peer()]);
    for number in 0..20_u8 {
        sender.send_to(&[number], receiver.local_addr().expect("a bound socket")).expect("a route");
    }
    // The first packet asks for keys, and is waited with.
    wait_until(|| right.tunnel().drops(), |drops| drops.malformed_outside + drops.unknown_sender > 0);
    right.set_peers(vec![left.as_peer()]);
    let mut buffer = [0; 10];
    for number in 0..20_u8 {
        assert_eq!(
            receiver.recv(&mut buffer).map(|length| buffer[..length].to_vec()).ok(),
            Some(vec![number])
        );
    }
}
