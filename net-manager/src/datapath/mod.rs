//! What carries the traffic, as the service sees it. The kernel is one (`kernel`); tests have another.

mod kernel;

use std::{collections::BTreeSet, error::Error, future::Future, net::IpAddr, sync::Arc};

use model::{InstanceId, PortMapping};
use net_core::{Echo, Effect, Namespace, ObservedKernel, RoundTrip, Signs};
use tokio::sync::Notify;

use crate::secure::EncryptedLink;

pub use kernel::{KernelDatapath, PurgeReport};

/// Reads and changes what carries the traffic. It decides nothing.
pub trait Datapath: Send + 'static {
    /// Reads all of ours that is there.
    fn observe(&mut self) -> impl Future<Output = Result<ObservedKernel, DatapathError>> + Send;

    /// Does one effect, or as good as nothing of it: what is left half done is seen by the next `observe`.
    fn apply(&mut self, effect: &Effect) -> impl Future<Output = Result<(), DatapathError>> + Send;

    /// Told when something broke that the next pass puts right, so that nobody waits for it.
    fn broken(&self) -> Arc<Notify> {
        Arc::default()
    }

    /// Registers this device's end of encrypted links with a relay; nothing where there are none.
    fn use_relay(&mut self, order: relay::Order) -> impl Future<Output = ()> + Send;

    /// Counts the connections that others have to these addresses.
    fn connections(
        &mut self,
        to: &BTreeSet<IpAddr>,
    ) -> impl Future<Output = Result<u32, DatapathError>> + Send;

    /// Whether known connections have passages here.
    fn has_passages(&self) -> bool;

    /// Whether that is the device's own network namespace, where nobody is attached.
    fn is_devices_own(&self, namespace: &Namespace) -> bool;

    /// How encrypted links fare in the engine.
    fn encrypted(&mut self) -> impl Future<Output = Vec<EncryptedLink>> + Send;

    /// How they fare in the kernel.
    fn in_kernel(&mut self) -> impl Future<Output = Vec<EncryptedLink>> + Send;

    /// What there is to see of them, for what decides which of the two carries each.
    fn signs(&mut self) -> impl Future<Output = Signs> + Send;

    /// A round of echoes to another device: the shortest time in which one came back, `None` when none did.
    fn echo(&self, echo: Echo) -> impl Future<Output = Option<RoundTrip>> + Send + 'static;

    /// Takes these ports of the device for `holder`, in place of those it had, so that no program can listen on
    /// them unheard.
    ///
    /// # Errors
    /// When a program listens on one of them; then `holder` keeps what it had.
    fn reserve_ports(&mut self, holder: InstanceId, ports: &[PortMapping]) -> Result<(), PortInUse>;

    /// Gives the ports of `holder` back.
    fn release_ports(&mut self, holder: InstanceId);
}

/// The datapath refused or could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}")]
pub struct DatapathError {
    /// What was tried, in present tense.
    pub action: String,
    /// What came of it.
    pub source: Box<dyn Error + Send + Sync>,
}

impl DatapathError {
    /// For `map_err`.
    pub(crate) fn from_attempt<E: Into<Box<dyn Error + Send + Sync>>>(
        action: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let action = action.into();
        move |source| Self { action, source: source.into() }
    }
}

/// A port of the device that a program has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("port {}/{} of this device is taken by a program that runs on it; stop that program or use another port", port.host, port.protocol)]
pub struct PortInUse {
    /// The mapping that wanted it.
    pub port: PortMapping,
}
