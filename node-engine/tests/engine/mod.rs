//! A real Docker engine under test. There is no way to skip these tests: without an engine they fail and say what to do.

use std::{path::PathBuf, process::Command, sync::Arc, time::UNIX_EPOCH};

use bollard::{
    Docker, body_full,
    models::ContainerInspectResponse,
    query_parameters::{
        CreateImageOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
        RemoveContainerOptionsBuilder,
    },
};
use daemon::StateDirectory;
use futures_util::StreamExt;
use link::SealingKey;
use model::{InstanceId, ServiceId, ServiceSpec};
use node_engine::{
    Secrets,
    gate::Gates,
    runtime::{INSTANCE_LABEL, docker::DockerRuntime},
};

use crate::device::{instance, service};

pub(crate) const SOCKET: &str = "/var/run/docker.sock";

/// A Docker engine with the payload's image, and a service id whose containers are removed at the end.
pub(crate) struct Engine {
    pub(crate) docker: Docker,
    pub(crate) image: String,
    pub(crate) service: ServiceId,
    pub(crate) gates: tempfile::TempDir,
    /// In memory.
    secrets: tempfile::TempDir,
}

impl Engine {
    pub(crate) async fn ready(test: u8) -> Self {
        let docker = docker().await;
        let image = import_payload(&docker, &[]).await;
        // Mounted into containers by the engine, so not below a directory that only this process may see.
        let gates = tempfile::tempdir_in("/var/lib").expect("these tests run as root");
        let secrets = tempfile::tempdir_in("/dev/shm").expect("it is on every Linux");
        Self { docker, image, service: service(test), gates, secrets }
    }

    pub(crate) fn instance(&self, number: u32) -> InstanceId {
        instance(self.service, number)
    }

    pub(crate) fn runtime(&self) -> Arc<DockerRuntime> {
        Arc::new(DockerRuntime::new(PathBuf::from(SOCKET), None, self.secrets()))
    }

    pub(crate) fn gated_runtime(&self) -> Arc<DockerRuntime> {
        Arc::new(DockerRuntime::new(PathBuf::from(SOCKET), Some(self.installed_gates()), self.secrets()))
    }

    /// What secrets are sealed for that containers of this test are given.
    pub(crate) fn sealing_key(&self) -> SealingKey {
        let state = StateDirectory::open(&self.secrets.path().join("state")).expect("released");
        SealingKey::load_or_generate(&state).expect("usable")
    }

    /// Where files with secrets are on the device.
    pub(crate) fn secret_files(&self) -> PathBuf {
        self.secrets.path().join("files")
    }

    fn secrets(&self) -> Secrets {
        Secrets::new(self.sealing_key(), self.secret_files())
    }

    /// The gates of [`Engine::gated_runtime`].
    pub(crate) fn installed_gates(&self) -> Gates {
        let gates = Gates::install(self.gates.path(), env!("CARGO_BIN_EXE_NodeEngine").as_ref());
        gates.expect("NodeEngine is static")
    }

    pub(crate) fn spec(&self, arguments: &[&str]) -> ServiceSpec {
        let mut spec = ServiceSpec::container(&self.image);
        spec.command = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        spec
    }

    /// The containers of an instance, as Docker sees them.
    pub(crate) async fn containers(&self, id: InstanceId) -> Vec<ContainerInspectResponse> {
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

    pub(crate) async fn container(&self, id: InstanceId) -> ContainerInspectResponse {
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

pub(crate) async fn docker() -> Docker {
    let needed = "a Docker engine at /var/run/docker.sock is needed; `scripts/test` installs and starts one";
    let docker = Docker::connect_with_unix(SOCKET, 120, bollard::API_DEFAULT_VERSION).expect(needed);
    docker.negotiate_version().await.expect(needed)
}

pub(crate) async fn labelled(docker: &Docker, label: &str) -> Vec<String> {
    let filters = std::collections::HashMap::from([("label", vec![label])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let listed = docker.list_containers(Some(options)).await.expect("the engine lists");
    listed.into_iter().filter_map(|container| container.id).collect()
}

pub(crate) async fn force_remove(docker: &Docker, container: &str) {
    let options = RemoveContainerOptionsBuilder::default().force(true).build();
    // What is gone already need not go.
    drop(docker.remove_container(container, Some(options)).await);
}

/// An image that holds nothing but the payload; made once per build of it.
pub(crate) async fn import_payload(docker: &Docker, changes: &[&str]) -> String {
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
