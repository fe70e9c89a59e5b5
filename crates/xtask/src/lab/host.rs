//! Which hosts a lab has, what they are called and which addresses they have. What runs on them is in `plan.rs`.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// The lab's own range: apart from 10.18.0.0 to 10.30.255.255, which instances have, and from what engines take.
pub(crate) const PREFIX_LENGTH: u8 = 16;
/// The end of the cable that leads from the machine into the lab.
pub(crate) const CALLER: Ipv4Addr = Ipv4Addr::new(10, 214, 0, 254);

/// Beyond this an address would need more than its octet has left.
const MOST: u8 = 200;
/// The third octet of plain hosts: no cluster has it.
const BARE_OCTET: u8 = 250;
/// The fourth octet of a cluster's first worker, less one: its cluster orchestrator has 1.
const BEFORE_WORKERS: u8 = 10;

/// How large a lab is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// With none there is no root either.
    pub(crate) clusters: u8,
    /// In each cluster.
    pub(crate) workers: u8,
    /// Hosts with a container engine and nothing else.
    pub(crate) bare: u8,
    /// How many of the clusters, from the first on, are trusted sites.
    pub(crate) trusted: u8,
}

/// One host of a lab. Numbers begin at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    /// `root`
    Root,
    /// `c1`
    Cluster(u8),
    /// `c1w1`
    Worker { cluster: u8, number: u8 },
    /// `b1`
    Bare(u8),
}

impl Shape {
    /// # Errors
    /// There would be more of something than there are addresses for, or nothing at all.
    pub(crate) fn check(self) -> Result<()> {
        for (count, what) in
            [(self.clusters, "clusters"), (self.workers, "workers of a cluster"), (self.bare, "plain hosts")]
        {
            ensure!(count <= MOST, "a lab has addresses for {MOST} {what}, not for {count}");
        }
        ensure!(self.clusters > 0 || self.bare > 0, "a lab needs a cluster or a plain host");
        ensure!(
            self.trusted <= self.clusters,
            "{} clusters cannot be trusted sites: there are {}",
            self.trusted,
            self.clusters
        );
        Ok(())
    }

    /// Each host after those it needs.
    pub(crate) fn hosts(self) -> Vec<Host> {
        let root = (self.clusters > 0).then_some(Host::Root);
        let clusters = (1..=self.clusters).map(Host::Cluster);
        root.into_iter()
            .chain(clusters)
            .chain(self.workers())
            .chain((1..=self.bare).map(Host::Bare))
            .collect()
    }

    pub(crate) fn workers(self) -> impl Iterator<Item = Host> {
        let of = move |cluster| (1..=self.workers).map(move |number| Host::Worker { cluster, number });
        (1..=self.clusters).flat_map(of)
    }

    /// Whether a host is a cluster orchestrator that is to declare its site trusted.
    pub(crate) fn is_trusted(self, host: Host) -> bool {
        match host {
            Host::Cluster(number) => number <= self.trusted,
            Host::Root | Host::Worker { .. } | Host::Bare(_) => false,
        }
    }

    /// The host of that name.
    ///
    /// # Errors
    /// There is none; the error names those there are.
    pub(crate) fn host(self, name: &str) -> Result<Host> {
        let hosts = self.hosts();
        if let Some(host) = name.parse().ok().filter(|host| hosts.contains(host)) {
            return Ok(host);
        }
        let names: Vec<String> = hosts.iter().map(Host::to_string).collect();
        bail!("the lab has no host `{name}`: choose one of {}", names.join(", "))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clusters, workers, bare, trusted } = self;
        write!(f, "{clusters} clusters of {workers} workers ({trusted} trusted sites), {bare} plain hosts")
    }
}

impl Host {
    pub(crate) fn address(self) -> Ipv4Addr {
        let (third, fourth) = self.octets();
        Ipv4Addr::new(10, 214, third, fourth)
    }

    /// Always the same, as that of a machine is: after a power cycle the neighbours' tables are still right.
    pub(crate) fn mac(self) -> String {
        let (third, fourth) = self.octets();
        format!("02:4d:67:76:{third:02x}:{fourth:02x}")
    }

    /// Whether it has a container engine.
    pub(crate) fn has_engine(self) -> bool {
        match self {
            Self::Root | Self::Cluster(_) => false,
            Self::Worker { .. } | Self::Bare(_) => true,
        }
    }

    fn octets(self) -> (u8, u8) {
        match self {
            Self::Root => (0, 1),
            Self::Cluster(cluster) => (cluster, 1),
            Self::Worker { cluster, number } => (cluster, BEFORE_WORKERS + number),
            Self::Bare(number) => (BARE_OCTET, number),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Root => "root".to_owned(),
            Self::Cluster(cluster) => format!("c{cluster}"),
            Self::Worker { cluster, number } => format!("c{cluster}w{number}"),
            Self::Bare(number) => format!("b{number}"),
        };
        f.pad(&name)
    }
}

impl FromStr for Host {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let host = if name == "root" {
            Self::Root
        } else if let Some(number) = name.strip_prefix('b') {
            Self::Bare(number.parse()?)
        } else if let Some(rest) = name.strip_prefix('c') {
            match rest.split_once('w') {
                Some((cluster, number)) => {
                    Self::Worker { cluster: cluster.parse()?, number: number.parse()? }
                }
                None => Self::Cluster(rest.parse()?),
            }
        } else {
            bail!("a host is called root, c1, c1w1 or b1, not `{name}`")
        };
        Ok(host)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn shape(clusters: u8, workers: u8, bare: u8) -> Shape {
        Shape { clusters, workers, bare, trusted: 0 }
    }

    #[test]
    fn hosts_come_after_those_they_need() {
        let names = |shape: Shape| shape.hosts().iter().map(Host::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(names(shape(2, 2, 0)), "root c1 c2 c1w1 c1w2 c2w1 c2w2");
        assert_eq!(names(shape(0, 2, 3)), "b1 b2 b3");
    }

    #[test]
    fn no_two_hosts_of_the_largest_lab_share_a_name_or_an_address() {
        let hosts = shape(MOST, MOST, MOST).hosts();
        let addresses: BTreeSet<_> = hosts.iter().map(|host| host.address()).chain([CALLER]).collect();
        let macs: BTreeSet<_> = hosts.iter().map(|host| host.mac()).collect();
        let names: BTreeSet<_> = hosts.iter().map(Host::to_string).collect();
        assert_eq!((addresses.len(), macs.len(), names.len()), (hosts.len() + 1, hosts.len(), hosts.len()));
    }

    #[test]
    fn a_host_is_found_by_its_name_or_the_others_are_told() {
        let lab = shape(1, 1, 1);
        for host in lab.hosts() {
            assert_eq!(lab.host(&host.to_string()).expect("it is there"), host);
        }
        let error = lab.host("c1w2").expect_err("there is one worker").to_string();
        assert_eq!(error, "the lab has no host `c1w2`: choose one of root, c1, c1w1, b1");
        assert!(lab.host("switch").is_err());
    }

    #[test]
    fn a_lab_that_is_empty_or_too_large_is_refused() {
        assert!(shape(0, 2, 0).check().is_err());
        assert!(shape(MOST + 1, 1, 0).check().is_err());
        shape(MOST, MOST, MOST).check().expect("the largest");
    }
}
