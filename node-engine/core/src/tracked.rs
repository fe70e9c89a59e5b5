//! All that is remembered about one instance.

use std::{cmp::Reverse, collections::BTreeMap, fmt, net::IpAddr};

use model::{
    AssignedInstance, Desired, Generation, InstanceReport, LastExit, Moment, ServiceSpec, Timestamp, Usage,
};

use crate::{
    ContainerId, ContainerState, ImageHealth, KnownRun, Past, StopCause, Ticket, contact::Fence,
    leaving::Leaving, node::Sequence, probing::Probing,
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
    pub(crate) retry_at: Option<Moment>,
    /// A stop waits for nothing but its own failures.
    pub(crate) stop_again_at: Option<Moment>,
    /// Why the last attempt failed.
    pub(crate) failure: Option<String>,
    /// Its image was fetched for the attempt under way.
    pub(crate) image_fetched: bool,
    /// The name that its container is waiting for.
    pub(crate) name_taken: Option<NameTaken>,
    pub(crate) restarts: u32,
    pub(crate) last_exit: Option<LastExit>,
    /// The cluster was told over this connection what it wrote as its output.
    pub(crate) output_told: bool,
    /// The last words of the container that ended last, while they are to be read.
    pub(crate) last_words: Option<LastWords>,
    /// Why its container is being or was stopped; until it is started again.
    pub(crate) stopped: Option<StopCause>,
    pub(crate) fence: Fence,
    /// Since when it has been ready without a break.
    pub(crate) healthy_since: Option<Moment>,
    /// It is to be removed and others may still be connected to it.
    pub(crate) leaving: Option<Leaving>,
    /// The tombstone that has been carried out.
    pub(crate) carried_out: Option<Generation>,
    pub(crate) reported: Option<InstanceReport>,
    /// What it used, as was reported last.
    pub(crate) told_usage: Usage,
    /// What an earlier NodeEngine knew of the container that ran; until that was found.
    pub(crate) known_run: Option<KnownRun>,
    /// What is to be remembered of it, as the shell was last told.
    pub(crate) past: Past,
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
    /// `again`: the container ran before and ended by itself.
    Starting {
        generation: Generation,
        again: bool,
    },
    Attaching {
        container: ContainerId,
    },
    Stopping,
    Removing {
        generation: Generation,
    },
}

/// A name that the engine has not freed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameTaken {
    pub(crate) name: String,
    /// When it was first found taken.
    pub(crate) since: Moment,
}

impl fmt::Display for NameTaken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "the container engine is still making or removing a container named `{}`; trying again",
            self.name
        )
    }
}

/// Output to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastWords {
    pub(crate) container: ContainerId,
    pub(crate) after: Option<Timestamp>,
    pub(crate) until: Timestamp,
    pub(crate) under_way: Option<Ticket>,
}

/// A container of an instance.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) generation: Generation,
    pub(crate) state: ContainerState,
    pub(crate) network: Network,
    pub(crate) usage: Usage,
    pub(crate) image_health: Option<ImageHealth>,
    pub(crate) probing: Probing,
}

/// What is known of a container's own network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) addresses: Vec<IpAddr>,
    /// NetManager has confirmed it for this run of the container.
    pub(crate) confirmed: bool,
}

impl Container {
    pub(crate) fn new(generation: Generation, state: ContainerState) -> Self {
        Self {
            generation,
            state,
            network: Network::default(),
            usage: Usage::default(),
            image_health: None,
            probing: Probing::default(),
        }
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.runs_since().is_some()
    }

    pub(crate) const fn runs_since(&self) -> Option<Timestamp> {
        match self.state {
            ContainerState::Running { since, .. } => Some(since),
            ContainerState::Created | ContainerState::Exited(_) => None,
        }
    }

    /// Why it cannot be counted on, if so. Without probes of the service the image's HEALTHCHECK counts, without that
    /// it is enough that it runs.
    pub(crate) fn unready_because(&self, spec: &ServiceSpec) -> Option<String> {
        if !spec.health.is_empty() {
            return self.probing.unready_because(&spec.health);
        }
        match self.image_health {
            None | Some(ImageHealth::Healthy) => None,
            Some(ImageHealth::Starting) => {
                Some("not ready: the HEALTHCHECK of its image has not succeeded yet".to_owned())
            }
            Some(ImageHealth::Unhealthy) => Some("not ready: the HEALTHCHECK of its image fails".to_owned()),
        }
    }

    /// Why it has to be restarted, if so.
    pub(crate) fn restart_because(&self, spec: &ServiceSpec) -> Option<String> {
        if !spec.health.is_empty() {
            return self.probing.restart_because(&spec.health);
        }
        match self.image_health {
            None | Some(ImageHealth::Healthy | ImageHealth::Starting) => None,
            Some(ImageHealth::Unhealthy) => Some("the HEALTHCHECK of its image failed".to_owned()),
        }
    }
}

impl Tracked {
    /// What it uses while it runs.
    pub(crate) fn usage(&self) -> Usage {
        match self.current() {
            Some((_, container)) if container.is_running() => container.usage,
            Some(_) | None => Usage::default(),
        }
    }

    /// The container that speaks for the instance: of the newest generation, running rather than not.
    pub(crate) fn current(&self) -> Option<(&ContainerId, &Container)> {
        self.containers
            .iter()
            .max_by_key(|(id, container)| (container.generation, container.is_running(), Reverse(*id)))
    }

    /// Containers of `newest` or an older generation.
    pub(crate) fn up_to(&self, newest: Generation) -> Vec<ContainerId> {
        self.containers
            .iter()
            .filter(|(_, container)| container.generation <= newest)
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Whether a container of `newest` or an older generation has passed its gate, so that others may be connected to it.
    pub(crate) fn answers_calls(&self, newest: Generation) -> bool {
        let passed = |state| matches!(state, ContainerState::Running { held: false, .. });
        self.containers.values().any(|it| it.generation <= newest && passed(it.state))
    }

    /// Forgets the failures of what was wanted before.
    pub(crate) fn begin_anew(&mut self) {
        self.attempts = 0;
        self.retry_at = None;
        self.stop_again_at = None;
        self.failure = None;
        self.image_fetched = false;
        self.name_taken = None;
        self.leaving = None;
    }

    pub(crate) fn is_to_run(&self) -> bool {
        self.assigned.is_some_and(|wanted| match wanted.desired {
            Desired::Running => true,
            Desired::Removed => false,
        })
    }

    /// A one-shot that ended well by itself, or one that has but a single attempt and ended at all.
    pub(crate) fn is_completed(&self, spec: &ServiceSpec) -> bool {
        let has_ended = match self.current() {
            // Had is had, also when somebody took its container away.
            None => spec.single_attempt && self.last_exit.is_some(),
            Some((_, container)) => match container.state {
                ContainerState::Exited(exit) => {
                    spec.single_attempt || exit.code == 0 && self.stopped.is_none()
                }
                ContainerState::Created | ContainerState::Running { .. } => false,
            },
        };
        spec.one_shot && has_ended
    }

    /// Nothing is under way that starts or ends its container.
    pub(crate) fn is_settled(&self) -> bool {
        self.operation.as_ref().is_none_or(|operation| match operation.kind {
            OperationKind::Attaching { .. } => true,
            OperationKind::Starting { .. } | OperationKind::Stopping | OperationKind::Removing { .. } => {
                false
            }
        })
    }

    pub(crate) const fn is_being_stopped(&self) -> bool {
        match &self.operation {
            Some(Operation { kind: OperationKind::Stopping, .. }) => true,
            Some(Operation {
                kind:
                    OperationKind::Starting { .. }
                    | OperationKind::Attaching { .. }
                    | OperationKind::Removing { .. },
                ..
            })
            | None => false,
        }
    }

    /// Whether nothing is left to remember.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.assigned.is_none() && self.containers.is_empty() && self.operation.is_none() && !self.uncertain
    }
}
