//! Docker Swarm's side: a manager that is drained and two nodes, as a careful user would have it, with one task that
//! answers on a port of whatever node has it. All settings are as they come.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Loss, ours::falls_silent};
use crate::{
    bench::{
        http::{Body, Connection, Method},
        stack::engine::encoded,
    },
    lab::{
        IMAGE,
        survival::{
            traffic,
            world::{World, until},
        },
    },
};

const MANAGER: &str = "b1";
pub(in crate::bench) const NODES: [&str; 2] = ["b2", "b3"];
const PORT: u16 = 8080;
/// It takes well below a minute.
const WITHIN: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(super) struct Swarm {
    service: String,
}

impl Swarm {
    pub(super) async fn new(world: &World) -> Result<Self> {
        let mut manager = form(world).await?;
        let service = json!({
            "Name": "hello",
            "TaskTemplate": {
                "ContainerSpec": {"Image": IMAGE},
                "Resources": {"Limits": {"MemoryBytes": 16 << 20}},
            },
            "Mode": {"Replicated": {"Replicas": 1}},
            "EndpointSpec": {"Mode": "dnsrr", "Ports": [
                {"Protocol": "tcp", "TargetPort": 8080, "PublishedPort": PORT, "PublishMode": "host"},
            ]},
        });
        let made = manager.ask(Method::POST, "/services/create", Body::Json(service)).await?;
        let service = made["ID"].as_str().context("the swarm gives the service no id")?.to_owned();
        let swarm = Self { service };
        swarm.at_rest(world).await?;
        Ok(swarm)
    }

    /// Cuts off the node that has the task, and waits for it to be back.
    pub(super) async fn lose_a_node(&self, world: &World) -> Result<Loss> {
        let (node, _) = self.at_rest(world).await?;
        let others: Vec<&str> = NODES.into_iter().filter(|other| *other != node).collect();
        let mut manager = world.lab.engine(MANAGER)?.connect().await?;
        let when = world.lab.cut(node)?;
        let detected = until("the manager calls the node down", WITHIN, async || {
            let nodes = manager.ask(Method::GET, "/nodes", Body::Empty).await?;
            Ok((state_of(&nodes, node).as_deref() == Some("down")).then(Instant::now))
        })
        .await?;
        let answered = answers(world, &others).await?;
        world.lab.heal(node)?;
        self.at_rest(world).await?;
        Ok(Loss { detected: detected - when, answers: answered - when })
    }

    /// Kills the process of the task.
    pub(super) async fn crash(&self, world: &World) -> Result<Duration> {
        let (node, process) = self.at_rest(world).await?;
        let words = ["kill", "-KILL", &process.to_string()].map(str::to_owned);
        let mut command = world.lab.command_on(node, &words)?;
        let when = Instant::now();
        ensure!(command.status().context("start `nsenter`")?.success(), "the task is not killed");
        falls_silent(address(world, node)?).await?;
        Ok(answers(world, &NODES).await? - when)
    }

    /// Waits until all nodes are ready and one container runs; gives its node and its process.
    async fn at_rest(&self, world: &World) -> Result<(&'static str, u64)> {
        let mut manager = world.lab.engine(MANAGER)?.connect().await?;
        let filters = encoded(
            &json!({
                "label": [format!("com.docker.swarm.service.id={}", self.service)], "status": ["running"],
            })
            .to_string(),
        );
        let path = format!("/containers/json?filters={filters}");
        let rest = until("the swarm is at rest", WITHIN, async || {
            let nodes = manager.ask(Method::GET, "/nodes", Body::Empty).await?;
            let ready = NODES.iter().all(|node| state_of(&nodes, node).as_deref() == Some("ready"));
            ensure!(ready, "not all nodes are ready: {nodes}");
            let mut running = Vec::new();
            for node in NODES {
                let mut engine = world.lab.engine(node)?.connect().await?;
                let listed = engine.ask(Method::GET, &path, Body::Empty).await?;
                for container in listed.as_array().into_iter().flatten() {
                    let id = container["Id"].as_str().context("a container has an id")?;
                    let shown =
                        engine.ask(Method::GET, &format!("/containers/{id}/json"), Body::Empty).await?;
                    running.push((node, shown["State"]["Pid"].as_u64().unwrap_or_default()));
                }
            }
            ensure!(running.len() == 1, "there are {running:?}");
            Ok(Some(running[0]))
        })
        .await?;
        answers(world, &[rest.0]).await?;
        Ok(rest)
    }
}

/// Makes a swarm of the plain hosts of a lab; gives the connection to its manager.
pub(in crate::bench) async fn form(world: &World) -> Result<Connection> {
    let mut manager = world.lab.engine(MANAGER)?.connect().await?;
    let address = address(world, MANAGER)?.ip().to_string();
    let init = json!({"ListenAddr": format!("{address}:2377"), "AdvertiseAddr": address});
    manager.ask(Method::POST, "/swarm/init", Body::Json(init)).await?;
    let swarm = manager.ask(Method::GET, "/swarm", Body::Empty).await?;
    for node in NODES {
        let own = self::address(world, node)?.ip().to_string();
        let join = json!({
            "ListenAddr": format!("{own}:2377"), "AdvertiseAddr": own,
            "RemoteAddrs": [format!("{address}:2377")], "JoinToken": swarm["JoinTokens"]["Worker"],
        });
        let mut connection = world.lab.engine(node)?.connect().await?;
        connection.ask(Method::POST, "/swarm/join", Body::Json(join)).await?;
    }
    drain(&mut manager).await?;
    Ok(manager)
}

/// It only manages, so that losing a node never loses the manager.
async fn drain(manager: &mut Connection) -> Result<()> {
    let nodes = manager.ask(Method::GET, "/nodes", Body::Empty).await?;
    let own = nodes.as_array().into_iter().flatten().find(|node| node["Spec"]["Role"] == "manager");
    let own = own.context("a swarm has a manager")?;
    let (id, version) = (own["ID"].as_str().unwrap_or_default(), &own["Version"]["Index"]);
    let spec = json!({"Role": "manager", "Availability": "drain"});
    let path = format!("/nodes/{id}/update?version={version}");
    manager.ask(Method::POST, &path, Body::Json(spec)).await.map(drop)
}

fn state_of(nodes: &Value, name: &str) -> Option<String> {
    let mut nodes = nodes.as_array()?.iter();
    let node = nodes.find(|node| node["Description"]["Hostname"] == name)?;
    Some(node["Status"]["State"].as_str()?.to_owned())
}

fn address(world: &World, host: &str) -> Result<std::net::SocketAddr> {
    world.address_of(host, PORT)
}

async fn answers(world: &World, nodes: &[&str]) -> Result<Instant> {
    let mut addresses = Vec::new();
    for node in nodes {
        addresses.push(address(world, node)?);
    }
    traffic::first_answer(&addresses, WITHIN).await.map(|(_, when)| when)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_found_by_the_name_of_its_host() {
        let nodes = json!([
            {"Description": {"Hostname": "b1"}, "Status": {"State": "ready"}},
            {"Description": {"Hostname": "b2"}, "Status": {"State": "down"}},
        ]);
        assert_eq!(state_of(&nodes, "b2").as_deref(), Some("down"));
        assert_eq!(state_of(&nodes, "b3"), None);
    }
}
