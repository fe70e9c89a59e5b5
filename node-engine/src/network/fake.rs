//! A NetManager in memory, for tests that run whole daemons in one process.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{FutureExt, future::BoxFuture, future::ready};
use model::InstanceId;
use tokio::sync::watch;

use super::{Attachment, InstanceNetwork, NetworkError, NetworkStatus};

/// See the module's description. Clones share the state, so a test keeps one.
#[derive(Debug, Clone)]
pub struct FakeNetwork {
    state: Arc<Mutex<State>>,
    open: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    attached: BTreeMap<InstanceId, Attachment>,
    /// How many are connected to each.
    connections: u32,
    refusal: Option<NetworkError>,
}

impl Default for FakeNetwork {
    fn default() -> Self {
        Self { state: Arc::default(), open: watch::Sender::new(true) }
    }
}

impl FakeNetwork {
    /// A NetManager that attaches at once and gives `10.18.0.<number + 2>`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets attachments wait until [`FakeNetwork::go_on`].
    pub fn hold(&self) {
        self.open.send_replace(false);
    }

    /// See [`FakeNetwork::hold`].
    pub fn go_on(&self) {
        self.open.send_replace(true);
    }

    /// Refuses attachments from now on, as one that is not ready, or no more. One that is unreachable does not tell how it
    /// fares either.
    pub fn refuse(&self, refusal: Option<NetworkError>) {
        self.state().refusal = refusal;
    }

    /// From now on so many are connected to each instance.
    pub fn connect(&self, connections: u32) {
        self.state().connections = connections;
    }

    /// What is attached.
    #[must_use]
    pub fn attached(&self) -> BTreeMap<InstanceId, Attachment> {
        self.state().attached.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InstanceNetwork for FakeNetwork {
    fn attach(&self, attachment: Attachment) -> BoxFuture<'_, Result<Vec<IpAddr>, NetworkError>> {
        async move {
            let mut open = self.open.subscribe();
            open.wait_for(|open| *open).await.expect("the sender lives in this struct");
            let mut state = self.state();
            if let Some(refusal) = &state.refusal {
                return Err(refusal.clone());
            }
            let last = u8::try_from(attachment.instance.number % 250 + 2).expect("at most 251");
            state.attached.insert(attachment.instance, attachment);
            Ok(vec![IpAddr::V4(Ipv4Addr::new(10, 18, 0, last))])
        }
        .boxed()
    }

    fn drain(&self, _instance: InstanceId) -> BoxFuture<'_, Result<u32, NetworkError>> {
        ready(Ok(self.state().connections)).boxed()
    }

    fn detach(&self, instance: InstanceId) -> BoxFuture<'_, Result<(), NetworkError>> {
        self.state().attached.remove(&instance);
        ready(Ok(())).boxed()
    }

    fn status(&self) -> BoxFuture<'_, Result<NetworkStatus, NetworkError>> {
        let in_state = |state: &str| NetworkStatus { state: state.to_owned(), ..NetworkStatus::default() };
        let status = match &self.state().refusal {
            Some(error @ (NetworkError::Unreachable { .. } | NetworkError::Key { .. })) => Err(error.clone()),
            Some(NetworkError::Refused { .. }) => Ok(in_state("waiting_for_node_engine")),
            None => Ok(in_state("ready")),
        };
        ready(status).boxed()
    }
}
