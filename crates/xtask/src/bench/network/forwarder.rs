//! A forwarder in user space as Oakestra has one: each packet is read from a TUN interface and sent in a datagram of its
//! own, and the reverse; nothing is encrypted. It is the stand-in for Oakestra's, which has more to do for each packet.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use anyhow::{Context, Result};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::place::Place;

/// The largest packet, and more.
const BUFFER: usize = 2048;

/// Makes the interface `name` in `place` and forwards until the process ends.
pub(super) fn start(place: &Place, name: &str, mtu: u16, own: SocketAddr, other: SocketAddr) -> Result<()> {
    let name = name.to_owned();
    let (device, socket) = place.run(move || {
        let device = DeviceBuilder::new().name(&name).mtu(mtu).build_sync();
        let device = device.with_context(|| format!("make the TUN interface {name}"))?;
        let socket = UdpSocket::bind(own).with_context(|| format!("bind {own}"))?;
        socket.connect(other).with_context(|| format!("speak to {other}"))?;
        Ok((Arc::new(device), Arc::new(socket)))
    })?;
    let (reader, sender) = (Arc::clone(&device), Arc::clone(&socket));
    place.spawn(move || outward(&reader, &sender))?;
    place.spawn(move || inward(&socket, &device))?;
    Ok(())
}

fn outward(device: &SyncDevice, socket: &UdpSocket) -> Result<()> {
    let mut packet = [0; BUFFER];
    loop {
        let length = device.recv(&mut packet).context("read a packet")?;
        // One that the other side cannot take yet is lost, as packets are.
        drop(socket.send(&packet[..length]));
    }
}

fn inward(socket: &UdpSocket, device: &SyncDevice) -> Result<()> {
    let mut packet = [0; BUFFER];
    loop {
        // Refused while the other side does not listen yet.
        let Ok(length) = socket.recv(&mut packet) else { continue };
        drop(device.send(&packet[..length]));
    }
}
