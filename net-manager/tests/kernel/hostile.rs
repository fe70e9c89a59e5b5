//! What strangers and devices of the site send to the ports of a device while its instances talk: nothing of it gets into
//! an instance, and no call suffers. What they send to a relay is in `nat`, to the name server in `names`.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use model::{Peer, TunnelKey, Way};
use net_manager::secure::PORT;

use crate::support::{Lab, PATIENCE, Place, lease, noise, parse, run, worker};

/// Where packets between devices of the site arrive.
const DIRECT: u16 = 50104;
const HERE: u8 = 1;
const THERE: u8 = 2;
/// Addresses of the first device, of the second, and of the second as nobody knows it.
const SITE: [[&str; 3]; 2] =
    [["192.0.2.1", "192.0.2.2", "198.51.100.7"], ["2001:db8::1", "2001:db8::2", "2001:db8::77"]];

/// Two devices: instance 1 on the first hears whatever comes to its port 7, and calls instance 2 on the second.
struct Scene {
    labs: [Lab; 2],
    victim: Place,
    other: Place,
    ear: UdpSocket,
}

impl Scene {
    async fn new(mut labs: [Lab; 2], ways: [Way; 2]) -> Self {
        let [first, second] = &mut labs;
        let victim = first.attach_stable(1).await;
        let other = second.attach_stable(2).await;
        other.serve("other", 80);
        let instances = [(1, worker(HERE), true), (2, worker(THERE), true)];
        let beyond = [lease("10.18.0.64/26", "fc00::100/120"), lease("10.18.0.0/26", "fc00::/120")];
        let beyond = [(worker(THERE), ways[0], &beyond[0]), (worker(HERE), ways[1], &beyond[1])];
        for (lab, (worker, way, lease)) in labs.iter_mut().zip(beyond) {
            lab.hear(&instances, &[(worker, Peer { way, lease: lease.clone() })]).await;
        }
        let ear = victim.udp("[::]:7");
        Self { labs, victim, other, ear }
    }

    /// Over the version of IP with the addresses `site`.
    async fn trusted(site: [&str; 3]) -> Self {
        let (first, second) = Lab::pair().await;
        // One that the kernel does not speak from by itself.
        run(&second.device, "ip", "address add 2001:db8::77/64 dev up0 nodad preferred_lft 0\n");
        let ways = [site[1], site[0]].map(|underlay| Way::Direct { underlay: parse(underlay) });
        Self::new([first, second], ways).await
    }

    fn socket(&self, from: &str) -> UdpSocket {
        self.labs[1].device.udp(&SocketAddr::new(parse(from), 0).to_string())
    }

    /// What came to the victim since this was asked last.
    fn heard(&self, patience: Duration) -> Vec<String> {
        let mut buffer = [0; 2000];
        self.ear.set_read_timeout(Some(patience)).expect("a deadline");
        let received = std::iter::from_fn(|| self.ear.recv_from(&mut buffer).ok());
        received.map(|(_, from)| from.ip().to_canonical().to_string()).collect()
    }

    /// Does it while the instances call each other, and no call may fail.
    fn while_they_talk(&self, attack: impl FnOnce()) {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let calls = scope.spawn(|| {
                let (mut answered, mut failed) = (0, Vec::new());
                while !over.load(Ordering::Relaxed) || answered == 0 && failed.is_empty() {
                    for address in ["10.30.1.2:80", "[fdff::102]:80"] {
                        match self.victim.ask(address) {
                            Ok(_) => answered += 1,
                            Err(error) => failed.push(format!("{address}: {error}")),
                        }
                    }
                }
                failed
            });
            attack();
            over.store(true, Ordering::Relaxed);
            assert_eq!(calls.join().expect("it called"), [""; 0]);
        });
    }
}

/// A VXLAN packet to the first device, with this within.
fn vxlan(kind: u16, inside: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x08, 0, 0, 0];
    packet.extend_from_slice(b"mgv\0");
    // To and from the devices' own addresses on the link.
    packet.extend_from_slice(&[0x02, 0x6d, 10, 18, 0, 1, 0x02, 0x6d, 10, 18, 0, 65]);
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(inside);
    packet
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// A datagram to port 7.
fn datagram(from: IpAddr, to: IpAddr) -> (u16, Vec<u8>) {
    let mut udp = vec![0, 9, 0, 7, 0, 9, 0, 0, b'!'];
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut packet = vec![0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0];
            packet.extend(from.octets().into_iter().chain(to.octets()));
            let sum = checksum(&packet);
            packet[10..12].copy_from_slice(&sum);
            packet.extend(udp);
            (IPV4, packet)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let addresses: Vec<u8> = from.octets().into_iter().chain(to.octets()).collect();
            let sum = checksum(&[&addresses[..], &[0, 0, 0, 9, 0, 0, 0, 17], &udp].concat());
            udp[6..8].copy_from_slice(&sum);
            (IPV6, [&[0x60, 0, 0, 0, 0, 9, 17, 64], &addresses[..], &udp].concat())
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => unreachable!("{from} and {to} are not of one version"),
    }
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
    let sum: u32 = bytes.chunks(2).map(word).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!u16::try_from(folded).expect("folded")).to_be_bytes()
}

fn wrapped(from: &str, to: &str) -> Vec<u8> {
    let (kind, packet) = datagram(parse(from), parse(to));
    vxlan(kind, &packet)
}

/// What the other instance may say to the victim.
const HONEST: [(&str, &str); 2] = [("10.30.1.2", "10.30.1.1"), ("fdff::102", "fdff::101")];

#[tokio::test]
async fn only_devices_of_the_site_put_packets_into_instances_over_either_version_of_ip() {
    for site in SITE {
        let scene = Scene::trusted(site).await;
        let [_, known, stranger] = site.map(|address| address.to_owned());
        let to = (site[0], DIRECT);
        let (known, stranger) = (scene.socket(&known), scene.socket(&stranger));
        scene.while_they_talk(|| {
            for (from, victim) in HONEST {
                stranger.send_to(&wrapped(from, victim), to).expect("a route");
            }
        });
        assert_eq!(scene.heard(PATIENCE), [""; 0], "of a stranger, {site:?}");
        for (from, victim) in HONEST {
            known.send_to(&wrapped(from, victim), to).expect("a route");
            assert_eq!(scene.heard(PATIENCE), [from], "a genuine one gets through, {site:?}");
        }
    }
}

/// Whom no other device can be: the victim itself and its device, whom nobody has, the world, and whoever is special.
const NOT_THEIRS: [&str; 20] = [
    "10.30.1.1",
    "10.18.0.2",
    "10.18.0.1",
    "10.18.0.66",
    "10.30.9.9",
    "198.51.100.7",
    "192.0.2.77",
    "127.0.0.1",
    "169.254.1.1",
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.1",
    "fdff::101",
    "fc00::2",
    "fc00::166",
    "2001:db8::77",
    "::1",
    "fe80::1",
    "ff02::1",
    "::",
];

#[tokio::test]
async fn a_device_of_the_site_cannot_speak_for_others_or_to_what_the_device_offers_itself() {
    for site in SITE {
        let mut scene = Scene::trusted(site).await;
        let own = scene.labs[0].device.udp("127.0.0.1:7");
        let (known, to) = (scene.socket(site[1]), (site[0], DIRECT));
        scene.while_they_talk(|| {
            for from in NOT_THEIRS {
                let is_v6 = usize::from(from.contains(':'));
                let addresses = [["10.30.1.1", "10.18.0.2"], ["fdff::101", "fc00::2"]][is_v6];
                for victim in addresses {
                    known.send_to(&wrapped(from, victim), to).expect("a route");
                }
            }
            known.send_to(&wrapped(HONEST[0].0, "127.0.0.1"), to).expect("a route");
        });
        assert_eq!(scene.heard(PATIENCE), [""; 0], "{site:?}");
        own.recv(&mut [0; 8]).expect_err("nothing comes to what listens on loopback");
        assert_eq!(scene.labs[0].pending().await, []);
    }
}

#[tokio::test]
async fn malformed_packets_between_devices_are_dropped_and_change_nothing() {
    for site in SITE {
        let mut scene = Scene::trusted(site).await;
        let (known, to) = (scene.socket(site[1]), (site[0], DIRECT));
        let mut seed = 1;
        let honest: Vec<Vec<u8>> = HONEST.iter().map(|(from, victim)| wrapped(from, victim)).collect();
        scene.while_they_talk(|| {
            let send = |packet: &[u8]| known.send_to(packet, to).expect("a route");
            for packet in &honest {
                // Cut anywhere but at the end; of another network; without one; of a type there is not.
                (0..packet.len()).for_each(|length| {
                    send(&packet[..length]);
                });
                for (at, value) in [(0, 0), (0, 0xff), (4, b'n'), (6, b'u'), (20, 0), (21, 0xff)] {
                    let mut packet = packet.clone();
                    packet[at] = value;
                    send(&packet);
                }
                // Lies in the header inside: its length, that of all, the checksum, that it is a part of one.
                for at in 22..packet.len() - 1 {
                    for value in [0x01, 0x0f, 0x80, 0xff] {
                        let mut packet = packet.clone();
                        packet[at] ^= value;
                        send(&packet);
                    }
                }
            }
            for round in 0..500 {
                let inside = noise(&mut seed, [0, 1, 19, 40, 200, 1400][round % 6]);
                for kind in [IPV4, IPV6, ARP, 0x8100, 0x0003] {
                    send(&vxlan(kind, &inside));
                }
                send(&inside);
            }
            // That the gateway of the second, and an instance, are somewhere else.
            for address in [[10, 18, 0, 65], [10, 30, 1, 2], [10, 18, 0, 1]] {
                for operation in [1, 2] {
                    let sender = [&[0x02, 0, 0, 0, 0, 9], &address[..]].concat();
                    let arp = [&[0, 1, 8, 0, 6, 4, 0, operation], &sender[..], &sender].concat();
                    send(&vxlan(ARP, &arp));
                }
            }
        });
        assert_eq!(scene.labs[0].pending().await, [], "everything is as it was");
        // A packet is genuine whatever is altered of what nobody reads; nothing is of anybody else.
        let heard = scene.heard(PATIENCE);
        assert!(heard.iter().all(|from| HONEST.iter().any(|(honest, _)| honest == from)), "{heard:?}");
        scene.while_they_talk(|| {});
    }
}

const ARP: u16 = 0x0806;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_comes_to_the_port_of_encrypted_links_instances_talk_on() {
    let (labs, keys) = Lab::secure_pair().await;
    let secure = |address: &str, key: TunnelKey| Way::Secure {
        endpoint: SocketAddr::new(parse(address), PORT),
        observed: None,
        relay: None,
        key,
        kernel_port: None,
    };
    let scene = Scene::new(labs, [secure("192.0.2.2", keys[1]), secure("192.0.2.1", keys[0])]).await;
    // Keys are agreed on first.
    let talks = (0..20).any(|_| scene.victim.ask("10.30.1.2:80").is_ok());
    assert!(talks);
    let mut seed = 1;
    for from in [SITE[0][1], SITE[0][2]] {
        let socket = scene.socket(from);
        scene.while_they_talk(|| {
            for round in 0..1000 {
                for beginning in
                    [&b""[..], &[1, 0, 0, 0], &[2, 0, 0, 0], &[3, 0, 0, 0], &[4, 0, 0, 0, 0, 1, 0, 0], b"G"]
                {
                    let rest = noise(&mut seed, [0, 28, 60, 144, 1400][round % 5]);
                    let _full = socket.send_to(&[beginning, &rest].concat(), ("192.0.2.1", PORT));
                }
                // As if there were no encryption.
                let plain = wrapped(HONEST[0].0, HONEST[0].1);
                let _full = socket.send_to(&plain, ("192.0.2.1", PORT));
                let _full = socket.send_to(&plain, ("192.0.2.1", DIRECT));
                let _full =
                    socket.send_to(&datagram(parse(HONEST[0].0), parse(HONEST[0].1)).1, ("192.0.2.1", PORT));
            }
        });
    }
    assert_eq!(scene.heard(PATIENCE), [""; 0]);
    scene.victim.serve("victim", 80);
    assert_eq!(scene.other.ask("10.30.1.1:80").expect("an answer"), "victim to 10.30.1.2");
}
