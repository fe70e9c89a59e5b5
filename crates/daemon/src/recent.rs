//! The last lines of a daemon's log, kept in its memory for whoever asks the running daemon. They say what standard error
//! is told, no more: there is nothing secret in either.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use tracing_subscriber::fmt::MakeWriter;

/// What a person reads back, and some tens of kilobytes.
const LINES: usize = 500;
/// Longer lines are cut: an error that quotes a document must not take the place of all others.
const LONGEST_LINE: usize = 2048;

/// See the module's description. Clones share the lines.
#[derive(Debug, Clone, Default)]
pub struct RecentLines {
    kept: Arc<Mutex<VecDeque<String>>>,
    /// How many lines there have been.
    count: watch::Sender<u64>,
}

impl RecentLines {
    /// Keeps one more line; beyond the bound the oldest goes.
    pub fn keep(&self, line: &str) {
        let line = line.trim_end();
        let end = (0..=line.len().min(LONGEST_LINE)).rev().find(|end| line.is_char_boundary(*end));
        let line = line[..end.unwrap_or(0)].to_owned();
        let mut kept = self.kept();
        if kept.len() == LINES {
            kept.pop_front();
        }
        kept.push_back(line);
        self.count.send_modify(|count| *count += 1);
    }

    /// The lines from number `first` on that are still kept, oldest first, and the number of the one to come.
    #[must_use]
    pub fn since(&self, first: u64) -> (Vec<String>, u64) {
        let kept = self.kept();
        let next = *self.count.borrow();
        let wanted = usize::try_from(next.saturating_sub(first)).unwrap_or(usize::MAX);
        let passed_over = kept.len().saturating_sub(wanted);
        (kept.iter().skip(passed_over).cloned().collect(), next)
    }

    /// Returns when there is a line of that number.
    pub async fn reached(&self, number: u64) {
        // It fails when the sender is gone, which lives in this struct.
        drop(self.count.subscribe().wait_for(|count| *count > number).await);
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> MakeWriter<'a> for RecentLines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

/// Each event comes as one piece.
impl io::Write for &RecentLines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.keep(&String::from_utf8_lossy(event));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_kept_and_those_to_come_are_waited_for() {
        let recent = RecentLines::default();
        for number in 0..LINES + 3 {
            recent.keep(&format!("line {number}\n"));
        }
        let (lines, next) = recent.since(0);
        assert_eq!((lines.len(), lines[0].as_str()), (LINES, "line 3"));
        assert_eq!(recent.since(next), (vec![], next));
        let another = recent.clone();
        let waiting = tokio::spawn(async move {
            another.reached(next).await;
            another.since(next).0
        });
        recent.keep("the next");
        assert_eq!(waiting.await.expect("no panic"), ["the next"]);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let recent = RecentLines::default();
        recent.keep(&format!("x{}", "é".repeat(LONGEST_LINE)));
        assert_eq!(recent.since(0).0[0].len(), LONGEST_LINE - 1);
    }

    #[test]
    fn what_is_logged_is_kept_in_plain_text() {
        use tracing_subscriber::layer::SubscriberExt;
        let recent = RecentLines::default();
        let subscriber = tracing_subscriber::registry().with(crate::logging::to(recent.clone()));
        tracing::subscriber::with_default(subscriber, || tracing::warn!(port = 80, "taken"));
        let (lines, _) = recent.since(0);
        assert!(lines.len() == 1 && lines[0].ends_with("WARN taken port=80"), "{lines:?}");
    }
}
