//! A container engine in memory, for tests that run whole daemons in one process. Containers run at once and do
//! nothing until they are told to.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, ready},
    stream::{self, BoxStream},
};
use model::{Generation, InstanceId, Output, Timestamp, Usage};
use node_core::{
    ContainerId, ContainerSeen, ContainerState, Exit, ImageHealth, RemoveOrder, SealedSecret, StartOrder,
};
use tokio::sync::{mpsc, watch};

use super::{Bytes, ContainerRuntime, Executed, LastWords, LogRange, RuntimeError, RuntimeEvent};

/// See the module's description. Clones share the engine, so a test keeps one.
#[derive(Debug, Clone, Default)]
pub struct FakeRuntime {
    engine: Arc<Mutex<Engine>>,
}

/// A container of a [`FakeRuntime`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeContainer {
    /// What it was made from.
    pub order: StartOrder,
    /// What it does.
    pub state: ContainerState,
    /// How often it was started.
    pub starts: u32,
}

#[derive(Debug, Default)]
struct Engine {
    containers: BTreeMap<ContainerId, Running>,
    missing_images: BTreeSet<String>,
    refused_pulls: BTreeMap<String, String>,
    refuse_next_start: Option<String>,
    listeners: Vec<mpsc::UnboundedSender<RuntimeEvent>>,
    /// Commands that fail, and with which code.
    failing_commands: BTreeMap<Vec<String>, i64>,
    /// How often a command was run.
    executed: u64,
    /// What instances wrote as their output.
    written: BTreeMap<InstanceId, Output>,
    health_check: bool,
    made: u64,
    down: bool,
}

#[derive(Debug)]
struct Running {
    container: FakeContainer,
    health: Option<ImageHealth>,
    output: watch::Sender<Vec<u8>>,
}

impl FakeRuntime {
    /// An engine without containers that has every image.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All containers, in order of their making.
    #[must_use]
    pub fn containers(&self) -> Vec<(ContainerId, FakeContainer)> {
        let engine = self.engine();
        engine.containers.iter().map(|(id, running)| (id.clone(), running.container.clone())).collect()
    }

    /// Writes the output of an instance.
    pub fn write_output(&self, instance: InstanceId, output: Output) {
        self.engine().written.insert(instance, output);
    }

    /// Ends the running container of an instance; whether there was one.
    pub fn exit(&self, instance: InstanceId, code: i64) -> bool {
        let mut engine = self.engine();
        let exit = Exit { code, out_of_memory: false, at: daemon::now() };
        let Some((id, running)) = engine.running(instance) else { return false };
        running.end(exit);
        let event = RuntimeEvent::Changed(seen(id, running));
        engine.tell(event);
        true
    }

    /// Lets every image have a HEALTHCHECK from now on.
    pub fn check_health(&self) {
        self.engine().health_check = true;
    }

    /// What the engine now makes of the HEALTHCHECK of an instance that runs.
    pub fn set_health(&self, instance: InstanceId, health: ImageHealth) {
        let mut engine = self.engine();
        let Some((id, running)) = engine.running(instance) else { return };
        running.health = Some(health);
        let event = RuntimeEvent::Health { instance, container: id.clone(), health };
        engine.tell(event);
    }

    /// Lets a command in any container end with `code` from now on; all others end with 0.
    pub fn answer_command(&self, command: &[&str], code: i64) {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        self.engine().failing_commands.insert(command, code);
    }

    /// How often a command was run in any container.
    #[must_use]
    pub fn executed(&self) -> u64 {
        self.engine().executed
    }

    /// Lets the newest container of an instance write something.
    pub fn write(&self, instance: InstanceId, text: &str) {
        let engine = self.engine();
        let containers = engine.containers.values().rev();
        let newest = containers.into_iter().find(|running| running.container.order.instance == instance);
        if let Some(running) = newest {
            running.output.send_modify(|output| output.extend_from_slice(text.as_bytes()));
        }
    }

    /// An image that has to be pulled first.
    pub fn miss_image(&self, image: &str) {
        self.engine().missing_images.insert(image.to_owned());
    }

    /// An image that cannot be pulled, until [`FakeRuntime::allow_pull`].
    pub fn refuse_pull(&self, image: &str, detail: &str) {
        self.miss_image(image);
        self.engine().refused_pulls.insert(image.to_owned(), detail.to_owned());
    }

    /// Makes pulls of an image succeed again.
    pub fn allow_pull(&self, image: &str) {
        self.engine().refused_pulls.remove(image);
    }

    /// The next start is refused.
    pub fn refuse_next_start(&self, detail: &str) {
        self.engine().refuse_next_start = Some(detail.to_owned());
    }

    /// Takes the engine down; its containers go on. Comes back with [`FakeRuntime::come_back`].
    pub fn go_down(&self) {
        let mut engine = self.engine();
        engine.down = true;
        engine.listeners.clear();
    }

    /// See [`FakeRuntime::go_down`].
    pub fn come_back(&self) {
        self.engine().down = false;
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn up(&self) -> Result<MutexGuard<'_, Engine>, RuntimeError> {
        let engine = self.engine();
        if engine.down {
            Err(RuntimeError::Unreachable { detail: "it is down".to_owned() })
        } else {
            Ok(engine)
        }
    }

    fn create(&self, order: &StartOrder) -> Result<ContainerId, RuntimeError> {
        let mut engine = self.up()?;
        if engine.missing_images.contains(&order.spec.image) {
            return Err(RuntimeError::ImageMissing { image: order.spec.image.clone() });
        }
        let made_before = engine.containers.iter().find(|(_, running)| {
            let made = &running.container.order;
            (made.instance, made.generation) == (order.instance, order.generation)
        });
        if let Some((id, _)) = made_before {
            return Ok(id.clone());
        }
        engine.made += 1;
        let id = ContainerId(format!("{:064x}", engine.made));
        let container = FakeContainer { order: order.clone(), state: ContainerState::Created, starts: 0 };
        engine
            .containers
            .insert(id.clone(), Running { container, health: None, output: watch::Sender::default() });
        Ok(id)
    }

    fn start(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let mut engine = self.up()?;
        if let Some(detail) = engine.refuse_next_start.take() {
            return Err(RuntimeError::Refused { detail });
        }
        let checked = engine.health_check;
        let running =
            engine.containers.get_mut(id).ok_or_else(|| RuntimeError::Gone { container: id.clone() })?;
        if !matches!(running.container.state, ContainerState::Running { .. }) {
            running.container.state = ContainerState::Running { since: daemon::now(), held: false };
            running.container.starts += 1;
            running.health = checked.then_some(ImageHealth::Starting);
            // The event of a start does not tell of the HEALTHCHECK.
            let event = RuntimeEvent::Changed(ContainerSeen { health: None, ..seen(id, running) });
            engine.tell(event);
        }
        Ok(())
    }

    fn remove(&self, order: &RemoveOrder) -> Result<(), RuntimeError> {
        let mut engine = self.up()?;
        for container in &order.containers {
            if engine.containers.remove(container).is_some() {
                engine.tell(RuntimeEvent::Gone { instance: order.instance, container: container.clone() });
            }
        }
        Ok(())
    }

    fn stop(&self, id: &ContainerId) -> Result<ContainerSeen, RuntimeError> {
        let mut engine = self.up()?;
        let running =
            engine.containers.get_mut(id).ok_or_else(|| RuntimeError::Gone { container: id.clone() })?;
        if matches!(running.container.state, ContainerState::Running { .. }) {
            running.end(Exit { code: 143, out_of_memory: false, at: daemon::now() });
        }
        let stopped = seen(id, running);
        engine.tell(RuntimeEvent::Changed(stopped.clone()));
        Ok(stopped)
    }

    fn exec(&self, command: &[String]) -> Result<Executed, RuntimeError> {
        let mut engine = self.up()?;
        engine.executed += 1;
        let code = engine.failing_commands.get(command).copied().unwrap_or(0);
        Ok(Executed::Ended { code, output: String::new() })
    }

    fn output_of(&self, id: &ContainerId) -> Result<Vec<u8>, RuntimeError> {
        let engine = self.up()?;
        let running =
            engine.containers.get(id).ok_or_else(|| RuntimeError::Gone { container: id.clone() })?;
        let output = running.output.borrow().clone();
        Ok(output)
    }

    fn pull(&self, image: &str) -> Result<(), RuntimeError> {
        let mut engine = self.up()?;
        if let Some(detail) = engine.refused_pulls.get(image) {
            return Err(RuntimeError::Refused { detail: detail.clone() });
        }
        engine.missing_images.remove(image);
        Ok(())
    }

    fn connect(&self) -> Result<BoxStream<'static, RuntimeEvent>, RuntimeError> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.up()?.listeners.push(sender);
        let next =
            |mut receiver: mpsc::UnboundedReceiver<_>| async { Some((receiver.recv().await?, receiver)) };
        Ok(stream::unfold(receiver, next).boxed())
    }

    fn is_running(&self, id: &ContainerId) -> bool {
        let engine = self.engine();
        engine
            .containers
            .get(id)
            .is_some_and(|running| matches!(running.container.state, ContainerState::Running { .. }))
    }
}

impl Engine {
    fn tell(&mut self, event: RuntimeEvent) {
        self.listeners.retain(|listener| listener.send(event.clone()).is_ok());
    }

    fn running(&mut self, instance: InstanceId) -> Option<(&ContainerId, &mut Running)> {
        self.containers.iter_mut().find(|(_, running)| {
            running.container.order.instance == instance
                && matches!(running.container.state, ContainerState::Running { .. })
        })
    }
}

impl Running {
    fn end(&mut self, exit: Exit) {
        self.container.state = ContainerState::Exited(exit);
        self.health = None;
        // Whoever follows the output learns of the end.
        self.output.send_modify(|_| {});
    }
}

fn seen(id: &ContainerId, running: &Running) -> ContainerSeen {
    let FakeContainer { order, state, .. } = &running.container;
    let (id, state, health) = (id.clone(), *state, running.health);
    ContainerSeen { id, instance: order.instance, generation: order.generation, state, health }
}

/// The last `tail` lines; all for 0.
fn last_lines(output: &[u8], tail: u32) -> &[u8] {
    if tail == 0 {
        return output;
    }
    let body = output.strip_suffix(b"\n").unwrap_or(output);
    let breaks = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    let start = breaks.map(|(at, _)| at + 1).nth(tail as usize - 1).unwrap_or(0);
    &output[start..]
}

impl ContainerRuntime for FakeRuntime {
    fn connect(&self) -> BoxFuture<'_, Result<BoxStream<'static, RuntimeEvent>, RuntimeError>> {
        ready(self.connect()).boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<ContainerSeen>, RuntimeError>> {
        let listed =
            self.up().map(|engine| engine.containers.iter().map(|(id, running)| seen(id, running)).collect());
        ready(listed).boxed()
    }

    fn pull<'a>(
        &'a self,
        image: &'a str,
        _login: Option<&'a SealedSecret>,
        _progress: &'a (dyn Fn(String) + Send + Sync),
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        ready(self.pull(image)).boxed()
    }

    fn create<'a>(&'a self, order: &'a StartOrder) -> BoxFuture<'a, Result<ContainerId, RuntimeError>> {
        ready(self.create(order)).boxed()
    }

    fn start<'a>(
        &'a self,
        container: &'a ContainerId,
        _order: &'a StartOrder,
        _fresh: bool,
    ) -> BoxFuture<'a, Result<(), RuntimeError>> {
        ready(self.start(container)).boxed()
    }

    fn has_health_check<'a>(&'a self, order: &'a StartOrder) -> BoxFuture<'a, bool> {
        ready(self.engine().health_check && order.spec.health.is_empty()).boxed()
    }

    fn stop<'a>(
        &'a self,
        container: &'a ContainerId,
        _grace_seconds: u16,
    ) -> BoxFuture<'a, Result<ContainerSeen, RuntimeError>> {
        ready(self.stop(container)).boxed()
    }

    /// Every container is reached at the loopback interface of the device, where a test can listen.
    fn address<'a>(
        &'a self,
        _container: &'a ContainerId,
    ) -> BoxFuture<'a, Result<Option<IpAddr>, RuntimeError>> {
        ready(self.up().map(|_| Some(IpAddr::V4(Ipv4Addr::LOCALHOST)))).boxed()
    }

    fn exec<'a>(
        &'a self,
        _container: &'a ContainerId,
        command: &'a [String],
        _timeout: Duration,
    ) -> BoxFuture<'a, Result<Executed, RuntimeError>> {
        ready(self.exec(command)).boxed()
    }

    /// Output has no dates here: all of it belongs to the run that ended last.
    fn last_words<'a>(
        &'a self,
        container: &'a ContainerId,
        _after: Option<Timestamp>,
        _until: Timestamp,
        lines: u32,
    ) -> BoxFuture<'a, Result<LastWords, RuntimeError>> {
        let printed = self.output_of(container).map(|output| last_lines(&output, lines).to_vec());
        ready(printed.map(LastWords::Printed)).boxed()
    }

    fn output(&self, instance: InstanceId, _generation: Generation) -> BoxFuture<'_, Option<Output>> {
        ready(self.engine().written.get(&instance).cloned()).boxed()
    }

    fn process<'a>(&'a self, container: &'a ContainerId) -> BoxFuture<'a, Result<Option<u32>, RuntimeError>> {
        ready(Ok(self.is_running(container).then_some(1))).boxed()
    }

    fn open_gate(
        &self,
        _instance: InstanceId,
        _generation: Generation,
        _process: u32,
    ) -> BoxFuture<'_, Result<(), RuntimeError>> {
        ready(Ok(())).boxed()
    }

    fn remove<'a>(&'a self, order: &'a RemoveOrder) -> BoxFuture<'a, Result<(), RuntimeError>> {
        ready(self.remove(order)).boxed()
    }

    fn logs(
        &self,
        container: &ContainerId,
        range: LogRange,
    ) -> BoxStream<'static, Result<Bytes, RuntimeError>> {
        let output = self.engine().containers.get(container).map(|running| running.output.subscribe());
        let Some(mut output) = output else {
            return stream::iter([Err(RuntimeError::Gone { container: container.clone() })]).boxed();
        };
        let written = output.borrow_and_update().clone();
        let first = Bytes::copy_from_slice(last_lines(&written, range.tail));
        let first = stream::iter((!first.is_empty()).then_some(Ok(first)));
        if !range.follow {
            return first.boxed();
        }
        let (runtime, container) = (self.clone(), container.clone());
        let rest = stream::unfold((output, written.len()), move |(mut output, told)| {
            let (runtime, container) = (runtime.clone(), container.clone());
            async move {
                loop {
                    let ended = !runtime.is_running(&container);
                    let more = Bytes::copy_from_slice(&output.borrow_and_update()[told..]);
                    if !more.is_empty() {
                        let told = told + more.len();
                        return Some((Ok(more), (output, told)));
                    }
                    if ended || output.changed().await.is_err() {
                        return None;
                    }
                }
            }
        });
        first.chain(rest).boxed()
    }

    fn usage(&self, containers: Vec<ContainerId>) -> BoxFuture<'_, BTreeMap<ContainerId, Usage>> {
        let usage = |id| (id, Usage { cpu_percent: 1.0, memory_bytes: 1 << 20, disk_bytes: 0 });
        ready(containers.into_iter().map(usage).collect()).boxed()
    }

    fn data_directory(&self) -> BoxFuture<'_, PathBuf> {
        ready(PathBuf::from("/")).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        assert_eq!(last_lines(b"a\nb\nc\n", 2), b"b\nc\n");
        assert_eq!(last_lines(b"a\nb\nc", 1), b"c");
        assert_eq!(last_lines(b"a\n", 5), b"a\n");
        assert_eq!(last_lines(b"a\nb\n", 0), b"a\nb\n");
    }
}
