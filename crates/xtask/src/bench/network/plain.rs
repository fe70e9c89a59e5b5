//! A VXLAN alone between two hosts of the lab that have a container engine, as those of workers have, and nothing of
//! ours. What an engine's rules cost every packet of its host, these pay too; the hosts of `by_hand` have none.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;

use super::{
    by_hand::MTU,
    place::Place,
    probe::{self, Server},
};
use crate::{bench::recovery::swarm::NODES, lab::survival::world::World};

/// Swarm's overlay has the usual port on these hosts.
const PORT: u16 = 4788;

/// The two hosts.
#[derive(Debug)]
pub(super) struct PlainHosts {
    pub(super) caller: Place,
    pub(super) far: IpAddr,
    _server: Server,
}

impl PlainHosts {
    pub(super) fn new(world: &World) -> Result<Self> {
        let [first, second] = NODES;
        let caller = end(world, 1, first, second)?;
        let server = Server::start(&end(world, 2, second, first)?)?;
        let far = address(2).into();
        probe::await_path(&caller, far)?;
        Ok(Self { caller, far, _server: server })
    }
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 221, 0, number)
}

fn end(world: &World, number: u8, own: &str, other: &str) -> Result<Place> {
    let host = Place::of(world.lab.network_of(own)?);
    let [own, other] = [world.address_of(own, PORT)?.ip(), world.address_of(other, PORT)?.ip()];
    host.ip(&format!(
        "link add plain mtu {MTU} type vxlan id 8 dstport {PORT} nolearning local {own} remote {other}\n\
         address add {}/24 dev plain\n\
         link set plain up\n",
        address(number)
    ))?;
    Ok(host)
}
