//! NodeEngine: makes this device run exactly what its cluster assigned to it.
//!
//! ```text
//!   cluster ══ uplink ══ FromCluster ─► service ─► executor ─► ContainerRuntime (Docker)
//!                        ToCluster  ◄──   │  ▲        │
//!                                         ▼  └────────┴─ observations
//!                                    node-core          └─► InstanceNetwork (NetManager)
//! ```
//!
//! The service owns the state and decides nothing: `node-core` does. Containers outlive NodeEngine; it adopts them
//! when it comes back.

mod assignments;
mod beats;
mod config;
mod contact;
mod executor;
pub mod gate;
mod history;
mod log_relay;
pub mod network;
mod probe;
mod resources;
pub mod runtime;
mod secrets;
mod service;
mod uplink;
mod watch;

use std::sync::Arc;

use anyhow::Context;
use daemon::StateDirectory;
use link::SealingKey;
use tokio_util::sync::CancellationToken;

pub use assignments::{AssignmentFile, AssignmentStore};
pub use config::Config;
pub use history::{HistoryFile, HistoryStore};
pub use resources::Device;
pub use secrets::{SecretError, Secrets};
pub use service::{ClusterEnds, FromCluster, Parts, Service, ToCluster, UplinkEnds, channels};

/// Runs NodeEngine with this device's container engine until `shutdown`. Containers keep running afterwards.
///
/// # Errors
/// The state directory, the last assignment or the start gate cannot be used.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let state = Arc::new(StateDirectory::open(&config.state_dir)?);
    let gates = match config.net_manager_port {
        Some(_) => Some(gate::Gates::install(&state.path().join("gate"), &config.gate_program)?),
        None => None,
    };
    let key = SealingKey::load_or_generate(&state).context("open the key for secrets")?;
    let secrets = Secrets::new(key, config.secrets_dir.clone());
    let runtime = runtime::docker::DockerRuntime::new(config.docker_socket.clone(), gates, secrets);
    run_with(config, state, Arc::new(runtime), None, shutdown).await
}

/// Runs NodeEngine with any runtime, and any network in place of the configuration's NetManager, until `shutdown`.
///
/// # Errors
/// The last assignment or the identity cannot be used, or the cluster refuses this device.
pub async fn run_with(
    config: Config,
    state: Arc<StateDirectory>,
    runtime: Arc<dyn runtime::ContainerRuntime>,
    network: Option<Arc<dyn network::InstanceNetwork>>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    if config.unikernels {
        tracing::warn!("-u has no effect: unikernels are not supported yet");
    }
    let net_manager = config
        .net_manager_port
        .map(|port| Arc::new(network::NetManagerClient::new(port, config.net_manager_key.clone())));
    let parts = Parts {
        name: config.device_name(),
        runtime,
        network: network.or_else(|| Some(net_manager.clone()? as Arc<dyn network::InstanceNetwork>)),
        assignments: Arc::new(AssignmentFile::new(Arc::clone(&state))),
        history: Arc::new(HistoryFile::new(Arc::clone(&state))),
    };
    let service = Service::new(parts).context("take up the last assignment")?;
    let (service_ends, uplink_ends) = channels();
    let uplink = uplink::run(&config, state, net_manager, uplink_ends, shutdown.clone());
    tokio::try_join!(service.run(service_ends, shutdown.clone()), uplink)?;
    Ok(())
}
