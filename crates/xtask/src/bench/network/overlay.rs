//! Docker Swarm's side: the swarm of three that recovery is measured with too, an overlay network over it, and services
//! that are found by their name (`dnsrr`; many kernels have no virtual addresses for it). Not encrypted, as it comes.

use std::{
    collections::BTreeMap,
    net::{IpAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    convergence::Kill,
    dns,
    place::Place,
    probe::{self, Server},
};
use crate::{
    bench::{
        http::{Body, Connection, Method},
        recovery::swarm::{NODES, form},
        stack::engine::encoded,
    },
    lab::{
        IMAGE,
        survival::world::{World, until},
    },
};

const NETWORK: &str = "bench";
/// It takes well below a minute.
const WITHIN: Duration = Duration::from_secs(120);
/// Where a container of Docker's own networks asks for names.
const NAMES: &str = "127.0.0.11:53";
const NAMES_WITHIN: Duration = Duration::from_secs(1);

/// The swarm, and the two tasks between which paths are measured.
#[derive(Debug)]
pub(super) struct Overlay {
    manager: Connection,
    pub(super) caller: Place,
    pub(super) far: IpAddr,
    _server: Server,
}

/// A container of a task.
#[derive(Debug)]
struct Container {
    /// Its host name.
    host: String,
    process: u64,
    address: IpAddr,
}

impl Overlay {
    pub(super) async fn new(world: &World) -> Result<Self> {
        let mut manager = form(world).await?;
        let network = json!({"Name": NETWORK, "Driver": "overlay", "CheckDuplicate": true});
        manager.ask(Method::POST, "/networks/create", Body::Json(network)).await?;
        let [caller, far] = NODES;
        create(&mut manager, "caller", 1, Some(caller)).await?;
        create(&mut manager, "far", 1, Some(far)).await?;
        let (calls, called) = (one(world, caller, "caller").await?, one(world, far, "far").await?);
        let place =
            |node, process| Ok::<_, anyhow::Error>(Place::of(world.lab.network_of_process(node, process)?));
        let server = Server::start(&place(far, called.process)?)?;
        let caller = place(caller, calls.process)?;
        probe::await_path(&caller, called.address)?;
        Ok(Self { manager, caller, far: called.address, _server: server })
    }

    /// A service on both nodes.
    pub(super) async fn create(&mut self, name: &str, replicas: usize) -> Result<()> {
        create(&mut self.manager, name, replicas, None).await
    }

    /// Changes how many tasks a service has.
    pub(super) async fn scale(&mut self, name: &str, replicas: usize) -> Result<()> {
        let mut service = self.manager.ask(Method::GET, &format!("/services/{name}"), Body::Empty).await?;
        let version = service["Version"]["Index"].as_u64().context("a service has a version")?;
        let mut spec = service["Spec"].take();
        spec["Mode"]["Replicated"]["Replicas"] = json!(replicas);
        let path = format!("/services/{name}/update?version={version}");
        self.manager.ask(Method::POST, &path, Body::Json(spec)).await.map(drop)
    }

    /// Waits until so many tasks of a service run; gives when each was first said to, by the host name of its container,
    /// which `hello` tells.
    pub(super) async fn await_running(
        &mut self,
        name: &str,
        count: usize,
    ) -> Result<BTreeMap<String, Instant>> {
        let mut first = BTreeMap::new();
        until(&format!("{count} tasks of {name} run"), WITHIN, async || {
            let running = self.running(name).await?;
            let now = Instant::now();
            let all = running.len() == count;
            for host in running {
                first.entry(host).or_insert(now);
            }
            Ok(all.then_some(()))
        })
        .await?;
        Ok(first)
    }

    /// Kills the process of one task; returns when the manager no longer says that it runs.
    pub(super) async fn kill_one(&mut self, world: &World, name: &str) -> Result<Kill> {
        let node = NODES[1];
        let containers = listed(world, node, name).await?;
        let Container { process, host, .. } = containers.first().context("no task is there to be killed")?;
        let words = ["kill", "-KILL", &process.to_string()].map(str::to_owned);
        let mut command = world.lab.command_on(node, &words)?;
        let when = Instant::now();
        ensure!(command.status().context("start `nsenter`")?.success(), "the task is not killed");
        let detected = until("the manager knows of the loss", WITHIN, async || {
            Ok((!self.running(name).await?.contains(host)).then(Instant::now))
        })
        .await?;
        Ok(Kill { when, detected })
    }

    /// Waits until a service has so many containers.
    pub(super) async fn await_containers(&self, world: &World, name: &str, count: usize) -> Result<()> {
        until(&format!("{name} of the swarm has {count} containers"), WITHIN, async || {
            let mut all = 0;
            for node in NODES {
                all += listed(world, node, name).await?.len();
            }
            Ok((all == count).then_some(()))
        })
        .await
    }

    /// The tasks of a service that the manager says run, by the host name of each.
    async fn running(&mut self, name: &str) -> Result<Vec<String>> {
        let filters = encoded(&json!({"service": [name], "desired-state": ["running"]}).to_string());
        let tasks = self.manager.ask(Method::GET, &format!("/tasks?filters={filters}"), Body::Empty).await?;
        let tasks = tasks.as_array().into_iter().flatten();
        Ok(tasks.filter(|task| task["Status"]["State"] == "running").filter_map(host_name).collect())
    }

    /// Removes a service and waits until its containers are gone.
    pub(super) async fn remove(&mut self, world: &World, name: &str) -> Result<()> {
        self.manager.ask(Method::DELETE, &format!("/services/{name}"), Body::Empty).await?;
        self.await_containers(world, name, 0).await
    }
}

/// The address of a service that the name server of a container tells first; to be called there.
pub(super) fn address(name: &str) -> Result<IpAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("ask for a name")?;
    socket.set_read_timeout(Some(NAMES_WITHIN))?;
    socket.send_to(&dns::question(name), NAMES).context("ask for a name")?;
    let mut answer = [0; 4096];
    let length = socket.recv(&mut answer).context("hear the answer about a name")?;
    let addresses = dns::addresses(&answer[..length]).context("read the answer about a name")?;
    addresses.first().copied().with_context(|| format!("nobody has the name {name}"))
}

/// Docker gives a container the first 12 digits of its id as host name.
fn host_name(task: &Value) -> Option<String> {
    let id = task["Status"]["ContainerStatus"]["ContainerID"].as_str()?;
    short(id)
}

fn short(container: &str) -> Option<String> {
    Some(container.get(..12)?.to_owned())
}

async fn create(manager: &mut Connection, name: &str, replicas: usize, node: Option<&str>) -> Result<()> {
    let constraints: Vec<String> = node.iter().map(|node| format!("node.hostname=={node}")).collect();
    let service = json!({
        "Name": name,
        "TaskTemplate": {
            "ContainerSpec": {"Image": IMAGE},
            "Resources": {"Limits": {"MemoryBytes": 16 << 20}},
            "Placement": {"Constraints": constraints},
            "Networks": [{"Target": NETWORK}],
        },
        "Mode": {"Replicated": {"Replicas": replicas}},
        "EndpointSpec": {"Mode": "dnsrr"},
    });
    manager.ask(Method::POST, "/services/create", Body::Json(service)).await.map(drop)
}

async fn one(world: &World, node: &str, name: &str) -> Result<Container> {
    until(&format!("{name} of the swarm runs"), WITHIN, async || {
        let containers = listed(world, node, name).await?;
        ensure!(containers.len() == 1, "there are {containers:?}");
        Ok(containers.into_iter().next())
    })
    .await
}

async fn listed(world: &World, node: &str, name: &str) -> Result<Vec<Container>> {
    let filters = encoded(&json!({"label": [format!("com.docker.swarm.service.name={name}")]}).to_string());
    let mut engine = world.lab.engine(node)?.connect().await?;
    let path = format!("/containers/json?filters={filters}");
    let containers = engine.ask(Method::GET, &path, Body::Empty).await?;
    let mut listed = Vec::new();
    for container in containers.as_array().into_iter().flatten() {
        let id = container["Id"].as_str().context("a container has an id")?;
        let shown = engine.ask(Method::GET, &format!("/containers/{id}/json"), Body::Empty).await?;
        let address = shown["NetworkSettings"]["Networks"][NETWORK]["IPAddress"].as_str();
        let address = address.context("the container has no address in the overlay")?;
        listed.push(Container {
            host: short(id).context("a container has a long id")?,
            process: shown["State"]["Pid"].as_u64().context("a container that runs has a process")?,
            address: address.parse().context("read the address of a container")?,
        });
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_known_by_the_host_name_of_its_container() {
        let task = json!({"Status": {"ContainerStatus": {"ContainerID": "0123456789abcdef"}}});
        assert_eq!(host_name(&task).as_deref(), Some("0123456789ab"));
        assert_eq!(host_name(&json!({"Status": {}})), None);
    }
}
