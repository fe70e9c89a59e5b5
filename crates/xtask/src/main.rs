//! `cargo xtask check | bench | lab`: how the workspace is checked, measured and tried out.
//!
//! The rules of the layers live in `layers.rs`, those of single files in `sources.rs`, that of hostile input in `hostile.rs`; each benchmark is a file
//! in `bench/`, and `lab/` has the hosts that can be cut off and powered off.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks on both")]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod check;
mod hostile;
mod lab;
mod layers;
mod sim;
mod sources;
mod workspace;

/// How the workspace is checked and measured.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks formatting, lints, layers, source files and hostile input; fails if anything is found.
    Check {
        /// Only these parts, instead of all.
        #[arg(long, value_enum)]
        only: Vec<check::Part>,
    },
    /// Measures in release mode: a table on standard error, one JSON object per figure on standard output, and
    /// all of them as an array in `bench/NAME.json` of the target directory.
    Bench {
        /// What to measure.
        #[arg(required_unless_present = "list")]
        name: Option<String>,
        /// Tells what can be measured instead.
        #[arg(long)]
        list: bool,
        /// Only as much as shows that it works; the figures are not to be quoted.
        #[arg(long, conflicts_with = "list")]
        quick: bool,
    },
    /// What `bench` runs as a release build of itself.
    #[command(hide = true)]
    BenchInner {
        name: String,
        #[arg(long)]
        quick: bool,
        /// Set when this is a network namespace of its own already.
        #[arg(long)]
        apart: bool,
    },
    /// Real hosts on this machine, to be cut off, killed and powered off (needs root); see docs/lab.md.
    Lab(lab::Arguments),
    /// What docs/survival.md promises, tried on the lab that is up; times as lines of JSON.
    Survival(lab::survival::Arguments),
    /// The whole hierarchy in virtual time, with faults: docs/invariants.md. `--help` after it tells more.
    #[command(disable_help_flag = true)]
    Sim(sim::Arguments),
    /// What runs as the first process of each host of a lab.
    #[command(hide = true, name = lab::INIT)]
    LabInit { host: String },
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Check { only } => check::run(&only),
        Command::Bench { list: true, .. } | Command::Bench { name: None, .. } => {
            bench::list();
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench { name: Some(name), list: false, quick } => bench::run_in_release(&name, quick),
        Command::BenchInner { name, quick, apart } => bench::run_here(&name, quick, apart),
        Command::Lab(arguments) => lab::run(arguments),
        Command::Survival(arguments) => lab::survival::run(&arguments),
        Command::Sim(arguments) => sim::run(&arguments),
        Command::LabInit { host } => match lab::run_init(&host)? {},
    }
}
