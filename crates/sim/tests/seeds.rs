//! Seeds that must pass. Run them as `cargo nextest run -p sim --cargo-profile sim`: without optimisation they take
//! many times as long.

use sim::{Fault, Mutant, Options, Runs, RunsMistake, Scenario};

/// Runs scenarios on all processors and tells the first that fails in words.
fn all_hold(scenarios: &[Scenario]) {
    let outcomes = sim::run_all(scenarios, false, |scenario| sim::run(scenario, Options::default()));
    for (scenario, outcome) in scenarios.iter().zip(outcomes) {
        if let Some(outcome) = outcome {
            assert!(outcome.violation.is_none(), "{}", sim::explain(scenario, 60));
            assert!(
                outcome.statistics.starts > 0 && outcome.statistics.faults > 0,
                "nothing happened: {scenario:?}"
            );
        }
    }
}

#[test]
fn two_hundred_small_worlds_keep_every_invariant() {
    let scenarios: Vec<Scenario> = (1..=200).map(Scenario::small).collect();
    all_hold(&scenarios);
}

#[test]
fn fifty_worlds_of_a_thousand_workers_keep_every_invariant() {
    let scenarios: Vec<Scenario> = (1..=50).map(Scenario::large).collect();
    all_hold(&scenarios);
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let hash = |seed| sim::run(&Scenario::small(seed), Options::default()).hash;
    assert_eq!(hash(7), hash(7));
    assert_ne!(hash(7), hash(8));
}

#[test]
fn a_log_changes_nothing_in_what_happens() {
    let with = sim::run(&Scenario::small(3), Options { log: true, ..Options::default() });
    let without = sim::run(&Scenario::small(3), Options::default());
    assert_eq!(with.hash, without.hash);
    assert!(!with.log.is_empty() && without.log.is_empty());
}

#[test]
fn workers_that_never_stop_anything_are_caught() {
    assert!(sim::hunt(Mutant::NeverStop, 1..20).is_some());
}

#[test]
fn a_world_without_faults_comes_to_rest_at_once() {
    let calm = Scenario { faults: std::iter::empty::<Fault>().collect(), ..Scenario::small(1) };
    let outcome = sim::run(&calm, Options::default());
    assert_eq!(outcome.violation, None);
    assert!(outcome.statistics.rested <= 45_000, "{} ms", outcome.statistics.rested);
}

/// Few, so that it takes no longer without optimisation; `cargo xtask sim --runs 10000` is the same with many.
const RUNS: u64 = 60;

#[test]
fn runs_in_progress_all_finish_when_the_root_comes_back_and_nothing_is_started_twice() {
    for seed in 1..=4 {
        let outcome = Runs { ends: 3, clusters: 5, ..Runs::new(seed, RUNS) }.run();
        assert_eq!(outcome.wrong, [""; 0], "seed {seed}");
        assert!(outcome.in_progress >= RUNS, "seed {seed}: {} in progress", outcome.in_progress);
    }
}

#[test]
fn mistakes_around_runs_are_caught() {
    let mistakes = [RunsMistake::TearCommits, RunsMistake::ForgetCommits, RunsMistake::StartAgain];
    for mistake in mistakes {
        let is_caught = |seed: u64| {
            let scenario = Runs { ends: 3, clusters: 5, mistake: Some(mistake), ..Runs::new(seed, RUNS) };
            !scenario.run().wrong.is_empty()
        };
        assert!((1..=10).any(is_caught), "{mistake:?}");
    }
}
