//! Containers that end by themselves or are killed.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{
    Bench,
    world::{RUNS_WITHIN, until},
};

/// Killed by a signal: 128 + 9.
const KILLED: i64 = 137;

/// The first time it is started again at once, where it is.
pub(super) async fn crash(bench: &mut Bench) -> Result<()> {
    let world = &mut bench.world;
    let service = world.server(8080, json!({})).await?;
    world.deploy_on(&service, "c1w1").await?;
    let copy = world.one_copy(&service, RUNS_WITHIN).await?;
    let hosts = [copy.host.clone()];
    world.answers(&service, &hosts, RUNS_WITHIN).await?;
    let before = world.started(&copy).await?;
    let when = world.kill_container(&copy).await?;
    // Until the engine has noticed, what is listed is the one before.
    until("the container runs anew", RUNS_WITHIN, async || {
        Ok((world.started(&copy).await? != before).then_some(()))
    })
    .await?;
    let (_, answered) = world.answers(&service, &hosts, RUNS_WITHIN).await?;
    let seen = world
        .seen_until(&service, "the restart is told", RUNS_WITHIN, |seen| {
            seen.len() == 1 && seen[0].phase == "running" && seen[0].restarts == 1
        })
        .await?;
    let told = Instant::now();
    let last = seen[0].last_exit.as_ref().context("the last exit is not told")?;
    ensure!(last.code == KILLED, "it ended with {KILLED}, but {last:?} is told");
    let after = world.one_copy(&service, RUNS_WITHIN).await?;
    ensure!(after == copy, "it was made anew: {after:?}, not {copy:?}");
    bench.took("answers again", answered - when, 1.0);
    bench.took("running and counted again", told - when, 1.5);
    Ok(())
}

/// One that ends again and again waits longer each time; its last lines are kept. A one-shot is done.
pub(super) async fn exit(bench: &mut Bench) -> Result<()> {
    let world = &mut bench.world;
    let job = world.service(json!({"cmd": ["print", "that is all"], "one_shot": true})).await?;
    let failing = world.service(json!({"cmd": ["print", "so long"]})).await?;
    world.deploy(&job).await?;
    world.deploy(&failing).await?;
    let mut restarts = Vec::new();
    for count in 1..=4 {
        world
            .seen_until(&failing, &format!("restart {count} is told"), RUNS_WITHIN, |seen| {
                seen.iter().any(|one| one.restarts >= count)
            })
            .await?;
        restarts.push(Instant::now());
    }
    // The last lines are read after the end is told.
    world
        .seen_until(&failing, "its last lines are told", RUNS_WITHIN, |seen| {
            let last = seen.first().and_then(|one| one.last_exit.as_ref());
            last.is_some_and(|last| last.code == 0 && last.tail.contains("so long"))
        })
        .await?;
    let done = world.seen(&job).await?;
    ensure!(
        done.len() == 1 && done[0].status == "COMPLETED" && done[0].restarts == 0,
        "a one-shot that has ended is not told as completed: {done:?}"
    );
    // A fifth less at most, so that not all come back together; and the time to start and to tell.
    for (pair, (figure, wait)) in restarts.windows(2).zip([
        ("from the first restart to the second", 1.0),
        ("from the second restart to the third", 2.0),
        ("from the third restart to the fourth", 4.0),
    ]) {
        bench.took_between(figure, pair[1] - pair[0], wait * 0.75, wait + 1.0);
    }
    Ok(())
}
