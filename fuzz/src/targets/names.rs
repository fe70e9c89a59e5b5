//! What an instance may ask about names, and what a name server may answer.

// Without all of NetManager, which takes minutes to build.
#[path = "../../../net-manager/src/names/message.rs"]
mod message;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, LazyLock},
};

use message::{NoRequest, Request};
use model::{AddressKind, CallableService, ServiceId, ServiceNames, Surroundings};
use net_core::Names;

const ASKER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 30, 1, 0));

/// Those of one service.
static NAMES: LazyLock<Names> = LazyLock::new(|| {
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
    Names::of(&Surroundings { services, ..Surroundings::default() }, &[])
});

pub(crate) fn take(data: &[u8]) {
    let request = match Request::read(data) {
        Ok(request) => request,
        Err(NoRequest::Noise) => return,
        Err(NoRequest::Refused(reply)) => {
            assert_eq!(Request::read(&reply), Err(NoRequest::Noise), "an answer asks for no answer");
            return;
        }
    };
    assert!(!request.is_answered_by(request.id(), data), "a question answers nothing");
    let replies = [
        NAMES
            .answer(&request.name(), request.wanted(), ASKER)
            .and_then(|answer| request.answered(&answer, data)),
        request.unanswered(),
        request.truncated(),
    ];
    for reply in replies.into_iter().flatten() {
        assert_eq!(Request::read(&reply), Err(NoRequest::Noise), "an answer asks for no answer");
        assert!(request.is_answered_by(request.id(), &reply), "an answer is to its question");
        let _another_may_know = message::is_refusal(&reply);
    }
}
