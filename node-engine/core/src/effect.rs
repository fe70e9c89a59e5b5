//! What the brain asks of the shell, and what the shell tells it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use model::{
    Generation, InstanceId, Load, Moment, Output, Probe, Sealed, SecretVersionId, ServiceNames, ServiceSpec,
    Timestamp, Usage,
};

use crate::{ContainerId, ContainerSeen, ImageHealth};

/// Ties the outcome of an effect to its submission: an outcome counts once, for that submission only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What to do now, and when to ask again if nothing happens before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In order of their tickets. Never two at once for one instance, image, listing, probe or end of a container; but a
    /// stop for want of contact overtakes the confirmation of a network, and a removal the count of connections.
    pub submissions: Vec<Submission>,
    /// `None` when only an observation or an assignment can change anything.
    pub wake_at: Option<Moment>,
}

/// An effect under way from the moment it is handed out until an [`Observation::Finished`] with its ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// To be returned with the outcome.
    pub ticket: Ticket,
    /// What to do.
    pub effect: Effect,
}

/// Something only the shell can do. Safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// List every container that carries Mangrove's labels.
    List,
    /// Fetch an image.
    Pull {
        /// Its reference.
        image: String,
        /// With which login, if a service that wants it names one.
        login: Option<SealedSecret>,
    },
    /// Make a container and start it, with its network; if it exists already, start that.
    CreateAndStart(StartOrder),
    /// Start a container that is there and does not run, with its network.
    Start {
        /// Which.
        container: ContainerId,
        /// It never ran, so its added files may be missing.
        fresh: bool,
        /// What it was made from.
        order: StartOrder,
    },
    /// Give a running container its network and let it pass the start gate.
    Attach {
        /// Which.
        container: ContainerId,
        /// What it was made from.
        order: StartOrder,
    },
    /// Stop a container and leave it where it is.
    Stop(StopOrder),
    /// Stop and remove containers of one instance, then release its network.
    Remove(RemoveOrder),
    /// Let nobody connect any more through ports of the device, and count who is connected.
    Drain {
        /// To which.
        instance: InstanceId,
    },
    /// Ask a running container once whether it works.
    Probe {
        /// Which.
        container: ContainerId,
        /// Its own address; `None` leaves finding it to the engine.
        address: Option<IpAddr>,
        /// What to ask, and how long to wait for an answer.
        probe: Probe,
    },
    /// Read what a container wrote to its termination log, or else the last lines that it printed before it ended.
    ReadTail {
        /// Which.
        container: ContainerId,
        /// When it ended the time before, by the engine's clock: what it wrote until then belongs to that run.
        after: Option<Timestamp>,
        /// When it ended, by the engine's clock.
        until: Timestamp,
        /// Whose output is to be read, too: that of a single attempt.
        output_of: Option<(InstanceId, Generation)>,
    },
}

/// A container to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopOrder {
    /// Whose it is.
    pub instance: InstanceId,
    /// Which.
    pub container: ContainerId,
    /// Why, which decides how long it is given to end by itself.
    pub cause: StopCause,
}

/// Why a container is stopped although its instance is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// It does not work, for this reason; it is started again.
    Unhealthy(String),
    /// The device is cut off and the service wants it stopped then; it is started when contact is back.
    CutOff,
}

/// An instance to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartOrder {
    /// Which instance.
    pub instance: InstanceId,
    /// Which placement of it.
    pub generation: Generation,
    /// Names for labels and logs.
    pub names: Arc<ServiceNames>,
    /// What it needs.
    pub spec: Arc<ServiceSpec>,
    /// The address it keeps wherever it runs.
    pub address: Option<Ipv4Addr>,
    /// The values of secrets that were assigned, sealed.
    pub secrets: Arc<BTreeMap<SecretVersionId, Sealed>>,
}

/// The value of a secret, which the shell can open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// Which version of which secret.
    pub version: SecretVersionId,
    /// The value.
    pub sealed: Sealed,
}

/// Containers to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveOrder {
    /// Whose they are.
    pub instance: InstanceId,
    /// The newest of their generations that may go.
    pub generation: Generation,
    /// Which; none when only the network is left to release.
    pub containers: Vec<ContainerId>,
}

/// What the shell saw.
#[derive(Debug, Clone, PartialEq)]
pub enum Observation {
    /// An effect ended.
    Finished {
        /// The submission's.
        ticket: Ticket,
        /// How.
        outcome: Outcome,
    },
    /// The engine answers and its events are being received.
    EngineConnected,
    /// The engine does not answer; events may have been missed.
    EngineLost,
    /// A container with Mangrove's labels was started or ended.
    ContainerChanged(ContainerSeen),
    /// A container with Mangrove's labels no longer exists.
    ContainerGone {
        /// Whose it was.
        instance: InstanceId,
        /// Which.
        container: ContainerId,
    },
    /// The engine changed its mind about a running container's HEALTHCHECK.
    HealthChanged {
        /// Whose container it is.
        instance: InstanceId,
        /// Which.
        container: ContainerId,
        /// What it thinks now.
        health: ImageHealth,
    },
    /// The cluster answered: at `sent`, when it was asked, this device was not cut off.
    Contact {
        /// When the question was sent.
        sent: Moment,
    },
    /// A pull under way got further.
    PullProgress {
        /// Its reference.
        image: String,
        /// How far, for a person.
        detail: String,
    },
    /// NetManager was restarted or its subnet changed: every network is to be confirmed again.
    NetworkChanged,
    /// A measurement of the device and of the running containers.
    Sampled {
        /// Of the device.
        load: Load,
        /// By container.
        usage: BTreeMap<ContainerId, Usage>,
    },
}

/// How an effect ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// `List`: all there are, as of some moment after the submission.
    Listed(Vec<ContainerSeen>),
    /// `Pull`: the image is there.
    Pulled,
    /// `CreateAndStart`, `Start`: it runs and its network, if it gets one, is there.
    Started {
        /// Which.
        container: ContainerId,
        /// When.
        since: Timestamp,
        /// Its own addresses.
        addresses: Vec<IpAddr>,
        /// Its image has a HEALTHCHECK that the engine carries out.
        checked: bool,
    },
    /// `CreateAndStart`, `Start`: it runs, held at the start gate, because its network could not be made.
    Held {
        /// Which.
        container: ContainerId,
        /// When it was started.
        since: Timestamp,
        /// Its image has a HEALTHCHECK that the engine carries out.
        checked: bool,
        /// Why.
        detail: String,
    },
    /// `CreateAndStart`: its image is not on the device. Nothing was made.
    ImageMissing,
    /// `CreateAndStart`: its name is taken by a container that cannot be seen, as the engine is still making or removing
    /// it. Nothing was made: under another name it would be the second of one instance.
    NameTaken {
        /// The name.
        name: String,
    },
    /// `Start`: somebody removed it, or is about to have done so. It will not run again.
    Gone {
        /// Which.
        container: ContainerId,
    },
    /// `Attach`: its network is there and it has passed the gate.
    Attached {
        /// Its own addresses.
        addresses: Vec<IpAddr>,
    },
    /// `Stop`: it does not run any more.
    Stopped(ContainerSeen),
    /// `Remove`: nothing of it is left.
    Removed,
    /// `Drain`: how many are connected.
    Connections(u32),
    /// `Probe`: it works, or does not for this reason.
    Probed(Result<(), String>),
    /// `ReadTail`: what a report tells of an end.
    LastWords {
        /// As much as [`model::LastExit::tail`] has.
        tail: String,
        /// What it wrote as its output.
        output: Option<Output>,
    },
    /// The engine or NetManager said no, for a reason.
    Failed {
        /// The container that exists nevertheless.
        container: Option<ContainerSeen>,
        /// Why, for a person.
        detail: String,
    },
    /// Nobody knows: the engine was cut off or took too long. It may have happened.
    Lost,
}
