//! A network namespace that is measured from or to: made here, or that of a container.

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd},
    process::Command,
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::lab::tool;

/// A network namespace. One that was made here is gone when nobody uses it and this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    namespace: File,
}

impl Place {
    /// A new one, without any interface that is up.
    pub(super) fn new() -> Result<Self> {
        let made = thread::spawn(|| {
            #[expect(deprecated, reason = "only flags that split file descriptor tables make it unsafe")]
            rustix::thread::unshare(UnshareFlags::NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        });
        let namespace = made.join().map_err(|_| anyhow!("a thread panicked"))?;
        let place = Self { namespace: namespace.context("make a network namespace")? };
        place.ip("link set lo up\n")?;
        Ok(place)
    }

    pub(super) fn of(namespace: File) -> Self {
        Self { namespace }
    }

    /// The same, to be kept by another.
    pub(super) fn share(&self) -> Result<Self> {
        Ok(Self { namespace: self.namespace.try_clone().context("share a network namespace")? })
    }

    /// How programs find it as long as this is there.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_raw_fd())
    }

    /// A program of the machine that runs there.
    pub(super) fn command(&self, program: &str) -> Command {
        tool::command("nsenter", [&format!("--net={}", self.path()), "--", program])
    }

    /// Does what `ip -batch` reads.
    pub(super) fn ip(&self, commands: &str) -> Result<()> {
        let mut command = self.command("ip");
        command.args(["-batch", "-"]);
        tool::run_with(&mut command, commands).map(drop)
    }

    /// Does something in a thread that is there.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                enter(&self.namespace)?;
                work()
            });
            there.join().map_err(|_| anyhow!("a thread panicked"))?
        })
    }

    /// Starts a thread that is there.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let namespace = self.namespace.try_clone().context("share a network namespace")?;
        Ok(thread::spawn(move || {
            enter(&namespace)?;
            work()
        }))
    }
}

fn enter(namespace: &File) -> Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .context("enter a network namespace")
}
