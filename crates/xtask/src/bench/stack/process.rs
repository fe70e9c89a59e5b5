//! Programs that run beside a benchmark: started with a log, ended by their process id.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

/// An engine stops its containers first, each within ten seconds.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A program that runs until [`Process::end`].
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it in a process group of its own, so that an interrupt from the keyboard reaches the benchmark alone,
    /// which then ends things in their order. Of the environment only what is needed to run is passed on, and
    /// `MANGROVE_LOG`.
    pub(crate) fn start(name: &'static str, command: &mut Command, logs: &Path) -> Result<Self> {
        let log = logs.join(name).with_extension("log");
        let written = File::create(&log).with_context(|| format!("write {}", log.display()))?;
        let errors = written.try_clone().with_context(|| format!("write {}", log.display()))?;
        let given: Vec<_> =
            command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
        command.env_clear();
        for kept in ["PATH", "HOME", "MANGROVE_LOG"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        for (name, value) in given {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        let child = command.stdin(Stdio::null()).stdout(written).stderr(errors).process_group(0).spawn();
        let child = child.with_context(|| format!("start {name} ({})", command.get_program().display()))?;
        Ok(Self { name, child, log })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// # Errors
    /// It has ended; the error has the end of its log.
    pub(crate) fn ensure_runs(&mut self) -> Result<()> {
        match self.child.try_wait().with_context(|| format!("look after {}", self.name))? {
            None => Ok(()),
            Some(status) => {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines[lines.len().saturating_sub(10)..].join("\n");
                anyhow::bail!("{} ended with {status}; its log ends with:\n{last}", self.name)
            }
        }
    }

    /// Kills it in the middle of whatever it does.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(drop).with_context(|| format!("kill {}", self.name))
    }

    /// Asks it to end, kills it when it does not, and returns when it is gone.
    pub(crate) async fn end(mut self) -> Result<()> {
        let deadline = Instant::now() + ENDS_WITHIN;
        if self.child.try_wait()?.is_none() {
            // It has not been waited for, so the id is still its own.
            let asked = kill_process(Pid::from_child(&self.child), Signal::TERM);
            asked.with_context(|| format!("ask {} to end", self.name))?;
        }
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                eprintln!("{} did not end when asked and is killed", self.name);
                self.child.kill().with_context(|| format!("kill {}", self.name))?;
                self.child.wait().with_context(|| format!("wait for {}", self.name))?;
                break;
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, logs: &Path) -> Process {
        Process::start("shell", Command::new("sh").args(["-c", script]), logs).expect("there is a shell")
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    #[test]
    fn a_process_that_ended_by_itself_is_told_with_its_last_words() {
        let logs = tempfile::tempdir().expect("a temporary folder");
        let mut process = shell("echo first; echo last >&2; exit 3", logs.path());
        process.child.wait().expect("it ends");
        let error = process.ensure_runs().expect_err("it has ended").to_string();
        assert_eq!(error, "shell ended with exit status: 3; its log ends with:\nfirst\nlast");
    }

    #[test]
    fn a_process_ends_when_asked() {
        let logs = tempfile::tempdir().expect("a temporary folder");
        let mut process = shell("exec sleep 1000", logs.path());
        process.ensure_runs().expect("it runs");
        let (id, before) = (process.id(), std::time::Instant::now());
        runtime().block_on(process.end()).expect("it ends");
        assert!(before.elapsed() < ENDS_WITHIN);
        assert!(!Path::new(&format!("/proc/{id}")).exists(), "process {id} is left");
    }
}
