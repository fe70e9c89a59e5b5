//! In which order the addresses of a service lead to its instances. The kernel chooses a place, from zero; who is there is an
//! entry of a map. So an instance that comes or goes should change few places: it is one of thousands, and each place is
//! two entries. `others.rs` makes the entries.

use std::collections::{BTreeMap, BTreeSet};

use addressing::Subnet;
use model::{AddressKind, CallableService, InstanceId, ServiceId, StableAddress, Surroundings, Weight};

use crate::{closest::Distances, shares};

/// The orders of all services.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Places(BTreeMap<ServiceId, Orders>);

/// Those of one service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Orders {
    /// All that are ready, for whom the order means nothing but that each has its turn.
    pub(crate) any: Vec<StableAddress>,
    /// The closest of them likewise.
    pub(crate) closest: Vec<StableAddress>,
    /// All that are ready, as often as they weigh.
    pub(crate) least_used: Vec<StableAddress>,
    /// All that are ready, in the same order on every device.
    pub(crate) agreed: Vec<StableAddress>,
}

impl Places {
    pub(crate) fn of(&self, service: ServiceId) -> Option<&Orders> {
        self.0.get(&service)
    }

    /// Takes on who may be called now. `begin` is another number on every device.
    pub(crate) fn arrange(
        &mut self,
        surroundings: &Surroundings,
        here: &BTreeSet<InstanceId>,
        distances: &Distances,
        begin: u32,
    ) {
        self.0.retain(|id, _| surroundings.services.contains_key(id));
        for (id, service) in &surroundings.services {
            let (ready, closest) = callees(*id, service, surroundings, here, distances);
            let orders = self.0.entry(*id).or_default();
            rearrange(&mut orders.closest, &closest, begin);
            let weights: BTreeMap<StableAddress, Weight> =
                ready.iter().map(|(_, address, weight)| (*address, *weight)).collect();
            let addresses: Vec<StableAddress> = ready.iter().map(|(_, address, _)| *address).collect();
            rearrange(&mut orders.any, &addresses, begin);
            let weighed = orders.any.iter().filter_map(|address| Some((*address, *weights.get(address)?)));
            orders.least_used = shares::places(&weighed.collect::<Vec<_>>());
            orders.agreed = agreed(ready.into_iter().map(|(number, address, _)| (number, address)).collect());
        }
    }
}

/// Who is ready and can be led to, in order of the numbers, and the closest of them.
fn callees(
    id: ServiceId,
    service: &CallableService,
    surroundings: &Surroundings,
    attached: &BTreeSet<InstanceId>,
    distances: &Distances,
) -> (Vec<(u32, StableAddress, Weight)>, Vec<StableAddress>) {
    let (mut here, mut there, mut ready) = (Vec::new(), Vec::new(), Vec::new());
    for instance in service.instances.iter().filter(|instance| instance.ready) {
        let address = StableAddress::of(AddressKind::Instance, instance.address);
        let Some(address) = address else { continue };
        if attached.contains(&InstanceId { service: id, number: instance.number }) {
            here.push(address);
        } else if surroundings
            .peers
            .get(&instance.worker)
            .is_some_and(|peer| Subnet::first_of(&peer.lease).is_some())
        {
            there.push((instance.worker, address));
        } else {
            continue;
        }
        ready.push((instance.number, address, instance.weight));
    }
    // No other device is as close as this one, however quick it answers.
    let closest = if here.is_empty() { distances.closest(&there) } else { here };
    (ready, closest)
}

/// Whoever was there before keeps its place; whoever comes takes that of one that goes. With fewer than before the last
/// take the places that become free.
fn rearrange(order: &mut Vec<StableAddress>, now: &[StableAddress], begin: u32) {
    let sorted = |all: &[StableAddress]| {
        let mut all = all.to_vec();
        all.sort_unstable();
        all
    };
    let (before, there) = (sorted(order), sorted(now));
    let mut new = now.iter().copied().filter(|address| before.binary_search(address).is_err());
    let mut place = 0;
    while let Some(holder) = order.get_mut(place) {
        if there.binary_search(holder).is_ok() {
            place += 1;
        } else if let Some(new) = new.next() {
            *holder = new;
            place += 1;
        } else {
            order.swap_remove(place);
        }
    }
    for address in new {
        // Not at the same place on every device, or the first calls of all of them would go to the same instance.
        let place = begin as usize % (order.len() + 1);
        order.push(address);
        let last = order.len() - 1;
        order.swap(place, last);
    }
}

/// An order that follows from who is there alone: a caller that moves to another device meets the same instance. A number
/// below the count is its own place; the others fill what is free from the end.
fn agreed(ready: Vec<(u32, StableAddress)>) -> Vec<StableAddress> {
    let mut places: Vec<Option<StableAddress>> = vec![None; ready.len()];
    let mut others = Vec::new();
    for (number, address) in ready {
        match usize::try_from(number).ok().and_then(|number| places.get_mut(number)) {
            Some(own @ None) => *own = Some(address),
            Some(Some(_)) | None => others.push(address),
        }
    }
    let mut free = others.into_iter();
    places.iter_mut().rev().filter(|place| place.is_none()).for_each(|place| *place = free.next());
    places.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn address(number: u32) -> StableAddress {
        let v4 = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 30, 1, 0)) + number);
        StableAddress::of(AddressKind::Instance, v4).expect("of the plan")
    }

    fn addresses(numbers: &[u32]) -> Vec<StableAddress> {
        numbers.iter().map(|number| address(*number)).collect()
    }

    fn agreed_by(numbers: impl Iterator<Item = u32>) -> Vec<StableAddress> {
        agreed(numbers.map(|number| (number, address(number))).collect())
    }

    /// How many places lead to somebody else than before, those that come or go among them.
    fn changed(before: &[StableAddress], now: &[StableAddress]) -> usize {
        let longer = before.len().max(now.len());
        (0..longer).filter(|place| before.get(*place) != now.get(*place)).count()
    }

    #[test]
    fn the_last_takes_the_place_of_one_that_goes_and_one_that_comes_too() {
        let mut order = addresses(&[1, 2, 3, 4]);
        rearrange(&mut order, &addresses(&[1, 3, 4]), 0);
        assert_eq!(order, addresses(&[1, 4, 3]));
        rearrange(&mut order, &addresses(&[1, 3, 5]), 0);
        assert_eq!(order, addresses(&[1, 5, 3]));
    }

    #[test]
    fn devices_begin_with_different_instances() {
        let first = |begin| {
            let mut order = Vec::new();
            (1..=5).for_each(|count| {
                let there: Vec<u32> = (0..count).collect();
                rearrange(&mut order, &addresses(&there), begin);
            });
            order[0]
        };
        let firsts: BTreeSet<StableAddress> = (0..60).map(first).collect();
        assert_eq!(firsts, addresses(&[0, 1, 2, 3, 4]).into_iter().collect());
    }

    #[test]
    fn one_of_many_changes_two_places_of_the_agreed_order() {
        let all = agreed_by(0..1_000);
        assert_eq!(changed(&all, &agreed_by((0..1_000).filter(|number| *number != 400))), 2);
        assert_eq!(changed(&all, &agreed_by(0..1_001)), 1);
        // After an update the numbers are others, and the order is nothing but theirs backwards.
        let later = agreed_by(3_000..4_000);
        assert_eq!(later.iter().collect::<BTreeSet<_>>().len(), 1_000);
    }

    proptest! {
        /// Whoever comes and goes: each that is there has one place, and no more places change than have to and one for
        /// each that goes.
        #[test]
        fn each_has_one_place_and_few_places_change(
            steps in prop::collection::vec(prop::collection::btree_set(0_u32..30, 0..20), 1..20),
            begin in 0_u32..9_000,
        ) {
            let mut order = Vec::new();
            let mut before = BTreeSet::new();
            for now in steps {
                let places = order.clone();
                let there: Vec<u32> = now.iter().copied().collect();
                rearrange(&mut order, &addresses(&there), begin);
                let mut sorted = order.clone();
                sorted.sort_unstable();
                prop_assert_eq!(sorted, addresses(&there));
                let (come, gone) = (now.difference(&before).count(), before.difference(&now).count());
                prop_assert!(changed(&places, &order) <= 2 * come.max(gone), "{:?} {:?}", places, order);
                let mut agreed = agreed_by(there.iter().copied());
                agreed.sort_unstable();
                prop_assert_eq!(agreed, addresses(&there));
                before = now;
            }
        }
    }
}
