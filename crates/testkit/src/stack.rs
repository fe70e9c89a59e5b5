//! Root, clusters and workers.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use daemon::StateDirectory;
use model::Span;
use node_core::ContainerState;
use node_engine::{
    network::{InstanceNetwork, fake::FakeNetwork},
    runtime::fake::FakeRuntime,
};
use root_orchestrator::HooksConfig;
use serde_json::json;
use store::Location;
use tempfile::TempDir;

use crate::{
    Api, Daemon, api_tls,
    daemon_task::adopt,
    ground::{contents, listen, new_directory, port_of, unlocked},
};

const PASSWORD: &str = "correct horse";
/// As the daemons have it by themselves.
const LIFE_OF_CLUSTERS: u32 = 365 * 86_400;
const LIFE_OF_WORKERS: u32 = 30 * 86_400;

/// A root and its state, which outlives a restart.
#[derive(Debug)]
pub struct Root {
    directory: TempDir,
    /// Where it and all below it are.
    address: IpAddr,
    api_port: u16,
    cluster_port: u16,
    hooks: HooksConfig,
    store: Location,
    daemon: Option<Daemon>,
    /// Logged in as `Admin`.
    pub api: Api,
}

impl Root {
    /// A new root, ready.
    pub async fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into()).await
    }

    /// As [`Root::start`], with this address for it and all below it.
    pub async fn start_at(address: IpAddr) -> Self {
        Self::start_with(address, Location::embedded(), HooksConfig::default()).await
    }

    /// As [`Root::start`], with hooks that are called so.
    pub async fn start_with_hooks(hooks: HooksConfig) -> Self {
        Self::start_with(Ipv4Addr::LOCALHOST.into(), Location::embedded(), hooks).await
    }

    /// As [`Root::start`], with its documents there.
    pub async fn start_on(store: Location) -> Self {
        Self::start_with(Ipv4Addr::LOCALHOST.into(), store, HooksConfig::default()).await
    }

    /// As [`Root::start`], with a REST API that speaks TLS.
    pub async fn start_over_tls() -> Self {
        let (directory, address) = (new_directory(), Ipv4Addr::LOCALHOST.into());
        api_tls::certify(directory.path(), address);
        Self::start_in(directory, address, Location::embedded(), HooksConfig::default()).await
    }

    async fn start_with(address: IpAddr, store: Location, hooks: HooksConfig) -> Self {
        Self::start_in(new_directory(), address, store, hooks).await
    }

    async fn start_in(directory: TempDir, address: IpAddr, store: Location, hooks: HooksConfig) -> Self {
        let (api, cluster) = (listen(address, 0).await, listen(address, 0).await);
        let (api_port, cluster_port) = (port_of(&api), port_of(&cluster));
        let daemon = run_root(directory.path(), &store, &hooks, api, cluster);
        let base = format!("{}://{}", api_tls::scheme(directory.path()), SocketAddr::new(address, api_port));
        let api = Api::log_in(base, api_tls::client(directory.path(), None), PASSWORD).await;
        Self { directory, address, api_port, cluster_port, hooks, store, daemon: Some(daemon), api }
    }

    /// What another root says that is to have its documents there and cannot; as one line.
    pub async fn refused_on(store: Location) -> String {
        let (directory, address) = (new_directory(), Ipv4Addr::LOCALHOST.into());
        let (api, cluster) = (listen(address, 0).await, listen(address, 0).await);
        run_root(directory.path(), &store, &HooksConfig::default(), api, cluster).failure().await
    }

    /// Waits for it to end by itself; its error as one line.
    pub async fn failure(&mut self) -> String {
        self.daemon.take().expect("it runs").failure().await
    }

    /// Its state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Everything it has stored, as bytes.
    #[must_use]
    pub fn stored(&self) -> Vec<u8> {
        contents(self.directory.path())
    }

    /// The file it stores everything in, to be opened by others while it is killed.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.directory.path().join("state/store.sqlite")
    }

    /// Kills it in the middle of whatever it does.
    pub fn kill(&mut self) {
        self.daemon = None;
    }

    /// Starts it again on the same ports with what it had stored.
    pub async fn start_again(&mut self) {
        let (api, cluster) =
            (listen(self.address, self.api_port).await, listen(self.address, self.cluster_port).await);
        let start = || run_root(self.directory.path(), &self.store, &self.hooks, api, cluster);
        self.daemon = Some(unlocked(self.directory.path(), start).await);
        let client = api_tls::client(self.directory.path(), None);
        self.api = Api::log_in(self.api.base().to_owned(), client, PASSWORD).await;
    }

    /// Somebody without a login who shows the certificate of the daemon with this state directory to an API that speaks TLS.
    #[must_use]
    pub fn showing(&self, state: &Path) -> Api {
        self.api.anonymous().with_client(api_tls::client(self.directory.path(), Some(state)))
    }

    /// Where clusters dial it.
    #[must_use]
    pub fn cluster_address(&self) -> String {
        SocketAddr::new(self.address, self.cluster_port).to_string()
    }

    /// A cluster of this root, connected.
    pub async fn cluster(&self, name: &str) -> Cluster {
        self.cluster_certifying_for(name, Span::from_secs(LIFE_OF_WORKERS)).await
    }

    /// The same, with certificates for its workers that last so long.
    pub async fn cluster_certifying_for(&self, name: &str, certificate_life: Span) -> Cluster {
        let (mut cluster, listener) = self.joining(name, certificate_life).await;
        cluster.daemon = Some(cluster.run(listener));
        crate::wait_until("the cluster to be active", async || {
            let active = self.api.get("/api/clusters/active").await.ok();
            let there = active.as_array().expect("a list").iter().any(|found| found["cluster_name"] == name);
            if there { Ok(()) } else { Err(active.to_string()) }
        })
        .await;
        // Until then the root signs for its workers.
        crate::wait_until("the cluster to be lent an authority", async || {
            let there = cluster.state().join("intermediate.pem").exists();
            if there { Ok(()) } else { Err("it has none".to_owned()) }
        })
        .await;
        cluster
    }

    /// Another that comes with a token for this name; the caller holds its daemon and its state.
    pub async fn posing_as(&self, name: &str) -> Cluster {
        let (mut cluster, listener) = self.joining(name, Span::from_secs(LIFE_OF_WORKERS)).await;
        cluster.daemon = Some(cluster.run(listener));
        cluster
    }

    async fn joining(&self, name: &str, certificate_life: Span) -> (Cluster, TcpListener) {
        let token = self.api.token(json!({"kind": "cluster", "cluster": name})).await;
        let directory = new_directory();
        let listener = listen(self.address, 0).await;
        let cluster = Cluster {
            directory,
            address: self.address,
            worker_port: port_of(&listener),
            root_port: self.cluster_port,
            name: name.to_owned(),
            token,
            certificate_life,
            daemon: None,
        };
        (cluster, listener)
    }
}

fn run_root(
    directory: &Path,
    store: &Location,
    hooks: &HooksConfig,
    api: TcpListener,
    cluster: TcpListener,
) -> Daemon {
    let config = root_orchestrator::Config {
        state_dir: directory.join("state"),
        store: store.clone(),
        api_listen: api.local_addr().expect("bound"),
        api_tls: api_tls::config(directory),
        cluster_listen: cluster.local_addr().expect("bound"),
        relay_port: 0,
        relay_address: None,
        admin_password: Some(PASSWORD.to_owned()),
        certificate_life: Span::from_secs(LIFE_OF_CLUSTERS),
        audit_records: 100_000,
        bootstrap_cluster: None,
        bootstrap_token_file: None,
        new_login_key: false,
        secrets: root_orchestrator::SecretsKeyConfig::default(),
        oidc: root_orchestrator::OidcConfig::default(),
        hooks: hooks.clone(),
    };
    Daemon::start(|shutdown| async move {
        let listeners = root_orchestrator::Listeners { api: adopt(api), cluster: adopt(cluster) };
        root_orchestrator::run(config, listeners, shutdown).await
    })
}

/// A cluster orchestrator and its state.
#[derive(Debug)]
pub struct Cluster {
    directory: TempDir,
    address: IpAddr,
    worker_port: u16,
    root_port: u16,
    name: String,
    token: String,
    certificate_life: Span,
    daemon: Option<Daemon>,
}

impl Cluster {
    /// Everything it has stored.
    #[must_use]
    pub fn stored(&self) -> Vec<u8> {
        contents(self.directory.path())
    }

    fn run(&self, listener: TcpListener) -> Daemon {
        let config = cluster_orchestrator::Config {
            name: self.name.clone(),
            location: "48.137,11.575,1000".parse().expect("a location"),
            root_address: self.address.to_string(),
            root_port: self.root_port,
            token: Some(self.token.parse().expect("a token")),
            token_file: None,
            worker_listen: listener.local_addr().expect("bound"),
            relay_port: 0,
            relay_address: None,
            trusted_site: false,
            beat_interval_millis: liveness::USUAL_INTERVAL_MILLIS,
            certificate_life: self.certificate_life,
            state_dir: self.state(),
        };
        Daemon::start(
            |shutdown| async move { cluster_orchestrator::run(config, adopt(listener), shutdown).await },
        )
    }

    /// Its state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Where its workers dial it.
    #[must_use]
    pub fn worker_address(&self) -> String {
        SocketAddr::new(self.address, self.worker_port).to_string()
    }

    /// Kills it in the middle of whatever it does.
    pub fn kill(&mut self) {
        self.daemon = None;
    }

    /// Starts it again on the same port with what it had stored.
    pub async fn start_again(&mut self) {
        let listener = listen(self.address, self.worker_port).await;
        self.daemon = Some(unlocked(self.directory.path(), || self.run(listener)).await);
    }

    /// Waits for it to end by itself; its error as one line.
    ///
    /// # Panics
    /// When it does not run, or ends without an error.
    pub async fn failure(mut self) -> String {
        self.daemon.take().expect("it runs").failure().await
    }

    /// Changes what it calls itself at its next start.
    pub fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }

    /// A worker of this cluster, connected; its container engine is a fake.
    pub async fn worker(&self, api: &Api, name: &str) -> Worker {
        self.started(api, self.device(api, name).await).await
    }

    /// The same with a NetManager, which is a fake too.
    pub async fn worker_behind(&self, api: &Api, name: &str, network: FakeNetwork) -> Worker {
        let device = self.device(api, name).await;
        self.started(api, Worker { network: Some(network), ..device }).await
    }

    async fn started(&self, api: &Api, mut worker: Worker) -> Worker {
        let before = active_workers(api, &self.name).await;
        worker.daemon = Some(worker.run());
        crate::wait_until("the worker to be active", async || {
            let now = active_workers(api, &self.name).await;
            if now > before { Ok(()) } else { Err(format!("{now} workers")) }
        })
        .await;
        worker
    }
}

impl Cluster {
    /// A device with a token for this cluster that was never started.
    pub async fn device(&self, api: &Api, name: &str) -> Worker {
        let token = api.token(json!({"kind": "worker", "cluster": self.name})).await;
        Worker {
            directory: new_directory(),
            address: self.address,
            cluster_port: self.worker_port,
            name: name.to_owned(),
            token,
            runtime: FakeRuntime::new(),
            network: None,
            daemon: None,
        }
    }
}

async fn active_workers(api: &Api, cluster: &str) -> u64 {
    let clusters = api.get("/api/clusters").await.ok();
    let found = clusters.as_array().expect("a list").iter().find(|found| found["cluster_name"] == cluster);
    found.and_then(|found| found["active_nodes"].as_u64()).unwrap_or(0)
}

/// A NodeEngine and its state.
#[derive(Debug)]
pub struct Worker {
    directory: TempDir,
    address: IpAddr,
    cluster_port: u16,
    name: String,
    token: String,
    /// Its container engine, which outlives a restart.
    pub runtime: FakeRuntime,
    network: Option<FakeNetwork>,
    daemon: Option<Daemon>,
}

impl Worker {
    /// Everything it has stored.
    #[must_use]
    pub fn stored(&self) -> Vec<u8> {
        contents(self.directory.path())
    }

    /// Its state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn run(&self) -> Daemon {
        let config = node_engine::Config {
            cluster_address: self.address.to_string(),
            cluster_port: self.cluster_port,
            net_manager_port: None,
            unikernels: false,
            token: Some(self.token.clone()),
            name: Some(self.name.clone()),
            state_dir: self.directory.path().join("state"),
            docker_socket: PathBuf::from("/nonexistent"),
            net_manager_key: PathBuf::from("/nonexistent"),
            secrets_dir: PathBuf::from("/nonexistent"),
            gate_program: PathBuf::from("/nonexistent"),
        };
        let runtime = Arc::new(self.runtime.clone());
        let network = self.network.clone().map(|network| Arc::new(network) as Arc<dyn InstanceNetwork>);
        Daemon::start(|shutdown| async move {
            let state = Arc::new(StateDirectory::open(&config.state_dir)?);
            node_engine::run_with(config, state, runtime, network, shutdown).await
        })
    }

    /// Another device with the same token, not started.
    #[must_use]
    pub fn twin(&self, name: &str) -> Self {
        Self {
            directory: new_directory(),
            address: self.address,
            cluster_port: self.cluster_port,
            name: name.to_owned(),
            token: self.token.clone(),
            runtime: FakeRuntime::new(),
            network: None,
            daemon: None,
        }
    }

    /// The same device without its certificate, which has its key and another token; not started.
    ///
    /// # Panics
    /// When it has no key.
    #[must_use]
    pub fn rejoining(&self, token: String) -> Self {
        let again = Self { token, ..self.twin(&self.name) };
        let state = again.directory.path().join("state");
        std::fs::create_dir(&state).expect("a new directory");
        let key = self.directory.path().join("state").join("identity.key");
        std::fs::copy(key, state.join("identity.key")).expect("it has joined");
        again
    }

    /// Starts it; the caller holds the daemon.
    #[must_use]
    pub fn start(&self) -> Daemon {
        self.run()
    }

    /// Kills it; its containers go on.
    pub fn kill(&mut self) {
        self.daemon = None;
    }

    /// Starts it again with what it had stored.
    pub async fn start_again(&mut self) {
        self.daemon = Some(unlocked(self.directory.path(), || self.run()).await);
    }

    /// Its id, from its certificate.
    #[must_use]
    pub fn id(&self) -> String {
        let subject = self.identity().subject();
        let link::Subject::Worker { worker, .. } = subject else { panic!("a worker is {subject}") };
        worker.to_string()
    }

    /// Where its cluster is dialled.
    #[must_use]
    pub fn cluster_address(&self) -> String {
        SocketAddr::new(self.address, self.cluster_port).to_string()
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> link::Identity {
        // A copy: the running daemon has the directory for itself.
        let copy = new_directory();
        for file in ["identity.key", "identity.pem", "ca.pem"] {
            let kept = self.directory.path().join("state").join(file);
            std::fs::copy(kept, copy.path().join(file)).expect("it has joined");
        }
        let copy = StateDirectory::open(copy.path()).expect("usable");
        link::Identity::load(&copy).expect("readable").expect("it has joined")
    }

    /// Whether it has joined its cluster.
    ///
    /// # Errors
    /// In words, when it has not.
    pub fn joined(&self) -> Result<(), String> {
        let certificate = self.directory.path().join("state").join("identity.pem");
        if certificate.exists() { Ok(()) } else { Err("it has no certificate yet".to_owned()) }
    }

    /// How many of its containers run.
    #[must_use]
    pub fn running(&self) -> usize {
        let containers = self.runtime.containers().into_iter();
        containers.filter(|(_, container)| matches!(container.state, ContainerState::Running { .. })).count()
    }

    /// How often each of its containers was started.
    #[must_use]
    pub fn starts(&self) -> Vec<u32> {
        self.runtime.containers().into_iter().map(|(_, container)| container.starts).collect()
    }

    /// Long enough for something that must not happen to have happened.
    pub async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
