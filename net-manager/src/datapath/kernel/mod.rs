//! The Linux kernel as a datapath, by netlink: one routed veth cable per instance, one nftables table.
//!
//! ```text
//!   instance                         device
//!   eth0 10.18.0.2/32, fc00::2/128   mgv…  routes 10.18.0.2, fc00::2 (protocol 77)
//!   default via 169.254.1.1, fe80::1 ═════ lo 10.18.0.1/32, fc00::1/128
//!                                          unreachable 10.18.0.0/26, fc00::/120 (protocol 77)
//! ```
//!
//! Both ends know each other's MAC address for good, so nothing is asked on the cable and no instance can answer for
//! another. Everything has a name, a protocol or a table of ours; a restart reads it back.

mod connections;
mod direct;
mod echo;
mod elements;
mod forward;
mod isolation;
mod links;
mod names;
mod needs;
mod passages;
mod ports;
mod ruleset;
mod sets;
mod spread;
mod subnets;
mod sysctl;
mod ways;
mod wireguard;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, mem,
    net::IpAddr,
    path::Path,
    sync::Arc,
};

use ipnet::IpNet;
use model::{InstanceId, PortMapping};
use net_core::{Echo, Effect, LinkName, Namespace, ObservedKernel, RoundTrip, Signs};
use nlink::netlink::{
    Connection, Netfilter, Nftables, Route,
    namespace::Netns,
    nftables::{Family, config::NftDiffOptions},
};

use rustix::net::sockopt::set_socket_send_buffer_size_force;
use tokio::sync::Notify;
use tunnel::PrivateKey;

use super::{Datapath, DatapathError, PortInUse};
use crate::secure::{Client, EncryptedLink, LinkPath, SecureLinks};
use ports::Reservation;
use wireguard::Wireguard;

/// Our routes carry this protocol number, so that `ip route show proto 77` lists them.
const ROUTE_PROTOCOL: u8 = 77;

/// In bytes. A transaction is sent to the kernel in one piece, and refused if the socket takes less; usual sockets take
/// some 200 KB, which are 3,000 entries. A bound, not memory: more than for all addresses there can be.
const LARGEST_TRANSACTION: usize = 64 << 20;

/// The kernel of one network namespace, usually the device's own.
pub struct KernelDatapath {
    host: Netns,
    route: Connection<Route>,
    nftables: Connection<Nftables>,
    conntrack: Connection<Netfilter>,
    reservations: BTreeMap<InstanceId, Vec<Reservation>>,
    /// Whether the kernel has what it takes.
    passages: bool,
    /// See [`ObservedKernel::isolated`]. Not to be read from the kernel, so it begins as no.
    isolated: bool,
    /// `None` where there are no encrypted links.
    secure: Option<SecureLinks>,
    /// `None` where the kernel has no WireGuard, or is not to use it.
    wireguard: Option<Wireguard>,
}

impl fmt::Debug for KernelDatapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelDatapath").field("host", &self.host).finish_non_exhaustive()
    }
}

/// What a purge took away.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PurgeReport {
    /// Cables that were cut.
    pub links: Vec<String>,
    /// Ranges this device no longer answers for.
    pub subnets: Vec<IpNet>,
    /// Whether there was a table of ours.
    pub table: bool,
}

impl fmt::Display for PurgeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = if self.table { "the" } else { "no" };
        let (links, subnets) = (self.links.len(), self.subnets.len());
        write!(
            f,
            "removed {links} instance interfaces, {subnets} address ranges and {table} nftables table inet mangrove"
        )
    }
}

impl KernelDatapath {
    /// The kernel of the namespace this thread is in, ready to forward packets.
    ///
    /// # Errors
    /// When it cannot be reached or lacks something; the error names all of that and says what to do.
    pub async fn open() -> Result<Self, DatapathError> {
        let host = Netns::current()
            .map_err(DatapathError::from_attempt("open the network namespace of this process"))?;
        needs::check(&host).await?;
        Self::open_in(host).await
    }

    /// The kernel of another namespace, which is taken to have all it needs.
    ///
    /// # Errors
    /// When it cannot be reached or lacks IPv6.
    pub async fn open_in(host: Netns) -> Result<Self, DatapathError> {
        let mut this = Self::connect(host)?;
        sysctl::enable_forwarding(&this.host, &this.route).await?;
        this.passages = needs::has_passages(&this.host).await? && sysctl::bear_gaps(&this.host);
        Ok(this)
    }

    /// There are encrypted links from now on; their engine is in the same namespace.
    pub fn add_secure(&mut self, secure: SecureLinks) {
        self.secure = Some(secure);
    }

    /// The kernel's own WireGuard is used from now on for links with this key, at this UDP port; the answer is that port, `None`
    /// when the kernel has none.
    pub async fn add_wireguard(&mut self, key: PrivateKey, port: u16) -> Option<u16> {
        self.wireguard = Wireguard::find(&self.host, key, port).await;
        self.wireguard.as_ref().map(Wireguard::port)
    }

    fn connect(host: Netns) -> Result<Self, DatapathError> {
        let failed = || DatapathError::from_attempt("open netlink, which needs root (CAP_NET_ADMIN)");
        let nftables = Connection::<Nftables>::new_in(&host).map_err(failed())?;
        set_socket_send_buffer_size_force(nftables.socket(), LARGEST_TRANSACTION)
            .map_err(DatapathError::from_attempt("let netlink take large changes"))?;
        Ok(Self {
            route: Connection::new_in(&host).map_err(failed())?,
            nftables,
            conntrack: Connection::new_in(&host).map_err(failed())?,
            host,
            reservations: BTreeMap::new(),
            passages: false,
            isolated: false,
            secure: None,
            wireguard: None,
        })
    }

    async fn hook(&self, interface: &str) -> Result<(), DatapathError> {
        if self.passages { passages::hook(&self.nftables, interface).await } else { Ok(()) }
    }

    async fn unhook(&self, interface: &str) -> Result<(), DatapathError> {
        if self.passages { passages::unhook(&self.nftables, interface).await } else { Ok(()) }
    }

    /// Takes away everything of ours in the namespace this thread is in. What others made stays, as do the forwarding
    /// settings of the kernel, which others may rely on.
    ///
    /// # Errors
    /// The first step that failed; the rest is still tried at the next purge.
    pub async fn purge(state_directory: &Path) -> Result<PurgeReport, DatapathError> {
        let host = Netns::current()
            .map_err(DatapathError::from_attempt("open the network namespace of this process"))?;
        let secure = SecureLinks::Process(Client::to_running(state_directory));
        let mut this = Self::connect(host)?;
        this.add_secure(secure);
        this.purge_all().await
    }

    /// Takes away everything of ours; see [`KernelDatapath::purge`].
    ///
    /// # Errors
    /// The first step that failed.
    pub async fn purge_all(&mut self) -> Result<PurgeReport, DatapathError> {
        let running = self.secure.take();
        let observed = self.observe().await?;
        self.secure = running;
        // To a state that wants nothing, everything there is superfluous.
        for effect in net_core::reconcile(&net_core::DesiredKernel::default(), &observed) {
            match effect {
                Effect::InstallRuleset | Effect::EndForbidden(_) | Effect::OpenDockerUser(_) => {}
                Effect::ChangeElements { .. }
                | Effect::ClaimSubnet(_)
                | Effect::ReleaseSubnet(_)
                | Effect::OfferNames
                | Effect::WithdrawNames
                | Effect::CreateLink(_)
                | Effect::RepairLink(_)
                | Effect::OpenDirect(_)
                | Effect::CloseDirect
                | Effect::SetSecure(_)
                | Effect::SetKernelPeers(_)
                | Effect::ChangePaths { .. }
                | Effect::RemoveLink { .. } => self.apply(&effect).await?,
            }
        }
        // One of its two interfaces alone is no link.
        direct::close(&self.route).await?;
        wireguard::close(&self.route).await?;
        if let Some(secure) = &mut self.secure {
            secure.close().await;
        }
        forward::close(&self.nftables).await?;
        self.isolated = false;
        let table = self
            .nftables
            .del_table_if_exists(ruleset::TABLE, Family::Inet)
            .await
            .map_err(DatapathError::from_attempt("delete the nftables table inet mangrove"))?;
        self.nftables
            .del_table_if_exists(passages::TABLE, Family::Netdev)
            .await
            .map_err(DatapathError::from_attempt("delete the nftables table netdev mangrove"))?;
        Ok(PurgeReport {
            links: observed.links.keys().map(ToString::to_string).collect(),
            subnets: observed.subnets.into_keys().collect(),
            table,
        })
    }
}

impl Datapath for KernelDatapath {
    async fn observe(&mut self) -> Result<ObservedKernel, DatapathError> {
        let failed = || DatapathError::from_attempt("read the nftables ruleset");
        let declared = ruleset::declare(self.passages).map_err(failed())?;
        let snapshot = declared.snapshot(&self.nftables).await.map_err(failed())?;
        let difference = declared.diff_snapshot(&snapshot, &NftDiffOptions::default()).map_err(failed())?;
        let secure = match &mut self.secure {
            Some(secure) => Some(secure.peers().await),
            None => None,
        };
        let kernel_peers = match &self.wireguard {
            Some(wireguard) => Some(wireguard.peers(&self.route).await?),
            None => None,
        };
        let (mut direct, paths) = direct::read(&self.route).await?;
        let mut links = links::read(&self.route).await?;
        if self.passages {
            let hooked = passages::hooked(&snapshot.chains);
            for (name, link) in &mut links {
                link.ready &= hooked.contains(name.as_str());
            }
            // Cables go with what is at their ends, and leave that behind in kernels from 6.16 on: it is taken away like one that
            // was not finished.
            for name in hooked.iter().filter_map(|name| LinkName::parse(name)) {
                links.entry(name).or_default();
            }
            direct = direct.filter(|_| direct::names().iter().all(|name| hooked.contains(*name)));
        }
        Ok(ObservedKernel {
            secure,
            kernel_peers,
            direct,
            paths,
            chains: spread::read(&snapshot.chains),
            ruleset_intact: difference.is_empty(),
            isolated: self.isolated,
            elements: elements::read(&self.nftables, &snapshot.sets).await?,
            subnets: subnets::read(&self.route).await?,
            links,
            names: names::read(&self.route).await?,
            forward: forward::read(&self.nftables, &snapshot.chains).await?,
        })
    }

    async fn apply(&mut self, effect: &Effect) -> Result<(), DatapathError> {
        self.isolated &= !effect.restricts();
        match effect {
            Effect::InstallRuleset => ruleset::install(&self.nftables, self.passages).await,
            Effect::ChangeElements { remove, add, close, open } => {
                elements::change(&self.nftables, remove, add, close, open).await?;
                // If this fails, all connections are looked through instead.
                let isolated = mem::replace(&mut self.isolated, false);
                connections::forget(&self.conntrack, &elements::no_longer_known(remove, add)).await?;
                self.isolated = isolated;
                connections::forget_unmapped_flows(&self.route, &self.conntrack, add).await
            }
            Effect::EndForbidden(isolation) => {
                connections::end_forbidden(&self.conntrack, isolation).await?;
                self.isolated = true;
                Ok(())
            }
            Effect::OpenDockerUser(family) => forward::open(&self.nftables, *family).await,
            Effect::ClaimSubnet(subnet) => subnets::claim(&self.route, *subnet).await,
            Effect::ReleaseSubnet(subnet) => subnets::release(&self.route, *subnet).await,
            Effect::OfferNames => names::offer(&self.route).await,
            Effect::WithdrawNames => names::withdraw(&self.route).await,
            Effect::OpenDirect(link) => {
                direct::open(&self.route, *link).await?;
                for name in direct::names() {
                    self.hook(name).await?;
                }
                Ok(())
            }
            Effect::SetSecure(peers) => match &mut self.secure {
                Some(secure) => secure
                    .set(peers)
                    .await
                    .map_err(DatapathError::from_attempt("set the other ends of encrypted links")),
                None => Ok(()),
            },
            Effect::SetKernelPeers(peers) => match &mut self.wireguard {
                Some(wireguard) => wireguard.set(&self.route, peers).await,
                None => Ok(()),
            },
            Effect::CloseDirect => {
                direct::close(&self.route).await?;
                for name in direct::names() {
                    self.unhook(name).await?;
                }
                Ok(())
            }
            Effect::ChangePaths { remove, add } => direct::change(&self.route, remove, add).await,
            Effect::CreateLink(plan) => {
                links::create(&self.route, plan).await?;
                self.hook(plan.name.as_str()).await
            }
            Effect::RepairLink(plan) => {
                links::repair(&self.route, plan).await?;
                self.hook(plan.name.as_str()).await
            }
            Effect::RemoveLink { name, addresses } => {
                links::remove(&self.route, name).await?;
                self.unhook(name.as_str()).await?;
                connections::forget(&self.conntrack, addresses).await
            }
        }
    }

    fn broken(&self) -> Arc<Notify> {
        match &self.secure {
            Some(secure) => secure.broken(),
            None => Arc::default(),
        }
    }

    async fn use_relay(&mut self, order: relay::Order) {
        if let Some(secure) = &mut self.secure {
            secure.use_relay(order).await;
        }
    }

    async fn connections(&mut self, to: &BTreeSet<IpAddr>) -> Result<u32, DatapathError> {
        connections::count(&self.conntrack, &self.host, to).await
    }

    fn has_passages(&self) -> bool {
        self.passages
    }

    fn is_devices_own(&self, namespace: &Namespace) -> bool {
        namespace.inode == self.host.id().ino()
    }

    async fn encrypted(&mut self) -> Vec<EncryptedLink> {
        match &mut self.secure {
            Some(secure) => secure.links().await,
            None => Vec::new(),
        }
    }

    async fn in_kernel(&mut self) -> Vec<EncryptedLink> {
        match &self.wireguard {
            Some(wireguard) => wireguard.links(&self.route).await,
            None => Vec::new(),
        }
    }

    async fn signs(&mut self) -> Signs {
        let Some(wireguard) = &self.wireguard else { return Signs::default() };
        let kernel = Some(wireguard.signs(&self.route).await);
        let links = self.encrypted().await;
        let direct = links.iter().filter(|link| link.path == Some(LinkPath::Direct));
        Signs { direct: direct.map(|link| link.key).collect(), kernel }
    }

    fn echo(&self, echo: Echo) -> impl Future<Output = Option<RoundTrip>> + Send + 'static {
        let socket = echo::open(&self.host, echo);
        async move {
            match socket {
                Ok(socket) => echo::round(socket).await,
                Err(error) => {
                    tracing::debug!(%error, to = %echo.to, "echoes cannot be sent to another device");
                    None
                }
            }
        }
    }

    fn reserve_ports(&mut self, holder: InstanceId, ports: &[PortMapping]) -> Result<(), PortInUse> {
        let held = self.reservations.remove(&holder).unwrap_or_default();
        let mut kept = Vec::new();
        let mut wanted: Vec<PortMapping> = ports.to_vec();
        let mut given_up = Vec::new();
        for reservation in held {
            match wanted.iter().position(|port| reservation.covers(*port)) {
                Some(index) => {
                    wanted.remove(index);
                    kept.push(reservation);
                }
                None => given_up.push(reservation),
            }
        }
        let mut result = Ok(());
        for port in wanted {
            match Reservation::take(&self.host, port) {
                Ok(reservation) => kept.push(reservation),
                Err(error) => {
                    kept.append(&mut given_up);
                    result = Err(error);
                    break;
                }
            }
        }
        self.reservations.insert(holder, kept);
        result
    }

    fn release_ports(&mut self, holder: InstanceId) {
        self.reservations.remove(&holder);
    }
}

/// `mgv*`, as rules match it.
const fn link_prefix() -> &'static str {
    LinkName::PREFIX
}
