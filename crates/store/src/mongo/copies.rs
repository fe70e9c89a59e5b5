//! From the log to `versions`: copying what was committed, and removing what nobody can ask for any more.

use std::collections::{BTreeMap, BTreeSet};

use mongodb::{
    Collection,
    bson::doc,
    error::{Error, ErrorKind},
};
use serde::Serialize;

use super::{
    connection::Place,
    layout::{Entry, Part, StoredVersion, VersionName, Written, entry_id},
};
use crate::StoreError;

/// Documents that are named in one request, so that it stays far below the 48 MB that one may have.
const NAMED: usize = 10_000;
/// What MongoDB answers when there is a document of that id.
const DUPLICATE: i32 = 11_000;

/// Copies all that was committed after a revision.
pub(super) async fn copy_since(place: &Place, copied: i64) -> Result<(), StoreError> {
    let mut after = copied;
    // One at a time: there are few, and one may be large.
    while let Some(entry) = next_entry(place, after).await? {
        after = entry.revision;
        let writes = writes_of(place, &entry).await?;
        let versions: Vec<StoredVersion> =
            writes.iter().map(|written| StoredVersion::of(entry.revision, written)).collect();
        insert_new(place, &place.versions, &versions).await?;
    }
    Ok(())
}

async fn next_entry(place: &Place, after: i64) -> Result<Option<Entry>, StoreError> {
    place
        .persist(|| place.log.find_one(doc! { "_id": { "$gt": entry_id(after) } }).sort(doc! { "_id": 1 }))
        .await
}

/// The writes of a commit, wherever they are.
pub(super) async fn writes_of(place: &Place, entry: &Entry) -> Result<Vec<Written>, StoreError> {
    if entry.parts == 0 {
        return Ok(entry.writes.clone());
    }
    let read = || async {
        let its = doc! { "revision": entry.revision, "writer": &entry.writer };
        let mut found = place.parts.find(its).sort(doc! { "number": 1 }).await?;
        let mut writes = Vec::new();
        while found.advance().await? {
            let part: Part = found.deserialize_current()?;
            writes.extend(part.writes);
        }
        Ok(writes)
    };
    place.persist(read).await
}

/// Inserts those that are not there yet.
pub(super) async fn insert_new<T: Serialize + Send + Sync>(
    place: &Place,
    collection: &Collection<T>,
    documents: &[T],
) -> Result<(), StoreError> {
    if documents.is_empty() {
        return Ok(());
    }
    let insert = || async {
        match collection.insert_many(documents).ordered(false).await {
            Err(error) if is_there_already(&error) => Ok(()),
            outcome => outcome.map(drop),
        }
    };
    place.persist(insert).await
}

/// Whether all that failed are copies which an earlier try, or the writer before, has made.
fn is_there_already(error: &Error) -> bool {
    let ErrorKind::InsertMany(failed) = error.kind.as_ref() else { return false };
    let duplicates = |errors: &Vec<mongodb::error::IndexedWriteError>| {
        !errors.is_empty() && errors.iter().all(|error| error.code == DUPLICATE)
    };
    failed.write_concern_error.is_none() && failed.write_errors.as_ref().is_some_and(duplicates)
}

/// Removes the versions that gave way to others up to `cut`, and the log up to there. Deletions are removed as well if
/// `deletions` says so: not while a late copy of what was deleted may come.
pub(super) async fn remove_until(place: &Place, cut: i64, deletions: bool) -> Result<(), StoreError> {
    let names: Vec<String> = names_until(place, cut).await?.into_iter().collect();
    for some in names.chunks(NAMED) {
        let GivenWay { old, ends } = given_way(place, some, cut).await?;
        remove_versions(place, &old).await?;
        // Only then: before, what was deleted would be there again.
        if deletions {
            remove_versions(place, &ends).await?;
        }
    }
    place.persist(|| place.log.delete_many(doc! { "_id": { "$lte": entry_id(cut) } })).await?;
    place.persist(|| place.parts.delete_many(doc! { "revision": { "$lte": cut } })).await?;
    Ok(())
}

/// Of all documents that were written up to `cut`, as far as that is still in the log.
async fn names_until(place: &Place, cut: i64) -> Result<BTreeSet<String>, StoreError> {
    let read = || async {
        let mut names = BTreeSet::new();
        let mut entries = place.log.find(doc! { "_id": { "$lte": entry_id(cut) } }).await?;
        while entries.advance().await? {
            names.extend(entries.deserialize_current()?.writes.into_iter().map(|written| written.name));
        }
        let mut parts = place.parts.find(doc! { "revision": { "$lte": cut } }).await?;
        while parts.advance().await? {
            names.extend(parts.deserialize_current()?.writes.into_iter().map(|written| written.name));
        }
        Ok(names)
    };
    place.persist(read).await
}

async fn remove_versions(place: &Place, ids: &[String]) -> Result<(), StoreError> {
    for some in ids.chunks(NAMED) {
        place.persist(|| place.versions.delete_many(doc! { "_id": { "$in": some } })).await?;
    }
    Ok(())
}

/// Ids of versions nobody can ask for any more.
#[derive(Debug, Default)]
struct GivenWay {
    /// Another has taken their place.
    old: Vec<String>,
    /// Nothing has, and there is nothing: they are deletions.
    ends: Vec<String>,
}

/// Which of their versions that is so for, at `cut` or before.
async fn given_way(place: &Place, names: &[String], cut: i64) -> Result<GivenWay, StoreError> {
    let versions = place.versions.clone_with_type::<VersionName>();
    let read = || async {
        let within = doc! { "name": { "$in": names }, "revision": { "$lte": cut } };
        let order = doc! { "name": 1, "revision": 1 };
        let mut found = versions.find(within).sort(order).projection(VersionName::fields()).await?;
        let mut last: BTreeMap<String, (String, bool)> = BTreeMap::new();
        let mut given_way = GivenWay::default();
        while found.advance().await? {
            let VersionName { id, name, deleted } = found.deserialize_current()?;
            given_way.old.extend(last.insert(name, (id, deleted)).map(|(id, _)| id));
        }
        given_way.ends.extend(last.into_values().filter(|(_, deleted)| *deleted).map(|(id, _)| id));
        Ok(given_way)
    };
    place.persist(read).await
}
