//! The directory a daemon owns alone: keys, store, last assignment.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// A state directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirectoryError {
    /// It cannot be made or opened.
    #[error("state directory {} cannot be used; check that it exists, is writable and belongs to this user", path.display())]
    Unusable {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon has it.
    #[error("state directory {} is in use by another process; stop it or pass another --state-dir", path.display())]
    InUse {
        /// Which one.
        path: PathBuf,
    },
}

/// A directory with mode 0700 that this process holds a lock on until it is dropped.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    _lock: File,
}

impl StateDirectory {
    /// Makes the directory if it is missing and locks it.
    ///
    /// # Errors
    /// When it cannot be made or another process holds it.
    pub fn open(path: &Path) -> Result<Self, StateDirectoryError> {
        let unusable = |source| StateDirectoryError::Unusable { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateDirectoryError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces a file in it with mode 0600, durably: after a crash there is the old content or the new.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn replace_file(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.replace_file_for_now(name, content)?;
        File::open(&self.path)?.sync_all()
    }

    /// As [`StateDirectory::replace_file`], but after a crash of the device, other than of the daemon, there may be the old
    /// content for some seconds yet. That takes a third of the time: for what such a crash makes void.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn replace_file_for_now(&self, name: &str, content: &[u8]) -> io::Result<()> {
        use std::io::Write;
        let temporary = self.path.join(format!("{name}.new"));
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, self.path.join(name))
    }

    /// Reads a file in it; `None` when there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read_file(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.path.join(name)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_use_is_refused() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let path = parent.path().join("state");
        let first = StateDirectory::open(&path).expect("a new directory");
        assert!(matches!(StateDirectory::open(&path), Err(StateDirectoryError::InUse { .. })));
        drop(first);
        assert!(StateDirectory::open(&path).is_ok());
    }

    #[test]
    fn a_replaced_file_reads_back_and_an_absent_one_is_none() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(parent.path()).expect("an existing directory");
        assert_eq!(state.read_file("a").expect("readable"), None);
        state.replace_file("a", b"one").expect("writable");
        state.replace_file_for_now("a", b"two").expect("writable");
        assert_eq!(state.read_file("a").expect("readable"), Some(b"two".to_vec()));
    }
}
