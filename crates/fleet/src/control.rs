//! One root and many clusters in this process, or a part of them, as their own programs run them.
//!
//! Each group of clusters has a thread with one runtime, as `cluster-orchestrator` has, and a table of open files of its
//! own: a hundred thousand connections are more than one table may hold.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use link::Subject;
use model::Span;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    events::{Event, tell},
    plan::{Plan, Site, cluster_state, identity_in, root_state},
    tables,
};

/// The password of the fleet's `Admin`.
pub const PASSWORD: &str = "Admin";
/// Files of a cluster besides the connections of its workers, generously.
const FILES_OF_CLUSTER: usize = 32;
/// Two groups at least, so that two processor cores are of use.
const GROUPS: usize = 2;
/// Nothing is renewed while something is measured.
const CERTIFICATE_LIFE: Span = Span::from_secs(365 * 86_400);
const JOINED_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What to run.
#[derive(Debug, Clone, clap::Parser)]
#[command(about = "A root and many clusters in one process, to be measured")]
pub struct Options {
    /// Where state directories and plan.json are; what is there already is continued.
    #[arg(long)]
    pub folder: PathBuf,
    /// How many clusters a new fleet has.
    #[arg(long, default_value_t = 2)]
    pub clusters: usize,
    /// How many workers each cluster will have: how many connections to be prepared for.
    #[arg(long, default_value_t = 100)]
    pub workers_per_cluster: usize,
    /// The first of the ports of a new fleet, on the loopback; any that are free if not given.
    #[arg(long)]
    pub base_port: Option<u16>,
    /// Milliseconds between two signs of life of a worker.
    #[arg(long, env = "MANGROVE_BEAT_INTERVAL", default_value_t = liveness::USUAL_INTERVAL_MILLIS)]
    pub beat_interval: u64,
    /// What of a fleet that has been started before.
    #[arg(long, value_enum, default_value_t)]
    pub part: Part,
}

/// What of a fleet runs in one process, so that one can be killed and the others go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Part {
    /// Everything.
    #[default]
    All,
    /// The root alone.
    Root,
    /// The first cluster alone.
    First,
    /// All other clusters.
    Others,
}

impl Part {
    fn has_root(self) -> bool {
        matches!(self, Self::All | Self::Root)
    }

    fn of(self, clusters: &[Site]) -> &[Site] {
        let (first, others) = clusters.split_at(clusters.len().min(1));
        match self {
            Self::All => clusters,
            Self::Root => &[],
            Self::First => first,
            Self::Others => others,
        }
    }
}

/// One cluster as it is started.
struct Start {
    name: String,
    state: PathBuf,
    for_workers: SocketAddr,
    root_port: u16,
    token: Option<String>,
    beat_interval_millis: u64,
}

/// Starts everything or the part asked for, says `ready`, and runs until a daemon ends.
///
/// # Errors
/// When something cannot be started, or a daemon ends; when a part of a fleet is asked for that never was whole.
pub fn run(options: &Options) -> Result<Infallible> {
    let (ended, ends) = channel();
    let api = match Plan::load(&options.folder)? {
        Some(plan) => resume(options, &plan, &ended)?,
        None => found(options, &ended, &ends)?,
    };
    tell(&Event::Ready { api: api.to_string() }).context("say that everything runs")?;
    end(&ends)
}

/// Goes on with what is there; tells where the API is.
fn resume(options: &Options, plan: &Plan, ended: &Sender<String>) -> Result<SocketAddr> {
    if options.part.has_root() {
        start_root(&options.folder, bind(plan.api)?, bind(plan.for_clusters)?, ended.clone())?;
    }
    let sites = options.part.of(&plan.clusters);
    let starts = sites.iter().map(|site| known(options, plan, site)).collect();
    start_clusters(starts, options.workers_per_cluster, ended)?;
    Ok(plan.api)
}

/// A fleet that was not there; tells where its API is.
fn found(options: &Options, ended: &Sender<String>, ends: &Receiver<String>) -> Result<SocketAddr> {
    ensure!(options.part == Part::All, "only a fleet that has been started whole has parts");
    let mut ports = Ports { next: options.base_port };
    let (api, for_clusters) = (ports.any()?, ports.any()?);
    let (api_address, cluster_address) = (api.local_addr()?, for_clusters.local_addr()?);
    start_root(&options.folder, api, for_clusters, ended.clone())?;
    let starts = newcomers(options, &mut ports, api_address, cluster_address)?;
    let sites = starts.iter().map(|start| (start.name.clone(), start.for_workers)).collect();
    start_clusters(starts, options.workers_per_cluster, ended)?;
    let none =
        Plan { root: Uuid::nil(), api: api_address, for_clusters: cluster_address, clusters: Vec::new() };
    joined(options, none, sites, ends)?.save(&options.folder)?;
    Ok(api_address)
}

fn end(ends: &Receiver<String>) -> Result<Infallible> {
    match ends.recv() {
        Ok(reason) => bail!(reason),
        Err(_) => bail!("nothing runs"),
    }
}

fn start_root(
    folder: &Path,
    api: TcpListener,
    for_clusters: TcpListener,
    ended: Sender<String>,
) -> Result<()> {
    let config = root_orchestrator::Config {
        state_dir: root_state(folder),
        store: store::Location::embedded(),
        api_listen: api.local_addr()?,
        api_tls: root_orchestrator::ApiTlsConfig::default(),
        cluster_listen: for_clusters.local_addr()?,
        relay_port: 0,
        relay_address: None,
        admin_password: Some(PASSWORD.to_owned()),
        audit_records: 100_000,
        certificate_life: CERTIFICATE_LIFE,
        bootstrap_cluster: None,
        bootstrap_token_file: None,
        new_login_key: false,
        secrets: root_orchestrator::SecretsKeyConfig::default(),
        oidc: root_orchestrator::OidcConfig::default(),
        hooks: root_orchestrator::HooksConfig::default(),
    };
    let run = move || {
        root_runtime()?.block_on(async {
            let listeners = root_orchestrator::Listeners { api: adopt(api)?, cluster: adopt(for_clusters)? };
            root_orchestrator::run(config, listeners, CancellationToken::new()).await
        })
    };
    thread::Builder::new().name("root".to_owned()).spawn(move || report_end("the root", run(), &ended))?;
    Ok(())
}

fn start_clusters(starts: Vec<Start>, workers_per_cluster: usize, ended: &Sender<String>) -> Result<()> {
    let per_table = (tables::room()? / (workers_per_cluster + FILES_OF_CLUSTER)).max(1);
    let groups = starts.len().div_ceil(per_table).max(GROUPS).min(starts.len());
    let mut members: Vec<Vec<Start>> = (0..groups).map(|_| Vec::new()).collect();
    for (index, start) in starts.into_iter().enumerate() {
        members[index % groups].push(start);
    }
    for (number, members) in members.into_iter().enumerate() {
        let ended = ended.clone();
        tables::spawn(format!("clusters-{number}"), move || {
            let outcome = run_group(members, &ended);
            report_end("a group of clusters", outcome, &ended);
            Ok(())
        })?;
    }
    Ok(())
}

fn run_group(members: Vec<Start>, ended: &Sender<String>) -> Result<()> {
    let runtime = runtime()?;
    for start in members {
        let ended = ended.clone();
        let listener = bind(start.for_workers)?;
        runtime.spawn(async move {
            let name = start.name.clone();
            report_end(&name, run_cluster(start, listener).await, &ended);
        });
    }
    runtime.block_on(std::future::pending())
}

async fn run_cluster(start: Start, listener: TcpListener) -> Result<()> {
    let config = cluster_orchestrator::Config {
        name: start.name,
        location: "48.137,11.575,1000".parse().context("understand a location")?,
        root_address: Ipv4Addr::LOCALHOST.to_string(),
        root_port: start.root_port,
        token: start.token.map(|token| token.parse()).transpose()?,
        token_file: None,
        worker_listen: start.for_workers,
        relay_port: 0,
        relay_address: None,
        trusted_site: false,
        beat_interval_millis: start.beat_interval_millis,
        certificate_life: CERTIFICATE_LIFE,
        state_dir: start.state,
    };
    cluster_orchestrator::run(config, adopt(listener)?, CancellationToken::new()).await
}

fn report_end(name: &str, outcome: Result<()>, ended: &Sender<String>) {
    let reason = match outcome {
        Ok(()) => format!("{name} ended"),
        Err(error) => format!("{name} ended: {error:#}"),
    };
    // Whoever listened may have heard of another end before.
    drop(ended.send(reason));
}

fn known(options: &Options, plan: &Plan, site: &Site) -> Start {
    Start {
        name: site.name.clone(),
        state: cluster_state(&options.folder, &site.name),
        for_workers: site.for_workers,
        root_port: plan.for_clusters.port(),
        token: None,
        beat_interval_millis: options.beat_interval,
    }
}

/// Clusters that have yet to join, each with its token.
fn newcomers(
    options: &Options,
    ports: &mut Ports,
    api: SocketAddr,
    for_clusters: SocketAddr,
) -> Result<Vec<Start>> {
    ensure!(options.clusters > 0, "a fleet has at least one cluster");
    let names: Vec<String> = (0..options.clusters).map(|number| format!("c{number:03}")).collect();
    let tokens = runtime()?.block_on(tokens(api, &names))?;
    let start = |(name, token): (String, String)| {
        // Let go at once: the cluster binds it again in its own table.
        let for_workers = ports.any()?.local_addr()?;
        let state = cluster_state(&options.folder, &name);
        Ok(Start {
            name,
            state,
            for_workers,
            root_port: for_clusters.port(),
            token: Some(token),
            beat_interval_millis: options.beat_interval,
        })
    };
    names.into_iter().zip(tokens).map(start).collect()
}

async fn tokens(api: SocketAddr, names: &[String]) -> Result<Vec<String>> {
    let client = http_client();
    let login = json!({"username": "Admin", "password": PASSWORD}).to_string();
    let answer = ask(&client, format!("http://{api}/api/auth/login"), None, login).await?;
    let bearer = text(&answer)?;
    let mut tokens = Vec::new();
    for name in names {
        let wanted = json!({"kind": "cluster", "cluster": name}).to_string();
        let answer = ask(&client, format!("http://{api}/api/tokens"), Some(&bearer), wanted).await?;
        tokens.push(text(&answer)?);
    }
    Ok(tokens)
}

/// Built together with the command line every client can speak TLS, and wants to know by what.
#[must_use]
pub fn http_client() -> reqwest::Client {
    // Whoever says so first is heard.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::new()
}

async fn ask(client: &reqwest::Client, url: String, bearer: Option<&str>, body: String) -> Result<Value> {
    let mut request = client.post(&url).header("content-type", "application/json").body(body);
    if let Some(bearer) = bearer {
        request = request.bearer_auth(bearer);
    }
    let answer =
        request.send().await.with_context(|| format!("ask {url}"))?.error_for_status()?.text().await?;
    serde_json::from_str(&answer).with_context(|| format!("understand the answer of {url}"))
}

fn text(answer: &Value) -> Result<String> {
    Ok(answer["token"].as_str().context("the root's answer has no token")?.to_owned())
}

/// Waits until every cluster has an identity, and enters it into the plan.
fn joined(
    options: &Options,
    mut plan: Plan,
    sites: Vec<(String, SocketAddr)>,
    ends: &Receiver<String>,
) -> Result<Plan> {
    let deadline = Instant::now() + JOINED_WITHIN;
    for (name, for_workers) in sites {
        let state = cluster_state(&options.folder, &name);
        let subject = loop {
            if let Some(identity) = identity_in(&state)? {
                break identity.subject();
            }
            if let Ok(reason) = ends.try_recv() {
                bail!(reason);
            }
            ensure!(Instant::now() < deadline, "cluster {name} did not join in time");
            thread::sleep(LOOK_AGAIN);
        };
        let Subject::Cluster { root, cluster } = subject else { bail!("cluster {name} is {subject}") };
        plan.root = root;
        plan.clusters.push(Site { name, id: cluster, for_workers });
    }
    Ok(plan)
}

/// As `cluster-orchestrator` has it.
fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("start a runtime")
}

/// As `root-orchestrator` has it.
fn root_runtime() -> Result<Runtime> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().context("start a runtime")
}

/// Ports on the loopback, one after another or any that are free.
struct Ports {
    next: Option<u16>,
}

impl Ports {
    fn any(&mut self) -> Result<TcpListener> {
        let port = self.next.unwrap_or(0);
        self.next = self.next.map(|next| next.saturating_add(1));
        bind((Ipv4Addr::LOCALHOST, port).into())
    }
}

/// As the daemons bind: with a backlog for a thousand workers that come at once, and although connections of the run
/// before are not forgotten yet.
fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).with_context(|| format!("listen on {address}"))
}

fn adopt(listener: TcpListener) -> Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true).context("use a port without waiting")?;
    tokio::net::TcpListener::from_std(listener).context("use a port")
}
