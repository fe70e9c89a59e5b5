//! The simulated shell around the brain of a NodeEngine: what it saves, when it reports and beats.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use model::{
    Assignment, Capability, Generation, Mebibytes, Millicores, Moment, NetworkLease, Resources, Surroundings,
    WorkerInventory,
};
use node_core::{Before, Held, History, Node, Observation, Settings};

use crate::{
    engine::Engine,
    event::{Body, Check, End, Envelope, Event},
    ids::{Child, ClusterIndex, Host, WorkerIndex},
    link::Link,
    mutants::Mutant,
    queue::Millis,
    rng::Rng,
    scenario::{Fault, Scenario},
    world::{Process, World},
};

/// The longest between two reports, as in `node-engine/src/service.rs`.
const HEARTBEAT: Millis = 30_000;
/// Between two questions to the cluster by a worker that must know how long it has been cut off.
const ECHO: Millis = 1_000;

/// Signs of life of one session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beats {
    pub(crate) session: u64,
    pub(crate) interval_millis: u64,
    pub(crate) sequence: u64,
    pub(crate) token: u32,
}

#[derive(Debug)]
pub(crate) struct Worker {
    /// `None` while the process is down.
    pub(crate) node: Option<Node>,
    pub(crate) process: Process,
    pub(crate) powered: bool,
    /// What is on its disk.
    pub(crate) held: Held,
    pub(crate) history: History,
    /// When it was last in contact, as the shell remembers it through a restart of NodeEngine.
    contact: Option<Millis>,
    pub(crate) engine: Engine,
    pub(crate) inventory: Arc<WorkerInventory>,
    address: IpAddr,
    pub(crate) link: Link,
    pub(crate) beats: Option<Beats>,
    /// The revision of the last report sent over this connection.
    reported: Option<u64>,
    pub(crate) wakes_at: Option<Millis>,
    pub(crate) lease: Option<NetworkLease>,
    /// What its NetManager was told over this connection.
    pub(crate) surroundings: Surroundings,
    /// It asks its cluster every second how long it has been cut off.
    echoing: bool,
}

impl Worker {
    pub(crate) fn new(index: WorkerIndex, scenario: &Scenario, rng: &mut Rng) -> Self {
        let cores = if scenario.is_tight() { 1 } else { u32::try_from(rng.between(4, 16)).unwrap_or(4) };
        let allocatable = Resources {
            cpu: Millicores::from_cores(cores),
            memory: Mebibytes(cores * 1024),
            storage: Mebibytes(100_000),
            gpus: 0,
        };
        let inventory = WorkerInventory {
            name: index.to_string(),
            architecture: "amd64".to_owned(),
            allocatable,
            capabilities: vec![Capability::Container],
        };
        let mut engine = Engine::new();
        if !scenario.has(Fault::Pulls) {
            engine.images.extend(crate::user::IMAGES.map(str::to_owned));
        }
        Self {
            node: None,
            process: Process::default(),
            powered: true,
            held: Held::default(),
            history: History::default(),
            contact: None,
            engine,
            inventory: Arc::new(inventory),
            address: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + index.0)),
            link: Link::default(),
            beats: None,
            reported: None,
            wakes_at: None,
            lease: None,
            surroundings: Surroundings::default(),
            echoing: false,
        }
    }

    /// Where it is reached.
    pub(crate) const fn address(&self) -> IpAddr {
        self.address
    }

    pub(crate) const fn is_up(&self) -> bool {
        self.node.is_some()
    }

    pub(crate) fn woken(&mut self, now: Millis, process: u32) {
        if process == self.process.number && self.wakes_at.is_some_and(|at| at <= now) {
            self.wakes_at = None;
        }
    }

    /// When its cluster last answered it; the start of its NodeEngine if that never happened since a boot.
    pub(crate) fn last_contact(&self) -> Millis {
        self.contact.unwrap_or(self.process.started)
    }
}

impl World {
    /// Starts NodeEngine with what is on the disk.
    pub(crate) fn start_worker(&mut self, index: WorkerIndex) {
        let (now, mutant) = (self.now, self.scenario.mutant);
        if !self.worker_ref(index).powered {
            return;
        }
        let worker = self.worker_mut(index);
        worker.process.begin(now);
        let present = worker.process.present(now, mutant);
        let contact = worker.contact.map(|at| Moment(present.moment.0.saturating_sub(now - at)));
        let before = Before { held: worker.held.clone(), history: worker.history.clone(), contact };
        worker.node = Some(Node::new(Settings { overlay: true }, before, present));
        worker.beats = None;
        worker.reported = None;
        worker.wakes_at = None;
        worker.echoing = false;
        let process = worker.process.number;
        self.say(|| format!("{index} starts its NodeEngine"));
        if mutant == Some(Mutant::AdoptNot) {
            self.stop_all(index);
        }
        let again = self.rng.between(20, 1_000);
        self.queue.push(now + again, Event::EngineBack { worker: index, process });
        let child = Child::Worker(index);
        self.dial_soon(child, 0);
        let first = self.rng.below(HEARTBEAT);
        self.queue.push(now + first, Event::Heartbeat { child, process });
        self.queue.push(
            now + crate::oracle::BOOT_WITHIN,
            Event::Check(Check::Boot { worker: index, process, since: now }),
        );
        self.recheck_cut(child);
    }

    /// NodeEngine ends; its containers go on.
    pub(crate) fn end_worker(&mut self, index: WorkerIndex) {
        self.say(|| format!("{index}: NodeEngine ends"));
        let worker = self.worker_mut(index);
        if let Some(node) = worker.node.take() {
            worker.history = node.history();
        }
        worker.beats = None;
        worker.link.up = false;
        let session = worker.link.session;
        self.end_is_noticed(Child::Worker(index), End::Parent, session);
        self.recheck_cut(Child::Worker(index));
    }

    /// The device is without power: only its disk is left.
    pub(crate) fn power_off(&mut self, index: WorkerIndex) {
        self.end_worker(index);
        self.say(|| format!("{index} loses power"));
        let worker = self.worker_mut(index);
        worker.powered = false;
        worker.contact = None;
        if self.scenario.mutant == Some(Mutant::ForgetAssignment) {
            let worker = self.worker_mut(index);
            let generation = worker.held.assignment.generation;
            worker.held.assignment = Assignment { generation, ..Assignment::default() };
        }
        self.engine_loses_power(index);
    }

    /// Power is back; NodeEngine follows.
    pub(crate) fn power_on(&mut self, index: WorkerIndex) {
        self.say(|| format!("{index} boots"));
        self.worker_mut(index).powered = true;
        self.start_engine(index);
        self.start_worker(index);
    }

    /// Looks at what is to be done and what is to be told.
    pub(crate) fn worker_turn(&mut self, index: WorkerIndex, process: u32) {
        let (now, mutant) = (self.now, self.scenario.mutant);
        let worker = self.worker_mut(index);
        if worker.process.number != process {
            return;
        }
        let present = worker.process.present(now, mutant);
        let Some(node) = &mut worker.node else { return };
        let plan = node.reconcile(present);
        let needs_contact = node.needs_contact() && !worker.echoing;
        worker.echoing |= needs_contact;
        let wake_at = plan.wake_at.map(|moment| worker.process.when(moment, mutant));
        for submission in plan.submissions {
            self.submit(index, submission);
        }
        if needs_contact {
            self.echo(index, process);
        }
        self.wake_at(Host::Worker(index), wake_at);
        self.report_of_worker(index);
    }

    /// Something was seen; what follows from it follows at once.
    pub(crate) fn observe(&mut self, index: WorkerIndex, observation: Observation) {
        let (now, mutant) = (self.now, self.scenario.mutant);
        let worker = self.worker_mut(index);
        let present = worker.process.present(now, mutant);
        let process = worker.process.number;
        if let Some(node) = &mut worker.node {
            node.observe(present, observation);
            self.worker_turn(index, process);
        }
    }

    fn report_of_worker(&mut self, index: WorkerIndex) {
        let once = self.is_mutant(Mutant::ReportOnce);
        let worker = self.worker_mut(index);
        let session = worker.link.session;
        let Some(node) = worker.node.as_mut().filter(|_| worker.link.up) else { return };
        let revision = node.revision();
        if worker.reported == Some(revision) || (once && worker.reported.is_some()) {
            return;
        }
        worker.reported = Some(revision);
        let report = Arc::new(node.report());
        self.send(Envelope { child: Child::Worker(index), session, body: Body::WorkerReport(report) });
    }

    pub(crate) fn heartbeat(&mut self, child: Child, process: u32) {
        match child {
            Child::Cluster(index) => self.cluster_heartbeat(index, process),
            Child::Worker(index) => {
                let worker = self.worker_mut(index);
                if worker.process.number != process || worker.node.is_none() {
                    return;
                }
                self.report_now(index);
                self.queue.push(self.now + HEARTBEAT, Event::Heartbeat { child, process });
            }
        }
    }

    pub(crate) fn worker_connects(&mut self, index: WorkerIndex, session: u64) {
        let worker = self.worker_mut(index);
        worker.reported = None;
        let (inventory, address) = (Arc::clone(&worker.inventory), worker.address);
        let child = Child::Worker(index);
        self.send(Envelope { child, session, body: Body::WorkerHello { inventory, address } });
        self.worker_mut(index).surroundings = Surroundings::default();
        self.stream(Envelope { child, session, body: Body::NetworkHello });
        self.report_of_worker(index);
    }

    /// An assignment arrives: saved, then taken on, unless it is old.
    pub(crate) fn worker_is_told(&mut self, index: WorkerIndex, told: &Assignment) {
        let (now, mutant) = (self.now, self.scenario.mutant);
        let mut offered = told.clone();
        let leave_out = self.is_mutant(Mutant::AbsenceRemoves) && self.rng.per_mille(50);
        let worker = self.worker_mut(index);
        let process = worker.process.number;
        let present = worker.process.present(now, mutant);
        let Some(node) = &mut worker.node else { return };
        match mutant {
            Some(Mutant::ForceOldAssignments) if offered.generation < node.assignment().generation => {
                offered.generation = node.assignment().generation.next();
            }
            Some(Mutant::AbsenceRemoves) => {
                if leave_out {
                    offered.instances.pop();
                }
                absence_removes(node.assignment(), &mut offered);
            }
            _ => {}
        }
        let Ok(accepted) = node.accept(offered) else { return };
        worker.held.clone_from(accepted.held());
        node.apply(accepted, present);
        self.say(|| format!("{index} takes on assignment {}", told.generation));
        self.oracle.worker_took_on(now, index, told);
        self.worker_turn(index, process);
    }

    /// NetManager learns its subnet.
    pub(crate) fn network_is_told(&mut self, index: WorkerIndex, lease: Option<NetworkLease>) {
        let now = self.now;
        if self.worker_ref(index).lease != lease {
            self.oracle.subnet_taken(now, index, lease.as_ref());
            self.worker_mut(index).lease = lease;
        }
    }

    pub(crate) fn set_beats(&mut self, index: WorkerIndex, session: u64, interval_millis: u64) {
        let token = self.worker_ref(index).beats.map_or(0, |beats| beats.token) + 1;
        let worker = self.worker_mut(index);
        if session < worker.link.session || worker.node.is_none() {
            return;
        }
        let same = worker.beats.filter(|beats| beats.session == session);
        let sequence = same.map_or(0, |beats| beats.sequence);
        worker.beats = Some(Beats { session, interval_millis: interval_millis.max(50), sequence, token });
        self.queue.push(self.now + 1, Event::Beat { worker: index, token });
    }

    /// The next beat of a worker; it beats whether its connection holds or not.
    pub(crate) fn beat(&mut self, index: WorkerIndex, token: u32) {
        let Some(beats) = self.worker_ref(index).beats.filter(|beats| beats.token == token) else { return };
        self.send_beat(index);
        self.queue.push(self.now + beats.interval_millis, Event::Beat { worker: index, token });
    }

    /// Its cluster asks for a report, or one is due.
    pub(crate) fn report_now(&mut self, index: WorkerIndex) {
        if !self.is_mutant(Mutant::ReportOnce) && !self.is_mutant(Mutant::NoBeats) {
            self.worker_mut(index).reported = None;
        }
        self.report_of_worker(index);
    }

    pub(crate) fn beat_now(&mut self, index: WorkerIndex, session: u64) {
        if self.worker_ref(index).beats.is_some_and(|beats| beats.session == session) {
            self.send_beat(index);
        }
    }

    fn send_beat(&mut self, index: WorkerIndex) {
        let now = self.now;
        let Some(beats) = &mut self.worker_mut(index).beats else { return };
        beats.sequence += 1;
        let (session, sequence) = (beats.session, beats.sequence);
        let child = Child::Worker(index);
        // Most beats take a few milliseconds, which changes nothing: they need no event of their own.
        let late = self.has(Fault::Tails) && self.rng.per_mille(20);
        if late {
            return self.send(Envelope { child, session, body: Body::Beat { sequence } });
        }
        let lost = self.has(Fault::Loss) && self.rng.per_mille(20);
        let cluster = self.cluster_of(index);
        let heard = !lost && !self.link_ref(child).is_cut(true, now) && !self.is_mutant(Mutant::NoBeats);
        self.statistics.messages += 1;
        if heard {
            let worker = index.id();
            let session =
                if self.is_mutant(Mutant::StaleSessions) { self.link_ref(child).session } else { session };
            self.beat_at_cluster(cluster, worker, session, sequence);
        }
    }

    /// Asks the cluster for an answer, as long as a service wants to know.
    pub(crate) fn echo(&mut self, index: WorkerIndex, process: u32) {
        let now = self.now;
        let worker = self.worker_mut(index);
        if worker.process.number != process {
            return;
        }
        let Some(node) = &worker.node else { return };
        if !node.needs_contact() {
            worker.echoing = false;
            return;
        }
        let (up, session) = (worker.link.up, worker.link.session);
        if up {
            self.send(Envelope { child: Child::Worker(index), session, body: Body::Echo { sent: now } });
        }
        self.queue.push(now + ECHO, Event::Echo { worker: index, process });
    }

    pub(crate) fn echoed(&mut self, index: WorkerIndex, sent: Millis) {
        let (now, mutant) = (self.now, self.scenario.mutant);
        let worker = self.worker_mut(index);
        // An answer to a question of the process before says nothing in this one's time.
        if sent < worker.process.started {
            return;
        }
        worker.contact = worker.contact.max(Some(sent));
        let moment = worker.process.present(now, mutant).moment.0;
        let sent = Moment(moment.saturating_sub(now - sent));
        self.observe(index, Observation::Contact { sent });
    }

    /// The cluster of a worker, as the worker's own cluster index.
    pub(crate) fn cluster_is_told(&mut self, index: ClusterIndex, told: &Assignment) {
        let now = self.now;
        let brain = self.cluster_ref(index).daemon.brain.as_ref();
        let held = brain.map_or_else(Generation::default, cluster_core::State::generation);
        if told.generation > held {
            self.oracle.cluster_took_on(now, index, told);
        }
    }
}

/// What an assignment does not name any more is added as if it were to be removed.
fn absence_removes(before: &Assignment, offered: &mut Assignment) {
    for known in &before.instances {
        if !offered.instances.iter().any(|instance| instance.id == known.id) {
            offered.instances.push(model::AssignedInstance { desired: model::Desired::Removed, ..*known });
        }
    }
    offered.instances.sort_by_key(|instance| instance.id);
}
