//! The simulated hierarchy and its clock. What happens at each event is in the files of who it happens to: `root.rs`,
//! `cluster.rs`, `worker.rs`, `machine.rs`, `wire.rs`, `faults.rs`, `user.rs`.

use model::{Moment, Now, Timestamp};

use crate::{
    cluster::Cluster,
    event::{Check, Event},
    faults::Calm,
    ids::{ClusterIndex, Host, WorkerIndex},
    mutants::Mutant,
    oracle::Oracle,
    queue::{Millis, Queue},
    rng::Rng,
    root::Root,
    run::Progress,
    scenario::{Fault, Scenario},
    stats::Statistics,
    trace::Trace,
    user::User,
    worker::Worker,
};

/// The date at which every simulation begins: 2026-01-01.
const FIRST_DATE: u64 = 1_767_225_600_000;
/// Steady time of a process begins here, as in `crates/daemon`.
const FIRST_MOMENT: u64 = 3_600_000;

/// Events between two looks at how far a run has got: a fraction of a second.
const EVENTS_PER_LOOK: u64 = 1 << 14;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) now: Millis,
    pub(crate) queue: Queue<Event>,
    /// For the network, faults and engines.
    pub(crate) rng: Rng,
    pub(crate) root: Root,
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) user: User,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Trace,
    pub(crate) statistics: Statistics,
    pub(crate) calm: Calm,
    /// Whose turn it was last.
    pub(crate) deciding: Option<Host>,
    /// Everything is over.
    pub(crate) finished: bool,
}

/// A process and the clocks of its device.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Process {
    /// Counts its starts; what concerns an earlier one concerns nobody.
    pub(crate) number: u32,
    pub(crate) started: Millis,
    /// How far the date of its device is off.
    pub(crate) date_off: i64,
    /// How far the date was off when it started: with [`Mutant::ClockMovesMoment`] the difference moves its moments.
    pub(crate) date_off_at_start: i64,
}

impl Process {
    pub(crate) fn begin(&mut self, now: Millis) {
        self.number += 1;
        self.started = now;
        self.date_off_at_start = self.date_off;
    }

    pub(crate) fn date(&self, now: Millis) -> Timestamp {
        Timestamp((FIRST_DATE + now).saturating_add_signed(self.date_off))
    }

    pub(crate) fn present(&self, now: Millis, mutant: Option<Mutant>) -> Now {
        let moved = match mutant {
            Some(Mutant::ClockMovesMoment) => self.date_off - self.date_off_at_start,
            _ => 0,
        };
        let moment = (FIRST_MOMENT + now - self.started).saturating_add_signed(moved);
        Now { date: self.date(now), moment: Moment(moment) }
    }

    /// When a moment of this process is.
    pub(crate) fn when(&self, moment: Moment, mutant: Option<Mutant>) -> Millis {
        let moved = match mutant {
            Some(Mutant::ClockMovesMoment) => self.date_off - self.date_off_at_start,
            _ => 0,
        };
        moment.0.saturating_add_signed(-moved).saturating_add(self.started).saturating_sub(FIRST_MOMENT)
    }
}

impl World {
    pub(crate) fn new(scenario: Scenario, keep_log: bool) -> Self {
        let mut rng = Rng::new(scenario.seed);
        if scenario.mutant == Some(Mutant::OutsideChance) {
            rng = Rng::new(crate::run::outside_chance());
        }
        let user = User::new(rng.split(), &scenario);
        let clusters = (0..scenario.clusters).map(|_| Cluster::new()).collect();
        let workers =
            (0..scenario.workers).map(|index| Worker::new(WorkerIndex(index), &scenario, &mut rng)).collect();
        let mut world = Self {
            now: 0,
            queue: Queue::new(Millis::from(scenario.step)),
            rng,
            root: Root::new(&scenario),
            clusters,
            workers,
            user,
            oracle: Oracle::new(&scenario),
            trace: Trace::new(keep_log),
            statistics: Statistics::default(),
            calm: Calm::default(),
            deciding: None,
            finished: false,
            scenario,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.start_root();
        for index in 0..self.scenario.clusters {
            self.start_cluster(ClusterIndex(index));
        }
        for index in 0..self.scenario.workers {
            let worker = WorkerIndex(index);
            self.start_engine(worker);
            self.start_worker(worker);
        }
        for fault in self.scenario.faults.clone() {
            self.schedule_fault(fault);
        }
        self.queue.push(crate::user::FIRST_WISH, Event::User);
        self.queue.push(self.scenario.quiet_from(), Event::Calm);
        let rest = self.scenario.quiet_from() + crate::oracle::REST_FIRST;
        self.queue.push(rest, Event::Check(Check::Rest { attempt: 0 }));
    }

    /// Goes on until everything has come to rest or an invariant is violated.
    pub(crate) fn run(&mut self, progress: Option<fn(Progress)>) {
        while !self.finished && self.oracle.violation.is_none() {
            let clusters = self.scenario.clusters;
            let Some((at, event)) = self.queue.pop(|event| event.site(clusters)) else { break };
            if let Some(tell) = progress
                && self.statistics.events.is_multiple_of(EVENTS_PER_LOOK)
            {
                let running = self.statistics.running;
                tell(Progress { virtual_millis: at, events: self.statistics.events, running });
            }
            self.now = at;
            self.trace.mix(at);
            self.statistics.events += 1;
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrives(envelope) => self.arrives(*envelope),
            Event::Delivered { child, session, upward } => self.delivered(child, session, upward),
            Event::Beat { worker, token } => self.beat(worker, token),
            Event::Turn { host, process } => self.turn(host, process),
            Event::Wake { host, process } => self.wake(host, process),
            Event::Heartbeat { child, process } => self.heartbeat(child, process),
            Event::News { cluster, process } => self.news(cluster, process),
            Event::Echo { worker, process } => self.echo(worker, process),
            Event::Dial { child, token } => self.dial(child, token),
            Event::Unwelcomed { child, session } => self.unwelcomed(child, session),
            Event::Unknown { child, session } => self.unknown(child, session),
            Event::Broken { child, end, session } => self.broken(child, end, session),
            Event::Engine(work) => self.engine_works(*work),
            Event::EngineBack { worker, process } => self.engine_back(worker, process),
            Event::Exit { worker, container, run, code } => {
                self.container_exits(worker, &container, run, code)
            }
            Event::Fault(fault) => self.fault(fault),
            Event::Restart { host, process } => self.restart(host, process),
            Event::Healed { child } => self.recheck_cut(child),
            Event::Calm => self.calm_down(),
            Event::User => self.user_wishes(),
            Event::Check(check) => self.check(check),
        }
    }

    fn turn(&mut self, host: Host, process: u32) {
        self.trace.mix(u64::from(process));
        self.deciding = Some(host);
        match host {
            Host::Root => self.root_turn(process),
            Host::Cluster(cluster) => self.cluster_turn(cluster, process),
            Host::Worker(worker) => self.worker_turn(worker, process),
        }
    }

    fn wake(&mut self, host: Host, process: u32) {
        let now = self.now;
        match host {
            Host::Root => self.root.daemon.woken(now, process),
            Host::Cluster(cluster) => self.cluster_mut(cluster).daemon.woken(now, process),
            Host::Worker(worker) => self.worker_mut(worker).woken(now, process),
        }
        self.turn(host, process);
    }

    pub(crate) fn cluster_mut(&mut self, index: ClusterIndex) -> &mut Cluster {
        &mut self.clusters[index.0 as usize]
    }

    pub(crate) fn cluster_ref(&self, index: ClusterIndex) -> &Cluster {
        &self.clusters[index.0 as usize]
    }

    pub(crate) fn worker_mut(&mut self, index: WorkerIndex) -> &mut Worker {
        &mut self.workers[index.0 as usize]
    }

    pub(crate) fn worker_ref(&self, index: WorkerIndex) -> &Worker {
        &self.workers[index.0 as usize]
    }

    /// The cluster a worker belongs to.
    pub(crate) fn cluster_of(&self, worker: WorkerIndex) -> ClusterIndex {
        ClusterIndex(worker.0 % self.scenario.clusters)
    }

    /// The workers of a cluster.
    pub(crate) fn workers_of(&self, cluster: ClusterIndex) -> impl Iterator<Item = WorkerIndex> + use<> {
        let step = usize::try_from(self.scenario.clusters).unwrap_or(usize::MAX);
        (cluster.0..self.scenario.workers).step_by(step).map(WorkerIndex)
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.now >= self.scenario.quiet_from()
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.scenario.has(fault) && !self.is_quiet()
    }

    pub(crate) fn is_mutant(&self, mutant: Mutant) -> bool {
        self.scenario.mutant == Some(mutant)
    }

    pub(crate) fn say(&mut self, words: impl FnOnce() -> String) {
        self.trace.say(self.now, words);
    }
}
