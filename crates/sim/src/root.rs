//! The simulated shell around the brain of the root.

use std::{collections::BTreeMap, sync::Arc};

use model::{
    ApplicationId, Brain, ClusterId, ClusterReport, Generation, Holder, InstanceId, Location, NeighbourNews,
    Now, SecretId, ServiceId, TokenId,
};
use root_core::{Change, Effect, FreshIds, ObjectKey, RevokedId, State};
use workflow::{CallId, ObjectName, RunId, TaskRunId};

use crate::{
    daemon::{Daemon, Doom},
    event::{Body, End, Envelope, Event},
    ids::{Child, ClusterIndex, Host},
    mutants::Mutant,
    scenario::Scenario,
    store::Document,
    user::{Answer, Wish},
    wishes::ORGANIZATION,
    world::World,
};

/// What enters the brain of the root.
#[derive(Debug)]
pub(crate) enum Input {
    Connected {
        cluster: ClusterId,
        session: u64,
        observed: Generation,
    },
    Reported {
        cluster: ClusterId,
        session: u64,
        report: Arc<ClusterReport>,
    },
    Disconnected {
        cluster: ClusterId,
        session: u64,
    },
    ToNeighbour {
        from: ClusterId,
        session: u64,
        to: ClusterId,
        epoch: u64,
        news: Arc<NeighbourNews>,
    },
    /// A user's wish, to be answered.
    Wish(Wish),
}

#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) daemon: Daemon<State, Input>,
    /// The connection of each cluster that this process knows.
    pub(crate) sessions: BTreeMap<ClusterIndex, u64>,
    ids: CountedIds,
    sent: BTreeMap<ClusterIndex, Generation>,
}

/// Documents are loaded in this order, as in `root-orchestrator/src/documents.rs`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Cluster(ClusterId),
    Application(ApplicationId),
    Service(ServiceId),
    Instance(InstanceId),
    Token(TokenId),
    Secret(SecretId),
    Blocks,
    Certificate(Holder),
    Revocation(RevokedId),
    Object(ObjectKey),
    Task(ObjectName),
    Ignitor(ObjectName),
    Run(RunId),
    TaskRun(TaskRunId),
    Call(CallId),
    Counters,
}

impl Document for Change {
    type Key = Key;

    fn key(&self) -> Key {
        match self {
            Self::Application(id, _) => Key::Application(*id),
            Self::Service(id, _) => Key::Service(*id),
            Self::Instance(id, _) => Key::Instance(*id),
            Self::Cluster(id, _) => Key::Cluster(*id),
            Self::Token(id, _) => Key::Token(*id),
            Self::Secret(id, _) => Key::Secret(*id),
            Self::Blocks(_) => Key::Blocks,
            Self::Hook(..) | Self::Delivery(..) => unreachable!("nobody listens here"),
            Self::Workflow(change) => match change {
                workflow::Change::Task(name, _) => Key::Task(name.clone()),
                workflow::Change::Ignitor(name, _) => Key::Ignitor(name.clone()),
                workflow::Change::Run(id, _) => Key::Run(*id),
                workflow::Change::TaskRun(id, _) => Key::TaskRun(id.clone()),
                workflow::Change::Call(id, _) => Key::Call(id.clone()),
                workflow::Change::Counters(_) => Key::Counters,
            },
            Self::Object(key, _) => Key::Object(key.clone()),
            Self::ResourceType(..) | Self::Resource(..) => unreachable!("nobody keeps anything here"),
            Self::People(_) | Self::AuditRecord(..) | Self::AuditEnds(_) | Self::AuditMark(..) => {
                unreachable!("nobody logs in here, and nothing is recorded")
            }
            Self::Certificate(holder, _) => Key::Certificate(*holder),
            Self::Revocation(id, _) => Key::Revocation(*id),
        }
    }

    fn removes(&self) -> bool {
        match self {
            Self::Application(_, document) => document.is_none(),
            Self::Service(_, document) => document.is_none(),
            Self::Instance(_, document) => document.is_none(),
            Self::Cluster(_, document) => document.is_none(),
            Self::Token(_, document) => document.is_none(),
            Self::Certificate(_, document) => document.is_none(),
            Self::Revocation(_, document) => document.is_none(),
            Self::Secret(_, document) => document.is_none(),
            Self::Object(_, document) => document.is_none(),
            Self::Workflow(change) => match change {
                workflow::Change::Task(_, document) => document.is_none(),
                workflow::Change::Ignitor(_, document) => document.is_none(),
                workflow::Change::Run(_, document) => document.is_none(),
                workflow::Change::TaskRun(_, document) => document.is_none(),
                workflow::Change::Call(_, document) => document.is_none(),
                workflow::Change::Counters(_) => false,
            },
            Self::Blocks(_)
            | Self::People(_)
            | Self::Hook(..)
            | Self::Delivery(..)
            | Self::ResourceType(..)
            | Self::Resource(..)
            | Self::AuditRecord(..)
            | Self::AuditEnds(_)
            | Self::AuditMark(..) => false,
        }
    }
}

/// Counts instead of drawing. Outlives the process, as drawn ids do not repeat either.
#[derive(Debug, Default)]
pub(crate) struct CountedIds(u32);

impl CountedIds {
    fn next(&mut self) -> [u8; 12] {
        self.0 += 1;
        let mut bytes = [0; 12];
        bytes[8..].copy_from_slice(&self.0.to_be_bytes());
        bytes
    }
}

impl FreshIds for CountedIds {
    fn application(&mut self) -> ApplicationId {
        ApplicationId::from_bytes(self.next())
    }

    fn service(&mut self) -> ServiceId {
        ServiceId::from_bytes(self.next())
    }
}

impl Root {
    /// With every cluster enrolled.
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let mut daemon = Daemon::new();
        let joined: Vec<Change> = (0..scenario.clusters)
            .map(|index| {
                let index = ClusterIndex(index);
                Change::Cluster(index.id(), Some(enrolled(index)))
            })
            .collect();
        daemon.store.commit(&joined);
        Self { daemon, sessions: BTreeMap::new(), ids: CountedIds::default(), sent: BTreeMap::new() }
    }
}

fn enrolled(index: ClusterIndex) -> root_core::Cluster {
    root_core::Cluster {
        id: index.id(),
        name: index.to_string(),
        location: None,
        generation: Generation::default(),
    }
}

impl World {
    /// Starts the process with what its store holds.
    pub(crate) fn start_root(&mut self) {
        let (now, mutant) = (self.now, self.scenario.mutant);
        self.root.daemon.process.begin(now);
        let mut brain = State::of(ORGANIZATION);
        self.root.daemon.store.documents().for_each(|change| brain.apply(change.clone()));
        brain.loaded(self.root.daemon.process.present(now, mutant));
        self.oracle.root_loaded(now, &brain);
        self.root.daemon.brain = Some(brain);
        self.root.sessions.clear();
        self.say(|| "root starts".to_owned());
        self.root_starts_turning();
        for index in 0..self.scenario.clusters {
            self.recheck_cut(Child::Cluster(ClusterIndex(index)));
        }
    }

    /// The process ends; only its store is left.
    pub(crate) fn end_root(&mut self) {
        self.say(|| "root ends".to_owned());
        self.root.daemon.end();
        self.user.root_ended();
        for (cluster, session) in std::mem::take(&mut self.root.sessions) {
            self.end_is_noticed(Child::Cluster(cluster), End::Child, session);
        }
        for index in 0..self.scenario.clusters {
            self.recheck_cut(Child::Cluster(ClusterIndex(index)));
        }
    }

    /// Puts something into the brain's queue. False when nobody is there to take it.
    pub(crate) fn enqueue_at_root(&mut self, input: Input) -> bool {
        if !self.root.daemon.is_up() {
            return false;
        }
        self.root.daemon.inbox.push_back(input);
        self.root_starts_turning();
        true
    }

    fn root_starts_turning(&mut self) {
        let pause = self.pause_before_turn();
        let daemon = &mut self.root.daemon;
        if !daemon.turning {
            daemon.turning = true;
            let process = daemon.process.number;
            self.queue.push(self.now + pause, Event::Turn { host: Host::Root, process });
        }
    }

    /// One round of the loop in `crates/control`: inputs, one commit, then answers and effects.
    pub(crate) fn root_turn(&mut self, process: u32) {
        let (now, mutant) = (self.now, self.scenario.mutant);
        let daemon = &mut self.root.daemon;
        if daemon.process.number != process {
            return;
        }
        let Some(mut brain) = daemon.brain.take() else { return };
        daemon.turning = false;
        let present = daemon.process.present(now, mutant);
        let inputs = std::mem::take(&mut daemon.inbox);
        let doom = daemon.doom.take();
        let mut changes = Vec::new();
        let mut answers = Vec::new();
        let began = self.statistics.begin();
        for input in inputs {
            let asked = take_in(&mut brain, &mut self.root.ids, input, present, &mut answers);
            asked.iter().for_each(|change| brain.apply(change.clone()));
            changes.extend(asked);
        }
        let mut plan = brain.reconcile(present);
        self.statistics.root_decided(began);
        self.trace.mix(u64::try_from(changes.len()).unwrap_or(0));
        if self.statistics.root_turns.is_multiple_of(16) {
            let again = brain.reconcile(present);
            let rests = again.changes.is_empty() && again.effects.is_empty();
            let waits = plan.wake_at.is_some_and(|at| at <= present.moment);
            if !rests && !waits {
                let detail = format!("{:?} {:?}", again.changes, again.effects);
                self.oracle.restless(now, Host::Root, &detail);
            }
            plan.changes.extend(again.changes);
            plan.effects.extend(again.effects);
            plan.wake_at = again.wake_at;
        }
        changes.extend(plan.changes);
        if doom == Some(Doom::BeforeCommit) {
            match mutant {
                Some(Mutant::EffectsBeforeCommit) => self.root_effects(plan.effects),
                Some(Mutant::AnswerBeforeCommit) => self.answer(answers),
                _ => {}
            }
            self.say(|| format!("root crashes before it commits {} changes", changes.len()));
            self.end_root();
            return self.restart_soon(Host::Root);
        }
        let forgotten = mutant == Some(Mutant::IgnoreCommit) && self.rng.per_mille(20);
        if !forgotten && !changes.is_empty() {
            self.root.daemon.store.commit(&changes);
        }
        self.root.daemon.brain = Some(brain);
        self.root_committed(&changes);
        if doom == Some(Doom::AfterCommit) {
            self.say(|| format!("root crashes after it committed {} changes", changes.len()));
            self.end_root();
            return self.restart_soon(Host::Root);
        }
        self.answer(answers);
        self.root_effects(plan.effects);
        let wake_at = plan.wake_at.map(|moment| self.root.daemon.process.when(moment, mutant));
        self.wake_at(Host::Root, wake_at);
    }

    fn root_effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::SendAssignment { cluster, session, assignment } => {
                    let cluster = ClusterIndex::of(cluster);
                    if self.is_mutant(Mutant::SendOnce) {
                        let sent = self.root.sent.entry(cluster).or_default();
                        if *sent >= assignment.generation {
                            continue;
                        }
                        *sent = assignment.generation;
                    }
                    self.say(|| {
                        let told: Vec<String> =
                            assignment.instances.iter().map(crate::run::in_words).collect();
                        format!(
                            "root tells {cluster} assignment {}: {}",
                            assignment.generation,
                            told.join(", ")
                        )
                    });
                    let body = Body::Assignment(Arc::new(assignment));
                    self.send(Envelope { child: Child::Cluster(cluster), session, body });
                }
                Effect::TellNeighbours { cluster, session, mut neighbours } => {
                    if self.is_mutant(Mutant::HideCallers) {
                        let told = neighbours.applications.values_mut().flatten();
                        for service in told.flat_map(|news| Arc::make_mut(&mut news.services).values_mut()) {
                            service.allowed_callers = Arc::default();
                        }
                    }
                    let child = Child::Cluster(ClusterIndex::of(cluster));
                    self.say(|| format!("root names neighbours to {child}: {neighbours:?}"));
                    self.stream(Envelope { child, session, body: Body::Neighbours(Arc::new(neighbours)) });
                }
                Effect::PassOn { cluster, session, from, news } => {
                    let child = Child::Cluster(ClusterIndex::of(cluster));
                    self.say(|| {
                        let (from, to) = (ClusterIndex::of(from), ClusterIndex::of(cluster));
                        format!("root passes on from {from} to {to}, {}", crate::callable::in_words(&news))
                    });
                    let body = Body::FromNeighbour { from, news: Arc::new(news) };
                    self.stream(Envelope { child, session, body });
                }
                // Nobody joins, listens or is called in these simulations.
                Effect::SendTokens { .. }
                | Effect::SendRevocations { .. }
                | Effect::Deliver(_)
                | Effect::CallAction(_) => {}
            }
        }
    }
}

fn take_in(
    brain: &mut State,
    ids: &mut CountedIds,
    input: Input,
    now: Now,
    answers: &mut Vec<(Wish, Answer)>,
) -> Vec<Change> {
    match input {
        Input::Connected { cluster, session, observed } => {
            let location = Location { latitude: 0.0, longitude: 0.0, radius_metres: 0.0 };
            brain.cluster_connected(cluster, session, location, observed, now)
        }
        Input::Reported { cluster, session, report } => {
            brain.cluster_reported(cluster, session, Arc::unwrap_or_clone(report), now)
        }
        Input::Disconnected { cluster, session } => {
            brain.cluster_disconnected(cluster, session);
            Vec::new()
        }
        Input::ToNeighbour { from, session, to, epoch, news } => {
            brain.neighbour_told(from, session, to, epoch, Arc::unwrap_or_clone(news));
            Vec::new()
        }
        Input::Wish(wish) => {
            let (answer, changes) = crate::wishes::carry_out(brain, ids, &wish, now);
            answers.push((wish, answer));
            changes
        }
    }
}
