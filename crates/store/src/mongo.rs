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

use crate::{
    History, StoreError,
    queued::{Asked, QueuedStore},
};
use connection::Place;
use takeover::Taken;
use writer::Writer;

/// Who has a store: two with the same id are never alive at the same time.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Of the state directory, which is locked.
    pub id: String,
    /// How it is called in messages to others.
    pub shown: String,
}

/// The backend of a [`MongoStore`].
#[derive(Debug)]
pub enum Mongo {}

/// A [`Store`](crate::Store) in a MongoDB.
pub type MongoStore = QueuedStore<Mongo>;

impl QueuedStore<Mongo> {
    /// Connects, and takes the store over: at once from an earlier opening by the same holder, from another holder when
    /// that has shown no sign of life for ten seconds.
    ///
    /// # Errors
    /// [`StoreError::Place`] for what is no URL, [`StoreError::InUse`] when another holder is alive,
    /// [`StoreError::Unreachable`] when there is no answer within half a minute.
    pub async fn open(url: &str, holder: Holder, history: History) -> Result<Self, StoreError> {
        let place = Place::of(url).await?;
        let taken = Taken::take(&place, &holder).await?;
        let (store, Asked { requests, announce, lose }) = Self::new(taken.newest());
        tokio::spawn(Writer::new(place, taken, history, announce).serve(requests, lose));
        Ok(store)
    }
}
