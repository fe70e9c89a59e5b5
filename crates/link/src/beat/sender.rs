//! The child's side of beats.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use model::Load;
use tokio::{
    net::{UdpSocket, lookup_host},
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::datagram::{self, Claim, Kind};
use crate::{DatagramKey, DatagramSession};

/// However short an interval is told, no faster than this.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);
/// Between two beats that answer asks: a parent asks no faster than every 50 ms.
const SHORTEST_ANSWER: Duration = Duration::from_millis(20);
/// How long to wait with a new socket after one that failed.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the name of a parent may take to resolve.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

/// Sends beats to `parent` (`host:port`, an IPv6 address in brackets): the first at once, then one each `interval` as it
/// is at the time, and one whenever the parent asks. Never ends; drop it when the session does.
///
/// What fails (no network, no such name, nobody at the port) is tried again with a new socket, and with the parent's next
/// address where it has several. Pass the address the connection was made to
/// ([`Dialled::address`](crate::Dialled)) so that beats go to the same.
///
/// Each beat tells `load` as it is at the time. When nobody can change `interval` or `load` any more, it stays as it is.
pub async fn send_beats(
    parent: &str,
    session: DatagramSession,
    interval: watch::Receiver<Duration>,
    load: watch::Receiver<Load>,
) -> Infallible {
    let mut beating = Beating::new(&session, interval, load);
    let mut attempt = 0;
    loop {
        let error = match connect(parent, attempt).await {
            Ok(socket) => beating.beat_on(&socket).await,
            Err(error) => error,
        };
        tracing::debug!(parent, %error, "a beat could not be sent; trying again");
        attempt += 1;
        sleep(PAUSE).await;
    }
}

async fn connect(parent: &str, attempt: usize) -> io::Result<UdpSocket> {
    let resolving = timeout(RESOLVE_DEADLINE, lookup_host(parent));
    let addresses: Vec<SocketAddr> =
        resolving.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??.collect();
    let address = choose(&addresses, attempt)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?;
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    // The kernel then drops what others send, and tells when nobody listens.
    socket.connect(address).await?;
    Ok(socket)
}

/// Each in turn: which of them leads to the parent is not known.
fn choose(addresses: &[SocketAddr], attempt: usize) -> Option<&SocketAddr> {
    addresses.get(attempt % addresses.len().max(1))
}

pub(super) struct Beating {
    session: u64,
    key: DatagramKey,
    interval: watch::Receiver<Duration>,
    load: watch::Receiver<Load>,
    /// Whether anybody can still change the interval.
    told: bool,
    next_number: u32,
    highest_ask: u32,
}

impl Beating {
    pub(super) fn new(
        session: &DatagramSession,
        interval: watch::Receiver<Duration>,
        load: watch::Receiver<Load>,
    ) -> Self {
        let key = session.datagram_key();
        Self { session: session.id, key, interval, load, told: true, next_number: 0, highest_ask: 0 }
    }

    /// Sends beats on one socket until that fails; says why it did.
    async fn beat_on(&mut self, socket: &UdpSocket) -> io::Error {
        let mut sent = match self.send(socket).await {
            Ok(sent) => sent,
            Err(error) => return error,
        };
        let mut due = sent;
        // One byte more than an ask, so that what is too long is not taken for one.
        let mut buffer = [0; datagram::LENGTH + 1];
        loop {
            let interval = (*self.interval.borrow_and_update()).max(SHORTEST_INTERVAL);
            let asked = tokio::select! {
                () = sleep_until(due + interval) => false,
                changed = self.interval.changed(), if self.told => {
                    self.told = changed.is_ok();
                    continue;
                }
                received = socket.recv(&mut buffer) => match received {
                    Ok(length) if self.is_new_ask(&buffer[..length]) && sent.elapsed() >= SHORTEST_ANSWER => true,
                    Ok(_) => continue,
                    Err(error) => return error,
                },
            };
            sent = match self.send(socket).await {
                Ok(sent) => sent,
                Err(error) => return error,
            };
            // An answer does not put off the beat that is due. After a pause beats are not made up for.
            if !asked {
                due = sent;
            }
        }
    }

    async fn send(&mut self, socket: &UdpSocket) -> io::Result<Instant> {
        let load = *self.load.borrow();
        let beat = datagram::compose(Kind::Beat, self.session, self.next_number, load, &self.key);
        let sent = match socket.send(&beat).await {
            // What an earlier beat met is told in place of sending this one.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => socket.send(&beat).await,
            sent => sent,
        };
        sent?;
        // Four thousand million beats are more than fifty years at the shortest interval a parent asks for.
        self.next_number = self.next_number.saturating_add(1);
        Ok(Instant::now())
    }

    pub(super) fn is_new_ask(&mut self, bytes: &[u8]) -> bool {
        let Some(ask) = Claim::parse(bytes) else { return false };
        let new =
            ask.session == self.session && ask.number > self.highest_ask && ask.holds(Kind::Ask, &self.key);
        if new {
            self.highest_ask = ask.number;
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_of_a_name_is_tried_in_turn() {
        let addresses: Vec<SocketAddr> =
            ["[::1]:1", "127.0.0.1:1"].map(|text| text.parse().unwrap()).to_vec();
        let tried: Vec<_> = (0..3).filter_map(|attempt| choose(&addresses, attempt)).copied().collect();
        assert_eq!(tried, [addresses[0], addresses[1], addresses[0]]);
        assert_eq!(choose(&[], 3), None);
    }
}
