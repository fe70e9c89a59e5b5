//! The workspace as `cargo metadata` tells it: packages, who depends on whom, and where things are.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The platform whose dependencies count: the daemons run on Linux only.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// A name and version that cargo keeps unique.
pub(crate) type PackageId = String;

/// All packages the workspace is built from, its own and others'.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    /// The packages of the workspace itself.
    pub(crate) members: Vec<PackageId>,
    pub(crate) packages: BTreeMap<PackageId, Package>,
}

/// One package.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// The folder of its manifest.
    pub(crate) folder: PathBuf,
    /// What its code and build scripts depend on directly; what only its tests need is left out.
    pub(crate) dependencies: Vec<PackageId>,
}

impl Workspace {
    /// Asks cargo about the workspace of the current folder.
    pub(crate) fn load() -> Result<Self> {
        let output = Command::new(cargo())
            .args(["metadata", "--format-version", "1", "--filter-platform", PLATFORM])
            .output()
            .context("start `cargo metadata`")?;
        if !output.status.success() {
            bail!("`cargo metadata` fails: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Self::parse(&output.stdout)
    }

    fn parse(json: &[u8]) -> Result<Self> {
        let metadata: Metadata = serde_json::from_slice(json).context("read what `cargo metadata` says")?;
        let mut dependencies: BTreeMap<PackageId, Vec<PackageId>> = metadata
            .resolve
            .nodes
            .into_iter()
            .map(|node| {
                (node.id, node.deps.into_iter().filter(Edge::is_built).map(|edge| edge.pkg).collect())
            })
            .collect();
        let packages = metadata
            .packages
            .into_iter()
            .map(|listed| {
                let dependencies = dependencies.remove(&listed.id).unwrap_or_default();
                let folder = listed.manifest_path.parent().unwrap_or(Path::new("")).to_owned();
                (listed.id, Package { name: listed.name, folder, dependencies })
            })
            .collect();
        Ok(Self {
            root: metadata.workspace_root,
            target: metadata.target_directory,
            members: metadata.workspace_members,
            packages,
        })
    }
}

/// The cargo that started this program, or the one on the path.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Listed>,
    workspace_members: Vec<PackageId>,
    resolve: Resolve,
    target_directory: PathBuf,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Listed {
    id: PackageId,
    name: String,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: PackageId,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: PackageId,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

impl Edge {
    fn is_built(&self) -> bool {
        self.dep_kinds.iter().any(|edge| edge.kind.as_deref() != Some("dev"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_of_tests_alone_do_not_count() {
        let json = r#"{
            "packages": [{"id": "a", "name": "a", "manifest_path": "/w/a/Cargo.toml"}],
            "workspace_members": ["a"], "workspace_root": "/w", "target_directory": "/t",
            "resolve": {"nodes": [{"id": "a", "deps": [
                {"pkg": "normal", "dep_kinds": [{"kind": null}]},
                {"pkg": "build", "dep_kinds": [{"kind": "build"}]},
                {"pkg": "dev", "dep_kinds": [{"kind": "dev"}]},
                {"pkg": "both", "dep_kinds": [{"kind": "dev"}, {"kind": null}]}
            ]}]}
        }"#;
        let workspace = Workspace::parse(json.as_bytes()).expect("well formed");
        assert_eq!(workspace.packages["a"].dependencies, ["normal", "build", "both"]);
        assert_eq!(workspace.packages["a"].folder, Path::new("/w/a"));
    }
}
