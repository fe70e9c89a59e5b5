//! Benchmarks of the whole system run in a network namespace of their own: their daemons find every port free, and
//! nothing they do to the kernel's network concerns the machine. The mounts of private engines stay in it too.

use std::{env, os::unix::process::CommandExt, process::Command};

use anyhow::{Context, Result, bail, ensure};

use super::{CLUSTER, NET_MANAGER, NODE_ENGINE, ROOT, engine::Engine};
use crate::workspace;

/// Looks, before anything is built, for what must be there; gives the version of the container engine.
///
/// # Errors
/// This is not root, or no container engine answers.
pub(crate) fn ensure_possible() -> Result<String> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "this benchmark needs root: it makes a network namespace and drives the container engine"
    );
    let engine = Engine::of_this_machine()?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().context("start a runtime")?;
    let advice = || {
        format!(
            "no container engine answers at {}: start one, or let `scripts/up` install and start it",
            engine.socket.display()
        )
    };
    runtime.block_on(engine.version()).with_context(advice)
}

/// Builds what runs and becomes this program again in a namespace of its own. Returns only if that fails.
pub(crate) fn measure_apart(name: &str) -> Result<std::convert::Infallible> {
    eprintln!("container engine {}", ensure_possible()?);
    build()?;
    let program = env::current_exe().context("find this program")?;
    let error = Command::new("unshare")
        .args(["--net", "--mount", "--"])
        .arg(program)
        .args(["bench-inner", "--apart", name])
        .exec();
    Err(error).context("start `unshare`, which is part of util-linux")
}

/// Makes the namespace usable.
pub(crate) fn settle_in() -> Result<()> {
    run("ip", &["link", "set", "lo", "up"])
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("start `{program}`; `scripts/up` installs it"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{program} {}` fails: {}", arguments.join(" "), said.trim());
    }
    Ok(())
}

fn build() -> Result<()> {
    let packages =
        ["root-orchestrator", "cluster-orchestrator", "net-manager", "node-engine", "hello", "fleet"];
    eprintln!("building {ROOT}, {CLUSTER}, {NET_MANAGER}, {NODE_ENGINE}, hello and the programs of a fleet");
    let mut command = Command::new(workspace::cargo());
    command.args(["build", "--quiet", "--release", "--bins"]);
    command.args(packages.iter().flat_map(|package| ["--package", package]));
    let status = command.status().context("start `cargo build`")?;
    ensure!(status.success(), "the build fails; cargo says why above");
    Ok(())
}
