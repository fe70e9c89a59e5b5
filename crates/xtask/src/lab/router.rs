//! A router that translates addresses, between one host and the switch. It is a network namespace of its own with an init
//! as a host has one; on the switch it has the address of its host, which has another behind it. Nobody gets to the host
//! but by answering it.
//!
//! ```text
//!   host eth0 192.168.11.2 ──── in 192.168.11.1  router  out 10.214.1.11 ──── switch
//! ```

use std::fs;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{
    Lab,
    host::{Host, PREFIX_LENGTH},
    power,
    switch::{HOST_INTERFACE, batch, inside},
    tool::run_with,
};

/// The router's end of the cable to the switch.
pub(super) const OUTSIDE: &str = "out";

/// What a router does to what leaves its site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Translation {
    /// Everything a host sends from a port leaves from one and the same port, as with most routers.
    KeepsPorts,
    /// Each flow leaves from another port.
    Random,
}

impl Lab {
    /// Puts a host that is off behind a router from its next boot on, or with `None` on the switch again.
    pub(crate) fn translate(&self, host: &str, translation: Option<Translation>) -> Result<()> {
        let host = self.host(host)?;
        ensure!(self.find_init(host)?.is_none(), "{host} is on: switch it off first");
        let marker = self.layout.host(host).router();
        match translation {
            Some(translation) => fs::write(&marker, serde_json::to_vec(&translation)?)
                .with_context(|| format!("write {}", marker.display())),
            None => power::remove_file(&marker),
        }
    }

    /// What is between a host and the switch, if anything.
    pub(crate) fn translation_of(&self, host: Host) -> Result<Option<Translation>> {
        let marker = self.layout.host(host).router();
        if !marker.exists() {
            return Ok(None);
        }
        let text = fs::read(&marker).with_context(|| format!("read {}", marker.display()))?;
        serde_json::from_slice(&text).map(Some).with_context(|| format!("read {}", marker.display()))
    }
}

/// What a host's router is called.
pub(super) fn name_of(host: Host) -> String {
    format!("{host}-router")
}

/// Gives a host that is just coming up its interface behind a router that has its own on the switch.
pub(super) fn connect(host: Host, init: u32, router: u32, translation: Translation) -> Result<()> {
    let [.., fourth] = host.address().octets();
    let address = host.address();
    let ip = |process| inside(process, &["ip", "-batch", "-"]);
    batch(
        ip(router),
        &format!(
            "link set lo up\n\
             link add in type veth peer name {HOST_INTERFACE} netns {init}\n\
             address add {address}/{PREFIX_LENGTH} dev {OUTSIDE}\n\
             address add 192.168.{fourth}.1/24 dev in\n\
             link set {OUTSIDE} up\n\
             link set in up\n"
        ),
    )?;
    run_with(&mut inside(router, &["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]), "")?;
    let rules = rules(translation);
    run_with(&mut inside(router, &["nft", "-f", "-"]), &rules).context("make the rules of the router")?;
    batch(
        ip(init),
        &format!(
            "link set lo up\n\
             address add 192.168.{fourth}.2/24 dev {HOST_INTERFACE}\n\
             link set {HOST_INTERFACE} up\n\
             route add default via 192.168.{fourth}.1\n"
        ),
    )
}

fn rules(translation: Translation) -> String {
    let masquerade = match translation {
        Translation::KeepsPorts => "masquerade",
        Translation::Random => "masquerade random,fully-random",
    };
    let only_answers = format!("iifname {OUTSIDE} ct state established accept; iifname {OUTSIDE} drop;");
    format!(
        "table ip nat {{ chain out {{ type nat hook postrouting priority 100; oifname {OUTSIDE} {masquerade}; }}; }}\n\
         table ip guard {{\n\
         chain input {{ type filter hook input priority 0; {only_answers} }}\n\
         chain forward {{ type filter hook forward priority 0; {only_answers} }}\n\
         }}\n"
    )
}
