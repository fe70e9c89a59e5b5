//! From the reasons of many candidates to one refusal that a person can act on.

use model::{CandidateVerdict, Refusal, RefusalCode};

use crate::{Candidate, CandidateKind, Reason, Request, filter};

/// The most candidates that [`explain`] names; the rest is counted. A screen full, and a bound for the document.
pub const EXPLAINED_CANDIDATES: usize = 50;

/// Why no candidate was chosen: like reasons together, each with the closest miss.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rejections {
    groups: Vec<Group>,
}

/// Candidates with like reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    /// Of the one that came closest.
    closest: Reason,
    candidates: usize,
}

impl Rejections {
    /// Groups with words of their own ([`Reason::Declined`], [`Reason::PortTaken`]) come from the caller; so many
    /// at most, further ones are counted with the last. The other reasons are few by their type.
    const OWN_GROUPS: usize = 32;

    /// Adds the reason of each candidate that does not pass the filter to the reasons of those that do.
    pub(crate) fn of_all(candidates: &[Candidate], request: &Request, declined: Self) -> Self {
        let mut all = declined;
        for reason in candidates.iter().filter_map(|candidate| filter(candidate, request).err()) {
            all.add(reason);
        }
        all.groups.sort_by_key(|group| std::cmp::Reverse(group.candidates));
        all
    }

    /// How many candidates were rejected, which is how many there were.
    #[must_use]
    pub fn total(&self) -> usize {
        self.groups.iter().map(|group| group.candidates).sum()
    }

    /// The reasons, most numerous first: that of the candidate that came closest, and how many are like it.
    pub fn reasons(&self) -> impl Iterator<Item = (&Reason, usize)> {
        self.groups.iter().map(|group| (&group.closest, group.candidates))
    }

    /// [`RefusalCode::NoTargetCluster`] if there is no candidate, or none that is selected and connected.
    #[must_use]
    pub fn code(&self) -> RefusalCode {
        let out_of_reach = |reason: &Reason| matches!(reason, Reason::NotSelected | Reason::Disconnected);
        if self.reasons().all(|(reason, _)| out_of_reach(reason)) {
            RefusalCode::NoTargetCluster
        } else {
            RefusalCode::NoResourcesAvailable
        }
    }

    /// The refusal that names no candidate: "3 workers: …".
    #[must_use]
    pub fn into_refusal(self, kind: CandidateKind) -> Refusal {
        let verdicts = self.groups.iter().map(|group| group.verdict(kind)).collect();
        self.into_named_refusal(kind, verdicts)
    }

    /// The refusal with verdicts by name, from [`explain`] with the same candidates.
    #[must_use]
    pub fn into_named_refusal(self, kind: CandidateKind, verdicts: Vec<CandidateVerdict>) -> Refusal {
        Refusal { code: self.code(), summary: self.summary(kind), candidates: verdicts }
    }

    fn summary(&self, kind: CandidateKind) -> String {
        let one = one(kind);
        let total = self.total();
        let has = |wanted: &Reason| self.reasons().any(|(reason, _)| reason == wanted);
        match self.code() {
            RefusalCode::NoTargetCluster if total == 0 => format!("no {one} has joined"),
            RefusalCode::NoTargetCluster if !has(&Reason::NotSelected) => format!("no {one} is connected"),
            RefusalCode::NoTargetCluster if !has(&Reason::Disconnected) => {
                format!("no {one} has a name the service asks for")
            }
            RefusalCode::NoTargetCluster => {
                format!("no {one} with a name the service asks for is connected")
            }
            RefusalCode::NoResourcesAvailable => {
                format!("none of {} can take it", counted(total, kind))
            }
        }
    }

    pub(crate) fn add(&mut self, reason: Reason) {
        if let Some(group) = self.groups.iter_mut().find(|group| alike(&group.closest, &reason)) {
            group.candidates += 1;
            if amount(&reason) > amount(&group.closest) {
                group.closest = reason;
            }
            return;
        }
        let full = self.groups.len() >= Self::OWN_GROUPS && has_own_words(&reason);
        match self.groups.iter_mut().rfind(|group| full && has_own_words(&group.closest)) {
            Some(last) => last.candidates += 1,
            None => self.groups.push(Group { closest: reason, candidates: 1 }),
        }
    }
}

impl Group {
    fn verdict(&self, kind: CandidateKind) -> CandidateVerdict {
        let reason = match &self.closest {
            Reason::Insufficient { what, needs, has } if self.candidates > 1 => {
                let (needs, has) = (what.in_words(*needs), what.amount_in_words(*has));
                format!("needs {needs}, the largest free is {has}")
            }
            Reason::InsufficientOnOneWorker { what, needs, has } if self.candidates > 1 => {
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
            | Reason::Declined(_) => self.closest.to_string(),
        };
        CandidateVerdict { candidate: counted(self.candidates, kind), reason }
    }
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
    let mut unnamed = Rejections::default();
    for (index, candidate) in candidates.iter().enumerate() {
        let Err(reason) = filter(candidate, request).and_then(|()| check(index)) else { continue };
        if verdicts.len() < EXPLAINED_CANDIDATES {
            verdicts.push(CandidateVerdict { candidate: name(index), reason: reason.to_string() });
        } else {
            unnamed.add(reason);
        }
    }
    if unnamed.total() > 0 {
        let reason = "rejected as well".to_owned();
        verdicts.push(CandidateVerdict { candidate: format!("and {} more", unnamed.total()), reason });
    }
    verdicts
}

/// Whether two reasons differ only in what the candidates have.
fn alike(one: &Reason, other: &Reason) -> bool {
    match (one, other) {
        (Reason::Insufficient { what, .. }, Reason::Insufficient { what: other, .. })
        | (
            Reason::InsufficientOnOneWorker { what, .. },
            Reason::InsufficientOnOneWorker { what: other, .. },
        ) => what == other,
        (one, other) => one == other,
    }
}

/// How close to enough the candidate came.
const fn amount(reason: &Reason) -> u32 {
    match reason {
        Reason::Insufficient { has, .. } | Reason::InsufficientOnOneWorker { has, .. } => *has,
        Reason::NotSelected
        | Reason::Disconnected
        | Reason::Cordoned
        | Reason::Lacks(_)
        | Reason::ScatteredOverWorkers
        | Reason::PortTaken(_)
        | Reason::Declined(_) => 0,
    }
}

const fn has_own_words(reason: &Reason) -> bool {
    match reason {
        Reason::PortTaken(_) | Reason::Declined(_) => true,
        Reason::NotSelected
        | Reason::Disconnected
        | Reason::Cordoned
        | Reason::Lacks(_)
        | Reason::Insufficient { .. }
        | Reason::InsufficientOnOneWorker { .. }
        | Reason::ScatteredOverWorkers => false,
    }
}

const fn one(kind: CandidateKind) -> &'static str {
    match kind {
        CandidateKind::Cluster => "cluster",
        CandidateKind::Worker => "worker",
    }
}

fn counted(number: usize, kind: CandidateKind) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {}{plural}", one(kind))
}
