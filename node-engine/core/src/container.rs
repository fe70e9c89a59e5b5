//! A container as the engine shows it.

use std::fmt;

use model::{Generation, InstanceId, Timestamp};

/// The engine's own id of a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(pub String);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Twelve digits are what the engine's own tools show.
        f.write_str(self.0.get(..12).unwrap_or(&self.0))
    }
}

/// A container that carries Mangrove's labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSeen {
    /// The engine's id.
    pub id: ContainerId,
    /// The instance it was made for, by its label.
    pub instance: InstanceId,
    /// The generation it was made for, by its label.
    pub generation: Generation,
    /// What it does.
    pub state: ContainerState,
    /// What the engine makes of its image's HEALTHCHECK; `None` when it has none, or does not run.
    pub health: Option<ImageHealth>,
}

/// What the engine makes of an image's HEALTHCHECK. How often it is asked and how many failures count is the image's
/// to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageHealth {
    /// It has neither succeeded nor failed often enough since the start.
    Starting,
    /// It succeeds.
    Healthy,
    /// It failed as often as the image allows.
    Unhealthy,
}

/// What a container does. Times are the engine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Made and never started.
    Created,
    /// Its process exists.
    Running {
        /// When it was started.
        since: Timestamp,
        /// Its process waits at the start gate for its network. Always false without an overlay.
        held: bool,
    },
    /// Its process ended.
    Exited(Exit),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit code; 128 + n after signal n.
    pub code: i64,
    /// The kernel killed it for want of memory.
    pub out_of_memory: bool,
    /// When.
    pub at: Timestamp,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exited with code {}", self.code)?;
        match (self.out_of_memory, self.code) {
            (true, _) => f.write_str(": it needed more memory than its limit"),
            (false, 126) => f.write_str(": its command cannot be executed"),
            (false, 127) => f.write_str(": its command was not found in the image"),
            (false, _) => Ok(()),
        }
    }
}
