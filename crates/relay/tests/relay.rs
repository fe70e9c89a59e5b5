//! A relay on a real socket: two devices register, and one is passed on what the other sends.

use std::{net::SocketAddr, time::Duration};

use link::DatagramSession;
use relay::{Destination, FORWARDED, Order, Proof, Registrar, Relay, Seen, forward_prefix};
use tokio::{net::UdpSocket, time::timeout};

const PATIENCE: Duration = Duration::from_secs(5);

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2000];
    let received = timeout(PATIENCE, socket.recv_from(&mut buffer)).await.expect("in time");
    let (length, from) = received.expect("a datagram");
    (buffer[..length].to_vec(), from)
}

#[tokio::test]
async fn a_device_learns_how_it_is_seen_and_is_passed_on_what_others_send() {
    // Of both families, as relays listen, and reached over IPv4.
    let relay = Relay::bind("[::]:0".parse().expect("an address")).expect("a free port");
    let port = relay.local_addr().expect("bound").port();
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let mine = Destination::of(&[1; 32]);
    let session = relay.open(mine, None).expect("nobody's mailbox");
    assert_eq!(relay.open(mine, None), None, "it has an owner now");
    let DatagramSession { id, .. } = session;
    let device = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let place = device.local_addr().expect("bound");
    let mut registrar = Registrar::new(Order { relay: at, own: None, proof: Proof::Session(session) });
    let now = daemon::present().moment;
    device.send_to(&registrar.register(now), at).await.expect("sent");
    assert_eq!(
        timeout(PATIENCE, relay.serve()).await.expect("a registration"),
        [Seen { session: id, endpoint: place }]
    );
    let (answer, from) = receive(&device).await;
    assert!(registrar.take(&answer, from, now), "a genuine answer");

    let other = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let message = [&[4, 0, 0, 0][..], &[7; 1448]].concat();
    let serving = tokio::spawn(async move { relay.serve().await });
    for _ in 0..300 {
        other.send_to(&[&forward_prefix(mine), &message[..]].concat(), at).await.expect("sent");
        let (passed, from) = receive(&device).await;
        assert_eq!((passed[0], &passed[1..], from), (FORWARDED, &message[..], at));
    }
    serving.abort();
}
