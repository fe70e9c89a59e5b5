//! Secrets of containers on a real Docker engine, and images of a real registry that wants a login. There is no way to skip
//! these: without an engine and `docker-registry` they fail and say what to do.

mod device;
mod engine;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command},
    sync::Arc,
    time::Duration,
};

use bollard::{
    auth::DockerCredentials,
    query_parameters::{
        PushImageOptionsBuilder, RemoveImageOptions, StopContainerOptions, TagImageOptionsBuilder,
    },
};
use device::{Device, Kept, assigned, assignment, running};
use engine::Engine;
use futures_util::StreamExt;
use link::SecretValue;
use model::{
    Assignment, Desired, Generation, ImagePullSecret, Phase, RegistryCredentials, Sealed, SecretId,
    SecretTarget, SecretUse, SecretVersionId, ServiceSpec,
};

const VALUE: &str = "hunter2-marker";
/// That of `VALUE`, by bcrypt.
const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuv7oY0QbM1wry9ilzLTmZ3dmI/K/TiKW";
const USER: &str = "robot";

fn version(number: u32) -> SecretVersionId {
    SecretVersionId { secret: SecretId::from_bytes([1; 12]), number }
}

fn given(name: &str, target: SecretTarget) -> SecretUse {
    SecretUse { name: name.to_owned(), version: version(1), target }
}

/// The same with a value sealed for the engine's device.
fn with_value(engine: &Engine, number: u32, value: &[u8], assignment: Assignment) -> Assignment {
    let sealed: Sealed =
        engine.sealing_key().public().seal(version(number), &SecretValue::new(value.to_vec()));
    let secrets = BTreeMap::from([(version(number), sealed)]);
    Assignment { secrets: Arc::new(secrets), ..assignment }
}

fn files_of(engine: &Engine) -> usize {
    std::fs::read_dir(engine.secret_files()).expect("there").count()
}

#[tokio::test]
async fn a_container_reads_its_secrets_and_they_go_with_it() {
    let engine = Engine::ready(1).await;
    let kept = Kept::default();
    let mut device = Device::start(engine.runtime(), None, &kept).await;
    let id = engine.instance(0);
    let mut spec = engine.spec(&["file", "/run/secrets/database", "env", "PASSWORD", "wait"]);
    let file = SecretTarget::File { path: "/run/secrets/database".to_owned(), mode: 0o400 };
    spec.secrets =
        vec![given("database", file), given("database", SecretTarget::Variable("PASSWORD".to_owned()))];
    let wanted = assignment(1, &spec, [running(id)]);
    device.assign(with_value(&engine, 1, VALUE.as_bytes(), wanted)).await;
    device.until_phase(id, Phase::Running).await;
    let request = device.ask_for_logs(id, 0, true).await;
    device.until_logged(request, &format!("{VALUE}\n{VALUE}\n")).await;

    let container = engine.container(id).await;
    let mounts = container.mounts.clone().expect("told");
    let [mount] = &mounts[..] else { panic!("one mount, not {mounts:?}") };
    assert_eq!((mount.destination.as_deref(), mount.rw), (Some("/run/secrets/database"), Some(false)));
    let command = container.config.expect("told").cmd.expect("told");
    assert!(!command.concat().contains(VALUE), "never an argument");
    assert_eq!(files_of(&engine), 1);
    let report = format!("{:?}", device.instance(id));
    assert!(!report.contains(VALUE), "{report}");
    let saved = kept.0.lock().expect("no test panics with it").assignment.clone();
    let saved = serde_json::to_string(&saved).expect("JSON");
    assert!(saved.contains("/run/secrets/database") && !saved.contains(VALUE), "{saved}");

    device.assign(assignment(2, &spec, [assigned(id, 1, Desired::Removed)])).await;
    device.until_phase(id, Phase::Removed).await;
    assert_eq!(files_of(&engine), 0, "nothing is left of it");
    device.stop().await;
}

#[tokio::test]
async fn a_device_that_boots_alone_opens_what_it_kept() {
    let engine = Engine::ready(2).await;
    let kept = Kept::default();
    let mut device = Device::start(engine.gated_runtime(), Some(network()), &kept).await;
    let id = engine.instance(0);
    let mut spec = engine.spec(&["file", "/run/secrets/database", "wait"]);
    spec.secrets =
        vec![given("database", SecretTarget::File { path: "/run/secrets/database".to_owned(), mode: 0o444 })];
    let wanted = assignment(1, &spec, [running(id)]);
    device.assign(with_value(&engine, 1, VALUE.as_bytes(), wanted)).await;
    device.until_phase(id, Phase::Running).await;
    device.kill().await;

    // The power is cut: containers end, and what was in memory is gone.
    let container = engine.container(id).await.id.expect("told");
    engine.docker.stop_container(&container, None::<StopContainerOptions>).await.expect("it stops");
    for entry in std::fs::read_dir(engine.secret_files()).expect("there").flatten() {
        std::fs::remove_dir_all(entry.path()).expect("ours");
    }

    let mut device = Device::start_cut_off(engine.gated_runtime(), Some(network()), &kept);
    let until = async {
        while engine.container(id).await.state.and_then(|state| state.running) != Some(true) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), until).await.expect("it is started again");
    assert_eq!(engine.container(id).await.id.as_deref(), Some(&*container), "the same container");
    let request = device.ask_for_logs(id, 0, true).await;
    device.until_logged(request, &format!("{VALUE}\n{VALUE}\n")).await;
    device.stop().await;
}

fn network() -> Arc<dyn node_engine::network::InstanceNetwork> {
    Arc::new(node_engine::network::fake::FakeNetwork::default())
}

#[tokio::test]
async fn without_its_value_an_instance_fails_and_says_which() {
    let engine = Engine::ready(3).await;
    let mut device = Device::start(engine.runtime(), None, &Kept::default()).await;
    let id = engine.instance(0);
    let mut spec = engine.spec(&["wait"]);
    spec.secrets = vec![given("database", SecretTarget::Variable("A".to_owned()))];
    device.assign(assignment(1, &spec, [running(id)])).await;
    let report = device.until_phase(id, Phase::Failed).await;
    assert!(report.detail.starts_with("secret `database` did not come"), "{}", report.detail);
    device.stop().await;
}

/// A registry that lets `USER` in and nobody else; ends with the test.
struct Registry {
    process: Child,
    server: String,
    _directory: tempfile::TempDir,
}

impl Registry {
    fn start() -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
        let server = format!("127.0.0.1:{}", port.expect("a free port").port());
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name).display().to_string();
        let configuration = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{server}\"}}\n\
             auth: {{htpasswd: {{realm: test, path: {}}}}}\nlog: {{level: error}}\n",
            path("images"),
            path("users"),
        );
        std::fs::write(path("users"), format!("{USER}:{HASH}\n")).expect("writable");
        std::fs::write(path("registry.yml"), configuration).expect("writable");
        let log = std::fs::File::create(path("log")).expect("writable");
        let process = Command::new("docker-registry")
            .args(["serve", &path("registry.yml")])
            .stdout(log.try_clone().expect("open"))
            .stderr(log)
            .spawn()
            .expect("`apt-get install docker-registry`, or let `scripts/test` install it");
        Self { process, server, _directory: directory }
    }

    async fn ready(&self) {
        let up = async {
            while tokio::net::TcpStream::connect(&self.server).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), up).await.expect("the registry listens");
    }

    /// An image that is there and not on the device.
    async fn image(&self, engine: &Engine) -> String {
        let repository = format!("{}/payload", self.server);
        let image = format!("{repository}:1");
        let tag = TagImageOptionsBuilder::default().repo(&repository).tag("1").build();
        engine.docker.tag_image(&engine.image, Some(tag)).await.expect("it is there");
        let credentials = DockerCredentials {
            username: Some(USER.to_owned()),
            password: Some(VALUE.to_owned()),
            serveraddress: Some(self.server.clone()),
            ..DockerCredentials::default()
        };
        let options = PushImageOptionsBuilder::default().tag("1").build();
        let mut steps = engine.docker.push_image(&repository, Some(options), Some(credentials));
        while let Some(step) = steps.next().await {
            step.expect("the registry takes it");
        }
        self.forget(engine, &image).await;
        image
    }

    async fn forget(&self, engine: &Engine, image: &str) {
        let removed = engine.docker.remove_image(image, None::<RemoveImageOptions>, None).await;
        drop(removed.expect("it is there"));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
    }
}

#[tokio::test]
async fn an_image_of_a_registry_that_wants_a_login_is_fetched_with_the_secret_and_not_without() {
    let engine = Engine::ready(4).await;
    let registry = Registry::start();
    registry.ready().await;
    let image = registry.image(&engine).await;
    let mut device = Device::start(engine.runtime(), None, &Kept::default()).await;
    let id = engine.instance(0);
    let without = ServiceSpec { image: image.clone(), ..engine.spec(&["wait"]) };
    device.assign(assignment(1, &without, [running(id)])).await;
    let refused = device.until_phase(id, Phase::Failed).await.detail;
    assert!(refused.contains("cannot be fetched"), "{refused}");

    let secret = ImagePullSecret { name: "registry".to_owned(), version: version(2) };
    let with = ServiceSpec { image_pull_secret: Some(secret), ..without };
    let login = RegistryCredentials {
        server: registry.server.clone(),
        username: USER.to_owned(),
        password: VALUE.to_owned(),
    };
    let login = serde_json::to_vec(&login).expect("JSON");
    let mut wanted = assignment(2, &with, [assigned(id, 2, Desired::Running)]);
    wanted.generation = Generation(2);
    device.assign(with_value(&engine, 2, &login, wanted)).await;
    device.until_phase(id, Phase::Running).await;
    device.assign(assignment(3, &with, [assigned(id, 2, Desired::Removed)])).await;
    device.until_phase(id, Phase::Removed).await;
    registry.forget(&engine, &image).await;
    device.stop().await;
}
