//! What NetManagers are told arrives whole, or is refused by the name of what is wrong.

use super::*;

fn peer() -> Peer {
    let way = Way::Secure {
        endpoint: ([10, 0, 0, 2], 50103).into(),
        observed: Some(([198, 51, 100, 7], 4000).into()),
        relay: Some(RelayPlace::At(([203, 0, 113, 1], 50105).into())),
        key: TunnelKey([7; 32]),
        kernel_port: Some(50107),
    };
    Peer { way, lease: NetworkLease { v4: vec![], v6: vec![] } }
}

fn worker() -> WorkerId {
    WorkerId::new(Uuid::from_bytes([1; 16]))
}

#[test]
fn all_places_of_a_device_and_its_relay_arrive() {
    let by = |relay| match peer().way {
        Way::Secure { endpoint, key, .. } => {
            Peer { way: Way::Secure { endpoint, observed: None, relay, key, kernel_port: None }, ..peer() }
        }
        Way::Direct { .. } => panic!("it is encrypted"),
    };
    for peer in [peer(), by(None), by(Some(RelayPlace::Root))] {
        assert_eq!(peer_from_wire(peer_to_wire(worker(), Some(&peer))), Ok((worker(), Some(peer.into()))));
    }
}

#[test]
fn places_where_nobody_can_be_are_refused_by_name() {
    for place in ["0.0.0.0:1", "[::]:1", "224.0.0.1:1", "192.0.2.1:0", "192.0.2.1", "nowhere"] {
        let observed =
            v1::NetworkPeer { observed: place.to_owned(), ..peer_to_wire(worker(), Some(&peer())) };
        let error = peer_from_wire(observed).expect_err(place).to_string();
        assert!(error.contains("peer.observed"), "{error}");
        let mailbox = v1::Mailbox { at_root: place.to_owned() };
        let error = read_mailbox(&mailbox).expect_err(place).to_string();
        assert!(error.contains("mailbox.at_root"), "{error}");
        let relay = v1::NetworkPeer { relay: place.to_owned(), ..peer_to_wire(worker(), Some(&peer())) };
        let error = peer_from_wire(relay).expect_err(place).to_string();
        assert!(error.contains("peer.relay"), "{error}");
    }
}

#[test]
fn an_offer_of_a_relay_arrives_whole_or_is_refused() {
    let offer = RelayOffer { address: None, port: 50105, session: 7, key: [7; 32] };
    for offer in [offer.clone(), RelayOffer { address: Some(([203, 0, 113, 1]).into()), ..offer.clone() }] {
        let read = NetworkReader::default().read(relay_message(Some(&offer), None)).expect("a message");
        assert_eq!((read.lease, read.news, read.relay), (None, NetworkNews::default(), Some(offer)));
    }
    let mut wrong = relay_message(Some(&offer), None);
    wrong.relay.as_mut().expect("an offer").key.pop();
    assert!(NetworkReader::default().read(wrong).is_err());
    assert_eq!(format!("{offer:?}"), "RelayOffer(0000000000000007, key withheld)");
}

#[test]
fn a_loan_of_the_roots_relay_arrives_whole_or_is_refused_and_its_key_is_not_shown() {
    let loan = RelayLoan { address: None, port: 50106, key: [7; 32] };
    for loan in [loan.clone(), RelayLoan { address: Some(([203, 0, 113, 1]).into()), ..loan.clone() }] {
        let read = NetworkReader::default().read(relay_message(None, Some(&loan))).expect("a message");
        assert_eq!((read.relay, read.root_relay), (None, Some(loan)));
    }
    let mut wrong = relay_message(None, Some(&loan));
    wrong.root_relay.as_mut().expect("a loan").key.pop();
    assert!(NetworkReader::default().read(wrong).is_err());
    assert_eq!(format!("{loan:?}"), "RelayLoan(None 50106, key withheld)");
}

#[test]
fn a_device_says_where_it_is_reached_and_a_greeting_says_nothing_of_it() {
    for at_root in [None, Some(([198, 51, 100, 7], 4000).into())] {
        let mailbox = network_mailbox(at_root).mailbox.expect("it says so");
        assert_eq!(read_mailbox(&mailbox), Ok(at_root));
    }
    assert_eq!(network_hello("1", None).mailbox, None);
}

fn instance(number: u32) -> CallableInstance {
    CallableInstance {
        number,
        address: Ipv4Addr::new(10, 30, 1, 1),
        worker: worker(),
        ready: true,
        weight: Weight::default(),
    }
}

const SERVICE: ServiceId = ServiceId::from_bytes([3; 12]);

/// A service with these instances.
fn told(numbers: &[u32]) -> NetworkNews {
    let names = ServiceNames {
        application: "shop".to_owned(),
        application_namespace: "prod".to_owned(),
        service: "web".to_owned(),
        service_namespace: "front".to_owned(),
    };
    let service = CallableService {
        names: names.into(),
        addresses: Arc::default(),
        allowed_callers: Arc::default(),
        instances: numbers.iter().map(|number| instance(*number)).collect(),
    };
    NetworkNews { whole: true, services: [(SERVICE, Some(service.into()))].into(), ..NetworkNews::default() }
}

fn different(news: &[(u32, Option<CallableInstance>)]) -> NetworkNews {
    let news: InstanceNews = news.iter().copied().collect();
    NetworkNews { instances: [(SERVICE, news.into())].into(), ..NetworkNews::default() }
}

#[test]
fn what_is_different_arrives_as_it_was_after_what_it_is_different_from() {
    let mut reader = NetworkReader::default();
    let different = different(&[(1, None), (2, Some(instance(2)))]);
    for news in [told(&[0, 1]), different.clone(), different] {
        let read = reader.read(network_message(None, &news)).expect("a message");
        assert_eq!(read.news, news);
    }
}

#[test]
fn instances_of_a_service_that_was_not_told_of_are_refused_by_name() {
    let different = different(&[(1, None)]);
    let gone = NetworkNews { services: [(SERVICE, None)].into(), ..NetworkNews::default() };
    let nothing = NetworkNews { whole: true, ..NetworkNews::default() };
    for before in [vec![], vec![told(&[1]), gone], vec![told(&[1]), nothing]] {
        let mut reader = NetworkReader::default();
        for news in &before {
            reader.read(network_message(None, news)).expect("a message");
        }
        let error = reader.read(network_message(None, &different)).expect_err("nobody told of it");
        let error = error.to_string();
        assert!(error.contains("instances are of service 0303") && error.contains("not told of"), "{error}");
    }
    let mut reader = NetworkReader::default();
    let both = NetworkNews { instances: different.instances, ..told(&[1]) };
    assert!(reader.read(network_message(None, &both)).is_err(), "different from what?");
}

#[test]
fn an_instance_that_is_named_twice_is_refused() {
    for numbers in [[1, 1], [2, 1]] {
        let error = NetworkReader::default().read(network_message(None, &told(&numbers)));
        let error = error.expect_err("out of order").to_string();
        assert!(error.contains("service.instances are not in order"), "{error}");
    }
    let mut reader = NetworkReader::default();
    reader.read(network_message(None, &told(&[1, 2]))).expect("a message");
    let once = network_message(None, &different(&[(1, Some(instance(1)))]));
    let mut gone_too = once.clone();
    gone_too.instances[0].gone.push(1);
    let mut twice = once.clone();
    let same = twice.instances[0].instances[0].clone();
    twice.instances[0].instances.push(same);
    for wrong in [gone_too, twice] {
        let error = reader.read(wrong).expect_err("once too often").to_string();
        assert!(error.contains("instances name one of them twice"), "{error}");
    }
    assert!(reader.read(once).is_ok());
}
