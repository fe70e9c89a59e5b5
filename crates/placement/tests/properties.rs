//! What holds for every fleet and every request.

use model::{Capability, ClusterAggregate, Mebibytes, Millicores, Resources};
use placement::{
    Candidate, Request, Score, decide, decide_with, explain, filter, fits_one, frontier, largest, may_fit_one,
};
use proptest::{collection::vec, prelude::*};

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
    proptest::sample::subsequence(Capability::ALL.to_vec(), 0..=2)
}

fn request() -> impl Strategy<Value = Request> {
    (resources(), capabilities()).prop_map(|(resources, capabilities)| Request::new(resources, &capabilities))
}

fn rarely() -> impl Strategy<Value = bool> {
    proptest::bool::weighted(0.1)
}

fn candidate(id: u128) -> impl Strategy<Value = Candidate> {
    let standing = (0usize..3, 0usize..3, 0u8..4);
    let flags = (rarely(), rarely(), rarely());
    (any::<bool>(), resources(), resources(), capabilities(), standing, flags).prop_map(
        move |(
            is_worker,
            free,
            largest,
            capabilities,
            (instances, siblings, load),
            (away, cordoned, other),
        )| {
            let plain =
                if is_worker { Candidate::worker(id, free) } else { Candidate::cluster(id, free, largest) };
            let mut candidate = plain
                .with_capabilities(&capabilities)
                .with_instances(instances)
                .with_load_percent(f32::from(load));
            candidate.set_siblings(siblings);
            candidate.set_connected(!away);
            candidate.set_cordoned(cordoned);
            candidate.set_selected(!other);
            candidate
        },
    )
}

/// Up to 600 candidates with different ids, not in their order: several blocks of the inner loop.
fn fleet() -> impl Strategy<Value = Vec<Candidate>> {
    let sizes = prop_oneof![3 => 0usize..12, 1 => 0usize..600];
    sizes.prop_flat_map(|size| (0..size).map(|index| candidate(index as u128 ^ 0b101)).collect::<Vec<_>>())
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
            if accepts(index) { Ok(()) } else { Err(placement::Reason::Declined("odd".into())) }
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
        steps in vec((resources(), any::<proptest::sample::Index>(), any::<bool>()), 1..60),
    ) {
        let mut workers: Vec<Candidate> =
            (0..).zip(&allocatable).map(|(id, free)| Candidate::worker(id, *free)).collect();
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
                    let owned = u64::from(amount(&allocatable[index]));
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
