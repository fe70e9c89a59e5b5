//! A container engine as far as NodeEngine can tell: names are unique, what it was asked may happen late, and its
//! containers outlive everybody but the power.

use std::collections::{BTreeMap, BTreeSet};

use model::{Generation, InstanceId, PortMapping, Resources, Timestamp};
use node_core::{ContainerId, ContainerSeen, ContainerState, Exit};

use crate::queue::Millis;

#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) containers: BTreeMap<ContainerId, Container>,
    pub(crate) images: BTreeSet<String>,
    /// Counts the times it was switched on: what it was asked before is forgotten.
    pub(crate) boot: u32,
    pub(crate) answers: bool,
    /// When it last refused, was slow or left something open.
    pub(crate) troubled: Millis,
    made: u32,
}

#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) seen: ContainerSeen,
    /// Counts its starts.
    pub(crate) run: u32,
    /// When it was last started.
    pub(crate) started: Millis,
    /// When it last ended.
    pub(crate) ended: Millis,
    pub(crate) resources: Resources,
    pub(crate) ports: Vec<PortMapping>,
    pub(crate) one_shot: bool,
}

impl Container {
    pub(crate) const fn runs(&self) -> bool {
        match self.seen.state {
            ContainerState::Running { .. } => true,
            ContainerState::Created | ContainerState::Exited(_) => false,
        }
    }
}

impl Engine {
    pub(crate) const fn new() -> Self {
        Self {
            containers: BTreeMap::new(),
            images: BTreeSet::new(),
            boot: 0,
            answers: true,
            troubled: 0,
            made: 0,
        }
    }

    /// The container made for an instance in a generation.
    pub(crate) fn of(&self, instance: InstanceId, generation: Generation) -> Option<ContainerId> {
        let mut containers = self.containers.values().map(|container| &container.seen);
        let found = containers.find(|seen| seen.instance == instance && seen.generation == generation);
        found.map(|seen| seen.id.clone())
    }

    pub(crate) fn make(
        &mut self,
        instance: InstanceId,
        generation: Generation,
        spec: &model::ServiceSpec,
    ) -> ContainerId {
        self.made += 1;
        let id = ContainerId(format!("{:08x}", self.made));
        let seen = ContainerSeen {
            id: id.clone(),
            instance,
            generation,
            state: ContainerState::Created,
            health: None,
        };
        let container = Container {
            seen,
            run: 0,
            started: 0,
            ended: 0,
            resources: spec.resources,
            ports: spec.ports.clone(),
            one_shot: spec.one_shot,
        };
        self.containers.insert(id.clone(), container);
        id
    }

    /// Starts what does not run. True when that is news.
    pub(crate) fn start(&mut self, id: &ContainerId, now: Millis, date: Timestamp) -> bool {
        let Some(container) = self.containers.get_mut(id).filter(|container| !container.runs()) else {
            return false;
        };
        container.seen.state = ContainerState::Running { since: date, held: false };
        container.run += 1;
        container.started = now;
        true
    }

    /// Ends what runs. True when that is news.
    pub(crate) fn end(&mut self, id: &ContainerId, code: i64, now: Millis, date: Timestamp) -> bool {
        let Some(container) = self.containers.get_mut(id).filter(|container| container.runs()) else {
            return false;
        };
        container.seen.state = ContainerState::Exited(Exit { code, out_of_memory: false, at: date });
        container.ended = now;
        true
    }

    /// Everything it has, as a listing shows it.
    pub(crate) fn list(&self) -> Vec<ContainerSeen> {
        self.containers.values().map(|container| container.seen.clone()).collect()
    }
}
