//! One decision: a single pass that filters, scores and counts, with hardly a branch per candidate.
//!
//! The pass has two halves. Until somebody is chosen it looks for anyone who passes and remembers how close the
//! others come, in case it must say no. From then on it looks only for those with room enough to be better.

use crate::{
    Candidate, Reason, Rejections, Request, ResourceKind, Score,
    candidate::Obstacles,
    lanes::{Lanes, Limits, answer},
    refuse::{Closest, Declined, Details, Lacking},
    score::Yardstick,
};

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
    /// Too little storage, in all or on one worker.
    pub storage: usize,
    /// Too little memory, in all or on one worker.
    pub memory: usize,
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
            + self.storage
            + self.memory
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
    check: impl FnMut(usize) -> Result<(), Reason>,
) -> Result<Choice, Rejections> {
    let mut search = Search::new(candidates, request, check);
    let mut counters = Counters::default();
    let mut rest = candidates;
    while !rest.is_empty() {
        let block = &rest[..rest.len().min(Counters::BLOCK)];
        let (lanes, seen) = match search.best {
            None => search.until_one_is_chosen(block),
            Some(_) => (search.for_a_better_one(block), block.len()),
        };
        counters.add(lanes);
        rest = &rest[seen..];
    }
    let tally = counters.tally(search.declined.total());
    match search.best {
        Some(index) => {
            Ok(Choice { index, score: search.yardstick.score(&candidates[index]), rejected: tally })
        }
        None => {
            let lacking = counters.lacking;
            Err(Rejections::new(Details {
                tally,
                lacking,
                closest: search.closest,
                declined: search.declined,
            }))
        }
    }
}

/// What is known so far.
struct Search<'a, Check> {
    candidates: &'a [Candidate],
    check: Check,
    yardstick: Yardstick,
    needs: Limits,
    of_interest: u64,
    best: Option<usize>,
    /// The cost of the best; above all costs while there is none.
    cost: u64,
    /// What a better one has at least free of processor time and memory.
    least: u64,
    declined: Declined,
    closest: Closest,
    /// See [`Closest::beyond`].
    beyond_closest: [u64; 2],
}

impl<'a, Check: FnMut(usize) -> Result<(), Reason>> Search<'a, Check> {
    fn new(candidates: &'a [Candidate], request: &Request, check: Check) -> Self {
        Self {
            candidates,
            check,
            yardstick: Yardstick::of(&request.resources),
            needs: Limits::pack(&request.resources),
            of_interest: request.of_interest,
            best: None,
            cost: u64::MAX,
            least: 0,
            declined: Declined::default(),
            closest: Closest::new(request.resources),
            beyond_closest: Closest::new(request.resources).beyond(),
        }
    }

    /// Stops after the first candidate that is chosen; tells how many it saw.
    #[inline(never)]
    fn until_one_is_chosen(&mut self, block: &[Candidate]) -> (u64, usize) {
        let (needs, of_interest) = (self.needs, self.of_interest);
        let mut lanes = 0;
        let mut seen = block.len();
        for (index, candidate) in block.iter().enumerate() {
            let below = needs.below(&candidate.largest);
            let failures = failures(below, candidate.obstacles & of_interest);
            lanes += first(failures);
            if closer(&candidate.largest, self.beyond_closest, below) {
                self.remember_miss(candidate);
            }
            if failures == 0 && self.consider(candidate) {
                seen = index + 1;
                break;
            }
        }
        (lanes, seen)
    }

    #[inline(never)]
    fn for_a_better_one(&mut self, block: &[Candidate]) -> u64 {
        let (needs, of_interest) = (self.needs, self.of_interest);
        let mut lanes = 0;
        for candidate in block {
            let below = needs.below(&candidate.largest);
            let failures = failures(below, candidate.obstacles & of_interest);
            lanes += first(failures);
            let too_little_to_be_better = (self.least - candidate.free.0[0]) & Lanes::ANSWERS[0];
            if failures | too_little_to_be_better == 0 {
                self.consider(candidate);
            }
        }
        lanes
    }

    /// Makes a candidate that passes the filter the best, if it is and the caller agrees. Rare, and kept out of
    /// the loops so that they keep their registers.
    #[cold]
    #[inline(never)]
    fn consider(&mut self, candidate: &Candidate) -> bool {
        let cost = self.yardstick.cost(candidate);
        if cost > self.cost {
            return false;
        }
        if cost == self.cost && self.best.is_some_and(|best| self.candidates[best].id <= candidate.id) {
            return false;
        }
        let index = self.candidates.element_offset(candidate).expect("it comes from the candidates");
        if let Err(reason) = (self.check)(index) {
            self.declined.add(reason);
            return false;
        }
        (self.best, self.cost, self.least) = (Some(index), cost, self.yardstick.least_for(cost));
        true
    }

    /// Notes what came closer than any before, if nothing but amounts stands against the candidate.
    #[cold]
    #[inline(never)]
    fn remember_miss(&mut self, candidate: &Candidate) {
        if candidate.obstacles & self.of_interest != 0 {
            return;
        }
        self.closest.note(&candidate.free(), &candidate.largest());
        self.beyond_closest = self.closest.beyond();
    }
}

/// One bit per failed check; zero for a candidate that passes. Agrees with [`crate::filter`]. What is free in all
/// needs no look: it is never less than what one worker has.
#[inline(always)]
const fn failures(below: [u64; 2], obstacles: u64) -> u64 {
    obstacles | below[0] & Lanes::ANSWERS[0] | below[1] & Lanes::ANSWERS[1]
}

/// The lowest bit alone, which is the first reason.
#[inline(always)]
const fn first(failures: u64) -> u64 {
    failures & failures.wrapping_neg()
}

/// Whether an amount that is below its limit is closer to it than any before.
#[inline(always)]
const fn closer(largest: &Lanes, beyond_closest: [u64; 2], below: [u64; 2]) -> bool {
    let closer =
        [(largest.0[0] + beyond_closest[0]) & below[0], (largest.0[1] + beyond_closest[1]) & below[1]];
    closer[0] & Lanes::ANSWERS[0] | closer[1] & Lanes::ANSWERS[1] != 0
}

/// Counts first failures without a branch: each bit of [`failures`] begins a lane of its own, emptied after every
/// block.
#[derive(Debug, Default)]
struct Counters {
    excluded: [usize; 3],
    lacking: Lacking,
    short: [usize; 4],
}

impl Counters {
    const EXCLUDING: [u64; 3] = [Obstacles::NOT_SELECTED, Obstacles::DISCONNECTED, Obstacles::CORDONED];
    const SHORT: [u64; 4] = [
        answer(ResourceKind::ALL[0]),
        answer(ResourceKind::ALL[1]),
        answer(ResourceKind::ALL[2]),
        answer(ResourceKind::ALL[3]),
    ];
    /// What a lane can count to.
    const BLOCK: usize = (1 << Obstacles::APART) - 1;

    fn add(&mut self, lanes: u64) {
        let lane = (1 << Obstacles::APART) - 1;
        let add = |(count, bit): (&mut usize, u64)| {
            let counted = lanes >> bit.trailing_zeros() & lane;
            *count += usize::try_from(counted).expect("at most a block");
        };
        self.excluded.iter_mut().zip(Self::EXCLUDING).for_each(add);
        self.lacking.iter_mut().zip(Obstacles::MISSING).for_each(add);
        self.short.iter_mut().zip(Self::SHORT).for_each(add);
    }

    fn tally(&self, declined: usize) -> Tally {
        let [not_selected, disconnected, cordoned] = self.excluded;
        let incapable = self.lacking.iter().sum();
        let [cpu, storage, gpus, memory] = self.short;
        Tally { not_selected, disconnected, cordoned, incapable, cpu, storage, memory, gpus, declined }
    }
}

/// No two lanes overlap.
const _LANES_ARE_APART: () = {
    let reasons: [&[u64]; 3] = [&Counters::EXCLUDING, &Obstacles::MISSING, &Counters::SHORT];
    let (mut bits, mut lanes) = (0_u64, 0);
    let mut group = 0;
    while group < reasons.len() {
        let mut index = 0;
        while index < reasons[group].len() {
            bits |= reasons[group][index];
            lanes += 1;
            index += 1;
        }
        group += 1;
    }
    assert!(bits.count_ones() == lanes);
    while bits != 0 {
        let begin = bits.trailing_zeros();
        bits &= bits - 1;
        assert!(bits.trailing_zeros() - begin >= Obstacles::APART);
    }
};
