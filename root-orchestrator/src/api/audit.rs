//! Records of who changed what: looking at them, taking them elsewhere, checking that they are whole. Nothing changes them.

use std::sync::Arc;

use audit::{Record, Start, Verifier, rfc3339};
use axum::{
    Json,
    body::Body,
    extract::{Query, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use model::OrganizationId;
use root_core::{
    AuditEnds, AuditFilter, PeopleRejected, State as Truth,
    access::{Kind, Verb},
    seen_by,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Document, Page, Store, StoreError};

use super::{
    Shared, State,
    error::{Error, ErrorBody},
};
use crate::{
    auth::Caller,
    documents::{AUDIT, record_key},
};

const USUAL_LIMIT: usize = 100;
const LARGEST_LIMIT: usize = 1000;
/// Read at once: the store does nothing else meanwhile.
const PAGE: usize = 500;
/// Looked through for one answer when few of them are wanted, which bounds how long that takes.
const MOST_LOOKED_AT: usize = 20_000;
/// Records may be forgotten at one end while they are checked from there. It takes more than this to outrun it.
const ATTEMPTS: usize = 5;

/// Which records, newest first.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Name or id of an organisation: what is about it.
    organization: Option<String>,
    /// Name or id of a user: what that one has called, and attempts to log in as that one.
    user: Option<String>,
    /// Not before; RFC 3339.
    #[param(example = "2026-11-22T10:00:00Z")]
    since: Option<String>,
    /// Only records with smaller numbers: `next` of the page before.
    before: Option<u64>,
    /// At most so many, from 1 to 1000; 100 if not given.
    limit: Option<usize>,
}

/// Which records, oldest first.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportQuery {
    /// Name or id of an organisation: what is about it.
    organization: Option<String>,
    /// Name or id of a user: what that one has called, and attempts to log in as that one.
    user: Option<String>,
    /// Not before; RFC 3339.
    since: Option<String>,
    /// Only records with greater numbers, to go on where an export before has ended.
    after: Option<u64>,
}

/// Some records.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AuditPage {
    /// Newest first; see the project's docs/audit.md.
    #[schema(value_type = Vec<Object>)]
    records: Vec<Value>,
    /// There may be more with smaller numbers than this: ask for those `before` it. A page may have fewer than asked for, or
    /// none, and others follow all the same.
    next: Option<u64>,
}

/// Whether the records are whole.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Verification {
    whole: bool,
    /// The first that is not as it was written, if they are not whole.
    broken: Option<BrokenRecord>,
    /// How many there are.
    records: u64,
    /// The number of the first: those before were forgotten.
    first: u64,
    /// The number of the last.
    last: u64,
    /// Its hash. Who has kept one elsewhere can tell whether the records are still those it was of.
    hash: String,
}

/// The first record that is not as it was written.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct BrokenRecord {
    sequence: u64,
    /// What is wrong with it.
    reason: String,
}

/// Which records somebody gets, and how much of them.
#[derive(Debug, Clone)]
struct Sight {
    filter: AuditFilter,
    /// For whom they are, if not for who looks after the platform.
    limited_to: Option<OrganizationId>,
}

/// List records of who changed what, newest first
///
/// Those about the caller's organisation, without what belongs to others; for an administrator of the platform all.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(ListQuery), responses(
    (status = 200, body = AuditPage),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For administrators", body = ErrorBody),
    (status = 404, description = "No such organisation", body = ErrorBody),
    (status = 422, description = "A parameter is unknown or out of range", body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
pub(super) async fn list(
    State(context): Shared,
    caller: Caller,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<AuditPage>, Error> {
    caller.must(Verb::Get, Kind::Audit)?;
    let Query(query) = query.map_err(bad_query)?;
    let limit = query.limit.unwrap_or(USUAL_LIMIT);
    if !(1..=LARGEST_LIMIT).contains(&limit) {
        return Err(Error::bad_field(
            "limit",
            format!("limit must be from 1 to {LARGEST_LIMIT}, not {limit}"),
        ));
    }
    let sight =
        Sight::of(&*context.brain.read().await, &caller, query.organization, query.user, query.since)?;
    let mut found = AuditPage { records: Vec::new(), next: None };
    let mut beyond = query.before.map(record_key);
    let mut looked_at = 0;
    loop {
        let page = Page { beyond: beyond.take(), descending: true, limit: PAGE };
        let page = context.store.page(AUDIT, page).await.map_err(store_failed)?;
        let is_last = page.len() < PAGE;
        for document in page {
            looked_at += 1;
            found.records.extend(read(&document).and_then(|record| sight.seen(record)));
            if found.records.len() == limit || looked_at == MOST_LOOKED_AT {
                found.next = document.key.parse().ok();
                return Ok(Json(found));
            }
            beyond = Some(document.key);
        }
        if is_last {
            return Ok(Json(found));
        }
    }
}

/// Export records as lines of JSON, oldest first
///
/// An administrator of the platform who names neither organisation, user nor time gets them as they are stored, so that
/// they can be checked elsewhere with `mangrove audit verify --file`. What is limited has no hashes.
#[utoipa::path(get, path = "/api/v1/audit/export", tag = "audit", params(ExportQuery), responses(
    (status = 200, body = String, content_type = "application/x-ndjson"),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For administrators", body = ErrorBody),
    (status = 404, description = "No such organisation", body = ErrorBody),
    (status = 422, description = "A parameter is unknown or out of range", body = ErrorBody),
))]
pub(super) async fn export(
    State(context): Shared,
    caller: Caller,
    query: Result<Query<ExportQuery>, QueryRejection>,
) -> Result<Response, Error> {
    caller.must(Verb::Get, Kind::Audit)?;
    let Query(query) = query.map_err(bad_query)?;
    let (sight, newest) = {
        let state = context.brain.read().await;
        let sight = Sight::of(&state, &caller, query.organization, query.user, query.since)?;
        (sight, state.audit_ends().newest.sequence)
    };
    let after = query.after.map(record_key);
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"audit.jsonl\""),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(lines(context.store, sight, after, newest))).into_response())
}

/// Check that no record was changed, removed or put in
#[utoipa::path(get, path = "/api/v1/audit/verify", tag = "audit", responses(
    (status = 200, description = "Whole or not: `whole` says it", body = Verification),
    (status = 401, body = ErrorBody),
    (status = 403, description = "For administrators of the platform", body = ErrorBody),
    (status = 503, body = ErrorBody),
))]
pub(super) async fn verify(State(context): Shared, caller: Caller) -> Result<Json<Verification>, Error> {
    caller.must_be_admin()?;
    let mut attempt = 1;
    loop {
        let ends = context.brain.read().await.audit_ends();
        let mut verification = verified(context.store.as_ref(), ends).await.map_err(store_failed)?;
        // Readers of the state wait for a commit, so what is in the store and beyond this is nobody's.
        let last = last_key(context.store.as_ref()).await.map_err(store_failed)?;
        let newest = context.brain.read().await.audit_ends().newest.sequence;
        if verification.whole && last.is_some_and(|last| last > record_key(newest)) {
            let reason = "it is there, and was never written".to_owned();
            verification.whole = false;
            verification.broken = Some(BrokenRecord { sequence: newest + 1, reason });
        }
        let is_as_it_was = context.brain.read().await.audit_ends().forgotten == ends.forgotten;
        if verification.whole || is_as_it_was || attempt == ATTEMPTS {
            if let Some(broken) = &verification.broken {
                tracing::error!(
                    sequence = broken.sequence,
                    reason = broken.reason,
                    "the records of who changed what are broken"
                );
            }
            return Ok(Json(verification));
        }
        attempt += 1;
    }
}

async fn verified(store: &dyn Store, ends: AuditEnds) -> Result<Verification, StoreError> {
    let AuditEnds { forgotten, newest } = ends;
    let mut verification = Verification {
        whole: false,
        broken: None,
        records: 0,
        first: forgotten.sequence + 1,
        last: newest.sequence,
        hash: newest.hash.to_string(),
    };
    let broken = |broken: audit::Broken| {
        Some(BrokenRecord { sequence: broken.sequence, reason: broken.reason.to_string() })
    };
    let mut verifier = Verifier::new(Start::Behind(forgotten));
    // From the very beginning: what was put in before the first is not overlooked.
    let mut beyond = None;
    loop {
        let page = store.page(AUDIT, Page { beyond: beyond.take(), descending: false, limit: PAGE }).await?;
        let is_last = page.len() < PAGE;
        for document in page {
            // What was written since is for the next look.
            if document.key > record_key(newest.sequence) {
                break;
            }
            if let Err(found) = verifier.check(&document.value) {
                verification.broken = broken(found);
                return Ok(verification);
            }
            verification.records += 1;
            beyond = Some(document.key);
        }
        if is_last || beyond.is_none() {
            break;
        }
    }
    match verifier.finish(Some(newest)) {
        Ok(_) => verification.whole = true,
        Err(found) => verification.broken = broken(found),
    }
    Ok(verification)
}

async fn last_key(store: &dyn Store) -> Result<Option<String>, StoreError> {
    let page = Page { beyond: None, descending: true, limit: 1 };
    Ok(store.page(AUDIT, page).await?.into_iter().next().map(|document| document.key))
}

impl Sight {
    fn of(
        state: &Truth,
        caller: &Caller,
        organization: Option<String>,
        user: Option<String>,
        since: Option<String>,
    ) -> Result<Self, Error> {
        let limited_to = (!caller.rights.is_platform_admin()).then_some(caller.organization);
        let find = |name: String| {
            let by_id = name.parse::<OrganizationId>().ok();
            let found = by_id.or_else(|| state.organization_named(&name).map(|organization| organization.id));
            let found = found.filter(|found| limited_to.is_none_or(|only| only == *found));
            found.ok_or(PeopleRejected::NoOrganization(name))
        };
        let since = since.as_deref().map(read_date).transpose()?;
        let filter = AuditFilter { organization: organization.map(find).transpose()?, user, since };
        Ok(Self { filter, limited_to })
    }

    /// Everything, as it is stored.
    fn is_whole(&self) -> bool {
        self.limited_to.is_none() && self.filter == AuditFilter::default()
    }

    fn seen(&self, record: Record) -> Option<Value> {
        if !self.filter.admits(&record) {
            return None;
        }
        let Some(organization) = self.limited_to else { return serde_json::to_value(record).ok() };
        let entry = seen_by(record.entry, organization)?;
        let mut seen = serde_json::to_value(entry).ok()?;
        seen["sequence"] = record.sequence.into();
        seen["time"] = record.time.into();
        Some(seen)
    }
}

/// The lines of an export, page by page. What fails ends it early, so that nobody takes it for all.
fn lines(
    store: Arc<dyn Store>,
    sight: Sight,
    after: Option<String>,
    newest: u64,
) -> impl Stream<Item = Result<Bytes, StoreError>> {
    stream::try_unfold(Some((store, sight, after)), move |more| async move {
        let Some((store, sight, after)) = more else { return Ok(None) };
        let page = store.page(AUDIT, Page { beyond: after, descending: false, limit: PAGE }).await?;
        let mut text = Vec::new();
        let mut last = None;
        let is_full = page.len() == PAGE;
        for document in page.into_iter().filter(|document| document.key <= record_key(newest)) {
            if sight.is_whole() {
                text.extend_from_slice(&document.value);
                text.push(b'\n');
            } else if let Some(seen) = read(&document).and_then(|record| sight.seen(record)) {
                text.extend_from_slice(seen.to_string().as_bytes());
                text.push(b'\n');
            }
            last = Some(document.key);
        }
        let more = last.filter(|_| is_full).map(|last| (store, sight, Some(last)));
        Ok(Some((Bytes::from(text), more)))
    })
}

/// `None` of what is no record, of which the check tells.
fn read(document: &Document) -> Option<Record> {
    let record = serde_json::from_slice(&document.value);
    record.inspect_err(|error| tracing::warn!(key = document.key, %error, "a record cannot be read")).ok()
}

fn read_date(text: &str) -> Result<String, Error> {
    let date: Result<jiff::Timestamp, _> = text.parse();
    let millis = date.ok().and_then(|date| u64::try_from(date.as_millisecond()).ok());
    millis.map(rfc3339).ok_or_else(|| {
        Error::bad_field(
            "since",
            "since must be a date since 1970 as in RFC 3339, such as 2026-11-22T10:00:00Z",
        )
    })
}

#[expect(clippy::needless_pass_by_value, reason = "as errors are mapped")]
fn bad_query(rejection: QueryRejection) -> Error {
    Error::bad_field("query", rejection.body_text())
}

#[expect(clippy::needless_pass_by_value, reason = "as errors are mapped")]
fn store_failed(error: StoreError) -> Error {
    tracing::error!(%error, "records cannot be read");
    let message = "the records cannot be read now; the root's log says why";
    Error::new(StatusCode::SERVICE_UNAVAILABLE, "no_records", message)
}

#[cfg(test)]
mod tests {
    use audit::{Checkpoint, Head};
    use store::{Expect, History, SqliteStore, Write};

    use super::*;

    #[tokio::test]
    async fn what_is_put_in_before_the_first_that_is_left_is_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let store =
            SqliteStore::open(&directory.path().join("store.sqlite"), History::USUAL).expect("a store");
        let put = |record: &Record| {
            let (key, value) = (record_key(record.sequence), Some(record.line()));
            store.commit(vec![Write { collection: AUDIT, key, value, expect: Expect::Anything }])
        };
        let gone = Head::default().append(rfc3339(0), Checkpoint(Head::default()).entry());
        let forgotten = Head::from(&gone);
        let left = forgotten.append(rfc3339(0), Checkpoint(forgotten).entry());
        let ends = AuditEnds { forgotten, newest: Head::from(&left) };
        put(&left).await.expect("durable");
        let whole = verified(&store, ends).await.expect("readable");
        assert_eq!((whole.whole, whole.records, whole.first), (true, 1, 2));
        put(&gone).await.expect("durable");
        let broken = verified(&store, ends).await.expect("readable").broken.expect("it is back");
        assert_eq!(broken.sequence, 2, "{}", broken.reason);
    }
}
