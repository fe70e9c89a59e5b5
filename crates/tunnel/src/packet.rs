//! What can be read off a datagram or an IP packet before, or without, any cryptography.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How a message begins that carries a packet.
const DATA: [u8; 4] = [4, 0, 0, 0];
const DATA_HEADER: usize = 16;
const TAG: usize = 16;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// Whether a datagram can only be WireGuard's: a type of 1 to 4, then three zero bytes. Everything else that is not
/// empty is somebody's aside.
pub(crate) fn is_wireguard(datagram: &[u8]) -> bool {
    matches!(datagram, [1..=4, 0, 0, 0, ..])
}

/// What a message that carries a packet says in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DataHeader {
    /// The session of the receiver that it is for.
    pub(crate) receiver: u32,
    /// Its number in that session.
    pub(crate) counter: u64,
}

impl DataHeader {
    /// `None` if the message is of another kind, or too short.
    pub(crate) fn read(message: &[u8]) -> Option<Self> {
        let (header, _sealed) = message.split_first_chunk::<DATA_HEADER>()?;
        if header[..4] != DATA || message.len() < DATA_HEADER + TAG {
            return None;
        }
        let receiver = u32::from_le_bytes(header[4..8].try_into().expect("four bytes"));
        let counter = u64::from_le_bytes(header[8..].try_into().expect("eight bytes"));
        Some(Self { receiver, counter })
    }
}

/// Where the packet goes, if it has a whole header of IPv4 or IPv6.
pub(crate) fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 if packet.len() >= IPV4_HEADER => Some(v4(packet, 16)),
        6 if packet.len() >= IPV6_HEADER => Some(v6(packet, 24)),
        _ => None,
    }
}

/// Where the packet says it is from, if all of its header is there and fits within the length that it tells.
/// `packet` ends where the header says that it ends.
pub(crate) fn source(packet: &[u8]) -> Option<IpAddr> {
    let first = *packet.first()?;
    match first >> 4 {
        4 => {
            let header = usize::from(first & 0x0f) * 4;
            (header >= IPV4_HEADER && packet.len() >= header).then(|| v4(packet, 12))
        }
        6 => (packet.len() >= IPV6_HEADER).then(|| v6(packet, 8)),
        _ => None,
    }
}

/// `packet` is at least four bytes longer than `at`.
fn v4(packet: &[u8], at: usize) -> IpAddr {
    let bytes: [u8; 4] = packet[at..at + 4].try_into().expect("four bytes");
    Ipv4Addr::from(bytes).into()
}

/// `packet` is at least sixteen bytes longer than `at`.
fn v6(packet: &[u8], at: usize) -> IpAddr {
    let bytes: [u8; 16] = packet[at..at + 16].try_into().expect("sixteen bytes");
    Ipv6Addr::from(bytes).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_a_known_type_and_three_zeros_are_of_wireguard() {
        assert!(is_wireguard(&[1, 0, 0, 0]));
        assert!(is_wireguard(&[4, 0, 0, 0, 9]));
        for other in [&[][..], &[1], &[1, 0, 0], &[0, 0, 0, 0], &[5, 0, 0, 0], &[1, 0, 1, 0]] {
            assert!(!is_wireguard(other), "{other:?}");
        }
    }

    #[test]
    fn a_message_that_carries_a_packet_names_its_session_and_number() {
        let mut message = [0; 32];
        message[..9].copy_from_slice(&[4, 0, 0, 0, 1, 2, 0, 0, 7]);
        assert_eq!(DataHeader::read(&message), Some(DataHeader { receiver: 513, counter: 7 }));
        assert_eq!(DataHeader::read(&message[..31]), None);
        message[0] = 1;
        assert_eq!(DataHeader::read(&message), None);
    }

    #[test]
    fn addresses_are_read_from_both_kinds_of_header() {
        let mut packet = [0; 20];
        packet[0] = 0x45;
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        assert_eq!(source(&packet), Some(Ipv4Addr::new(10, 0, 0, 1).into()));
        assert_eq!(destination(&packet), Some(Ipv4Addr::new(10, 0, 0, 2).into()));
        let mut packet = [0; 40];
        packet[0] = 0x60;
        packet[23] = 1;
        packet[39] = 2;
        assert_eq!(source(&packet), Some(Ipv6Addr::from(1).into()));
        assert_eq!(destination(&packet), Some(Ipv6Addr::from(2).into()));
    }

    #[test]
    fn a_header_that_is_cut_has_no_source() {
        assert_eq!(source(&[0x45; 19]), None);
        assert_eq!(source(&[0x44; 20]), None, "a header of 16 bytes");
        assert_eq!(source(&[0x4f; 59]), None, "a header of 60 bytes");
        assert_eq!(source(&[0x60; 39]), None);
        assert_eq!(source(&[0x50; 60]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            is_wireguard(&bytes);
            prop_assert!(DataHeader::read(&bytes).is_none() || is_wireguard(&bytes));
            prop_assert_eq!(source(&bytes).is_some() && destination(&bytes).is_none(), false);
        }
    }
}
