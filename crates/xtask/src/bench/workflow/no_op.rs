//! Root and clusters with devices that end whatever runs once as soon as they are told of it (`crates/fleet`): what a step
//! costs without an engine, and how many runs a second there are. Nothing is left out but containers: each attempt is
//! written down, placed, told over two links and reported back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::{task::JoinSet, time::sleep};

use super::{Succeeded, fire, make_chain};
use crate::bench::{
    figure::{Figure, Goal},
    scale::fleet::{self, Fleet, Programs},
    statistics::Samples,
};

/// One for each cluster.
const WORKERS: usize = 100;
const TASKS: usize = 10;
/// Runs of all these tasks, one after the other.
const CHAINS: usize = 30;
/// Runs of one task, all at once, and how often.
const RUNS: usize = 2_000;
const BURSTS: usize = 5;
/// Who fires them.
const CONNECTIONS: usize = 16;
const SETTLES_WITHIN: Duration = Duration::from_secs(5);
const SINGLE: &str = "single";
const CHAIN: &str = "chain";

pub(super) fn run() -> Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start a runtime")?;
    let programs = fleet::build()?;
    runtime.block_on(measure(&programs))
}

async fn measure(programs: &Programs) -> Result<Vec<Figure>> {
    let mut fleet = Fleet::start(programs, WORKERS).await?;
    fleet.connect(WORKERS).await?;
    let root = fleet.root().await?;
    make_chain(&root, CHAIN, TASKS, "no-op").await?;
    make_chain(&root, SINGLE, 1, "no-op").await?;
    sleep(SETTLES_WITHIN).await;
    let mut succeeded = Succeeded::watch(&root).await?;
    let mut connection = root.connect().await?;
    let mut hops = Vec::new();
    for _ in 0..CHAINS {
        let asked = Instant::now();
        let run = fire(&mut connection, CHAIN).await?;
        let took = succeeded.all(&[run]).await? - asked;
        hops.push(took.as_secs_f64() * 1000.0 / TASKS as f64);
    }
    let (mut rates, mut used) = (Vec::new(), Vec::new());
    for _ in 0..BURSTS {
        let (before, asked) = (fleet.look()?, Instant::now());
        let mut firing = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let mut connection = root.connect().await?;
            firing.spawn(async move {
                let mut runs = Vec::new();
                for _ in 0..RUNS / CONNECTIONS {
                    runs.push(fire(&mut connection, SINGLE).await?);
                }
                Ok::<_, anyhow::Error>(runs)
            });
        }
        let mut runs = Vec::new();
        while let Some(fired) = firing.join_next().await {
            runs.extend(fired??);
        }
        let took = succeeded.all(&runs).await? - asked;
        let count = runs.len() as f64;
        let phase = fleet.since(&before)?;
        eprintln!("{count} runs: {phase}");
        rates.push(count / took.as_secs_f64());
        used.push(phase.control_seconds * 1000.0 / count);
        sleep(SETTLES_WITHIN).await;
    }
    fleet.end()?;
    Ok(told(hops, rates, used))
}

fn told(hops: Vec<f64>, rates: Vec<f64>, used: Vec<f64>) -> Vec<Figure> {
    let [hops, rates, used] = [hops, rates, used].map(Samples::new);
    let figure =
        |what: String, value, unit, samples: &Samples| Figure::new(what, value, unit, samples.count());
    let hop = format!("without containers: a hop of runs of {TASKS}");
    vec![
        figure(format!("{hop}, median"), hops.median(), "ms", &hops)
            .aiming_at(Goal::ValueAtMost { value: 50.0, unit: "ms" }),
        figure(format!("{hop}, p95"), hops.p95(), "ms", &hops),
        figure(format!("without containers: {RUNS} runs at once, median"), rates.median(), "runs/s", &rates),
        figure(
            "without containers: processor time of root and clusters per run".to_owned(),
            used.median(),
            "ms",
            &used,
        ),
    ]
}
