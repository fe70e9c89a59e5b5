//! A service is called by its address, from one device to instances on all: nobody who calls notices that instances come
//! and go, that agents and orchestrators are killed, and only those who were just speaking to it that a device is lost.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{interval, sleep},
};

use super::{
    Bench,
    connections::connect,
    pings::Pings,
    traffic::{Outcome, Traffic},
    world::{HELLO, RUNS_WITHIN, Seen, Service, World, until},
};
use crate::lab::{Process, Then};

/// From the moment the cluster knows of a loss until calls go elsewhere.
const ELSEWHERE_WITHIN: f64 = 1.0;
/// From then on until a connection to what is lost is reset: what it says is sent again after 0.2, 0.4 and 0.8 s.
const RESET_WITHIN: f64 = 2.0;
/// From the moment the root knows that an instance is ready until another cluster's devices lead calls to it.
const ACROSS_WITHIN: f64 = 2.0;
/// Long enough for calls to meet each instance.
const A_WHILE: Duration = Duration::from_secs(2);

/// When an instance may be called: without this it is as soon as it runs, which is a moment before it listens.
fn ready() -> Value {
    json!({"ready": {"tcp": {"port": HELLO}, "interval": "100ms"}})
}

pub(super) async fn calls(bench: &mut Bench) -> Result<()> {
    let world = &mut bench.world;
    let fields = json!({"constraints": [{"type": "direct", "cluster": "c1"}], "health": ready()});
    let service = world.service(fields).await?;
    for _ in 0..2 {
        world.deploy(&service).await?;
    }
    world.all_ready(&service, 2, RUNS_WITHIN).await?;
    let caller = world.copies(&service).await?[0].host.clone();
    let addresses = round_robin(world, &service).await?;
    let traffic = one_each(world, &caller, &addresses)?;
    sleep(A_WHILE).await;
    for _ in 0..2 {
        world.deploy(&service).await?;
    }
    world.all_ready(&service, 4, RUNS_WITHIN).await?;
    sleep(A_WHILE).await;
    let mut pinged = addresses.to_vec();
    for seen in world.seen(&service).await? {
        pinged.extend(own_address(world, &service, seen.number).await?);
    }
    let pings = Pings::on(&world.lab, &caller, pinged.iter().map(SocketAddr::ip).collect())?;
    for host in world.workers_of("c1") {
        world.lab.kill(&host, Process::NetManager, Then::Restart)?;
    }
    sleep(A_WHILE).await;
    let packets = pings.end_without_loss()?;
    eprintln!("    {packets} packets both ways while NetManagers were killed and started again");
    for number in newest_two(&world.seen(&service).await?) {
        world.delete(&format!("/api/service/{}/instance/{number}", service.id)).await?;
    }
    world.all_ready(&service, 2, RUNS_WITHIN).await?;
    // All that is on it moves.
    let left = elsewhere(world, &service, &caller).await?;
    world.schedule(&left, "drain").await?;
    until("nothing is left on the worker", RUNS_WITHIN, async || {
        Ok((world.worker(&left).await?.instances == 0).then_some(()))
    })
    .await?;
    world.all_ready(&service, 2, RUNS_WITHIN).await?;
    world.lab.kill("c1", Process::Cluster, Then::Restart)?;
    world.lab.kill("root", Process::Root, Then::Restart)?;
    sleep(A_WHILE * 2).await;
    without_failures(traffic)?;
    open(world, &[left]).await?;

    let lost = elsewhere(world, &service, &caller).await?;
    let copies = world.copies(&service).await?;
    let instance = copies.iter().find(|copy| copy.host == lost).context("it has moved meanwhile")?;
    let number = instance.instance.rsplit('/').next().and_then(|number| number.parse().ok());
    let [own, own_v6] = own_address(world, &service, number.context("a container without a number")?).await?;
    let mut held = [connect(&world.lab, &caller, own)?, connect(&world.lab, &caller, own_v6)?];
    world.lab.power_off(&lost)?;
    let known = world.lost(&lost, RUNS_WITHIN).await?;
    let resets = spawn_blocking(move || held.each_mut().map(hears_a_reset));
    let begun = first_round_without_failures(world, &caller, &addresses).await?;
    bench.took(
        "calls go elsewhere after the loss is known",
        begun.saturating_duration_since(known),
        ELSEWHERE_WITHIN,
    );
    for reset in resets.await.context("the client panicked")? {
        let heard = reset.context("a connection to the lost device")?;
        bench.took("its old connections are reset", heard.saturating_duration_since(known), RESET_WITHIN);
    }
    Ok(())
}

/// When the first of many rounds of calls began that were all answered. They overlap: one that waits for who is lost says nothing
/// of those that begin later.
async fn first_round_without_failures(
    world: &World,
    caller: &str,
    addresses: &[SocketAddr],
) -> Result<Instant> {
    let deadline = Instant::now() + RUNS_WITHIN;
    let mut rounds = JoinSet::new();
    let mut next = interval(Duration::from_millis(50));
    let first = loop {
        tokio::select! {
            _ = next.tick() => {
                ensure!(Instant::now() < deadline, "calls go to the lost device after {} s", RUNS_WITHIN.as_secs());
                let begun = Instant::now();
                let traffic = one_each(world, caller, addresses)?;
                rounds.spawn_blocking(move || {
                    // Each in turn: as many calls as there are instances meet every one of them.
                    std::thread::sleep(Duration::from_millis(150));
                    ended(traffic).is_ok().then_some(begun)
                });
            }
            Some(round) = rounds.join_next() => {
                if let Some(begun) = round.context("a client panicked")? {
                    break begun;
                }
            }
        }
    };
    while rounds.join_next().await.is_some() {}
    Ok(first)
}

/// A worker that has an instance and is not the one that calls.
async fn elsewhere(world: &World, service: &Service, caller: &str) -> Result<String> {
    until("an instance is on another device", RUNS_WITHIN, async || {
        Ok(world.copies(service).await?.into_iter().map(|copy| copy.host).find(|host| *host != caller))
    })
    .await
}

/// Says something to who is not there any more, and gives when that is known.
fn hears_a_reset(held: &mut TcpStream) -> Result<Instant> {
    held.set_read_timeout(Some(RUNS_WITHIN))?;
    held.write_all(b"GET").context("say something")?;
    match held.read(&mut [0; 1]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Instant::now()),
        other => bail!("it is not reset, but {other:?}"),
    }
}

/// A client for each address, so that none helps another out.
pub(super) fn one_each(world: &World, host: &str, addresses: &[SocketAddr]) -> Result<Vec<Traffic>> {
    addresses.iter().map(|address| Traffic::on(&world.lab, host, vec![*address])).collect()
}

/// Ends all clients and tells how they fared.
pub(super) fn without_failures(traffic: Vec<Traffic>) -> Result<()> {
    for outcome in ended(traffic)? {
        eprintln!("    {} calls, the longest took {:?}", outcome.requests, outcome.longest);
    }
    Ok(())
}

/// Ends all clients.
pub(super) fn ended(traffic: Vec<Traffic>) -> Result<Vec<Outcome>> {
    // All of them, so that none goes on.
    let outcomes: Vec<Result<Outcome>> = traffic.into_iter().map(Traffic::end_without_failures).collect();
    outcomes.into_iter().collect()
}

/// Instances of one cluster are called from another: the first of them by its own address, which leads nowhere else, and
/// all by that of the service.
pub(super) async fn neighbours(bench: &mut Bench) -> Result<()> {
    let world = &mut bench.world;
    let service = world.service(json!({"health": ready()})).await?;
    let (here, there) = (world.workers_of("c1"), world.workers_of("c2"));
    close(world, &there).await?;
    world.deploy(&service).await?;
    world.all_ready(&service, 1, RUNS_WITHIN).await?;
    open(world, &there).await?;
    // What comes from now on comes to the other cluster.
    close(world, &here).await?;
    let caller = world.copies(&service).await?[0].host.clone();
    let first = world.deploy(&service).await?;
    world.all_ready(&service, 2, RUNS_WITHIN).await?;
    let begun = Instant::now();
    let own = own_address(world, &service, first).await?;
    let answers = async || {
        let traffic = one_each(world, &caller, &own)?;
        sleep(Duration::from_millis(150)).await;
        Ok::<_, anyhow::Error>(ended(traffic).is_ok().then(Instant::now))
    };
    let answered = until("the other cluster answers", RUNS_WITHIN, answers).await?;
    let all = [own, round_robin(world, &service).await?].concat();
    let traffic = one_each(world, &caller, &all)?;
    for _ in 0..2 {
        world.deploy(&service).await?;
    }
    world.running(&service, 4, RUNS_WITHIN).await?;
    sleep(A_WHILE).await;
    world.lab.kill("c2", Process::Cluster, Then::Restart)?;
    sleep(A_WHILE).await;
    world.lab.kill("root", Process::Root, Then::Nothing)?;
    // While the root is away the caller's cluster starts with what it was told.
    world.lab.kill("c1", Process::Cluster, Then::Restart)?;
    sleep(A_WHILE * 2).await;
    world.lab.start("root", Process::Root)?;
    world.running(&service, 4, RUNS_WITHIN).await?;
    // Whoever is not back yet is told later what goes, and leads calls there until then.
    until("both clusters are back", RUNS_WITHIN, async || {
        let active = world.get("/api/clusters/active").await?;
        Ok(active.as_array().is_some_and(|active| active.len() == 2).then_some(()))
    })
    .await?;
    for number in newest_two(&world.seen(&service).await?) {
        world.delete(&format!("/api/service/{}/instance/{number}", service.id)).await?;
    }
    world.running(&service, 2, RUNS_WITHIN).await?;
    sleep(A_WHILE).await;
    without_failures(traffic)?;
    open(world, &here).await?;
    bench.took("an instance that is ready is called from the other cluster", answered - begun, ACROSS_WITHIN);
    Ok(())
}

pub(super) async fn close(world: &mut World, hosts: &[String]) -> Result<()> {
    for host in hosts {
        world.schedule(host, "cordon").await?;
    }
    Ok(())
}

pub(super) async fn open(world: &mut World, hosts: &[String]) -> Result<()> {
    for host in hosts {
        world.schedule(host, "uncordon").await?;
    }
    Ok(())
}

/// The addresses that lead to one instance, wherever it is, one of each version of IP.
pub(super) async fn own_address(
    world: &mut World,
    service: &Service,
    number: u32,
) -> Result<[SocketAddr; 2]> {
    let services = world.get(&format!("/api/services/{}", service.application)).await?;
    let instances = services[0]["instance_list"].as_array().context("the service has no instances")?;
    let found = instances.iter().find(|one| one["instance_number"] == number);
    let found = found.context("there is no such instance")?;
    Ok([at(&found["instance_ip"])?, at(&found["instance_ip_v6"])?])
}

/// The addresses that lead to each instance in turn, one of each version of IP.
pub(super) async fn round_robin(world: &mut World, service: &Service) -> Result<[SocketAddr; 2]> {
    let services = world.get(&format!("/api/services/{}", service.application)).await?;
    let mut listed = services[0]["service_ip_list"].as_array().into_iter().flatten();
    let found = listed.find(|one| one["IpType"] == "RR").context("the service has no address")?;
    Ok([at(&found["Address"])?, at(&found["Address_v6"])?])
}

/// The port of `hello` at an address that is told.
fn at(address: &Value) -> Result<SocketAddr> {
    let address = address.as_str().context("the address is no text")?;
    Ok(SocketAddr::new(address.parse().with_context(|| format!("read {address}"))?, HELLO))
}

fn newest_two(seen: &[Seen]) -> Vec<u32> {
    let mut numbers: Vec<u32> = seen.iter().map(|one| one.number).collect();
    numbers.sort_unstable();
    numbers.split_off(numbers.len().saturating_sub(2))
}
