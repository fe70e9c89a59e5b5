//! The door of `fuzz/` to what is done with a datagram before and after its decryption. The rest of the way needs an
//! interface and a port: `tests/link/hostile.rs`.

use boringtun::noise::{Packet, Tunn, TunnResult};

use crate::{PrivateKey, handshake::Doorkeeper, packet};

/// As long as what a datagram may hold.
const LARGEST: usize = 65_535;

/// Takes in what came, each with a number that says from whom: a stranger, or a peer with a proper key that sends it as
/// the packet inside, as it is or altered on the way.
///
/// # Panics
/// When a packet comes out that was not put in by the peer.
pub fn take<'data>(datagrams: impl Iterator<Item = (u8, &'data [u8])>) {
    let [own, other] = [[1; 32], [2; 32]].map(PrivateKey::from);
    let (here, there) = (Doorkeeper::new(&own), Doorkeeper::new(&other));
    let (mut here, mut there) = (here.acquaint(&other.public(), 1), there.acquaint(&own.public(), 1));
    shake_hands(&mut here, &mut there);
    let (mut sealed, mut opened) = (vec![0; LARGEST + 100], vec![0; LARGEST + 100]);
    for (choice, bytes) in datagrams {
        let message = match choice % 4 {
            0 => bytes.to_vec(),
            1 => [&[choice >> 4, 0, 0, 0], bytes].concat(),
            altered => {
                let TunnResult::WriteToNetwork(message) = there.encapsulate(bytes, &mut sealed) else {
                    return;
                };
                if altered == 3 {
                    let at = usize::from(choice >> 2) % message.len();
                    message[at] ^= 1;
                }
                message.to_vec()
            }
        };
        let header = packet::DataHeader::read(&message);
        let is_data = matches!(Tunn::parse_incoming_packet(&message), Ok(Packet::PacketData(_)));
        assert_eq!(header.is_some(), is_data, "what is no message with a packet is taken for a handshake");
        if !packet::is_wireguard(&message) {
            continue;
        }
        if let TunnResult::WriteToTunnelV4(inside, _) | TunnResult::WriteToTunnelV6(inside, _) =
            here.decapsulate(None, &message, &mut opened)
        {
            assert!(choice % 4 == 2 && bytes.starts_with(inside), "somebody else put it in");
            assert!(packet::source(inside).is_none() || packet::destination(inside).is_some());
        }
    }
}

fn shake_hands(here: &mut Tunn, there: &mut Tunn) {
    let [mut first, mut second] = [[0; 2000], [0; 2000]];
    let TunnResult::WriteToNetwork(start) = there.format_handshake_initiation(&mut first, true) else {
        unreachable!("a first handshake is always begun")
    };
    let TunnResult::WriteToNetwork(answer) = here.decapsulate(None, start, &mut second) else {
        unreachable!("a genuine handshake is always answered")
    };
    let TunnResult::WriteToNetwork(proof) = there.decapsulate(None, answer, &mut first) else {
        unreachable!("whoever began ends it with a packet")
    };
    here.decapsulate(None, proof, &mut second);
}
