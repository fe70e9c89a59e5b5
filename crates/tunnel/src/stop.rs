//! How threads wait for the kernel, and are told to end.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// Set once, seen by all threads of a tunnel.
#[derive(Debug)]
pub(crate) struct Stop {
    /// For threads that wait.
    event: OwnedFd,
    /// For threads that never have to.
    flag: AtomicBool,
}

/// What a wait ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The tunnel is to end.
    Stopped,
    /// There is something to do, or the time is up.
    Ready,
}

impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { event, flag: AtomicBool::new(false) })
    }

    pub(crate) fn set(&self) {
        self.flag.store(true, Ordering::Relaxed);
        // It can only fail when the counter is full, and then it is set.
        let _already_set = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    pub(crate) fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// Waits until `file` is ready, at most `timeout`.
    pub(crate) fn wait_for(&self, file: BorrowedFd<'_>, readiness: PollFlags, timeout: Duration) -> Wake {
        self.poll(&mut [PollFd::new(&self.event, PollFlags::IN), PollFd::new(&file, readiness)], timeout)
    }

    /// Waits for `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) -> Wake {
        self.poll(&mut [PollFd::new(&self.event, PollFlags::IN)], timeout)
    }

    /// The first of `files` is the event.
    fn poll(&self, files: &mut [PollFd<'_>], timeout: Duration) -> Wake {
        let timeout = Timespec::try_from(timeout).ok();
        // An interrupted wait is a short one.
        let _interrupted = poll(files, timeout.as_ref());
        if files[0].revents().contains(PollFlags::IN) { Wake::Stopped } else { Wake::Ready }
    }
}
