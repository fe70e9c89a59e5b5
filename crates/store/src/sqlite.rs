//! The embedded backend: one SQLite file in WAL mode, one writer thread, group commit.
//!
//! Commits that arrive while another is being made durable share the next `fsync`: one transaction takes all of them in,
//! and one that does not find what it expects leaves its neighbours alone (`settle.rs`). What is asked of the file is in
//! `sqlite/file.rs`.

mod file;

use std::{
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use crate::{
    BoxFuture, Change, Document, History, Page, Revision, Store, StoreError, Write,
    loss::{self, Loser, Loss},
};
use file::File;

/// How many waiting commits share one `fsync`: enough for a burst, few enough to keep the wait short.
const GROUP: usize = 256;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

enum Request {
    List { collection: String, at: Option<Revision>, reply: Reply<Vec<Document>> },
    Page { collection: String, page: Page, reply: Reply<Vec<Document>> },
    Commit { writes: Vec<Write>, reply: Reply<Revision> },
    Changes { after: Revision, limit: usize, reply: Reply<Vec<Change>> },
}

/// A [`Store`] in one SQLite file. Dropping it closes the file after the last commit.
#[derive(Debug)]
pub struct SqliteStore {
    requests: Sender<Request>,
    revisions: watch::Receiver<Revision>,
    loss: Loss,
}

impl SqliteStore {
    /// Opens or makes the file, and takes it over from whoever has it open.
    ///
    /// # Errors
    /// When the file cannot be opened, is not a store, or was written by a later version.
    pub fn open(path: &Path, history: History) -> Result<Self, StoreError> {
        let file = File::open(Connection::open(path).map_err(backend)?, history)?;
        let (requests, received) = channel();
        let (announce, revisions) = watch::channel(file.newest());
        let (lose, loss) = loss::channel();
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || Writer { file, announce, lose }.serve(&received))
            .map_err(|error| StoreError::Backend(Box::new(error)))?;
        Ok(Self { requests, revisions, loss })
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).map_err(|_| self.loss.why())?;
        answer.await.map_err(|_| self.loss.why())?
    }
}

impl Store for SqliteStore {
    fn list<'a>(&'a self, collection: &'a str) -> BoxFuture<'a, Result<Vec<Document>, StoreError>> {
        Box::pin(self.ask(move |reply| Request::List { collection: collection.to_owned(), at: None, reply }))
    }

    fn list_at<'a>(
        &'a self,
        collection: &'a str,
        at: Revision,
    ) -> BoxFuture<'a, Result<Vec<Document>, StoreError>> {
        let collection = collection.to_owned();
        Box::pin(self.ask(move |reply| Request::List { collection, at: Some(at), reply }))
    }

    fn page<'a>(
        &'a self,
        collection: &'a str,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Document>, StoreError>> {
        Box::pin(self.ask(move |reply| Request::Page { collection: collection.to_owned(), page, reply }))
    }

    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(self.ask(move |reply| Request::Commit { writes, reply }))
    }

    fn changes(&self, after: Revision, limit: usize) -> BoxFuture<'_, Result<Vec<Change>, StoreError>> {
        Box::pin(self.ask(move |reply| Request::Changes { after, limit, reply }))
    }

    fn revisions(&self) -> watch::Receiver<Revision> {
        self.revisions.clone()
    }

    fn lost(&self) -> BoxFuture<'_, StoreError> {
        self.loss.told()
    }
}

struct Writer {
    file: File,
    announce: watch::Sender<Revision>,
    lose: Loser,
}

impl Writer {
    fn serve(mut self, requests: &Receiver<Request>) {
        while let Ok(first) = requests.recv() {
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
