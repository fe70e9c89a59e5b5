//! Where things of the lab are, seen from the machine ([`Layout`]) and from a host (the constants; `boot.rs` mounts
//! them there).

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::host::Host;

/// The lab of this machine. There is one at a time: its addresses and control groups are fixed too.
const FOLDER: &str = "/var/lib/mangrove-lab";

/// On a host: the programs of the lab.
pub(crate) const BIN: &str = "/run/lab/bin";
/// On a host: what it shares with the machine.
pub(crate) const SHARE: &str = "/run/lab/share";

/// The folders of a lab, seen from the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    folder: PathBuf,
}

/// The folders of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostFolder {
    folder: PathBuf,
}

impl Layout {
    pub(crate) fn of_this_machine() -> Self {
        Self { folder: FOLDER.into() }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the lab is: `Record` of `record.rs`.
    pub(crate) fn record(&self) -> PathBuf {
        self.folder.join("lab.json")
    }

    /// Whoever builds or removes the lab holds it.
    pub(crate) fn lock(&self) -> PathBuf {
        self.folder.join("lock")
    }

    pub(crate) fn bin(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// The program that is every host's init: a copy, so that a new build does not concern it.
    pub(crate) fn init(&self) -> PathBuf {
        self.bin().join("xtask")
    }

    /// To be sourced by a shell that wants to use the lab.
    pub(crate) fn environment(&self) -> PathBuf {
        self.folder.join("env")
    }

    /// The image of `hello`, as `docker save` writes it.
    pub(crate) fn image(&self) -> PathBuf {
        self.folder.join("hello.tar")
    }

    pub(crate) fn host(&self, host: Host) -> HostFolder {
        self.named(&host.to_string())
    }

    /// The folder of a host or of the switch.
    pub(crate) fn named(&self, name: &str) -> HostFolder {
        HostFolder { folder: self.folder.join("hosts").join(name) }
    }
}

impl HostFolder {
    /// Makes all folders that are missing.
    pub(crate) fn create(&self) -> Result<()> {
        let overlays = [self.overlay("etc"), self.overlay("opt")];
        let overlays = overlays.iter().flat_map(|overlay| [overlay.join("upper"), overlay.join("work")]);
        for folder in [self.share(), self.disk(), self.log()].into_iter().chain(overlays) {
            fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        }
        Ok(())
    }

    /// Seen by the machine and by the host.
    pub(crate) fn share(&self) -> PathBuf {
        self.folder.join("share")
    }

    /// The host's /var/lib.
    pub(crate) fn disk(&self) -> PathBuf {
        self.folder.join("disk")
    }

    /// The host's /var/log.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// What the host changed in /etc or /opt.
    pub(crate) fn overlay(&self, name: &str) -> PathBuf {
        self.folder.join("overlay").join(name)
    }

    pub(crate) fn plan(&self) -> PathBuf {
        self.share().join("plan.json")
    }

    /// Where the host's init is spoken to.
    pub(crate) fn control(&self) -> PathBuf {
        self.share().join("init.sock")
    }

    /// The container engine.
    pub(crate) fn engine(&self) -> PathBuf {
        self.share().join("docker.sock")
    }

    pub(crate) fn engine_configuration(&self) -> PathBuf {
        self.share().join("dockerd.json")
    }

    /// Is there while the host's cable is to be unplugged, whether the host is on or not.
    pub(crate) fn cut(&self) -> PathBuf {
        self.folder.join("cut")
    }

    /// Is there while the host is behind a router, and says what that does: `Translation` of `router.rs`.
    pub(crate) fn router(&self) -> PathBuf {
        self.folder.join("router.json")
    }
}
