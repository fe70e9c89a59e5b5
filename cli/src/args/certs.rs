//! The arguments of `mangrove certs`.

use clap::{Args, Subcommand};

use super::Listing;

/// Arguments of `mangrove certs`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct CertsArguments {
    /// What to do with them, other than listing them.
    #[command(subcommand)]
    pub what: Option<CertsWhat>,
    /// How to print them.
    #[command(flatten)]
    pub listing: Listing,
}

/// What `mangrove certs` does.
#[derive(Debug, Subcommand)]
pub enum CertsWhat {
    /// Let a cluster or a worker in no more, whatever certificate it shows
    Revoke {
        /// A cluster, or a worker of one: names, ids or serial numbers
        #[arg(value_name = "CLUSTER[/WORKER]")]
        id: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}
