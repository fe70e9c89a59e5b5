//! What a host runs: written by whoever powers it on, read by its `init.rs`.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{
    host::{Host, Shape},
    layout::{BIN, SHARE},
};

/// What Admin logs in with.
pub(crate) const PASSWORD: &str = "Admin";
/// Anywhere on land.
const LOCATION: &str = "48.137,11.575,1000";

/// A process that a host's init starts, and starts again when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Process {
    /// The root orchestrator.
    Root,
    /// A cluster orchestrator.
    Cluster,
    NodeEngine,
    NetManager,
    /// The container engine; its containerd ends with it, its containers do not.
    Dockerd,
}

/// All that a host runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) services: Vec<Service>,
}

/// One process and how it is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) process: Process,
    pub(crate) program: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
}

impl Process {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Cluster => "cluster",
            Self::NodeEngine => "node-engine",
            Self::NetManager => "net-manager",
            Self::Dockerd => "dockerd",
        }
    }

    /// The program's file among those of the lab; `None` if the machine has it.
    pub(crate) fn program(self) -> Option<&'static str> {
        match self {
            Self::Root => Some("root-orchestrator"),
            Self::Cluster => Some("cluster-orchestrator"),
            Self::NodeEngine => Some("NodeEngine"),
            Self::NetManager => Some("NetManager"),
            Self::Dockerd => None,
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Plan {
    /// What a host runs before it belongs to anybody: its container engine, if it has one.
    pub(crate) fn before_joining(host: Host) -> Self {
        let services = if host.has_engine() { vec![dockerd(host)] } else { Vec::new() };
        Self { services }
    }

    /// What a host runs. `token` is what it joins with, which counts at the first start only; `level` is what the
    /// daemons log.
    pub(crate) fn of(shape: Shape, host: Host, token: Option<&str>, level: Option<&str>) -> Self {
        let trusted = shape.is_trusted(host).then_some("true");
        let mut plan = Self::before_joining(host);
        match host {
            Host::Root => plan.services.push(service(
                Process::Root,
                &["--api-listen", "0.0.0.0:10000", "--api-plain"],
                &[("MANGROVE_ADMIN_PASSWORD", Some(PASSWORD)), ("MANGROVE_LOG", level)],
            )),
            Host::Cluster(_) => plan.services.push(service(
                Process::Cluster,
                &[
                    "--name",
                    &host.to_string(),
                    "--location",
                    LOCATION,
                    "--root",
                    &Host::Root.address().to_string(),
                ],
                &[("MANGROVE_TOKEN", token), ("MANGROVE_TRUSTED_SITE", trusted), ("MANGROVE_LOG", level)],
            )),
            Host::Worker { cluster, .. } => plan.services.extend([
                // A configuration of this machine does not concern the lab.
                service(
                    Process::NetManager,
                    &["--config", "/run/lab/no-netcfg.json"],
                    &[("MANGROVE_LOG", level)],
                ),
                service(
                    Process::NodeEngine,
                    &["-a", &Host::Cluster(cluster).address().to_string(), "-n", "6000"],
                    &[("MANGROVE_TOKEN", token), ("MANGROVE_LOG", level)],
                ),
            ]),
            Host::Bare(_) => {}
        }
        plan
    }
}

fn service(process: Process, arguments: &[&str], environment: &[(&str, Option<&str>)]) -> Service {
    let set = |&(name, value): &(&str, Option<&str>)| Some((name.to_owned(), value?.to_owned()));
    Service {
        process,
        program: process.program().map_or_else(|| process.to_string(), |file| format!("{BIN}/{file}")),
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        environment: environment.iter().filter_map(set).collect(),
    }
}

/// As a package would start it, but for the configuration, which is not this machine's, and the control groups.
fn dockerd(host: Host) -> Service {
    let arguments = [
        "--config-file",
        &format!("{SHARE}/dockerd.json"),
        "--host",
        "unix:///run/docker.sock",
        "--host",
        &format!("unix://{SHARE}/docker.sock"),
        "--cgroup-parent",
        &super::cgroups::parent(host),
        "--exec-opt",
        "native.cgroupdriver=cgroupfs",
    ];
    service(Process::Dockerd, &arguments, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { clusters: 2, workers: 1, bare: 1, trusted: 1 };

    #[test]
    fn a_worker_starts_with_its_engine_and_joins_its_own_cluster() {
        let host = Host::Worker { cluster: 2, number: 1 };
        let plan = Plan::of(SHAPE, host, Some("secret"), None);
        let processes: Vec<Process> = plan.services.iter().map(|service| service.process).collect();
        assert_eq!(processes, [Process::Dockerd, Process::NetManager, Process::NodeEngine]);
        assert_eq!(plan.services[2].arguments, ["-a", "10.214.2.1", "-n", "6000"]);
        let token = BTreeMap::from([("MANGROVE_TOKEN".to_owned(), "secret".to_owned())]);
        assert_eq!(plan.services[2].environment, token);
        assert_eq!(Plan::before_joining(host).services, plan.services[..1]);
    }

    #[test]
    fn a_plain_host_has_an_engine_and_nothing_else() {
        let plan = Plan::of(SHAPE, Host::Bare(1), None, Some("debug"));
        assert_eq!(plan, Plan::before_joining(Host::Bare(1)));
        assert_eq!(plan.services.len(), 1);
    }

    #[test]
    fn only_the_orchestrator_of_a_trusted_site_says_that_it_is_one() {
        let says_so = |host| {
            let plan = Plan::of(SHAPE, host, None, None);
            let mut services = plan.services.iter();
            services.any(|service| service.environment.contains_key("MANGROVE_TRUSTED_SITE"))
        };
        assert!(says_so(Host::Cluster(1)));
        for host in [Host::Root, Host::Cluster(2), Host::Worker { cluster: 1, number: 1 }] {
            assert!(!says_so(host), "{host}");
        }
    }

    #[test]
    fn an_init_reads_what_was_written() {
        let plan = Plan::of(SHAPE, Host::Cluster(1), Some("secret"), Some("debug"));
        let written = serde_json::to_string(&plan).expect("JSON");
        assert_eq!(serde_json::from_str::<Plan>(&written).expect("JSON"), plan);
    }
}
