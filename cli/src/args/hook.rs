//! The arguments of `mangrove hook`. None of them is a secret: those of a process can be seen by every user of a machine.

use clap::{Args, Subcommand, ValueEnum};

use super::Listing;

/// What `mangrove hook` does.
#[derive(Debug, Subcommand)]
pub enum HookWhat {
    /// Have a program of yours told when something of the organisation changes
    Create {
        /// What the hook is called in the organisation
        name: String,
        /// Where it is told, by POST
        #[arg(long, value_name = "URL")]
        url: String,
        /// Of what it is told: applications, jobs (services with their instances), resources (clusters), or a type of
        /// custom resources
        #[arg(long, value_name = "ENTITY")]
        entity: String,
        /// When it is told
        #[arg(long, value_delimiter = ',', default_value = "create,update,delete", value_name = "EVENT")]
        on: Vec<HookEvent>,
        /// A file with the secret that what is told is signed with; `-` is standard input. The end of its line is left out
        #[arg(long, value_name = "FILE")]
        secret_file: Option<String>,
    },
    /// List hooks, how many deliveries wait, and why they are not taken
    List(Listing),
    /// Change a hook; what waits is told at once, also if nothing is changed
    Update(HookUpdateArguments),
    /// Delete hooks; what waits to be told is forgotten
    Delete {
        /// Their names or ids
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

/// Arguments of `mangrove hook update`. What is not given stays as it is.
#[derive(Debug, Args)]
pub struct HookUpdateArguments {
    /// Its name or id
    pub name: String,
    /// What it is called from now on
    #[arg(long, value_name = "NAME")]
    pub rename: Option<String>,
    /// Where it is told, by POST
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Of what it is told
    #[arg(long, value_name = "ENTITY")]
    pub entity: Option<String>,
    /// When it is told
    #[arg(long, value_delimiter = ',', value_name = "EVENT")]
    pub on: Vec<HookEvent>,
    /// A file with the secret that what is told is signed with from now on; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "unsigned")]
    pub secret_file: Option<String>,
    /// Sign nothing from now on
    #[arg(long)]
    pub unsigned: bool,
}

/// What a hook may be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HookEvent {
    /// Something is there that was not.
    Create,
    /// Something is different.
    Update,
    /// Something is gone.
    Delete,
}

impl HookEvent {
    /// As the root calls it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Create => "post_create",
            Self::Update => "post_update",
            Self::Delete => "post_delete",
        }
    }
}
