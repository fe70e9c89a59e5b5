//! Cryptokey routing: which peer an address belongs to. The longest network that holds the address wins.
//!
//! Two networks are either disjoint or one holds the other. So the networks, sorted, form a forest, and a lookup is one
//! binary search and a short climb.

use std::net::IpAddr;

use ipnet::IpNet;

/// Which owner each network belongs to.
#[derive(Debug)]
pub(crate) struct Routes<T> {
    v4: Forest<T>,
    v6: Forest<T>,
}

/// One network that two owners claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim<T> {
    pub(crate) network: IpNet,
    pub(crate) first: T,
    pub(crate) second: T,
}

#[derive(Debug)]
struct Forest<T> {
    /// By start, and of two with the same start the larger first.
    spans: Vec<Span<T>>,
}

#[derive(Debug)]
struct Span<T> {
    start: u128,
    end: u128,
    /// The smallest span that holds this one.
    parent: Option<usize>,
    owner: T,
}

impl<T: Copy + Ord> Routes<T> {
    /// Fails with the first network, in order, that two different owners claim.
    pub(crate) fn new(networks: impl IntoIterator<Item = (IpNet, T)>) -> Result<Self, Claim<T>> {
        let mut networks: Vec<(IpNet, T)> =
            networks.into_iter().map(|(network, owner)| (network.trunc(), owner)).collect();
        networks.sort_unstable();
        networks.dedup();
        for pair in networks.windows(2) {
            let [(network, first), (other, second)] = pair else { continue };
            if network == other {
                return Err(Claim { network: *network, first: *first, second: *second });
            }
        }
        let (v4, v6): (Vec<_>, Vec<_>) =
            networks.into_iter().partition(|(network, _)| matches!(network, IpNet::V4(_)));
        Ok(Self { v4: Forest::new(v4), v6: Forest::new(v6) })
    }

    pub(crate) fn owner(&self, address: IpAddr) -> Option<T> {
        match address {
            IpAddr::V4(_) => self.v4.owner(number(address)),
            IpAddr::V6(_) => self.v6.owner(number(address)),
        }
    }
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self { v4: Forest { spans: Vec::new() }, v6: Forest { spans: Vec::new() } }
    }
}

impl<T: Copy> Forest<T> {
    /// `networks` are of one family and all different.
    fn new(networks: Vec<(IpNet, T)>) -> Self {
        let mut spans: Vec<Span<T>> = networks
            .into_iter()
            .map(|(network, owner)| Span {
                start: number(network.network()),
                end: number(network.broadcast()),
                parent: None,
                owner,
            })
            .collect();
        spans.sort_unstable_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
        for index in 1..spans.len() {
            let end = spans[index].end;
            let mut candidate = Some(index - 1);
            while let Some(above) = candidate.filter(|above| spans[*above].end < end) {
                candidate = spans[above].parent;
            }
            spans[index].parent = candidate;
        }
        Self { spans }
    }

    fn owner(&self, address: u128) -> Option<T> {
        let after = self.spans.partition_point(|span| span.start <= address);
        let mut candidate = after.checked_sub(1);
        while let Some(span) = candidate.map(|index| &self.spans[index]) {
            if address <= span.end {
                return Some(span.owner);
            }
            candidate = span.parent;
        }
        None
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_network_wins() {
        let routes = Routes::new([
            (net("10.0.0.0/8"), 1),
            (net("10.18.0.0/26"), 2),
            (net("10.18.0.7/32"), 3),
            (net("fc00::/7"), 4),
            (net("fc00::1/128"), 5),
        ])
        .unwrap();
        let owners = ["10.18.0.7", "10.18.0.8", "10.18.0.64", "11.0.0.0", "fc00::1", "fc00::2", "fe80::1"]
            .map(|address| routes.owner(ip(address)));
        assert_eq!(owners, [Some(3), Some(2), Some(1), None, Some(5), Some(4), None]);
    }

    #[test]
    fn a_default_network_of_one_family_does_not_take_the_other() {
        let routes = Routes::new([(net("0.0.0.0/0"), 1)]).unwrap();
        assert_eq!(routes.owner(ip("255.255.255.255")), Some(1));
        assert_eq!(routes.owner(ip("::")), None);
    }

    #[test]
    fn one_network_belongs_to_one_owner() {
        let claim = Routes::new([(net("10.0.0.0/8"), 1), (net("10.0.0.9/8"), 2)]).unwrap_err();
        assert_eq!(claim, Claim { network: net("10.0.0.0/8"), first: 1, second: 2 });
        assert!(Routes::new([(net("10.0.0.0/8"), 1), (net("10.0.0.9/8"), 1)]).is_ok());
    }

    /// Networks close together, so that many of them nest.
    fn networks() -> impl Strategy<Value = Vec<(IpNet, usize)>> {
        let v4 = (any::<u8>(), 20_u8..=32).prop_map(|(last, length)| {
            IpNet::from(Ipv4Net::new(Ipv4Addr::new(10, 0, 0, last), length).expect("a length"))
        });
        let v6 = (any::<u8>(), 116_u8..=128).prop_map(|(last, length)| {
            IpNet::from(Ipv6Net::new(Ipv6Addr::from(u128::from(last)), length).expect("a length"))
        });
        proptest::collection::vec(prop_oneof![v4, v6], 0..40).prop_map(|networks| {
            let distinct: std::collections::BTreeSet<IpNet> =
                networks.into_iter().map(|network| network.trunc()).collect();
            distinct.into_iter().enumerate().map(|(owner, network)| (network, owner)).collect()
        })
    }

    proptest! {
        #[test]
        fn a_lookup_finds_what_a_search_through_all_finds(
            networks in networks(),
            addresses in proptest::collection::vec(any::<u16>(), 50),
        ) {
            let routes = Routes::new(networks.clone()).expect("distinct networks");
            for low in addresses {
                let [high, last] = low.to_be_bytes();
                for address in [
                    IpAddr::from(Ipv4Addr::new(10, 0, high % 3, last)),
                    IpAddr::from(Ipv6Addr::from(u128::from(low % 600))),
                ] {
                    let expected = networks
                        .iter()
                        .filter(|(network, _)| network.contains(&address))
                        .max_by_key(|(network, _)| network.prefix_len())
                        .map(|(_, owner)| *owner);
                    prop_assert_eq!(routes.owner(address), expected);
                }
            }
        }
    }
}
