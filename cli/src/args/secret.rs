//! The arguments of `mangrove secret`. None of them is a value: those of a process can be seen by every user of a machine.

use clap::{Args, Subcommand};

use super::Listing;

/// What `mangrove secret` does.
#[derive(Debug, Subcommand)]
pub enum SecretWhat {
    /// Store a value under a name, for services to refer to
    ///
    /// The value is read from standard input or a file, and never shown again.
    Create {
        /// Up to 63 letters, digits, `-`, `_` and `.`
        name: String,
        /// The value, or for a login the password
        #[command(flatten)]
        value: SecretValueArguments,
    },
    /// List secrets, without their values
    List(Listing),
    /// Give a secret a new value; the services that use it are updated to it
    Rotate {
        /// Its name
        name: String,
        /// The new value, or for a login the password
        #[command(flatten)]
        value: SecretValueArguments,
    },
    /// Delete secrets that no service uses
    Delete {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Print the services that use a secret
    Users {
        /// Its name
        name: String,
    },
}

/// Where a value is, and what it is.
#[derive(Debug, Args)]
pub struct SecretValueArguments {
    /// The file with the value, taken as it is; `-` is standard input
    #[arg(long, short, default_value = "-", value_name = "FILE")]
    pub file: String,
    /// The value is the password of a login at this registry, for fetching images; the end of its line is left out
    #[arg(long, requires = "username", value_name = "HOST")]
    pub registry: Option<String>,
    /// Who logs in there
    #[arg(long, requires = "registry", value_name = "NAME")]
    pub username: Option<String>,
}
