//! `fleet-control` and `fleet-workers` as they are built and run: started in a folder of their own, spoken to by lines,
//! measured from outside. Their other half is `crates/fleet`.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    bench::{
        http::Address,
        proc::{Consumption, Memory},
        stack::root::Root,
    },
    workspace::{self, Workspace},
};

/// The clusters of every fleet.
pub(crate) const CLUSTERS: usize = 100;
/// As `crates/fleet` sets it.
const PASSWORD: &str = "Admin";
/// Below the ports that the kernel gives to outgoing connections, which there are very many of.
const BASE_PORT: u16 = 21_000;
/// How often workers report without need, in milliseconds.
const REPORT_VARIABLE: &str = "MANGROVE_BENCH_REPORT_MILLIS";
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// A hundred clusters make keys and join, or read all they know.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// A hundred thousand handshakes on both sides, on a slow machine.
const CONNECTED_WITHIN: Duration = Duration::from_secs(600);

/// Where the programs are.
#[derive(Debug)]
pub(crate) struct Programs {
    folder: PathBuf,
    logs: PathBuf,
}

/// Sums over all simulated workers, as `fleet::events` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Status {
    pub(crate) connected: u64,
    pub(crate) broken: u64,
    pub(crate) reports: u64,
    pub(crate) instances: u64,
    pub(crate) last_arrival_nanos: u64,
    pub(crate) changing: u64,
    pub(crate) stale: u64,
    pub(crate) duplicates: u64,
    pub(crate) went_back: u64,
}

/// How long after a mark workers were connected again.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
pub(crate) struct Attached {
    pub(crate) count: usize,
    pub(crate) p50_millis: f64,
    pub(crate) p99_millis: f64,
    pub(crate) last_millis: f64,
}

/// What root and clusters, and the workers, used in a while.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phase {
    pub(crate) seconds: f64,
    pub(crate) control_seconds: f64,
    pub(crate) workers_seconds: f64,
    /// Bytes of control at its end.
    resident: u64,
    reports: u64,
}

/// A line of a program.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    Ready { api: String },
    Status(Status),
    Arrived { service: String, number: u32, at_nanos: u64 },
    Attached(Attached),
}

/// All that was told so far.
#[derive(Debug, Default)]
struct Heard {
    api: Option<String>,
    status: Status,
    arrived: BTreeMap<(String, u32), u64>,
    attached: Option<Attached>,
}

/// One program that runs. Dropping it kills it.
#[derive(Debug)]
struct Program {
    name: &'static str,
    child: Child,
    commands: ChildStdin,
    heard: Arc<Mutex<Heard>>,
    log: PathBuf,
}

/// What runs in a process of its own, as `fleet::control::Part` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    All,
    Root,
    First,
    Others,
}

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Fleet {
    control: BTreeMap<Part, Program>,
    workers: Option<Program>,
    folder: TempDir,
    programs: PathBuf,
    logs: PathBuf,
    api: String,
    workers_per_cluster: usize,
}

/// Builds the programs as they are released.
pub(crate) fn build() -> Result<Programs> {
    eprintln!("building fleet-control, fleet-workers and fleet-ingest");
    let status = Command::new(workspace::cargo())
        .args(["build", "--quiet", "--release", "--bins", "--package", "fleet"])
        .status()
        .context("start `cargo build`")?;
    ensure!(status.success(), "the build fails; cargo says why above");
    let folder = std::env::current_exe().context("find this program")?;
    let folder = folder.parent().context("this program is in a folder")?.to_owned();
    let logs = Workspace::load()?.target.join("bench").join("fleet-logs");
    if logs.exists() {
        fs::remove_dir_all(&logs).with_context(|| format!("remove {}", logs.display()))?;
    }
    fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
    Ok(Programs { folder, logs })
}

impl Part {
    /// All there are when the fleet is not in one process. The root comes first, as clusters look for it.
    pub(crate) const SEPARATE: [Self; 3] = [Self::Root, Self::First, Self::Others];

    /// What it is called on the command line, and in logs.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::All => ("all", "fleet-control"),
            Self::Root => ("root", "fleet-control-root"),
            Self::First => ("first", "fleet-control-first"),
            Self::Others => ("others", "fleet-control-others"),
        }
    }
}

impl Programs {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Program {
    fn start(name: &'static str, command: &mut Command, logs: &Path) -> Result<Self> {
        let log = logs.join(name).with_extension("log");
        // One that is started again goes on behind what the one before it wrote.
        let errors = File::options().create(true).append(true).open(&log);
        let errors = errors.with_context(|| format!("write {}", log.display()))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().with_context(|| format!("start {name}"))?;
        let commands = child.stdin.take().context("the program has an input")?;
        let output = child.stdout.take().context("the program has an output")?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let hearing = Arc::clone(&heard);
        // Ends with the program's output.
        std::thread::Builder::new().name(name.to_owned()).spawn(move || listen(output, &hearing))?;
        Ok(Self { name, child, commands, heard, log })
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&mut self, command: &str) -> Result<()> {
        writeln!(self.commands, "{command}").with_context(|| format!("tell {} `{command}`", self.name))
    }

    fn ensure_runs(&mut self) -> Result<()> {
        match self.child.try_wait().with_context(|| format!("look after {}", self.name))? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}; see {}", self.name, self.log.display()),
        }
    }

    /// Waits until `ask` has an answer.
    async fn wait<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut ask: impl FnMut(&mut Heard) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(answer) = ask(&mut self.heard()) {
                return Ok(answer);
            }
            self.ensure_runs()?;
            if Instant::now() > deadline {
                bail!("waited {} s in vain until {what}; {:?}", within.as_secs(), self.heard().status);
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Seconds of a processor since its start.
    fn consumption(&self) -> Result<f64> {
        Ok(Consumption::of(self.child.id())?.processor_seconds)
    }

    fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map(drop)
            .with_context(|| format!("kill {}", self.name))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{error:#}");
        }
    }
}

fn listen(output: ChildStdout, hearing: &Mutex<Heard>) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { return };
        let event = serde_json::from_str(&line);
        let mut heard = hearing.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Ok(Event::Ready { api }) => heard.api = Some(api),
            Ok(Event::Status(status)) => heard.status = status,
            Ok(Event::Arrived { service, number, at_nanos }) => {
                heard.arrived.insert((service, number), at_nanos);
            }
            Ok(Event::Attached(attached)) => heard.attached = Some(attached),
            Err(_) => eprintln!("a fleet program says `{line}`"),
        }
    }
}

impl Fleet {
    /// A new fleet without workers, for `workers` of them.
    pub(crate) async fn start(programs: &Programs, workers: usize) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("mangrove-fleet-").tempdir();
        let folder = folder.context("create a temporary folder")?;
        let workers_per_cluster = workers.div_ceil(CLUSTERS);
        let mut fleet = Self {
            control: BTreeMap::new(),
            workers: None,
            folder,
            programs: programs.folder.clone(),
            logs: programs.logs.clone(),
            api: String::new(),
            workers_per_cluster,
        };
        fleet.start_part(Part::All)?;
        let control = fleet.control.get_mut(&Part::All).context("it has been started")?;
        fleet.api = control.wait("the fleet is ready", READY_WITHIN, |heard| heard.api.clone()).await?;
        Ok(fleet)
    }

    /// Connects so many workers.
    pub(crate) async fn connect(&mut self, workers: usize) -> Result<Phase> {
        let before = self.look()?;
        let mut command = Command::new(self.programs.join("fleet-workers"));
        command.arg("--folder").arg(self.folder.path()).args(["--workers", &workers.to_string()]);
        if let Ok(millis) = std::env::var(REPORT_VARIABLE) {
            command.args(["--report-millis", &millis]);
        }
        self.workers = Some(Program::start("fleet-workers", &mut command, &self.logs)?);
        self.all_connected(workers).await?;
        self.since(&before)
    }

    /// Waits until so many workers are connected.
    pub(crate) async fn all_connected(&mut self, workers: usize) -> Result<()> {
        self.when("all workers are connected", CONNECTED_WITHIN, |status| status.connected == workers as u64)
            .await
    }

    /// Waits until the workers' status is as wanted.
    pub(crate) async fn when(
        &mut self,
        what: &str,
        within: Duration,
        is_so: impl Fn(&Status) -> bool,
    ) -> Result<()> {
        self.ensure_control_runs()?;
        let workers = self.workers.as_mut().context("there are no workers")?;
        workers.wait(what, within, |heard| is_so(&heard.status).then_some(())).await
    }

    /// Looks on for a while.
    pub(crate) async fn watch(&mut self, length: Duration) -> Result<Phase> {
        let before = self.look()?;
        sleep(length).await;
        self.ensure_control_runs()?;
        self.since(&before)
    }

    pub(crate) fn look(&self) -> Result<Look> {
        let workers = self.workers.as_ref().map(Program::consumption).transpose()?;
        Ok(Look {
            at: Instant::now(),
            control: self.control.values().map(Program::consumption).sum::<Result<f64>>()?,
            workers: workers.unwrap_or(0.0),
            reports: self.status().reports,
        })
    }

    /// From a look until now.
    pub(crate) fn since(&self, before: &Look) -> Result<Phase> {
        let now = self.look()?;
        let control = self.control.values().map(|program| Memory::of(program.child.id()));
        let resident = control.map(|memory| memory.map(|memory| memory.resident)).sum::<Result<u64>>()?;
        Ok(Phase {
            seconds: (now.at - before.at).as_secs_f64(),
            control_seconds: now.control - before.control,
            workers_seconds: now.workers - before.workers,
            resident,
            reports: now.reports - before.reports,
        })
    }

    pub(crate) fn status(&self) -> Status {
        self.workers.as_ref().map(|workers| workers.heard().status).unwrap_or_default()
    }

    /// When an instance arrived at its worker, if it has and this was asked for.
    pub(crate) fn arrival(&self, service: &str, number: u32) -> Option<u64> {
        self.workers.as_ref()?.heard().arrived.get(&(service.to_owned(), number)).copied()
    }

    /// See `fleet::workers`.
    pub(crate) fn say(&mut self, command: &str) -> Result<()> {
        self.workers.as_mut().context("there are no workers")?.say(command)
    }

    /// The times since the last mark.
    pub(crate) async fn attached(&mut self) -> Result<Attached> {
        let workers = self.workers.as_mut().context("there are no workers")?;
        workers.heard().attached = None;
        workers.say("attached")?;
        workers.wait("times are told", READY_WITHIN, |heard| heard.attached).await
    }

    pub(crate) async fn root(&self) -> Result<Root> {
        Root::log_in(self.api_address()?, PASSWORD).await
    }

    pub(crate) fn api_address(&self) -> Result<Address> {
        Ok(Address::Tcp(self.api.parse().context("understand where the API is")?))
    }

    /// Starts a part, with what it had stored if it has run before.
    pub(crate) fn start_part(&mut self, part: Part) -> Result<()> {
        let mut command = Command::new(self.programs.join("fleet-control"));
        command.arg("--folder").arg(self.folder.path()).args(["--clusters", &CLUSTERS.to_string()]);
        command.args(["--workers-per-cluster", &self.workers_per_cluster.to_string()]);
        let (part_name, program_name) = part.names();
        command.args(["--base-port", &BASE_PORT.to_string(), "--part", part_name]);
        let program = Program::start(program_name, &mut command, &self.logs)?;
        self.control.insert(part, program);
        Ok(())
    }

    /// Kills a part in the middle of whatever it does.
    pub(crate) fn kill_part(&mut self, part: Part) -> Result<()> {
        self.control.remove(&part).with_context(|| format!("{part:?} does not run"))?.kill()
    }

    fn ensure_control_runs(&mut self) -> Result<()> {
        self.control.values_mut().try_for_each(Program::ensure_runs)
    }

    /// Ends everything.
    ///
    /// # Errors
    /// Something ended before.
    pub(crate) fn end(mut self) -> Result<()> {
        self.ensure_control_runs()?;
        self.workers.as_mut().map_or(Ok(()), Program::ensure_runs)
    }
}

/// The counters of all processes, in seconds of a processor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    at: Instant,
    control: f64,
    workers: f64,
    reports: u64,
}

impl Phase {
    pub(crate) fn core_percent(&self) -> f64 {
        self.control_seconds / self.seconds * 100.0
    }

    pub(crate) fn megabytes(&self) -> f64 {
        self.resident as f64 / 1e6
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} s, control {:.2} core-s ({:.1} % of a core), {:.0} MB; workers {:.2} core-s, {:.0} reports/s",
            self.seconds,
            self.control_seconds,
            self.core_percent(),
            self.megabytes(),
            self.workers_seconds,
            self.reports as f64 / self.seconds
        )
    }
}
