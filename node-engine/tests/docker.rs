//! NodeEngine on a real Docker engine. There is no way to skip these: without an engine they fail and say what to do.

mod device;
mod engine;

use std::{
    collections::{BTreeMap, HashMap},
    process::Command,
    sync::Arc,
};

use bollard::{
    models::{ContainerCreateBody, ContainerInspectResponse, HostConfig},
    query_parameters::{CreateContainerOptionsBuilder, InspectContainerOptions},
};
use device::{Device, Kept, assigned, assignment, running};
use engine::{Engine, force_remove, import_payload};
use model::{AddedFile, Desired, Generation, Mebibytes, Millicores, Phase, PortMapping, ServiceSpec};
use node_engine::{
    gate,
    network::fake::FakeNetwork,
    runtime::{GENERATION_LABEL, INSTANCE_LABEL},
};
use tokio::io::AsyncReadExt;

#[tokio::test]
async fn limits_environment_command_and_files_reach_the_container() {
    let engine = Engine::ready(1).await;
    let mut device = Device::start(engine.runtime(), None, &Kept::default()).await;
    let id = engine.instance(0);
    let mut spec = engine
        .spec(&["env", "GREETING", "env", "HOSTNAME", "file", "/etc/deep/motd", "wait"])
        .reserving(Millicores(500), Mebibytes(64));
    spec.environment.insert("GREETING".to_owned(), "good day = 1".to_owned());
    spec.added_files.push(AddedFile {
        path: "/etc/deep/motd".to_owned(),
        content: "be kind".to_owned(),
        mode: 0o600,
    });
    device.assign(assignment(1, &spec, [running(id)])).await;
    device.until_phase(id, Phase::Running).await;
    let container = engine.container(id).await;
    let host = container.host_config.expect("told");
    assert_eq!(
        (host.nano_cpus, host.memory, host.privileged),
        (Some(500_000_000), Some(64 << 20), Some(false))
    );
    let request = device.ask_for_logs(id, 0, true).await;
    let host_name = container.config.expect("told").hostname.expect("set");
    device.until_logged(request, &format!("good day = 1\n{host_name}\nbe kind\n")).await;
    device.until(id, |report| report.usage.memory_bytes > 0).await;
    device.stop().await;
}

#[tokio::test]
async fn ports_of_the_device_lead_to_the_container() {
    let engine = Engine::ready(2).await;
    let mut device = Device::start(engine.runtime(), None, &Kept::default()).await;
    let id = engine.instance(0);
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
    let mut spec = engine.spec(&["greet", "80"]);
    spec.ports = PortMapping::parse_list(&format!("{free}:80")).expect("well formed");
    device.assign(assignment(1, &spec, [running(id)])).await;
    device.until_phase(id, Phase::Running).await;
    let mut greeting = String::new();
    while greeting.is_empty() {
        // The engine accepts before the program in the container listens.
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", free)).await.expect("published");
        drop(stream.read_to_string(&mut greeting).await);
    }
    assert_eq!(greeting, "hello\n");
    device.stop().await;
}

#[tokio::test]
async fn a_one_shot_that_succeeds_is_completed_and_its_log_stays() {
    let engine = Engine::ready(3).await;
    let mut device = Device::start(engine.runtime(), None, &Kept::default()).await;
    let id = engine.instance(0);
    let mut spec = engine.spec(&["say", "one", "say", "two", "exit", "0"]);
    spec.one_shot = true;
    device.assign(assignment(1, &spec, [running(id)])).await;
    device.until_phase(id, Phase::Completed).await;
    let request = device.ask_for_logs(id, 0, true).await;
    assert_eq!(device.log_to_its_end(request).await, Ok("one\ntwo\n".to_owned()));
    let request = device.ask_for_logs(id, 1, false).await;
    assert_eq!(device.log_to_its_end(request).await, Ok("two\n".to_owned()));
    device.stop().await;
}

#[tokio::test]
async fn a_crash_is_started_again_in_the_same_container() {
    let engine = Engine::ready(4).await;
    let mut device = Device::start(engine.runtime(), None, &Kept::default()).await;
    let id = engine.instance(0);
    device.assign(assignment(1, &engine.spec(&["say", "again", "exit", "3"]), [running(id)])).await;
    device.until(id, |report| report.restarts == 2 && report.phase == Phase::Dead).await;
    assert_eq!(device.instance(id).expect("reported").detail, "exited with code 3; being started again");
    let request = device.ask_for_logs(id, 0, false).await;
    assert_eq!(device.log_to_its_end(request).await, Ok("again\n".repeat(3)));
    device.stop().await;
}

#[tokio::test]
async fn a_killed_process_is_running_again_at_once() {
    let engine = Engine::ready(5).await;
    let mut device = Device::start(engine.runtime(), None, &Kept::default()).await;
    let id = engine.instance(0);
    device.assign(assignment(1, &engine.spec(&["wait"]), [running(id)])).await;
    device.until_phase(id, Phase::Running).await;
    let before = engine.container(id).await;
    let pid = before.state.and_then(|state| state.pid).expect("it runs");
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill is there");
    assert!(killed.success());
    device.until(id, |report| report.restarts == 1 && report.phase == Phase::Running).await;
    assert_eq!(engine.container(id).await.id, before.id);
    device.stop().await;
}

#[tokio::test]
async fn a_container_that_somebody_removes_is_made_again_without_a_failure() {
    let engine = Engine::ready(40).await;
    let mut device = Device::start(engine.runtime(), None, &Kept::default()).await;
    let id = engine.instance(0);
    device.assign(assignment(1, &engine.spec(&["wait"]), [running(id)])).await;
    let first = device.until_phase(id, Phase::Running).await;
    let before = engine.container(id).await.id.expect("it has an id");
    force_remove(&engine.docker, &before).await;
    device
        .until(id, |report| {
            assert_ne!(report.phase, Phase::Failed, "{}", report.detail);
            report.phase == Phase::Running && report.since > first.since
        })
        .await;
    assert_ne!(engine.container(id).await.id, Some(before));
    device.stop().await;
}

#[tokio::test]
async fn a_restarted_node_engine_adopts_the_running_container() {
    let engine = Engine::ready(6).await;
    let kept = Kept::default();
    let mut device = Device::start(engine.runtime(), None, &kept).await;
    let id = engine.instance(0);
    device.assign(assignment(1, &engine.spec(&["wait"]), [running(id)])).await;
    device.until_phase(id, Phase::Running).await;
    let before = engine.container(id).await;
    device.stop().await;
    let mut device = Device::start(engine.runtime(), None, &kept).await;
    device.until_phase(id, Phase::Running).await;
    let after = engine.container(id).await;
    let of =
        |container: ContainerInspectResponse| (container.id, container.state.and_then(|state| state.pid));
    assert_eq!(of(after), of(before));
    device.stop().await;
}

#[tokio::test]
async fn a_tombstone_removes_the_container_and_nothing_else() {
    let engine = Engine::ready(7).await;
    let mut device = Device::start(engine.runtime(), None, &Kept::default()).await;
    let (gone, stays) = (engine.instance(0), engine.instance(1));
    let spec = engine.spec(&["wait"]);
    device.assign(assignment(1, &spec, [running(gone), running(stays)])).await;
    device.until_phase(gone, Phase::Running).await;
    device.until_phase(stays, Phase::Running).await;
    device.assign(assignment(2, &spec, [assigned(gone, 1, Desired::Removed)])).await;
    device.until_phase(gone, Phase::Removed).await;
    assert_eq!(engine.containers(gone).await.len(), 0);
    assert_eq!(engine.container(stays).await.state.and_then(|state| state.running), Some(true));
    let left = device.until_phase(stays, Phase::Running).await;
    assert_eq!(left.detail, "not assigned to this device; left alone");
    device.assign(assignment(3, &spec, [])).await;
    device.until_report(|report| report.instances.iter().all(|instance| instance.id != gone)).await;
    device.stop().await;
}

#[tokio::test]
async fn a_newer_generation_replaces_the_container() {
    let engine = Engine::ready(8).await;
    let mut device = Device::start(engine.runtime(), None, &Kept::default()).await;
    let id = engine.instance(0);
    let spec = engine.spec(&["wait"]);
    device.assign(assignment(1, &spec, [running(id)])).await;
    device.until_phase(id, Phase::Running).await;
    let before = engine.container(id).await;
    device.assign(assignment(2, &spec, [assigned(id, 2, Desired::Running)])).await;
    device.until(id, |report| report.generation.0 == 2 && report.phase == Phase::Running).await;
    assert_ne!(engine.container(id).await.id, before.id);
    device.stop().await;
}

#[tokio::test]
async fn a_foreign_container_keeps_its_name_and_its_life() {
    let engine = Engine::ready(9).await;
    let id = engine.instance(0);
    let name = format!("mangrove.app.test.service{}.test.0", engine.service);
    let body = ContainerCreateBody { image: Some(engine.image.clone()), ..ContainerCreateBody::default() };
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    let foreign = engine.docker.create_container(Some(options), body).await.expect("made").id;
    let mut device = Device::start(engine.runtime(), None, &Kept::default()).await;
    let spec = engine.spec(&["wait"]);
    device.assign(assignment(1, &spec, [running(id)])).await;
    device.until_phase(id, Phase::Running).await;
    assert_eq!(engine.container(id).await.name, Some(format!("/{name}.{}.1", engine.service)));
    device.assign(assignment(2, &spec, [assigned(id, 1, Desired::Removed)])).await;
    device.until_phase(id, Phase::Removed).await;
    let still = engine.docker.inspect_container(&foreign, None::<InspectContainerOptions>).await;
    assert_eq!(still.expect("it is still there").name, Some(format!("/{name}")));
    force_remove(&engine.docker, &foreign).await;
    device.stop().await;
}

#[tokio::test]
async fn an_image_that_is_nowhere_is_a_failure_that_names_it() {
    let engine = Engine::ready(10).await;
    let mut device = Device::start(engine.runtime(), None, &Kept::default()).await;
    let id = engine.instance(0);
    device.assign(assignment(1, &ServiceSpec::container("127.0.0.1:1/none:1"), [running(id)])).await;
    let failed = device.until_phase(id, Phase::Failed).await;
    assert!(failed.detail.starts_with("image `127.0.0.1:1/none:1` cannot be fetched: "), "{}", failed.detail);
    device.stop().await;
}

#[tokio::test]
async fn more_than_the_device_has_is_refused_in_the_engines_words() {
    let engine = Engine::ready(11).await;
    let mut device = Device::start(engine.runtime(), None, &Kept::default()).await;
    let id = engine.instance(0);
    let spec = engine.spec(&["wait"]).reserving(Millicores(4_000_000), Mebibytes(0));
    device.assign(assignment(1, &spec, [running(id)])).await;
    let failed = device.until_phase(id, Phase::Failed).await;
    assert!(failed.detail.contains("Range of CPUs"), "{}", failed.detail);
    device.stop().await;
}

#[tokio::test]
async fn a_process_does_nothing_until_its_network_is_there() {
    let mut engine = Engine::ready(12).await;
    engine.image = import_payload(&engine.docker, &["USER 65534"]).await;
    let network = FakeNetwork::new();
    network.hold();
    let mut device =
        Device::start(engine.gated_runtime(), Some(Arc::new(network.clone())), &Kept::default()).await;
    let id = engine.instance(0);
    let mut spec = engine.spec(&["say", "begun", "env", "HOSTNAME", "wait"]);
    spec.ports = PortMapping::parse_list("8080:80").expect("well formed");
    device.assign(assignment(1, &spec, [running(id)])).await;
    device.until(id, |report| report.detail == "waiting for its network").await;
    let container = engine.container(id).await;
    assert_eq!(container.state.and_then(|state| state.running), Some(true));
    // A heartbeat later it still has done nothing.
    for _ in 0..2 {
        device.listen().await;
    }
    // By its id: containers of other tests on the same engine are reported too.
    let said = device.report.instances.iter().find(|report| report.id == id);
    assert_eq!(said.map(|report| report.phase), Some(Phase::Creating));
    let request = device.ask_for_logs(id, 0, false).await;
    assert_eq!(device.log_to_its_end(request).await, Ok(String::new()));

    network.go_on();
    let report = device.until_phase(id, Phase::Running).await;
    assert_eq!(report.addresses, ["10.18.0.2".parse::<std::net::IpAddr>().expect("an address")]);
    let request = device.ask_for_logs(id, 0, true).await;
    device.until_logged(request, "begun\n").await;
    let attachment = &network.attached()[&id];
    assert!(std::fs::metadata(&attachment.network_namespace).is_ok(), "{attachment:?}");
    assert_eq!(attachment.ports, spec.ports);

    device.assign(assignment(2, &spec, [assigned(id, 1, Desired::Removed)])).await;
    device.until_phase(id, Phase::Removed).await;
    let left: Vec<_> = std::fs::read_dir(engine.gates.path()).expect("there").flatten().collect();
    assert_eq!(left.len(), 1, "only the gate's program is left: {left:?}");
    device.stop().await;
}

#[tokio::test]
async fn a_node_engine_that_ended_before_it_opened_the_gate_opens_it_later() {
    let engine = Engine::ready(13).await;
    let network = FakeNetwork::new();
    network.hold();
    let kept = Kept::default();
    let mut device = Device::start(engine.gated_runtime(), Some(Arc::new(network.clone())), &kept).await;
    let id = engine.instance(0);
    device.assign(assignment(1, &engine.spec(&["say", "begun", "wait"]), [running(id)])).await;
    device.until(id, |report| report.detail == "waiting for its network").await;
    let before = engine.container(id).await.id;
    device.stop().await;

    let mut device = Device::start(engine.gated_runtime(), Some(Arc::new(network.clone())), &kept).await;
    device.until(id, |report| report.detail == "waiting for its network").await;
    network.go_on();
    device.until_phase(id, Phase::Running).await;
    assert_eq!(engine.container(id).await.id, before);
    device.stop().await;

    // Adopted behind its gate, it is running from the first report on.
    network.hold();
    let mut device = Device::start(engine.gated_runtime(), Some(Arc::new(network.clone())), &kept).await;
    device.until_phase(id, Phase::Running).await;
    network.go_on();
    device.until(id, |report| !report.addresses.is_empty()).await;
    assert_eq!(engine.container(id).await.id, before);
    device.stop().await;
}

#[tokio::test]
async fn a_gated_container_that_crashes_waits_at_its_gate_again() {
    let engine = Engine::ready(14).await;
    let network = FakeNetwork::new();
    let mut device =
        Device::start(engine.gated_runtime(), Some(Arc::new(network.clone())), &Kept::default()).await;
    let id = engine.instance(0);
    device.assign(assignment(1, &engine.spec(&["say", "again", "exit", "1"]), [running(id)])).await;
    device.until(id, |report| report.restarts == 2 && report.phase == Phase::Dead).await;
    let request = device.ask_for_logs(id, 0, false).await;
    assert_eq!(device.log_to_its_end(request).await, Ok("again\n".repeat(3)));
    device.stop().await;
}

#[tokio::test]
async fn a_gated_container_finds_its_names_at_every_start_and_may_bring_its_own() {
    let engine = Engine::ready(15).await;
    let network = FakeNetwork::new();
    let mut device =
        Device::start(engine.gated_runtime(), Some(Arc::new(network.clone())), &Kept::default()).await;
    let mut own = engine.spec(&["file", "/etc/hosts", "file", "/etc/resolv.conf", "exit", "1"]);
    own.added_files.push(AddedFile {
        path: "/etc/resolv.conf".to_owned(),
        content: "nameserver 192.0.2.1".to_owned(),
        mode: 0o644,
    });
    let all =
        engine.spec(&["file", "/etc/hosts", "file", "/etc/resolv.conf", "file", "/etc/hostname", "wait"]);
    let (first, second) = (engine.instance(0), engine.instance(1));
    device.assign(assignment(1, &all, [running(first)])).await;
    device.until_phase(first, Phase::Running).await;
    let container = engine.container(first).await;
    let host_name = container.config.and_then(|config| config.hostname).expect("set");
    let file = engine.installed_gates().file(first, Generation(1), "hosts");
    let hosts = std::fs::read_to_string(&file).expect("there");
    assert!(hosts.starts_with("127.0.0.1\tlocalhost\n"), "{hosts}");
    assert!(hosts.ends_with(&format!("127.0.1.1\t{host_name}\n")), "{hosts}");
    let resolvers = "search test.app.test.mangrove\nnameserver 169.254.1.1\n";
    let printed = format!("{hosts}\n{resolvers}\n{host_name}\n\n");
    let request = device.ask_for_logs(first, 0, true).await;
    device.until_logged(request, &printed).await;
    // What NodeEngine keeps for it may have been cleared away meanwhile.
    std::fs::remove_file(&file).expect("there");
    let pid = container.state.and_then(|state| state.pid).expect("it runs");
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill is there").success());
    device.until(first, |report| report.restarts == 1 && report.phase == Phase::Running).await;
    let request = device.ask_for_logs(first, 0, true).await;
    device.until_logged(request, &printed.repeat(2)).await;

    device.assign(assignment(2, &own, [running(second)])).await;
    device.until(second, |report| report.restarts == 1).await;
    let request = device.ask_for_logs(second, 0, true).await;
    device.until_logged(request, "\n\nnameserver 192.0.2.1\n").await;
    device.stop().await;
}

#[tokio::test]
async fn a_container_in_the_devices_own_network_is_never_let_start() {
    let engine = Engine::ready(16).await;
    let id = engine.instance(0);
    // As an engine would make it that does as it likes about networks.
    let gates = engine.installed_gates();
    gates.close(id, Generation(1)).expect("a pipe");
    let bind = |path: std::path::PathBuf, target: &str| format!("{}:{target}:ro", path.display());
    let binds = vec![bind(gates.program(), gate::PROGRAM), bind(gates.pipe(id, Generation(1)), gate::PIPE)];
    let labels = [(INSTANCE_LABEL, id.to_string()), (GENERATION_LABEL, "1".to_owned())];
    let body = ContainerCreateBody {
        image: Some(engine.image.clone()),
        entrypoint: Some([gate::PROGRAM, "/payload", "say", "begun", "wait"].map(str::to_owned).to_vec()),
        labels: Some(HashMap::from(labels.map(|(name, value)| (name.to_owned(), value)))),
        host_config: Some(HostConfig {
            network_mode: Some("host".to_owned()),
            binds: Some(binds),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    engine.docker.create_container(None, body).await.expect("made");
    let network = FakeNetwork::new();
    let mut device =
        Device::start(engine.gated_runtime(), Some(Arc::new(network.clone())), &Kept::default()).await;
    device.assign(assignment(1, &engine.spec(&["wait"]), [running(id)])).await;
    let failed = device.until_phase(id, Phase::Failed).await;
    assert!(failed.detail.contains("into the device's own network"), "{}", failed.detail);
    assert_eq!(network.attached(), BTreeMap::new());
    let request = device.ask_for_logs(id, 0, false).await;
    assert_eq!(device.log_to_its_end(request).await, Ok(String::new()));
    device.stop().await;
}
