//! `cargo xtask sim`: builds the simulation fast and runs it. Its own command line is `crates/sim/src/bin/sim.rs`.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};

use crate::workspace;

/// Handed on as they are.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What the simulation is to do; `--help` tells.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Takes the place of this process, so that an interrupt reaches the one that computes.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let error = Command::new(workspace::cargo())
        .args(["run", "--quiet", "--profile", "sim", "--package", "sim", "--bin", "sim", "--"])
        .args(&arguments.rest)
        .exec();
    Err(error).context("start the simulation")
}
