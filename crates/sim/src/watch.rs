//! When each invariant is asked: at every commit, start and end of a container, and at deadlines.

use model::{Desired, InstanceId, Phase, Tier};
use node_core::{ContainerSeen, StartOrder};

use crate::{
    event::{Check, Event},
    ids::{Child, ClusterIndex, Host, WorkerIndex},
    invariants::{
        Copied, Disturbance, Invariant, no_needless_restart, no_overcommit, one_owner, stopped_when_cut,
    },
    machine::stops_when_cut,
    oracle::{BOOT_WITHIN, Ended, REST_AGAIN, REST_FIRST, REST_WITHIN},
    queue::Millis,
    world::World,
};

/// Reports travel up to half a minute, twice.
const PHASE_SLACK: Millis = 75_000;
/// The longest pause of NodeEngine between two starts, and some more.
const LONGEST_PAUSE: Millis = 70_000;
/// An instance that fails again and again is not looked at for ever.
const YOUNG: Millis = 60_000;

impl World {
    /// The root has made changes durable.
    pub(crate) fn root_committed(&mut self, changes: &[root_core::Change]) {
        let now = self.now;
        for change in changes {
            match change {
                root_core::Change::Instance(id, instance) => self.root_knows(*id, instance.as_ref()),
                root_core::Change::Application(..)
                | root_core::Change::Service(..)
                | root_core::Change::Cluster(..)
                | root_core::Change::Token(..)
                | root_core::Change::Certificate(..)
                | root_core::Change::Revocation(..)
                | root_core::Change::Secret(..)
                | root_core::Change::Hook(..)
                | root_core::Change::Delivery(..)
                | root_core::Change::ResourceType(..)
                | root_core::Change::Object(..)
                | root_core::Change::Resource(..)
                | root_core::Change::Blocks(_)
                | root_core::Change::AuditRecord(..)
                | root_core::Change::AuditEnds(_)
                | root_core::Change::AuditMark(..)
                | root_core::Change::People(_) => {}
            }
        }
        self.trace.mix(now);
    }

    fn root_knows(&mut self, id: InstanceId, instance: Option<&root_core::Instance>) {
        let now = self.now;
        let changing = self.oracle.is_changing(id.service);
        let record = self.oracle.record(id);
        record.wanted = instance.map(|instance| instance.desired);
        let wanted = record.wanted == Some(Desired::Running);
        if !wanted && !record.may_go && !changing {
            let verdict = Err("nobody asked for its removal".to_owned());
            self.oracle.judge(now, Invariant::Durable, Some(id), Some(Host::Root), verdict);
            return;
        }
        let phase = instance.map(|instance| instance.report.phase);
        let holder = instance.and_then(|instance| instance.tenure.holder);
        if record.phase.map(|(phase, _)| phase) == phase {
            return;
        }
        record.phase = phase.map(|phase| (phase, now));
        self.trace.say(now, || match phase {
            Some(phase) => {
                let holder = holder.map_or("nobody".to_owned(), |(cluster, generation)| {
                    format!("{}#{generation}", ClusterIndex::of(cluster))
                });
                format!("root sees {id} as {phase} by {holder}")
            }
            None => format!("root forgets {id}"),
        });
        if let Some((_, within)) = phase.and_then(Phase::owner) {
            self.queue
                .push(now + within + PHASE_SLACK, Event::Check(Check::Phase { instance: id, since: now }));
        }
    }

    /// A cluster has made changes durable.
    pub(crate) fn cluster_committed(&mut self, index: ClusterIndex, changes: &[cluster_core::Change]) {
        let now = self.now;
        for change in changes {
            match change {
                cluster_core::Change::Held(held) => {
                    self.trace.mix(held.generation.0);
                    self.oracle.cluster_holds(now, index, held.generation);
                }
                cluster_core::Change::Instance(id, instance) => {
                    self.trace.say(now, || match instance {
                        Some(it) => {
                            let tenure = &it.tenure;
                            let holder = tenure.holder.map(|(worker, generation)| {
                                format!("{}#{generation}", WorkerIndex::of(worker))
                            });
                            let successor = tenure.successor.map(|(worker, generation)| {
                                format!(", then {}#{generation}", WorkerIndex::of(worker))
                            });
                            let leftovers: Vec<String> = tenure
                                .leftovers
                                .iter()
                                .map(|(worker, leftover)| {
                                    let settled = if leftover.settled { " to go" } else { "" };
                                    format!("{}#{}{settled}", WorkerIndex::of(*worker), leftover.generation)
                                })
                                .collect();
                            format!(
                                "{index} knows {id}: {} {} by {}{}, leftovers [{}]",
                                if it.desired == Desired::Running { "wanted," } else { "unwanted," },
                                it.report.phase,
                                holder.unwrap_or_else(|| "nobody".to_owned()),
                                successor.unwrap_or_default(),
                                leftovers.join(", ")
                            )
                        }
                        None => format!("{index} forgets {id}"),
                    });
                }
                cluster_core::Change::Worker(..)
                | cluster_core::Change::Shared(..)
                | cluster_core::Change::Elsewhere(..)
                | cluster_core::Change::PeerElsewhere(..)
                | cluster_core::Change::Certificate(..)
                | cluster_core::Change::Revoked(_)
                | cluster_core::Change::Blocks(_)
                | cluster_core::Change::Subnet(_)
                | cluster_core::Change::Enrolments(_) => {}
            }
        }
    }

    pub(crate) fn container_started(&mut self, index: WorkerIndex, seen: &ContainerSeen, order: &StartOrder) {
        let (now, id, host) = (self.now, seen.instance, Some(Host::Worker(index)));
        let moves = self.oracle.moves(self.cluster_of(index));
        let elsewhere = self.runs_elsewhere(id, self.cluster_of(index));
        let unguarded = self.is_unguarded(id);
        let record = self.oracle.record(id);
        record.survival = order.spec.survival;
        record.drain = order.spec.drain.as_millis();
        record.one_shot = order.spec.one_shot;
        if !record.workers.contains(&index) {
            record.workers.push(index);
        }
        let starting = Copied { generation: seen.generation, worker: index, started: now };
        // A worker in contact with a cluster that is cut off from the root has no reason to stop anything: whoever lets
        // the root give up on clusters wants two copies rather than none.
        let two_wanted = elsewhere && record.survival.cluster_lost_after.is_some();
        let alone = stops_when_cut(record.survival.on_partition)
            && !(moves || unguarded || two_wanted || record.may_go);
        let verdict = one_owner(&record.running, &starting, alone);
        record.running.push(starting);
        self.statistics.running += 1;
        self.statistics.most_running = self.statistics.most_running.max(self.statistics.running);
        self.oracle.judge(now, Invariant::OneOwner, Some(id), host, verdict);
        let worker = self.worker_ref(index);
        let running = worker.engine.containers.values().filter(|container| container.runs());
        let reserved = running.map(|container| (&container.resources, container.ports.as_slice()));
        let verdict = no_overcommit(&worker.inventory.allocatable, reserved);
        self.oracle.judge(now, Invariant::NoOvercommit, Some(id), host, verdict);
    }

    fn runs_elsewhere(&self, id: InstanceId, cluster: ClusterIndex) -> bool {
        let running =
            self.oracle.instances.get(&id).map(|record| record.running.as_slice()).unwrap_or_default();
        running.iter().any(|copy| self.cluster_of(copy.worker) != cluster)
    }

    /// A worker with a copy has no NodeEngine that could stop it, or had none when that was due, or an engine that
    /// does not do as it is told: nobody can promise anything then.
    fn is_unguarded(&self, id: InstanceId) -> bool {
        let running =
            self.oracle.instances.get(&id).map(|record| record.running.as_slice()).unwrap_or_default();
        running.iter().any(|copy| {
            let worker = self.worker_ref(copy.worker);
            let late = worker.process.started + cluster_core::STOP_MARGIN_MILLIS > self.now;
            !worker.is_up() || late || !worker.engine.answers || worker.engine.troubled >= self.now
        })
    }

    pub(crate) fn container_ended(
        &mut self,
        index: WorkerIndex,
        seen: &ContainerSeen,
        started: Millis,
        why: Ended,
    ) {
        let (now, id) = (self.now, seen.instance);
        self.trace.mix(seen.generation.0);
        self.statistics.running -= 1;
        self.oracle.ended(index, seen);
        match why {
            // A stop for want of contact is judged when it is decided: contact may be back before it is done.
            Ended::Exit | Ended::Power | Ended::CutOff => return,
            Ended::Removed | Ended::Stopped => {}
        }
        let asked = self.asked_to_stop(id);
        let record = self.oracle.record(id);
        // What is stopped right after its start was superseded before it was known to run.
        if now < started + YOUNG && why == Ended::Removed {
            return;
        }
        let (survival, workers) = (record.survival, record.workers.clone());
        let disturbance = Disturbance { asked, ..self.disturbance(&workers, started) };
        let verdict = no_needless_restart(&survival, &disturbance);
        self.oracle.judge(now, Invariant::NoNeedlessRestart, Some(id), Some(Host::Worker(index)), verdict);
    }

    /// NodeEngine decides to stop a container because its device is cut off.
    pub(crate) fn stop_when_cut(&mut self, index: WorkerIndex, id: InstanceId) {
        let now = self.now;
        let survival = self.oracle.record(id).survival;
        let verdict = stopped_when_cut(&survival, now - self.worker_ref(index).last_contact());
        self.oracle.judge(now, Invariant::NoNeedlessRestart, Some(id), Some(Host::Worker(index)), verdict);
    }

    fn asked_to_stop(&mut self, id: InstanceId) -> bool {
        let changing = self.oracle.is_changing(id.service);
        let record = self.oracle.record(id);
        let workers = record.workers.clone();
        record.may_go || changing || workers.iter().any(|worker| self.oracle.moves(self.cluster_of(*worker)))
    }

    fn disturbance(&self, workers: &[WorkerIndex], since: Millis) -> Disturbance {
        let now = self.now;
        // A copy may owe its existence to a cut that ended shortly before it began.
        let since = since.saturating_sub(120_000);
        let mut found = Disturbance::default();
        for worker in workers {
            let cluster = self.cluster_of(*worker);
            let cut = self.worker_ref(*worker).link.cuts.longest_since(since, now);
            found.worker_cut = found.worker_cut.max(cut);
            let cut = self.cluster_ref(cluster).link.cuts.longest_since(since, now);
            found.cluster_cut = found.cluster_cut.max(cut);
        }
        found
    }

    pub(crate) fn check(&mut self, check: Check) {
        match check {
            Check::Phase { instance, since } => self.check_phase(instance, since),
            Check::Boot { worker, process, since } => self.check_boot(worker, process, since),
            Check::Rest { attempt } => self.check_rest(attempt),
        }
    }

    /// DEADLINE: the phase is the same, although its owner had its time undisturbed.
    fn check_phase(&mut self, instance: InstanceId, since: Millis) {
        let now = self.now;
        let record = self.oracle.record(instance);
        let Some((phase, entered)) = record.phase.filter(|(_, entered)| *entered == since) else { return };
        let Some((owner, within)) = phase.owner() else { return };
        let within = if phase == Phase::Undeploying { within + record.drain } else { within };
        let workers = record.workers.clone();
        let undisturbed = self.undisturbed_since(instance, owner, &workers);
        let Some(quiet) = undisturbed.map(|quiet| quiet.max(entered)) else {
            let again = now + within + PHASE_SLACK;
            self.queue.push(again, Event::Check(Check::Phase { instance, since }));
            return;
        };
        if quiet + within + PHASE_SLACK > now {
            let again = quiet + within + PHASE_SLACK + 1;
            self.queue.push(again, Event::Check(Check::Phase { instance, since }));
            return;
        }
        let verdict = Err(format!(
            "{phase} for {} s, of which {} s undisturbed; its owner ({owner:?}) may take {} s",
            (now - entered) / 1000,
            (now - quiet) / 1000,
            within / 1000
        ));
        self.oracle.judge(now, Invariant::Deadline, Some(instance), None, verdict);
    }

    /// Since when everybody an instance depends on has been there and reached; `None` if that is not so now.
    fn undisturbed_since(&self, id: InstanceId, owner: Tier, workers: &[WorkerIndex]) -> Option<Millis> {
        if !self.root.daemon.is_up() {
            return None;
        }
        let mut since = self.root.daemon.process.started;
        if owner == Tier::Root && workers.is_empty() {
            let holder = self.root.daemon.brain.as_ref().and_then(|brain| brain.instance(id)?.cluster());
            if let Some(holder) = holder {
                since = since.max(self.link_ref(Child::Cluster(ClusterIndex::of(holder))).cuts.last_end()?);
            }
            return Some(since);
        }
        // Not yet on any worker: any of them may be meant.
        let all: Vec<WorkerIndex> = if workers.is_empty() {
            (0..self.scenario.workers).map(WorkerIndex).collect()
        } else {
            workers.to_vec()
        };
        for worker in all {
            let cluster = self.cluster_of(worker);
            since = since.max(self.link_ref(Child::Worker(worker)).cuts.last_end()?);
            since = since.max(self.link_ref(Child::Cluster(cluster)).cuts.last_end()?);
            since = since.max(self.worker_ref(worker).engine.troubled);
        }
        Some(since)
    }

    /// AUTONOMY: a booted worker runs what it was last assigned, whoever is away.
    fn check_boot(&mut self, index: WorkerIndex, process: u32, since: Millis) {
        let now = self.now;
        let worker = self.worker_ref(index);
        if worker.process.number != process || !worker.is_up() {
            return;
        }
        if worker.engine.troubled >= since || !worker.engine.answers {
            return;
        }
        let patient = now >= since + BOOT_WITHIN + LONGEST_PAUSE;
        let mut missing = None;
        let mut again = false;
        for wanted in
            worker.held.assignment.instances.iter().filter(|wanted| wanted.desired == Desired::Running)
        {
            let Some(service) = worker.held.assignment.services.get(&wanted.revision_id()) else { continue };
            let spec = &service.spec;
            let there = worker.engine.containers.values().find(|container| {
                container.seen.instance == wanted.id && container.seen.generation == wanted.generation
            });
            // One that had run, and ran last until the power failed or somebody stopped it.
            let Some(container) = there.filter(|container| container.run > 0) else { continue };
            let ran = container.runs() || container.started >= since || container.ended >= since;
            let exempt = spec.one_shot || stops_when_cut(spec.survival.on_partition);
            if ran || exempt {
                continue;
            }
            if container.run > 1 && !patient {
                // It ended before: its pause between two starts may last.
                again = true;
            } else {
                missing = Some((wanted.id, wanted.generation));
            }
        }
        if let Some((id, generation)) = missing {
            let verdict = Err(format!(
                "generation {generation} does not run {} s after {index} started with it assigned",
                (now - since) / 1000
            ));
            self.oracle.judge(now, Invariant::Autonomy, Some(id), Some(Host::Worker(index)), verdict);
        } else if again {
            let again = Check::Boot { worker: index, process, since };
            self.queue.push(since + BOOT_WITHIN + LONGEST_PAUSE, Event::Check(again));
        }
    }

    /// CONVERGE: what is wanted runs exactly once, and nothing else does. CALLABLE: then whoever may call it knows.
    fn check_rest(&mut self, attempt: u32) {
        let now = self.now;
        self.note_rollouts();
        let rested = self.unrest().next().is_none();
        let unaware = if rested { self.unaware() } else { None };
        if rested && unaware.is_none() {
            self.statistics.rested = now.saturating_sub(self.scenario.quiet_from());
            self.finished = true;
            return;
        }
        let patient = now < self.scenario.quiet_from() + REST_WITHIN + REST_FIRST;
        if let Some((index, detail)) = unaware.filter(|_| !patient) {
            return self.oracle.judge(now, Invariant::Callable, None, Some(Host::Worker(index)), Err(detail));
        }
        let stuck = self.unrest().find(|(id, _)| !patient && !self.oracle.rolls_out(now, id.service));
        let Some((id, detail)) = stuck else {
            let check = Check::Rest { attempt: attempt + 1 };
            self.queue.push(now + REST_AGAIN, Event::Check(check));
            return;
        };
        let seconds = (now - self.scenario.quiet_from()) / 1000;
        let verdict = Err(format!("{seconds} s after the last fault: {detail}"));
        self.oracle.judge(now, Invariant::Converge, Some(id), None, verdict);
    }

    /// How far the rollouts under way have got: instances give way one after another, and of hundreds that takes longer
    /// than anything else.
    fn note_rollouts(&mut self) {
        let Some(brain) = &self.root.daemon.brain else { return };
        for service in brain.services() {
            let far = service.rollout.as_ref().map(|_| {
                let there = brain.instances_of(service.id);
                let wanted = there.filter(|instance| instance.desired == Desired::Running).count();
                // New ones have ever higher numbers, and each lets an old one go.
                (service.next_number, wanted)
            });
            self.oracle.rollout_is(self.now, service.id, far);
        }
    }

    /// The instances that are not as they should be.
    fn unrest(&self) -> impl Iterator<Item = (InstanceId, String)> {
        self.oracle.instances.iter().filter_map(|(id, record)| {
            let running: Vec<String> =
                record.running.iter().map(|copy| format!("{}#{}", copy.worker, copy.generation)).collect();
            let phase = record.phase.map(|(phase, _)| phase);
            let wrong = match (record.wanted, running.len()) {
                (Some(Desired::Running), 1) => match phase {
                    Some(Phase::Running) => None,
                    _ if record.one_shot => None,
                    _ => Some("it runs and the root does not know"),
                },
                (Some(Desired::Running), 0) if record.one_shot && phase == Some(Phase::Completed) => None,
                (Some(Desired::Running), 0) if phase == Some(Phase::Refused) && self.may_lack_room(*id) => {
                    None
                }
                (Some(Desired::Running), 0) => Some("it is wanted and does not run"),
                (Some(Desired::Running), _) => Some("it runs more than once"),
                (Some(Desired::Removed), _) => Some("it is still to be removed"),
                (None, 0) => None,
                (None, _) => Some("nobody wants it and it runs"),
            };
            let phase = phase.map_or("unknown", |phase| phase.as_str());
            wrong.map(|wrong| (*id, format!("{wrong} (root: {phase}, running: [{}])", running.join(", "))))
        })
    }

    /// In worlds that are not tight there is always room, but a port of a device may be taken everywhere.
    fn may_lack_room(&self, id: InstanceId) -> bool {
        if self.scenario.is_tight() {
            return true;
        }
        let brain = self.root.daemon.brain.as_ref();
        let service = brain.and_then(|brain| brain.service(id.service));
        service
            .is_some_and(|service| service.revisions.iter().any(|revision| !revision.spec.ports.is_empty()))
    }
}
