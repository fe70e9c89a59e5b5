//! What Docker says of containers, in our words.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, CreateImageInfo, EventMessage, EventMessageTypeEnum,
    HealthStatusEnum,
};
use model::{Generation, InstanceId, Timestamp};
use node_core::{ContainerId, ContainerSeen, ContainerState, Exit, ImageHealth};

use crate::{
    gate::{self, Whereabouts},
    runtime::{GENERATION_LABEL, INSTANCE_LABEL, RuntimeEvent},
};

/// The events that tell of our containers and of images.
pub(super) fn event_filters() -> HashMap<&'static str, Vec<&'static str>> {
    HashMap::from([
        ("type", vec!["container", "image"]),
        (
            "event",
            vec![
                "create",
                "start",
                "die",
                "destroy",
                "oom",
                "health_status",
                "pull",
                "load",
                "import",
                "tag",
                "untag",
                "delete",
            ],
        ),
    ])
}

/// Whether an event may have changed what an image reference means.
pub(super) fn concerns_images(event: &EventMessage) -> bool {
    event.typ == Some(EventMessageTypeEnum::IMAGE)
}

/// A moment as the engine's API takes it.
pub(super) fn seconds_with_fraction(moment: SystemTime) -> String {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
}

/// Turns Docker's events into ours. Remembers who ran out of memory until their end is told.
#[derive(Debug)]
pub(super) struct Translator {
    gated: bool,
    out_of_memory: BTreeSet<String>,
}

impl Translator {
    pub(super) const fn new(gated: bool) -> Self {
        Self { gated, out_of_memory: BTreeSet::new() }
    }

    pub(super) fn translate(&mut self, event: EventMessage) -> Option<RuntimeEvent> {
        let actor = event.actor?;
        let (id, attributes) = (actor.id?, actor.attributes?);
        let (instance, generation) = labels(&attributes)?;
        let at = Timestamp(u64::try_from(event.time_nano?).ok()? / 1_000_000);
        let changed = |id: String, state| {
            let seen = ContainerSeen { id: ContainerId(id), instance, generation, state, health: None };
            Some(RuntimeEvent::Changed(seen))
        };
        match event.action?.as_str() {
            // One that nobody waits for any more: it was asked for by a NodeEngine that was killed meanwhile.
            "create" => changed(id, ContainerState::Created),
            // Whoever starts it, it comes to its gate first.
            "start" => changed(id, ContainerState::Running { since: at, held: self.gated }),
            "die" => {
                let code = attributes.get("exitCode").and_then(|code| code.parse().ok()).unwrap_or(-1);
                let out_of_memory = self.out_of_memory.remove(&id);
                changed(id, ContainerState::Exited(Exit { code, out_of_memory, at }))
            }
            "oom" => {
                self.out_of_memory.insert(id);
                None
            }
            "health_status: healthy" => Some(RuntimeEvent::Health {
                instance,
                container: ContainerId(id),
                health: ImageHealth::Healthy,
            }),
            "health_status: unhealthy" => Some(RuntimeEvent::Health {
                instance,
                container: ContainerId(id),
                health: ImageHealth::Unhealthy,
            }),
            "destroy" => Some(RuntimeEvent::Gone { instance, container: ContainerId(id) }),
            _ => None,
        }
    }
}

/// A container as inspected; `None` without our labels, or when it is on its way out.
pub(super) fn seen(container: ContainerInspectResponse, gated: bool) -> Option<ContainerSeen> {
    let id = ContainerId(container.id?);
    let (instance, generation) = labels(&container.config?.labels?)?;
    let state = container.state?;
    let health = state.health.as_ref().and_then(|health| image_health(health.status?));
    let moment = |text: Option<String>| text.as_deref().and_then(timestamp).unwrap_or_default();
    let state = match state.status? {
        ContainerStateStatusEnum::CREATED | ContainerStateStatusEnum::EMPTY => ContainerState::Created,
        ContainerStateStatusEnum::RUNNING
        | ContainerStateStatusEnum::PAUSED
        | ContainerStateStatusEnum::RESTARTING
        | ContainerStateStatusEnum::STOPPING => {
            let pid = state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|_| gated);
            let held = pid.is_some_and(|pid| gate::whereabouts(pid) == Whereabouts::Before);
            ContainerState::Running { since: moment(state.started_at), held }
        }
        ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD => ContainerState::Exited(Exit {
            code: state.exit_code.unwrap_or(-1),
            out_of_memory: state.oom_killed.unwrap_or(false),
            at: moment(state.finished_at),
        }),
        ContainerStateStatusEnum::REMOVING => return None,
    };
    Some(ContainerSeen { id, instance, generation, health: health.filter(|_| is_running(state)), state })
}

const fn is_running(state: ContainerState) -> bool {
    match state {
        ContainerState::Running { .. } => true,
        ContainerState::Created | ContainerState::Exited(_) => false,
    }
}

const fn image_health(status: HealthStatusEnum) -> Option<ImageHealth> {
    match status {
        HealthStatusEnum::EMPTY | HealthStatusEnum::NONE => None,
        HealthStatusEnum::STARTING => Some(ImageHealth::Starting),
        HealthStatusEnum::HEALTHY => Some(ImageHealth::Healthy),
        HealthStatusEnum::UNHEALTHY => Some(ImageHealth::Unhealthy),
    }
}

fn labels(labels: &HashMap<String, String>) -> Option<(InstanceId, Generation)> {
    let instance = labels.get(INSTANCE_LABEL)?.parse().ok()?;
    let generation = labels.get(GENERATION_LABEL)?.parse().ok()?;
    Some((instance, Generation(generation)))
}

pub(super) fn timestamp(text: &str) -> Option<Timestamp> {
    let moment: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(moment.as_millisecond()).ok().map(Timestamp)
}

/// How far a pull got: `2 of 5 layers, 30 of 100 MB`.
#[derive(Debug, Default)]
pub(super) struct PullProgress {
    /// Bytes there and in all, and whether the layer is done.
    layers: BTreeMap<String, (i64, i64, bool)>,
}

impl PullProgress {
    pub(super) fn note(&mut self, step: CreateImageInfo) {
        let (Some(layer), Some(status)) = (step.id, step.status) else { return };
        let progress = step.progress_detail.unwrap_or_default();
        match status.as_str() {
            "Pulling fs layer" | "Waiting" => {
                self.layers.entry(layer).or_default();
            }
            "Downloading" => {
                let known = self.layers.entry(layer).or_default();
                (known.0, known.1) = (progress.current.unwrap_or(known.0), progress.total.unwrap_or(known.1));
            }
            "Pull complete" | "Already exists" => self.layers.entry(layer).or_default().2 = true,
            _ => {}
        }
    }
}

impl fmt::Display for PullProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = self.layers.values().filter(|(_, _, done)| *done).count();
        let megabytes = |bytes: i64| bytes / 1_000_000;
        let (there, all) = self
            .layers
            .values()
            .fold((0, 0), |(there, all), (current, total, _)| (there + current, all + total));
        write!(f, "{done} of {} layers, {} of {} MB", self.layers.len(), megabytes(there), megabytes(all))
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::{EventActor, ProgressDetail};

    use super::*;

    fn event(action: &str, extra: &[(&str, &str)]) -> EventMessage {
        let labels = [(INSTANCE_LABEL, format!("{}/3", "ab".repeat(12))), (GENERATION_LABEL, "2".to_owned())];
        let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value));
        let extra = extra.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        EventMessage {
            action: Some(action.to_owned()),
            actor: Some(EventActor {
                id: Some("c1".to_owned()),
                attributes: Some(labels.chain(extra).collect()),
            }),
            time_nano: Some(5_000_000_000),
            ..EventMessage::default()
        }
    }

    #[test]
    fn the_end_of_a_container_tells_its_code_and_whether_memory_ran_out() {
        let mut translator = Translator::new(false);
        let end =
            |translator: &mut Translator| match translator.translate(event("die", &[("exitCode", "137")])) {
                Some(RuntimeEvent::Changed(seen)) => seen.state,
                other => panic!("{other:?}"),
            };
        assert_eq!(translator.translate(event("oom", &[])), None);
        let exit =
            |out_of_memory| ContainerState::Exited(Exit { code: 137, out_of_memory, at: Timestamp(5000) });
        assert_eq!(end(&mut translator), exit(true));
        assert_eq!(end(&mut translator), exit(false));
    }

    #[test]
    fn a_container_that_was_made_is_told() {
        assert!(event_filters()["event"].contains(&"create"));
        let state = match Translator::new(true).translate(event("create", &[])) {
            Some(RuntimeEvent::Changed(seen)) => seen.state,
            other => panic!("{other:?}"),
        };
        assert_eq!(state, ContainerState::Created);
    }

    #[test]
    fn the_engine_tells_of_a_health_check() {
        let health = |action: &str| match Translator::new(false).translate(event(action, &[])) {
            Some(RuntimeEvent::Health { health, .. }) => Some(health),
            other => panic!("{other:?}"),
        };
        assert_eq!(health("health_status: healthy"), Some(ImageHealth::Healthy));
        assert_eq!(health("health_status: unhealthy"), Some(ImageHealth::Unhealthy));
    }

    #[test]
    fn events_of_other_containers_are_not_ours() {
        let mut foreign = event("destroy", &[]);
        foreign
            .actor
            .as_mut()
            .and_then(|actor| actor.attributes.as_mut())
            .expect("set")
            .remove(INSTANCE_LABEL);
        assert_eq!(Translator::new(false).translate(foreign), None);
    }

    #[test]
    fn moments_are_understood() {
        assert_eq!(timestamp("1970-01-01T00:00:01.5Z"), Some(Timestamp(1500)));
        assert_eq!(timestamp("0001-01-01T00:00:00Z"), None);
    }

    #[test]
    fn progress_is_told_in_layers_and_megabytes() {
        let mut progress = PullProgress::default();
        let step = |id: &str, status: &str, current, total| CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: Some(ProgressDetail { current, total }),
            ..CreateImageInfo::default()
        };
        progress.note(step("a", "Pulling fs layer", None, None));
        progress.note(step("b", "Downloading", Some(2_000_000), Some(7_000_000)));
        progress.note(step("a", "Already exists", None, None));
        assert_eq!(progress.to_string(), "1 of 2 layers, 2 of 7 MB");
    }
}
