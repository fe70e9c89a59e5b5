//! Carries out effects. Every submission is answered exactly once, whatever happens.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use model::{InstanceId, LastExit};
use node_core::{
    ContainerId, ContainerSeen, ContainerState, Effect, Exit, Observation, Outcome, RemoveOrder,
    SealedSecret, StartOrder, StopCause, StopOrder, Submission,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit, mpsc},
    task::JoinSet,
};

use crate::{
    network::{Attachment, InstanceNetwork},
    probe,
    runtime::{ContainerRuntime, LastWords, RuntimeError, STOP_GRACE_SECONDS, UNHEALTHY_GRACE_SECONDS},
};

/// Starts in flight per core. Above it the engine becomes slower per start and no faster in all (measured on two
/// cores: 11.8 starts/s with four in flight, 11.2 with eight).
const STARTS_PER_CORE: usize = 2;
/// Pulls in flight: they share one uplink, and a small image should not wait for a large one.
const PULLS: usize = 3;
/// Last words to read: more than fit into a report, since lines may be short.
const LAST_LINES: u32 = 64;
/// They are worth no more waiting than this.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(10);
/// A probe keeps its own time; this is for an engine that does not answer at all.
const ASK_ENGINE_WITHIN: Duration = Duration::from_secs(10);
/// An engine that needs longer for a step than this has lost it.
const STEP_WITHIN: Duration = Duration::from_secs(120);
/// Slow links and large images are normal at the edge.
const PULL_WITHIN: Duration = Duration::from_secs(3600);

/// See the module's description. Dropping it abandons what is under way; containers are left as they are.
#[derive(Debug)]
pub(crate) struct Executor {
    hands: Hands,
    tasks: JoinSet<()>,
}

/// What a task works with.
#[derive(Debug, Clone)]
struct Hands {
    runtime: Arc<dyn ContainerRuntime>,
    network: Option<Arc<dyn InstanceNetwork>>,
    observations: mpsc::Sender<Observation>,
    starts: Arc<Semaphore>,
    pulls: Arc<Semaphore>,
    removals: Arc<Semaphore>,
}

impl Executor {
    pub(crate) fn new(
        runtime: Arc<dyn ContainerRuntime>,
        network: Option<Arc<dyn InstanceNetwork>>,
        observations: mpsc::Sender<Observation>,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let bound = |count| Arc::new(Semaphore::new(count));
        let starts = bound(cores * STARTS_PER_CORE);
        let removals = bound(cores * STARTS_PER_CORE);
        let hands = Hands { runtime, network, observations, starts, pulls: bound(PULLS), removals };
        Self { hands, tasks: JoinSet::new() }
    }

    /// Begins with each of them; their outcomes arrive as observations.
    pub(crate) fn submit(&mut self, submissions: Vec<Submission>) {
        while self.tasks.try_join_next().is_some() {}
        for Submission { ticket, effect } in submissions {
            tracing::debug!(ticket = ticket.0, ?effect, "begin");
            let hands = self.hands.clone();
            self.tasks.spawn(async move {
                let outcome = AssertUnwindSafe(hands.carry_out(effect)).catch_unwind().await;
                let outcome = outcome.unwrap_or(Outcome::Lost);
                tracing::debug!(ticket = ticket.0, ?outcome, "end");
                hands.tell(Observation::Finished { ticket, outcome }).await;
            });
        }
    }
}

impl Hands {
    async fn carry_out(&self, effect: Effect) -> Outcome {
        match effect {
            Effect::List => within(STEP_WITHIN, self.list()).await,
            Effect::Pull { image, login } => {
                let _permit = self.pulls.acquire().await;
                within(PULL_WITHIN, self.pull(image, login)).await
            }
            Effect::CreateAndStart(order) => {
                let permit = self.starts.acquire().await;
                within(STEP_WITHIN, self.create_and_start(order, permit.ok())).await
            }
            Effect::Start { container, fresh, order } => {
                let permit = self.starts.acquire().await;
                let starting = self.start_and_attach(container, fresh, order, None, permit.ok());
                within(STEP_WITHIN, starting).await
            }
            Effect::Attach { container, order } => {
                within(STEP_WITHIN, self.attach_again(container, order)).await
            }
            Effect::Stop(order) => {
                let _permit = self.removals.acquire().await;
                within(STEP_WITHIN, self.stop(order)).await
            }
            Effect::Drain { instance } => within(STEP_WITHIN, self.drain(instance)).await,
            Effect::Probe { container, address, probe } => {
                let bound = Duration::from_millis(probe.timeout.as_millis()) + ASK_ENGINE_WITHIN;
                within(bound, probe::ask(self.runtime.as_ref(), &container, address, &probe)).await
            }
            Effect::ReadTail { container, after, until, output_of } => {
                let reading = async {
                    let output = match output_of {
                        Some((instance, generation)) => self.runtime.output(instance, generation).await,
                        None => None,
                    };
                    let tail = match self.runtime.last_words(&container, after, until, LAST_LINES).await {
                        Ok(LastWords::Printed(words)) => tail_of(&words),
                        Ok(LastWords::Said(words)) => String::from_utf8_lossy(&words).into_owned(),
                        // What was read is told whatever the engine says of the rest.
                        Err(_) if output.is_some() => String::new(),
                        Err(error) => return outcome_of(error, None),
                    };
                    Outcome::LastWords { tail, output }
                };
                within(LAST_WORDS_WITHIN, reading).await
            }
            Effect::Remove(order) => {
                let _permit = self.removals.acquire().await;
                within(STEP_WITHIN, self.remove(order)).await
            }
        }
    }

    async fn list(&self) -> Outcome {
        match self.runtime.list().await {
            Ok(containers) => Outcome::Listed(containers),
            Err(error) => {
                tracing::warn!(%error, "the containers of this device cannot be listed");
                Outcome::Lost
            }
        }
    }

    async fn pull(&self, image: String, login: Option<SealedSecret>) -> Outcome {
        tracing::info!(%image, "fetching");
        let progress = |detail: String| {
            let observation = Observation::PullProgress { image: image.clone(), detail };
            if self.observations.try_send(observation).is_err() {
                tracing::debug!("progress of a pull is not told: the service is busy");
            }
        };
        match self.runtime.pull(&image, login.as_ref(), &progress).await {
            Ok(()) => Outcome::Pulled,
            Err(error) => outcome_of(error, None),
        }
    }

    async fn create_and_start(&self, order: StartOrder, permit: Option<SemaphorePermit<'_>>) -> Outcome {
        match self.runtime.create(&order).await {
            Ok(container) => {
                let made = seen(&container, &order, ContainerState::Created);
                self.start_and_attach(container, false, order, Some(made), permit).await
            }
            Err(error) => outcome_of(error, None),
        }
    }

    async fn start_and_attach(
        &self,
        container: ContainerId,
        fresh: bool,
        order: StartOrder,
        made: Option<ContainerSeen>,
        permit: Option<SemaphorePermit<'_>>,
    ) -> Outcome {
        if let Err(error) = self.runtime.start(&container, &order, fresh).await {
            self.tell_if_gone(&error, &order).await;
            // One that was made just now is no loss to make good but a start that failed.
            if let (RuntimeError::Gone { container }, None) = (&error, &made) {
                return Outcome::Gone { container: container.clone() };
            }
            return outcome_of(error, made);
        }
        // The engine is free for the next one while this one gets its network.
        drop(permit);
        let since = daemon::now();
        let (attached, checked) =
            tokio::join!(self.attach(&container, &order), self.runtime.has_health_check(&order));
        match attached {
            Ok(addresses) => Outcome::Started { container, since, addresses, checked },
            Err(detail) => Outcome::Held { container, since, checked, detail },
        }
    }

    async fn stop(&self, order: StopOrder) -> Outcome {
        let StopOrder { instance, container, cause } = order;
        let grace = match &cause {
            StopCause::Unhealthy(_) => UNHEALTHY_GRACE_SECONDS,
            StopCause::CutOff => STOP_GRACE_SECONDS,
        };
        tracing::warn!(%instance, %container, ?cause, "stopping");
        match self.runtime.stop(&container, grace).await {
            Ok(stopped) => Outcome::Stopped(stopped),
            Err(RuntimeError::Gone { container }) => Outcome::Gone { container },
            Err(error) => outcome_of(error, None),
        }
    }

    /// For a container that runs already: adopted, or held at its gate by an earlier failure.
    async fn attach_again(&self, container: ContainerId, order: StartOrder) -> Outcome {
        let process = match self.runtime.process(&container).await {
            Ok(Some(_)) => self.attach(&container, &order).await,
            Ok(None) => {
                // Its end was not seen; nobody can say how it ended.
                let exit = Exit { code: -1, out_of_memory: false, at: daemon::now() };
                let ended = seen(&container, &order, ContainerState::Exited(exit));
                return Outcome::Failed {
                    container: Some(ended),
                    detail: "it does not run any more".to_owned(),
                };
            }
            Err(error) => {
                self.tell_if_gone(&error, &order).await;
                return outcome_of(error, None);
            }
        };
        match process {
            Ok(addresses) => Outcome::Attached { addresses },
            Err(detail) => Outcome::Failed { container: None, detail },
        }
    }

    /// Gives a running container its network and opens its gate.
    async fn attach(
        &self,
        container: &ContainerId,
        order: &StartOrder,
    ) -> Result<Vec<std::net::IpAddr>, String> {
        let Some(network) = &self.network else { return Ok(Vec::new()) };
        let process = self.runtime.process(container).await.map_err(|error| error.to_string())?;
        let process = process.ok_or("the process ended before its network was ready")?;
        let attachment = Attachment {
            instance: order.instance,
            generation: order.generation,
            network_namespace: format!("/proc/{process}/ns/net"),
            ports: order.spec.ports.clone(),
            address: order.address,
        };
        let addresses = network.attach(attachment).await.map_err(|error| error.to_string())?;
        let opened = self.runtime.open_gate(order.instance, order.generation, process).await;
        opened.map(|()| addresses).map_err(|error| error.to_string())
    }

    async fn drain(&self, instance: InstanceId) -> Outcome {
        let Some(network) = &self.network else { return Outcome::Connections(0) };
        match network.drain(instance).await {
            Ok(connections) => Outcome::Connections(connections),
            Err(error) => {
                tracing::warn!(%instance, %error, "its connections cannot be counted");
                Outcome::Failed { container: None, detail: error.to_string() }
            }
        }
    }

    async fn remove(&self, order: RemoveOrder) -> Outcome {
        tracing::info!(instance = %order.instance, containers = ?order.containers, "removing");
        if let Err(error) = self.runtime.remove(&order).await {
            return outcome_of(error, None);
        }
        if let Some(network) = &self.network
            && let Err(error) = network.detach(order.instance).await
        {
            return Outcome::Failed {
                container: None,
                detail: format!("its network is not released: {error}"),
            };
        }
        Outcome::Removed
    }

    async fn tell_if_gone(&self, error: &RuntimeError, order: &StartOrder) {
        match error {
            RuntimeError::Gone { container } => {
                let (instance, container) = (order.instance, container.clone());
                self.tell(Observation::ContainerGone { instance, container }).await;
            }
            RuntimeError::ImageMissing { .. }
            | RuntimeError::NameTaken { .. }
            | RuntimeError::Refused { .. }
            | RuntimeError::Unreachable { .. } => {}
        }
    }

    async fn tell(&self, observation: Observation) {
        if self.observations.send(observation).await.is_err() {
            tracing::debug!("an outcome is not told: the service has ended");
        }
    }
}

async fn within(bound: Duration, work: impl Future<Output = Outcome>) -> Outcome {
    // Boxed so that the futures of all effects do not add up in every task.
    tokio::time::timeout(bound, Box::pin(work)).await.unwrap_or(Outcome::Lost)
}

fn seen(container: &ContainerId, order: &StartOrder, state: ContainerState) -> ContainerSeen {
    let StartOrder { instance, generation, .. } = *order;
    ContainerSeen { id: container.clone(), instance, generation, state, health: None }
}

/// As much of the end as a report carries, from the beginning of a line if possible.
fn tail_of(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    let text = text.trim_end();
    let mut start = text.len().saturating_sub(LastExit::TAIL_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let tail = &text[start..];
    match tail.split_once('\n') {
        Some((_, whole_lines)) if start > 0 => whole_lines.to_owned(),
        Some(_) | None => tail.to_owned(),
    }
}

fn outcome_of(error: RuntimeError, container: Option<ContainerSeen>) -> Outcome {
    match error {
        RuntimeError::ImageMissing { .. } => Outcome::ImageMissing,
        RuntimeError::NameTaken { name } => Outcome::NameTaken { name },
        RuntimeError::Gone { .. } => Outcome::Failed { container: None, detail: error.to_string() },
        RuntimeError::Refused { detail } => Outcome::Failed { container, detail },
        RuntimeError::Unreachable { detail } => {
            tracing::warn!(%detail, "the container engine did not answer");
            Outcome::Lost
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_whole_lines_that_fit_into_a_report() {
        assert_eq!(tail_of(b"one\ntwo\n"), "one\ntwo");
        assert_eq!(tail_of(b"\xffone"), "\u{fffd}one");
        let lines = "0123456789\n".repeat(200);
        let tail = tail_of(lines.as_bytes());
        assert!(tail.len() <= LastExit::TAIL_BYTES && tail.starts_with("0123456789\n"), "{tail}");
        let line = "é".repeat(2000);
        assert_eq!(tail_of(line.as_bytes()).len(), LastExit::TAIL_BYTES);
        let odd = format!("{line}x");
        assert_eq!(tail_of(odd.as_bytes()).len(), LastExit::TAIL_BYTES - 1);
    }
}
