//! Docker over its unix socket. What a container looks like to Docker is in `create.rs`, what Docker says of it in
//! `observe.rs`, what a running or an ended one is asked in `ask.rs`.

mod apart;
mod ask;
mod create;
mod errors;
mod name_files;
mod observe;

#[cfg(test)]
pub(crate) use create::tests::order as order_for_test;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    auth::DockerCredentials,
    body_full,
    query_parameters::{
        CreateContainerOptionsBuilder, CreateImageOptionsBuilder, EventsOptionsBuilder,
        InspectContainerOptions, ListContainersOptionsBuilder, LogsOptionsBuilder,
        RemoveContainerOptionsBuilder, StopContainerOptionsBuilder, UploadToContainerOptionsBuilder,
    },
};
use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, join_all},
    stream::{self, BoxStream},
};
use model::{Generation, InstanceId, Output, Timestamp, Usage};
use node_core::{ContainerId, ContainerSeen, ContainerState, RemoveOrder, SealedSecret, StartOrder};

use self::{
    create::ImageCommand,
    errors::{
        failure, gone_if_missing, in_words, is_being_removed, is_no_such_container, refused, status,
        unless_missing,
    },
};
use super::{
    Bytes, ContainerRuntime, Executed, INSTANCE_LABEL, LastWords, LogRange, RuntimeError, RuntimeEvent,
    STOP_GRACE_SECONDS, archive, cgroup::Meter,
};
use crate::{gate::Gates, secrets::Secrets};

/// Bound of one request up to its answer's beginning; the executor bounds whole effects.
const REQUEST_SECONDS: u64 = 120;
/// Progress of a pull is told no more often than this.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);

/// See the module's description.
#[derive(Debug)]
pub struct DockerRuntime {
    socket: PathBuf,
    /// Present when containers get their networks from NetManager.
    gates: Option<Gates>,
    secrets: Secrets,
    connection: Mutex<Option<Docker>>,
    /// What images run, by reference: needed behind a gate, where the entrypoint is ours. Emptied when any image changes.
    commands: std::sync::Arc<Mutex<BTreeMap<String, ImageCommand>>>,
    meters: Mutex<BTreeMap<ContainerId, Meter>>,
    /// Where running containers are reached, as far as somebody asked. Forgotten with each start and each connection.
    addresses: Mutex<BTreeMap<ContainerId, IpAddr>>,
}

impl DockerRuntime {
    /// The engine at `socket`, which need not be up yet. With `gates`, containers start without a network and wait at
    /// their gate.
    #[must_use]
    pub fn new(socket: PathBuf, gates: Option<Gates>, secrets: Secrets) -> Self {
        Self {
            socket,
            gates,
            secrets,
            connection: Mutex::default(),
            commands: std::sync::Arc::default(),
            meters: Mutex::default(),
            addresses: Mutex::default(),
        }
    }

    fn docker(&self) -> Result<Docker, RuntimeError> {
        let unconnected = || RuntimeError::Unreachable { detail: "not connected yet".to_owned() };
        lock(&self.connection).clone().ok_or_else(unconnected)
    }

    async fn connect(&self) -> Result<BoxStream<'static, RuntimeEvent>, RuntimeError> {
        let socket = self.socket.to_string_lossy();
        let docker =
            Docker::connect_with_unix(&socket, REQUEST_SECONDS, API_DEFAULT_VERSION).map_err(failure)?;
        let docker = docker.negotiate_version().await.map_err(failure)?;
        *lock(&self.connection) = Some(docker.clone());
        lock(&self.commands).clear();
        lock(&self.addresses).clear();

        // Events from this moment on, however long the subscription takes: what is listed after is not older.
        let since = observe::seconds_with_fraction(std::time::SystemTime::now());
        let options =
            EventsOptionsBuilder::default().since(&since).filters(&observe::event_filters()).build();
        let mut translator = observe::Translator::new(self.gates.is_some());
        let commands = std::sync::Arc::clone(&self.commands);
        let events = docker.events(Some(options)).take_while(|event| std::future::ready(event.is_ok()));
        let events = events.filter_map(move |event| {
            let translated = event.ok().and_then(|event| {
                if observe::concerns_images(&event) {
                    lock(&commands).clear();
                }
                translator.translate(event)
            });
            std::future::ready(translated)
        });
        Ok(events.boxed())
    }

    async fn list(&self) -> Result<Vec<ContainerSeen>, RuntimeError> {
        let docker = self.docker()?;
        let filters = std::collections::HashMap::from([("label", vec![INSTANCE_LABEL])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = docker.list_containers(Some(options)).await.map_err(failure)?;
        let inspected = listed.into_iter().filter_map(|summary| summary.id).map(|id| {
            let docker = docker.clone();
            async move { docker.inspect_container(&id, None::<InspectContainerOptions>).await }
        });
        let mut seen = Vec::new();
        for answer in stream::iter(inspected).buffered(8).collect::<Vec<_>>().await {
            match answer {
                Ok(container) => seen.extend(observe::seen(container, self.gates.is_some())),
                // It was removed since it was listed.
                Err(error) if status(&error) == Some(404) => {}
                Err(error) => return Err(failure(error)),
            }
        }
        Ok(seen)
    }

    async fn pull(
        &self,
        image: &str,
        login: Option<&SealedSecret>,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), RuntimeError> {
        let docker = self.docker()?;
        let login = login.map(|login| self.secrets.login(image, login)).transpose().map_err(refused)?;
        let credentials = login.map(|login| DockerCredentials {
            username: Some(login.username),
            password: Some(login.password),
            serveraddress: Some(login.server),
            ..DockerCredentials::default()
        });
        // Without a tag or digest the engine would fetch every tag there is.
        let (name, tag) = create::name_and_tag(image);
        let options = CreateImageOptionsBuilder::default().from_image(name).tag(tag).build();
        let mut steps = docker.create_image(Some(options), None, credentials);
        let mut layers = observe::PullProgress::default();
        let mut told = Instant::now();
        while let Some(step) = steps.next().await {
            let step = step
                .map_err(|error| in_words(&format!("image `{image}` cannot be fetched"), failure(error)))?;
            layers.note(step);
            if told.elapsed() >= PROGRESS_PERIOD {
                told = Instant::now();
                progress(layers.to_string());
            }
        }
        Ok(())
    }

    async fn create(&self, order: &StartOrder) -> Result<ContainerId, RuntimeError> {
        let docker = self.docker()?;
        let given = self.secrets.give(order).map_err(refused)?;
        let body = match &self.gates {
            None => create::on_the_engines_network(order, given),
            Some(gates) => {
                create::prepare(gates, order).map_err(refused)?;
                let command = self.image_command(&docker, &order.spec.image).await?;
                create::behind_a_gate(order, gates, command, given)?
            }
        };
        for name in create::container_names(order) {
            let options = CreateContainerOptionsBuilder::default().name(&name).build();
            match docker.create_container(Some(options), body.clone()).await {
                Ok(created) => {
                    let container = ContainerId(created.id);
                    self.add_files(&docker, &container, order).await?;
                    return Ok(container);
                }
                Err(error) if status(&error) == Some(409) => {
                    let holder = docker.inspect_container(&name, None::<InspectContainerOptions>).await;
                    let holder = holder.map_err(|error| match status(&error) {
                        Some(404) => RuntimeError::NameTaken { name },
                        Some(_) | None => failure(error),
                    })?;
                    let of_the_order = |seen: &ContainerSeen| {
                        (seen.instance, seen.generation) == (order.instance, order.generation)
                    };
                    let holder = observe::seen(holder, self.gates.is_some());
                    if let Some(made_before) = holder.filter(of_the_order) {
                        if made_before.state == ContainerState::Created {
                            self.add_files(&docker, &made_before.id, order).await?;
                        }
                        return Ok(made_before.id);
                    }
                }
                Err(error) if status(&error) == Some(404) && error.to_string().contains("No such image") => {
                    return Err(RuntimeError::ImageMissing { image: order.spec.image.clone() });
                }
                Err(error) => return Err(failure(error)),
            }
        }
        let [_, name] = create::container_names(order);
        Err(RuntimeError::Refused {
            detail: format!(
                "the container name `{name}` is taken by another container; remove or rename that one"
            ),
        })
    }

    async fn add_files(
        &self,
        docker: &Docker,
        container: &ContainerId,
        order: &StartOrder,
    ) -> Result<(), RuntimeError> {
        let are_mounted = self.gates.is_some() && create::mounted_files(order).next().is_some();
        if are_mounted || order.spec.added_files.is_empty() {
            return Ok(());
        }
        let archive = archive::archive(&order.spec.added_files, daemon::now().0 / 1000).map_err(refused)?;
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        let uploaded =
            docker.upload_to_container(&container.0, Some(options), body_full(archive.into())).await;
        uploaded.map_err(|error| in_words("added files cannot be put into the container", failure(error)))
    }

    async fn image_command(&self, docker: &Docker, image: &str) -> Result<ImageCommand, RuntimeError> {
        if let Some(known) = lock(&self.commands).get(image) {
            return Ok(known.clone());
        }
        let inspected = docker.inspect_image(image).await.map_err(|error| match status(&error) {
            Some(404) => RuntimeError::ImageMissing { image: image.to_owned() },
            Some(_) | None => failure(error),
        })?;
        let config = inspected.config.unwrap_or_default();
        let command = ImageCommand {
            entrypoint: config.entrypoint.unwrap_or_default(),
            command: config.cmd.unwrap_or_default(),
            checked: config.healthcheck.is_some_and(|check| ask::is_carried_out(&check)),
        };
        lock(&self.commands).insert(image.to_owned(), command.clone());
        Ok(command)
    }

    async fn start(
        &self,
        container: &ContainerId,
        order: &StartOrder,
        fresh: bool,
    ) -> Result<(), RuntimeError> {
        let docker = self.docker()?;
        if let Some(gates) = &self.gates {
            create::prepare(gates, order).map_err(refused)?;
        }
        // After a boot nothing of them is left.
        self.secrets.give(order).map_err(refused)?;
        if fresh {
            self.add_files(&docker, container, order)
                .await
                .map_err(|error| gone_if_missing(error, container))?;
        }
        lock(&self.addresses).remove(container);
        docker.start_container(&container.0, None).await.map_err(|error| match status(&error) {
            Some(404) if is_no_such_container(&error) => RuntimeError::Gone { container: container.clone() },
            // Somebody is removing it: its end is seen before it has gone, and it will not run again.
            Some(409) if is_being_removed(&error) => RuntimeError::Gone { container: container.clone() },
            Some(_) | None => failure(error),
        })
    }

    async fn process(&self, container: &ContainerId) -> Result<Option<u32>, RuntimeError> {
        let docker = self.docker()?;
        let inspected = docker.inspect_container(&container.0, None::<InspectContainerOptions>).await;
        let inspected = inspected.map_err(|error| match status(&error) {
            Some(404) => RuntimeError::Gone { container: container.clone() },
            Some(_) | None => failure(error),
        })?;
        let pid = inspected.state.and_then(|state| state.pid).and_then(|pid| u32::try_from(pid).ok());
        let pid = pid.filter(|pid| *pid > 0);
        if let (Some(pid), Some(_)) = (pid, &self.gates) {
            return apart::in_its_own_network(pid, container);
        }
        Ok(pid)
    }

    async fn remove(&self, order: &RemoveOrder) -> Result<(), RuntimeError> {
        let docker = self.docker()?;
        for container in &order.containers {
            let grace = StopContainerOptionsBuilder::default().t(i32::from(STOP_GRACE_SECONDS)).build();
            let stopped = docker.stop_container(&container.0, Some(grace)).await;
            stopped.or_else(unless_missing).map_err(failure)?;
            let all_of_it = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            let removed = docker.remove_container(&container.0, Some(all_of_it)).await;
            removed.or_else(unless_missing).map_err(failure)?;
            lock(&self.meters).remove(container);
            lock(&self.addresses).remove(container);
        }
        if let Some(gates) = &self.gates {
            gates.forget(order.instance, order.generation);
        }
        self.secrets.forget(order.instance, order.generation);
        Ok(())
    }

    async fn usage(&self, containers: Vec<ContainerId>) -> BTreeMap<ContainerId, Usage> {
        lock(&self.meters).retain(|container, _| containers.contains(container));
        let unknown: Vec<_> =
            containers.iter().filter(|container| !lock(&self.meters).contains_key(container)).collect();
        for (container, process) in
            unknown.iter().zip(join_all(unknown.iter().map(|id| self.process(id))).await)
        {
            if let Some(meter) = process.ok().flatten().and_then(Meter::of_process) {
                lock(&self.meters).insert((*container).clone(), meter);
            }
        }
        let now = Instant::now();
        let mut usage = BTreeMap::new();
        // A meter without readings belonged to an earlier run of its container.
        lock(&self.meters).retain(|container, meter| {
            let read = meter.read(now);
            usage.extend(read.map(|read| (container.clone(), read)));
            read.is_some()
        });
        usage
    }

    async fn data_directory(&self) -> PathBuf {
        let usual = || PathBuf::from("/var/lib/docker");
        let Ok(docker) = self.docker() else { return usual() };
        let told = docker.info().await.ok().and_then(|info| info.docker_root_dir);
        told.map_or_else(usual, PathBuf::from)
    }
}

impl ContainerRuntime for DockerRuntime {
    fn connect(&self) -> BoxFuture<'_, Result<BoxStream<'static, RuntimeEvent>, RuntimeError>> {
        self.connect().boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ContainerSeen>, RuntimeError>> {
        self.list().boxed()
    }

    fn pull<'a>(
        &'a self,
        image: &'a str,
        login: Option<&'a SealedSecret>,
        progress: &'a (dyn Fn(String) + Send + Sync),
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.pull(image, login, progress).boxed()
    }

    fn create<'a>(&'a self, order: &'a StartOrder) -> BoxFuture<'a, Result<ContainerId, RuntimeError>> {
        self.create(order).boxed()
    }

    fn start<'a>(
        &'a self,
        container: &'a ContainerId,
        order: &'a StartOrder,
        fresh: bool,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.start(container, order, fresh).boxed()
    }

    fn has_health_check<'a>(&'a self, order: &'a StartOrder) -> BoxFuture<'a, bool> {
        self.has_health_check(order).boxed()
    }

    fn stop<'a>(
        &'a self,
        container: &'a ContainerId,
        grace_seconds: u16,
    ) -> BoxFuture<'a, Result<ContainerSeen, RuntimeError>> {
        self.stop(container, grace_seconds).boxed()
    }

    fn address<'a>(
        &'a self,
        container: &'a ContainerId,
    ) -> BoxFuture<'a, Result<Option<IpAddr>, RuntimeError>> {
        self.address(container).boxed()
    }

    fn exec<'a>(
        &'a self,
        container: &'a ContainerId,
        command: &'a [String],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Executed, RuntimeError>> {
        self.exec(container, command, timeout).boxed()
    }

    fn last_words<'a>(
        &'a self,
        container: &'a ContainerId,
        after: Option<Timestamp>,
        until: Timestamp,
        lines: u32,
    ) -> BoxFuture<'a, Result<LastWords, RuntimeError>> {
        self.last_words(container, after, until, lines).boxed()
    }

    fn output(&self, instance: InstanceId, generation: Generation) -> BoxFuture<'_, Option<Output>> {
        self.output(instance, generation).boxed()
    }

    fn process<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<Option<u32>, RuntimeError>> {
        self.process(container).boxed()
    }

    fn open_gate(
        &self,
        instance: InstanceId,
        generation: Generation,
        process: u32,
    ) -> BoxFuture<'_, Result<(), RuntimeError>> {
        async move {
            match &self.gates {
                Some(gates) => gates.open(instance, generation, process).await.map_err(refused),
                None => Ok(()),
            }
        }
        .boxed()
    }

    fn remove<'a>(&'a self, order: &'a RemoveOrder) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.remove(order).boxed()
    }

    fn logs(
        &self,
        container: &ContainerId,
        range: LogRange,
    ) -> BoxStream<'static, Result<Bytes, RuntimeError>> {
        let docker = match self.docker() {
            Ok(docker) => docker,
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        let tail = if range.tail == 0 { "all".to_owned() } else { range.tail.to_string() };
        let options =
            LogsOptionsBuilder::default().stdout(true).stderr(true).follow(range.follow).tail(&tail).build();
        let container = container.clone();
        docker
            .logs(&container.0, Some(options))
            .map(|chunk| chunk.map(bollard::container::LogOutput::into_bytes).map_err(failure))
            .boxed()
    }

    fn usage(&self, containers: Vec<ContainerId>) -> BoxFuture<'_, BTreeMap<ContainerId, Usage>> {
        self.usage(containers).boxed()
    }

    fn data_directory(&self) -> BoxFuture<'_, PathBuf> {
        self.data_directory().boxed()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is replaced whole, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
