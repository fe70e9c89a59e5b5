//! The programs a lab runs: built from the workspace, or found in a folder.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::layout::Layout;
use crate::workspace;

/// As `scripts/up` builds them: cargo would build some dependencies again for another choice.
const PACKAGES: [&str; 6] =
    ["root-orchestrator", "cluster-orchestrator", "node-engine", "net-manager", "cli", "hello"];
pub(crate) const HELLO: &str = "hello";
const FILES: [&str; 6] =
    ["root-orchestrator", "cluster-orchestrator", "NodeEngine", "NetManager", "mangrove", HELLO];
/// What the lab uses of the machine, by the package of Debian that has it.
const TOOLS: [(&str, &str); 8] = [
    ("docker", "docker.io"),
    ("dockerd", "docker.io"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("mount", "mount"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
];

/// How programs are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Profile {
    /// As they are released.
    #[default]
    Release,
    /// As tests build them anyway.
    Dev,
}

/// A folder with all of [`FILES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Builds them.
    ///
    /// # Errors
    /// They cannot be built; cargo has said why.
    pub(crate) fn build(profile: Profile) -> Result<Self> {
        let (name, folder) = match profile {
            Profile::Release => ("release", "release"),
            Profile::Dev => ("dev", "debug"),
        };
        let mut command = Command::new(workspace::cargo());
        command.args(["build", "--quiet", "--bins", "--profile", name]);
        command.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
        let status = command.status().context("start `cargo build`")?;
        ensure!(status.success(), "the build fails; cargo says why above");
        // This program is in the folder of one profile, the others are beside it.
        let own = env::current_exe().context("find this program")?;
        let beside =
            own.parent().and_then(Path::parent).context("this program is in a folder of a profile")?;
        Self::in_folder(&beside.join(folder))
    }

    /// Takes those of a folder.
    ///
    /// # Errors
    /// One is not there.
    pub(crate) fn in_folder(folder: &Path) -> Result<Self> {
        for file in FILES {
            let path = folder.join(file);
            fs::metadata(&path).with_context(|| format!("find the program {}", path.display()))?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// Copies them, and this program, to where hosts find them.
    pub(super) fn install(&self, layout: &Layout) -> Result<()> {
        let bin = layout.bin();
        fs::create_dir_all(&bin).with_context(|| format!("create {}", bin.display()))?;
        for file in FILES {
            copy(&self.folder.join(file), &bin.join(file))?;
        }
        copy(&env::current_exe().context("find this program")?, &layout.init())
    }
}

/// # Errors
/// The machine lacks something; the error says how to get it.
pub(super) fn ensure_tools() -> Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &str| env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    let missing: Vec<&(&str, &str)> = TOOLS.iter().filter(|(tool, _)| !is_there(tool)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let tools: Vec<&str> = missing.iter().map(|(tool, _)| *tool).collect();
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    anyhow::bail!("a lab needs {}: install with `apt-get install {}`", tools.join(", "), packages.join(" "))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display())).map(drop)
}
