//! The simulated shell around the brain of a cluster.

mod news;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use addressing::Subnet;
use cluster_core::{Change, Effect, State};
use model::{
    ApplicationId, Assignment, Brain, ClusterId, ClusterRequest, Desired, Generation, Holder, InstanceId,
    Load, NeighbourNews, Neighbours, Reach, ServiceId, WorkerId, WorkerInventory, WorkerReport,
};

use self::news::{HEARTBEAT, News};
use crate::{
    callable::LastMade,
    daemon::{Daemon, Doom},
    event::{Body, Envelope, Event},
    ids::{Child, ClusterIndex, Host, WorkerIndex},
    link::Link,
    mutants::Mutant,
    queue::Millis,
    store::Document,
    world::World,
};

/// What enters the brain of a cluster.
#[derive(Debug)]
pub(crate) enum Input {
    Assignment(Arc<Assignment>),
    Connected {
        worker: WorkerId,
        session: u64,
        inventory: Arc<WorkerInventory>,
        address: IpAddr,
    },
    Reported {
        worker: WorkerId,
        session: u64,
        report: Arc<WorkerReport>,
    },
    Beat {
        worker: WorkerId,
        session: u64,
        sequence: u64,
    },
    Disconnected {
        worker: WorkerId,
        session: u64,
    },
    NetworkConnected {
        worker: WorkerId,
        session: u64,
        reach: Reach,
    },
    NetworkDisconnected {
        worker: WorkerId,
        session: u64,
    },
    Neighbours {
        session: u64,
        named: Arc<Neighbours>,
    },
    FromNeighbour {
        from: ClusterId,
        news: Arc<NeighbourNews>,
    },
    Request(ClusterRequest),
    /// To be answered after whatever is to be told before.
    Echo {
        worker: WorkerIndex,
        session: u64,
        sent: Millis,
    },
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) daemon: Daemon<State, Input>,
    pub(crate) link: Link,
    /// The connection of each worker that this process knows.
    pub(crate) sessions: BTreeMap<WorkerIndex, u64>,
    /// Numbers the reports.
    reports: u64,
    news: News,
    /// Neighbours that were told everything, for [`Mutant::NeighboursToldOnce`].
    introduced: BTreeSet<ClusterId>,
    /// The newest generation sent to each worker, for [`Mutant::SendOnce`].
    sent: BTreeMap<WorkerIndex, Generation>,
}

/// Documents are loaded in this order, as in `cluster-orchestrator/src/documents.rs`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Held,
    Worker(WorkerId),
    Instance(InstanceId),
    Blocks,
    Subnet(Subnet),
    Enrolments,
    Shared(ApplicationId),
    PeerElsewhere(ClusterId, WorkerId),
    Elsewhere(ClusterId, ServiceId),
    Certificate(Holder),
    Revoked,
}

impl Document for Change {
    type Key = Key;

    fn key(&self) -> Key {
        match self {
            Self::Held(_) => Key::Held,
            Self::Instance(id, _) => Key::Instance(*id),
            Self::Worker(id, _) => Key::Worker(*id),
            Self::Blocks(_) => Key::Blocks,
            Self::Subnet(lent) => Key::Subnet(lent.subnet),
            Self::Enrolments(_) => Key::Enrolments,
            Self::Shared(id, _) => Key::Shared(*id),
            Self::PeerElsewhere(from, id, _) => Key::PeerElsewhere(*from, *id),
            Self::Elsewhere(from, id, _) => Key::Elsewhere(*from, *id),
            Self::Certificate(holder, _) => Key::Certificate(*holder),
            Self::Revoked(_) => Key::Revoked,
        }
    }

    fn removes(&self) -> bool {
        match self {
            Self::Instance(_, instance) => instance.is_none(),
            Self::Worker(_, worker) => worker.is_none(),
            Self::Shared(_, application) => application.is_none(),
            Self::PeerElsewhere(_, _, peer) => peer.is_none(),
            Self::Elsewhere(_, _, instances) => instances.is_none(),
            Self::Certificate(_, record) => record.is_none(),
            Self::Held(_) | Self::Blocks(_) | Self::Subnet(_) | Self::Enrolments(_) | Self::Revoked(_) => {
                false
            }
        }
    }
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self {
            daemon: Daemon::new(),
            link: Link::default(),
            sessions: BTreeMap::new(),
            reports: 0,
            news: News::default(),
            introduced: BTreeSet::new(),
            sent: BTreeMap::new(),
        }
    }
}

impl World {
    /// Starts the process with what its store holds.
    pub(crate) fn start_cluster(&mut self, index: ClusterIndex) {
        let (now, mutant) = (self.now, self.scenario.mutant);
        let cluster = self.cluster_mut(index);
        cluster.daemon.process.begin(now);
        let mut brain = State::default();
        for change in cluster.daemon.store.documents() {
            if forgets(mutant, change) {
                continue;
            }
            brain.apply(change.clone());
        }
        let present = cluster.daemon.process.present(now, mutant);
        brain.loaded(present);
        cluster.daemon.brain = Some(brain);
        cluster.sessions.clear();
        cluster.news = News::default();
        let process = cluster.daemon.process.number;
        self.say(|| format!("{index} starts"));
        self.cluster_is_due(index);
        self.dial_soon(Child::Cluster(index), 0);
        let first = self.rng.below(HEARTBEAT);
        let child = Child::Cluster(index);
        self.queue.push(now + first, Event::Heartbeat { child, process });
        self.recheck_cluster(index);
    }

    /// The process ends; only its store is left.
    pub(crate) fn end_cluster(&mut self, index: ClusterIndex) {
        self.say(|| format!("{index} ends"));
        let cluster = self.cluster_mut(index);
        cluster.daemon.end();
        cluster.link.up = false;
        let sessions: Vec<(WorkerIndex, u64)> = std::mem::take(&mut cluster.sessions).into_iter().collect();
        for (worker, session) in sessions {
            self.end_is_noticed(Child::Worker(worker), crate::event::End::Child, session);
        }
        let session = self.cluster_ref(index).link.session;
        self.end_is_noticed(Child::Cluster(index), crate::event::End::Parent, session);
        self.recheck_cluster(index);
    }

    /// Puts something into the brain's queue; it is taken in with the next turn.
    pub(crate) fn enqueue_at_cluster(&mut self, index: ClusterIndex, input: Input) {
        let cluster = self.cluster_mut(index);
        if cluster.daemon.is_up() {
            cluster.daemon.inbox.push_back(input);
            self.cluster_starts_turning(index);
        }
    }

    /// A beat. Most leave nothing to decide: the loop takes them in and asks the brain nothing.
    pub(crate) fn beat_at_cluster(
        &mut self,
        index: ClusterIndex,
        worker: WorkerId,
        session: u64,
        sequence: u64,
    ) {
        let (now, mutant) = (self.now, self.scenario.mutant);
        let daemon = &mut self.cluster_mut(index).daemon;
        let present = daemon.process.present(now, mutant);
        match &mut daemon.brain {
            Some(brain) if daemon.inbox.is_empty() => {
                if brain.worker_beat(worker, session, sequence, Load::default(), present) {
                    self.cluster_is_due(index);
                }
            }
            Some(_) | None => self.enqueue_at_cluster(index, Input::Beat { worker, session, sequence }),
        }
    }

    fn cluster_is_due(&mut self, index: ClusterIndex) {
        self.cluster_mut(index).daemon.due = true;
        self.cluster_starts_turning(index);
    }

    fn cluster_starts_turning(&mut self, index: ClusterIndex) {
        let pause = self.pause_before_turn();
        let at = self.now + pause;
        let daemon = &mut self.cluster_mut(index).daemon;
        if !daemon.turning {
            daemon.turning = true;
            let process = daemon.process.number;
            self.queue.push(at, Event::Turn { host: Host::Cluster(index), process });
        }
    }

    /// One round of the loop in `crates/control`: inputs, one commit, then what follows from it.
    pub(crate) fn cluster_turn(&mut self, index: ClusterIndex, process: u32) {
        let (now, mutant) = (self.now, self.scenario.mutant);
        let daemon = &mut self.cluster_mut(index).daemon;
        if daemon.process.number != process {
            return;
        }
        let Some(mut brain) = daemon.brain.take() else { return };
        daemon.turning = false;
        let present = daemon.process.present(now, mutant);
        let inputs = std::mem::take(&mut daemon.inbox);
        let mut due = std::mem::take(&mut daemon.due);
        let mut changes = Vec::new();
        let began = self.statistics.begin();
        let mut echoes = Vec::new();
        for input in inputs {
            if let Input::Echo { worker, session, sent } = input {
                echoes.push((worker, session, sent));
                continue;
            }
            let Some(asked) = take_in(&mut brain, input, present, mutant) else { continue };
            due = true;
            asked.iter().for_each(|change| brain.apply(change.clone()));
            changes.extend(asked);
        }
        if !due && echoes.is_empty() {
            self.cluster_mut(index).daemon.brain = Some(brain);
            return;
        }
        let doom = self.cluster_mut(index).daemon.doom.take();
        let mut plan = brain.reconcile(present);
        self.statistics.cluster_decided(began);
        self.trace.mix(u64::try_from(changes.len()).unwrap_or(0));
        if self.statistics.cluster_turns.is_multiple_of(16) {
            let again = brain.reconcile(present);
            let rests = again.changes.is_empty() && again.effects.is_empty();
            let waits = plan.wake_at.is_some_and(|at| at <= present.moment);
            if !rests && !waits {
                let detail = format!("{:?} {:?}", again.changes, again.effects);
                self.oracle.restless(now, Host::Cluster(index), &detail);
            }
            plan.changes.extend(again.changes);
            plan.effects.extend(again.effects);
            plan.wake_at = again.wake_at;
        }
        changes.extend(plan.changes);
        if doom == Some(Doom::BeforeCommit) {
            if mutant == Some(Mutant::EffectsBeforeCommit) {
                self.cluster_effects(index, plan.effects);
            }
            self.say(|| format!("{index} crashes before it commits {} changes", changes.len()));
            self.end_cluster(index);
            return self.restart_soon(Host::Cluster(index));
        }
        let forgotten = mutant == Some(Mutant::IgnoreCommit) && self.rng.per_mille(20);
        if !forgotten && !changes.is_empty() {
            self.cluster_mut(index).daemon.store.commit(&changes);
        }
        self.cluster_mut(index).daemon.brain = Some(brain);
        self.cluster_committed(index, &changes);
        if doom == Some(Doom::AfterCommit) {
            self.say(|| format!("{index} crashes after it committed {} changes", changes.len()));
            self.end_cluster(index);
            return self.restart_soon(Host::Cluster(index));
        }
        self.cluster_effects(index, plan.effects);
        for (worker, session, sent) in echoes {
            self.send(Envelope { child: Child::Worker(worker), session, body: Body::Echoed { sent } });
        }
        if changes.iter().any(Change::concerns_the_root) {
            self.cluster_mut(index).news.about.extend(changes.iter().filter_map(Change::instance));
            self.cluster_has_news(index);
        }
        let wake_at = plan.wake_at.map(|moment| self.cluster_ref(index).daemon.process.when(moment, mutant));
        self.wake_at(Host::Cluster(index), wake_at);
    }

    fn cluster_effects(&mut self, index: ClusterIndex, effects: Vec<Effect>) {
        let mut last_made = LastMade::default();
        for effect in effects {
            match effect {
                Effect::SendAssignment { worker, session, assignment } => {
                    self.tell_worker(index, WorkerIndex::of(worker), session, assignment);
                }
                // Ways are not simulated.
                Effect::OfferRelay { .. } | Effect::CloseRelay { .. } => {}
                Effect::TellNetwork { worker, session, lease, news } => {
                    let index = WorkerIndex::of(worker);
                    self.surroundings_are_told(index, session, news, &mut last_made);
                    if lease.is_some() {
                        let session = self.worker_ref(index).link.session;
                        self.send(Envelope {
                            child: Child::Worker(index),
                            session,
                            body: Body::Lease(lease),
                        });
                    }
                }
                Effect::TellNeighbour { session, to, epoch, news } => {
                    if self.is_mutant(Mutant::NeighboursToldOnce)
                        && news.whole
                        && !self.cluster_mut(index).introduced.insert(to)
                    {
                        continue;
                    }
                    self.say(|| {
                        let to = ClusterIndex::of(to);
                        format!("{index} tells {to}, session {epoch}, {}", crate::callable::in_words(&news))
                    });
                    let body = Body::ToNeighbour { to, epoch, news: Arc::new(news) };
                    self.stream(Envelope { child: Child::Cluster(index), session, body });
                }
                Effect::SetBeats { worker, session, interval_millis } => {
                    let child = Child::Worker(WorkerIndex::of(worker));
                    self.send(Envelope { child, session, body: Body::SetBeats { interval_millis } });
                }
                Effect::AskForBeat { worker, session } => {
                    let child = Child::Worker(WorkerIndex::of(worker));
                    self.send(Envelope { child, session, body: Body::AskForBeat });
                }
                Effect::RequestReport { worker, session, anew: _ } => {
                    let child = Child::Worker(WorkerIndex::of(worker));
                    self.send(Envelope { child, session, body: Body::RequestReport });
                }
                Effect::Report { about } => {
                    self.cluster_mut(index).news.about.extend(about);
                    self.cluster_has_news(index);
                }
                Effect::Note(notice) => self.say(|| format!("{index} notes {notice:?}")),
            }
        }
    }

    fn tell_worker(
        &mut self,
        index: ClusterIndex,
        worker: WorkerIndex,
        session: u64,
        mut assignment: Assignment,
    ) {
        match self.scenario.mutant {
            Some(Mutant::SendOnce) => {
                let sent = self.cluster_mut(index).sent.entry(worker).or_default();
                if *sent >= assignment.generation {
                    return;
                }
                *sent = assignment.generation;
            }
            Some(Mutant::NoTombstones) => {
                assignment.instances.retain(|instance| instance.desired == Desired::Running);
            }
            _ => {}
        }
        self.say(|| {
            let told: Vec<String> = assignment.instances.iter().map(crate::run::in_words).collect();
            format!("{index} tells {worker} assignment {}: {}", assignment.generation, told.join(", "))
        });
        let body = Body::Assignment(Arc::new(assignment));
        self.send(Envelope { child: Child::Worker(worker), session, body });
    }
}

/// What an input asks for; `None` when it leaves nothing to decide, as the loop in `crates/control` has it.
fn take_in(brain: &mut State, input: Input, now: model::Now, mutant: Option<Mutant>) -> Option<Vec<Change>> {
    let changes = match input {
        // One that is not newer is left aside.
        Input::Assignment(assignment) => {
            brain.take_on(Arc::unwrap_or_clone(assignment), now).unwrap_or_default()
        }
        Input::Connected { worker, session, inventory, address } => {
            let mut inventory = Arc::unwrap_or_clone(inventory);
            if mutant == Some(Mutant::OversizedWorkers) {
                inventory.allocatable = inventory.allocatable.plus(&inventory.allocatable);
            }
            brain.worker_connected(worker, session, inventory, address, now)
        }
        Input::Reported { worker, session, report } => {
            return brain.worker_reported(worker, session, Arc::unwrap_or_clone(report), now);
        }
        Input::Beat { worker, session, sequence } => {
            return brain.worker_beat(worker, session, sequence, Load::default(), now).then(Vec::new);
        }
        Input::Disconnected { worker, session } => {
            brain.worker_disconnected(worker, session, now);
            Vec::new()
        }
        Input::NetworkConnected { worker, session, reach } => {
            brain.network_connected(worker, session, Some(reach));
            Vec::new()
        }
        Input::NetworkDisconnected { worker, session } => {
            brain.network_disconnected(worker, session);
            Vec::new()
        }
        Input::Neighbours { session, named } => brain.neighbours_named(session, Arc::unwrap_or_clone(named)),
        Input::FromNeighbour { from, news } => brain.neighbour_said(from, Arc::unwrap_or_clone(news)).1,
        Input::Request(wish) => brain.request(&wish, now).1,
        // The shell's own.
        Input::Echo { .. } => Vec::new(),
    };
    Some(changes)
}

/// Whether a mutant loses a document at a start.
fn forgets(mutant: Option<Mutant>, change: &Change) -> bool {
    match (mutant, change) {
        (Some(Mutant::ForgetTombstones), Change::Instance(_, Some(instance))) => {
            instance.desired == Desired::Removed
                || instance.tenure.leftovers.values().any(|leftover| leftover.settled)
        }
        (Some(Mutant::ForgetSubnets), Change::Subnet(_)) => true,
        _ => false,
    }
}
