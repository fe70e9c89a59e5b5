//! Workflows: what a step of a run costs on a real device beside create and start of the same image on the same engine
//! (`hops.rs`), and how many runs a second root and clusters take whose devices end everything at once (`no_op.rs`).

mod hops;
mod no_op;

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

use super::{
    figure::Figure,
    http::{Body, Connection, Method},
    stack::{root::Root, with_stack},
};

const GROUP: &str = "/apis/sirocco.cloud/v1alpha1/namespaces/root";
const IGNITOR: &str = "bench";
/// Longer than anything takes here.
const SEEN_WITHIN: Duration = Duration::from_secs(120);

/// Measures both, one after the other.
pub(crate) fn run(logs: &Path) -> Result<Vec<Figure>> {
    let mut figures = with_stack(logs, hops::measure)?;
    figures.extend(no_op::run()?);
    Ok(figures)
}

/// Makes an ignitor that is fired by hand, and a chain of so many tasks behind it: each but the first is started by the one
/// before.
async fn make_chain(root: &Root, name: &str, length: usize, image: &str) -> Result<()> {
    let mut connection = root.connect().await?;
    let ignitor = json!({"apiVersion": "sirocco.cloud/v1alpha1", "kind": "Ignitor", "metadata": {"name": name}, "spec": {}});
    connection.ask(Method::POST, &format!("{GROUP}/ignitors"), Body::Json(ignitor)).await?;
    for number in 0..length {
        let container = json!({
            "name": "step", "image": image, "args": ["exit", "0"],
            "resources": {"requests": {"memory": "32Mi"}},
        });
        let mut task = json!({
            "apiVersion": "sirocco.cloud/v1alpha1", "kind": "Task",
            "metadata": {"name": format!("{name}{number}")},
            "spec": {"template": {"spec": {"containers": [container], "restartPolicy": "Never"}}},
        });
        match number {
            0 => task["spec"]["startOnIgnition"] = json!([name]),
            _ => task["spec"]["startOnSuccess"] = json!([format!("{name}{}", number - 1)]),
        }
        connection.ask(Method::POST, &format!("{GROUP}/tasks"), Body::Json(task)).await?;
    }
    Ok(())
}

/// Fires an ignitor; the name of the run.
async fn fire(connection: &mut Connection, ignitor: &str) -> Result<String> {
    let run = json!({"apiVersion": "sirocco.cloud/v1alpha1", "kind": "Run", "spec": {"ignitor": ignitor}});
    let made = connection.ask(Method::POST, &format!("{GROUP}/runs"), Body::Json(run)).await?;
    Ok(made["metadata"]["name"].as_str().context("the run has no name")?.to_owned())
}

/// Lines of JSON that come for as long as somebody reads.
struct Lines {
    body: Incoming,
    unread: Vec<u8>,
}

impl Lines {
    const fn of(body: Incoming) -> Self {
        Self { body, unread: Vec::new() }
    }

    /// The next line; `None` at the end.
    async fn next(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return serde_json::from_slice(&line).context("read a line").map(Some);
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let data = frame.context("read on")?.into_data();
            self.unread.extend_from_slice(&data.unwrap_or_default());
        }
    }
}

/// Which runs have succeeded, and when that was told.
struct Succeeded {
    told: watch::Receiver<BTreeMap<String, Instant>>,
}

impl Succeeded {
    /// Watches from now on.
    async fn watch(root: &Root) -> Result<Self> {
        let listed =
            root.connect().await?.ask(Method::GET, &format!("{GROUP}/runs?limit=1"), Body::Empty).await?;
        let revision = listed["metadata"]["resourceVersion"].as_str().context("the list has no revision")?;
        let path = format!(
            "{GROUP}/runs?watch=true&resourceVersion={revision}&fieldSelector=status.phase%3DSucceeded"
        );
        let mut lines = Lines::of(root.connect().await?.follow(&path).await?);
        let (sender, told) = watch::channel(BTreeMap::new());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next().await {
                let name = line["object"]["metadata"]["name"].as_str().unwrap_or_default();
                if line["type"] == "ADDED" {
                    sender.send_modify(|told| _ = told.insert(name.to_owned(), Instant::now()));
                }
            }
        });
        Ok(Self { told })
    }

    /// Waits until all of these have; when the last did.
    async fn all(&mut self, runs: &[String]) -> Result<Instant> {
        let waiting = self.told.wait_for(|told| runs.iter().all(|run| told.contains_key(run)));
        let told = match timeout(SEEN_WITHIN, waiting).await {
            Ok(told) => told.context("the root ended its watch")?.clone(),
            Err(_) => {
                bail!("waited {} s in vain until {} runs have succeeded", SEEN_WITHIN.as_secs(), runs.len())
            }
        };
        runs.iter().filter_map(|run| told.get(run)).max().copied().context("there are no runs")
    }
}

/// As the engine counts it.
fn now_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn millis(nanos: i64) -> f64 {
    nanos as f64 / 1e6
}
