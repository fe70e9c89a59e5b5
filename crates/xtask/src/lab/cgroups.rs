//! The control groups of the hosts' containers. A machine that loses power loses them; here they are removed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::host::Host;

const MOUNT: &str = "/sys/fs/cgroup";
const PARENT: &str = "mangrove-lab";
/// The kernel lets go of killed processes a moment after it ended them.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The group that a host's engine puts its containers into.
pub(crate) fn parent(host: Host) -> String {
    format!("/{PARENT}/{host}")
}

/// Removes the groups of a host that is off.
pub(crate) fn remove_of(host: Host) -> Result<()> {
    for hierarchy in hierarchies()? {
        remove(&hierarchy.join(PARENT).join(host.to_string()))?;
    }
    Ok(())
}

/// Removes the groups of all hosts; all must be off.
pub(crate) fn remove_all() -> Result<()> {
    for hierarchy in hierarchies()? {
        remove(&hierarchy.join(PARENT))?;
    }
    Ok(())
}

/// With version 1 there is one for each controller, with version 2 only the first.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let mut all = vec![PathBuf::from(MOUNT)];
    all.extend(folders(Path::new(MOUNT))?);
    Ok(all)
}

/// Removes a group and those below it; one that is not there is removed.
fn remove(group: &Path) -> Result<()> {
    for below in folders(group)? {
        remove(&below)?;
    }
    let deadline = Instant::now() + EMPTY_WITHIN;
    loop {
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                sleep(LOOK_AGAIN);
            }
            Err(error) => {
                return Err(error).with_context(|| format!("remove control group {}", group.display()));
            }
        }
    }
}

fn folders(of: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(of) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("list {}", of.display())),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", of.display()))?.path();
        // The mounts of version 1 have links beside them.
        if path.is_dir() && !path.is_symlink() {
            folders.push(path);
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_removed_from_the_inside_out_and_absent_ones_are_no_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let group = folder.path().join("lab");
        fs::create_dir_all(group.join("c1w1/container/deeper")).expect("folders");
        remove(&group).expect("removed");
        assert!(!group.exists());
        remove(&group).expect("is removed already");
    }
}
