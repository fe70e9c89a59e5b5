//! Keeps calls few that anybody can make as often as they like: refused ones, failed ones, logins. The first of its kind is
//! a record, what follows within a minute is counted, and the count is another record. Each user, and all whom nobody knows
//! together, are good for so many kinds of refused calls only; beyond that they are counted together. So nobody can fill
//! the disk, or push out what was recorded before, by being refused.

use std::{collections::BTreeMap, net::IpAddr};

use ::audit::{Actor, Entry, Outcome, Repeated, rfc3339};
use model::{Moment, Now, Timestamp};

use crate::throttle::network_of;

/// The same within this time is counted.
const WINDOW_MILLIS: u64 = 60_000;
/// Kinds of refused calls that are records at once; a person who explores what is allowed makes fewer.
const BURST: u64 = 60;
/// Then one more in each of these.
const REFILL_MILLIS: u64 = 60_000;
/// What is beyond is written down so often.
const BEYOND_MILLIS: u64 = 600_000;
/// Kinds that are remembered, of all callers, which bounds the memory. Beyond it, they are counted together at once.
const MOST_KINDS: usize = 4096;

/// What makes calls the same: all of an entry but its request.
type Key = (Actor, Option<IpAddr>, String, BTreeMap<String, String>, Outcome);

/// Since the first of a kind was recorded.
#[derive(Debug)]
struct Counted {
    entry: Entry,
    times: u64,
    last: Timestamp,
    until: Moment,
}

/// How many kinds somebody is good for.
#[derive(Debug, Default)]
struct Budget {
    /// When all of it is there again.
    full_at: Moment,
    beyond: Option<Counted>,
}

/// See the module's description. In memory only: a restart forgets what was counted and not yet written down.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    kinds: BTreeMap<Key, Counted>,
    /// By user; `None` is everybody whom nobody knows.
    budgets: BTreeMap<Option<String>, Budget>,
}

impl Repeats {
    /// Whether a call is to be recorded; else it is counted. One that `is_limited` takes from the budget of `user`.
    pub(super) fn is_new(&mut self, entry: &Entry, user: Option<String>, is_limited: bool, now: Now) -> bool {
        let key = key(entry);
        let fresh = || Counted {
            entry: entry.clone(),
            times: 0,
            last: now.date,
            until: now.moment.plus_millis(WINDOW_MILLIS),
        };
        if let Some(counted) = self.kinds.get_mut(&key) {
            counted.count(now.date);
            return false;
        }
        let has_room = self.kinds.len() < MOST_KINDS;
        if is_limited {
            let budget = self.budgets.entry(user).or_default();
            if !has_room || !budget.spend(now.moment) {
                let until = now.moment.plus_millis(BEYOND_MILLIS);
                let beyond = || Counted { entry: together(entry), until, ..fresh() };
                budget.beyond.get_or_insert_with(beyond).count(now.date);
                return false;
            }
        }
        if has_room {
            self.kinds.insert(key, fresh());
        }
        true
    }

    /// What was counted and is to be written down now.
    pub(super) fn due(&mut self, now: Now) -> Vec<Entry> {
        if self.wake_at().is_none_or(|at| at > now.moment) {
            return Vec::new();
        }
        let over = |counted: &Counted| counted.until <= now.moment;
        let mut due: Vec<Entry> = self
            .kinds
            .extract_if(.., |_, counted| over(counted))
            .filter_map(|(_, counted)| counted.written())
            .collect();
        for budget in self.budgets.values_mut() {
            due.extend(budget.beyond.take_if(|beyond| over(beyond)).and_then(Counted::written));
        }
        self.budgets.retain(|_, budget| budget.beyond.is_some() || budget.full_at > now.moment);
        due
    }

    /// When something will be due.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        let beyond = self.budgets.values().filter_map(|budget| budget.beyond.as_ref());
        self.kinds.values().chain(beyond).map(|counted| counted.until).min()
    }
}

impl Counted {
    fn count(&mut self, at: Timestamp) {
        self.times += 1;
        self.last = at;
    }

    /// `None` if there was no more than the first.
    fn written(self) -> Option<Entry> {
        let repeated = Repeated { times: self.times, until: rfc3339(self.last.0) };
        (self.times > 0).then_some(Entry { request: None, repeated: Some(repeated), ..self.entry })
    }
}

impl Budget {
    fn spend(&mut self, now: Moment) -> bool {
        let full_at = self.full_at.max(now);
        if full_at.millis_since(now) > (BURST - 1) * REFILL_MILLIS {
            return false;
        }
        self.full_at = full_at.plus_millis(REFILL_MILLIS);
        true
    }
}

fn key(entry: &Entry) -> Key {
    let Entry { actor, from, action, parameters, outcome, .. } = entry;
    (actor.clone(), from.map(network_of), action.clone(), parameters.clone(), outcome.clone())
}

/// What stands for refused calls of many kinds.
fn together(entry: &Entry) -> Entry {
    Entry {
        request: None,
        from: None,
        action: "many calls".to_owned(),
        parameters: BTreeMap::new(),
        outcome: Outcome::Refused { error: "too_many_to_record".to_owned(), status: None },
        ..entry.clone()
    }
}
