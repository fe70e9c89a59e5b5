//! Ports of the device held by instances: a bound socket each, so that no program takes one and is never reached.

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::OwnedFd,
};

use model::{PortMapping, Protocol};
use nlink::netlink::namespace::Netns;
use rustix::net::{AddressFamily, SocketType, bind, sockopt};

use crate::datapath::PortInUse;

/// A socket that is bound and never used; dropping it frees the port.
#[derive(Debug)]
pub(super) struct Reservation {
    host: u16,
    protocol: Protocol,
    _socket: OwnedFd,
}

impl Reservation {
    /// Takes the port on every address of `namespace`.
    pub(super) fn take(namespace: &Netns, port: PortMapping) -> Result<Self, PortInUse> {
        let socket = match Self::bound(namespace, port, Reuse::No) {
            // Connections that ended within the last minute keep a TCP port busy; a listening program does so too,
            // and only that one also with address reuse.
            Err(_) if port.protocol == Protocol::Tcp => Self::bound(namespace, port, Reuse::Yes),
            other => other,
        };
        match socket {
            Ok(socket) => Ok(Self { host: port.host, protocol: port.protocol, _socket: socket }),
            Err(error) => {
                tracing::debug!(%port, %error, "a port of the device cannot be bound");
                Err(PortInUse { port })
            }
        }
    }

    pub(super) fn covers(&self, port: PortMapping) -> bool {
        self.host == port.host && self.protocol == port.protocol
    }

    fn bound(namespace: &Netns, port: PortMapping, reuse: Reuse) -> io::Result<OwnedFd> {
        let kind = match port.protocol {
            Protocol::Tcp => SocketType::STREAM,
            Protocol::Udp => SocketType::DGRAM,
        };
        let raw = |value: u32| i32::try_from(value).expect("socket types are small");
        let socket = namespace
            .socket(i32::from(AddressFamily::INET6.as_raw()), raw(kind.as_raw()), 0)
            .map_err(io::Error::other)?;
        // Both versions of IP with one socket.
        sockopt::set_ipv6_v6only(&socket, false)?;
        sockopt::set_socket_reuseaddr(&socket, matches!(reuse, Reuse::Yes))?;
        // Names are answered at this port of an address of their own, which is not mapped (`names`).
        sockopt::set_socket_reuseport(&socket, port.host == 53)?;
        bind(&socket, &SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port.host, 0, 0))?;
        Ok(socket)
    }
}

#[derive(Debug, Clone, Copy)]
enum Reuse {
    Yes,
    No,
}
