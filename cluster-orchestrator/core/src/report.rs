//! What the root is told: sums, and instances without their workers.

use std::collections::BTreeSet;

use model::{
    Capability, ClusterAggregate, ClusterReport, Desired, InstanceId, InstanceReport, Moment, Now,
    OnPartition, Phase, Resources, Scheduling, Timestamp, WorkerInventory,
};
use placement::frontier;

use crate::{Instance, State, contact::in_order};

impl State {
    /// The whole report as of now. `sequence` grows with every report of one connection.
    #[must_use]
    pub fn report(&self, sequence: u64, now: Now) -> ClusterReport {
        ClusterReport {
            observed_generation: self.held.generation,
            sequence,
            aggregate: self.aggregate(),
            instances: self.instances.values().map(|instance| self.instance_report(instance, now)).collect(),
            spent: self.enrolments.spent.iter().cloned().collect(),
        }
    }

    /// A report that tells of some instances only; of the others the root keeps what it was told. What is not held is
    /// left out.
    #[must_use]
    pub fn report_about(&self, about: &BTreeSet<InstanceId>, sequence: u64, now: Now) -> ClusterReport {
        let instances = about.iter().filter_map(|id| self.instances.get(id));
        ClusterReport {
            observed_generation: self.held.generation,
            sequence,
            aggregate: self.aggregate(),
            instances: instances.map(|instance| self.instance_report(instance, now)).collect(),
            spent: self.enrolments.spent.iter().cloned().collect(),
        }
    }

    fn instance_report(&self, instance: &Instance, now: Now) -> InstanceReport {
        // The root knows its own decision; which copy it is here is no concern of its.
        let mut report = InstanceReport { generation: instance.generation, ..instance.report.clone() };
        let silent = instance.holder().and_then(|worker| self.contacts.lost_since(worker));
        match (instance.desired, silent) {
            (Desired::Running, Some(since)) if instance.is_live() => {
                report.phase = Phase::Lost;
                report.ready = false;
                report.since = date_of(since, now);
                report.refusal = self.no_place.get(&instance.id).cloned();
                report.detail = self.lost_detail(instance, since, now);
            }
            (Desired::Removed, Some(_)) => {
                report.detail =
                    "its worker is cut off; it is removed there when the worker is back".to_owned();
            }
            (Desired::Running, _) => {
                if let Some(refusal) = self.no_place.get(&instance.id) {
                    report.detail = format!("it cannot move to another worker: {refusal}");
                }
            }
            (Desired::Removed, None) => {}
        }
        report
    }

    /// In words that do not change every second, so that an unchanging truth is no news.
    fn lost_detail(&self, instance: &Instance, since: Moment, now: Now) -> String {
        let policy = self.spec(instance).map(|spec| spec.survival.on_partition).unwrap_or_default();
        let next = match (policy, self.replaced_at(instance, since)) {
            (OnPartition::Keep, _) => "it waits for its worker (on_partition keep)".to_owned(),
            (OnPartition::ReplaceAfter(_) | OnPartition::StopAfter(_), Some(at)) if at > now.moment => {
                format!("another worker gets it if that lasts (on_partition {policy})")
            }
            (OnPartition::ReplaceAfter(_) | OnPartition::StopAfter(_), _) => {
                match self.no_place.get(&instance.id) {
                    Some(refusal) => format!("no other worker of its cluster can take it: {refusal}"),
                    None => "another worker gets it".to_owned(),
                }
            }
        };
        format!("its worker is cut off; {next}")
    }

    /// Looked at once for each worker, as this is part of every report.
    fn aggregate(&self) -> ClusterAggregate {
        let mut active_workers = 0;
        let (mut allocatable, mut sum_of_free) = (Resources::default(), Resources::default());
        let mut free = Vec::new();
        let mut capabilities: BTreeSet<Capability> = BTreeSet::new();
        let mut architectures: BTreeSet<&str> = BTreeSet::new();
        let mut last: Option<&WorkerInventory> = None;
        let (mut cpu_percent, mut memory_percent) = (0.0, 0.0);
        let mut load = self.contacts.loads_in_order();
        let mut taken = in_order(&self.taken);
        for worker in self.workers.values() {
            let taken = taken(worker.id).copied().unwrap_or_default();
            let Some(load) = load(worker.id) else { continue };
            active_workers += 1;
            allocatable = allocatable.plus(&worker.inventory.allocatable);
            // Most workers of a site are alike.
            let inventory = &worker.inventory;
            if last.is_none_or(|last| last.capabilities != inventory.capabilities) {
                capabilities.extend(&inventory.capabilities);
            }
            if last.is_none_or(|last| last.architecture != inventory.architecture) {
                architectures.insert(&inventory.architecture);
            }
            last = Some(inventory);
            cpu_percent += load.cpu_percent;
            memory_percent += load.memory_percent;
            if worker.scheduling == Scheduling::Open {
                let free_here = inventory.allocatable.minus(&taken);
                sum_of_free = sum_of_free.plus(&free_here);
                free.push(free_here);
            }
        }
        ClusterAggregate {
            active_workers,
            known_workers: u32::try_from(self.workers.len()).unwrap_or(u32::MAX),
            allocatable,
            free: sum_of_free,
            largest_free: frontier(free.into_iter()),
            capabilities: capabilities.into_iter().collect(),
            architectures: architectures.into_iter().map(str::to_owned).collect(),
            cpu_percent: mean(cpu_percent, active_workers),
            memory_percent: mean(memory_percent, active_workers),
        }
    }
}

/// When a moment was, to the second: the two clocks drift apart by milliseconds, which is no news.
fn date_of(moment: Moment, now: Now) -> Timestamp {
    let ago = now.moment.millis_since(moment);
    Timestamp(now.date.0.saturating_sub(ago) / 1000 * 1000)
}

fn mean(sum: f32, of: u32) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "a count of workers, for a figure shown to people")]
    let count = of.max(1) as f32;
    sum / count
}
