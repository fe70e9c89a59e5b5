//! Which processes of the machine are the lab's. Looked up each time: a file with process ids would be wrong after a
//! run that was killed, and ids are used again.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The hidden subcommand that a host's init is; its argument is the host's name.
pub(crate) const INIT: &str = "lab-init";

/// The inits that run `program`: host and process id. There is one for each host that is on.
pub(crate) fn inits(program: &Path) -> Result<Vec<(String, u32)>> {
    let mut inits = Vec::new();
    for id in processes()? {
        // One that has ended since it was listed is none.
        let Ok(command_line) = fs::read(format!("/proc/{id}/cmdline")) else { continue };
        let Some(host) = host_of(&command_line, program) else { continue };
        // Whatever starts an init has its command line for a moment, or among its own arguments.
        if ids_in_namespaces(id).is_some_and(|ids| ids.len() == 2 && ids[1] == 1) {
            inits.push((host, id));
        }
    }
    inits.sort();
    Ok(inits)
}

/// The inits that run `program` and what was about to become one.
pub(crate) fn inits_and_starters(program: &Path) -> Result<Vec<u32>> {
    let names_it =
        |id: &u32| fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| names_init(&line, program));
    Ok(processes()?.into_iter().filter(names_it).collect())
}

/// The processes of a host: the id it knows them by, and that of the machine. Those in containers are left out.
pub(crate) fn ids_on(init: u32) -> Result<BTreeMap<u32, u32>> {
    let namespace = |id: u32| fs::read_link(format!("/proc/{id}/ns/pid"));
    let wanted: PathBuf = namespace(init).with_context(|| format!("look at process {init}"))?;
    let mut found = BTreeMap::new();
    for id in processes()? {
        if namespace(id).is_ok_and(|its| its == wanted)
            && let Some(&inner) = ids_in_namespaces(id).unwrap_or_default().last()
        {
            found.insert(inner, id);
        }
    }
    Ok(found)
}

/// Whether a process has not ended yet. One that has ended and is not waited for by its parent has.
pub(crate) fn is_alive(id: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { return false };
    // The name is in brackets and may contain anything.
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
}

fn processes() -> Result<Vec<u32>> {
    let entries = fs::read_dir("/proc").context("list processes")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

fn host_of(command_line: &[u8], program: &Path) -> Option<String> {
    let mut words = command_line.split(|byte| *byte == 0);
    let is_init =
        words.next() == Some(program.as_os_str().as_bytes()) && words.next() == Some(INIT.as_bytes());
    let host = is_init.then(|| words.next())??;
    String::from_utf8(host.to_vec()).ok()
}

fn names_init(command_line: &[u8], program: &Path) -> bool {
    let words: Vec<&[u8]> = command_line.split(|byte| *byte == 0).collect();
    words.windows(2).any(|two| two == [program.as_os_str().as_bytes(), INIT.as_bytes()])
}

/// The ids of a process, from the outermost namespace to its own.
fn ids_in_namespaces(id: u32) -> Option<Vec<u32>> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    ids.split_whitespace().map(|id| id.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_is_known_by_its_whole_command_line() {
        let host = |line: &str| host_of(line.replace(' ', "\0").as_bytes(), Path::new("/lab/bin/xtask"));
        assert_eq!(host("/lab/bin/xtask lab-init c1w1 "), Some("c1w1".to_owned()));
        assert_eq!(host("/other/xtask lab-init c1w1 "), None);
        assert_eq!(host("unshare /lab/bin/xtask lab-init c1w1 "), None);
        assert_eq!(host("/lab/bin/xtask lab-init"), None);
    }

    #[test]
    fn what_starts_an_init_is_known_too() {
        let names = |line: &str| names_init(line.replace(' ', "\0").as_bytes(), Path::new("/lab/bin/xtask"));
        assert!(names("unshare --net -- /lab/bin/xtask lab-init c1w1 "));
        assert!(names("/lab/bin/xtask lab-init c1w1 "));
        assert!(!names("pgrep /lab/bin/xtask-lab-init "));
        assert!(!names("/lab/bin/xtask lab status "));
    }

    #[test]
    fn a_process_that_nobody_waited_for_has_ended_all_the_same() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("there is sleep");
        assert!(is_alive(child.id()));
        child.kill().expect("it runs");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while is_alive(child.id()) {
            assert!(std::time::Instant::now() < deadline, "it lives on as a zombie");
        }
        child.wait().expect("it has ended");
        assert!(!is_alive(child.id()));
    }

    #[test]
    fn a_process_is_found_among_those_of_its_own_namespace() {
        let own = std::process::id();
        assert_eq!(ids_on(own).expect("it is there").get(&own), Some(&own));
    }
}
