//! That no container behind a gate runs in the device's own network. Engines are asked for a namespace in a way that
//! some may not know (`create.rs`), so what they made of it is looked at.

use std::{fs, io, os::unix::fs::MetadataExt};

use node_core::ContainerId;

use crate::runtime::RuntimeError;

/// The process, if it is in a network namespace of its own; `None` if it has ended.
///
/// # Errors
/// It is in the device's own, or nobody can say. NetManager would set up the device's own network as that of an
/// instance, and behind its gate the instance would have all of it.
pub(super) fn in_its_own_network(pid: u32, container: &ContainerId) -> Result<Option<u32>, RuntimeError> {
    let detail = match has_own_network(pid) {
        Ok(true) => return Ok(Some(pid)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(false) => format!(
            "the container engine has put container {container} into the device's own network, so it is not let start; \
             remove the container, and if the next one is there too use another engine or runtime"
        ),
        Err(error) => format!("the network namespace of process {pid} cannot be looked at: {error}"),
    };
    Err(RuntimeError::Refused { detail })
}

fn has_own_network(pid: u32) -> io::Result<bool> {
    // This program is where NetManager is. The first process of the device would do as well, but not everywhere may even
    // root look at it.
    Ok(namespace(&pid.to_string())? != namespace("self")?)
}

fn namespace(process: &str) -> io::Result<(u64, u64)> {
    let namespace = fs::metadata(format!("/proc/{process}/ns/net"))?;
    Ok((namespace.dev(), namespace.ino()))
}

#[cfg(test)]
mod tests {
    use std::process::{self, Command, Stdio};

    use super::*;

    #[test]
    fn a_process_in_the_devices_network_is_refused() {
        let container = ContainerId("c1".to_owned());
        let refused = in_its_own_network(process::id(), &container).expect_err("it is where this test is");
        assert!(refused.to_string().contains("container c1 into the device's own network"), "{refused}");

        let mut command = Command::new("unshare");
        command.args(["--net", "--", "cat"]).stdin(Stdio::piped());
        let mut apart = command.spawn().expect("these tests run as root");
        let pid = apart.id();
        while fs::read(format!("/proc/{pid}/cmdline")).expect("it lives") != b"cat\0" {
            std::thread::yield_now();
        }
        assert_eq!(in_its_own_network(pid, &container), Ok(Some(pid)));
        drop(apart.stdin.take());
        // One that has ended and is not waited for has no namespace any more.
        while !fs::read_to_string(format!("/proc/{pid}/stat")).expect("not waited for").contains(") Z ") {
            std::thread::yield_now();
        }
        assert_eq!(in_its_own_network(pid, &container), Ok(None));
        apart.wait().expect("it has ended");
        assert_eq!(in_its_own_network(pid, &container), Ok(None));
    }
}
