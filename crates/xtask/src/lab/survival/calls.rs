//! A service is called by its address, from one device to instances on all: nobody who calls notices that instances come
//! and go, that agents and orchestrators are killed, and only those who were just speaking to it that a device is lost.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::json;
use tokio::time::sleep;

use super::{
    Bench,
    traffic::Traffic,
    world::{HELLO, RUNS_WITHIN, Seen, Service, World, until},
};
use crate::lab::{Process, Then};

/// From the moment the cluster knows of a loss until calls go elsewhere.
const ELSEWHERE_WITHIN: f64 = 1.0;
/// From the moment the root knows that an instance runs until another cluster's devices lead calls to it.
const ACROSS_WITHIN: f64 = 2.0;
/// Long enough for calls to meet each instance.
const A_WHILE: Duration = Duration::from_secs(2);

pub(super) async fn calls(bench: &mut Bench) -> Result<()> {
    let world = &mut bench.world;
    let service = world.service(json!({"constraints": [{"type": "direct", "cluster": "c1"}]})).await?;
    for _ in 0..2 {
        world.deploy(&service).await?;
    }
    world.running(&service, 2, RUNS_WITHIN).await?;
    let caller = world.copies(&service).await?[0].host.clone();
    let address = round_robin(world, &service).await?;
    let traffic = Traffic::on(&world.lab, &caller, vec![address])?;
    sleep(A_WHILE).await;
    for _ in 0..2 {
        world.deploy(&service).await?;
    }
    world.running(&service, 4, RUNS_WITHIN).await?;
    sleep(A_WHILE).await;
    for host in world.workers_of("c1") {
        world.lab.kill(&host, Process::NetManager, Then::Restart)?;
    }
    sleep(A_WHILE).await;
    for number in newest_two(&world.seen(&service).await?) {
        world.delete(&format!("/api/service/{}/instance/{number}", service.id)).await?;
    }
    world.running(&service, 2, RUNS_WITHIN).await?;
    world.lab.kill("c1", Process::Cluster, Then::Restart)?;
    world.lab.kill("root", Process::Root, Then::Restart)?;
    sleep(A_WHILE * 2).await;
    let outcome = traffic.end_without_failures()?;
    eprintln!("    {} calls, the longest took {:?}", outcome.requests, outcome.longest);

    let elsewhere = until("an instance is on another device", RUNS_WITHIN, async || {
        Ok(world.copies(&service).await?.into_iter().map(|copy| copy.host).find(|host| *host != caller))
    })
    .await?;
    world.lab.power_off(&elsewhere)?;
    let known = world.lost(&elsewhere, RUNS_WITHIN).await?;
    let all_answered = async || {
        // Each in turn: as many calls as there are instances meet every one of them.
        let traffic = Traffic::on(&world.lab, &caller, vec![address])?;
        sleep(Duration::from_millis(150)).await;
        Ok::<_, anyhow::Error>(traffic.end_without_failures().is_ok().then_some(()))
    };
    let begun = until("calls go elsewhere", RUNS_WITHIN, async || {
        let begun = Instant::now();
        Ok(all_answered().await?.map(|()| begun))
    })
    .await?;
    bench.took(
        "calls go elsewhere after the loss is known",
        begun.saturating_duration_since(known),
        ELSEWHERE_WITHIN,
    );
    Ok(())
}

/// Instances of one cluster are called from another: the first of them by its own address, which leads nowhere else, and
/// all by that of the service.
pub(super) async fn neighbours(bench: &mut Bench) -> Result<()> {
    let world = &mut bench.world;
    let service = world.service(json!({})).await?;
    let (here, there) = (world.workers_of("c1"), world.workers_of("c2"));
    close(world, &there).await?;
    world.deploy(&service).await?;
    world.running(&service, 1, RUNS_WITHIN).await?;
    open(world, &there).await?;
    // What comes from now on comes to the other cluster.
    close(world, &here).await?;
    let caller = world.copies(&service).await?[0].host.clone();
    let first = world.deploy(&service).await?;
    world.running(&service, 2, RUNS_WITHIN).await?;
    let begun = Instant::now();
    let own = own_address(world, &service, first).await?;
    let answers = async || {
        let traffic = Traffic::on(&world.lab, &caller, vec![own])?;
        sleep(Duration::from_millis(150)).await;
        Ok::<_, anyhow::Error>(traffic.end_without_failures().is_ok().then(Instant::now))
    };
    let answered = until("the other cluster answers", RUNS_WITHIN, answers).await?;
    let traffic = [own, round_robin(world, &service).await?]
        .into_iter()
        .map(|address| Traffic::on(&world.lab, &caller, vec![address]))
        .collect::<Result<Vec<_>>>()?;
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
    for client in traffic {
        let outcome = client.end_without_failures()?;
        eprintln!("    {} calls, the longest took {:?}", outcome.requests, outcome.longest);
    }
    open(world, &here).await?;
    bench.took("an instance that runs is called from the other cluster", answered - begun, ACROSS_WITHIN);
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

/// The address that leads to one instance, wherever it is.
pub(super) async fn own_address(world: &mut World, service: &Service, number: u32) -> Result<SocketAddr> {
    let services = world.get(&format!("/api/services/{}", service.application)).await?;
    let instances = services[0]["instance_list"].as_array().context("the service has no instances")?;
    let found = instances.iter().find(|one| one["instance_number"] == number);
    let address = found.and_then(|one| one["instance_ip"].as_str()).context("the instance has no address")?;
    Ok(SocketAddr::new(address.parse().context("the address of the instance")?, HELLO))
}

/// The address that leads to each instance in turn.
pub(super) async fn round_robin(world: &mut World, service: &Service) -> Result<SocketAddr> {
    let mut services = world.get(&format!("/api/services/{}", service.application)).await?;
    let listed = services[0]["service_ip_list"].take();
    let mut listed = listed.as_array().into_iter().flatten();
    let address = listed.find(|one| one["IpType"] == "RR").context("the service has no address")?;
    let address = address["Address"].as_str().context("the address is no text")?;
    Ok(SocketAddr::new(address.parse().context("the address of the service")?, HELLO))
}

fn newest_two(seen: &[Seen]) -> Vec<u32> {
    let mut numbers: Vec<u32> = seen.iter().map(|one| one.number).collect();
    numbers.sort_unstable();
    numbers.split_off(numbers.len().saturating_sub(2))
}
