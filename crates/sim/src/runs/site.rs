//! A cluster in outline: it does as it is told, keeps what it was told, and reports all of it.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Assignment, Capability, ClusterAggregate, ClusterReport, Desired, Generation, InstanceId, InstanceReport,
    LastExit, Mebibytes, Millicores, Phase, Resources, Timestamp,
};

use super::plan;

/// More than everything takes.
const PLENTY: Resources = Resources {
    cpu: Millicores(100_000_000),
    memory: Mebibytes(100_000_000),
    storage: Mebibytes(100_000_000),
    gpus: 0,
};
const WORKERS: u32 = 10;

#[derive(Debug)]
struct Held {
    generation: Generation,
    /// The name of its attempt.
    name: String,
    exit: Option<LastExit>,
}

#[derive(Debug)]
pub(super) struct Site {
    seed: u64,
    /// The connection to the root; 0 while there is none.
    pub(super) session: u64,
    /// The newest assignment it has taken on. Durable, as all it holds.
    pub(super) generation: Generation,
    held: BTreeMap<InstanceId, Held>,
    /// Tombstones it confirms.
    removed: BTreeMap<InstanceId, Generation>,
    sequence: u64,
    /// A report is due.
    pub(super) has_news: bool,
}

impl Site {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            session: 0,
            generation: Generation::default(),
            held: BTreeMap::new(),
            removed: BTreeMap::new(),
            sequence: 0,
            has_news: false,
        }
    }

    pub(super) fn connected(&mut self, session: u64) {
        self.session = session;
        self.sequence = 0;
    }

    /// Does what it is told, once; the containers that it starts, and the names of their attempts. `again` is the mistake to
    /// start one that it has.
    pub(super) fn take_on(&mut self, assignment: &Assignment, mut again: bool) -> Vec<(InstanceId, String)> {
        if assignment.generation <= self.generation {
            return Vec::new();
        }
        self.generation = assignment.generation;
        let mut started = Vec::new();
        for wanted in &assignment.instances {
            match wanted.desired {
                Desired::Running => {
                    let known = self.held.contains_key(&wanted.id);
                    if known && !std::mem::take(&mut again) {
                        continue;
                    }
                    let service = assignment.services.get(&wanted.revision_id());
                    let name = service.map(|service| service.names.service.clone()).unwrap_or_default();
                    started.push((wanted.id, name.clone()));
                    self.held.insert(wanted.id, Held { generation: wanted.generation, name, exit: None });
                }
                Desired::Removed => {
                    self.held.remove(&wanted.id);
                    self.removed.insert(wanted.id, wanted.generation);
                }
            }
        }
        let listed: BTreeSet<InstanceId> = assignment.instances.iter().map(|wanted| wanted.id).collect();
        // What was confirmed gone and is no longer spoken of is forgotten.
        self.removed.retain(|id, _| listed.contains(id));
        started
    }

    /// A container ends, if it is still there.
    pub(super) fn ends(&mut self, id: InstanceId, at: Timestamp) {
        if let Some(held) = self.held.get_mut(&id) {
            let code = plan::exit_code(self.seed, &held.name);
            held.exit = Some(LastExit::new(code, at));
        }
    }

    /// All it has.
    pub(super) fn report(&mut self, now: Timestamp) -> ClusterReport {
        self.sequence += 1;
        let held = self.held.iter().map(|(id, held)| match &held.exit {
            Some(exit) => InstanceReport {
                last_exit: Some(exit.clone()),
                ..InstanceReport::new(*id, held.generation, Phase::Completed, exit.at)
            },
            None => InstanceReport {
                ready: true,
                ..InstanceReport::new(*id, held.generation, Phase::Running, Timestamp(0))
            },
        });
        let removed = self.removed.iter();
        let removed =
            removed.map(|(id, generation)| InstanceReport::new(*id, *generation, Phase::Removed, now));
        ClusterReport {
            observed_generation: self.generation,
            sequence: self.sequence,
            aggregate: ClusterAggregate {
                active_workers: WORKERS,
                known_workers: WORKERS,
                allocatable: PLENTY,
                free: PLENTY,
                largest_free: vec![PLENTY],
                capabilities: vec![Capability::Container],
                ..ClusterAggregate::default()
            },
            instances: held.chain(removed).collect(),
            ..ClusterReport::default()
        }
    }
}
