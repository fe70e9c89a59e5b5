//! The time between the wish that an instance goes and its end: whoever calls it hears of that, and connections finish.
//! They are counted by NetManager (`net-manager/src/datapath/kernel/connections.rs`).

use model::{LAST_CALLS_MILLIS, Moment, Span};

use crate::Ticket;

/// How often connections are counted. The kernel could tell when one ends, but since Linux 5.19 only of those that began
/// while somebody listened, and listening all the time costs every connection of the device a message.
const COUNT_EVERY_MILLIS: u64 = 500;
/// A number that changed is passed on no sooner than this after the one before: each is a commit of cluster and root.
pub const TELL_EVERY_MILLIS: u64 = 5000;

/// An instance that answers calls and is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaving {
    since: Moment,
    drain: Span,
    count_at: Moment,
    under_way: Option<(Ticket, Moment)>,
    /// How many are connected, as users are told, and since when they are told that.
    told: Option<(u32, Moment)>,
    /// Nobody was connected when all had heard, so nobody will be.
    over: bool,
}

impl Leaving {
    pub(crate) const fn new(now: Moment, drain: Span) -> Self {
        Self { since: now, drain, count_at: now, under_way: None, told: None, over: false }
    }

    const fn all_have_heard(&self) -> Moment {
        self.since.plus_millis(LAST_CALLS_MILLIS)
    }

    /// Until when it goes on at the longest; `None` when its time is over.
    pub(crate) fn waits_until(&self, now: Moment) -> Option<Moment> {
        let heard = self.all_have_heard();
        let until = if self.over { heard } else { heard.max(self.since.plus_millis(self.drain.as_millis())) };
        Some(until).filter(|until| *until > now)
    }

    /// When its connections are to be counted next; `None` while they are being counted, and when nobody waits for them.
    pub(crate) fn count_due(&self, now: Moment) -> Option<Moment> {
        let matters = self.under_way.is_none() && !self.over && self.drain > Span::default();
        (matters && self.waits_until(now).is_some()).then_some(self.count_at)
    }

    pub(crate) const fn count(&mut self, ticket: Ticket, now: Moment) {
        self.under_way = Some((ticket, now));
    }

    pub(crate) fn awaits(&self, ticket: Ticket) -> bool {
        self.under_way.is_some_and(|(under_way, _)| under_way == ticket)
    }

    /// They were counted; `None` when that was not possible, which says nothing about how many there are.
    pub(crate) fn counted(&mut self, connections: Option<u32>, now: Moment) {
        let Some((_, asked)) = self.under_way.take() else { return };
        let heard = self.all_have_heard();
        self.count_at = if asked < heard { heard } else { asked.plus_millis(COUNT_EVERY_MILLIS) };
        self.over = connections == Some(0) && asked >= heard;
        // They are counted again before long, so the last number is told in the end.
        let may_tell = self.told.is_none_or(|(_, since)| since.plus_millis(TELL_EVERY_MILLIS) <= now);
        if let Some(connections) = connections.filter(|_| may_tell) {
            self.told = Some((connections, now));
        }
    }

    /// What it waits for, for a person.
    pub(crate) fn detail(&self) -> String {
        match self.told.map(|(connections, _)| connections) {
            Some(0) => String::new(),
            _ if self.drain == Span::default() => String::new(),
            Some(1) => format!("waiting for 1 connection to end, {} at most", self.drain),
            Some(several) => format!("waiting for {several} connections to end, {} at most", self.drain),
            None => format!("waiting for its connections to end, {} at most", self.drain),
        }
    }
}
