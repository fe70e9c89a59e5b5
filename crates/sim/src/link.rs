//! The connection of a child to its parent: who believes in which session, and which way is cut until when.

use std::collections::VecDeque;

use crate::{event::Envelope, queue::Millis};

/// How long cuts are remembered: longer than any policy of a service waits, and any message is under way.
const MEMORY: Millis = 900_000;
/// The first wait of a child before it dials again, doubling up to the longest.
pub(crate) const SHORTEST_BACKOFF: Millis = 250;
const LONGEST_BACKOFF: Millis = 8_000;

#[derive(Debug, Default)]
pub(crate) struct Link {
    /// The number of the last connection; grows with each, whoever restarts.
    pub(crate) session: u64,
    /// The child believes in it.
    pub(crate) up: bool,
    /// The parent has answered on it.
    pub(crate) welcomed: bool,
    pub(crate) backoff: Millis,
    /// Tells the dial that counts from those that were overtaken.
    pub(crate) dial: u32,
    /// Nothing gets up, or down, before then.
    pub(crate) cut_up_until: Millis,
    pub(crate) cut_down_until: Millis,
    /// An assignment was lost: what must not overtake it waits on the wire until then, when it was sent again.
    pub(crate) gap_until: Millis,
    /// When the last message of the stream arrives, each way: streams keep their order.
    pub(crate) last_up: Millis,
    pub(crate) last_down: Millis,
    pub(crate) cuts: Cuts,
    /// What is under way on a stream that loses none while the connection lasts, each way.
    pub(crate) stream_up: VecDeque<Envelope>,
    pub(crate) stream_down: VecDeque<Envelope>,
}

impl Link {
    pub(crate) const fn is_cut(&self, upward: bool, now: Millis) -> bool {
        now < if upward { self.cut_up_until } else { self.cut_down_until }
    }

    pub(crate) const fn is_cut_either_way(&self, now: Millis) -> bool {
        self.is_cut(true, now) || self.is_cut(false, now)
    }

    pub(crate) const fn stream(&mut self, upward: bool) -> &mut VecDeque<Envelope> {
        if upward { &mut self.stream_up } else { &mut self.stream_down }
    }

    /// The next wait before dialling.
    pub(crate) fn next_backoff(&mut self) -> Millis {
        let wait = self.backoff.max(SHORTEST_BACKOFF);
        self.backoff = (wait * 2).min(LONGEST_BACKOFF);
        wait
    }
}

/// When a child could not be reached: its link was cut, or it or its parent was down.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    since: Option<Millis>,
    past: VecDeque<(Millis, Millis)>,
}

impl Cuts {
    pub(crate) fn set(&mut self, down: bool, now: Millis) {
        match (self.since, down) {
            (None, true) => self.since = Some(now),
            (Some(since), false) => {
                self.since = None;
                self.past.retain(|(_, end)| end + MEMORY > now);
                self.past.push_back((since, now));
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// The longest cut that touched the time since then.
    pub(crate) fn longest_since(&self, since: Millis, now: Millis) -> Millis {
        let past = self.past.iter().filter(|(_, end)| *end >= since).map(|(begin, end)| end - begin);
        past.chain(self.since.map(|begin| now - begin)).max().unwrap_or(0)
    }

    /// The end of the last cut; `None` while it lasts.
    pub(crate) fn last_end(&self) -> Option<Millis> {
        if self.since.is_some() { None } else { Some(self.past.back().map_or(0, |(_, end)| *end)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_counts_from_its_begin_for_whoever_lived_through_its_end() {
        let mut cuts = Cuts::default();
        cuts.set(true, 10);
        cuts.set(true, 15);
        assert_eq!((cuts.longest_since(0, 30), cuts.last_end()), (20, None));
        cuts.set(false, 40);
        assert_eq!((cuts.longest_since(40, 90), cuts.last_end()), (30, Some(40)));
        assert_eq!(cuts.longest_since(41, 90), 0);
    }
}
