//! The arguments of the verbs that concern one worker.

use clap::Args;

use super::Waiting;

/// A worker.
#[derive(Debug, Args)]
pub struct WorkerArguments {
    /// The cluster and the worker, by their names or ids
    #[arg(value_name = "CLUSTER/WORKER")]
    pub worker: String,
}

/// Arguments of `mangrove drain`.
#[derive(Debug, Args)]
pub struct DrainArguments {
    /// The cluster and the worker, by their names or ids
    #[arg(value_name = "CLUSTER/WORKER")]
    pub worker: String,
    /// Waiting.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Arguments of `mangrove forget`.
#[derive(Debug, Args)]
pub struct ForgetArguments {
    /// The cluster and the worker, by their names or ids
    #[arg(value_name = "CLUSTER/WORKER")]
    pub worker: String,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}
