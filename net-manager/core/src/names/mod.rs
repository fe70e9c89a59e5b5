//! Names of services and instances, and what they lead to. The other half, which speaks the protocol and hands on what is
//! asked of others, is `net-manager/src/names`.
//!
//! ```text
//!                  web.front.shop.mangrove        the service, each instance in turn
//!                  web.front.shop.prod.mangrove   the same, in whichever namespace the application is
//!          closest.web.front.shop.mangrove        by another policy; also least-used, affinity, round-robin
//!                0.web.front.shop.mangrove        that instance, while it runs
//! ```
//!
//! The first form leaves the application's namespace out. Where applications of that name are in several, it means the
//! one in the namespace of whoever asks, and nobody if there is none: to guess could lead tests into production. What
//! could be read in two ways is a service by its full name rather than a part of another.

mod resolvers;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use model::{AddressKind, CallableService, InstanceId, ServiceId, StableAddress, Surroundings};

use crate::Attachment;
pub use resolvers::resolvers_of;

/// Where instances ask for names; also the gateway of every one of them.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// A domain name as it is compared: lower-case labels, the last of the name first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DomainName(Vec<String>);

impl DomainName {
    /// The name with these labels, in the order in which they are written.
    pub fn of<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let lower = |label: &[u8]| String::from_utf8_lossy(label).to_ascii_lowercase();
        let mut labels: Vec<String> = labels.into_iter().map(lower).collect();
        labels.reverse();
        Self(labels)
    }
}

/// What is asked of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Its IPv4 address.
    Ipv4,
    /// Its IPv6 address.
    Ipv6,
    /// The name of the address it is written for.
    Pointer,
    /// Something that no name here has.
    Other,
}

/// The names answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// Those of services and instances.
    Mangrove,
    /// Those of 10.30.0.0/16.
    Lower,
    /// Those of 10.31.0.0/16.
    Upper,
    /// Those of fdff::/16.
    Ipv6,
}

impl Zone {
    /// The name all of its names end in.
    #[must_use]
    pub const fn apex(self) -> &'static str {
        match self {
            Self::Mangrove => "mangrove.",
            Self::Lower => "30.10.in-addr.arpa.",
            Self::Upper => "31.10.in-addr.arpa.",
            Self::Ipv6 => "f.f.d.f.ip6.arpa.",
        }
    }
}

/// What a question leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The address that was wanted.
    Address(IpAddr),
    /// The labels of the name that was wanted, in the order in which they are written.
    Pointer(Vec<String>),
    /// The name exists and has nothing of what is wanted.
    Empty(Zone),
    /// There is no such name, nor any that ends in it.
    NoSuchName(Zone),
    /// The cluster has not yet told what this instance may call.
    NotYet,
}

/// All names that are known at one time.
#[derive(Debug, Clone, Default)]
pub struct Names {
    services: BTreeMap<ServiceId, Arc<CallableService>>,
    /// By application namespace, application, service namespace and service. Two users may have the same.
    full: BTreeMap<Vec<String>, ServiceId>,
    /// By application, service namespace and service.
    short: BTreeMap<Vec<String>, Vec<ServiceId>>,
    owners: BTreeMap<Ipv4Addr, Owner>,
    askers: BTreeMap<IpAddr, InstanceId>,
}

/// What an address is for.
#[derive(Debug, Clone, Copy)]
struct Owner {
    service: ServiceId,
    part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Policy(AddressKind),
    Instance(u32),
}

impl Names {
    /// The names of what the cluster told, for the instances of this device.
    #[must_use]
    pub fn of(surroundings: &Surroundings, attachments: &[Attachment]) -> Self {
        let mut names = Self { services: surroundings.services.clone(), ..Self::default() };
        for (id, service) in &surroundings.services {
            let written = &service.names;
            let path = [
                &written.application_namespace,
                &written.application,
                &written.service_namespace,
                &written.service,
            ];
            let path = path.map(|label| label.to_ascii_lowercase());
            names.short.entry(path[1..].to_vec()).or_default().push(*id);
            // Of two users with the same names the older service has the name: it had it before.
            names.full.entry(path.to_vec()).or_insert(*id);
            for (kind, address) in &*service.addresses {
                names.owners.insert(*address, Owner { service: *id, part: Part::Policy(*kind) });
            }
            for instance in &service.instances {
                let part = Part::Instance(instance.number);
                names.owners.insert(instance.address, Owner { service: *id, part });
            }
        }
        for attachment in attachments {
            let stable = attachment.stable().map(|stable| stable.all());
            let addresses = attachment.addresses.all().into_iter().chain(stable.into_iter().flatten());
            names.askers.extend(addresses.map(|address| (address, attachment.id)));
        }
        names
    }

    /// What `name` leads to when `asker` wants to know; `None` when others are to be asked.
    #[must_use]
    pub fn answer(&self, name: &DomainName, wanted: Wanted, asker: IpAddr) -> Option<Answer> {
        let labels: Vec<&str> = name.0.iter().map(String::as_str).collect();
        match &labels[..] {
            ["mangrove", ..] => Some(self.lead(&name.0[1..], wanted, asker)),
            ["arpa", "in-addr", "10", "30", rest @ ..] => Some(self.name_v4(Zone::Lower, 30, rest, wanted)),
            ["arpa", "in-addr", "10", "31", rest @ ..] => Some(self.name_v4(Zone::Upper, 31, rest, wanted)),
            ["arpa", "ip6", "f", "d", "f", "f", rest @ ..] => Some(self.name_v6(rest, wanted)),
            _ => None,
        }
    }

    fn lead(&self, path: &[String], wanted: Wanted, asker: IpAddr) -> Answer {
        let asker = self.askers.get(&asker);
        if asker.is_some_and(|asker| !self.services.contains_key(&asker.service)) {
            return Answer::NotYet;
        }
        let beside = asker.and_then(|asker| self.services.get(&asker.service));
        match self.find(path, beside.map(|service| service.names.application_namespace.as_str())) {
            Some(found) => match (wanted, found) {
                (Wanted::Ipv4, Some(address)) => Answer::Address(address.v4.into()),
                (Wanted::Ipv6, Some(address)) => Answer::Address(address.v6.into()),
                (Wanted::Ipv4 | Wanted::Ipv6 | Wanted::Pointer | Wanted::Other, _) => {
                    Answer::Empty(Zone::Mangrove)
                }
            },
            None if self.leads_on(path) => Answer::Empty(Zone::Mangrove),
            None => Answer::NoSuchName(Zone::Mangrove),
        }
    }

    /// The address of a name, if the name exists; a service told by an older cluster has none.
    fn find(&self, path: &[String], namespace: Option<&str>) -> Option<Option<StableAddress>> {
        let round_robin = Part::Policy(AddressKind::RoundRobin);
        match path {
            [_, _, _] => self.address(self.by_short_name(path, namespace)?, round_robin),
            [short @ .., part] if path.len() == 4 => match self.full.get(path) {
                Some(service) => self.address(*service, round_robin),
                None => self.address(self.by_short_name(short, namespace)?, Part::parse(part)?),
            },
            [full @ .., part] if path.len() == 5 => self.address(*self.full.get(full)?, Part::parse(part)?),
            _ => None,
        }
    }

    fn by_short_name(&self, path: &[String], namespace: Option<&str>) -> Option<ServiceId> {
        let candidates = self.short.get(path)?;
        let of = |id: &ServiceId| self.services.get(id).map(|service| &service.names.application_namespace);
        let is_beside = |id: &&ServiceId| {
            of(id).zip(namespace).is_some_and(|(of, namespace)| of.eq_ignore_ascii_case(namespace))
        };
        if let Some(beside) = candidates.iter().find(is_beside) {
            return Some(*beside);
        }
        let (first, others) = candidates.split_first()?;
        let alike =
            |other| of(first).zip(of(other)).is_some_and(|(one, other)| one.eq_ignore_ascii_case(other));
        others.iter().all(alike).then_some(*first)
    }

    /// `None` when there is no such part of the service.
    fn address(&self, service: ServiceId, part: Part) -> Option<Option<StableAddress>> {
        let service = self.services.get(&service)?;
        match part {
            Part::Policy(kind) => {
                Some(service.addresses.get(&kind).and_then(|v4| StableAddress::of(kind, *v4)))
            }
            Part::Instance(number) => {
                let instance = service.instances.iter().find(|instance| instance.number == number)?;
                Some(StableAddress::of(AddressKind::Instance, instance.address))
            }
        }
    }

    /// Whether names end in this one. To deny it would deny them as well (RFC 8020).
    fn leads_on(&self, path: &[String]) -> bool {
        fn below<T>(map: &BTreeMap<Vec<String>, T>, path: &[String]) -> bool {
            let mut following = map.range(path.to_vec()..).map(|(key, _)| key);
            following.next().is_some_and(|key| key.len() > path.len() && key.starts_with(path))
        }
        path.is_empty() || below(&self.full, path) || below(&self.short, path)
    }

    fn name_v4(&self, zone: Zone, second: u8, rest: &[&str], wanted: Wanted) -> Answer {
        let octets: Option<Vec<u8>> = rest.iter().map(|label| number(label)).collect();
        match octets.as_deref() {
            Some([third, fourth]) => {
                self.name_of(zone, Ipv4Addr::new(10, second, *third, *fourth).into(), wanted)
            }
            Some([] | [_]) => Answer::Empty(zone),
            Some(_) | None => Answer::NoSuchName(zone),
        }
    }

    fn name_v6(&self, rest: &[&str], wanted: Wanted) -> Answer {
        let digit = |label: &&str| match label.as_bytes() {
            [byte] => char::from(*byte).to_digit(16),
            _ => None,
        };
        let digits: Option<Vec<u32>> = rest.iter().map(digit).collect();
        match digits {
            Some(digits) if digits.len() == 28 => {
                let address = digits.iter().fold(0xfdff, |address, digit| address << 4 | u128::from(*digit));
                self.name_of(Zone::Ipv6, Ipv6Addr::from(address).into(), wanted)
            }
            Some(digits) if digits.len() < 28 => Answer::Empty(Zone::Ipv6),
            Some(_) | None => Answer::NoSuchName(Zone::Ipv6),
        }
    }

    fn name_of(&self, zone: Zone, address: IpAddr, wanted: Wanted) -> Answer {
        let Some(labels) = self.owner(address).and_then(|owner| self.labels(owner)) else {
            return Answer::NoSuchName(zone);
        };
        match wanted {
            Wanted::Pointer => Answer::Pointer(labels),
            Wanted::Ipv4 | Wanted::Ipv6 | Wanted::Other => Answer::Empty(zone),
        }
    }

    fn owner(&self, address: IpAddr) -> Option<Owner> {
        let v4 = match address {
            IpAddr::V4(address) => address,
            // The place in the plan is in the last four bytes, whatever the address is for.
            IpAddr::V6(address) => {
                let [.., a, b, c, d] = address.octets();
                let slot = u32::from_be_bytes([a, b, c, d]);
                let known = (1..=StableAddress::COUNT).contains(&slot);
                known.then(|| StableAddress::at(AddressKind::Instance, slot).v4)?
            }
        };
        let owner = *self.owners.get(&v4)?;
        StableAddress::of(owner.part.kind(), v4)?.all().contains(&address).then_some(owner)
    }

    fn labels(&self, owner: Owner) -> Option<Vec<String>> {
        let names = &self.services.get(&owner.service)?.names;
        let part = match owner.part {
            Part::Policy(AddressKind::RoundRobin) => None,
            Part::Policy(kind) => Some(kind.as_str().replace('_', "-")),
            Part::Instance(number) => Some(number.to_string()),
        };
        let full =
            [&names.service, &names.service_namespace, &names.application, &names.application_namespace];
        let full = full.into_iter().cloned().chain(["mangrove".to_owned()]);
        Some(part.into_iter().chain(full).collect())
    }
}

impl Part {
    fn parse(label: &str) -> Option<Self> {
        let policy =
            AddressKind::OF_A_SERVICE.into_iter().find(|kind| kind.as_str().replace('_', "-") == label);
        policy.map(Self::Policy).or_else(|| number(label).map(Self::Instance))
    }

    const fn kind(self) -> AddressKind {
        match self {
            Self::Policy(kind) => kind,
            Self::Instance(_) => AddressKind::Instance,
        }
    }
}

/// A number as it is written: `07` is none.
fn number<T: std::str::FromStr + ToString>(label: &str) -> Option<T> {
    label.parse().ok().filter(|number: &T| number.to_string() == label)
}
