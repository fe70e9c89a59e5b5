//! The arguments of `mangrove audit`.

use std::num::NonZeroU32;

use clap::{Args, Subcommand};

use super::Listing;

/// What `mangrove audit` does.
#[derive(Debug, Subcommand)]
pub enum AuditWhat {
    /// List who changed what, newest first
    List(AuditListArguments),
    /// Print all records as lines of JSON, oldest first
    ///
    /// Without a filter, and by an administrator of the platform, they are as the root has them: `mangrove audit verify
    /// --file` checks them anywhere.
    Export(AuditExportArguments),
    /// Check that no record was changed, removed or put in; fails with the first that was
    Verify {
        /// Check an export in this file, or in standard input if it is `-`, without asking the root
        #[arg(long, short, value_name = "FILE")]
        file: Option<String>,
    },
}

/// Which records.
#[derive(Debug, Args)]
pub struct AuditFilterArguments {
    /// Only those about this organisation: its name or id
    #[arg(long, value_name = "NAME")]
    pub organization: Option<String>,
    /// Only what this user did, and attempts to log in as that one
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Nothing older, such as 2026-11-22T10:00:00Z
    #[arg(long, value_name = "DATE")]
    pub since: Option<String>,
}

/// Arguments of `mangrove audit list`.
#[derive(Debug, Args)]
pub struct AuditListArguments {
    /// Which.
    #[command(flatten)]
    pub filter: AuditFilterArguments,
    /// How many at most
    #[arg(long, default_value = "50", value_name = "N")]
    pub limit: NonZeroU32,
    /// How to print them.
    #[command(flatten)]
    pub listing: Listing,
}

/// Arguments of `mangrove audit export`.
#[derive(Debug, Args)]
pub struct AuditExportArguments {
    /// Which.
    #[command(flatten)]
    pub filter: AuditFilterArguments,
    /// Only records with greater numbers, to go on where an export before has ended
    #[arg(long, value_name = "NUMBER")]
    pub after: Option<u64>,
}
