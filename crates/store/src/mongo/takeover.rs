//! Becoming the one writer of a store: waiting for whoever has it, taking the next term, and fencing off the writer before.

use std::{collections::VecDeque, time::Duration};

use mongodb::{IndexModel, bson::doc, options::ReturnDocument};
use tokio::time::{Instant, sleep};

use super::{
    Holder,
    connection::{Place, Trying},
    copies,
    layout::{Entry, EntryEnd, FORMAT, HEAD, Head, entry_id, revision, signed},
};
use crate::{Revision, StoreError, history::Size};

/// Between two signs of life of a writer.
pub(super) const BEAT: Duration = Duration::from_secs(3);
/// Who was silent for that long is gone: three beats, and the time one may take.
const SILENCE: Duration = Duration::from_secs(10);
/// How often a writer that may be gone is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// A store that was taken over.
#[derive(Debug)]
pub(super) struct Taken {
    /// The one opening of the store that this is.
    pub(super) writer: String,
    /// The entries of the log, the oldest first: their revisions, and all that was written with them.
    pub(super) log: VecDeque<(i64, Size)>,
    pub(super) compacted: i64,
}

impl Taken {
    /// Takes the store over for a holder.
    pub(super) async fn take(place: &Place, holder: &Holder) -> Result<Self, StoreError> {
        let index = || IndexModel::builder().keys(doc! { "name": 1, "revision": 1 }).build();
        place.persist(|| place.versions.create_index(index())).await?;
        let seen = made(place).await?;
        if seen.format > FORMAT {
            return Err(StoreError::Format { found: seen.format, known: FORMAT });
        }
        if !seen.holder.is_empty() && seen.holder != holder.id {
            ensure_silent(place, &seen).await?;
        }
        let writer = daemon::fresh_uuid().to_string();
        let head = next_term(place, &seen, holder, &writer).await?;
        fence(place, &writer, &head).await?;
        // Nobody but this writes from here on.
        copies::copy_since(place, head.copied).await?;
        let log = read_log(place, head.compacted).await?;
        let newest = log.back().map_or(head.compacted, |(revision, _)| *revision);
        remove_unused(place, &writer, newest).await?;
        Ok(Self { writer, log, compacted: head.compacted })
    }

    /// The newest revision.
    pub(super) fn newest(&self) -> Revision {
        revision(self.log.back().map_or(self.compacted, |(revision, _)| *revision))
    }
}

/// The head of the store, which is made if there is none.
async fn made(place: &Place) -> Result<Head, StoreError> {
    let new = Head { id: HEAD.to_owned(), format: FORMAT, ..Head::default() };
    let mut trying = Trying::new();
    loop {
        if let Some(head) = place.persist(|| place.head.find_one(doc! { "_id": HEAD })).await? {
            return Ok(head);
        }
        // Another may make it at the same time: then it is there at the next look.
        if let Err(failure) = place.attempt(place.head.insert_one(&new)).await {
            place.pause(&mut trying, failure).await?;
        }
    }
}

/// Waits until the holder counts as gone.
async fn ensure_silent(place: &Place, seen: &Head) -> Result<(), StoreError> {
    tracing::info!(holder = seen.holder_shown, "another has the store; waiting for a sign of life from it");
    let newest = newest_entry(place).await?.map(|entry| entry.revision);
    let began = Instant::now();
    while began.elapsed() < SILENCE {
        sleep(LOOK).await;
        let now = made(place).await?;
        let lives = (now.term, now.beat) != (seen.term, seen.beat)
            || newest_entry(place).await?.map(|entry| entry.revision) != newest;
        if lives {
            return Err(StoreError::InUse { holder: now.holder_shown });
        }
    }
    tracing::warn!(holder = seen.holder_shown, "who had the store shows no sign of life; taking it over");
    Ok(())
}

/// Of several that try, one gets the next term.
async fn next_term(place: &Place, seen: &Head, holder: &Holder, writer: &str) -> Result<Head, StoreError> {
    let take = || {
        // A repeated try finds what an earlier one did.
        let free = vec![doc! { "term": seen.term }, doc! { "writer": writer }];
        let ours = doc! {
            "term": seen.term + 1, "writer": writer, "holder": &holder.id, "holder_shown": &holder.shown,
        };
        place
            .head
            .find_one_and_update(doc! { "_id": HEAD, "$or": free }, doc! { "$set": ours })
            .return_document(ReturnDocument::After)
    };
    match place.persist(take).await? {
        Some(head) => Ok(head),
        None => Err(StoreError::InUse { holder: made(place).await?.holder_shown }),
    }
}

/// Takes the next revision, so that what the writer before has on its way finds its place taken.
async fn fence(place: &Place, writer: &str, head: &Head) -> Result<(), StoreError> {
    let mut trying = Trying::new();
    loop {
        let last = newest_entry(place).await?;
        let written = last.as_ref().map(Entry::written).unwrap_or_default();
        if last.as_ref().is_some_and(|entry| entry.writer == writer) {
            return Ok(());
        }
        let next = last.map_or(head.compacted, |entry| entry.revision) + 1;
        let fence = Entry {
            id: entry_id(next),
            revision: next,
            writer: writer.to_owned(),
            changes: signed(written.changes),
            bytes: signed(written.bytes),
            parts: 0,
            writes: Vec::new(),
        };
        match place.attempt(place.log.insert_one(&fence)).await {
            Ok(_) => return Ok(()),
            // The writer before was faster, or what became of it is not known: look again.
            Err(failure) => place.pause(&mut trying, failure).await?,
        }
    }
}

async fn newest_entry(place: &Place) -> Result<Option<Entry>, StoreError> {
    place.persist(|| place.log.find_one(doc! {}).sort(doc! { "_id": -1 })).await
}

/// The log without what is in it, as far back as it counts.
async fn read_log(place: &Place, compacted: i64) -> Result<VecDeque<(i64, Size)>, StoreError> {
    let log = place.log.clone_with_type::<EntryEnd>();
    let read = || async {
        let kept = doc! { "_id": { "$gt": entry_id(compacted) } };
        let mut found = log.find(kept).sort(doc! { "_id": 1 }).projection(EntryEnd::fields()).await?;
        let mut log = VecDeque::new();
        while found.advance().await? {
            let entry = found.deserialize_current()?;
            log.push_back((entry.revision, entry.written()));
        }
        Ok(log)
    };
    place.persist(read).await
}

/// Removes the parts of commits that never happened.
async fn remove_unused(place: &Place, writer: &str, newest: i64) -> Result<(), StoreError> {
    let unused = || doc! { "revision": { "$gte": newest }, "writer": { "$ne": writer } };
    place.persist(|| place.parts.delete_many(unused())).await.map(drop)
}
