//! How far other devices are, by the time an echo takes there and back, and which of them count as closest. The echoes are
//! sent by `net-manager/src/datapath/kernel/echo.rs`.
//!
//! ```text
//!   rounds of echoes ──take──► what counts for each device ──closest──► where the closest address of a service leads
//! ```
//!
//! What counts for a device changes seldom: what it is like in this moment and what it is like on the whole must both differ
//! from it, three times in a row. All decisions follow from what counts alone, so none of them changes oftener.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use model::{Moment, WorkerId};

use crate::{Carrier, Family};

/// From round to round of echoes to one device, in milliseconds.
const INTERVAL: u64 = 15_000;
/// The same while little is known of it, or while it seems to have fallen silent.
const SHORT_INTERVAL: u64 = 2_000;
/// So many rounds make a mean to rely on; later ones weigh one in so many. Under 20 % of noise it is right to 3 %.
const RELIABLE: u32 = 8;
/// A difference must last for so many rounds.
const LASTING: u32 = 3;
/// A difference, as a part of what counts, in percent, and at least, in microseconds.
const DIFFERENT: (u32, u32) = (15, 1_000);
/// Devices that are farther than the closest by no more than this are as close as it; as above.
const AS_CLOSE: (u32, u32) = (10, 500);
/// After so many rounds without any answer a device is silent.
const MISSES: u32 = 3;
/// So many rounds begin together, and more only some milliseconds later: a device with a thousand others to measure sends no
/// burst.
const TOGETHER: usize = 16;
const PAUSE: u64 = 100;

/// How long an echo takes to a device and back, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoundTrip(pub u32);

impl RoundTrip {
    /// A part of it in percent, and at least so many microseconds.
    fn share(self, (percent, at_least): (u32, u32)) -> u32 {
        let part = u64::from(self.0) * u64::from(percent) / 100;
        u32::try_from(part).unwrap_or(u32::MAX).max(at_least)
    }

    fn as_close(self) -> Self {
        Self(self.0.saturating_add(self.share(AS_CLOSE)))
    }

    /// How `other` compares to it; `Equal` when it is not different enough.
    fn compare(self, other: Self) -> Ordering {
        if self.0.abs_diff(other.0) < self.share(DIFFERENT) { Ordering::Equal } else { other.cmp(&self) }
    }

    /// A step of one part in `parts` towards `other`.
    fn towards(self, other: Self, parts: u32) -> Self {
        let step = other.0.abs_diff(self.0) / parts;
        Self(if other > self { self.0 + step } else { self.0 - step })
    }
}

/// What counts for a device, the closest first. All that are not measured are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// So far.
    Measured(RoundTrip),
    /// Nobody knows yet.
    Unmeasured,
    /// It does not answer.
    Silent,
}

impl Nearness {
    /// The farthest that is as close as this.
    fn as_close(self) -> Self {
        match self {
            Self::Measured(round_trip) => Self::Measured(round_trip.as_close()),
            Self::Unmeasured | Self::Silent => self,
        }
    }
}

/// A round of echoes to another device: whom to ask, and over which link. An answer counts only if it comes by that link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    /// This device.
    pub from: Ipv6Addr,
    /// The other one.
    pub to: Ipv6Addr,
    /// The link.
    pub over: EchoOver,
}

/// Which link to another device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EchoOver {
    /// The direct link that goes over this version of IP.
    Direct(Family),
    /// The encrypted one, as it is carried now.
    Encrypted(Carrier),
}

/// How far the devices are that anybody wants to know it of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Distances {
    devices: BTreeMap<WorkerId, Distance>,
    /// No round begins before.
    pause: Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Distance {
    counts: Nearness,
    /// The mean of the first rounds, which later ones move.
    mean: RoundTrip,
    /// How many there were since it began to count.
    rounds: u32,
    /// How many of the last differed from what counts, as the mean did.
    different: u32,
    /// How many of the last had no answer.
    misses: u32,
    due: Moment,
}

impl Distances {
    /// These are the devices to measure. A new one is due at once.
    pub(crate) fn want(&mut self, wanted: &BTreeSet<WorkerId>) {
        self.devices.retain(|worker, _| wanted.contains(worker));
        for worker in wanted {
            self.devices.entry(*worker).or_insert(Distance::UNKNOWN);
        }
    }

    pub(crate) fn of(&self, worker: WorkerId) -> Nearness {
        self.devices.get(&worker).map_or(Nearness::Unmeasured, |distance| distance.counts)
    }

    /// When the next round is to begin.
    pub(crate) fn due(&self) -> Option<Moment> {
        self.devices.values().map(|distance| distance.due.max(self.pause)).min()
    }

    /// Whom to ask now. One whose round is lost is asked again after the usual time.
    pub(crate) fn begin(&mut self, now: Moment) -> Vec<WorkerId> {
        if self.due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        let due = self.devices.iter().filter(|(_, distance)| distance.due <= now);
        let mut due: Vec<(Moment, WorkerId)> =
            due.map(|(worker, distance)| (distance.due, *worker)).collect();
        due.sort_unstable();
        due.truncate(TOGETHER);
        for (_, worker) in &due {
            if let Some(distance) = self.devices.get_mut(worker) {
                distance.due = now.plus_millis(INTERVAL);
            }
        }
        self.pause = now.plus_millis(PAUSE);
        due.into_iter().map(|(_, worker)| worker).collect()
    }

    /// The shortest answer of a round, or that there was none. Says whether something else counts from now on.
    pub(crate) fn take(&mut self, worker: WorkerId, answer: Option<RoundTrip>, now: Moment) -> bool {
        // Nobody wants to know any more.
        let Some(distance) = self.devices.get_mut(&worker) else { return false };
        let before = distance.counts;
        match answer {
            Some(round) => distance.take(round),
            None => distance.miss(),
        }
        distance.due = now.plus_millis(distance.interval());
        before != distance.counts
    }

    /// Those that are on the closest devices.
    pub(crate) fn closest<T: Copy>(&self, all: &[(WorkerId, T)]) -> Vec<T> {
        let Some(best) = all.iter().map(|(worker, _)| self.of(*worker)).min() else { return Vec::new() };
        let farthest = best.as_close();
        all.iter().filter(|(worker, _)| self.of(*worker) <= farthest).map(|(_, one)| *one).collect()
    }
}

impl Distance {
    const UNKNOWN: Self = Self {
        counts: Nearness::Unmeasured,
        mean: RoundTrip(0),
        rounds: 0,
        different: 0,
        misses: 0,
        due: Moment(0),
    };

    fn take(&mut self, round: RoundTrip) {
        self.misses = 0;
        let Nearness::Measured(counts) = self.counts else { return self.begin_anew(round) };
        self.rounds = self.rounds.saturating_add(1);
        self.mean = self.mean.towards(round, self.rounds.min(RELIABLE));
        // A single slow round drags the mean along for a while, and a few chance ones in a row do not move it.
        let differs = counts.compare(round);
        let lasts = differs != Ordering::Equal && differs == counts.compare(self.mean);
        self.different = if lasts { self.different + 1 } else { 0 };
        if self.different == LASTING {
            self.begin_anew(round);
        } else if self.rounds == RELIABLE {
            self.counts = Nearness::Measured(self.mean);
        }
    }

    /// What was before says nothing about what comes.
    fn begin_anew(&mut self, round: RoundTrip) {
        *self = Self { counts: Nearness::Measured(round), mean: round, rounds: 1, ..Self::UNKNOWN };
    }

    fn miss(&mut self) {
        self.misses = self.misses.saturating_add(1);
        if self.misses >= MISSES {
            self.counts = Nearness::Silent;
        }
    }

    fn interval(&self) -> u64 {
        let falls_silent = (1..MISSES).contains(&self.misses);
        let is_new = matches!(self.counts, Nearness::Measured(_)) && self.rounds < RELIABLE;
        if falls_silent || is_new { SHORT_INTERVAL } else { INTERVAL }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn worker(number: u8) -> WorkerId {
        WorkerId::new(uuid::Uuid::from_bytes([number; 16]))
    }

    fn ms(tenths: u32) -> RoundTrip {
        RoundTrip(tenths * 100)
    }

    fn wanting(count: u8) -> Distances {
        let mut distances = Distances::default();
        distances.want(&(0..count).map(worker).collect());
        distances
    }

    /// Rounds of all devices with these answers. Returns which are chosen.
    fn round(distances: &mut Distances, answers: &[Option<RoundTrip>]) -> Vec<u8> {
        for (number, answer) in (0..).zip(answers) {
            distances.take(worker(number), *answer, Moment(0));
        }
        chosen(distances, answers.len())
    }

    fn chosen(distances: &Distances, count: usize) -> Vec<u8> {
        let all: Vec<(WorkerId, u8)> = (0..).take(count).map(|number| (worker(number), number)).collect();
        distances.closest(&all)
    }

    #[test]
    fn those_within_a_tenth_or_half_a_millisecond_of_the_closest_are_as_close() {
        for (far, expected) in [
            ([100, 109, 110, 112], vec![0, 1, 2]),
            ([10, 15, 16, 200], vec![0, 1]),
            ([200, 180, 190, 10_000], vec![1, 2]),
        ] {
            assert_eq!(round(&mut wanting(4), &far.map(|tenths| Some(ms(tenths)))), expected, "{far:?}");
        }
    }

    #[test]
    fn who_is_not_measured_comes_after_who_is_and_who_is_silent_last() {
        let mut distances = wanting(3);
        assert_eq!(chosen(&distances, 3), [0, 1, 2], "nobody knows better");
        for _ in 0..MISSES {
            assert_eq!(chosen(&distances, 3), [0, 1, 2], "it may answer yet");
            distances.take(worker(0), None, Moment(0));
        }
        assert_eq!(chosen(&distances, 3), [1, 2]);
        assert!(distances.take(worker(2), Some(ms(900)), Moment(0)));
        assert_eq!(chosen(&distances, 3), [2]);
        assert_eq!(chosen(&distances, 1), [0], "it is the only one there is");
        assert!(distances.take(worker(0), Some(ms(10)), Moment(0)));
        assert_eq!(chosen(&distances, 3), [0], "it is back");
    }

    #[test]
    fn a_difference_counts_after_three_rounds_in_a_row() {
        let mut distances = wanting(2);
        let (near, far) = (Some(ms(100)), Some(ms(200)));
        for _ in 0..20 {
            assert_eq!(round(&mut distances, &[near, far]), [0]);
        }
        assert_eq!(round(&mut distances, &[Some(ms(9_000)), far]), [0], "one slow round");
        for _ in 0..20 {
            assert_eq!(round(&mut distances, &[near, far]), [0]);
        }
        let slower = Some(ms(500));
        assert_eq!(round(&mut distances, &[slower, far]), [0]);
        assert_eq!(round(&mut distances, &[slower, far]), [0]);
        assert_eq!(round(&mut distances, &[slower, far]), [1]);
    }

    #[test]
    fn a_difference_below_15_percent_or_a_millisecond_never_counts() {
        for (before, after) in [(1_000, 1_149), (1_000, 851), (20, 29), (20, 11)] {
            let mut distances = wanting(1);
            for _ in 0..RELIABLE {
                distances.take(worker(0), Some(ms(before)), Moment(0));
            }
            for _ in 0..100 {
                assert!(!distances.take(worker(0), Some(ms(after)), Moment(0)), "{before} {after}");
            }
        }
    }

    #[test]
    fn the_mean_of_the_first_rounds_counts_from_then_on() {
        let mut distances = wanting(1);
        let counts: Vec<Nearness> = [100, 110, 110, 110, 110, 110, 110, 110, 112, 112]
            .into_iter()
            .map(|tenths| {
                distances.take(worker(0), Some(ms(tenths)), Moment(0));
                distances.of(worker(0))
            })
            .collect();
        assert_eq!(counts[..7], [Nearness::Measured(ms(100)); 7]);
        assert_eq!(counts[7..], [Nearness::Measured(RoundTrip(10_874)); 3]);
    }

    #[test]
    fn rounds_are_short_of_each_other_while_little_is_known_and_begin_a_few_at_a_time() {
        let mut distances = wanting(40);
        let begun: Vec<usize> = [0, 50, 100, 200, 300].map(|now| distances.begin(Moment(now)).len()).to_vec();
        assert_eq!(begun, [16, 0, 16, 8, 0]);
        assert_eq!(distances.due(), Some(Moment(INTERVAL)), "rounds that are lost");

        let mut distances = wanting(1);
        let mut due_after = |answer| {
            distances.take(worker(0), answer, Moment(0));
            distances.due().expect("a device is measured").0
        };
        let misses = [None; 4].map(&mut due_after);
        assert_eq!(misses, [SHORT_INTERVAL, SHORT_INTERVAL, INTERVAL, INTERVAL]);
        let answers = [Some(ms(10)); 9].map(&mut due_after);
        assert_eq!(answers[..7], [SHORT_INTERVAL; 7]);
        assert_eq!(answers[7..], [INTERVAL; 2]);
        assert_eq!(due_after(None), SHORT_INTERVAL, "it seems to fall silent");
    }

    #[test]
    fn nobody_is_measured_whom_nobody_wants_to_know_of() {
        let mut distances = wanting(1);
        distances.take(worker(0), Some(ms(10)), Moment(0));
        distances.want(&BTreeSet::new());
        assert_eq!(distances.due(), None);
        assert!(!distances.take(worker(0), Some(ms(10)), Moment(0)), "a round that was under way");
        assert_eq!(distances.of(worker(0)), Nearness::Unmeasured);
    }

    /// Rounds with noise of up to 20 % in each of three samples.
    struct Noise(u64);

    impl Noise {
        fn round(&mut self, far: u32) -> Option<RoundTrip> {
            let sample = |_| {
                self.0 =
                    self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let permille = 800 + (self.0 >> 33) % 401;
                u32::try_from(u64::from(far) * permille / 1_000).expect("it is short")
            };
            (0..3).map(sample).min().map(RoundTrip)
        }
    }

    proptest! {
        #[test]
        fn noise_does_not_make_it_flap(
            seed in any::<u64>(),
            near in 200_u32..50_000,
            beyond in prop::collection::vec(100_u32..125, 1..4),
        ) {
            let mut noise = Noise(seed);
            let far: Vec<u32> = beyond.iter().map(|percent| near * percent / 100).collect();
            let mut distances = wanting(u8::try_from(far.len()).expect("few"));
            let mut choices = Vec::new();
            for _ in 0..400 {
                let answers: Vec<_> = far.iter().map(|far| noise.round(*far)).collect();
                choices.push(round(&mut distances, &answers));
            }
            choices.drain(..RELIABLE as usize);
            choices.dedup();
            // What counted after the first rounds may be corrected, which is seldom: once in thousands of such runs.
            prop_assert!(choices.len() <= 4, "{:?}", choices);
        }

        #[test]
        fn noise_does_not_make_it_take_a_far_device_for_a_near_one(
            seed in any::<u64>(),
            near in 200_u32..50_000,
            beyond in prop::collection::vec(0_u32..50_000, 0..3),
        ) {
            let mut noise = Noise(seed);
            let far = beyond.iter().map(|beyond| 2 * near + 1_000 + beyond);
            let far: Vec<u32> = far.chain([near, near]).collect();
            let mut distances = wanting(u8::try_from(far.len()).expect("few"));
            for _ in 0..100 {
                let answers: Vec<_> = far.iter().map(|far| noise.round(*far)).collect();
                for number in round(&mut distances, &answers) {
                    prop_assert_eq!(far[usize::from(number)], near);
                }
            }
        }

        #[test]
        fn whatever_is_answered_somebody_is_chosen(
            rounds in prop::collection::vec(prop::collection::vec(prop::option::of(any::<u32>()), 3), 0..50),
        ) {
            let mut distances = wanting(3);
            for answers in rounds {
                let answers: Vec<_> = answers.into_iter().map(|answer| answer.map(RoundTrip)).collect();
                prop_assert!(!round(&mut distances, &answers).is_empty());
            }
        }
    }
}
