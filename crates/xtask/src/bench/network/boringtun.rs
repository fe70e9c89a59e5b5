//! `boringtun-cli`, the usual WireGuard in user space, as the peer of encrypted links: one on each host made by hand.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{
    place::Place,
    probe::{Ended, wait_for},
};
use crate::workspace::Workspace;

const PROGRAM: &str = "boringtun-cli";
const VERSION: &str = "0.7.1";
/// Where it makes its control sockets.
const SOCKETS: &str = "/var/run/wireguard";

/// A private key each, and the public one that belongs to it. They guard nothing.
const KEYS: [(&str, &str); 2] = [
    (
        "1111111111111111111111111111111111111111111111111111111111111111",
        "7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13",
    ),
    (
        "2222222222222222222222222222222222222222222222222222222222222222",
        "0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20",
    ),
];

/// One end of a link; the process ends when this is dropped.
#[derive(Debug)]
pub(super) struct End {
    _process: Ended,
}

/// The program: that of the machine, or one that is built for benchmarks and kept.
///
/// # Errors
/// It is not there and cannot be built; the error says what to do.
pub(super) fn program() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    if let Some(found) = env::split_paths(&path).map(|folder| folder.join(PROGRAM)).find(|it| it.is_file()) {
        return Ok(found);
    }
    let root = Workspace::load()?.target.join("bench/tools");
    let program = root.join("bin").join(PROGRAM);
    if !program.is_file() {
        eprintln!("building {PROGRAM} {VERSION} into {}", root.display());
        let status = Command::new(crate::workspace::cargo())
            .args(["install", "--quiet", "--locked", "--version", VERSION, "--root"])
            .arg(&root)
            .arg(PROGRAM)
            .status()
            .context("start `cargo install`")?;
        ensure!(
            status.success(),
            "{PROGRAM} cannot be built: with access to the internet, type `cargo install {PROGRAM} --version \
             {VERSION}`, and have it on the PATH"
        );
    }
    Ok(program)
}

/// Starts one end; `which` is 0 or 1, the other end has the other one. It makes the interface `name`, which is to be
/// brought up by the caller.
pub(super) fn start(
    program: &Path,
    place: &Place,
    name: &str,
    which: usize,
    port: u16,
    other: &str,
) -> Result<End> {
    let socket = Path::new(SOCKETS).join(format!("{name}.sock"));
    // Of a run that was killed.
    drop(fs::remove_file(&socket));
    let mut command = place.command(&program.to_string_lossy());
    command.args(["--foreground", "--disable-drop-privileges", "--verbosity", "error", name]);
    let child: Child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("start boringtun-cli")?;
    let process = Ended::of(child);
    let mut stream = wait_for("boringtun-cli can be told what to do", || Ok(UnixStream::connect(&socket)?))?;
    let ((private, _), (_, public)) = (KEYS[which], KEYS[1 - which]);
    // Written as the protocol of WireGuard's userspace implementations has it.
    let settings = format!(
        "set=1\nprivate_key={private}\nlisten_port={port}\npublic_key={public}\nendpoint={other}\n\
         allowed_ip=0.0.0.0/0\n\n"
    );
    stream.write_all(settings.as_bytes()).context("configure boringtun-cli")?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).context("hear what boringtun-cli says")?;
    ensure!(answer.trim() == "errno=0", "boringtun-cli refuses its configuration: {}", answer.trim());
    Ok(End { _process: process })
}
