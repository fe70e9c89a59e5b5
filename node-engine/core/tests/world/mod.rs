//! A container engine in memory, driven by a `Node` the way the shell drives the real one.

#![expect(dead_code, reason = "each test file uses its own part of the world")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::{
    AssignedInstance, AssignedService, Assignment, Desired, Generation, Health, InstanceId, InstanceReport,
    Moment, Now, Output, Phase, RevisionId, ServiceId, ServiceNames, ServiceSpec, Timestamp,
};
use node_core::{
    Before, ContainerId, ContainerSeen, ContainerState, Effect, Exit, Held, ImageHealth, Node, Observation,
    Outcome, Settings, StartOrder, Submission, Ticket,
};

/// What becomes of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    /// Done, and its outcome told twice.
    DoneToldTwice,
    /// Done, but nobody hears of it.
    DoneUnheard,
    /// Never done, and nobody hears of it.
    Undone,
}

#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) now: Now,
    pub(crate) engine: BTreeMap<ContainerId, ContainerSeen>,
    pub(crate) images_missing: BTreeSet<String>,
    /// The engine is still removing a container that it does not list any more.
    pub(crate) name_taken: bool,
    pub(crate) under_way: VecDeque<Submission>,
    /// Every assignment ever applied, newest last.
    pub(crate) assignments: Vec<Assignment>,
    /// Containers the node had removed.
    pub(crate) removed: Vec<ContainerSeen>,
    /// What probes are answered; a success unless told otherwise.
    pub(crate) answers: BTreeMap<String, Result<(), String>>,
    /// The probes of the service.
    pub(crate) health: Health,
    /// Of the last plan.
    pub(crate) wake_at: Option<Moment>,
    /// How many are connected to each instance that goes.
    pub(crate) connections: u32,
    /// What instances wrote as their output.
    pub(crate) outputs: BTreeMap<InstanceId, Output>,
    /// The image has a HEALTHCHECK.
    pub(crate) checked: bool,
    /// As the disk has it.
    held: Held,
    made: u64,
    settings: Settings,
}

pub(crate) fn instance(number: u32) -> InstanceId {
    InstanceId { service: ServiceId::from_bytes([7; 12]), number }
}

pub(crate) fn wanted(number: u32, generation: u64, desired: Desired) -> AssignedInstance {
    AssignedInstance {
        id: instance(number),
        revision: 1,
        generation: Generation(generation),
        desired,
        address: None,
    }
}

pub(crate) fn running(number: u32) -> AssignedInstance {
    wanted(number, 1, Desired::Running)
}

/// What a container printed last.
pub(crate) fn words(tail: &str) -> Outcome {
    Outcome::LastWords { tail: tail.to_owned(), output: None }
}

pub(crate) fn names() -> ServiceNames {
    ServiceNames {
        application: "shop".into(),
        application_namespace: "prod".into(),
        service: "web".into(),
        service_namespace: "front".into(),
    }
}

pub(crate) fn spec() -> ServiceSpec {
    ServiceSpec::container("registry.local/web:1")
}

pub(crate) fn assignment(
    generation: u64,
    instances: impl IntoIterator<Item = AssignedInstance>,
    spec: ServiceSpec,
) -> Assignment {
    Assignment {
        generation: Generation(generation),
        services: BTreeMap::from([(
            RevisionId { service: instance(0).service, number: 1 },
            AssignedService {
                names: names().into(),
                spec: spec.into(),
                addresses: std::sync::Arc::default(),
                allowed_callers: std::sync::Arc::default(),
            },
        )]),
        instances: instances.into_iter().collect(),
        ..Assignment::default()
    }
}

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        Self::going_on(settings, Before::default())
    }

    pub(crate) fn going_on(settings: Settings, before: Before) -> Self {
        let now = Now { date: Timestamp(1_000_000), moment: Moment(3_600_000) };
        let mut world = Self {
            node: Node::new(settings, before, now),
            now,
            engine: BTreeMap::new(),
            images_missing: BTreeSet::new(),
            name_taken: false,
            under_way: VecDeque::new(),
            assignments: Vec::new(),
            removed: Vec::new(),
            answers: BTreeMap::new(),
            health: Health::default(),
            wake_at: None,
            connections: 0,
            outputs: BTreeMap::new(),
            held: Held::default(),
            checked: false,
            made: 0,
            settings,
        };
        world.node.observe(now, Observation::EngineConnected);
        world
    }

    /// NodeEngine is killed and comes back; `contact` is what it knows of its last contact. Its history is what it
    /// last gave the shell.
    pub(crate) fn restart(&mut self, contact: Option<Moment>) {
        let before = Before { held: self.held.clone(), history: self.node.history(), contact };
        self.node = Node::new(self.settings, before, self.now);
        self.under_way.clear();
        self.node.observe(self.now, Observation::EngineConnected);
    }

    /// Somebody sets the clock.
    pub(crate) fn set_clock(&mut self, date: u64) {
        self.now.date = Timestamp(date);
    }

    pub(crate) fn contact(&mut self) {
        self.observe(Observation::Contact { sent: self.now.moment });
    }

    pub(crate) fn assign(&mut self, assignment: Assignment) {
        let accepted = self.node.accept(assignment.clone()).expect("the test gives growing generations");
        self.held = accepted.held().clone();
        self.node.apply(accepted, self.now);
        self.assignments.push(assignment);
    }

    /// Hands out what is to be done now. Last words are read at once, beside everything else.
    pub(crate) fn plan(&mut self) -> Vec<Effect> {
        let plan = self.node.reconcile(self.now);
        self.wake_at = plan.wake_at;
        let (read, rest): (Vec<_>, Vec<_>) = plan
            .submissions
            .into_iter()
            .partition(|submission| matches!(submission.effect, Effect::ReadTail { .. }));
        for Submission { ticket, effect } in read {
            let outcome = self.carry_out(&effect);
            self.finish(ticket, outcome);
        }
        let effects = rest.iter().map(|submission| submission.effect.clone()).collect();
        self.under_way.extend(rest);
        effects
    }

    /// Plans and carries out everything until nothing is left to do at this moment.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1000 {
            self.plan();
            if self.under_way.is_empty() {
                return;
            }
            while !self.under_way.is_empty() {
                self.carry_out_next(Fate::Done);
            }
        }
        panic!("the node never comes to rest: {:?}", self.node.report());
    }

    /// Lets time pass until nothing waits for it any more, the regular listing apart.
    pub(crate) fn rest(&mut self) {
        for _ in 0..200 {
            self.settle();
            self.pass(60_000);
        }
        self.settle();
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        self.now.date = self.now.date.plus_millis(millis);
        self.now.moment = self.now.moment.plus_millis(millis);
    }

    pub(crate) fn observe(&mut self, observation: Observation) {
        self.node.observe(self.now, observation);
    }

    pub(crate) fn finish(&mut self, ticket: Ticket, outcome: Outcome) {
        self.observe(Observation::Finished { ticket, outcome });
    }

    pub(crate) fn carry_out_next(&mut self, fate: Fate) {
        let Some(Submission { ticket, effect }) = self.under_way.pop_front() else { return };
        self.pass(1);
        let outcome = match fate {
            Fate::Done | Fate::DoneToldTwice | Fate::DoneUnheard => self.carry_out(&effect),
            Fate::Undone => Outcome::Lost,
        };
        match fate {
            Fate::Done => self.finish(ticket, outcome),
            Fate::DoneToldTwice => {
                self.finish(ticket, outcome.clone());
                self.finish(ticket, outcome);
            }
            Fate::DoneUnheard | Fate::Undone => self.finish(ticket, Outcome::Lost),
        }
    }

    /// Ends the process of a container; the engine says so unless `silent`.
    pub(crate) fn exit(&mut self, container: &ContainerId, code: i64, silent: bool) {
        let now = self.now.date;
        let Some(seen) = self.engine.get_mut(container) else { return };
        if let ContainerState::Running { .. } = seen.state {
            seen.state = ContainerState::Exited(Exit { code, out_of_memory: false, at: now });
            seen.health = None;
            let seen = seen.clone();
            if !silent {
                self.observe(Observation::ContainerChanged(seen));
            }
        }
    }

    /// A person removes a container behind the node's back.
    pub(crate) fn snatch(&mut self, container: &ContainerId, silent: bool) {
        let Some(seen) = self.engine.remove(container) else { return };
        if !silent {
            self.observe(Observation::ContainerGone { instance: seen.instance, container: seen.id });
        }
    }

    /// A labelled container that was there before.
    pub(crate) fn found(&mut self, number: u32, generation: u64, state: ContainerState) -> ContainerId {
        self.make(instance(number), Generation(generation), state)
    }

    pub(crate) fn report(&mut self, number: u32) -> Option<InstanceReport> {
        let report = self.node.report();
        report.instances.into_iter().find(|report| report.id == instance(number))
    }

    pub(crate) fn phase(&mut self, number: u32) -> Option<Phase> {
        self.report(number).map(|report| report.phase)
    }

    pub(crate) fn detail(&mut self, number: u32) -> String {
        self.report(number).expect("reported").detail
    }

    /// Phase, readiness and detail in one.
    pub(crate) fn state(&mut self, number: u32) -> (Phase, bool, String) {
        let report = self.report(number).expect("reported");
        (report.phase, report.ready, report.detail)
    }

    fn make(&mut self, instance: InstanceId, generation: Generation, state: ContainerState) -> ContainerId {
        self.made += 1;
        let id = ContainerId(format!("{:064x}", self.made));
        self.engine
            .insert(id.clone(), ContainerSeen { id: id.clone(), instance, generation, state, health: None });
        id
    }

    fn carry_out(&mut self, effect: &Effect) -> Outcome {
        match effect {
            Effect::List => Outcome::Listed(self.engine.values().cloned().collect()),
            Effect::Pull { image, .. } => {
                self.images_missing.remove(image);
                Outcome::Pulled
            }
            Effect::CreateAndStart(order) => {
                if self.images_missing.contains(&order.spec.image) {
                    return Outcome::ImageMissing;
                }
                if self.name_taken {
                    return Outcome::NameTaken { name: "web-0".to_owned() };
                }
                let there = self
                    .engine
                    .values()
                    .find(|seen| seen.instance == order.instance && seen.generation == order.generation);
                let id = there.map(|seen| seen.id.clone());
                let id = id
                    .unwrap_or_else(|| self.make(order.instance, order.generation, ContainerState::Created));
                self.start(&id)
            }
            Effect::Start { container, order, .. } => {
                let StartOrder { instance, generation, .. } = order;
                if self.engine.contains_key(container) {
                    return self.start(container);
                }
                self.observe(Observation::ContainerGone {
                    instance: *instance,
                    container: container.clone(),
                });
                Outcome::Failed {
                    container: None,
                    detail: format!("no container of generation {generation}"),
                }
            }
            Effect::Attach { container, .. } => {
                match self.engine.get_mut(container).map(|seen| &mut seen.state) {
                    Some(ContainerState::Running { held, .. }) => {
                        *held = false;
                        Outcome::Attached { addresses: vec![ADDRESS.parse().expect("an address")] }
                    }
                    Some(ContainerState::Created | ContainerState::Exited(_)) | None => {
                        Outcome::Failed { container: None, detail: "it does not run".into() }
                    }
                }
            }
            Effect::Stop(order) => {
                self.exit(&order.container, 143, false);
                match self.engine.get(&order.container) {
                    Some(seen) => Outcome::Stopped(seen.clone()),
                    None => Outcome::Gone { container: order.container.clone() },
                }
            }
            Effect::Remove(order) => {
                for container in &order.containers {
                    self.removed.extend(self.engine.remove(container));
                }
                Outcome::Removed
            }
            Effect::Drain { .. } => Outcome::Connections(self.connections),
            Effect::Probe { probe, .. } => {
                Outcome::Probed(self.answers.get(&format!("{:?}", probe.check)).cloned().unwrap_or(Ok(())))
            }
            Effect::ReadTail { container, until, output_of, .. } => Outcome::LastWords {
                tail: format!("the last words of {container} before {}", until.0),
                output: output_of.and_then(|(instance, _)| self.outputs.get(&instance).cloned()),
            },
        }
    }

    fn start(&mut self, container: &ContainerId) -> Outcome {
        let now = self.now.date;
        let seen = self.engine.get_mut(container).expect("the caller saw it");
        let since = match seen.state {
            ContainerState::Running { since, .. } => since,
            ContainerState::Created | ContainerState::Exited(_) => {
                seen.state = ContainerState::Running { since: now, held: self.settings.overlay };
                // The event does not tell of the HEALTHCHECK.
                let seen = seen.clone();
                self.observe(Observation::ContainerChanged(seen));
                now
            }
        };
        let seen = self.engine.get_mut(container).expect("the caller saw it");
        seen.state = ContainerState::Running { since, held: false };
        seen.health = self.checked.then_some(ImageHealth::Starting);
        let addresses =
            if self.settings.overlay { vec![ADDRESS.parse().expect("an address")] } else { vec![] };
        Outcome::Started { container: container.clone(), since, addresses, checked: self.checked }
    }
}

/// Of every instance with an overlay.
pub(crate) const ADDRESS: &str = "10.18.0.2";
