//! The state of the brain, and how a new assignment enters it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use model::{AssignedInstance, Assignment, Desired, Generation, InstanceId, Load, Moment, Now, ServiceSpec};

use serde::{Deserialize, Serialize};

use crate::{History, StartOrder, Ticket, tracked::Tracked};

/// An engine is done within seconds; so many removals take longer. They are written with each assignment.
pub(crate) const BURIED_REMEMBERED: usize = 256;

/// Counts observations, so that "before" and "after" do not depend on a clock.
pub(crate) type Sequence = u64;

/// What the device is set up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// Instances get networks of their own from NetManager and wait for them at the start gate.
    pub overlay: bool,
}

/// What has to survive for a device to go on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Held {
    /// The assignment.
    #[serde(flatten)]
    pub assignment: Assignment,
    /// Tombstones that have left the assignment, so were carried out, the newest last, and a bounded number of them. An
    /// engine may finish making a container after that, and after the NodeEngine that carried it out is gone.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub buried: VecDeque<(InstanceId, Generation)>,
}

/// What an earlier NodeEngine of this device left behind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Before {
    /// What was saved last, or the default when there is nothing.
    pub held: Held,
    /// The last history saved, or the default one.
    pub history: History,
    /// When it was last in contact with the cluster, in this process's steady time; `None` when that is not known, as
    /// after a boot.
    pub contact: Option<Moment>,
}

/// The state of one device. See the crate's page for how it is driven.
#[derive(Debug, Clone)]
pub struct Node {
    pub(crate) settings: Settings,
    pub(crate) assignment: Assignment,
    /// As of [`Held::buried`].
    pub(crate) buried: VecDeque<(InstanceId, Generation)>,
    pub(crate) instances: BTreeMap<InstanceId, Tracked>,
    /// Images known to be missing. All others are taken to be present until the engine denies it.
    pub(crate) images: BTreeMap<String, MissingImage>,
    pub(crate) engine: Engine,
    pub(crate) next_ticket: u64,
    pub(crate) sequence: Sequence,
    pub(crate) load: Load,
    pub(crate) revision: u64,
    pub(crate) history_revision: u64,
    /// When this NodeEngine began.
    pub(crate) started: Moment,
    /// When the device was last known not to be cut off.
    pub(crate) contact: Option<Moment>,
    /// Of the last report.
    pub(crate) reports: u64,
}

/// What is known of the container engine as a whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Engine {
    pub(crate) connected: bool,
    /// The containers are known; false until the first listing after each connection.
    pub(crate) listed: bool,
    /// They were known at some time.
    pub(crate) looked: bool,
    pub(crate) listing: Option<Listing>,
    /// When the connection was made; a listing begun before does not count.
    pub(crate) connected_at: Sequence,
    /// When the next listing is due.
    pub(crate) list_at: Option<Moment>,
    pub(crate) failures: u32,
}

/// A listing under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listing {
    pub(crate) ticket: Ticket,
    pub(crate) begun: Sequence,
}

/// An image that has to be fetched.
#[derive(Debug, Clone, Default)]
pub(crate) struct MissingImage {
    pub(crate) pulling: Option<Ticket>,
    pub(crate) progress: String,
    pub(crate) attempts: u32,
    pub(crate) retry_at: Option<Moment>,
    pub(crate) failure: Option<String>,
}

/// An assignment that may be taken on. The shell saves it before it is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted(Held);

impl Accepted {
    /// What must be durable before [`Node::apply`].
    #[must_use]
    pub const fn held(&self) -> &Held {
        &self.0
    }
}

/// An assignment that is not newer than the one held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("assignment {offered} is not newer than assignment {held}, which this device holds; it was ignored")]
pub struct StaleAssignment {
    /// The generation held.
    pub held: Generation,
    /// The generation offered.
    pub offered: Generation,
}

impl Node {
    /// A device that goes on where it left off.
    #[must_use]
    pub fn new(settings: Settings, before: Before, now: Now) -> Self {
        let Before { held, history, contact } = before;
        let assignment = &held.assignment;
        let assigned = |id: &InstanceId| assignment.instances.iter().any(|instance| instance.id == *id);
        let remembered = history.instances.into_iter().filter(|remembered| assigned(&remembered.instance));
        let instances =
            remembered.map(|remembered| (remembered.instance, Tracked::remembered(remembered.past)));
        let mut node = Self {
            settings,
            assignment: Assignment::default(),
            buried: VecDeque::new(),
            instances: instances.collect(),
            images: BTreeMap::new(),
            engine: Engine::default(),
            next_ticket: 0,
            sequence: 0,
            load: Load::default(),
            revision: 0,
            history_revision: 0,
            started: now.moment,
            contact,
            reports: 0,
        };
        node.apply(Accepted(held), now);
        node
    }

    /// The assignment held.
    #[must_use]
    pub const fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// Checks an assignment; the state stays as it is.
    ///
    /// # Errors
    /// It is not newer than the one held.
    pub fn accept(&self, assignment: Assignment) -> Result<Accepted, StaleAssignment> {
        if assignment.generation > self.assignment.generation {
            let buried = self.buried_with(&assignment);
            return Ok(Accepted(Held { assignment, buried }));
        }
        Err(StaleAssignment { held: self.assignment.generation, offered: assignment.generation })
    }

    /// What is buried once `next` counts: whatever tombstones it leaves out were confirmed, by this NodeEngine or the one
    /// before.
    fn buried_with(&self, next: &Assignment) -> VecDeque<(InstanceId, Generation)> {
        let mut buried = self.buried.clone();
        for instance in &self.assignment.instances {
            let is_left_out = || next.instances.binary_search_by_key(&instance.id, |it| it.id).is_err();
            match instance.desired {
                Desired::Removed if is_left_out() => buried.push_back((instance.id, instance.generation)),
                Desired::Removed | Desired::Running => {}
            }
        }
        buried.drain(..buried.len().saturating_sub(BURIED_REMEMBERED));
        buried
    }

    /// Takes on an assignment that was accepted and saved. Instances that it does not name keep their containers.
    pub fn apply(&mut self, accepted: Accepted, now: Now) {
        let Held { assignment, buried } = accepted.0;
        (self.assignment, self.buried) = (assignment, buried);
        let wanted: BTreeMap<_, _> =
            self.assignment.instances.iter().map(|instance| (instance.id, *instance)).collect();
        for id in wanted.keys() {
            self.instances.entry(*id).or_default();
        }
        for (id, tracked) in &mut self.instances {
            let wanted = wanted.get(id).copied();
            // A remembered instance goes on as it was.
            if tracked.assigned != wanted && tracked.reported.is_some() {
                tracked.begin_anew();
            }
            tracked.assigned = wanted;
        }
        self.settle_all(now);
    }

    /// What to run for an instance, if its service is known.
    pub(crate) fn start_order(&self, wanted: AssignedInstance) -> Option<StartOrder> {
        let service = self.assignment.services.get(&wanted.revision_id())?;
        let AssignedInstance { id: instance, generation, address, .. } = wanted;
        Some(StartOrder {
            instance,
            generation,
            names: Arc::clone(&service.names),
            spec: Arc::clone(&service.spec),
            address,
            secrets: Arc::clone(&self.assignment.secrets),
        })
    }

    /// What an instance needs, if its service is known.
    pub(crate) fn spec(&self, instance: InstanceId) -> Option<&ServiceSpec> {
        let wanted = self.instances.get(&instance)?.assigned?;
        self.assignment.services.get(&wanted.revision_id()).map(|service| &*service.spec)
    }

    pub(crate) fn take_ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }
}
