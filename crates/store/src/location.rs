//! Where a store is, as it is given at start.

use std::{fmt, fs, path::Path, sync::Arc};

use daemon::StateDirectory;

use crate::{History, MongoStore, SqliteStore, Store, StoreError, mongo::Holder};

/// The embedded store's file in the state directory.
const FILE: &str = "store.sqlite";
/// What makes two starts with one state directory the same holder of a store elsewhere.
const HOLDER_FILE: &str = "store.holder";

/// `sqlite`, or the URL of a MongoDB. Not looked at until it is opened, and printed nowhere: it may hold a password.
#[derive(Clone)]
pub struct Location(String);

impl Location {
    /// In the state directory.
    #[must_use]
    pub fn embedded() -> Self {
        Self("sqlite".to_owned())
    }

    /// Opens the store and takes it over for whoever has this state directory; its embedded store is there.
    ///
    /// # Errors
    /// When the text is no place of a store, the store cannot be used, or another state directory's daemon uses it.
    pub async fn open(
        &self,
        directory: &StateDirectory,
        history: History,
    ) -> Result<Arc<dyn Store>, StoreError> {
        let text = self.0.trim();
        if text == "sqlite" {
            return Ok(Arc::new(SqliteStore::open(&directory.path().join(FILE), history)?));
        }
        if text.starts_with("mongodb+srv://") {
            let words = "URLs with mongodb+srv are not resolved; name the servers, as mongodb://HOST,HOST/…";
            return Err(StoreError::Place(words.to_owned()));
        }
        if !text.starts_with("mongodb://") {
            let words = "it is neither `sqlite` nor a URL that begins with mongodb://";
            return Err(StoreError::Place(words.to_owned()));
        }
        warn_of_embedded(directory.path());
        let holder = holder(directory).map_err(|error| StoreError::Backend(Box::new(error)))?;
        Ok(Arc::new(MongoStore::open(text, holder, history).await?))
    }
}

impl Default for Location {
    fn default() -> Self {
        Self::embedded()
    }
}

impl From<String> for Location {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Location")
    }
}

/// Documents do not move by themselves: who changes the place should know that these stay behind.
fn warn_of_embedded(directory: &Path) {
    let file = directory.join(FILE);
    if file.exists() {
        tracing::warn!(
            file = %file.display(),
            "there is an embedded store too, which is not used: what it holds does not move by itself"
        );
    }
}

fn holder(directory: &StateDirectory) -> std::io::Result<Holder> {
    let id = match directory.read_file(HOLDER_FILE)? {
        Some(id) => String::from_utf8_lossy(&id).trim().to_owned(),
        None => {
            let id = daemon::fresh_uuid().to_string();
            directory.replace_file(HOLDER_FILE, id.as_bytes())?;
            id
        }
    };
    // For people only; a machine without a name is told by the directory.
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Ok(Holder {
        id,
        shown: format!("{} with the state directory {}", host.trim(), directory.path().display()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_place_is_refused_and_not_repeated() {
        let parent = tempfile::tempdir().expect("a directory");
        let directory = StateDirectory::open(&parent.path().join("state")).expect("usable");
        let wrong = [
            "postgres://admin:hunter2@db",
            "mongodb+srv://admin:hunter2@db",
            "mongodb://admin:hunter2@",
            "mongodb://admin:hunter2@db:hunter2",
        ];
        for wrong in wrong {
            let location = Location::from(wrong.to_owned());
            let error = location.open(&directory, History::USUAL).await.err().expect("refused");
            let told = format!("{location:?} {error:?} {}", daemon::chain(&error));
            assert!(matches!(error, StoreError::Place(_)), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}
