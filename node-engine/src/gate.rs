//! The start gate: a container's process waits before its first instruction until its network is there.
//!
//! This program itself is mounted into the container as `/.mangrove/gate` and put in front of the container's command;
//! it opens the named pipe `/.mangrove/start`, waits until NodeEngine has opened and closed the other end, and then
//! becomes the command. It needs nothing from the image, so it works in an empty one. Whatever signal asks the container
//! to end, ends it at the gate at once: the kernel keeps a container's first process from being ended by one it does not
//! handle.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::{fs::MetadataExt, fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use futures_util::future::select_all;
use model::{Generation, InstanceId};
use rustix::{
    fs::{CWD, Mode, OFlags},
    io::Errno,
};
use tokio::{
    net::unix::pipe,
    signal::unix::{SignalKind, signal},
    time::Instant,
};

/// The gate's place in the container.
pub const PROGRAM: &str = "/.mangrove/gate";
/// The named pipe's place in the container.
pub const PIPE: &str = "/.mangrove/start";

/// What images name as their `STOPSIGNAL`, by number: hang-up, interrupt, quit, both for users, terminate, window change
/// (Apache's) and the third real-time one (systemd's). A container is asked with SIGTERM otherwise.
const ENDING_SIGNALS: [u8; 8] = [1, 2, 3, 10, 12, 15, 28, 37];

/// A process reaches the gate a few milliseconds after its start; a device under load may need far longer.
const REACHED_WITHIN: Duration = Duration::from_secs(10);

/// The command behind the gate, when this process is one.
#[must_use]
pub fn command_behind() -> Option<Vec<OsString>> {
    let mut arguments = env::args_os();
    let is_gate =
        arguments.next().is_some_and(|program| Path::new(&program).file_name() == Some("gate".as_ref()));
    is_gate.then(|| arguments.collect())
}

/// Waits at the gate and becomes `command`. Returns only when that is impossible, with the exit code a shell would
/// give: 127 for a command that is not there, 126 for one that cannot be executed.
#[must_use]
pub fn pass(command: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else {
        complain("start gate: there is no command behind the gate");
        return ExitCode::from(126);
    };
    match wait_at(PIPE) {
        Ok(None) => {}
        Ok(Some(signal)) => return ExitCode::from(128 + signal),
        Err(error) => {
            complain(&format!("start gate: cannot wait at {PIPE}: {error}"));
            return ExitCode::from(126);
        }
    }
    let error = Command::new(program).args(arguments).exec();
    complain(&format!("start gate: cannot execute `{}`: {error}", program.display()));
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
}

/// Returns when somebody has opened and closed the other end of the pipe; or the signal that came before.
fn wait_at(pipe: &str) -> io::Result<Option<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut asked = Vec::new();
        for number in ENDING_SIGNALS {
            let mut signal = signal(SignalKind::from_raw(i32::from(number)))?;
            asked.push(Box::pin(async move {
                signal.recv().await;
                number
            }));
        }
        let gate = pipe::OpenOptions::new().open_receiver(pipe)?;
        tokio::select! {
            (number, _, _) = select_all(asked) => Ok(Some(number)),
            // The pipe hangs up once a writer has come and gone, and not before.
            opened = gate.readable() => opened.map(|()| None),
        }
    })
}

fn complain(message: &str) {
    use io::Write;
    // Nobody is left to tell when standard error is closed.
    drop(writeln!(io::stderr(), "{message}"));
}

/// What cannot be done about gates.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The program cannot stand in a container.
    #[error(
        "{} is linked dynamically and cannot be a start gate; use the static build of NodeEngine, or leave out -n to \
         run containers on the container engine's own network",
        program.display()
    )]
    NotStatic {
        /// Which.
        program: PathBuf,
    },
    /// A file that containers mount cannot be read or written.
    #[error("file {}, which containers mount, cannot be used: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The process ended at the gate.
    #[error("the process ended before its network was ready")]
    Ended,
    /// The process never came to the gate.
    #[error("the process did not reach the start gate within {} s", REACHED_WITHIN.as_secs())]
    NotReached,
}

/// The host's side of all gates of this device, and where all files are that containers behind them mount.
#[derive(Debug, Clone)]
pub struct Gates {
    directory: PathBuf,
}

impl Gates {
    /// Puts a copy of `program` where containers can mount it from, in `directory`. The copy stays valid for running
    /// containers when NodeEngine is upgraded.
    ///
    /// # Errors
    /// The program is not static, or a file cannot be written.
    pub fn install(directory: &Path, program: &Path) -> Result<Self, GateError> {
        let file_error = |path: &Path| {
            let path = path.to_owned();
            |reason| GateError::File { path, reason }
        };
        if asks_for_a_loader(program).map_err(file_error(program))? {
            return Err(GateError::NotStatic { program: program.to_owned() });
        }
        fs::create_dir_all(directory).map_err(file_error(directory))?;
        let gates = Self { directory: directory.to_owned() };
        let installed = gates.program();
        let source = fs::metadata(program).map_err(file_error(program))?;
        let same = fs::metadata(&installed)
            .is_ok_and(|there| (there.len(), there.mtime()) == (source.len(), source.mtime()));
        if !same {
            let copy = || -> io::Result<()> {
                let temporary = directory.join("gate.new");
                fs::copy(program, &temporary)?;
                fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755))?;
                fs::File::options().write(true).open(&temporary)?.set_modified(source.modified()?)?;
                fs::rename(&temporary, &installed)
            };
            copy().map_err(file_error(&installed))?;
        }
        Ok(gates)
    }

    /// Gates whose files need not exist.
    #[cfg(test)]
    pub(crate) fn for_test(directory: &str) -> Self {
        Self { directory: directory.into() }
    }

    /// The program to mount at [`PROGRAM`].
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.directory.join("gate")
    }

    /// The named pipe to mount at [`PIPE`]; the same for one instance and generation, so that a container finds it
    /// again at its next start.
    #[must_use]
    pub fn pipe(&self, instance: InstanceId, generation: Generation) -> PathBuf {
        self.directory.join(format!("{}.{}.{generation}", instance.service, instance.number))
    }

    /// Another file for one instance and generation; see [`Gates::put`].
    #[must_use]
    pub fn file(&self, instance: InstanceId, generation: Generation, name: &str) -> PathBuf {
        let mut path = self.pipe(instance, generation).into_os_string();
        path.push(format!(".{name}"));
        path.into()
    }

    /// Makes sure that a file has this content. A container that runs keeps what it had when it was started. Not made
    /// to outlive a crash of the device: a start after that puts it again.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put(
        &self,
        instance: InstanceId,
        generation: Generation,
        name: &str,
        content: &str,
    ) -> Result<(), GateError> {
        let path = self.file(instance, generation, name);
        if fs::read(&path).is_ok_and(|there| there == content.as_bytes()) {
            return Ok(());
        }
        let write = || -> io::Result<()> {
            let temporary = self.file(instance, generation, &format!("{name}.new"));
            fs::write(&temporary, content)?;
            // Readable by whatever user the image runs as, as the pipe is.
            fs::set_permissions(&temporary, fs::Permissions::from_mode(0o644))?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|reason| GateError::File { path, reason })
    }

    /// Makes sure that there is a file which the container may write to. What it has written stays.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn keep(&self, instance: InstanceId, generation: Generation, name: &str) -> Result<(), GateError> {
        let path = self.file(instance, generation, name);
        let make = || -> io::Result<()> {
            fs::File::options().create(true).append(true).open(&path)?;
            // For whatever user the image runs as; the directory around it is ours alone.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666))
        };
        make().map_err(|reason| GateError::File { path, reason })
    }

    /// Closes the gate: makes sure that the pipe is there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn close(&self, instance: InstanceId, generation: Generation) -> Result<(), GateError> {
        let path = self.pipe(instance, generation);
        // Readable by whatever user the image runs as; the directory around it is ours alone.
        match rustix::fs::mkfifoat(CWD, &path, Mode::from_raw_mode(0o644)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(reason) => Err(GateError::File { path, reason: reason.into() }),
        }
    }

    /// Lets process `pid` pass; does nothing if it has passed already.
    ///
    /// # Errors
    /// It ended, or does not come.
    pub async fn open(
        &self,
        instance: InstanceId,
        generation: Generation,
        pid: u32,
    ) -> Result<(), GateError> {
        let path = self.pipe(instance, generation);
        let deadline = Instant::now() + REACHED_WITHIN;
        let mut pause = Duration::from_micros(500);
        loop {
            match rustix::fs::open(&path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
            {
                Ok(_open) => return Ok(()),
                // Nobody waits: it is on its way to the gate, or has passed, or is no more.
                Err(Errno::NXIO) => {}
                Err(reason) => return Err(GateError::File { path, reason: reason.into() }),
            }
            match whereabouts(pid) {
                Whereabouts::Behind => return Ok(()),
                Whereabouts::Gone => return Err(GateError::Ended),
                Whereabouts::Before if Instant::now() > deadline => return Err(GateError::NotReached),
                Whereabouts::Before => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Removes the pipes and files of an instance up to a generation.
    pub fn forget(&self, instance: InstanceId, newest: Generation) {
        let prefix = format!("{}.{}.", instance.service, instance.number);
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let rest = name.to_str().and_then(|name| name.strip_prefix(&prefix));
            let generation = rest.and_then(|rest| rest.split('.').next()).map(str::parse::<u64>);
            if let Some(Ok(generation)) = generation
                && generation <= newest.0
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::warn!(file = %entry.path().display(), %error, "a file of a container stays behind");
            }
        }
    }
}

/// Where a process is, seen from the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// On its way to the gate, or waiting at it.
    Before,
    /// It has passed and is the container's own command.
    Behind,
    /// It ended.
    Gone,
}

/// Where the first process of a gated container is.
#[must_use]
pub fn whereabouts(pid: u32) -> Whereabouts {
    let Ok(command_line) = fs::read(format!("/proc/{pid}/cmdline")) else { return Whereabouts::Gone };
    if command_line.is_empty() {
        // One that has ended and was not waited for has none; nor has one in the middle of becoming another program.
        return if has_ended(pid) { Whereabouts::Gone } else { Whereabouts::Before };
    }
    let program = command_line.split(|byte| *byte == 0).next().unwrap_or_default();
    // Before the gate the process is the engine's own: `runc init`, `crun init`.
    let engine =
        command_line.ends_with(b"\0init\0") && !program.contains(&b'/') || program == b"/proc/self/exe";
    if program == PROGRAM.as_bytes() || engine { Whereabouts::Before } else { Whereabouts::Behind }
}

/// Whether the kernel keeps a process only for its exit code (`proc(5)`: the state after the name in parentheses).
fn has_ended(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, None | Some('Z' | 'X'))
}

/// Whether an ELF file names a dynamic loader (has a `PT_INTERP` segment).
fn asks_for_a_loader(program: &Path) -> io::Result<bool> {
    use io::Read;
    const PT_INTERP: u32 = 3;
    const HEADER: usize = 64;
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    // The program headers follow the file header in everything a linker writes.
    let mut start = Vec::new();
    fs::File::open(program)?.take(8192).read_to_end(&mut start)?;
    if start.len() < HEADER || !start.starts_with(b"\x7fELF\x02\x01") {
        return Err(wrong("it is not a 64-bit little-endian ELF program"));
    }
    let number = |from: usize, length: usize| -> usize {
        start[from..from + length].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let (offset, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    for index in 0..count {
        let at = offset.saturating_add(index * size);
        let kind = start
            .get(at..at.saturating_add(4))
            .ok_or_else(|| wrong("its program headers are out of place"))?;
        if kind == PT_INTERP.to_le_bytes() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use model::ServiceId;

    use super::*;

    fn instance() -> InstanceId {
        InstanceId { service: ServiceId::from_bytes([1; 12]), number: 2 }
    }

    fn static_program() -> PathBuf {
        env::current_exe().expect("the test program has a path")
    }

    #[test]
    fn a_dynamic_program_is_refused_and_a_static_one_is_copied() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let refused = Gates::install(directory.path(), Path::new("/bin/sh"));
        assert!(matches!(refused, Err(GateError::NotStatic { .. })), "{refused:?}");
        let gates = Gates::install(directory.path(), &static_program()).expect("this build is static");
        let copied = fs::metadata(gates.program()).expect("it was copied");
        Gates::install(directory.path(), &static_program()).expect("this build is static");
        let again = fs::metadata(gates.program()).expect("it is still there");
        assert_eq!(copied.ino(), again.ino(), "an unchanged program is not copied again");
    }

    #[test]
    fn a_process_that_is_becoming_another_program_has_not_ended() {
        // Without a command line like one in the middle of `execve`, and alive: a thread of the kernel.
        assert_eq!(fs::read("/proc/2/cmdline").expect("kthreadd").len(), 0);
        assert_eq!(whereabouts(2), Whereabouts::Before);

        let mut child = std::process::Command::new("true").spawn().expect("every system has it");
        let stat = format!("/proc/{}/stat", child.id());
        while !fs::read_to_string(&stat).expect("not waited for").contains(") Z ") {
            std::thread::yield_now();
        }
        assert_eq!(whereabouts(child.id()), Whereabouts::Gone);
        child.wait().expect("it has ended");
        assert_eq!(whereabouts(child.id()), Whereabouts::Gone);
    }

    #[tokio::test]
    async fn a_process_that_has_passed_or_ended_is_told_apart() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let gates = Gates::install(directory.path(), &static_program()).expect("this build is static");
        gates.close(instance(), Generation(1)).expect("a pipe");
        gates.close(instance(), Generation(1)).expect("closing twice is closing");
        gates
            .open(instance(), Generation(1), std::process::id())
            .await
            .expect("this process is behind every gate");
        let gone = gates.open(instance(), Generation(1), u32::MAX).await;
        assert!(matches!(gone, Err(GateError::Ended)), "{gone:?}");
    }

    #[test]
    fn the_gate_opens_when_somebody_opens_the_pipe_and_not_before() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let gates = Gates { directory: directory.path().to_owned() };
        gates.close(instance(), Generation(1)).expect("a pipe");
        let pipe = gates.pipe(instance(), Generation(1));
        let waiting = std::thread::spawn({
            let pipe = pipe.to_str().expect("plain text").to_owned();
            move || wait_at(&pipe)
        });
        std::thread::sleep(Duration::from_millis(300));
        assert!(!waiting.is_finished(), "nobody has opened it");
        let open = || rustix::fs::open(&pipe, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty());
        while open().is_err() {
            std::thread::yield_now();
        }
        assert_eq!(waiting.join().expect("it does not panic").expect("it opens"), None);
    }

    #[test]
    fn a_signal_that_asks_to_end_ends_the_wait_at_the_gate() {
        use rustix::process::{Signal, getpid, kill_process};
        let directory = tempfile::tempdir().expect("a temporary directory");
        let gates = Gates { directory: directory.path().to_owned() };
        gates.close(instance(), Generation(1)).expect("a pipe");
        let pipe = gates.pipe(instance(), Generation(1)).to_str().expect("plain text").to_owned();
        // This process outlives the signal even when it comes before the gate hears it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let _handled = runtime.block_on(async { signal(SignalKind::user_defined1()) }).expect("a handler");
        let waiting = std::thread::spawn(move || wait_at(&pipe));
        while !waiting.is_finished() {
            kill_process(getpid(), Signal::USR1).expect("this process exists");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(waiting.join().expect("it does not panic").expect("it ends"), Some(10));
    }

    #[test]
    fn forgotten_gates_are_removed_up_to_a_generation() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let gates = Gates { directory: directory.path().to_owned() };
        for generation in 1..4 {
            gates.close(instance(), Generation(generation)).expect("a pipe");
            gates.put(instance(), Generation(generation), "hosts", "").expect("a file");
        }
        gates.forget(instance(), Generation(2));
        let third = gates.pipe(instance(), Generation(3));
        let mut left: Vec<_> =
            fs::read_dir(directory.path()).expect("there").flatten().map(|entry| entry.path()).collect();
        left.sort();
        assert_eq!(left, [third, gates.file(instance(), Generation(3), "hosts")]);
    }

    #[test]
    fn a_file_is_replaced_when_its_content_is_another_and_only_then() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let gates = Gates { directory: directory.path().to_owned() };
        let put = |content: &str| {
            gates.put(instance(), Generation(1), "hosts", content).expect("a file");
            let path = gates.file(instance(), Generation(1), "hosts");
            let there = fs::metadata(&path).expect("there");
            (fs::read_to_string(&path).expect("text"), there.mode() & 0o777, there.ino())
        };
        let (content, mode, first) = put("one");
        assert_eq!((content.as_str(), mode), ("one", 0o644));
        // One that a container has mounted goes on being what it was.
        let mounted = fs::File::open(gates.file(instance(), Generation(1), "hosts")).expect("there");
        assert_eq!(put("one").2, first);
        assert_eq!(put("two").0, "two");
        assert_eq!(io::read_to_string(mounted).expect("text"), "one");
        assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 1, "nothing half done is left");
    }
}
