//! A cluster with workers that run instances, and the bytes of what they report.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::{Context, Result, ensure};
use cluster_core::{Change, Effect, State};
use control::{Handle, Surroundings, document};
use model::{
    AssignedInstance, AssignedService, Assignment, Capability, Desired, Generation, InstanceId,
    InstanceReport, Load, Mebibytes, Millicores, Phase, Resources, RevisionId, ServiceId, ServiceNames,
    ServiceSpec, Timestamp, Usage, WorkerId, WorkerInventory, WorkerReport,
};
use prost::Message as _;
use proto::v1::{self, worker_to_cluster::Message};
use store::{Write, put};
use uuid::Uuid;

const SESSION: u64 = 1;
const DEVICE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Writes what a cluster writes and sends nothing to anybody.
pub(super) struct Nowhere;

impl Surroundings<State> for Nowhere {
    fn write(&self, change: &Change) -> Write {
        match change {
            Change::Held(held) => put("held", "assignment", held),
            Change::Instance(id, instance) => document("instances", id, instance.as_ref()),
            Change::Worker(id, worker) => document("workers", id, worker.as_ref()),
            Change::Blocks(blocks) => put("plans", "blocks", blocks),
            Change::Subnet(lent) => put("subnets", lent.subnet.v4, lent),
            Change::Enrolments(enrolments) => put("enrolments", "tokens", enrolments),
            Change::Shared(..) | Change::Elsewhere(..) | Change::PeerElsewhere(..) => {
                unreachable!("it has no neighbours")
            }
            Change::Certificate(..) | Change::Revoked(_) => unreachable!("nobody is certified"),
        }
    }

    fn after_commit(&mut self, _: &State, _: &[Change], _: Vec<Effect>) {}
}

/// One worker's next reports, encoded.
pub(super) struct Reporting {
    pub(super) worker: WorkerId,
    pub(super) session: u64,
    pub(super) reports: Vec<Vec<u8>>,
}

/// The workers as they will report.
pub(super) struct Fleet {
    workers: BTreeMap<WorkerId, (Generation, Vec<InstanceReport>)>,
    sequence: u64,
    changes: u64,
}

impl Fleet {
    /// Connects `workers` and gives each `instances` that run.
    pub(super) async fn settle(handle: &Handle<State>, workers: u32, instances: u32) -> Result<Self> {
        for number in 0..workers {
            let id = worker_id(number);
            let inventory = inventory(number);
            handle
                .observe(move |state, now| state.worker_connected(id, SESSION, inventory, DEVICE, now))
                .await?;
        }
        let assignment = assignment(workers * instances);
        let taken = handle.ask(move |state, now| Ok(((), state.take_on(assignment, now)?))).await?;
        taken.map_err(|stale: cluster_core::Stale| anyhow::anyhow!(stale))?;
        let state = handle.read().await;
        let mut fleet = Self { workers: BTreeMap::new(), sequence: 0, changes: 0 };
        for worker in state.workers() {
            let assignment = state.assignment(worker);
            let has = assignment.instances.len();
            ensure!(has == instances as usize, "worker {} has {has} instances", worker.id);
            let runs = |assigned: &AssignedInstance| InstanceReport {
                addresses: vec![IpAddr::V4(Ipv4Addr::new(10, 30, 0, 2))],
                ready: true,
                ..InstanceReport::new(
                    assigned.id,
                    assigned.generation,
                    Phase::Running,
                    Timestamp(1_700_000_000_000),
                )
            };
            let reports = assignment.instances.iter().map(runs).collect();
            fleet.workers.insert(worker.id, (assignment.generation, reports));
        }
        Ok(fleet)
    }

    /// The next `count` reports of every worker. Loads differ every time; one report in `change_every` tells of an
    /// instance that was started again.
    pub(super) fn batch(&mut self, count: usize, change_every: u64) -> Vec<Reporting> {
        let before = self.sequence;
        self.sequence += count as u64;
        let mut batch = Vec::new();
        for (index, (worker, (generation, instances))) in self.workers.iter_mut().enumerate() {
            let mut reports = Vec::with_capacity(count);
            for sequence in before + 1..=self.sequence {
                let load = ((sequence + index as u64) % 100) as f32;
                for instance in instances.iter_mut() {
                    instance.usage = Usage { cpu_percent: load, memory_bytes: 8 << 20, disk_bytes: 1 << 20 };
                }
                // Workers change at different times.
                if (sequence + index as u64).is_multiple_of(change_every) {
                    let which = usize::try_from(sequence / change_every).unwrap_or(0) % instances.len();
                    instances[which].restarts += 1;
                    instances[which].since = instances[which].since.plus_millis(20_000);
                    self.changes += 1;
                }
                let report = WorkerReport {
                    observed_generation: *generation,
                    sequence,
                    load: Load { cpu_percent: load, memory_percent: 30.0 },
                    instances: instances.clone(),
                };
                let message = v1::WorkerToCluster { message: Some(Message::Report((&report).into())) };
                reports.push(message.encode_to_vec());
            }
            batch.push(Reporting { worker: *worker, session: SESSION, reports });
        }
        batch
    }

    /// # Errors
    /// The state does not say what was reported last.
    pub(super) async fn ensure_applied(&self, handle: &Handle<State>) -> Result<()> {
        let state = handle.read().await;
        let mut restarts = 0;
        for said in self.workers.values().flat_map(|(_, instances)| instances) {
            let held = state.instance(said.id).context("an instance is missing from the state")?;
            ensure!(held.report.usage == said.usage, "the last loads of {} are not in the state", said.id);
            restarts += u64::from(held.report.restarts);
        }
        ensure!(restarts == self.changes, "{restarts} of {} changes are in the state", self.changes);
        Ok(())
    }
}

fn worker_id(number: u32) -> WorkerId {
    // As random ones are spread: neighbours in time are none by id.
    WorkerId::new(Uuid::from_u128(u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)))
}

fn inventory(number: u32) -> WorkerInventory {
    WorkerInventory {
        name: format!("w{number:06}"),
        architecture: "amd64".to_owned(),
        allocatable: resources(4_000, 4_096),
        capabilities: vec![Capability::Container, Capability::Overlay],
    }
}

const fn resources(millicores: u32, mebibytes: u32) -> Resources {
    Resources {
        cpu: Millicores(millicores),
        memory: Mebibytes(mebibytes),
        storage: Mebibytes(32_768),
        gpus: 0,
    }
}

/// `count` copies of one service.
fn assignment(count: u32) -> Assignment {
    let service = ServiceId::from_bytes([7; 12]);
    let spec =
        ServiceSpec::container("docker.io/library/nginx:1.27").reserving(Millicores(100), Mebibytes(32));
    let names = ServiceNames {
        application: "shop".to_owned(),
        application_namespace: "prod".to_owned(),
        service: "web".to_owned(),
        service_namespace: "prod".to_owned(),
    };
    let assigned = AssignedService {
        names: names.into(),
        spec: spec.into(),
        addresses: std::sync::Arc::default(),
        allowed_callers: std::sync::Arc::default(),
    };
    let wanted = |number| AssignedInstance {
        id: InstanceId { service, number },
        revision: 1,
        generation: Generation(1),
        desired: Desired::Running,
        address: None,
    };
    Assignment {
        generation: Generation(1),
        services: BTreeMap::from([(RevisionId { service, number: 1 }, assigned)]),
        instances: (0..count).map(wanted).collect(),
        ..Assignment::default()
    }
}
