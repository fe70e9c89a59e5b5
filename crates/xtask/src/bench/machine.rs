//! How busy the machine was while measuring. Figures from a busy machine are no good to quote.

use std::{fmt, fs};

/// Above this many runnable threads before the start, somebody else was measured too.
const QUIET_LOAD: f64 = 0.5;
/// Above this share of stolen time, the host was measured.
const QUIET_STEAL_PERCENT: f64 = 2.0;

/// A look at the machine's counters.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    processor: String,
    load: Option<f64>,
    /// Ticks since the start of the machine: stolen by the host, and all.
    ticks: Option<(f64, f64)>,
}

/// The machine between two looks.
#[derive(Debug)]
pub(crate) struct Conditions {
    processor: String,
    load_before: Option<f64>,
    load_after: Option<f64>,
    steal_percent: Option<f64>,
}

impl Machine {
    /// Reads the counters; what the system does not tell is left out.
    pub(crate) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            processor: processor(&read("/proc/cpuinfo")),
            load: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()),
            ticks: ticks(&read("/proc/stat")),
        }
    }

    pub(crate) fn since(&self, before: &Self) -> Conditions {
        let steal_percent = match (before.ticks, self.ticks) {
            (Some((stolen_before, all_before)), Some((stolen, all))) if all > all_before => {
                Some((stolen - stolen_before) / (all - all_before) * 100.0)
            }
            _ => None,
        };
        Conditions {
            processor: self.processor.clone(),
            load_before: before.load,
            load_after: self.load,
            steal_percent,
        }
    }
}

impl Conditions {
    fn quiet(&self) -> bool {
        self.load_before.is_none_or(|load| load <= QUIET_LOAD)
            && self.steal_percent.is_none_or(|percent| percent <= QUIET_STEAL_PERCENT)
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |value: Option<f64>| value.map_or("unknown".to_owned(), |value| format!("{value:.2}"));
        let (before, after) = (told(self.load_before), told(self.load_after));
        write!(f, "{}, load {before} to {after}, {} % stolen", self.processor, told(self.steal_percent))?;
        if !self.quiet() {
            write!(
                f,
                "\nThe machine was busy: repeat with a load of at most {QUIET_LOAD} before quoting a figure."
            )?;
        }
        Ok(())
    }
}

fn processor(cpuinfo: &str) -> String {
    let values = |key: &'static str| {
        cpuinfo
            .lines()
            .filter_map(|line| line.split_once(':'))
            .filter(move |(found, _)| found.trim() == key)
            .map(|(_, value)| value.trim())
    };
    let model = values("model name").next().unwrap_or("unknown processor");
    format!("{} x {model}", values("processor").count())
}

fn ticks(stat: &str) -> Option<(f64, f64)> {
    let all = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = all.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    // user nice system idle iowait irq softirq steal; guest time is part of user time.
    let counted = ticks.get(..8)?;
    Some((counted[7], counted.iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(load: f64, stolen: f64, all: f64) -> Machine {
        Machine { processor: "2 x test".to_owned(), load: Some(load), ticks: Some((stolen, all)) }
    }

    #[test]
    fn a_busy_machine_is_told() {
        let quiet = machine(0.8, 1.0, 200.0).since(&machine(0.5, 0.0, 100.0));
        assert_eq!(quiet.to_string(), "2 x test, load 0.50 to 0.80, 1.00 % stolen");
        let stolen = machine(0.1, 3.0, 200.0).since(&machine(0.1, 0.0, 100.0));
        let loaded = machine(0.1, 0.0, 200.0).since(&machine(0.6, 0.0, 100.0));
        assert_eq!((stolen.quiet(), loaded.quiet()), (false, false));
    }

    #[test]
    fn the_counters_are_read_as_linux_writes_them() {
        assert_eq!(ticks("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 …"), Some((8.0, 36.0)));
        let cpuinfo = "processor\t: 0\nmodel name\t: A\nprocessor\t: 1\nmodel name\t: A\n";
        assert_eq!(processor(cpuinfo), "2 x A");
    }
}
