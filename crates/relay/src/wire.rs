//! The bytes of what passes between devices and a relay. Numbers are big-endian. The first byte of each tells it from a
//! message of WireGuard, which begins with a byte of 1 to 4 and three zeros.
//!
//! ```text
//!   register    R, session (8), number (8), zeros (18), tag (8)            as long as the answer, so that nothing is amplified
//!   registered  S, session (8), number (8), address (16), port (2), tag (8)
//!   forward     F, destination (16), a message of WireGuard
//!   forwarded   G, a message of WireGuard
//! ```
//!
//! At a relay that knows no devices, whose keys are `keys`':
//!
//! ```text
//!   enter       E, cluster (16), mailbox (16), challenge (8), number (8), tag (8)
//!   entered     T, challenge (8), number (8), address (16), port (2), tag (8)      address and port are zeros when the
//!                                                                                  challenge it came with was an old one
//! ```

use std::net::{IpAddr, SocketAddr};

use link::DatagramKey;
use model::ClusterId;
use ring::digest;
use uuid::Uuid;

const REGISTER: u8 = b'R';
const REGISTERED: u8 = b'S';
const ENTER: u8 = b'E';
const ENTERED: u8 = b'T';
const FORWARD: u8 = b'F';
/// The first byte of what a relay passes on; the rest is a message of WireGuard.
pub const FORWARDED: u8 = b'G';

const TAGGED: usize = 35;
/// The length of a registration and of its answer.
pub(crate) const REGISTRATION: usize = TAGGED + 8;
const ENTRY_TAGGED: usize = 49;
/// The length of a registration with a relay that knows no devices; longer than its answer.
const ENTRY: usize = ENTRY_TAGGED + 8;
const PREFIX: usize = 17;

/// The shortest message of WireGuard is a packet without content.
const SHORTEST_MESSAGE: usize = 32;
/// The longest that links of an MTU of 1420 send is 1452 bytes.
const LONGEST_MESSAGE: usize = 1500;
/// The longest datagram a relay takes.
pub(crate) const LONGEST: usize = PREFIX + LONGEST_MESSAGE;

/// Whose mailbox it is: the beginning of the SHA-256 of the public key of a device's links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination(pub(crate) [u8; 16]);

impl Destination {
    /// The mailbox of whoever has this public key.
    #[must_use]
    pub fn of(public_key: &[u8; 32]) -> Self {
        let whole = digest::digest(&digest::SHA256, public_key);
        Self(*whole.as_ref().first_chunk().expect("a SHA-256 has 32 bytes"))
    }
}

/// What goes before a message of WireGuard, to a relay, for it to be passed on.
#[must_use]
pub fn forward_prefix(destination: Destination) -> [u8; PREFIX] {
    let mut prefix = [FORWARD; PREFIX];
    prefix[1..].copy_from_slice(&destination.0);
    prefix
}

/// What a datagram to a relay says; nothing of it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request<'datagram> {
    /// To be checked by [`Registration::holds`].
    Register(Registration<'datagram>),
    /// To be checked by [`Entry::holds`].
    Enter(Entry<'datagram>),
    Forward {
        destination: Destination,
        /// What is passed on.
        message: &'datagram [u8],
    },
}

/// A registration, or the answer to one of either kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registration<'datagram> {
    /// In the answer of a relay that knows no devices, the challenge to register with from now on.
    pub(crate) session: u64,
    pub(crate) number: u64,
    /// Zeros in a registration, in the answer where it came from.
    place: &'datagram [u8; 18],
    tagged: &'datagram [u8],
    tag: u64,
}

/// A registration with a relay that knows no devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'datagram> {
    pub(crate) cluster: ClusterId,
    pub(crate) mailbox: Destination,
    pub(crate) challenge: u64,
    pub(crate) number: u64,
    tagged: &'datagram [u8],
    tag: u64,
}

impl<'datagram> Request<'datagram> {
    /// `None` for what a relay has no use for.
    pub(crate) fn parse(datagram: &'datagram [u8]) -> Option<Self> {
        match datagram {
            [REGISTER, ..] => Registration::parse(datagram).map(Self::Register),
            [ENTER, ..] => Entry::parse(datagram).map(Self::Enter),
            [FORWARD, rest @ ..] => {
                let (destination, message) = rest.split_first_chunk()?;
                let size = SHORTEST_MESSAGE..=LONGEST_MESSAGE;
                let is_wireguard = matches!(message, [1..=4, 0, 0, 0, ..]) && size.contains(&message.len());
                is_wireguard.then_some(Self::Forward { destination: Destination(*destination), message })
            }
            _ => None,
        }
    }
}

impl<'datagram> Registration<'datagram> {
    fn parse(datagram: &'datagram [u8]) -> Option<Self> {
        let whole: &[u8; REGISTRATION] = datagram.try_into().ok()?;
        let (tagged, tag) = whole.split_at(TAGGED);
        let (session, rest) = tagged[1..].split_first_chunk()?;
        let (number, place) = rest.split_first_chunk()?;
        Some(Self {
            session: u64::from_be_bytes(*session),
            number: u64::from_be_bytes(*number),
            place: place.try_into().ok()?,
            tagged,
            tag: u64::from_be_bytes(tag.try_into().ok()?),
        })
    }

    /// The answer of a relay; `None` for anything else.
    pub(crate) fn parse_answer(datagram: &'datagram [u8]) -> Option<Self> {
        matches!(datagram, [REGISTERED | ENTERED, ..]).then(|| Self::parse(datagram)).flatten()
    }

    /// Whether whoever has the key made it.
    pub(crate) fn holds(&self, key: &DatagramKey) -> bool {
        key.holds(self.tagged, self.tag)
    }

    /// In an answer: where the registration came from; `None` if it does not count.
    pub(crate) fn seen_at(&self) -> Option<SocketAddr> {
        if *self.place == [0; 18] {
            return None;
        }
        let (address, port) = self.place.split_first_chunk::<16>()?;
        let port = u16::from_be_bytes(port.try_into().ok()?);
        Some(SocketAddr::new(IpAddr::from(*address).to_canonical(), port))
    }
}

impl<'datagram> Entry<'datagram> {
    fn parse(datagram: &'datagram [u8]) -> Option<Self> {
        let whole: &[u8; ENTRY] = datagram.try_into().ok()?;
        let (tagged, tag) = whole.split_at(ENTRY_TAGGED);
        let (cluster, rest) = tagged[1..].split_first_chunk()?;
        let (mailbox, rest) = rest.split_first_chunk()?;
        let (challenge, number) = rest.split_first_chunk()?;
        Some(Self {
            cluster: ClusterId::new(Uuid::from_bytes(*cluster)),
            mailbox: Destination(*mailbox),
            challenge: u64::from_be_bytes(*challenge),
            number: u64::from_be_bytes(number.try_into().ok()?),
            tagged,
            tag: u64::from_be_bytes(tag.try_into().ok()?),
        })
    }

    /// Whether whoever has the key made it.
    pub(crate) fn holds(&self, key: &DatagramKey) -> bool {
        key.holds(self.tagged, self.tag)
    }
}

/// A registration with a relay that knows no devices.
pub(crate) fn enter(
    cluster: ClusterId,
    mailbox: Destination,
    challenge: u64,
    number: u64,
    key: &DatagramKey,
) -> [u8; ENTRY] {
    let mut bytes = [ENTER; ENTRY];
    bytes[1..17].copy_from_slice(cluster.as_uuid().as_bytes());
    bytes[17..33].copy_from_slice(&mailbox.0);
    bytes[33..41].copy_from_slice(&challenge.to_be_bytes());
    bytes[41..ENTRY_TAGGED].copy_from_slice(&number.to_be_bytes());
    let tag = key.tag(&bytes[..ENTRY_TAGGED]);
    bytes[ENTRY_TAGGED..].copy_from_slice(&tag.to_be_bytes());
    bytes
}

/// The answer to [`enter`] that came from `seen_at`, or to one that does not count: register with this challenge.
pub(crate) fn entered(
    challenge: u64,
    number: u64,
    seen_at: Option<SocketAddr>,
    key: &DatagramKey,
) -> [u8; REGISTRATION] {
    compose(ENTERED, challenge, number, seen_at.map_or([0; 18], bytes_of), key)
}

/// A registration.
pub(crate) fn register(session: u64, number: u64, key: &DatagramKey) -> [u8; REGISTRATION] {
    compose(REGISTER, session, number, [0; 18], key)
}

/// The answer to a registration that came from `seen_at`.
pub(crate) fn registered(
    session: u64,
    number: u64,
    seen_at: SocketAddr,
    key: &DatagramKey,
) -> [u8; REGISTRATION] {
    compose(REGISTERED, session, number, bytes_of(seen_at), key)
}

fn bytes_of(place: SocketAddr) -> [u8; 18] {
    let address = match place.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&address.octets());
    bytes[16..].copy_from_slice(&place.port().to_be_bytes());
    bytes
}

fn compose(kind: u8, session: u64, number: u64, place: [u8; 18], key: &DatagramKey) -> [u8; REGISTRATION] {
    let mut bytes = [0; REGISTRATION];
    bytes[0] = kind;
    bytes[1..9].copy_from_slice(&session.to_be_bytes());
    bytes[9..17].copy_from_slice(&number.to_be_bytes());
    bytes[17..TAGGED].copy_from_slice(&place);
    let tag = key.tag(&bytes[..TAGGED]);
    bytes[TAGGED..].copy_from_slice(&tag.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use link::DatagramSession;
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> DatagramKey {
        DatagramSession { id: 0, key: [byte; 32] }.datagram_key()
    }

    /// Arbitrary bytes, and more often than chance would have it such as begin like something.
    pub(crate) fn datagrams() -> impl Strategy<Value = Vec<u8>> {
        let any_length = proptest::collection::vec(any::<u8>(), 0..80);
        let registration = proptest::collection::vec(any::<u8>(), REGISTRATION - 1..=REGISTRATION + 1);
        let entry = proptest::collection::vec(any::<u8>(), ENTRY - 1..=ENTRY + 1);
        let kinds = [REGISTER, REGISTERED, ENTER, ENTERED, FORWARD];
        (prop_oneof![any_length, registration, entry], proptest::sample::select(kinds.to_vec())).prop_map(
            |(mut bytes, kind)| {
                if let Some(first) = bytes.first_mut() {
                    *first = kind;
                }
                bytes
            },
        )
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused_and_no_registration_is_believed(bytes in datagrams()) {
            match Request::parse(&bytes) {
                Some(Request::Register(registration)) => prop_assert!(!registration.holds(&key(1))),
                Some(Request::Enter(entry)) => prop_assert!(!entry.holds(&key(1))),
                Some(Request::Forward { .. }) | None => {}
            }
            if let Some(answer) = Registration::parse_answer(&bytes) {
                prop_assert!(!answer.holds(&key(1)));
                answer.seen_at();
            }
        }

        #[test]
        fn an_answer_tells_where_and_holds_until_a_bit_is_changed(
            session: u64, number: u64, address in 1_u128.., port: u16, bit in 8..REGISTRATION * 8,
        ) {
            let place = SocketAddr::new(std::net::Ipv6Addr::from(address).into(), port);
            let mut bytes = registered(session, number, place, &key(1));
            let answer = Registration::parse_answer(&bytes).expect("an answer");
            prop_assert_eq!((answer.session, answer.number), (session, number));
            prop_assert_eq!(answer.seen_at(), Some(SocketAddr::new(place.ip().to_canonical(), port)));
            prop_assert!(answer.holds(&key(1)) && !answer.holds(&key(2)));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!Registration::parse_answer(&bytes).expect("the same kind").holds(&key(1)));
        }
    }

    proptest! {
        #[test]
        fn an_entry_names_cluster_and_mailbox_and_holds_until_a_bit_is_changed(
            cluster: u128, mailbox: [u8; 16], challenge: u64, number: u64, bit in 8..ENTRY * 8,
        ) {
            let cluster = ClusterId::new(Uuid::from_u128(cluster));
            let mut bytes = enter(cluster, Destination(mailbox), challenge, number, &key(1));
            let Some(Request::Enter(entry)) = Request::parse(&bytes) else { panic!("an entry") };
            prop_assert_eq!((entry.cluster, entry.mailbox), (cluster, Destination(mailbox)));
            prop_assert_eq!((entry.challenge, entry.number), (challenge, number));
            prop_assert!(entry.holds(&key(1)) && !entry.holds(&key(2)));
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Some(Request::Enter(altered)) = Request::parse(&bytes) else { panic!("the same kind") };
            prop_assert!(!altered.holds(&key(1)));
        }
    }

    #[test]
    fn an_answer_to_one_that_does_not_count_tells_the_challenge_and_no_place() {
        let bytes = entered(5, 6, None, &key(1));
        let answer = Registration::parse_answer(&bytes).expect("an answer");
        assert_eq!((answer.session, answer.number, answer.seen_at()), (5, 6, None));
        assert!(answer.holds(&key(1)) && bytes.len() < ENTRY);
    }

    #[test]
    fn an_answer_sent_back_is_no_registration() {
        let mut bytes = registered(1, 2, ([192, 0, 2, 1], 3).into(), &key(1));
        assert_eq!(Request::parse(&bytes), None);
        bytes[0] = REGISTER;
        let Some(Request::Register(forged)) = Request::parse(&bytes) else { panic!("a registration") };
        assert!(!forged.holds(&key(1)));
    }

    #[test]
    fn only_messages_of_wireguard_are_passed_on() {
        let parsed = |message: &[u8]| {
            let datagram = [&forward_prefix(Destination([7; 16])), message].concat();
            Request::parse(&datagram).is_some()
        };
        let message = |length| {
            let mut message = vec![0; length];
            message[0] = 4;
            message
        };
        assert!(parsed(&message(32)) && parsed(&message(1500)));
        assert!(!parsed(&message(31)) && !parsed(&message(1501)) && !parsed(&[]));
        for beginning in [[0, 0, 0, 0], [5, 0, 0, 0], [4, 0, 0, 1], [FORWARDED, 4, 0, 0]] {
            let mut other = message(40);
            other[..4].copy_from_slice(&beginning);
            assert!(!parsed(&other), "{beginning:?}");
        }
    }
}
