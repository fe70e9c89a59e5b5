//! How a store is asked: by requests in a queue, which one writer answers in turn, whatever its backend. So a read sees every
//! commit that was asked for before it.

use std::marker::PhantomData;

use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    BoxFuture, Change, Document, Page, Revision, Store, StoreError, Write,
    loss::{self, Loser, Loss},
};

/// Requests that may wait for the writer; more callers wait in turn.
const QUEUE: usize = 1024;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

pub(crate) enum Request {
    List { collection: String, at: Option<Revision>, reply: Reply<Vec<Document>> },
    Page { collection: String, page: Page, reply: Reply<Vec<Document>> },
    Commit { writes: Vec<Write>, reply: Reply<Revision> },
    Changes { after: Revision, limit: usize, reply: Reply<Vec<Change>> },
}

/// What a writer of a backend is given.
pub(crate) struct Asked {
    /// Ends when the store is dropped.
    pub(crate) requests: mpsc::Receiver<Request>,
    /// Tells of every commit.
    pub(crate) announce: watch::Sender<Revision>,
    pub(crate) lose: Loser,
}

/// A [`Store`] of one backend. Dropping it ends it after the last commit.
#[derive(Debug)]
pub struct QueuedStore<Backend> {
    requests: mpsc::Sender<Request>,
    revisions: watch::Receiver<Revision>,
    loss: Loss,
    backend: PhantomData<fn() -> Backend>,
}

impl<Backend> QueuedStore<Backend> {
    /// The store, and what its writer is given; `newest` is the last commit.
    pub(crate) fn new(newest: Revision) -> (Self, Asked) {
        let (requests, received) = mpsc::channel(QUEUE);
        let (announce, revisions) = watch::channel(newest);
        let (lose, loss) = loss::channel();
        (
            Self { requests, revisions, loss, backend: PhantomData },
            Asked { requests: received, announce, lose },
        )
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| self.loss.why())?;
        answer.await.map_err(|_| self.loss.why())?
    }
}

impl<Backend> Store for QueuedStore<Backend> {
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
