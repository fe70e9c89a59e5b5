//! Samples of one quantity, and how two quantities are sampled fairly against each other.

use std::time::{Duration, Instant};

/// Measured values, in order of size.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// At least one value is expected.
    pub(crate) fn new(mut values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "there is nothing to say about no samples");
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len() % 2 == 1 { self.0[middle] } else { f64::midpoint(self.0[middle - 1], self.0[middle]) }
    }

    pub(crate) fn least(&self) -> f64 {
        self.0[0]
    }

    /// The smallest value that at least 95 of 100 samples do not exceed.
    pub(crate) fn p95(&self) -> f64 {
        self.percentile(95)
    }

    /// The smallest value that at least 99 of 100 samples do not exceed.
    pub(crate) fn p99(&self) -> f64 {
        self.percentile(99)
    }

    fn percentile(&self, percent: usize) -> f64 {
        self.0[(self.0.len() * percent).div_ceil(100) - 1]
    }
}

/// Nanoseconds per call of `ours` and of `peer`, each sampled `2 * rounds` times over `calls` calls.
///
/// Interleaved ABBA, so that a machine that grows slower or faster meets both alike.
pub(crate) fn compare(
    rounds: usize,
    calls: usize,
    mut ours: impl FnMut(),
    mut peer: impl FnMut(),
) -> (Samples, Samples) {
    let (mut our_times, mut peer_times) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        our_times.push(time(calls, &mut ours));
        peer_times.push(time(calls, &mut peer));
        peer_times.push(time(calls, &mut peer));
        our_times.push(time(calls, &mut ours));
    }
    let per_call = |times: Vec<Duration>| {
        Samples::new(times.into_iter().map(|time| time.as_secs_f64() * 1e9 / calls as f64).collect())
    };
    (per_call(our_times), per_call(peer_times))
}

/// The order in which several sides are sampled, each twice a round: forth and back (ABCCBA).
pub(crate) fn interleaved<T: Copy>(sides: &[T], rounds: usize) -> impl Iterator<Item = T> {
    (0..rounds).flat_map(|_| sides.iter().chain(sides.iter().rev()).copied())
}

fn time(calls: usize, call: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..calls {
        call();
    }
    start.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_two() {
        assert_eq!(Samples::new(vec![9.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(Samples::new(vec![9.0, 1.0, 2.0, 4.0]).median(), 3.0);
    }

    #[test]
    fn five_of_a_hundred_exceed_the_p95() {
        let samples = Samples::new((1..=100).rev().map(f64::from).collect());
        assert_eq!((samples.p95(), samples.p99(), samples.count()), (95.0, 99.0, 100));
        assert_eq!(Samples::new(vec![7.0]).p95(), 7.0);
    }

    #[test]
    fn sides_are_sampled_forth_and_back() {
        assert_eq!(interleaved(&['a', 'b', 'c'], 2).collect::<String>(), "abccbaabccba");
    }

    #[test]
    fn both_sides_of_a_comparison_are_called_equally_often_and_interleaved() {
        let order = std::cell::RefCell::new(String::new());
        let note = |side: char| order.borrow_mut().push(side);
        let (ours, peer) = compare(2, 1, || note('a'), || note('b'));
        assert_eq!(order.into_inner(), "abbaabba");
        assert_eq!((ours.count(), peer.count()), (4, 4));
    }
}
