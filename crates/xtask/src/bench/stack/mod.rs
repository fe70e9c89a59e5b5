//! A whole Mangrove on this machine to be measured: root, cluster, NetManager and NodeEngine as released, in a network
//! namespace and a folder of their own, on the machine's container engine.
//!
//! Because of the namespace they use their usual ports whatever else runs, and what NetManager puts into the kernel
//! disappears with it. What they leave at the engine is removed by [`with_stack`], also when it is interrupted; only
//! a SIGKILL leaves things behind: processes below the temporary folder, and containers with the label
//! `mangrove.service`.

pub(super) mod apart;
pub(crate) mod engine;
pub(crate) mod process;
pub(crate) mod root;
pub(crate) mod wait;

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use self::{engine::Engine, process::Process, root::Root, wait::wait_until};
use super::{http::Address, proc::Consumption};

/// The daemons, as [`Process`] names them.
pub(super) const ROOT: &str = "root-orchestrator";
pub(super) const CLUSTER: &str = "cluster-orchestrator";
pub(super) const NET_MANAGER: &str = "NetManager";
pub(super) const NODE_ENGINE: &str = "NodeEngine";

pub(super) const DAEMONS: [&str; 4] = [ROOT, CLUSTER, NODE_ENGINE, NET_MANAGER];

/// Reserved for and bounding one instance: `hello` needs far less.
pub(super) const MEBIBYTES: u32 = 32;

const API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10000);
const PASSWORD: &str = "Admin";
const SERVICE: &str = "hello";
/// Starting takes well below a second.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// Everything that runs, and where.
#[derive(Debug)]
pub(super) struct Stack {
    pub(super) engine: Engine,
    /// The image of `hello` on the engine, by name.
    pub(super) image: String,
    /// Tells this run from others on the same engine.
    run: String,
    folder: TempDir,
    programs: PathBuf,
    logs: PathBuf,
    processes: Vec<Process>,
}

/// Starts everything, does the work and ends everything, whether the work succeeds, fails or is interrupted. The logs
/// of the daemons stay in `logs`.
pub(super) fn with_stack<T>(
    logs: &Path,
    work: impl AsyncFnOnce(&mut Stack, &Root) -> Result<T>,
) -> Result<T> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        let mut stack = Stack::prepare(logs)?;
        let outcome = tokio::select! {
            outcome = async { work_on(&mut stack, work).await } => outcome,
            interrupted = interrupted() => Err(interrupted),
        };
        let ended = stack.end().await;
        let result = outcome.with_context(|| format!("the daemons' logs are in {}", logs.display()))?;
        ended.map(|()| result)
    })
}

async fn work_on<T>(stack: &mut Stack, work: impl AsyncFnOnce(&mut Stack, &Root) -> Result<T>) -> Result<T> {
    let root = stack.start().await?;
    let result = work(stack, &root).await?;
    // One that ended on the way makes every figure worthless.
    stack.processes.iter_mut().try_for_each(Process::ensure_runs)?;
    Ok(result)
}

async fn interrupted() -> anyhow::Error {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        return anyhow!("signals cannot be received");
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    eprintln!("interrupted; ending what was started");
    anyhow!("interrupted")
}

impl Stack {
    fn prepare(logs: &Path) -> Result<Self> {
        let programs = env::current_exe().context("find this program")?;
        let programs = programs.parent().context("this program is in a folder")?.to_owned();
        for program in [ROOT, CLUSTER, NET_MANAGER, NODE_ENGINE, SERVICE] {
            let path = programs.join(program);
            fs::metadata(&path).with_context(|| format!("find the program {}", path.display()))?;
        }
        fs::create_dir_all(logs).with_context(|| format!("create {}", logs.display()))?;
        let run = format!("run{}", std::process::id());
        Ok(Self {
            engine: Engine::of_this_machine()?,
            image: format!("mangrove-bench/{SERVICE}:{run}"),
            run,
            folder: tempfile::Builder::new()
                .prefix("mangrove-bench-")
                .tempdir()
                .context("create a temporary folder")?,
            programs,
            logs: logs.to_owned(),
            processes: Vec::new(),
        })
    }

    /// A folder that is removed at the end.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The program in the image.
    pub(super) fn payload(&self) -> PathBuf {
        self.programs.join(SERVICE)
    }

    /// The label of what a benchmark itself makes on the engine; removed at the end.
    pub(super) fn label(&self) -> (&'static str, &str) {
        ("mangrove.bench", &self.run)
    }

    /// The label of the containers that NodeEngine makes for the service.
    pub(super) fn instance_label(&self) -> String {
        format!("mangrove.service=bench.{}.{SERVICE}.bench", self.run)
    }

    /// What each of [`DAEMONS`] consumed since its start.
    pub(super) fn consumption(&self) -> Result<Vec<Consumption>> {
        self.daemon_ids()?.into_iter().map(Consumption::of).collect()
    }

    /// The process ids of [`DAEMONS`].
    pub(super) fn daemon_ids(&self) -> Result<Vec<u32>> {
        let id = |name: &str| self.processes.iter().find(|process| process.name == name).map(Process::id);
        DAEMONS.iter().map(|name| id(name).with_context(|| format!("{name} does not run"))).collect()
    }

    /// Runs one more program until the end.
    pub(super) fn start_process(&mut self, name: &'static str, command: &mut Command) -> Result<()> {
        self.processes.push(Process::start(name, command, &self.logs)?);
        Ok(())
    }

    /// A service without port mappings, so that one worker takes any number of instances.
    pub(super) fn sla(&self) -> Value {
        json!({
            "sla_version": "v2.0",
            "customerID": "Admin",
            "applications": [{
                "applicationID": "",
                "application_name": "bench",
                "application_namespace": self.run,
                "application_desc": "Made by cargo xtask bench",
                "microservices": [{
                    "microserviceID": "",
                    "microservice_name": SERVICE,
                    "microservice_namespace": "bench",
                    "virtualization": "container",
                    "code": self.image,
                    "memory": MEBIBYTES,
                    "vcpus": 0,
                }],
            }],
        })
    }

    async fn start(&mut self) -> Result<Root> {
        self.engine.import(&self.image, &self.payload()).await?;
        let mut command = self.daemon(ROOT, &["--api-listen", &API.to_string()]);
        self.start_process(ROOT, command.env("MANGROVE_ADMIN_PASSWORD", PASSWORD))?;
        let log_in = async || Root::log_in(Address::Tcp(API), PASSWORD).await.map(Some);
        let root = self.until("the root lets Admin in", log_in).await?;

        let token = root.join_token(Some("bench")).await?;
        let mut command = self.daemon(CLUSTER, &["--name", "bench", "--location", "48.137,11.575,1000"]);
        self.start_process(CLUSTER, command.args(["--root", "127.0.0.1"]).env("MANGROVE_TOKEN", token))?;
        self.until("the cluster has joined", async || root.workers().await).await?;

        let token = root.join_token(None).await?;
        let (key, config) = (self.folder().join("net-manager.key"), self.folder().join("no-netcfg.json"));
        let mut command = self.daemon(NET_MANAGER, &["--port", "6000"]);
        self.start_process(NET_MANAGER, command.arg("--local-key").arg(&key).arg("--config").arg(config))?;
        self.until("NetManager has made its key", async || Ok(key.exists().then_some(()))).await?;
        let mut command = self.daemon(NODE_ENGINE, &["-a", "127.0.0.1", "-n", "6000"]);
        command.arg("--docker-socket").arg(&self.engine.socket).arg("--net-manager-key").arg(&key);
        self.start_process(NODE_ENGINE, command.env("MANGROVE_TOKEN", token))?;
        self.until("the worker has joined", async || {
            Ok(root.workers().await?.filter(|workers| *workers > 0))
        })
        .await?;
        Ok(root)
    }

    fn daemon(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.args(arguments).arg("--state-dir").arg(self.folder().join(name));
        command
    }

    /// Waits, and fails at once when a daemon ends.
    async fn until<T>(&mut self, what: &str, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
        let processes = &mut self.processes;
        let answer = wait_until(what, READY_WITHIN, async || {
            match processes.iter_mut().try_for_each(Process::ensure_runs) {
                Ok(()) => Ok(ask().await?.map(Ok)),
                Err(ended) => Ok(Some(Err(ended))),
            }
        });
        answer.await?
    }

    /// Ends everything; what fails is told and the rest is done all the same.
    async fn end(mut self) -> Result<()> {
        let mut failures = Vec::new();
        // The newest first: NodeEngine before its containers, so that it does not start them again.
        let mut purge = false;
        while let Some(process) = self.processes.pop() {
            let name = process.name;
            failures.extend(process.end().await.err());
            if name == NODE_ENGINE {
                failures.extend(self.clear_engine().await.err());
            }
            purge |= name == NET_MANAGER;
        }
        failures.extend(self.clear_engine().await.err());
        failures.extend(self.engine.remove_image(&self.image).await.err());
        if purge {
            failures.extend(self.purge().err());
        }
        if failures.is_empty() {
            return Ok(());
        }
        let told: Vec<String> = failures.iter().map(|error| format!("{error:#}")).collect();
        Err(anyhow!("not everything could be ended and removed: {}", told.join("; ")))
    }

    async fn clear_engine(&self) -> Result<()> {
        let (name, value) = self.label();
        self.engine.remove_containers(&format!("{name}={value}")).await?;
        self.engine.remove_containers(&self.instance_label()).await?;
        // Attempts of tasks have other names.
        self.engine.remove_containers_of(&self.image).await
    }

    fn purge(&self) -> Result<()> {
        let output = Command::new(self.programs.join(NET_MANAGER)).arg("purge").output();
        let output = output.context("start `NetManager purge`")?;
        if output.status.success() {
            return Ok(());
        }
        Err(anyhow!("`NetManager purge` fails: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}
