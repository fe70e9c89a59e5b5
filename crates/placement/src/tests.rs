//! Decisions and refusals over small fleets written out by hand.

use std::borrow::Cow;

use model::{
    CandidateVerdict, Capability, Mebibytes, Millicores, PortMapping, Protocol, Refusal, RefusalCode,
    Resources,
};

use crate::*;

fn resources(cpu: u32, memory: u32) -> Resources {
    Resources { cpu: Millicores(cpu), memory: Mebibytes(memory), storage: Mebibytes(1000), gpus: 0 }
}

fn worker(id: u128, cpu: u32, memory: u32) -> Candidate {
    Candidate::worker(id, resources(cpu, memory)).with_capabilities(&[Capability::Container])
}

fn request(cpu: u32, memory: u32) -> Request {
    let wanted = Resources { storage: Mebibytes(0), ..resources(cpu, memory) };
    Request::new(wanted, &[Capability::Container])
}

fn disconnected(mut candidate: Candidate) -> Candidate {
    candidate.set_connected(false);
    candidate
}

fn cordoned(mut candidate: Candidate) -> Candidate {
    candidate.set_cordoned(true);
    candidate
}

fn unselected(mut candidate: Candidate) -> Candidate {
    candidate.set_selected(false);
    candidate
}

fn verdict(candidate: &str, reason: &str) -> CandidateVerdict {
    CandidateVerdict { candidate: candidate.to_owned(), reason: reason.to_owned() }
}

fn refusal(candidates: &[Candidate], request: &Request) -> Refusal {
    decide(candidates, request).expect_err("nothing fits").into_refusal(CandidateKind::Worker)
}

#[test]
fn the_first_reason_is_the_one_nearest_to_the_user() {
    let asked = Request::new(resources(1000, 1000), &[Capability::Container, Capability::Overlay]);
    let able = [Capability::Container, Capability::Overlay];
    let mut hopeless = disconnected(cordoned(unselected(worker(1, 0, 0))));
    let mut reasons = vec![filter(&hopeless, &asked)];
    hopeless.set_selected(true);
    reasons.push(filter(&hopeless, &asked));
    hopeless.set_connected(true);
    reasons.push(filter(&hopeless, &asked));
    hopeless.set_cordoned(false);
    reasons.push(filter(&hopeless, &asked));
    hopeless = hopeless.with_capabilities(&able);
    reasons.push(filter(&hopeless, &asked));
    hopeless = Candidate::worker(1, resources(1000, 999)).with_capabilities(&able);
    reasons.push(filter(&hopeless, &asked));
    assert_eq!(
        reasons,
        [
            Err(Reason::NotSelected),
            Err(Reason::Disconnected),
            Err(Reason::Cordoned),
            Err(Reason::Lacks(Capability::Overlay)),
            Err(Reason::Insufficient { what: ResourceKind::Cpu, needs: 1000, has: 0 }),
            Err(Reason::Insufficient { what: ResourceKind::Memory, needs: 1000, has: 999 }),
        ]
    );
}

#[test]
fn a_sum_that_fits_no_worker_is_refused() {
    let cluster = Candidate::cluster(1, resources(8000, 8000), resources(8000, 2000));
    let asked = Request::new(resources(1000, 4000), &[]);
    let expected = Reason::InsufficientOnOneWorker { what: ResourceKind::Memory, needs: 4000, has: 2000 };
    assert_eq!(filter(&cluster, &asked), Err(expected));
    let refused = decide(&[cluster], &asked).expect_err("no worker is large enough");
    assert_eq!(
        refused.into_refusal(CandidateKind::Cluster),
        Refusal {
            code: RefusalCode::NoResourcesAvailable,
            summary: "the only cluster cannot take it".to_owned(),
            candidates: vec![verdict(
                "1 cluster",
                "needs 4000 MiB of memory on one worker, its largest free is 2000 MiB"
            )],
        }
    );
}

#[test]
fn a_choice_counts_whom_it_left_out() {
    let candidates = [
        worker(1, 500, 4000),
        worker(2, 4000, 500),
        disconnected(worker(3, 9000, 9000)),
        worker(4, 2000, 2000),
        worker(5, 4000, 4000),
        cordoned(worker(6, 9000, 9000)),
        unselected(worker(7, 9000, 9000)),
        Candidate::worker(8, resources(9000, 9000)),
    ];
    let asked = request(1000, 1000);
    let rejected = Tally {
        not_selected: 1,
        disconnected: 1,
        cordoned: 1,
        incapable: 1,
        cpu: 1,
        memory: 1,
        ..Tally::default()
    };
    let expected = Choice { index: 4, score: Score::of(&candidates[4], &asked), rejected };
    assert_eq!(decide(&candidates, &asked), Ok(expected));
}

#[test]
fn like_reasons_are_told_once_with_the_closest_miss() {
    let candidates =
        [worker(1, 4000, 100), worker(2, 4000, 512), disconnected(worker(3, 1, 1)), worker(4, 4000, 300)];
    assert_eq!(
        refusal(&candidates, &request(1000, 1024)),
        Refusal {
            code: RefusalCode::NoResourcesAvailable,
            summary: "none of 4 workers can take it".to_owned(),
            candidates: vec![
                verdict("3 workers", "needs 1024 MiB of memory, the largest free is 512 MiB"),
                verdict("1 worker", "not connected"),
            ],
        }
    );
}

#[test]
fn having_no_candidate_within_reach_is_another_refusal_than_having_too_little() {
    let asked = request(1000, 1000);
    let told = |candidates: &[Candidate]| {
        let refusal = refusal(candidates, &asked);
        (refusal.code, refusal.summary)
    };
    let (small, away, other) =
        (worker(1, 1, 1), disconnected(worker(2, 9000, 9000)), unselected(worker(3, 9000, 9000)));
    let no_target = |summary: &str| (RefusalCode::NoTargetCluster, summary.to_owned());
    assert_eq!(told(&[]), no_target("no worker has joined"));
    assert_eq!(told(&[away]), no_target("no worker is connected"));
    assert_eq!(told(&[other]), no_target("no worker has a name the service asks for"));
    assert_eq!(told(&[away, other]), no_target("no worker with a name the service asks for is connected"));
    assert_eq!(
        told(&[away, other, small]),
        (RefusalCode::NoResourcesAvailable, "none of 3 workers can take it".to_owned())
    );
}

#[test]
fn the_callers_check_is_asked_only_about_those_that_could_be_chosen() {
    // In falling order of room: once the first is accepted, nobody else could be chosen.
    let candidates = [worker(1, 1, 1), worker(2, 8000, 8000), worker(3, 4000, 4000), worker(4, 2000, 2000)];
    let mut asked_about = Vec::new();
    let choice = decide_with(&candidates, &request(1000, 1000), |index| {
        asked_about.push(index);
        Ok(())
    });
    assert_eq!((choice.map(|choice| choice.index), asked_about), (Ok(1), vec![1]));
}

#[test]
fn who_is_declined_leaves_the_choice_to_the_next_best() {
    let candidates = [worker(1, 8000, 8000), worker(2, 2000, 2000), worker(3, 4000, 4000)];
    let port = PortMapping { host: 80, container: 80, protocol: Protocol::Tcp };
    let asked = request(1000, 1000);
    let choice =
        decide_with(
            &candidates,
            &asked,
            |index| {
                if index == 0 { Err(Reason::PortTaken(port)) } else { Ok(()) }
            },
        );
    let rejected = Tally { declined: 1, ..Tally::default() };
    assert_eq!(choice, Ok(Choice { index: 2, score: Score::of(&candidates[2], &asked), rejected }));
}

#[test]
fn if_all_are_declined_each_was_asked_and_its_reason_is_told() {
    let candidates = [worker(1, 8000, 8000), worker(2, 1, 1), worker(3, 4000, 4000)];
    let port = PortMapping { host: 80, container: 80, protocol: Protocol::Tcp };
    let refused = decide_with(&candidates, &request(1000, 1000), |_| Err(Reason::PortTaken(port)))
        .expect_err("all are declined");
    let short = Reason::Insufficient { what: ResourceKind::Cpu, needs: 1000, has: 1 };
    assert_eq!(refused.reasons(), [(Reason::PortTaken(port), 2), (short, 1)]);
}

#[test]
fn reasons_in_the_callers_words_stay_bounded() {
    let candidates: Vec<Candidate> = (0..100).map(|id| worker(id, 8000, 8000)).collect();
    let refused = decide_with(&candidates, &request(1, 1), |index| {
        Err(Reason::Declined(Cow::Owned(format!("reason {index}"))))
    })
    .expect_err("all are declined");
    assert_eq!((refused.reasons().len(), refused.total()), (32, 100));
}

#[test]
fn candidates_are_explained_by_name_up_to_a_screen_full() {
    let mut candidates: Vec<Candidate> = (0..60).map(|id| worker(id, 1, 1)).collect();
    candidates[0] = disconnected(candidates[0]);
    let verdicts = explain(&candidates, &request(1000, 1), |index| format!("c{index}"));
    assert_eq!(verdicts.len(), EXPLAINED_CANDIDATES + 1);
    assert_eq!(verdicts[0], verdict("c0", "not connected"));
    assert_eq!(verdicts[1], verdict("c1", "needs 1 cores, 0.001 is free"));
    assert_eq!(verdicts[EXPLAINED_CANDIDATES], verdict("and 10 more", "rejected as well"));
}

#[test]
fn what_the_frontier_leaves_out_may_still_fit() {
    let corner = |cpu: u32| resources(cpu, 10_000 - cpu);
    let all: Vec<Resources> = (0..20).map(|step| corner(step * 500)).collect();
    let cut = frontier(all.iter().copied());
    assert_eq!(cut.len(), model::ClusterAggregate::LARGEST_FREE_ENTRIES);
    let left_out = all.iter().find(|entry| !cut.contains(entry)).expect("twenty do not fit into eight");
    assert_eq!((fits_one(&cut, left_out), may_fit_one(&cut, left_out)), (false, true));
    let too_much = resources(10_001, 0);
    assert!(!may_fit_one(&cut, &too_much));
}

#[test]
fn the_frontier_keeps_only_what_nobody_covers() {
    let free = [resources(1, 1), resources(5, 1), resources(1, 5), resources(5, 1), resources(0, 0)];
    assert_eq!(frontier(free.into_iter()), [resources(5, 1), resources(1, 5)]);
}

#[test]
fn whoever_lacks_several_capabilities_is_counted_once() {
    let asked = Request::new(resources(1, 1), &[Capability::Container, Capability::Overlay]);
    let able = |id: u128, capabilities: &[Capability]| {
        Candidate::worker(id, resources(9000, 9000)).with_capabilities(capabilities)
    };
    let candidates = [able(1, &[]), able(2, &[Capability::Container]), able(3, &[Capability::Overlay])];
    let refused = decide(&candidates, &asked).expect_err("nobody can do both");
    assert_eq!(
        refused.reasons(),
        [(Reason::Lacks(Capability::Container), 2), (Reason::Lacks(Capability::Overlay), 1)]
    );
}

#[test]
fn a_worker_without_any_of_a_kind_is_a_miss_too() {
    let mut asked = request(1, 1);
    asked.resources.gpus = 2;
    assert_eq!(
        refusal(&[worker(1, 9000, 9000), worker(2, 9000, 9000)], &asked).candidates,
        [verdict("2 workers", "needs 2 GPUs, the largest free is 0")]
    );
}
