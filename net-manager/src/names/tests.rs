//! What is said to any bytes, and what becomes of the answer of another server.

use std::net::Ipv4Addr;

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use model::{AddressKind, CallableService, ServiceId, ServiceNames};
use proptest::prelude::*;

use super::*;

fn surroundings() -> Surroundings {
    let names = ServiceNames {
        service: "web".to_owned(),
        service_namespace: "front".to_owned(),
        application: "shop".to_owned(),
        application_namespace: "prod".to_owned(),
    };
    let service = CallableService {
        names: names.into(),
        addresses: Arc::new([(AddressKind::RoundRobin, Ipv4Addr::new(10, 30, 0, 1))].into()),
        allowed_callers: Arc::default(),
        instances: Vec::new(),
    };
    let services = [(ServiceId::from_bytes([1; 12]), Arc::new(service))].into();
    Surroundings { services, ..Surroundings::default() }
}

fn desk(under_way: usize) -> Desk {
    let told = Told { surroundings: surroundings(), attachments: Vec::new() };
    let (_sender, mut told) = watch::channel(Some(Arc::new(told)));
    told.mark_changed();
    Desk {
        shelf: Mutex::new(Shelf { told, names: Arc::new(Names::of(&surroundings(), &[])) }),
        upstream: Arc::new(Upstream::new(PathBuf::from("/nonexistent"))),
        under_way: Arc::new(Semaphore::new(under_way)),
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message
}

fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().expect("it can be written")
}

fn reply(desk: &Desk, bytes: &[u8]) -> Option<Message> {
    match desk.consider(bytes, NAME_SERVER.into()) {
        Step::Nothing => None,
        Step::Reply(reply) => Some(Message::from_vec(&reply).expect("a message")),
        Step::HandOn(..) => panic!("it is handed on"),
    }
}

#[test]
fn an_address_is_told_with_what_was_asked() {
    let mut asked = question("WEB.front.shop.mangrove.", RecordType::A);
    asked.set_edns(Edns::new());
    let reply = reply(&desk(1), &bytes(&asked)).expect("an answer");
    let flags =
        (reply.metadata.authoritative, reply.metadata.recursion_desired, reply.metadata.recursion_available);
    assert_eq!((reply.id, reply.message_type, flags), (7, MessageType::Response, (true, true, true)));
    assert_eq!(reply.queries, asked.queries);
    assert!(reply.queries[0].name().eq_case(asked.queries[0].name()), "in the letters that were asked for");
    let [answer] = &reply.answers[..] else { panic!("{reply}") };
    assert_eq!((answer.ttl, &answer.data), (5, &RData::A(Ipv4Addr::new(10, 30, 0, 1).into())));
    assert!(reply.edns.is_some(), "whoever speaks EDNS is answered in EDNS");
    assert!(reply.authorities.is_empty());
}

#[test]
fn what_is_not_there_is_denied_for_a_second() {
    let desk = desk(1);
    for (name, code) in
        [("api.front.shop.mangrove.", ResponseCode::NXDomain), ("mangrove.", ResponseCode::NoError)]
    {
        let reply = reply(&desk, &bytes(&question(name, RecordType::A))).expect("an answer");
        assert_eq!((reply.response_code, reply.answers.len(), reply.edns.is_some()), (code, 0, false));
        let [authority] = &reply.authorities[..] else { panic!("{reply}") };
        assert_eq!((authority.name.to_ascii().as_str(), authority.ttl), ("mangrove.", 1));
        let RData::SOA(start) = &authority.data else { panic!("{authority}") };
        assert_eq!(start.minimum, 1);
    }
}

#[test]
fn what_is_no_question_is_refused_or_not_heard() {
    let desk = desk(1);
    let code = |message: &Message| reply(&desk, &bytes(message)).map(|reply| reply.response_code);
    let mut answer = question("web.front.shop.mangrove.", RecordType::A);
    answer.metadata.message_type = MessageType::Response;
    assert_eq!(code(&answer), None);
    let mut update = question("web.front.shop.mangrove.", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(&update), Some(ResponseCode::NotImp));
    let mut two = question("web.front.shop.mangrove.", RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(code(&two), Some(ResponseCode::FormErr));
    assert_eq!(code(&Message::new(7, MessageType::Query, OpCode::Query)), Some(ResponseCode::FormErr));
    let mut chaos = question("web.front.shop.mangrove.", RecordType::TXT);
    chaos.queries[0].set_query_class(hickory_proto::rr::DNSClass::CH);
    assert_eq!(code(&chaos), Some(ResponseCode::Refused));
    assert!(reply(&desk, &[0; 11]).is_none());
}

#[test]
fn one_question_too_many_for_others_fails_at_once() {
    let desk = desk(1);
    let asked = bytes(&question("example.com.", RecordType::A));
    let Step::HandOn(_, permit) = desk.consider(&asked, NAME_SERVER.into()) else { panic!("there is room") };
    assert_eq!(reply(&desk, &asked).expect("an answer").response_code, ResponseCode::ServFail);
    drop(permit);
    assert!(matches!(desk.consider(&asked, NAME_SERVER.into()), Step::HandOn(..)));
}

#[test]
fn only_the_answer_to_the_very_question_counts() {
    let asked = question("example.com.", RecordType::A);
    let request = Request::read(&bytes(&asked)).expect("a question");
    let mut answer = asked.clone();
    answer.metadata.message_type = MessageType::Response;
    assert!(request.is_answered_by(7, &bytes(&answer)));
    assert!(!request.is_answered_by(8, &bytes(&answer)));
    assert!(!request.is_answered_by(7, &bytes(&asked)), "a question is no answer");
    for (name, kind) in [("example.org.", RecordType::A), ("example.com.", RecordType::AAAA)] {
        let mut other = question(name, kind);
        other.metadata.message_type = MessageType::Response;
        assert!(!request.is_answered_by(7, &bytes(&other)), "{name} {kind}");
    }
}

proptest! {
    #[test]
    fn no_bytes_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _step = desk(1).consider(&bytes, NAME_SERVER.into());
        if let Ok(request) = Request::read(&bytes) {
            request.is_answered_by(0, &bytes);
        }
    }

    #[test]
    fn no_damage_to_a_question_is_too_much(
        name in "([a-z0-9]{1,12}\\.){0,5}(mangrove|in-addr\\.arpa|ip6\\.arpa)\\.",
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut asked = question(&name, RecordType::A);
        asked.set_edns(Edns::new());
        let mut asked = bytes(&asked);
        for (index, byte) in damage {
            let place = index.index(asked.len());
            asked[place] = byte;
        }
        asked.extend(tail);
        if let Step::Reply(reply) = desk(1).consider(&asked, NAME_SERVER.into()) {
            prop_assert!(reply.len() <= 1232, "it fits into a datagram");
            prop_assert_eq!(&reply[..2], &asked[..2]);
            prop_assert!(Message::from_vec(&reply).is_ok());
        }
    }
}
