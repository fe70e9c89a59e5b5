//! The service over an engine in memory: assignments go in, reports come out.

mod device;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use device::{Device, Kept, assigned, assignment, instance, running, service};
use model::{Capability, Desired, Generation, Output, Phase, ServiceSpec, Span};
use node_engine::{
    FromCluster,
    network::{NetworkError, fake::FakeNetwork},
    runtime::fake::FakeRuntime,
};

fn spec() -> ServiceSpec {
    ServiceSpec::container("image")
}

fn engine() -> (FakeRuntime, Arc<FakeRuntime>) {
    let runtime = FakeRuntime::new();
    (runtime.clone(), Arc::new(runtime))
}

#[tokio::test]
async fn an_assignment_goes_in_and_a_running_instance_comes_out() {
    let (_, runtime) = engine();
    let mut device = Device::start(runtime, None, &Kept::default()).await;
    let id = instance(service(0), 0);
    device.assign(assignment(1, &spec(), [running(id)])).await;
    device.until_phase(id, Phase::Running).await;
    assert_eq!(device.report.observed_generation, Generation(1));
    let inventory = device.inventory.take().expect("it comes first");
    assert_eq!((inventory.name.as_str(), inventory.capabilities), ("device", vec![Capability::Container]));
    device.stop().await;
}

#[tokio::test]
async fn every_step_of_a_life_is_reported() {
    let (engine, runtime) = engine();
    let mut device = Device::start(runtime, None, &Kept::default()).await;
    let id = instance(service(0), 0);
    engine.refuse_pull("image", "no such host");
    device.assign(assignment(1, &spec(), [running(id)])).await;
    assert_eq!(device.until_phase(id, Phase::Failed).await.detail, "no such host");
    engine.allow_pull("image");
    device.until_phase(id, Phase::Running).await;
    assert!(engine.exit(id, 3));
    assert_eq!(device.until_phase(id, Phase::Dead).await.detail, "exited with code 3; being started again");
    assert_eq!(device.until_phase(id, Phase::Running).await.restarts, 1);
    device.assign(assignment(2, &spec(), [assigned(id, 1, Desired::Removed)])).await;
    device.until_phase(id, Phase::Removed).await;
    assert_eq!(engine.containers(), []);
    device.assign(assignment(3, &spec(), [])).await;
    device.until_report(|report| report.instances.is_empty()).await;
    device.stop().await;
}

#[tokio::test]
async fn a_device_without_its_cluster_starts_what_it_was_last_assigned() {
    let (engine, runtime) = engine();
    let kept = Kept::default();
    let id = instance(service(0), 0);
    kept.0.lock().expect("free").assignment = Some(assignment(7, &spec(), [running(id)]));
    let mut device = Device::start_cut_off(runtime, None, &kept);
    while engine.containers().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    device.say(FromCluster::Connected).await;
    device.until_phase(id, Phase::Running).await;
    assert_eq!(device.report.observed_generation, Generation(7));
    device.stop().await;
}

#[tokio::test]
async fn what_cannot_be_saved_is_not_acted_upon() {
    let (engine, runtime) = engine();
    let kept = Kept::default();
    kept.0.lock().expect("free").disk_full = true;
    let mut device = Device::start(runtime, None, &kept).await;
    let id = instance(service(0), 0);
    device.assign(assignment(1, &spec(), [running(id)])).await;
    device.until_measured().await;
    assert_eq!((engine.containers(), device.report.observed_generation), (vec![], Generation(0)));
    kept.0.lock().expect("free").disk_full = false;
    device.until_phase(id, Phase::Running).await;
    device.stop().await;
}

#[tokio::test]
async fn a_restarted_node_engine_adopts_what_runs() {
    let (engine, runtime) = engine();
    let kept = Kept::default();
    let id = instance(service(0), 0);
    let mut device = Device::start(runtime.clone(), None, &kept).await;
    device.assign(assignment(1, &spec(), [running(id)])).await;
    device.until_phase(id, Phase::Running).await;
    device.stop().await;
    let before = engine.containers();
    let mut device = Device::start(runtime, None, &kept).await;
    device.until_phase(id, Phase::Running).await;
    assert_eq!(engine.containers(), before);
    device.stop().await;
}

#[tokio::test]
async fn an_engine_that_comes_back_is_looked_at_again() {
    let (engine, runtime) = engine();
    let mut device = Device::start(runtime, None, &Kept::default()).await;
    let id = instance(service(0), 0);
    device.assign(assignment(1, &spec(), [running(id)])).await;
    device.until_phase(id, Phase::Running).await;
    engine.go_down();
    engine.exit(id, 137);
    engine.come_back();
    assert_eq!(device.until(id, |report| report.restarts == 1).await.phase, Phase::Running);
    device.stop().await;
}

#[tokio::test]
async fn an_instance_runs_when_it_has_its_network_and_not_before() {
    let (_, runtime) = engine();
    let network = FakeNetwork::new();
    network.hold();
    let mut device = Device::start(runtime, Some(Arc::new(network.clone())), &Kept::default()).await;
    let id = instance(service(0), 0);
    device.assign(assignment(1, &spec(), [running(id)])).await;
    device.until(id, |report| report.detail == "waiting for its network").await;
    network.go_on();
    let addresses = device.until_phase(id, Phase::Running).await.addresses;
    assert_eq!(addresses, ["10.18.0.2".parse::<std::net::IpAddr>().expect("an address")]);
    device.assign(assignment(2, &spec(), [assigned(id, 1, Desired::Removed)])).await;
    device.until_phase(id, Phase::Removed).await;
    assert_eq!(network.attached(), [].into());
    device.stop().await;
}

#[tokio::test]
async fn a_refused_network_is_a_failure_with_its_reason_until_it_is_granted() {
    let (_, runtime) = engine();
    let network = FakeNetwork::new();
    let conflict =
        NetworkError::Refused { code: "port_conflict".into(), message: "port 80 is taken by b/0".into() };
    network.refuse(Some(conflict));
    let mut device = Device::start(runtime, Some(Arc::new(network.clone())), &Kept::default()).await;
    let id = instance(service(0), 0);
    device.assign(assignment(1, &spec(), [running(id)])).await;
    assert_eq!(device.until_phase(id, Phase::Failed).await.detail, "port 80 is taken by b/0");
    network.refuse(None);
    device.until_phase(id, Phase::Running).await;
    device.stop().await;
}

#[tokio::test]
async fn logs_are_read_followed_and_refused_with_a_reason() {
    let (engine, runtime) = engine();
    let mut device = Device::start(runtime, None, &Kept::default()).await;
    let id = instance(service(0), 0);
    device.assign(assignment(1, &spec(), [running(id)])).await;
    device.until_phase(id, Phase::Running).await;
    engine.write(id, "one\ntwo\n");
    let request = device.ask_for_logs(id, 1, false).await;
    assert_eq!(device.log_to_its_end(request).await, Ok("two\n".to_owned()));
    let request = device.ask_for_logs(id, 0, true).await;
    device.until_logged(request, "one\ntwo\n").await;
    engine.write(id, "three\n");
    device.until_logged(request, "three\n").await;
    device.say(FromCluster::CancelLogs { request }).await;
    let request = device.ask_for_logs(instance(service(0), 9), 0, false).await;
    let error = device.log_to_its_end(request).await.expect_err("there is no such instance");
    assert!(error.ends_with("has no container on this device, so there is no output"), "{error}");
    device.stop().await;
}

#[tokio::test]
async fn a_quiet_device_reports_when_it_is_asked() {
    let (_, runtime) = engine();
    let mut device = Device::start(runtime, None, &Kept::default()).await;
    device.until_measured().await;
    let three_seconds = std::time::Duration::from_secs(3);
    let mut reports = 0;
    // What was asked for meanwhile may still come; after that its beats tell all there is.
    while tokio::time::timeout(three_seconds, device.listen()).await.is_ok() {
        reports += 1;
        assert!(reports < 4, "{:?}", device.report);
    }
    let before = device.report.sequence;
    device.say(FromCluster::ReportRequest { anew: false }).await;
    device.until_report(|report| report.sequence > before).await;
    device.stop().await;
}

#[tokio::test]
async fn an_instance_that_goes_waits_for_its_connections() {
    for hangs_up in [true, false] {
        let (engine, runtime) = engine();
        let network = FakeNetwork::new();
        let mut device = Device::start(runtime, Some(Arc::new(network.clone())), &Kept::default()).await;
        let id = instance(service(0), 0);
        let drain = Span::from_secs(if hangs_up { 3600 } else { 2 });
        let spec = ServiceSpec { drain, ..spec() };
        device.assign(assignment(1, &spec, [running(id)])).await;
        device.until_phase(id, Phase::Running).await;
        network.connect(2);
        let begun = Instant::now();
        device.assign(assignment(2, &spec, [assigned(id, 1, Desired::Removed)])).await;
        let detail = format!("waiting for 2 connections to end, {drain} at most");
        device.until(id, |report| report.phase == Phase::Undeploying && report.detail == detail).await;
        assert_eq!((engine.containers().len(), network.attached().len()), (1, 1));
        if hangs_up {
            network.connect(0);
        }
        device.until_phase(id, Phase::Removed).await;
        assert!(hangs_up || begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!((engine.containers().len(), network.attached().len()), (0, 0));
        device.stop().await;
    }
}

#[tokio::test]
async fn what_a_single_attempt_wrote_is_told_with_its_end_and_again_after_a_connection() {
    let (engine, runtime) = engine();
    let mut device = Device::start(runtime, None, &Kept::default()).await;
    let id = instance(service(0), 0);
    let once = ServiceSpec { one_shot: true, single_attempt: true, ..spec() };
    device.assign(assignment(1, &once, [running(id)])).await;
    device.until_phase(id, Phase::Running).await;
    let wrote = Output::Text("{\"count\": 3}".into());
    engine.write_output(id, wrote.clone());
    assert!(engine.exit(id, 0));
    let ended = device.until_phase(id, Phase::Completed).await;
    assert_eq!(ended.last_exit.and_then(|exit| exit.output), Some(wrote.clone()));
    let tells = |output: Output| {
        move |report: &model::InstanceReport| {
            report.last_exit.as_ref().and_then(|exit| exit.output.as_ref()) == Some(&output)
        }
    };
    device.say(FromCluster::ReportRequest { anew: false }).await;
    device.until(id, tells(Output::AsTold)).await;
    device.say(FromCluster::ReportRequest { anew: true }).await;
    device.until(id, tells(wrote.clone())).await;
    device.say(FromCluster::ReportRequest { anew: false }).await;
    device.until(id, tells(Output::AsTold)).await;
    device.say(FromCluster::Disconnected("it is away".to_owned())).await;
    device.say(FromCluster::Connected).await;
    device.until(id, tells(wrote)).await;
    device.stop().await;
}
