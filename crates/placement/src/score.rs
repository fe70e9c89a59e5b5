//! Which of the candidates that pass is best: the policy, as a type.

use std::cmp::Reverse;

use model::Resources;

use crate::{Candidate, Request};

/// How good a candidate is for a request; the greater is chosen. Fields in order of importance.
///
/// The policy spreads: copies of a service over places first, then room evenly over candidates. It never ties:
/// ids differ, so the same candidates in any order give the same choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// Fewest copies of the same service, so that one broken device takes one copy with it.
    pub siblings: Reverse<u8>,
    /// Most room: how many times the request fits into what is not reserved, by processor or by memory, whichever
    /// is fewer. On a logarithmic scale with eight steps per doubling: within a step it is a near tie, and what
    /// follows decides.
    pub headroom: u16,
    /// Fewest instances, which spreads those that reserve nothing.
    pub instances: Reverse<u16>,
    /// Least measured load. It lags behind what was just assigned, hence so late.
    pub load_permille: Reverse<u16>,
    /// Smallest id.
    pub id: Reverse<u128>,
}

impl Score {
    /// The score of a candidate, whether or not it passes the filter.
    #[must_use]
    pub fn of(candidate: &Candidate, request: &Request) -> Self {
        Self {
            siblings: Reverse(candidate.siblings),
            headroom: Yardstick::of(&request.resources).headroom(&candidate.free),
            instances: Reverse(candidate.instances),
            load_permille: Reverse(candidate.load_permille),
            id: Reverse(candidate.id),
        }
    }
}

/// A request prepared for measuring how often it fits, without a division per candidate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Yardstick {
    cpu: u64,
    memory: u64,
}

impl Yardstick {
    /// Mantissa bits of an `f32` that [`Self::headroom`] drops: 3 of 23 stay, eight steps per doubling.
    const DROPPED_BITS: u32 = 20;

    pub(crate) fn of(request: &Resources) -> Self {
        // A request for nothing counts as one unit: it always fits, and the emptier place is still the better.
        let reciprocal = |needed: u32| (1 << 31) / u64::from(needed.max(1));
        Self { cpu: reciprocal(request.cpu.0), memory: reciprocal(request.memory.0) }
    }

    /// See [`Score::headroom`]. Grows with `free`, never falls.
    #[inline]
    pub(crate) fn headroom(&self, free: &Resources) -> u16 {
        let by_cpu = u64::from(free.cpu.0) * self.cpu;
        let by_memory = u64::from(free.memory.0) * self.memory;
        // Below 2^63, so the sign stays clear; the bits of a positive float order like the float.
        #[expect(clippy::cast_precision_loss, reason = "the precision is dropped on purpose")]
        #[expect(clippy::cast_possible_wrap, reason = "below 2^63")]
        let logarithmic = (by_cpu.min(by_memory) as i64 as f32).to_bits() >> Self::DROPPED_BITS;
        logarithmic as u16
    }

    /// The fields of [`Score`] before the id, packed so that keys order as scores do. Never zero.
    #[inline]
    pub(crate) fn key(&self, candidate: &Candidate) -> u64 {
        const NEVER_ZERO: u64 = 1 << 63;
        NEVER_ZERO
            | u64::from(!candidate.siblings) << 48
            | u64::from(self.headroom(&candidate.free)) << 32
            | u64::from(!candidate.instances) << 16
            | u64::from(!candidate.load_permille)
    }
}

#[cfg(test)]
mod tests {
    use model::{Mebibytes, Millicores};

    use super::*;

    fn resources(cpu: u32, memory: u32) -> Resources {
        Resources { cpu: Millicores(cpu), memory: Mebibytes(memory), ..Resources::default() }
    }

    fn better(one: Candidate, other: Candidate, request: &Request) -> bool {
        Score::of(&one, request) > Score::of(&other, request)
    }

    const ROOMY: Resources =
        Resources { cpu: Millicores(8000), memory: Mebibytes(8000), storage: Mebibytes(0), gpus: 0 };

    #[test]
    fn copies_of_a_service_go_to_different_places_before_room_counts() {
        let request = Request::new(resources(100, 100), &[]);
        let mut crowded = Candidate::worker(1, ROOMY);
        crowded.set_siblings(1);
        assert!(better(Candidate::worker(2, resources(200, 200)), crowded, &request));
    }

    #[test]
    fn the_scarcer_of_processor_and_memory_is_the_room() {
        let request = Request::new(resources(1000, 100), &[]);
        let little_cpu = Candidate::worker(1, resources(1000, 8000));
        let balanced = Candidate::worker(2, resources(2000, 200));
        assert!(better(balanced, little_cpu, &request));
    }

    #[test]
    fn load_decides_a_near_tie_and_nothing_else() {
        let request = Request::new(resources(100, 100), &[]);
        // 79 and 73 times are within the step from 72 to 80.
        let busy = Candidate::worker(1, resources(7900, 7900)).with_load_percent(90.0);
        let idle_near = Candidate::worker(2, resources(7300, 7300));
        let idle_far = Candidate::worker(3, resources(4000, 4000));
        assert!(better(idle_near, busy, &request));
        assert!(better(busy, idle_far, &request));
    }

    #[test]
    fn instances_that_reserve_nothing_still_spread() {
        let request = Request::default();
        let held = Candidate::worker(1, ROOMY).with_instances(1);
        assert!(better(Candidate::worker(2, ROOMY), held, &request));
    }

    #[test]
    fn equal_candidates_are_told_apart_by_id() {
        let request = Request::default();
        assert!(better(Candidate::worker(1, ROOMY), Candidate::worker(2, ROOMY), &request));
    }
}
