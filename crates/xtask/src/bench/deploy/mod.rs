//! From "deploy" to "it runs", for one instance and for a burst, against what the same engine needs by itself and
//! against Docker Swarm.
//!
//! Same image and memory limit on all sides. Docker alone makes a network namespace with nothing in it; ours asks it
//! for the same and then gives each instance an address and lets it start only then; Swarm's tasks have the engine's
//! bridge.
//!
//! Warm is a device that has started instances before; cold is one that has to read everything from its disk again, as
//! after a boot. Nothing is made ahead of a deployment on either.

mod cost;
mod docker;
mod ours;
mod swarm;

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use tokio::time::sleep;

use self::{
    docker::{Docker, IN_FLIGHT},
    ours::{Deployment, Ours},
    swarm::Swarm,
};
use super::{
    figure::{Figure, Goal},
    proc::Consumption,
    stack::{DAEMONS, Stack, root::Root, with_stack},
    statistics::{Samples, interleaved},
};

/// Each gives two samples of every side.
const ROUNDS: usize = 10;
/// The same, cold.
const COLD_ROUNDS: usize = 8;
const BURST_ROUNDS: usize = 5;
const BURST: usize = 20;
/// After a removal, so that nobody's clearing up is measured with the next sample.
const SETTLES_WITHIN: Duration = Duration::from_millis(300);

const DOCKER: &str = "Docker create + start";
const DOCKER_BURST: &str = "Docker, 4 in flight";
const SWARM: &str = "Docker Swarm";
const _: () = assert!(IN_FLIGHT == 4, "the name of the peer says so");

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Docker,
    Swarm,
}

const SIDES: [Side; 3] = [Side::Ours, Side::Docker, Side::Swarm];

struct Sides {
    ours: Ours,
    docker: Docker,
    swarm: Swarm,
}

/// Times of single deployments, in milliseconds.
#[derive(Debug, Default)]
struct Times {
    ours: Vec<Deployment>,
    docker: Vec<Duration>,
    swarm: Vec<Duration>,
}

pub(crate) fn run(logs: &Path) -> Result<Vec<Figure>> {
    with_stack(logs, measure)
}

async fn measure(stack: &mut Stack, root: &Root) -> Result<Vec<Figure>> {
    let mut ours = Ours::new(stack, root, BURST).await?;
    let first = ours.deploy_one().await?;
    let docker = Docker::like_an_instance(stack).await?;
    eprintln!("network of the containers: {}", docker.network());
    ours.remove().await?;
    let mut sides = Sides { ours, docker, swarm: Swarm::new(stack).await? };
    // What is the first of its kind on the other sides does not count either.
    for side in [Side::Docker, Side::Swarm] {
        sides.one(side, &mut Times::default()).await?;
        sides.remove(side).await?;
    }
    let mut times = Times::default();
    for side in interleaved(&SIDES, ROUNDS) {
        sides.one(side, &mut times).await?;
        sides.remove(side).await?;
    }
    let mut cold = Times::default();
    for side in interleaved(&[Side::Ours, Side::Docker], COLD_ROUNDS) {
        cost::forget_files()?;
        sides.one(side, &mut cold).await?;
        sides.remove(side).await?;
    }
    let mut rates: [Vec<f64>; 3] = Default::default();
    let before = stack.consumption()?;
    for side in (0..BURST_ROUNDS).flat_map(|_| SIDES) {
        let took = sides.burst(side).await?;
        rates[side as usize].push(BURST as f64 / took.as_secs_f64());
        sides.remove(side).await?;
    }
    let used = stack.consumption()?.into_iter().zip(before).map(|(after, before)| after.since(before));
    sides.ours.deploy_burst().await.context("deploy what is measured")?;
    let memory = cost::memory_figures(stack).await?;
    let mut figures = single_figures(first, times, cold);
    figures.extend(burst_figures(rates));
    figures.extend(memory);
    figures.extend(DAEMONS.into_iter().zip(used).map(|(name, used)| cost_figure(name, used)));
    Ok(figures)
}

impl Sides {
    async fn one(&mut self, side: Side, times: &mut Times) -> Result<()> {
        match side {
            Side::Ours => {
                times.ours.push(self.ours.deploy_one().await.context("deploy one instance")?);
            }
            Side::Docker => times.docker.push(self.docker.start_one().await.context("start with Docker")?),
            Side::Swarm => times.swarm.push(self.swarm.create(1).await.context("create with Swarm")?),
        }
        Ok(())
    }

    async fn burst(&mut self, side: Side) -> Result<Duration> {
        match side {
            Side::Ours => self.ours.deploy_burst().await.context("deploy a burst"),
            Side::Docker => self.docker.start_burst(BURST).await.context("start a burst with Docker"),
            Side::Swarm => self.swarm.create(BURST).await.context("create a burst with Swarm"),
        }
    }

    async fn remove(&mut self, side: Side) -> Result<()> {
        match side {
            Side::Ours => self.ours.remove().await?,
            Side::Docker => self.docker.remove().await?,
            Side::Swarm => self.swarm.remove().await?,
        }
        sleep(SETTLES_WITHIN).await;
        Ok(())
    }
}

fn single_figures(first: Deployment, times: Times, cold: Times) -> Vec<Figure> {
    let in_order = |values: Vec<Duration>| Samples::new(values.into_iter().map(milliseconds).collect());
    let part = |part: fn(&Deployment) -> Option<Duration>| {
        let values: Vec<Duration> = times.ours.iter().filter_map(part).collect();
        (!values.is_empty()).then(|| in_order(values))
    };
    let whole = in_order(times.ours.iter().map(|one| one.whole).collect());
    let cold_whole = in_order(cold.ours.iter().map(|one| one.whole).collect());
    let cold_docker = in_order(cold.docker);
    let (docker, swarm) = (in_order(times.docker), in_order(times.swarm));
    let figure = |what: &str, value| Figure::new(format!("deploy one{what}"), value, "ms", whole.count());
    let cold_figure =
        |what: &str, value| Figure::new(format!("deploy one, cold, {what}"), value, "ms", cold_whole.count());
    let mut figures = vec![
        figure(", median", whole.median())
            .against(DOCKER, docker.median())
            .aiming_at(Goal::RatioAtMost(1.15)),
        figure(", p95", whole.p95()).against(DOCKER, docker.p95()),
        figure(", least", whole.least()).against(DOCKER, docker.least()),
        figure(" against Swarm, median", whole.median())
            .against(SWARM, swarm.median())
            .aiming_at(Goal::RatioAtMost(0.5)),
        figure(" against Swarm, p95", whole.p95()).against(SWARM, swarm.p95()),
        cold_figure("median", cold_whole.median()).against(DOCKER, cold_docker.median()),
        cold_figure("p95", cold_whole.p95()).against(DOCKER, cold_docker.p95()),
        Figure::new("deploy the first".to_owned(), milliseconds(first.whole), "ms", 1),
    ];
    let parts = [
        (": until the request is answered, median", part(|one| Some(one.accepted))),
        (": until the worker is seen creating, median", part(|one| one.creating)),
    ];
    for (what, samples) in parts {
        figures.extend(samples.map(|samples| figure(what, samples.median())));
    }
    figures
}

fn burst_figures([ours, docker, swarm]: [Vec<f64>; 3]) -> [Figure; 2] {
    let [ours, docker, swarm] = [ours, docker, swarm].map(Samples::new);
    let figure = |against: &str| {
        let what = format!("burst of {BURST}{against}, median");
        Figure::new(what, ours.median(), "containers/s", ours.count())
    };
    [
        figure("").against(DOCKER_BURST, docker.median()).aiming_at(Goal::RatioAtLeast(0.9)),
        figure(" against Swarm").against(SWARM, swarm.median()).aiming_at(Goal::RatioAtLeast(3.0)),
    ]
}

/// Of the daemons' own work, deploying and removing together; the engine's is not in it.
fn cost_figure(name: &str, used: Consumption) -> Figure {
    let count = BURST * BURST_ROUNDS;
    let value = used.processor_seconds * 1000.0 / count as f64;
    Figure::new(format!("processor time of {name} per instance of a burst"), value, "ms", count)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
