//! The kernel's own WireGuard, by generic netlink: an interface beside that of the engine (`crate::secure`), with the same key
//! at a port of its own, while there is anybody it is to know. What it carries is decided by `net_core` (`carriers`).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use ipnet::IpNet;
use model::TunnelKey;
use net_core::{KERNEL_KEEPALIVE_SECONDS, KernelPeer, Sign};
use nlink::netlink::{
    Connection, Route, Wireguard as Family,
    devconf::{AddrGenMode, Ipv4Devconf},
    genl::wireguard::{AllowedIp, WgDevice, WgDeviceBuilder, WgPeer, WgPeerBuilder},
    link::WireguardLink,
    messages::LinkMessage,
    namespace::Netns,
};
use tunnel::PrivateKey;

use crate::{
    datapath::DatapathError,
    secure::{self, EncryptedLink, LinkPath},
};

/// Begins as the names of cables do, so that the rules for what instances may do hold for it.
pub(super) const NAME: &str = "mgvkernel";
/// `IFF_UP`.
const UP: u32 = 1;
/// Of `rp_filter`. Packets of an address may come by another interface than those to it leave by, as both ends of a link change
/// its carrier when they see fit. Who may send from where is said by keys. The kernel's loose check is none for an interface
/// without addresses: it takes them for strangers' just the same.
const UNCHECKED: u32 = 0;

fn failed(action: &str) -> impl FnOnce(nlink::netlink::Error) -> DatapathError {
    DatapathError::from_attempt(format!("{action} the kernel's WireGuard, {NAME}"))
}

/// See the module's description.
pub(super) struct Wireguard {
    family: Connection<Family>,
    key: PrivateKey,
    port: u16,
    /// Where the other ends are as we set it: the kernel follows them wherever they speak from.
    set: BTreeMap<TunnelKey, SocketAddr>,
}

impl Wireguard {
    /// `None` when the kernel has no WireGuard; one that has it as a module loads that when it is asked.
    pub(super) async fn find(host: &Netns, key: PrivateKey, port: u16) -> Option<Self> {
        match Connection::<Family>::new_in_async(host).await {
            Ok(family) => Some(Self { family, key, port, set: BTreeMap::new() }),
            Err(error) => {
                tracing::info!(%error, "the kernel has no WireGuard; the engine carries all encrypted links");
                None
            }
        }
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// The interface, if it is there.
    async fn device(&self, route: &Connection<Route>) -> Result<Option<WgDevice>, DatapathError> {
        if index(route).await?.is_none() {
            return Ok(None);
        }
        self.family.get_device_by_name(NAME).await.map(Some).map_err(failed("read"))
    }

    /// The other ends it knows; nobody when it is not as it should be.
    pub(super) async fn peers(
        &self,
        route: &Connection<Route>,
    ) -> Result<BTreeMap<TunnelKey, KernelPeer>, DatapathError> {
        let is_up = find(route).await?.is_some_and(|link| link.flags() & UP != 0);
        let device = self.device(route).await?.filter(|device| is_up && self.is_ours(device));
        let peer = |peer: &WgPeer| {
            let key = TunnelKey(peer.public_key);
            let endpoint = self.set.get(&key).copied().or(peer.endpoint)?;
            let speaks = peer.persistent_keepalive == Some(KERNEL_KEEPALIVE_SECONDS);
            Some((key, KernelPeer { endpoint, allowed: allowed_of(peer)? })).filter(|_| speaks)
        };
        Ok(device.iter().flat_map(|device| &device.peers).filter_map(peer).collect())
    }

    /// The kernel keeps a private key in another form than it is given.
    fn is_ours(&self, device: &WgDevice) -> bool {
        device.public_key.as_ref() == Some(self.key.public().as_bytes())
            && device.listen_port == Some(self.port)
    }

    /// Makes these all the other ends it knows. Without any there is no interface.
    pub(super) async fn set(
        &mut self,
        route: &Connection<Route>,
        wanted: &BTreeMap<TunnelKey, KernelPeer>,
    ) -> Result<(), DatapathError> {
        self.set.retain(|key, _| wanted.contains_key(key));
        if wanted.is_empty() {
            return close(route).await;
        }
        if find(route).await?.is_none() {
            let link = WireguardLink::new(NAME).mtu(u32::from(secure::MTU));
            route.add_link(link).await.map_err(failed("make"))?;
        }
        let there = self.peers(route).await?;
        let device = self.device(route).await?.unwrap_or_default();
        let known = device.peers.iter().map(|peer| peer.public_key);
        let gone = known.filter(|key| !wanted.contains_key(&TunnelKey(*key)));
        let gone = gone.map(|key| WgPeerBuilder::new(key).remove());
        let different = wanted.iter().filter(|(key, peer)| there.get(key) != Some(peer));
        let different: Vec<_> = different.collect();
        let changed = different.iter().map(|(key, peer)| {
            WgPeerBuilder::new(key.0)
                .endpoint(peer.endpoint)
                .persistent_keepalive(KERNEL_KEEPALIVE_SECONDS)
                .replace_allowed_ips()
                .allowed_ips(peer.allowed.iter().map(allowed_ip))
        });
        let changes: Vec<_> = gone.chain(changed).collect();
        let (key, port) = (*self.key.as_bytes(), self.port);
        let is_ours = self.is_ours(&device);
        let configure = |device: WgDeviceBuilder| {
            // To be given its key is the end of all its sessions.
            let device = if is_ours { device } else { device.private_key(key).listen_port(port) };
            changes.into_iter().fold(device, WgDeviceBuilder::peer)
        };
        let busy = format!("set up (is its UDP port, {port}, another program's?)");
        self.family.set_device_by_name(NAME, configure).await.map_err(failed(&busy))?;
        self.set.extend(different.into_iter().map(|(key, peer)| (*key, peer.endpoint)));
        let index = index(route).await?;
        let index = index.ok_or_else(|| DatapathError::from_attempt("find mgvkernel")("it is gone"))?;
        route.set_addr_gen_mode_by_index(index, AddrGenMode::None).await.map_err(failed("set up"))?;
        let engine = route.get_link_by_name(secure::INTERFACE).await.map_err(failed("look beside"))?;
        for index in engine.map(|link| link.ifindex()).into_iter().chain([index]) {
            let unchecked = [(Ipv4Devconf::RpFilter, UNCHECKED)];
            route.set_ipv4_devconf_by_index(index, &unchecked).await.map_err(failed("set up"))?;
        }
        route.set_link_up_by_index(index).await.map_err(failed(&busy))
    }

    /// What it says of the other ends it knows.
    pub(super) async fn signs(&self, route: &Connection<Route>) -> BTreeMap<TunnelKey, Sign> {
        let sign = |peer: &WgPeer| {
            let handshake = peer.last_handshake.and_then(|date| date.duration_since(UNIX_EPOCH).ok());
            let handshake = handshake.filter(|since| !since.is_zero());
            (TunnelKey(peer.public_key), Sign { handshake, received: peer.rx_bytes })
        };
        self.known(route).await.iter().map(sign).collect()
    }

    /// How its links fare.
    pub(super) async fn links(&self, route: &Connection<Route>) -> Vec<EncryptedLink> {
        let ago = |date: SystemTime| SystemTime::now().duration_since(date).unwrap_or_default().as_secs();
        let link = |peer: &WgPeer| EncryptedLink {
            key: TunnelKey(peer.public_key),
            endpoint: peer.endpoint,
            path: Some(LinkPath::Direct),
            last_handshake_seconds: peer.last_handshake.map(ago),
            received: peer.rx_bytes,
            sent: peer.tx_bytes,
        };
        self.known(route).await.iter().map(link).collect()
    }

    /// Nobody when it cannot be asked: then it is not relied on either.
    async fn known(&self, route: &Connection<Route>) -> Vec<WgPeer> {
        let device = self.device(route).await.unwrap_or_else(|error| {
            tracing::warn!(error = %daemon::chain(&error), "the engine carries all encrypted links meanwhile");
            None
        });
        device.map(|device| device.peers).unwrap_or_default()
    }
}

async fn find(route: &Connection<Route>) -> Result<Option<LinkMessage>, DatapathError> {
    let link = route.get_link_by_name(NAME).await.map_err(failed("find"))?;
    Ok(link.filter(|link| link.link_info().and_then(|info| info.kind()) == Some("wireguard")))
}

/// The number of the interface, if it is there.
pub(super) async fn index(route: &Connection<Route>) -> Result<Option<u32>, DatapathError> {
    Ok(find(route).await?.map(|link| link.ifindex()))
}

/// Takes the interface away; what led over it goes with it.
pub(super) async fn close(route: &Connection<Route>) -> Result<(), DatapathError> {
    match index(route).await? {
        Some(index) => route.del_link_by_index(index).await.map_err(failed("remove")),
        None => Ok(()),
    }
}

fn allowed_ip(net: &IpNet) -> AllowedIp {
    AllowedIp { addr: net.network(), cidr: net.prefix_len() }
}

/// `None` when it has something that is no range.
fn allowed_of(peer: &WgPeer) -> Option<BTreeSet<IpNet>> {
    peer.allowed_ips.iter().map(|ip| IpNet::new(ip.addr, ip.cidr).ok()).collect()
}
