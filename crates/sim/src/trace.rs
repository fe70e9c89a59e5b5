//! What happened: always as a fingerprint, and in words when somebody reads along.

use std::fmt;

use crate::queue::Millis;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Virtual milliseconds.
    pub at: u64,
    /// What happened to whom.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.at / 1000, self.at % 1000);
        write!(f, "{:3}:{:02}.{millis:03}  {}", seconds / 60, seconds % 60, self.text)
    }
}

/// The fingerprint of everything that happened, and the log if it is kept.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: Option<Vec<Line>>,
}

impl Trace {
    pub(crate) fn new(keep: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: keep.then(Vec::new) }
    }

    /// Adds to the fingerprint.
    pub(crate) const fn mix(&mut self, value: u64) {
        self.hash = (self.hash ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    /// Adds a line; its words are made only when they are kept.
    pub(crate) fn say(&mut self, at: Millis, words: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(Line { at, text: words() });
        }
    }

    pub(crate) fn into_lines(self) -> Vec<Line> {
        self.lines.unwrap_or_default()
    }
}
