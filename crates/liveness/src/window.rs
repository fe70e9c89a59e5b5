//! Which of the last beats came: for measuring loss here, and against replays in `crates/link`.

/// The spans that loss is estimated over. The short ones notice a link that has just become lossy, the longest forgets
/// within two minutes.
const SPANS: [u32; 4] = [16, 32, 64, Window::LENGTH];
const MILLION: u64 = 1_000_000;

/// The last 128 sequence numbers up to the highest that came. Numbers of one session begin at 0 and grow by one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// The number after the highest that came; 0 before the first.
    next: u64,
    /// Bit `i` says whether number `next - 1 - i` came.
    came: u128,
}

/// What a sequence number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Higher than all before.
    Newest {
        /// How many between it and the highest before have not come.
        missed: u64,
    },
    /// Lower than the highest, and it had not come yet.
    Late,
    /// It came before, or it is so old that this cannot be told. Nothing follows from it.
    Repeated,
}

impl Window {
    /// Nothing came yet.
    pub const EMPTY: Self = Self { next: 0, came: 0 };
    /// How many numbers are remembered.
    pub const LENGTH: u32 = u128::BITS;

    /// What `sequence` would be, without noting it.
    #[must_use]
    pub fn judge(&self, sequence: u64) -> Arrival {
        match sequence.checked_sub(self.next) {
            Some(missed) => Arrival::Newest { missed },
            None => match self.bit(sequence) {
                Some(bit) if self.came & bit == 0 => Arrival::Late,
                Some(_) | None => Arrival::Repeated,
            },
        }
    }

    /// Notes that `sequence` came.
    pub fn record(&mut self, sequence: u64) -> Arrival {
        let arrival = self.judge(sequence);
        match arrival {
            Arrival::Newest { missed } => {
                let shift = u32::try_from(missed).ok().and_then(|missed| missed.checked_add(1));
                self.came = shift.and_then(|shift| self.came.checked_shl(shift)).unwrap_or(0) | 1;
                self.next = sequence.saturating_add(1);
            }
            Arrival::Late => self.came |= self.bit(sequence).unwrap_or(0),
            Arrival::Repeated => {}
        }
        arrival
    }

    fn bit(&self, sequence: u64) -> Option<u128> {
        let age = self.next.checked_sub(sequence)?.checked_sub(1)?;
        1u128.checked_shl(u32::try_from(age).ok()?)
    }

    /// How many of the last numbers it knows about, at most [`Window::LENGTH`].
    #[must_use]
    pub fn known(&self) -> u32 {
        u32::try_from(self.next).unwrap_or(u32::MAX).min(Self::LENGTH)
    }

    /// How many of those have not come.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.lost_of(self.known())
    }

    fn lost_of(&self, last: u32) -> u32 {
        let mask = if last >= Self::LENGTH { u128::MAX } else { (1 << last) - 1 };
        (!self.came & mask).count_ones()
    }

    /// The share that is lost, in millionths, as high as it may well be: the estimate over each span and one standard
    /// deviation more, of which the worst. 0 when nothing is known to be lost.
    #[must_use]
    pub fn cautious_loss_per_million(&self) -> u64 {
        let known = self.known();
        let cautious = |last: u32| match u64::from(self.lost_of(last)) {
            0 => 0,
            lost => {
                let count = u64::from(last) + 1;
                let share = (2 * lost + 1) * MILLION / (2 * count);
                share + (share * MILLION.saturating_sub(share) / count).isqrt()
            }
        };
        SPANS.into_iter().map(|span| cautious(span.min(known))).max().unwrap_or(0).min(MILLION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(sequences: impl IntoIterator<Item = u64>) -> Window {
        let mut window = Window::default();
        for sequence in sequences {
            window.record(sequence);
        }
        window
    }

    #[test]
    fn gaps_count_as_lost_until_they_are_filled() {
        let mut window = window([0, 1, 4]);
        assert_eq!((window.known(), window.lost()), (5, 2));
        assert_eq!(window.record(3), Arrival::Late);
        assert_eq!(window.record(3), Arrival::Repeated);
        assert_eq!((window.known(), window.lost()), (5, 1));
    }

    #[test]
    fn beats_before_the_first_that_came_are_lost() {
        let mut window = Window::default();
        assert_eq!(window.record(3), Arrival::Newest { missed: 3 });
        assert_eq!((window.known(), window.lost()), (4, 3));
    }

    #[test]
    fn what_is_too_old_to_tell_counts_as_repeated() {
        let window = window([0, 500]);
        assert_eq!(window.judge(500 - 127), Arrival::Late);
        assert_eq!(window.judge(500 - 128), Arrival::Repeated);
        assert_eq!(window.judge(0), Arrival::Repeated);
    }

    #[test]
    fn any_leap_is_borne() {
        for leap in [126, 127, 128, 129, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut window = window([0]);
            assert_eq!(window.record(leap), Arrival::Newest { missed: leap - 1 });
            assert_eq!(
                window.lost(),
                if leap == 126 { 125 } else { window.known() - if leap == 127 { 2 } else { 1 } }
            );
            let _ = window.record(leap);
        }
    }

    #[test]
    fn the_estimate_lies_above_the_share_and_forgets_the_past() {
        assert_eq!(window(0..200).cautious_loss_per_million(), 0);
        let third = window((0..300).filter(|sequence| sequence % 3 != 0));
        assert!((340_000..500_000).contains(&third.cautious_loss_per_million()));
        let mut cleared = third;
        for sequence in 300..300 + 128 {
            cleared.record(sequence);
        }
        assert_eq!(cleared.cautious_loss_per_million(), 0);
    }

    #[test]
    fn a_link_that_has_just_become_lossy_is_not_averaged_away() {
        let sudden = window((0..128).chain((128..138).filter(|sequence| sequence % 2 == 0)));
        assert!(sudden.cautious_loss_per_million() > 250_000, "{}", sudden.cautious_loss_per_million());
    }
}
