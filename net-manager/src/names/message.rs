//! Questions and answers as they are on the wire (RFC 1035). What a name leads to is said by `net_core::Names`.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, PTR, SOA},
    },
    serialize::binary::{BinDecodable, BinDecoder},
};
use net_core::{Answer, DomainName, Wanted, Zone};

/// Addresses of services and instances do not change, and what they lead to is chosen anew by the kernel for each
/// connection, so an answer could be kept for long. A service that is removed and made anew has another address; nobody
/// misses it for longer than this.
const TIME_TO_LIVE: u32 = 5;
/// Whoever waits for a service or an instance to come asks again after this.
const TIME_TO_LIVE_OF_NO: u32 = 1;
/// What a client may send in one datagram: fits every link without being cut (DNS flag day 2020).
const LARGEST_REQUEST: u16 = 1232;

/// One question, from whoever asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    header: Header,
    question: Query,
}

/// Bytes that are no question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoRequest {
    /// Not even somebody to answer to.
    Noise,
    /// The answer to it.
    Refused(Vec<u8>),
}

impl Request {
    /// The question in `bytes`.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, NoRequest> {
        let mut decoder = BinDecoder::new(bytes);
        let Ok(header) = Header::read(&mut decoder) else { return Err(NoRequest::Noise) };
        // An answer to an answer could go round for ever.
        if header.message_type == MessageType::Response {
            return Err(NoRequest::Noise);
        }
        let refused =
            |code| Err(written(&response(&header, code)).map_or(NoRequest::Noise, NoRequest::Refused));
        if header.op_code != OpCode::Query {
            return refused(ResponseCode::NotImp);
        }
        match Query::read(&mut decoder) {
            Ok(question) if header.counts.queries == 1 => Ok(Self { header, question }),
            Ok(_) | Err(_) => refused(ResponseCode::FormErr),
        }
    }

    pub(super) fn name(&self) -> DomainName {
        DomainName::of(self.question.name().iter())
    }

    pub(super) fn wanted(&self) -> Wanted {
        let query_type = self.question.query_type();
        let wanted = [
            (RecordType::A, Wanted::Ipv4),
            (RecordType::AAAA, Wanted::Ipv6),
            (RecordType::PTR, Wanted::Pointer),
        ];
        wanted.into_iter().find(|(kind, _)| *kind == query_type).map_or(Wanted::Other, |(_, wanted)| wanted)
    }

    /// `answer` to the question in `bytes`, which this was read from.
    pub(super) fn answered(&self, answer: &Answer, bytes: &[u8]) -> Option<Vec<u8>> {
        let Ok(whole) = Message::from_vec(bytes) else { return self.failed(ResponseCode::FormErr) };
        if self.question.query_class() != DNSClass::IN {
            return self.failed(ResponseCode::Refused);
        }
        let mut message = self.response(ResponseCode::NoError);
        message.metadata.authoritative = true;
        if whole.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(LARGEST_REQUEST);
            message.set_edns(edns);
        }
        let data = match answer {
            Answer::Address(IpAddr::V4(address)) => RData::A(A(*address)),
            Answer::Address(IpAddr::V6(address)) => RData::AAAA(AAAA(*address)),
            Answer::Pointer(labels) => {
                RData::PTR(PTR(Name::from_labels(labels.iter().map(String::as_str)).ok()?))
            }
            Answer::Empty(zone) => {
                message.add_authority(authority(*zone)?);
                return written(&message);
            }
            Answer::NoSuchName(zone) => {
                message.metadata.response_code = ResponseCode::NXDomain;
                message.add_authority(authority(*zone)?);
                return written(&message);
            }
            Answer::NotYet => return self.failed(ResponseCode::ServFail),
        };
        message.add_answer(Record::from_rdata(self.question.name().clone(), TIME_TO_LIVE, data));
        written(&message)
    }

    /// Nobody answered, or nobody could be asked.
    pub(super) fn unanswered(&self) -> Option<Vec<u8>> {
        self.failed(ResponseCode::ServFail)
    }

    /// The answer does not fit: to be asked again by TCP.
    pub(super) fn truncated(&self) -> Option<Vec<u8>> {
        let mut message = self.response(ResponseCode::NoError);
        message.metadata.truncation = true;
        written(&message)
    }

    /// Whether `reply` answers this question when it was sent as `id`.
    pub(super) fn is_answered_by(&self, id: u16, reply: &[u8]) -> bool {
        let mut decoder = BinDecoder::new(reply);
        let Ok(header) = Header::read(&mut decoder) else { return false };
        header.id == id
            && header.message_type == MessageType::Response
            && header.counts.queries == 1
            && Query::read(&mut decoder).is_ok_and(|question| question == self.question)
    }

    pub(super) fn id(&self) -> u16 {
        self.header.id
    }

    fn failed(&self, code: ResponseCode) -> Option<Vec<u8>> {
        written(&self.response(code))
    }

    fn response(&self, code: ResponseCode) -> Message {
        let mut message = response(&self.header, code);
        message.add_query(self.question.clone());
        message
    }
}

/// Whether another name server may know better: this one could not or would not answer.
pub(super) fn is_refusal(reply: &[u8]) -> bool {
    Header::read(&mut BinDecoder::new(reply)).is_ok_and(|header| {
        [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp].contains(&header.response_code)
    })
}

fn response(request: &Header, code: ResponseCode) -> Message {
    let mut message = Message::error_msg(request.id, request.op_code, code);
    message.metadata.recursion_desired = request.recursion_desired;
    message.metadata.recursion_available = true;
    message
}

/// Who may say that something is not there, and how long that is believed (RFC 2308).
fn authority(zone: Zone) -> Option<Record> {
    let apex = Name::from_ascii(zone.apex()).ok()?;
    let nobody = Name::from_ascii("nobody.invalid.").ok()?;
    let start = SOA::new(apex.clone(), nobody, 1, 60, 60, 60, TIME_TO_LIVE_OF_NO);
    Some(Record::from_rdata(apex, TIME_TO_LIVE_OF_NO, RData::SOA(start)))
}

fn written(message: &Message) -> Option<Vec<u8>> {
    message.to_vec().inspect_err(|error| tracing::debug!(%error, "an answer cannot be written")).ok()
}
