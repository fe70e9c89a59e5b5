//! NetManager: gives instances addresses and carries their traffic.
//!
//! ```text
//!   NodeEngine ──HTTP, loopback──► api ──► service ──► net_core (decides) ──► datapath (kernel)
//!   cluster    ──gRPC, mTLS─────► uplink ──┘
//! ```

mod api;
mod arguments;
mod ask;
pub mod config;
pub mod datapath;
pub mod handle;
pub mod local_key;
pub mod names;
pub mod secure;
pub mod service;
pub mod status;
pub mod uplink;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use daemon::{RecentLines, StateDirectory};
use model::{TunnelEnd, TunnelKey};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

pub use arguments::{Arguments, Subcommand};
pub use ask::{describe_status, show_logs};

use crate::{
    api::Api,
    config::NetworkConfig,
    datapath::{Datapath, KernelDatapath, PurgeReport},
    names::Responder,
    secure::SecureLinks,
    service::Service,
    uplink::{Uplink, UplinkEvent},
};

/// What the cluster tells and the service has yet to take in; more than this waits on the way.
const UPLINK_QUEUE: usize = 8;

/// All a NetManager needs to know.
#[derive(Debug)]
pub struct Config {
    /// What `netcfg.json` says.
    pub network: NetworkConfig,
    /// Where keys and state are kept.
    pub state_directory: PathBuf,
    /// Where the key of the local API is written.
    pub local_key: PathBuf,
    /// The last lines of its log.
    pub log: RecentLines,
    /// Where leases and news come from; `None` is the cluster, tests pass a channel.
    pub uplink_source: Option<mpsc::Receiver<UplinkEvent>>,
    /// The `resolv.conf` that says who knows the names of others; `None` answers no names at all, for tests without a
    /// kernel of their own.
    pub resolvers: Option<PathBuf>,
}

/// Serves on `listener` with the kernel of this device, until `shutdown`.
///
/// # Errors
/// What keeps it from starting, or from serving on.
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
    for warning in &config.network.warnings {
        tracing::warn!("netcfg.json: {warning}");
    }
    let directory = Arc::new(StateDirectory::open(&config.state_directory)?);
    let port = config.network.tunnel_port.unwrap_or(secure::PORT);
    let key = secure::own_key(&directory)?;
    let public = TunnelKey(*key.public().as_bytes());
    let client = secure::Client::new(&directory, port);
    let at_root = client.at_root();
    let mut datapath = KernelDatapath::open().await?;
    datapath.add_secure(SecureLinks::Process(client));
    // The engine may have been given that port.
    let kernel_port = match port {
        secure::KERNEL_PORT => None,
        _ => datapath.add_wireguard(key, secure::KERNEL_PORT).await,
    };
    let end = TunnelEnd { port, key: public, kernel_port };
    serve(config, directory, listener, shutdown, datapath, Some(end), at_root).await
}

/// Serves on `listener` with `datapath`, until `shutdown`.
///
/// # Errors
/// What keeps it from starting, or from serving on.
pub async fn run_with(
    config: Config,
    listener: TcpListener,
    shutdown: CancellationToken,
    datapath: impl Datapath,
) -> anyhow::Result<()> {
    let directory = Arc::new(StateDirectory::open(&config.state_directory)?);
    serve(config, directory, listener, shutdown, datapath, None, watch::Sender::default().subscribe()).await
}

async fn serve(
    config: Config,
    directory: Arc<StateDirectory>,
    listener: TcpListener,
    shutdown: CancellationToken,
    datapath: impl Datapath,
    tunnel: Option<TunnelEnd>,
    at_root: watch::Receiver<Option<SocketAddr>>,
) -> anyhow::Result<()> {
    let key = local_key::load_or_make(&config.local_key)?;
    let NetworkConfig { cluster_url, underlay, .. } = config.network;
    let uplink = Uplink::open(Arc::clone(&directory), cluster_url, underlay, tunnel, at_root)?;
    let (service, handle) = Service::open(directory, uplink.clone(), datapath)?;
    let leases = match config.uplink_source {
        Some(leases) => leases,
        None => {
            let (events, leases) = mpsc::channel(UPLINK_QUEUE);
            tokio::spawn(uplink.clone().run(events, shutdown.clone()));
            leases
        }
    };
    if let Some(resolvers) = config.resolvers {
        tokio::spawn(Responder::new(service.bulletin(), resolvers).run(shutdown.clone()));
    }
    // Whichever of the two ends first, by itself or by panic, ends the other.
    let guard = shutdown.clone().drop_guard();
    let served = tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            let _guard = guard;
            service.run(leases, shutdown).await;
        }
    });
    tracing::info!(address = %listener.local_addr().context("read the address of the local API")?, "serving NodeEngine");
    let router = Api { handle, uplink, key, log: config.log, shutdown: shutdown.clone() }.router();
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { shutdown.cancelled().await })
        .await
        .context("serve the local API")?;
    served.await.context("run the service")
}

/// Removes everything NetManager put into the kernel. No NetManager may be running.
///
/// # Errors
/// The first step that failed; another purge goes on from there.
pub fn purge(state_directory: &Path) -> anyhow::Result<PurgeReport> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    Ok(runtime.block_on(KernelDatapath::purge(state_directory))?)
}
