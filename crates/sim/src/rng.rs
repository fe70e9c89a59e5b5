//! The one source of chance of a simulation: everything follows from the seed.

/// SplitMix64: small, fast and good enough to spread faults; the same on every machine.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A stream of its own, so that one part drawing more does not change what another part draws.
    pub(crate) const fn split(&mut self) -> Self {
        Self(self.next())
    }

    /// From 0 to `bound` - 1; 0 when the bound is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// Between both, inclusive.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// True so many times in a thousand.
    pub(crate) fn per_mille(&mut self, chance: u32) -> bool {
        self.below(1000) < u64::from(chance)
    }

    /// One of them.
    pub(crate) fn pick<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        let index = self.below(u64::try_from(among.len()).unwrap_or(u64::MAX));
        among.get(usize::try_from(index).unwrap_or(usize::MAX))
    }

    /// Between both with every order of magnitude as likely as another: many short ones and some very long ones.
    pub(crate) fn spread(&mut self, least: u64, most: u64) -> u64 {
        let doublings = u64::from((most / least.max(1)).max(1).ilog2());
        let low = least << self.below(doublings + 1);
        self.between(low, (low * 2).min(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_another_seed_does_not() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            [rng.next(), rng.below(1000), rng.between(5, 9), rng.spread(50, 30_000)]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn spread_numbers_keep_to_their_bounds_and_reach_every_magnitude() {
        let mut rng = Rng::new(3);
        let drawn: Vec<u64> = (0..10_000).map(|_| rng.spread(50, 30_000)).collect();
        assert!(drawn.iter().all(|number| (50..=30_000).contains(number)));
        for magnitude in [50..100, 100..1000, 1000..10_000, 10_000..30_001] {
            assert!(drawn.iter().any(|number| magnitude.contains(number)), "{magnitude:?}");
        }
    }
}
