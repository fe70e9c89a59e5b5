//! Random graphs of tasks, and a runtime that is reached by messages: they are lost, repeated and overtake each other, in both
//! directions. The process ends at any moment and goes on from what was stored; runs are cancelled and retried meanwhile.
//! Everything that was triggered still starts once, and every join fires once. `crash.rs` has a runtime that hears everything,
//! and circles.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{Concurrency, ForEach, HistoryLimits, Items, Join, Retry};

/// How a task is wired, and how it goes.
#[derive(Debug, Clone)]
struct Node {
    ignition: bool,
    /// Earlier tasks, and whether it waits for their success.
    sources: BTreeMap<usize, bool>,
    join: Waits,
    /// Attempts that fail before one succeeds.
    fails: u32,
    /// Attempts after the first.
    limit: u32,
    /// Runs of it wait for each other.
    queues: bool,
    /// So many items, two of them at once.
    items: Option<u32>,
}

/// What its join waits for.
#[derive(Debug, Clone)]
enum Waits {
    Any,
    All,
    /// Of all it lists, one joined to those before by "and" or "or", in turn.
    Formula(Vec<bool>),
}

/// What happens next. Each picks one of those there are.
#[derive(Debug, Clone, Copy)]
enum Step {
    Fire,
    /// The runtime is given a message, whichever was sent first.
    ToRuntime(usize),
    /// The engine is, and ends, or not.
    ToEngine(usize, Death),
    LoseToRuntime(usize),
    LoseToEngine(usize),
    RepeatToRuntime(usize),
    RepeatToEngine(usize),
    /// A container ends.
    Finish(usize),
    /// The runtime says all it knows, as after a connection is made.
    SayAll,
    Cancel(usize),
    Retry(usize),
    Pass(u64),
    Restart,
}

/// When in a turn the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    Never,
    /// What was seen is lost.
    BeforeCommit,
    /// What was seen is kept, and nothing has followed from it.
    BeforeReconcile,
    /// All is kept, and nothing was sent.
    BeforeEffects,
}

/// Of one attempt, where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Container {
    Runs,
    Ended(AttemptEnd),
}

fn node(index: usize) -> impl Strategy<Value = Node> {
    let earlier = proptest::sample::subsequence((0..index).collect::<Vec<usize>>(), 0..=index.min(3));
    let sources = (earlier, vec(any::<bool>(), 3));
    let sources = sources.prop_map(|(earlier, success)| earlier.into_iter().zip(success).collect());
    let join = prop_oneof![
        2 => Just(Waits::Any),
        2 => Just(Waits::All),
        3 => vec(any::<bool>(), 4).prop_map(Waits::Formula),
    ];
    let ignition = proptest::bool::weighted(if index == 0 { 1.0 } else { 0.3 });
    let goes = (0u32..3, 0u32..3, proptest::bool::weighted(0.3), proptest::option::weighted(0.2, 1u32..4));
    (ignition, sources, join, goes).prop_map(|(ignition, sources, join, (fails, limit, queues, items))| {
        Node { ignition, sources, join, fails, limit, queues, items }
    })
}

fn graph() -> impl Strategy<Value = Vec<Node>> {
    (1usize..7).prop_flat_map(|size| (0..size).map(node).collect::<Vec<_>>())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let deaths = vec![
        Death::Never,
        Death::Never,
        Death::Never,
        Death::BeforeCommit,
        Death::BeforeReconcile,
        Death::BeforeEffects,
    ];
    let death = proptest::sample::select(deaths);
    let step = prop_oneof![
        1 => Just(Step::Fire),
        10 => any::<usize>().prop_map(Step::ToRuntime),
        10 => (any::<usize>(), death).prop_map(|(pick, death)| Step::ToEngine(pick, death)),
        2 => any::<usize>().prop_map(Step::LoseToRuntime),
        2 => any::<usize>().prop_map(Step::LoseToEngine),
        2 => any::<usize>().prop_map(Step::RepeatToRuntime),
        2 => any::<usize>().prop_map(Step::RepeatToEngine),
        8 => any::<usize>().prop_map(Step::Finish),
        1 => Just(Step::SayAll),
        1 => any::<usize>().prop_map(Step::Cancel),
        1 => any::<usize>().prop_map(Step::Retry),
        3 => (0u64..8000).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ];
    vec(step, 0..120)
}

fn named(index: usize) -> String {
    format!("t{index}")
}

fn spec(node: &Node) -> TaskSpec {
    let told = |success: bool| {
        let listed = node.sources.iter().filter(move |(_, is_success)| **is_success == success);
        listed.map(|(source, _)| named(*source)).collect::<BTreeSet<String>>()
    };
    let mut spec = TaskSpec::running("image");
    (spec.start_on_success, spec.start_on_failure) = (told(true), told(false));
    if node.ignition {
        spec.start_on_ignition.insert("i".to_owned());
    }
    spec.join = match &node.join {
        Waits::Any => Join::Any,
        Waits::All => Join::All,
        Waits::Formula(operators) => formula(node, operators).parse().map_or(Join::Any, Join::Expression),
    };
    spec.retry = Retry { limit: node.limit, ..Retry::default() };
    spec.concurrency = if node.queues { Concurrency::Queue } else { Concurrency::Allow };
    spec.for_each = node
        .items
        .map(|count| ForEach { items: Items::Given((0..count).map(Value::from).collect()), parallelism: 2 });
    spec.history = HistoryLimits { successful: 100_000, failed: 100_000 };
    spec
}

/// `((a.success && b.failure) || i.fired)`: in the order of `waited_for`.
fn formula(node: &Node, operators: &[bool]) -> String {
    let asked = node.sources.iter().map(|(source, success)| {
        format!("{}.{}", named(*source), if *success { "success" } else { "failure" })
    });
    let asked = asked.chain(node.ignition.then(|| "i.fired".to_owned()));
    asked.enumerate().fold(String::new(), |before, (index, asked)| match index {
        0 => asked,
        _ => format!("({before} {} {asked})", if operators[index - 1] { "&&" } else { "||" }),
    })
}

/// The engine, its store, the runtime, and what is on its way between them.
struct Trial {
    nodes: Vec<Node>,
    workflow: Workflow,
    stored: Stored,
    now: Now,
    wake_at: Option<Moment>,
    /// Of each attempt that the runtime was ever asked for.
    containers: BTreeMap<AttemptId, Container>,
    /// Those that it started, in their order.
    started: Vec<AttemptId>,
    to_runtime: Vec<Effect>,
    to_engine: Vec<Fact>,
    /// Runs that somebody cancelled or retried: what is started in them depends on when.
    touched: BTreeSet<RunId>,
}

impl Trial {
    fn new(nodes: Vec<Node>) -> Self {
        let now =
            Now { date: parse_rfc3339("2026-01-15T12:00:00Z").expect("a date"), moment: Moment(1_000_000) };
        let mut trial = Self {
            workflow: Workflow::new(Arc::new(Prefixes)),
            nodes,
            stored: Stored::default(),
            now,
            wake_at: None,
            containers: BTreeMap::new(),
            started: Vec::new(),
            to_runtime: Vec::new(),
            to_engine: Vec::new(),
            touched: BTreeSet::new(),
        };
        let ignitor = trial.workflow.set_ignitor(name("i"), IgnitorSpec::by_hand(), now);
        trial.turn(ignitor, Death::Never);
        for index in 0..trial.nodes.len() {
            let task = trial.workflow.set_task(name(&named(index)), spec(&trial.nodes[index]));
            trial.turn(task, Death::Never);
        }
        trial.step(Step::Fire);
        trial
    }

    fn node(&self, task: &str) -> &Node {
        let index: usize = task.trim_start_matches('t').parse().expect("a number");
        &self.nodes[index]
    }

    /// One turn of the loop: these changes, what follows, one commit, and the effects; or a part of that.
    fn turn(&mut self, changes: Vec<Change>, death: Death) {
        changes.iter().for_each(|change| self.workflow.apply(change.clone()));
        match death {
            Death::BeforeCommit => return self.restart(),
            Death::BeforeReconcile => {
                self.stored.commit(&changes);
                return self.restart();
            }
            Death::Never | Death::BeforeEffects => {}
        }
        let plan = self.workflow.reconcile(self.now);
        self.stored.commit(&changes);
        self.stored.commit(&plan.changes);
        if death == Death::BeforeEffects {
            return self.restart();
        }
        self.wake_at = plan.wake_at;
        self.to_runtime.extend(plan.effects);
    }

    /// Another process, which knows what is stored. What was on its way to the one before arrives all the same, or does not.
    fn restart(&mut self) {
        self.workflow = self.stored.open();
        self.now = Now { date: self.now.date.plus_millis(1), moment: Moment(5) };
        self.turn(Vec::new(), Death::Never);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Fire => {
                let (_, changes) = self.workflow.fire(&name("i"), None, self.now).expect("it fires");
                self.turn(changes, Death::Never);
            }
            Step::ToRuntime(pick) => {
                if let Some(effect) = take(&mut self.to_runtime, pick) {
                    self.carry_out(effect);
                }
            }
            Step::ToEngine(pick, death) => {
                if let Some(fact) = take(&mut self.to_engine, pick) {
                    let changes = self.workflow.observe(fact, self.now);
                    self.turn(changes, death);
                }
            }
            Step::LoseToRuntime(pick) => drop(take(&mut self.to_runtime, pick)),
            Step::LoseToEngine(pick) => drop(take(&mut self.to_engine, pick)),
            Step::RepeatToRuntime(pick) => repeat(&mut self.to_runtime, pick),
            Step::RepeatToEngine(pick) => repeat(&mut self.to_engine, pick),
            Step::Finish(pick) => self.finish_one(pick),
            Step::SayAll => self.say_all(),
            Step::Cancel(pick) => self.touch(pick, Workflow::cancel),
            Step::Retry(pick) => self.touch(pick, Workflow::retry),
            Step::Pass(millis) => self.pass(millis),
            Step::Restart => self.restart(),
        }
    }

    fn touch(
        &mut self,
        pick: usize,
        wish: impl FnOnce(&Workflow, RunId, Now) -> Result<Vec<Change>, Rejected>,
    ) {
        let runs: Vec<RunId> = self.workflow.runs().map(|run| run.id).collect();
        let run = runs[pick % runs.len()];
        if let Ok(changes) = wish(&self.workflow, run, self.now) {
            self.touched.insert(run);
            self.turn(changes, Death::Never);
        }
    }

    /// Lets time pass, asking whenever it was wanted.
    fn pass(&mut self, millis: u64) {
        let end = self.now.moment.plus_millis(millis);
        loop {
            let next = self.wake_at.filter(|at| *at <= end).unwrap_or(end).max(self.now.moment);
            let passed = next.millis_since(self.now.moment);
            self.now = Now { date: self.now.date.plus_millis(passed), moment: next };
            self.turn(Vec::new(), Death::Never);
            if next >= end && self.wake_at.is_none_or(|at| at > end) {
                return;
            }
        }
    }

    /// The runtime does as it is told, and says so. A name that it was ever given it does not start again.
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Start(start) => {
                if !self.containers.contains_key(&start.attempt) {
                    self.ensure_may_start(&start.attempt);
                    self.containers.insert(start.attempt.clone(), Container::Runs);
                    self.started.push(start.attempt.clone());
                }
                self.say(&start.attempt);
            }
            Effect::Stop(attempt) => {
                let stopped = match self.containers.get(&attempt) {
                    Some(Container::Ended(_)) => None,
                    Some(Container::Runs) => Some(Exit::Code(143)),
                    None => Some(Exit::Lost("it never was".to_owned())),
                };
                if let Some(exit) = stopped {
                    let end = AttemptEnd { exit, at: self.now.date, ..ended(0) };
                    self.containers.insert(attempt.clone(), Container::Ended(end));
                }
                self.say(&attempt);
            }
            Effect::Call { .. } => panic!("nobody is to be called"),
        }
    }

    /// Nothing is under way that has to be over first.
    fn ensure_may_start(&self, attempt: &AttemptId) {
        let runs = |other: &&AttemptId| self.containers.get(*other) == Some(&Container::Runs);
        let under_way: Vec<&AttemptId> = self.started.iter().filter(runs).collect();
        let of_item = |other: &&&AttemptId| other.task_run == attempt.task_run && other.item == attempt.item;
        assert_eq!(under_way.iter().find(of_item), None, "{attempt} begins while one before it runs");
        let of_task_run = |other: &&&AttemptId| other.task_run == attempt.task_run;
        assert!(under_way.iter().filter(of_task_run).count() < 2, "{attempt} is one item too many");
        if self.node(&attempt.task_run.task).queues {
            let another = |other: &&&AttemptId| {
                other.task_run.task == attempt.task_run.task && other.task_run != attempt.task_run
            };
            assert_eq!(under_way.iter().find(another), None, "{attempt} does not wait for it");
        }
    }

    fn say(&mut self, attempt: &AttemptId) {
        let fact = match &self.containers[attempt] {
            Container::Runs => Fact::Confirmed(attempt.clone()),
            Container::Ended(end) => Fact::Ended(attempt.clone(), end.clone()),
        };
        self.to_engine.push(fact);
    }

    fn say_all(&mut self) {
        for attempt in self.containers.keys().cloned().collect::<Vec<_>>() {
            self.say(&attempt);
        }
    }

    fn finish_one(&mut self, pick: usize) {
        let runs = self.containers.iter().filter(|(_, container)| **container == Container::Runs);
        let running: Vec<AttemptId> = runs.map(|(attempt, _)| attempt.clone()).collect();
        let Some(attempt) = running.get(pick % running.len().max(1)) else { return };
        let fails = attempt.attempt <= self.node(&attempt.task_run.task).fails;
        let end = AttemptEnd { at: self.now.date, ..ended(i64::from(fails)) };
        self.containers.insert(attempt.clone(), Container::Ended(end));
        self.say(attempt);
    }

    /// Lets all of it come to its end, with nothing lost any more but what was lost.
    fn finish(&mut self) {
        self.say_all();
        for _ in 0..20_000 {
            if !self.to_runtime.is_empty() {
                self.step(Step::ToRuntime(0));
            } else if !self.to_engine.is_empty() {
                self.step(Step::ToEngine(0, Death::Never));
            } else if self.containers.values().any(|container| *container == Container::Runs) {
                self.finish_one(0);
            } else if self.workflow.runs().all(|run| run.phase.is_over()) {
                return;
            } else {
                self.pass(1000);
            }
        }
        panic!("runs do not end: {:#?}", self.workflow.runs().collect::<Vec<_>>());
    }

    /// Each attempt follows the one before. Where nobody interfered there are as many as the task takes, of all that began.
    fn ensure_attempts(&self) {
        let mut attempts: BTreeMap<(TaskRunId, u32), Vec<u32>> = BTreeMap::new();
        for attempt in &self.started {
            attempts.entry((attempt.task_run.clone(), attempt.item)).or_default().push(attempt.attempt);
        }
        let untouched = |id: &TaskRunId| !self.touched.contains(&id.run);
        for ((id, item), attempts) in &attempts {
            assert!(attempts.is_sorted_by(|one, next| one < next), "item {item} of {id}: {attempts:?}");
            if untouched(id) {
                let node = self.node(&id.task);
                let expected: Vec<u32> = (1..=node.fails.min(node.limit) + 1).collect();
                assert_eq!(attempts, &expected, "item {item} of {id}");
            }
        }
        let begun: BTreeSet<(TaskRunId, u32)> =
            attempts.into_keys().filter(|(id, _)| untouched(id)).collect();
        let items = |part: &TaskRun| {
            let items = self.node(&part.id.task).items.unwrap_or(1);
            (0..items).map(|item| (part.id.clone(), item)).collect::<Vec<_>>()
        };
        let parts = self.workflow.task_runs.values().filter(|part| untouched(&part.id));
        assert_eq!(parts.flat_map(items).collect::<BTreeSet<_>>(), begun, "all that began was started");
    }

    /// How often each task starts in a run, where that does not depend on which of two comes first.
    fn expected(&self) -> Vec<Option<u32>> {
        let mut rounds: Vec<Option<u32>> = Vec::new();
        for node in &self.nodes {
            let told = node.sources.iter().map(|(source, success)| {
                let other = &self.nodes[*source];
                let tells = (other.fails <= other.limit) == *success;
                rounds[*source].map(|rounds| if tells { rounds } else { 0 })
            });
            let heard: Option<Vec<u32>> = told.chain(node.ignition.then_some(Some(1))).collect();
            // A join that hears several rounds of a source fires as often as these come together.
            let is_any = matches!(node.join, Waits::Any);
            let heard = heard.filter(|heard| is_any || heard.iter().all(|rounds| *rounds <= 1));
            rounds.push(heard.map(|heard| match &node.join {
                Waits::Any => heard.iter().sum(),
                Waits::All => u32::from(!heard.is_empty() && heard.iter().all(|rounds| *rounds == 1)),
                Waits::Formula(operators) => {
                    let said = heard.iter().map(|rounds| *rounds == 1).enumerate();
                    let holds = said.fold(false, |before, (index, said)| match index {
                        0 => said,
                        _ if operators[index - 1] => before && said,
                        _ => before || said,
                    });
                    u32::from(holds)
                }
            }));
        }
        rounds
    }

    /// Everything triggered has begun as often as it was triggered, and a run has failed if nobody was there for a failure.
    fn ensure_rounds(&self) {
        let expected = self.expected();
        let is_unmet = |(index, node): (usize, &Node)| {
            let listens = |other: &Node| other.sources.get(&index) == Some(&false);
            expected[index].is_none_or(|rounds| rounds > 0)
                && node.fails > node.limit
                && !self.nodes.iter().any(listens)
        };
        let fails = self.nodes.iter().enumerate().any(is_unmet);
        for run in self.workflow.runs() {
            let is_touched = self.touched.contains(&run.id);
            for (index, expected) in expected.iter().enumerate() {
                let name = named(index);
                let rounds = run.rounds.get(&name).copied().unwrap_or_default();
                if let Some(expected) = expected.filter(|_| !is_touched) {
                    assert_eq!(rounds, expected, "{name} in run {}", run.id);
                }
                if let Some(join) = run.joins.get(&name) {
                    assert_eq!(join.firings, rounds, "the join of {name} in run {}", run.id);
                }
            }
            if !is_touched && expected.iter().all(Option::is_some) {
                let phase = if fails { RunPhase::Failed } else { RunPhase::Succeeded };
                assert_eq!(run.phase, phase, "{run:?}");
            }
        }
    }
}

fn take<T>(messages: &mut Vec<T>, pick: usize) -> Option<T> {
    let index = pick.checked_rem(messages.len())?;
    Some(messages.remove(index))
}

fn repeat<T: Clone>(messages: &mut Vec<T>, pick: usize) {
    if let Some(index) = pick.checked_rem(messages.len()) {
        messages.push(messages[index].clone());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_lost_repeated_or_late_each_start_and_each_join_is_once(nodes in graph(), steps in steps()) {
        let mut trial = Trial::new(nodes);
        steps.into_iter().for_each(|step| trial.step(step));
        trial.finish();
        trial.ensure_attempts();
        trial.ensure_rounds();
    }
}
