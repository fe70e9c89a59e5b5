//! The one that writes: takes in what waits, appends it to the log, copies it, and shows that it lives.

use std::{collections::VecDeque, sync::Arc};

use mongodb::bson::doc;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    connection::{Place, Trying},
    copies,
    layout::{self, Entry, EntryEnd, HEAD, Part, StoredVersion, entry_id, revision},
    reading,
    takeover::{BEAT, Taken},
};
use crate::{
    Change, Document, History, Revision, StoreError, Write,
    history::Size,
    loss::Loser,
    queued::{Reply, Request},
    settle::{Settled, settle},
};

/// How many waiting commits go to the server together: enough for a burst, few enough to keep the wait short.
const GROUP: usize = 256;
/// A copy that the writer before had on its way has arrived by then, or never does.
const STRAGGLERS: std::time::Duration = std::time::Duration::from_secs(300);

/// What has been asked for and not answered.
type Commits = (Vec<Vec<Write>>, Vec<Reply<Revision>>);

pub(super) struct Writer {
    place: Place,
    history: History,
    /// This opening of the store.
    id: String,
    began: Instant,
    newest: Revision,
    /// Entries of the log, the oldest first, and all that was written with them.
    log: VecDeque<(i64, Size)>,
    compacted: i64,
    removing: Option<JoinHandle<Result<(), StoreError>>>,
    announce: watch::Sender<Revision>,
}

impl Writer {
    pub(super) fn new(
        place: Place,
        taken: Taken,
        history: History,
        announce: watch::Sender<Revision>,
    ) -> Self {
        let newest = taken.newest();
        let Taken { writer: id, log, compacted } = taken;
        let began = Instant::now();
        Self { place, history, id, began, newest, log, compacted, removing: None, announce }
    }

    /// Until nobody asks any more, or the store is lost.
    pub(super) async fn serve(mut self, mut requests: mpsc::Receiver<Request>, lose: Loser) {
        if let Err(error) = self.answer_all(&mut requests).await {
            lose.send_replace(Some(Arc::new(error)));
        }
    }

    async fn answer_all(&mut self, requests: &mut mpsc::Receiver<Request>) -> Result<(), StoreError> {
        let mut waiting = Vec::with_capacity(GROUP);
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                received = requests.recv_many(&mut waiting, GROUP) => {
                    if received == 0 {
                        return Ok(());
                    }
                    self.answer(waiting.drain(..)).await?;
                }
                _ = beats.tick() => self.beat().await?,
            }
        }
    }

    async fn answer(&mut self, requests: impl Iterator<Item = Request>) -> Result<(), StoreError> {
        let mut commits = Commits::default();
        for request in requests {
            match request {
                Request::Commit { writes, reply } => {
                    commits.0.push(writes);
                    commits.1.push(reply);
                }
                // A read sees every commit asked for before it.
                Request::List { collection, at, reply } => {
                    self.commit(&mut commits).await?;
                    tell(reply, self.list(&collection, at).await);
                }
                Request::Page { collection, page, reply } => {
                    self.commit(&mut commits).await?;
                    tell(reply, reading::page(&self.place, &collection, &page, self.newest).await);
                }
                Request::Changes { after, limit, reply } => {
                    self.commit(&mut commits).await?;
                    tell(reply, self.changes(after, limit).await);
                }
            }
        }
        self.commit(&mut commits).await
    }

    /// Answers those that wait, unless the store is lost: then nobody knows what became of them.
    async fn commit(&mut self, commits: &mut Commits) -> Result<(), StoreError> {
        let (group, replies) = std::mem::take(commits);
        if group.is_empty() {
            return Ok(());
        }
        let settled = match self.append(group).await {
            Ok(settled) => settled,
            Err(error) => {
                for reply in replies {
                    tell(reply, Err(error.again()));
                }
                return Err(error);
            }
        };
        if settled.newest > self.newest {
            self.newest = settled.newest;
            self.announce.send_replace(self.newest);
        }
        for (reply, outcome) in replies.into_iter().zip(settled.outcomes) {
            tell(reply, outcome);
        }
        let versions: Vec<StoredVersion> = settled.changes.iter().map(StoredVersion::from).collect();
        copies::insert_new(&self.place, &self.place.versions, &versions).await?;
        self.compact().await
    }

    /// Takes a group of commits in and makes it durable.
    async fn append(&mut self, mut group: Vec<Vec<Write>>) -> Result<Settled, StoreError> {
        // Those that cannot be written are none, and are told why.
        let refusals: Vec<Option<StoreError>> = group
            .iter_mut()
            .map(|writes| {
                let refusal = writes.iter().find_map(|write| layout::ensure_fits(write).err());
                refusal.inspect(|_| writes.clear())
            })
            .collect();
        let found = reading::find_expected(&self.place, group.iter().flatten()).await?;
        let mut settled = settle(self.newest, &group, found);
        for (outcome, refusal) in settled.outcomes.iter_mut().zip(refusals) {
            if let Some(refusal) = refusal {
                *outcome = Err(refusal);
            }
        }
        let mut written = self.log.back().map(|(_, written)| *written).unwrap_or_default();
        let (mut entries, mut parts): (Vec<Entry>, Vec<Part>) = (Vec::new(), Vec::new());
        for commit in settled.changes.chunk_by(|one, next| one.revision == next.revision) {
            written = commit.iter().fold(written, Size::with);
            let (entry, its_parts) = layout::entry(&self.id, written, commit);
            entries.push(entry);
            parts.extend(its_parts);
        }
        // Without the entry they mean nothing: they come first.
        self.insert_parts(&parts).await?;
        let ends: Vec<(i64, Size)> = entries.iter().map(|entry| (entry.revision, entry.written())).collect();
        self.insert_entries(entries).await?;
        self.log.extend(ends);
        Ok(settled)
    }

    async fn insert_parts(&self, parts: &[Part]) -> Result<(), StoreError> {
        for part in parts.chunks(1) {
            copies::insert_new(&self.place, &self.place.parts, part).await?;
        }
        Ok(())
    }

    /// Inserts entries in order. When it is not known what became of them, the log is read: what is there of this writer
    /// is done, what is there of another says that the store was taken over, and what is not there is inserted again.
    async fn insert_entries(&self, mut entries: Vec<Entry>) -> Result<(), StoreError> {
        let mut trying = Trying::new();
        while let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            let between = (first.revision, last.revision);
            let Err(failure) = self.place.attempt(self.place.log.insert_many(&entries)).await else {
                return Ok(());
            };
            let present = self.present(between).await?;
            entries.retain(|entry| entry.revision > present);
            if !entries.is_empty() {
                self.place.pause(&mut trying, failure).await?;
            }
        }
        Ok(())
    }

    /// Up to which revision the entries of the log are there, and of this writer.
    async fn present(&self, (first, last): (i64, i64)) -> Result<i64, StoreError> {
        let log = self.place.log.clone_with_type::<EntryEnd>();
        let read = || async {
            let within = doc! { "_id": { "$gte": entry_id(first), "$lte": entry_id(last) } };
            let mut found = log.find(within).sort(doc! { "_id": 1 }).projection(EntryEnd::fields()).await?;
            let (mut present, mut of_another) = (first - 1, false);
            while found.advance().await? {
                let entry = found.deserialize_current()?;
                of_another |= entry.writer != self.id;
                present = entry.revision;
            }
            Ok((present, of_another))
        };
        let (present, of_another) = self.place.persist(read).await?;
        if of_another { Err(StoreError::TakenOver) } else { Ok(present) }
    }

    async fn list(&self, collection: &str, at: Option<Revision>) -> Result<Vec<Document>, StoreError> {
        let at = at.unwrap_or(self.newest);
        self.ensure_kept(at)?;
        if at > self.newest {
            return Err(StoreError::Ahead { asked: at, newest: self.newest });
        }
        reading::list(&self.place, collection, at).await
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.ensure_kept(after)?;
        reading::changes(&self.place, after, limit).await
    }

    fn ensure_kept(&self, asked: Revision) -> Result<(), StoreError> {
        let oldest = if self.history.is_kept() { revision(self.compacted) } else { self.newest };
        if asked < oldest { Err(StoreError::Compacted { asked, oldest }) } else { Ok(()) }
    }

    /// Shows that this writer lives, and how far it has copied: who takes over after it begins there.
    async fn beat(&self) -> Result<(), StoreError> {
        let change = || {
            let copied = layout::signed(self.newest.0);
            doc! { "$set": { "copied": copied, "compacted": self.compacted }, "$inc": { "beat": 1_i64 } }
        };
        let mine = || doc! { "_id": HEAD, "writer": &self.id };
        let update = || self.place.head.update_one(mine(), change());
        let updated = self.place.persist(update).await?;
        if updated.matched_count == 0 { Err(StoreError::TakenOver) } else { Ok(()) }
    }

    /// Drops the oldest commits once the log is longer than it should be.
    async fn compact(&mut self) -> Result<(), StoreError> {
        let (Some(&(_, oldest)), Some(&(_, written))) = (self.log.front(), self.log.back()) else {
            return Ok(());
        };
        if !self.history.is_exceeded(written.since(oldest)) || !self.removing_has_ended().await {
            return Ok(());
        }
        // The newest entry stays: it says which revision is next.
        while let (Some((revision, end)), true) = (self.log.front(), self.log.len() > 1) {
            if !self.history.suffices(written.since(*end)) {
                break;
            }
            self.compacted = *revision;
            self.log.pop_front();
        }
        // Said before it is done: nobody counts on what is about to go.
        self.beat().await?;
        tracing::debug!(revision = self.compacted, "the change log is compacted");
        let (place, cut, deletions) = (self.place.clone(), self.compacted, self.began.elapsed() > STRAGGLERS);
        self.removing = Some(tokio::spawn(async move { copies::remove_until(&place, cut, deletions).await }));
        Ok(())
    }

    /// What the time before was not removed is removed this time.
    async fn removing_has_ended(&mut self) -> bool {
        let Some(removing) = self.removing.take_if(|removing| removing.is_finished()) else {
            return self.removing.is_none();
        };
        match removing.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = %daemon::chain(&error), "what is too old was not removed from the store");
            }
            Err(error) => tracing::error!(%error, "removing what is too old ended in the middle"),
        }
        true
    }
}

fn tell<T>(reply: Reply<T>, answer: Result<T, StoreError>) {
    // The caller may have given up waiting; what it asked for has happened all the same.
    drop(reply.send(answer));
}
