//! Which of the candidates that pass is best: the policy, as a type.

use std::cmp::Reverse;

use model::Resources;

use crate::{Candidate, Request, candidate::Standing, lanes::cpu_and_memory_limits};

/// How good a candidate is for a request; the greater is chosen. Fields in order of importance.
///
/// The policy spreads: copies of a service over places first, then room evenly over candidates. It never ties:
/// ids differ, so the same candidates in any order give the same choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// Fewest copies of the same service, so that one broken device takes one copy with it.
    pub siblings: Reverse<u16>,
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
        Yardstick::of(&request.resources).score(candidate)
    }
}

/// A request prepared for measuring how often it fits, without a division per candidate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Yardstick {
    /// What is asked for. A request for nothing counts as one unit: it always fits, and the emptier place is still
    /// the better.
    cpu: u32,
    memory: u32,
    /// How many 2^31ths of a request one unit is, rounded down.
    per_millicore: u32,
    per_mebibyte: u32,
}

impl Yardstick {
    const ONE_REQUEST: u32 = 31;

    pub(crate) fn of(request: &Resources) -> Self {
        let (cpu, memory) = (request.cpu.0.max(1), request.memory.0.max(1));
        let per_unit = |needed: u32| (1 << Self::ONE_REQUEST) / needed;
        Self { cpu, memory, per_millicore: per_unit(cpu), per_mebibyte: per_unit(memory) }
    }

    /// See [`Score::of`].
    pub(crate) fn score(&self, candidate: &Candidate) -> Score {
        Score {
            siblings: Reverse(candidate.siblings()),
            headroom: self.headroom(candidate),
            instances: Reverse(candidate.instances()),
            load_permille: Reverse(candidate.load_permille()),
            id: Reverse(candidate.id),
        }
    }

    /// See [`Score::headroom`].
    fn headroom(&self, candidate: &Candidate) -> u16 {
        let (cpu, memory) = candidate.free.cpu_and_memory();
        let by_cpu = u64::from(cpu) * u64::from(self.per_millicore);
        let by_memory = u64::from(memory) * u64::from(self.per_mebibyte);
        step_of(by_cpu.min(by_memory))
    }

    /// The fields of [`Score`] before the id in one number: the greater the score, the smaller the cost.
    pub(crate) fn cost(&self, candidate: &Candidate) -> u64 {
        candidate.standing - (u64::from(self.headroom(candidate)) << Standing::ROOM_SHIFT)
    }

    /// Processor time and memory, as limits of one word, below which no candidate costs as little as `cost`.
    pub(crate) fn least_for(&self, cost: u64) -> u64 {
        if cost >> Standing::SIBLINGS_SHIFT != 0 {
            // Another with fewer copies would be better with any room.
            return cpu_and_memory_limits(0, 0);
        }
        #[expect(clippy::cast_possible_truncation, reason = "the field is what is asked for")]
        let headroom = u16::MAX - (cost >> Standing::ROOM_SHIFT) as u16;
        // Units are rounded down, so that the division would give no less: the limit is never too high.
        let least = u128::from(least_of_step(headroom));
        let units = |needed: u32| {
            u64::try_from((least * u128::from(needed)) >> Self::ONE_REQUEST).unwrap_or(u64::MAX)
        };
        cpu_and_memory_limits(units(self.cpu), units(self.memory))
    }
}

/// A logarithmic scale with eight steps per doubling; exact below 16.
fn step_of(value: u64) -> u16 {
    let Some(exponent) = value.checked_ilog2().and_then(|bits| bits.checked_sub(3)) else {
        return u16::try_from(value).expect("below 8");
    };
    u16::try_from(u64::from(exponent) * 8 + (value >> exponent)).expect("at most 61 times 8 and 15")
}

/// The least value on a step of that scale.
const fn least_of_step(step: u16) -> u64 {
    if step < 8 { step as u64 } else { (step as u64 % 8 + 8) << (step / 8 - 1) }
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
        let request = Request::new(Resources::default(), &[]);
        let held = Candidate::worker(1, ROOMY).with_instances(1);
        assert!(better(Candidate::worker(2, ROOMY), held, &request));
    }

    #[test]
    fn equal_candidates_are_told_apart_by_id() {
        let request = Request::new(Resources::default(), &[]);
        assert!(better(Candidate::worker(1, ROOMY), Candidate::worker(2, ROOMY), &request));
    }

    #[test]
    fn the_steps_grow_with_the_value_and_know_where_they_begin() {
        let values = (0..2000).chain((0..63).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]));
        for value in values.filter(|value| *value > 0) {
            let step = step_of(value);
            assert!(step_of(value - 1) <= step, "{value}");
            assert!(least_of_step(step) <= value && value < least_of_step(step + 1), "{value}");
        }
    }
}
