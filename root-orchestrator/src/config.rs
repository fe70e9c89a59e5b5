//! What the root can be told at start.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use clap::Parser;
use model::Span;
use store::Location;
use tokio::net::TcpListener;

use crate::{ApiTlsConfig, HooksConfig, OidcConfig, SecretsKeyConfig};

/// The root orchestrator of Mangrove: takes applications, chooses clusters, keeps the truth.
#[derive(Debug, Clone, Parser)]
#[command(version, about, long_about = None)]
pub struct Config {
    /// Where keys, the store and the certificate authority are kept.
    #[arg(long, env = "MANGROVE_STATE_DIR", default_value = "/var/lib/mangrove/root")]
    pub state_dir: PathBuf,

    /// Where documents are kept: `sqlite` is a file in the state directory; a URL that begins with mongodb:// is a MongoDB.
    /// Every user of the machine can see arguments, so give a URL with a password by the variable.
    #[arg(long, env = "MANGROVE_STORE", hide_env_values = true, default_value = "sqlite")]
    pub store: Location,

    /// Address and port of the REST API. Without a certificate it is plain HTTP and for this machine alone.
    #[arg(long, env = "MANGROVE_API_LISTEN", default_value = "127.0.0.1:10000")]
    pub api_listen: SocketAddr,

    /// What is spoken there.
    #[command(flatten)]
    pub api_tls: ApiTlsConfig,

    /// Address and port for clusters (mutual TLS).
    #[arg(long, env = "MANGROVE_CLUSTER_LISTEN", default_value = "[::]:50052")]
    pub cluster_listen: SocketAddr,

    /// UDP port of the relay, at the address for clusters: for devices that do not reach the relay of their cluster.
    #[arg(long, env = "MANGROVE_ROOT_RELAY_PORT", default_value_t = 50106)]
    pub relay_port: u16,

    /// IP address and port at which devices reach the relay, if not at its port where their cluster dials this root.
    #[arg(long, env = "MANGROVE_ROOT_RELAY_ADDRESS")]
    pub relay_address: Option<SocketAddr>,

    /// Password of the user `Admin`, used at the first start only. Without it a random one is made and logged once.
    #[arg(long, env = "MANGROVE_ADMIN_PASSWORD", hide_env_values = true)]
    pub admin_password: Option<String>,

    /// Makes another key that signs logins, once at this start: everybody has to log in anew. API tokens stay good.
    #[arg(long, env = "MANGROVE_NEW_LOGIN_KEY")]
    pub new_login_key: bool,

    /// How long the certificates of clusters last, and the authorities lent to them, such as 8760h. A site that is cut off
    /// from this root for longer than a third of that stops working.
    #[arg(long, env = "MANGROVE_CLUSTER_CERTIFICATE_LIFE", default_value = "8760h", value_parser = link::certificate_life)]
    pub certificate_life: Span,

    /// Name of a cluster that may join with the token in --bootstrap-token-file; for stacks that start root and
    /// cluster together.
    #[arg(long, env = "MANGROVE_BOOTSTRAP_CLUSTER", requires = "bootstrap_token_file")]
    pub bootstrap_cluster: Option<String>,

    /// Where to write a join token for --bootstrap-cluster (mode 0600, valid for a day) at every start.
    #[arg(long, env = "MANGROVE_BOOTSTRAP_TOKEN_FILE", requires = "bootstrap_cluster")]
    pub bootstrap_token_file: Option<PathBuf>,

    /// How many records of who changed what are kept, at least: the oldest are forgotten. Each has at most 8 KiB.
    #[arg(long, env = "MANGROVE_AUDIT_RECORDS", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..))]
    pub audit_records: u32,

    /// What secrets are kept under.
    #[command(flatten)]
    pub secrets: SecretsKeyConfig,

    /// Where users log in, if not here.
    #[command(flatten)]
    pub oidc: OidcConfig,

    /// How hooks are called.
    #[command(flatten)]
    pub hooks: HooksConfig,
}

/// The ports of the root, bound.
#[derive(Debug)]
pub struct Listeners {
    /// REST API.
    pub api: TcpListener,
    /// Clusters.
    pub cluster: TcpListener,
}

impl Listeners {
    /// Binds the ports of a configuration.
    ///
    /// # Errors
    /// When one is taken or not allowed; the error names the flag.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        let bind = async |address: SocketAddr, flag: &'static str| {
            TcpListener::bind(address)
                .await
                .with_context(|| format!("listen on {address}; stop what uses the port or pass {flag}"))
        };
        Ok(Self {
            api: bind(config.api_listen, "--api-listen").await?,
            cluster: bind(config.cluster_listen, "--cluster-listen").await?,
        })
    }
}
