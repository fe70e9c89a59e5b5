//! A whole cluster is lost and returns; nobody has room, and then somebody has.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::{
    Bench,
    world::{RUNS_WITHIN, until},
};

/// All of c2 loses its power: orchestrator and workers.
pub(super) async fn lost(bench: &mut Bench) -> Result<()> {
    let (after, within) = if bench.slow { (60.0, Duration::from_secs(90)) } else { (20.0, RUNS_WITHIN) };
    let world = &mut bench.world;
    // The default is a minute; below 15 s the root does not call a cluster silent.
    let fields = if bench.slow { json!({}) } else { json!({"cluster_lost_after": "20s"}) };
    let service = world.server(8080, fields).await?;
    world.deploy_on(&service, "c2w1").await?;
    let survivors = world.workers_of("c1");
    let mut hosts = world.workers_of("c2");
    hosts.push("c2".to_owned());
    for host in &hosts {
        world.lab.power_off(host)?;
    }
    let off = Instant::now();
    let (host, answered) = world.answers(&service, &survivors, within).await?;
    world.running(&service, 1, RUNS_WITHIN).await?;
    let back = Instant::now();
    for host in &hosts {
        world.lab.power_on(host)?;
    }
    until("all workers live", RUNS_WITHIN * 2, async || {
        world.all_live().await?;
        Ok(Some(()))
    })
    .await?;
    let copy = world.one_copy(&service, RUNS_WITHIN).await?;
    ensure!(copy.host == host, "the replacement should stay, on {host}, but {copy:?} is left");
    let one_left = Instant::now();
    let seen = world.running(&service, 1, RUNS_WITHIN).await?;
    let address = world.address(&service, &host)?.ip().to_string();
    ensure!(seen[0].publicip == address, "it answers at {address}, but the root tells {seen:?}");
    // The last sign of life is a report, which may be seconds older than the outage.
    let figure = if bench.slow {
        "answers from another cluster (60 s)"
    } else {
        "answers from another cluster (20 s)"
    };
    bench.took_between(figure, answered - off, after - 6.0, after + 3.0);
    // Three engines boot on the way.
    bench.took("one copy after the return", one_left - back, 40.0);
    Ok(())
}

/// A cluster that declines is not the last to be asked; a refusal says why, and is looked at again.
pub(super) async fn no_room(bench: &mut Bench) -> Result<()> {
    let world = &mut bench.world;
    // The root does not know who has which workers.
    let choosy = world.server(8090, json!({"constraints": [{"type": "direct", "node": "c2w1"}]})).await?;
    world.deploy(&choosy).await?;
    world.running(&choosy, 1, RUNS_WITHIN).await?;
    let copy = world.one_copy(&choosy, RUNS_WITHIN).await?;
    ensure!(copy.host == "c2w1", "the constraint names c2w1, but it is on {}", copy.host);

    let nowhere =
        world.server(8091, json!({"constraints": [{"type": "direct", "cluster": "nowhere"}]})).await?;
    world.deploy(&nowhere).await?;
    let refused = world
        .seen_until(&nowhere, "it is refused", RUNS_WITHIN, |seen| {
            seen.iter().all(|one| one.phase == "refused")
        })
        .await?;
    let reason = refused[0].reason.clone().unwrap_or_default();
    ensure!(reason["code"] == "NoTargetCluster", "the reason is {reason}");

    // One for each port 8080 that there is.
    let service = world.server(8080, json!({})).await?;
    world.lab.power_off("c2w3")?;
    world.lost("c2w3", RUNS_WITHIN).await?;
    let room = world.all_workers().len() - 1;
    for _ in 0..=room {
        world.deploy(&service).await?;
    }
    let told = world
        .seen_until(&service, "all but one run, and that one is refused", RUNS_WITHIN, |seen| {
            let count = |phase: &str| seen.iter().filter(|one| one.phase == phase).count();
            seen.len() == room + 1 && count("running") == room && count("refused") == 1
        })
        .await?;
    let reasons: Vec<_> = told.iter().filter_map(|one| one.reason.clone()).collect();
    ensure!(
        reasons.len() == 1
            && reasons[0]["code"] == "NoResourcesAvailable"
            && reasons[0]["candidates"].as_array().is_some_and(|all| all.len() == 2),
        "the reasons are {reasons:?}"
    );
    world.lab.power_on("c2w3")?;
    until("c2w3 lives", RUNS_WITHIN, async || Ok(world.worker("c2w3").await?.alive.then_some(()))).await?;
    let there = Instant::now();
    world.running(&service, room + 1, RUNS_WITHIN).await?;
    let placed = there.elapsed();
    bench.took("placed when a worker has come", placed, 5.0);

    let world = &mut bench.world;
    let another = world.deploy(&service).await?;
    world
        .seen_until(&service, "there is no room for another", RUNS_WITHIN, |seen| {
            seen.iter().any(|one| one.number == another && one.phase == "refused")
        })
        .await?;
    let when = Instant::now();
    world.delete(&format!("/api/service/{}/instance/{}", service.id, told[0].number)).await?;
    world.running(&service, room + 1, RUNS_WITHIN).await?;
    bench.took("placed when another one has gone", when.elapsed(), 15.0);
    Ok(())
}
