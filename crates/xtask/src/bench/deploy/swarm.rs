//! Docker Swarm's side: `service create` on a second, private engine with one node, until its interface says that
//! the tasks run.
//!
//! As fair as it can be made: the image is named by its id, so nothing is looked up or pulled; there is no virtual
//! address (which many kernels cannot give) and no overlay. Tasks get what a user of Swarm gets who asks for no
//! network: the engine's bridge, which, as NetManager does for ours, gives an address and a way out. (Swarm accepts
//! neither `none` nor an engine's namespace for its tasks.)

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::bench::{
    http::{Address, Body, Connection, Method},
    stack::{
        MEBIBYTES, Stack, apart,
        engine::{Engine, encoded},
        wait::wait_until,
    },
};

const NAME: &str = "dockerd";
/// Swarm advertises no loopback address. This one exists in the benchmark's network namespace only.
const ADDRESS: &str = "10.213.0.1";
/// Small against what is measured, and little work for the engine.
const ASK_EVERY: Duration = Duration::from_millis(3);
const READY_WITHIN: Duration = Duration::from_secs(30);
const RUNS_WITHIN: Duration = Duration::from_secs(120);

/// The private engine.
#[derive(Debug)]
pub(super) struct Swarm {
    engine: Engine,
    connection: Connection,
    image: String,
    service: Option<String>,
}

impl Swarm {
    pub(super) async fn new(stack: &mut Stack) -> Result<Self> {
        apart::run("ip", &["address", "add", &format!("{ADDRESS}/32"), "dev", "lo"])?;
        let folder = stack.folder().join("swarm");
        let engine = Engine { socket: folder.join("docker.sock") };
        std::fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
        let mut command = Command::new(NAME);
        command.arg("--data-root").arg(folder.join("data")).arg("--exec-root").arg(folder.join("exec"));
        command.arg("--pidfile").arg(folder.join("pid")).args(["--host", &Address::unix(&engine.socket)]);
        stack.start_process(NAME, &mut command)?;
        let ready = async || engine.version().await.map(Some);
        wait_until("the private engine answers", READY_WITHIN, ready).await?;
        let image = engine.import(&stack.image, &stack.payload()).await?;
        let mut connection = engine.connect().await?;
        let init = json!({"ListenAddr": format!("{ADDRESS}:2377"), "AdvertiseAddr": ADDRESS});
        connection.ask(Method::POST, "/swarm/init", Body::Json(init)).await?;
        Ok(Self { engine, connection, image, service: None })
    }

    /// From the request until all replicas run.
    pub(super) async fn create(&mut self, replicas: usize) -> Result<Duration> {
        let service = json!({
            "Name": "bench",
            "TaskTemplate": {
                "ContainerSpec": {"Image": self.image},
                "Resources": {"Limits": {"MemoryBytes": u64::from(MEBIBYTES) << 20}},
                "RestartPolicy": {"Condition": "none"},
            },
            "Mode": {"Replicated": {"Replicas": replicas}},
            "EndpointSpec": {"Mode": "dnsrr"},
        });
        let start = Instant::now();
        let made = self.connection.ask(Method::POST, "/services/create", Body::Json(service)).await?;
        let id = made["ID"].as_str().context("the swarm gives the service no id")?.to_owned();
        let path = format!("/tasks?filters={}", encoded(&json!({"service": [id]}).to_string()));
        self.service = Some(id);
        loop {
            let tasks = self.connection.ask(Method::GET, &path, Body::Empty).await?;
            if running(&tasks)? == replicas {
                return Ok(start.elapsed());
            }
            if start.elapsed() > RUNS_WITHIN {
                bail!("{replicas} tasks do not run within {} s: {tasks}", RUNS_WITHIN.as_secs());
            }
            sleep(ASK_EVERY).await;
        }
    }

    pub(super) async fn remove(&mut self) -> Result<()> {
        if let Some(service) = self.service.take() {
            self.connection.ask(Method::DELETE, &format!("/services/{service}"), Body::Empty).await?;
        }
        let engine = &self.engine;
        let empty = async || Ok(engine.containers(None).await?.is_empty().then_some(()));
        wait_until("the swarm has removed its containers", RUNS_WITHIN, empty).await
    }
}

/// How many tasks run.
///
/// # Errors
/// One has failed: it would not be replaced.
fn running(tasks: &Value) -> Result<usize> {
    let mut count = 0;
    for task in tasks.as_array().into_iter().flatten() {
        match task["Status"]["State"].as_str().unwrap_or_default() {
            "running" => count += 1,
            "failed" | "rejected" | "complete" => bail!("a task of the swarm ended: {}", task["Status"]),
            _ => {}
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_counted_and_a_failed_one_is_told() {
        let task = |state: &str| json!({"Status": {"State": state}});
        let count = |states: &[&str]| {
            let tasks: Vec<Value> = states.iter().map(|state| task(state)).collect();
            running(&Value::Array(tasks)).map_err(|error| error.to_string())
        };
        assert_eq!(count(&["running", "preparing", "running"]), Ok(2));
        assert_eq!(count(&["failed"]), Err("a task of the swarm ended: {\"State\":\"failed\"}".to_owned()));
    }
}
