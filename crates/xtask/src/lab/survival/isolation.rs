//! Applications are apart: instances of one reach those of another, in the same cluster or in another one, while the
//! service that is called lets them, and not before or after. Calls inside an application never notice.

use std::{
    fs::File,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::time::sleep;

use super::{
    Bench,
    calls::{close, open, own_address, round_robin},
    traffic::{self, Asked, Traffic},
    world::{RUNS_WITHIN, Service, World, until},
};

/// From the request until every device does as it says.
const CHANGED_WITHIN: f64 = 2.0;
/// Long enough for calls to meet each instance.
const A_WHILE: Duration = Duration::from_secs(1);

/// Everybody who asks, and everybody who is asked.
struct Calls {
    callers: Vec<(String, Arc<File>)>,
    callees: Vec<SocketAddr>,
}

pub(super) async fn isolation(bench: &mut Bench) -> Result<()> {
    let world = &mut bench.world;
    let (callee, caller) = (world.service(json!({})).await?, world.service(json!({})).await?);
    for service in [&callee, &caller] {
        one_in_each_cluster(world, service).await?;
    }
    let mut callees = round_robin(world, &callee).await?.to_vec();
    for number in [0, 1] {
        callees.extend(own_address(world, &callee, number).await?);
    }
    let calls = Calls { callers: networks(world, &caller).await?, callees };
    let service_of_its_own = calls.callees.clone();
    let mut inside = Vec::new();
    for (_, network) in networks(world, &callee).await? {
        inside.push(Traffic::within(network, service_of_its_own.clone()));
    }
    sleep(A_WHILE).await;
    calls.all(Asked::Refused).await?.context("nobody was allowed to connect")?;

    let allowed = format!("{}.survival", caller.name);
    let begun = Instant::now();
    world.change(&callee, json!({"allowed_callers": [allowed]})).await?;
    until("every call is answered", RUNS_WITHIN, async || calls.all(Asked::Answered).await?.map(Some))
        .await?;
    let answered = begun.elapsed();
    sleep(A_WHILE).await;
    calls.all(Asked::Answered).await?.context("they are still allowed")?;
    let back = Calls {
        callers: networks(world, &callee).await?,
        callees: round_robin(world, &caller).await?.to_vec(),
    };
    back.all(Asked::Refused).await?.context("nothing is allowed in the other direction")?;

    let begun = Instant::now();
    world.change(&callee, json!({})).await?;
    until("every call is refused", RUNS_WITHIN, async || calls.all(Asked::Refused).await?.map(Some)).await?;
    let refused = begun.elapsed();
    sleep(A_WHILE).await;
    calls.all(Asked::Refused).await?.context("they are not allowed any more")?;
    for client in inside {
        let outcome = client.end_without_failures().context("inside the application")?;
        eprintln!("    {} calls inside, the longest took {:?}", outcome.requests, outcome.longest);
    }
    bench.took("another application is answered once it is allowed", answered, CHANGED_WITHIN);
    bench.took("it is refused once it is not allowed any more", refused, CHANGED_WITHIN);
    Ok(())
}

impl Calls {
    /// Asks everybody from everywhere; `Err` tells the first that fares otherwise.
    async fn all(&self, expected: Asked) -> Result<Result<()>> {
        for (caller, network) in &self.callers {
            for callee in &self.callees {
                let asked = traffic::ask_within(Arc::clone(network), *callee).await?;
                if asked != expected {
                    return Ok(Err(anyhow::anyhow!("{caller} asked {callee} and was {asked:?}")));
                }
            }
        }
        Ok(Ok(()))
    }
}

/// Two instances, the first in the first cluster.
async fn one_in_each_cluster(world: &mut World, service: &Service) -> Result<()> {
    let (here, there) = (world.workers_of("c1"), world.workers_of("c2"));
    for (count, closed) in [(1, &there), (2, &here)] {
        close(world, closed).await?;
        world.deploy(service).await?;
        world.running(service, count, RUNS_WITHIN).await?;
        open(world, closed).await?;
    }
    Ok(())
}

/// Where the instances of a service speak from.
async fn networks(world: &World, service: &Service) -> Result<Vec<(String, Arc<File>)>> {
    let mut networks = Vec::new();
    for copy in world.copies(service).await? {
        let shown = world.inspect(&copy).await?;
        let process = shown["State"]["Pid"].as_u64().context("a container that runs has a process")?;
        let network = world.lab.network_of_process(&copy.host, process)?;
        networks.push((format!("{} on {}", copy.instance, copy.host), Arc::new(network)));
    }
    ensure!(networks.len() == 2, "there are {networks:?}");
    Ok(networks)
}
