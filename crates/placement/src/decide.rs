//! One decision: a single branch-light pass that filters, scores and counts, and a second one only to say no.

use crate::{Candidate, Reason, Rejections, Request, Score, score::Yardstick};

/// What was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Where in the slice of candidates.
    pub index: usize,
    /// What made it the best.
    pub score: Score,
    /// How many others were rejected, and for what.
    pub rejected: Tally,
}

/// How many candidates were rejected, by the first reason of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// See [`Reason::NotSelected`].
    pub not_selected: usize,
    /// See [`Reason::Disconnected`].
    pub disconnected: usize,
    /// See [`Reason::Cordoned`].
    pub cordoned: usize,
    /// See [`Reason::Lacks`].
    pub incapable: usize,
    /// Too little processor time, in all or on one worker.
    pub cpu: usize,
    /// Too little memory, in all or on one worker.
    pub memory: usize,
    /// Too little storage, in all or on one worker.
    pub storage: usize,
    /// Too few graphics processors, in all or on one worker.
    pub gpus: usize,
    /// Declined by the caller's check. Those that could not have become the choice were not asked.
    pub declined: usize,
}

impl Tally {
    /// All of them together.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.not_selected
            + self.disconnected
            + self.cordoned
            + self.incapable
            + self.cpu
            + self.memory
            + self.storage
            + self.gpus
            + self.declined
    }
}

/// Chooses the candidate with the greatest [`Score`] among those that pass the [`crate::filter`].
///
/// Guarantees: the same candidates in any order give the same choice, as long as their ids differ.
///
/// # Errors
/// If none passes: why, for every one of them.
pub fn decide(candidates: &[Candidate], request: &Request) -> Result<Choice, Rejections> {
    decide_with(candidates, request, |_| Ok(()))
}

/// [`decide`] with one more check by the caller, who is given a position in `candidates`.
///
/// Guarantees: `check` is asked at most once for each candidate, only about those that pass the filter, and only
/// while they could still become the choice. If nothing is chosen, all that pass the filter were asked.
///
/// # Errors
/// If none passes the filter and the check: why, for every one of them.
pub fn decide_with(
    candidates: &[Candidate],
    request: &Request,
    mut check: impl FnMut(usize) -> Result<(), Reason>,
) -> Result<Choice, Rejections> {
    let yardstick = Yardstick::of(&request.resources);
    let mut counters = Counters::default();
    let mut declined = Rejections::default();
    let mut best: Option<usize> = None;
    // Below every key of a candidate that passes, above the zero of those that do not.
    let mut best_key = 1;
    for (block_number, block) in candidates.chunks(Counters::BLOCK).enumerate() {
        let mut lanes = 0;
        for (offset, candidate) in block.iter().enumerate() {
            let failures = failures(candidate, request);
            lanes += Counters::lane(failures);
            let key = if failures == 0 { yardstick.key(candidate) } else { 0 };
            if key < best_key {
                continue;
            }
            let index = block_number * Counters::BLOCK + offset;
            if key == best_key && best.is_some_and(|best| candidates[best].id <= candidate.id) {
                continue;
            }
            match check(index) {
                Ok(()) => (best, best_key) = (Some(index), key),
                Err(reason) => declined.add(reason),
            }
        }
        counters.add(lanes);
    }
    let Some(index) = best else {
        return Err(Rejections::of_all(candidates, request, declined));
    };
    let rejected = counters.tally(declined.total());
    Ok(Choice { index, score: Score::of(&candidates[index], request), rejected })
}

/// One bit per failed check, the first reason lowest; zero for a candidate that passes. Agrees with
/// [`crate::filter`]. What is free in all needs no look: it is never less than what one worker has.
#[inline]
fn failures(candidate: &Candidate, request: &Request) -> u32 {
    let has = &candidate.largest;
    let needs = &request.resources;
    u32::from(candidate.flags & Candidate::EXCLUDING)
        | u32::from(request.capabilities & !candidate.capabilities != 0) << 3
        | u32::from(has.cpu.0 < needs.cpu.0) << 4
        | u32::from(has.memory.0 < needs.memory.0) << 5
        | u32::from(has.storage.0 < needs.storage.0) << 6
        | u32::from(has.gpus < needs.gpus) << 7
}

/// Counts first failures without a branch: eight lanes of eight bits, emptied after every block.
#[derive(Debug, Default)]
struct Counters([usize; 8]);

impl Counters {
    /// The most that a lane of eight bits can count, rounded down to whole kibibytes of candidates.
    const BLOCK: usize = 240;

    #[inline]
    fn lane(failures: u32) -> u64 {
        let failed = u64::from(failures != 0);
        // Bit 7 is the last there is: setting it changes no first failure and spares the case of none.
        let first = (failures | 1 << 7).trailing_zeros();
        failed << (first * 8)
    }

    fn add(&mut self, lanes: u64) {
        for (count, lane) in self.0.iter_mut().zip(lanes.to_le_bytes()) {
            *count += usize::from(lane);
        }
    }

    const fn tally(&self, declined: usize) -> Tally {
        let [not_selected, disconnected, cordoned, incapable, cpu, memory, storage, gpus] = self.0;
        Tally { not_selected, disconnected, cordoned, incapable, cpu, memory, storage, gpus, declined }
    }
}
