//! The backend that outlives its machine: a MongoDB, over the network.
//!
//! ```text
//!   commit ──► insert into `log`, by its revision ──► durable, told ──► copy to `versions` ──► what is listed
//! ```
//!
//! A commit happens when its entry is inserted into the log, and its revision is the entry's id, of which there can be
//! one only. That makes it atomic, orders the commits, and keeps others out: who takes the store over inserts an entry of
//! its own, and whatever the writer before still has on its way finds its place taken. Everything else is copied from the
//! log, can be copied again, and is never changed: a copy that comes late does no harm. So nothing is asked of the server
//! but that it inserts a document once; why, says the decision on it in `docs/adr`.
//!
//! When a connection is lost in the middle, the writer reads what became of its entries and goes on from there.

mod connection;
mod copies;
mod layout;
mod reading;
mod takeover;
mod writer;

use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    BoxFuture, Change, Document, History, Page, Revision, Store, StoreError, Write,
    loss::{self, Loss},
};
use connection::Place;
use takeover::Taken;
use writer::Writer;

/// Requests that may wait for the writer; more callers wait in turn.
const QUEUE: usize = 1024;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

enum Request {
    List { collection: String, at: Option<Revision>, reply: Reply<Vec<Document>> },
    Page { collection: String, page: Page, reply: Reply<Vec<Document>> },
    Commit { writes: Vec<Write>, reply: Reply<Revision> },
    Changes { after: Revision, limit: usize, reply: Reply<Vec<Change>> },
}

/// Who has a store: two with the same id are never alive at the same time.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Of the state directory, which is locked.
    pub id: String,
    /// How it is called in messages to others.
    pub shown: String,
}

/// A [`Store`] in a MongoDB. Dropping it ends it after the last commit.
#[derive(Debug)]
pub struct MongoStore {
    requests: mpsc::Sender<Request>,
    revisions: watch::Receiver<Revision>,
    loss: Loss,
}

impl MongoStore {
    /// Connects, and takes the store over: at once from an earlier opening by the same holder, from another holder when
    /// that has shown no sign of life for ten seconds.
    ///
    /// # Errors
    /// [`StoreError::Place`] for what is no URL, [`StoreError::InUse`] when another holder is alive,
    /// [`StoreError::Unreachable`] when there is no answer within half a minute.
    pub async fn open(url: &str, holder: Holder, history: History) -> Result<Self, StoreError> {
        let place = Place::of(url).await?;
        let taken = Taken::take(&place, &holder).await?;
        let (requests, received) = mpsc::channel(QUEUE);
        let (announce, revisions) = watch::channel(taken.newest());
        let (lose, loss) = loss::channel();
        tokio::spawn(Writer::new(place, taken, history, announce).serve(received, lose));
        Ok(Self { requests, revisions, loss })
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| self.loss.why())?;
        answer.await.map_err(|_| self.loss.why())?
    }
}

impl Store for MongoStore {
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
