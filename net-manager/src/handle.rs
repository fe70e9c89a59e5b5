//! How the rest of the daemon talks to its service (`service`): what can be asked, and what may come of it.

use std::net::Ipv4Addr;

use model::{Generation, InstanceId, PortMapping};
use net_core::{Attachment, Rejection};
use tokio::sync::{mpsc, oneshot};

use crate::{
    datapath::{DatapathError, PortInUse},
    status::{Link, Status},
};

/// Requests come from one NodeEngine, one per instance at most; more waiting than this is backpressure, not load.
const QUEUE: usize = 64;

/// Why an instance is not attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The state says no.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A program on the device has the port.
    #[error(transparent)]
    PortInUse(#[from] PortInUse),
    /// There is no such namespace.
    #[error(
        "network namespace {path} cannot be found: {problem}; the container must be running when it is attached"
    )]
    NoNamespace {
        /// Where it should be.
        path: String,
        /// Why it is not.
        problem: std::io::Error,
    },
    /// It is no instance's own: attaching there would give the device the network of an instance.
    #[error(
        "network namespace {path} is the device's own, so instance {id} is not attached there: it would have all of the \
         device's network, and the device its addresses; start its container in a network namespace of its own"
    )]
    DevicesOwn {
        /// Which instance.
        id: InstanceId,
        /// Where it should be.
        path: String,
    },
    /// The kernel refused; it is tried again with every pass.
    #[error("the kernel refused")]
    Datapath(#[from] DatapathError),
    /// The state directory refused.
    #[error("the state could not be kept")]
    State(#[source] anyhow::Error),
    /// The service has stopped.
    #[error("NetManager is stopping; ask again when it runs")]
    Stopping,
}

/// What to attach, as NodeEngine asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachOrder {
    /// Which instance.
    pub id: InstanceId,
    /// Which placement of it.
    pub generation: Generation,
    /// Path of its network namespace.
    pub network_namespace: String,
    /// Ports of the device that lead to it.
    pub ports: Vec<PortMapping>,
    /// The address it keeps wherever it runs.
    pub address: Option<Ipv4Addr>,
}

#[derive(Debug)]
pub(crate) enum Request {
    Attach(AttachOrder, oneshot::Sender<Result<Attachment, AttachError>>),
    Drain(InstanceId, oneshot::Sender<Result<u32, AttachError>>),
    Detach(InstanceId, oneshot::Sender<Result<(), AttachError>>),
    List(oneshot::Sender<Vec<Attachment>>),
    Links(oneshot::Sender<Vec<Link>>),
    Status(oneshot::Sender<Status>),
}

/// How the rest of the daemon talks to the service.
#[derive(Debug, Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
}

impl Handle {
    /// A handle, and where its requests come out.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (requests, receiver) = mpsc::channel(QUEUE);
        (Self { requests }, receiver)
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, AttachError> {
        let (sender, receiver) = oneshot::channel();
        self.requests.send(request(sender)).await.map_err(|_| AttachError::Stopping)?;
        receiver.await.map_err(|_| AttachError::Stopping)
    }

    /// Attaches an instance; asking again changes nothing. The answer comes when its first instruction may run.
    ///
    /// # Errors
    /// Why it is not attached.
    pub async fn attach(&self, order: AttachOrder) -> Result<Attachment, AttachError> {
        self.ask(|reply| Request::Attach(order, reply)).await?
    }

    /// Leads nobody new to an instance by ports of the device, and counts the connections to it.
    ///
    /// # Errors
    /// When the kernel or the state directory refused.
    pub async fn drain(&self, id: InstanceId) -> Result<u32, AttachError> {
        self.ask(|reply| Request::Drain(id, reply)).await?
    }

    /// Detaches an instance; asking again changes nothing.
    ///
    /// # Errors
    /// When the kernel or the state directory refused.
    pub async fn detach(&self, id: InstanceId) -> Result<(), AttachError> {
        self.ask(|reply| Request::Detach(id, reply)).await?
    }

    /// Every attached instance, in order of the ids.
    ///
    /// # Errors
    /// When the service has stopped.
    pub async fn list(&self) -> Result<Vec<Attachment>, AttachError> {
        self.ask(Request::List).await
    }

    /// The ways to other devices.
    ///
    /// # Errors
    /// When the service has stopped.
    pub async fn links(&self) -> Result<Vec<Link>, AttachError> {
        self.ask(Request::Links).await
    }

    /// Where it is.
    ///
    /// # Errors
    /// When the service has stopped.
    pub async fn status(&self) -> Result<Status, AttachError> {
        self.ask(Request::Status).await
    }
}
