//! How hosts of a lab become a Mangrove: tokens from the root, and waiting until all have joined.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Lab, control::Request, host::Host, plan::Plan};
use crate::bench::{
    http::{Body, Method},
    stack::{root::Root, wait::wait_until},
};

/// Many engines that start at once on two processors keep everybody waiting.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// Lets the orchestrators and workers of a lab come up and join each other. Engines may be started before.
pub(super) async fn join(lab: &Lab) -> Result<()> {
    let level = std::env::var("MANGROVE_LOG").ok();
    let level = level.as_deref();
    boot(lab, Host::Root, &Plan::of(lab.shape, Host::Root, None, level))?;
    let root = wait_until("the root lets Admin in", READY_WITHIN, async || lab.api().await.map(Some)).await?;
    for number in 1..=lab.shape.clusters {
        let cluster = Host::Cluster(number);
        let token = token(&root, &json!({"kind": "cluster", "cluster": cluster.to_string()})).await?;
        boot(lab, cluster, &Plan::of(lab.shape, cluster, Some(&token), level))?;
    }
    wait_until("all clusters have joined", READY_WITHIN, async || {
        Ok((workers(&root).await?.len() == usize::from(lab.shape.clusters)).then_some(()))
    })
    .await?;
    for number in 1..=lab.shape.clusters {
        if lab.shape.workers > 0 {
            let cluster = Host::Cluster(number).to_string();
            let wanted = json!({"kind": "worker", "cluster": cluster, "uses": lab.shape.workers});
            let token = token(&root, &wanted).await?;
            for worker in lab.shape.workers().filter(|worker| is_of(*worker, number)) {
                boot(lab, worker, &Plan::of(lab.shape, worker, Some(&token), level))?;
            }
        }
    }
    Ok(())
}

/// Waits until every worker is seen by the root.
pub(super) async fn await_workers(lab: &Lab) -> Result<()> {
    let root = lab.api().await?;
    let all: BTreeMap<String, u64> = (1..=lab.shape.clusters)
        .map(|number| (Host::Cluster(number).to_string(), u64::from(lab.shape.workers)))
        .collect();
    wait_until("all workers have joined", READY_WITHIN, async || {
        let joined = workers(&root).await?;
        ensure!(joined == all, "the root knows of {joined:?}, not of {all:?}");
        Ok(Some(()))
    })
    .await
}

/// Gives a host its plan and lets it start what is new in it.
pub(super) fn boot(lab: &Lab, host: Host, plan: &Plan) -> Result<()> {
    let path = lab.layout.host(host).plan();
    fs::write(&path, serde_json::to_vec_pretty(plan)?)
        .with_context(|| format!("write {}", path.display()))?;
    lab.ask(host, &Request::Boot).map(drop)
}

fn is_of(worker: Host, number: u8) -> bool {
    match worker {
        Host::Worker { cluster, .. } => cluster == number,
        Host::Root | Host::Cluster(_) | Host::Bare(_) => false,
    }
}

async fn token(root: &Root, wanted: &Value) -> Result<String> {
    let answer = root.connect().await?.ask(Method::POST, "/api/tokens", Body::Json(wanted.clone())).await?;
    Ok(answer["token"].as_str().context("the root's answer has no token")?.to_owned())
}

/// The clusters that are there, with the number of their workers.
async fn workers(root: &Root) -> Result<BTreeMap<String, u64>> {
    #[derive(Deserialize)]
    struct Cluster {
        cluster_name: String,
        active_nodes: u64,
    }
    let answer = root.connect().await?.ask(Method::GET, "/api/clusters/active", Body::Empty).await?;
    let clusters: Vec<Cluster> = serde_json::from_value(answer).context("read the list of clusters")?;
    Ok(clusters.into_iter().map(|cluster| (cluster.cluster_name, cluster.active_nodes)).collect())
}
