//! What joins the hosts: a bridge in a network namespace of its own, where no firewall of the machine or of an engine
//! looks at what passes, and a cable (a veth pair) to each host that is on and to the machine.
//!
//! What happens to a link happens at the switch's end of the cable. So it is to a host what it would be on real
//! cables: a link without a carrier, or packets that never arrive.

use std::{collections::BTreeMap, net::Ipv4Addr, process::Command, time::Instant};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{
    host::{CALLER, Host, PREFIX_LENGTH},
    tool::{command, run, run_with},
};

/// The name of the switch's own init.
pub(crate) const NAME: &str = "switch";
/// The machine's end of its cable.
pub(crate) const MACHINE_INTERFACE: &str = "mangrove-lab";
const BRIDGE: &str = "lan";
const MACHINE_PORT: &str = "machine";
/// The host's end of its cable.
pub(crate) const HOST_INTERFACE: &str = "eth0";
/// Tables that drop packets are called this and the port.
const TABLE: &str = "loss-";

/// The switch, by the process that holds its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Switch {
    pub(crate) init: u32,
}

/// A host's cable as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Link {
    pub(crate) plugged: bool,
    /// Of the packets in each direction.
    pub(crate) lost_percent: u8,
}

impl Switch {
    /// Makes the bridge and the cable to the machine.
    pub(crate) fn set_up(self) -> Result<()> {
        self.ip(&format!(
            "link set lo up\n\
             link add {BRIDGE} type bridge forward_delay 0 stp_state 0 mcast_snooping 0\n\
             link set {BRIDGE} up\n"
        ))?;
        let namespace = self.init;
        batch(
            command("ip", ["-batch", "-"]),
            &format!(
                "link add {MACHINE_INTERFACE} type veth peer name {MACHINE_PORT} netns {namespace}\n\
                 address add {CALLER}/{PREFIX_LENGTH} dev {MACHINE_INTERFACE}\n\
                 link set {MACHINE_INTERFACE} up\n"
            ),
        )?;
        self.ip(&format!("link set {MACHINE_PORT} master {BRIDGE} up\n"))
    }

    /// Gives a host that is just coming up its interface.
    pub(crate) fn connect(self, host: Host, init: u32, plugged: bool) -> Result<()> {
        let address = host.address();
        self.lay_cable(host, init, HOST_INTERFACE, plugged)?;
        batch(
            inside(init, &["ip", "-batch", "-"]),
            &format!(
                "link set lo up\n\
                 address add {address}/{PREFIX_LENGTH} dev {HOST_INTERFACE}\n\
                 link set {HOST_INTERFACE} up\n"
            ),
        )
    }

    /// Lays the cable of a host, to the host or to the router before it.
    pub(crate) fn lay_cable(self, host: Host, init: u32, interface: &str, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        let mac = host.mac();
        self.ip(&format!(
            "link add {host} type veth peer name {interface} address {mac} netns {init}\n\
             link set {host} master {BRIDGE}\n\
             link set {host} {state}\n"
        ))
    }

    /// Takes a cable away with both its ends; one that is not there is away.
    pub(crate) fn disconnect(self, host: Host) -> Result<()> {
        let is_there = || Ok::<_, anyhow::Error>(self.ports()?.contains_key(&host.to_string()));
        if !is_there()? {
            return Ok(());
        }
        match self.ip(&format!("link delete {host}\n")) {
            // The kernel takes it away itself some time after its host has ended, maybe just now.
            Err(_) if !is_there()? => Ok(()),
            deleted => deleted,
        }
    }

    /// Plugs a cable in or pulls it; gives when, a few milliseconds before it had any effect.
    pub(crate) fn plug(self, host: Host, plugged: bool) -> Result<Instant> {
        let state = if plugged { "up" } else { "down" };
        let mut command = inside(self.init, &["ip", "link", "set", &host.to_string(), state]);
        let when = Instant::now();
        run(&mut command)?;
        Ok(when)
    }

    /// Loses packets of a link in both directions from now on, also after a power cycle; with 0 none.
    pub(crate) fn lose(self, host: Host, percent: u8) -> Result<()> {
        let mut command = inside(self.init, &["nft", "-f", "-"]);
        run_with(&mut command, &loss_rules(host, percent)).context("change the rules of the switch").map(drop)
    }

    /// The links of the hosts that are on.
    pub(crate) fn links(self) -> Result<BTreeMap<String, Link>> {
        let rules = run(&mut inside(self.init, &["nft", "list", "ruleset", "bridge"]))?;
        let losses = losses(&rules);
        let lost = |name: &String| losses.get(name).copied().unwrap_or_default();
        let ports = self.ports()?.into_iter();
        Ok(ports.map(|(name, plugged)| (name.clone(), Link { plugged, lost_percent: lost(&name) })).collect())
    }

    /// The switch's ends of the cables, and whether they are plugged in.
    fn ports(self) -> Result<BTreeMap<String, bool>> {
        #[derive(Deserialize)]
        struct Port {
            ifname: String,
            flags: Vec<String>,
        }
        let listed = run(&mut inside(self.init, &["ip", "-json", "link", "show", "master", BRIDGE]))?;
        let ports: Vec<Port> = serde_json::from_str(&listed).context("read the list of links")?;
        Ok(ports.into_iter().map(|port| (port.ifname, port.flags.iter().any(|flag| flag == "UP"))).collect())
    }

    fn ip(self, commands: &str) -> Result<()> {
        batch(inside(self.init, &["ip", "-batch", "-"]), commands)
    }
}

/// Removes the machine's end of its cable, if it is there.
pub(crate) fn remove_machine_interface() -> Result<()> {
    if std::path::Path::new("/sys/class/net").join(MACHINE_INTERFACE).exists() {
        run(&mut command("ip", ["link", "delete", MACHINE_INTERFACE]))?;
    }
    Ok(())
}

/// # Errors
/// The machine has something else in the lab's range.
pub(crate) fn ensure_range_is_free() -> Result<()> {
    let routes = run(&mut command("ip", ["-4", "route", "show", "root", &range()]))?;
    anyhow::ensure!(
        routes.trim().is_empty(),
        "the lab's addresses, {}, are in use on this machine: {}",
        range(),
        routes.trim()
    );
    Ok(())
}

fn range() -> String {
    let [first, second, ..] = CALLER.octets();
    format!("{}/{PREFIX_LENGTH}", Ipv4Addr::new(first, second, 0, 0))
}

/// A program of the machine in the network of a host or of the switch.
pub(crate) fn inside(init: u32, program: &[&str]) -> Command {
    let mut command = command("nsenter", ["--target", &init.to_string(), "--net", "--"]);
    command.args(program);
    command
}

pub(crate) fn batch(mut command: Command, commands: &str) -> Result<()> {
    run_with(&mut command, commands).map(drop)
}

fn loss_rules(host: Host, percent: u8) -> String {
    // Adding it first makes it no error to delete it.
    let none = format!("table bridge {TABLE}{host} {{\n}}\ndelete table bridge {TABLE}{host}\n");
    if percent == 0 {
        return none;
    }
    let drop = match percent {
        // nft refuses to compare with what no number reaches.
        100.. => "drop".to_owned(),
        percent => format!("numgen random mod 100 < {percent} drop"),
    };
    format!(
        "{none}table bridge {TABLE}{host} {{\n\
         chain forward {{\n\
         type filter hook forward priority 0\n\
         iifname \"{host}\" {drop}\n\
         oifname \"{host}\" {drop}\n\
         }}\n\
         }}\n"
    )
}

/// Reads [`loss_rules`] as nft lists them.
fn losses(ruleset: &str) -> BTreeMap<String, u8> {
    let mut losses = BTreeMap::new();
    let mut port = None;
    for line in ruleset.lines() {
        if let Some(table) = line.strip_prefix("table bridge ") {
            port = table.strip_prefix(TABLE).map(|name| name.trim_end_matches([' ', '{']).to_owned());
        }
        let percent = match line.split_once("mod 100 < ") {
            Some((_, rest)) => rest.split(' ').next().and_then(|number| number.parse().ok()),
            None => line.ends_with(" drop").then_some(100),
        };
        if let (Some(port), Some(percent)) = (&port, percent) {
            losses.insert(port.clone(), percent);
        }
    }
    losses
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "table bridge loss-c1w1 {\n\tchain forward {\n\t\ttype filter hook forward priority filter; \
                          policy accept;\n\t\tiifname \"c1w1\" numgen random mod 100 < 30 drop\n\t\toifname \"c1w1\" \
                          numgen random mod 100 < 30 drop\n\t}\n}\ntable bridge other {\n}\n";

    #[test]
    fn losses_are_read_as_nft_lists_them() {
        assert_eq!(losses(LISTED), BTreeMap::from([("c1w1".to_owned(), 30)]));
        assert_eq!(losses(""), BTreeMap::new());
        let all = loss_rules(Host::Cluster(1), 100);
        assert_eq!(losses(&all), BTreeMap::from([("c1".to_owned(), 100)]));
    }

    #[test]
    fn no_loss_leaves_no_table() {
        let rules = loss_rules(Host::Cluster(1), 0);
        assert_eq!(rules, "table bridge loss-c1 {\n}\ndelete table bridge loss-c1\n");
        assert!(loss_rules(Host::Cluster(1), 5).starts_with(&rules));
    }

    #[test]
    fn the_range_has_all_hosts() {
        assert_eq!(range(), "10.214.0.0/16");
        assert!(Host::Bare(9).address().to_string().starts_with("10.214."));
    }
}
