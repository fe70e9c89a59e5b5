//! The bytes of beats and asks. Their layout is in `mod.rs`.

use model::Load;

use crate::DatagramKey;

/// The length of every datagram.
pub(super) const LENGTH: usize = 24;
const TAGGED: usize = 16;
/// A percentage is told in hundredths.
const HUNDREDTHS: f32 = 100.0;

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
    /// In hundredths of a percent: processor, memory.
    load: [u16; 2],
    tag: u64,
}

impl Claim {
    /// `None` for whatever has another length.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        let (session, rest) = bytes.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (cpu, rest) = rest.split_first_chunk()?;
        let (memory, tag) = rest.split_first_chunk()?;
        Some(Self {
            session: u64::from_be_bytes(*session),
            number: u32::from_be_bytes(*number),
            load: [cpu, memory].map(|hundredths| u16::from_be_bytes(*hundredths)),
            tag: u64::from_be_bytes(tag.try_into().ok()?),
        })
    }

    /// Whether whoever has the key made it.
    pub(super) fn holds(&self, kind: Kind, key: &DatagramKey) -> bool {
        key.holds(&tagged(kind, self.session, self.number, self.load), self.tag)
    }

    /// Never above 100 %, whatever was sent.
    pub(super) fn load(&self) -> Load {
        let [cpu_percent, memory_percent] =
            self.load.map(|hundredths| (f32::from(hundredths) / HUNDREDTHS).min(100.0));
        Load { cpu_percent, memory_percent }
    }
}

/// The bytes to send.
pub(super) fn compose(kind: Kind, session: u64, number: u32, load: Load, key: &DatagramKey) -> [u8; LENGTH] {
    let load = [load.cpu_percent, load.memory_percent].map(hundredths);
    let tagged = tagged(kind, session, number, load);
    let mut bytes = [0; LENGTH];
    bytes[..TAGGED].copy_from_slice(&tagged[1..]);
    bytes[TAGGED..].copy_from_slice(&key.tag(&tagged).to_be_bytes());
    bytes
}

/// What is no percentage is told as the nearest there is.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what it holds")]
fn hundredths(percent: f32) -> u16 {
    (percent.clamp(0.0, 100.0) * HUNDREDTHS) as u16
}

fn tagged(kind: Kind, session: u64, number: u32, load: [u16; 2]) -> [u8; 1 + TAGGED] {
    let mut tagged = [0; 1 + TAGGED];
    tagged[0] = match kind {
        Kind::Beat => b'b',
        Kind::Ask => b'a',
    };
    tagged[1..9].copy_from_slice(&session.to_be_bytes());
    tagged[9..13].copy_from_slice(&number.to_be_bytes());
    tagged[13..15].copy_from_slice(&load[0].to_be_bytes());
    tagged[15..].copy_from_slice(&load[1].to_be_bytes());
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
            session: u64, number: u32, cpu in 0_u8..=100, memory in 0_u8..=100, bit in 0..LENGTH * 8,
        ) {
            let load = Load { cpu_percent: cpu.into(), memory_percent: memory.into() };
            let mut bytes = compose(Kind::Beat, session, number, load, &key(1));
            let claim = Claim::parse(&bytes).expect("the right length");
            prop_assert_eq!((claim.session, claim.number, claim.load()), (session, number, load));
            prop_assert!(claim.holds(Kind::Beat, &key(1)));
            prop_assert!(!claim.holds(Kind::Ask, &key(1)), "a beat sent back is no ask");
            prop_assert!(!claim.holds(Kind::Beat, &key(2)));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!Claim::parse(&bytes).expect("the same length").holds(Kind::Beat, &key(1)));
        }
    }
    #[test]
    fn what_is_no_percentage_is_told_and_taken_as_one() {
        let told = |cpu_percent| {
            let load = Load { cpu_percent, memory_percent: 0.0 };
            Claim::parse(&compose(Kind::Beat, 1, 2, load, &key(1)))
                .expect("the right length")
                .load()
                .cpu_percent
        };
        assert_eq!([-1.0, 250.0, f32::NAN, 12.34].map(told), [0.0, 100.0, 0.0, 12.34]);
        let mut bytes = compose(Kind::Beat, 1, 2, Load::default(), &key(1));
        bytes[12..16].fill(0xff);
        let load = Claim::parse(&bytes).expect("the right length").load();
        assert_eq!(load, Load { cpu_percent: 100.0, memory_percent: 100.0 });
    }
}
