//! The arguments of `mangrove run` and `mangrove ignitor`.

use clap::Subcommand;

/// What `mangrove run` does.
#[derive(Debug, Subcommand)]
pub enum RunWhat {
    /// Show which tasks were started in a run, after what, and how they ended
    Graph {
        /// The number of the run
        run: u64,
    },
    /// Print what the containers of a run wrote
    Logs {
        /// The number of the run
        run: u64,
        /// Of this task only
        #[arg(long, value_name = "NAME")]
        task: Option<String>,
    },
    /// Have what failed in a run tried again; what succeeded is kept
    Retry {
        /// The number of the run
        run: u64,
    },
    /// Stop all of a run
    Cancel {
        /// The number of the run
        run: u64,
    },
}

/// What `mangrove ignitor` does.
#[derive(Debug, Subcommand)]
pub enum IgnitorWhat {
    /// Have an ignitor fire now, whatever its schedule, and print the number of the run
    Fire {
        /// Its name
        name: String,
        /// What the first tasks are given in place of the ignitor's data
        #[arg(long)]
        data: Option<String>,
    },
    /// Have an ignitor fire by hand only
    Suspend {
        /// Its name
        name: String,
        /// Have it fire by itself again
        #[arg(long)]
        off: bool,
    },
    /// Print when an ignitor fires next
    Next {
        /// Its name
        name: String,
    },
}
