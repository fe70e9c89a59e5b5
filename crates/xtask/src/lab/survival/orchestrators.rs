//! A cluster orchestrator or the root is down for a while: who is left goes on.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::time::sleep;

use super::{
    Bench,
    engines::Copy,
    traffic::Traffic,
    world::{RUNS_WITHIN, Service, World, until},
};
use crate::lab::{Process, Then, host::Host, join, plan::Plan};

/// How long it is down in the quick and in the slow trials.
const DOWN_FOR: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(90)];
/// Daemons dial again after up to half a minute.
const CATCHES_UP_WITHIN: f64 = 35.0;

/// What runs goes on, what is asked for waits.
pub(super) async fn cluster_down(bench: &mut Bench) -> Result<()> {
    let down_for = DOWN_FOR[usize::from(bench.slow)];
    let world = &mut bench.world;
    let there = json!({"constraints": [{"type": "direct", "cluster": "c1"}]});
    let service = world.server(8080, there.clone()).await?;
    let later = world.server(8081, there).await?;
    for _ in 0..2 {
        world.deploy(&service).await?;
    }
    world.running(&service, 2, RUNS_WITHIN).await?;
    let before = with_starts(world, &service).await?;
    let mut addresses = Vec::new();
    for (copy, _) in &before {
        addresses.push(world.address(&service, &copy.host)?);
    }
    let traffic: Vec<Traffic> = addresses.into_iter().map(|address| Traffic::to(vec![address])).collect();

    world.lab.kill("c1", Process::Cluster, Then::Nothing)?;
    sleep(down_for / 2).await;
    world.deploy(&later).await?;
    sleep(down_for / 2).await;
    let queued = world.seen(&later).await?;
    ensure!(queued[0].phase != "running" && !queued[0].detail.is_empty(), "it is told as {queued:?}");
    let when = world.lab.start("c1", Process::Cluster)?;
    world.running(&later, 1, RUNS_WITHIN).await?;
    let caught_up = when.elapsed();
    world.running(&service, 2, RUNS_WITHIN).await?;
    // By then it has judged workers that it has not heard of.
    sleep(Duration::from_secs(17)).await;
    for client in traffic {
        client.end_without_failures()?;
    }
    let after = with_starts(world, &service).await?;
    ensure!(after == before, "something was restarted: {after:?}, not {before:?}");
    bench.took("what waited runs after the return", caught_up, CATCHES_UP_WITHIN);
    Ok(())
}

/// All containers of a service, with the times of their starts.
async fn with_starts(world: &World, service: &Service) -> Result<Vec<(Copy, String)>> {
    let mut all = Vec::new();
    for copy in world.copies(service).await? {
        let started = world.started(&copy).await?;
        all.push((copy, started));
    }
    all.sort();
    Ok(all)
}

/// The cluster replaces what a lost worker had.
pub(super) async fn root_down(bench: &mut Bench) -> Result<()> {
    let world = &mut bench.world;
    let service = world.server(8080, json!({})).await?;
    world.deploy_on(&service, "c1w1").await?;
    let others = world.workers_of_but("c1", "c1w1");
    world.lab.kill("root", Process::Root, Then::Nothing)?;
    sleep(Duration::from_secs(3)).await;
    let when = world.lab.power_off("c1w1")?;
    let (host, answered) = world.answers(&service, &others, RUNS_WITHIN).await?;
    let copy = world.one_copy(&service, RUNS_WITHIN).await?;
    let started = world.started(&copy).await?;
    let back = world.lab.start("root", Process::Root)?;
    world.running(&service, 1, RUNS_WITHIN).await?;
    let caught_up = back.elapsed();
    sleep(Duration::from_secs(3)).await;
    let after = world.one_copy(&service, RUNS_WITHIN).await?;
    ensure!(after.host == host && world.started(&after).await? == started, "it was started again");
    bench.took("a lost worker's instance answers from another", answered - when, 4.0);
    bench.took("the root tells it after its return", caught_up, CATCHES_UP_WITHIN);
    Ok(())
}

/// A worker that was installed anew joins its cluster with a token, and is given work, without the root.
pub(super) async fn enrol(bench: &mut Bench) -> Result<()> {
    const NEWCOMER: &str = "c1w3";
    let world = &mut bench.world;
    let wanted = json!({"kind": "worker", "cluster": "c1", "uses": 1});
    let token = world.post("/api/tokens", wanted).await?;
    let token = token["token"].as_str().context("the root's answer has no token")?.to_owned();
    let former = world.worker(NEWCOMER).await?.id;
    world.lab.power_off(NEWCOMER)?;
    world.lost(NEWCOMER, RUNS_WITHIN).await?;
    world.delete(&format!("/api/cluster/c1/worker/{former}")).await?;
    let host = world.lab.host(NEWCOMER)?;
    forget_itself(world, host)?;

    world.lab.kill("root", Process::Root, Then::Nothing)?;
    sleep(Duration::from_secs(3)).await;
    world.lab.power_on(NEWCOMER)?;
    let level = std::env::var("MANGROVE_LOG").ok();
    let plan = Plan::of(world.lab.shape, host, Some(&token), level.as_deref());
    let engine = world.lab.engine(NEWCOMER)?;
    until("the engine answers", RUNS_WITHIN, async || engine.version().await.map(Some)).await?;
    let when = Instant::now();
    join::boot(&world.lab, host, &plan)?;
    let log = world.lab.layout.host(Host::Cluster(1)).log().join("cluster.log");
    let joined = until("the worker joins", RUNS_WITHIN, async || {
        let told = fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
        Ok(told.contains("a worker joined while the root is away").then(Instant::now))
    })
    .await?;
    world.lab.start("root", Process::Root)?;
    until("all clusters are back at the root", RUNS_WITHIN, async || {
        world.all_live().await?;
        Ok(Some(()))
    })
    .await?;
    let id = world.worker(NEWCOMER).await?.id;
    ensure!(id != former, "it came back as it was: nothing is shown by that");
    let service = world.server(8080, json!({})).await?;
    world.deploy_on(&service, NEWCOMER).await?;
    world.answers(&service, &[NEWCOMER.to_owned()], RUNS_WITHIN).await?;
    bench.took("joined", joined - when, 5.0);
    Ok(())
}

/// A host whose device was installed anew: no key, no last assignment. Its engine keeps the image.
fn forget_itself(world: &World, host: Host) -> Result<()> {
    let folder = world.lab.layout.host(host);
    for daemon in ["node-engine", "net-manager"] {
        let state = folder.disk().join("mangrove").join(daemon);
        fs::remove_dir_all(&state).with_context(|| format!("remove {}", state.display()))?;
    }
    // So that the power alone does not start what would join.
    let plan = serde_json::to_vec(&Plan::before_joining(host))?;
    fs::write(folder.plan(), plan).context("write the plan of a host")
}
