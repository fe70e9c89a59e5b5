//! NodeEngine and NetManager are killed: containers and their traffic do not notice.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::time::sleep;

use super::{
    Bench,
    traffic::Traffic,
    world::{RUNS_WITHIN, until},
};
use crate::lab::{Process, Then};

/// Longer than it takes to notice a lost worker: nothing may come of it afterwards.
const AFTERMATH: Duration = Duration::from_secs(4);

pub(super) async fn agents(bench: &mut Bench) -> Result<()> {
    let world = &mut bench.world;
    let service = world.server(8080, json!({})).await?;
    world.deploy_on(&service, "c1w1").await?;
    let copy = world.one_copy(&service, RUNS_WITHIN).await?;
    let started = world.started(&copy).await?;
    let address = world.address(&service, "c1w1")?;
    world.answers(&service, &["c1w1".to_owned()], RUNS_WITHIN).await?;
    let traffic = Traffic::to(vec![address]);
    let mut adopted = Duration::ZERO;
    for killed in
        [&[Process::NodeEngine][..], &[Process::NetManager], &[Process::NodeEngine, Process::NetManager]]
    {
        let when = Instant::now();
        for process in killed {
            world.lab.kill("c1w1", *process, Then::Restart)?;
        }
        // Adopted is what can be acted on: an exit would be seen, a removal carried out.
        until("the worker is connected again", RUNS_WITHIN, async || {
            let worker = world.worker("c1w1").await?;
            Ok((worker.alive && worker.silent_ms.is_some_and(|silent| silent < 1000)).then_some(()))
        })
        .await?;
        world.running(&service, 1, RUNS_WITHIN).await?;
        adopted = adopted.max(when.elapsed());
        sleep(AFTERMATH).await;
    }
    let outcome = traffic.end_without_failures()?;
    eprintln!("    {} requests, the longest took {:?}", outcome.requests, outcome.longest);
    let after = world.one_copy(&service, RUNS_WITHIN).await?;
    ensure!(after == copy, "it was made anew: {after:?}, not {copy:?}");
    ensure!(world.started(&after).await? == started, "it was started again");
    ensure!(world.seen(&service).await?[0].restarts == 0, "a restart is told that was none");
    let when = Instant::now();
    world.delete(&format!("/api/service/{}/instance/-1", service.id)).await?;
    until("the container is gone", RUNS_WITHIN, async || {
        Ok(world.copies(&service).await?.is_empty().then_some(()))
    })
    .await?;
    bench.took("the worker is there again", adopted, 3.0);
    bench.took("an adopted container is removed", when.elapsed(), 12.0);
    Ok(())
}
