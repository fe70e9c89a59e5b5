//! What the shell saw enters the state here. Nothing here asks for anything.

use std::collections::{BTreeMap, BTreeSet};

use model::{Desired, InstanceId, Now};

use crate::{
    ContainerSeen, ContainerState, Node, Observation, Outcome, RESYNC_MILLIS, Ticket,
    backoff::{delay_millis, seed_of},
    node::Listing,
    runs::at_the_start,
    tracked::{NameTaken, Network, Operation, OperationKind, Tracked},
};

impl Node {
    /// Takes note of what was seen. Outcomes of unknown or already finished tickets are ignored.
    pub fn observe(&mut self, now: Now, observation: Observation) {
        self.sequence += 1;
        match observation {
            Observation::Finished { ticket, outcome } => self.finished(now, ticket, outcome),
            Observation::EngineConnected => {
                self.engine.connected = true;
                self.engine.connected_at = self.sequence;
                self.engine.listed = false;
                self.engine.list_at = Some(now.moment);
            }
            Observation::EngineLost => {
                self.engine.connected = false;
                self.engine.listed = false;
            }
            Observation::ContainerChanged(seen) => {
                let id = seen.instance;
                let sequence = self.sequence;
                let tracked = self.instances.entry(id).or_default();
                tracked.touched = sequence;
                tracked.container_changed(now, seen);
                self.settle(now, id);
            }
            Observation::ContainerGone { instance, container } => {
                if let Some(tracked) = self.instances.get_mut(&instance) {
                    tracked.containers.remove(&container);
                    tracked.touched = self.sequence;
                    self.settle(now, instance);
                }
            }
            Observation::HealthChanged { instance, container, health } => {
                let known = self.instances.get_mut(&instance);
                let known = known.and_then(|tracked| tracked.containers.get_mut(&container));
                if let Some(container) = known.filter(|container| container.is_running()) {
                    container.image_health = Some(health);
                    self.settle(now, instance);
                }
            }
            Observation::Contact { sent } => {
                self.contact = Some(self.contact.map_or(sent, |before| before.max(sent)));
            }
            Observation::PullProgress { image, detail } => {
                if let Some(missing) = self.images.get_mut(&image).filter(|image| image.pulling.is_some()) {
                    missing.progress = detail;
                    self.settle_all(now);
                }
            }
            Observation::NetworkChanged => {
                for tracked in self.instances.values_mut() {
                    for container in tracked.containers.values_mut() {
                        container.network.confirmed = false;
                    }
                    // What failed for want of a network need not wait any longer.
                    if tracked.failure.is_some() {
                        tracked.retry_at = None;
                    }
                }
            }
            Observation::Sampled { load, usage } => {
                self.load = load;
                let mut noticeable = false;
                for tracked in self.instances.values_mut() {
                    for (id, container) in &mut tracked.containers {
                        container.usage = usage.get(id).copied().unwrap_or_default();
                    }
                    noticeable |= tracked.usage().differs_noticeably(tracked.told_usage);
                }
                self.revision += u64::from(noticeable);
            }
        }
    }

    fn finished(&mut self, now: Now, ticket: Ticket, outcome: Outcome) {
        if let Some(listing) = self.engine.listing.filter(|listing| listing.ticket == ticket) {
            self.engine.listing = None;
            return self.listing_finished(now, listing, outcome);
        }
        let pulled = self.images.iter().find(|(_, missing)| missing.pulling == Some(ticket));
        if let Some(image) = pulled.map(|(image, _)| image.clone()) {
            self.pull_finished(now, image, outcome);
            return self.settle_all(now);
        }
        let concerned = self.instances.iter_mut().find_map(|(id, tracked)| {
            let operation = tracked.operation.take_if(|operation| operation.ticket == ticket)?;
            Some((*id, operation))
        });
        if let Some((id, operation)) = concerned {
            self.operation_finished(now, id, operation, outcome);
            return self.settle(now, id);
        }
        self.question_answered(now, ticket, outcome);
    }

    /// A probe, a count or the reading of last words came back: none stands in the way of anything else.
    fn question_answered(&mut self, now: Now, ticket: Ticket, outcome: Outcome) {
        let reads = |tracked: &Tracked| {
            tracked.last_words.as_ref().is_some_and(|words| words.under_way == Some(ticket))
        };
        if let Some((id, tracked)) = self.instances.iter_mut().find(|(_, tracked)| reads(tracked)) {
            // An earlier end is not asked about any more, so these are the words before the last one.
            let id = *id;
            tracked.last_words = None;
            if let (Outcome::LastWords { tail, output }, Some(last)) = (outcome, &mut tracked.last_exit) {
                (last.tail, last.output) = (tail, output);
                tracked.output_told = false;
            }
            return self.settle(now, id);
        }
        let counts =
            |tracked: &Tracked| tracked.leaving.as_ref().is_some_and(|leaving| leaving.awaits(ticket));
        if let Some((id, tracked)) = self.instances.iter_mut().find(|(_, tracked)| counts(tracked)) {
            let id = *id;
            let connections =
                if let Outcome::Connections(connections) = outcome { Some(connections) } else { None };
            if let Some(leaving) = &mut tracked.leaving {
                leaving.counted(connections, now.moment);
            }
            return self.settle(now, id);
        }
        let asked = self.instances.iter().find_map(|(id, tracked)| {
            let mut containers = tracked.containers.iter();
            let (container, _) = containers.find(|(_, container)| container.probing.awaits(ticket))?;
            Some((*id, container.clone()))
        });
        let Some((id, container)) = asked else { return };
        let health = self.spec(id).map(|spec| spec.health.clone()).unwrap_or_default();
        // It is not the instance's fault when it could not be asked.
        let answer = if let Outcome::Probed(answer) = outcome { Some(answer) } else { None };
        let tracked = self.instances.get_mut(&id);
        if let Some(container) = tracked.and_then(|tracked| tracked.containers.get_mut(&container)) {
            container.probing.answer(&health, ticket, answer, now.moment);
        }
        self.settle(now, id);
    }

    fn listing_finished(&mut self, now: Now, listing: Listing, outcome: Outcome) {
        let Outcome::Listed(containers) = outcome else {
            self.engine.failures = self.engine.failures.saturating_add(1);
            self.engine.list_at = Some(now.moment.plus_millis(delay_millis(self.engine.failures, 0)));
            return;
        };
        self.engine.failures = 0;
        if listing.begun < self.engine.connected_at || !self.engine.connected {
            // It may miss what happened while there was no connection.
            self.engine.list_at = Some(now.moment);
            return;
        }
        (self.engine.listed, self.engine.looked) = (true, true);
        self.engine.list_at = Some(now.moment.plus_millis(RESYNC_MILLIS));

        let mut by_instance: BTreeMap<InstanceId, Vec<ContainerSeen>> = BTreeMap::new();
        for seen in containers {
            by_instance.entry(seen.instance).or_default().push(seen);
        }
        let concerned: BTreeSet<_> = self.instances.keys().chain(by_instance.keys()).copied().collect();
        for id in concerned {
            let tracked = self.instances.entry(id).or_default();
            // What happened to the instance since is newer than the listing.
            if tracked.operation.is_some() || tracked.touched > listing.begun {
                tracked.uncertain = true;
                continue;
            }
            tracked.uncertain = false;
            let seen = by_instance.remove(&id).unwrap_or_default();
            let ids: BTreeSet<_> = seen.iter().map(|seen| seen.id.clone()).collect();
            tracked.containers.retain(|id, _| ids.contains(id));
            for seen in seen {
                tracked.container_changed(now, seen);
            }
        }
        self.settle_all(now);
    }

    fn pull_finished(&mut self, now: Now, image: String, outcome: Outcome) {
        if matches!(outcome, Outcome::Pulled) {
            self.images.remove(&image);
            return;
        }
        let missing = self.images.entry(image).or_default();
        missing.pulling = None;
        missing.progress.clear();
        missing.attempts = missing.attempts.saturating_add(1);
        missing.retry_at = Some(now.moment.plus_millis(delay_millis(missing.attempts, 0)));
        missing.failure = Some(reason(outcome));
    }

    fn operation_finished(&mut self, now: Now, id: InstanceId, operation: Operation, outcome: Outcome) {
        let image = self.spec(id).map(|spec| spec.image.clone());
        let Some(tracked) = self.instances.get_mut(&id) else { return };
        tracked.touched = self.sequence;
        let name_taken = tracked.name_taken.take();
        match (operation.kind, outcome) {
            (
                OperationKind::Starting { generation, again },
                Outcome::Started { container, since, addresses, checked },
            ) => {
                let network = Network { addresses, confirmed: true };
                let state = ContainerState::Running { since, held: false };
                let started = ContainerSeen {
                    id: container,
                    instance: id,
                    generation,
                    state,
                    health: at_the_start(checked),
                };
                tracked.restarts = tracked.restarts.saturating_add(u32::from(again));
                tracked.started(started, network, operation.exit_seen);
                tracked.failure = None;
                tracked.image_fetched = false;
            }
            (
                OperationKind::Starting { generation, again },
                Outcome::Held { container, since, checked, detail },
            ) => {
                let state = ContainerState::Running { since, held: true };
                let held = ContainerSeen {
                    id: container,
                    instance: id,
                    generation,
                    state,
                    health: at_the_start(checked),
                };
                tracked.restarts = tracked.restarts.saturating_add(u32::from(again));
                tracked.started(held, Network::default(), operation.exit_seen);
                if !operation.exit_seen {
                    tracked.failed(now, id, detail);
                }
            }
            (OperationKind::Starting { .. }, Outcome::ImageMissing) => match image {
                Some(image) if !tracked.image_fetched => {
                    tracked.image_fetched = true;
                    self.images.entry(image).or_default();
                }
                Some(image) => {
                    tracked.image_fetched = false;
                    tracked.failed(now, id, format!("image `{image}` was fetched and is missing again"));
                }
                None => {}
            },
            (OperationKind::Starting { .. }, Outcome::NameTaken { name }) => {
                let since = name_taken.map_or(now.moment, |before| before.since);
                tracked.name_taken(now, id, NameTaken { name, since });
            }
            (OperationKind::Attaching { container }, Outcome::Attached { addresses }) => {
                if let Some(attached) = tracked.containers.get_mut(&container)
                    && let ContainerState::Running { held, .. } = &mut attached.state
                    && !operation.exit_seen
                {
                    *held = false;
                    attached.network = Network { addresses, confirmed: true };
                    tracked.failure = None;
                }
            }
            (OperationKind::Stopping, Outcome::Stopped(seen)) => tracked.container_changed(now, seen),
            (OperationKind::Stopping, outcome @ (Outcome::Failed { .. } | Outcome::Lost)) => {
                tracked.uncertain = matches!(outcome, Outcome::Lost);
                if !operation.exit_seen {
                    let wait = delay_millis(1, seed_of(id));
                    tracked.stop_again_at = Some(now.moment.plus_millis(wait));
                    tracked.failure = Some(format!("it could not be stopped: {}", reason(outcome)));
                }
            }
            (OperationKind::Stopping, Outcome::Gone { container }) => {
                tracked.containers.remove(&container);
            }
            (OperationKind::Removing { generation }, Outcome::Removed) => {
                tracked.containers.retain(|_, container| container.generation > generation);
                tracked.begin_anew();
                let tombstone = tracked.assigned.filter(|wanted| match wanted.desired {
                    Desired::Removed => wanted.generation == generation,
                    Desired::Running => false,
                });
                tracked.carried_out = tombstone.map(|wanted| wanted.generation);
            }
            (_, Outcome::Failed { container, detail }) => {
                if let Some(seen) = container {
                    tracked.container_changed(now, seen);
                }
                // When it ended meanwhile, its end is what counts.
                if !operation.exit_seen {
                    tracked.failed(now, id, detail);
                }
            }
            // Nothing failed: somebody removed it, and another is made at once.
            (OperationKind::Starting { .. }, Outcome::Gone { container }) => {
                tracked.containers.remove(&container);
            }
            // Lost, or an answer to another question: only a listing tells what became of it.
            (_, outcome) => {
                tracked.uncertain = true;
                tracked.failed(now, id, reason(outcome));
            }
        }
    }
}

/// Why an attempt failed.
fn reason(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed { detail, .. } => detail,
        Outcome::Lost => {
            "the container engine did not answer in time; looking again at what became of it".to_owned()
        }
        Outcome::Listed(_)
        | Outcome::Pulled
        | Outcome::Started { .. }
        | Outcome::Held { .. }
        | Outcome::ImageMissing
        | Outcome::NameTaken { .. }
        | Outcome::Gone { .. }
        | Outcome::Attached { .. }
        | Outcome::Stopped(_)
        | Outcome::Probed(_)
        | Outcome::Connections(_)
        | Outcome::LastWords { .. }
        | Outcome::Removed => "the outcome does not belong to what was asked for".to_owned(),
    }
}
