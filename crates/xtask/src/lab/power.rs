//! Switching hosts on and off. The first thing that runs on one is in `boot.rs` and `init.rs`.

use std::{
    fs::{self, OpenOptions},
    io,
    path::Path,
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    Lab, census, cgroups,
    control::{self, Request},
    host::Host,
    init::search_path,
    layout::Layout,
    router,
    tool::command,
};

/// It takes some tens of milliseconds, far longer where all hosts of a lab come up together.
const ON_WITHIN: Duration = Duration::from_secs(20);
/// The kernel ends hundreds of processes in well below a second.
const OFF_WITHIN: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

pub(super) fn off(lab: &Lab, host: Host) -> Result<Instant> {
    let init = lab.init_of(host)?;
    // First of all the cable: the kernel closes the connections of what it ends, and a machine without power does
    // not get round to telling its peers.
    let when = lab.switch.plug(host, false)?;
    let router = find_init(&lab.layout, &router::name_of(host))?;
    kill(&[Some(init), router].into_iter().flatten().collect::<Vec<_>>())?;
    lab.switch.disconnect(host)?;
    cgroups::remove_of(host)?;
    remove_file(&lab.layout.host(host).control())?;
    Ok(when)
}

pub(super) fn on(lab: &Lab, host: Host) -> Result<Instant> {
    ensure!(lab.find_init(host)?.is_none(), "{host} is on");
    // Of a power-off that was interrupted.
    lab.switch.disconnect(host)?;
    cgroups::remove_of(host)?;
    let name = host.to_string();
    start_init(&lab.layout, &name)?;
    connect(lab, host)?;
    let when = Instant::now();
    lab.ask(host, &Request::Boot)?;
    Ok(when)
}

/// Waits for a host's init and gives it its cable.
pub(super) fn connect(lab: &Lab, host: Host) -> Result<()> {
    let init = await_init(&lab.layout, &host.to_string())?;
    let plugged = !lab.layout.host(host).cut().exists();
    let Some(translation) = lab.translation_of(host)? else {
        return lab.switch.connect(host, init, plugged);
    };
    let name = router::name_of(host);
    start_init(&lab.layout, &name)?;
    let router = await_init(&lab.layout, &name)?;
    lab.switch.lay_cable(host, router, router::OUTSIDE, plugged)?;
    router::connect(host, init, router, translation)
}

/// Starts the init of a host or of the switch; it is there when [`await_init`] says so.
pub(super) fn start_init(layout: &Layout, name: &str) -> Result<()> {
    let folder = layout.named(name);
    folder.create()?;
    remove_file(&folder.control())?;
    let log = folder.log().join("init.log");
    let log = OpenOptions::new().create(true).append(true).open(&log);
    let log = log.with_context(|| format!("write to {}", folder.log().display()))?;
    let errors = log.try_clone().context("write the log twice")?;
    // Not a child of this process, which may end long before the host does.
    let mut command = command("setsid", ["--fork", "unshare", "--net", "--mount", "--pid", "--uts", "--ipc"]);
    command.args(["--fork", "--kill-child", "--"]).arg(layout.init()).args([census::INIT, name]);
    command.env_clear().env("PATH", search_path()).env("HOME", "/root");
    let status = command.stdin(Stdio::null()).stdout(log).stderr(errors).current_dir("/").status();
    let status = status.context("start `setsid`, which is part of util-linux")?;
    ensure!(status.success(), "the init of {name} cannot be started: `setsid` ends with {status}");
    Ok(())
}

/// The process id of an init that answers.
pub(super) fn await_init(layout: &Layout, name: &str) -> Result<u32> {
    let folder = layout.named(name);
    let deadline = Instant::now() + ON_WITHIN;
    loop {
        let asked = control::ask(&folder.control(), &Request::Status);
        if asked.is_ok()
            && let Some(init) = find_init(layout, name)?
        {
            return Ok(init);
        }
        if Instant::now() > deadline {
            let log = folder.log().join("init.log");
            let written = fs::read_to_string(&log).unwrap_or_default();
            let last = written.lines().last().unwrap_or("nothing");
            bail!(
                "host {name} is not on after {} s; {} ends with: {last}",
                ON_WITHIN.as_secs(),
                log.display()
            );
        }
        sleep(LOOK_AGAIN);
    }
}

pub(super) fn find_init(layout: &Layout, name: &str) -> Result<Option<u32>> {
    let mut inits = census::inits(&layout.init())?.into_iter();
    Ok(inits.find(|(host, _)| host == name).map(|(_, init)| init))
}

/// Kills inits (or what starts them), and so everything on their hosts; returns when all of it is gone.
pub(super) fn kill(inits: &[u32]) -> Result<()> {
    for init in inits {
        let id =
            i32::try_from(*init).ok().and_then(Pid::from_raw).context("a process id is a positive number")?;
        match kill_process(id, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error).with_context(|| format!("kill process {init}")),
        }
    }
    let deadline = Instant::now() + OFF_WITHIN;
    // An init is the last of its host to go.
    while inits.iter().any(|init| census::is_alive(*init)) {
        ensure!(
            Instant::now() < deadline,
            "the kernel has not ended everything after {} s",
            OFF_WITHIN.as_secs()
        );
        sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// One that is not there is removed.
pub(super) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("remove {}", path.display())),
    }
}
