//! A country of devices on one small root: a root and 100 clusters in one process, up to 100,000 simulated workers over
//! the real protocol. How fast instances are placed through both tiers, and what it takes to know that all is well.
//!
//! The workers share the machine with what is measured. Processor time and memory are those of the control process
//! alone; times are what is left of the machine for it. Choose other sizes with `MANGROVE_BENCH_WORKERS=1000,10000`.
//! Workers do as NodeEngine does: each tells how it fares in a beat every 0.8 s, and reports when something is new and
//! every 30 s. `MANGROVE_BEAT_INTERVAL=2000` has them beat more rarely, `MANGROVE_BENCH_REPORT_MILLIS=2000` report more often.

pub(crate) mod fleet;
pub(crate) mod load;

use std::{env, time::Duration};

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::figure::{Figure, Goal};
use fleet::{Fleet, Phase};
use load::{Load, percentile};

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];
/// The size that goals are for.
const FULL: usize = 100_000;
/// Long enough for some of everything: a report of each worker, six of each cluster.
const IDLE: Duration = Duration::from_secs(30);
/// What connecting and placing leave behind: confirmations, first slow beats.
const SETTLES_WITHIN: Duration = Duration::from_secs(12);
const SINGLE_DEPLOYS: usize = 200;
const BETWEEN_DEPLOYS: Duration = Duration::from_millis(20);
const SIZES_VARIABLE: &str = "MANGROVE_BENCH_WORKERS";

/// Measures one size after the other, each with a new fleet.
pub(crate) fn run() -> Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start a runtime")?;
    let programs = fleet::build()?;
    let mut figures = Vec::new();
    for workers in sizes(&SIZES)? {
        figures.extend(runtime.block_on(measure(&programs, workers))?);
    }
    Ok(figures)
}

/// The sizes asked for.
pub(crate) fn sizes(usual: &[usize]) -> Result<Vec<usize>> {
    let Ok(text) = env::var(SIZES_VARIABLE) else { return Ok(usual.to_vec()) };
    let sizes = text.split(',').map(|size| size.trim().parse().ok().filter(|size| *size > 0)).collect();
    let sizes: Option<Vec<usize>> = sizes;
    sizes.with_context(|| {
        format!("understand {SIZES_VARIABLE}={text}: expected numbers of workers, such as 1000,10000")
    })
}

async fn measure(programs: &fleet::Programs, workers: usize) -> Result<Vec<Figure>> {
    let mut told = Told { workers, figures: Vec::new() };
    let mut fleet = Fleet::start(programs, workers).await?;
    let connecting = fleet.connect(workers).await?;
    told.phase("connect all", &connecting);
    told.add("connect all", connecting.seconds, "s", None);
    sleep(SETTLES_WITHIN).await;
    let idle = fleet.watch(IDLE).await?;
    told.phase("idle, no instances", &idle);

    let load = Load::create(&fleet, workers).await?;
    let placing = load.place(&mut fleet, workers).await?;
    told.phase("place one instance per worker", &placing.phase);
    let goal = Goal::ValueAtMost { value: 5.0, unit: "s" };
    told.add(
        "place one instance per worker, until every worker has its order",
        placing.seconds,
        "s",
        Some(goal),
    );
    told.add("root has acknowledged after", placing.acknowledged_seconds, "s", None);
    told.add("placed", workers as f64 / placing.seconds, "instances/s", None);
    sleep(SETTLES_WITHIN).await;
    let steady = fleet.watch(IDLE).await?;
    told.phase("idle, one instance each", &steady);
    let core = Goal::ValueAtMost { value: 100.0, unit: "% of a core" };
    told.add("control, steady", steady.core_percent(), "% of a core", Some(core));
    let memory = Goal::ValueAtMost { value: 1500.0, unit: "MB" };
    told.add("control, RSS", steady.megabytes(), "MB", Some(memory));

    let latencies = load.deploy_singly(&mut fleet, SINGLE_DEPLOYS, BETWEEN_DEPLOYS).await?;
    let n = latencies.len();
    told.figures.push(Figure::new(told.named("order to worker, p50"), percentile(&latencies, 50), "ms", n));
    let p99 = Figure::new(told.named("order to worker, p99"), percentile(&latencies, 99), "ms", n);
    told.figures.push(told.goal(p99, Some(Goal::ValueAtMost { value: 100.0, unit: "ms" })));
    // A machine that is too busy for beats has workers taken for lost, whose instances go elsewhere.
    let faults = fleet.status();
    let none = Some(Goal::ValueAtMost { value: 0.0, unit: "" });
    told.add("instances that were at two workers", faults.duplicates as f64, "", none);
    told.add("instances that went back", faults.went_back as f64, "", none);
    told.add("connections that broke", faults.broken as f64, "", none);
    fleet.end()?;
    Ok(told.figures)
}

/// Figures of one size.
struct Told {
    workers: usize,
    figures: Vec<Figure>,
}

impl Told {
    fn named(&self, what: &str) -> String {
        format!("{} workers: {what}", self.workers)
    }

    fn goal(&self, figure: Figure, goal: Option<Goal>) -> Figure {
        match goal.filter(|_| self.workers == FULL) {
            Some(goal) => figure.aiming_at(goal),
            None => figure,
        }
    }

    fn add(&mut self, what: &str, value: f64, unit: &'static str, goal: Option<Goal>) {
        let figure = Figure::new(self.named(what), value, unit, 1);
        eprintln!("{}: {value:.2} {unit}", figure.figure);
        self.figures.push(self.goal(figure, goal));
    }

    fn phase(&mut self, what: &str, phase: &Phase) {
        eprintln!("{} workers, {what}: {phase}", self.workers);
        self.add(&format!("{what}, control CPU"), phase.control_seconds, "core-s", None);
        self.add(&format!("{what}, workers CPU"), phase.workers_seconds, "core-s", None);
        self.add(&format!("{what}, control RSS"), phase.megabytes(), "MB", None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_the_usual_ones_unless_others_are_asked_for() {
        assert_eq!(sizes(&SIZES).expect("not set in tests"), SIZES);
    }
}
