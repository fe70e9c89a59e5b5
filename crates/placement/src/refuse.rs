//! From the reasons of many candidates to one refusal that a person can act on.

use std::cmp::Reverse;

use model::{CandidateVerdict, Capability, Refusal, RefusalCode, Resources};

use crate::{Candidate, CandidateKind, Reason, Request, ResourceKind, Tally, filter, lanes::most};

/// The most candidates that [`explain`] names; the rest is counted. A screen full, and a bound for the document.
pub const EXPLAINED_CANDIDATES: usize = 50;

/// Why no candidate was chosen: how many had which reason first, and how close the closest came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejections(Box<Details>);

/// Boxed, so that the answer is no larger for what it rarely holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) tally: Tally,
    /// The incapable of the tally, by what they lack.
    pub(crate) lacking: Lacking,
    pub(crate) closest: Closest,
    pub(crate) declined: Declined,
}

/// How many candidates lack which of [`Capability::ALL`] first.
pub(crate) type Lacking = [usize; Capability::ALL.len()];

/// What the caller's check said, like answers together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Declined(Vec<(Reason, usize)>);

impl Declined {
    /// The answers are in the caller's words; so many different ones at most, further ones count as the last.
    const ANSWERS: usize = 32;

    pub(crate) fn add(&mut self, reason: Reason) {
        let full = self.0.len() == Self::ANSWERS;
        match self.0.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None if full => self.0[Self::ANSWERS - 1].1 += 1,
            None => self.0.push((reason, 1)),
        }
    }

    pub(crate) fn total(&self) -> usize {
        self.0.iter().map(|(_, count)| count).sum()
    }
}

/// The most of each kind among the candidates that have too little of it, and nothing but amounts against them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closest {
    needs: Resources,
    misses: [Option<Miss>; 4],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Miss {
    in_all: u32,
    on_one_worker: u32,
}

impl Closest {
    pub(crate) const fn new(needs: Resources) -> Self {
        Self { needs, misses: [None; 4] }
    }

    /// Notes what a candidate has of each kind, where it is too little and more than any before.
    pub(crate) fn note(&mut self, free: &Resources, largest: &Resources) {
        for (kind, miss) in ResourceKind::ALL.into_iter().zip(&mut self.misses) {
            let (in_all, on_one_worker) = (kind.of(free), kind.of(largest));
            let is_closer = miss.is_none_or(|known| on_one_worker > known.on_one_worker);
            if on_one_worker < kind.of(&self.needs) && is_closer {
                *miss = Some(Miss { in_all, on_one_worker });
            }
        }
    }

    /// What, added to [`crate::lanes::Lanes`], sets the answer of each amount that is more than any before.
    pub(crate) fn beyond(&self) -> [u64; 2] {
        let beyond = |kind: ResourceKind| {
            let known = self.misses[kind as usize].map_or(0, |known| u64::from(known.on_one_worker) + 1);
            // As far below the answer as the least amount that is more.
            u64::from(most(kind)) + 1 - known
        };
        [
            beyond(ResourceKind::Cpu) | beyond(ResourceKind::Memory) << 32,
            beyond(ResourceKind::Storage) | beyond(ResourceKind::Gpus) << 32,
        ]
    }

    fn reason(&self, what: ResourceKind) -> Reason {
        let miss = self.misses[what as usize].unwrap_or(Miss { in_all: 0, on_one_worker: 0 });
        Reason::insufficient(what, what.of(&self.needs), miss.in_all, miss.on_one_worker)
    }
}

impl Rejections {
    pub(crate) fn new(details: Details) -> Self {
        Self(Box::new(details))
    }

    /// How many candidates were rejected, which is how many there were.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.tally.total()
    }

    /// How many were rejected for what.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.0.tally
    }

    /// The reasons with how many candidates had them first, most numerous first. Where amounts are too little, the
    /// most that any of them has, which may be one that had another reason first.
    #[must_use]
    pub fn reasons(&self) -> Vec<(Reason, usize)> {
        let Tally { not_selected, disconnected, cordoned, cpu, storage, memory, gpus, .. } = self.0.tally;
        let mut reasons = vec![
            (Reason::NotSelected, not_selected),
            (Reason::Disconnected, disconnected),
            (Reason::Cordoned, cordoned),
        ];
        reasons.extend(Capability::ALL.map(Reason::Lacks).into_iter().zip(self.0.lacking));
        let counts = [cpu, storage, gpus, memory];
        reasons.extend(ResourceKind::ALL.into_iter().map(|kind| self.0.closest.reason(kind)).zip(counts));
        reasons.extend(self.0.declined.0.iter().cloned());
        reasons.retain(|(_, count)| *count > 0);
        reasons.sort_by_key(|(_, count)| Reverse(*count));
        reasons
    }

    /// [`RefusalCode::NoTargetCluster`] if there is no candidate, or none that is selected and connected.
    #[must_use]
    pub fn code(&self) -> RefusalCode {
        if self.0.tally.not_selected + self.0.tally.disconnected == self.total() {
            RefusalCode::NoTargetCluster
        } else {
            RefusalCode::NoResourcesAvailable
        }
    }

    /// The refusal that names no candidate: "3 workers: …".
    #[must_use]
    pub fn into_refusal(self, kind: CandidateKind) -> Refusal {
        let verdict = |(reason, count): (Reason, usize)| verdict(&reason, count, kind);
        let verdicts = self.reasons().into_iter().map(verdict).collect();
        self.into_named_refusal(kind, verdicts)
    }

    /// The refusal with verdicts by name, from [`explain`] with the same candidates.
    #[must_use]
    pub fn into_named_refusal(self, kind: CandidateKind, verdicts: Vec<CandidateVerdict>) -> Refusal {
        Refusal { code: self.code(), summary: self.summary(kind), candidates: verdicts }
    }

    fn summary(&self, kind: CandidateKind) -> String {
        let one = one(kind);
        match self.code() {
            RefusalCode::NoTargetCluster if self.total() == 0 => format!("no {one} has joined"),
            RefusalCode::NoTargetCluster if self.0.tally.not_selected == 0 => {
                format!("no {one} is connected")
            }
            RefusalCode::NoTargetCluster if self.0.tally.disconnected == 0 => {
                format!("no {one} has a name the service asks for")
            }
            RefusalCode::NoTargetCluster => {
                format!("no {one} with a name the service asks for is connected")
            }
            RefusalCode::NoResourcesAvailable if self.total() == 1 => {
                format!("the only {one} cannot take it")
            }
            RefusalCode::NoResourcesAvailable => format!("none of {} {one}s can take it", self.total()),
        }
    }
}

/// The reason of so many candidates in words.
fn verdict(reason: &Reason, count: usize, kind: CandidateKind) -> CandidateVerdict {
    let reason = match reason {
        Reason::Insufficient { what, needs, has } if count > 1 => {
            let (needs, has) = (what.in_words(*needs), what.amount_in_words(*has));
            format!("needs {needs}, the largest free is {has}")
        }
        Reason::InsufficientOnOneWorker { what, needs, has } if count > 1 => {
            let (needs, has) = (what.in_words(*needs), what.amount_in_words(*has));
            format!("needs {needs} on one worker, the largest free is {has}")
        }
        Reason::Insufficient { .. }
        | Reason::InsufficientOnOneWorker { .. }
        | Reason::NotSelected
        | Reason::Disconnected
        | Reason::Cordoned
        | Reason::Lacks(_)
        | Reason::ScatteredOverWorkers
        | Reason::PortTaken(_)
        | Reason::Declined(_) => reason.to_string(),
    };
    let plural = if count == 1 { "" } else { "s" };
    CandidateVerdict { candidate: format!("{count} {}{plural}", one(kind)), reason }
}

/// The reason of each candidate that does not pass the filter, by name, in the order of `candidates`; the last
/// verdict counts those beyond [`EXPLAINED_CANDIDATES`]. `name` is given positions in `candidates`.
#[must_use]
pub fn explain(
    candidates: &[Candidate],
    request: &Request,
    name: impl Fn(usize) -> String,
) -> Vec<CandidateVerdict> {
    explain_with(candidates, request, name, |_| Ok(()))
}

/// [`explain`] with the caller's further check, as in [`crate::decide_with`].
#[must_use]
pub fn explain_with(
    candidates: &[Candidate],
    request: &Request,
    name: impl Fn(usize) -> String,
    mut check: impl FnMut(usize) -> Result<(), Reason>,
) -> Vec<CandidateVerdict> {
    let mut verdicts = Vec::new();
    let mut unnamed = 0;
    for (index, candidate) in candidates.iter().enumerate() {
        let Err(reason) = filter(candidate, request).and_then(|()| check(index)) else { continue };
        if verdicts.len() < EXPLAINED_CANDIDATES {
            verdicts.push(CandidateVerdict { candidate: name(index), reason: reason.to_string() });
        } else {
            unnamed += 1;
        }
    }
    if unnamed > 0 {
        let reason = "rejected as well".to_owned();
        verdicts.push(CandidateVerdict { candidate: format!("and {unnamed} more"), reason });
    }
    verdicts
}

const fn one(kind: CandidateKind) -> &'static str {
    match kind {
        CandidateKind::Cluster => "cluster",
        CandidateKind::Worker => "worker",
    }
}
