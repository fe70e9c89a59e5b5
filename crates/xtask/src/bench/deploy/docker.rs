//! Docker's side: create and start of the same image on the same engine, by its interface. The network is set up as
//! NodeEngine has it set up for an instance, whatever that is: it is most of what a start costs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::bench::{
    http::Connection,
    stack::{
        Stack,
        engine::{create_and_start, remove},
    },
};

/// Starts in flight: where the engine gives the most starts per second on two cores; more only make each slower.
pub(super) const IN_FLIGHT: usize = 4;

/// The engine and what it is to start.
#[derive(Debug)]
pub(super) struct Docker {
    container: Value,
    connections: Vec<Connection>,
    started: Vec<String>,
}

impl Docker {
    /// There must be an instance on the engine.
    pub(super) async fn like_an_instance(stack: &Stack) -> Result<Self> {
        let instances = stack.engine.containers(Some(&stack.instance_label())).await?;
        let instance = instances.first().context("there is no instance to be like")?;
        let (name, value) = stack.label();
        let mut container = stack.engine.like(instance).await?;
        container["Labels"] = json!({name: value});
        let mut connections = Vec::new();
        for _ in 0..IN_FLIGHT {
            connections.push(stack.engine.connect().await?);
        }
        Ok(Self { container, connections, started: Vec::new() })
    }

    /// How the containers get their network, as the engine calls it.
    pub(super) fn network(&self) -> String {
        let mode = self.container["HostConfig"]["NetworkMode"].as_str().unwrap_or("default");
        let disabled = self.container["NetworkDisabled"] == true;
        if disabled { format!("{mode}, set up by the runtime alone") } else { mode.to_owned() }
    }

    pub(super) async fn start_one(&mut self) -> Result<Duration> {
        let start = Instant::now();
        let id = create_and_start(&mut self.connections[0], &self.container).await?;
        let took = start.elapsed();
        self.started.push(id);
        Ok(took)
    }

    pub(super) async fn start_burst(&mut self, count: usize) -> Result<Duration> {
        let start = Instant::now();
        let mut lanes = JoinSet::new();
        for (lane, mut connection) in self.connections.drain(..).enumerate() {
            let container = self.container.clone();
            let share = (lane..count).step_by(IN_FLIGHT).count();
            lanes.spawn(async move {
                let mut started = Vec::new();
                for _ in 0..share {
                    started.push(create_and_start(&mut connection, &container).await?);
                }
                Ok::<_, anyhow::Error>((connection, started))
            });
        }
        while let Some(ended) = lanes.join_next().await {
            let (connection, started) = ended??;
            self.connections.push(connection);
            self.started.extend(started);
        }
        Ok(start.elapsed())
    }

    pub(super) async fn remove(&mut self) -> Result<()> {
        for container in self.started.drain(..) {
            remove(&mut self.connections[0], &container).await?;
        }
        Ok(())
    }
}
