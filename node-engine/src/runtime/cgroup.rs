//! What a process's control group uses, read from the kernel's files (versions 1 and 2). The engine's own statistics
//! would cost a request and a second per container.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use model::Usage;

const MOUNT: &str = "/sys/fs/cgroup";

/// One container's control group between two measurements.
#[derive(Debug)]
pub(crate) struct Meter {
    files: Files,
    last: Option<(Instant, u64)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Files {
    One { cpu: PathBuf, memory: PathBuf },
    Two { group: PathBuf },
}

impl Meter {
    /// A meter for the control group of a process; `None` when it cannot be found.
    pub(crate) fn of_process(pid: u32) -> Option<Self> {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let files = find(&groups, Path::new(MOUNT))?;
        Some(Self { files, last: None })
    }

    /// What is used now; `None` when the group is gone. The first measurement knows no processor use.
    pub(crate) fn read(&mut self, now: Instant) -> Option<Usage> {
        let (cpu_nanos, memory_bytes) = self.files.read()?;
        let cpu_percent = self.last.map_or(0.0, |(before, nanos)| {
            let elapsed = now.duration_since(before).as_secs_f64();
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a percentage")]
            let percent = (cpu_nanos.saturating_sub(nanos) as f64 / 1e7 / elapsed.max(0.001)) as f32;
            percent
        });
        self.last = Some((now, cpu_nanos));
        Some(Usage { cpu_percent, memory_bytes, disk_bytes: 0 })
    }
}

impl Files {
    fn read(&self) -> Option<(u64, u64)> {
        let text = |path: &Path| fs::read_to_string(path).ok();
        let number = |path: &Path| text(path)?.trim().parse::<u64>().ok();
        // Memory that only caches files is given back when it is needed.
        match self {
            Self::One { cpu, memory } => {
                let cached = field(&text(&memory.join("memory.stat"))?, "total_inactive_file").unwrap_or(0);
                let used = number(&memory.join("memory.usage_in_bytes"))?;
                Some((number(&cpu.join("cpuacct.usage"))?, used.saturating_sub(cached)))
            }
            Self::Two { group } => {
                let cached = field(&text(&group.join("memory.stat"))?, "inactive_file").unwrap_or(0);
                let micros = field(&text(&group.join("cpu.stat"))?, "usage_usec")?;
                Some((micros * 1000, number(&group.join("memory.current"))?.saturating_sub(cached)))
            }
        }
    }
}

/// The value of a `name value` line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The files of a process by its `/proc/<pid>/cgroup`: lines `number:controllers:path`.
fn find(groups: &str, mount: &Path) -> Option<Files> {
    let of = |controller: &str| {
        groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let controllers = parts.next()?;
            controllers.split(',').any(|name| name == controller).then_some(())?;
            Some((controllers, parts.next()?.trim_start_matches('/')))
        })
    };
    if let (Some((controllers, cpu)), Some((_, memory))) = (of("cpuacct"), of("memory")) {
        let together = mount.join(controllers);
        let alone = mount.join("cpuacct");
        let cpu = if together.is_dir() { together } else { alone }.join(cpu);
        return Some(Files::One { cpu, memory: mount.join("memory").join(memory) });
    }
    let (_, path) = of("")?;
    Some(Files::Two { group: mount.join(path) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found() {
        let mount = Path::new("/nowhere");
        let one = "9:memory:/docker/a\n5:cpuacct,cpu:/docker/a\n0::/docker/a\n";
        let files =
            Files::One { cpu: "/nowhere/cpuacct/docker/a".into(), memory: "/nowhere/memory/docker/a".into() };
        assert_eq!(find(one, mount), Some(files));
        let two = "0::/system.slice/docker-a.scope\n";
        assert_eq!(
            find(two, mount),
            Some(Files::Two { group: "/nowhere/system.slice/docker-a.scope".into() })
        );
    }

    #[test]
    fn version_two_is_measured() {
        let group = tempfile::tempdir().expect("a temporary directory");
        let write =
            |name: &str, content: &str| fs::write(group.path().join(name), content).expect("writable");
        write("cpu.stat", "usage_usec 1000000\nuser_usec 7\n");
        write("memory.current", "5000\n");
        write("memory.stat", "anon 1\ninactive_file 1000\n");
        let mut meter = Meter { files: Files::Two { group: group.path().into() }, last: None };
        let begin = Instant::now();
        assert_eq!(meter.read(begin), Some(Usage { cpu_percent: 0.0, memory_bytes: 4000, disk_bytes: 0 }));
        write("cpu.stat", "usage_usec 2000000\n");
        let later = meter.read(begin + std::time::Duration::from_secs(2));
        assert_eq!(later, Some(Usage { cpu_percent: 50.0, memory_bytes: 4000, disk_bytes: 0 }));
    }

    #[test]
    fn this_process_can_be_measured() {
        let mut meter = Meter::of_process(std::process::id()).expect("it is in some group");
        assert!(
            meter.read(Instant::now()).is_some_and(|usage| usage.memory_bytes > 0)
                || meter.files.read().is_none()
        );
    }
}
