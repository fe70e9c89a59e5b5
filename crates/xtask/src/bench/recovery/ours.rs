//! Our side: one instance of `hello` that answers on a port of whatever worker has it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Loss;
use crate::{
    bench::{
        http::{Body, Method},
        stack::engine::{create_and_start, remove},
    },
    lab::{
        IMAGE,
        survival::{
            traffic,
            world::{RUNS_WITHIN, Service, World, until},
        },
    },
};

/// Where the container by hand answers.
const BY_HAND_PORT: u16 = 8089;
/// Small against what is measured.
const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Ours {
    service: Service,
}

impl Ours {
    pub(super) async fn new(world: &mut World) -> Result<Self> {
        let service = world.server(8080, json!({})).await?;
        world.deploy(&service).await?;
        world.running(&service, 1, RUNS_WITHIN).await?;
        Ok(Self { service })
    }

    /// Cuts off the worker that has the instance, and waits for it to be back as it was.
    pub(super) async fn lose_a_node(&self, world: &mut World) -> Result<Loss> {
        at_rest(world).await?;
        let copy = world.one_copy(&self.service, RUNS_WITHIN).await?;
        let others = world.workers_but(&copy.host);
        world.answers(&self.service, std::slice::from_ref(&copy.host), RUNS_WITHIN).await?;
        let when = world.lab.cut(&copy.host)?;
        let detected = world.lost(&copy.host, RUNS_WITHIN).await?;
        let (_, answered) = world.answers(&self.service, &others, RUNS_WITHIN).await?;
        world.lab.heal(&copy.host)?;
        world.one_copy(&self.service, RUNS_WITHIN).await?;
        world.running(&self.service, 1, RUNS_WITHIN).await?;
        Ok(Loss { detected: detected - when, answers: answered - when })
    }

    /// Kills the container of an instance that is new, as one that has ended lately is made to wait.
    pub(super) async fn crash(&mut self, world: &mut World) -> Result<Duration> {
        world.delete(&format!("/api/service/{}/instance/-1", self.service.id)).await?;
        until("it is removed", RUNS_WITHIN, async || {
            Ok(world.copies(&self.service).await?.is_empty().then_some(()))
        })
        .await?;
        world.deploy(&self.service).await?;
        world.running(&self.service, 1, RUNS_WITHIN).await?;
        let copy = world.one_copy(&self.service, RUNS_WITHIN).await?;
        let hosts = [copy.host.clone()];
        world.answers(&self.service, &hosts, RUNS_WITHIN).await?;
        let when = world.kill_container(&copy).await?;
        falls_silent(world.address(&self.service, &copy.host)?).await?;
        let (_, answered) = world.answers(&self.service, &hosts, RUNS_WITHIN).await?;
        let seen = world.seen_until(&self.service, "the restart is told", RUNS_WITHIN, |seen| {
            seen.len() == 1 && seen[0].restarts == 1
        });
        seen.await?;
        Ok(answered - when)
    }

    /// The same with the engine alone: a container that answers on a port of its device by the engine's own bridge is
    /// killed, waited for and started again.
    pub(super) async fn restart_by_hand(&self, world: &World) -> Result<Duration> {
        let host = world.one_copy(&self.service, RUNS_WITHIN).await?.host;
        let address = (world.address(&self.service, &host)?.ip(), BY_HAND_PORT).into();
        let mut connection = world.lab.engine(&host)?.connect().await?;
        let container = json!({
            "Image": IMAGE,
            "ExposedPorts": {"8080/tcp": {}},
            "HostConfig": {
                "Memory": 16 << 20,
                "PortBindings": {"8080/tcp": [{"HostPort": BY_HAND_PORT.to_string()}]},
            },
        });
        let id = create_and_start(&mut connection, &container).await?;
        let answers = async || Ok(traffic::answers(address, PATIENCE).await.then_some(()));
        until("the container by hand answers", RUNS_WITHIN, answers).await?;
        let shown = connection.ask(Method::GET, &format!("/containers/{id}/json"), Body::Empty).await?;
        let process = shown["State"]["Pid"].as_u64().context("a container that runs has a process")?;
        let words = ["kill", "-KILL", &process.to_string()].map(str::to_owned);
        let mut command = world.lab.command_on(&host, &words)?;
        let when = Instant::now();
        ensure!(command.status().context("start `nsenter`")?.success(), "the container is not killed");
        connection.ask(Method::POST, &format!("/containers/{id}/wait"), Body::Empty).await?;
        connection.ask(Method::POST, &format!("/containers/{id}/start"), Body::Empty).await?;
        let (_, answered) = traffic::first_answer(&[address], RUNS_WITHIN).await?;
        remove(&mut connection, &id).await?;
        Ok(answered - when)
    }
}

/// One request may still be answered by the process that is being killed.
pub(super) async fn falls_silent(address: std::net::SocketAddr) -> Result<()> {
    until("the killed one falls silent", RUNS_WITHIN, async || {
        Ok((!traffic::answers(address, PATIENCE).await).then_some(()))
    })
    .await
}

/// Waits until all workers are there, on links that lose nothing.
pub(super) async fn at_rest(world: &mut World) -> Result<()> {
    until("all workers live", RUNS_WITHIN * 2, async || {
        world.all_live().await?;
        Ok(Some(()))
    })
    .await
}
