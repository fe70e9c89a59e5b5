//! The address instances ask for names: on loopback, so that it is there before the first cable, and of no use as the
//! source of anything else. Who may ask there is said by `ruleset`.

use std::net::IpAddr;

use net_core::NAME_SERVER;
use nlink::netlink::{Connection, Route, addr::Ipv4Address, types::addr::Scope};

use super::links::LOOPBACK;
use crate::datapath::DatapathError;

pub(super) async fn offer(route: &Connection<Route>) -> Result<(), DatapathError> {
    let address = Ipv4Address::with_index(LOOPBACK, NAME_SERVER, 32).scope(Scope::Host);
    route
        .replace_address(address)
        .await
        .map_err(DatapathError::from_attempt(format!("give this device the address {NAME_SERVER} for names")))
}

pub(super) async fn withdraw(route: &Connection<Route>) -> Result<(), DatapathError> {
    route
        .del_address_if_exists(LOOPBACK, IpAddr::V4(NAME_SERVER), 32)
        .await
        .map(drop)
        .map_err(DatapathError::from_attempt(format!("take the address {NAME_SERVER} from this device")))
}

pub(super) async fn read(route: &Connection<Route>) -> Result<bool, DatapathError> {
    let addresses = route
        .get_addresses_by_index(LOOPBACK)
        .await
        .map_err(DatapathError::from_attempt("read the addresses of loopback"))?;
    Ok(addresses.iter().any(|address| address.primary_address() == Some(&IpAddr::V4(NAME_SERVER))))
}
