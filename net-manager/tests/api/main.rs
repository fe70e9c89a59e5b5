//! The local API as NodeEngine uses it, over a datapath that is only remembered.

mod running;

use std::{collections::BTreeMap, io, os::unix::fs::MetadataExt, path::PathBuf, time::Duration};

use model::{
    AddressKind, CallableInstance, CallableService, NetworkLease, NetworkNews, Peer, Way, Weight, WorkerId,
};
use net_core::{Element, RoundTrip};
use net_manager::uplink::UplinkEvent;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::running::{Daemon, ROOT, Remembered, SERVICE, WORKER, names, registration};

#[tokio::test]
async fn instances_are_attached_listed_and_detached() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let datapath = Remembered::default();
    let daemon = Daemon::start(&directory, datapath.clone()).await;
    daemon.lend().await;

    let attached = (200, json!({"addresses": ["10.18.0.2", "fc00::2"]}));
    assert_eq!(daemon.attach(0, &["8080:80/tcp"]).await, attached);
    assert_eq!(daemon.attach(0, &["8080:80/tcp"]).await, attached);
    assert_eq!(
        daemon.get("/instances").await,
        json!([{"id": format!("{SERVICE}/0"), "generation": 1, "addresses": ["10.18.0.2", "fc00::2"],
                "ports": ["8080:80/tcp"]}])
    );
    assert_eq!(datapath.kernel.lock().expect("no panic").links.len(), 1);

    let path = format!("/instances/{SERVICE}/0");
    assert_eq!(daemon.call("DELETE", &path, None).await, (200, json!({})));
    assert_eq!(daemon.call("DELETE", &path, None).await, (200, json!({})));
    assert_eq!(datapath.kernel.lock().expect("no panic").links, BTreeMap::new());
    daemon.stop().await;
}

#[tokio::test]
async fn an_instance_that_was_restarted_gets_a_new_cable_although_its_namespace_has_the_old_inode() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let datapath = Remembered::default();
    let daemon = Daemon::start(&directory, datapath.clone()).await;
    daemon.lend().await;
    assert_eq!(daemon.attach(0, &[]).await.0, 200);
    // The cable goes with the namespace it led into.
    datapath.kernel.lock().expect("no panic").links.clear();
    let path = format!("/proc/{}/ns/net", std::process::id());
    let body = json!({"generation": 1, "network_namespace": path, "ports": []});
    let attached = daemon.call("PUT", &format!("/instances/{SERVICE}/0"), Some(body)).await;
    assert_eq!(attached.0, 200);
    assert_eq!(datapath.kernel.lock().expect("no panic").links.len(), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn a_restart_needs_no_cluster() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let datapath = Remembered::default();
    let daemon = Daemon::start(&directory, datapath.clone()).await;
    daemon.lend().await;
    daemon.attach(0, &["8080:80"]).await;
    let before = datapath.kernel.lock().expect("no panic").clone();
    daemon.stop().await;

    // A kernel that refuses everything shows that nothing is asked of it.
    *datapath.refuses.lock().expect("no panic") = true;
    let daemon = Daemon::start(&directory, datapath.clone()).await;
    assert_eq!(
        daemon.get("/status").await,
        json!({"state": "ready", "detail": "", "worker_id": null, "subnet_v4": "10.18.0.0/26",
               "subnet_v6": "fc00::/120", "instances": 1, "passages": true,
               "certificate_seconds_left": null})
    );
    assert_eq!(daemon.attach(0, &["8080:80"]).await.0, 200);
    assert_eq!(*datapath.kernel.lock().expect("no panic"), before);
    daemon.stop().await;
}

#[tokio::test]
async fn an_attachment_that_cannot_be_kept_is_taken_back() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let datapath = Remembered::default();
    let daemon = Daemon::start(&directory, datapath.clone()).await;
    daemon.lend().await;
    let before = datapath.kernel.lock().expect("no panic").clone();
    // Nothing is written to a directory.
    let in_the_way = directory.path().join("state/network.json.new");
    std::fs::create_dir(&in_the_way).expect("a directory");
    let (status, refusal) = daemon.attach(0, &["8080:80"]).await;
    assert_eq!(status, 500, "{refusal}");
    assert_eq!(daemon.get("/instances").await, json!([]));
    assert_eq!(*datapath.kernel.lock().expect("no panic"), before);

    std::fs::remove_dir(&in_the_way).expect("it is empty");
    assert_eq!(daemon.attach(1, &["8080:80"]).await.0, 200, "its port and its address are free");
    let kept = std::fs::read_to_string(directory.path().join("state/network.json")).expect("it is kept");
    assert!(kept.contains("8080"), "{kept}");
    daemon.stop().await;
}

#[tokio::test]
async fn refusals_carry_a_code_and_what_to_do() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start(&directory, Remembered { busy: Some(22), ..Remembered::default() }).await;
    let (status, refusal) = daemon.attach(0, &[]).await;
    assert_eq!((status, &refusal["code"]), (503, &json!("no_subnet")));
    let message = refusal["message"].as_str().expect("a sentence");
    assert!(message.starts_with("bad network received: this worker has no subnet"), "{message}");

    daemon.lend().await;
    daemon.attach(0, &["8080:80"]).await;
    assert_eq!(
        daemon.attach(1, &["8080:8080"]).await,
        (
            409,
            json!({"code": "port_conflict", "message": format!(
                "port 8080/tcp of this device is taken by instance {SERVICE}/0; use another port or remove that instance"
            )})
        )
    );
    assert_eq!(daemon.attach(1, &["22"]).await.1["code"], "port_conflict");
    assert_eq!(daemon.attach(1, &["x"]).await.1["code"], "invalid");
    let body = json!({"generation": 1, "network_namespace": "/proc/0/ns/net"});
    let path = format!("/instances/{SERVICE}/1");
    assert_eq!(daemon.call("PUT", &path, Some(body)).await.1["code"], "no_namespace");
    assert_eq!(daemon.call("PUT", "/instances/x/1", Some(json!({}))).await.0, 400);
    assert_eq!(daemon.call("GET", "/nowhere", None).await.1["code"], "not_found");
    assert_eq!(daemon.get("/instances").await.as_array().map(Vec::len), Some(1), "a refusal changes nothing");
    daemon.stop().await;
}

#[tokio::test]
async fn nobody_is_attached_to_the_devices_own_namespace() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let own = std::fs::metadata("/proc/self/ns/net").expect("a namespace").ino();
    let datapath = Remembered { own: Some(own), ..Remembered::default() };
    let daemon = Daemon::start(&directory, datapath.clone()).await;
    daemon.lend().await;
    let before = datapath.kernel.lock().expect("no panic").clone();
    let message = format!(
        "network namespace /proc/self/ns/net is the device's own, so instance {SERVICE}/0 is not attached there: it \
         would have all of the device's network, and the device its addresses; start its container in a network \
         namespace of its own"
    );
    let refusal = json!({"code": "devices_own_namespace", "message": message});
    assert_eq!(daemon.attach(0, &["8080:80"]).await, (409, refusal));
    assert_eq!(daemon.get("/instances").await, json!([]));
    assert_eq!(*datapath.kernel.lock().expect("no panic"), before);
    daemon.stop().await;
}

#[tokio::test]
async fn a_kernel_that_refuses_is_told_and_tried_again() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let datapath = Remembered::default();
    let daemon = Daemon::start(&directory, datapath.clone()).await;
    daemon.lend().await;
    *datapath.refuses.lock().expect("no panic") = true;
    assert_eq!(
        daemon.attach(0, &[]).await,
        (
            500,
            json!({"code": "kernel", "message": "the kernel refused: cannot change anything: it is a test"})
        )
    );
    *datapath.refuses.lock().expect("no panic") = false;
    assert_eq!(daemon.attach(0, &[]).await.0, 200);
    assert_eq!(datapath.kernel.lock().expect("no panic").links.len(), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn an_instance_that_cannot_be_attached_does_not_keep_others_from_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start(&directory, Remembered { hopeless: Some(0), ..Remembered::default() }).await;
    daemon.lend().await;
    assert_eq!(daemon.attach(0, &[]).await.0, 500);
    assert_eq!(daemon.attach(1, &[]).await, (200, json!({"addresses": ["10.18.0.3", "fc00::3"]})));
    assert_eq!(daemon.attach(0, &[]).await.0, 500);
    daemon.stop().await;
}

#[tokio::test]
async fn only_the_status_is_told_without_the_key() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start(&directory, Remembered::default()).await;
    assert_eq!(daemon.call_with("", "GET", "/status", None).await.0, 200);
    let instance = format!("/instances/{SERVICE}/0");
    let drain = format!("{instance}/drain");
    let guarded = [
        ("GET", "/instances"),
        ("POST", "/register"),
        ("POST", "/certificate"),
        ("PUT", instance.as_str()),
        ("DELETE", instance.as_str()),
        ("POST", drain.as_str()),
        ("GET", "/logs"),
    ];
    for (method, path) in guarded {
        for key in ["", "wrong", &daemon.key[1..]] {
            let (status, refusal) = daemon.call_with(key, method, path, None).await;
            assert_eq!((status, &refusal["code"]), (401, &json!("unauthorized")), "{method} {path}");
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_worker_registers_as_often_as_it_likes_and_another_one_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start(&directory, Remembered::default()).await;
    assert_eq!(daemon.get("/status").await["state"], "waiting_for_node_engine");
    assert_eq!(
        daemon.call("POST", "/certificate", Some(json!({"certificate_chain": "x"}))).await.1["code"],
        "not_registered"
    );

    let (status, answer) = daemon.call("POST", "/register", Some(registration(WORKER))).await;
    assert_eq!((status, &answer["certified"]), (200, &json!(false)));
    let request = answer["certificate_request"].as_str().expect("a request");
    assert!(request.starts_with("-----BEGIN CERTIFICATE REQUEST-----"), "{request}");
    assert_eq!(daemon.call("POST", "/register", Some(registration(WORKER))).await.0, 200);
    let status = daemon.get("/status").await;
    assert_eq!((&status["state"], &status["worker_id"]), (&json!("waiting_for_certificate"), &json!(WORKER)));

    let (status, refusal) = daemon.call("POST", "/register", Some(registration(ROOT))).await;
    assert_eq!((status, &refusal["code"]), (409, &json!("other_worker")));
    let (status, refusal) =
        daemon.call("POST", "/certificate", Some(json!({"certificate_chain": "x"}))).await;
    assert_eq!((status, &refusal["code"]), (400, &json!("invalid")));
    daemon.stop().await;
}

#[tokio::test]
async fn a_worker_that_loses_its_cluster_stays_ready() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start(&directory, Remembered::default()).await;
    daemon.leases.send(UplinkEvent::Connected).await.expect("it listens");
    daemon.wait_for_state("waiting_for_subnet").await;
    daemon.lend().await;
    daemon.leases.send(UplinkEvent::Disconnected("the cable is out".to_owned())).await.expect("it listens");
    for _ in 0..200 {
        let status = daemon.get("/status").await;
        assert_eq!(status["state"], "ready");
        if status["detail"] == "cut off from the cluster, instances keep running: the cable is out" {
            return daemon.stop().await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the status never told");
}

#[tokio::test]
async fn an_instance_begins_when_the_cluster_has_told_of_its_application() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let datapath = Remembered::default();
    let daemon = Daemon::start(&directory, datapath.clone()).await;
    daemon.lend().await;
    let mut attaching = Box::pin(daemon.attach_stable());
    let early = tokio::time::timeout(Duration::from_millis(300), &mut attaching).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(datapath.kernel.lock().expect("no panic").links.len(), 1, "all else is done meanwhile");
    assert_eq!(daemon.attach(1, &[]).await.0, 200, "and for others");
    let told = tokio::time::Instant::now();
    daemon.tell().await;
    assert_eq!(attaching.as_mut().await.0, 200);
    drop(attaching);
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
    assert_eq!(daemon.attach_stable().await.0, 200);
    daemon.stop().await;
}

#[tokio::test]
async fn an_instance_begins_although_nobody_tells_of_its_application() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start(&directory, Remembered::default()).await;
    daemon.lend().await;
    let begun = tokio::time::Instant::now();
    assert_eq!(daemon.attach_stable().await.0, 200);
    let waited = begun.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(6)).contains(&waited), "{waited:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn connections_to_an_instance_that_goes_are_counted() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let datapath = Remembered::default();
    let daemon = Daemon::start(&directory, datapath.clone()).await;
    daemon.lend().await;
    daemon.attach(0, &["8080:80"]).await;
    let ports = |datapath: &Remembered| {
        let kernel = datapath.kernel.lock().expect("no panic");
        kernel.elements.iter().filter(|element| matches!(element, Element::Port { .. })).count()
    };
    assert_eq!(ports(&datapath), 2, "one of each family");
    *datapath.connected.lock().expect("no panic") = 3;
    let path = format!("/instances/{SERVICE}/0/drain");
    assert_eq!(daemon.call("POST", &path, None).await, (200, json!({"connections": 3})));
    assert_eq!(ports(&datapath), 0);
    daemon.stop().await;
}

#[tokio::test]
async fn the_log_is_shown_and_followed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Daemon::start(&directory, Remembered::default()).await;
    daemon.log.keep("one");
    daemon.log.keep("two");
    let (port, key) = (daemon.address.port(), directory.path().join("run/key"));
    let show = |follow: bool, key: PathBuf| {
        tokio::task::spawn_blocking(move || {
            let mut shown = Vec::new();
            net_manager::show_logs(port, &key, follow, &mut shown)
                .map(|()| String::from_utf8(shown).expect("text"))
                .map_err(|error| format!("{error:#}"))
        })
    };
    assert_eq!(show(false, key.clone()).await.expect("no panic"), Ok("one\ntwo\n".to_owned()));
    let nowhere = show(false, PathBuf::from("/nonexistent/key")).await.expect("no panic");
    let needs_root = nowhere.expect_err("no key");
    assert!(needs_root.starts_with("show the log, which needs root: local key"), "{needs_root}");

    let (shown, mut lines) = mpsc::unbounded_channel();
    let following = tokio::task::spawn_blocking({
        let key = key.clone();
        move || net_manager::show_logs(port, &key, true, &mut Shown(shown))
    });
    assert_eq!([lines.recv().await, lines.recv().await].map(Option::unwrap_or_default), ["one\n", "two\n"]);
    daemon.log.keep("three");
    assert_eq!(lines.recv().await.as_deref(), Some("three\n"));
    daemon.stop().await;
    following.await.expect("no panic").expect("it ends with the daemon");

    let gone = show(false, key).await.expect("no panic").expect_err("nobody answers");
    assert!(gone.starts_with("only a running NetManager tells its last lines"), "{gone}");
    assert!(gone.contains(&format!("no NetManager answers on 127.0.0.1:{port}; start it")), "{gone}");
}

/// Hands on each line as it is written.
struct Shown(mpsc::UnboundedSender<String>);

impl io::Write for Shown {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.send(String::from_utf8_lossy(line).into_owned()).map_err(io::Error::other)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn net<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("an address or a network")
}

fn two_devices() -> NetworkNews {
    two_devices_called_at("10.30.0.2")
}

/// A service with an instance on each of two other devices.
fn two_devices_called_at(address: &str) -> NetworkNews {
    let workers = [1, 2].map(|number| WorkerId::new(uuid::Uuid::from_bytes([number; 16])));
    let instance = |(number, worker): (u32, &WorkerId)| CallableInstance {
        number,
        address: net(&format!("10.30.1.{number}")),
        worker: *worker,
        ready: true,
        weight: Weight::default(),
    };
    let service = CallableService {
        names: names().into(),
        addresses: BTreeMap::from([(AddressKind::Closest, net(address))]).into(),
        allowed_callers: Default::default(),
        instances: (1..).zip(&workers).map(instance).collect(),
    };
    let peer = |(number, worker): (u32, &WorkerId)| {
        let lease = NetworkLease {
            v4: vec![net(&format!("10.18.{number}.0/26"))],
            v6: vec![net(&format!("fc00::{number}00/120"))],
        };
        (*worker, Some(Peer { way: Way::Direct { underlay: net("192.0.2.1") }, lease }.into()))
    };
    NetworkNews {
        whole: true,
        services: BTreeMap::from([(net(SERVICE), Some(service.into()))]),
        peers: (1..).zip(&workers).map(peer).collect(),
        ..NetworkNews::default()
    }
}

#[tokio::test]
async fn the_closest_address_follows_the_echoes_and_links_tell_how_long_they_take() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let echoes =
        BTreeMap::from([(net("fc00::101"), RoundTrip(20_000)), (net("fc00::201"), RoundTrip(5_000))]);
    let datapath = Remembered { echoes, ..Remembered::default() };
    let daemon = Daemon::start(&directory, datapath.clone()).await;
    daemon.lend().await;
    daemon.leases.send(UplinkEvent::News(two_devices())).await.expect("it listens");
    let mut links = Value::Null;
    for _ in 0..200 {
        links = daemon.get("/links").await;
        let round_trips = [0, 1].map(|index| links[index]["round_trip_microseconds"].clone());
        if round_trips == [json!(20_000), json!(5_000)] {
            let closest = Element::Single { from: net("10.30.0.2"), to: net("10.30.1.2") };
            let kernel = datapath.kernel.lock().expect("no panic").clone();
            assert!(kernel.elements.contains(&closest), "{kernel:?}");
            return daemon.stop().await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("links never told: {links}");
}

/// Each look at the kernel's connections takes as long as there are many, and what is told last counts.
#[tokio::test]
async fn what_was_told_while_the_kernel_was_put_right_is_done_together() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let datapath = Remembered::default();
    let daemon = Daemon::start(&directory, datapath.clone()).await;
    daemon.lend().await;
    let before = *datapath.changes.lock().expect("no panic");
    for last in 2..=5 {
        let news = two_devices_called_at(&format!("10.30.0.{last}"));
        daemon.leases.send(UplinkEvent::News(news)).await.expect("it listens");
    }
    let last = Element::Known(net("10.30.0.5"));
    for _ in 0..200 {
        if datapath.kernel.lock().expect("no panic").elements.contains(&last) {
            let changes = *datapath.changes.lock().expect("no panic") - before;
            assert!((1..=2).contains(&changes), "{changes} changes for what came at once");
            return daemon.stop().await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never led there: {:?}", datapath.kernel.lock().expect("no panic").elements);
}
