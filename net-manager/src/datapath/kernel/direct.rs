//! The link to other devices of the same site: a VXLAN that learns nothing. One entry per device says where it is, one
//! route per range or instance leads there by the device's gateway. What nobody has is led here too and refused on the
//! way (`ruleset`). Ways over encrypted links, whose interface is the engine's (`crate::secure`), are set here too.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use addressing::InstanceAddresses;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use net_core::{DirectLink, Mac, Path};
use nlink::netlink::{
    Connection, Route,
    devconf::AddrGenMode,
    fdb::FdbEntryBuilder,
    link::VxlanLink,
    messages::LinkMessage,
    neigh::Neighbor,
    route::{Ipv4Route, Ipv6Route},
    types::route::{RouteProtocol, RouteScope},
};

use super::{ROUTE_PROTOCOL, links::MTU};
use crate::{datapath::DatapathError, secure::INTERFACE};

/// Begins as the names of cables do, so that the rules for what instances may do hold for it.
pub(super) const NAME: &str = "mgvdirect";
/// Spells `mgv`.
const NETWORK: u32 = 0x006d_6776;
/// Beside that of encrypted links.
pub(super) const PORT: u16 = 50104;
/// `IFF_UP`.
const UP: u32 = 1;

/// All addresses of services and instances; see `model::address`.
pub(super) const STABLE_V4: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 30, 0, 0), 15);
pub(super) const STABLE_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfdff, 0, 0, 0, 0, 0, 0, 0), 16);

fn failed(action: &str) -> impl FnOnce(nlink::netlink::Error) -> DatapathError {
    DatapathError::from_attempt(format!("{action} the link to other devices, {NAME}"))
}

pub(super) async fn open(route: &Connection<Route>, link: DirectLink) -> Result<(), DatapathError> {
    let found = route.get_link_by_name(NAME).await.map_err(failed("find"))?;
    if found.is_some_and(|found| !is_ours(&found) || found.address() != Some(&link.mac[..])) {
        close(route).await?;
    }
    if route.get_link_by_name(NAME).await.map_err(failed("find"))?.is_none() {
        let vxlan = VxlanLink::new(NAME, NETWORK).port(PORT).learning(false).address(link.mac).mtu(MTU);
        route.add_link(vxlan).await.map_err(failed("make"))?;
    }
    let index =
        index(route).await?.ok_or_else(|| DatapathError::from_attempt("find the new link")("it is gone"))?;
    route.set_addr_gen_mode_by_index(index, AddrGenMode::None).await.map_err(failed("set up"))?;
    route.set_link_up_by_index(index).await.map_err(failed("switch on"))?;
    let protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    let v4 = Ipv4Route::new(STABLE_V4.0, STABLE_V4.1).dev_index(index).prefsrc(link.source.v4);
    let v4 = v4.scope(RouteScope::Link).protocol(protocol);
    route.replace_route(v4).await.map_err(failed("lead addresses of services to"))?;
    let v6 = Ipv6Route::new(STABLE_V6.0, STABLE_V6.1).dev_index(index).prefsrc(link.source.v6);
    route.replace_route(v6.protocol(protocol)).await.map_err(failed("lead addresses of services to"))
}

pub(super) async fn close(route: &Connection<Route>) -> Result<(), DatapathError> {
    route.del_link_if_exists(NAME).await.map(drop).map_err(failed("remove"))
}

async fn index(route: &Connection<Route>) -> Result<Option<u32>, DatapathError> {
    let link = route.get_link_by_name(NAME).await.map_err(failed("find"))?;
    Ok(link.filter(is_ours).map(|link| link.ifindex()))
}

fn is_ours(link: &LinkMessage) -> bool {
    link.link_info().and_then(|info| info.kind()) == Some("vxlan")
}

/// Changes paths. What takes the place of another replaces it in one step.
pub(super) async fn change(
    route: &Connection<Route>,
    remove: &BTreeSet<Path>,
    add: &BTreeSet<Path>,
) -> Result<(), DatapathError> {
    let missing = || DatapathError::from_attempt("change the ways to other devices")("the link is gone");
    let index = index(route).await?.ok_or_else(missing)?;
    let secure = route.get_link_by_name(INTERFACE).await.map_err(failed("look beside"))?;
    let secure = || secure.as_ref().map(|link| link.ifindex()).ok_or_else(missing);
    for path in add {
        match *path {
            Path::Device { mac, underlay } => {
                let entry = FdbEntryBuilder::new(mac).ifindex(index).dst(underlay).self_();
                route.replace_fdb(entry).await
            }
            Path::Neighbour { gateway: IpAddr::V4(address), mac } => {
                route.replace_neighbor(Neighbor::with_index_v4(index, address).lladdr(mac).permanent()).await
            }
            Path::Neighbour { gateway: IpAddr::V6(address), mac } => {
                route.replace_neighbor(Neighbor::with_index_v6(index, address).lladdr(mac).permanent()).await
            }
            Path::Route { to, via, from } => Way::new(index, to, Some(via), from).set(route).await,
            Path::Through { to, from } => Way::new(secure()?, to, None, from).set(route).await,
        }
        .map_err(DatapathError::from_attempt(format!("set the way to another device {path:?}")))?;
    }
    let replaced: BTreeSet<_> = add.iter().map(Path::place).collect();
    for path in remove.iter().filter(|path| !replaced.contains(&path.place())) {
        let gone = match *path {
            Path::Device { mac, .. } => {
                route.del_fdb_entry(FdbEntryBuilder::new(mac).ifindex(index).self_()).await
            }
            Path::Neighbour { gateway: IpAddr::V4(address), .. } => {
                route.del_neighbor_v4_by_index(index, address).await
            }
            Path::Neighbour { gateway: IpAddr::V6(address), .. } => {
                route.del_neighbor_v6_by_index(index, address).await
            }
            Path::Route { to, via, from } => Way::new(index, to, Some(via), from).remove(route).await,
            Path::Through { to, from } => match secure() {
                Ok(index) => Way::new(index, to, None, from).remove(route).await,
                // With the interface its routes have gone.
                Err(_) => Ok(()),
            },
        };
        gone.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
            .map_err(DatapathError::from_attempt(format!("remove the way to another device {path:?}")))?;
    }
    Ok(())
}

enum Way {
    V4(Ipv4Route),
    V6(Ipv6Route),
    /// The families do not agree, which no brain asks for.
    Nonsense,
}

impl Way {
    fn new(index: u32, to: IpNet, via: Option<IpAddr>, from: IpAddr) -> Self {
        let protocol = RouteProtocol::from(ROUTE_PROTOCOL);
        match (to, from) {
            (IpNet::V4(to), IpAddr::V4(from)) => {
                let way = Ipv4Route::new(to.network(), to.prefix_len()).dev_index(index);
                let way = way.prefsrc(from).protocol(protocol);
                match via {
                    Some(IpAddr::V4(via)) => Self::V4(way.gateway(via).onlink()),
                    Some(IpAddr::V6(_)) => Self::Nonsense,
                    None => Self::V4(way.scope(RouteScope::Link)),
                }
            }
            (IpNet::V6(to), IpAddr::V6(from)) => {
                let way = Ipv6Route::new(to.network(), to.prefix_len()).dev_index(index);
                let way = way.prefsrc(from).protocol(protocol);
                match via {
                    Some(IpAddr::V6(via)) => Self::V6(way.gateway(via).onlink()),
                    Some(IpAddr::V4(_)) => Self::Nonsense,
                    None => Self::V6(way),
                }
            }
            (IpNet::V4(_) | IpNet::V6(_), _) => Self::Nonsense,
        }
    }

    async fn set(self, route: &Connection<Route>) -> nlink::netlink::Result<()> {
        match self {
            Self::V4(way) => route.replace_route(way).await,
            Self::V6(way) => route.replace_route(way).await,
            Self::Nonsense => Ok(()),
        }
    }

    async fn remove(self, route: &Connection<Route>) -> nlink::netlink::Result<()> {
        match self {
            Self::V4(way) => route.del_route_if_exists(way).await.map(drop),
            Self::V6(way) => route.del_route_if_exists(way).await.map(drop),
            Self::Nonsense => Ok(()),
        }
    }
}

/// What is there.
pub(super) async fn read(
    route: &Connection<Route>,
) -> Result<(Option<DirectLink>, BTreeSet<Path>), DatapathError> {
    let found = route.get_link_by_name(NAME).await.map_err(failed("read"))?;
    let Some(found) = found.filter(is_ours) else { return Ok((None, BTreeSet::new())) };
    let index = found.ifindex();
    let mut paths = BTreeSet::new();
    for entry in route.get_fdb_by_index(index).await.map_err(failed("read the devices of"))? {
        if let Some(underlay) = entry.dst().filter(|_| entry.is_permanent()) {
            paths.insert(Path::Device { mac: entry.mac(), underlay });
        }
    }
    for neighbour in route.get_neighbors().await.map_err(failed("read the neighbours of"))? {
        let mac = neighbour.lladdr().and_then(|mac| Mac::try_from(mac).ok());
        let known = neighbour.ifindex() == index && neighbour.is_permanent();
        if let (true, Some(mac), Some(gateway)) = (known, mac, neighbour.destination()) {
            paths.insert(Path::Neighbour { gateway: *gateway, mac });
        }
    }
    let mut sources: BTreeMap<IpNet, IpAddr> = BTreeMap::new();
    let secure = route.get_link_by_name(INTERFACE).await.map_err(failed("look beside"))?;
    let secure = secure.map(|link| link.ifindex());
    for entry in route.get_routes().await.map_err(failed("read the routes of"))? {
        let ours = entry.protocol() == RouteProtocol::from(ROUTE_PROTOCOL);
        let (true, Some(to), Some(from)) = (ours, entry.destination(), entry.prefsrc()) else { continue };
        let Ok(to) = IpNet::new(*to, entry.dst_len()) else { continue };
        if secure.is_some() && entry.oif() == secure {
            paths.insert(Path::Through { to, from: *from });
        }
        if entry.oif() != Some(index) {
            continue;
        }
        match entry.gateway() {
            Some(via) => {
                paths.insert(Path::Route { to, via: *via, from: *from });
            }
            None => {
                sources.insert(to, *from);
            }
        }
    }
    let source = |net: IpNet| sources.get(&net).copied();
    let v4 = source(IpNet::V4(Ipv4Net::new_assert(STABLE_V4.0, STABLE_V4.1)));
    let v6 = source(IpNet::V6(Ipv6Net::new_assert(STABLE_V6.0, STABLE_V6.1)));
    let mac = found.address().and_then(|mac| Mac::try_from(mac).ok());
    let up = found.flags() & UP != 0;
    let link = match (mac, v4, v6) {
        (Some(mac), Some(IpAddr::V4(v4)), Some(IpAddr::V6(v6))) if up => {
            Some(DirectLink { mac, source: InstanceAddresses { v4, v6 } })
        }
        (_, _, _) => None,
    };
    Ok((link, paths))
}
