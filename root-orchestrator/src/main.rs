//! The root orchestrator's entry: parse, then [`root_orchestrator::run`].

use std::process::ExitCode;

use clap::Parser;
use root_orchestrator::{Config, Listeners, run};

fn main() -> ExitCode {
    let config = Config::parse();
    // Two: a request that works hard must not delay the clusters.
    daemon::run("root-orchestrator", daemon::Threads::Many(2), |shutdown| async move {
        let listeners = Listeners::bind(&config).await?;
        run(config, listeners, shutdown).await
    })
}
