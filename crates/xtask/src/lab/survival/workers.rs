//! Workers that are lost, what services want then, and what happens when they return.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::time::sleep;

use super::{
    Bench,
    traffic::Traffic,
    world::{RUNS_WITHIN, Service, World, until},
};

/// Who is watched loses its power, all others have the image.
const VICTIM: &str = "c1w1";
/// A process that is asked to end has ten seconds, and the engine some to say so.
const ONE_LEFT_WITHIN: f64 = 15.0;

/// Power-off: noticed and replaced.
pub(super) async fn lost(bench: &mut Bench) -> Result<()> {
    let world = &mut bench.world;
    let service = world.server(8080, json!({})).await?;
    world.deploy_on(&service, VICTIM).await?;
    let others = world.workers_of_but("c1", VICTIM);
    let when = world.lab.power_off(VICTIM)?;
    let noticed = world.lost(VICTIM, RUNS_WITHIN).await?;
    let (host, answered) = world.answers(&service, &others, RUNS_WITHIN).await?;
    let seen = world.running(&service, 1, RUNS_WITHIN).await?;
    let told = Instant::now();
    let address = world.address(&service, &host)?.ip().to_string();
    ensure!(seen[0].publicip == address, "it answers at {address}, but the root tells {seen:?}");
    bench.took("noticed", noticed - when, 3.0);
    bench.took("answers from another worker", answered - when, 4.0);
    bench.took("told as running", told - when, 4.0);
    Ok(())
}

/// Four services with a policy each, on a worker that is cut off and goes on.
pub(super) async fn on_partition(bench: &mut Bench) -> Result<()> {
    let world = &mut bench.world;
    let at_once = world.server(8080, json!({})).await?;
    let kept = world.server(8081, json!({"on_partition": "keep"})).await?;
    let later = world.server(8082, json!({"on_partition": "replace_after(8s)"})).await?;
    let fenced = world.server(8083, json!({"on_partition": "stop_after(6s)"})).await?;
    let all = [at_once, kept, later, fenced];
    for service in &all {
        world.deploy_on(service, VICTIM).await?;
    }
    let [at_once, kept, later, fenced] = &all;
    let others = world.workers_of_but("c1", VICTIM);
    let original = world.one_copy(kept, RUNS_WITHIN).await?;
    let started = world.started(&original).await?;

    let when = world.lab.cut(VICTIM)?;
    let (_, first) = world.answers(at_once, &others, RUNS_WITHIN).await?;
    let stopped = until("it is stopped on the worker that is cut off", RUNS_WITHIN, async || {
        let copies = world.copies(fenced).await?;
        ensure!(copies.len() <= 1, "there is another before it has stopped: {copies:?}");
        Ok(copies.iter().all(|copy| !copy.running).then(Instant::now))
    })
    .await?;
    let (_, second) = world.answers(later, &others, RUNS_WITHIN).await?;
    let fenced_again = until("another worker gets it", RUNS_WITHIN, async || {
        let copies = world.copies(fenced).await?;
        let running = copies.iter().filter(|copy| copy.running).count();
        ensure!(running <= 1, "two run at once: {copies:?}");
        Ok((running == 1).then(Instant::now))
    })
    .await?;
    let copies = world.copies(kept).await?;
    ensure!(copies == [original.clone()], "on_partition is `keep`, but there are {copies:?}");
    let seen = world.seen(kept).await?;
    ensure!(seen[0].phase == "lost" && seen[0].detail.contains("keep"), "it is told as {seen:?}");

    let healed = world.lab.heal(VICTIM)?;
    for service in &all {
        world.running(service, 1, RUNS_WITHIN).await?;
        world.one_copy(service, RUNS_WITHIN).await?;
    }
    let one_left = Instant::now();
    let after = world.one_copy(kept, RUNS_WITHIN).await?;
    ensure!(after == original && world.started(&after).await? == started, "it was started again");
    bench.took("replace_after(0s): answers from another worker", first - when, 4.0);
    // Counted from the last sign of life, which is up to a second older than the cut.
    bench.took_between("replace_after(8s): answers from another worker", second - when, 7.0, 10.0);
    bench.took_between("stop_after(6s): stopped where it was", stopped - when, 4.5, 9.0);
    bench.took_between("stop_after(6s): runs on another worker", fenced_again - when, 20.0, 24.0);
    bench.took("one copy of each after the return", one_left - healed, ONE_LEFT_WITHIN);
    Ok(())
}

/// Cut off and plugged in again, then off and on again: `on_rejoin` says which copy stays.
pub(super) async fn returns(bench: &mut Bench) -> Result<()> {
    let replacement = bench.world.server(8080, json!({"on_rejoin": "keep_replacement"})).await?;
    let original = bench.world.server(8081, json!({"on_rejoin": "keep_original"})).await?;
    let away: fn(&World) -> Result<Instant> = |world| world.lab.cut(VICTIM);
    let back: fn(&World) -> Result<Instant> = |world| world.lab.heal(VICTIM);
    let time = one_is_left(&mut bench.world, &replacement, &original, away, back, true).await?;
    bench.took("one copy after a cut", time, ONE_LEFT_WITHIN);
    for service in [&replacement, &original] {
        bench.world.delete(&format!("/api/service/{}/instance/-1", service.id)).await?;
    }
    bench.world.rest().await?;

    let replacement = bench.world.server(8080, json!({"on_rejoin": "keep_replacement"})).await?;
    let original = bench.world.server(8081, json!({"on_rejoin": "keep_original"})).await?;
    let away: fn(&World) -> Result<Instant> = |world| world.lab.power_off(VICTIM);
    let back: fn(&World) -> Result<Instant> = |world| world.lab.power_on(VICTIM);
    let time = one_is_left(&mut bench.world, &replacement, &original, away, back, false).await?;
    // An engine boots on the way.
    bench.took("one copy after a boot", time, 2.0 * ONE_LEFT_WITHIN);
    Ok(())
}

/// Requests go on all the while: what stays answers before the other stops.
async fn one_is_left(
    world: &mut World,
    replacement: &Service,
    original: &Service,
    away: fn(&World) -> Result<Instant>,
    back: fn(&World) -> Result<Instant>,
    stays_on: bool,
) -> Result<Duration> {
    world.deploy_on(replacement, VICTIM).await?;
    world.deploy_on(original, VICTIM).await?;
    let before = world.one_copy(original, RUNS_WITHIN).await?;
    let started = world.started(&before).await?;
    let others = world.workers_of_but("c1", VICTIM);
    away(world)?;
    let (stays, _) = world.answers(replacement, &others, RUNS_WITHIN).await?;
    let (goes, _) = world.answers(original, &others, RUNS_WITHIN).await?;
    let to_replacement = Traffic::to(vec![world.address(replacement, &stays)?]);
    let to_original = Traffic::to(vec![world.address(original, &goes)?, world.address(original, VICTIM)?]);
    // A copy that runs for a while is one that somebody relies on.
    sleep(Duration::from_secs(2)).await;
    let when = back(world)?;
    let one = async |service: &Service, host: &str| {
        until(&format!("one copy is left, on {host}"), RUNS_WITHIN, async || {
            let copies = world.copies(service).await?;
            ensure!(copies.len() == 1 && copies[0].running && copies[0].host == host, "there are {copies:?}");
            Ok(copies.into_iter().next())
        })
        .await
    };
    one(replacement, &stays).await?;
    let after = one(original, VICTIM).await;
    let time = when.elapsed();
    let after = after?;
    to_replacement.end_without_failures()?;
    to_original.end_without_failures()?;
    if stays_on {
        ensure!(after == before, "the original was made anew: {after:?}, not {before:?}");
        ensure!(world.started(&after).await? == started, "the original was started again");
    }
    for service in [replacement, original] {
        world.running(service, 1, RUNS_WITHIN).await?;
    }
    Ok(time)
}

/// The last assignment runs, whoever is away.
pub(super) async fn boot_alone(bench: &mut Bench) -> Result<()> {
    let world = &mut bench.world;
    let service = world.server(8080, json!({"cluster_lost_after": "never"})).await?;
    world.deploy_on(&service, VICTIM).await?;
    world.lab.power_off("c1")?;
    world.lab.power_off(VICTIM)?;
    world.lab.power_on(VICTIM)?;
    let engine = world.lab.engine(VICTIM)?;
    let engine_answers = until("the engine answers", RUNS_WITHIN, async || {
        engine.version().await?;
        Ok(Some(Instant::now()))
    })
    .await?;
    let (_, answered) = world.answers(&service, &[VICTIM.to_owned()], RUNS_WITHIN).await?;
    let copy = world.one_copy(&service, RUNS_WITHIN).await?;
    let started = world.started(&copy).await?;
    world.lab.power_on("c1")?;
    world.running(&service, 1, RUNS_WITHIN).await?;
    // What the cluster might do wrong it does by then.
    sleep(Duration::from_secs(3)).await;
    let after = world.one_copy(&service, RUNS_WITHIN).await?;
    ensure!(after == copy && world.started(&after).await? == started, "it was started again");
    bench.took("answers after its engine does", answered.saturating_duration_since(engine_answers), 10.0);
    Ok(())
}
