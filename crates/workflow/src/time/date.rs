//! The calendar everybody uses, and dates as RFC 3339 writes them.

use model::Timestamp;

/// Seconds of a day.
pub(crate) const DAY: i64 = 86_400;
/// 9999-12-31T23:59:59Z: later dates have no text of four digits.
const LAST: i64 = 253_402_300_799;

/// A day of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day {
    pub(crate) year: i64,
    /// From 1.
    pub(crate) month: u32,
    /// From 1.
    pub(crate) day: u32,
}

impl Day {
    /// The day that many days after 1970-01-01. Counts in years that begin in March, so that the leap day is the last.
    pub(crate) fn of(days: i64) -> Self {
        let days = days + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let small = |number: i64| u32::try_from(number).unwrap_or_default();
        Self { year, month: small(month), day: small(day) }
    }

    /// Days since 1970-01-01.
    pub(crate) fn number(self) -> i64 {
        let (month, day) = (i64::from(self.month), i64::from(self.day));
        let year = if month <= 2 { self.year - 1 } else { self.year };
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let from_march = if month > 2 { month - 3 } else { month + 9 };
        let of_year = (153 * from_march + 2) / 5 + day - 1;
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
        era * 146_097 + of_era - 719_468
    }
}

/// 0 is Sunday.
pub(crate) fn weekday(days: i64) -> u32 {
    u32::try_from((days + 4).rem_euclid(7)).unwrap_or_default()
}

/// In UTC and without fractions, such as `2026-11-22T10:00:00Z`, as Kubernetes writes dates.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(LAST).min(LAST);
    let Day { year, month, day } = Day::of(seconds.div_euclid(DAY));
    let time = seconds.rem_euclid(DAY);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", time / 3600, time / 60 % 60, time % 60)
}

/// Reads a date of RFC 3339 from 1970 on; `None` for every other text. Fractions beyond milliseconds are cut off.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shape = |at: usize, expected: &[u8]| bytes.get(at).is_some_and(|byte| expected.contains(byte));
    if !shape(4, b"-") || !shape(7, b"-") || !shape(10, b"Tt ") || !shape(13, b":") || !shape(16, b":") {
        return None;
    }
    let day =
        Day { year: i64::from(digits(bytes, 0, 4)?), month: digits(bytes, 5, 2)?, day: digits(bytes, 8, 2)? };
    let (hour, minute, second) = (digits(bytes, 11, 2)?, digits(bytes, 14, 2)?, digits(bytes, 17, 2)?);
    // A 31st of February would be another day when it is counted.
    if Day::of(day.number()) != day || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, zone) = fraction(bytes.get(19..)?)?;
    let seconds = day.number() * DAY + i64::from(hour * 3600 + minute * 60 + second) - offset(zone)?;
    Some(Timestamp(u64::try_from(seconds).ok()?.checked_mul(1000)? + fraction))
}

/// Milliseconds, and what follows.
fn fraction(rest: &[u8]) -> Option<(u64, &[u8])> {
    let Some((b'.', rest)) = rest.split_first() else { return Some((0, rest)) };
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let millis = (0..3).map(|index| rest[..length].get(index).map_or(0, |digit| u64::from(digit - b'0')));
    Some((millis.fold(0, |sum, digit| sum * 10 + digit), &rest[length..]))
}

/// Seconds east of Greenwich.
fn offset(zone: &[u8]) -> Option<i64> {
    let sign = match zone {
        b"Z" | b"z" => return Some(0),
        [b'+', _, _, b':', _, _] => 1,
        [b'-', _, _, b':', _, _] => -1,
        _ => return None,
    };
    let (hours, minutes) = (digits(zone, 1, 2)?, digits(zone, 4, 2)?);
    (hours <= 23 && minutes <= 59).then(|| sign * i64::from(hours * 3600 + minutes * 60))
}

fn digits(bytes: &[u8], at: usize, count: usize) -> Option<u32> {
    let digits = bytes.get(at..at + count)?;
    let add = |sum: u32, digit: &u8| digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0'));
    digits.iter().try_fold(0, add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_and_counted_back() {
        for number in -1000..60_000 {
            assert_eq!(Day::of(number).number(), number);
        }
        assert_eq!(Day::of(0), Day { year: 1970, month: 1, day: 1 });
        assert_eq!(Day::of(19_782), Day { year: 2024, month: 2, day: 29 });
        assert_eq!((weekday(0), weekday(3), weekday(-4)), (4, 0, 0), "a Thursday, and two Sundays");
    }

    #[test]
    fn dates_are_read_in_every_form_of_rfc_3339() {
        let at = Some(Timestamp(1_763_805_600_000));
        for text in [
            "2025-11-22T10:00:00Z",
            "2025-11-22t10:00:00z",
            "2025-11-22 11:00:00+01:00",
            "2025-11-22T04:30:00.0-05:30",
        ] {
            assert_eq!(parse_rfc3339(text), at, "{text}");
        }
        assert_eq!(parse_rfc3339("2025-11-22T10:00:00.1239Z"), Some(Timestamp(1_763_805_600_123)));
        assert_eq!(parse_rfc3339("2025-11-22T10:00:00.5Z"), Some(Timestamp(1_763_805_600_500)));
        assert_eq!(at.map(rfc3339).as_deref(), Some("2025-11-22T10:00:00Z"));
        assert_eq!(rfc3339(Timestamp(u64::MAX)), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "NOW",
            "5 * * * *",
            "2025-02-29T10:00:00Z",
            "2025-13-01T10:00:00Z",
            "2025-00-01T10:00:00Z",
            "2025-11-22T24:00:00Z",
            "2025-11-22T10:00:00",
            "2025-11-22T10:00:00.Z",
            "2025-11-22T10:00Z",
            "2025-11-22T10:00:00+0100",
            "2025-11-22T10:00:00+24:00",
            "1969-12-31T23:59:59Z",
            "2025-11-22T10:00:00Zä",
            "äöüäöüäöüäöü",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }
}
