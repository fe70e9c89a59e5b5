//! Root and clusters killed and started again with all they hold: how long until they answer, until every worker is
//! back, and whether anything changed by it. The fleet is that of `scale`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use super::{
    figure::{Figure, Goal},
    http::{Body, Connection, Method},
    scale::{
        fleet::{self, CLUSTERS, Fleet, Programs},
        load::Load,
        sizes,
    },
    stack::root::Root,
};

const SIZES: [usize; 2] = [10_000, 100_000];
const FULL: usize = 100_000;
const SETTLES_WITHIN: Duration = Duration::from_secs(12);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const BACK_WITHIN: Duration = Duration::from_secs(120);

/// Measures one size after the other.
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

async fn measure(programs: &Programs, workers: usize) -> Result<Vec<Figure>> {
    let mut fleet = Fleet::start(programs, workers).await?;
    fleet.connect(workers).await?;
    let load = Load::create(&fleet, workers).await?;
    load.place(&mut fleet, workers).await?;
    sleep(SETTLES_WITHIN).await;
    let before = fleet.status();
    ensure!(before.connected == workers as u64, "{} of {workers} workers are connected", before.connected);

    fleet.say("mark")?;
    fleet.kill_control()?;
    let killed = Instant::now();
    fleet.restart_control()?;
    let answers = until(async || root_answers(&fleet, &load).await).await?;
    let clusters = until(async || clusters_are_back(load.root()).await).await?;
    let (answers, clusters) = (answers - killed, clusters - killed);
    let broken = before.broken + workers as u64;
    fleet
        .when("every worker is back", BACK_WITHIN, |status| {
            // Each has noticed first that its connection is gone.
            status.broken >= broken && status.connected == workers as u64
        })
        .await?;
    let attached = fleet.attached().await?;
    let used = fleet.watch(SETTLES_WITHIN).await?;
    let after = fleet.status();
    eprintln!("{workers} workers, after the restart: {used}; {after:?}");
    ensure!(after.connected == workers as u64, "{} of {workers} workers stayed", after.connected);
    ensure!(after.duplicates == 0, "{} instances are at two workers", after.duplicates);
    ensure!(after.went_back == 0, "{} instances went back to an older generation", after.went_back);
    ensure!(after.instances == before.instances, "{} of {} instances", after.instances, before.instances);
    let changed = after.changing - before.changing;
    ensure!(changed == 0, "{changed} workers were told something else than before");

    let is_full = workers == FULL;
    let figure = |what: &str, value, unit, goal: Option<f64>| {
        let figure = Figure::new(format!("{workers} workers: {what}"), value, unit, 1);
        match goal.filter(|_| is_full) {
            Some(value) => figure.aiming_at(Goal::ValueAtMost { value, unit }),
            None => figure,
        }
    };
    let figures = vec![
        figure("root answers with its state", answers.as_secs_f64(), "s", Some(1.0)),
        figure("all clusters are back at the root", clusters.as_secs_f64(), "s", Some(1.0)),
        figure("workers attached again, p50", attached.p50_millis / 1000.0, "s", None),
        figure("workers attached again, p99", attached.p99_millis / 1000.0, "s", None),
        figure("workers attached again, last", attached.last_millis / 1000.0, "s", Some(5.0)),
        figure("attempts that failed meanwhile", (after.broken - before.broken) as f64, "", None),
        figure("workers told something else", changed as f64, "", Some(0.0)),
        figure("instances at two workers", after.duplicates as f64, "", Some(0.0)),
        figure("control until all was still, CPU", used.control_seconds, "core-s", None),
    ];
    fleet.end()?;
    Ok(figures)
}

/// When it was so for the first time.
async fn until(mut ask: impl AsyncFnMut() -> Result<()>) -> Result<Instant> {
    let deadline = Instant::now() + BACK_WITHIN;
    loop {
        match ask().await {
            Ok(()) => return Ok(Instant::now()),
            Err(error) => ensure!(Instant::now() < deadline, "waited in vain: {error:#}"),
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// With the token of before: sessions outlive a restart.
async fn root_answers(fleet: &Fleet, load: &Load) -> Result<()> {
    // Refused at once while nobody listens.
    drop(Connection::open(fleet.api_address()?, None).await?);
    load.is_known(&mut load.root().connect().await?).await
}

/// A cluster that is active has read what it holds and has reported.
async fn clusters_are_back(root: &Root) -> Result<()> {
    let active = root.connect().await?.ask(Method::GET, "/api/clusters/active", Body::Empty).await?;
    let count = active.as_array().map_or(0, Vec::len);
    ensure!(count == CLUSTERS, "{count} of {CLUSTERS} clusters are active");
    Ok(())
}
