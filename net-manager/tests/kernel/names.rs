//! Names, as instances ask for them.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use model::{CallableService, NetworkNews, PortMapping, ServiceId};
use net_core::Effect;
use net_manager::{
    Config,
    config::NetworkConfig,
    datapath::{Datapath, KernelDatapath},
    names::{Bulletin, Responder},
    uplink::UplinkEvent,
};
use nlink::netlink::route::Ipv4Route;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::{Lab, PATIENCE, Place, echo, index_of, instance, noise, parse, worker};

const NAME_SERVER: &str = "169.254.1.1:53";
/// What the world calls `example.com`.
const EXAMPLE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);

/// The responder of a device, for the life of the test.
struct Names {
    bulletin: Bulletin,
    resolvers: tempfile::NamedTempFile,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Names {
    fn on(lab: &Lab, resolvers: &str) -> Self {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), resolvers).expect("it is written");
        let (bulletin, shutdown) = (Bulletin::default(), CancellationToken::new());
        bulletin.tell(&lab.state);
        let responder = Responder::new(bulletin.clone(), PathBuf::from(file.path()));
        let thread = run_in(&lab.device, {
            let shutdown = shutdown.clone();
            move || responder.run(shutdown)
        });
        Self { bulletin, resolvers: file, shutdown, thread: Some(thread) }
    }
}

/// A thread in the namespace of `place` that runs what `start` makes to its end.
fn run_in<F: Future<Output = ()>>(
    place: &Place,
    start: impl FnOnce() -> F + Send + 'static,
) -> JoinHandle<()> {
    let netns = place.netns.try_clone().expect("a namespace");
    thread::spawn(move || {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async { start().await });
        };
        netns.run(run).expect("a thread in the namespace");
    })
}

/// Waits until `holds` is true of what `look` shows.
fn wait_for(look: impl Fn() -> String, holds: impl Fn(&str) -> bool) {
    let began = Instant::now();
    loop {
        let seen = look();
        if holds(&seen) {
            return;
        }
        assert!(began.elapsed() < 20 * PATIENCE, "at last: {seen}");
        thread::sleep(PATIENCE / 20);
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }
}

fn question(id: u16, name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message.to_vec().expect("it can be written")
}

/// In a word: the answer, or what else came.
fn told(id: u16, reply: &[u8]) -> String {
    let reply = Message::from_vec(reply).expect("a message");
    assert_eq!(reply.id, id, "the answer is to this question");
    if reply.metadata.truncation {
        return "truncated".to_owned();
    }
    match (&reply.answers[..], reply.response_code) {
        ([], ResponseCode::NoError) => "empty".to_owned(),
        ([], code) => format!("{code:?}"),
        ([answer, ..], _) => answer.data.to_string(),
    }
}

fn by_udp(socket: &UdpSocket, name: &str, kind: RecordType) -> io::Result<String> {
    socket.send_to(&question(17, name, kind), NAME_SERVER)?;
    let mut reply = [0; 4096];
    let length = socket.recv(&mut reply)?;
    Ok(told(17, &reply[..length]))
}

/// Both questions over one connection.
fn by_tcp(place: &Place, questions: &[(&str, RecordType)]) -> io::Result<Vec<String>> {
    let server: SocketAddr = NAME_SERVER.parse().expect("an address");
    let mut stream = place.run(|| TcpStream::connect_timeout(&server, PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answers = Vec::new();
    for (name, kind) in questions {
        write_framed(&mut stream, &question(18, name, *kind))?;
        answers.push(told(18, &read_framed(&mut stream)?));
    }
    Ok(answers)
}

fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).expect("a short message").to_be_bytes();
    stream.write_all(&[&length[..], message].concat())
}

fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// Waits until the responder is there, which tries again after a moment when it is not.
fn ask(place: &Place, name: &str, kind: RecordType) -> String {
    let socket = place.udp("0.0.0.0:0");
    let began = Instant::now();
    loop {
        match by_udp(&socket, name, kind) {
            Ok(answer) => return answer,
            Err(error) => assert!(began.elapsed() < 20 * PATIENCE, "{name}: {error}"),
        }
    }
}

/// A name server of the world, and what it was asked: ids, and where from.
#[derive(Clone, Default)]
struct World {
    asked: Arc<Mutex<Vec<(u16, SocketAddr)>>>,
}

impl World {
    fn reply(message: &Message, tcp: bool) -> Message {
        let mut reply = message.clone();
        reply.metadata.message_type = MessageType::Response;
        let name = message.queries[0].name().clone();
        if name.to_ascii() == "large.example.com." && !tcp {
            reply.metadata.truncation = true;
        } else {
            reply.add_answer(Record::from_rdata(name, 60, RData::A(EXAMPLE.into())));
        }
        reply
    }

    /// Answers by UDP and TCP; every answer by UDP comes after two that are forged.
    fn serve(&self, place: &Place) {
        let socket = place.run(|| UdpSocket::bind("198.51.100.7:53")).expect("a free port");
        let listener = place.run(|| TcpListener::bind("198.51.100.7:53")).expect("a free port");
        let asked = Arc::clone(&self.asked);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                let message = Message::from_vec(&buffer[..length]).expect("a question");
                asked.lock().expect("no panic").push((message.id, peer));
                let honest = Self::reply(&message, false);
                let forged = |id, name: &str| {
                    let mut forged = honest.clone();
                    forged.metadata.id = id;
                    forged.queries[0].set_name(Name::from_ascii(name).expect("a name"));
                    forged.answers = vec![Record::from_rdata(
                        forged.queries[0].name().clone(),
                        60,
                        RData::A(Ipv4Addr::new(198, 18, 6, 6).into()),
                    )];
                    forged
                };
                let own = message.queries[0].name().to_ascii();
                for reply in
                    [forged(message.id ^ 1, &own), forged(message.id, "example.org."), honest.clone()]
                {
                    let _gone = socket.send_to(&reply.to_vec().expect("it can be written"), peer);
                }
            }
        });
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                while let Ok(bytes) = read_framed(&mut stream) {
                    let reply = Self::reply(&Message::from_vec(&bytes).expect("a question"), true);
                    let _gone = write_framed(&mut stream, &reply.to_vec().expect("it can be written"));
                }
            }
        });
    }
}

/// A device whose service has instance 1 on it, and one that asks.
async fn lab_with_service() -> (Lab, Place) {
    let mut lab = Lab::new().await;
    let caller = lab.attach_stable(0).await;
    lab.hear(&[(0, worker(1), true), (1, worker(1), true)], &[]).await;
    (lab, caller)
}

#[tokio::test]
async fn an_instance_asks_for_services_and_for_the_world() {
    let (lab, caller) = lab_with_service().await;
    let world = World::default();
    world.serve(&lab.outside);
    let _names = Names::on(&lab, "nameserver 198.51.100.7\n");
    let table = [
        ("web.front.shop.mangrove.", RecordType::A, "10.30.0.1"),
        ("closest.web.front.shop.prod.mangrove.", RecordType::AAAA, "fdff:1000::2"),
        ("1.web.front.shop.mangrove.", RecordType::A, "10.30.1.1"),
        ("2.web.front.shop.mangrove.", RecordType::A, "NXDomain"),
        ("web.front.shop.mangrove.", RecordType::TXT, "empty"),
        ("1.0.30.10.in-addr.arpa.", RecordType::PTR, "web.front.shop.prod.mangrove."),
        ("example.com.", RecordType::A, "203.0.113.7"),
        ("www.example.com.", RecordType::A, "203.0.113.7"),
    ];
    for (name, kind, expected) in table {
        assert_eq!(ask(&caller, name, kind), expected, "{name} {kind}");
    }
    let questions: Vec<_> = table.iter().map(|(name, kind, _)| (*name, *kind)).collect();
    let expected: Vec<_> = table.iter().map(|(.., expected)| *expected).collect();
    assert_eq!(by_tcp(&caller, &questions).expect("answers"), expected);

    assert_eq!(ask(&caller, "large.example.com.", RecordType::A), "truncated");
    let large = by_tcp(&caller, &[("large.example.com.", RecordType::A)]).expect("an answer");
    assert_eq!(large, ["203.0.113.7"]);

    let asked = world.asked.lock().expect("no panic").clone();
    assert!(asked.iter().any(|(id, _)| *id != 17), "ids are not those of instances: {asked:?}");
    let mut ports: Vec<u16> = asked.iter().map(|(_, from)| from.port()).collect();
    ports.dedup();
    assert!(ports.len() > 1, "each question has a port of its own: {asked:?}");
}

#[tokio::test]
async fn whoever_is_outside_is_not_answered() {
    let (lab, caller) = lab_with_service().await;
    let _names = Names::on(&lab, "");
    assert_eq!(ask(&caller, "web.front.shop.mangrove.", RecordType::A), "10.30.0.1");
    assert_eq!(ask(&lab.device, "web.front.shop.mangrove.", RecordType::A), "10.30.0.1");

    let far = lab.outside.route();
    let index = index_of(&far, "up0").await;
    let way = Ipv4Route::new(parse("169.254.1.1"), 32).gateway(parse("192.0.2.1")).dev_index(index);
    far.add_route(way).await.expect("a route");
    let stranger = lab.outside.udp("0.0.0.0:0");
    let silence = by_udp(&stranger, "web.front.shop.mangrove.", RecordType::A).expect_err("no answer");
    assert_eq!(silence.kind(), io::ErrorKind::WouldBlock);
    let silence =
        by_tcp(&lab.outside, &[("web.front.shop.mangrove.", RecordType::A)]).expect_err("no answer");
    assert_eq!(silence.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn whatever_one_instance_asks_another_is_answered() {
    let (mut lab, caller) = lab_with_service().await;
    let hostile = lab.attach_stable(2).await;
    let _names = Names::on(&lab, "");
    assert_eq!(ask(&caller, "web.front.shop.mangrove.", RecordType::A), "10.30.0.1");
    let socket = hostile.udp("0.0.0.0:0");
    let honest = question(1, "web.front.shop.mangrove.", RecordType::A);
    let mut seed = 1;
    for round in 0..300 {
        // Chance; a question that is cut; one with a byte altered; one with a tail; a name that points at itself.
        let mut altered = honest.clone();
        altered[round % honest.len()] ^= 0xff;
        let pointer = [&honest[..12], &[0xc0, 12, 0, 1, 0, 1]].concat();
        let tail = [&honest[..], &noise(&mut seed, 4_500)].concat();
        let chance = noise(&mut seed, [0, 11, 12, 40, 1232][round % 5]);
        for bytes in [&chance[..], &honest[..round % honest.len()], &altered, &pointer, &tail] {
            let _full = socket.send_to(bytes, NAME_SERVER);
        }
    }
    // More connections than there may be, with a length and too little after it.
    let streams: Vec<TcpStream> = (0..100)
        .filter_map(|_| {
            let mut stream = hostile.run(|| TcpStream::connect(NAME_SERVER)).ok()?;
            stream.write_all(&[0xff, 0xff, 0, 1]).ok()?;
            Some(stream)
        })
        .collect();
    assert!(streams.len() > 10);
    assert_eq!(ask(&caller, "web.front.shop.mangrove.", RecordType::A), "10.30.0.1");
    drop(streams);
    let answer = || by_tcp(&caller, &[("web.front.shop.mangrove.", RecordType::A)]);
    wait_for(|| format!("{:?}", answer()), |answer| answer.contains("10.30.0.1"));
}

#[tokio::test]
async fn an_instance_may_have_port_53_of_the_device() {
    let (mut lab, caller) = lab_with_service().await;
    let _names = Names::on(&lab, "");
    assert_eq!(ask(&caller, "web.front.shop.mangrove.", RecordType::A), "10.30.0.1");

    let ports = PortMapping::parse_list("53:53;53:53/udp").expect("port mappings");
    lab.datapath.reserve_ports(instance(7), &ports).expect("names are asked at another address");
    let (server, _) = lab.attach(7, "53:53;53:53/udp").await;
    server.serve_udp("server", 53);
    assert_eq!(echo(&lab.outside.udp("0.0.0.0:0"), "192.0.2.1:53").as_deref(), Some("server"));
    assert_eq!(ask(&caller, "web.front.shop.mangrove.", RecordType::A), "10.30.0.1");
    assert_eq!(ask(&lab.device, "web.front.shop.mangrove.", RecordType::A), "10.30.0.1");
}

#[tokio::test]
async fn a_server_that_is_silent_is_passed_over_and_the_list_is_read_again() {
    let (lab, caller) = lab_with_service().await;
    World::default().serve(&lab.outside);
    // Takes the question and says nothing.
    let _silent = lab.device.udp("127.0.0.1:53");
    let names = Names::on(&lab, "nameserver 127.0.0.1\nnameserver 198.51.100.7\n");
    assert_eq!(ask(&caller, "web.front.shop.mangrove.", RecordType::A), "10.30.0.1");

    let patient = caller.udp("0.0.0.0:0");
    patient.set_read_timeout(Some(Duration::from_secs(4))).expect("a deadline");
    let began = Instant::now();
    assert_eq!(by_udp(&patient, "example.com.", RecordType::A).expect("an answer"), EXAMPLE.to_string());
    assert!(began.elapsed() >= Duration::from_secs(2), "the first was asked first");

    std::fs::write(names.resolvers.path(), "nameserver 198.51.100.7\n").expect("it is written");
    let began = Instant::now();
    assert_eq!(by_udp(&patient, "example.com.", RecordType::A).expect("an answer"), EXAMPLE.to_string());
    assert!(began.elapsed() < Duration::from_secs(2), "the list was read again");

    std::fs::write(names.resolvers.path(), "nameserver 169.254.1.1\n").expect("it is written");
    assert_eq!(by_udp(&patient, "example.com.", RecordType::A).expect("an answer"), "ServFail");
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_and_tried_again() {
    let (lab, caller) = lab_with_service().await;
    let taken = lab.device.udp(NAME_SERVER);
    let names = Names::on(&lab, "");
    wait_for(|| names.bulletin.trouble().unwrap_or_default(), |trouble| !trouble.is_empty());
    assert_eq!(
        names.bulletin.trouble().expect("it is told"),
        "instances cannot ask for names: cannot listen on 169.254.1.1:53: Address already in use (os error 98); if a \
         name server runs on this device, let it listen on addresses of its own"
    );
    drop(taken);
    assert_eq!(ask(&caller, "web.front.shop.mangrove.", RecordType::A), "10.30.0.1");
    assert_eq!(names.bulletin.trouble(), None);
}

#[tokio::test]
async fn the_address_for_names_is_put_back_and_purged() {
    let (mut lab, _caller) = lab_with_service().await;
    lab.device.route().del_address_v4("lo", parse("169.254.1.1"), 32).await.expect("our address");
    assert_eq!(lab.settle().await, [Effect::OfferNames]);
    let is_there = async |lab: &Lab| {
        let addresses = lab.device.route().get_addresses_by_index(1).await.expect("netlink");
        let ours: IpAddr = parse("169.254.1.1");
        addresses.iter().any(|address| address.primary_address() == Some(&ours))
    };
    assert!(is_there(&lab).await);
    lab.datapath.purge_all().await.expect("a purge");
    assert!(!is_there(&lab).await);
}

#[tokio::test]
async fn the_daemon_answers_what_the_cluster_told_and_says_what_keeps_it_from_answering() {
    let (lab, _caller) = lab_with_service().await;
    let directory = tempfile::tempdir().expect("a directory");
    let key = directory.path().join("key");
    let (cluster, uplink_source) = mpsc::channel(4);
    let config = Config {
        network: NetworkConfig::default(),
        state_directory: directory.path().join("state"),
        local_key: key.clone(),
        log: daemon::RecentLines::default(),
        uplink_source: Some(uplink_source),
        resolvers: Some(directory.path().join("resolv.conf")),
    };
    let listener = lab.device.run(|| TcpListener::bind("127.0.0.1:0")).expect("a free port");
    listener.set_nonblocking(true).expect("a setting");
    let port = listener.local_addr().expect("an address").port();
    let shutdown = CancellationToken::new();
    let taken = lab.device.udp(NAME_SERVER);
    let daemon = run_in(&lab.device, {
        let shutdown = shutdown.clone();
        async move || {
            let datapath = KernelDatapath::open().await.expect("a kernel");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            net_manager::run_with(config, listener, shutdown, datapath).await.expect("an orderly end");
        }
    });
    let told = |services: &BTreeMap<ServiceId, Arc<CallableService>>| {
        let services = services.iter().map(|(id, service)| (*id, Some(Arc::clone(service)))).collect();
        UplinkEvent::News(NetworkNews { whole: true, services, ..NetworkNews::default() })
    };
    cluster.send(told(&lab.state.surroundings().services)).await.expect("it listens");

    let status = || {
        let answer = lab.device.run(|| net_manager::describe_status(port, &key));
        answer.unwrap_or_else(|error| format!("{error:#}"))
    };
    wait_for(status, |status| status.contains("instances cannot ask for names"));
    drop(taken);
    assert_eq!(ask(&lab.device, "web.front.shop.mangrove.", RecordType::A), "10.30.0.1");
    wait_for(status, |status| !status.contains("names"));

    cluster.send(told(&BTreeMap::new())).await.expect("it listens");
    let look = || ask(&lab.device, "web.front.shop.mangrove.", RecordType::A);
    wait_for(look, |answer| answer == "NXDomain");
    shutdown.cancel();
    daemon.join().expect("no panic");
}
