//! The cluster orchestrator's entry: parse, then [`cluster_orchestrator::run`].

use std::process::ExitCode;

use cluster_orchestrator::{Config, bind, run};

fn main() -> ExitCode {
    let config = Config::from_arguments();
    daemon::run("cluster-orchestrator", daemon::Threads::One, |shutdown| async move {
        let listener = bind(&config).await?;
        run(config, listener, shutdown).await
    })
}
