//! The sets and maps of our table. What is in them: `elements.rs`; what looks things up in them: `ruleset.rs` and others.

use nlink::netlink::nftables::{Family, Set, SetDataType, SetKeyType};

use super::ruleset::TABLE;

/// The sets of our table, one per kind of entry and version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetName {
    Subnets4,
    Subnets6,
    Self4,
    Self6,
    Ports4,
    Ports6,
    Known4,
    Known6,
    Single4,
    Single6,
    Spread4,
    Spread6,
    Backends4,
    Backends6,
    Peers4,
    Peers6,
    Members4,
    Members6,
    Admitted,
    Guests4,
    Guests6,
}

impl SetName {
    pub(super) const ALL: [Self; 21] = [
        Self::Subnets4,
        Self::Subnets6,
        Self::Self4,
        Self::Self6,
        Self::Ports4,
        Self::Ports6,
        Self::Known4,
        Self::Known6,
        Self::Single4,
        Self::Single6,
        Self::Spread4,
        Self::Spread6,
        Self::Backends4,
        Self::Backends6,
        Self::Peers4,
        Self::Peers6,
        Self::Members4,
        Self::Members6,
        Self::Admitted,
        Self::Guests4,
        Self::Guests6,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Subnets4 => "subnets4",
            Self::Subnets6 => "subnets6",
            Self::Self4 => "self4",
            Self::Self6 => "self6",
            Self::Ports4 => "ports4",
            Self::Ports6 => "ports6",
            Self::Known4 => "known4",
            Self::Known6 => "known6",
            Self::Single4 => "single4",
            Self::Single6 => "single6",
            Self::Spread4 => "spread4",
            Self::Spread6 => "spread6",
            Self::Backends4 => "backends4",
            Self::Backends6 => "backends6",
            Self::Peers4 => "peers4",
            Self::Peers6 => "peers6",
            Self::Members4 => "members4",
            Self::Members6 => "members6",
            Self::Admitted => "admitted",
            Self::Guests4 => "guests4",
            Self::Guests6 => "guests6",
        }
    }

    pub(super) fn key_type(self) -> SetKeyType {
        match self {
            Self::Subnets4
            | Self::Known4
            | Self::Single4
            | Self::Spread4
            | Self::Peers4
            | Self::Members4
            | Self::Guests4 => SetKeyType::Ipv4Addr,
            Self::Subnets6
            | Self::Known6
            | Self::Single6
            | Self::Spread6
            | Self::Peers6
            | Self::Members6
            | Self::Guests6 => SetKeyType::Ipv6Addr,
            Self::Admitted => SetKeyType::Concat(vec![SetKeyType::Mark, SetKeyType::Mark]),
            // A number as the kernel counts: four bytes in its own order.
            Self::Backends4 => SetKeyType::Concat(vec![SetKeyType::Ipv4Addr, SetKeyType::Mark]),
            Self::Backends6 => SetKeyType::Concat(vec![SetKeyType::Ipv6Addr, SetKeyType::Mark]),
            Self::Self4 => SetKeyType::Concat(vec![SetKeyType::Ipv4Addr, SetKeyType::Ipv4Addr]),
            Self::Self6 => SetKeyType::Concat(vec![SetKeyType::Ipv6Addr, SetKeyType::Ipv6Addr]),
            Self::Ports4 | Self::Ports6 => {
                SetKeyType::Concat(vec![SetKeyType::InetProto, SetKeyType::InetService])
            }
        }
    }

    pub(super) const fn is_interval(self) -> bool {
        matches!(self, Self::Subnets4 | Self::Subnets6)
    }

    pub(super) fn data_type(self) -> Option<SetDataType> {
        let address_and_port =
            |address| Some(SetDataType::Value(SetKeyType::Concat(vec![address, SetKeyType::InetService])));
        match self {
            Self::Ports4 => address_and_port(SetKeyType::Ipv4Addr),
            Self::Ports6 => address_and_port(SetKeyType::Ipv6Addr),
            Self::Single4 | Self::Backends4 | Self::Guests4 => Some(SetDataType::Value(SetKeyType::Ipv4Addr)),
            Self::Single6 | Self::Backends6 | Self::Guests6 => Some(SetDataType::Value(SetKeyType::Ipv6Addr)),
            Self::Spread4 | Self::Spread6 => Some(SetDataType::Verdict),
            Self::Members4 | Self::Members6 => {
                Some(SetDataType::Value(SetKeyType::Concat(vec![SetKeyType::Mark, SetKeyType::Mark])))
            }
            Self::Subnets4
            | Self::Subnets6
            | Self::Self4
            | Self::Self6
            | Self::Known4
            | Self::Known6
            | Self::Peers4
            | Self::Peers6
            | Self::Admitted => None,
        }
    }

    /// As the kernel is told of it.
    pub(super) fn set(self) -> Set {
        let set = Set::new(TABLE, self.as_str()).family(Family::Inet).key_type(self.key_type());
        let set = if self.is_interval() { set.interval() } else { set };
        match self.data_type() {
            Some(data) => set.map(data),
            None => set,
        }
    }
}
