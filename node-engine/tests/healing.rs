//! What heals, what is remembered and what must not run, over an engine in memory.

mod device;

use std::{sync::Arc, time::Duration};

use device::{Device, Kept, assignment, instance, running, service};
use model::{Check, Health, InstanceReport, OnPartition, Phase, Probe, ServiceSpec, Span, Survival};
use node_core::ImageHealth;
use node_engine::{
    FromCluster,
    network::{NetworkError, fake::FakeNetwork},
    runtime::fake::FakeRuntime,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{Instant, sleep},
};

fn spec() -> ServiceSpec {
    ServiceSpec::container("image")
}

fn engine() -> (FakeRuntime, Arc<FakeRuntime>) {
    let runtime = FakeRuntime::new();
    (runtime.clone(), Arc::new(runtime))
}

fn quick(check: Check) -> Option<Probe> {
    Some(Probe { interval: Span::from_millis(100), ..Probe::new(check) })
}

fn command() -> Check {
    Check::Exec { command: vec!["check".to_owned()] }
}

fn is_ready(report: &InstanceReport) -> bool {
    report.phase == Phase::Running && report.ready
}

fn stop_after(seconds: u32) -> ServiceSpec {
    let on_partition = OnPartition::StopAfter(Span::from_secs(seconds));
    ServiceSpec { survival: Survival { on_partition, ..Survival::default() }, ..spec() }
}

#[tokio::test]
async fn how_a_container_ended_is_reported_with_what_it_last_wrote() {
    let (engine, runtime) = engine();
    let mut device = Device::start(runtime, None, &Kept::default()).await;
    let id = instance(service(0), 0);
    device.assign(assignment(1, &spec(), [running(id)])).await;
    device.until_phase(id, Phase::Running).await;
    engine.write(id, "one\nno more disk\n");
    engine.exit(id, 3);
    let report = device.until(id, |report| report.restarts == 1 && report.phase == Phase::Running).await;
    assert_eq!(report.last_exit.as_ref().map(|exit| exit.code), Some(3));
    let told = |report: &InstanceReport| {
        report.last_exit.as_ref().is_some_and(|exit| exit.tail == "one\nno more disk")
    };
    device.until(id, told).await;
    device.stop().await;
}

#[tokio::test]
async fn an_instance_is_ready_when_its_own_port_says_so() {
    let (_, runtime) = engine();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let (status, told) = tokio::sync::watch::channel("503 Busy");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = [0; 1024];
            drop(stream.read(&mut request).await);
            let answer = format!("HTTP/1.1 {}\r\ncontent-length: 0\r\n\r\n", *told.borrow());
            drop(stream.write_all(answer.as_bytes()).await);
        }
    });
    let mut device = Device::start(runtime, None, &Kept::default()).await;
    let id = instance(service(0), 0);
    let health = Health { ready: quick(Check::Http { port, path: "/".to_owned() }), ..Health::default() };
    device.assign(assignment(1, &ServiceSpec { health, ..spec() }, [running(id)])).await;
    let busy = format!("not ready: GET http://127.0.0.1:{port}/ answered 503");
    assert!(!device.until(id, |report| report.detail == busy).await.ready);
    status.send_replace("200 OK");
    assert_eq!(device.until(id, is_ready).await.detail, "");
    status.send_replace("503 Busy");
    let unready = device.until(id, |report| !report.ready).await;
    assert_eq!((unready.phase, unready.detail, unready.restarts), (Phase::Running, busy, 0));
    device.stop().await;
}

#[tokio::test]
async fn an_instance_whose_live_probe_fails_is_restarted_with_the_reason() {
    let (engine, runtime) = engine();
    let mut device = Device::start(runtime, None, &Kept::default()).await;
    let id = instance(service(0), 0);
    let health = Health { live: quick(command()), ..Health::default() };
    device.assign(assignment(1, &ServiceSpec { health, ..spec() }, [running(id)])).await;
    device.until(id, is_ready).await;
    engine.answer_command(&["check"], 1);
    let why = "its live probe failed 3 times: `check` ended with code 1";
    device.until(id, |report| report.detail == format!("{why}; being restarted")).await;
    engine.answer_command(&["check"], 0);
    let report = device.until(id, |report| is_ready(report) && report.restarts == 1).await;
    assert_eq!(report.last_exit.map(|exit| exit.code), Some(143));
    assert_eq!(engine.containers().len(), 1);
    assert_eq!(engine.containers()[0].1.starts, 2);
    device.stop().await;
}

#[tokio::test]
async fn the_health_check_of_the_image_is_heeded() {
    let (engine, runtime) = engine();
    engine.check_health();
    let mut device = Device::start(runtime, None, &Kept::default()).await;
    let id = instance(service(0), 0);
    device.assign(assignment(1, &spec(), [running(id)])).await;
    assert!(!device.until_phase(id, Phase::Running).await.ready);
    engine.set_health(id, ImageHealth::Healthy);
    device.until(id, is_ready).await;
    engine.set_health(id, ImageHealth::Unhealthy);
    device.until(id, |report| report.restarts == 1 && report.phase == Phase::Running).await;
    device.stop().await;
}

#[tokio::test]
async fn counts_and_readiness_outlive_a_killed_node_engine() {
    let (engine, runtime) = engine();
    let kept = Kept::default();
    let mut device = Device::start(runtime.clone(), None, &kept).await;
    let id = instance(service(0), 0);
    let health = Health { ready: quick(command()), ..Health::default() };
    device.assign(assignment(1, &ServiceSpec { health, ..spec() }, [running(id)])).await;
    device.until(id, is_ready).await;
    engine.write(id, "farewell\n");
    engine.exit(id, 5);
    device.until(id, |report| is_ready(report) && report.restarts == 1).await;
    let known = |kept: &Kept| {
        let history = kept.0.lock().expect("free").history.clone();
        history.instances.first().is_some_and(|remembered| {
            let past = &remembered.past;
            let tail = past.last_exit.as_ref().is_some_and(|exit| exit.tail == "farewell");
            past.restarts == 1 && tail && past.run.as_ref().is_some_and(|run| run.ready)
        })
    };
    let waiting = Instant::now();
    while !known(&kept) {
        assert!(waiting.elapsed() < Duration::from_secs(20), "{:?}", kept.0.lock().expect("free").history);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    device.kill().await;
    let before = engine.containers();

    let mut device = Device::start(runtime, None, &kept).await;
    let first = device.until(id, |_| true).await;
    assert_eq!((first.phase, first.ready, first.restarts), (Phase::Running, true, 1), "{}", first.detail);
    let exit = first.last_exit.expect("remembered");
    assert_eq!((exit.code, exit.tail.as_str()), (5, "farewell"));
    assert_eq!(engine.containers(), before);
    device.stop().await;
}

#[tokio::test]
async fn a_full_disk_keeps_nothing_from_being_started_again() {
    let (engine, runtime) = engine();
    let kept = Kept::default();
    let mut device = Device::start(runtime, None, &kept).await;
    let id = instance(service(0), 0);
    device.assign(assignment(1, &spec(), [running(id)])).await;
    device.until_phase(id, Phase::Running).await;
    kept.0.lock().expect("free").disk_full = true;
    engine.exit(id, 5);
    device.until(id, |report| report.restarts == 1 && report.phase == Phase::Running).await;
    device.stop().await;
}

#[tokio::test]
async fn an_instance_that_must_not_run_while_cut_off_stops_and_comes_back() {
    let (engine, runtime) = engine();
    let mut device = Device::start(runtime, None, &Kept::default()).await;
    let (strict, other) = (instance(service(0), 0), instance(service(1), 0));
    let mut both = assignment(1, &stop_after(3), [running(strict)]);
    let keep = assignment(1, &spec(), [running(other)]);
    both.services.extend(keep.services);
    both.instances.extend(keep.instances);
    device.assign(both).await;
    device.until_phase(strict, Phase::Running).await;
    device.until_phase(other, Phase::Running).await;
    // Contact goes on for longer than the limit.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        device.listen().await;
    }
    assert_eq!(device.until(strict, |_| true).await.phase, Phase::Running);

    device.echoes = false;
    let cut = Instant::now();
    let stopped = device.until_phase(strict, Phase::Dead).await;
    assert_eq!(stopped.detail, "stopped: cut off from the cluster for 3 s (on_partition stop_after(3s))");
    let after = cut.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(6)).contains(&after), "{after:?}");
    assert_eq!(device.until(other, |_| true).await.phase, Phase::Running);
    let containers = engine.containers();
    assert_eq!(containers.len(), 2, "it is not removed");

    device.echoes = true;
    let back = device.until_phase(strict, Phase::Running).await;
    assert_eq!(back.restarts, 0, "it did nothing wrong");
    device.stop().await;
}

#[tokio::test]
async fn a_device_that_boots_without_its_cluster_starts_only_what_may_run_there() {
    let (engine, runtime) = engine();
    let kept = Kept::default();
    let (strict, other) = (instance(service(0), 0), instance(service(1), 0));
    let mut both = assignment(1, &stop_after(3), [running(strict)]);
    let keep = assignment(1, &spec(), [running(other)]);
    both.services.extend(keep.services);
    both.instances.extend(keep.instances);
    kept.0.lock().expect("free").assignment = Some(both);
    let mut device = Device::start_cut_off(runtime, None, &kept);
    while engine.containers().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_millis(500)).await;
    let made: Vec<_> = engine.containers().into_iter().map(|(_, made)| made.order.instance).collect();
    assert_eq!(made, [other]);
    device.say(FromCluster::Connected).await;
    device.until_phase(strict, Phase::Running).await;
    device.stop().await;
}

#[tokio::test]
async fn a_net_manager_that_is_late_at_boot_is_not_waited_for_longer_than_needed() {
    let (engine, runtime) = engine();
    let network = FakeNetwork::new();
    let away = NetworkError::Unreachable {
        address: "127.0.0.1:6000".parse().expect("an address"),
        reason: "connection refused".to_owned(),
    };
    network.refuse(Some(away));
    let kept = Kept::default();
    let id = instance(service(0), 0);
    kept.0.lock().expect("free").assignment = Some(assignment(1, &spec(), [running(id)]));
    let device = Device::start_cut_off(runtime, Some(Arc::new(network.clone())), &kept);
    while engine.containers().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    // By now the next attempt is two seconds away and more.
    sleep(Duration::from_millis(3500)).await;
    assert_eq!(network.attached(), [].into());
    network.refuse(None);
    let back = Instant::now();
    while network.attached().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(back.elapsed() < Duration::from_secs(1), "{:?}", back.elapsed());
    device.stop().await;
}

#[tokio::test]
async fn an_engine_that_is_late_at_boot_is_found_within_a_second_or_so() {
    let (engine, runtime) = engine();
    engine.go_down();
    let kept = Kept::default();
    let id = instance(service(0), 0);
    kept.0.lock().expect("free").assignment = Some(assignment(1, &spec(), [running(id)]));
    let device = Device::start_cut_off(runtime, None, &kept);
    // Just after an attempt, and the pauses have grown as far as they go.
    sleep(Duration::from_millis(3300)).await;
    engine.come_back();
    let back = Instant::now();
    while engine.containers().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(back.elapsed() < Duration::from_millis(1500), "{:?}", back.elapsed());
    device.stop().await;
}

#[tokio::test]
async fn an_engine_that_is_away_at_the_start_is_waited_for_before_anything_is_reported() {
    let (engine, runtime) = engine();
    let kept = Kept::default();
    let id = instance(service(0), 0);
    let mut device = Device::start(runtime.clone(), None, &kept).await;
    device.assign(assignment(1, &spec(), [running(id)])).await;
    device.until_phase(id, Phase::Running).await;
    device.stop().await;
    engine.go_down();
    let mut device = Device::start(runtime, None, &kept).await;
    sleep(Duration::from_millis(500)).await;
    engine.come_back();
    let first = device.until(id, |_| true).await;
    assert_eq!((first.phase, first.ready), (Phase::Running, true), "{}", first.detail);
    device.stop().await;
}
