//! How long a service is away when its worker is cut off and when its container is killed, on the hosts of a lab:
//! ours, and a Docker Swarm of three nodes beside it, in turns. What counts is an answer to an HTTP request, on any
//! host that is not cut off. `alarms.rs` measures the other side: that nobody is replaced who lives.

pub(super) mod alarms;
mod ours;
pub(super) mod swarm;

use std::{env, path::Path, time::Duration};

use anyhow::{Context, Result};

use self::{ours::Ours, swarm::Swarm};
use super::{
    figure::{Figure, Goal},
    statistics::{Samples, interleaved},
};
use crate::lab::{
    self, Lab, Shape,
    programs::{Profile, Programs},
    survival::world::World,
};

/// Both sides on one machine. Three workers, so that there is one that is neither cut off nor taking over.
const SHAPE: Shape = Shape { clusters: 1, workers: 3, bare: 3, trusted: 0 };
/// Each side is sampled twice a round, unless told otherwise.
const ROUNDS: u64 = 5;
/// A smaller number of rounds, for a first look.
pub(super) const ROUNDS_VARIABLE: &str = "MANGROVE_BENCH_ROUNDS";
pub(super) const SWARM: &str = "Docker Swarm";
const BY_HAND: &str = "docker wait + docker start";

/// A folder with programs that are to be measured as they are, instead of those of this workspace.
pub(super) const PROGRAMS_VARIABLE: &str = "MANGROVE_BENCH_PROGRAMS";

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Swarm,
}

/// From the cut.
#[derive(Debug, Clone, Copy)]
struct Loss {
    /// The side's own interface says that the node is lost.
    detected: Duration,
    /// Another host answers.
    answers: Duration,
}

#[derive(Debug, Default)]
struct Losses {
    detected: Vec<f64>,
    answers: Vec<f64>,
}

impl Losses {
    fn note(&mut self, loss: Loss) {
        self.detected.push(loss.detected.as_secs_f64());
        self.answers.push(loss.answers.as_secs_f64());
    }
}

/// Measures in a lab that is built for it and removed again.
pub(super) fn run() -> Result<Vec<Figure>> {
    let rounds = usize::try_from(number(ROUNDS_VARIABLE, ROUNDS)?)?.max(1);
    in_lab(SHAPE, async |world| measure(world, rounds).await)
}

/// Builds a lab, works in it and removes it, unless something goes wrong: then it can be looked at.
pub(super) fn in_lab<T>(shape: Shape, work: impl AsyncFnOnce(World) -> Result<T>) -> Result<T> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().context("start a runtime")?;
    let outcome = runtime.block_on(async {
        let (lab, is_new) = Lab::up(shape, programs).await?;
        // What somebody else did with it is not known.
        anyhow::ensure!(is_new, "there is a lab already: `cargo xtask lab down` removes it");
        work(World::of(lab)).await
    });
    match outcome {
        Ok(result) => lab::down().context("remove the lab").map(|_| result),
        Err(error) => Err(error.context("the lab is still up: look at it, then `cargo xtask lab down`")),
    }
}

fn programs() -> Result<Programs> {
    match env::var_os(PROGRAMS_VARIABLE) {
        Some(folder) => Programs::in_folder(Path::new(&folder)),
        None => Programs::build(Profile::Release),
    }
}

/// A number from the environment, or what is usual.
pub(super) fn number(variable: &str, usual: u64) -> Result<u64> {
    match env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable} is `{text}`, not a number")),
        Err(_) => Ok(usual),
    }
}

async fn measure(mut world: World, rounds: usize) -> Result<Vec<Figure>> {
    let swarm = Swarm::new(&world).await?;
    let mut ours = Ours::new(&mut world).await?;
    let (mut our_losses, mut swarm_losses) = (Losses::default(), Losses::default());
    for (index, side) in interleaved(&[Side::Ours, Side::Swarm], rounds).enumerate() {
        let loss = match side {
            Side::Ours => ours.lose_a_node(&mut world).await.context("lose a worker of ours")?,
            Side::Swarm => swarm.lose_a_node(&world).await.context("lose a node of the swarm")?,
        };
        eprintln!("loss {index}, {side:?}: {loss:.2?}");
        match side {
            Side::Ours => our_losses.note(loss),
            Side::Swarm => swarm_losses.note(loss),
        }
    }
    let (mut our_crashes, mut swarm_crashes, mut by_hand) = (Vec::new(), Vec::new(), Vec::new());
    for (index, side) in interleaved(&[Side::Ours, Side::Swarm], rounds).enumerate() {
        match side {
            Side::Ours => {
                let crash = ours.crash(&mut world).await.context("kill a container of ours")?;
                let floor = ours.restart_by_hand(&world).await.context("restart a container by hand")?;
                eprintln!("crash {index}: ours {crash:.3?}, by hand {floor:.3?}");
                our_crashes.push(crash.as_secs_f64());
                by_hand.push(floor.as_secs_f64());
            }
            Side::Swarm => {
                let crash = swarm.crash(&world).await.context("kill a container of the swarm")?;
                eprintln!("crash {index}: swarm {crash:.3?}");
                swarm_crashes.push(crash.as_secs_f64());
            }
        }
    }
    let [detected, answers] = [our_losses.detected, our_losses.answers].map(Samples::new);
    let [swarm_detected, swarm_answers] = [swarm_losses.detected, swarm_losses.answers].map(Samples::new);
    let [crashes, swarm_crashes, by_hand] = [our_crashes, swarm_crashes, by_hand].map(Samples::new);
    Ok([
        against_swarm("node loss until detected", &detected, &swarm_detected, 3.0),
        against_swarm("node loss until it answers elsewhere", &answers, &swarm_answers, 3.5),
        against_swarm("crash until it answers again", &crashes, &swarm_crashes, 0.3),
        vec![
            figure("crash until it answers again, median", crashes.median(), &crashes)
                .against(BY_HAND, by_hand.median())
                .aiming_at(Goal::RatioAtMost(1.3)),
        ],
    ]
    .concat())
}

fn against_swarm(what: &str, ours: &Samples, swarm: &Samples, at_most: f64) -> Vec<Figure> {
    vec![
        figure(&format!("{what}, median"), ours.median(), ours).against(SWARM, swarm.median()),
        // Of ten samples the p95 is the worst.
        figure(&format!("{what}, p95"), ours.p95(), ours)
            .against(SWARM, swarm.p95())
            .aiming_at(Goal::ValueAtMost { value: at_most, unit: "s" }),
    ]
}

fn figure(what: &str, value: f64, samples: &Samples) -> Figure {
    Figure::new(what.to_owned(), value, "s", samples.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_goal_is_for_the_worst_and_the_peer_is_compared_like_with_like() {
        let [ours, swarm] = [vec![2.0, 3.0, 3.5], vec![10.0, 12.0, 14.0]].map(Samples::new);
        let figures = against_swarm("loss", &ours, &swarm, 3.0);
        assert_eq!((figures[0].ratio, figures[0].met()), (Some(0.25), None));
        assert_eq!((figures[1].ratio, figures[1].met()), (Some(0.25), Some(false)));
    }
}
