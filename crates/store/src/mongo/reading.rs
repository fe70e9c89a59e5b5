//! What is read of a store: documents as of a revision, and changes.

use std::collections::{BTreeMap, BTreeSet};

use mongodb::bson::doc;

use super::{
    connection::Place,
    copies::writes_of,
    layout::{Entry, StoredVersion, entry_id, name, revision, signed, split},
};
use crate::{
    Change, Document, Page, Revision, StoreError, Version, Write, history::whole_commits, settle::Name,
};

/// Documents that are named in one request.
const NAMED: usize = 10_000;

/// All documents of a collection as of a revision.
pub(super) async fn list(place: &Place, collection: &str, at: Revision) -> Result<Vec<Document>, StoreError> {
    let read = || async {
        // All names of a collection are between its name with a slash and that with what comes after a slash.
        let within = doc! { "$gte": format!("{collection}/"), "$lt": format!("{collection}0") };
        let filter = doc! { "name": within, "revision": { "$lte": signed(at.0) } };
        let mut found = place.versions.find(filter).sort(doc! { "name": 1, "revision": 1 }).await?;
        let mut present = BTreeMap::new();
        while found.advance().await? {
            take_in(&mut present, found.deserialize_current()?);
        }
        Ok(present)
    };
    let present = place.persist(read).await?;
    let document =
        |((collection, key), Version { revision, value })| Document { collection, key, revision, value };
    Ok(present.into_iter().map(document).collect())
}

/// Some documents of a collection as of a revision.
pub(super) async fn page(
    place: &Place,
    collection: &str,
    page: &Page,
    at: Revision,
) -> Result<Vec<Document>, StoreError> {
    let read = || async {
        let (begin, end) = (format!("{collection}/"), format!("{collection}0"));
        let within = match &page.beyond {
            None => doc! { "$gte": begin, "$lt": end },
            Some(key) if page.descending => doc! { "$gte": begin, "$lt": name(collection, key) },
            Some(key) => doc! { "$gt": name(collection, key), "$lt": end },
        };
        let filter = doc! { "name": within, "revision": { "$lte": signed(at.0) } };
        let direction = if page.descending { -1 } else { 1 };
        let order = doc! { "name": direction, "revision": direction };
        let mut found = place.versions.find(filter).sort(order).await?;
        let mut documents = Vec::new();
        let mut last: Option<StoredVersion> = None;
        while documents.len() < page.limit && found.advance().await? {
            let version = found.deserialize_current()?;
            let is_another = last.as_ref().is_none_or(|last| last.name != version.name);
            // Of one name the newest counts: it comes last, and first on the way down.
            if is_another {
                documents.extend(last.replace(version).and_then(document));
            } else if !page.descending {
                last = Some(version);
            }
        }
        if documents.len() < page.limit {
            documents.extend(last.and_then(document));
        }
        Ok(documents)
    };
    place.persist(read).await
}

fn document(stored: StoredVersion) -> Option<Document> {
    let (collection, key) = split(&stored.name);
    Some(Document { collection, key, revision: revision(stored.revision), value: stored.value?.bytes })
}

/// What writes find of what they expect something of.
pub(super) async fn find_expected<'a>(
    place: &Place,
    writes: impl Iterator<Item = &'a Write>,
) -> Result<BTreeMap<Name, Version>, StoreError> {
    let names: BTreeSet<String> = writes
        .filter(|write| write.expect != crate::Expect::Anything)
        .map(|write| name(write.collection, &write.key))
        .collect();
    let names: Vec<String> = names.into_iter().collect();
    let mut present = BTreeMap::new();
    for some in names.chunks(NAMED) {
        let read = || async {
            let its = doc! { "name": { "$in": some } };
            let mut found = place.versions.find(its).sort(doc! { "name": 1, "revision": 1 }).await?;
            let mut present = BTreeMap::new();
            while found.advance().await? {
                take_in(&mut present, found.deserialize_current()?);
            }
            Ok(present)
        };
        present.extend(place.persist(read).await?);
    }
    Ok(present)
}

/// A later version takes the place of the one before.
fn take_in(present: &mut BTreeMap<Name, Version>, stored: StoredVersion) {
    let name = split(&stored.name);
    match stored.value {
        Some(value) => {
            drop(present.insert(name, Version { revision: revision(stored.revision), value: value.bytes }));
        }
        None => drop(present.remove(&name)),
    }
}

/// The changes after a revision; see [`Store::changes`](crate::Store::changes).
pub(super) async fn changes(place: &Place, after: Revision, limit: usize) -> Result<Vec<Change>, StoreError> {
    let mut changes: Vec<Change> = Vec::new();
    let mut last = signed(after.0);
    while changes.len() <= limit {
        let entries = entries_after(place, last, limit - changes.len()).await?;
        let Some(end) = entries.last() else { break };
        last = end.revision;
        for entry in &entries {
            for written in writes_of(place, entry).await? {
                let (collection, key) = split(&written.name);
                let value = written.value.map(|value| value.bytes);
                changes.push(Change {
                    revision: revision(entry.revision),
                    collection,
                    key,
                    value,
                    before: None,
                });
            }
        }
    }
    let mut changes = whole_commits(changes, limit);
    let names: BTreeSet<String> =
        changes.iter().map(|change| name(&change.collection, &change.key)).collect();
    let names: Vec<String> = names.into_iter().collect();
    let end = changes.last().map_or(0, |change| signed(change.revision.0));
    for some in names.chunks(NAMED) {
        let versions = versions_before(place, some, end).await?;
        for change in &mut changes {
            let of_it =
                versions.get(&name(&change.collection, &change.key)).map(Vec::as_slice).unwrap_or_default();
            let before = of_it.iter().rfind(|version| version.revision < signed(change.revision.0));
            let before = before.and_then(|version| Some((version.revision, version.value.as_ref()?)));
            change.before = before
                .map(|(number, value)| Version { revision: revision(number), value: value.bytes.clone() });
        }
    }
    // One from nothing to nothing is none.
    changes.retain(Change::alters);
    Ok(changes)
}

/// The next entries of the log, at least one, with at most so many changes as far as they have no parts.
async fn entries_after(place: &Place, after: i64, limit: usize) -> Result<Vec<Entry>, StoreError> {
    let read = || async {
        let later = doc! { "_id": { "$gt": entry_id(after) } };
        let mut found = place.log.find(later).sort(doc! { "_id": 1 }).await?;
        let (mut entries, mut changes) = (Vec::new(), 0);
        while changes <= limit && found.advance().await? {
            let entry = found.deserialize_current()?;
            changes += entry.writes.len();
            let is_large = entry.parts > 0;
            entries.push(entry);
            if is_large {
                break;
            }
        }
        Ok(entries)
    };
    place.persist(read).await
}

/// By name, in order of their revisions.
async fn versions_before(
    place: &Place,
    names: &[String],
    end: i64,
) -> Result<BTreeMap<String, Vec<StoredVersion>>, StoreError> {
    let read = || async {
        let its = doc! { "name": { "$in": names }, "revision": { "$lt": end } };
        let mut found = place.versions.find(its).sort(doc! { "name": 1, "revision": 1 }).await?;
        let mut versions: BTreeMap<String, Vec<StoredVersion>> = BTreeMap::new();
        while found.advance().await? {
            let version = found.deserialize_current()?;
            versions.entry(version.name.clone()).or_default().push(version);
        }
        Ok(versions)
    };
    place.persist(read).await
}
