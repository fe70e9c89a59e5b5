//! The process ends at any moment: between what was seen and the commit, between the commit and the effects. Everything is
//! still started once, and every join fires once.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{Join, Retry};

/// How a task is wired, and how it goes.
#[derive(Debug, Clone)]
struct Node {
    ignition: bool,
    success: BTreeSet<usize>,
    failure: BTreeSet<usize>,
    join: Waits,
    /// Attempts that fail before one succeeds.
    fails: u32,
    /// Attempts after the first.
    limit: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Any,
    All,
    One,
}

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Step {
    Fire,
    /// One of those that run ends, and then the process does, or not.
    End(usize, Death),
    /// What was said before is said again.
    Repeat(usize),
    Pass(u64),
    Restart,
}

/// When the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    Never,
    /// What was seen is lost.
    BeforeCommit,
    /// What was seen is kept, and nothing has followed from it.
    BeforeReconcile,
    /// What followed is lost, with what was seen.
    AfterReconcile,
    /// All is kept, and nothing was done.
    BeforeEffects,
}

fn node(index: usize, circles: bool) -> impl Strategy<Value = Node> {
    let sources = move || {
        let most = if circles { index + 2 } else { index };
        proptest::sample::subsequence((0..most).collect::<Vec<usize>>(), 0..=most.min(3))
    };
    let join = proptest::sample::select(vec![Waits::Any, Waits::Any, Waits::All, Waits::One]);
    let ignition = proptest::bool::weighted(if index == 0 { 1.0 } else { 0.3 });
    (ignition, sources(), sources(), join, 0u32..3, 0u32..3).prop_map(
        |(ignition, success, failure, join, fails, limit)| {
            let success: BTreeSet<usize> = success.into_iter().collect();
            // Who waits for all waits for one of both.
            let failure = failure.into_iter().filter(|source| !success.contains(source)).collect();
            Node { ignition, success, failure, join, fails, limit }
        },
    )
}

fn graph(circles: bool) -> impl Strategy<Value = Vec<Node>> {
    (1usize..8).prop_flat_map(move |size| (0..size).map(|index| node(index, circles)).collect::<Vec<_>>())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let death = proptest::sample::select(vec![
        Death::Never,
        Death::Never,
        Death::BeforeCommit,
        Death::BeforeReconcile,
        Death::AfterReconcile,
        Death::BeforeEffects,
    ]);
    let step = prop_oneof![
        1 => Just(Step::Fire),
        6 => (any::<usize>(), death).prop_map(|(pick, death)| Step::End(pick, death)),
        2 => any::<usize>().prop_map(Step::Repeat),
        2 => (0u64..3000).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ];
    vec(step, 0..60)
}

fn named(index: usize) -> String {
    format!("t{index}")
}

fn spec(node: &Node, max_hops: u32) -> TaskSpec {
    let names = |sources: &BTreeSet<usize>| sources.iter().copied().map(named).collect::<BTreeSet<String>>();
    let mut spec = TaskSpec::running("image");
    (spec.start_on_success, spec.start_on_failure) = (names(&node.success), names(&node.failure));
    if node.ignition {
        spec.start_on_ignition.insert("i".to_owned());
    }
    let asked = [
        ("fired", &spec.start_on_ignition),
        ("success", &spec.start_on_success),
        ("failure", &spec.start_on_failure),
    ];
    let asked: Vec<String> = asked
        .iter()
        .flat_map(|(what, names)| names.iter().map(move |name| format!("{name}.{what}")))
        .collect();
    spec.join = match node.join {
        Waits::Any => Join::Any,
        Waits::All => Join::All,
        Waits::One => asked.join(" || ").parse().map_or(Join::Any, Join::Expression),
    };
    spec.retry = Retry { limit: node.limit, ..Retry::default() };
    spec.max_hops = max_hops;
    spec.history = crate::HistoryLimits { successful: 100_000, failed: 100_000 };
    spec
}

/// The engine between a store and a runtime that do not fail when it does.
struct Trial {
    world: World,
    nodes: Vec<Node>,
    /// What the runtime knows of those that have ended.
    done: BTreeMap<AttemptId, AttemptEnd>,
}

impl Trial {
    fn new(nodes: Vec<Node>, max_hops: u32) -> Self {
        let mut world = World::new();
        for (index, node) in nodes.iter().enumerate() {
            world.task(&named(index), spec(node, max_hops));
        }
        world.fire("i");
        Self { world, nodes, done: BTreeMap::new() }
    }

    fn node(&self, task: &str) -> &Node {
        let index: usize = task.trim_start_matches('t').parse().expect("a number");
        &self.nodes[index]
    }

    fn undone(&self) -> Vec<AttemptId> {
        self.world.order.iter().filter(|attempt| !self.done.contains_key(attempt)).cloned().collect()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Fire => _ = self.world.fire("i"),
            Step::End(pick, death) => {
                let undone = self.undone();
                if let Some(attempt) = undone.get(pick % undone.len().max(1)) {
                    self.end(attempt, death);
                }
            }
            Step::Repeat(pick) => {
                let fact = self.done.iter().nth(pick % self.done.len().max(1));
                if let Some((attempt, end)) = fact.map(|(attempt, end)| (attempt.clone(), end.clone())) {
                    self.world.observe(Fact::Ended(attempt, end));
                }
            }
            Step::Pass(millis) => self.world.pass(millis),
            Step::Restart => self.world.restart_after(1),
        }
    }

    /// An attempt ends: the runtime knows, and says so.
    fn end(&mut self, attempt: &AttemptId, death: Death) {
        let fails = attempt.attempt <= self.node(&attempt.task_run.task).fails;
        let end = AttemptEnd { at: self.world.now.date, ..ended(i64::from(fails)) };
        self.done.insert(attempt.clone(), end.clone());
        let fact = Fact::Ended(attempt.clone(), end);
        let world = &mut self.world;
        if death == Death::Never {
            world.observe(fact);
            return;
        }
        let changes = world.workflow.observe(fact, world.now);
        changes.iter().for_each(|change| world.workflow.apply(change.clone()));
        match death {
            Death::Never | Death::BeforeCommit => {}
            Death::BeforeReconcile => world.stored.commit(&changes),
            Death::AfterReconcile => _ = world.workflow.reconcile(world.now),
            Death::BeforeEffects => {
                let plan = world.workflow.reconcile(world.now);
                world.stored.commit(&changes);
                world.stored.commit(&plan.changes);
            }
        }
        world.restart_after(1);
        self.say_all();
    }

    /// A process that has just started is told of all that has ended.
    fn say_all(&mut self) {
        for (attempt, end) in self.done.clone() {
            self.world.observe(Fact::Ended(attempt, end));
        }
    }

    /// Lets all of it come to its end.
    fn finish(&mut self) {
        self.say_all();
        for _ in 0..20_000 {
            if self.world.workflow.runs().all(|run| run.phase.is_over()) {
                return;
            }
            match self.undone().first() {
                Some(attempt) => self.end(&attempt.clone(), Death::Never),
                None => self.world.pass(1000),
            }
        }
        panic!("runs do not end: {:#?}", self.world.workflow.runs().collect::<Vec<_>>());
    }

    /// Each attempt once, one after another, as many as its task takes.
    fn ensure_attempts(&self) {
        let mut attempts: BTreeMap<TaskRunId, Vec<u32>> = BTreeMap::new();
        for attempt in &self.world.order {
            attempts.entry(attempt.task_run.clone()).or_default().push(attempt.attempt);
        }
        for (id, attempts) in &attempts {
            let node = self.node(&id.task);
            let expected: Vec<u32> = (1..=node.fails.min(node.limit) + 1).collect();
            assert_eq!(attempts, &expected, "of {id}");
        }
        let begun: BTreeSet<&TaskRunId> = self.world.workflow.task_runs.keys().collect();
        assert_eq!(attempts.keys().collect::<BTreeSet<_>>(), begun, "all that began was started");
    }

    /// How often each task starts in a run, where that does not depend on which of two comes first.
    fn expected(&self) -> Vec<Option<u32>> {
        let mut rounds: Vec<Option<u32>> = Vec::new();
        for node in &self.nodes {
            let told = |source: &usize, succeeds: bool| {
                let other = &self.nodes[*source];
                let tells = (other.fails <= other.limit) == succeeds;
                rounds[*source].map(|rounds| if tells { rounds } else { 0 })
            };
            let ignition = node.ignition.then_some(Some(1));
            let success = node.success.iter().map(|source| told(source, true));
            let failure = node.failure.iter().map(|source| told(source, false));
            let heard: Option<Vec<u32>> = ignition.into_iter().chain(success).chain(failure).collect();
            // A join that hears several rounds of a source fires as often as these come together.
            let heard =
                heard.filter(|heard| node.join == Waits::Any || heard.iter().all(|rounds| *rounds <= 1));
            rounds.push(heard.map(|heard| match node.join {
                Waits::Any => heard.iter().sum(),
                Waits::All => u32::from(!heard.is_empty() && heard.iter().all(|rounds| *rounds == 1)),
                Waits::One => u32::from(heard.contains(&1)),
            }));
        }
        rounds
    }

    fn ensure_rounds(&self) {
        let expected = self.expected();
        for run in self.world.workflow.runs() {
            for (index, expected) in expected.iter().enumerate() {
                let name = named(index);
                let rounds = run.rounds.get(&name).copied().unwrap_or_default();
                if let Some(expected) = expected {
                    assert_eq!(rounds, *expected, "{name} in run {}", run.id);
                }
                if let Some(join) = run.joins.get(&name) {
                    assert_eq!(join.firings, rounds, "the join of {name} in run {}", run.id);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_dies_when_each_start_and_each_join_is_once(nodes in graph(false), steps in steps()) {
        let mut trial = Trial::new(nodes, 100);
        steps.into_iter().for_each(|step| trial.step(step));
        trial.finish();
        trial.ensure_attempts();
        trial.ensure_rounds();
    }

    #[test]
    fn circles_end_and_start_nothing_twice(nodes in graph(true), steps in steps()) {
        let size = nodes.len();
        let edges = |sources: &BTreeSet<usize>| sources.iter().all(|source| *source < size);
        prop_assume!(nodes.iter().all(|node| edges(&node.success) && edges(&node.failure)));
        let mut trial = Trial::new(nodes, 4);
        steps.into_iter().take(20).for_each(|step| trial.step(step));
        trial.finish();
        trial.ensure_attempts();
    }
}

/// Takes in many facts in one turn, as they come when a fleet is back.
fn observe_all(world: &mut World, facts: Vec<Fact>) {
    let mut changes = Vec::new();
    for fact in facts {
        let following = world.workflow.observe(fact, world.now);
        following.iter().for_each(|change| world.workflow.apply(change.clone()));
        changes.extend(following);
    }
    world.finish(&changes);
}

#[test]
fn ten_thousand_runs_in_progress_go_on_after_a_restart() {
    const RUNS: u64 = 10_000;
    let mut world = World::new();
    let history = crate::HistoryLimits { successful: 1_000_000, failed: 1_000_000 };
    let kept = |spec: TaskSpec| TaskSpec { history, ..spec };
    world.task("a", kept(first()));
    world.task("b", kept(TaskSpec { retry: Retry { limit: 1, ..Retry::default() }, ..task(&["a"], &[]) }));
    world.task("c", kept(task(&["a"], &[])));
    world.task("d", kept(TaskSpec { join: Join::All, ..task(&["b", "c"], &[]) }));
    let mut changes = Vec::new();
    for _ in 0..RUNS {
        let (_, following) = world.workflow.fire(&name("i"), None, world.now).expect("it fires");
        following.iter().for_each(|change| world.workflow.apply(change.clone()));
        changes.extend(following);
    }
    world.finish(&changes);
    let at = world.now.date;
    let all = |task: &str, attempt: u32, code: i64| -> Vec<Fact> {
        (1..=RUNS)
            .map(|run| {
                let task_run = TaskRunId { run: RunId(run), task: task.to_owned(), round: 1 };
                Fact::Ended(AttemptId { task_run, item: 0, attempt }, AttemptEnd { at, ..ended(code) })
            })
            .collect()
    };
    observe_all(&mut world, all("a", 1, 0));
    observe_all(&mut world, all("b", 1, 1));
    // Of half of them the process hears, and ends before it has acted on it.
    let half: Vec<Fact> = all("c", 1, 0).into_iter().step_by(2).collect();
    for fact in half {
        let changes = world.workflow.observe(fact, world.now);
        world.stored.commit(&changes);
    }
    world.restart_after(500);
    observe_all(&mut world, all("c", 1, 0));
    world.pass(500);
    observe_all(&mut world, all("b", 2, 0));
    observe_all(&mut world, all("d", 1, 0));
    assert!(world.workflow.runs().all(|run| run.phase == RunPhase::Succeeded));
    let starts = |task: &str| world.order.iter().filter(|attempt| attempt.task_run.task == task).count();
    let each = usize::try_from(RUNS).expect("small");
    assert_eq!((starts("a"), starts("b"), starts("c"), starts("d")), (each, 2 * each, each, each));
}
