//! What outlives NodeEngine beside the assignment: how often instances were started again, and how they ended. Without
//! it everything still runs; only the counts begin at zero and a pause between two starts is shorter than it should be.

use model::{InstanceId, LastExit, Output};
use serde::{Deserialize, Serialize};

use crate::{ContainerId, Node, StopCause, tracked::Tracked};

/// The past of all instances of this device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// In order of their ids; those with nothing to remember are left out.
    pub instances: Vec<Remembered>,
}

/// The past of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Which.
    pub instance: InstanceId,
    /// What is remembered of it.
    #[serde(flatten)]
    pub past: Past,
}

/// What is remembered of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Past {
    /// How often it was started again.
    pub restarts: u32,
    /// Its place in the growing pauses between starts.
    pub attempts: u32,
    /// How it last ended. Its output is where it was written, and not kept a second time.
    pub last_exit: Option<LastExit>,
    /// Its last words, and what it wrote as its output, were still to be read.
    pub unread: bool,
    /// Why its container was stopped, if it was and was not started since.
    pub stopped: Option<StopCause>,
    /// What was known of the health of the container that ran.
    pub run: Option<KnownRun>,
}

/// The health of a container that ran when this was written. A container that NodeEngine finds running when it comes
/// back goes on with it, so that a restart of NodeEngine makes nothing unready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownRun {
    /// The engine's id of it.
    pub container: String,
    /// Its start probe had succeeded.
    pub started: bool,
    /// It counted as ready.
    pub ready: bool,
}

impl Node {
    /// What the shell keeps for the next NodeEngine; it need not be durable at once.
    #[must_use]
    pub fn history(&self) -> History {
        let remembered = self.instances.iter().filter(|(_, tracked)| tracked.past != Past::default());
        let remembered =
            remembered.map(|(id, tracked)| Remembered { instance: *id, past: tracked.past.clone() });
        History { instances: remembered.collect() }
    }

    /// Grows whenever [`Node::history`] would say something new.
    #[must_use]
    pub const fn history_revision(&self) -> u64 {
        self.history_revision
    }
}

impl Tracked {
    /// An instance that goes on where an earlier NodeEngine left off.
    pub(crate) fn remembered(past: Past) -> Self {
        Self {
            restarts: past.restarts,
            attempts: past.attempts,
            last_exit: past.last_exit.clone(),
            stopped: past.stopped.clone(),
            known_run: past.run.clone(),
            past,
            ..Self::default()
        }
    }

    /// Brings what is to be remembered up to date; whether it changed.
    pub(crate) fn remember(&mut self) -> bool {
        let run = self.run_to_remember();
        // Until its container was found there is nothing to read.
        let unread = if self.containers.is_empty() { self.past.unread } else { self.last_words.is_some() };
        let same = self.past.restarts == self.restarts
            && self.past.attempts == self.attempts
            && is_remembered(self.past.last_exit.as_ref(), self.last_exit.as_ref())
            && self.past.unread == unread
            && self.past.stopped == self.stopped
            && self.past.run == run;
        if !same {
            let output = |exit: &LastExit| exit.output.as_ref().map(to_remember);
            let last_exit =
                self.last_exit.as_ref().map(|exit| LastExit { output: output(exit), ..exit.clone() });
            let stopped = self.stopped.clone();
            self.past =
                Past { restarts: self.restarts, attempts: self.attempts, last_exit, unread, stopped, run };
        }
        !same
    }

    fn run_to_remember(&self) -> Option<KnownRun> {
        // Until the containers of this device were listed once, what was remembered is all there is.
        if self.containers.is_empty() {
            return self.known_run.clone();
        }
        let (ContainerId(id), container) = self.current()?;
        if !container.is_running() {
            return None;
        }
        let ready = self.reported.as_ref().is_some_and(|report| report.ready);
        Some(KnownRun { container: id.clone(), started: container.probing.has_started(), ready })
    }
}

/// Asked of every instance that is looked at: nothing that is long is copied.
fn is_remembered(past: Option<&LastExit>, exit: Option<&LastExit>) -> bool {
    match (past, exit) {
        (Some(past), Some(exit)) => {
            (past.code, past.at, &past.tail) == (exit.code, exit.at, &exit.tail)
                && past.output == exit.output.as_ref().map(to_remember)
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn to_remember(output: &Output) -> Output {
    match output {
        Output::Text(_) | Output::AsTold => Output::AsTold,
        Output::Withheld(why) => Output::Withheld(why.clone()),
    }
}
