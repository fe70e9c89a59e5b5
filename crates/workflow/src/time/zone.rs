//! Time zones by the names of the IANA database, which is compiled in.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use tz::TimeZoneRef;

use super::date::DAY;

/// A time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Zone {
    name: String,
}

/// A text that names no time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time zone of the IANA database, such as Europe/Berlin or UTC")]
pub struct ZoneError(String);

/// What a local time is in real time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instants {
    /// Clocks show it once.
    Once(i64),
    /// Clocks are set back, and show it twice.
    Twice(i64, i64),
    /// Clocks are set forward past it, at that instant.
    Never { skipped_at: i64 },
}

impl Default for Zone {
    fn default() -> Self {
        Self { name: "UTC".to_owned() }
    }
}

impl Zone {
    fn rules(&self) -> TimeZoneRef<'static> {
        tzdb_data::find_tz(self.name.as_bytes()).copied().unwrap_or(TimeZoneRef::utc())
    }

    /// For many questions one after another.
    pub(super) fn open(&self) -> OpenZone {
        OpenZone { rules: self.rules() }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(name: &str) -> Result<Self, ZoneError> {
        match tzdb_data::find_tz(name.as_bytes()) {
            Some(_) => Ok(Self { name: name.to_owned() }),
            None => Err(ZoneError(name.chars().take(60).collect())),
        }
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name
    }
}

impl TryFrom<String> for Zone {
    type Error = ZoneError;

    fn try_from(name: String) -> Result<Self, ZoneError> {
        name.parse()
    }
}

/// A zone that was looked up.
#[derive(Debug)]
pub(super) struct OpenZone {
    rules: TimeZoneRef<'static>,
}

impl OpenZone {
    /// Seconds that clocks are ahead of UTC then.
    pub(super) fn offset(&self, at: i64) -> i64 {
        // Beyond the years that the rules speak of there is nothing better than UTC.
        self.rules.find_local_time_type(at).map_or(0, |kind| i64::from(kind.ut_offset()))
    }

    /// When clocks show `local`, which is counted as if it were UTC.
    pub(super) fn instants(&self, local: i64) -> Instants {
        let (before, after) = (self.offset(local - DAY), self.offset(local + DAY));
        let (first, second) = (local - before, local - after);
        if before == after && self.offset(first) == before {
            return Instants::Once(first);
        }
        match (self.offset(first) == before, self.offset(second) == after) {
            (true, true) if first == second => Instants::Once(first),
            (true, true) => Instants::Twice(first.min(second), first.max(second)),
            (true, false) => Instants::Once(first),
            (false, true) => Instants::Once(second),
            (false, false) => Instants::Never { skipped_at: self.change_between(second, first) },
        }
    }

    /// The first second with other rules than those of `from`; they have changed by `to`.
    fn change_between(&self, from: i64, to: i64) -> i64 {
        let (mut before, mut after) = (from.min(to), from.max(to));
        let old = self.offset(before);
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            if self.offset(middle) == old {
                before = middle;
            } else {
                after = middle;
            }
        }
        after
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::date::Day;

    fn local(year: i64, month: u32, day: u32, hour: i64, minute: i64) -> i64 {
        Day { year, month, day }.number() * DAY + hour * 3600 + minute * 60
    }

    #[test]
    fn local_times_are_once_twice_or_never() {
        let berlin = "Europe/Berlin".parse::<Zone>().expect("a zone").open();
        assert_eq!(berlin.instants(local(2026, 7, 1, 12, 0)), Instants::Once(local(2026, 7, 1, 10, 0)));
        assert_eq!(berlin.instants(local(2026, 1, 1, 12, 0)), Instants::Once(local(2026, 1, 1, 11, 0)));
        // Forward at 02:00 to 03:00, which is 01:00 UTC.
        let skipped_at = local(2026, 3, 29, 1, 0);
        assert_eq!(berlin.instants(local(2026, 3, 29, 2, 30)), Instants::Never { skipped_at });
        assert_eq!(berlin.instants(local(2026, 3, 29, 3, 0)), Instants::Once(skipped_at));
        // Back at 03:00 to 02:00.
        let (first, second) = (local(2026, 10, 25, 0, 30), local(2026, 10, 25, 1, 30));
        assert_eq!(berlin.instants(local(2026, 10, 25, 2, 30)), Instants::Twice(first, second));
        assert_eq!(berlin.instants(local(2026, 10, 25, 3, 0)), Instants::Once(local(2026, 10, 25, 2, 0)));
    }

    #[test]
    fn zones_with_half_an_hour_change_too() {
        let howe = "Australia/Lord_Howe".parse::<Zone>().expect("a zone").open();
        // Back at 02:00 to 01:30 on the 5th of April.
        let (first, second) = (local(2026, 4, 4, 14, 45), local(2026, 4, 4, 15, 15));
        assert_eq!(howe.instants(local(2026, 4, 5, 1, 45)), Instants::Twice(first, second));
    }

    #[test]
    fn an_unknown_zone_is_refused_by_name() {
        let refusal = "Europe/Atlantis".parse::<Zone>().expect_err("there is none");
        assert_eq!(
            refusal.to_string(),
            "`Europe/Atlantis` is not a time zone of the IANA database, such as Europe/Berlin or UTC"
        );
        assert!("".parse::<Zone>().is_err());
    }
}
