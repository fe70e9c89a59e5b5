//! Kernel settings without which nothing is forwarded.

use std::collections::BTreeSet;

use nlink::netlink::{Connection, Route, namespace::Netns, types::route::RouteProtocol};

use crate::datapath::DatapathError;

/// Lets the kernel pass packets on. An interface that learns its IPv6 routes from routers would stop doing so once the
/// device forwards, so those that did are told to go on first.
pub(super) async fn enable_forwarding(host: &Netns, route: &Connection<Route>) -> Result<(), DatapathError> {
    let settings = host.sysctl();
    let ipv6_forwards = settings.get("net.ipv6.conf.all.forwarding").map_err(DatapathError::from_attempt(
        "use IPv6: the kernel has it switched off; remove `ipv6.disable=1` from its command line",
    ))?;
    let failed =
        || DatapathError::from_attempt("let the kernel forward packets, which needs a writable /proc/sys");
    // Written only when it differs: writing resets other settings of every interface.
    if ipv6_forwards.trim() == "0" {
        for interface in interfaces_with_learnt_routes(route).await? {
            let setting = format!("net.ipv6.conf.{interface}.accept_ra");
            // 1 means "unless forwarding", 2 means "always".
            if settings.get(&setting).map_err(failed())?.trim() == "1" {
                settings.set(&setting, "2").map_err(failed())?;
                tracing::info!(interface, "IPv6 routes are learnt from routers also while forwarding");
            }
        }
        settings.set("net.ipv6.conf.all.forwarding", "1").map_err(failed())?;
    }
    if settings.get("net.ipv4.ip_forward").map_err(failed())?.trim() == "0" {
        settings.set("net.ipv4.ip_forward", "1").map_err(failed())?;
    }
    Ok(())
}

/// Tracking of connections does not mind that it sees some of the packets only. Whether it could be told.
pub(super) fn bear_gaps(host: &Netns) -> bool {
    let told = host.sysctl().set("net.netfilter.nf_conntrack_tcp_be_liberal", "1");
    if let Err(error) = &told {
        tracing::warn!(%error, "all packets go by the rules, as tracking of connections would mind gaps");
    }
    told.is_ok()
}

async fn interfaces_with_learnt_routes(route: &Connection<Route>) -> Result<BTreeSet<String>, DatapathError> {
    let failed = || DatapathError::from_attempt("read the IPv6 routes of this device");
    let routes = route.get_routes().await.map_err(failed())?;
    let learnt: BTreeSet<u32> = routes
        .iter()
        .filter(|entry| entry.is_ipv6() && entry.protocol() == RouteProtocol::Ra)
        .filter_map(|entry| entry.oif())
        .collect();
    let links = route.get_links().await.map_err(failed())?;
    let named = links.iter().filter(|link| learnt.contains(&link.ifindex()));
    Ok(named.filter_map(|link| link.name().map(str::to_owned)).collect())
}
