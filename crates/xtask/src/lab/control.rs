//! How a host's init is spoken to: one line of JSON each way over a socket that machine and host share. The other end
//! is in `init.rs`.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use super::plan::Process;

/// An init does nothing that takes longer than to start a process.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// What an init can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    /// Start everything in the plan that was not in it before.
    Boot,
    /// End a process without giving it a chance to tidy up.
    Kill { process: Process, then: Then },
    /// Start one that does not run.
    Start(Process),
    /// Tell what runs.
    Status,
}

/// What follows when a process has been killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Then {
    /// It is started again as always.
    #[default]
    Restart,
    /// It is started again this long after it was killed.
    RestartAfter { milliseconds: u64 },
    /// It is not started again until somebody asks for it.
    Nothing,
}

/// How a process fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) process: Process,
    pub(crate) state: State,
    /// How often it was started since the host is on.
    pub(crate) starts: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// With its id as the host sees it.
    Runs { id: u32 },
    /// It has ended and is started again soon.
    Waits { milliseconds: u64 },
    /// It has been killed for good.
    Stopped,
}

/// What an init answers: how everything fares after what was asked for, or why it was not done.
pub(crate) type Answer = std::result::Result<Vec<Told>, String>;

/// Asks the init behind `socket`.
///
/// # Errors
/// It does not answer, or says no.
pub(crate) fn ask(socket: &Path, request: &Request) -> Result<Vec<Told>> {
    let asking = || -> Result<Answer> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
        stream.set_write_timeout(Some(ANSWERED_WITHIN))?;
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        stream.write_all(line.as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    };
    asking().with_context(|| format!("ask the init behind {}", socket.display()))?.map_err(|no| anyhow!(no))
}
