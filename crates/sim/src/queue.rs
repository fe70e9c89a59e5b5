//! What is still to happen, in order of time; at one moment, in the order it was asked for, or site by site.

use std::collections::{BTreeMap, VecDeque};

/// Virtual milliseconds since the simulation began.
pub(crate) type Millis = u64;

/// Milliseconds kept in an array, one list each. Nearly everything is due within half a minute, and an array takes the
/// same time however much is waiting: a hundred thousand workers beat.
const SLOTS: usize = 1 << 15;
const SPAN: Millis = 1 << 15;

/// Time may pass in steps of several milliseconds. Then what happens at one moment happens site by site: a world that is
/// larger than the caches of a processor is many times as fast when a site is not fetched anew for each event.
#[derive(Debug)]
pub(crate) struct Queue<Event> {
    now: Millis,
    step: Millis,
    near: Vec<VecDeque<Event>>,
    far: BTreeMap<Millis, Vec<Event>>,
    waiting: usize,
}

impl<Event> Queue<Event> {
    pub(crate) fn new(step: Millis) -> Self {
        let near = (0..SLOTS).map(|_| VecDeque::new()).collect();
        Self { now: 0, step: step.max(1), near, far: BTreeMap::new(), waiting: 0 }
    }

    /// What is in the past happens now.
    pub(crate) fn push(&mut self, at: Millis, event: Event) {
        let at = at.max(self.now).next_multiple_of(self.step);
        self.waiting += 1;
        if at - self.now < SPAN {
            self.near[slot(at)].push_back(event);
        } else {
            self.far.entry(at).or_default().push(event);
        }
    }

    /// The next event and its moment. `site` tells what belongs together.
    pub(crate) fn pop(&mut self, site: impl Fn(&Event) -> u32) -> Option<(Millis, Event)> {
        if self.waiting == 0 {
            return None;
        }
        loop {
            if let Some(event) = self.near[slot(self.now)].pop_front() {
                self.waiting -= 1;
                return Some((self.now, event));
            }
            // What it held is given back: with all that was ever waiting for one moment, the array would hold most of a world.
            self.near[slot(self.now)] = VecDeque::new();
            self.now += 1;
            let horizon = self.now + SPAN - 1;
            if let Some(entry) = self.far.first_entry()
                && *entry.key() <= horizon
            {
                let (at, events) = entry.remove_entry();
                self.near[slot(at)].extend(events);
            }
            if self.step > 1 {
                self.near[slot(self.now)].make_contiguous().sort_by_cached_key(&site);
            }
        }
    }
}

fn slot(at: Millis) -> usize {
    usize::try_from(at % SPAN).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_and_far_events_come_in_order_of_time_and_then_of_asking() {
        let mut queue = Queue::new(1);
        for (at, event) in [(70_000, 'e'), (5, 'b'), (70_000, 'f'), (3, 'a'), (5, 'c'), (32_768, 'd')] {
            queue.push(at, event);
        }
        assert_eq!(queue.pop(|_| 0), Some((3, 'a')));
        queue.push(1, 'x');
        let rest: Vec<(Millis, char)> = std::iter::from_fn(|| queue.pop(|_| 0)).collect();
        assert_eq!(rest, [(3, 'x'), (5, 'b'), (5, 'c'), (32_768, 'd'), (70_000, 'e'), (70_000, 'f')]);
    }

    #[test]
    fn in_steps_what_happens_at_one_moment_happens_site_by_site() {
        let mut queue = Queue::new(20);
        for (at, event) in
            [(3, "b1"), (20, "a1"), (19, "b2"), (21, "a3"), (12, "a2"), (40_001, "b4"), (40_007, "a4")]
        {
            queue.push(at, event);
        }
        let site = |event: &&str| u32::from(event.as_bytes()[0]);
        assert_eq!(queue.pop(site), Some((20, "a1")));
        queue.push(15, "b3");
        let rest: Vec<(Millis, &str)> = std::iter::from_fn(|| queue.pop(site)).collect();
        assert_eq!(
            rest,
            [(20, "a2"), (20, "b1"), (20, "b2"), (20, "b3"), (40, "a3"), (40_020, "a4"), (40_020, "b4")]
        );
    }
}
