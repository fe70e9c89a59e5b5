//! With which relays a device registers: with that of its cluster always; with that of the root while the cluster's does not
//! answer, or while another device has to be reached from there. Pure: whoever drives this has the port and the clock.

use std::net::SocketAddr;

use model::{Moment, RelayPlace};

use crate::registrar::{Order, Proof, Registrar};

/// A relay that left so many registrations unanswered when the next is due cannot be reached: after four seconds, as one
/// datagram may be lost.
const PATIENCE: u32 = 2;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Registrations {
    cluster: Option<Registrar>,
    root: Option<Registrar>,
    /// The relay of the cluster cannot be reached.
    cut_off: bool,
    /// Another device has its mailbox at the root's relay: from there it may not reach the one of this device elsewhere.
    met: bool,
}

impl Registrations {
    /// Registers by this order from now on, in place of the one for the same relay; false if there is nothing new in it.
    pub fn take_order(&mut self, order: Order) -> bool {
        let registrar = match order.proof {
            Proof::Session(_) => &mut self.cluster,
            Proof::Lent(_) => &mut self.root,
        };
        if registrar.as_ref().is_some_and(|registrar| *registrar.order() == order) {
            return false;
        }
        *registrar = Some(Registrar::new(order));
        true
    }

    /// Whether another device has its mailbox at the relay of the root.
    pub fn meet(&mut self, met: bool) {
        self.met = met;
        self.rest_at_root();
    }

    fn is_for_root(&self) -> bool {
        self.cut_off || self.met
    }

    fn rest_at_root(&mut self) {
        let rests = !self.is_for_root();
        if let Some(root) = self.root.as_mut().filter(|_| rests) {
            root.rest();
        }
    }

    /// When [`Registrations::register`] has something to do; `None` while there is no relay.
    #[must_use]
    pub fn due(&self) -> Option<Moment> {
        let root = self.root.as_ref().filter(|_| self.is_for_root());
        self.cluster.iter().chain(root).map(Registrar::due).min()
    }

    /// The registrations that are due by now, and where each is to be sent.
    pub fn register(&mut self, now: Moment) -> Vec<(SocketAddr, Vec<u8>)> {
        if let Some(cluster) = self.cluster.as_ref().filter(|cluster| cluster.due() <= now) {
            self.cut_off |= cluster.unanswered() >= PATIENCE;
        }
        let for_root = self.is_for_root();
        let root = self.root.as_mut().filter(|_| for_root);
        let due = self.cluster.iter_mut().chain(root).filter(|registrar| registrar.due() <= now);
        due.map(|registrar| (registrar.order().relay, registrar.register(now))).collect()
    }

    /// Takes what came to the port of the tunnel from `from`. Returns whether it was the answer of a relay and tells
    /// anything new.
    pub fn take(&mut self, datagram: &[u8], from: SocketAddr, now: Moment) -> bool {
        let mut is_new = false;
        if let Some(cluster) = &mut self.cluster {
            let waited = cluster.unanswered();
            is_new = cluster.take(datagram, from, now);
            if cluster.unanswered() < waited && std::mem::take(&mut self.cut_off) {
                is_new = true;
                self.rest_at_root();
            }
        }
        is_new || self.root.as_mut().is_some_and(|root| root.take(datagram, from, now))
    }

    /// Where the relay of the root sees this device, while that has its mailbox: `None` while the one of the cluster does.
    #[must_use]
    pub fn at_root(&self) -> Option<SocketAddr> {
        self.root.as_ref().filter(|_| self.cut_off)?.observed()
    }

    /// Whether something between this device and its relay changes its address: then others reach it only while it keeps
    /// the way open.
    #[must_use]
    pub fn is_translated(&self) -> bool {
        self.cluster.iter().chain(&self.root).any(Registrar::is_translated)
    }

    /// The relay by which another device is sent what does not get there, when it is told to be this one; `None` is that of
    /// the own cluster. Who is at the relay of the root sends by it to all: they register there too, and whether another
    /// relay can be reached nobody knows.
    #[must_use]
    pub fn relay_to(&self, place: Option<RelayPlace>) -> Option<SocketAddr> {
        let address = |registrar: &Option<Registrar>| registrar.as_ref().map(|it| it.order().relay);
        match place {
            _ if self.at_root().is_some() => address(&self.root),
            Some(RelayPlace::Root) => address(&self.root),
            Some(RelayPlace::At(place)) => Some(place),
            None => address(&self.cluster),
        }
    }
}

#[cfg(test)]
mod tests {
    use link::DatagramSession;
    use model::ClusterId;
    use uuid::Uuid;

    use super::*;
    use crate::{
        Destination, RootSecret,
        mailboxes::{Mailboxes, Verdict},
        registrar::Lent,
        tenants::Tenants,
    };

    const START: Moment = Moment(5_000_000);

    fn place(port: u16) -> SocketAddr {
        ([198, 51, 100, 7], port).into()
    }

    /// A device, the relay of its cluster at port 1 and that of the root at port 2.
    struct World {
        device: Registrations,
        relays: [Mailboxes; 2],
        /// The relay of the cluster cannot be reached.
        blocked: bool,
        now: Moment,
    }

    impl World {
        fn new() -> Self {
            let (cluster, mailbox) = (ClusterId::new(Uuid::from_u128(1)), Destination::of(&[1; 32]));
            let mut relays = [Mailboxes::default(), Mailboxes::default()];
            let session = DatagramSession { id: 7, key: [7; 32] };
            assert!(relays[0].open(&session, mailbox, None));
            let key = RootSecret([1; 32]).lend(cluster);
            let lent = Lent { cluster, mailbox, key: key.of_mailbox(mailbox) };
            relays[1].tenants = Tenants::new(99);
            relays[1].tenants.admit(cluster, key);
            let mut device = Registrations::default();
            for (port, proof) in [(1, Proof::Session(session)), (2, Proof::Lent(lent))] {
                let order = Order { relay: place(port), own: None, proof };
                assert!(device.take_order(order.clone()) && !device.take_order(order));
            }
            Self { device, relays, blocked: false, now: START }
        }

        /// Sends what is due for so long. Returns to which relays, and after how long.
        fn wait(&mut self, millis: u64) -> Vec<(u16, u64)> {
            let (begun, until) = (self.now, self.now.plus_millis(millis));
            let mut sent = Vec::new();
            while let Some(due) = self.device.due().filter(|due| *due <= until) {
                self.now = due.max(self.now);
                for (to, datagram) in self.device.register(self.now) {
                    sent.push((to.port(), self.now.millis_since(begun)));
                    if self.blocked && to == place(1) {
                        continue;
                    }
                    let relay = &mut self.relays[usize::from(to.port() - 1)];
                    let Verdict::Answer { bytes, .. } = relay.take(&datagram, place(9), self.now) else {
                        panic!("a genuine registration")
                    };
                    self.device.take(&bytes, to, self.now);
                }
            }
            self.now = until;
            sent
        }
    }

    #[test]
    fn while_the_relay_of_the_cluster_answers_the_one_of_the_root_hears_nothing() {
        let mut world = World::new();
        assert_eq!(world.wait(30_000), [(1, 0), (1, 20_000)]);
        assert_eq!((world.device.at_root(), world.device.relay_to(None)), (None, Some(place(1))));
    }

    #[test]
    fn two_registrations_without_an_answer_lead_to_the_root_and_the_next_answer_leads_back() {
        let mut world = World::new();
        world.wait(1);
        world.blocked = true;
        // The second goes to the root twice: it is told the challenge first.
        let sent = [(1, 19_999), (1, 21_999), (1, 23_999), (2, 23_999), (2, 23_999)];
        assert_eq!(world.wait(24_500), sent);
        assert_eq!(world.device.at_root(), Some(place(9)));
        let all = [None, Some(RelayPlace::Root), Some(RelayPlace::At(place(3)))];
        assert_eq!(all.map(|place| world.device.relay_to(place)), [Some(place(2)); 3]);
        let sent = world.wait(120_000);
        assert_eq!(sent.iter().filter(|(port, _)| *port == 2).count(), 6, "every twenty seconds");
        world.blocked = false;
        world.wait(2_000);
        assert_eq!(world.device.at_root(), None);
        let places = [Some(place(1)), Some(place(2)), Some(place(3))];
        assert_eq!(all.map(|place| world.device.relay_to(place)), places);
        assert!(world.wait(60_000).iter().all(|(port, _)| *port == 1), "it has left");
    }

    #[test]
    fn who_has_to_be_reached_from_the_root_registers_there_too_and_stays_with_its_cluster() {
        let mut world = World::new();
        world.wait(1);
        world.device.meet(true);
        assert_eq!(world.wait(1), [(2, 0), (2, 0)]);
        assert_eq!((world.device.at_root(), world.device.relay_to(None)), (None, Some(place(1))));
        world.device.meet(false);
        assert_eq!(world.wait(30_000), [(1, 19_998)]);
    }

    #[test]
    fn an_order_that_comes_while_it_is_cut_off_does_not_lead_back_before_an_answer() {
        let mut world = World::new();
        world.blocked = true;
        world.wait(5_000);
        let session = DatagramSession { id: 8, key: [8; 32] };
        assert!(world.relays[0].open(&session, Destination::of(&[1; 32]), Some(7)));
        assert!(world.device.take_order(Order {
            relay: place(1),
            own: None,
            proof: Proof::Session(session)
        }));
        world.wait(5_000);
        assert_eq!(world.device.at_root(), Some(place(9)));
        world.blocked = false;
        world.wait(2_000);
        assert_eq!(world.device.at_root(), None);
    }
}
