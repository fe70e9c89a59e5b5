//! The program `NodeEngine`; inside a gated container the same file is the start gate.

use std::process::ExitCode;

use clap::Parser;
use node_engine::{Config, gate};

fn main() -> ExitCode {
    // First of all: a container waiting at the gate must cost next to nothing.
    if let Some(command) = gate::command_behind() {
        return gate::pass(&command);
    }
    let config = Config::parse();
    daemon::run("NodeEngine", daemon::Threads::One, |shutdown| node_engine::run(config, shutdown))
}
