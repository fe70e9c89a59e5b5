//! What is still to happen, in order of time; at one moment, in the order it was asked for.

use std::collections::{BTreeMap, VecDeque};

/// Virtual milliseconds since the simulation began.
pub(crate) type Millis = u64;

/// Milliseconds kept in an array, one list each. Nearly everything is due within half a minute, and an array takes the
/// same time however much is waiting: a hundred thousand workers beat.
const SLOTS: usize = 1 << 15;
const SPAN: Millis = 1 << 15;

#[derive(Debug)]
pub(crate) struct Queue<Event> {
    now: Millis,
    near: Vec<VecDeque<Event>>,
    far: BTreeMap<Millis, Vec<Event>>,
    waiting: usize,
}

impl<Event> Queue<Event> {
    pub(crate) fn new() -> Self {
        Self { now: 0, near: (0..SLOTS).map(|_| VecDeque::new()).collect(), far: BTreeMap::new(), waiting: 0 }
    }

    /// What is in the past happens now.
    pub(crate) fn push(&mut self, at: Millis, event: Event) {
        let at = at.max(self.now);
        self.waiting += 1;
        if at - self.now < SPAN {
            self.near[slot(at)].push_back(event);
        } else {
            self.far.entry(at).or_default().push(event);
        }
    }

    /// The next event and its moment.
    pub(crate) fn pop(&mut self) -> Option<(Millis, Event)> {
        if self.waiting == 0 {
            return None;
        }
        loop {
            if let Some(event) = self.near[slot(self.now)].pop_front() {
                self.waiting -= 1;
                return Some((self.now, event));
            }
            self.now += 1;
            let horizon = self.now + SPAN - 1;
            if let Some(entry) = self.far.first_entry()
                && *entry.key() <= horizon
            {
                let (at, events) = entry.remove_entry();
                self.near[slot(at)].extend(events);
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
        let mut queue = Queue::new();
        for (at, event) in [(70_000, 'e'), (5, 'b'), (70_000, 'f'), (3, 'a'), (5, 'c'), (32_768, 'd')] {
            queue.push(at, event);
        }
        assert_eq!(queue.pop(), Some((3, 'a')));
        queue.push(1, 'x');
        let rest: Vec<(Millis, char)> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(rest, [(3, 'x'), (5, 'b'), (5, 'c'), (32_768, 'd'), (70_000, 'e'), (70_000, 'f')]);
    }
}
