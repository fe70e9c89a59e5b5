//! `cargo xtask check`: what must hold before a change is handed over.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

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
    /// Whether the versions that `fuzz/` is built of are those of its manifests: it is a workspace of its own.
    Locked,
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
            Part::Fmt => cargo(&workspace.root, &["fmt", "--all", "--check"])?,
            Part::Clippy => {
                cargo(&workspace.root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?
            }
            Part::Layers => report(&layers::check(&workspace)),
            Part::Sources => report(&sources::check(&workspace.root)?),
            Part::Hostile => report(&hostile::check(&workspace.root)?),
            Part::Locked => report(&locked(&workspace.root.join("fuzz"))?),
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

fn cargo(folder: &Path, arguments: &[&str]) -> Result<bool> {
    let mut cargo = Command::new(workspace::cargo());
    let status = cargo.args(arguments).current_dir(folder).status();
    Ok(status.with_context(|| format!("start `cargo {}`", arguments.join(" ")))?.success())
}

/// A finding if the lock file in a folder does not fit its manifest and those it leads to.
fn locked(folder: &Path) -> Result<Vec<Finding>> {
    let mut cargo = Command::new(workspace::cargo());
    let output = cargo.args(["metadata", "--locked", "--format-version", "1"]).current_dir(folder).output();
    let output = output.context("start `cargo metadata --locked`")?;
    let remedy = "run `cargo update --workspace` there, and commit its Cargo.lock";
    let finding = || {
        let said = String::from_utf8_lossy(&output.stderr);
        Finding::new(&folder.join("Cargo.lock").display().to_string(), said.trim(), remedy)
    };
    Ok(if output.status.success() { Vec::new() } else { vec![finding()] })
}

fn report(findings: &[Finding]) -> bool {
    for Finding { place, problem, remedy } in findings {
        println!("{place}: {problem}\n    {remedy}");
    }
    findings.is_empty()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_lock_file_that_does_not_fit_its_manifest_is_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().expect("in the directory")).expect("made");
            fs::write(path, text).expect("written");
        };
        let manifest =
            |version: &str, more: &str| format!("[package]\nname = \"own\"\nversion = \"{version}\"\n{more}");
        let lock = "version = 4\n\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n";
        write("src/lib.rs", "");
        write("Cargo.lock", lock);
        write("Cargo.toml", &manifest("0.1.0", "[workspace]\n"));
        assert_eq!(locked(directory.path()).expect("cargo is there"), []);
        write("Cargo.toml", &manifest("0.2.0", "[workspace]\n"));
        let found = locked(directory.path()).expect("cargo is there");
        assert_eq!(found.len(), 1);
        assert!(found[0].place.ends_with("Cargo.lock") && found[0].problem.contains("--locked"), "{found:?}");
    }
}
