//! What the command line and the environment say.

use std::path::PathBuf;

use clap::{ArgAction, Parser};

/// Runs containers on this device for a Mangrove cluster.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "NodeEngine",
    version,
    max_term_width = 100,
    after_help = "Logs are filtered by MANGROVE_LOG \
    (error, warn, info, debug). Stopping NodeEngine leaves the containers running; the next start adopts them."
)]
pub struct Config {
    /// Address of the cluster orchestrator.
    #[arg(
        short = 'a',
        long,
        value_name = "ADDRESS",
        env = "MANGROVE_CLUSTER_ADDRESS",
        default_value = "127.0.0.1"
    )]
    pub cluster_address: String,

    /// Port of the cluster orchestrator for workers.
    #[arg(short = 'p', long, value_name = "PORT", env = "MANGROVE_CLUSTER_PORT", default_value_t = 10100)]
    pub cluster_port: u16,

    /// Local port of the NetManager of this device (usually 6000), which gives containers networks and addresses of
    /// their own. Without it containers run on the container engine's own network.
    #[arg(short = 'n', long, value_name = "PORT")]
    pub net_manager_port: Option<u16>,

    /// Accepted so that existing start scripts keep working; unikernels are not supported yet.
    #[arg(short = 'u', long, action = ArgAction::SetTrue)]
    pub unikernels: bool,

    /// Join token from `mangrove token create`; needed the first time only.
    #[arg(long, env = "MANGROVE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    /// Name of this device in its cluster; the host name unless given.
    #[arg(long)]
    pub name: Option<String>,

    /// Where identity, last assignment and start gates are kept. Owned by one NodeEngine alone.
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/mangrove/node-engine")]
    pub state_dir: PathBuf,

    /// Unix socket of the container engine.
    #[arg(long, value_name = "SOCKET", env = "DOCKER_HOST", default_value = "/var/run/docker.sock", value_parser = unix_socket)]
    pub docker_socket: PathBuf,

    /// File with the key to NetManager's local interface.
    #[arg(long, value_name = "FILE", default_value = "/run/mangrove/net-manager.key")]
    pub net_manager_key: PathBuf,

    /// Where secrets of running instances are: a directory in memory, or one that a tmpfs is mounted at.
    #[arg(long, value_name = "DIRECTORY", default_value = "/run/mangrove/secrets")]
    pub secrets_dir: PathBuf,

    /// The program to put into containers as their start gate: this one, unless told otherwise.
    #[arg(long, hide = true, default_value = "/proc/self/exe")]
    pub gate_program: PathBuf,
}

impl Config {
    /// Where the cluster is dialled: `host:port`, an IPv6 address in brackets.
    #[must_use]
    pub fn cluster(&self) -> String {
        let address = &self.cluster_address;
        if address.contains(':') && !address.starts_with('[') {
            return format!("[{address}]:{}", self.cluster_port);
        }
        format!("{address}:{}", self.cluster_port)
    }

    /// The device's name: as configured, else the host's.
    #[must_use]
    pub fn device_name(&self) -> String {
        self.name
            .clone()
            .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "worker".to_owned())
    }
}

fn unix_socket(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if path.starts_with('/') {
        return Ok(PathBuf::from(path));
    }
    Err("expected the path of a unix socket such as `/var/run/docker.sock`; engines on other hosts are not driven, \
         start a NodeEngine there instead"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_has_the_documented_defaults() {
        Config::command().debug_assert();
        let config = Config::parse_from(["NodeEngine"]);
        assert_eq!((config.cluster_port, config.net_manager_port), (10100, None));
        let config = Config::parse_from(["NodeEngine", "-a", "fd00::1", "-p", "1", "-n", "6000", "-u"]);
        assert_eq!((config.cluster().as_str(), config.net_manager_port), ("[fd00::1]:1", Some(6000)));
    }

    #[test]
    fn the_engine_is_reached_by_a_unix_socket_only() {
        assert_eq!(unix_socket("unix:///run/docker.sock"), Ok(PathBuf::from("/run/docker.sock")));
        assert!(unix_socket("tcp://10.0.0.1:2375").is_err());
    }
}
