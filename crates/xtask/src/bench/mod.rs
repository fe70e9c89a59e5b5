//! What can be measured, and how figures are told: a benchmark is one entry in [`BENCHMARKS`] and one file here.

use std::{
    fs::{self, File, TryLockError},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail, ensure};

use crate::workspace::{self, Workspace};

mod api;
mod deploy;
mod figure;
mod footprint;
pub(crate) mod http;
mod ingest;
mod machine;
mod network;
mod proc;
mod recovery;
mod resources;
mod restart;
mod scale;
mod schedule;
pub(crate) mod stack;
mod statistics;
mod workflow;

use figure::Figure;
use machine::Machine;
use stack::apart;

/// One benchmark.
struct Benchmark {
    name: &'static str,
    /// The question it answers, for `--list`.
    about: &'static str,
    run: Run,
}

/// How it is run.
enum Run {
    /// By itself, without traces.
    Alone(fn() -> Result<Vec<Figure>>),
    /// As `Alone`; short if `true`, to see that it works.
    Long(fn(bool) -> Result<Vec<Figure>>),
    /// On the whole system in a network namespace of its own; gets the folder for the daemons' logs.
    Apart(fn(&Path) -> Result<Vec<Figure>>),
}

const BENCHMARKS: [Benchmark; 12] = [
    Benchmark {
        name: "alarms",
        about: "whether workers are taken for lost that are not (needs root; half an hour, or MANGROVE_BENCH_SECONDS=60)",
        run: Run::Alone(recovery::alarms::run),
    },
    Benchmark {
        name: "api",
        about: "the REST API: reads against bare hyper, durable creates, order to worker, and a minute of mixed load (or MANGROVE_BENCH_SECONDS=5)",
        run: Run::Alone(api::run),
    },
    Benchmark {
        name: "deploy",
        about: "how long a deployment takes, against the container engine alone and Docker Swarm (needs root)",
        run: Run::Apart(deploy::run),
    },
    Benchmark {
        name: "footprint",
        about: "what the daemons need while nothing happens (needs root; takes three minutes)",
        run: Run::Apart(footprint::run),
    },
    Benchmark {
        name: "ingest",
        about: "how many reports a cluster takes in per second of processor time, against decoding alone",
        run: Run::Alone(ingest::run),
    },
    Benchmark {
        name: "network",
        about: "what paths between instances carry, how fast services are reached and lost ones avoided, against Docker Swarm and others (needs root and iperf3; half an hour, or --quick)",
        run: Run::Long(network::run),
    },
    Benchmark {
        name: "resources",
        about: "lists, pages and watches of up to 100,000 resources, and the memory of each (four minutes, or MANGROVE_BENCH_RESOURCES=1000)",
        run: Run::Alone(resources::run),
    },
    Benchmark {
        name: "restart",
        about: "how long root and 100 clusters take to be back with all their workers after a kill",
        run: Run::Alone(restart::run),
    },
    Benchmark {
        name: "scale",
        about: "up to 100,000 simulated workers: placing, processor time, memory, order to worker",
        run: Run::Alone(scale::run),
    },
    Benchmark {
        name: "recovery",
        about: "how long a service is away when its node or container is lost, against Docker Swarm (needs root; 12 minutes, or MANGROVE_BENCH_ROUNDS=1)",
        run: Run::Alone(recovery::run),
    },
    Benchmark {
        name: "schedule",
        about: "how long one placement takes, against a raw scan of the same candidates",
        run: Run::Alone(schedule::run),
    },
    Benchmark {
        name: "workflow",
        about: "what a step of a run costs beside `docker run`, and how many runs per second there are without containers (needs root)",
        run: Run::Apart(workflow::run),
    },
];

/// Tells what can be measured.
pub(crate) fn list() {
    for Benchmark { name, about, .. } in &BENCHMARKS {
        println!("{name:<12} {about}");
    }
}

/// Measures with a release build of this program; builds it if need be.
pub(crate) fn run_in_release(name: &str, quick: bool) -> Result<ExitCode> {
    match find(name)?.run {
        Run::Long(_) => network::ensure_possible()?,
        Run::Alone(_) | Run::Apart(_) if quick => bail!("`{name}` has no quick run: leave out --quick"),
        Run::Alone(_) => {}
        // Before a build that takes minutes.
        Run::Apart(_) => drop(apart::ensure_possible()?),
    }
    if !cfg!(debug_assertions) {
        return run_here(name, quick, false);
    }
    // Takes the place of this process, so that an interrupt reaches the one that measures and nobody stops waiting
    // while it clears up.
    let error = Command::new(workspace::cargo())
        .args(["run", "--quiet", "--release", "--package", "xtask", "--", "bench-inner", name])
        .args(quick.then_some("--quick"))
        .exec();
    Err(error).context("start the release build of xtask")
}

/// Measures with this very program, shortly if `quick`; `is_apart` says that it is in a network namespace of its own.
pub(crate) fn run_here(name: &str, quick: bool, is_apart: bool) -> Result<ExitCode> {
    let benchmark = find(name)?;
    let before = Machine::look();
    let folder = Workspace::load()?.target.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let figures = match benchmark.run {
        Run::Apart(_) if !is_apart => match apart::measure_apart(name)? {},
        Run::Apart(run) => {
            let _only_one = only_one(&folder)?;
            apart::settle_in()?;
            run(&folder.join(format!("{name}-logs")))?
        }
        Run::Alone(run) => {
            let _only_one = only_one(&folder)?;
            run()?
        }
        Run::Long(run) => {
            let _only_one = only_one(&folder)?;
            run(quick)?
        }
    };
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
    let file = folder.join(benchmark.name).with_extension("json");
    fs::write(&file, format!("[\n{}\n]\n", lines.join(",\n")))
        .with_context(|| format!("write {}", file.display()))?;
    eprintln!("written to {}", file.display());
    let faults: Vec<&str> = figures
        .iter()
        .filter(|figure| figure.is_fault && figure.met() == Some(false))
        .map(|figure| figure.figure.as_str())
        .collect();
    ensure!(faults.is_empty(), "there must be none, and there were: {}", faults.join("; "));
    Ok(ExitCode::SUCCESS)
}

/// Until it is dropped, nobody else measures: two at a time would measure each other.
fn only_one(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another benchmark is running: wait until it has ended"),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

fn find(name: &str) -> Result<&'static Benchmark> {
    let Some(benchmark) = BENCHMARKS.iter().find(|benchmark| benchmark.name == name) else {
        let names: Vec<&str> = BENCHMARKS.iter().map(|benchmark| benchmark.name).collect();
        bail!("there is no benchmark `{name}`: choose one of {}", names.join(", "));
    };
    Ok(benchmark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_benchmark_runs_at_a_time() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = only_one(folder.path()).expect("nobody measures");
        let second = only_one(folder.path()).expect_err("somebody measures").to_string();
        assert_eq!(second, "another benchmark is running: wait until it has ended");
        drop(first);
        only_one(folder.path()).expect("nobody measures any more");
    }
}
