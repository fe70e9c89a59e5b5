//! Passages on a real kernel: what is known goes past the rules, and what they no longer let through ends.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use net_core::LinkName;

use crate::{
    services::peer,
    support::{Lab, Place, connect_from, instance, parse, run, worker},
};

/// The service's address.
const SERVICE: &str = "10.30.0.1:9";
const LENGTH: usize = 200_000_000;
const MUCH: usize = 8_000_000;
/// Nothing is lost on the way, so what has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(10);
/// After an address has gone: a passage is good for a fifth of this.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// Reads to the end of one connection.
fn receive(at: &Place) -> JoinHandle<usize> {
    let listener = at.run(|| TcpListener::bind("0.0.0.0:9")).expect("a free port");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a deadline");
        let (mut buffer, mut all) = (vec![0; 1 << 20], 0);
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            all += length;
        }
        all
    })
}

fn connect(caller: &Place) -> TcpStream {
    let address: SocketAddr = parse(SERVICE);
    let stream = caller.run(|| TcpStream::connect(address)).expect("a connection");
    stream.set_write_timeout(Some(PATIENCE)).expect("a deadline");
    stream
}

/// Counts the packets to port 9 that rules see, from now on.
fn watch(device: &Place) {
    run(
        device,
        "nft",
        "table inet watch { chain forward { type filter hook forward priority -10; tcp dport 9 counter; }; }\n",
    );
}

fn watched(device: &Place) -> u32 {
    let told = device.run(|| Command::new("nft").args(["list", "table", "inet", "watch"]).output());
    let told = String::from_utf8(told.expect("an answer").stdout).expect("text");
    let mut words = told.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no count in {told}"))
}

/// A caller on one device; what it calls is beside it, or on another.
async fn world(far: bool) -> (Vec<Lab>, Place, Place) {
    if !far {
        let mut lab = Lab::new().await;
        let (caller, server) = (lab.attach_stable(0).await, lab.attach_stable(1).await);
        lab.hear(&[(1, worker(1), true)], &[]).await;
        return (vec![lab], caller, server);
    }
    let (mut first, mut second) = Lab::pair().await;
    let (caller, server) = (first.attach_stable(0).await, second.attach_stable(1).await);
    let instances = [(0, worker(1), false), (1, worker(2), true)];
    for (lab, other, address, v4, v6) in [
        (&mut first, 2, "192.0.2.2", "10.18.0.64/26", "fc00::100/120"),
        (&mut second, 1, "192.0.2.1", "10.18.0.0/26", "fc00::/120"),
    ] {
        lab.hear(&instances, &[(worker(other), peer(address, v4, v6))]).await;
    }
    (vec![first, second], caller, server)
}

#[tokio::test]
async fn of_a_long_connection_few_packets_go_by_the_rules() {
    for far in [false, true] {
        let (labs, caller, server) = world(far).await;
        for lab in &labs {
            watch(&lab.device);
        }
        let received = receive(&server);
        let mut stream = connect(&caller);
        stream.write_all(&vec![7; LENGTH]).expect("all of it");
        drop(stream);
        assert_eq!(received.join().expect("a receiver"), LENGTH);
        for lab in &labs {
            let seen = watched(&lab.device);
            // The largest packet there is has 64 KiB.
            assert!(seen > 2, "{seen}: the first packets do");
            assert!((seen as usize) < LENGTH / 65_536 / 3, "far: {far}: {seen} packets went by the rules");
        }
    }
}

#[tokio::test]
async fn a_busy_connection_ends_when_its_instance_goes() {
    let (mut labs, caller, server) = world(true).await;
    let received = receive(&server);
    let mut stream = connect(&caller);
    let sender = std::thread::spawn(move || {
        let content = vec![7; 1 << 20];
        while stream.write_all(&content).is_ok() {}
        Instant::now()
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let gone = Instant::now();
    let beyond = peer("192.0.2.2", "10.18.0.64/26", "fc00::100/120");
    labs[0].hear(&[(0, worker(1), false)], &[(worker(2), beyond)]).await;
    let ended = sender.join().expect("a sender");
    let after = ended.saturating_duration_since(gone);
    assert!(after < ENDS_WITHIN, "it went on for {after:?}");
    // It waits for what does not come.
    drop(received);
}

/// A passage of before would lead what follows the first packet to whom that one was not led.
#[tokio::test]
async fn who_calls_again_from_the_same_port_has_no_passage() {
    let mut lab = Lab::new().await;
    let caller = lab.attach_stable(0).await;
    let servers = [lab.attach_stable(1).await, lab.attach_stable(2).await];
    for (server, name) in servers.iter().zip([1, 2]) {
        serve_much(server, name);
    }
    for name in [1_u8, 2].iter().cycle().take(20) {
        lab.hear(&[(u32::from(*name), worker(1), true)], &[]).await;
        let mut stream = caller.run(|| connect_from(4711, SERVICE)).expect("a connection");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("all of it");
        assert_eq!((answer.len(), answer.last()), (MUCH, Some(name)));
    }
}

/// Answers with its name, often enough for some passages, and hangs up first: the caller's port is free again.
fn serve_much(at: &Place, name: u8) {
    let listener = at.run(|| TcpListener::bind("0.0.0.0:9")).expect("a free port");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _hung_up = stream.expect("a connection").write_all(&vec![name; MUCH]);
        }
    });
}

#[tokio::test]
async fn a_cable_that_went_by_itself_leaves_nothing_behind() {
    let mut lab = Lab::new().await;
    let _caller = lab.attach_stable(0).await;
    let name = LinkName::of(instance(0));
    let tables = |lab: &Lab| {
        let told = lab.device.run(|| Command::new("nft").args(["list", "chains", "netdev"]).output());
        String::from_utf8(told.expect("an answer").stdout).expect("text")
    };
    assert!(tables(&lab).contains(name.as_str()));
    run(&lab.device, "ip", &format!("link del {name}\n"));
    lab.detach(0).await;
    assert!(!tables(&lab).contains(name.as_str()), "{}", tables(&lab));
}
