//! The secret NodeEngine shows to the local API: a file only root can read.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// 32 random bytes.
const BYTES: usize = 32;

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalKeyError {
    /// It cannot be made or read.
    #[error("local key {} cannot be made or read; check the directory or pass another --local-key", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("local key {} does not hold {} hexadecimal digits; remove it and start again", path.display(), BYTES * 2)]
    NotAKey {
        /// Which.
        path: PathBuf,
    },
}

/// The key at `path`, made with mode 0600 if there is none.
///
/// # Errors
/// When the file cannot be made or read, or is no key.
pub fn load_or_make(path: &Path) -> Result<String, LocalKeyError> {
    let unusable = |source| LocalKeyError::Unusable { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(unusable)?;
    }
    match OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let key = daemon::random_hex::<BYTES>();
            file.write_all(key.as_bytes()).map_err(unusable)?;
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(path),
        Err(error) => Err(unusable(error)),
    }
}

/// The key at `path`.
///
/// # Errors
/// When there is none, or it cannot be read, or is no key.
pub fn read(path: &Path) -> Result<String, LocalKeyError> {
    let key = std::fs::read_to_string(path)
        .map_err(|source| LocalKeyError::Unusable { path: path.to_owned(), source })?;
    let key = key.trim();
    let valid = key.len() == BYTES * 2 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
    if valid { Ok(key.to_owned()) } else { Err(LocalKeyError::NotAKey { path: path.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_reads_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("run/net-manager.key");
        let key = load_or_make(&path).expect("a new key");
        assert_eq!(load_or_make(&path).expect("the same key"), key);
        let mode = std::fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, "short").expect("writable");
        assert!(matches!(load_or_make(&path), Err(LocalKeyError::NotAKey { .. })));
    }
}
