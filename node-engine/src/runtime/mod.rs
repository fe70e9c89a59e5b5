//! The container engine behind a narrow trait: Docker ([`docker`]) and one in memory for tests ([`fake`]).

mod archive;
mod cgroup;
pub mod docker;
pub mod fake;

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf, time::Duration};

use futures_util::{future::BoxFuture, stream::BoxStream};
pub use hyper::body::Bytes;
use model::{Generation, InstanceId, Output, Timestamp, Usage};
use node_core::{ContainerId, ContainerSeen, ImageHealth, RemoveOrder, SealedSecret, StartOrder};

/// Label: the instance a container was made for.
pub const INSTANCE_LABEL: &str = "mangrove.instance";
/// Label: the generation of the instance it was made for.
pub const GENERATION_LABEL: &str = "mangrove.generation";
/// Label: the full name of the service, for people.
pub const SERVICE_LABEL: &str = "mangrove.service";

/// How long a process may take to end after being asked (SIGTERM) before it is killed.
pub const STOP_GRACE_SECONDS: u16 = 10;
/// The same for one that is restarted because it does not work: it has failed its probe for a while already, and one
/// that is stuck does not hear.
pub const UNHEALTHY_GRACE_SECONDS: u16 = 3;

/// Runs containers. Every call may be repeated; none deletes anything but [`ContainerRuntime::remove`].
pub trait ContainerRuntime: Send + Sync + fmt::Debug + 'static {
    /// Connects and returns the events from this moment on; the stream ends when the connection does.
    fn connect(&self) -> BoxFuture<'_, Result<BoxStream<'static, RuntimeEvent>, RuntimeError>>;

    /// Every container with Mangrove's labels.
    fn list(&self) -> BoxFuture<'_, Result<Vec<ContainerSeen>, RuntimeError>>;

    /// Fetches an image, with a login if there is one, telling how far it got.
    fn pull<'a>(
        &'a self,
        image: &'a str,
        login: Option<&'a SealedSecret>,
        progress: &'a (dyn Fn(String) + Send + Sync),
    ) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Makes a container with everything it needs to be started, or finds the one made before.
    fn create<'a>(&'a self, order: &'a StartOrder) -> BoxFuture<'a, Result<ContainerId, RuntimeError>>;

    /// Starts a container; nothing happens if it runs. `fresh` says that it never ran.
    fn start<'a>(
        &'a self,
        container: &'a ContainerId,
        order: &'a StartOrder,
        fresh: bool,
    ) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Whether the engine carries out a HEALTHCHECK in containers of this order. Never for a service with probes of
    /// its own.
    fn has_health_check<'a>(&'a self, order: &'a StartOrder) -> BoxFuture<'a, bool>;

    /// Asks the process of a container to end, kills it after `grace_seconds`, and returns how it ended. The container
    /// stays.
    fn stop<'a>(
        &'a self,
        container: &'a ContainerId,
        grace_seconds: u16,
    ) -> BoxFuture<'a, Result<ContainerSeen, RuntimeError>>;

    /// Where a running container is reached on the engine's own network; `None` when it has no address there.
    fn address<'a>(
        &'a self,
        container: &'a ContainerId,
    ) -> BoxFuture<'a, Result<Option<IpAddr>, RuntimeError>>;

    /// Runs a command in a running container. One that takes longer than `timeout` is killed.
    fn exec<'a>(
        &'a self,
        container: &'a ContainerId,
        command: &'a [String],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Executed, RuntimeError>>;

    /// What a container wrote to its termination log; else the last `lines` lines that it printed after one moment and up
    /// to another, by the engine's clock.
    fn last_words<'a>(
        &'a self,
        container: &'a ContainerId,
        after: Option<Timestamp>,
        until: Timestamp,
        lines: u32,
    ) -> BoxFuture<'a, Result<LastWords, RuntimeError>>;

    /// What a container with a single attempt wrote as its output; nothing where there is no file for it.
    fn output(&self, instance: InstanceId, generation: Generation) -> BoxFuture<'_, Option<Output>>;

    /// The process of a container; `None` when it does not run. Where NetManager makes the networks, one that is in the
    /// device's own is refused.
    fn process<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<Option<u32>, RuntimeError>>;

    /// Lets a process pass its start gate.
    fn open_gate(
        &self,
        instance: InstanceId,
        generation: Generation,
        process: u32,
    ) -> BoxFuture<'_, Result<(), RuntimeError>>;

    /// Stops and removes the containers of an order, and what belongs to them. What is not there is removed.
    fn remove<'a>(&'a self, order: &'a RemoveOrder) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// What a container wrote, oldest first; with `follow` until it ends.
    fn logs(
        &self,
        container: &ContainerId,
        range: LogRange,
    ) -> BoxStream<'static, Result<Bytes, RuntimeError>>;

    /// What containers use; those that cannot be measured are left out.
    fn usage(&self, containers: Vec<ContainerId>) -> BoxFuture<'_, BTreeMap<ContainerId, Usage>>;

    /// Where the engine keeps images and containers.
    fn data_directory(&self) -> BoxFuture<'_, PathBuf>;
}

/// The last that a container had to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastWords {
    /// What it wrote to its termination log: at most 4096 bytes, and not nothing.
    Said(Vec<u8>),
    /// What it printed.
    Printed(Vec<u8>),
}

/// How a command in a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Executed {
    /// By itself, with this exit code; the beginning of what it wrote.
    Ended {
        /// Its exit code.
        code: i64,
        /// At most a few hundred bytes.
        output: String,
    },
    /// It took too long.
    TimedOut,
}

/// Which part of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRange {
    /// Lines from the end; 0 is all there are.
    pub tail: u32,
    /// Go on with what is still to be written.
    pub follow: bool,
}

/// Something happened to a container with Mangrove's labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// It was started or ended.
    Changed(ContainerSeen),
    /// It no longer exists.
    Gone {
        /// Whose it was.
        instance: InstanceId,
        /// Which.
        container: ContainerId,
    },
    /// The engine changed its mind about its HEALTHCHECK.
    Health {
        /// Whose it is.
        instance: InstanceId,
        /// Which.
        container: ContainerId,
        /// What it thinks now.
        health: ImageHealth,
    },
}

/// Why the engine did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// The image is not on the device.
    #[error("image `{image}` is not on this device")]
    ImageMissing {
        /// Its reference.
        image: String,
    },
    /// The engine is still making or removing a container that cannot be seen.
    #[error("the container engine is still making or removing a container named `{name}`")]
    NameTaken {
        /// Its name.
        name: String,
    },
    /// The container no longer exists.
    #[error("container {container} no longer exists")]
    Gone {
        /// Which.
        container: ContainerId,
    },
    /// It said no.
    #[error("{detail}")]
    Refused {
        /// Why, in the engine's words.
        detail: String,
    },
    /// It did not answer; whether it did as asked is not known.
    #[error("the container engine cannot be reached: {detail}")]
    Unreachable {
        /// Why.
        detail: String,
    },
}
