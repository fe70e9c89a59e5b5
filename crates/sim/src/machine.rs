//! What happens on a device beside NodeEngine: its container engine, its containers, its power.

use model::{OnPartition, Timestamp};
use node_core::{ContainerId, Effect, Observation, Outcome, StartOrder, StopCause, Submission};

use crate::{
    event::{EngineWork, Event, Fate},
    ids::WorkerIndex,
    mutants::Mutant,
    oracle::Ended,
    queue::Millis,
    scenario::Fault,
    world::World,
};

impl World {
    /// The engine is switched on. Its containers are there and do not run.
    pub(crate) fn start_engine(&mut self, index: WorkerIndex) {
        let engine = &mut self.worker_mut(index).engine;
        engine.boot += 1;
        engine.answers = true;
    }

    pub(crate) fn engine_loses_power(&mut self, index: WorkerIndex) {
        self.worker_mut(index).engine.boot += 1;
        self.worker_mut(index).engine.answers = false;
        self.end_all(index, Ended::Power);
    }

    /// For a mutant: everything that runs is stopped.
    pub(crate) fn stop_all(&mut self, index: WorkerIndex) {
        self.end_all(index, Ended::Stopped);
    }

    fn end_all(&mut self, index: WorkerIndex, why: Ended) {
        let running: Vec<ContainerId> = self.running_on(index);
        for container in running {
            self.end_container(index, &container, 137, why);
        }
    }

    fn running_on(&self, index: WorkerIndex) -> Vec<ContainerId> {
        let containers = &self.worker_ref(index).engine.containers;
        containers.iter().filter(|(_, container)| container.runs()).map(|(id, _)| id.clone()).collect()
    }

    fn end_container(&mut self, index: WorkerIndex, id: &ContainerId, code: i64, why: Ended) {
        let now = self.now;
        let worker = self.worker_mut(index);
        let date = worker.process.date(now);
        if !worker.engine.end(id, code, now, date) {
            return;
        }
        let container = &worker.engine.containers[id];
        let (seen, started) = (container.seen.clone(), container.started);
        self.say(|| format!("{index}: {}#{} ends: {why:?}", seen.instance, seen.generation));
        self.container_ended(index, &seen, started, why);
        if why != Ended::Power {
            self.tell_of_container(index, id);
        }
    }

    /// The engine's events say what a container does now.
    fn tell_of_container(&mut self, index: WorkerIndex, id: &ContainerId) {
        let worker = self.worker_ref(index);
        if !worker.engine.answers {
            return;
        }
        if let Some(container) = worker.engine.containers.get(id) {
            let seen = container.seen.clone();
            self.observe(index, Observation::ContainerChanged(seen));
        }
    }

    pub(crate) fn container_exits(&mut self, index: WorkerIndex, id: &ContainerId, run: u32, code: i64) {
        let quiet = self.is_quiet();
        let container = self.worker_ref(index).engine.containers.get(id);
        let Some(container) = container.filter(|container| container.run == run) else { return };
        if container.one_shot || !quiet {
            self.end_container(index, id, code, Ended::Exit);
        }
    }

    /// The client of an engine is connected again.
    pub(crate) fn engine_back(&mut self, index: WorkerIndex, process: u32) {
        if self.worker_ref(index).process.number == process {
            self.worker_mut(index).engine.answers = true;
            self.observe(index, Observation::EngineConnected);
        }
    }

    /// The engine stops answering for a while; its containers go on.
    pub(crate) fn engine_away(&mut self, index: WorkerIndex) {
        let back = self.now + self.rng.spread(200, 20_000);
        let worker = self.worker_mut(index);
        if worker.node.is_none() || !worker.engine.answers {
            return;
        }
        let process = worker.process.number;
        worker.engine.answers = false;
        worker.engine.troubled = back;
        self.say(|| format!("{index}: the engine is away"));
        self.observe(index, Observation::EngineLost);
        self.queue.push(back, Event::EngineBack { worker: index, process });
    }

    /// NodeEngine asks for something; when it happens is the engine's to say.
    pub(crate) fn submit(&mut self, index: WorkerIndex, submission: Submission) {
        let trouble = self.has(Fault::EngineTrouble);
        if let Effect::Stop(order) = &submission.effect
            && order.cause == StopCause::CutOff
        {
            self.stop_when_cut(index, order.instance);
        }
        let (work, may_fail) = self.time_for(&submission.effect);
        let fate = match self.rng.below(1000) {
            0..20 if trouble && may_fail => Fate::Refused,
            20..28 if trouble && may_fail => Fate::DoneUnheard,
            28..32 if trouble && may_fail => Fate::DoneLate,
            32..40 if trouble && may_fail => Fate::Undone,
            _ => Fate::Done,
        };
        let at = self.now + work;
        let now = self.now;
        let worker = self.worker_mut(index);
        let (process, boot) = (worker.process.number, worker.engine.boot);
        if fate != Fate::Done || work > 5_000 {
            worker.engine.troubled = worker.engine.troubled.max(now + work + 40_000);
        }
        let work = EngineWork { worker: index, process, boot, submission, fate, orphaned: false };
        self.queue.push(at, Event::Engine(Box::new(work)));
    }

    fn time_for(&mut self, effect: &Effect) -> (Millis, bool) {
        let slow = self.has(Fault::EngineTrouble) && self.rng.per_mille(20);
        let (least, most, may_fail) = match effect {
            Effect::List => (1, 20, true),
            Effect::Pull { .. } => (500, 60_000, true),
            Effect::CreateAndStart(_) => (50, 400, true),
            Effect::Start { .. } | Effect::Attach { .. } => (20, 200, true),
            Effect::Remove(_) | Effect::Stop(_) => (20, 10_000, true),
            Effect::Drain { .. } | Effect::Probe { .. } | Effect::ReadTail { .. } => (1, 50, false),
        };
        let time = self.rng.spread(least, most);
        if slow { (time + self.rng.spread(1_000, 25_000), may_fail) } else { (time, may_fail) }
    }

    pub(crate) fn engine_works(&mut self, work: EngineWork) {
        let EngineWork { worker: index, process, boot, submission, fate, orphaned } = work;
        let Submission { ticket, ref effect } = submission;
        let same_engine = self.worker_ref(index).engine.boot == boot;
        let heard = self.worker_ref(index).process.number == process && self.worker_ref(index).is_up();
        if !same_engine {
            return;
        }
        if let Effect::CreateAndStart(order) = effect
            && (orphaned || !heard)
        {
            return self.create_alone(index, order);
        }
        let outcome = match fate {
            Fate::Done => self.carry_out(index, effect),
            Fate::DoneUnheard => {
                drop(self.carry_out(index, effect));
                Outcome::Lost
            }
            Fate::Refused => {
                Outcome::Failed { container: None, detail: "no space left on device".to_owned() }
            }
            Fate::Undone => Outcome::Lost,
            Fate::DoneLate => {
                let later = self.now + self.rng.spread(50, 5_000);
                let again = Submission { ticket, effect: effect.clone() };
                let (process, fate, orphaned) = (0, Fate::Done, true);
                let again = EngineWork { worker: index, process, boot, submission: again, fate, orphaned };
                self.queue.push(later, Event::Engine(Box::new(again)));
                Outcome::Lost
            }
        };
        if heard {
            self.observe(index, Observation::Finished { ticket, outcome });
        }
    }

    /// Making and starting a container are two requests: of one who is gone, or waits no longer, only the first is
    /// carried out late.
    fn create_alone(&mut self, index: WorkerIndex, order: &StartOrder) {
        let engine = &mut self.worker_mut(index).engine;
        if engine.images.contains(&order.spec.image) && engine.of(order.instance, order.generation).is_none()
        {
            engine.make(order.instance, order.generation, &order.spec);
        }
    }

    fn carry_out(&mut self, index: WorkerIndex, effect: &Effect) -> Outcome {
        let engine = &mut self.worker_mut(index).engine;
        match effect {
            Effect::List => Outcome::Listed(engine.list()),
            Effect::Pull { image, .. } => {
                engine.images.insert(image.clone());
                Outcome::Pulled
            }
            Effect::CreateAndStart(order) => {
                if !engine.images.contains(&order.spec.image) {
                    return Outcome::ImageMissing;
                }
                let there = engine.of(order.instance, order.generation);
                let twice = self.is_mutant(Mutant::DoubleStart) && self.rng.per_mille(50);
                let there = if twice { self.start_twin(index, order) } else { there };
                let engine = &mut self.worker_mut(index).engine;
                let id = there.unwrap_or_else(|| engine.make(order.instance, order.generation, &order.spec));
                self.start_container(index, &id, order)
            }
            Effect::Start { container, order, .. } => {
                if engine.containers.contains_key(container) {
                    self.start_container(index, container, order)
                } else {
                    Outcome::Gone { container: container.clone() }
                }
            }
            Effect::Attach { .. } => Outcome::Attached { addresses: Vec::new() },
            Effect::Stop(order) => {
                let (id, cause) = (order.container.clone(), &order.cause);
                let why = match cause {
                    StopCause::CutOff => Ended::CutOff,
                    StopCause::Unhealthy(_) => Ended::Stopped,
                };
                self.end_container(index, &id, 143, why);
                match self.worker_ref(index).engine.containers.get(&id) {
                    Some(container) => Outcome::Stopped(container.seen.clone()),
                    None => Outcome::Failed { container: None, detail: "it is gone".to_owned() },
                }
            }
            Effect::Remove(order) => {
                if self.scenario.mutant == Some(Mutant::NeverStop) {
                    return Outcome::Removed;
                }
                for id in &order.containers {
                    self.remove_container(index, id);
                }
                Outcome::Removed
            }
            // Some hang up, some never do.
            Effect::Drain { .. } => Outcome::Connections(u32::from(self.rng.per_mille(900))),
            Effect::Probe { .. } => Outcome::Probed(Ok(())),
            Effect::ReadTail { .. } => Outcome::LastWords { tail: String::new(), output: None },
        }
    }

    fn start_twin(&mut self, index: WorkerIndex, order: &StartOrder) -> Option<ContainerId> {
        let twin = self.worker_mut(index).engine.make(order.instance, order.generation, &order.spec);
        drop(self.start_container(index, &twin, order));
        None
    }

    fn remove_container(&mut self, index: WorkerIndex, id: &ContainerId) {
        let worker = self.worker_mut(index);
        let Some(container) = worker.engine.containers.remove(id) else { return };
        let instance = container.seen.instance;
        self.say(|| format!("{index}: {instance}#{} is removed", container.seen.generation));
        if container.runs() {
            self.container_ended(index, &container.seen, container.started, Ended::Removed);
        }
        if self.worker_ref(index).engine.answers {
            let container = id.clone();
            self.observe(index, Observation::ContainerGone { instance, container });
        }
    }

    fn start_container(&mut self, index: WorkerIndex, id: &ContainerId, order: &StartOrder) -> Outcome {
        let now = self.now;
        let worker = self.worker_mut(index);
        let date = worker.process.date(now);
        let news = worker.engine.start(id, now, date);
        let container = &worker.engine.containers[id];
        let (seen, run, one_shot) = (container.seen.clone(), container.run, container.one_shot);
        if news {
            self.trace.mix(seen.generation.0);
            self.statistics.starts += 1;
            self.say(|| format!("{index}: {}#{} starts", seen.instance, seen.generation));
            self.container_started(index, &seen, order);
            self.plan_exit(index, id, run, one_shot);
            self.tell_of_container(index, id);
        }
        let since = match self.worker_ref(index).engine.containers.get(id).map(|it| it.seen.state) {
            Some(node_core::ContainerState::Running { since, .. }) => since,
            Some(node_core::ContainerState::Created | node_core::ContainerState::Exited(_)) | None => {
                Timestamp(0)
            }
        };
        Outcome::Started { container: id.clone(), since, addresses: Vec::new(), checked: false }
    }

    fn plan_exit(&mut self, index: WorkerIndex, id: &ContainerId, run: u32, one_shot: bool) {
        let (after, code) = if one_shot {
            (self.rng.spread(1_000, 60_000), 0)
        } else if self.has(Fault::Exits) && self.rng.per_mille(150) {
            (self.rng.spread(100, 300_000), 1)
        } else {
            return;
        };
        let container = id.clone();
        self.queue.push(self.now + after, Event::Exit { worker: index, container, run, code });
    }
}

/// Whether a service may not run while its worker is cut off.
pub(crate) const fn stops_when_cut(policy: OnPartition) -> bool {
    match policy {
        OnPartition::StopAfter(_) => true,
        OnPartition::ReplaceAfter(_) | OnPartition::Keep => false,
    }
}
