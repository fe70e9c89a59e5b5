//! What must always hold, one predicate each. `docs/invariants.md` says the same in words; `watch.rs` says when each
//! is asked, with what.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive};

use model::{Desired, Generation, NetworkLease, OnPartition, PortMapping, Resources, Survival};

use crate::{ids::WorkerIndex, queue::Millis};

/// The id of an invariant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Never two running containers of one instance and generation, never one generation given to two holders.
    OneOwner,
    /// Generations never go back, and what was to be removed is never to run again.
    Fence,
    /// Never more on a worker than it has.
    NoOvercommit,
    /// Once faults stop, what is wanted runs, exactly once, and nothing else.
    Converge,
    /// Whoever is cut off keeps what it has.
    Autonomy,
    /// Once faults stop, every device knows which instances of its applications can be called, wherever they run.
    Callable,
    /// What was acknowledged stays.
    Durable,
    /// No address is lent twice.
    UniqueIp,
    /// Nothing healthy is stopped without a reason.
    NoNeedlessRestart,
    /// Nothing stays in a phase for longer than its owner may take.
    Deadline,
    /// The same seed gives the same trace.
    Replay,
    /// A brain without news has nothing to do.
    Rest,
    /// No brain panics, whatever it is told.
    NoPanic,
}

impl Invariant {
    /// Every one.
    pub const ALL: [Self; 13] = [
        Self::OneOwner,
        Self::Fence,
        Self::NoOvercommit,
        Self::Converge,
        Self::Autonomy,
        Self::Callable,
        Self::Durable,
        Self::UniqueIp,
        Self::NoNeedlessRestart,
        Self::Deadline,
        Self::Replay,
        Self::Rest,
        Self::NoPanic,
    ];

    /// The one of that id.
    #[must_use]
    pub fn named(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|invariant| invariant.id() == id)
    }

    /// Its id in `docs/invariants.md`.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::OneOwner => "ONE-OWNER",
            Self::Fence => "FENCE",
            Self::NoOvercommit => "NO-OVERCOMMIT",
            Self::Converge => "CONVERGE",
            Self::Autonomy => "AUTONOMY",
            Self::Callable => "CALLABLE",
            Self::Durable => "DURABLE",
            Self::UniqueIp => "UNIQUE-IP",
            Self::NoNeedlessRestart => "NO-NEEDLESS-RESTART",
            Self::Deadline => "DEADLINE",
            Self::Replay => "REPLAY",
            Self::Rest => "REST",
            Self::NoPanic => "NO-PANIC",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// A running container of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Copied {
    pub(crate) generation: Generation,
    pub(crate) worker: WorkerIndex,
    pub(crate) started: Millis,
}

/// ONE-OWNER, for a container that starts beside those that run. `alone`: its service wants never two at once.
pub(crate) fn one_owner(running: &[Copied], starting: &Copied, alone: bool) -> Result<(), String> {
    let Copied { generation, worker, .. } = starting;
    if let Some(twin) = running.iter().find(|copy| copy.generation == *generation) {
        return Err(format!(
            "generation {generation} starts on {worker} and runs on {} already",
            twin.worker
        ));
    }
    match running.first().filter(|_| alone) {
        Some(other) => Err(format!(
            "stop_after means never two at once: generation {generation} starts on {worker} while generation {} runs \
             on {}",
            other.generation, other.worker
        )),
        None => Ok(()),
    }
}

/// FENCE, for what a host is told of one instance after what it was told before.
pub(crate) fn fence(before: (Generation, Desired), now: (Generation, Desired)) -> Result<(), String> {
    let ((old, was), (new, is)) = (before, now);
    if new < old {
        return Err(format!("generation {new} after generation {old}"));
    }
    match (was, is) {
        (Desired::Removed, Desired::Running) if new == old => {
            Err(format!("generation {new} is to run again after it was to be removed"))
        }
        (Desired::Removed | Desired::Running, Desired::Removed | Desired::Running) => Ok(()),
    }
}

/// NO-OVERCOMMIT, for all that runs on a worker.
pub(crate) fn no_overcommit<'a>(
    allocatable: &Resources,
    running: impl Iterator<Item = (&'a Resources, &'a [PortMapping])>,
) -> Result<(), String> {
    let mut sum = Resources::default();
    let mut taken: Vec<PortMapping> = Vec::new();
    for (resources, ports) in running {
        sum = sum.plus(resources);
        for port in ports {
            if taken.iter().any(|other| other.clashes_with(port)) {
                return Err(format!("port {} of the device is taken twice", port.host));
            }
            taken.push(*port);
        }
    }
    if allocatable.covers(&sum) { Ok(()) } else { Err(format!("{sum:?} of {allocatable:?} are reserved")) }
}

/// UNIQUE-IP, for a subnet taken by `taker` beside those that others have.
pub(crate) fn unique_ip(
    taken: &BTreeMap<u32, (u32, WorkerIndex)>,
    taker: WorkerIndex,
    range: &RangeInclusive<u32>,
) -> Result<(), String> {
    let overlapping = taken.range(..=*range.end()).next_back();
    match overlapping.filter(|(_, (last, owner))| last >= range.start() && *owner != taker) {
        Some((first, (_, owner))) => Err(format!(
            "{taker} gets {}, which overlaps {} of {owner}",
            std::net::Ipv4Addr::from(*range.start()),
            std::net::Ipv4Addr::from(*first)
        )),
        None => Ok(()),
    }
}

/// The IPv4 ranges of a lease.
pub(crate) fn ranges(lease: &NetworkLease) -> impl Iterator<Item = RangeInclusive<u32>> + '_ {
    lease.v4.iter().map(|net| u32::from(net.network())..=u32::from(net.broadcast()))
}

/// What disturbed an instance while a copy of it ran.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Disturbance {
    /// The longest time that a worker with a copy was cut off from its cluster.
    pub(crate) worker_cut: Millis,
    /// The longest time that a cluster with a copy was cut off from the root.
    pub(crate) cluster_cut: Millis,
    /// Somebody asked for its removal, for a change of its service, or for moves in its cluster.
    pub(crate) asked: bool,
}

/// A connection needs so long to be there again after a cut, with messages that take up to half a minute.
const RECONNECTS_WITHIN: Millis = 75_000;
/// Shorter cuts must not be noticed at all.
pub(crate) const BLIP: Millis = 1_500;
/// A cluster's connection to the root counts as silent after so long.
const CLUSTER_SILENT: Millis = 15_000;

/// NO-NEEDLESS-RESTART, for a healthy container that NodeEngine stops or removes.
pub(crate) fn no_needless_restart(survival: &Survival, disturbance: &Disturbance) -> Result<(), String> {
    let Disturbance { worker_cut, cluster_cut, asked } = *disturbance;
    let long_enough = |cut: Millis, after: Millis| cut > BLIP && cut + RECONNECTS_WITHIN >= after;
    let by_worker = match survival.on_partition {
        OnPartition::ReplaceAfter(after) | OnPartition::StopAfter(after) => {
            long_enough(worker_cut, after.as_millis())
        }
        OnPartition::Keep => false,
    };
    let by_cluster = survival
        .cluster_lost_after
        .is_some_and(|after| long_enough(cluster_cut, after.as_millis().max(CLUSTER_SILENT)));
    if asked || by_worker || by_cluster {
        return Ok(());
    }
    Err(format!(
        "a healthy container is stopped: nobody asked for it, no worker with a copy was cut off for longer than \
         {worker_cut} ms ({}), no cluster for longer than {cluster_cut} ms (cluster_lost_after {})",
        survival.on_partition,
        survival.cluster_lost_after.map_or("never".to_owned(), |after| after.to_string()),
    ))
}

/// NO-NEEDLESS-RESTART, for a container that NodeEngine stopped because its device was cut off for `silent`
/// milliseconds.
pub(crate) fn stopped_when_cut(survival: &Survival, silent: Millis) -> Result<(), String> {
    match survival.on_partition {
        OnPartition::StopAfter(after) if silent >= after.as_millis() => Ok(()),
        OnPartition::StopAfter(_) | OnPartition::ReplaceAfter(_) | OnPartition::Keep => Err(format!(
            "it was stopped as cut off, with {}, {silent} ms after its cluster last answered",
            survival.on_partition
        )),
    }
}
