//! The command line.

use std::path::PathBuf;

use clap::Parser;
use daemon::RecentLines;

use crate::{Config, config::NetworkConfig};

/// Gives the instances of this device addresses of their own and carries their traffic. Runs as root, one per device;
/// NodeEngine tells it what to attach.
#[derive(Debug, Parser)]
#[command(
    name = "NetManager",
    version,
    after_help = "Without a command it runs. Environment: MANGROVE_LOG filters the log (default `info`, e.g. `debug` or \
                  `net_manager=debug`).\n\nNeeds root, Linux 5.10 or newer with nf_tables, veth and IPv6. Stopping it does \
                  not interrupt traffic; `NetManager purge` removes everything it put into the kernel."
)]
pub struct Arguments {
    /// Configuration in Oakestra's form. ClusterUrl, NodePublicAddress and NodePublicPort are used; its other keys are accepted and named in a warning. A
    /// missing file means defaults.
    #[arg(long, global = true, env = "MANGROVE_NETCFG", default_value = "/etc/netmanager/netcfg.json")]
    pub config: PathBuf,
    /// Port of the local API, on 127.0.0.1 only.
    #[arg(long, global = true, env = "MANGROVE_NET_MANAGER_PORT", default_value_t = 6000)]
    pub port: u16,
    /// Where keys and state are kept across restarts.
    #[arg(
        long,
        global = true,
        env = "MANGROVE_NET_MANAGER_STATE",
        default_value = "/var/lib/mangrove/net-manager"
    )]
    pub state_dir: PathBuf,
    /// Where the key of the local API is written, readable by root only.
    #[arg(
        long,
        global = true,
        env = "MANGROVE_NET_MANAGER_KEY",
        default_value = "/run/mangrove/net-manager.key"
    )]
    pub local_key: PathBuf,
    /// What to do; `run` when none is given.
    #[command(subcommand)]
    pub command: Option<Subcommand>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub enum Subcommand {
    /// Serve NodeEngine until a signal ends it.
    Run,
    /// Ask the running NetManager where it is and print it.
    Status,
    /// Print what the running NetManager logged last. Needs root.
    Logs {
        /// Go on with what it logs from now on.
        #[arg(short, long)]
        follow: bool,
    },
    /// Print the version.
    Version,
    /// Carry encrypted links; NetManager starts it and leaves it running.
    #[command(hide = true)]
    Tunnel {
        /// The UDP port for all of them.
        #[arg(long)]
        tunnel_port: u16,
    },
    /// Remove everything NetManager put into the kernel: interfaces, routes, addresses and rules. Instances lose their
    /// network. Run it after stopping NetManager.
    Purge,
}

impl Arguments {
    /// The configuration to run with; `log` is what it keeps of its log.
    ///
    /// # Errors
    /// When the configuration file cannot be used.
    pub fn into_config(self, log: RecentLines) -> anyhow::Result<Config> {
        Ok(Config {
            network: NetworkConfig::load(&self.config)?,
            state_directory: self.state_dir,
            local_key: self.local_key,
            log,
            uplink_source: None,
            resolvers: Some(PathBuf::from("/etc/resolv.conf")),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
        assert_eq!(Arguments::parse_from(["NetManager"]).command, None);
        assert_eq!(Arguments::parse_from(["NetManager", "status", "--port", "1"]).port, 1);
        let logs = Arguments::parse_from(["NetManager", "logs", "-f"]);
        assert_eq!(logs.command, Some(Subcommand::Logs { follow: true }));
    }
}
