//! All that is remembered about one instance.

use std::{cmp::Reverse, collections::BTreeMap, net::IpAddr};

use model::{AssignedInstance, Generation, InstanceReport, Usage};

use crate::{
    ContainerId, ContainerState, Ticket,
    node::{Moment, Sequence},
};

/// One instance: what is wanted of it, its containers and what is being done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tracked {
    /// `None` for an instance known only by a labelled container.
    pub(crate) assigned: Option<AssignedInstance>,
    pub(crate) containers: BTreeMap<ContainerId, Container>,
    /// At most one at a time: this is what keeps two containers of one generation from being made.
    pub(crate) operation: Option<Operation>,
    /// An effect was lost: what exists is unknown until the next listing, so nothing is asked for.
    pub(crate) uncertain: bool,
    /// When its containers last changed; a listing begun before knows less.
    pub(crate) touched: Sequence,
    /// Starts, attaches or removals in a row that did not last.
    pub(crate) attempts: u32,
    pub(crate) retry_at: Moment,
    /// Why the last attempt failed.
    pub(crate) failure: Option<String>,
    /// Its image was fetched for the attempt under way.
    pub(crate) image_fetched: bool,
    pub(crate) restarts: u32,
    /// The tombstone that has been carried out.
    pub(crate) buried: Option<Generation>,
    pub(crate) reported: Option<InstanceReport>,
}

/// An effect under way for an instance.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) ticket: Ticket,
    pub(crate) kind: OperationKind,
    /// The container ended while the operation was under way, so "started" is no longer true.
    pub(crate) exit_seen: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OperationKind {
    /// `again`: the container ran before.
    Starting {
        generation: Generation,
        again: bool,
    },
    Attaching {
        container: ContainerId,
    },
    Removing {
        generation: Generation,
    },
}

/// A container of an instance.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) generation: Generation,
    pub(crate) state: ContainerState,
    pub(crate) network: Network,
    pub(crate) usage: Usage,
}

/// What is known of a container's own network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) addresses: Vec<IpAddr>,
    /// NetManager has confirmed it for this run of the container.
    pub(crate) confirmed: bool,
}

impl Tracked {
    /// The container that speaks for the instance: of the newest generation, running rather than not.
    pub(crate) fn current(&self) -> Option<(&ContainerId, &Container)> {
        self.containers.iter().max_by_key(|(id, container)| {
            let running = matches!(container.state, ContainerState::Running { .. });
            (container.generation, running, Reverse(*id))
        })
    }

    /// Containers of `newest` or an older generation.
    pub(crate) fn up_to(&self, newest: Generation) -> Vec<ContainerId> {
        self.containers
            .iter()
            .filter(|(_, container)| container.generation <= newest)
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Forgets the failures of what was wanted before.
    pub(crate) fn begin_anew(&mut self) {
        self.attempts = 0;
        self.retry_at = None;
        self.failure = None;
        self.image_fetched = false;
    }

    /// Whether nothing is left to remember.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.assigned.is_none() && self.containers.is_empty() && self.operation.is_none() && !self.uncertain
    }
}
