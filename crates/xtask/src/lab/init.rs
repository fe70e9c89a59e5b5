//! The first process of a host: starts what its plan says, and again when it ends, as a service manager would with
//! `Restart=always`. When it is killed the kernel kills everything on the host with it. `control.rs` speaks to it.

use std::{
    fs::{self, OpenOptions},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until, timeout},
};

use super::{
    boot::settle_in,
    clock,
    control::{Answer, Request, State, Then, Told},
    layout::{BIN, Layout, SHARE},
    plan::{Plan, Process, Service},
};

/// What service managers wait unless told otherwise.
const RESTART_AFTER: Duration = Duration::from_millis(100);
/// Whoever connects has a request ready.
const ASKED_WITHIN: Duration = Duration::from_secs(1);
const LONGEST_REQUEST: u64 = 4096;

/// Is a host's init until it is killed.
///
/// # Errors
/// The host cannot be made or looked after; it is off then.
pub(crate) fn run(name: &str) -> Result<std::convert::Infallible> {
    settle_in(name, &Layout::of_this_machine())?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime
        .enable_all()
        .build()
        .context("start a runtime")?
        .block_on(serve(&Path::new(SHARE).join("init.sock")))
}

/// Looks after everything at once and does one thing at a time.
async fn serve(socket: &Path) -> Result<std::convert::Infallible> {
    let mut children = signal(SignalKind::child()).context("hear of processes that end")?;
    // Of an earlier boot.
    drop(fs::remove_file(socket));
    let listener = UnixListener::bind(socket).with_context(|| format!("listen at {}", socket.display()))?;
    let mut all = Supervisor::default();
    say("the host is on");
    loop {
        let next = all.next_start();
        let due = async {
            match next {
                Some(when) => sleep_until(when).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = children.recv() => all.reap()?,
            () = due => all.start_what_is_due(),
            accepted = listener.accept() => {
                let (stream, _) = accepted.context("be spoken to")?;
                match timeout(ASKED_WITHIN, converse(stream, &mut all)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => say(&format!("a request cannot be answered: {error:#}")),
                    Err(_) => say("somebody connected and asked for nothing"),
                }
            }
        }
    }
}

async fn converse(mut stream: UnixStream, all: &mut Supervisor) -> Result<()> {
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    BufReader::new(reading.take(LONGEST_REQUEST)).read_line(&mut line).await?;
    let request = serde_json::from_str(&line).with_context(|| format!("read `{}`", line.trim()))?;
    let answer: Answer = all.accept(request).map_err(|error| format!("{error:#}")).map(|()| all.told());
    let mut answer = serde_json::to_string(&answer)?;
    answer.push('\n');
    Ok(writing.write_all(answer.as_bytes()).await?)
}

#[derive(Debug, Default)]
struct Supervisor {
    services: Vec<Supervised>,
}

#[derive(Debug)]
struct Supervised {
    service: Service,
    phase: Phase,
    starts: u32,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Runs { id: Pid, then: Then, killed: Option<Instant> },
    Waits(Instant),
    Stopped,
}

impl Supervisor {
    fn accept(&mut self, request: Request) -> Result<()> {
        match request {
            Request::Status => {}
            Request::Boot => {
                let path = Path::new(SHARE).join("plan.json");
                let plan = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
                self.take_on(serde_json::from_slice(&plan).context("understand the plan")?);
            }
            Request::Kill { process, then } => self.find(process)?.kill(then)?,
            Request::Start(process) => {
                let found = self.find(process)?;
                match found.phase {
                    Phase::Runs { .. } => bail!("{process} runs already"),
                    Phase::Waits(_) | Phase::Stopped => found.start(),
                }
            }
        }
        Ok(())
    }

    /// Starts what is new in a plan.
    fn take_on(&mut self, plan: Plan) {
        for service in plan.services {
            if self.services.iter().all(|known| known.service.process != service.process) {
                let mut new = Supervised { service, phase: Phase::Stopped, starts: 0 };
                new.start();
                self.services.push(new);
            }
        }
    }

    fn find(&mut self, process: Process) -> Result<&mut Supervised> {
        let here: Vec<&str> = self.services.iter().map(|known| known.service.process.as_str()).collect();
        let here = here.join(", ");
        let mut all = self.services.iter_mut();
        let found = all.find(|known| known.service.process == process);
        found.with_context(|| format!("there is no {process} on this host; there is: {here}"))
    }

    /// Takes leave of all children that ended: its own, and those whose parents ended before them.
    fn reap(&mut self) -> Result<()> {
        loop {
            let (id, status) = match wait(WaitOptions::NOHANG) {
                Ok(Some(ended)) => ended,
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(()),
                Err(error) => return Err(error).context("wait for processes"),
            };
            let is_it =
                |known: &&mut Supervised| matches!(known.phase, Phase::Runs { id: its, .. } if its == id);
            if let Some(ended) = self.services.iter_mut().find(is_it) {
                ended.note_end(ExitStatus::from_raw(status.as_raw()));
            }
        }
    }

    fn next_start(&self) -> Option<Instant> {
        self.services.iter().filter_map(|known| known.phase.start_at()).min()
    }

    fn start_what_is_due(&mut self) {
        let now = Instant::now();
        for known in &mut self.services {
            if known.phase.start_at().is_some_and(|when| when <= now) {
                known.start();
            }
        }
    }

    fn told(&self) -> Vec<Told> {
        let now = Instant::now();
        let told = |known: &Supervised| Told {
            process: known.service.process,
            state: match known.phase {
                Phase::Runs { id, .. } => State::Runs { id: id.as_raw_nonzero().get().unsigned_abs() },
                Phase::Waits(until) => {
                    let left = until.saturating_duration_since(now).as_millis();
                    State::Waits { milliseconds: u64::try_from(left).unwrap_or(u64::MAX) }
                }
                Phase::Stopped => State::Stopped,
            },
            starts: known.starts,
        };
        self.services.iter().map(told).collect()
    }
}

impl Phase {
    /// Of one that has just ended.
    fn after(then: Then, killed: Instant, now: Instant) -> Self {
        match then {
            Then::Restart => Self::Waits(now + RESTART_AFTER),
            Then::RestartAfter { milliseconds } => Self::Waits(killed + Duration::from_millis(milliseconds)),
            Then::Nothing => Self::Stopped,
        }
    }

    fn start_at(self) -> Option<Instant> {
        match self {
            Self::Waits(when) => Some(when),
            Self::Runs { .. } | Self::Stopped => None,
        }
    }
}

impl Supervised {
    fn start(&mut self) {
        self.starts += 1;
        self.phase = match self.spawn() {
            Ok(id) => {
                say(&format!("{} is started as process {id}", self.service.process));
                Phase::Runs { id, then: Then::default(), killed: None }
            }
            Err(error) => {
                say(&format!("{} cannot be started: {error:#}", self.service.process));
                Phase::Waits(Instant::now() + RESTART_AFTER)
            }
        };
    }

    fn spawn(&self) -> Result<Pid> {
        let Service { process, program, arguments, environment } = &self.service;
        let log = format!("/var/log/{process}.log");
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("write {log}"))?;
        let errors = log.try_clone().context("write the log twice")?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", search_path()).env("HOME", "/root").envs(environment);
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        // It is waited for with all the others.
        let child = command.spawn().with_context(|| format!("start {program}"))?;
        Ok(Pid::from_child(&child))
    }

    fn kill(&mut self, wanted: Then) -> Result<()> {
        let process = self.service.process;
        let now = Instant::now();
        match (&mut self.phase, wanted) {
            (Phase::Runs { id, then, killed }, _) => {
                (*then, *killed) = (wanted, Some(now));
                // It has not been waited for, so the id is still its own.
                kill_process(*id, Signal::KILL).with_context(|| format!("kill {process}"))
            }
            // Between two starts it is down already, and only to stay so.
            (Phase::Waits(_), Then::RestartAfter { .. } | Then::Nothing) => {
                self.phase = Phase::after(wanted, now, now);
                Ok(())
            }
            (Phase::Waits(_), Then::Restart) | (Phase::Stopped, _) => bail!("{process} does not run"),
        }
    }

    fn note_end(&mut self, status: ExitStatus) {
        let Phase::Runs { then, killed, .. } = self.phase else { return };
        let now = Instant::now();
        self.phase = Phase::after(then, killed.unwrap_or(now), now);
        say(&format!("{} ended with {status}", self.service.process));
    }
}

/// The programs of the lab, then those of the machine.
pub(crate) fn search_path() -> String {
    format!("{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

fn say(what: &str) {
    eprintln!("{} {what}", clock::now());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervised(script: &str) -> Supervised {
        let service = Service {
            process: Process::Dockerd,
            program: "/bin/sh".to_owned(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            environment: Default::default(),
        };
        Supervised { service, phase: Phase::Stopped, starts: 0 }
    }

    fn runs(then: Then, killed: Option<Instant>) -> Phase {
        Phase::Runs { id: Pid::from_raw(1).expect("not 0"), then, killed }
    }

    fn wait_after(then: Then, killed: Option<Instant>) -> Option<Duration> {
        let mut known = supervised("");
        known.phase = runs(then, killed);
        let before = Instant::now();
        known.note_end(ExitStatus::from_raw(9));
        Some(known.phase.start_at()?.saturating_duration_since(before))
    }

    #[test]
    fn what_ends_is_started_again_at_the_time_that_was_asked_for() {
        let usual = wait_after(Then::Restart, None).expect("it is");
        assert!(usual >= RESTART_AFTER && usual < 2 * RESTART_AFTER, "{usual:?}");
        let killed = Instant::now();
        let later = wait_after(Then::RestartAfter { milliseconds: 7_000 }, Some(killed)).expect("it is");
        assert!(later > Duration::from_secs(6) && later <= Duration::from_secs(7), "{later:?}");
        assert_eq!(wait_after(Then::Nothing, Some(killed)), None);
    }

    #[test]
    fn what_does_not_run_cannot_be_killed_and_what_runs_cannot_be_started() {
        let mut all = Supervisor { services: vec![supervised("")] };
        let no = |result: Result<()>| result.expect_err("no").to_string();
        let kill = |process| Request::Kill { process, then: Then::Nothing };
        assert_eq!(no(all.accept(kill(Process::Dockerd))), "dockerd does not run");
        assert_eq!(no(all.accept(kill(Process::Root))), "there is no root on this host; there is: dockerd");
        all.services[0].phase = runs(Then::Restart, None);
        assert_eq!(no(all.accept(Request::Start(Process::Dockerd))), "dockerd runs already");
    }

    #[test]
    fn what_is_just_down_can_be_told_to_stay_down() {
        let mut all = Supervisor { services: vec![supervised("")] };
        all.services[0].phase = Phase::Waits(Instant::now());
        all.accept(Request::Kill { process: Process::Dockerd, then: Then::Nothing }).expect("it stays down");
        assert_eq!(all.next_start(), None);
        assert_eq!(all.told()[0].state, State::Stopped);
    }

    #[test]
    fn a_second_boot_starts_only_what_is_new() {
        let mut all = Supervisor { services: vec![supervised("")] };
        all.services[0].phase = runs(Then::Restart, None);
        all.take_on(Plan { services: vec![supervised("exit 3").service] });
        assert_eq!((all.services.len(), all.services[0].starts), (1, 0));
    }
}
