//! Entries of our sets and maps: how they are written and read back.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::Protocol;
use net_core::{Chain, Element, Membership};
use nlink::netlink::{
    Connection, Nftables,
    nftables::{ChainName, Family, SetElement, SetElementData, SetInfo, Verdict},
};

use super::{ruleset::TABLE, sets::SetName, spread};
use crate::datapath::DatapathError;

/// Protocol numbers in IP headers.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The entries of one message are one attribute, of at most 65,535 bytes; an entry takes up to 100.
const ENTRIES_OF_A_MESSAGE: usize = 500;

/// Changes entries and chains in one transaction. An entry to remove that is not there, or one to add that is there with another
/// value, fails the whole.
pub(super) async fn change(
    nftables: &Connection<Nftables>,
    remove: &BTreeSet<Element>,
    add: &BTreeSet<Element>,
    close: &BTreeSet<Chain>,
    open: &BTreeSet<Chain>,
) -> Result<(), DatapathError> {
    let failed = || DatapathError::from_attempt("change entries of the nftables table inet mangrove");
    let mut transaction = nftables.transaction();
    for (name, entries) in by_set(remove) {
        for entries in entries.chunks(ENTRIES_OF_A_MESSAGE) {
            transaction = transaction.del_set_elements(&name.set(), entries);
        }
    }
    transaction = spread::close(transaction, close);
    transaction = spread::open(transaction, open).map_err(failed())?;
    for (name, entries) in by_set(add) {
        for entries in entries.chunks(ENTRIES_OF_A_MESSAGE) {
            transaction = transaction.add_set_elements(&name.set(), entries);
        }
    }
    transaction.commit(nftables).await.map_err(failed())
}

fn by_set(elements: &BTreeSet<Element>) -> Vec<(SetName, Vec<SetElement>)> {
    let mut sets: Vec<(SetName, Vec<SetElement>)> = Vec::new();
    let mut places = [None; SetName::ALL.len()];
    for element in elements {
        let (name, entry) = written(element);
        let place = places[name as usize].get_or_insert_with(|| {
            sets.push((name, Vec::new()));
            sets.len() - 1
        });
        sets[*place].1.push(entry);
    }
    sets
}

/// Addresses that nobody has any more.
pub(super) fn no_longer_known(remove: &BTreeSet<Element>, add: &BTreeSet<Element>) -> BTreeSet<IpAddr> {
    let gone = remove.iter().filter(|element| !add.contains(element));
    gone.filter_map(|element| match element {
        Element::Known(address) => Some(*address),
        Element::Subnet(_)
        | Element::Instance(_)
        | Element::Port { .. }
        | Element::Single { .. }
        | Element::Spread { .. }
        | Element::Backend { .. }
        | Element::Member { .. }
        | Element::Admitted { .. }
        | Element::Guest { .. }
        | Element::Peer(_) => None,
    })
    .collect()
}

fn address(address: IpAddr) -> SetElement {
    match address {
        IpAddr::V4(address) => SetElement::ipv4(address),
        IpAddr::V6(address) => SetElement::ipv6(address),
    }
}

/// Two numbers as the kernel counts.
fn pair(first: u32, second: u32) -> SetElement {
    SetElement::concat([SetElement::mark(first), SetElement::mark(second)])
}

fn written(element: &Element) -> (SetName, SetElement) {
    match *element {
        Element::Subnet(IpNet::V4(net)) => {
            (SetName::Subnets4, SetElement::ipv4_range(net.network(), net.broadcast()))
        }
        Element::Subnet(IpNet::V6(net)) => {
            (SetName::Subnets6, SetElement::ipv6_range(net.network(), net.broadcast()))
        }
        Element::Instance(IpAddr::V4(address)) => {
            (SetName::Self4, SetElement::concat([SetElement::ipv4(address), SetElement::ipv4(address)]))
        }
        Element::Instance(IpAddr::V6(address)) => {
            (SetName::Self6, SetElement::concat([SetElement::ipv6(address), SetElement::ipv6(address)]))
        }
        Element::Known(known) => {
            (if known.is_ipv4() { SetName::Known4 } else { SetName::Known6 }, address(known))
        }
        Element::Peer(peer) => {
            (if peer.is_ipv4() { SetName::Peers4 } else { SetName::Peers6 }, address(peer))
        }
        Element::Member { address: member, of } => {
            let name = if member.is_ipv4() { SetName::Members4 } else { SetName::Members6 };
            (name, address(member).value(pair(of.service, of.application)))
        }
        Element::Admitted { application, service } => (SetName::Admitted, pair(application, service)),
        Element::Single { from, to } => {
            let name = if from.is_ipv4() { SetName::Single4 } else { SetName::Single6 };
            (name, address(from).value(address(to)))
        }
        Element::Guest { from, gateway } => {
            let name = if from.is_ipv4() { SetName::Guests4 } else { SetName::Guests6 };
            (name, address(from).value(address(gateway)))
        }
        Element::Spread { from, chain } => {
            let name = if from.is_ipv4() { SetName::Spread4 } else { SetName::Spread6 };
            let chain = ChainName::new(chain.to_string()).expect("our names of chains are short");
            (name, address(from).verdict(Verdict::JumpTo(chain)))
        }
        Element::Backend { of, index, to } => {
            let name = if of.is_ipv4() { SetName::Backends4 } else { SetName::Backends6 };
            (name, SetElement::concat([address(of), SetElement::mark(index)]).value(address(to)))
        }
        Element::Port { protocol, host, to } => {
            let protocol = match protocol {
                Protocol::Tcp => TCP,
                Protocol::Udp => UDP,
            };
            let key = SetElement::concat([SetElement::inet_proto(protocol), SetElement::port(host)]);
            let (name, address) = match to.ip() {
                IpAddr::V4(address) => (SetName::Ports4, SetElement::ipv4(address)),
                IpAddr::V6(address) => (SetName::Ports6, SetElement::ipv6(address)),
            };
            (name, key.value(SetElement::concat([address, SetElement::port(to.port())])))
        }
    }
}

/// Reads every entry of those of our sets that exist.
pub(super) async fn read(
    nftables: &Connection<Nftables>,
    existing: &[SetInfo],
) -> Result<BTreeSet<Element>, DatapathError> {
    let mut elements = BTreeSet::new();
    for name in SetName::ALL {
        if !existing.iter().any(|set| set.table == TABLE && set.name == name.as_str()) {
            continue;
        }
        let entries = nftables
            .list_set_elements(TABLE, name.as_str(), Family::Inet)
            .await
            .map_err(DatapathError::from_attempt("read entries of the nftables table inet mangrove"))?;
        for entry in &entries {
            match parsed(name, entry) {
                Some(element) => {
                    elements.insert(element);
                }
                None => {
                    tracing::warn!(set = name.as_str(), ?entry, "an entry of our own set is of no known form")
                }
            }
        }
    }
    Ok(elements)
}

fn parsed(name: SetName, entry: &SetElement) -> Option<Element> {
    match name {
        SetName::Subnets4 => {
            let first = Ipv4Addr::from(<[u8; 4]>::try_from(entry.key()).ok()?);
            let last = Ipv4Addr::from(<[u8; 4]>::try_from(entry.key_end().unwrap_or(entry.key())).ok()?);
            let length = (u32::from(first) ^ u32::from(last)).leading_zeros();
            let net = Ipv4Net::new(first, u8::try_from(length).ok()?).ok()?;
            Some(Element::Subnet(IpNet::V4(net)))
        }
        SetName::Subnets6 => {
            let first = Ipv6Addr::from(<[u8; 16]>::try_from(entry.key()).ok()?);
            let last = Ipv6Addr::from(<[u8; 16]>::try_from(entry.key_end().unwrap_or(entry.key())).ok()?);
            let length = (u128::from(first) ^ u128::from(last)).leading_zeros();
            let net = Ipv6Net::new(first, u8::try_from(length).ok()?).ok()?;
            Some(Element::Subnet(IpNet::V6(net)))
        }
        SetName::Self4 => Some(Element::Instance(first_v4(entry.key())?.into())),
        SetName::Self6 => Some(Element::Instance(first_v6(entry.key())?.into())),
        SetName::Known4 => Some(Element::Known(first_v4(entry.key())?.into())),
        SetName::Known6 => Some(Element::Known(first_v6(entry.key())?.into())),
        SetName::Peers4 => Some(Element::Peer(first_v4(entry.key())?.into())),
        SetName::Peers6 => Some(Element::Peer(first_v6(entry.key())?.into())),
        SetName::Members4 => {
            Some(Element::Member { address: first_v4(entry.key())?.into(), of: membership(value(entry)?)? })
        }
        SetName::Members6 => {
            Some(Element::Member { address: first_v6(entry.key())?.into(), of: membership(value(entry)?)? })
        }
        SetName::Admitted => {
            let (application, service) = numbers(entry.key())?;
            Some(Element::Admitted { application, service })
        }
        SetName::Single4 | SetName::Single6 => {
            let (from, to) = pair_of_addresses(entry)?;
            Some(Element::Single { from, to })
        }
        SetName::Guests4 | SetName::Guests6 => {
            let (from, gateway) = pair_of_addresses(entry)?;
            Some(Element::Guest { from, gateway })
        }
        SetName::Spread4 => {
            Some(Element::Spread { from: first_v4(entry.key())?.into(), chain: target(entry)? })
        }
        SetName::Spread6 => {
            Some(Element::Spread { from: first_v6(entry.key())?.into(), chain: target(entry)? })
        }
        SetName::Backends4 => {
            let (of, to) = (first_v4(entry.key())?.into(), first_v4(value(entry)?)?.into());
            Some(Element::Backend { of, index: number(entry.key().get(4..)?)?, to })
        }
        SetName::Backends6 => {
            let (of, to) = (first_v6(entry.key())?.into(), first_v6(value(entry)?)?.into());
            Some(Element::Backend { of, index: number(entry.key().get(16..)?)?, to })
        }
        SetName::Ports4 => port(entry, |value| Some((first_v4(value)?.into(), 4))),
        SetName::Ports6 => port(entry, |value| Some((first_v6(value)?.into(), 16))),
    }
}

fn value(entry: &SetElement) -> Option<&[u8]> {
    match entry.data() {
        Some(SetElementData::Value(value)) => Some(value),
        Some(_) | None => None,
    }
}

/// Both of one family, told apart by their length.
fn pair_of_addresses(entry: &SetElement) -> Option<(IpAddr, IpAddr)> {
    let address = |bytes: &[u8]| match bytes.len() {
        16 => first_v6(bytes).map(IpAddr::V6),
        _ => first_v4(bytes).map(IpAddr::V4),
    };
    Some((address(entry.key())?, address(value(entry)?)?))
}

fn membership(bytes: &[u8]) -> Option<Membership> {
    numbers(bytes).map(|(service, application)| Membership { service, application })
}

fn numbers(bytes: &[u8]) -> Option<(u32, u32)> {
    Some((number(bytes)?, number(bytes.get(4..)?)?))
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn target(entry: &SetElement) -> Option<Chain> {
    match entry.data() {
        Some(SetElementData::Verdict(Verdict::JumpTo(chain))) => Chain::parse(chain.as_str()),
        Some(_) | None => None,
    }
}

fn first_v4(bytes: &[u8]) -> Option<Ipv4Addr> {
    bytes.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
}

fn first_v6(bytes: &[u8]) -> Option<Ipv6Addr> {
    bytes.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets))
}

/// Fields of a key or value begin at multiples of four bytes.
fn port(entry: &SetElement, address: impl Fn(&[u8]) -> Option<(IpAddr, usize)>) -> Option<Element> {
    let [protocol, _, _, _, high, low, ..] = *entry.key() else { return None };
    let protocol = match protocol {
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        _ => return None,
    };
    let value = value(entry)?;
    let (address, length) = address(value)?;
    let container = value.get(length..)?.first_chunk::<2>()?;
    Some(Element::Port {
        protocol,
        host: u16::from_be_bytes([high, low]),
        to: SocketAddr::new(address, u16::from_be_bytes(*container)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back_as_they_were_written() {
        let elements = [
            Element::Subnet("10.18.0.64/26".parse().expect("a network")),
            Element::Subnet("10.18.0.1/32".parse().expect("a network")),
            Element::Subnet("fc00::100/120".parse().expect("a network")),
            Element::Known("10.30.0.7".parse().expect("v4")),
            Element::Known("fdff:2000::7".parse().expect("v6")),
            Element::Peer("192.0.2.1".parse().expect("v4")),
            Element::Peer("2001:db8::1".parse().expect("v6")),
            Element::Single { from: "10.30.0.7".parse().expect("v4"), to: "10.30.0.9".parse().expect("v4") },
            Element::Single { from: "fdff:2000::7".parse().expect("v6"), to: "fdff::9".parse().expect("v6") },
            Element::Spread {
                from: "10.30.0.7".parse().expect("v4"),
                chain: Chain::Turn { of: "10.30.0.7".parse().expect("v4"), count: 3 },
            },
            Element::Spread { from: "fdff:3000::8".parse().expect("v6"), chain: Chain::Random { count: 2 } },
            Element::Backend {
                of: "10.30.0.7".parse().expect("v4"),
                index: 2,
                to: "10.30.0.9".parse().expect("v4"),
            },
            Element::Backend {
                of: "fdff:4000::7".parse().expect("v6"),
                index: 300,
                to: "fdff::9".parse().expect("v6"),
            },
            Element::Member {
                address: "10.30.0.9".parse().expect("v4"),
                of: Membership { service: 700, application: 7 },
            },
            Element::Member { address: "fc00::101".parse().expect("v6"), of: Membership::DEVICE },
            Element::Admitted { application: 7, service: 700 },
            Element::Guest {
                from: "10.18.0.66".parse().expect("v4"),
                gateway: "10.18.0.65".parse().expect("v4"),
            },
            Element::Guest {
                from: "fc00::102".parse().expect("v6"),
                gateway: "fc00::101".parse().expect("v6"),
            },
            Element::Instance("10.18.0.66".parse().expect("v4")),
            Element::Instance("fc00::102".parse().expect("v6")),
            Element::Port {
                protocol: Protocol::Tcp,
                host: 8080,
                to: "10.18.0.66:80".parse().expect("a socket"),
            },
            Element::Port {
                protocol: Protocol::Udp,
                host: 53,
                to: "[fc00::102]:5353".parse().expect("a socket"),
            },
        ];
        for element in elements {
            let (name, entry) = written(&element);
            assert_eq!(parsed(name, &entry), Some(element));
        }
    }
}
