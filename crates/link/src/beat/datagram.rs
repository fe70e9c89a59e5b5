//! The bytes of beats and asks. Their layout is in `mod.rs`.

use crate::DatagramKey;

/// The length of every datagram.
pub(super) const LENGTH: usize = 20;
const TAGGED: usize = 12;

/// Which way a datagram goes, so that one cannot be sent back as the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// From child to parent.
    Beat,
    /// From parent to child.
    Ask,
}

/// A datagram of the right length, nothing of it checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) session: u64,
    pub(super) number: u32,
    tag: u64,
}

impl Claim {
    /// `None` for whatever has another length.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        let (session, rest) = bytes.split_first_chunk()?;
        let (number, tag) = rest.split_first_chunk()?;
        Some(Self {
            session: u64::from_be_bytes(*session),
            number: u32::from_be_bytes(*number),
            tag: u64::from_be_bytes(tag.try_into().ok()?),
        })
    }

    /// Whether whoever has the key made it.
    pub(super) fn holds(&self, kind: Kind, key: &DatagramKey) -> bool {
        key.holds(&tagged(kind, self.session, self.number), self.tag)
    }
}

/// The bytes to send.
pub(super) fn compose(kind: Kind, session: u64, number: u32, key: &DatagramKey) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..8].copy_from_slice(&session.to_be_bytes());
    bytes[8..TAGGED].copy_from_slice(&number.to_be_bytes());
    bytes[TAGGED..].copy_from_slice(&key.tag(&tagged(kind, session, number)).to_be_bytes());
    bytes
}

fn tagged(kind: Kind, session: u64, number: u32) -> [u8; 1 + TAGGED] {
    let mut tagged = [0; 1 + TAGGED];
    tagged[0] = match kind {
        Kind::Beat => b'b',
        Kind::Ask => b'a',
    };
    tagged[1..9].copy_from_slice(&session.to_be_bytes());
    tagged[9..].copy_from_slice(&number.to_be_bytes());
    tagged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::DatagramSession;

    fn key(byte: u8) -> DatagramKey {
        DatagramSession { id: 0, key: [byte; 32] }.datagram_key()
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused_and_none_is_believed(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let claim = Claim::parse(&bytes);
            prop_assert_eq!(claim.is_some(), bytes.len() == LENGTH);
            prop_assert!(!claim.is_some_and(|claim| claim.holds(Kind::Beat, &key(1))));
        }

        #[test]
        fn a_datagram_holds_as_it_was_made_and_not_with_any_bit_changed(
            session: u64, number: u32, bit in 0..LENGTH * 8,
        ) {
            let mut bytes = compose(Kind::Beat, session, number, &key(1));
            let claim = Claim::parse(&bytes).expect("the right length");
            prop_assert_eq!((claim.session, claim.number), (session, number));
            prop_assert!(claim.holds(Kind::Beat, &key(1)));
            prop_assert!(!claim.holds(Kind::Ask, &key(1)), "a beat sent back is no ask");
            prop_assert!(!claim.holds(Kind::Beat, &key(2)));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!Claim::parse(&bytes).expect("the same length").holds(Kind::Beat, &key(1)));
        }
    }
}
