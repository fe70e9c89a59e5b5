//! What people ask of the workers: to see them, to keep them free, to even out what they have, to forget one.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    ClusterAnswer, ClusterRequest, Desired, Generation, InstanceReport, Now, Phase, Scheduling, ServiceId,
    WorkerId, WorkerStatus,
};

use crate::{Change, Instance, State, Worker};

impl State {
    /// Answers a request, and says what becomes of it.
    #[must_use]
    pub fn request(&self, wish: &ClusterRequest, now: Now) -> (ClusterAnswer, Vec<Change>) {
        match wish {
            ClusterRequest::ListWorkers => {
                let statuses = self.workers.values().map(|worker| self.worker_status(worker, now));
                (ClusterAnswer::Workers(statuses.collect()), Vec::new())
            }
            ClusterRequest::Schedule { worker, scheduling } => match self.named(worker) {
                Ok(worker) => self.schedule(worker, *scheduling),
                Err(reason) => (ClusterAnswer::Rejected { reason }, Vec::new()),
            },
            ClusterRequest::ListCertificates => {
                (ClusterAnswer::Certificates(self.certificates()), Vec::new())
            }
            ClusterRequest::Rebalance => self.rebalance(),
            ClusterRequest::Forget { worker } => match self.named(worker) {
                Ok(worker) => self.give_up(worker, now),
                Err(reason) => (ClusterAnswer::Rejected { reason }, Vec::new()),
            },
        }
    }

    fn named(&self, name: &str) -> Result<&Worker, String> {
        let mut found = self
            .workers
            .values()
            .filter(|worker| worker.inventory.name == name || worker.id.to_string() == name);
        match (found.next(), found.next()) {
            (Some(worker), None) => Ok(worker),
            (Some(_), Some(_)) => Err(format!(
                "several workers are named `{name}`: give the id of one, see the list of workers"
            )),
            (None, _) => Err(format!("there is no worker `{name}`: see the list of workers")),
        }
    }

    /// What people are told of a worker.
    #[must_use]
    pub fn worker_status(&self, worker: &Worker, now: Now) -> WorkerStatus {
        let detector = self.contacts.detector(worker.id);
        WorkerStatus {
            id: worker.id,
            name: worker.inventory.name.clone(),
            alive: self.contacts.is_reachable(worker.id),
            silent_millis: detector.map(|detector| now.moment.millis_since(detector.last_heard())),
            threshold_millis: detector
                .map_or(self.contacts.settings.threshold_millis, |detector| detector.threshold_millis()),
            loss_percent: detector.map_or(0, |detector| detector.loss_percent()),
            scheduling: worker.scheduling,
            instances: u32::try_from(self.unfinished_on(worker.id)).unwrap_or(u32::MAX),
            allocatable: worker.inventory.allocatable,
            free: self.free_on(worker),
        }
    }

    /// Copies on a worker without those that have ended for good: they stay where they are, and need nothing.
    fn unfinished_on(&self, worker: WorkerId) -> usize {
        let over = |instance: &&Instance| {
            instance.holder() == Some(worker) && instance.desired == Desired::Running && !instance.is_live()
        };
        let on_it = self.on_worker(worker);
        on_it.filter(|instance| !over(instance)).count()
    }

    fn schedule(&self, worker: &Worker, scheduling: Scheduling) -> (ClusterAnswer, Vec<Change>) {
        let moving = match scheduling {
            Scheduling::Draining => {
                self.on_worker(worker.id).filter(|it| it.holder() == Some(worker.id) && it.is_live()).count()
            }
            Scheduling::Open | Scheduling::Cordoned => 0,
        };
        let begun = ClusterAnswer::Begun { instances: u32::try_from(moving).unwrap_or(u32::MAX) };
        if worker.scheduling == scheduling {
            return (begun, Vec::new());
        }
        let mut changes = vec![Change::Worker(worker.id, Some(Worker { scheduling, ..worker.clone() }))];
        if scheduling != Scheduling::Draining {
            // Who is on the way elsewhere stays.
            let staying = self.on_worker(worker.id).filter(|instance| {
                instance.holder() == Some(worker.id) && instance.tenure.successor.is_some()
            });
            changes.extend(staying.map(|instance| {
                let mut instance = instance.clone();
                instance.tenure.drop_successor();
                Change::Instance(instance.id, Some(instance))
            }));
        }
        (begun, changes)
    }

    /// One instance of each service moves from the worker that has most to one that has at least two less.
    fn rebalance(&self) -> (ClusterAnswer, Vec<Change>) {
        let mut counts: BTreeMap<WorkerId, usize> = self
            .workers
            .values()
            .filter(|worker| worker.scheduling == Scheduling::Open && self.contacts.is_reachable(worker.id))
            .map(|worker| (worker.id, 0))
            .collect();
        // Copies that are on their way out are no load, those on their way in are.
        for instance in self.instances.values().filter(|instance| instance.is_live()) {
            let at = instance.tenure.successor.or(instance.tenure.holder).map(|(worker, _)| worker);
            if let Some(count) = at.and_then(|worker| counts.get_mut(&worker)) {
                *count += 1;
            }
        }
        let mut field = self.field();
        let mut moved: BTreeSet<ServiceId> = BTreeSet::new();
        let mut changes = Vec::new();
        let mut order: Vec<&Instance> = self
            .instances
            .values()
            .filter(|it| it.is_live() && it.report.ready && it.tenure.successor.is_none())
            .collect();
        // From the fullest worker first.
        order.sort_by_key(|instance| {
            std::cmp::Reverse(instance.holder().and_then(|holder| counts.get(&holder).copied()))
        });
        for instance in order {
            let Some(from) = instance.holder() else { continue };
            let (Some(&here), Some(spec)) = (counts.get(&from), self.spec(instance)) else { continue };
            let least = counts.values().min().copied().unwrap_or(here);
            if here < least + 2 || moved.contains(&instance.id.service) {
                continue;
            }
            // Only those that are better off with it than the one that has it.
            field.close_unless(|worker| counts.get(&worker).is_some_and(|there| there + 2 <= here));
            let Ok(to) = self.choose(&mut field, instance, spec) else { continue };
            let there = counts.get(&to).copied().unwrap_or_default();
            counts.insert(from, here - 1);
            counts.insert(to, there + 1);
            moved.insert(instance.id.service);
            let mut moving = instance.clone();
            moving.tenure.hand_over(to, instance.next_generation());
            changes.push(Change::Instance(moving.id, Some(moving)));
        }
        let instances = u32::try_from(changes.len()).unwrap_or(u32::MAX);
        (ClusterAnswer::Begun { instances }, changes)
    }

    /// Whatever it had counts as gone. One that returns nevertheless is told to remove it.
    fn give_up(&self, worker: &Worker, now: Now) -> (ClusterAnswer, Vec<Change>) {
        if self.contacts.is_reachable(worker.id) {
            let name = &worker.inventory.name;
            let reason = format!("worker `{name}` is connected: drain it and stop its NodeEngine first");
            return (ClusterAnswer::Rejected { reason }, Vec::new());
        }
        let mut changes = Vec::new();
        for instance in self.on_worker(worker.id) {
            let mut instance = instance.clone();
            instance.tenure.buried(worker.id, Generation(u64::MAX));
            let vacant = instance.tenure.is_vacant();
            if vacant && instance.desired == Desired::Removed {
                instance.report =
                    InstanceReport::new(instance.id, instance.generation, Phase::Removed, now.date);
            }
            let forgotten = vacant && !instance.listed;
            changes.push(Change::Instance(instance.id, (!forgotten).then_some(instance)));
        }
        let instances = u32::try_from(changes.len()).unwrap_or(u32::MAX);
        changes.extend(self.subnets.release(&worker.id).map(Change::Subnet));
        changes.extend(self.forget_certificates(worker.id));
        changes.push(Change::Worker(worker.id, None));
        (ClusterAnswer::Begun { instances }, changes)
    }
}
