//! The runs of a container: how starts and ends that were seen change what is known of an instance, in whatever order
//! events, listings and outcomes tell of them.

use model::{InstanceId, LastExit, Now, Output, Timestamp};

use crate::{
    ContainerSeen, ContainerState, Exit, ImageHealth, STEADY_AFTER_MILLIS, StopCause,
    backoff::{NAME_PATIENCE_MILLIS, NAME_RETRY_MILLIS, delay_millis, seed_of},
    probing::Probing,
    tracked::{Container, LastWords, NameTaken, Network, OperationKind, Tracked},
};

/// What is told twice of one start or end is told within this, whatever tells it: a start takes no longer. Dates
/// further apart were read from a clock that was set in between and say nothing about what came first.
const ONE_EVENT_MILLIS: u64 = 120_000;
/// The engine dates one end a little differently in its events and in its listings.
const SAME_END_MILLIS: u64 = 1000;

impl Tracked {
    /// It runs, by the outcome of an operation.
    pub(crate) fn started(&mut self, seen: ContainerSeen, network: Network, exit_seen: bool) {
        if exit_seen {
            return;
        }
        let mut container = Container::new(seen.generation, seen.state);
        container.network = network;
        container.image_health = seen.health;
        // The engine may have asked the image's HEALTHCHECK already.
        if let Some(known) = self.containers.get(&seen.id).filter(|known| known.is_running()) {
            container.image_health = known.image_health.or(container.image_health);
        }
        self.containers.insert(seen.id, container);
        self.stopped = None;
        self.healthy_since = None;
    }

    pub(crate) fn failed(&mut self, now: Now, id: InstanceId, detail: String) {
        self.attempts = self.attempts.saturating_add(1);
        self.retry_at = Some(now.moment.plus_millis(delay_millis(self.attempts, seed_of(id))));
        self.failure = Some(detail);
    }

    /// Begins again soon, until that has gone on for so long that it is a failure.
    pub(crate) fn name_taken(&mut self, now: Now, id: InstanceId, taken: NameTaken) {
        if now.moment >= taken.since.plus_millis(NAME_PATIENCE_MILLIS) {
            return self.failed(now, id, taken.to_string());
        }
        self.name_taken = Some(taken);
        self.retry_at = Some(now.moment.plus_millis(NAME_RETRY_MILLIS));
    }

    /// Takes note of a container's state, unless it is known already.
    pub(crate) fn container_changed(&mut self, now: Now, seen: ContainerSeen) {
        let starting = matches!(
            self.operation.as_ref().map(|operation| &operation.kind),
            Some(OperationKind::Starting { .. })
        );
        let (instance, id) = (seen.instance, seen.id);
        let is_new = !self.containers.contains_key(&id);
        let known = self
            .containers
            .entry(id.clone())
            .or_insert_with(|| Container::new(seen.generation, ContainerState::Created));
        if seen.health.is_some() && known.is_running() {
            known.image_health = seen.health;
        }
        if !is_news(known.state, seen.state, starting) {
            return;
        }
        *known = Container::new(known.generation, seen.state);
        known.image_health = seen.health;
        match seen.state {
            ContainerState::Created => {}
            ContainerState::Running { held, .. } => {
                self.healthy_since = None;
                let remembered = self.known_run.take_if(|run| is_new && run.container == id.0);
                match remembered {
                    Some(run) if !held => known.probing = Probing::known(run.started, run.ready),
                    // It runs and nobody stopped it since.
                    Some(_) | None => {}
                }
                self.stopped = None;
            }
            ContainerState::Exited(exit) if is_new && self.remembers(exit) => {
                // Its place in the growing pauses is that of the attempt after it.
                let wait = delay_millis(self.attempts.saturating_sub(1), seed_of(instance));
                self.retry_at = Some(now.moment.plus_millis(wait));
                if self.is_to_be_read_again() {
                    self.last_words =
                        Some(LastWords { container: id, after: None, until: exit.at, under_way: None });
                }
            }
            ContainerState::Exited(exit) => self.exited(now, instance, id, exit),
        }
    }

    fn exited(&mut self, now: Now, instance: InstanceId, container: crate::ContainerId, exit: Exit) {
        if let Some(operation) = &mut self.operation {
            operation.exit_seen = true;
        }
        self.failure = None;
        if self
            .healthy_since
            .take()
            .is_some_and(|since| now.moment.millis_since(since) >= STEADY_AFTER_MILLIS)
        {
            self.attempts = 0;
        }
        let after = self.last_exit.as_ref().map(|last| last.at).filter(|last| *last < exit.at);
        self.last_words = Some(LastWords { container, after, until: exit.at, under_way: None });
        self.output_told = false;
        self.last_exit = Some(LastExit::new(exit.code, exit.at));
        match &self.stopped {
            // It did nothing wrong.
            Some(StopCause::CutOff) => self.retry_at = None,
            Some(StopCause::Unhealthy(_)) | None => {
                let wait = delay_millis(self.attempts, seed_of(instance));
                self.retry_at = Some(now.moment.plus_millis(wait));
                self.attempts = self.attempts.saturating_add(1);
            }
        }
    }

    /// Whether an earlier NodeEngine has not read, or not kept, what the container said and wrote: the history has no outputs.
    pub(crate) fn is_to_be_read_again(&self) -> bool {
        self.past.unread || self.last_exit.as_ref().is_some_and(|last| last.output == Some(Output::AsTold))
    }

    /// Whether an end that is seen for the first time was counted by an earlier NodeEngine.
    fn remembers(&self, exit: Exit) -> bool {
        self.last_exit.as_ref().is_some_and(|last| exit.at <= last.at.plus_millis(SAME_END_MILLIS))
    }
}

/// Whether what is seen of a container is news. Ends and starts are told by events, by listings and by outcomes, so one
/// of them may come late.
fn is_news(known: ContainerState, seen: ContainerState, starting: bool) -> bool {
    match (known, seen) {
        // Made and never started: nothing is older.
        (ContainerState::Created, ContainerState::Running { .. } | ContainerState::Exited(_)) => true,
        // A container that ran is never "made" again.
        (_, ContainerState::Created) => false,
        // It must have run in between, and that was not seen.
        (ContainerState::Exited(known), ContainerState::Exited(seen)) => is_later(known.at, seen.at),
        // While it is being started, this is that start, whatever the clock says.
        (ContainerState::Exited(known), ContainerState::Running { since, .. }) => {
            starting || is_later(known.at, since)
        }
        // At its gate again, or its end was not seen. Noted starts are a little late, so an earlier one is the same.
        (
            ContainerState::Running { since: known, held: known_held },
            ContainerState::Running { since, held },
        ) => since > known || (held && !known_held && is_later(known, since)),
        (ContainerState::Running { .. }, ContainerState::Exited(_)) => true,
    }
}

/// Whether `seen` tells of something that came after `known`.
fn is_later(known: Timestamp, seen: Timestamp) -> bool {
    seen > known || known.millis_since(seen) > ONE_EVENT_MILLIS
}

/// What a container that was started just now has of the image's HEALTHCHECK.
pub(crate) const fn at_the_start(checked: bool) -> Option<ImageHealth> {
    if checked { Some(ImageHealth::Starting) } else { None }
}
