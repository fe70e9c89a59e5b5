//! The numbers by which the rules of this device know services and applications. A number stays for as long as what has
//! it is told of: a rule looks the caller up, then the callee, then the pair, and where numbers changed in between, it
//! would refuse somebody who may connect. `isolation.rs` makes the entries.

use std::collections::{BTreeMap, BTreeSet};

use model::{ApplicationName, CallableService, ServiceId, Surroundings, slot_of};

use crate::Membership;

/// Above every place an address can have.
const WITHOUT_A_PLACE: u32 = 1 << 24;

/// Those of all services and applications that are told of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Numbers {
    services: BTreeMap<ServiceId, u32>,
    applications: BTreeMap<ApplicationName, u32>,
}

impl Numbers {
    /// Takes on which there are.
    pub(crate) fn assign(&mut self, surroundings: &Surroundings) {
        let services = surroundings.services.iter().map(|(id, service)| (*id, place(service)));
        assign(&mut self.services, services.collect());
        let mut applications: BTreeMap<ApplicationName, u32> = BTreeMap::new();
        for (id, service) in &surroundings.services {
            let number = self.services[id];
            let first = applications.entry((&*service.names).into()).or_insert(number);
            *first = (*first).min(number);
        }
        assign(&mut self.applications, applications);
    }

    /// That of a service and its application, both told of at the last `assign`.
    pub(crate) fn of(&self, id: ServiceId, application: &ApplicationName) -> Option<Membership> {
        let (service, application) = (self.services.get(&id)?, self.applications.get(application)?);
        Some(Membership { service: *service, application: *application })
    }

    /// Those of applications.
    pub(crate) fn applications(&self) -> impl Iterator<Item = (&ApplicationName, u32)> {
        self.applications.iter().map(|(name, number)| (name, *number))
    }
}

/// The place of the first of its addresses, which no other service has: most get the same number again after a restart.
fn place(service: &CallableService) -> u32 {
    let places = service.addresses.values().filter_map(|address| slot_of(*address));
    places.min().unwrap_or(WITHOUT_A_PLACE)
}

/// Who has a number keeps it; who comes gets the one wished for, or the first above all places that nobody has.
fn assign<K: Ord>(numbers: &mut BTreeMap<K, u32>, wishes: BTreeMap<K, u32>) {
    numbers.retain(|key, _| wishes.contains_key(key));
    let mut taken: BTreeSet<u32> = numbers.values().copied().collect();
    for (key, wish) in wishes {
        numbers.entry(key).or_insert_with(|| {
            let free = [wish].into_iter().chain(WITHOUT_A_PLACE..).find(|number| taken.insert(*number));
            free.expect("there are more numbers than services")
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Arc};

    use model::{AddressKind, ServiceNames};

    use super::*;

    /// A service of the application with these addresses.
    fn service(
        application: &str,
        id: u8,
        addresses: &[(AddressKind, u8)],
    ) -> (ServiceId, Arc<CallableService>) {
        let names = ServiceNames {
            application: application.to_owned(),
            application_namespace: "prod".to_owned(),
            service: format!("service{id}"),
            service_namespace: "front".to_owned(),
        };
        let addresses = addresses.iter().map(|(kind, last)| (*kind, Ipv4Addr::new(10, 30, 0, *last)));
        let service = CallableService {
            names: names.into(),
            addresses: Arc::new(addresses.collect()),
            allowed_callers: Arc::default(),
            instances: Vec::new(),
        };
        (ServiceId::from_bytes([id; 12]), Arc::new(service))
    }

    fn assigned(numbers: &mut Numbers, services: &[(ServiceId, Arc<CallableService>)]) -> Vec<(u32, u32)> {
        let surroundings =
            Surroundings { services: services.iter().cloned().collect(), ..Surroundings::default() };
        numbers.assign(&surroundings);
        let of = services.iter().map(|(id, service)| numbers.of(*id, &(&*service.names).into()));
        of.map(|of| of.map(|of| (of.service, of.application)).expect("all have numbers")).collect()
    }

    const TURN: AddressKind = AddressKind::RoundRobin;
    const CLOSEST: AddressKind = AddressKind::Closest;

    #[test]
    fn a_service_keeps_its_number_without_the_address_it_is_from() {
        let mut numbers = Numbers::default();
        assert_eq!(assigned(&mut numbers, &[service("shop", 1, &[(TURN, 3), (CLOSEST, 7)])]), [(3, 3)]);
        assert_eq!(assigned(&mut numbers, &[service("shop", 1, &[(CLOSEST, 7)])]), [(3, 3)]);
        assert_eq!(assigned(&mut numbers, &[service("shop", 1, &[])]), [(3, 3)]);
        assert_eq!(assigned(&mut numbers, &[]), []);
        assert_eq!(assigned(&mut numbers, &[service("shop", 1, &[(CLOSEST, 7)])]), [(7, 7)], "it came anew");
    }

    #[test]
    fn an_application_keeps_its_number_without_its_first_service() {
        let mut numbers = Numbers::default();
        let [first, second] = [service("shop", 1, &[(TURN, 3)]), service("shop", 2, &[(TURN, 4)])];
        assert_eq!(assigned(&mut numbers, &[first, second.clone()]), [(3, 3), (4, 3)]);
        assert_eq!(assigned(&mut numbers, std::slice::from_ref(&second)), [(4, 3)]);
        let other = service("till", 3, &[(TURN, 3)]);
        assert_eq!(
            assigned(&mut numbers, &[second, other]),
            [(4, 3), (3, WITHOUT_A_PLACE)],
            "another application's"
        );
    }

    #[test]
    fn no_two_services_have_one_number() {
        let mut numbers = Numbers::default();
        let [first, without] = [service("shop", 1, &[(TURN, 3), (CLOSEST, 7)]), service("shop", 4, &[])];
        assigned(&mut numbers, &[first, without]);
        let services = [
            service("shop", 1, &[(CLOSEST, 7)]),
            service("shop", 4, &[]),
            service("shop", 2, &[(TURN, 3)]),
            service("shop", 3, &[]),
        ];
        let of = assigned(&mut numbers, &services);
        let expected = [3, WITHOUT_A_PLACE, WITHOUT_A_PLACE + 1, WITHOUT_A_PLACE + 2];
        assert_eq!(of.iter().map(|of| of.0).collect::<Vec<_>>(), expected);
    }
}
