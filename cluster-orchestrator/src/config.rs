//! What a cluster orchestrator can be told at start. Names of variables are those Oakestra's users export.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use clap::Parser;
use link::JoinToken;
use model::Location;
use tokio::net::TcpListener;

/// The cluster orchestrator of Mangrove: schedules onto its workers and goes on when its root is away.
#[derive(Debug, Clone, Parser)]
#[command(version, about, long_about = None)]
pub struct Config {
    /// The name this cluster joined under (the one the join token was made for).
    #[arg(long = "name", env = "CLUSTER_NAME")]
    pub name: String,

    /// Where the cluster is: latitude, longitude and radius in metres, such as 48.137,11.575,1000.
    #[arg(long, env = "CLUSTER_LOCATION", allow_hyphen_values = true)]
    pub location: Location,

    /// Host or address of the root.
    #[arg(long = "root", env = "SYSTEM_MANAGER_URL")]
    pub root_address: String,

    /// Port of the root for clusters.
    #[arg(long, env = "SYSTEM_MANAGER_GRPC_PORT", default_value_t = 50052)]
    pub root_port: u16,

    /// Join token from `mangrove token create --cluster NAME`; needed until the cluster has joined.
    #[arg(long, env = "MANGROVE_TOKEN", hide_env_values = true)]
    pub token: Option<JoinToken>,

    /// A file that holds the join token, as an alternative to --token; waited for if it is not there yet.
    #[arg(long, env = "MANGROVE_TOKEN_FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,

    /// Address and port for workers (mutual TLS).
    #[arg(long, env = "MANGROVE_WORKER_LISTEN", default_value = "[::]:10100")]
    pub worker_listen: SocketAddr,

    /// Where the key, the certificate and the store are kept.
    #[arg(long, env = "MANGROVE_STATE_DIR", default_value = "/var/lib/mangrove/cluster")]
    pub state_dir: PathBuf,
}

impl Config {
    /// Where to dial, an IPv6 address in brackets.
    pub(crate) fn root(&self) -> String {
        let bare = self.root_address.trim_start_matches('[').trim_end_matches(']');
        if bare.contains(':') {
            format!("[{bare}]:{}", self.root_port)
        } else {
            format!("{bare}:{}", self.root_port)
        }
    }
}

/// Binds the workers' port.
///
/// # Errors
/// When it is taken or not allowed; the error names the flag.
pub async fn bind(config: &Config) -> anyhow::Result<TcpListener> {
    TcpListener::bind(config.worker_listen).await.with_context(|| {
        format!("listen on {}; stop what uses the port or pass --worker-listen", config.worker_listen)
    })
}
