//! What hooks are still to be told. What happens is noted as documents change, becomes deliveries in the same commit, and is
//! offered to the shell until somebody took it.
//!
//! ```text
//!   take(change) ──► overhear ──► reconcile: Change::Delivery ──► Effect::Deliver ──► the shell
//!                                            ▲                                      │
//!                                            └────────────── delivered ◄────────────┘
//! ```
//!
//! Guarantees: what happened is stored with what it happened by, so neither is known without the other. Each delivery is
//! taken at least once, or given up a day after it happened. The deliveries of a hook are made one after another, in the
//! order of what they tell; one that fails holds up those behind it, of that hook only. An update of something is not told
//! twice if the first telling was not begun: receivers look for themselves what is so now.

use std::collections::{BTreeMap, BTreeSet};

use model::{ApplicationId, HookId, Moment, Now, OrganizationId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    Change, Effect, Hook, HookEvent, Service, State,
    hooks::{HookError, Topic},
    reconcile::Plan,
};

/// Deliveries of one hook that may wait: a receiver that stays away must not fill the store.
pub const MOST_WAITING: usize = 1000;
/// A delivery that fails is given up this long after what it tells has happened: receivers are mended within a day, or not
/// soon.
const GIVE_UP_MILLIS: u64 = 24 * 3_600_000;
/// Before the second attempt; each further one waits twice as long.
const FIRST_PAUSE_MILLIS: u64 = 1000;
/// Between attempts at most: one that was mended is told again soon.
const LONGEST_PAUSE_MILLIS: u64 = 600_000;
/// Deliveries under way at once; of one organisation a part, so that none waits for the receivers of others.
const MOST_UNDERWAY: usize = 32;
const MOST_UNDERWAY_OF_ONE: usize = 8;
/// One of which nothing was heard for so long is made again. Longer than any attempt may take.
const LOST_MILLIS: u64 = 120_000;
/// Characters of a reason that are kept.
const REASON_LENGTH: usize = 300;

/// Which delivery: that number of its hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeliveryId {
    /// The hook.
    pub hook: HookId,
    /// Counts from 1; never reused.
    pub number: u64,
}

impl std::fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.hook, self.number)
    }
}

/// What a hook is to be told. Durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Which one.
    pub id: DeliveryId,
    /// What happened.
    pub event: HookEvent,
    /// To what of the hook's entity.
    pub entity_id: String,
    /// When.
    pub at: Timestamp,
}

/// Something that happened in this turn.
#[derive(Debug)]
struct Happening {
    topic: Topic,
    entity_id: String,
    event: HookEvent,
    whose: Whose,
}

/// Whose something is. Services are noted before the application that is made with them is known.
#[derive(Debug, Clone, Copy)]
enum Whose {
    Organization(OrganizationId),
    OfApplication(ApplicationId),
}

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    deliveries: BTreeMap<DeliveryId, Delivery>,
    /// How many wait, of each hook that has some.
    waiting: BTreeMap<HookId, usize>,
    /// The updates that wait, by what they are of.
    updates: BTreeMap<(HookId, String), u64>,
    /// Who is told of what. Follows from the hooks.
    listeners: BTreeMap<(Topic, HookEvent), BTreeSet<HookId>>,
    happened: Vec<Happening>,
    /// When a hook that failed is tried again; at once after a start.
    paused: BTreeMap<HookId, Moment>,
    /// What each hook is being told, and since when.
    underway: BTreeMap<HookId, (u64, Moment)>,
    /// At which turn each hook was last served: those that waited longest come first.
    served: BTreeMap<HookId, u64>,
    turn: u64,
    /// Something has changed since the last look.
    news: bool,
    /// When to look again without news.
    look_again: Option<Moment>,
}

impl Outbox {
    fn listens(&self, topic: &Topic, event: HookEvent) -> bool {
        self.listeners.contains_key(&(topic.clone(), event))
    }

    fn head(&self, hook: HookId) -> Option<&Delivery> {
        let all = DeliveryId { hook, number: 0 }..=DeliveryId { hook, number: u64::MAX };
        self.deliveries.range(all).next().map(|(_, delivery)| delivery)
    }

    fn is_underway(&self, id: DeliveryId) -> bool {
        self.underway.get(&id.hook).is_some_and(|(number, _)| *number == id.number)
    }

    pub(crate) fn take_hook(&mut self, before: Option<&Hook>, after: Option<&Hook>) {
        self.news = true;
        if let Some(hook) = before {
            for event in &hook.events {
                let key = (Topic::of(&hook.entity), *event);
                crate::state::forget(&mut self.listeners, Some(key), &hook.id);
            }
        }
        if let Some(hook) = after {
            for event in &hook.events {
                let key = (Topic::of(&hook.entity), *event);
                self.listeners.entry(key).or_default().insert(hook.id);
            }
            if hook.status.failures == 0 {
                self.paused.remove(&hook.id);
            }
        }
        if let (Some(gone), None) = (before, after) {
            self.paused.remove(&gone.id);
            self.underway.remove(&gone.id);
            self.served.remove(&gone.id);
        }
    }

    pub(crate) fn take_delivery(&mut self, id: DeliveryId, delivery: Option<Delivery>) {
        self.news = true;
        if let Some(before) = self.deliveries.remove(&id) {
            let of_same = (id.hook, before.entity_id);
            if self.updates.get(&of_same) == Some(&id.number) {
                self.updates.remove(&of_same);
            }
            if let Some(waiting) = self.waiting.get_mut(&id.hook) {
                *waiting -= 1;
                if *waiting == 0 {
                    self.waiting.remove(&id.hook);
                }
            }
        }
        if let Some(delivery) = delivery {
            if delivery.event == HookEvent::PostUpdate {
                self.updates.insert((id.hook, delivery.entity_id.clone()), id.number);
            }
            *self.waiting.entry(id.hook).or_default() += 1;
            self.deliveries.insert(id, delivery);
        }
    }

    /// What was read from the store did not happen now.
    pub(crate) fn loaded(&mut self) {
        self.happened.clear();
        self.news = true;
    }
}

impl State {
    /// What waits to be told to a hook, in its order.
    pub fn deliveries_of(&self, hook: HookId) -> impl Iterator<Item = &Delivery> {
        let all = DeliveryId { hook, number: 0 }..=DeliveryId { hook, number: u64::MAX };
        self.outbox.deliveries.range(all).map(|(_, delivery)| delivery)
    }

    /// A delivery that was not taken yet.
    #[must_use]
    pub fn delivery(&self, id: DeliveryId) -> Option<&Delivery> {
        self.outbox.deliveries.get(&id)
    }

    /// An attempt has ended: it was taken, or why not.
    pub fn delivered(&mut self, id: DeliveryId, outcome: Result<(), String>, now: Now) -> Vec<Change> {
        if self.outbox.is_underway(id) {
            self.outbox.underway.remove(&id.hook);
            self.outbox.news = true;
        }
        let (Some(hook), true) = (self.hooks.get(&id.hook), self.outbox.deliveries.contains_key(&id)) else {
            return Vec::new();
        };
        let mut hook = hook.clone();
        match outcome {
            Ok(()) => {
                hook.status.delivered = Some(now.date);
                hook.status.failures = 0;
                vec![Change::Delivery(id, None), Change::Hook(hook.id, Some(hook))]
            }
            Err(reason) => {
                let reason = reason.chars().take(REASON_LENGTH).collect();
                hook.status.error = Some(HookError { at: now.date, reason });
                hook.status.failures = hook.status.failures.saturating_add(1);
                let again = now.moment.plus_millis(pause_after(id, hook.status.failures));
                self.outbox.paused.insert(id.hook, again);
                vec![Change::Hook(hook.id, Some(hook))]
            }
        }
    }

    /// Notes what a change means for those who listen. To be called before it is applied.
    pub(crate) fn overhear(&mut self, change: &Change) {
        if self.outbox.listeners.is_empty() {
            return;
        }
        let noted = match change {
            Change::Application(id, after) => {
                let before = self.applications.get(id);
                let whose = before.or(after.as_ref()).map(|it| Whose::Organization(it.organization));
                happening(before, after.as_ref())
                    .map(|event| (Topic::Applications, id.to_string(), event, whose))
            }
            Change::Service(id, after) => {
                let seen = |service: &&Service| !service.deleted;
                let (before, after) = (self.services.get(id).filter(seen), after.as_ref().filter(seen));
                let whose = before.or(after).map(|service| self.whose(service));
                happening(before, after).map(|event| (Topic::Jobs, id.to_string(), event, whose))
            }
            Change::Instance(id, after) => {
                let service = self.services.get(&id.service).filter(|service| !service.deleted);
                let changed = self.instances.get(id) != after.as_ref();
                service.filter(|_| changed).map(|service| {
                    let whose = Some(self.whose(service));
                    (Topic::Jobs, id.service.to_string(), HookEvent::PostUpdate, whose)
                })
            }
            Change::Cluster(id, after) => {
                // Its generation is nobody's affair outside.
                let told = |cluster: &crate::Cluster| (cluster.name.clone(), cluster.location);
                let (before, after) = (self.clusters.get(id).map(told), after.as_ref().map(told));
                let whose = self.root_organization.map(Whose::Organization);
                happening(before.as_ref(), after.as_ref())
                    .map(|event| (Topic::Resources, id.to_string(), event, whose))
            }
            Change::Resource(id, after) => {
                let before = self.resources.get(*id);
                let of = before.or(after.as_ref()).and_then(|it| self.resources.get_type(it.of));
                let event = happening(before, after.as_ref());
                event.zip(of).map(|(event, of)| {
                    let whose = Some(Whose::Organization(of.organization));
                    (Topic::Custom(of.name.clone()), id.to_string(), event, whose)
                })
            }
            Change::Token(..)
            | Change::Secret(..)
            | Change::ResourceType(..)
            | Change::Object(..)
            | Change::Blocks(_)
            | Change::People(_)
            | Change::Certificate(..)
            | Change::Revocation(..)
            | Change::Hook(..)
            | Change::Delivery(..)
            | Change::AuditRecord(..)
            | Change::AuditEnds(_)
            | Change::AuditMark(..) => None,
        };
        let Some((topic, entity_id, event, Some(whose))) = noted else { return };
        if self.outbox.listens(&topic, event) {
            self.outbox.happened.push(Happening { topic, entity_id, event, whose });
        }
    }

    fn whose(&self, service: &Service) -> Whose {
        let application = self.applications.get(&service.application);
        application
            .map_or(Whose::OfApplication(service.application), |it| Whose::Organization(it.organization))
    }

    /// Makes deliveries of what happened in this turn.
    pub(crate) fn enqueue(&mut self, plan: &mut Plan, now: Now) {
        let mut seen = BTreeSet::new();
        for Happening { topic, entity_id, event, whose } in std::mem::take(&mut self.outbox.happened) {
            // What becomes of something in the turn in which it is made belongs to its making.
            let key = |event| (topic.clone(), entity_id.clone(), event);
            let is_part_of_making =
                event == HookEvent::PostUpdate && seen.contains(&key(HookEvent::PostCreate));
            if is_part_of_making || !seen.insert(key(event)) {
                continue;
            }
            let owner = match whose {
                Whose::Organization(id) => Some(id),
                Whose::OfApplication(id) => self.applications.get(&id).map(|it| it.organization),
            };
            let listeners = self.outbox.listeners.get(&(topic, event)).into_iter().flatten();
            let concerned: Vec<Hook> = listeners
                .filter_map(|id| self.hooks.get(id))
                .filter(|hook| Some(hook.organization) == owner)
                .cloned()
                .collect();
            for hook in concerned {
                let id = DeliveryId { hook: hook.id, number: hook.next };
                let delivery = Delivery { id, event, entity_id: entity_id.clone(), at: now.date };
                self.enqueue_for(hook, delivery, plan);
            }
        }
    }

    fn enqueue_for(&mut self, mut hook: Hook, delivery: Delivery, plan: &mut Plan) {
        let Delivery { id, event, entity_id, at } = &delivery;
        let waits = self.outbox.updates.get(&(hook.id, entity_id.clone()));
        let waits = waits.map(|number| DeliveryId { hook: hook.id, number: *number });
        if *event == HookEvent::PostUpdate && waits.is_some_and(|id| !self.outbox.is_underway(id)) {
            return;
        }
        if self.outbox.waiting.get(&hook.id).is_some_and(|waiting| *waiting >= MOST_WAITING) {
            hook.status.dropped += 1;
            let reason = format!(
                "{MOST_WAITING} deliveries wait for it already, so the {event} of {entity_id} was dropped: mend the receiver, \
                 or delete the hook"
            );
            hook.status.error = Some(HookError { at: *at, reason });
            self.change(plan, Change::Hook(hook.id, Some(hook)));
            return;
        }
        hook.next += 1;
        let id = *id;
        self.change(plan, Change::Hook(hook.id, Some(hook)));
        self.change(plan, Change::Delivery(id, Some(delivery)));
    }

    /// Asks for the deliveries that are due.
    pub(crate) fn offer_deliveries(&mut self, plan: &mut Plan, now: Now) {
        if !self.outbox.news && self.outbox.look_again.is_none_or(|at| at > now.moment) {
            self.outbox.look_again.into_iter().for_each(|at| plan.wake(at));
            return;
        }
        let mut look_again: Option<Moment> = None;
        for hook in self.hooks_in_turn() {
            self.give_up_old(hook, plan, now);
            let Some(head) = self.outbox.head(hook).map(|delivery| delivery.id) else { continue };
            let heard_by = self.outbox.underway.get(&hook).map(|(_, since)| since.plus_millis(LOST_MILLIS));
            let waits_until = heard_by.into_iter().chain(self.outbox.paused.get(&hook).copied()).max();
            let next = match waits_until.filter(|at| *at > now.moment) {
                Some(at) => at,
                None if self.may_begin(hook) => {
                    self.outbox.underway.insert(hook, (head.number, now.moment));
                    self.outbox.turn += 1;
                    self.outbox.served.insert(hook, self.outbox.turn);
                    plan.effects.push(Effect::Deliver(head));
                    now.moment.plus_millis(LOST_MILLIS)
                }
                // The end of another makes news.
                None => continue,
            };
            look_again = Some(look_again.map_or(next, |earlier| earlier.min(next)));
        }
        self.outbox.news = false;
        self.outbox.look_again = look_again;
        look_again.into_iter().for_each(|at| plan.wake(at));
    }

    /// Those with something to be told; the one that was served last comes last.
    fn hooks_in_turn(&self) -> Vec<HookId> {
        let mut hooks: Vec<HookId> = self.outbox.waiting.keys().copied().collect();
        hooks.sort_by_key(|id| (self.outbox.served.get(id).copied().unwrap_or_default(), *id));
        hooks
    }

    fn may_begin(&self, hook: HookId) -> bool {
        if self.outbox.underway.contains_key(&hook) {
            // Again: it has its place.
            return true;
        }
        let owner = |id: &HookId| self.hooks.get(id).map(|hook| hook.organization);
        let own = owner(&hook);
        let of_same = self.outbox.underway.keys().filter(|id| owner(id) == own).count();
        self.outbox.underway.len() < MOST_UNDERWAY && of_same < MOST_UNDERWAY_OF_ONE
    }

    fn give_up_old(&mut self, id: HookId, plan: &mut Plan, now: Now) {
        let Some(hook) = self.hooks.get(&id).filter(|hook| hook.status.failures > 0) else { return };
        let mut hook = hook.clone();
        let before = hook.status.given_up;
        while let Some(head) = self.outbox.head(id).filter(|head| is_old(head, now.date)) {
            let head = head.id;
            if self.outbox.is_underway(head) {
                break;
            }
            hook.status.given_up += 1;
            self.change(plan, Change::Delivery(head, None));
        }
        if hook.status.given_up > before {
            self.change(plan, Change::Hook(id, Some(hook)));
        }
    }
}

fn is_old(delivery: &Delivery, now: Timestamp) -> bool {
    now.millis_since(delivery.at) >= GIVE_UP_MILLIS
}

/// What becomes of a document, as those outside see it.
fn happening<T: PartialEq>(before: Option<&T>, after: Option<&T>) -> Option<HookEvent> {
    match (before, after) {
        (None, Some(_)) => Some(HookEvent::PostCreate),
        (Some(before), Some(after)) if before != after => Some(HookEvent::PostUpdate),
        (Some(_), None) => Some(HookEvent::PostDelete),
        (Some(_), Some(_)) | (None, None) => None,
    }
}

/// Doubles with each failure, and is up to a quarter shorter, by hook and failure: receivers that come back are not asked by
/// all hooks at once.
fn pause_after(id: DeliveryId, failures: u32) -> u64 {
    let pause = FIRST_PAUSE_MILLIS.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let pause = pause.min(LONGEST_PAUSE_MILLIS);
    let mix = |sum: u64, byte: u8| sum.wrapping_mul(31).wrapping_add(u64::from(byte));
    let chance = id.hook.to_bytes().into_iter().fold(u64::from(failures), mix);
    pause - chance % (pause / 4 + 1)
}
