//! Devices behind routers that translate addresses: instances on them call each other by the addresses of their service,
//! whatever the routers do, and NetManager tells by which way.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::time::sleep;

use super::{
    Bench,
    calls::{close, open, own_address, round_robin},
    traffic::Traffic,
    world::{RUNS_WITHIN, World, until},
};
use crate::lab::{
    layout::BIN,
    router::Translation::{self, KeepsPorts, Random},
    tool,
};

/// From the moment both instances run: by the relay if by nothing else.
const CALLED_WITHIN: f64 = 5.0;
/// A handshake that is repeated after five seconds, and some probes.
const WAY_WITHIN: Duration = Duration::from_secs(15);
/// Long enough for calls to meet each instance.
const A_WHILE: Duration = Duration::from_secs(1);
/// Where a relay is that has no address of its own.
const RELAY_PORT: u16 = 50105;

const HOSTS: [&str; 2] = ["c1w1", "c1w2"];

/// What is between each of the two hosts and the others, and by which way packets get from each to the other.
struct Case {
    what: &'static str,
    routers: [Option<Translation>; 2],
    ways: [&'static str; 2],
}

const CASES: [Case; 3] = [
    Case {
        what: "called, one behind translation",
        routers: [Some(KeepsPorts), None],
        ways: ["direct", "hole-punched"],
    },
    Case {
        what: "called, both behind translation",
        routers: [Some(KeepsPorts), Some(KeepsPorts)],
        ways: ["hole-punched", "hole-punched"],
    },
    Case {
        what: "called, both behind routers that choose ports by chance",
        routers: [Some(Random), Some(Random)],
        ways: ["relayed by", "relayed by"],
    },
];

pub(super) async fn nat(bench: &mut Bench) -> Result<()> {
    for case in CASES {
        let called = try_case(&mut bench.world, &case).await.context(case.what)?;
        bench.took(case.what, called, CALLED_WITHIN);
    }
    Ok(())
}

async fn try_case(world: &mut World, case: &Case) -> Result<Duration> {
    for (host, router) in HOSTS.into_iter().zip(case.routers) {
        if world.is_on(host)? {
            world.lab.power_off(host)?;
        }
        world.lab.translate(host, router)?;
        world.lab.power_on(host)?;
    }
    until("all workers live", RUNS_WITHIN, async || world.all_live().await.map(Some)).await?;
    let service = world.service(json!({})).await?;
    let others: Vec<String> =
        world.all_workers().into_iter().filter(|host| !HOSTS.contains(&host.as_str())).collect();
    close(world, &others).await?;
    for _ in HOSTS {
        world.deploy(&service).await?;
    }
    world.running(&service, HOSTS.len(), RUNS_WITHIN).await?;
    let begun = Instant::now();
    open(world, &others).await?;
    let mut addresses = vec![round_robin(world, &service).await?];
    for number in [0, 1] {
        addresses.push(own_address(world, &service, number).await?);
    }
    let copies = world.copies(&service).await?;
    ensure!(HOSTS.iter().all(|host| copies.iter().any(|copy| copy.host == *host)), "there are {copies:?}");
    // Each address by itself, from each host.
    let all = || -> Result<Vec<Traffic>> {
        let pairs = HOSTS.into_iter().flat_map(|host| addresses.iter().map(move |address| (host, *address)));
        pairs.map(|(host, address)| Traffic::on(&world.lab, host, vec![address])).collect()
    };
    until("all calls are answered", RUNS_WITHIN, async || {
        let traffic = all()?;
        sleep(Duration::from_millis(200)).await;
        ended(traffic)?;
        Ok(Some(()))
    })
    .await?;
    let called = begun.elapsed();
    let traffic = all()?;
    until("packets go the best way there is", WAY_WITHIN, async || {
        for (host, way) in HOSTS.into_iter().zip(case.ways) {
            let told = status(world, host)?;
            ensure!(told.contains(way), "{host} says: {told}");
            if way.starts_with("relayed") {
                let relay = format!("{way}  {}", world.address_of("c1", RELAY_PORT)?);
                ensure!(told.contains(&relay), "{host} says: {told}");
            }
        }
        Ok(Some(()))
    })
    .await?;
    sleep(A_WHILE).await;
    ended(traffic)?;
    Ok(called)
}

fn ended(traffic: Vec<Traffic>) -> Result<()> {
    // All of them, so that none goes on.
    let outcomes: Vec<Result<_>> = traffic.into_iter().map(Traffic::end_without_failures).collect();
    outcomes.into_iter().try_for_each(|outcome| outcome.map(drop))
}

/// What somebody would see who types `NetManager status` on a host.
fn status(world: &World, host: &str) -> Result<String> {
    let words = [format!("{BIN}/NetManager"), "status".to_owned()];
    tool::run(&mut world.lab.command_on(host, &words)?)
}
