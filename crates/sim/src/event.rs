//! What can happen, and what travels between daemons.

use std::{net::IpAddr, sync::Arc};

use model::{
    Assignment, ClusterId, ClusterReport, Generation, NeighbourNews, Neighbours, NetworkLease,
    WorkerInventory, WorkerReport,
};
use node_core::{ContainerId, Submission};

use crate::{
    ids::{Child, ClusterIndex, Host, WorkerIndex},
    queue::Millis,
    scenario::Fault,
};

#[derive(Debug)]
pub(crate) enum Event {
    /// A message arrives.
    Arrives(Box<Envelope>),
    /// The next message of a stream that loses none arrives.
    Delivered { child: Child, session: u64, upward: bool },
    /// A worker sends its next beat.
    Beat { worker: WorkerIndex, token: u32 },
    /// The loop of the root or of a cluster takes in what waits and decides.
    Turn { host: Host, process: u32 },
    /// A daemon asked to be asked again.
    Wake { host: Host, process: u32 },
    /// A child's regular report is due.
    Heartbeat { child: Child, process: u32 },
    /// A cluster has news for the root.
    News { cluster: ClusterIndex, process: u32 },
    /// A worker that must know how long it has been cut off asks its cluster.
    Echo { worker: WorkerIndex, process: u32 },
    /// A child dials its parent.
    Dial { child: Child, token: u32 },
    /// A child that was not welcomed gives up on a connection.
    Unwelcomed { child: Child, session: u64 },
    /// A process does not know the connection a child speaks over, unless a greeting is still under way.
    Unknown { child: Child, session: u64 },
    /// One end of a link learns that the connection is gone.
    Broken { child: Child, end: End, session: u64 },
    /// An engine has come so far as to do what it was asked.
    Engine(Box<EngineWork>),
    /// An engine's client connects again.
    EngineBack { worker: WorkerIndex, process: u32 },
    /// The process of a container ends by itself.
    Exit { worker: WorkerIndex, container: ContainerId, run: u32, code: i64 },
    /// The next fault of a kind is due.
    Fault(Fault),
    /// Something that was down comes back.
    Restart { host: Host, process: u32 },
    /// A cut may have ended.
    Healed { child: Child },
    /// The faults end.
    Calm,
    /// The user wants something.
    User,
    /// Looks at a promise with a deadline.
    Check(Check),
}

impl Event {
    /// Where it happens: a number for each cluster with its workers, and one for everything else.
    pub(crate) fn site(&self, clusters: u32) -> u32 {
        let of_worker = |worker: &WorkerIndex| worker.0 % clusters;
        let of_child = |child: &Child| match child {
            Child::Cluster(cluster) => cluster.0,
            Child::Worker(worker) => of_worker(worker),
        };
        match self {
            Self::Arrives(envelope) => of_child(&envelope.child),
            Self::Delivered { child, .. }
            | Self::Heartbeat { child, .. }
            | Self::Dial { child, .. }
            | Self::Unwelcomed { child, .. }
            | Self::Unknown { child, .. }
            | Self::Broken { child, .. }
            | Self::Healed { child } => of_child(child),
            Self::Beat { worker, .. }
            | Self::Echo { worker, .. }
            | Self::EngineBack { worker, .. }
            | Self::Exit { worker, .. } => of_worker(worker),
            Self::Engine(work) => of_worker(&work.worker),
            Self::News { cluster, .. } => cluster.0,
            Self::Turn { host, .. } | Self::Wake { host, .. } | Self::Restart { host, .. } => match host {
                Host::Root => clusters,
                Host::Cluster(cluster) => cluster.0,
                Host::Worker(worker) => of_worker(worker),
            },
            Self::Fault(_) | Self::Calm | Self::User | Self::Check(_) => clusters,
        }
    }
}

/// The ends of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Child,
    Parent,
}

/// Something an engine was asked to do, at the moment it does it or tells of it.
#[derive(Debug)]
pub(crate) struct EngineWork {
    pub(crate) worker: WorkerIndex,
    /// The process of NodeEngine that asked.
    pub(crate) process: u32,
    /// The run of the engine that was asked.
    pub(crate) boot: u32,
    pub(crate) submission: Submission,
    pub(crate) fate: Fate,
    /// Nobody waits for it any more.
    pub(crate) orphaned: bool,
}

/// What becomes of something an engine is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is done and told.
    Done,
    /// It is refused.
    Refused,
    /// It is done; who asked learns only that nobody knows, later.
    DoneUnheard,
    /// Who asked is told that nobody knows; it is done afterwards.
    DoneLate,
    /// It never happens; who asked learns that nobody knows.
    Undone,
}

/// A promise with a deadline.
#[derive(Debug)]
pub(crate) enum Check {
    /// An instance entered a phase at that moment.
    Phase { instance: model::InstanceId, since: Millis },
    /// A worker booted with its last assignment.
    Boot { worker: WorkerIndex, process: u32, since: Millis },
    /// Everything has come to rest.
    Rest { attempt: u32 },
}

/// A message on its way.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) child: Child,
    /// Of the connection it was sent over.
    pub(crate) session: u64,
    pub(crate) body: Body,
}

#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// Cluster to root: the connection is there; the newest assignment it holds.
    ClusterHello {
        observed: Generation,
    },
    /// Worker to cluster: the connection is there.
    WorkerHello {
        inventory: Arc<WorkerInventory>,
        address: IpAddr,
    },
    /// NetManager to cluster.
    NetworkHello,
    /// Cluster to root, for a connection of another.
    ToNeighbour {
        to: ClusterId,
        epoch: u64,
        news: Arc<NeighbourNews>,
    },
    ClusterReport(Arc<ClusterReport>),
    WorkerReport(Arc<WorkerReport>),
    Beat {
        sequence: u64,
    },
    /// With the moment it was sent, by which an answer is told from another.
    Echo {
        sent: Millis,
    },

    /// Parent to child: the connection counts.
    Welcome,
    Assignment(Arc<Assignment>),
    Lease(Option<NetworkLease>),
    Neighbours(Arc<Neighbours>),
    FromNeighbour {
        from: ClusterId,
        news: Arc<NeighbourNews>,
    },
    SetBeats {
        interval_millis: u64,
    },
    /// One beat, now.
    AskForBeat,
    /// A report, now.
    RequestReport,
    Echoed {
        sent: Millis,
    },
}

impl Body {
    /// From child to parent.
    pub(crate) const fn upward(&self) -> bool {
        match self {
            Self::ClusterHello { .. }
            | Self::WorkerHello { .. }
            | Self::NetworkHello
            | Self::ToNeighbour { .. }
            | Self::ClusterReport(_)
            | Self::WorkerReport(_)
            | Self::Beat { .. }
            | Self::Echo { .. } => true,
            Self::Welcome
            | Self::Assignment(_)
            | Self::Lease(_)
            | Self::Neighbours(_)
            | Self::FromNeighbour { .. }
            | Self::SetBeats { .. }
            | Self::AskForBeat
            | Self::RequestReport
            | Self::Echoed { .. } => false,
        }
    }

    /// One packet each, not a stream: lost without anybody trying again.
    pub(crate) const fn is_datagram(&self) -> bool {
        match self {
            Self::Beat { .. } | Self::AskForBeat => true,
            Self::ClusterHello { .. }
            | Self::WorkerHello { .. }
            | Self::NetworkHello
            | Self::ToNeighbour { .. }
            | Self::ClusterReport(_)
            | Self::WorkerReport(_)
            | Self::Echo { .. }
            | Self::Welcome
            | Self::Assignment(_)
            | Self::Lease(_)
            | Self::Neighbours(_)
            | Self::FromNeighbour { .. }
            | Self::SetBeats { .. }
            | Self::RequestReport
            | Self::Echoed { .. } => false,
        }
    }
}
