//! Asks the cluster for echoes, for services that must not run on a device that is cut off.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use model::Moment;
use tokio::time::Instant;

use crate::history::HistoryStore;

/// How often the cluster is asked: a service may want to be stopped within seconds.
const PERIOD: Duration = Duration::from_secs(1);
/// Echoes under way; older ones prove less than those that follow.
const UNDER_WAY: usize = 64;

/// The echoes of one connection.
#[derive(Debug)]
pub(crate) struct Contact {
    store: Arc<dyn HistoryStore>,
    number: u64,
    sent: VecDeque<(u64, Moment)>,
    due: Instant,
}

impl Contact {
    pub(crate) fn new(store: Arc<dyn HistoryStore>) -> Self {
        Self { store, number: 0, sent: VecDeque::new(), due: Instant::now() }
    }

    /// A new connection: what was asked on another is not answered on this one, and the next echo is due.
    pub(crate) fn begin_anew(&mut self) {
        self.sent.clear();
        self.due = Instant::now();
    }

    /// Asks if it is time to; returns when it will be. The moment noted is before that of sending, so a message that
    /// waits on its way proves too little, never too much.
    pub(crate) fn ask(&mut self, send: impl FnOnce(u64) -> bool) -> Instant {
        let now = Instant::now();
        if now >= self.due {
            self.number += 1;
            self.due = now + PERIOD;
            let moment = daemon::present().moment;
            if send(self.number) {
                self.sent.push_back((self.number, moment));
            }
            if self.sent.len() > UNDER_WAY {
                self.sent.pop_front();
            }
        }
        self.due
    }

    /// An echo came back; when it was sent, if it was on this connection.
    pub(crate) fn answered(&mut self, number: u64) -> Option<Moment> {
        while let Some((earlier, moment)) = self.sent.pop_front() {
            if earlier == number {
                let store = Arc::clone(&self.store);
                tokio::task::spawn_blocking(move || store.note_contact(moment));
                return Some(moment);
            }
            if earlier > number {
                self.sent.push_front((earlier, moment));
                return None;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use node_core::History;

    use super::*;

    #[derive(Debug)]
    struct Nowhere;

    impl HistoryStore for Nowhere {
        fn load(&self) -> History {
            History::default()
        }

        fn save(&self, _history: &History) -> anyhow::Result<()> {
            Ok(())
        }

        fn note_contact(&self, _sent: Moment) {}

        fn last_contact(&self) -> Option<Moment> {
            None
        }
    }

    #[tokio::test]
    async fn only_an_echo_of_this_connection_counts_and_only_once() {
        let mut contact = Contact::new(Arc::new(Nowhere));
        let mut sent = Vec::new();
        for _ in 0..3 {
            contact.due = Instant::now();
            contact.ask(|number| {
                sent.push(number);
                true
            });
        }
        assert_eq!(sent, [1, 2, 3]);
        assert!(contact.answered(2).is_some());
        assert_eq!(contact.answered(1), None, "a later one has been answered");
        assert_eq!(contact.answered(2), None);
        contact.begin_anew();
        assert_eq!(contact.answered(3), None, "it was sent over another connection");
    }
}
