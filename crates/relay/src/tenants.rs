//! Mailboxes of a relay that knows no devices, only the clusters they may be of: the relay of the root. Whoever shows that
//! he has the key of a mailbox gets it, and nothing of him is kept once he has gone. Pure.
//!
//! As numbers are forgotten too, a registration names a *challenge*, which the relay changes every half a minute and tells
//! with each answer: what was registered by an old one does not count, so that nobody registers again with what he recorded.

use std::{collections::BTreeMap, net::SocketAddr};

use link::DatagramKey;
use model::{ClusterId, Moment};

use crate::{
    keys::ClusterKey,
    mailboxes::{Mailbox, REGISTERED_MILLIS, Verdict, canonical},
    wire::{self, Destination, Entry},
};

/// How long a challenge is the newest. It counts for as long again, and a number is remembered for longer than both.
/// After a start of its own a device may have to wait until its last challenge counts no more.
const CHALLENGE_MILLIS: u64 = 30_000;
const _: () = assert!(REGISTERED_MILLIS > 2 * CHALLENGE_MILLIS);

/// What a cluster may have registered at a time; about half a MiB. Only devices register whose cluster's relay they cannot
/// reach, and those they are to be called by.
const MOST_OF_A_CLUSTER: usize = 4096;

#[derive(Debug)]
struct Tenant {
    key: ClusterKey,
    mailboxes: usize,
}

/// See the module's description. By default nobody is known.
#[derive(Debug, Default)]
pub(crate) struct Tenants {
    /// A number of chance, so that challenges of before a restart do not count.
    first_challenge: u64,
    clusters: BTreeMap<ClusterId, Tenant>,
    mailboxes: BTreeMap<Destination, (ClusterId, Mailbox)>,
    /// When those that have gone were forgotten last.
    forgot: Moment,
}

impl Tenants {
    /// Nobody is known yet; `chance` is another number after each start.
    pub(crate) fn new(chance: u64) -> Self {
        Self { first_challenge: chance >> 1, ..Self::default() }
    }

    /// Devices of this cluster may register by keys that follow from this one, which is always the same.
    pub(crate) fn admit(&mut self, cluster: ClusterId, key: ClusterKey) {
        self.clusters.entry(cluster).or_insert(Tenant { key, mailboxes: 0 });
    }

    /// Devices of this cluster may register no more, and those that have are passed on nothing more.
    pub(crate) fn expel(&mut self, cluster: ClusterId) {
        if self.clusters.remove(&cluster).is_some() {
            self.mailboxes.retain(|_, (of, _)| *of != cluster);
        }
    }

    pub(crate) fn mailbox(&mut self, destination: Destination) -> Option<&mut Mailbox> {
        self.mailboxes.get_mut(&destination).map(|(_, mailbox)| mailbox)
    }

    /// Takes a registration. A mailbox that somebody has stays his until he has gone, whoever else has a key for it.
    pub(crate) fn enter(
        &mut self,
        entry: &Entry<'_>,
        from: SocketAddr,
        now: Moment,
    ) -> Option<Verdict<'static>> {
        let tenant = self.clusters.get(&entry.cluster)?;
        let key = DatagramKey::new(&tenant.key.of_mailbox(entry.mailbox));
        if !entry.holds(&key) {
            return None;
        }
        let challenge = self.challenge(now);
        let answer = |seen_at| {
            let bytes = wire::entered(challenge, entry.number, seen_at, &key);
            Verdict::Answer { bytes, to: from, seen: None }
        };
        if entry.challenge != challenge && entry.challenge.checked_add(1) != Some(challenge) {
            return Some(answer(None));
        }
        if now.millis_since(self.forgot) >= CHALLENGE_MILLIS {
            self.forget(now);
        }
        self.mailbox_of(entry, &key)?.register((entry.challenge, entry.number), from, now)?;
        Some(answer(Some(canonical(from))))
    }

    fn challenge(&self, now: Moment) -> u64 {
        self.first_challenge + now.0 / CHALLENGE_MILLIS
    }

    /// Drops mailboxes whose devices have gone.
    fn forget(&mut self, now: Moment) {
        self.forgot = now;
        self.mailboxes.retain(|_, (_, mailbox)| mailbox.is_registered(now));
        self.clusters.values_mut().for_each(|tenant| tenant.mailboxes = 0);
        for (of, _) in self.mailboxes.values() {
            if let Some(tenant) = self.clusters.get_mut(of) {
                tenant.mailboxes += 1;
            }
        }
    }

    /// The mailbox a registration is for, made if there is none and room for it.
    fn mailbox_of(&mut self, entry: &Entry<'_>, key: &DatagramKey) -> Option<&mut Mailbox> {
        if !self.mailboxes.contains_key(&entry.mailbox) {
            let tenant = self.clusters.get_mut(&entry.cluster)?;
            if tenant.mailboxes >= MOST_OF_A_CLUSTER {
                return None;
            }
            tenant.mailboxes += 1;
            self.mailboxes.insert(entry.mailbox, (entry.cluster, Mailbox::new(key.clone())));
        }
        let (of, mailbox) = self.mailboxes.get_mut(&entry.mailbox)?;
        (*of == entry.cluster).then_some(mailbox)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        Lent, Order, Proof, Registrar, RootSecret, forward_prefix, mailboxes::Mailboxes, wire::Registration,
    };

    const START: Moment = Moment(1_000_000);
    const MESSAGE: [u8; 32] =
        [4, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7];

    fn cluster(number: u128) -> ClusterId {
        ClusterId::new(Uuid::from_u128(number))
    }

    fn mailbox(number: u8) -> Destination {
        Destination::of(&[number; 32])
    }

    fn secret() -> RootSecret {
        RootSecret([9; 32])
    }

    fn place(port: u16) -> SocketAddr {
        ([198, 51, 100, 7], port).into()
    }

    /// Clusters 1 and 2 are known.
    fn relay(chance: u64) -> Mailboxes {
        let mut relay = Mailboxes::new(Tenants::new(chance));
        for number in [1, 2] {
            relay.tenants.admit(cluster(number), secret().lend(cluster(number)));
        }
        relay
    }

    /// A device of a cluster with a key for its mailbox.
    fn device(of: u128, number: u8) -> Registrar {
        let key = secret().lend(cluster(of)).of_mailbox(mailbox(number));
        device_by(of, number, key)
    }

    fn device_by(of: u128, number: u8, key: [u8; 32]) -> Registrar {
        let lent = Lent { cluster: cluster(of), mailbox: mailbox(number), key };
        Registrar::new(Order { relay: place(1), own: None, proof: Proof::Lent(lent) })
    }

    /// What the relay answers: `None` for nothing, otherwise where it says that it sees the device.
    fn answer(relay: &mut Mailboxes, datagram: &[u8], from: u16, now: Moment) -> Option<Option<SocketAddr>> {
        match relay.take(datagram, place(from), now) {
            Verdict::Drop => None,
            Verdict::Answer { bytes, to, seen } => {
                assert!(to == place(from) && bytes.len() < datagram.len() && seen.is_none());
                Some(Registration::parse_answer(&bytes).expect("an answer").seen_at())
            }
            Verdict::Pass { .. } => panic!("nothing is passed on"),
        }
    }

    /// Registers until it counts. Returns the registration that did.
    fn enter(relay: &mut Mailboxes, device: &mut Registrar, from: u16, now: Moment) -> Option<Vec<u8>> {
        for _ in 0..2 {
            let datagram = device.register(now);
            let Verdict::Answer { bytes, .. } = relay.take(&datagram, place(from), now) else { return None };
            if device.take(&bytes, place(1), now) || device.observed() == Some(place(from)) {
                return Some(datagram);
            }
        }
        None
    }

    fn passed_to(relay: &mut Mailboxes, number: u8, now: Moment) -> Option<u16> {
        let datagram = [&forward_prefix(mailbox(number))[..], &MESSAGE].concat();
        match relay.take(&datagram, place(99), now) {
            Verdict::Pass { to, .. } => Some(to.port()),
            Verdict::Drop | Verdict::Answer { .. } => None,
        }
    }

    #[test]
    fn a_device_that_nobody_knows_registers_by_the_key_it_was_lent() {
        let mut relay = relay(5);
        assert_eq!(passed_to(&mut relay, 1, START), None);
        assert!(enter(&mut relay, &mut device(1, 1), 7, START).is_some());
        assert_eq!(passed_to(&mut relay, 1, START), Some(7));
        let late = START.plus_millis(REGISTERED_MILLIS + 1);
        assert_eq!(passed_to(&mut relay, 1, late), None);
    }

    #[test]
    fn a_key_of_another_cluster_mailbox_or_root_is_no_key() {
        let mut relay = relay(5);
        let keys = [
            secret().lend(cluster(2)).of_mailbox(mailbox(1)),
            secret().lend(cluster(1)).of_mailbox(mailbox(2)),
            RootSecret([8; 32]).lend(cluster(1)).of_mailbox(mailbox(1)),
            secret().lend(cluster(1)).0,
        ];
        for key in keys {
            let datagram = device_by(1, 1, key).register(START);
            assert_eq!(answer(&mut relay, &datagram, 7, START), None);
        }
        let datagram = device(3, 1).register(START);
        assert_eq!(answer(&mut relay, &datagram, 7, START), None, "a cluster nobody knows");
    }

    #[test]
    fn whatever_is_forged_or_repeated_moves_nobody() {
        let mut relay = relay(5);
        let mut device = device(1, 1);
        let genuine = enter(&mut relay, &mut device, 7, START).expect("it registers");
        let soon = START.plus_millis(1_000);
        assert_eq!(answer(&mut relay, &genuine, 66, soon), None, "again");
        let held_back = device.register(soon);
        let newer = device.register(soon);
        assert_eq!(answer(&mut relay, &newer, 8, soon), Some(Some(place(8))));
        let later = START.plus_millis(2_000);
        assert_eq!(answer(&mut relay, &held_back, 66, later), None, "an older one");
        for index in 0..genuine.len() {
            let mut forged = device.register(later);
            forged[index] ^= 1;
            assert_eq!(answer(&mut relay, &forged, 66, later), None, "byte {index}");
        }
        assert_eq!(passed_to(&mut relay, 1, later), Some(8));
    }

    #[test]
    fn what_was_recorded_counts_no_more_once_it_is_forgotten_or_the_relay_was_started_anew() {
        let mut before = relay(5);
        let mut device = device(1, 1);
        let recorded = enter(&mut before, &mut device, 7, START).expect("it registers");
        let late = START.plus_millis(REGISTERED_MILLIS + CHALLENGE_MILLIS);
        // Somebody else comes, and those that have gone are forgotten.
        enter(&mut before, &mut self::device(1, 2), 9, late).expect("it registers");
        assert!(before.mailbox_is_forgotten(1));
        for mut relay in [before, relay(1 << 40)] {
            assert_eq!(answer(&mut relay, &recorded, 66, late), Some(None), "an old challenge");
            assert_eq!(passed_to(&mut relay, 1, late), None);
            assert!(enter(&mut relay, &mut device, 7, late).is_some(), "the device itself");
        }
    }

    #[test]
    fn a_device_that_was_started_anew_counts_as_soon_as_its_last_challenge_does_not() {
        let mut relay = relay(5);
        enter(&mut relay, &mut device(1, 1), 7, START.plus_millis(9_000)).expect("it registers");
        // Its clock begins at zero, and so do its numbers.
        let mut anew = device(1, 1);
        let mut at = |now: u64, clock: u64| {
            let datagram = anew.register(Moment(clock));
            match relay.take(&datagram, place(8), START.plus_millis(now)) {
                Verdict::Answer { bytes, .. } => anew.take(&bytes, place(1), Moment(clock)),
                Verdict::Drop | Verdict::Pass { .. } => false,
            }
        };
        assert!(!at(10_000, 1_000) && !at(12_000, 3_000));
        let counts = (14_000..80_000).step_by(2_000).find(|now| at(*now, now - 9_000));
        assert!(counts.is_some_and(|now| now <= 75_000), "{counts:?}");
    }

    #[test]
    fn a_mailbox_stays_with_the_cluster_that_has_it_until_its_device_has_gone() {
        let mut relay = relay(5);
        let (mut own, mut other) = (device(1, 1), device(2, 1));
        enter(&mut relay, &mut own, 7, START).expect("it registers");
        let soon = START.plus_millis(1_000);
        assert!(enter(&mut relay, &mut other, 66, soon).is_none());
        assert_eq!(passed_to(&mut relay, 1, soon), Some(7));
        let late = START.plus_millis(REGISTERED_MILLIS + CHALLENGE_MILLIS);
        assert!(enter(&mut relay, &mut other, 66, late).is_some());
    }

    #[test]
    fn devices_of_a_cluster_that_was_removed_neither_register_nor_get_anything() {
        let mut relay = relay(5);
        let mut device = device(1, 1);
        enter(&mut relay, &mut device, 7, START).expect("it registers");
        enter(&mut relay, &mut self::device(2, 2), 8, START).expect("it registers");
        relay.tenants.expel(cluster(1));
        assert_eq!([1, 2].map(|number| passed_to(&mut relay, number, START)), [None, Some(8)]);
        let datagram = device.register(START.plus_millis(1_000));
        assert_eq!(answer(&mut relay, &datagram, 7, START.plus_millis(1_000)), None);
    }

    #[test]
    fn a_cluster_takes_no_more_room_than_it_may_and_leaves_that_of_others() {
        let mut relay = relay(5);
        let named = |number: usize| {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&number.to_be_bytes());
            let (mailbox, of) = (Destination::of(&name), cluster(1));
            let key = secret().lend(of).of_mailbox(mailbox);
            let proof = Proof::Lent(Lent { cluster: of, mailbox, key });
            Registrar::new(Order { relay: place(1), own: None, proof })
        };
        for number in 0..MOST_OF_A_CLUSTER {
            enter(&mut relay, &mut named(number), 7, START).expect("there is room");
        }
        assert!(enter(&mut relay, &mut named(MOST_OF_A_CLUSTER), 7, START).is_none());
        enter(&mut relay, &mut device(2, 1), 8, START).expect("another cluster has room");
        enter(&mut relay, &mut named(0), 7, START.plus_millis(1_000)).expect("who has one keeps it");
        let late = START.plus_millis(REGISTERED_MILLIS + CHALLENGE_MILLIS);
        enter(&mut relay, &mut named(MOST_OF_A_CLUSTER), 7, late).expect("the others have gone");
        assert_eq!(relay.tenants.mailboxes.len(), 1);
    }

    impl Mailboxes {
        fn mailbox_is_forgotten(&self, number: u8) -> bool {
            !self.tenants.mailboxes.contains_key(&mailbox(number))
        }
    }
}
