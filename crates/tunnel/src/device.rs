//! The TUN interface: packets of up to 64 KiB pass between the kernel and us, which are cut here into what fits the link
//! and put together again.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with},
};
use tun_rs::{DeviceBuilder, ExpandBuffer, GROTable, SyncDevice, VIRTIO_NET_HDR_LEN};

/// Into how many packets one read may be cut: what 64 KiB are at the smallest segment that TCP agrees on in practice.
pub(crate) const SEGMENTS: usize = 512;

/// Packets are padded to multiples of this, as the protocol asks, to hide their true length a little.
const PADDING: usize = 16;

/// What one read may bring: a packet of the largest size and what the kernel says about it.
const LARGEST_READ: usize = VIRTIO_NET_HDR_LEN + 65_535;

/// The largest datagram, with room in front for what the kernel is told. Not a power of two, so that the buffers do not
/// compete for the same lines of the cache.
const DELIVERY: usize = LARGEST_READ + 1_729;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the kernel leaves the checksum to us. This and what follows is of `struct virtio_net_hdr`.
const NEEDS_CHECKSUM: u8 = 1;
const CHECKSUM_START: usize = 6;
const CHECKSUM_OFFSET: usize = 8;

/// Where the checksum is in a header of UDP; in one of TCP it is further behind.
const UDP_CHECKSUM: usize = 6;

/// One queue of the interface. It is gone when the last one is dropped.
pub(crate) struct Queue(SyncDevice);

/// The packets of one read.
pub(crate) struct Segments {
    raw: Vec<u8>,
    packets: Vec<Vec<u8>>,
    sizes: Vec<usize>,
    count: usize,
    mtu: usize,
}

/// Packets for the kernel, in order.
pub(crate) struct Deliveries {
    packets: Vec<Delivery>,
    count: usize,
    merging: GROTable,
}

/// A packet with room in front for what the kernel is told, and behind for those that continue it.
struct Delivery {
    bytes: Box<[u8]>,
    length: usize,
}

impl Queue {
    /// Makes the interface, brings it up, and opens `count` queues of it.
    pub(crate) fn open(name: &str, mtu: u16, count: usize) -> io::Result<Vec<Arc<Self>>> {
        if name.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an interface needs a name"));
        }
        if exists(name)? {
            // Otherwise the kernel would let us have a part of somebody else's packets.
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let device = DeviceBuilder::new()
            .name(name)
            .mtu(mtu)
            .enable(true)
            .with(|builder| {
                builder.offload(true).multi_queue(true);
            })
            .build_sync()?;
        let mut queues = Vec::with_capacity(count);
        while queues.len() + 1 < count {
            queues.push(device.try_clone()?);
        }
        queues.push(device);
        for queue in &queues {
            queue.set_nonblocking(true)?;
        }
        Ok(queues.into_iter().map(|queue| Arc::new(Self(queue))).collect())
    }

    /// Reads one packet of the kernel, cut into ones that fit. Fails with `WouldBlock` when there is none.
    pub(crate) fn read(&self, segments: &mut Segments) -> io::Result<()> {
        segments.count = 0;
        segments.count =
            self.0.recv_multiple(&mut segments.raw, &mut segments.packets, &mut segments.sizes, 0)?;
        segments.mend_checksums();
        Ok(())
    }

    /// Hands all packets to the kernel, those of one flow together. Fails with the last error of any of them.
    pub(crate) fn write(&self, deliveries: &mut Deliveries) -> io::Result<()> {
        let count = std::mem::take(&mut deliveries.count);
        let Deliveries { packets, merging, .. } = deliveries;
        self.0.send_multiple(merging, &mut packets[..count], VIRTIO_NET_HDR_LEN)?;
        Ok(())
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Queue")
    }
}

/// The most bytes of a packet from inside. What is longer, as somebody else raised the MTU, is refused when it is read.
pub(crate) fn largest_packet(mtu: u16) -> usize {
    usize::from(mtu).next_multiple_of(PADDING)
}

fn exists(name: &str) -> io::Result<bool> {
    let any = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    match netdevice::name_to_index(&any, name) {
        Ok(_) => Ok(true),
        Err(Errno::NODEV | Errno::NAMETOOLONG) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the interface is gone for good.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    let codes = [Errno::BADFD, Errno::BADF, Errno::NODEV].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

impl Segments {
    pub(crate) fn new(mtu: u16) -> Self {
        Self {
            raw: vec![0; LARGEST_READ],
            packets: vec![vec![0; largest_packet(mtu)]; SEGMENTS],
            sizes: vec![0; SEGMENTS],
            count: 0,
            mtu: mtu.into(),
        }
    }

    /// The packets, each padded with zeros as far as the MTU allows. The other side cuts them off by the length in the
    /// header.
    pub(crate) fn iter(&mut self) -> impl Iterator<Item = &[u8]> {
        let mtu = self.mtu;
        self.packets.iter_mut().zip(&self.sizes).take(self.count).map(move |(packet, size)| {
            let padded = size.next_multiple_of(PADDING).min(mtu.max(*size));
            packet[*size..padded].fill(0);
            &packet[..padded]
        })
    }

    /// One of 65 536 datagrams has a checksum of zero, which in a header of UDP says that there is none: over IPv6 receivers
    /// drop it. It is all ones there (RFC 768), and the library that has worked it out does not know that.
    fn mend_checksums(&mut self) {
        let word = |at| usize::from(u16::from_ne_bytes([self.raw[at], self.raw[at + 1]]));
        if self.raw[0] & NEEDS_CHECKSUM == 0 || word(CHECKSUM_OFFSET) != UDP_CHECKSUM {
            return;
        }
        let at = word(CHECKSUM_START) + UDP_CHECKSUM;
        for (packet, size) in self.packets.iter_mut().zip(&self.sizes).take(self.count) {
            if let Some(checksum) = packet[..*size].get_mut(at..at + 2)
                && *checksum == [0; 2]
            {
                checksum.fill(u8::MAX);
            }
        }
    }

    /// The first packet, which tells where all of them go.
    pub(crate) fn first(&self) -> &[u8] {
        if self.count == 0 { &[] } else { &self.packets[0][..self.sizes[0]] }
    }
}

impl Deliveries {
    /// As many packets as the kernel gives in one datagram of many. Each keeps 64 KiB, as any may become the first of a
    /// long one.
    const COUNT: usize = 64;

    pub(crate) fn new() -> Self {
        let packets =
            (0..Self::COUNT).map(|_| Delivery { bytes: vec![0; DELIVERY].into(), length: 0 }).collect();
        Self { packets, count: 0, merging: GROTable::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count == self.packets.len()
    }

    /// Where the next packet is written before it is pushed: room for what any datagram holds. Panics when full.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.packets[self.count].bytes[VIRTIO_NET_HDR_LEN..]
    }

    /// Takes the first `size` bytes of the room as a packet.
    pub(crate) fn push(&mut self, size: usize) {
        self.packets[self.count].length = VIRTIO_NET_HDR_LEN + size;
        self.count += 1;
    }
}

impl AsRef<[u8]> for Delivery {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl AsMut<[u8]> for Delivery {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }
}

impl ExpandBuffer for Delivery {
    fn buf_capacity(&self) -> usize {
        self.bytes.len()
    }

    fn buf_resize(&mut self, length: usize, value: u8) {
        if let Some(new) = self.bytes.get_mut(self.length..length) {
            new.fill(value);
        }
        self.length = length;
    }

    fn buf_extend_from_slice(&mut self, more: &[u8]) {
        let end = self.length + more.len();
        self.bytes[self.length..end].copy_from_slice(more);
        self.length = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one read left: packets of 60 bytes whose checksum is at 46, the last of them with one that is not zero.
    fn read(flags: u8, offset: u16) -> Segments {
        let mut segments = Segments::new(1_420);
        segments.raw[0] = flags;
        segments.raw[CHECKSUM_START..CHECKSUM_START + 2].copy_from_slice(&40_u16.to_ne_bytes());
        segments.raw[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&offset.to_ne_bytes());
        segments.count = 3;
        segments.sizes[..3].fill(60);
        segments.packets[2][47] = 1;
        segments
    }

    fn mended(mut segments: Segments) -> [[u8; 2]; 3] {
        segments.mend_checksums();
        [0, 1, 2].map(|packet: usize| [segments.packets[packet][46], segments.packets[packet][47]])
    }

    #[test]
    fn a_checksum_of_udp_that_we_were_to_work_out_is_never_zero() {
        assert_eq!(mended(read(NEEDS_CHECKSUM, 6)), [[255, 255], [255, 255], [0, 1]]);
        assert_eq!(mended(read(NEEDS_CHECKSUM, 16)), [[0, 0], [0, 0], [0, 1]], "of TCP it may be");
        assert_eq!(mended(read(0, 6)), [[0, 0], [0, 0], [0, 1]], "whoever wants none has none");
        let mut short = read(NEEDS_CHECKSUM, 6);
        short.sizes[0] = 47;
        assert_eq!(mended(short), [[0, 0], [255, 255], [0, 1]]);
    }
}
