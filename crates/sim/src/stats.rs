//! Figures about a simulation; they change nothing in it.

use std::time::{Duration, Instant};

/// Counts, and how long the brains took to decide.
#[derive(Debug, Clone, Default)]
pub struct Statistics {
    /// Everything that happened.
    pub events: u64,
    /// Messages sent, beats included.
    pub messages: u64,
    /// Messages that chance took.
    pub lost: u64,
    /// Faults, apart from those of single messages.
    pub faults: u64,
    /// Wishes answered.
    pub answers: u64,
    /// Starts of containers.
    pub starts: u64,
    /// Containers that ran at the same time, at most.
    pub most_running: u64,
    /// Those that run now.
    pub(crate) running: u64,
    /// Milliseconds from the last fault until everything had come to rest.
    pub rested: u64,
    /// Turns of the root.
    pub root_turns: u64,
    /// Turns of all clusters.
    pub cluster_turns: u64,
    /// Time the root took to take in and decide, if it is measured.
    pub root: Times,
    /// The same of all clusters.
    pub cluster: Times,
    /// Whether the brains are timed; that costs a look at the clock for each turn.
    pub(crate) timed: bool,
}

/// Buckets in which a duration doubles.
const PER_DOUBLING: usize = 8;
/// Up to eighteen minutes.
const BUCKETS: usize = 40 * PER_DOUBLING;

/// Durations, in buckets an eighth of a doubling wide. The mean and the longest of a process that others push aside
/// tell of them too; the median and what lies near it do not.
#[derive(Debug, Clone)]
pub struct Times {
    buckets: [u64; BUCKETS],
    count: u64,
    total: Duration,
    longest: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], count: 0, total: Duration::ZERO, longest: Duration::ZERO }
    }
}

impl Times {
    fn add(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(nanos)] += 1;
        self.count += 1;
        self.total += time;
        self.longest = self.longest.max(time);
    }

    /// The mean; zero when there are none.
    #[must_use]
    pub fn mean(&self) -> Duration {
        self.total / u32::try_from(self.count).unwrap_or(u32::MAX).max(1)
    }

    /// What so many of a thousand did not exceed, to an eighth.
    #[must_use]
    pub fn per_mille(&self, rank: u64) -> Duration {
        let mut left = self.count * rank / 1000;
        for (bucket, count) in self.buckets.iter().enumerate() {
            if *count > left {
                return Duration::from_nanos(end_of(bucket));
            }
            left -= count;
        }
        self.longest
    }

    /// The longest.
    #[must_use]
    pub const fn longest(&self) -> Duration {
        self.longest
    }
}

fn bucket_of(nanos: u64) -> usize {
    let nanos = nanos.max(PER_DOUBLING as u64);
    let doublings = nanos.ilog2();
    // The three bits behind the highest one.
    let part = usize::try_from(nanos >> (doublings - PER_DOUBLING.ilog2())).unwrap_or(0) % PER_DOUBLING;
    (doublings as usize * PER_DOUBLING + part).min(BUCKETS - 1)
}

/// Where the next one begins.
const fn end_of(bucket: usize) -> u64 {
    let (doublings, part) = (bucket / PER_DOUBLING, bucket % PER_DOUBLING);
    let begins = 1_u64 << doublings;
    begins + begins * (part as u64 + 1) / PER_DOUBLING as u64
}

impl Statistics {
    #[expect(clippy::disallowed_methods, reason = "how long the brains take is measured and decides nothing")]
    pub(crate) fn begin(&self) -> Option<Instant> {
        self.timed.then(Instant::now)
    }

    pub(crate) fn root_decided(&mut self, began: Option<Instant>) {
        self.root_turns += 1;
        if let Some(began) = began {
            self.root.add(began.elapsed());
        }
    }

    pub(crate) fn cluster_decided(&mut self, began: Option<Instant>) {
        self.cluster_turns += 1;
        if let Some(began) = began {
            self.cluster.add(began.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_is_told_to_an_eighth() {
        let mut times = Times::default();
        for micros in 1..=1000 {
            times.add(Duration::from_micros(micros));
        }
        for (rank, exact) in [(500, 500.0), (990, 990.0), (10, 10.0)] {
            let told = times.per_mille(rank).as_secs_f64() * 1e6;
            assert!(told >= exact && told <= exact * 1.13 + 1.0, "{rank}: {told} for {exact}");
        }
    }
}
