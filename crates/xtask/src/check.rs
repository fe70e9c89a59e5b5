//! `cargo xtask check`: what must hold before a change is handed over.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{
    hostile, layers, sources,
    workspace::{self, Workspace},
};

/// A part of the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Formatting.
    Fmt,
    /// The compiler's and clippy's lints, as errors, for all targets.
    Clippy,
    /// Who may depend on whom.
    Layers,
    /// Length and header of source files.
    Sources,
    /// Whether each message that a peer may send is fed to who reads it.
    Hostile,
}

/// Something wrong, where it is and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The crate or the file.
    pub(crate) place: String,
    pub(crate) problem: String,
    remedy: String,
}

impl Finding {
    pub(crate) fn new(place: &str, problem: &str, remedy: &str) -> Self {
        Self { place: place.to_owned(), problem: problem.to_owned(), remedy: remedy.to_owned() }
    }
}

/// Runs the parts asked for, or all; later parts run even if earlier ones fail.
pub(crate) fn run(only: &[Part]) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let mut failed = Vec::new();
    for &part in Part::value_variants() {
        if !only.is_empty() && !only.contains(&part) {
            continue;
        }
        let name = part.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        eprintln!("check {name}");
        let passed = match part {
            Part::Fmt => cargo(&workspace, &["fmt", "--all", "--check"])?,
            Part::Clippy => {
                cargo(&workspace, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?
            }
            Part::Layers => report(&layers::check(&workspace)),
            Part::Sources => report(&sources::check(&workspace.root)?),
            Part::Hostile => report(&hostile::check(&workspace.root)?),
        };
        if !passed {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        eprintln!("all is well");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Result<bool> {
    let status = Command::new(workspace::cargo())
        .args(arguments)
        .current_dir(&workspace.root)
        .status()
        .with_context(|| format!("start `cargo {}`", arguments.join(" ")))?;
    Ok(status.success())
}

fn report(findings: &[Finding]) -> bool {
    for Finding { place, problem, remedy } in findings {
        println!("{place}: {problem}\n    {remedy}");
    }
    findings.is_empty()
}
