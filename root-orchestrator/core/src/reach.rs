//! Which addresses the root calls when a user tells it to call somebody: those of the internet, and what its operator
//! allows. Else whoever may make a hook could make the root knock at its own doors and at those behind it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// IPv4 that is not one host of the internet: this network, private, shared (carriers), loopback, link-local (clouds keep
/// credentials there), protocol assignments, examples, 6to4 relays, measuring, multicast, reserved.
const OF_NO_HOST_4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];
/// The only IPv6 that is given to hosts of the internet.
const GLOBAL_6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// Of those, what leads elsewhere: protocol assignments with Teredo, examples (twice), 6to4. Two of them carry an IPv4
/// address.
const OF_NO_HOST_6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
];

/// Why an address is not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// It is none of the internet's.
    #[error("{0} is not an address of the internet; the operator of the root can allow it with --hook-allow")]
    NotPublic(IpAddr),
    /// It is this device's.
    #[error("{0} is an address of the root itself; its operator can allow it with --hook-allow")]
    Own(IpAddr),
}

/// Whom the root may call.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    allowed: Vec<IpNet>,
}

impl Reach {
    /// The internet, and these.
    #[must_use]
    pub const fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// Judges an address; `is_own` says whether it is one of this device.
    ///
    /// # Errors
    /// When it is not to be called.
    pub fn judge(&self, address: IpAddr, is_own: impl FnOnce(IpAddr) -> bool) -> Result<(), Unreachable> {
        // Written as IPv6 it is the same host.
        let address = address.to_canonical();
        if self.allowed.iter().any(|range| range.contains(&address)) {
            return Ok(());
        }
        if !is_public(address) {
            return Err(Unreachable::NotPublic(address));
        }
        if is_own(address) {
            return Err(Unreachable::Own(address));
        }
        Ok(())
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !OF_NO_HOST_4.into_iter().any(|range| is_in_4(address, range)),
        IpAddr::V6(address) => {
            is_in_6(address, GLOBAL_6) && !OF_NO_HOST_6.into_iter().any(|range| is_in_6(address, range))
        }
    }
}

fn is_in_4(address: Ipv4Addr, (first, length): (Ipv4Addr, u8)) -> bool {
    Ipv4Net::new(first, length).is_ok_and(|range| range.contains(&address))
}

fn is_in_6(address: Ipv6Addr, (first, length): (Ipv6Addr, u8)) -> bool {
    Ipv6Net::new(first, length).is_ok_and(|range| range.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(reach: &Reach, address: &str) -> Result<(), Unreachable> {
        let own: IpAddr = "8.8.4.4".parse().expect("an address");
        reach.judge(address.parse().expect("an address"), |address| address == own)
    }

    #[test]
    fn the_internet_is_called_and_nothing_else() {
        let reach = Reach::default();
        for public in ["8.8.8.8", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert_eq!(judged(&reach, public), Ok(()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "fe80::1",
            "fc00::1",
            "fdff:2000::1",
            "ff02::1",
            "2001:0:4136:e378::1",
            "2001:db8::1",
            "2002:7f00:1::1",
        ] {
            assert!(matches!(judged(&reach, private), Err(Unreachable::NotPublic(_))), "{private}");
        }
        let own = "8.8.4.4".parse().expect("an address");
        assert_eq!(judged(&reach, "8.8.4.4"), Err(Unreachable::Own(own)));
        assert_eq!(judged(&reach, "::ffff:8.8.4.4"), Err(Unreachable::Own(own)));
    }

    #[test]
    fn what_the_operator_allows_is_called_also_written_otherwise() {
        let ranges = ["127.0.0.0/8", "8.8.4.4/32", "fd00::/8"].map(|range| range.parse().expect("a range"));
        let reach = Reach::new(ranges.into());
        for allowed in ["127.0.0.1", "::ffff:127.0.0.1", "8.8.4.4", "fd12::1"] {
            assert_eq!(judged(&reach, allowed), Ok(()), "{allowed}");
        }
        assert!(judged(&reach, "10.0.0.1").is_err());
        assert!(judged(&reach, "::1").is_err());
    }
}
