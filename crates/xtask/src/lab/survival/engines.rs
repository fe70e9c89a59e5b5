//! What is true of containers, asked of the engines themselves, also of those on hosts that are cut off.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::world::{Service, World, until};
use crate::bench::{
    http::{Body, Method},
    stack::engine::encoded,
};

/// A container that carries Mangrove's labels, on an engine that answers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Copy {
    pub(crate) host: String,
    pub(crate) container: String,
    /// `service/number`
    pub(crate) instance: String,
    pub(crate) generation: String,
    pub(crate) running: bool,
}

impl World {
    /// Every container of a service, on all hosts that are on.
    ///
    /// # Errors
    /// An engine does not answer; or two containers were made for the same generation of one instance, which must
    /// never be.
    pub(crate) async fn copies(&self, service: &Service) -> Result<Vec<Copy>> {
        let mut copies = self.all_copies().await?;
        copies.retain(|copy| copy.instance.starts_with(&format!("{}/", service.id)));
        Ok(copies)
    }

    /// As [`World::copies`], of all services.
    pub(crate) async fn all_copies(&self) -> Result<Vec<Copy>> {
        let mut copies = Vec::new();
        for host in self.all_workers() {
            if self.is_on(&host)? {
                copies.extend(self.copies_on(&host).await?);
            }
        }
        let mut made: BTreeMap<(&str, &str), &Copy> = BTreeMap::new();
        for copy in &copies {
            if let Some(twin) = made.insert((&copy.instance, &copy.generation), copy) {
                bail!("two containers of one generation: {twin:?} and {copy:?}");
            }
        }
        Ok(copies)
    }

    async fn copies_on(&self, host: &str) -> Result<Vec<Copy>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Listed {
            id: String,
            labels: BTreeMap<String, String>,
            state: String,
        }
        let filters = encoded(&json!({"label": ["mangrove.instance"]}).to_string());
        let path = format!("/containers/json?all=1&filters={filters}");
        let mut connection = self.lab.engine(host)?.connect().await?;
        let listed = connection.ask(Method::GET, &path, Body::Empty).await;
        let listed = listed.with_context(|| format!("ask the engine of {host}"))?;
        let listed: Vec<Listed> = serde_json::from_value(listed).context("read the list of containers")?;
        let copy = |mut listed: Listed| Copy {
            host: host.to_owned(),
            container: listed.id,
            instance: listed.labels.remove("mangrove.instance").unwrap_or_default(),
            generation: listed.labels.remove("mangrove.generation").unwrap_or_default(),
            running: listed.state == "running",
        };
        Ok(listed.into_iter().map(copy).collect())
    }

    /// Waits until exactly one copy of a service is left anywhere, and runs; gives it.
    pub(crate) async fn one_copy(&self, service: &Service, within: Duration) -> Result<Copy> {
        until("exactly one copy is left", within, async || {
            let copies = self.copies(service).await?;
            ensure!(copies.len() == 1 && copies[0].running, "there are {copies:?}");
            Ok(copies.into_iter().next())
        })
        .await
    }

    /// A container as the engine shows it.
    pub(crate) async fn inspect(&self, copy: &Copy) -> Result<Value> {
        let mut connection = self.lab.engine(&copy.host)?.connect().await?;
        connection.ask(Method::GET, &format!("/containers/{}/json", copy.container), Body::Empty).await
    }

    /// When the process of a container began, in the engine's words: differs from one start to the next.
    pub(crate) async fn started(&self, copy: &Copy) -> Result<String> {
        let shown = self.inspect(copy).await?;
        Ok(shown["State"]["StartedAt"].as_str().context("a container has a start")?.to_owned())
    }

    /// Ends the first process of a container with SIGKILL; gives when, some milliseconds before.
    pub(crate) async fn kill_container(&self, copy: &Copy) -> Result<Instant> {
        let shown = self.inspect(copy).await?;
        let process = shown["State"]["Pid"].as_u64().context("a container that runs has a process")?;
        let words = ["kill", "-KILL", &process.to_string()].map(str::to_owned);
        let mut command = self.lab.command_on(&copy.host, &words)?;
        let when = Instant::now();
        ensure!(command.status().context("start `nsenter`")?.success(), "the container is not killed");
        Ok(when)
    }
}
