//! The ranges this device answers for: its own address in each, on loopback so that no cable takes it along when it
//! goes, and a route that ends packets for addresses without an instance. That route also tells our ranges from what
//! others have on loopback.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use net_core::gateway_of;
use nlink::netlink::{
    Connection, Route,
    addr::{Ipv4Address, Ipv6Address},
    route::{Ipv4Route, Ipv6Route},
    types::route::{RouteProtocol, RouteType},
};

use super::{ROUTE_PROTOCOL, links::LOOPBACK};
use crate::datapath::DatapathError;

pub(super) async fn claim(route: &Connection<Route>, subnet: IpNet) -> Result<(), DatapathError> {
    let failed = || DatapathError::from_attempt(format!("claim the range {subnet} for this device"));
    match subnet {
        IpNet::V4(net) => route.replace_route(dead_end_v4(net)).await,
        IpNet::V6(net) => route.replace_route(dead_end_v6(net)).await,
    }
    .map_err(failed())?;
    match gateway_of(&subnet) {
        IpAddr::V4(address) => route.replace_address(Ipv4Address::with_index(LOOPBACK, address, 32)).await,
        IpAddr::V6(address) => {
            let address = Ipv6Address::with_index(LOOPBACK, address, 128).nodad().noprefixroute();
            route.replace_address(address).await
        }
    }
    .map_err(failed())
}

pub(super) async fn release(route: &Connection<Route>, subnet: IpNet) -> Result<(), DatapathError> {
    let failed = || DatapathError::from_attempt(format!("release the range {subnet}"));
    let gateway = gateway_of(&subnet);
    let length = if gateway.is_ipv4() { 32 } else { 128 };
    route.del_address_if_exists(LOOPBACK, gateway, length).await.map_err(failed())?;
    match subnet {
        IpNet::V4(net) => route.del_route_if_exists(dead_end_v4(net)).await,
        IpNet::V6(net) => route.del_route_if_exists(dead_end_v6(net)).await,
    }
    .map(drop)
    .map_err(failed())
}

fn dead_end_v4(net: Ipv4Net) -> Ipv4Route {
    Ipv4Route::new(net.network(), net.prefix_len())
        .route_type(RouteType::Unreachable)
        .protocol(RouteProtocol::from(ROUTE_PROTOCOL))
}

fn dead_end_v6(net: Ipv6Net) -> Ipv6Route {
    Ipv6Route::new(net.network(), net.prefix_len())
        .route_type(RouteType::Unreachable)
        .protocol(RouteProtocol::from(ROUTE_PROTOCOL))
}

/// The ranges claimed, and whether the device has its own address in each.
pub(super) async fn read(route: &Connection<Route>) -> Result<BTreeMap<IpNet, bool>, DatapathError> {
    let failed = || DatapathError::from_attempt("read the ranges of this device");
    let addresses = route.get_addresses_by_index(LOOPBACK).await.map_err(failed())?;
    let own: BTreeSet<IpAddr> =
        addresses.iter().filter_map(|address| address.primary_address().copied()).collect();
    let routes = route.get_routes().await.map_err(failed())?;
    Ok(routes
        .iter()
        .filter(|entry| entry.protocol() == RouteProtocol::from(ROUTE_PROTOCOL))
        .filter(|entry| entry.route_type() == RouteType::Unreachable)
        .filter_map(|entry| IpNet::new(*entry.destination()?, entry.dst_len()).ok())
        .map(|subnet| (subnet, own.contains(&gateway_of(&subnet))))
        .collect())
}
