//! From the request for instances until a caller on another device has had an answer of each of them by the address of
//! their service: ours, and Docker Swarm's by name. Both have two devices for them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use super::{
    Extent, TRUSTED,
    calls::Calls,
    ours::{self, Called},
    overlay::{self, Overlay},
    place::Place,
};
use crate::{
    bench::{
        figure::{Figure, Goal},
        recovery::SWARM,
        statistics::{Samples, interleaved},
    },
    lab::survival::world::{RUNS_WITHIN, World, until},
};

const NAME: &str = "burst";
/// Small against what is measured.
const CALL_EVERY: Duration = Duration::from_millis(2);
/// How many at once, and how often as fast as Swarm: rows of the reference, which asks for less of many, as the container engine
/// makes them one after another for both.
const GOALS: [(usize, f64); 2] = [(1, 4.0), (20, 2.3)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Ours,
    Swarm,
}

/// An instance that calls, and the service that is deployed.
#[derive(Debug)]
struct Ours {
    caller: Place,
    called: Called,
}

pub(super) async fn measure(world: &mut World, swarm: &mut Overlay, extent: &Extent) -> Result<Vec<Figure>> {
    let services = [("caller", ours::on(TRUSTED, Some("c1w1"))), (NAME, ours::on(TRUSTED, None))];
    let made = ours::application(world, "deploy", &services).await?;
    let [caller, called]: [Called; 2] = made.try_into().ok().context("there are two services")?;
    let ours = Ours { caller: ours::deploy(world, &caller.service).await?, called };
    let mut figures = Vec::new();
    for ((instances, times), rounds) in GOALS.into_iter().zip([extent.deploys, extent.bursts]) {
        let (mut our_times, mut swarm_times) = (Vec::new(), Vec::new());
        for side in interleaved(&[Side::Ours, Side::Swarm], rounds) {
            let took = match side {
                Side::Ours => ours.deploy(world, instances).await.context("deploy ours")?,
                Side::Swarm => deploy_swarm(world, swarm, instances).await.context("deploy on the swarm")?,
            };
            eprintln!("deploy {instances}, {side:?}: {took:.3?}");
            match side {
                Side::Ours => our_times.push(took.as_secs_f64()),
                Side::Swarm => swarm_times.push(took.as_secs_f64()),
            }
        }
        figures.extend(compared(instances, times, &Samples::new(our_times), &Samples::new(swarm_times)));
    }
    Ok(figures)
}

/// `times` is how often as fast as Swarm it is to be.
fn compared(instances: usize, times: f64, ours: &Samples, swarm: &Samples) -> [Figure; 2] {
    let figure = |what: &str, value| {
        Figure::new(format!("deploy {instances} until all answer, {what}"), value, "s", ours.count())
    };
    [
        figure("median", ours.median())
            .against(SWARM, swarm.median())
            .aiming_at(Goal::RatioAtMost(1.0 / times)),
        figure("p95", ours.p95()).against(SWARM, swarm.p95()),
    ]
}

impl Ours {
    async fn deploy(&self, world: &mut World, instances: usize) -> Result<Duration> {
        let Called { service, address } = &self.called;
        let address = *address;
        let calls = Calls::start(&self.caller, CALL_EVERY, move || Ok(address))?;
        let begun = Instant::now();
        // In one request, as for Swarm.
        world.post(&format!("/api/service/{}/scale", service.id), json!({ "instances": instances })).await?;
        let answered = all_answer(&calls, instances).await?;
        calls.end()?;
        world.delete(&format!("/api/service/{}/instance/-1", service.id)).await?;
        until("all instances are removed", RUNS_WITHIN, async || {
            Ok(world.copies(service).await?.is_empty().then_some(()))
        })
        .await?;
        Ok(answered - begun)
    }
}

async fn deploy_swarm(world: &World, swarm: &mut Overlay, instances: usize) -> Result<Duration> {
    let calls = Calls::start(&swarm.caller, CALL_EVERY, || overlay::address(NAME))?;
    let begun = Instant::now();
    swarm.create(NAME, instances).await?;
    let answered = all_answer(&calls, instances).await?;
    calls.end()?;
    swarm.remove(world, NAME).await?;
    Ok(answered - begun)
}

/// When the last of so many answered first.
async fn all_answer(calls: &Calls, instances: usize) -> Result<Instant> {
    until(&format!("{instances} instances answer"), RUNS_WITHIN, async || {
        let first = calls.first_answers();
        Ok((first.len() >= instances).then(|| first.into_values().max()).flatten())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_goal_is_so_many_times_as_fast() {
        let met = |ours| compared(1, 4.0, &Samples::new(vec![ours]), &Samples::new(vec![1.0]))[0].met();
        assert_eq!((met(0.25), met(0.26)), (Some(true), Some(false)));
    }
}
