//! The embedded backend: one SQLite file in WAL mode, one writer thread, group commit.
//!
//! Commits that arrive while another is being made durable share the next `fsync`: one transaction takes all of them in,
//! and one that does not find what it expects leaves its neighbours alone (`settle.rs`). What is asked of the file is in
//! `sqlite/file.rs`.

mod file;

use std::{path::Path, sync::Arc, thread};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    History, Revision, StoreError, Write,
    loss::Loser,
    queued::{Asked, QueuedStore, Reply, Request},
};
use file::File;

/// How many waiting commits share one `fsync`: enough for a burst, few enough to keep the wait short.
const GROUP: usize = 256;

/// The backend of a [`SqliteStore`].
#[derive(Debug)]
pub enum Sqlite {}

/// A [`Store`](crate::Store) in one SQLite file, which is closed after the last commit.
pub type SqliteStore = QueuedStore<Sqlite>;

impl QueuedStore<Sqlite> {
    /// Opens or makes the file, and takes it over from whoever has it open.
    ///
    /// # Errors
    /// When the file cannot be opened, is not a store, or was written by a later version.
    pub fn open(path: &Path, history: History) -> Result<Self, StoreError> {
        let file = File::open(Connection::open(path).map_err(backend)?, history)?;
        let (store, Asked { requests, announce, lose }) = Self::new(file.newest());
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || Writer { file, announce, lose }.serve(requests))
            .map_err(|error| StoreError::Backend(Box::new(error)))?;
        Ok(store)
    }
}

struct Writer {
    file: File,
    announce: watch::Sender<Revision>,
    lose: Loser,
}

impl Writer {
    fn serve(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let (mut group, mut replies) = (Vec::new(), Vec::new());
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    Request::Commit { writes, reply } => {
                        group.push(writes);
                        replies.push(reply);
                    }
                    // A read sees every commit asked for before it.
                    Request::List { collection, at, reply } => {
                        self.commit_group(&mut group, &mut replies);
                        answer(reply, self.file.list(&collection, at));
                    }
                    Request::Page { collection, page, reply } => {
                        self.commit_group(&mut group, &mut replies);
                        answer(reply, self.file.page(&collection, &page));
                    }
                    Request::Changes { after, limit, reply } => {
                        self.commit_group(&mut group, &mut replies);
                        answer(reply, self.file.changes(after, limit));
                    }
                }
                next = if group.len() < GROUP { requests.try_recv().ok() } else { None };
            }
            self.commit_group(&mut group, &mut replies);
        }
    }

    fn commit_group(&mut self, group: &mut Vec<Vec<Write>>, replies: &mut Vec<Reply<Revision>>) {
        if group.is_empty() {
            return;
        }
        let before = self.file.newest();
        match self.file.commit(group) {
            Ok(outcomes) => {
                if self.file.newest() > before {
                    self.announce.send_replace(self.file.newest());
                }
                for (reply, outcome) in replies.drain(..).zip(outcomes) {
                    answer(reply, outcome);
                }
            }
            Err(error) => {
                for reply in replies.drain(..) {
                    answer(reply, Err(error.again()));
                }
                if matches!(error, StoreError::TakenOver) {
                    self.lose.send_replace(Some(Arc::new(error)));
                }
            }
        }
        group.clear();
    }
}

fn backend(error: rusqlite::Error) -> StoreError {
    StoreError::Backend(Box::new(error))
}

fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    // The caller may have given up waiting; what it asked for has happened all the same.
    drop(reply.send(value));
}
