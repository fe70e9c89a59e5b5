//! Very many runs of tasks while the root ends and comes back: its real core, recovered from what its store holds, and
//! clusters that do as they are told with containers that end by themselves (`site.rs`). Connections break, messages are on
//! their way for as long as they like, and users fire again what nobody answered.
//!
//! Each run has the same five tasks (`plan.rs`): how many containers they take follows from its number, and each is to be
//! started exactly once.

mod plan;
mod scenario;
mod site;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{Assignment, Brain, ClusterId, ClusterReport, Generation, InstanceId, Location, Now};
use root_core::{Change, Effect, State};
use workflow::{RunId, RunPhase};

use crate::{
    daemon::{Daemon, Doom},
    ids::ClusterIndex,
    queue::{Millis, Queue},
    rng::Rng,
    stats::Statistics,
    wishes::ORGANIZATION,
};
pub use scenario::{Runs, RunsMistake, RunsOutcome};
use site::Site;

/// All are fired within that time, and none of their first containers ends before the root does.
const FIRING: Millis = 10_000;
const FIRST_END: Millis = 14_000;
const BETWEEN_ENDS: Millis = 25_000;
const BATCHES: u64 = 100;
/// Everything is long over by then.
const LONGEST: Millis = 3_600_000;
/// Of messages, in a thousand: one with which its connection ends.
const BREAKS: u32 = 2;
/// Mistakes that are told.
const MOST_TOLD: usize = 10;

/// What enters the brain.
#[derive(Debug)]
enum Input {
    Connected(u32),
    Disconnected(u32, u64),
    Reported(u32, u64, Box<ClusterReport>),
    Fire(u64),
}

#[derive(Debug)]
enum Event {
    Turn {
        process: u32,
    },
    Wake {
        process: u32,
    },
    /// A cluster is told something over that connection.
    Tell {
        site: u32,
        session: u64,
        assignment: Arc<Assignment>,
    },
    /// The root is.
    Told {
        site: u32,
        session: u64,
        report: Box<ClusterReport>,
    },
    /// A cluster that has news reports.
    Report {
        site: u32,
    },
    ContainerEnds {
        site: u32,
        id: InstanceId,
    },
    Dial {
        site: u32,
    },
    Break {
        site: u32,
        session: u64,
    },
    Fire(u64),
    RootEnds(Doom),
    RootStarts,
}

struct World {
    scenario: Runs,
    now: Millis,
    rng: Rng,
    queue: Queue<Event>,
    root: Daemon<State, Input>,
    sites: Vec<Site>,
    sessions: u64,
    /// Runs that users have to ask for again.
    unanswered: u64,
    /// Runs that were ever durable, and those that are over.
    runs: BTreeSet<RunId>,
    over: BTreeSet<RunId>,
    /// How often each container was started, by the name of its attempt.
    starts: BTreeMap<String, u32>,
    statistics: Statistics,
    outcome: RunsOutcome,
}

impl Runs {
    /// Runs it to its end.
    #[must_use]
    pub fn run(&self) -> RunsOutcome {
        let mut world = World::new(self.clone());
        world.begin();
        while let Some((at, event)) = world.queue.pop(|_| 0) {
            world.now = at;
            if world.is_done() || at > LONGEST {
                break;
            }
            world.happen(event);
        }
        world.judge()
    }
}

impl World {
    fn new(scenario: Runs) -> Self {
        let sites = (0..scenario.clusters).map(|_| Site::new(scenario.seed)).collect();
        let statistics = Statistics { timed: scenario.timed, ..Statistics::default() };
        Self {
            now: 0,
            rng: Rng::new(scenario.seed),
            queue: Queue::new(1),
            root: Daemon::new(),
            sites,
            sessions: 0,
            unanswered: scenario.runs,
            runs: BTreeSet::new(),
            over: BTreeSet::new(),
            starts: BTreeMap::new(),
            statistics,
            outcome: RunsOutcome::default(),
            scenario,
        }
    }

    /// Clusters have joined, tasks are written, and users and ends of the root are on their way.
    fn begin(&mut self) {
        let joined: Vec<Change> = (0..self.scenario.clusters)
            .map(|index| {
                let index = ClusterIndex(index);
                let (id, name) = (index.id(), index.to_string());
                let cluster =
                    root_core::Cluster { id, name, location: None, generation: Generation::default() };
                Change::Cluster(id, Some(cluster))
            })
            .collect();
        self.root.store.commit(&joined);
        let brain = State::of(ORGANIZATION);
        match plan::write(&brain, self.present()) {
            Ok(written) => self.root.store.commit(&written),
            Err(wrong) => self.wrong(wrong),
        }
        self.happen(Event::RootStarts);
        let batch = self.scenario.runs.div_ceil(BATCHES);
        for number in 0..BATCHES {
            self.queue.push(1000 + number * FIRING / BATCHES, Event::Fire(batch));
        }
        for number in 0..u64::from(self.scenario.ends) {
            let doom = if self.rng.per_mille(500) { Doom::BeforeCommit } else { Doom::AfterCommit };
            self.queue.push(FIRST_END + number * BETWEEN_ENDS, Event::RootEnds(doom));
        }
    }

    fn is_done(&self) -> bool {
        let ended_as_often = self.root.process.number > self.scenario.ends;
        ended_as_often && self.unanswered == 0 && self.root.is_up() && self.over.len() == self.runs.len()
    }

    fn present(&self) -> Now {
        self.root.process.present(self.now, None)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Turn { process } => self.turn(process),
            Event::Wake { process } => {
                self.root.woken(self.now, process);
                if self.root.due {
                    self.turn_soon();
                }
            }
            Event::Tell { site, session, assignment } => self.is_told(site, session, &assignment),
            Event::Told { site, session, report } => {
                self.enqueue(Input::Reported(site, session, report));
            }
            Event::Report { site } => self.report(site),
            Event::ContainerEnds { site, id } => {
                let date = self.root.process.date(self.now);
                self.sites[site as usize].ends(id, date);
                self.report_soon(site);
            }
            Event::Dial { site } => self.dial(site),
            Event::Break { site, session } => self.breaks(site, session),
            Event::Fire(count) => self.fire(count),
            Event::RootEnds(doom) => {
                self.root.doom = Some(doom);
                self.turn_soon();
            }
            Event::RootStarts => self.root_starts(),
        }
    }

    fn enqueue(&mut self, input: Input) {
        if self.root.is_up() {
            self.root.inbox.push_back(input);
            self.turn_soon();
        }
    }

    fn turn_soon(&mut self) {
        if self.root.is_up() && !self.root.turning {
            self.root.turning = true;
            let (at, process) = (self.now + self.rng.between(1, 5), self.root.process.number);
            self.queue.push(at, Event::Turn { process });
        }
    }

    /// Users who have no answer yet ask.
    fn fire(&mut self, count: u64) {
        let count = count.min(self.unanswered);
        if count == 0 {
            return;
        }
        if self.root.is_up() {
            self.unanswered -= count;
            self.enqueue(Input::Fire(count));
        } else {
            self.queue.push(self.now + 1000, Event::Fire(count));
        }
    }

    fn root_starts(&mut self) {
        self.root.process.begin(self.now);
        let mut brain = State::of(ORGANIZATION);
        self.root.store.documents().for_each(|change| brain.apply(change.clone()));
        brain.loaded(self.present());
        self.root.brain = Some(brain);
        self.turn_soon();
        for site in 0..self.scenario.clusters {
            let at = self.now + self.rng.between(1, 3000);
            self.queue.push(at, Event::Dial { site });
        }
    }

    /// The process ends; only its store is left, and what was not answered is asked for again.
    fn root_ends(&mut self) {
        if self.outcome.in_progress == 0 {
            self.outcome.in_progress = count(self.runs.len() - self.over.len());
        }
        self.root.end();
        for site in &mut self.sites {
            site.session = 0;
        }
        let back = self.now + self.rng.between(3000, 8000);
        self.queue.push(back, Event::RootStarts);
        self.queue.push(back + 1, Event::Fire(u64::MAX));
    }

    /// One round of the loop in `crates/control`: inputs, one commit, then answers and effects.
    fn turn(&mut self, process: u32) {
        if self.root.process.number != process {
            return;
        }
        let Some(mut brain) = self.root.brain.take() else { return };
        self.root.turning = false;
        self.root.due = false;
        let (present, mistake) = (self.present(), self.scenario.mistake);
        let (inputs, doom) = (std::mem::take(&mut self.root.inbox), self.root.doom.take());
        let fired: u64 =
            inputs.iter().map(|input| if let Input::Fire(count) = input { *count } else { 0 }).sum();
        let began = self.statistics.begin();
        let mut changes = Vec::new();
        for input in inputs {
            take_in(&mut brain, input, &self.sites, present, &mut changes);
        }
        let plan = brain.reconcile(present);
        self.statistics.root_decided(began);
        changes.extend(plan.changes);
        if doom == Some(Doom::BeforeCommit) {
            if mistake == Some(RunsMistake::TearCommits) {
                self.root.store.commit(&changes[..changes.len() / 2]);
            }
            self.unanswered += fired;
            return self.root_ends();
        }
        let is_forgotten = mistake == Some(RunsMistake::ForgetCommits) && self.rng.per_mille(20);
        if !is_forgotten {
            self.root.store.commit(&changes);
            self.note(&changes);
        }
        self.root.brain = Some(brain);
        if doom == Some(Doom::AfterCommit) {
            self.unanswered += fired;
            return self.root_ends();
        }
        self.effects(plan.effects);
        if let Some(moment) = plan.wake_at {
            let at = self.root.process.when(moment, None).max(self.now + 1);
            if self.root.wakes_at.is_none_or(|wakes_at| at < wakes_at) {
                self.root.wakes_at = Some(at);
                self.queue.push(at, Event::Wake { process });
            }
        }
    }

    /// What is durable of runs.
    fn note(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::Workflow(workflow::Change::Run(id, Some(run))) = change {
                self.runs.insert(*id);
                if run.phase.is_over() {
                    self.over.insert(*id);
                    if run.phase != RunPhase::Succeeded {
                        self.wrong(format!("run {id} is {:?}: {:?}", run.phase, run.reason));
                    }
                }
            }
        }
    }

    fn effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::SendAssignment { cluster, session, assignment } => {
                    let site = ClusterIndex::of(cluster).0;
                    let assignment = Arc::new(assignment);
                    self.send(site, session, Event::Tell { site, session, assignment });
                }
                // Nobody joins, calls or listens here.
                Effect::SendTokens { .. }
                | Effect::SendRevocations { .. }
                | Effect::TellNeighbours { .. }
                | Effect::PassOn { .. }
                | Effect::Deliver(_)
                | Effect::CallAction(_) => {}
            }
        }
    }

    /// A message takes its time, or its connection ends with it.
    fn send(&mut self, site: u32, session: u64, message: Event) {
        let at = self.now + self.rng.between(1, 40);
        let breaks = self.rng.per_mille(BREAKS);
        self.queue.push(at, if breaks { Event::Break { site, session } } else { message });
    }

    fn is_told(&mut self, index: u32, session: u64, assignment: &Assignment) {
        let again = self.scenario.mistake == Some(RunsMistake::StartAgain) && self.rng.per_mille(5);
        let site = &mut self.sites[index as usize];
        if site.session != session {
            return;
        }
        for (id, name) in site.take_on(assignment, again) {
            *self.starts.entry(name).or_default() += 1;
            self.outcome.starts += 1;
            let lasts = self.rng.between(15_000, 60_000);
            self.queue.push(self.now + lasts, Event::ContainerEnds { site: index, id });
        }
        self.report_soon(index);
    }

    fn report_soon(&mut self, index: u32) {
        let site = &mut self.sites[index as usize];
        if !site.has_news {
            site.has_news = true;
            let at = self.now + self.rng.between(10, 100);
            self.queue.push(at, Event::Report { site: index });
        }
    }

    fn report(&mut self, index: u32) {
        let date = self.root.process.date(self.now);
        let site = &mut self.sites[index as usize];
        site.has_news = false;
        let session = site.session;
        if session > 0 {
            let report = Box::new(site.report(date));
            self.send(index, session, Event::Told { site: index, session, report });
        }
    }

    fn dial(&mut self, index: u32) {
        if !self.root.is_up() || self.sites[index as usize].session > 0 {
            return;
        }
        self.sessions += 1;
        self.sites[index as usize].connected(self.sessions);
        self.enqueue(Input::Connected(index));
        self.report_soon(index);
    }

    fn breaks(&mut self, index: u32, session: u64) {
        let site = &mut self.sites[index as usize];
        if site.session == session {
            site.session = 0;
            self.enqueue(Input::Disconnected(index, session));
            let at = self.now + self.rng.between(100, 2000);
            self.queue.push(at, Event::Dial { site: index });
        }
    }

    fn wrong(&mut self, what: String) {
        if self.outcome.wrong.len() < MOST_TOLD {
            self.outcome.wrong.push(what);
        }
    }

    /// Every container that was to be started was, once, and no other.
    fn judge(mut self) -> RunsOutcome {
        let left: Vec<RunId> = self.runs.difference(&self.over).copied().collect();
        if let Some(first) = left.first() {
            self.wrong(format!("{} runs do not end, such as run {first}", left.len()));
        }
        if self.unanswered > 0 {
            self.wrong(format!("{} runs were asked for in vain", self.unanswered));
        }
        let mut starts = std::mem::take(&mut self.starts);
        for run in self.runs.clone() {
            for name in plan::containers(self.scenario.seed, run) {
                let times = starts.remove(&name).unwrap_or_default();
                if times != 1 {
                    self.wrong(format!("{name} was started {times} times"));
                }
            }
        }
        for (name, times) in starts {
            self.wrong(format!("{name} was to be started by nobody, and was {times} times"));
        }
        RunsOutcome {
            runs: count(self.runs.len()),
            took: self.now,
            turns: self.statistics.root_turns,
            root: self.statistics.root,
            ..self.outcome
        }
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn take_in(brain: &mut State, input: Input, sites: &[Site], now: Now, changes: &mut Vec<Change>) {
    let id = |site: u32| -> ClusterId { ClusterIndex(site).id() };
    let mut apply = |brain: &mut State, asked: Vec<Change>| {
        asked.iter().for_each(|change| brain.apply(change.clone()));
        changes.extend(asked);
    };
    match input {
        Input::Connected(site) => {
            let location = Location { latitude: 0.0, longitude: 0.0, radius_metres: 0.0 };
            let Site { session, generation, .. } = &sites[site as usize];
            let asked = brain.cluster_connected(id(site), *session, location, *generation, now);
            apply(brain, asked);
        }
        Input::Disconnected(site, session) => brain.cluster_disconnected(id(site), session),
        Input::Reported(site, session, report) => {
            let asked = brain.cluster_reported(id(site), session, *report, now);
            apply(brain, asked);
        }
        Input::Fire(count) => {
            for _ in 0..count {
                let Ok((_, asked)) = plan::fire(brain, now) else { return };
                apply(brain, asked);
            }
        }
    }
}
