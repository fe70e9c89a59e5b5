//! Paths made by hand of what the kernel has, and of other programs: what ours are compared with. Between two hosts as
//! between two of the lab: a cable to each instance, a bridge in a namespace of its own that joins the hosts.
//!
//! ```text
//!   caller ── host ── bridge ── host ── far          each path has addresses of its own: 10.217.PATH.1 and .2
//!   near  ────┘
//! ```

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use anyhow::Result;

use super::{boringtun, forwarder, place::Place, probe::Server};

/// As the cables of NetManager.
pub(super) const MTU: u16 = 1450;
/// What WireGuard leaves of a usual link.
const ENCRYPTED_MTU: u16 = 1420;
const FORWARDER_PORT: u16 = 50105;
const BORINGTUN_PORT: u16 = 50120;

/// A path to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// To one on the same host: two cables and routes.
    Cable = 1,
    /// To one on the other host, by routes alone.
    Route,
    /// To one on the other host, by a VXLAN.
    Vxlan,
    /// To one on the other host, through a forwarder in user space.
    Forwarder,
    /// To one on the other host, encrypted by `boringtun-cli`.
    Boringtun,
}

/// The hosts, and what runs on them as long as this is there.
#[derive(Debug)]
pub(super) struct ByHand {
    pub(super) caller: Place,
    hosts: [Place; 2],
    _others: [Place; 3],
    _encrypted: [boringtun::End; 2],
    _servers: [Server; 3],
}

impl ByHand {
    pub(super) fn new(boringtun: &Path) -> Result<Self> {
        let (caller, near, far) = (Place::new()?, Place::new()?, Place::new()?);
        let (hosts, bridge) = ([Place::new()?, Place::new()?], Place::new()?);
        bridge.ip("link add lan type bridge forward_delay 0\nlink set lan up\n")?;
        for (number, host) in (1..).zip(&hosts) {
            host.run(|| Ok(std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?))?;
            bridge.ip(&format!(
                "link add host{number} type veth peer name lan netns {}\nlink set host{number} master lan up\n",
                host.path()
            ))?;
            host.ip(&format!("address add 10.218.0.{number}/24 dev lan\nlink set lan up\n"))?;
            let (own, other) = (underlay(number), underlay(3 - number));
            // As NetManager's: nothing is learned from what passes.
            host.ip(&format!(
                "link add overlay mtu {MTU} type vxlan id 7 dstport 4789 nolearning local {own} remote {other}\n\
                 address add 10.219.0.{number}/24 dev overlay\n\
                 link set overlay up\n"
            ))?;
        }
        plug(&hosts[0], &caller, 1)?;
        plug(&hosts[0], &near, 2)?;
        plug(&hosts[1], &far, 3)?;
        let encrypted = start_user_space(boringtun, &hosts)?;
        for by in [By::Cable, By::Route, By::Vxlan, By::Forwarder, By::Boringtun] {
            lead(by, &hosts, &caller, if by == By::Cable { &near } else { &far })?;
        }
        let servers = [Server::start(&near)?, Server::start(&far)?, Server::start(&hosts[1])?];
        Ok(Self { caller, hosts, _others: [near, far, bridge], _encrypted: encrypted, _servers: servers })
    }

    /// Where an instance is called on this path.
    pub(super) fn address(by: By) -> IpAddr {
        IpAddr::V4(end(by, 2))
    }

    /// The first host, and the address of the second in the VXLAN: nothing else is between them.
    pub(super) fn between_hosts(&self) -> (&Place, IpAddr) {
        (&self.hosts[0], Ipv4Addr::new(10, 219, 0, 2).into())
    }
}

/// The hosts' own addresses.
fn underlay(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 218, 0, number)
}

/// The address of an end of a path: 1 calls.
fn end(by: By, number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 217, by as u8, number)
}

/// A cable between a host and an instance, whose address on it is 10.220.NUMBER.2.
fn plug(host: &Place, instance: &Place, number: u8) -> Result<()> {
    host.ip(&format!(
        "link add cable{number} mtu {MTU} type veth peer name eth0 mtu {MTU} netns {}\n\
         address add 10.220.{number}.1/24 dev cable{number}\n\
         link set cable{number} up\n",
        instance.path()
    ))?;
    instance.ip(&format!("address add 10.220.{number}.2/24 dev eth0\nlink set eth0 up\n"))
}

fn start_user_space(program: &Path, hosts: &[Place; 2]) -> Result<[boringtun::End; 2]> {
    let start = |which: usize, number: u8| {
        let (own, other) = (underlay(number), underlay(3 - number));
        let [own_port, other_port] = [own, other].map(|address| (address, FORWARDER_PORT).into());
        forwarder::start(&hosts[which], "forwarder", MTU, own_port, other_port)?;
        // The control sockets are in one folder for both.
        let name = format!("mgvbench{number}");
        let other = format!("{other}:{BORINGTUN_PORT}");
        let encrypted = boringtun::start(program, &hosts[which], &name, which, BORINGTUN_PORT, &other)?;
        hosts[which].ip(&format!(
            "link set forwarder up\n\
             link set {name} name encrypted\n\
             link set encrypted mtu {ENCRYPTED_MTU} up\n"
        ))?;
        Ok::<_, anyhow::Error>(encrypted)
    };
    Ok([start(0, 1)?, start(1, 2)?])
}

/// Routes of a path in both directions.
fn lead(by: By, hosts: &[Place; 2], caller: &Place, server: &Place) -> Result<()> {
    let (from, to) = (end(by, 1), end(by, 2));
    let server_cable = if by == By::Cable { 2 } else { 3 };
    for (instance, cable, own, other) in [(caller, 1, from, to), (server, server_cable, to, from)] {
        instance.ip(&format!(
            "address add {own}/32 dev eth0\nroute add {other}/32 via 10.220.{cable}.1 src {own}\n"
        ))?;
    }
    hosts[0].ip(&format!("route add {from}/32 via 10.220.1.2\n"))?;
    let across = |number: u8| match by {
        By::Cable => None,
        By::Route => Some(format!("via {}", underlay(number))),
        By::Vxlan => Some(format!("via 10.219.0.{number}")),
        By::Forwarder => Some("dev forwarder".to_owned()),
        By::Boringtun => Some("dev encrypted".to_owned()),
    };
    match (across(2), across(1)) {
        (Some(there), Some(back)) => {
            hosts[0].ip(&format!("route add {to}/32 {there}\n"))?;
            hosts[1].ip(&format!("route add {from}/32 {back}\nroute add {to}/32 via 10.220.3.2\n"))
        }
        _ => hosts[0].ip(&format!("route add {to}/32 via 10.220.2.2\n")),
    }
}
