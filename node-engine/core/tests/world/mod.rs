//! A container engine in memory, driven by a `Node` the way the shell drives the real one.

#![expect(dead_code, reason = "each test file uses its own part of the world")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::{
    AssignedInstance, AssignedService, Assignment, Desired, Generation, InstanceId, Phase, ServiceId,
    ServiceNames, ServiceSpec, Timestamp,
};
use node_core::{
    ContainerId, ContainerSeen, ContainerState, Effect, Exit, Node, Observation, Outcome, Settings,
    StartOrder, Submission, Ticket,
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

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) now: Timestamp,
    pub(crate) engine: BTreeMap<ContainerId, ContainerSeen>,
    pub(crate) images_missing: BTreeSet<String>,
    pub(crate) under_way: VecDeque<Submission>,
    /// Every assignment ever applied, newest last.
    pub(crate) assignments: Vec<Assignment>,
    /// Containers the node had removed.
    pub(crate) removed: Vec<ContainerSeen>,
    made: u64,
    gate: bool,
}

pub(crate) fn instance(number: u32) -> InstanceId {
    InstanceId { service: ServiceId::from_bytes([7; 12]), number }
}

pub(crate) fn wanted(number: u32, generation: u64, desired: Desired) -> AssignedInstance {
    AssignedInstance { id: instance(number), generation: Generation(generation), desired }
}

pub(crate) fn running(number: u32) -> AssignedInstance {
    wanted(number, 1, Desired::Running)
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
        services: BTreeMap::from([(instance(0).service, AssignedService { names: names(), spec })]),
        instances: instances.into_iter().collect(),
        network: None,
    }
}

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        let now = Timestamp(1_000_000);
        let mut world = Self {
            node: Node::new(settings, Assignment::default(), now),
            now,
            engine: BTreeMap::new(),
            images_missing: BTreeSet::new(),
            under_way: VecDeque::new(),
            assignments: Vec::new(),
            removed: Vec::new(),
            made: 0,
            gate: settings.overlay,
        };
        world.node.observe(now, Observation::EngineConnected);
        world
    }

    pub(crate) fn assign(&mut self, assignment: Assignment) {
        let accepted = self.node.accept(assignment.clone()).expect("the test gives growing generations");
        self.node.apply(accepted, self.now);
        self.assignments.push(assignment);
    }

    /// Hands out what is to be done now.
    pub(crate) fn plan(&mut self) -> Vec<Effect> {
        let plan = self.node.reconcile(self.now);
        let effects = plan.submissions.iter().map(|submission| submission.effect.clone()).collect();
        self.under_way.extend(plan.submissions);
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
        self.now = self.now.plus_millis(millis);
    }

    pub(crate) fn observe(&mut self, observation: Observation) {
        self.node.observe(self.now, observation);
    }

    pub(crate) fn finish(&mut self, ticket: Ticket, outcome: Outcome) {
        self.observe(Observation::Finished { ticket, outcome });
    }

    pub(crate) fn carry_out_next(&mut self, fate: Fate) {
        let Some(Submission { ticket, effect }) = self.under_way.pop_front() else { return };
        self.now = self.now.plus_millis(1);
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
        let now = self.now;
        let Some(seen) = self.engine.get_mut(container) else { return };
        if let ContainerState::Running { .. } = seen.state {
            seen.state = ContainerState::Exited(Exit { code, out_of_memory: false, at: now });
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

    pub(crate) fn phase(&self, number: u32) -> Option<Phase> {
        let report = self.node.report();
        report.instances.iter().find(|report| report.id == instance(number)).map(|report| report.phase)
    }

    pub(crate) fn detail(&self, number: u32) -> String {
        let report = self.node.report();
        report.instances.into_iter().find(|report| report.id == instance(number)).expect("reported").detail
    }

    fn make(&mut self, instance: InstanceId, generation: Generation, state: ContainerState) -> ContainerId {
        self.made += 1;
        let id = ContainerId(format!("{:064x}", self.made));
        self.engine.insert(id.clone(), ContainerSeen { id: id.clone(), instance, generation, state });
        id
    }

    fn carry_out(&mut self, effect: &Effect) -> Outcome {
        match effect {
            Effect::List => Outcome::Listed(self.engine.values().cloned().collect()),
            Effect::Pull { image } => {
                self.images_missing.remove(image);
                Outcome::Pulled
            }
            Effect::CreateAndStart(order) => {
                if self.images_missing.contains(&order.spec.image) {
                    return Outcome::ImageMissing;
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
                        Outcome::Attached { addresses: Vec::new() }
                    }
                    Some(ContainerState::Created | ContainerState::Exited(_)) | None => {
                        Outcome::Failed { container: None, detail: "it does not run".into() }
                    }
                }
            }
            Effect::Remove(order) => {
                for container in &order.containers {
                    self.removed.extend(self.engine.remove(container));
                }
                Outcome::Removed
            }
        }
    }

    fn start(&mut self, container: &ContainerId) -> Outcome {
        let now = self.now;
        let seen = self.engine.get_mut(container).expect("the caller saw it");
        let since = match seen.state {
            ContainerState::Running { since, .. } => since,
            ContainerState::Created | ContainerState::Exited(_) => {
                seen.state = ContainerState::Running { since: now, held: self.gate };
                let seen = seen.clone();
                self.observe(Observation::ContainerChanged(seen));
                now
            }
        };
        self.engine.get_mut(container).expect("the caller saw it").state =
            ContainerState::Running { since, held: false };
        Outcome::Started { container: container.clone(), since, addresses: Vec::new() }
    }
}
