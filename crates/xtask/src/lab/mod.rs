//! A lab: real hosts on one machine, to be cut off, powered off and killed. `docs/lab.md` says how it is used.
//!
//! A host is an init of its own (`init.rs`) in namespaces of its own: network, processes, mounts, host name. Power-off
//! is the end of that init, which the kernel lets nothing on the host survive. The hosts are joined by a switch
//! (`switch.rs`). [`Lab::up`] builds all of it, [`down`] removes it; between them [`Lab`] is what a benchmark drives
//! and `command.rs` what people type.

mod boot;
mod build;
mod census;
mod cgroups;
mod clock;
mod command;
mod control;
mod host;
mod init;
mod join;
pub(crate) mod layout;
mod plan;
mod power;
pub(crate) mod programs;
pub(crate) mod router;
mod status;
pub(crate) mod survival;
mod switch;
pub(crate) mod tool;

use std::{
    fs::File,
    net::{IpAddr, SocketAddr},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result};

pub(crate) use self::{
    build::down,
    census::INIT,
    command::{Lab as Arguments, run},
    control::Then,
    host::Shape,
    plan::Process,
};
use self::{
    control::{Request, Told},
    host::Host,
    layout::Layout,
    switch::Switch,
};
use crate::bench::{
    http::Address,
    stack::{engine::Engine, root::Root},
};

/// The image every engine of a lab has.
pub(crate) const IMAGE: &str = "mangrove/hello:latest";

/// A lab that is up. What is done to it is done when the call returns; the time that is given is when it began, which
/// is some milliseconds earlier.
#[derive(Debug)]
pub(crate) struct Lab {
    layout: Layout,
    shape: Shape,
    switch: Switch,
}

impl Lab {
    /// Pulls a host's cable. What is under way is lost; the host and everybody else see silence, not an end.
    pub(crate) fn cut(&self, host: &str) -> Result<Instant> {
        self.plug(self.host(host)?, false)
    }

    /// Plugs it in again.
    pub(crate) fn heal(&self, host: &str) -> Result<Instant> {
        self.plug(self.host(host)?, true)
    }

    /// Loses packets of a host's link in each direction, by chance, until it is 0 percent again.
    pub(crate) fn lossy(&self, host: &str, percent: u8) -> Result<()> {
        self.switch.lose(self.host(host)?, percent)
    }

    /// Kills a process (SIGKILL). Its host closes its connections, so others hear of its end.
    pub(crate) fn kill(&self, host: &str, process: Process, then: Then) -> Result<Instant> {
        let when = Instant::now();
        self.ask(self.host(host)?, &Request::Kill { process, then })?;
        Ok(when)
    }

    /// Starts a process that was killed for a time or for good.
    pub(crate) fn start(&self, host: &str, process: Process) -> Result<Instant> {
        let when = Instant::now();
        self.ask(self.host(host)?, &Request::Start(process))?;
        Ok(when)
    }

    /// Ends everything on a host at one instant: nobody on it can close a connection or write a file. What is on its
    /// disk stays.
    pub(crate) fn power_off(&self, host: &str) -> Result<Instant> {
        power::off(self, self.host(host)?)
    }

    /// Lets a host boot: all its processes start at once. Its cable is as it was, plugged in or not.
    pub(crate) fn power_on(&self, host: &str) -> Result<Instant> {
        power::on(self, self.host(host)?)
    }

    /// The command line of the container engine of a host; gives what it prints.
    pub(crate) fn docker(&self, host: &str, arguments: &[&str]) -> Result<String> {
        tool::run(&mut tool::docker(&self.engine(host)?.socket, arguments))
    }

    /// The container engine of a host.
    pub(crate) fn engine(&self, host: &str) -> Result<Engine> {
        let host = self.host(host)?;
        anyhow::ensure!(
            host.has_engine(),
            "{host} has no container engine: orchestrators do not run containers"
        );
        Ok(Engine { socket: self.layout.host(host).engine() })
    }

    /// The root, logged in to as Admin.
    ///
    /// # Errors
    /// The lab has none, or it does not answer.
    pub(crate) async fn api(&self) -> Result<Root> {
        self.host("root")?;
        Root::log_in(Address::Tcp(api_address()), plan::PASSWORD).await
    }

    /// A program that runs on a host, as one typed there would.
    pub(crate) fn command_on(&self, host: &str, words: &[String]) -> Result<Command> {
        let (name, init) = (host, self.init_of(self.host(host)?)?.to_string());
        let namespaces = ["--net", "--mount", "--pid", "--uts", "--ipc"];
        let mut command = tool::command("nsenter", ["--target", &init]);
        command.args(namespaces).arg("--").args(words);
        command.env("PATH", init::search_path()).env("MANGROVE_LAB_HOST", name);
        Ok(command)
    }

    /// The network namespace of a host that is on.
    pub(crate) fn network_of(&self, host: &str) -> Result<File> {
        let path = format!("/proc/{}/ns/net", self.init_of(self.host(host)?)?);
        File::open(&path).with_context(|| format!("open {path}"))
    }

    /// The network namespace of a process, by the id it has on its host, such as that of a container.
    pub(crate) fn network_of_process(&self, host: &str, process: u64) -> Result<File> {
        let path = format!("/proc/{}/root/proc/{process}/ns/net", self.init_of(self.host(host)?)?);
        File::open(&path).with_context(|| format!("open {path}"))
    }

    fn host(&self, name: &str) -> Result<Host> {
        self.shape.host(name)
    }

    fn plug(&self, host: Host, plugged: bool) -> Result<Instant> {
        let marker = self.layout.host(host).cut();
        if plugged {
            power::remove_file(&marker)?;
        } else {
            std::fs::write(&marker, "").with_context(|| format!("write {}", marker.display()))?;
        }
        if self.find_init(host)?.is_none() {
            // It comes up with the cable as it is then.
            return Ok(Instant::now());
        }
        self.switch.plug(host, plugged)
    }

    fn ask(&self, host: Host, request: &Request) -> Result<Vec<Told>> {
        self.init_of(host)?;
        control::ask(&self.layout.host(host).control(), request).with_context(|| format!("on host {host}"))
    }

    /// The init of a host that is on.
    fn init_of(&self, host: Host) -> Result<u32> {
        let found = self.find_init(host)?;
        found.with_context(|| format!("{host} is off: `cargo xtask lab power-on {host}` lets it boot"))
    }

    fn find_init(&self, host: Host) -> Result<Option<u32>> {
        power::find_init(&self.layout, &host.to_string())
    }
}

/// Becomes the init of a host; returns only when that fails.
pub(crate) fn run_init(host: &str) -> Result<std::convert::Infallible> {
    init::run(host)
}

/// Where the root's REST interface is.
fn api_address() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Host::Root.address()), 10000)
}
