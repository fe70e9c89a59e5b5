//! The first instruction of a container is a call to a service that its device has never heard of: it is answered, at the
//! first packet. Nothing but real containers behind real NetManagers tells.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{
    Bench,
    calls::{close, open, round_robin},
    world::RUNS_WITHIN,
};

/// Each by an application of its own, so that its device knows nothing yet.
const CALLS: usize = 5;
/// To place and start a container, and to hear that it has ended.
const ANSWERED_WITHIN: f64 = 5.0;

pub(super) async fn first_packet(bench: &mut Bench) -> Result<()> {
    let world = &mut bench.world;
    let in_one_cluster = json!([{"type": "direct", "cluster": "c1"}]);
    let callee =
        world.service(json!({"constraints": in_one_cluster.clone(), "allowed_callers": ["*"]})).await?;
    world.deploy(&callee).await?;
    world.running(&callee, 1, RUNS_WITHIN).await?;
    let addresses = round_robin(world, &callee).await?.map(|address| address.to_string());
    // Whoever calls is on another device.
    let home = [world.copies(&callee).await?[0].host.clone()];
    close(world, &home).await?;
    let mut times = Vec::new();
    for call in 1..=CALLS {
        // By either version of IP.
        let address = &addresses[call % 2];
        let fields =
            json!({"constraints": in_one_cluster.clone(), "cmd": ["call", address], "one_shot": true});
        let caller = world.service(fields).await?;
        let begun = Instant::now();
        world.deploy(&caller).await?;
        // `hello call` waits for less than the second after which the kernel sends a first packet again, and asks once.
        let seen = world
            .seen_until(&caller, "the caller has ended", RUNS_WITHIN, |seen| {
                seen.iter().any(|one| one.status == "COMPLETED" || one.restarts > 0)
            })
            .await?;
        times.push(begun.elapsed());
        let [caller] = &seen[..] else { anyhow::bail!("there should be one caller, not {seen:?}") };
        ensure!(
            caller.status == "COMPLETED" && caller.restarts == 0,
            "call {call} was not answered at once: {caller:?}"
        );
    }
    open(world, &home).await?;
    let longest = times.into_iter().max().context("nobody called")?;
    bench.took("an instance that calls at its first instruction is done", longest, ANSWERED_WITHIN);
    Ok(())
}
