//! What workers say. Observations change what is known; they ask for nothing.

use std::net::IpAddr;

use model::{Desired, Generation, InstanceReport, Phase, Timestamp, WorkerId, WorkerInventory, WorkerReport};

use crate::{Change, Instance, State, Worker, state::Session};

impl State {
    /// A worker connected from `address`. Its old connection, if any, counts no longer.
    #[must_use]
    pub fn worker_connected(
        &mut self,
        id: WorkerId,
        inventory: WorkerInventory,
        address: IpAddr,
    ) -> Vec<Change> {
        self.lost.remove(&id);
        let session = Session {
            address,
            offered: None,
            observed: Generation::default(),
            cpu_percent: 0.0,
            memory_percent: 0.0,
        };
        self.sessions.insert(id, session);
        let known = self.workers.get(&id);
        let generation = known.map_or(Generation::default(), |worker| worker.generation);
        let worker = Worker { id, inventory, generation };
        if known == Some(&worker) { Vec::new() } else { vec![Change::Worker(id, Some(worker))] }
    }

    /// The connection of a worker ended.
    pub fn worker_disconnected(&mut self, id: WorkerId, now: Timestamp) {
        if self.sessions.remove(&id).is_some() {
            self.lost.insert(id, now);
        }
    }

    /// The NetManager of a worker connected.
    pub fn network_connected(&mut self, id: WorkerId) {
        self.networks.insert(id, None);
    }

    /// The connection of a NetManager ended.
    pub fn network_disconnected(&mut self, id: WorkerId) {
        self.networks.remove(&id);
    }

    /// A worker reported. What it says of instances it was not given, or of older placements, is ignored.
    #[must_use]
    pub fn worker_reported(&mut self, id: WorkerId, report: WorkerReport) -> Vec<Change> {
        let Some(session) = self.sessions.get_mut(&id) else { return Vec::new() };
        session.observed = report.observed_generation;
        session.cpu_percent = report.cpu_percent;
        session.memory_percent = report.memory_percent;
        let address = session.address;
        let mut changes = Vec::new();
        if let Some(worker) = self.workers.get(&id)
            && report.observed_generation > worker.generation
        {
            // This cluster's store is older than what the worker was told: go on above it.
            let generation = report.observed_generation.next();
            changes.push(Change::Worker(id, Some(Worker { generation, ..worker.clone() })));
        }
        for said in report.instances {
            changes.extend(self.instance_reported(id, said, address));
        }
        changes
    }

    fn instance_reported(
        &mut self,
        worker: WorkerId,
        said: InstanceReport,
        address: IpAddr,
    ) -> Option<Change> {
        let instance = self.instances.get_mut(&said.id)?;
        if instance.worker != Some(worker) || instance.generation != said.generation {
            return None;
        }
        let said = InstanceReport { published_at: Some(address), refusal: None, ..said };
        match (instance.desired, said.phase) {
            (Desired::Removed, Phase::Removed) => {
                let gone =
                    Instance { worker: None, reserved: Default::default(), report: said, ..instance.clone() };
                // Without the root's list there is nobody to confirm it to.
                Some(Change::Instance(gone.id, gone.listed.then_some(gone)))
            }
            (Desired::Removed, _) => None,
            (Desired::Running, _) if instance.report.same_state(&said) => {
                // Telemetry only: remembered, not written.
                instance.report.usage = said.usage;
                None
            }
            (Desired::Running, _) => {
                let updated = Instance { report: said, ..instance.clone() };
                Some(Change::Instance(updated.id, Some(updated)))
            }
        }
    }
}
