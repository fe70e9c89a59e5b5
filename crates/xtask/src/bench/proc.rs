//! What the kernel says a process consumed.

use std::fs;

use anyhow::{Context, Result};

/// Clock ticks of `/proc/PID/stat` on Linux, whatever the kernel's own.
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// All pages in memory.
    pub(crate) resident: u64,
    /// Pages that others share count in part.
    pub(crate) proportional: u64,
}

/// Since the start of a process, all its threads together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Consumption {
    pub(crate) processor_seconds: f64,
    /// How often a thread went to sleep of its own will, and so woke up again.
    pub(crate) wake_ups: u64,
}

impl Memory {
    pub(crate) fn of(process: u32) -> Result<Self> {
        let rollup = read(&format!("/proc/{process}/smaps_rollup"))?;
        let bytes = |name| field(&rollup, name).map(|kibibytes| kibibytes << 10);
        let memory = bytes("Rss").zip(bytes("Pss"));
        let (resident, proportional) = memory.context("the kernel does not tell RSS and PSS")?;
        Ok(Self { resident, proportional })
    }
}

/// The process that is told of another's end.
pub(crate) fn parent_of(process: u32) -> Result<u32> {
    let parent = field(&read(&format!("/proc/{process}/status"))?, "PPid");
    parent.and_then(|id| u32::try_from(id).ok()).context("the kernel does not tell the parent")
}

impl Consumption {
    pub(crate) fn of(process: u32) -> Result<Self> {
        let folder = format!("/proc/{process}/task");
        let (mut nanoseconds, mut wake_ups) = (Some(0), 0);
        for thread in fs::read_dir(&folder).with_context(|| format!("list {folder}"))? {
            let thread = thread.with_context(|| format!("list {folder}"))?.path();
            let status = read(&format!("{}/status", thread.display()))?;
            wake_ups += field(&status, "voluntary_ctxt_switches").context("the kernel tells no wake-ups")?;
            // Exact, where the kernel keeps it; a thread that ended is missing, as are its wake-ups.
            let exact =
                fs::read_to_string(thread.join("schedstat")).ok().and_then(|text| first_number(&text));
            nanoseconds = nanoseconds.zip(exact).map(|(sum, more)| sum + more);
        }
        let processor_seconds = match nanoseconds {
            Some(nanoseconds) => nanoseconds as f64 / 1e9,
            None => ticks(&read(&format!("/proc/{process}/stat"))?)
                .map(|ticks| ticks as f64 / TICKS_PER_SECOND)
                .context("the kernel tells no processor time")?,
        };
        Ok(Self { processor_seconds, wake_ups })
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            processor_seconds: self.processor_seconds - before.processor_seconds,
            wake_ups: self.wake_ups.saturating_sub(before.wake_ups),
        }
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {path}"))
}

/// The number of a `Name:  number` line.
fn field(text: &str, name: &str) -> Option<u64> {
    first_number(text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// User and system time of a `/proc/PID/stat`.
fn ticks(stat: &str) -> Option<u64> {
    // The name is in brackets and may contain anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_consumes_something() {
        let id = std::process::id();
        let memory = Memory::of(id).expect("Linux tells");
        assert!(memory.resident >= memory.proportional && memory.proportional > 0, "{memory:?}");
        let used = Consumption::of(id).expect("Linux tells");
        assert!(used.processor_seconds > 0.0, "{used:?}");
        assert_eq!(parent_of(id).expect("Linux tells"), std::os::unix::process::parent_id());
    }

    #[test]
    fn the_kernels_files_are_read_as_they_are_written() {
        assert_eq!(field("VmRSS:\t  12 kB\nRss:  7 kB\n", "Rss"), Some(7));
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 1 0 99 0";
        assert_eq!(ticks(stat), Some(42));
    }
}
