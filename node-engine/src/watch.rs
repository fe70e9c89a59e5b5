//! Keeps an eye on the container engine and on NetManager, and tells what changed.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use node_core::Observation;
use tokio::sync::mpsc;

use crate::{
    network::{InstanceNetwork, NetworkStatus},
    runtime::{ContainerRuntime, RuntimeEvent},
};

/// Wait before the engine is dialled again: doubling from the first to the last. After a boot everything waits for it.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How often NetManager is looked at: instances wait for one that is away or not ready, as after a boot.
const NETWORK_AWAY: Duration = Duration::from_millis(250);
const NETWORK_READY: Duration = Duration::from_secs(5);
const READY: &str = "ready";

/// Keeps a connection to the engine and tells its events.
pub(crate) async fn watch_engine(
    runtime: Arc<dyn ContainerRuntime>,
    observations: mpsc::Sender<Observation>,
) {
    let mut pause = RECONNECT.0;
    loop {
        match runtime.connect().await {
            Ok(mut events) => {
                tracing::info!("connected to the container engine");
                pause = RECONNECT.0;
                if observations.send(Observation::EngineConnected).await.is_err() {
                    return;
                }
                while let Some(event) = events.next().await {
                    let observation = match event {
                        RuntimeEvent::Changed(seen) => Observation::ContainerChanged(seen),
                        RuntimeEvent::Gone { instance, container } => {
                            Observation::ContainerGone { instance, container }
                        }
                        RuntimeEvent::Health { instance, container, health } => {
                            Observation::HealthChanged { instance, container, health }
                        }
                    };
                    if observations.send(observation).await.is_err() {
                        return;
                    }
                }
                tracing::warn!("the connection to the container engine broke");
                if observations.send(Observation::EngineLost).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(%error, again_in = ?pause, "no container engine"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RECONNECT.1);
    }
}

/// Tells when NetManager was away or has another subnet, so that every network is confirmed again.
pub(crate) async fn watch_network(
    network: Arc<dyn InstanceNetwork>,
    observations: mpsc::Sender<Observation>,
) {
    let essence =
        |status: NetworkStatus| (status.state, status.worker_id, status.subnet_v4, status.subnet_v6);
    let mut before = None;
    loop {
        let now = network.status().await.ok().map(essence);
        let is_ready = now.as_ref().is_some_and(|now| now.0 == READY);
        let pause = if is_ready { NETWORK_READY } else { NETWORK_AWAY };
        if before.as_ref() != Some(&now) {
            tracing::info!(state = now.as_ref().map_or("away", |now| now.0.as_str()), "NetManager");
            let back_or_changed = now.is_some();
            before = Some(now);
            if back_or_changed && observations.send(Observation::NetworkChanged).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;
    use crate::network::{NetworkError, fake::FakeNetwork};

    #[tokio::test]
    async fn a_network_that_becomes_ready_is_noticed_soon() {
        let network = FakeNetwork::new();
        network.refuse(Some(NetworkError::Refused { code: String::new(), message: String::new() }));
        let (observations, mut told) = mpsc::channel(8);
        let watching = watch_network(Arc::new(network.clone()), observations);
        let _watching = AbortOnDropHandle::new(tokio::spawn(watching));
        assert_eq!(told.recv().await, Some(Observation::NetworkChanged), "it is there");
        network.refuse(None);
        let ready = timeout(NETWORK_READY / 2, told.recv()).await;
        assert_eq!(ready, Ok(Some(Observation::NetworkChanged)), "instances wait for it");
    }
}
