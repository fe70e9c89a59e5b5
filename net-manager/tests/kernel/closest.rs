//! Which device a closest address leads to, when devices are as far as a test likes:
//!
//! ```text
//!   caller 203.0.113.1 ──┐
//!     near 203.0.113.2 ──┼── 203.0.113.9, where what goes to the near and the far one and back takes its time
//!      far 203.0.113.3 ──┘
//! ```

use std::{
    collections::BTreeSet,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use model::{Moment, Peer, TunnelKey, Way};
use net_core::{Echo, Nearness};
use net_manager::datapath::Datapath;
use tunnel::PrivateKey;

use crate::support::{Lab, Place, cable, echo, lease, parse, ping, run, worker};

/// Datagrams on their way between two devices.
#[derive(Clone, Default)]
struct Wire {
    micros_one_way: Arc<AtomicU64>,
    /// A fifth more or less.
    is_noisy: Arc<AtomicBool>,
}

impl Wire {
    /// Between `caller`, which sends to `front`, and `device`, which sends to `back`.
    fn lay(world: &Place, [caller, front, back, device]: [&str; 4]) -> Self {
        let wire = Self::default();
        let (front, back) = (world.udp(front), world.udp(back));
        let another = |socket: &UdpSocket| socket.try_clone().expect("a socket");
        wire.carry(another(&front), another(&back), parse(device));
        wire.carry(back, front, parse(caller));
        wire
    }

    /// For the life of the test.
    fn carry(&self, from: UdpSocket, by: UdpSocket, to: SocketAddr) {
        let (sender, queue) = mpsc::channel::<(Instant, Vec<u8>)>();
        let wire = self.clone();
        thread::spawn(move || {
            let (mut buffer, mut chance) = ([0; 2048], 1);
            loop {
                let Ok(length) = from.recv(&mut buffer) else { continue };
                let at = Instant::now() + wire.delay(&mut chance);
                sender.send((at, buffer[..length].to_vec())).expect("it carries on");
            }
        });
        thread::spawn(move || {
            for (at, datagram) in queue {
                thread::sleep(at.saturating_duration_since(Instant::now()));
                let _unreachable = by.send_to(&datagram, to);
            }
        });
    }

    fn delay(&self, chance: &mut u64) -> Duration {
        let micros = self.micros_one_way.load(Ordering::Relaxed);
        *chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let noise = if self.is_noisy.load(Ordering::Relaxed) { (*chance >> 33) % 401 } else { 200 };
        Duration::from_micros(micros * (800 + noise) / 1000)
    }

    fn set(&self, round_trip: Duration) {
        let micros = u64::try_from(round_trip.as_micros()).expect("it is short") / 2;
        self.micros_one_way.store(micros, Ordering::Relaxed);
    }
}

struct World {
    caller: Lab,
    _others: [Lab; 2],
    client: Place,
    _servers: [Place; 2],
    /// To the near one and to the far one.
    wires: [Wire; 2],
    now: Moment,
}

impl World {
    async fn new(round_trips: [Duration; 2]) -> Self {
        let world = Place::new();
        run(
            &world,
            "ip",
            "link set lo up\nlink add b0 type bridge\naddress add 203.0.113.9/24 dev b0\nlink set b0 up\n",
        );
        let wires = [
            Wire::lay(
                &world,
                ["203.0.113.1:50103", "203.0.113.9:1002", "203.0.113.9:2002", "203.0.113.2:50103"],
            ),
            Wire::lay(
                &world,
                ["203.0.113.1:50103", "203.0.113.9:1003", "203.0.113.9:2003", "203.0.113.3:50103"],
            ),
        ];
        for (wire, round_trip) in wires.iter().zip(round_trips) {
            wire.set(round_trip);
        }
        let (mut caller, caller_key) = device(&world, 1).await;
        let (mut near, near_key) = device(&world, 2).await;
        let (mut far, far_key) = device(&world, 3).await;
        let client = caller.attach_stable(0).await;
        let servers = [near.attach_stable(1).await, far.attach_stable(2).await];
        for (server, name) in servers.iter().zip(["near", "far"]) {
            server.serve(name, 80);
            server.serve_udp(name, 53);
        }
        let instances = [(0, worker(1), false), (1, worker(2), true), (2, worker(3), true)];
        let others = [
            (worker(2), peer("203.0.113.9:1002", near_key, 2)),
            (worker(3), peer("203.0.113.9:1003", far_key, 3)),
        ];
        caller.hear(&instances, &others).await;
        near.hear(&instances, &[(worker(1), peer("203.0.113.9:2002", caller_key, 1))]).await;
        far.hear(&instances, &[(worker(1), peer("203.0.113.9:2003", caller_key, 1))]).await;
        Self { caller, _others: [near, far], client, _servers: servers, wires, now: Moment(0) }
    }

    /// All rounds that are due by now, and what follows from them; it is some time later then.
    async fn measure(&mut self) {
        let mut changed = false;
        for (worker, echo) in self.caller.state.begin_rounds(self.now) {
            let answer = self.caller.datapath.echo(echo).await;
            changed |= self.caller.state.take_round(worker, answer, self.now);
        }
        if changed {
            self.caller.settle().await;
        }
        self.now = self.now.plus_millis(60_000);
    }

    /// Who answers calls to the closest address.
    fn answering(&self) -> BTreeSet<&'static str> {
        let answer = |_| {
            let answer = self.client.ask("10.30.0.2:80").expect("an answer");
            if answer == "near to 10.30.1.0" { "near" } else { "far" }
        };
        (0..4).map(answer).collect()
    }
}

async fn device(world: &Place, number: u8) -> (Lab, TunnelKey) {
    let place = Place::new();
    cable(&place, "up0", world, &format!("d{number}"));
    run(world, "ip", &format!("link set d{number} master b0 up\n"));
    run(
        &place,
        "ip",
        &format!("link set lo up\nlink set up0 up\naddress add 203.0.113.{number}/24 dev up0\n"),
    );
    let key = PrivateKey::generate();
    let mut lab = Lab::on(place, world.another(), lent(number)).await;
    lab.start_engine(&key).await;
    (lab, TunnelKey(*key.public().as_bytes()))
}

fn lent(number: u8) -> model::NetworkLease {
    lease(&format!("10.18.0.{}/26", (number - 1) * 64), &format!("fc00::{}00/120", number - 1))
}

fn peer(endpoint: &str, key: TunnelKey, number: u8) -> Peer {
    let way = Way::Secure { endpoint: parse(endpoint), observed: None, relay: None, key, kernel_port: None };
    Peer { way, lease: lent(number) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closest_leads_to_who_answers_soonest_and_elsewhere_only_when_that_lasts() {
    let [near, far, slow] = [20, 40, 80].map(Duration::from_millis);
    let mut world = World::new([near, far]).await;
    assert_eq!(world.answering(), BTreeSet::from(["near", "far"]), "nobody knows who is closer");
    world.measure().await;
    let nearness = [2, 3].map(|number| world.caller.state.nearness(worker(number)));
    println!("{nearness:?}");
    assert!(nearness.iter().all(|nearness| matches!(nearness, Nearness::Measured(_))), "{nearness:?}");
    assert_eq!(world.answering(), BTreeSet::from(["near"]));

    for wire in &world.wires {
        wire.is_noisy.store(true, Ordering::Relaxed);
    }
    for round in 0..10 {
        world.measure().await;
        assert_eq!(world.answering(), BTreeSet::from(["near"]), "round {round}");
    }
    for wire in &world.wires {
        wire.is_noisy.store(false, Ordering::Relaxed);
    }

    let flow = world.client.udp("0.0.0.0:0");
    assert_eq!(echo(&flow, "10.30.0.2:53").as_deref(), Some("near"));
    world.wires[0].set(slow);
    world.measure().await;
    assert_eq!(world.answering(), BTreeSet::from(["near"]), "it may be over soon");
    let mut rounds = 1;
    while world.answering() != BTreeSet::from(["far"]) {
        assert!(rounds < 4, "it lasts: {:?}", world.caller.state.nearness(worker(2)));
        world.measure().await;
        rounds += 1;
    }
    assert_eq!(echo(&flow, "10.30.0.2:53").as_deref(), Some("near"), "it began there");
    assert_eq!(echo(&world.client.udp("0.0.0.0:0"), "10.30.0.2:53").as_deref(), Some("far"));
}

#[tokio::test]
async fn echoes_go_by_the_link_and_by_nothing_else() {
    let (mut first, mut second) = Lab::pair().await;
    let _places = [first.attach_stable(0).await, second.attach_stable(1).await];
    let instances = [(0, worker(1), false), (1, worker(2), true)];
    let direct =
        |underlay, number| Peer { way: Way::Direct { underlay: parse(underlay) }, lease: lent(number) };
    first.hear(&instances, &[(worker(2), direct("192.0.2.2", 2))]).await;
    second.hear(&instances, &[(worker(1), direct("192.0.2.1", 1))]).await;
    let begun = first.state.begin_rounds(Moment(0));
    let [(_, over_the_link)] = begun[..] else { panic!("one device to measure: {begun:?}") };
    assert!(first.datapath.echo(over_the_link).await.is_some());

    // The other device answers whoever asks another way.
    let beside = "2001:db8::2";
    ping(&first.device.pinger(beside), true).expect("an answer");
    assert_eq!(first.datapath.echo(Echo { to: parse(beside), ..over_the_link }).await, None);

    second.hear(&instances, &[]).await;
    assert_eq!(first.datapath.echo(over_the_link).await, None, "it no longer counts this one among its site");
}
