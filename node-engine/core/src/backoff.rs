//! How long to wait before something is tried again.

use model::InstanceId;

/// No wait is longer: a person who mended the cause should not wait much more than a minute.
pub const LONGEST_DELAY_MILLIS: u64 = 60_000;

/// An instance that was ready this long without a break is steady: its next end counts as its first. Long enough that
/// one which works for a few minutes and then ends, again and again, is not started at once each time.
pub const STEADY_AFTER_MILLIS: u64 = 600_000;

/// How soon an instance is begun again whose container's name is still taken. The engine takes a fraction of a second to
/// make or remove a container.
pub(crate) const NAME_RETRY_MILLIS: u64 = 50;

/// For how long that is no failure.
pub(crate) const NAME_PATIENCE_MILLIS: u64 = 1000;

/// The wait before attempt `attempts` (0 is the first): none, then 1 s doubling up to 60 s. Up to a fifth is
/// taken off by `seed`, so that many instances that failed together do not return together.
pub(crate) fn delay_millis(attempts: u32, seed: u64) -> u64 {
    let Some(doublings) = attempts.checked_sub(1) else { return 0 };
    let full =
        1000_u64.checked_shl(doublings.min(16)).unwrap_or(LONGEST_DELAY_MILLIS).min(LONGEST_DELAY_MILLIS);
    full - scatter(seed.wrapping_add(u64::from(attempts))) % (full / 5)
}

/// A seed that differs between instances and stays the same for one.
pub(crate) fn seed_of(instance: InstanceId) -> u64 {
    instance
        .service
        .to_string()
        .bytes()
        .fold(u64::from(instance.number), |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

/// The finaliser of SplitMix64: neighbouring seeds give unrelated numbers.
fn scatter(seed: u64) -> u64 {
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempt_is_at_once_and_later_ones_double_up_to_a_minute() {
        for seed in 0..100 {
            assert_eq!(delay_millis(0, seed), 0);
            for (attempts, full) in
                [(1, 1000), (2, 2000), (3, 4000), (6, 32_000), (7, 60_000), (4_000_000, 60_000)]
            {
                let delay = delay_millis(attempts, seed);
                assert!(delay <= full && delay > full * 4 / 5 - 1, "attempt {attempts} waits {delay} ms");
            }
        }
    }
}
