//! `mangrove token`: what clusters and workers join with.

use serde_json::{Value, json};

use crate::{
    args::{TokenArguments, TokenWhat},
    client::Client,
    commands::get,
    error::Error,
    output::{Output, Tone},
};

/// Creates, lists or revokes tokens.
pub(crate) async fn run(client: &Client, output: &Output, what: TokenWhat) -> Result<(), Error> {
    match what {
        TokenWhat::Create(arguments) => create(client, output, &arguments).await,
        TokenWhat::List(listing) => get::tokens(client, output, listing).await,
        TokenWhat::Revoke { ids } => revoke_all(client, output, "/api/tokens", &ids).await,
    }
}

async fn create(client: &Client, output: &Output, arguments: &TokenArguments) -> Result<(), Error> {
    let cluster = arguments.cluster.as_ref().or(arguments.for_cluster.as_ref());
    let mut request = json!({"kind": if arguments.worker { "worker" } else { "cluster" }});
    if let Some(cluster) = cluster {
        request["cluster"] = json!(cluster);
    }
    if let Some(uses) = arguments.uses {
        request["uses"] = json!(uses);
    }
    if let Some(ttl) = arguments.ttl {
        request["ttl_seconds"] = json!(ttl.as_secs());
    }
    let created = client.post("/api/tokens", Some(&request)).await?;
    let token = client.field(&created, "token", "POST /api/tokens")?;
    match arguments.output {
        Some(crate::args::TokenFormat::Json) => output.json(&created)?,
        None => output.data(token)?,
    }
    let advice = match (&arguments.cluster, arguments.worker) {
        (Some(name), _) => cluster_advice(client.root(), name, token),
        (None, _) => worker_advice(token),
    };
    output.note(&output.painted(Tone::Quiet, &advice));
    output.note(&output.painted(Tone::Quiet, &limits(&created)));
    Ok(())
}

fn limits(created: &Value) -> String {
    let uses = match created["uses"].as_u64() {
        Some(1) => "once".to_owned(),
        Some(uses) => format!("{uses} times"),
        None => "any number of times".to_owned(),
    };
    match created["expires_at"].as_str() {
        Some(end) => format!("It can be used {uses}, until {end}."),
        None => format!("It can be used {uses}."),
    }
}

fn cluster_advice(root: &str, name: &str, token: &str) -> String {
    let host = reqwest::Url::parse(root).ok().and_then(|url| url.host_str().map(str::to_owned));
    let host = host.unwrap_or_else(|| "ROOT_ADDRESS".to_owned());
    format!(
        "Start the cluster with:\n  \
         MANGROVE_TOKEN={token} SYSTEM_MANAGER_URL={host} CLUSTER_NAME={name} \
         CLUSTER_LOCATION=LATITUDE,LONGITUDE,RADIUS cluster-orchestrator"
    )
}

fn worker_advice(token: &str) -> String {
    format!("Start the worker with:\n  NodeEngine -a CLUSTER_ADDRESS --token {token}")
}

/// Revokes the tokens of those ids that are kept at `path`.
pub(super) async fn revoke_all(
    client: &Client,
    output: &Output,
    path: &str,
    ids: &[String],
) -> Result<(), Error> {
    // An id becomes part of a path and must not lead elsewhere.
    let is_id = |id: &String| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if let Some(id) = ids.iter().find(|id| !is_id(id)) {
        return Err(Error::Unknown { kind: "token", name: id.clone(), application: None, nearest: None });
    }
    let mut failed = 0;
    for id in ids {
        match client.delete(&format!("{path}/{id}")).await {
            Ok(_) => output.note(&format!("revoked token {id}")),
            Err(error) if ids.len() == 1 => return Err(error),
            Err(error) => {
                failed += 1;
                output.failure(&error);
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(Error::Partly { failed, all: ids.len() }) }
}
