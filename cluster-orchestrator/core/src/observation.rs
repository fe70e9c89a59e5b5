//! What workers say. Observations change what is known; they ask for nothing.

use std::net::IpAddr;

use liveness::Settings;
use model::{
    Desired, Generation, InstanceReport, Load, Moment, Now, OnRejoin, Output, Phase, Role, WorkerId,
    WorkerInventory, WorkerReport,
};

use crate::{Change, Instance, MOVE_WITHIN_MILLIS, State, Worker};

/// A worker that is back has this long to run again a copy that should be kept; then the replacement stays.
pub const SETTLE_MILLIS: u64 = 60_000;

impl State {
    /// A worker connected from `address`; `session` is greater than that of each of its connections before, which
    /// count no longer. One that comes late is ignored.
    #[must_use]
    pub fn worker_connected(
        &mut self,
        id: WorkerId,
        session: u64,
        inventory: WorkerInventory,
        address: IpAddr,
        now: Now,
    ) -> Vec<Change> {
        if self.revoked.contains_key(&id) {
            // It was let in just before that was known.
            return Vec::new();
        }
        let was_expected = self.contacts.is_expected(id);
        if !self.contacts.connect(id, session, address, now.moment) {
            return Vec::new();
        }
        if was_expected {
            self.may_begin_anew(id, now.moment);
        }
        self.capacity_changed = true;
        self.behind.insert(id);
        let known = self.workers.get(&id);
        let worker = Worker {
            id,
            inventory,
            generation: known.map_or(Generation::default(), |worker| worker.generation),
            scheduling: known.map(|worker| worker.scheduling).unwrap_or_default(),
            reach: known.and_then(|worker| worker.reach),
        };
        if known == Some(&worker) { Vec::new() } else { vec![Change::Worker(id, Some(worker))] }
    }

    /// Somebody, who has yet to say who it is, asks to be let in.
    pub fn somebody_knocked(&mut self, now: Now) {
        self.contacts.knocked(now.moment);
    }

    /// A connection of a worker ended. Whether the worker is lost, its beats tell.
    pub fn worker_disconnected(&mut self, id: WorkerId, session: u64, _now: Now) {
        self.contacts.disconnect(id, session);
    }

    /// To be called once before [`State::loaded`]: how often workers beat, and what follows from it. See
    /// [`liveness::Settings::every`].
    pub fn beat_every(&mut self, interval_millis: u64) {
        self.contacts.settings = Settings::every(interval_millis);
    }

    /// A beat of the worker's newest session came; its device was as busy as `load` says. Whether that leaves anything to
    /// decide before the moment the last pass asked to be woken at.
    #[must_use]
    pub fn worker_beat(&mut self, id: WorkerId, session: u64, sequence: u64, load: Load, now: Now) -> bool {
        // Its beats come by another way than the connection that was closed.
        !self.revoked.contains_key(&id) && self.contacts.beat(id, session, sequence, load, now.moment)
    }

    /// A worker reported over the connection `session`. Reports of another connection, or older than one that came
    /// before, are ignored, and so is what it says of copies it was not given. `None` when that leaves nothing to decide:
    /// most reports say that all is as it was.
    #[must_use]
    pub fn worker_reported(
        &mut self,
        id: WorkerId,
        session: u64,
        report: WorkerReport,
        now: Now,
    ) -> Option<Vec<Change>> {
        let was_lost = self.contacts.lost_since(id).is_some();
        let session = self.contacts.heard(id, session, report.load, now.moment)?;
        let mut changes = Vec::new();
        if report.sequence <= session.heard {
            return was_lost.then_some(changes);
        }
        session.heard = report.sequence;
        session.observed = report.observed_generation;
        let (address, number) = (session.address, session.number);
        if let Some(worker) = self.workers.get(&id) {
            if report.observed_generation > worker.generation {
                // This cluster's store is older than what the worker was told: go on above it.
                let generation = report.observed_generation.next();
                changes.push(Change::Worker(id, Some(Worker { generation, ..worker.clone() })));
            } else if report.observed_generation == worker.generation {
                self.behind.remove(&id);
            }
        }
        let weighs_otherwise = self.weigh(id, &report, now.moment);
        let moving = self.handovers.len();
        for said in report.instances {
            match self.instance_reported(id, said, address, now.moment) {
                Ok(change) => changes.extend(change),
                Err(NotTold) => _ = self.untold.insert(id, number),
            }
        }
        let moves_on = self.handovers.len() != moving;
        let asks = !self.untold.is_empty();
        (was_lost || weighs_otherwise || moves_on || asks || !changes.is_empty()).then_some(changes)
    }

    fn instance_reported(
        &mut self,
        worker: WorkerId,
        said: InstanceReport,
        address: IpAddr,
        now: Moment,
    ) -> Result<Option<Change>, NotTold> {
        let Some(instance) = self.instances.get_mut(&said.id) else { return Ok(None) };
        let role = match instance.tenure.role(worker) {
            Some((role, generation)) if generation == said.generation => role,
            // A newer copy of the same instance is assigned there; the older one goes with it.
            Some(_) => return Ok(None),
            None => return Ok(found(instance, worker, &said)),
        };
        let said = InstanceReport { published_at: Some(address), refusal: None, ..said };
        if said.phase == Phase::Removed {
            return Ok(removed(instance, worker, said));
        }
        let said = match instance.desired {
            Desired::Running => with_output(&instance.report, said)?,
            Desired::Removed => said,
        };
        Ok(match (instance.desired, role) {
            (Desired::Removed, Role::Holder) => instance
                .report
                .still_going(said)
                .map(|report| Change::Instance(instance.id, Some(Instance { report, ..instance.clone() }))),
            (Desired::Removed, Role::Successor | Role::Leftover) => None,
            (Desired::Running, Role::Holder) if instance.report.same_state(&said) => {
                // Telemetry only: remembered, not written.
                instance.report.usage = said.usage;
                None
            }
            (Desired::Running, Role::Holder) => {
                let mut updated = Instance { report: said, ..instance.clone() };
                let may_settle = match self.rejoin_policy(&updated) {
                    OnRejoin::KeepReplacement => {
                        updated.report.ready || updated.report.phase == Phase::Completed
                    }
                    OnRejoin::KeepOriginal => updated.report.phase == Phase::Completed,
                };
                if may_settle {
                    updated.tenure.settle();
                }
                Some(Change::Instance(updated.id, Some(updated)))
            }
            (Desired::Running, Role::Successor) if said.phase == Phase::Completed => {
                let mut updated = Instance { report: said, ..instance.clone() };
                updated.tenure.succeed();
                Some(Change::Instance(updated.id, Some(updated)))
            }
            (Desired::Running, Role::Successor) => {
                if said.ready {
                    self.successor_ready(said);
                } else {
                    self.successor_unready(said.id, now.plus_millis(MOVE_WITHIN_MILLIS));
                }
                None
            }
            (Desired::Running, Role::Leftover) => {
                let instance = instance.clone();
                self.rejoined(instance, worker, said)
            }
        })
    }

    /// An older copy runs on a worker that is back. Whichever copy is not to be kept gets its tombstone now.
    fn rejoined(&self, mut instance: Instance, worker: WorkerId, said: InstanceReport) -> Option<Change> {
        if !instance.tenure.is_contested() || !(said.ready || said.phase == Phase::Completed) {
            return None;
        }
        let keep_original = match self.rejoin_policy(&instance) {
            OnRejoin::KeepOriginal => true,
            // Nothing healthy is stopped for a replacement that does not run, or is lost in its turn.
            OnRejoin::KeepReplacement => {
                let lost = instance.holder().is_none_or(|holder| self.contacts.lost_since(holder).is_some());
                lost || !instance.report.ready
            }
        };
        if keep_original && instance.tenure.restore(worker) {
            instance.report = said;
            instance.tenure.settle();
        } else if !instance.tenure.settle() {
            return None;
        }
        Some(Change::Instance(instance.id, Some(instance)))
    }

    fn rejoin_policy(&self, instance: &Instance) -> OnRejoin {
        self.spec(instance).map(|spec| spec.survival.on_rejoin).unwrap_or_default()
    }
}

/// A worker relies on an output that it told before, and that is not known here.
struct NotTold;

/// What a worker says of an instance, with the output that it told before in full: it tells it once over a connection, and
/// may not have it any more.
fn with_output(known: &InstanceReport, mut said: InstanceReport) -> Result<InstanceReport, NotTold> {
    let generation = said.generation;
    let Some(exit) = &mut said.last_exit else { return Ok(said) };
    let same_end = known.last_exit.as_ref().filter(|known_exit| {
        (known.generation, known_exit.code, known_exit.at) == (generation, exit.code, exit.at)
    });
    match (&exit.output, same_end.and_then(|known_exit| known_exit.output.as_ref())) {
        (Some(Output::Text(_)), _) => {}
        (Some(Output::Withheld(_) | Output::AsTold) | None, Some(told @ Output::Text(_))) => {
            exit.output = Some(told.clone());
        }
        (Some(Output::AsTold), Some(Output::Withheld(_) | Output::AsTold) | None) => return Err(NotTold),
        (Some(Output::Withheld(_)) | None, Some(Output::Withheld(_) | Output::AsTold) | None) => {}
    }
    Ok(said)
}

/// A copy that this cluster does not know of: older than those it made, so it must go; or else none of its business.
fn found(instance: &Instance, worker: WorkerId, said: &InstanceReport) -> Option<Change> {
    if said.phase == Phase::Removed || said.generation >= instance.tenure.latest {
        return None;
    }
    let mut instance = instance.clone();
    instance.tenure.found(worker, said.generation);
    Some(Change::Instance(instance.id, Some(instance)))
}

fn removed(instance: &Instance, worker: WorkerId, said: InstanceReport) -> Option<Change> {
    let mut gone = instance.clone();
    let told = gone.tenure.told(worker, gone.desired);
    // Only a tombstone removes; a worker that says so unasked is not believed.
    if told.is_none_or(|(_, desired)| desired != Desired::Removed)
        || !gone.tenure.buried(worker, said.generation)
    {
        return None;
    }
    if gone.desired == Desired::Removed && gone.tenure.is_vacant() {
        gone.report = InstanceReport { generation: gone.generation, ..said };
    }
    // Without the root's list there is nobody to confirm it to.
    let keep = gone.listed || !gone.tenure.is_vacant();
    Some(Change::Instance(gone.id, keep.then_some(gone)))
}
