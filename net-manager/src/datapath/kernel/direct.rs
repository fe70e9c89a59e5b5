//! The link to other devices of the same site: two VXLAN that learn nothing, one for devices that are reached over IPv4 and
//! one for IPv6, as one of the kernel's has a single family. One entry per device says where it is, one route per range or
//! instance leads there by the device's gateway. What nobody has is led to the first and refused on the way (`ruleset`).
//! Ways over encrypted links, whose interfaces are the engine's (`crate::secure`) and `wireguard`'s, are set here too.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use addressing::InstanceAddresses;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use net_core::{Carrier, DirectLink, Family, Mac, Path, Place};
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

use super::{ROUTE_PROTOCOL, links::MTU, ways::Way, wireguard};
use crate::{datapath::DatapathError, secure::INTERFACE};

/// Begin as the names of cables do, so that the rules for what instances may do hold for them.
const NAME: &str = "mgvdirect";
pub(super) const NAME_V6: &str = "mgvdirect6";
/// What a header of IPv6 has more bytes than one of IPv4.
const LONGER_HEADER: u32 = 20;
/// Spells `mgv`.
const NETWORK: u32 = 0x006d_6776;
/// Beside that of encrypted links.
pub(super) const PORT: u16 = 50104;
/// `IFF_UP`.
const UP: u32 = 1;

/// All addresses of services and instances; see `model::address`.
pub(super) const STABLE_V4: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 30, 0, 0), 15);
pub(super) const STABLE_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfdff, 0, 0, 0, 0, 0, 0, 0), 16);

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The interface that goes over this version of IP.
pub(super) const fn name(over: Family) -> &'static str {
    match over {
        Family::V4 => NAME,
        Family::V6 => NAME_V6,
    }
}

/// Both interfaces.
pub(super) const fn names() -> [&'static str; 2] {
    [NAME, NAME_V6]
}

fn failed(over: Family, action: &str) -> impl FnOnce(nlink::netlink::Error) -> DatapathError {
    DatapathError::from_attempt(format!("{action} the link to other devices, {}", name(over)))
}

pub(super) async fn open(route: &Connection<Route>, link: DirectLink) -> Result<(), DatapathError> {
    make(route, Family::V6, link.mac).await?;
    let index = make(route, Family::V4, link.mac).await?;
    let unled = || failed(Family::V4, "lead addresses of services to");
    let protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    let v4 = Ipv4Route::new(STABLE_V4.0, STABLE_V4.1).dev_index(index).prefsrc(link.source.v4);
    let v4 = v4.scope(RouteScope::Link).protocol(protocol);
    route.replace_route(v4).await.map_err(unled())?;
    let v6 = Ipv6Route::new(STABLE_V6.0, STABLE_V6.1).dev_index(index).prefsrc(link.source.v6);
    route.replace_route(v6.protocol(protocol)).await.map_err(unled())
}

/// Makes one of the interfaces, unless it is there as it should be.
async fn make(route: &Connection<Route>, over: Family, mac: Mac) -> Result<u32, DatapathError> {
    let name = name(over);
    let found = route.get_link_by_name(name).await.map_err(failed(over, "find"))?;
    if found.is_some_and(|found| !is_ours(&found) || found.address() != Some(&mac[..])) {
        remove(route, over).await?;
    }
    if route.get_link_by_name(name).await.map_err(failed(over, "find"))?.is_none() {
        let vxlan = VxlanLink::new(name, NETWORK).port(PORT).learning(false).address(mac);
        let vxlan = match over {
            Family::V4 => vxlan.mtu(MTU),
            // An address of any says which family it is to be.
            Family::V6 => vxlan.mtu(MTU - LONGER_HEADER).local6(Ipv6Addr::UNSPECIFIED),
        };
        route.add_link(vxlan).await.map_err(failed(over, "make"))?;
    }
    let index = index(route, over).await?;
    let index = index.ok_or_else(|| DatapathError::from_attempt("find the new link")("it is gone"))?;
    route.set_addr_gen_mode_by_index(index, AddrGenMode::None).await.map_err(failed(over, "set up"))?;
    route.set_link_up_by_index(index).await.map_err(failed(over, "switch on"))?;
    Ok(index)
}

pub(super) async fn close(route: &Connection<Route>) -> Result<(), DatapathError> {
    for over in FAMILIES {
        remove(route, over).await?;
    }
    Ok(())
}

async fn remove(route: &Connection<Route>, over: Family) -> Result<(), DatapathError> {
    route.del_link_if_exists(name(over)).await.map(drop).map_err(failed(over, "remove"))
}

async fn index(route: &Connection<Route>, over: Family) -> Result<Option<u32>, DatapathError> {
    Ok(find(route, over).await?.map(|link| link.ifindex()))
}

async fn find(route: &Connection<Route>, over: Family) -> Result<Option<LinkMessage>, DatapathError> {
    let link = route.get_link_by_name(name(over)).await.map_err(failed(over, "find"))?;
    Ok(link.filter(is_ours))
}

fn is_ours(link: &LinkMessage) -> bool {
    link.link_info().and_then(|info| info.kind()) == Some("vxlan")
}

/// The interfaces that lead to other devices, as far as they are there.
#[derive(Clone, Copy)]
struct Interfaces {
    v4: Option<u32>,
    v6: Option<u32>,
    engine: Option<u32>,
    kernel: Option<u32>,
}

impl Interfaces {
    async fn find(route: &Connection<Route>) -> Result<Self, DatapathError> {
        let engine = route.get_link_by_name(INTERFACE).await.map_err(failed(Family::V4, "look beside"))?;
        Ok(Self {
            v4: index(route, Family::V4).await?,
            v6: index(route, Family::V6).await?,
            engine: engine.map(|link| link.ifindex()),
            kernel: wireguard::index(route).await?,
        })
    }

    fn of(self, path: &Path) -> Option<u32> {
        let direct = |over| match over {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        };
        match *path {
            Path::Device { underlay, .. } => direct(Family::of(underlay)),
            Path::Neighbour { over, .. } | Path::Route { over, .. } => direct(over),
            Path::Through { by: Carrier::Engine, .. } => self.engine,
            Path::Through { by: Carrier::Kernel, .. } => self.kernel,
        }
    }

    /// What carries the encrypted links that packets take by this interface.
    fn carrier(self, index: u32) -> Option<Carrier> {
        let carriers = [(self.engine, Carrier::Engine), (self.kernel, Carrier::Kernel)];
        carriers.into_iter().find_map(|(interface, carrier)| (interface == Some(index)).then_some(carrier))
    }
}

/// Changes paths. What takes the place of another replaces it in one step, where the kernel can.
pub(super) async fn change(
    route: &Connection<Route>,
    remove: &BTreeSet<Path>,
    add: &BTreeSet<Path>,
) -> Result<(), DatapathError> {
    let missing = || DatapathError::from_attempt("change the ways to other devices")("the link is gone");
    let interfaces = Interfaces::find(route).await?;
    let replacing: BTreeMap<Place, &Path> = add.iter().map(|path| (path.place(), path)).collect();
    for path in remove {
        // It takes no gateway of IPv6 on one interface while another leads there.
        let moved = |new: &&Path| {
            matches!(new, Path::Route { to: IpNet::V6(_), .. }) && interfaces.of(new) != interfaces.of(path)
        };
        if let (Some(_), Some(index)) =
            (replacing.get(&path.place()).filter(|new| moved(new)), interfaces.of(path))
        {
            take_away(route, path, index).await?;
        }
    }
    let mut ways = Vec::new();
    for path in add {
        let index = interfaces.of(path).ok_or_else(missing)?;
        match *path {
            Path::Device { mac, underlay } => {
                route.replace_fdb(FdbEntryBuilder::new(mac).ifindex(index).dst(underlay).self_()).await
            }
            Path::Neighbour { gateway: IpAddr::V4(address), mac, .. } => {
                route.replace_neighbor(Neighbor::with_index_v4(index, address).lladdr(mac).permanent()).await
            }
            Path::Neighbour { gateway: IpAddr::V6(address), mac, .. } => {
                route.replace_neighbor(Neighbor::with_index_v6(index, address).lladdr(mac).permanent()).await
            }
            Path::Route { to, via, from, .. } => {
                ways.extend(Way::new(index, to, Some(via), from));
                Ok(())
            }
            Path::Through { to, from, .. } => {
                ways.extend(Way::new(index, to, None, from));
                Ok(())
            }
        }
        .map_err(DatapathError::from_attempt(format!("set the way to another device {path:?}")))?;
    }
    Way::set_all(route, &ways).await?;
    for path in remove.iter().filter(|path| !replacing.contains_key(&path.place())) {
        // With an interface all that led over it has gone.
        if let Some(index) = interfaces.of(path) {
            take_away(route, path, index).await?;
        }
    }
    Ok(())
}

async fn take_away(route: &Connection<Route>, path: &Path, index: u32) -> Result<(), DatapathError> {
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
        Path::Route { to, via, from, .. } => remove_way(route, Way::new(index, to, Some(via), from)).await,
        Path::Through { to, from, .. } => remove_way(route, Way::new(index, to, None, from)).await,
    };
    gone.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
        .map_err(DatapathError::from_attempt(format!("remove the way to another device {path:?}")))
}

async fn remove_way(route: &Connection<Route>, way: Option<Way>) -> nlink::netlink::Result<()> {
    match way {
        Some(way) => way.remove(route).await,
        None => Ok(()),
    }
}

/// What is there.
pub(super) async fn read(
    route: &Connection<Route>,
) -> Result<(Option<DirectLink>, BTreeSet<Path>), DatapathError> {
    let mut links = BTreeMap::new();
    let mut paths = BTreeSet::new();
    for over in FAMILIES {
        let Some(found) = find(route, over).await? else { continue };
        let entries = route.get_fdb_by_index(found.ifindex()).await;
        for entry in entries.map_err(failed(over, "read the devices of"))? {
            if let Some(underlay) = entry.dst().filter(|_| entry.is_permanent()) {
                paths.insert(Path::Device { mac: entry.mac(), underlay });
            }
        }
        links.insert(found.ifindex(), (over, found));
    }
    let over = |index: u32| links.get(&index).map(|(over, _)| *over);
    for neighbour in route.get_neighbors().await.map_err(failed(Family::V4, "read the neighbours of"))? {
        let over = over(neighbour.ifindex()).filter(|_| neighbour.is_permanent());
        let mac = neighbour.lladdr().and_then(|mac| Mac::try_from(mac).ok());
        if let (Some(over), Some(mac), Some(gateway)) = (over, mac, neighbour.destination()) {
            paths.insert(Path::Neighbour { over, gateway: *gateway, mac });
        }
    }
    let mut sources: BTreeMap<IpNet, IpAddr> = BTreeMap::new();
    let interfaces = Interfaces::find(route).await?;
    for entry in route.get_routes().await.map_err(failed(Family::V4, "read the routes of"))? {
        let ours = entry.protocol() == RouteProtocol::from(ROUTE_PROTOCOL);
        let (true, Some(to), Some(from)) = (ours, entry.destination(), entry.prefsrc()) else { continue };
        let Ok(to) = IpNet::new(*to, entry.dst_len()) else { continue };
        if let Some(by) = entry.oif().and_then(|index| interfaces.carrier(index)) {
            paths.insert(Path::Through { to, from: *from, by });
        }
        let Some(over) = entry.oif().and_then(over) else { continue };
        match entry.gateway() {
            Some(via) => {
                paths.insert(Path::Route { over, to, via: *via, from: *from });
            }
            None => {
                sources.insert(to, *from);
            }
        }
    }
    let source = |net: IpNet| sources.get(&net).copied();
    let v4 = source(IpNet::V4(Ipv4Net::new_assert(STABLE_V4.0, STABLE_V4.1)));
    let v6 = source(IpNet::V6(Ipv6Net::new_assert(STABLE_V6.0, STABLE_V6.1)));
    // Both with one address, and switched on.
    let macs: BTreeSet<Option<Mac>> = links
        .values()
        .map(|(_, link)| link.address().filter(|_| link.flags() & UP != 0)?.try_into().ok())
        .collect();
    let link = match (macs.first(), v4, v6) {
        (Some(Some(mac)), Some(IpAddr::V4(v4)), Some(IpAddr::V6(v6)))
            if macs.len() == 1 && links.len() == FAMILIES.len() =>
        {
            Some(DirectLink { mac: *mac, source: InstanceAddresses { v4, v6 } })
        }
        (_, _, _) => None,
    };
    Ok((link, paths))
}
