//! What a host's init does before anything else: it makes the namespaces it was started in look like a machine of
//! its own. What it mounts is gone when the host is powered off, and with it /run and /tmp; /var/lib is the disk.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::{
    layout::{BIN, HostFolder, Layout, SHARE},
    tool::{command, run},
};

/// Mounts what a host has, and nothing that another host or the machine mounted.
///
/// # Errors
/// Something cannot be mounted; the namespaces are then of no use.
pub(crate) fn settle_in(name: &str, layout: &Layout) -> Result<()> {
    fs::write("/proc/sys/kernel/hostname", name).context("set the host's name")?;
    let folder = layout.named(name);
    let all = || -> Result<Vec<String>> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("read the list of mounts")?;
        Ok(inherited(&mounts, layout.folder()))
    };
    for inherited in all()? {
        // Otherwise they would stay for as long as this host is on, whatever the machine does.
        let outcome = run(&mut command("umount", ["--lazy", &inherited]));
        // The machine may have done it meanwhile: a container of its own engine ended.
        if outcome.is_err() && all()?.contains(&inherited) {
            outcome?;
        }
    }
    mount(&["-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"])?;
    for (from, to) in [(layout.bin(), BIN), (folder.share(), SHARE)] {
        fs::create_dir_all(to).with_context(|| format!("create {to}"))?;
        bind(&from, to)?;
    }
    // The engine writes to both.
    for name in ["etc", "opt"] {
        overlay(name, &folder)?;
    }
    mount(&["-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/tmp"])?;
    bind(&folder.log(), "/var/log")?;
    // From here on the lab's own folder is out of sight.
    bind(&folder.disk(), "/var/lib")?;
    mount(&["-t", "proc", "proc", "/proc"])?;
    // So that this process does not stay in a folder of the machine.
    std::env::set_current_dir("/").context("change to /")
}

fn bind(from: &Path, to: &str) -> Result<()> {
    mount(&["--bind", &from.to_string_lossy(), to])
}

fn overlay(name: &str, folder: &HostFolder) -> Result<()> {
    let changes = folder.overlay(name);
    let changes = changes.display();
    let options = format!("lowerdir=/{name},upperdir={changes}/upper,workdir={changes}/work");
    mount(&["-t", "overlay", "-o", &options, "overlay", &format!("/{name}")])
}

fn mount(arguments: &[&str]) -> Result<()> {
    run(&mut command("mount", arguments)).map(drop)
}

/// The mounts below /run and /var/lib, the innermost first, but for those that `kept` is in.
fn inherited(mountinfo: &str, kept: &Path) -> Vec<String> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    let mut points: Vec<String> = points
        .filter(|point| point.starts_with("/run/") || point.starts_with("/var/lib/"))
        .filter(|point| !kept.starts_with(point))
        .collect();
    points.reverse();
    points
}

/// Blanks and the like are written in octal.
fn unescaped(text: &str) -> String {
    [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")]
        .iter()
        .fold(text.to_owned(), |text, (written, meant)| text.replace(written, meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_mounted_is_let_go_of_from_the_inside_out() {
        let mountinfo = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                         30 22 0:5 / /run rw - tmpfs tmpfs rw\n\
                         31 30 0:4 net:[1] /run/netns/a\\040b rw - nsfs nsfs rw\n\
                         32 22 254:1 / /var/lib/mangrove-lab rw - ext4 /dev/vdb rw\n\
                         33 22 254:2 / /var/lib/docker rw - ext4 /dev/vdc rw\n\
                         34 33 0:9 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw\n";
        assert_eq!(
            inherited(mountinfo, Path::new("/var/lib/mangrove-lab")),
            ["/var/lib/docker/overlay2/x/merged", "/var/lib/docker", "/run/netns/a b"]
        );
    }
}
