//! Our side of the comparison: `POST …/instance` until the watch of the root tells that the instance runs.
//!
//! The watch is how a program sees a status without asking again and again; that a plain `GET` says the same is
//! confirmed after each sample, outside the timed part.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::bench::{
    http::Connection,
    stack::{
        Stack,
        root::{Root, Service, Watch, deploy, instances, undeploy_all},
    },
};

/// A service without instances, ready to be deployed.
#[derive(Debug)]
pub(super) struct Ours {
    service: Service,
    watch: Watch,
    connection: Connection,
    /// One for each instance of a burst.
    burst: Vec<Connection>,
}

/// One deployment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deployment {
    /// From the request to `running`.
    pub(super) whole: Duration,
    /// From the request to its answer, when the deployment is durable.
    pub(super) accepted: Duration,
    /// From the request until the worker's first news.
    pub(super) creating: Option<Duration>,
}

impl Ours {
    pub(super) async fn new(stack: &Stack, root: &Root, burst: usize) -> Result<Self> {
        let service = root.create(stack.sla()).await?;
        let mut connections = Vec::new();
        for _ in 0..burst {
            connections.push(root.connect().await?);
        }
        Ok(Self {
            watch: root.watch(&service).await?,
            connection: root.connect().await?,
            burst: connections,
            service,
        })
    }

    pub(super) async fn deploy_one(&mut self) -> Result<Deployment> {
        let start = Instant::now();
        let number = deploy(&mut self.connection, &self.service).await?;
        let accepted = start.elapsed();
        let running = self.watch.running(&[number]).await?;
        self.confirm(1).await?;
        let creating = self.watch.phases(number).into_iter().find(|(phase, _)| phase == "creating");
        Ok(Deployment {
            whole: running[0] - start,
            accepted,
            creating: creating.map(|(_, when)| when - start),
        })
    }

    /// All at once, each on its own connection; until the last one runs.
    pub(super) async fn deploy_burst(&mut self) -> Result<Duration> {
        let start = Instant::now();
        let mut requests = JoinSet::new();
        for mut connection in self.burst.drain(..) {
            let service = self.service.clone();
            requests.spawn(async move {
                let number = deploy(&mut connection, &service).await;
                (connection, number)
            });
        }
        let mut numbers = Vec::new();
        while let Some(answered) = requests.join_next().await {
            let (connection, number) = answered?;
            self.burst.push(connection);
            numbers.push(number?);
        }
        let running = self.watch.running(&numbers).await?;
        self.confirm(numbers.len()).await?;
        Ok(running.into_iter().max().unwrap_or(start) - start)
    }

    pub(super) async fn remove(&mut self) -> Result<()> {
        undeploy_all(&mut self.connection, &self.service).await?;
        self.watch.none().await
    }

    async fn confirm(&mut self, count: usize) -> Result<()> {
        let found = instances(&mut self.connection, &self.service).await?;
        let running = found.iter().filter(|instance| instance.phase == "running").count();
        ensure!(running == count, "the watch told of {count} running instances, but GET tells {found:?}");
        Ok(())
    }
}
