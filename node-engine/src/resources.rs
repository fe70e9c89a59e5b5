//! What the device has, and how busy it is.

use std::path::Path;

use model::{Capability, Load, Mebibytes, Millicores, Resources, WorkerInventory};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// Kept back for the system and NodeEngine itself: a tenth of the memory, and at least this much.
const LEAST_MEMORY_RESERVE: u64 = 128 << 20;

/// Reads processor and memory figures; looks at nothing else, least of all at the processes of the device.
#[derive(Debug)]
pub struct Device {
    system: System,
}

impl Device {
    /// Begins to measure; the first load is known at the next call.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn new() -> Result<Self, sysinfo::Error> {
        let what = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing().with_usage())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        Ok(Self { system: System::new_with_specifics(what)? })
    }

    /// What the cluster is told: all cores, the memory less the reserve, and nine tenths of what is free where the
    /// container engine keeps its data.
    #[must_use]
    pub fn inventory(&self, name: String, engine_data: &Path, overlay: bool) -> WorkerInventory {
        let mut capabilities = vec![Capability::Container];
        if overlay {
            capabilities.push(Capability::Overlay);
        }
        let cores = u32::try_from(self.system.cpus().len()).unwrap_or(u32::MAX).max(1);
        let memory = self.system.total_memory();
        WorkerInventory {
            name,
            architecture: architecture().to_owned(),
            allocatable: Resources {
                cpu: Millicores::from_cores(cores),
                memory: Mebibytes::from_bytes(memory.saturating_sub(memory_reserve(memory))),
                storage: Mebibytes::from_bytes(free_storage(engine_data) / 10 * 9),
                gpus: 0,
            },
            capabilities,
        }
    }

    /// Processor and memory use since the last call, 0 to 100 each.
    pub fn load(&mut self) -> Load {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        #[expect(clippy::cast_precision_loss, reason = "a percentage needs two digits")]
        let memory = self.system.used_memory() as f32 * 100.0 / self.system.total_memory().max(1) as f32;
        let cpu_percent = self.system.global_cpu_usage().clamp(0.0, 100.0);
        Load { cpu_percent, memory_percent: memory.clamp(0.0, 100.0) }
    }
}

fn memory_reserve(total: u64) -> u64 {
    (total / 10).max(LEAST_MEMORY_RESERVE)
}

/// Free bytes of the file system that holds `path`, or of the root when that is not visible from here.
fn free_storage(path: &Path) -> u64 {
    let figures = rustix::fs::statvfs(path).or_else(|_| rustix::fs::statvfs("/"));
    figures.map_or(0, |figures| figures.f_bavail.saturating_mul(figures.f_frsize))
}

/// The processor architecture, as container images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_memory_is_kept_back_and_at_least_the_least() {
        assert_eq!(memory_reserve(64 << 30), (64 << 30) / 10);
        assert_eq!(memory_reserve(512 << 20), LEAST_MEMORY_RESERVE);
    }

    #[test]
    fn this_device_has_something_to_give() {
        let mut device = Device::new().expect("the kernel tells");
        let inventory = device.inventory("here".to_owned(), Path::new("/nowhere"), true);
        assert!(inventory.allocatable.covers(&Resources {
            cpu: Millicores(1000),
            memory: Mebibytes(1),
            storage: Mebibytes(1),
            gpus: 0
        }));
        assert_eq!(inventory.capabilities, [Capability::Container, Capability::Overlay]);
        let Load { cpu_percent: cpu, memory_percent: memory } = device.load();
        assert!((0.0..=100.0).contains(&cpu) && (0.1..=100.0).contains(&memory), "{cpu} {memory}");
    }
}
