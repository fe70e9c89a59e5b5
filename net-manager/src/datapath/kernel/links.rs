//! Cables between the device and its instances.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use net_core::{LinkName, LinkPlan, ObservedLink};
use nlink::netlink::{
    Connection, Route,
    addr::{Ipv4Address, Ipv6Address},
    devconf::{AddrGenMode, Ipv4Devconf},
    link::VethLink,
    messages::LinkMessage,
    namespace::Netns,
    neigh::Neighbor,
    route::{Ipv4Route, Ipv6Route},
    types::route::{RouteProtocol, RouteScope},
};

use super::ROUTE_PROTOCOL;
use crate::datapath::DatapathError;

/// Leaves room for the outer headers of a tunnel in a usual 1500 byte frame.
pub(super) const MTU: u32 = 1450;
/// What instances call the interface.
const INSIDE: &str = "eth0";
/// Where instances send everything; no interface has these addresses, the neighbour entries lead to the device's end.
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Locally administered; the same on every cable, as a cable has but two ends. The middle spells `mgv`.
const OUTSIDE_MAC: [u8; 6] = [0x02, 0x6d, 0x67, 0x76, 0, 1];
const INSIDE_MAC: [u8; 6] = [0x02, 0x6d, 0x67, 0x76, 0, 2];
/// Where instances are, and services: the first 192 blocks of workers, and addresses that stay.
const OVERLAY_V4: [(Ipv4Addr, u8); 1] = [(Ipv4Addr::new(10, 16, 0, 0), 12)];
const OVERLAY_V6: [(Ipv6Addr, u8); 2] =
    [(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 64), super::direct::STABLE_V6];
/// The loopback interface is always the first of its namespace.
pub(super) const LOOPBACK: u32 = 1;
/// `IFF_UP`.
const UP: u32 = 1;

fn failed(action: &str, name: &LinkName) -> impl FnOnce(nlink::netlink::Error) -> DatapathError {
    DatapathError::from_attempt(format!("{action} {name}"))
}

/// Lays a cable. The mark comes last, so that one cut short is told from one that is done.
pub(super) async fn create(route: &Connection<Route>, plan: &LinkPlan) -> Result<(), DatapathError> {
    let path = &plan.namespace.path;
    let opening = format!("open the network namespace {path} of instance {}", plan.instance);
    let namespace = Netns::from_path(path).map_err(DatapathError::from_attempt(&opening))?;
    if namespace.id().ino() != plan.namespace.inode {
        return Err(DatapathError::from_attempt(opening)("it is no longer the one that was attached"));
    }
    let veth = VethLink::new(plan.name.as_str(), INSIDE)
        .mtu(MTU)
        .address(OUTSIDE_MAC)
        .peer_address(INSIDE_MAC)
        .peer_netns_fd(&namespace);
    route.add_link(veth).await.map_err(failed(
        "make the cable (if eth0 exists in the instance, start its container without a network of its own)",
        &plan.name,
    ))?;
    if let Err(error) = configure_inside(&namespace, plan).await {
        // Without this the cable would stay until the next pass and block the next attempt.
        if let Err(left) = route.del_link(plan.name.as_str()).await {
            tracing::debug!(link = %plan.name, error = %left, "an unfinished cable stays until the next pass");
        }
        return Err(error);
    }
    configure_outside(route, plan).await
}

async fn configure_inside(namespace: &Netns, plan: &LinkPlan) -> Result<(), DatapathError> {
    let failed = |what| failed(what, &plan.name);
    // Containers without a network have IPv6 switched off by some runtimes. The address needs no duplicate detection
    // on a cable with two ends.
    namespace
        .sysctl()
        .set_many(&[("net.ipv6.conf.eth0.disable_ipv6", "0"), ("net.ipv6.conf.eth0.accept_dad", "0")])
        .map_err(failed("switch on IPv6 in the instance of"))?;
    let inside: Connection<Route> = Connection::new_in(namespace).map_err(failed("enter the instance of"))?;
    let eth0 = inside
        .get_link_by_name(INSIDE)
        .await
        .map_err(failed("find the far end of"))?
        .map(|link| link.ifindex())
        .ok_or_else(|| {
            DatapathError::from_attempt(format!("find the far end of {}", plan.name))("it has no eth0")
        })?;
    inside.set_link_up_by_index(LOOPBACK).await.map_err(failed("switch on loopback in the instance of"))?;
    inside.set_link_up_by_index(eth0).await.map_err(failed("switch on the far end of"))?;
    let v6 = |address| Ipv6Address::with_index(eth0, address, 128).nodad().noprefixroute();
    let mut batch = inside
        .batch()
        .add_address(Ipv4Address::with_index(eth0, plan.addresses.v4, 32), eth0)
        .add_address(v6(plan.addresses.v6), eth0);
    if let Some(stable) = plan.stable {
        batch = batch.add_address(Ipv4Address::with_index(eth0, stable.v4, 32), eth0);
        batch = batch.add_address(v6(stable.v6), eth0);
    }
    batch
        .add_neighbor(Neighbor::with_index_v4(eth0, GATEWAY_V4).lladdr(OUTSIDE_MAC).permanent(), eth0)
        .add_neighbor(Neighbor::with_index_v6(eth0, GATEWAY_V6).lladdr(OUTSIDE_MAC).permanent(), eth0)
        .execute_all()
        .await
        .map_err(failed("set addresses in the instance of"))?;
    let ways = Inside::of(eth0, plan);
    for way in ways.v4 {
        inside.add_route(way).await.map_err(failed("set an IPv4 route in the instance of"))?;
    }
    for way in ways.v6 {
        inside.add_route(way).await.map_err(failed("set an IPv6 route in the instance of"))?;
    }
    Ok(())
}

/// The routes within an instance. Not for a batch: nlink 0.33 leaves the interface out of routes it batches.
struct Inside {
    v4: Vec<Ipv4Route>,
    v6: Vec<Ipv6Route>,
}

impl Inside {
    fn of(eth0: u32, plan: &LinkPlan) -> Self {
        let by_v4 = |way: Ipv4Route, from| way.gateway(GATEWAY_V4).dev_index(eth0).onlink().prefsrc(from);
        let by_v6 = |way: Ipv6Route, from| way.gateway(GATEWAY_V6).dev_index(eth0).prefsrc(from);
        let mut ways = Self {
            v4: vec![by_v4(Ipv4Route::default_route(), plan.addresses.v4)],
            v6: vec![by_v6(Ipv6Route::default_route(), plan.addresses.v6)],
        };
        // Towards other instances it speaks from the address it keeps, which is the one they can answer to.
        if plan.stable.is_some() {
            let from = plan.caller();
            ways.v4.extend(OVERLAY_V4.map(|(net, length)| by_v4(Ipv4Route::new(net, length), from.v4)));
            ways.v6.extend(OVERLAY_V6.map(|(net, length)| by_v6(Ipv6Route::new(net, length), from.v6)));
        }
        ways
    }
}

/// From which address the instance calls others is as planned from now on. One whose namespace has gone calls nobody.
async fn call_as_planned(plan: &LinkPlan) -> Result<(), DatapathError> {
    let failed = |what| failed(what, &plan.name);
    let namespace = Netns::from_path(&plan.namespace.path);
    let namespace = namespace.ok().filter(|namespace| namespace.id().ino() == plan.namespace.inode);
    let (Some(namespace), Some(_)) = (namespace, plan.stable) else { return Ok(()) };
    let inside: Connection<Route> =
        Connection::new_in(&namespace).map_err(failed("enter the instance of"))?;
    let eth0 = inside.get_link_by_name(INSIDE).await.map_err(failed("find the far end of"))?;
    let Some(eth0) = eth0.map(|link| link.ifindex()) else { return Ok(()) };
    let ways = Inside::of(eth0, plan);
    for way in ways.v4 {
        inside.replace_route(way).await.map_err(failed("change an IPv4 route in the instance of"))?;
    }
    for way in ways.v6 {
        inside.replace_route(way).await.map_err(failed("change an IPv6 route in the instance of"))?;
    }
    Ok(())
}

async fn configure_outside(route: &Connection<Route>, plan: &LinkPlan) -> Result<(), DatapathError> {
    let failed = |what| failed(what, &plan.name);
    let index = index_of(route, plan).await?;
    route.set_addr_gen_mode_by_index(index, AddrGenMode::None).await.map_err(failed("set up"))?;
    // Lets a connection from 127.0.0.1 to a mapped port leave by the cable and its answers come back.
    route
        .set_ipv4_devconf_by_index(index, &[(Ipv4Devconf::RouteLocalnet, 1)])
        .await
        .map_err(failed("set up"))?;
    route.set_link_up_by_index(index).await.map_err(failed("switch on"))?;
    lead_inside(route, plan, index).await?;
    route.set_link_alias_by_index(index, &plan.mark()).await.map_err(failed("mark"))
}

/// Puts right a cable that is marked as done. The routes of the device come last: they show that the rest is done.
pub(super) async fn repair(route: &Connection<Route>, plan: &LinkPlan) -> Result<(), DatapathError> {
    let failed = |what| failed(what, &plan.name);
    call_as_planned(plan).await?;
    let index = index_of(route, plan).await?;
    route
        .set_ipv4_devconf_by_index(index, &[(Ipv4Devconf::RouteLocalnet, 1)])
        .await
        .map_err(failed("set up"))?;
    route.set_link_up_by_index(index).await.map_err(failed("switch on"))?;
    lead_inside(route, plan, index).await?;
    lead_away(route, plan, index).await
}

/// The addresses of a guest do not lead into its cable. What leads them elsewhere stays.
async fn lead_away(route: &Connection<Route>, plan: &LinkPlan, index: u32) -> Result<(), DatapathError> {
    let Some(stable) = plan.stable.filter(|_| !plan.at_home) else { return Ok(()) };
    let failed = |what| failed(what, &plan.name);
    let ways = (
        Ipv4Route::new(stable.v4, 32).dev_index(index).scope(RouteScope::Link),
        Ipv6Route::new(stable.v6, 128).dev_index(index),
    );
    route.del_route_if_exists(ways.0).await.map_err(failed("lead away from"))?;
    route.del_route_if_exists(ways.1).await.map_err(failed("lead away from"))?;
    let gone = [
        route.del_neighbor_v4_by_index(index, stable.v4).await,
        route.del_neighbor_v6_by_index(index, stable.v6).await,
    ];
    for outcome in gone {
        outcome
            .or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
            .map_err(failed("forget a neighbour of"))?;
    }
    Ok(())
}

/// Routes and neighbours, in place of those that led an instance's address to another device before it came here.
async fn lead_inside(route: &Connection<Route>, plan: &LinkPlan, index: u32) -> Result<(), DatapathError> {
    let failed = |what| failed(what, &plan.name);
    let protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    for (to, from) in plan.routes() {
        match (to, from) {
            (IpAddr::V4(to), IpAddr::V4(from)) => {
                let way = Ipv4Route::new(to, 32).dev_index(index).prefsrc(from);
                let way = way.scope(RouteScope::Link).protocol(protocol);
                route.replace_route(way).await.map_err(failed("route to"))?;
                let neighbour = Neighbor::with_index_v4(index, to).lladdr(INSIDE_MAC).permanent();
                route.replace_neighbor(neighbour).await.map_err(failed("set neighbours of"))?;
            }
            (IpAddr::V6(to), IpAddr::V6(from)) => {
                let way = Ipv6Route::new(to, 128).dev_index(index).prefsrc(from).protocol(protocol);
                route.replace_route(way).await.map_err(failed("route to"))?;
                let neighbour = Neighbor::with_index_v6(index, to).lladdr(INSIDE_MAC).permanent();
                route.replace_neighbor(neighbour).await.map_err(failed("set neighbours of"))?;
            }
            // A gateway is of the family of what it stands for.
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
        }
    }
    Ok(())
}

async fn index_of(route: &Connection<Route>, plan: &LinkPlan) -> Result<u32, DatapathError> {
    let link = route.get_link_by_name(plan.name.as_str()).await.map_err(failed("find", &plan.name))?;
    link.map(|link| link.ifindex())
        .ok_or_else(|| DatapathError::from_attempt(format!("find {}", plan.name))("it is gone"))
}

/// Cuts a cable; its routes and neighbours go with it.
pub(super) async fn remove(route: &Connection<Route>, name: &LinkName) -> Result<(), DatapathError> {
    route.del_link_if_exists(name.as_str()).await.map(drop).map_err(failed("remove", name))
}

/// Reads the device's ends of all cables.
pub(super) async fn read(
    route: &Connection<Route>,
) -> Result<BTreeMap<LinkName, ObservedLink>, DatapathError> {
    let failed = || DatapathError::from_attempt("read interfaces and routes");
    let mut names: BTreeMap<u32, LinkName> = BTreeMap::new();
    let mut links: BTreeMap<LinkName, ObservedLink> = BTreeMap::new();
    for link in route.get_links().await.map_err(failed())? {
        if let Some(name) = our_name(&link) {
            names.insert(link.ifindex(), name.clone());
            links.insert(name, observed(&link));
        }
    }
    if links.is_empty() {
        return Ok(links);
    }
    for entry in route.get_routes().await.map_err(failed())? {
        let ours = entry.protocol() == RouteProtocol::from(ROUTE_PROTOCOL);
        let link = entry.oif().and_then(|index| names.get(&index)).and_then(|name| links.get_mut(name));
        if let (true, Some(link), Some(to), Some(from)) = (ours, link, entry.destination(), entry.prefsrc()) {
            link.routes.insert(*to, *from);
        }
    }
    for neighbour in route.get_neighbors().await.map_err(failed())? {
        let link = names.get(&neighbour.ifindex()).and_then(|name| links.get_mut(name));
        let known = neighbour.is_permanent() && neighbour.lladdr() == Some(&INSIDE_MAC[..]);
        if let (true, Some(link), Some(address)) = (known, link, neighbour.destination()) {
            link.neighbours.insert(*address);
        }
    }
    Ok(links)
}

fn our_name(link: &LinkMessage) -> Option<LinkName> {
    let is_veth = link.link_info().and_then(|info| info.kind()) == Some("veth");
    link.name().and_then(LinkName::parse).filter(|_| is_veth)
}

fn observed(link: &LinkMessage) -> ObservedLink {
    let up = link.flags() & UP != 0;
    let from_loopback = link.ipv4_devconf(Ipv4Devconf::RouteLocalnet) == Some(1);
    ObservedLink {
        mark: link.alias().unwrap_or_default().to_owned(),
        ready: up && from_loopback,
        routes: BTreeMap::new(),
        neighbours: BTreeSet::new(),
    }
}
