//! Who may depend on whom. Pure crates decide and touch nothing; shells touch and decide nothing.
//!
//! ```text
//!   model ◄── placement, addressing, liveness, workflow ◄── <daemon>/core ◄── its shell ──► control, daemon, store, link, proto
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
};

use crate::{
    check::Finding,
    workspace::{Package, PackageId, Workspace},
};

/// Where a package of the workspace stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    /// The nouns: depends on nothing of ours.
    Model,
    /// Pure policy shared by the cores.
    Policy,
    /// The pure brain of one daemon.
    Core,
    /// Input and output shared by the daemons.
    Shared,
    /// The shell around the core of that name.
    Shell { core: &'static str },
    /// The command line, which knows the daemons by their public interface only.
    Client,
    /// Stands alone.
    Example,
    /// Drives the cores in virtual time: sees all of them and no shell, and is seen by nobody.
    Simulation,
    /// For building and testing: sees everything and is seen by nobody.
    Tool,
}

/// Every package of the workspace. One that is missing here is a finding, so that its place is decided.
const LAYERS: [(&str, Layer); 28] = [
    ("model", Layer::Model),
    // The form of its records, for who writes them and for who only checks them.
    ("audit", Layer::Model),
    ("placement", Layer::Policy),
    ("addressing", Layer::Policy),
    ("liveness", Layer::Policy),
    ("resources", Layer::Policy),
    ("workflow", Layer::Policy),
    ("root-core", Layer::Core),
    ("cluster-core", Layer::Core),
    ("node-core", Layer::Core),
    ("net-core", Layer::Core),
    ("control", Layer::Shared),
    ("daemon", Layer::Shared),
    ("store", Layer::Shared),
    ("link", Layer::Shared),
    ("tunnel", Layer::Shared),
    ("relay", Layer::Shared),
    ("proto", Layer::Shared),
    ("root-orchestrator", Layer::Shell { core: "root-core" }),
    ("cluster-orchestrator", Layer::Shell { core: "cluster-core" }),
    ("node-engine", Layer::Shell { core: "node-core" }),
    ("net-manager", Layer::Shell { core: "net-core" }),
    ("cli", Layer::Client),
    ("hello", Layer::Example),
    ("fleet", Layer::Tool),
    ("sim", Layer::Simulation),
    ("testkit", Layer::Tool),
    ("xtask", Layer::Tool),
];

/// What a pure crate may not reach, by any path: sockets, runtimes, disks, devices, clocks and chance.
const IMPURE: [&str; 34] = [
    "async-std",
    "axum",
    "bollard",
    "chrono",
    "h2",
    "hyper",
    "hyper-util",
    "jiff",
    "mio",
    "mongodb",
    "nlink",
    "polling",
    "quanta",
    "quinn",
    "rand",
    "rcgen",
    "reqwest",
    "ring",
    "rusqlite",
    "rustix",
    "rustls",
    "smol",
    "socket2",
    "sysinfo",
    "tempfile",
    "time",
    "tokio",
    "tokio-rustls",
    "tokio-stream",
    "tokio-util",
    "tonic",
    "tower",
    "tower-http",
    "tracing-subscriber",
];

/// The one set of lint rules for pure crates, which the others link to.
const PURE_RULES: &str = "crates/model/clippy.toml";

/// All violations in the workspace.
pub(crate) fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for id in &workspace.members {
        let package = &workspace.packages[id];
        findings.extend(lints_are_inherited(package));
        let Some(layer) = layer_of(&package.name) else {
            findings.push(Finding::new(
                &package.name,
                "has no layer",
                "decide where it stands and add it to LAYERS in crates/xtask/src/layers.rs",
            ));
            continue;
        };
        findings.extend(neighbours(workspace, package, layer));
        if layer.is_pure() {
            findings.extend(impure_paths(&workspace.packages, id));
            findings.extend(pure_rules_apply(workspace, package));
        }
    }
    findings
}

impl Layer {
    const fn is_pure(self) -> bool {
        match self {
            Self::Model | Self::Policy | Self::Core => true,
            Self::Shared
            | Self::Shell { .. }
            | Self::Client
            | Self::Example
            | Self::Simulation
            | Self::Tool => false,
        }
    }

    /// Whether a package of this layer may depend on `name`, which stands in `other`; if not, what to do instead.
    fn may_use(self, name: &str, other: Self) -> Result<(), &'static str> {
        match (self, other) {
            (Self::Tool, _)
            | (Self::Simulation, Self::Model | Self::Policy | Self::Core)
            | (Self::Policy | Self::Core | Self::Shared | Self::Shell { .. } | Self::Client, Self::Model)
            | (Self::Core | Self::Shared | Self::Shell { .. }, Self::Policy)
            | (Self::Shared | Self::Shell { .. } | Self::Client, Self::Shared) => Ok(()),
            (Self::Shell { core }, Self::Core) if core == name => Ok(()),
            (Self::Shell { .. }, Self::Core) => {
                Err("a shell drives its own core; share nouns through `model`")
            }
            (Self::Shell { .. } | Self::Client, Self::Shell { .. }) => {
                Err("daemons meet on the wire: use `proto` and `link`")
            }
            (Self::Core, Self::Core) => Err("cores do not know each other: move the shared noun to `model`"),
            (Self::Model | Self::Policy | Self::Core, Self::Shared | Self::Shell { .. } | Self::Client) => {
                Err("pure crates touch nothing: pass the value in and do the IO in the shell")
            }
            (Self::Model | Self::Policy, Self::Model | Self::Policy | Self::Core) => {
                Err("dependencies point towards `model`: move what is needed there")
            }
            (Self::Shared, Self::Core | Self::Shell { .. } | Self::Client) => {
                Err("shared IO serves every daemon: hand it what it needs as an argument")
            }
            (Self::Client, Self::Policy | Self::Core) => Err("the client decides nothing: ask the root"),
            (Self::Shell { .. }, Self::Client) => Err("nothing depends on the command line"),
            (Self::Client, Self::Client) => Err("there is one client"),
            (Self::Example, _) => Err("an example stands alone"),
            (Self::Simulation, Self::Shared | Self::Shell { .. } | Self::Client) => {
                Err("the simulation has shells of its own: it drives cores only")
            }
            (_, Self::Example | Self::Simulation | Self::Tool) => {
                Err("it is for tests: make it a dev-dependency")
            }
        }
    }
}

fn layer_of(name: &str) -> Option<Layer> {
    LAYERS.iter().find(|(listed, _)| *listed == name).map(|(_, layer)| *layer)
}

/// Direct dependencies within the workspace that the layers forbid.
fn neighbours(workspace: &Workspace, package: &Package, layer: Layer) -> Vec<Finding> {
    let ours = |id: &&PackageId| workspace.members.contains(*id);
    let mut findings = Vec::new();
    for dependency in package.dependencies.iter().filter(ours) {
        let name = &workspace.packages[dependency].name;
        // A dependency without a layer is a finding of its own.
        let Some(other) = layer_of(name) else { continue };
        if let Err(remedy) = layer.may_use(name, other) {
            findings.push(Finding::new(&package.name, &format!("depends on {name}"), remedy));
        }
    }
    findings
}

/// The shortest path from `start` to each impure crate that it reaches.
fn impure_paths(packages: &BTreeMap<PackageId, Package>, start: &PackageId) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = BTreeSet::from([start]);
    let mut queue = VecDeque::from([vec![start]]);
    while let Some(path) = queue.pop_front() {
        let Some(package) = path.last().and_then(|last| packages.get(*last)) else { continue };
        if path.len() > 1 && IMPURE.contains(&package.name.as_str()) {
            let names: Vec<&str> = path.iter().map(|id| packages[*id].name.as_str()).collect();
            findings.push(Finding::new(
                names[0],
                &format!("reaches {}: {}", package.name, names.join(" → ")),
                "pure crates take time, chance and IO results as arguments: drop the dependency or its feature",
            ));
            continue;
        }
        for dependency in &package.dependencies {
            if seen.insert(dependency) {
                queue.push_back([&path[..], &[dependency]].concat());
            }
        }
    }
    findings
}

fn lints_are_inherited(package: &Package) -> Option<Finding> {
    let manifest = fs::read_to_string(package.folder.join("Cargo.toml")).unwrap_or_default();
    (!inherits_lints(&manifest)).then(|| {
        Finding::new(
            &package.name,
            "does not use the lints of the workspace",
            "add `[lints]` with `workspace = true` to its Cargo.toml",
        )
    })
}

fn inherits_lints(manifest: &str) -> bool {
    let mut section = "";
    manifest.lines().map(str::trim).any(|line| {
        if line.starts_with('[') {
            section = line;
        }
        let inherits = line.split_once('=').is_some_and(|(key, value)| {
            (key.trim(), value.trim()) == ("workspace", "true") && section == "[lints]"
                || (key.trim(), value.trim()) == ("lints.workspace", "true")
        });
        inherits && !line.starts_with('#')
    })
}

fn pure_rules_apply(workspace: &Workspace, package: &Package) -> Option<Finding> {
    let rules = fs::read_to_string(workspace.root.join(PURE_RULES)).unwrap_or_default();
    let own = fs::read_to_string(package.folder.join("clippy.toml")).unwrap_or_default();
    (rules.is_empty() || own != rules).then(|| {
        Finding::new(
            &package.name,
            "does not use the lint rules of pure crates",
            &format!("make its clippy.toml a link to {PURE_RULES}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn packages(edges: &[(&str, &[&str])]) -> BTreeMap<PackageId, Package> {
        edges
            .iter()
            .map(|(name, dependencies)| {
                let dependencies = dependencies.iter().map(|&name| name.to_owned()).collect();
                let package =
                    Package { name: (*name).to_owned(), folder: "no such folder".into(), dependencies };
                ((*name).to_owned(), package)
            })
            .collect()
    }

    fn workspace(edges: &[(&str, &[&str])]) -> Workspace {
        let packages = packages(edges);
        Workspace {
            root: PathBuf::new(),
            target: PathBuf::new(),
            members: packages.keys().cloned().collect(),
            packages,
        }
    }

    fn forbidden(edges: &[(&str, &[&str])], name: &str) -> Vec<Finding> {
        let workspace = workspace(edges);
        let layer = layer_of(name).expect("listed");
        neighbours(&workspace, &workspace.packages[name], layer)
    }

    #[test]
    fn a_pure_crate_that_reaches_tokio_is_shown_the_path() {
        let packages = packages(&[
            ("node-core", &["model", "helper"]),
            ("model", &[]),
            ("helper", &["deeper", "tokio"]),
            ("deeper", &["tokio"]),
            ("tokio", &["mio"]),
            ("mio", &[]),
        ]);
        assert_eq!(
            impure_paths(&packages, &"node-core".to_owned()),
            [Finding::new(
                "node-core",
                "reaches tokio: node-core → helper → tokio",
                "pure crates take time, chance and IO results as arguments: drop the dependency or its feature",
            )]
        );
    }

    #[test]
    fn cores_depend_on_neither_each_other_nor_io() {
        let edges: [(&str, &[&str]); 5] = [
            ("root-core", &["cluster-core", "store", "model", "placement"]),
            ("cluster-core", &[]),
            ("store", &[]),
            ("model", &[]),
            ("placement", &[]),
        ];
        assert_eq!(
            forbidden(&edges, "root-core"),
            [
                Finding::new(
                    "root-core",
                    "depends on cluster-core",
                    "cores do not know each other: move the shared noun to `model`"
                ),
                Finding::new(
                    "root-core",
                    "depends on store",
                    "pure crates touch nothing: pass the value in and do the IO in the shell"
                ),
            ]
        );
    }

    #[test]
    fn a_shell_depends_on_its_own_core_and_on_no_other_daemon() {
        let edges: [(&str, &[&str]); 5] = [
            ("node-engine", &["node-core", "net-core", "net-manager", "link"]),
            ("node-core", &[]),
            ("net-core", &[]),
            ("net-manager", &[]),
            ("link", &[]),
        ];
        assert_eq!(
            forbidden(&edges, "node-engine"),
            [
                Finding::new(
                    "node-engine",
                    "depends on net-core",
                    "a shell drives its own core; share nouns through `model`"
                ),
                Finding::new(
                    "node-engine",
                    "depends on net-manager",
                    "daemons meet on the wire: use `proto` and `link`"
                ),
            ]
        );
    }

    #[test]
    fn a_package_without_a_layer_is_a_finding() {
        let problems: Vec<String> =
            check(&workspace(&[("newcomer", &[])])).into_iter().map(|finding| finding.problem).collect();
        assert_eq!(problems, ["does not use the lints of the workspace", "has no layer"]);
    }

    #[test]
    fn only_the_lints_section_inherits_lints() {
        assert!(inherits_lints("[package]\nname = \"a\"\n[lints]\nworkspace = true\n"));
        assert!(inherits_lints("lints.workspace = true\n"));
        assert!(!inherits_lints("[dependencies.model]\nworkspace = true\n"));
        assert!(!inherits_lints("[lints]\n# workspace = true\n"));
    }
}
