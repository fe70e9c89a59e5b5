//! Echoes to other devices, by which it is measured how far they are; when is decided by `net_core` (`closest`).
//!
//! They go from this device's own address to that of the other, whose kernel answers: nobody listens on a port for them. They
//! leave by the link between the two and by nothing else, and only what comes by it is an answer, so that an answer is as
//! genuine as the link. Each is asked for by bytes that nobody knew before, so that nobody can answer too early.

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6},
    time::{Duration, Instant},
};

use net_core::{Carrier, Echo, EchoOver, RoundTrip};
use nlink::netlink::namespace::Netns;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, time::timeout};

use super::{direct, wireguard};
use crate::secure::INTERFACE;

/// Echoes of a round, one after the other. The first may have to wait for an encrypted link to be made.
const SAMPLES: usize = 3;
/// Longer than to a satellite and back.
const PATIENCE: Duration = Duration::from_secs(1);

const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
/// What comes before the bytes that are repeated; the kernel sees to the checksum.
const HEADER: usize = 8;
/// As hexadecimal digits.
const RANDOM_BYTES: usize = 8;

/// A socket that hears nothing but what comes from the other device over the link. It is not one of UDP; sending and receiving
/// is the same for both.
pub(super) fn open(host: &Netns, echo: Echo) -> io::Result<UdpSocket> {
    let Echo { from, to, over } = echo;
    let interface = match over {
        EchoOver::Direct(family) => direct::name(family),
        EchoOver::Encrypted(Carrier::Engine) => INTERFACE,
        EchoOver::Encrypted(Carrier::Kernel) => wireguard::NAME,
    };
    let socket = host.socket(Domain::IPV6.into(), Type::RAW.into(), Protocol::ICMPV6.into());
    let socket = Socket::from(socket.map_err(io::Error::other)?);
    let at = |address: Ipv6Addr| SocketAddrV6::new(address, 0, 0, 0).into();
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.bind(&at(from))?;
    socket.connect(&at(to))?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

/// The shortest time in which an echo came back; `None` when none did.
pub(super) async fn round(socket: UdpSocket) -> Option<RoundTrip> {
    let mut shortest = None;
    for _ in 0..SAMPLES {
        match timeout(PATIENCE, exchange(&socket)).await {
            Ok(Ok(took)) => {
                let took = RoundTrip(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
                shortest = Some(shortest.map_or(took, |shortest: RoundTrip| shortest.min(took)));
            }
            Ok(Err(error)) => tracing::debug!(%error, "an echo to another device fails"),
            Err(_elapsed) => {}
        }
    }
    shortest
}

async fn exchange(socket: &UdpSocket) -> io::Result<Duration> {
    let asked_for = daemon::random_hex::<RANDOM_BYTES>();
    let mut request = vec![0; HEADER];
    request[0] = ECHO_REQUEST;
    request.extend(asked_for.as_bytes());
    let sent = Instant::now();
    socket.send(&request).await?;
    loop {
        let mut heard = [0; HEADER + 2 * RANDOM_BYTES];
        let length = socket.recv(&mut heard).await?;
        if is_answer(&heard[..length], asked_for.as_bytes()) {
            return Ok(sent.elapsed());
        }
    }
}

/// The socket hears everything of ICMPv6 from the other device: its own echoes too, and answers to earlier ones.
fn is_answer(heard: &[u8], asked_for: &[u8]) -> bool {
    heard.first() == Some(&ECHO_REPLY) && heard.get(HEADER..) == Some(asked_for)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_repeats_the_bytes_asked_for_is_an_answer() {
        let message = |kind, bytes: &[u8]| [&[kind, 0, 0, 0, 0, 0, 0, 0], bytes].concat();
        assert!(is_answer(&message(ECHO_REPLY, b"0123456789abcdef"), b"0123456789abcdef"));
        for heard in [
            message(ECHO_REPLY, b"0123456789abcdee"),
            message(ECHO_REPLY, b"0123456789abcde"),
            message(ECHO_REQUEST, b"0123456789abcdef"),
            vec![ECHO_REPLY],
            vec![],
        ] {
            assert!(!is_answer(&heard, b"0123456789abcdef"), "{heard:?}");
        }
    }
}
