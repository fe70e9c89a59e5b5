//! What the device says of itself, and when it last changed its mind.

use model::{AssignedInstance, Desired, InstanceId, InstanceReport, Now, Output, Phase, WorkerReport};

use crate::{
    ContainerId, ContainerState, Node, StopCause,
    contact::{Fence, cut_off_for},
    tracked::{Container, OperationKind, Tracked},
};

impl Node {
    /// The whole truth about this device, for its cluster.
    #[must_use]
    pub fn report(&mut self) -> WorkerReport {
        self.reports += 1;
        let mut room = Output::BYTES_IN_A_REPORT;
        let mut instances = Vec::new();
        for tracked in self.instances.values_mut() {
            let Some(mut report) = tracked.reported.clone() else { continue };
            if !tracked.tell_output(&mut report, &mut room) {
                // What is left out makes another report worth sending.
                self.revision += 1;
                continue;
            }
            tracked.told_usage = tracked.usage();
            instances.push(InstanceReport { usage: tracked.told_usage, ..report });
        }
        WorkerReport {
            observed_generation: self.assignment.generation,
            sequence: self.reports,
            load: self.load,
            instances,
        }
    }

    /// The next report goes to somebody who knows nothing of those before it.
    pub fn tell_anew(&mut self) {
        self.instances.values_mut().for_each(|tracked| tracked.output_told = false);
    }

    /// Whether the containers of this device were looked at since the start. Before that a report knows of none, which
    /// is no reason to alarm anybody.
    #[must_use]
    pub const fn has_looked(&self) -> bool {
        self.engine.looked
    }

    /// Grows whenever [`Node::report`] would say something new. What instances use is new when it is noticeably
    /// different from what was reported last.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// The container whose output is the instance's: the running one or the last that ran.
    #[must_use]
    pub fn container_of(&self, instance: InstanceId) -> Option<&ContainerId> {
        self.instances.get(&instance)?.current().map(|(id, _)| id)
    }

    /// The containers that run now.
    pub fn running_containers(&self) -> impl Iterator<Item = &ContainerId> {
        self.instances.values().flat_map(|tracked| &tracked.containers).filter_map(|(id, container)| {
            match container.state {
                ContainerState::Running { .. } => Some(id),
                ContainerState::Created | ContainerState::Exited(_) => None,
            }
        })
    }

    /// Labelled containers of instances that no assignment names. They are left alone, but for those a tombstone was for.
    pub fn unknown_containers(&self) -> impl Iterator<Item = (InstanceId, &ContainerId)> {
        self.instances
            .iter()
            .filter(|(_, tracked)| tracked.assigned.is_none())
            .flat_map(|(instance, tracked)| tracked.containers.keys().map(|id| (*instance, id)))
    }

    /// Forgets what is over and brings every report up to date.
    pub(crate) fn settle_all(&mut self, now: Now) {
        let ids: Vec<InstanceId> = self.instances.keys().copied().collect();
        for id in ids {
            self.settle(now, id);
        }
    }

    /// Brings the report of one instance up to date.
    pub(crate) fn settle(&mut self, now: Now, id: InstanceId) {
        let Some(tracked) = self.instances.get(&id) else { return };
        if tracked.is_forgotten() {
            self.instances.remove(&id);
            self.revision += 1;
            self.history_revision += 1;
            return;
        }
        let fresh = self.describe(now, id, tracked);
        let Some(tracked) = self.instances.get_mut(&id) else { return };
        let report = match (&tracked.reported, fresh) {
            (Some(before), Some(fresh))
                if before.phase == fresh.phase && before.generation == fresh.generation =>
            {
                Some(InstanceReport { since: before.since, ..fresh })
            }
            // It runs since it was started, whoever started it.
            (_, Some(fresh)) if fresh.phase == Phase::Running => {
                let since = tracked.current().and_then(|(_, container)| container.runs_since());
                Some(InstanceReport { since: since.unwrap_or(fresh.since), ..fresh })
            }
            (_, fresh) => fresh,
        };
        let ready = report.as_ref().is_some_and(|report| report.ready);
        tracked.healthy_since = ready.then(|| tracked.healthy_since.unwrap_or(now.moment));
        if tracked.reported != report {
            tracked.reported = report;
            self.revision += 1;
        }
        if tracked.remember() {
            self.history_revision += 1;
        }
    }

    fn describe(&self, now: Now, id: InstanceId, tracked: &Tracked) -> Option<InstanceReport> {
        let current = tracked.current();
        let (generation, phase, detail) = match (tracked.assigned, current) {
            (Some(wanted), Some((_, container))) if container.generation > wanted.generation => {
                let (phase, _) = left_alone(container);
                let detail = format!(
                    "its container is of generation {}, newer than the assigned {}; left alone",
                    container.generation, wanted.generation
                );
                (container.generation, phase, detail)
            }
            (Some(wanted), _) => {
                let (phase, detail) = match wanted.desired {
                    Desired::Removed => removed_phase(wanted, tracked),
                    Desired::Running => self.running_phase(wanted, tracked),
                };
                (wanted.generation, phase, detail)
            }
            (None, Some((_, container))) => {
                let (phase, detail) = left_alone(container);
                (container.generation, phase, detail)
            }
            (None, None) => return None,
        };
        let mut report = InstanceReport::new(id, generation, phase, now.date);
        report.detail = detail;
        report.restarts = tracked.restarts;
        report.last_exit.clone_from(&tracked.last_exit);
        if let (Phase::Running, Some((_, container))) = (phase, current) {
            report.addresses.clone_from(&container.network.addresses);
            // Until its start is over it is not known what its image's HEALTHCHECK says.
            report.ready = self.spec(id).is_none_or(|spec| container.unready_because(spec).is_none())
                && tracked.is_settled();
        }
        Some(report)
    }

    fn running_phase(&self, wanted: AssignedInstance, tracked: &Tracked) -> (Phase, String) {
        let Some(spec) = self.spec(wanted.id) else {
            return (Phase::Failed, "the assignment does not say what to run for it".to_owned());
        };
        let failure = tracked.failure.clone();
        let creating_or_failed = |creating: String| match failure.clone() {
            Some(detail) => (Phase::Failed, detail),
            None => (Phase::Creating, creating),
        };
        let same_generation =
            tracked.current().filter(|(_, container)| container.generation == wanted.generation);
        let Some((_, container)) = same_generation else {
            // Its container may be there, with what is still to be read.
            let is_sought = !self.engine.looked && tracked.is_to_be_read_again();
            if tracked.current().is_none() && tracked.is_completed(spec) && !is_sought {
                return (Phase::Completed, String::new());
            }
            if let Some(missing) = self.images.get(&spec.image) {
                return match &missing.failure {
                    Some(detail) => (Phase::Failed, detail.clone()),
                    None => (Phase::Creating, pulling(&spec.image, &missing.progress)),
                };
            }
            let replaced = match tracked.operation.as_ref().map(|operation| &operation.kind) {
                Some(OperationKind::Removing { generation }) => format!("replacing generation {generation}"),
                Some(
                    OperationKind::Starting { .. }
                    | OperationKind::Attaching { .. }
                    | OperationKind::Stopping,
                )
                | None => String::new(),
            };
            if let Some(detail) = self.not_started(wanted, tracked) {
                return (Phase::Dead, detail);
            }
            if !self.engine.looked {
                return (Phase::Creating, "waiting for the container engine".to_owned());
            }
            let waits = tracked.name_taken.as_ref().map(ToString::to_string);
            return creating_or_failed(waits.unwrap_or(replaced));
        };
        match container.state {
            ContainerState::Created => match self.not_started(wanted, tracked) {
                Some(detail) => (Phase::Dead, detail),
                None => creating_or_failed(String::new()),
            },
            ContainerState::Running { held, .. } if held || self.awaits_network(tracked, container) => {
                creating_or_failed("waiting for its network".to_owned())
            }
            ContainerState::Running { .. } => {
                let unconfirmed = || match &tracked.stopped {
                    Some(_) => failure,
                    None => failure.map(|detail| format!("its network is not confirmed: {detail}")),
                };
                let detail = being_started_or_stopped(tracked).or_else(unconfirmed);
                (Phase::Running, detail.or_else(|| container.unready_because(spec)).unwrap_or_default())
            }
            // What follows from a single attempt is given its last words, so they are told with its end.
            ContainerState::Exited(_) if spec.single_attempt && tracked.last_words.is_some() => {
                (Phase::Running, "it has ended; its last words are being read".to_owned())
            }
            ContainerState::Exited(_) if tracked.is_completed(spec) => (Phase::Completed, String::new()),
            ContainerState::Exited(exit) => match (failure, self.not_started(wanted, tracked)) {
                (_, Some(detail)) => (Phase::Dead, detail),
                (Some(detail), None) => (Phase::Failed, detail),
                (None, None) => {
                    let why = match &tracked.stopped {
                        Some(StopCause::Unhealthy(why)) => why.clone(),
                        Some(StopCause::CutOff) => "stopped while cut off from the cluster".to_owned(),
                        None => exit.to_string(),
                    };
                    (Phase::Dead, format!("{why}; being started again"))
                }
            },
        }
    }

    /// Why an instance without a running container is not started, when that is for want of contact.
    fn not_started(&self, wanted: AssignedInstance, tracked: &Tracked) -> Option<String> {
        let after = self.stop_after(wanted.id)?;
        match (tracked.fence, &tracked.stopped) {
            (Fence::Open, _) => None,
            (Fence::CutOff, Some(StopCause::CutOff)) => Some(format!("stopped: {}", cut_off_for(after))),
            (Fence::CutOff, Some(StopCause::Unhealthy(_)) | None) => {
                Some(format!("not started: {}", cut_off_for(after)))
            }
            (Fence::Unheard, _) => Some(format!(
                "not started: the cluster has not answered since NodeEngine started (on_partition stop_after({after}))"
            )),
        }
    }
}

impl Tracked {
    /// Puts into a report what is to be told of the output: all of it once over each connection. Whether there was room.
    fn tell_output(&mut self, report: &mut InstanceReport, room: &mut usize) -> bool {
        let Some(output) = report.last_exit.as_mut().and_then(|exit| exit.output.as_mut()) else {
            return true;
        };
        match output {
            Output::Text(_) if self.output_told => *output = Output::AsTold,
            Output::Text(text) => {
                let Some(left) = room.checked_sub(text.len()) else { return false };
                *room = left;
                self.output_told = true;
            }
            // Of before a restart. Whoever was told then knows more.
            Output::AsTold => *output = Output::Withheld("is not on the device any more".to_owned()),
            Output::Withheld(_) => {}
        }
        true
    }
}

fn being_started_or_stopped(tracked: &Tracked) -> Option<String> {
    if !tracked.is_being_stopped() {
        return (!tracked.is_settled()).then(|| "not ready: being started".to_owned());
    }
    tracked.stopped.as_ref().map(|cause| match cause {
        StopCause::Unhealthy(why) => format!("{why}; being restarted"),
        StopCause::CutOff => "being stopped: cut off from the cluster".to_owned(),
    })
}

impl Node {
    /// Whether a container that was just started has yet to get its network.
    fn awaits_network(&self, tracked: &Tracked, container: &Container) -> bool {
        let starting = match tracked.operation.as_ref().map(|operation| &operation.kind) {
            Some(OperationKind::Starting { .. }) => true,
            Some(
                OperationKind::Attaching { .. } | OperationKind::Stopping | OperationKind::Removing { .. },
            )
            | None => false,
        };
        self.settings.overlay && starting && !container.network.confirmed
    }
}

fn removed_phase(wanted: AssignedInstance, tracked: &Tracked) -> (Phase, String) {
    let gone = tracked.carried_out == Some(wanted.generation) && tracked.up_to(wanted.generation).is_empty();
    if gone {
        return (Phase::Removed, String::new());
    }
    let waits_for = || match (&tracked.leaving, &tracked.operation) {
        (Some(leaving), None) => leaving.detail(),
        (Some(_), Some(_)) | (None, _) => String::new(),
    };
    (Phase::Undeploying, tracked.failure.clone().unwrap_or_else(waits_for))
}

/// The phase of a container that nobody here may touch.
fn left_alone(container: &Container) -> (Phase, String) {
    let unassigned = "not assigned to this device; left alone";
    match container.state {
        ContainerState::Created => (Phase::Creating, unassigned.to_owned()),
        ContainerState::Running { .. } => (Phase::Running, unassigned.to_owned()),
        ContainerState::Exited(exit) if exit.code == 0 => (Phase::Completed, unassigned.to_owned()),
        ContainerState::Exited(exit) => (Phase::Dead, format!("{exit}; {unassigned}")),
    }
}

fn pulling(image: &str, progress: &str) -> String {
    match progress {
        "" => format!("fetching image `{image}`"),
        progress => format!("fetching image `{image}`: {progress}"),
    }
}
