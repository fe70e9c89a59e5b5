//! Places for stores of one test.

use std::{env, sync::Arc};

use store::{Document, Expect, History, Holder, MongoStore, Revision, SqliteStore, Store, StoreError, Write};
use tempfile::TempDir;

pub(crate) const THINGS: &str = "things";

/// Where the stores of one test are; it is gone with it.
pub(crate) enum Place {
    Sqlite(TempDir),
    MongoDb(Database),
}

/// A database of a test's own.
pub(crate) struct Database {
    /// As of the server.
    server: String,
    name: String,
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn mongodb() -> Self {
        Self::MongoDb(Database::fresh())
    }

    /// Opens the store as it would be after a restart.
    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        self.open_keeping(History::USUAL).await.expect("a store")
    }

    pub(crate) async fn open_keeping(&self, history: History) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            Self::Sqlite(directory) => {
                Arc::new(SqliteStore::open(&directory.path().join("store.sqlite"), history)?)
            }
            Self::MongoDb(database) => Arc::new(database.open("the tests", history).await?),
        })
    }

    /// As another process is told of it.
    pub(crate) fn tell(&self) -> String {
        match self {
            Self::Sqlite(directory) => directory.path().display().to_string(),
            Self::MongoDb(database) => database.name.clone(),
        }
    }

    /// The same store, in the process that was told.
    pub(crate) async fn open_told(told: &str) -> Arc<dyn Store> {
        if told.contains('/') {
            let path = std::path::Path::new(told).join("store.sqlite");
            return Arc::new(SqliteStore::open(&path, History::USUAL).expect("a store"));
        }
        let database = Database { server: server(), name: told.to_owned() };
        Arc::new(database.open("the tests", History::USUAL).await.expect("a store"))
    }
}

fn server() -> String {
    env::var("MANGROVE_TEST_MONGODB").expect(
        "MANGROVE_TEST_MONGODB names no MongoDB for tests, such as mongodb://127.0.0.1:27017; \
         `scripts/test workspace` installs and starts one",
    )
}

impl Database {
    pub(crate) fn fresh() -> Self {
        Self { server: server(), name: format!("test_{}", daemon::random_hex::<8>()) }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/{}", self.server.trim_end_matches('/'), self.name)
    }

    /// Host and port of the server.
    pub(crate) fn address(&self) -> &str {
        self.server.trim_start_matches("mongodb://").trim_end_matches('/')
    }

    /// The same database by another way.
    pub(crate) fn url_by(&self, address: std::net::SocketAddr) -> String {
        format!("mongodb://{address}/{}?heartbeatFrequencyMS=500", self.name)
    }

    pub(crate) async fn open(&self, holder: &str, history: History) -> Result<MongoStore, StoreError> {
        open_at(&self.url(), holder, history).await
    }
}

pub(crate) async fn open_at(url: &str, holder: &str, history: History) -> Result<MongoStore, StoreError> {
    let holder = Holder { id: holder.to_owned(), shown: holder.to_owned() };
    MongoStore::open(url, holder, history).await
}

/// A write of a thing.
pub(crate) fn write(key: &str, value: &str, expect: Expect) -> Write {
    Write { collection: THINGS, key: key.to_owned(), value: Some(value.into()), expect }
}

pub(crate) fn put(key: &str, value: &str) -> Write {
    write(key, value, Expect::Anything)
}

pub(crate) fn remove(key: &str) -> Write {
    Write { collection: THINGS, key: key.to_owned(), value: None, expect: Expect::Anything }
}

/// All things, in words: `a=1`.
pub(crate) async fn things(store: &dyn Store) -> Vec<String> {
    words(&store.list(THINGS).await.expect("listed"))
}

/// The same as of a revision.
pub(crate) async fn things_at(store: &dyn Store, at: Revision) -> Result<Vec<String>, StoreError> {
    store.list_at(THINGS, at).await.map(|documents| words(&documents))
}

fn words(documents: &[Document]) -> Vec<String> {
    let word = |it: &Document| format!("{}={}", it.key, String::from_utf8_lossy(&it.value));
    documents.iter().map(word).collect()
}
