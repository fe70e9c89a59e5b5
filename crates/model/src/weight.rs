//! How many of the new connections to a service's least used address an instance gets. Decided in
//! `cluster-orchestrator/core/src/weights.rs`, carried out in `net-manager/core/src/shares.rs`.

use serde::{Deserialize, Serialize};

/// What an instance has to spare, compared with others of its service: one of twice the weight gets twice the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "u32", into = "u32")]
pub struct Weight(u8);

impl Weight {
    /// That of one that is idle. Coarse, as each step is an entry in the kernel of every device that may call it.
    pub const MOST: Self = Self(8);

    /// The nearest weight there is.
    #[must_use]
    pub fn new(weight: u32) -> Self {
        Self(u8::try_from(weight).unwrap_or(u8::MAX).clamp(1, Self::MOST.0))
    }

    /// From 1 to that of [`Weight::MOST`].
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0 as u32
    }

    /// The greatest number that divides them all: divided by it they compare as before. 1 when there are none.
    #[must_use]
    pub fn common_divisor(weights: impl IntoIterator<Item = Self>) -> u32 {
        weights.into_iter().map(Self::get).reduce(common_divisor).unwrap_or(1)
    }
}

fn common_divisor(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { common_divisor(other, one % other) }
}

/// That of one of which none was told: if all are like it, each gets as many.
impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

impl From<u32> for Weight {
    fn from(weight: u32) -> Self {
        Self::new(weight)
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> Self {
        weight.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_that_nobody_may_have_is_the_nearest() {
        let read = [0, 1, 5, 8, 9, 256, u32::MAX].map(|number| Weight::new(number).get());
        assert_eq!(read, [1, 1, 5, 8, 8, 8, 8]);
        assert_eq!(Weight::default(), Weight::new(0), "none was told");
    }

    #[test]
    fn weights_are_divided_by_what_they_have_in_common() {
        let divisor = |weights: &[u32]| Weight::common_divisor(weights.iter().map(|it| Weight::new(*it)));
        assert_eq!([&[8, 8][..], &[6, 4], &[8, 3], &[5], &[]].map(divisor), [8, 2, 1, 5, 1]);
    }
}
