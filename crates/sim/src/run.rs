//! Runs scenarios: one, many on all processors, and a failing one again and again with less in it.

use std::{
    collections::BTreeSet,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use model::{AssignedInstance, Desired};

use crate::{
    invariants::Invariant, mutants::Mutant, oracle::Violation, scenario::Scenario, stats::Statistics,
    trace::Line, world::World,
};

/// What came of a scenario.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The first invariant that did not hold.
    pub violation: Option<Violation>,
    /// The fingerprint of everything that happened.
    pub hash: u64,
    /// Figures.
    pub statistics: Statistics,
    /// What happened in words, if it was asked for.
    pub log: Vec<Line>,
}

/// What is wanted of a run beside its outcome.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Keep the log.
    pub log: bool,
    /// Measure how long the brains take.
    pub timed: bool,
    /// Called several times a second: large worlds take an hour.
    pub progress: Option<fn(Progress)>,
}

/// How far a run has got.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Virtual milliseconds since its beginning.
    pub virtual_millis: u64,
    /// Everything that has happened.
    pub events: u64,
    /// Containers that run.
    pub running: u64,
}

/// Runs a scenario to its end, or to the first violation.
#[must_use]
pub fn run(scenario: &Scenario, options: Options) -> Outcome {
    let mut world = World::new(scenario.clone(), options.log);
    world.statistics.timed = options.timed;
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.run(options.progress))) {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words");
        let verdict = Err(format!("a brain panics: {text}"));
        let host = world.deciding;
        world.oracle.judge(world.now, Invariant::NoPanic, None, host, verdict);
    }
    Outcome {
        violation: world.oracle.violation.take(),
        hash: world.trace.hash(),
        statistics: world.statistics.clone(),
        log: world.trace.into_lines(),
    }
}

/// Runs a scenario twice: REPLAY does not hold if the traces differ.
#[must_use]
pub fn run_twice(scenario: &Scenario) -> Outcome {
    let first = run(scenario, Options::default());
    let second = run(scenario, Options::default());
    let violation = first.violation.clone().or_else(|| {
        (first.hash != second.hash).then(|| Violation {
            invariant: Invariant::Replay,
            at: 0,
            detail: format!("the traces {:016x} and {:016x} differ", first.hash, second.hash),
            instance: None,
            host: None,
        })
    });
    Outcome { violation, ..first }
}

/// Runs scenarios on as many threads as there are processors; the answers are in the order of the scenarios. After
/// the first violation no more are begun, unless `all` are wanted.
#[must_use]
pub fn run_all(
    scenarios: &[Scenario],
    all: bool,
    each: impl Fn(&Scenario) -> Outcome + Sync,
) -> Vec<Option<Outcome>> {
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<Option<Outcome>>> = Mutex::new(vec![None; scenarios.len()]);
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((index, scenario)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    scenarios.get(index).map(|scenario| (index, scenario))
                } {
                    let outcome = each(scenario);
                    if outcome.violation.is_some() && !all {
                        next.fetch_max(scenarios.len(), Ordering::Relaxed);
                    }
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes[index] = Some(outcome);
                    }
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_default()
}

/// Takes away from a failing scenario what is not needed for the same invariant to fail.
#[must_use]
pub fn shrink(scenario: &Scenario, invariant: Invariant) -> Scenario {
    let fails = |candidate: &Scenario| {
        run(candidate, Options::default()).violation.is_some_and(|violation| violation.invariant == invariant)
    };
    let mut smallest = scenario.clone();
    for fault in scenario.faults.clone() {
        let mut fewer: BTreeSet<_> = smallest.faults.clone();
        fewer.remove(&fault);
        let candidate = Scenario { faults: fewer, ..smallest.clone() };
        if fails(&candidate) {
            smallest = candidate;
        }
    }
    loop {
        let Scenario { workers, clusters, minutes, instances, .. } = smallest;
        let halves = [
            Scenario { instances: (instances / 2).max(1), ..smallest.clone() },
            Scenario { workers: (workers / 2).max(clusters), ..smallest.clone() },
            Scenario { clusters: (clusters / 2).max(1), ..smallest.clone() },
            Scenario { minutes: (minutes / 2).max(1), ..smallest.clone() },
            Scenario { minutes: (minutes - 1).max(1), ..smallest.clone() },
        ];
        match halves.into_iter().find(|candidate| *candidate != smallest && fails(candidate)) {
            Some(smaller) => smallest = smaller,
            None => return smallest,
        }
    }
}

/// What a person needs to know of a violation: the id, what is wrong, what led to it, and how to see it again.
#[must_use]
pub fn explain(scenario: &Scenario, lines: usize) -> String {
    let outcome = run(scenario, Options { log: true, ..Options::default() });
    let Some(violation) = outcome.violation else { return "no invariant is violated".to_owned() };
    let instance = violation.instance.map(|id| id.to_string());
    let about = instance.clone().or_else(|| violation.host.clone()).unwrap_or_default();
    // Whoever is named together with it: what happens to them matters too, what they are told of others does not.
    let names: BTreeSet<&str> = outcome
        .log
        .iter()
        .filter(|line| line.text.contains(&about))
        .flat_map(|line| line.text.split([' ', '#', ':', '[', ']', ',']))
        .filter(|word| word.starts_with("worker") || word.starts_with("cluster"))
        .chain(["root"])
        .collect();
    let happened_to = |text: &str| {
        let mut words = text.split([' ', ':']);
        let named = words.clone().take(5).any(|word| names.contains(word));
        named && !text.contains('/') && !words.any(|word| word == "tells" || word == "assignment")
    };
    let concerned = |line: &&Line| line.text.contains(&about) || happened_to(&line.text);
    let mut last: Vec<String> =
        outcome.log.iter().rev().filter(concerned).take(lines).map(|line| narrow(line, &about)).collect();
    last.reverse();
    let at = Line { at: violation.at, text: violation.detail };
    let whom = instance.map(|id| format!(" (instance {id})")).unwrap_or_default();
    format!(
        "{}{whom} is violated:\n{at}\n\nwhat led to it:\n{}\n\nto see it again:\n  {}",
        violation.invariant,
        last.join("\n"),
        scenario.command()
    )
}

/// A line without what it says of other instances.
fn narrow(line: &Line, about: &str) -> String {
    let Some((head, list)) = line.text.split_once(": ").filter(|(head, _)| head.contains(" assignment "))
    else {
        return line.to_string();
    };
    let items: Vec<&str> = list.split(", ").filter(|item| item.contains(about)).collect();
    Line { at: line.at, text: format!("{head}: {}", items.join(", ")) }.to_string()
}

/// The first seed in which a mutant is caught that passes without it, and by what.
#[must_use]
pub fn hunt(mutant: Mutant, seeds: Range<u64>) -> Option<(u64, Violation)> {
    seeds.into_iter().find_map(|seed| {
        let healthy = Scenario::small(seed);
        let scenario = Scenario { mutant: Some(mutant), ..healthy.clone() };
        let outcome = if mutant == Mutant::OutsideChance {
            run_twice(&scenario)
        } else {
            run(&scenario, Options::default())
        };
        let violation = outcome.violation?;
        run(&healthy, Options::default()).violation.is_none().then_some((seed, violation))
    })
}

/// A number that no seed determines, for the mutant whose fault that is.
pub(crate) fn outside_chance() -> u64 {
    static DRAWN: AtomicUsize = AtomicUsize::new(1);
    u64::try_from(DRAWN.fetch_add(1, Ordering::Relaxed)).unwrap_or(0)
}

/// One line about what is wanted of an instance.
pub(crate) fn in_words(instance: &AssignedInstance) -> String {
    let AssignedInstance { id, generation, desired, .. } = instance;
    match desired {
        Desired::Running => format!("{id}#{generation}"),
        Desired::Removed => format!("{id}#{generation} removed"),
    }
}
