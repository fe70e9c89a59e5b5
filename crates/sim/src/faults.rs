//! What goes wrong, how often, and how it ends.

use crate::{
    daemon::Doom,
    event::{Body, Envelope, Event},
    ids::{Child, ClusterIndex, Host, WorkerIndex},
    queue::Millis,
    scenario::Fault,
    world::World,
};

/// Nothing goes wrong before everybody is there.
const FIRST_FAULT: Millis = 20_000;
const HOUR: i64 = 3_600_000;

/// Whether the faults have been ended.
#[derive(Debug, Default)]
pub(crate) struct Calm {
    pub(crate) begun: bool,
}

impl Fault {
    /// Milliseconds from one to the next, on the average, in a world of that size; `None` for what is no event of its
    /// own.
    fn every(self, workers: u32, clusters: u32) -> Option<Millis> {
        let per_worker = |seconds: u64| Some((seconds * 1000 / u64::from(workers.max(1))).max(20));
        let per_cluster = |seconds: u64| Some((seconds * 1000 / u64::from(clusters.max(1))).max(100));
        match self {
            Self::WorkerCut => per_worker(400),
            Self::Blips => per_worker(300),
            Self::Resets => per_worker(400),
            Self::NodeCrash | Self::PowerCut => per_worker(600),
            Self::EngineTrouble => per_worker(600),
            Self::ClockJumps => per_worker(400),
            Self::ClusterCut | Self::ClusterCrash => per_cluster(120),
            Self::SiteLoss => per_cluster(600),
            Self::RootCrash => Some(60_000),
            Self::Garbage => Some(3_000),
            Self::Upkeep => Some(20_000),
            Self::Loss | Self::Duplication | Self::Tails | Self::OneWay | Self::Exits | Self::Pulls => None,
        }
    }
}

impl World {
    /// Plans the next fault of a kind.
    pub(crate) fn schedule_fault(&mut self, fault: Fault) {
        let Some(every) = fault.every(self.scenario.workers, self.scenario.clusters) else { return };
        let at = self.now.max(FIRST_FAULT) + self.rng.between(every / 4, every * 7 / 4);
        if at < self.scenario.quiet_from() {
            self.queue.push(at, Event::Fault(fault));
        }
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        self.schedule_fault(fault);
        self.statistics.faults += 1;
        let worker =
            WorkerIndex(u32::try_from(self.rng.below(u64::from(self.scenario.workers))).unwrap_or(0));
        let cluster =
            ClusterIndex(u32::try_from(self.rng.below(u64::from(self.scenario.clusters))).unwrap_or(0));
        match fault {
            Fault::WorkerCut => {
                let lasts = self.rng.spread(500, 120_000);
                self.cut(Child::Worker(worker), lasts);
            }
            Fault::ClusterCut => {
                let lasts = self.rng.spread(500, 180_000);
                self.cut(Child::Cluster(cluster), lasts);
            }
            Fault::Blips => {
                let lasts = self.rng.between(50, 1_400);
                self.cut(Child::Worker(worker), lasts);
            }
            Fault::Resets => {
                let child =
                    if self.rng.per_mille(200) { Child::Cluster(cluster) } else { Child::Worker(worker) };
                let session = self.link_ref(child).session;
                self.say(|| format!("the connection of {child} is reset"));
                self.end_is_noticed(child, crate::event::End::Child, session);
                self.end_is_noticed(child, crate::event::End::Parent, session);
            }
            Fault::RootCrash => self.crash(Host::Root),
            Fault::ClusterCrash => self.crash(Host::Cluster(cluster)),
            Fault::NodeCrash => self.crash(Host::Worker(worker)),
            Fault::PowerCut => {
                if self.worker_ref(worker).powered {
                    let lasts = self.rng.spread(2_000, 120_000);
                    self.lose_power(worker, lasts);
                }
            }
            Fault::SiteLoss => self.lose_site(cluster),
            Fault::EngineTrouble => self.engine_away(worker),
            Fault::ClockJumps => self.set_clock(worker, cluster),
            Fault::Garbage => self.garbage(worker, cluster),
            Fault::Upkeep => self.upkeep(),
            Fault::Loss | Fault::Duplication | Fault::Tails | Fault::OneWay | Fault::Exits | Fault::Pulls => {
            }
        }
    }

    fn cut(&mut self, child: Child, lasts: Millis) {
        let until = (self.now + lasts).min(self.scenario.quiet_from());
        let way = if self.has(Fault::OneWay) { self.rng.below(6) } else { 5 };
        let (up, down) = (way != 0, way != 1);
        let link = self.link_mut(child);
        if up {
            link.cut_up_until = link.cut_up_until.max(until);
        }
        if down {
            link.cut_down_until = link.cut_down_until.max(until);
        }
        self.say(|| {
            let which = match (up, down) {
                (true, true) => "both ways",
                (true, false) => "upward",
                (false, _) => "downward",
            };
            format!("{child} is cut off {which} for {lasts} ms")
        });
        self.recheck_cut(child);
        self.cut_is_noticed(child, lasts);
        self.queue.push(until, Event::Healed { child });
    }

    /// Ends a process now, or in the middle of its next turn; it starts again after a while.
    fn crash(&mut self, host: Host) {
        let doom = match self.rng.below(4) {
            0 => Some(Doom::BeforeCommit),
            1 => Some(Doom::AfterCommit),
            _ => None,
        };
        match (host, doom) {
            (Host::Root, Some(doom)) => self.root.daemon.doom = Some(doom),
            (Host::Cluster(index), Some(doom)) => self.cluster_mut(index).daemon.doom = Some(doom),
            (Host::Root, None) => self.end_root(),
            (Host::Cluster(index), None) => self.end_cluster(index),
            (Host::Worker(index), _) => self.end_worker(index),
        }
        if doom.is_none() || matches!(host, Host::Worker(_)) {
            self.restart_soon(host);
        }
    }

    pub(crate) fn restart_soon(&mut self, host: Host) {
        let pause = self.rng.spread(500, 60_000);
        let process = match host {
            Host::Root => self.root.daemon.process.number,
            Host::Cluster(index) => self.cluster_ref(index).daemon.process.number,
            Host::Worker(index) => self.worker_ref(index).process.number,
        };
        self.queue.push(self.now + pause, Event::Restart { host, process });
    }

    pub(crate) fn restart(&mut self, host: Host, process: u32) {
        match host {
            Host::Root => {
                if self.root.daemon.process.number == process && !self.root.daemon.is_up() {
                    self.start_root();
                }
            }
            Host::Cluster(index) => {
                let daemon = &self.cluster_ref(index).daemon;
                if daemon.process.number == process && !daemon.is_up() {
                    self.start_cluster(index);
                }
            }
            Host::Worker(index) => {
                let worker = self.worker_ref(index);
                if worker.process.number != process || worker.is_up() {
                    return;
                }
                if worker.powered {
                    self.start_worker(index);
                } else {
                    self.power_on(index);
                }
            }
        }
    }

    fn lose_power(&mut self, worker: WorkerIndex, lasts: Millis) {
        self.power_off(worker);
        let process = self.worker_ref(worker).process.number;
        let at = (self.now + lasts).min(self.scenario.quiet_from().max(self.now));
        self.queue.push(at, Event::Restart { host: Host::Worker(worker), process });
        // It may boot without its cluster.
        if self.rng.per_mille(300) {
            let longer = lasts + self.rng.spread(10_000, 120_000);
            self.cut(Child::Worker(worker), longer);
        }
    }

    fn lose_site(&mut self, cluster: ClusterIndex) {
        let lasts = self.rng.spread(5_000, 150_000);
        self.say(|| format!("the site of {cluster} loses power for {lasts} ms"));
        self.end_cluster(cluster);
        let process = self.cluster_ref(cluster).daemon.process.number;
        let later = lasts + self.rng.spread(100, 30_000);
        self.queue.push(self.now + later, Event::Restart { host: Host::Cluster(cluster), process });
        for worker in self.workers_of(cluster) {
            if self.worker_ref(worker).powered {
                let spread = self.rng.below(5_000);
                self.power_off(worker);
                let process = self.worker_ref(worker).process.number;
                let host = Host::Worker(worker);
                self.queue.push(self.now + lasts + spread, Event::Restart { host, process });
            }
        }
    }

    fn set_clock(&mut self, worker: WorkerIndex, cluster: ClusterIndex) {
        let off = match self.rng.below(3) {
            0 => -HOUR,
            1 => 0,
            _ => HOUR,
        };
        let which = self.rng.below(4);
        let process = match which {
            0 => &mut self.root.daemon.process,
            1 => &mut self.cluster_mut(cluster).daemon.process,
            _ => &mut self.worker_mut(worker).process,
        };
        process.date_off = off;
        self.say(|| {
            let whose = match which {
                0 => "root".to_owned(),
                1 => cluster.to_string(),
                _ => worker.to_string(),
            };
            format!("the clock of {whose} is set to {} min off", off / 60_000)
        });
    }

    /// Something nobody should have said.
    fn garbage(&mut self, worker: WorkerIndex, cluster: ClusterIndex) {
        let Some(node) = &mut self.worker_mut(worker).node else { return };
        let mut report = node.report();
        // The word of another worker, over this one's connection.
        let other = WorkerIndex((worker.0 + 1 + cluster.0) % self.scenario.workers);
        for said in &mut report.instances {
            said.id.number = said.id.number.wrapping_add(u32::from(cluster.0.is_multiple_of(2)) * 7);
        }
        let session = self.link_ref(Child::Worker(other)).session;
        // The sequence of a stranger would silence the real one.
        report.sequence = 0;
        report.observed_generation = self.worker_ref(other).held.assignment.generation;
        let body = Body::WorkerReport(std::sync::Arc::new(report));
        self.send(Envelope { child: Child::Worker(other), session, body });
    }

    /// Everything that is down comes back, and nothing goes wrong any more.
    pub(crate) fn calm_down(&mut self) {
        if std::mem::replace(&mut self.calm.begun, true) {
            return;
        }
        self.say(|| "the faults are over".to_owned());
        self.root.daemon.doom = None;
        self.restart(Host::Root, self.root.daemon.process.number);
        for index in 0..self.scenario.clusters {
            let index = ClusterIndex(index);
            self.cluster_mut(index).daemon.doom = None;
            let process = self.cluster_ref(index).daemon.process.number;
            self.restart(Host::Cluster(index), process);
        }
        for index in 0..self.scenario.workers {
            let index = WorkerIndex(index);
            let process = self.worker_ref(index).process.number;
            self.restart(Host::Worker(index), process);
        }
        self.open_all(None);
    }
}
