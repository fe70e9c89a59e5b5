//! That nobody is taken for lost who lives: not while the processors are overcommitted twofold, not on a link that
//! loses three packets of ten; and that one behind such a link is still missed when it is gone.

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::time::sleep;

use super::{in_lab, number, ours::at_rest};
use crate::{
    bench::{
        figure::{Figure, Goal},
        statistics::Samples,
    },
    lab::{
        Shape,
        survival::{
            engines::Copy,
            world::{RUNS_WITHIN, Service, World},
        },
    },
};

const SHAPE: Shape = Shape { clusters: 1, workers: 4, bare: 0, trusted: 0 };
/// Each of the two conditions lasts so long unless told otherwise.
const SECONDS: u64 = 600;
/// A smaller number of seconds, for a first look.
const SECONDS_VARIABLE: &str = "MANGROVE_BENCH_SECONDS";
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOSSY: &str = "c1w1";
const LOST_PERCENT: u8 = 30;
const CUTS: usize = 10;
/// After a link is plugged in again, until its loss is known again.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// What was seen in one condition.
#[derive(Debug, Default)]
struct Watched {
    looks: usize,
    /// How often a worker went from alive to lost.
    alarms: u32,
    /// Instances that did not stay where they were, as they were.
    moved: usize,
    /// Of the worker with the lossy link.
    most_patience: Duration,
    losses: Vec<f64>,
}

impl Watched {
    fn tell(&self, condition: &str) {
        let Self { looks, alarms, moved, most_patience, .. } = self;
        eprintln!(
            "{condition}: {looks} looks, {alarms} alarms, {moved} moved, patience up to {most_patience:?}"
        );
    }
}

pub(in crate::bench) fn run() -> Result<Vec<Figure>> {
    let seconds = number(SECONDS_VARIABLE, SECONDS)?;
    in_lab(SHAPE, async |world| measure(world, Duration::from_secs(seconds)).await)
}

async fn measure(mut world: World, time: Duration) -> Result<Vec<Figure>> {
    let minutes = time.as_secs_f64() / 60.0;
    let service = world.server(8080, json!({})).await?;
    for _ in 0..SHAPE.workers {
        world.deploy(&service).await?;
    }
    world.running(&service, SHAPE.workers.into(), RUNS_WITHIN).await?;

    let processors = thread::available_parallelism().context("count the processors")?.get();
    let busy = Busy::start(2 * processors)?;
    let overcommitted = watch(&mut world, &service, time).await?;
    drop(busy);
    overcommitted.tell("overcommitted");

    at_rest(&mut world).await?;
    world.lab.lossy(LOSSY, LOST_PERCENT)?;
    let lossy = watch(&mut world, &service, time).await?;
    lossy.tell("lossy");
    ensure!(!lossy.losses.is_empty(), "the loss was never told");

    let mut detected = Vec::new();
    for cut in 0..CUTS {
        let when = world.lab.cut(LOSSY)?;
        detected.push((world.lost(LOSSY, RUNS_WITHIN).await? - when).as_secs_f64());
        eprintln!("cut {cut} behind {LOST_PERCENT} % loss: {:.2} s", detected[cut]);
        world.lab.heal(LOSSY)?;
        let back = Instant::now();
        while back.elapsed() < SETTLES_WITHIN {
            sleep(LOOK_EVERY).await;
        }
        let is_back = !world.worker(LOSSY).await?.is_lost();
        ensure!(is_back, "{LOSSY} is not back {} s later", SETTLES_WITHIN.as_secs());
    }
    let detected = Samples::new(detected);
    let count = |what: &str, value: f64, n: usize| {
        Figure::new(format!("{what}, {minutes:.1} minutes"), value, "", n)
            .aiming_at(Goal::ValueAtMost { value: 0.0, unit: "" })
    };
    let loads = format!("at {} busy loops on {processors} processors", 2 * processors);
    let losses = format!("with {LOST_PERCENT} % lost each way");
    let told = Samples::new(lossy.losses.clone());
    Ok(vec![
        count(&format!("false alarms {loads}"), overcommitted.alarms.into(), overcommitted.looks),
        count(&format!("instances moved {loads}"), f64_of(overcommitted.moved), overcommitted.looks),
        count(&format!("false alarms {losses}"), lossy.alarms.into(), lossy.looks),
        count(&format!("instances moved {losses}"), f64_of(lossy.moved), lossy.looks),
        Figure::new("loss that is told, median".to_owned(), told.median(), "%", told.count()),
        Figure::new("most patience".to_owned(), lossy.most_patience.as_secs_f64(), "s", lossy.looks),
        Figure::new(format!("cut {losses} until detected, median"), detected.median(), "s", CUTS),
        Figure::new(format!("cut {losses} until detected, p95"), detected.p95(), "s", CUTS)
            .aiming_at(Goal::ValueAtMost { value: 10.0, unit: "s" }),
    ])
}

/// Looks at all workers again and again. A loss between two looks would still move an instance.
async fn watch(world: &mut World, service: &Service, time: Duration) -> Result<Watched> {
    let before = copies(world, service).await?;
    let mut watched = Watched::default();
    let mut lost = 0;
    let begun = Instant::now();
    while begun.elapsed() < time {
        let workers = world.workers("c1").await?;
        let now = workers.iter().filter(|worker| worker.is_lost()).count();
        if now > lost {
            watched.alarms += u32::try_from(now - lost)?;
            eprintln!("after {:.1} s: {workers:?}", begun.elapsed().as_secs_f64());
        }
        lost = now;
        if let Some(lossy) = workers.iter().find(|worker| worker.name == LOSSY) {
            watched.most_patience = watched.most_patience.max(Duration::from_millis(lossy.lost_after_ms));
            watched.losses.push(lossy.loss_percent.into());
        }
        watched.looks += 1;
        sleep(LOOK_EVERY).await;
    }
    let after = copies(world, service).await?;
    watched.moved = before.iter().filter(|copy| !after.contains(copy)).count();
    Ok(watched)
}

/// Each with the start of its process: one that was restarted is another.
async fn copies(world: &World, service: &Service) -> Result<Vec<(Copy, String)>> {
    let mut all = Vec::new();
    for copy in world.copies(service).await? {
        let started = world.started(&copy).await?;
        all.push((copy, started));
    }
    Ok(all)
}

#[expect(clippy::cast_precision_loss, reason = "a handful of instances")]
fn f64_of(count: usize) -> f64 {
    count as f64
}

/// Processes that do nothing, as fast as they can, until this is dropped. Each is a session of its own, as each host of
/// the lab is: many kernels share processor time among sessions first, and one of threads would get one share.
struct Busy(Vec<Child>);

impl Busy {
    fn start(loops: usize) -> Result<Self> {
        let mut busy = Self(Vec::new());
        for _ in 0..loops {
            let mut command = Command::new("setsid");
            command.args(["sh", "-c", "while :; do :; done"]).stdin(Stdio::null());
            busy.0.push(command.spawn().context("start `setsid`, which is part of util-linux")?);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended is ended.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
