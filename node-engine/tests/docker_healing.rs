//! How instances heal on a real Docker engine: crashes, probes, HEALTHCHECKs, last words and the start gate.

mod device;
mod engine;

use std::{process::Command, sync::Arc, time::Duration};

use bollard::{models::ContainerCreateBody, query_parameters::InspectContainerOptions};
use device::{Device, Kept, assigned, assignment, running};
use engine::{Engine, force_remove, import_payload};
use futures_util::StreamExt;
use model::{Check, Desired, Health, Phase, Probe, Span};
use node_engine::network::{NetworkError, fake::FakeNetwork};
use tokio::time::Instant;

/// Most of the time is the engine's own: compared with the same done by hand, on the same device at the same time.
#[tokio::test]
async fn a_killed_process_is_running_again_hardly_later_than_by_hand() {
    const ROUNDS: u32 = 5;
    let engine = Engine::ready(41).await;
    let mut device = Device::start(engine.runtime(), None, &Kept::default()).await;
    let kill = |pid: i64| {
        let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill is there");
        assert!(killed.success());
    };
    let body = ContainerCreateBody {
        image: Some(engine.image.clone()),
        cmd: Some(vec!["wait".to_owned()]),
        labels: Some([("mangrove-test".to_owned(), engine.service.to_string())].into()),
        ..ContainerCreateBody::default()
    };
    let (mut ours, mut by_hand) = (Vec::new(), Vec::new());
    for number in 0..ROUNDS {
        // A new instance each time: the second end of one waits for a second.
        let id = engine.instance(number);
        device.assign(assignment(1 + u64::from(number), &engine.spec(&["wait"]), [running(id)])).await;
        device.until(id, |report| report.ready).await;
        let pid = engine.container(id).await.state.and_then(|state| state.pid).expect("it runs");
        let begun = Instant::now();
        kill(pid);
        device.until(id, |report| report.restarts == 1 && report.phase == Phase::Running).await;
        ours.push(begun.elapsed());

        let container = engine.docker.create_container(None, body.clone()).await.expect("made").id;
        engine.docker.start_container(&container, None).await.expect("started");
        let inspected = engine.docker.inspect_container(&container, None::<InspectContainerOptions>).await;
        let pid = inspected.expect("made").state.and_then(|state| state.pid).expect("it runs");
        let mut ended = engine.docker.wait_container(&container, None);
        let begun = Instant::now();
        kill(pid);
        drop(ended.next().await);
        engine.docker.start_container(&container, None).await.expect("started again");
        by_hand.push(begun.elapsed());
        force_remove(&engine.docker, &container).await;
    }
    ours.sort();
    by_hand.sort();
    let (median, engine_alone) = (ours[2], by_hand[2]);
    println!("killed and running again: median {median:?}, by hand {engine_alone:?}; all {ours:?}");
    // Half a second of patience for a device that does other things too; waiting for anything would take a second.
    assert!(median < engine_alone + Duration::from_millis(500), "{ours:?} and by hand {by_hand:?}");
    device.stop().await;
}

#[tokio::test]
async fn the_last_words_are_those_of_the_run_that_ended() {
    let engine = Engine::ready(42).await;
    let mut device = Device::start(engine.runtime(), None, &Kept::default()).await;
    let id = engine.instance(0);
    let spec = engine.spec(&["say", "first", "say", "out of cheese", "exit", "7"]);
    device.assign(assignment(1, &spec, [running(id)])).await;
    for restarts in 0..3 {
        // At least so many: on a busy device a state may have passed before anybody looks.
        let report = device
            .until(id, |report| {
                let told = report.last_exit.as_ref().is_some_and(|exit| !exit.tail.is_empty());
                report.restarts >= restarts && told
            })
            .await;
        let exit = report.last_exit.expect("told");
        assert_eq!((exit.code, exit.tail.as_str()), (7, "first\nout of cheese"), "after {restarts} restarts");
    }
    device.stop().await;
}

fn quick(check: Check) -> Option<Probe> {
    let interval = Span::from_millis(200);
    Some(Probe { interval, timeout: Span::from_millis(500), ..Probe::new(check) })
}

fn command(words: &[&str]) -> Check {
    Check::Exec { command: words.iter().map(|word| (*word).to_owned()).collect() }
}

#[tokio::test]
async fn probes_reach_the_container_where_it_is_and_inside() {
    let engine = Engine::ready(43).await;
    let mut device = Device::start(engine.runtime(), None, &Kept::default()).await;
    let [works, busy, deaf] = [0, 1, 2].map(|number| engine.instance(number));
    let mut spec = engine.spec(&["answer", "8080", "200"]);
    spec.health = Health {
        start: quick(Check::Tcp { port: 8080 }),
        ready: quick(Check::Http { port: 8080, path: "/ready".to_owned() }),
        live: quick(command(&["/payload", "exit", "0"])),
    };
    device.assign(assignment(1, &spec, [running(works)])).await;
    assert_eq!(device.until(works, |report| report.ready).await.detail, "");

    spec.command = engine.spec(&["answer", "8080", "503"]).command;
    device.assign(assignment(2, &spec, [running(busy)])).await;
    let unready = device.until(busy, |report| report.detail.ends_with("/ready answered 503")).await;
    assert!(unready.detail.starts_with("not ready: GET http://"), "{}", unready.detail);

    // A command that does not end is killed, and does not stay behind.
    spec.health = Health { live: quick(command(&["/payload", "deaf"])), ..Health::default() };
    device.assign(assignment(3, &spec, [running(deaf)])).await;
    let why = "its live probe failed 3 times: `/payload` did not end within 500 ms";
    let expected = format!("{why}; being restarted");
    device.until(deaf, |report| report.detail == expected || report.restarts > 0).await;
    let listed = Command::new("pgrep").args(["-f", "^/payload deaf"]).output().expect("pgrep is there");
    let left = String::from_utf8_lossy(&listed.stdout).lines().count();
    assert!(left <= 1, "{left} commands are left");

    spec.health =
        Health { live: quick(command(&["/payload", "say", "I am ill", "exit", "4"])), ..Health::default() };
    let id = engine.instance(3);
    device.assign(assignment(4, &spec, [running(id)])).await;
    let detail = "its live probe failed 3 times: `/payload` ended with code 4: I am ill; being restarted";
    device.until(id, |report| report.detail == detail).await;
    device.until(id, |report| report.restarts == 1).await;
    device.stop().await;
}

#[tokio::test]
async fn an_instance_that_falls_ill_is_restarted() {
    let engine = Engine::ready(44).await;
    let mut device = Device::start(engine.runtime(), None, &Kept::default()).await;
    let id = engine.instance(0);
    let mut spec = engine.spec(&["sick", "8080"]);
    spec.health =
        Health { live: quick(Check::Http { port: 8080, path: "/".to_owned() }), ..Health::default() };
    device.assign(assignment(1, &spec, [running(id)])).await;
    device.until(id, |report| report.ready).await;
    device.until(id, |report| report.detail.ends_with("answered 500; being restarted")).await;
    device.until(id, |report| report.ready && report.restarts == 1).await;
    device.stop().await;
}

#[tokio::test]
async fn the_health_check_of_an_image_is_followed() {
    let mut engine = Engine::ready(45).await;
    let check = |code: u8| {
        format!(r#"HEALTHCHECK --interval=200ms --timeout=2s --retries=2 CMD ["/payload", "exit", "{code}"]"#)
    };
    engine.image = import_payload(&engine.docker, &[&check(0)]).await;
    let kept = Kept::default();
    let mut device = Device::start(engine.runtime(), None, &kept).await;
    let id = engine.instance(0);
    device.assign(assignment(1, &engine.spec(&["wait"]), [running(id)])).await;
    assert!(!device.until_phase(id, Phase::Running).await.ready);
    let not_yet = "not ready: the HEALTHCHECK of its image has not succeeded yet";
    assert!(!device.until(id, |report| report.detail == not_yet).await.ready);
    device.until(id, |report| report.ready).await;
    device.stop().await;
    let mut device = Device::start(engine.runtime(), None, &kept).await;
    assert!(device.until_phase(id, Phase::Running).await.ready, "adopted as it was");

    engine.image = import_payload(&engine.docker, &[&check(1)]).await;
    let ill = engine.instance(1);
    device.assign(assignment(2, &engine.spec(&["wait"]), [running(ill)])).await;
    let restarted = device.until(ill, |report| report.restarts == 1).await;
    assert!(!restarted.ready);

    // Probes of the service take its place.
    let own = engine.instance(2);
    let mut spec = engine.spec(&["wait"]);
    spec.health = Health { ready: quick(command(&["/payload", "exit", "0"])), ..Health::default() };
    device.assign(assignment(3, &spec, [running(own)])).await;
    device.until(own, |report| report.ready).await;
    assert!(engine.container(own).await.state.and_then(|state| state.health).is_none());
    device.stop().await;
}

#[tokio::test]
async fn a_process_at_its_gate_ends_at_once_when_it_is_asked_to() {
    let engine = Engine::ready(46).await;
    let network = FakeNetwork::new();
    network.refuse(Some(NetworkError::Refused { code: "no_subnet".into(), message: "not yet".into() }));
    let mut device = Device::start(engine.gated_runtime(), Some(Arc::new(network)), &Kept::default()).await;
    let id = engine.instance(0);
    let spec = engine.spec(&["say", "begun", "wait"]);
    device.assign(assignment(1, &spec, [running(id)])).await;
    device.until(id, |report| report.detail == "not yet").await;
    let begun = Instant::now();
    device.assign(assignment(2, &spec, [assigned(id, 1, Desired::Removed)])).await;
    device.until_phase(id, Phase::Removed).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    device.stop().await;
}
