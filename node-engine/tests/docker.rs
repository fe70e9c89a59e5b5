//! NodeEngine on a real Docker engine. There is no way to skip these: without an engine they fail and say what to do.

mod device;

use std::{
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bollard::{
    Docker, body_full,
    models::{ContainerCreateBody, ContainerInspectResponse},
    query_parameters::{
        CreateContainerOptionsBuilder, CreateImageOptionsBuilder, InspectContainerOptions,
        ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
    },
};
use device::{Device, Kept, assigned, assignment, instance, running, service};
use futures_util::StreamExt;
use model::{
    AddedFile, Check, Desired, Health, InstanceId, Mebibytes, Millicores, Phase, PortMapping, Probe,
    ServiceId, ServiceSpec, Span,
};
use node_engine::{
    gate::Gates,
    network::{NetworkError, fake::FakeNetwork},
    runtime::{INSTANCE_LABEL, docker::DockerRuntime},
};
use tokio::{io::AsyncReadExt, time::Instant};

const SOCKET: &str = "/var/run/docker.sock";

/// A Docker engine with the payload's image, and a service id whose containers are removed at the end.
struct Engine {
    docker: Docker,
    image: String,
    service: ServiceId,
    gates: tempfile::TempDir,
}

impl Engine {
    async fn ready(test: u8) -> Self {
        let docker = docker().await;
        let image = import_payload(&docker, &[]).await;
        // Mounted into containers by the engine, so not below a directory that only this process may see.
        let gates = tempfile::tempdir_in("/var/lib").expect("these tests run as root");
        Self { docker, image, service: service(test), gates }
    }

    fn instance(&self, number: u32) -> InstanceId {
        instance(self.service, number)
    }

    fn runtime(&self) -> Arc<DockerRuntime> {
        Arc::new(DockerRuntime::new(PathBuf::from(SOCKET), None))
    }

    fn gated_runtime(&self) -> Arc<DockerRuntime> {
        let gates = Gates::install(self.gates.path(), env!("CARGO_BIN_EXE_NodeEngine").as_ref());
        Arc::new(DockerRuntime::new(PathBuf::from(SOCKET), Some(gates.expect("NodeEngine is static"))))
    }

    fn spec(&self, arguments: &[&str]) -> ServiceSpec {
        let mut spec = ServiceSpec::container(&self.image);
        spec.command = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        spec
    }

    /// The containers of an instance, as Docker sees them.
    async fn containers(&self, id: InstanceId) -> Vec<ContainerInspectResponse> {
        let mut inspected = Vec::new();
        for container in labelled(&self.docker, &format!("{INSTANCE_LABEL}={id}")).await {
            inspected.push(
                self.docker
                    .inspect_container(&container, None::<InspectContainerOptions>)
                    .await
                    .expect("listed"),
            );
        }
        inspected
    }

    async fn container(&self, id: InstanceId) -> ContainerInspectResponse {
        let mut containers = self.containers(id).await;
        assert_eq!(containers.len(), 1, "{id} has one container");
        containers.remove(0)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let service = self.service;
        let clean = async move {
            let docker = docker().await;
            for number in 0..12 {
                let id = instance(service, number);
                for container in labelled(&docker, &format!("{INSTANCE_LABEL}={id}")).await {
                    force_remove(&docker, &container).await;
                }
            }
        };
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        drop(std::thread::spawn(move || runtime().block_on(clean)).join());
    }
}

async fn docker() -> Docker {
    let needed = "a Docker engine at /var/run/docker.sock is needed; `scripts/test` installs and starts one";
    let docker = Docker::connect_with_unix(SOCKET, 120, bollard::API_DEFAULT_VERSION).expect(needed);
    docker.negotiate_version().await.expect(needed)
}

async fn labelled(docker: &Docker, label: &str) -> Vec<String> {
    let filters = std::collections::HashMap::from([("label", vec![label])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let listed = docker.list_containers(Some(options)).await.expect("the engine lists");
    listed.into_iter().filter_map(|container| container.id).collect()
}

async fn force_remove(docker: &Docker, container: &str) {
    let options = RemoveContainerOptionsBuilder::default().force(true).build();
    // What is gone already need not go.
    drop(docker.remove_container(container, Some(options)).await);
}

/// An image that holds nothing but the payload; made once per build of it.
async fn import_payload(docker: &Docker, changes: &[&str]) -> String {
    let test = std::env::current_exe().expect("this test has a path");
    let examples =
        test.parent().and_then(std::path::Path::parent).expect("target/<profile>/deps").join("examples");
    let payload = examples.join("payload");
    let built = std::fs::metadata(&payload).and_then(|file| file.modified());
    let built =
        built.expect("`cargo build --package node-engine --example payload` builds what the containers run");
    let stamp = built.duration_since(UNIX_EPOCH).expect("built after 1970").as_millis();
    let repository = "mangrove-test/payload";
    let tag =
        format!("{stamp}{}", changes.join("").replace(|letter: char| !letter.is_ascii_alphanumeric(), "-"));
    let image = format!("{repository}:{tag}");
    if docker.inspect_image(&image).await.is_ok() {
        return image;
    }
    let archive =
        Command::new("tar").arg("-C").arg(&examples).args(["-c", "payload"]).output().expect("tar is there");
    assert!(archive.status.success(), "{archive:?}");
    let mut all_changes = vec![r#"ENTRYPOINT ["/payload"]"#.to_owned()];
    all_changes.extend(changes.iter().map(|change| (*change).to_owned()));
    let options =
        CreateImageOptionsBuilder::default().from_src("-").repo(repository).tag(&tag).changes(all_changes);
    let mut steps = docker.create_image(Some(options.build()), Some(body_full(archive.stdout.into())), None);
    while let Some(step) = steps.next().await {
        step.expect("the engine imports");
    }
    image
}

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

/// Most of the time is the engine's own: compared with the same done by hand, on the same device at the same time.
#[tokio::test]
async fn a_killed_process_is_running_again_hardly_later_than_by_hand() {
    const ROUNDS: u32 = 10;
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
    let (median, at_best) = (ours[5], by_hand[5]);
    println!("killed and running again: median {median:?}, by hand {at_best:?}; all {ours:?}");
    // Half a second of patience for a device that does other things too; waiting for anything would take a second.
    assert!(median < at_best + Duration::from_millis(500), "{ours:?} and by hand {by_hand:?}");
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
        let report = device
            .until(id, |report| {
                let told = report.last_exit.as_ref().is_some_and(|exit| !exit.tail.is_empty());
                report.restarts == restarts && told
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
    let (before, mut heard) = (device.report.clone(), 0);
    while heard < 2 {
        device.listen().await;
        heard += 1;
    }
    assert_eq!(device.report.instances[0].phase, before.instances[0].phase);
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
