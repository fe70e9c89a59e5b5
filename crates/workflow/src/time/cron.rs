//! Cron expressions of five fields, and when they are due.
//!
//! Where clocks are set forward, a time that they skip is due at once after it, unless the hour is a wildcard: then there
//! is nothing to make up for. Where they are set back, a time they show twice is due the first time, and with a wildcard
//! for the hour both times: so `30 2 * * *` happens once each day, and `*/5 * * * *` each five minutes, on all days.

use std::{fmt, str::FromStr};

use model::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    date::{DAY, Day, weekday},
    zone::{Instants, OpenZone, Zone},
};

/// Days that are looked through for the next one: the 29th of February may be eight years away.
const FARTHEST_DAYS: i64 = 366 * 9;
/// Hours looked through after the first that is due: clocks are never set back by more.
const HOURS_SET_BACK: u32 = 3;
/// Characters of an expression: every minute of a list, and more than anybody writes.
const MOST_CHARACTERS: usize = 256;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// Words for whole expressions.
const WORDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// Minute, hour, day of the month, month, day of the week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Cron {
    text: String,
    /// Bit n stands for n, in all of them.
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Of days that are restricted by both fields, either will do, as in every cron.
    either_day: bool,
    every_hour: bool,
}

/// A text that is not a cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CronError(String);

/// What a field may hold.
#[derive(Debug, Clone, Copy)]
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, names: &[] },
    Field { name: "hour", least: 0, most: 23, names: &[] },
    Field { name: "day of the month", least: 1, most: 31, names: &[] },
    Field { name: "month", least: 1, most: 12, names: &MONTHS },
    // Sunday is 0 and 7.
    Field { name: "day of the week", least: 0, most: 7, names: &WEEKDAYS },
];

impl Cron {
    /// The first time after `after` at which it is due; `None` if there is none for nine years.
    #[must_use]
    pub fn next_after(&self, after: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let zone = zone.open();
        let after = i64::try_from(after.0 / 1000).ok()?;
        let local = after + zone.offset(after);
        let today = local.div_euclid(DAY);
        let matching = (today - 1..today + FARTHEST_DAYS).filter(|day| self.is_on(*day));
        for day in matching {
            // What is long past is not looked at.
            let from = (local - day * DAY) / 3600 - i64::from(HOURS_SET_BACK);
            if let Some(due) = self.first_of(day, u32::try_from(from).unwrap_or_default(), after, &zone) {
                return u64::try_from(due).ok()?.checked_mul(1000).map(Timestamp);
            }
        }
        None
    }

    fn is_on(&self, day: i64) -> bool {
        let date = Day::of(day);
        let (by_month, by_week) = (has(self.days, date.day), has(self.weekdays, weekday(day)));
        has(self.months, date.month)
            && if self.either_day { by_month || by_week } else { by_month && by_week }
    }

    /// The first instant of a local day that is later than `after`.
    fn first_of(&self, day: i64, from_hour: u32, after: i64, zone: &OpenZone) -> Option<i64> {
        let mut first: Option<i64> = None;
        let mut last_hour = 23;
        for hour in (from_hour..24).filter(|hour| has(self.hours, *hour)) {
            if hour > last_hour {
                break;
            }
            for minute in (0..60).filter(|minute| has(self.minutes, *minute)) {
                let local = day * DAY + i64::from(hour) * 3600 + i64::from(minute) * 60;
                let due = match zone.instants(local) {
                    Instants::Once(at) => Some(at),
                    Instants::Twice(early, _) if early > after => Some(early),
                    Instants::Twice(_, late) => self.every_hour.then_some(late),
                    Instants::Never { skipped_at } => (!self.every_hour).then_some(skipped_at),
                };
                if let Some(due) = due.filter(|due| *due > after) {
                    first = Some(first.map_or(due, |first| first.min(due)));
                }
            }
            if first.is_some() {
                // Later on the clock may be earlier, where clocks are set back.
                last_hour = last_hour.min(hour + HOURS_SET_BACK);
            }
        }
        first
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        if text.len() > MOST_CHARACTERS {
            return Err(CronError(format!("has more than {MOST_CHARACTERS} characters")));
        }
        let word = WORDS.iter().find(|(word, _)| text.trim().eq_ignore_ascii_case(word));
        let fields: Vec<&str> = word.map_or(text, |(_, fields)| fields).split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(CronError(format!(
                "has {} fields, but a cron expression has five: minute, hour, day of the month, month, day of the week",
                fields.len()
            )));
        };
        let read = |index: usize, text| FIELDS[index].read(text);
        let weekdays = read(4, weekday)?;
        let restricts = |field: &str| !field.starts_with(['*', '?']);
        let cron = Self {
            text: text.trim().to_owned(),
            minutes: read(0, minute)?,
            hours: read(1, hour)?,
            days: read(2, day)?,
            months: read(3, month)?,
            weekdays: weekdays | (weekdays >> 7 & 1),
            either_day: restricts(day) && restricts(weekday),
            every_hour: !restricts(hour),
        };
        // All years have the days of one leap year, and what is in none of 1972 to 1981 is in none.
        let ever = cron.next_after(Timestamp(730 * 86_400_000), &Zone::default());
        match ever {
            Some(_) => Ok(cron),
            None => Err(CronError(format!("is never due: no month {month} has a day {day}"))),
        }
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text
    }
}

impl TryFrom<String> for Cron {
    type Error = CronError;

    fn try_from(text: String) -> Result<Self, CronError> {
        text.parse()
    }
}

impl Field {
    /// The numbers of a list of entries, each `*`, `n`, `n-m`, and any of them with `/step`.
    fn read(&self, text: &str) -> Result<u64, CronError> {
        let mut numbers = 0;
        for entry in text.split(',') {
            let (range, step) = match entry.split_once('/') {
                None => (entry, None),
                Some((range, step)) => (range, Some(self.step(entry, step)?)),
            };
            let (from, to) = match range.split_once('-') {
                _ if range == "*" || range == "?" => (self.least, self.most),
                Some((from, to)) => (self.number(entry, from)?, self.number(entry, to)?),
                None => {
                    let only = self.number(entry, range)?;
                    (only, if step.is_some() { self.most } else { only })
                }
            };
            if from > to {
                return Err(self.wrong(entry, "begins after it ends"));
            }
            let step = usize::try_from(step.unwrap_or(1)).unwrap_or(usize::MAX);
            numbers = (from..=to).step_by(step).fold(numbers, |numbers, number| numbers | 1 << number);
        }
        Ok(numbers)
    }

    fn number(&self, entry: &str, text: &str) -> Result<u32, CronError> {
        if let Some(index) = self.names.iter().position(|name| text.eq_ignore_ascii_case(name)) {
            return Ok(self.least + u32::try_from(index).unwrap_or_default());
        }
        let is_number = !text.is_empty() && text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number =
            text.parse().ok().filter(|number| is_number && (self.least..=self.most).contains(number));
        number.ok_or_else(|| {
            self.wrong(entry, &format!("must be made of numbers from {} to {}", self.least, self.most))
        })
    }

    fn step(&self, entry: &str, text: &str) -> Result<u32, CronError> {
        let step = text.parse().ok().filter(|step| (1..=self.most).contains(step));
        step.ok_or_else(|| self.wrong(entry, &format!("must have a step from 1 to {}", self.most)))
    }

    fn wrong(&self, entry: &str, what: &str) -> CronError {
        let entry: String = entry.chars().take(40).collect();
        CronError(format!("its {} `{entry}` {what}", self.name))
    }
}

const fn has(bits: u64, number: u32) -> bool {
    bits >> number & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::date::{parse_rfc3339, rfc3339};

    fn next(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let cron: Cron = expression.parse().expect("a cron expression");
        let zone = zone.parse().expect("a zone");
        let mut at = parse_rfc3339(after).expect("a date");
        let mut times = Vec::new();
        for _ in 0..count {
            at = cron.next_after(at, &zone).expect("it is due again");
            times.push(rfc3339(at));
        }
        times
    }

    #[test]
    fn fields_are_lists_ranges_steps_and_names() {
        let noon = "2026-01-01T12:00:00Z";
        assert_eq!(next("5 * * * *", "UTC", noon, 2), ["2026-01-01T12:05:00Z", "2026-01-01T13:05:00Z"]);
        assert_eq!(
            next("0,30 8-18/10 * * *", "UTC", noon, 3),
            ["2026-01-01T18:00:00Z", "2026-01-01T18:30:00Z", "2026-01-02T08:00:00Z"]
        );
        assert_eq!(next("0 0 * FEB Sun", "UTC", noon, 1), ["2026-02-01T00:00:00Z"]);
        assert_eq!(next("0 0 * * 7", "UTC", noon, 1), ["2026-01-04T00:00:00Z"]);
        assert_eq!(
            next("0 0 * * sat-7", "UTC", "2026-01-02T12:00:00Z", 2),
            ["2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"]
        );
        assert_eq!(
            next("50/5 * * * *", "UTC", noon, 3),
            ["2026-01-01T12:50:00Z", "2026-01-01T12:55:00Z", "2026-01-01T13:50:00Z"]
        );
        assert_eq!(next("@daily", "UTC", noon, 1), ["2026-01-02T00:00:00Z"]);
        assert_eq!(next("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:00:00Z"]);
    }

    #[test]
    fn of_days_restricted_twice_either_will_do() {
        assert_eq!(
            next("0 0 13 * 5", "UTC", "2026-02-01T00:00:00Z", 3),
            ["2026-02-06T00:00:00Z", "2026-02-13T00:00:00Z", "2026-02-20T00:00:00Z"]
        );
        assert_eq!(next("0 0 13 * *", "UTC", "2026-02-01T00:00:00Z", 1), ["2026-02-13T00:00:00Z"]);
    }

    #[test]
    fn what_is_due_at_a_time_is_due_strictly_after_it() {
        assert_eq!(next("0 12 * * *", "UTC", "2026-01-01T12:00:00Z", 1), ["2026-01-02T12:00:00Z"]);
        assert_eq!(next("0 12 * * *", "UTC", "2026-01-01T11:59:59Z", 1), ["2026-01-01T12:00:00Z"]);
    }

    #[test]
    fn a_time_that_clocks_skip_is_made_up_for_at_once() {
        let times = next("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
        assert_eq!(times, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
        let times = next("0,15,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2);
        assert_eq!(times, ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"], "once for all three");
    }

    #[test]
    fn with_a_wildcard_for_the_hour_nothing_is_made_up_for() {
        let times = next("30 * * * *", "Europe/Berlin", "2026-03-28T23:59:00Z", 3);
        assert_eq!(times, ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:30:00Z"]);
    }

    #[test]
    fn a_time_that_clocks_show_twice_is_due_once() {
        let times = next("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(times, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    }

    #[test]
    fn with_a_wildcard_for_the_hour_it_is_due_both_times() {
        let times = next("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 6);
        assert_eq!(
            times,
            [
                "2026-10-25T00:00:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T01:30:00Z",
                "2026-10-25T02:00:00Z",
                "2026-10-25T02:30:00Z"
            ]
        );
    }

    #[test]
    fn clocks_that_are_set_at_midnight_leave_no_day_out() {
        // Forward at 00:00 to 01:00 on the 6th of September 2026.
        let times = next("0 0 * * *", "America/Santiago", "2026-09-05T12:00:00Z", 2);
        assert_eq!(times, ["2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"]);
    }

    #[test]
    fn every_minute_is_every_minute_whatever_clocks_do() {
        let (cron, zone): (Cron, Zone) =
            ("* * * * *".parse().expect("an expression"), "Europe/Berlin".parse().expect("a zone"));
        for around in ["2026-03-28T22:00:00Z", "2026-10-24T22:00:00Z"] {
            let mut at = parse_rfc3339(around).expect("a date");
            for _ in 0..600 {
                let next = cron.next_after(at, &zone);
                assert_eq!(next, Some(at.plus_millis(60_000)), "after {}", rfc3339(at));
                at = at.plus_millis(60_000);
            }
        }
    }

    #[test]
    fn a_wrong_expression_says_which_field_is_wrong() {
        let refusals = [
            (
                "* * * *",
                "has 4 fields, but a cron expression has five: minute, hour, day of the month, month, day of the week",
            ),
            ("60 * * * *", "its minute `60` must be made of numbers from 0 to 59"),
            ("* 5-3 * * *", "its hour `5-3` begins after it ends"),
            ("*/0 * * * *", "its minute `*/0` must have a step from 1 to 59"),
            ("* * L * *", "its day of the month `L` must be made of numbers from 1 to 31"),
            ("* * * * 1,,2", "its day of the week `` must be made of numbers from 0 to 7"),
            ("0 0 30 2 *", "is never due: no month 2 has a day 30"),
            ("* * * * 8", "its day of the week `8` must be made of numbers from 0 to 7"),
        ];
        for (text, refusal) in refusals {
            assert_eq!(text.parse::<Cron>(), Err(CronError(refusal.to_owned())), "{text}");
        }
        assert!("1,".repeat(200).parse::<Cron>().is_err());
        assert!("+5 * * * *".parse::<Cron>().is_err());
    }
}
