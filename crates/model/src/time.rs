//! Two times that must not be mixed: the date, which people read and anybody may set, and the steady time, by which
//! everything that waits is measured. The clocks themselves are read in `crates/daemon`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01 UTC. For people and for what outlives a process; it jumps when the clock is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment `millis` milliseconds later.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this moment; zero if `earlier` is later (clocks jump).
    #[must_use]
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Milliseconds since some moment of this process, never set and never going back. Leases and deadlines are moments;
/// they mean nothing to another process and are never stored or sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment `millis` milliseconds later.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The present in both times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// The date, as this device believes it to be.
    pub date: Timestamp,
    /// The steady time.
    pub moment: Moment,
}

/// A span of time as people write it: `500ms`, `10s`, `5m`, `1h`. At most a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Span(u64);

/// A text that is not a span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a span of time: expected a whole number with `ms`, `s`, `m` or `h`, such as `10s`, at most a year"
)]
pub struct SpanError(String);

impl Span {
    const LONGEST_MILLIS: u64 = 366 * 24 * 3_600_000;
    const UNITS: [(&'static str, u64); 4] = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];

    /// That many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u32) -> Self {
        Self(seconds as u64 * 1000)
    }

    /// That many milliseconds; more than a year is a year.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(if millis > Self::LONGEST_MILLIS { Self::LONGEST_MILLIS } else { millis })
    }

    /// Its length.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let largest_first = [("h", 3_600_000), ("m", 60_000), ("s", 1000)];
        let fitting =
            largest_first.into_iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        let (name, unit) = fitting.unwrap_or(("ms", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let wrong = || SpanError(text.to_owned());
        let text = text.trim();
        let (digits, unit) = Self::UNITS
            .iter()
            .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))
            .ok_or_else(wrong)?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        let millis = number.checked_mul(*unit).filter(|millis| *millis <= Self::LONGEST_MILLIS);
        millis.map(Self).ok_or_else(wrong)
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl TryFrom<String> for Span {
    type Error = SpanError;

    fn try_from(text: String) -> Result<Self, SpanError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_with_the_largest_unit_that_fits() {
        for (text, millis) in
            [("0ms", 0), ("500ms", 500), ("10s", 10_000), ("5m", 300_000), ("2h", 7_200_000)]
        {
            assert_eq!(text.parse(), Ok(Span(millis)));
            assert_eq!(Span(millis).to_string(), text);
        }
        assert_eq!("90s".parse::<Span>().map(|span| span.to_string()), Ok("90s".to_owned()));
        for text in ["", "s", "10", "-1s", "1.5s", "10 s s", "9999999h", "99999999999999999999s", "10d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
