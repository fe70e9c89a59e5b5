//! What is kept beside the assignment: the history of the instances, and when the cluster was last heard of.
//!
//! Neither is worth refusing to start for: one that cannot be read is as good as none.

use std::{sync::Arc, time::Duration};

use daemon::StateDirectory;
use futures_util::FutureExt;
use model::Moment;
use node_core::{History, Node};
use rustix::time::{ClockId, clock_gettime};
use tokio::{task::JoinHandle, time::Instant};

const HISTORY: &str = "history.json";
const CONTACT: &str = "contact";
/// Between two saves: a hundred instances that end at once are one write.
const PAUSE: Duration = Duration::from_secs(1);
/// For a save under way that takes longer.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Keeps the history. May block: the service calls it where blocking is allowed.
pub trait HistoryStore: Send + Sync + std::fmt::Debug + 'static {
    /// The history saved last; an empty one when there is none or it makes no sense, which is logged.
    fn load(&self) -> History;

    /// Replaces it.
    ///
    /// # Errors
    /// It could not be made durable; the one before is still there.
    fn save(&self, history: &History) -> anyhow::Result<()>;

    /// Notes that the cluster was heard of at `sent`. Outlives this process, not a reboot: it costs the disk nothing.
    fn note_contact(&self, sent: Moment);

    /// When the cluster was last heard of by an earlier process since the device booted, in this process's steady
    /// time.
    fn last_contact(&self) -> Option<Moment>;
}

/// Files in the state directory.
#[derive(Debug)]
pub struct HistoryFile {
    directory: Arc<StateDirectory>,
}

impl HistoryFile {
    /// The files in `directory`, which need not be there yet.
    #[must_use]
    pub const fn new(directory: Arc<StateDirectory>) -> Self {
        Self { directory }
    }
}

impl HistoryStore for HistoryFile {
    fn load(&self) -> History {
        let path = self.directory.path().join(HISTORY);
        let lost = |error: &(dyn std::error::Error + 'static)| {
            tracing::warn!(
                path = %path.display(),
                error = %daemon::chain(error),
                "the history of the instances is lost; restarts are counted from zero"
            );
            History::default()
        };
        match self.directory.read_file(HISTORY) {
            Ok(Some(content)) => serde_json::from_slice(&content).unwrap_or_else(|error| lost(&error)),
            Ok(None) => {
                tracing::debug!("there is no history of the instances");
                History::default()
            }
            Err(error) => lost(&error),
        }
    }

    fn save(&self, history: &History) -> anyhow::Result<()> {
        use anyhow::Context;
        let content = serde_json::to_vec(history).context("write the history as JSON")?;
        self.directory.replace_file(HISTORY, &content).context("save the history")
    }

    fn note_contact(&self, sent: Moment) {
        let Some(boot) = boot_id() else { return };
        let ago = daemon::present().moment.millis_since(sent);
        let note = format!("{boot} {}\n", millis_since_boot().saturating_sub(ago));
        // Left to the kernel to write out some time: it outlives this process at once, and no boot.
        if let Err(error) = std::fs::write(self.directory.path().join(CONTACT), note) {
            tracing::debug!(%error, "the last contact is not noted");
        }
    }

    fn last_contact(&self) -> Option<Moment> {
        let content = self.directory.read_file(CONTACT).ok()??;
        let ago = millis_since(std::str::from_utf8(&content).ok()?, &boot_id()?, millis_since_boot())?;
        Some(Moment(daemon::present().moment.0.saturating_sub(ago)))
    }
}

/// Saves the history when it has changed, beside everything else and not more often than the disk can bear.
#[derive(Debug)]
pub(crate) struct Keeper {
    store: Arc<dyn HistoryStore>,
    /// The revision saved last.
    saved: Option<u64>,
    saving: Option<(u64, JoinHandle<bool>)>,
    not_before: Instant,
    failing: bool,
}

impl Keeper {
    pub(crate) fn new(store: Arc<dyn HistoryStore>) -> Self {
        Self { store, saved: None, saving: None, not_before: Instant::now(), failing: false }
    }

    /// Begins to save what is new, if it is time to; returns when to call again.
    pub(crate) fn keep(&mut self, node: &Node) -> Option<Instant> {
        self.take_result();
        let revision = node.history_revision();
        if self.saved == Some(revision) {
            return None;
        }
        let now = Instant::now();
        if self.saving.is_some() || now < self.not_before {
            return Some(self.not_before.max(now + LOOK_AGAIN));
        }
        self.not_before = now + PAUSE;
        let (store, history) = (Arc::clone(&self.store), node.history());
        let task = tokio::task::spawn_blocking(move || match store.save(&history) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "the history is not saved");
                false
            }
        });
        self.saving = Some((revision, task));
        Some(self.not_before)
    }

    /// Saves what is new before the end.
    pub(crate) async fn keep_the_last(&mut self, node: &Node) {
        if let Some((_, task)) = self.saving.take() {
            drop(task.await);
        }
        self.not_before = Instant::now();
        self.keep(node);
        if let Some((_, task)) = self.saving.take() {
            drop(task.await);
        }
    }

    fn take_result(&mut self) {
        let Some((revision, task)) = self.saving.take_if(|(_, task)| task.is_finished()) else { return };
        // It has finished, so this does not wait.
        let saved = task.now_or_never().and_then(Result::ok).unwrap_or(false);
        if saved {
            self.saved = Some(revision);
        }
        if saved == self.failing {
            self.failing = !saved;
            if saved {
                tracing::info!("the history of the instances is saved again");
            } else {
                tracing::warn!("the history of the instances cannot be saved; trying again");
            }
        }
    }
}

/// How long ago a note was made; `None` for one of another boot or from the future.
fn millis_since(note: &str, boot: &str, now: u64) -> Option<u64> {
    let (noted_boot, at) = note.trim().split_once(' ')?;
    (noted_boot == boot).then_some(())?;
    now.checked_sub(at.parse().ok()?)
}

fn boot_id() -> Option<String> {
    std::fs::read_to_string(BOOT_ID).ok().map(|id| id.trim().to_owned())
}

/// Goes on while the device sleeps, and is the same for every process.
fn millis_since_boot() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or(0) * 1000 + nanos.unwrap_or(0) / 1_000_000
}

#[cfg(test)]
mod tests {
    use model::{InstanceId, ServiceId};
    use node_core::{Past, Remembered};

    use super::*;

    fn file(directory: &std::path::Path) -> HistoryFile {
        HistoryFile::new(Arc::new(StateDirectory::open(directory).expect("nobody else has it")))
    }

    #[test]
    fn the_history_is_found_again_and_a_broken_one_is_as_good_as_none() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let file = file(parent.path());
        assert_eq!(file.load(), History::default());
        let instance = InstanceId { service: ServiceId::from_bytes([1; 12]), number: 2 };
        let past = Past { restarts: 7, attempts: 3, ..Past::default() };
        let history = History { instances: vec![Remembered { instance, past }] };
        file.save(&history).expect("writable");
        assert_eq!(file.load(), history);
        for broken in ["", "{", "[]", "{\"instances\":7}", "\0\0\0\0"] {
            std::fs::write(parent.path().join(HISTORY), broken).expect("writable");
            assert_eq!(file.load(), History::default(), "{broken:?}");
        }
    }

    #[test]
    fn the_last_contact_outlives_the_process_and_not_the_boot() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let file = file(parent.path());
        assert_eq!(file.last_contact(), None);
        let sent = Moment(daemon::present().moment.0 - 5000);
        file.note_contact(sent);
        let found = file.last_contact().expect("of this boot");
        assert!(found.0.abs_diff(sent.0) < 1000, "{found:?} is not {sent:?}");
        assert_eq!(millis_since("boot 100\n", "boot", 350), Some(250));
        assert_eq!(millis_since("boot 100\n", "another", 350), None);
        assert_eq!(millis_since("boot 400\n", "boot", 350), None, "from the future");
        assert_eq!(millis_since("nonsense", "boot", 350), None);
    }
}
