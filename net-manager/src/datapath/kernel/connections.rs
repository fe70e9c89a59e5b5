//! Connections the kernel remembers, and that must not go on. Which these are is decided by `net_core`.

use std::{collections::BTreeSet, net::IpAddr};

use net_core::{Element, Isolation};
use nlink::netlink::{
    Connection, Netfilter, Route,
    namespace::Netns,
    netfilter::{ConntrackEntry, ConntrackFilter, ConntrackStatus, IpProtocol, TcpConntrackState},
};

use crate::datapath::DatapathError;

/// UDP has no end. Who has said nothing for this long is taken to have hung up: protocols that keep a flow open ask more
/// often, and it is the longest that an instance waits for nothing.
const UDP_SILENT_SECONDS: u32 = 10;

/// Forgets connections from and to addresses that are gone. A translated UDP flow would go on to nobody otherwise, for
/// as long as its client keeps sending; a TCP connection is answered with a reset at its next packet. One that is over stays.
pub(super) async fn forget(
    conntrack: &Connection<Netfilter>,
    addresses: &BTreeSet<IpAddr>,
) -> Result<(), DatapathError> {
    let failed = || DatapathError::from_attempt("forget connections of addresses that are gone");
    if addresses.is_empty() {
        return Ok(());
    }
    // One walk for all of them: the kernel walks the whole table for each question.
    let mut entries = Vec::new();
    if addresses.iter().any(IpAddr::is_ipv4) {
        entries = conntrack.get_conntrack().await.map_err(failed())?;
    }
    if addresses.iter().any(IpAddr::is_ipv6) {
        entries.extend(conntrack.get_conntrack_v6().await.map_err(failed())?);
    }
    let gone = |address: Option<IpAddr>| address.is_some_and(|address| addresses.contains(&address));
    let concerned = |entry: &&ConntrackEntry| gone(entry.orig.src_ip) || gone(entry.reply.src_ip);
    for entry in entries.iter().filter(concerned).filter(|entry| !is_over(entry)) {
        delete(conntrack, entry, failed()).await?;
    }
    Ok(())
}

/// How many connections others have to these addresses: by TCP those that not both sides have closed, which the kernel
/// remembers for two minutes more; by UDP flows in which both sides have spoken and one of them just now.
pub(super) async fn count(
    conntrack: &Connection<Netfilter>,
    host: &Netns,
    to: &BTreeSet<IpAddr>,
) -> Result<u32, DatapathError> {
    let failed = || DatapathError::from_attempt("count the connections to an instance");
    let udp = UdpTimeouts::read(host).map_err(failed())?;
    let mut count = 0;
    for address in to {
        let filter = ConntrackFilter::new().reply_src(*address);
        let entries = conntrack.get_conntrack_matching(&filter).await.map_err(failed())?;
        let of_others =
            |entry: &&ConntrackEntry| entry.orig.src_ip.is_none_or(|caller| !to.contains(&caller));
        let goes_on = |entry: &&ConntrackEntry| {
            let is_udp = entry.proto == IpProtocol::Udp;
            entry.tcp_state.is_some_and(is_open) || is_udp && udp.is_spoken_on(entry)
        };
        let open = entries.iter().filter(of_others).filter(goes_on);
        count += u32::try_from(open.count()).unwrap_or(u32::MAX);
    }
    Ok(count)
}

/// For how long the kernel remembers a UDP flow after each packet, in seconds.
struct UdpTimeouts {
    /// One that is younger than two seconds.
    young: u32,
    /// One that both sides have spoken on for longer, which is "assured".
    assured: u32,
}

impl UdpTimeouts {
    fn read(host: &Netns) -> nlink::Result<Self> {
        let settings = host.sysctl();
        let seconds = |name: &str| {
            let setting = settings.get(&format!("net.netfilter.{name}"))?;
            let seconds = setting.trim().parse();
            seconds.map_err(|_| nlink::Error::invalid_message(format!("{name} is no number: {setting}")))
        };
        let young = seconds("nf_conntrack_udp_timeout")?;
        Ok(Self { young, assured: seconds("nf_conntrack_udp_timeout_stream")? })
    }

    /// How long ago its last packet was is told by what is left of its time. Kernels that call it assured from the first
    /// answer on, but give it the longer time only after two seconds, make one that young look silent.
    fn is_spoken_on(&self, entry: &ConntrackEntry) -> bool {
        let status = ConntrackStatus::from_bits(entry.status.unwrap_or_default());
        let whole = if status.contains(ConntrackStatus::ASSURED) { self.assured } else { self.young };
        let left = entry.timeout.unwrap_or_default();
        status.contains(ConntrackStatus::SEEN_REPLY) && left.saturating_add(UDP_SILENT_SECONDS) >= whole
    }
}

/// Whether one of the two may still have something to say.
fn is_open(state: TcpConntrackState) -> bool {
    matches!(
        state,
        TcpConntrackState::SynSent
            | TcpConntrackState::SynRecv
            | TcpConntrackState::Established
            | TcpConntrackState::FinWait
            | TcpConntrackState::CloseWait
    )
}

/// Whether both sides have said that they have nothing more to say. The kernel remembers it for two minutes, and begins
/// anew with whoever connects from the same port: judged and translated like any other (`nf_conntrack_tcp_packet`). Of a
/// service that is called often most are, and each is a question to the kernel.
fn is_over(entry: &ConntrackEntry) -> bool {
    entry.tcp_state == Some(TcpConntrackState::TimeWait)
}

/// Forgets connections that could not be made now. The next packet of one, from either end, is a new connection to the
/// rules, and refused.
pub(super) async fn end_forbidden(
    conntrack: &Connection<Netfilter>,
    isolation: &Isolation,
) -> Result<(), DatapathError> {
    let failed = || DatapathError::from_attempt("end connections that are no longer allowed");
    let mut entries = conntrack.get_conntrack().await.map_err(failed())?;
    entries.extend(conntrack.get_conntrack_v6().await.map_err(failed())?);
    for entry in &entries {
        if let (Some(caller), Some(called), Some(callee)) =
            (entry.orig.src_ip, entry.orig.dst_ip, entry.reply.src_ip)
            && isolation.forbids(caller, called, callee)
        {
            delete(conntrack, entry, failed()).await?;
        }
    }
    Ok(())
}

/// Forgets UDP flows to the device's own addresses on ports that lead elsewhere from now on: a client that kept
/// sending would go on to nobody, because a flow is translated by its first packet.
pub(super) async fn forget_unmapped_flows(
    route: &Connection<Route>,
    conntrack: &Connection<Netfilter>,
    added: &BTreeSet<Element>,
) -> Result<(), DatapathError> {
    let failed = || DatapathError::from_attempt("forget UDP flows of before");
    let ports: BTreeSet<u16> = added
        .iter()
        .filter_map(|element| match element {
            Element::Port { protocol: model::Protocol::Udp, host, .. } => Some(*host),
            Element::Port { .. }
            | Element::Subnet(_)
            | Element::Instance(_)
            | Element::Guest { .. }
            | Element::Known(_)
            | Element::Single { .. }
            | Element::Spread { .. }
            | Element::Backend { .. }
            | Element::Member { .. }
            | Element::Admitted { .. }
            | Element::Peer(_) => None,
        })
        .collect();
    if ports.is_empty() {
        return Ok(());
    }
    let own: BTreeSet<IpAddr> = route
        .get_addresses()
        .await
        .map_err(failed())?
        .iter()
        .filter_map(|address| address.primary_address().copied())
        .collect();
    for port in ports {
        let filter = ConntrackFilter::new().proto(IpProtocol::Udp).orig_dst_port(port);
        for entry in conntrack.get_conntrack_matching(&filter).await.map_err(failed())? {
            let ours = entry.orig.dst_ip.is_some_and(|destination| own.contains(&destination));
            let translated = entry.orig.dst_ip != entry.reply.src_ip;
            if ours && !translated {
                delete(conntrack, &entry, failed()).await?;
            }
        }
    }
    Ok(())
}

/// One that ended meanwhile is as good as deleted. Pings by IPv6 stay: the library cannot name them to the kernel, and the
/// rules judge each of their packets.
async fn delete(
    conntrack: &Connection<Netfilter>,
    entry: &ConntrackEntry,
    failed: impl FnOnce(nlink::netlink::Error) -> DatapathError,
) -> Result<(), DatapathError> {
    if entry.proto == IpProtocol::Icmpv6 {
        return Ok(());
    }
    let deleted = conntrack.del_conntrack_entry(entry).await;
    deleted.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) }).map_err(failed)
}
