//! What holds for every fleet and every request.

use std::collections::BTreeMap;

use model::{Capability, ClusterAggregate, Mebibytes, Millicores, Resources};
use placement::{
    Candidate, Reason, Request, ResourceKind, Score, decide, decide_with, explain, filter, fits_one,
    frontier, largest, may_fit_one,
};
use proptest::{collection::vec, prelude::*, sample};

/// Amounts from a few steps, so that ties, exact fits and near misses are common; sometimes the extremes.
fn amount() -> impl Strategy<Value = u32> {
    prop_oneof![8 => (0u32..8).prop_map(|step| step * 500), 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn resources() -> impl Strategy<Value = Resources> {
    (amount(), amount(), amount(), 0u32..3).prop_map(|(cpu, memory, storage, gpus)| Resources {
        cpu: Millicores(cpu),
        memory: Mebibytes(memory),
        storage: Mebibytes(storage),
        gpus,
    })
}

fn capabilities() -> impl Strategy<Value = Vec<Capability>> {
    sample::subsequence(Capability::ALL.to_vec(), 0..=2)
}

fn request() -> impl Strategy<Value = Request> {
    (resources(), capabilities()).prop_map(|(resources, capabilities)| Request::new(resources, &capabilities))
}

fn rarely() -> impl Strategy<Value = bool> {
    proptest::bool::weighted(0.1)
}

/// A candidate before it has an id.
#[derive(Debug, Clone)]
struct Nameless {
    is_worker: bool,
    free: Resources,
    largest: Resources,
    capabilities: Vec<Capability>,
    standing: (usize, usize, u8),
    excluded: (bool, bool, bool),
}

impl Nameless {
    fn any() -> impl Strategy<Value = Self> {
        let standing = (0usize..3, 0usize..3, 0u8..4);
        let excluded = (rarely(), rarely(), rarely());
        (any::<bool>(), resources(), resources(), capabilities(), standing, excluded).prop_map(
            |(is_worker, free, largest, capabilities, standing, excluded)| Self {
                is_worker,
                free,
                largest,
                capabilities,
                standing,
                excluded,
            },
        )
    }

    fn with_id(&self, id: u128) -> Candidate {
        let plain = if self.is_worker {
            Candidate::worker(id, self.free)
        } else {
            Candidate::cluster(id, self.free, self.largest)
        };
        let (instances, siblings, load) = self.standing;
        let mut candidate = plain
            .with_capabilities(&self.capabilities)
            .with_instances(instances)
            .with_load_percent(f32::from(load));
        candidate.set_siblings(siblings);
        let (not_selected, disconnected, cordoned) = self.excluded;
        candidate.set_selected(!not_selected);
        candidate.set_connected(!disconnected);
        candidate.set_cordoned(cordoned);
        candidate
    }
}

/// Up to 600 candidates with different ids, not in their order: several blocks of the inner loop. Often alike in
/// all but their ids.
fn fleet() -> impl Strategy<Value = Vec<Candidate>> {
    let sizes = || prop_oneof![3 => 0usize..12, 1 => 0usize..600];
    let different = sizes().prop_flat_map(|size| vec(Nameless::any(), size));
    let alike = vec(Nameless::any(), 1..4).prop_flat_map(move |kinds| {
        sizes().prop_flat_map(move |size| vec(sample::select(kinds.clone()), size))
    });
    prop_oneof![different, alike].prop_map(|fleet| {
        (0..).zip(fleet).map(|(index, nameless): (u128, Nameless)| nameless.with_id(index ^ 0b101)).collect()
    })
}

/// Reasons without their amounts, and how many candidates have them.
fn counts(reasons: impl IntoIterator<Item = (Reason, usize)>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (reason, count) in reasons {
        let told = miss(&reason).map_or_else(|| reason.to_string(), |(what, _)| format!("{what:?}"));
        *counts.entry(told).or_default() += count;
    }
    counts
}

fn expected_counts(fleet: &[Candidate], request: &Request) -> BTreeMap<String, usize> {
    counts(fleet.iter().filter_map(|candidate| filter(candidate, request).err()).map(|reason| (reason, 1)))
}

fn miss(reason: &Reason) -> Option<(ResourceKind, u32)> {
    match reason {
        Reason::Insufficient { what, has, .. } | Reason::InsufficientOnOneWorker { what, has, .. } => {
            Some((*what, *has))
        }
        Reason::NotSelected
        | Reason::Disconnected
        | Reason::Cordoned
        | Reason::Lacks(_)
        | Reason::ScatteredOverWorkers
        | Reason::PortTaken(_)
        | Reason::Declined(_) => None,
    }
}

/// The reason of the candidate with the largest worker, among those with too little of `what` and amounts alone
/// against them; of equals the first.
fn closest(fleet: &[Candidate], request: &Request, what: ResourceKind) -> Option<Reason> {
    let needs = what.of(&request.resources);
    let on_amounts_alone =
        |candidate: &&Candidate| filter(candidate, request).is_err_and(|reason| miss(&reason).is_some());
    let short = |candidate: &&Candidate| what.of(&candidate.largest()) < needs;
    let candidates = fleet.iter().rev().filter(on_amounts_alone).filter(short);
    let closest = candidates.max_by_key(|candidate| what.of(&candidate.largest()))?;
    let (in_all, on_one) = (what.of(&closest.free()), what.of(&closest.largest()));
    Some(if in_all < needs {
        Reason::Insufficient { what, needs, has: in_all }
    } else {
        Reason::InsufficientOnOneWorker { what, needs, has: on_one }
    })
}

fn chosen_id(fleet: &[Candidate], request: &Request) -> Option<u128> {
    decide(fleet, request).ok().map(|choice| fleet[choice.index].id())
}

proptest! {
    #[test]
    fn the_choice_is_the_greatest_score_among_those_that_pass(fleet in fleet(), request in request()) {
        let passing = (0..fleet.len()).filter(|&index| filter(&fleet[index], &request).is_ok());
        let best = passing.max_by_key(|&index| Score::of(&fleet[index], &request));
        let choice = decide(&fleet, &request);
        prop_assert_eq!(choice.as_ref().ok().map(|choice| choice.index), best);
        if let Ok(choice) = choice {
            prop_assert_eq!(choice.score, Score::of(&fleet[choice.index], &request));
        }
    }

    #[test]
    fn the_order_of_the_candidates_does_not_matter(
        (fleet, shuffled) in fleet().prop_flat_map(|fleet| (Just(fleet.clone()), Just(fleet).prop_shuffle())),
        request in request(),
    ) {
        prop_assert_eq!(chosen_id(&fleet, &request), chosen_id(&shuffled, &request));
    }

    #[test]
    fn every_rejected_candidate_has_a_reason(fleet in fleet(), request in request()) {
        let rejected = fleet.iter().filter(|candidate| filter(candidate, &request).is_err()).count();
        match decide(&fleet, &request) {
            Ok(choice) => prop_assert_eq!(choice.rejected.total(), rejected),
            Err(rejections) => {
                prop_assert_eq!(rejections.total(), fleet.len());
                prop_assert_eq!(counts(rejections.reasons()), expected_counts(&fleet, &request));
                for (reason, _) in rejections.reasons() {
                    if let Some((what, _)) = miss(&reason) {
                        prop_assert_eq!(Some(reason), closest(&fleet, &request, what));
                    }
                }
                let verdicts = explain(&fleet, &request, |index| index.to_string());
                prop_assert_eq!(verdicts.len(), fleet.len().min(51));
            }
        }
    }

    #[test]
    fn a_check_is_asked_once_and_its_refusal_is_final(
        fleet in fleet(), request in request(), salt in any::<u64>(),
    ) {
        let accepts = |index: usize| (index as u64 ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 62 == 0;
        let mut asked = vec![0; fleet.len()];
        let choice = decide_with(&fleet, &request, |index| {
            asked[index] += 1;
            if accepts(index) { Ok(()) } else { Err(Reason::Declined("odd".into())) }
        });
        let passing = |index: &usize| filter(&fleet[*index], &request).is_ok() && accepts(*index);
        let best = (0..fleet.len()).filter(passing).max_by_key(|&index| Score::of(&fleet[index], &request));
        prop_assert_eq!(choice.as_ref().ok().map(|choice| choice.index), best);
        prop_assert!(asked.iter().all(|&times| times <= 1));
        if let Err(rejections) = choice {
            prop_assert_eq!(rejections.total(), fleet.len());
        }
    }

    #[test]
    fn no_sequence_of_placements_and_removals_overcommits(
        allocatable in vec(resources(), 1..8),
        steps in vec((resources(), any::<sample::Index>(), any::<bool>()), 1..60),
    ) {
        let mut workers: Vec<Candidate> =
            (0..).zip(&allocatable).map(|(id, free)| Candidate::worker(id, *free)).collect();
        // What exceeds the most that counts is not there to be reserved.
        let counted: Vec<Resources> = workers.iter().map(Candidate::free).collect();
        prop_assert!(counted.iter().zip(&allocatable).all(|(counted, real)| real.covers(counted)));
        let mut placed: Vec<(usize, Resources)> = Vec::new();
        for (wanted, which, remove) in steps {
            if remove && !placed.is_empty() {
                let (worker, reserved) = placed.swap_remove(which.index(placed.len()));
                workers[worker].release(&reserved);
            } else if let Ok(choice) = decide(&workers, &Request::new(wanted, &[])) {
                prop_assert!(workers[choice.index].reserve(&wanted));
                placed.push((choice.index, wanted));
            }
            for (index, worker) in workers.iter().enumerate() {
                let sum = |amount: fn(&Resources) -> u32| -> u64 {
                    placed.iter().filter(|(at, _)| *at == index).map(|(_, held)| u64::from(amount(held))).sum()
                };
                for amount in AMOUNTS {
                    let reserved = sum(amount);
                    let owned = u64::from(amount(&counted[index]));
                    prop_assert!(reserved <= owned, "worker {} gives {} of {}", index, reserved, owned);
                    prop_assert_eq!(u64::from(amount(&worker.free())), owned - reserved);
                }
            }
        }
    }

    #[test]
    fn the_frontier_never_promises_what_no_worker_has(
        free in vec(resources(), 0..60), request in resources(),
    ) {
        let corners = frontier(free.iter().copied());
        let really_fits = free.iter().any(|worker| worker.covers(&request));
        prop_assert!(corners.len() <= ClusterAggregate::LARGEST_FREE_ENTRIES);
        prop_assert!(!fits_one(&corners, &request) || really_fits);
        prop_assert!(may_fit_one(&corners, &request) || !really_fits);
        prop_assert_eq!(largest(&corners), largest(&free));
        let covered_twice = corners.iter().any(|one| corners.iter().filter(|other| other.covers(one)).count() > 1);
        prop_assert!(!covered_twice);
    }

    #[test]
    fn the_frontier_does_not_depend_on_the_order_of_the_workers(
        (free, shuffled) in vec(resources(), 0..40)
            .prop_flat_map(|free| (Just(free.clone()), Just(free).prop_shuffle())),
    ) {
        prop_assert_eq!(frontier(free.into_iter()), frontier(shuffled.into_iter()));
    }
}

const AMOUNTS: [fn(&Resources) -> u32; 4] = [
    |resources| resources.cpu.0,
    |resources| resources.memory.0,
    |resources| resources.storage.0,
    |resources| resources.gpus,
];
