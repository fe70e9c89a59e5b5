//! Why a tunnel does not start, or does not take a set of peers.

use std::io;

use ipnet::IpNet;

use crate::PublicKey;

/// Why a tunnel does not start, or does not take a set of peers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The MTU in the settings is out of range.
    #[error("an MTU of {0} is not between 1280 and 9000")]
    Mtu(u16),
    /// The kernel does not make the interface.
    #[error("make the interface {name}")]
    Device {
        /// Its name.
        name: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The kernel does not give the port.
    #[error("open the UDP port {port}")]
    Port {
        /// The wanted port.
        port: u16,
        /// What the kernel says.
        source: io::Error,
    },
    /// The kernel does not start a thread.
    #[error("start the threads of the tunnel")]
    Thread(#[source] io::Error),
    /// A set of peers has the same key twice.
    #[error("the peer {0} is in the set twice")]
    SamePeer(PublicKey),
    /// A set of peers has this tunnel's own key.
    #[error("the peer {0} is this tunnel itself")]
    Oneself(PublicKey),
    /// Two peers claim the same network.
    #[error("the network {network} is allowed to both {first} and {second}")]
    SameNetwork {
        /// What both claim.
        network: IpNet,
        /// One of them.
        first: PublicKey,
        /// The other.
        second: PublicKey,
    },
    /// There are more peers than a handshake can name.
    #[error("{0} peers are more than the protocol can tell apart")]
    TooManyPeers(usize),
}
