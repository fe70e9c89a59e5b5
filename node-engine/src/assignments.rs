//! The last assignment, kept so that the device starts what it should even when nobody can be asked, with what was removed
//! before.

use std::sync::Arc;

use daemon::{StateDirectory, TwinFile};
use node_core::Held;

const FILE: &str = "assignment.json";

/// Keeps one assignment, with what belongs to it. May block: the service calls it where blocking is allowed.
pub trait AssignmentStore: Send + Sync + std::fmt::Debug + 'static {
    /// The assignment saved last, if any.
    ///
    /// # Errors
    /// There is one and it cannot be read.
    fn load(&self) -> anyhow::Result<Option<Held>>;

    /// Replaces it; once this returns it survives a power cut.
    ///
    /// # Errors
    /// It could not be made durable; the one before is still there.
    fn save(&self, held: &Held) -> anyhow::Result<()>;
}

/// A file in the state directory. It is replaced before anything new is begun, so what the disk needs for it is waited for.
#[derive(Debug)]
pub struct AssignmentFile {
    directory: Arc<StateDirectory>,
    file: TwinFile,
}

impl AssignmentFile {
    /// The file in `directory`, which need not be there yet.
    #[must_use]
    pub fn new(directory: Arc<StateDirectory>) -> Self {
        Self { file: TwinFile::new(Arc::clone(&directory), FILE), directory }
    }
}

impl AssignmentStore for AssignmentFile {
    fn load(&self) -> anyhow::Result<Option<Held>> {
        use anyhow::Context;
        let advice = |action: &str| {
            let path = self.directory.path().join(FILE);
            format!(
                "{action} the last assignment in {0} and {0}.other; move both away to start with none",
                path.display()
            )
        };
        let content = self.file.read().with_context(|| advice("read"))?;
        let parse = |content: Vec<u8>| serde_json::from_slice(&content).with_context(|| advice("understand"));
        content.map(parse).transpose()
    }

    fn save(&self, held: &Held) -> anyhow::Result<()> {
        use anyhow::Context;
        let content = serde_json::to_vec(held).context("write the assignment as JSON")?;
        self.file.replace(&content).context("save the assignment")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use model::{Assignment, Generation, InstanceId, ServiceId};

    use super::*;

    #[test]
    fn the_last_assignment_is_found_again() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let open = || Arc::new(StateDirectory::open(parent.path()).expect("nobody else has it"));
        let file = AssignmentFile::new(open());
        assert_eq!(file.load().expect("nothing is no error"), None);
        let assignment = Assignment { generation: Generation(7), ..Assignment::default() };
        let gone = InstanceId { service: ServiceId::from_bytes([1; 12]), number: 3 };
        let held = Held { assignment, buried: VecDeque::from([(gone, Generation(2))]) };
        file.save(&held).expect("writable");
        drop(file);
        assert_eq!(AssignmentFile::new(open()).load().expect("readable"), Some(held));
    }

    #[test]
    fn what_was_saved_before_there_were_tombstones_in_it_is_readable() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let directory = Arc::new(StateDirectory::open(parent.path()).expect("nobody else has it"));
        let assignment = Assignment { generation: Generation(7), ..Assignment::default() };
        let before = serde_json::to_vec(&assignment).expect("it serialises");
        directory.replace_file(FILE, &before).expect("writable");
        let held = AssignmentFile::new(directory).load().expect("readable");
        assert_eq!(held, Some(Held { assignment, ..Held::default() }));
    }
}
