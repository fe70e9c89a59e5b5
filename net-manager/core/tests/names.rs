//! What each name leads to.

use std::{collections::BTreeMap, net::IpAddr};

use model::{
    AddressKind, CallableInstance, CallableService, Generation, InstanceId, NetworkLease, ServiceId,
    ServiceNames, Surroundings, Weight, WorkerId,
};
use net_core::{Answer, AttachRequest, Command, DomainName, Names, Namespace, NetworkState, Wanted, Zone};

/// Not an instance.
const DEVICE: &str = "169.254.1.1";

fn service_id(number: u8) -> ServiceId {
    ServiceId::from_bytes([number; 12])
}

/// Its addresses are 10.30.`number`.1 to 4, its instance 0 has 10.30.`number`.100, and runs.
fn service(number: u8, path: &str) -> (ServiceId, CallableService) {
    let [service, service_namespace, application, application_namespace] =
        path.split('.').collect::<Vec<_>>().try_into().expect("four names");
    let names = ServiceNames {
        service: String::from(service),
        service_namespace: String::from(service_namespace),
        application: String::from(application),
        application_namespace: String::from(application_namespace),
    };
    let kinds =
        [AddressKind::RoundRobin, AddressKind::Closest, AddressKind::LeastUsed, AddressKind::Affinity];
    let addresses: BTreeMap<_, _> =
        kinds.into_iter().zip(1..).map(|(kind, last)| (kind, [10, 30, number, last].into())).collect();
    let instance = CallableInstance {
        number: 0,
        address: [10, 30, number, 100].into(),
        worker: WorkerId::new(uuid::Uuid::from_bytes([1; 16])),
        ready: false,
        weight: Weight::default(),
    };
    let service = CallableService {
        names: names.into(),
        addresses: addresses.into(),
        allowed_callers: std::sync::Arc::default(),
        instances: vec![instance],
    };
    (service_id(number), service)
}

fn names_of(services: &[(u8, &str)], state: &NetworkState) -> Names {
    let services = services.iter().map(|(number, path)| service(*number, path));
    let services = services.map(|(id, service)| (id, service.into())).collect();
    let surroundings = Surroundings { services, ..Surroundings::default() };
    Names::of(&surroundings, state.attachments())
}

/// A device with instance 0 of that service at 10.18.0.2, and at 10.30.9.9 wherever it runs.
fn with_instance_of(service: u8) -> NetworkState {
    let mut state = NetworkState::default();
    let lease = NetworkLease {
        v4: vec!["10.18.0.0/26".parse().expect("a network")],
        v6: vec!["fc00::/120".parse().expect("a network")],
    };
    let request = AttachRequest {
        id: InstanceId { service: service_id(service), number: 0 },
        generation: Generation(1),
        namespace: Namespace { path: String::from("/proc/1/ns/net"), inode: 1 },
        ports: Vec::new(),
        address: Some([10, 30, 9, 9].into()),
    };
    for command in [Command::UseLease(lease), Command::Attach(request)] {
        for change in state.accept(command).expect("it is granted") {
            state.apply(change);
        }
    }
    state
}

fn ask(names: &Names, name: &str, wanted: Wanted, asker: &str) -> Option<Answer> {
    let name = DomainName::of(name.split('.').filter(|label| !label.is_empty()).map(str::as_bytes));
    names.answer(&name, wanted, asker.parse().expect("an address"))
}

/// What is asked in one word, and the answer likewise.
fn told(names: &Names, question: &str, asker: &str) -> String {
    let (kind, name) = question.split_once(' ').expect("a kind and a name");
    let wanted = match kind {
        "A" => Wanted::Ipv4,
        "AAAA" => Wanted::Ipv6,
        "PTR" => Wanted::Pointer,
        _ => Wanted::Other,
    };
    match ask(names, name, wanted, asker) {
        Some(Answer::Address(address)) => address.to_string(),
        Some(Answer::Pointer(labels)) => labels.join("."),
        Some(Answer::Empty(_)) => String::from("empty"),
        Some(Answer::NoSuchName(_)) => String::from("no such name"),
        Some(Answer::NotYet) => String::from("not yet"),
        None => String::from("ask others"),
    }
}

fn check(names: &Names, asker: &str, table: &[(&str, &str)]) {
    for (question, answer) in table {
        assert_eq!(told(names, question, asker), *answer, "{question} asked by {asker}");
    }
}

#[test]
fn each_name_leads_to_its_address() {
    let names = names_of(&[(1, "web.front.shop.prod")], &NetworkState::default());
    let table = [
        ("A web.front.shop.mangrove", "10.30.1.1"),
        ("A web.front.shop.prod.mangrove", "10.30.1.1"),
        ("AAAA web.front.shop.mangrove", "fdff:2000::101"),
        ("A WEB.Front.sHop.MANGROVE", "10.30.1.1"),
        ("A round-robin.web.front.shop.mangrove", "10.30.1.1"),
        ("A closest.web.front.shop.mangrove", "10.30.1.2"),
        ("A least-used.web.front.shop.mangrove", "10.30.1.3"),
        ("A affinity.web.front.shop.prod.mangrove", "10.30.1.4"),
        ("AAAA affinity.web.front.shop.prod.mangrove", "fdff:4000::104"),
        ("A 0.web.front.shop.mangrove", "10.30.1.100"),
        ("AAAA 0.web.front.shop.prod.mangrove", "fdff::164"),
        ("A 1.web.front.shop.mangrove", "no such name"),
        ("A 00.web.front.shop.mangrove", "no such name"),
        ("A instance.web.front.shop.mangrove", "no such name"),
        ("A web.back.shop.mangrove", "no such name"),
        ("A web.front.shop.test.mangrove", "no such name"),
        ("A 0.0.web.front.shop.prod.mangrove", "no such name"),
        ("ANY web.front.shop.mangrove", "empty"),
        ("PTR web.front.shop.mangrove", "empty"),
        ("A mangrove", "empty"),
        ("A prod.mangrove", "empty"),
        ("A shop.prod.mangrove", "empty"),
        ("A front.shop.prod.mangrove", "empty"),
        ("A front.shop.mangrove", "empty"),
        ("A test.mangrove", "no such name"),
        ("A web.front.shop", "ask others"),
        ("A notmangrove", "ask others"),
        ("A mangrove.example", "ask others"),
        ("A .", "ask others"),
    ];
    check(&names, DEVICE, &table);
}

#[test]
fn each_address_leads_to_its_full_name() {
    let names = names_of(&[(1, "Web.front.shop.prod")], &NetworkState::default());
    let table = [
        ("PTR 1.1.30.10.in-addr.arpa", "Web.front.shop.prod.mangrove"),
        ("PTR 2.1.30.10.in-addr.arpa", "closest.Web.front.shop.prod.mangrove"),
        ("PTR 3.1.30.10.IN-ADDR.arpa", "least-used.Web.front.shop.prod.mangrove"),
        ("PTR 100.1.30.10.in-addr.arpa", "0.Web.front.shop.prod.mangrove"),
        ("A 1.1.30.10.in-addr.arpa", "empty"),
        ("PTR 1.30.10.in-addr.arpa", "empty"),
        ("PTR 9.1.30.10.in-addr.arpa", "no such name"),
        ("PTR 01.1.30.10.in-addr.arpa", "no such name"),
        ("PTR 256.1.30.10.in-addr.arpa", "no such name"),
        ("PTR 1.1.1.30.10.in-addr.arpa", "no such name"),
        ("PTR 1.1.31.10.in-addr.arpa", "no such name"),
        ("PTR 1.1.32.10.in-addr.arpa", "ask others"),
        ("PTR 10.in-addr.arpa", "ask others"),
    ];
    check(&names, DEVICE, &table);
    let v6 = |address: &str| {
        let digits = u128::from(address.parse::<std::net::Ipv6Addr>().expect("an address"));
        let digits: Vec<String> = (0..32).map(|place| format!("{:x}", digits >> (4 * place) & 0xf)).collect();
        told(&names, &format!("PTR {}.ip6.arpa", digits.join(".")), DEVICE)
    };
    assert_eq!(v6("fdff:2000::101"), "Web.front.shop.prod.mangrove");
    assert_eq!(v6("fdff:1000::102"), "closest.Web.front.shop.prod.mangrove");
    assert_eq!(v6("fdff::164"), "0.Web.front.shop.prod.mangrove");
    assert_eq!(v6("fdff:1000::101"), "no such name", "10.30.1.1 is not for the closest");
    assert_eq!(v6("fdff::ffff:ffff"), "no such name");
    assert_eq!(v6("fdff:2000::1:0:101"), "no such name");
    assert_eq!(v6("fdfe::1"), "ask others");
    assert_eq!(told(&names, "PTR 0.0.f.f.d.f.ip6.arpa", DEVICE), "empty");
    assert_eq!(told(&names, "PTR g.f.f.d.f.ip6.arpa", DEVICE), "no such name");
}

#[test]
fn a_short_name_means_the_application_beside_the_one_who_asks() {
    let services = [(1, "web.front.shop.prod"), (2, "web.front.shop.test"), (3, "db.back.books.test")];
    let table = [
        ("A web.front.shop.prod.mangrove", "10.30.1.1"),
        ("A web.front.shop.test.mangrove", "10.30.2.1"),
        ("A db.back.books.mangrove", "10.30.3.1"),
    ];
    for (asker, expected) in [(1, "10.30.1.1"), (2, "10.30.2.1"), (3, "10.30.2.1")] {
        let names = names_of(&services, &with_instance_of(asker));
        for address in ["10.18.0.2", "10.30.9.9", "fc00::2"] {
            check(&names, address, &table);
            check(&names, address, &[("A web.front.shop.mangrove", expected)]);
        }
        check(&names, DEVICE, &table);
        check(&names, DEVICE, &[("A web.front.shop.mangrove", "no such name")]);
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_a_service_by_its_full_name() {
    let services = [(1, "web.front.shop.prod"), (2, "closest.web.front.shop"), (3, "0.web.front.shop")];
    let names = names_of(&services, &NetworkState::default());
    let table = [
        ("A closest.web.front.shop.mangrove", "10.30.2.1"),
        ("A 0.web.front.shop.mangrove", "10.30.3.1"),
        ("A affinity.web.front.shop.mangrove", "10.30.1.4"),
        ("A closest.web.front.shop.prod.mangrove", "10.30.1.2"),
    ];
    check(&names, DEVICE, &table);
}

#[test]
fn of_two_services_with_the_same_names_the_older_has_them() {
    let services = [(2, "web.front.shop.prod"), (1, "Web.front.shop.prod")];
    let names = names_of(&services, &NetworkState::default());
    let table = [("A web.front.shop.mangrove", "10.30.1.1"), ("A web.front.shop.prod.mangrove", "10.30.1.1")];
    check(&names, DEVICE, &table);
}

#[test]
fn before_the_cluster_told_anything_an_instance_is_asked_to_wait() {
    let names = names_of(&[], &with_instance_of(1));
    check(&names, "10.18.0.2", &[("A web.front.shop.mangrove", "not yet"), ("A example.com", "ask others")]);
    check(&names, DEVICE, &[("A web.front.shop.mangrove", "no such name")]);
}

#[test]
fn a_refusal_names_the_zone_it_is_of() {
    let names = names_of(&[], &NetworkState::default());
    let of = |name: &str| match ask(&names, name, Wanted::Pointer, DEVICE) {
        Some(Answer::NoSuchName(zone) | Answer::Empty(zone)) => Some(zone),
        Some(Answer::Address(_) | Answer::Pointer(_) | Answer::NotYet) | None => None,
    };
    assert_eq!(of("web.front.shop.mangrove"), Some(Zone::Mangrove));
    assert_eq!(of("1.2.30.10.in-addr.arpa"), Some(Zone::Lower));
    assert_eq!(of("1.2.31.10.in-addr.arpa"), Some(Zone::Upper));
    assert_eq!(of("0.f.f.d.f.ip6.arpa"), Some(Zone::Ipv6));
    assert_eq!(of("0.f.f.d.e.ip6.arpa"), None);
}

#[test]
fn an_asker_by_another_address_is_nobody() {
    let names = names_of(&[(1, "web.front.shop.prod")], &with_instance_of(2));
    let unknown: IpAddr = "10.18.0.3".parse().expect("an address");
    let name = DomainName::of(["web", "front", "shop", "mangrove"].map(str::as_bytes));
    let expected = Answer::Address("10.30.1.1".parse().expect("an address"));
    assert_eq!(names.answer(&name, Wanted::Ipv4, unknown), Some(expected));
}
