//! Who is in the fleet and where: written by `fleet-control`, read by `fleet-workers` and by the next run of
//! `fleet-control`, which uses the same ports.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use daemon::StateDirectory;
use link::{Authority, Identity, KeyPair, Subject};
use model::{ClusterId, WorkerId};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use uuid::Uuid;

const FILE: &str = "plan.json";

/// The whole fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Which root.
    pub root: Uuid,
    /// Its REST port.
    pub api: SocketAddr,
    /// Its port for clusters.
    pub for_clusters: SocketAddr,
    /// All clusters.
    pub clusters: Vec<Site>,
}

/// One cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// Which one.
    pub id: ClusterId,
    /// Its port for workers.
    pub for_workers: SocketAddr,
}

impl Plan {
    /// The plan in a fleet's folder; `None` before its first start.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("understand {}", path.display())).map(Some)
    }

    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        let text = serde_json::to_vec_pretty(self).context("write the plan as JSON")?;
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }
}

/// The root's state directory within a fleet's folder.
pub(crate) fn root_state(folder: &Path) -> PathBuf {
    folder.join("root")
}

/// The state directory of a cluster within a fleet's folder.
pub(crate) fn cluster_state(folder: &Path, name: &str) -> PathBuf {
    folder.join("clusters").join(name)
}

/// The identity in a state directory that a running daemon may have for itself; `None` when it has not joined.
pub(crate) fn identity_in(state: &Path) -> Result<Option<Identity>> {
    let (_copy, directory) = copy_of(state, &["identity.key", "identity.pem", "ca.pem"])?;
    Ok(Identity::load(&directory)?)
}

/// Certifies simulated workers as the root would. They share one key: what a handshake costs their parent is the same.
#[derive(Debug)]
pub(crate) struct Certifier {
    authority: Authority,
    root: Uuid,
    key: KeyPair,
    request_pem: String,
}

impl Certifier {
    pub(crate) fn open(folder: &Path, root: Uuid) -> Result<Self> {
        let (_copy, directory) = copy_of(&root_state(folder), &["authority.key", "authority.pem"])?;
        let authority = Authority::load_or_create(&directory, root, daemon::now())?;
        let key = KeyPair::load_or_generate(&directory)?;
        let request_pem = key.certificate_request()?;
        Ok(Self { authority, root, key, request_pem })
    }

    pub(crate) fn worker(&self, cluster: ClusterId, worker: WorkerId) -> Result<Identity> {
        let subject = Subject::Worker { root: self.root, cluster, worker };
        let certificate = self.authority.certify(&self.request_pem, subject, daemon::now())?;
        Ok(Identity::new(&self.key, &certificate, self.authority.certificate_pem())?)
    }
}

/// A copy of some files, because a state directory belongs to one process.
fn copy_of(state: &Path, files: &[&str]) -> Result<(TempDir, StateDirectory)> {
    let copy = tempfile::tempdir().context("make a temporary directory")?;
    for file in files {
        let from = state.join(file);
        match fs::copy(&from, copy.path().join(file)) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => bail!("copy {}: {error}", from.display()),
        }
    }
    let directory = StateDirectory::open(copy.path())?;
    Ok((copy, directory))
}
