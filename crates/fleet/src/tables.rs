//! More open files than one table of descriptors may hold: the limit counts per table, and a thread may have its own.

use std::{hint::black_box, io, sync::OnceLock, thread};

use anyhow::{Context, Result};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{UnshareFlags, unshare_unsafe},
};
use tokio::runtime::Builder;

/// Descriptors of a table that are left for files, timers and what comes and goes.
const SPARE: usize = 1_000;

/// Raises this process' limit as far as it may; how many descriptors a table then holds besides some spare ones.
pub(crate) fn room() -> Result<usize> {
    let limit = getrlimit(Resource::Nofile);
    if let (Some(current), Some(maximum)) = (limit.current, limit.maximum)
        && current < maximum
    {
        let raised = Rlimit { current: Some(maximum), maximum: Some(maximum) };
        setrlimit(Resource::Nofile, raised).context("raise the limit of open files")?;
    }
    let limit = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
    Ok(limit.unwrap_or(usize::MAX).saturating_sub(SPARE).max(1))
}

/// Runs `work` on a thread with a table of descriptors of its own, which threads that it starts share. It must use only
/// what it opens itself.
pub(crate) fn spawn<T: Send + 'static>(
    name: String,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> io::Result<thread::JoinHandle<Result<T>>> {
    // What is opened once per process (tokio's pipe for signals, the source of randomness) must be open before tables are
    // copied, so that its number means the same in all of them.
    static PREPARED: OnceLock<io::Result<()>> = OnceLock::new();
    let prepare = || {
        black_box((daemon::fresh_uuid(), daemon::fresh_service_id(), link::Backoff::default().wait()));
        Builder::new_current_thread().enable_io().build().map(drop)
    };
    if let Err(error) = PREPARED.get_or_init(prepare) {
        return Err(io::Error::new(error.kind(), error.to_string()));
    }
    thread::Builder::new().name(name).spawn(move || {
        leave_table().context("get a table of open files of its own")?;
        work()
    })
}

#[expect(
    unsafe_code,
    reason = "descriptors of other threads mean nothing here afterwards; none is handed over"
)]
fn leave_table() -> io::Result<()> {
    // SAFETY: the thread has just begun. What it works on is made by it, or holds no descriptor.
    unsafe { unshare_unsafe(UnshareFlags::FILES) }.map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsRawFd};

    use super::*;

    #[test]
    fn every_table_has_runtimes_and_randomness_that_work() {
        let port = || {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            black_box((daemon::fresh_uuid(), daemon::fresh_service_id(), link::Backoff::default().wait()));
            runtime.block_on(async { Ok(tokio::net::TcpListener::bind("127.0.0.1:0").await?.local_addr()?) })
        };
        let threads = [spawn("a".to_owned(), port), spawn("b".to_owned(), port)];
        for thread in threads {
            let bound = thread.expect("a thread").join().expect("no panic");
            assert!(bound.is_ok(), "{bound:?}");
        }
    }

    #[test]
    fn a_table_of_its_own_gives_out_numbers_that_are_taken_elsewhere() {
        let here: Vec<File> = (0..64).map(|_| File::open("/dev/null").expect("it is there")).collect();
        let highest = here.iter().map(AsRawFd::as_raw_fd).max().expect("some");
        // Before it leaves the table, a thread would continue above `highest`.
        let open = || Ok(File::open("/dev/null")?.as_raw_fd());
        let (first, second) = (spawn("a".to_owned(), open), spawn("b".to_owned(), open));
        let number = |thread: io::Result<thread::JoinHandle<Result<i32>>>| {
            thread.expect("a thread").join().expect("no panic").expect("a file")
        };
        let (first, second) = (number(first), number(second));
        assert!(first > highest && second > highest, "tables are copied: {first}, {second}");
        assert!(room().expect("limits are readable") > 0);
    }
}
