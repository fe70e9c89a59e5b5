//! What the root is told: sums, and instances without their workers.

use std::collections::BTreeSet;

use model::{
    Capability, ClusterAggregate, ClusterReport, Desired, InstanceReport, Resources, Timestamp, WorkerId,
};
use placement::frontier;

use crate::{Instance, State, Worker};

impl State {
    /// The whole report as of now.
    #[must_use]
    pub fn report(&self, now: Timestamp) -> ClusterReport {
        ClusterReport {
            observed_generation: self.held.generation,
            aggregate: self.aggregate(),
            instances: self.instances.values().map(|instance| self.instance_report(instance, now)).collect(),
        }
    }

    fn instance_report(&self, instance: &Instance, now: Timestamp) -> InstanceReport {
        let mut report = instance.report.clone();
        if let Some(since) = instance.worker.and_then(|worker| self.silent_since(worker)) {
            let ago = now.millis_since(since) / 1000;
            let what = match instance.desired {
                Desired::Running => "this is what was last heard",
                Desired::Removed => "it is removed there when the worker is back",
            };
            // Rounded to ten seconds so that an unchanging truth is not news every second.
            report.detail = format!("its worker is not connected (for {} s or more); {what}", ago / 10 * 10);
        }
        report
    }

    fn silent_since(&self, worker: WorkerId) -> Option<Timestamp> {
        self.lost.get(&worker).copied()
    }

    fn aggregate(&self) -> ClusterAggregate {
        let active: Vec<&Worker> =
            self.workers.values().filter(|worker| self.sessions.contains_key(&worker.id)).collect();
        let free: Vec<Resources> = active.iter().map(|worker| self.free_on(worker)).collect();
        let sum = |amounts: &mut dyn Iterator<Item = Resources>| {
            amounts.fold(Resources::default(), |sum, amount| sum.plus(&amount))
        };
        let capabilities: BTreeSet<Capability> =
            active.iter().flat_map(|worker| worker.inventory.capabilities.iter().copied()).collect();
        let architectures: BTreeSet<String> =
            active.iter().map(|worker| worker.inventory.architecture.clone()).collect();
        let loads: Vec<(f32, f32)> = active
            .iter()
            .filter_map(|worker| self.sessions.get(&worker.id))
            .map(|session| (session.cpu_percent, session.memory_percent))
            .collect();
        ClusterAggregate {
            active_workers: u32::try_from(active.len()).unwrap_or(u32::MAX),
            known_workers: u32::try_from(self.workers.len()).unwrap_or(u32::MAX),
            allocatable: sum(&mut active.iter().map(|worker| worker.inventory.allocatable)),
            free: sum(&mut free.iter().copied()),
            largest_free: frontier(free.into_iter()),
            capabilities: capabilities.into_iter().collect(),
            architectures: architectures.into_iter().collect(),
            cpu_percent: mean(loads.iter().map(|(cpu, _)| *cpu)),
            memory_percent: mean(loads.iter().map(|(_, memory)| *memory)),
        }
    }
}

fn mean(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "a count of workers, for a figure shown to people")]
    let count = values.len().max(1) as f32;
    values.sum::<f32>() / count
}
