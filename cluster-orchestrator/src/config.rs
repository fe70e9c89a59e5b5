//! What a cluster orchestrator can be told at start. Names of variables are those Oakestra's users export.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use clap::{
    CommandFactory, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use link::JoinToken;
use liveness::{INTERVAL_MILLIS, USUAL_INTERVAL_MILLIS};
use model::{Location, Span};
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

    /// UDP port of the relay, at the address for workers: devices behind address translation need it for encrypted links.
    #[arg(long, env = "MANGROVE_RELAY_PORT", default_value_t = 50105)]
    pub relay_port: u16,

    /// IP address and port at which devices reach the relay, if not at its port where they dial this cluster. Devices of
    /// other clusters use it only if it is given.
    #[arg(long, env = "MANGROVE_RELAY_ADDRESS")]
    pub relay_address: Option<SocketAddr>,

    /// Nobody but the devices of this site can listen or speak on its network: they send each other the packets of
    /// instances as they are, not encrypted, which is several times faster.
    #[arg(long, env = "MANGROVE_TRUSTED_SITE")]
    pub trusted_site: bool,

    /// Milliseconds between two signs of life of a worker. A lost one is noticed 1.7 s after the next that is due; slower
    /// signs cost less where traffic is paid for, and later replacements.
    #[arg(long = "beat-interval", env = "MANGROVE_BEAT_INTERVAL", default_value_t = USUAL_INTERVAL_MILLIS,
          value_parser = clap::value_parser!(u64).range(*INTERVAL_MILLIS.start()..=*INTERVAL_MILLIS.end()))]
    pub beat_interval_millis: u64,

    /// How long the certificates of workers and NetManagers last, such as 720h. They are renewed when a third of that is
    /// left, with the root or without.
    #[arg(long, env = "MANGROVE_WORKER_CERTIFICATE_LIFE", default_value = "720h", value_parser = link::certificate_life)]
    pub certificate_life: Span,

    /// Where the key, the certificate and the store are kept.
    #[arg(long, env = "MANGROVE_STATE_DIR", default_value = "/var/lib/mangrove/cluster")]
    pub state_dir: PathBuf,
}

impl Config {
    /// Reads the command line and the environment; ends the process with a usage error that names what is missing
    /// and the variable to export.
    #[must_use]
    pub fn from_arguments() -> Self {
        Self::try_parse().unwrap_or_else(|error| with_variables(error).exit())
    }

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

/// A missing argument is told together with the variable that would give it.
fn with_variables(error: clap::Error) -> clap::Error {
    let missing = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(missing)) if error.kind() == ErrorKind::MissingRequiredArgument => missing,
        _ => return error,
    };
    let mut command = Config::command();
    command.build();
    let advice: Vec<String> = command
        .get_arguments()
        .filter(|argument| missing.contains(&argument.to_string()))
        .filter_map(|argument| {
            let variable = argument.get_env()?.to_string_lossy();
            Some(format!("\n  {argument}: export {variable}=…, or pass the flag"))
        })
        .collect();
    let message =
        format!("these are missing:{}\n(with sudo, keep exported variables by `sudo -E`)", advice.concat());
    Config::command().error(ErrorKind::MissingRequiredArgument, message)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Config::command().debug_assert();
    }

    #[test]
    fn what_is_missing_is_named_with_the_variable_to_export() {
        let error = Config::try_parse_from(["cluster-orchestrator", "--root", "r", "--location", "1,2,3"])
            .map(drop)
            .expect_err("no name");
        let told = with_variables(error).to_string();
        assert!(told.contains("--name <NAME>: export CLUSTER_NAME=…"), "{told}");
        assert!(!told.contains("CLUSTER_LOCATION"), "{told}");
    }

    #[test]
    fn the_root_is_dialled_by_name_or_address() {
        let root = |address: &str| {
            let arguments = ["cluster-orchestrator", "--name", "n", "--location", "1,2,3", "--root", address];
            Config::try_parse_from(arguments).expect("complete").root()
        };
        assert_eq!(root("root.example"), "root.example:50052");
        assert_eq!(root("fd00::1"), "[fd00::1]:50052");
        assert_eq!(root("[fd00::1]"), "[fd00::1]:50052");
    }
}
