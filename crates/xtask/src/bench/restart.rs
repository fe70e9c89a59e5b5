//! Root and clusters killed and started again with all they hold: everything at once, the root alone, one cluster alone.
//! How long until they answer, until everybody is back, and whether anything changed by it. The fleet is that of `scale`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use super::{
    figure::{Figure, Goal},
    http::{Body, Connection, Method},
    scale::{
        fleet::{self, Attached, CLUSTERS, Fleet, Part, Phase, Programs, Status},
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
    let placed_twice = fleet.status().duplicates;
    ensure!(placed_twice == 0, "{placed_twice} instances are at two workers before anything is killed");
    let mut told = Told { workers, figures: Vec::new() };
    everything(&mut fleet, &load, &mut told).await?;
    in_parts(&mut fleet, workers).await?;
    root_alone(&mut fleet, &load, &mut told).await?;
    one_cluster_alone(&mut fleet, &load, &mut told).await?;
    fleet.end()?;
    Ok(told.figures)
}

/// Root and all clusters at the same time, on the processors of one machine.
async fn everything(fleet: &mut Fleet, load: &Load, told: &mut Told) -> Result<()> {
    let before = fleet.status();
    fleet.say("mark")?;
    fleet.kill_part(Part::All)?;
    let killed = Instant::now();
    fleet.start_part(Part::All)?;
    let answers = until(async || root_answers(fleet, load).await).await? - killed;
    let clusters = until(async || active(load.root(), CLUSTERS).await).await? - killed;
    all_back(fleet, before.broken, told.workers, told.workers).await?;
    let attached = fleet.attached().await?;
    let used = told.unchanged(fleet, before).await?;
    told.add("everything killed: root answers with its state", answers.as_secs_f64(), "s", Some(1.0));
    told.add("everything killed: all clusters are back", clusters.as_secs_f64(), "s", Some(1.0));
    told.attached("everything killed", attached);
    let failed = fleet.status().broken - before.broken - told.workers as u64;
    told.add("everything killed: attempts that failed", failed as f64, "", None);
    told.add("everything killed: control until all was still, CPU", used.control_seconds, "core-s", None);
    Ok(())
}

/// The same fleet with the root and one cluster in processes of their own.
async fn in_parts(fleet: &mut Fleet, workers: usize) -> Result<()> {
    let broken = fleet.status().broken;
    fleet.kill_part(Part::All)?;
    for part in Part::SEPARATE {
        fleet.start_part(part)?;
    }
    all_back(fleet, broken, workers, workers).await?;
    sleep(SETTLES_WITHIN).await;
    Ok(())
}

/// The root with what it knows of all, while clusters and workers go on.
async fn root_alone(fleet: &mut Fleet, load: &Load, told: &mut Told) -> Result<()> {
    let before = fleet.status();
    fleet.kill_part(Part::Root)?;
    let killed = Instant::now();
    fleet.start_part(Part::Root)?;
    let answers = until(async || root_answers(fleet, load).await).await? - killed;
    let clusters = until(async || active(load.root(), CLUSTERS).await).await? - killed;
    told.unchanged(fleet, before).await?;
    let broken = fleet.status().broken - before.broken;
    ensure!(broken == 0, "{broken} connections of workers broke as the root was killed");
    told.add("root killed: it answers with its state", answers.as_secs_f64(), "s", Some(1.0));
    told.add("root killed: all clusters are attached again", clusters.as_secs_f64(), "s", Some(5.0));
    Ok(())
}

/// One of the clusters, while the root and all others go on.
async fn one_cluster_alone(fleet: &mut Fleet, load: &Load, told: &mut Told) -> Result<()> {
    let before = fleet.status();
    let its_workers = told.workers.div_ceil(CLUSTERS);
    fleet.say("mark")?;
    fleet.kill_part(Part::First)?;
    let killed = Instant::now();
    // Seen to be gone first: it would be taken for one that is back.
    until(async || active(load.root(), CLUSTERS - 1).await).await?;
    fleet.start_part(Part::First)?;
    let back = until(async || active(load.root(), CLUSTERS).await).await? - killed;
    all_back(fleet, before.broken, its_workers, told.workers).await?;
    let attached = fleet.attached().await?;
    ensure!(attached.count == its_workers, "{} workers of one cluster came back", attached.count);
    told.unchanged(fleet, before).await?;
    told.add("one cluster killed: it is back at the root", back.as_secs_f64(), "s", Some(1.0));
    told.attached("one cluster killed", attached);
    Ok(())
}

/// Waits until so many connections have broken since there were `broken`, and all workers are connected.
async fn all_back(fleet: &mut Fleet, broken: u64, lost: usize, workers: usize) -> Result<()> {
    let noticed = broken + lost as u64;
    fleet
        .when("every worker is back", BACK_WITHIN, |status| {
            status.broken >= noticed && status.connected == workers as u64
        })
        .await
}

/// Figures of one size.
struct Told {
    workers: usize,
    figures: Vec<Figure>,
}

impl Told {
    fn add(&mut self, what: &str, value: f64, unit: &'static str, goal: Option<f64>) {
        let figure = Figure::new(format!("{} workers: {what}", self.workers), value, unit, 1);
        eprintln!("{}: {value:.3} {unit}", figure.figure);
        let goal = goal.filter(|_| self.workers == FULL);
        self.figures.push(match goal {
            Some(value) => figure.aiming_at(Goal::ValueAtMost { value, unit }),
            None => figure,
        });
    }

    fn attached(&mut self, event: &str, attached: Attached) {
        let again = format!("{event}: workers attached again");
        self.add(&format!("{again}, p50"), attached.p50_millis / 1000.0, "s", None);
        self.add(&format!("{again}, p99"), attached.p99_millis / 1000.0, "s", None);
        self.add(&format!("{again}, last"), attached.last_millis / 1000.0, "s", Some(5.0));
    }

    /// Looks on for a while, and sees that everybody has what they had.
    async fn unchanged(&self, fleet: &mut Fleet, before: Status) -> Result<Phase> {
        let used = fleet.watch(SETTLES_WITHIN).await?;
        let after = fleet.status();
        eprintln!("{} workers, after the restart: {used}; {after:?}", self.workers);
        ensure!(after.connected == self.workers as u64, "{} workers stayed", after.connected);
        ensure!(after.duplicates == 0, "{} instances are at two workers", after.duplicates);
        ensure!(after.went_back == 0, "{} instances went back to an older generation", after.went_back);
        ensure!(after.instances == before.instances, "{} of {} instances", after.instances, before.instances);
        let changed = after.changing - before.changing;
        ensure!(changed == 0, "{changed} workers were told something else than before");
        Ok(used)
    }
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
async fn active(root: &Root, clusters: usize) -> Result<()> {
    let active = root.connect().await?.ask(Method::GET, "/api/clusters/active", Body::Empty).await?;
    let count = active.as_array().map_or(0, Vec::len);
    ensure!(count == clusters, "{count} clusters are active, not {clusters}");
    Ok(())
}
