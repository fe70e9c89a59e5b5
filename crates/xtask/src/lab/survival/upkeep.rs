//! Drain, cordon and rebalance: nobody who asks notices.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::time::sleep;

use super::{
    Bench,
    traffic::Traffic,
    world::{RUNS_WITHIN, Seen, World, until},
};
use crate::bench::http::{Body, Method};

/// A process that is asked to end has ten seconds.
const MOVED_WITHIN: f64 = 15.0;

pub(super) async fn drain(bench: &mut Bench) -> Result<()> {
    let world = &mut bench.world;
    let there = json!({"constraints": [{"type": "direct", "cluster": "c1"}]});
    let service = world.server(8080, there.clone()).await?;
    for _ in 0..2 {
        world.deploy(&service).await?;
    }
    let seen = world.running(&service, 2, RUNS_WITHIN).await?;
    let traffic = Traffic::to(addresses(&seen));
    sleep(Duration::from_secs(1)).await;
    let drained = world.copies(&service).await?[0].host.clone();
    let begun = Instant::now();
    world.schedule(&drained, "drain").await?;
    until("nothing is left on the worker", RUNS_WITHIN, async || {
        traffic.turn_to(addresses(&world.seen(&service).await?));
        Ok((world.worker(&drained).await?.instances == 0).then_some(()))
    })
    .await?;
    let moved = begun.elapsed();
    sleep(Duration::from_secs(1)).await;
    let outcome = traffic.end_without_failures()?;
    eprintln!("    {} requests, the longest took {:?}", outcome.requests, outcome.longest);
    let copies = world.copies(&service).await?;
    ensure!(
        copies.len() == 2 && copies.iter().all(|copy| copy.running && copy.host != drained),
        "{drained} was drained, but there are {copies:?}"
    );

    // It takes nothing until it is opened again.
    let more = world.service(there).await?;
    for _ in 0..6 {
        world.deploy(&more).await?;
    }
    world.running(&more, 6, RUNS_WITHIN).await?;
    let spread = by_host(world).await?;
    ensure!(!spread.contains_key(&drained), "{drained} is closed, but there are {spread:?}");
    world.schedule(&drained, "uncordon").await?;
    let seen = world.seen(&service).await?;
    let traffic = Traffic::to(addresses(&seen));
    let (begun, mut all) = (Instant::now(), 0);
    // Each time at most one instance of each service moves.
    let to_it = until("nothing is left to move", RUNS_WITHIN, async || {
        let answer = world.ask(Method::POST, "/api/cluster/c1/rebalance", Body::Empty).await?;
        let moving = answer["instances"].as_u64().context("it is not told how many move")?;
        all += moving;
        until("they have moved", RUNS_WITHIN, async || {
            traffic.turn_to(addresses(&world.seen(&service).await?));
            let copies = world.all_copies().await?.len();
            ensure!(copies == 8, "there are {copies} copies of 8 instances");
            Ok(Some(()))
        })
        .await?;
        Ok((moving == 0).then_some(all))
    })
    .await?;
    ensure!(to_it > 0, "{drained} is empty, and nothing moves to it");
    until("as many are on each, more or less", RUNS_WITHIN, async || {
        let spread = by_host(world).await?;
        let hosts = world.workers_of("c1");
        let counts = || hosts.iter().map(|host| spread.get(host).copied().unwrap_or(0));
        let (least, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
        // Two copies of one that is moving are on their way.
        ensure!(counts().sum::<usize>() == 8 && most - least <= 1, "there are {spread:?}");
        Ok(Some(()))
    })
    .await?;
    let balanced = begun.elapsed();
    traffic.end_without_failures()?;
    world.running(&more, 6, RUNS_WITHIN).await?;
    world.running(&service, 2, RUNS_WITHIN).await?;
    bench.took("a drained worker is empty", moved, MOVED_WITHIN);
    bench.took("a cluster is balanced", balanced, MOVED_WITHIN);
    Ok(())
}

/// What a client knows: the instances that the root tells as running.
fn addresses(seen: &[Seen]) -> Vec<SocketAddr> {
    let address = |one: &Seen| Some(SocketAddr::new(one.publicip.parse().ok()?, 8080));
    seen.iter().filter_map(address).collect()
}

async fn by_host(world: &World) -> Result<BTreeMap<String, usize>> {
    let mut spread = BTreeMap::new();
    for copy in world.all_copies().await? {
        *spread.entry(copy.host).or_default() += 1;
    }
    Ok(spread)
}
