//! What can be measured, and how figures are told: a benchmark is one entry in [`BENCHMARKS`] and one file here.

use std::{
    fs,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

use crate::workspace::{self, Workspace};

mod figure;
mod machine;
mod schedule;
mod statistics;

use figure::Figure;
use machine::Machine;

/// One benchmark.
struct Benchmark {
    name: &'static str,
    /// The question it answers, for `--list`.
    about: &'static str,
    run: fn() -> Result<Vec<Figure>>,
}

const BENCHMARKS: [Benchmark; 1] = [Benchmark {
    name: "schedule",
    about: "how long one placement takes, against a raw scan of the same candidates",
    run: schedule::run,
}];

/// Tells what can be measured.
pub(crate) fn list() {
    for Benchmark { name, about, .. } in &BENCHMARKS {
        println!("{name:<12} {about}");
    }
}

/// Measures with a release build of this program; builds it if need be.
pub(crate) fn run_in_release(name: &str) -> Result<ExitCode> {
    find(name)?;
    if !cfg!(debug_assertions) {
        return run_here(name);
    }
    let status = Command::new(workspace::cargo())
        .args(["run", "--quiet", "--release", "--package", "xtask", "--", "bench-inner", name])
        .status()
        .context("start the release build of xtask")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Measures with this very program.
pub(crate) fn run_here(name: &str) -> Result<ExitCode> {
    let benchmark = find(name)?;
    let folder = Workspace::load()?.target.join("bench");
    let before = Machine::look();
    let figures = (benchmark.run)()?;
    let machine = Machine::look().since(&before);
    eprintln!("{}", figure::table(&figures));
    eprintln!("{machine}");
    let lines: Vec<String> = figures
        .iter()
        .map(|figure| figure.to_json(benchmark.name))
        .collect::<serde_json::Result<_>>()
        .context("write figures as JSON")?;
    for line in &lines {
        println!("{line}");
    }
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let file = folder.join(benchmark.name).with_extension("json");
    fs::write(&file, format!("[\n{}\n]\n", lines.join(",\n")))
        .with_context(|| format!("write {}", file.display()))?;
    eprintln!("written to {}", file.display());
    Ok(ExitCode::SUCCESS)
}

fn find(name: &str) -> Result<&'static Benchmark> {
    let Some(benchmark) = BENCHMARKS.iter().find(|benchmark| benchmark.name == name) else {
        let names: Vec<&str> = BENCHMARKS.iter().map(|benchmark| benchmark.name).collect();
        bail!("there is no benchmark `{name}`: choose one of {}", names.join(", "));
    };
    Ok(benchmark)
}
