//! Watching objects: one line for each change, from the revision on that the client has seen.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    time::Duration,
};

use ::resources::{
    Status, page,
    selector::Selector,
    watch::{EventType, bookmark, error, event},
};
use axum::{
    body::{Body, Bytes},
    http::header,
    response::IntoResponse,
};
use futures_util::stream;
use serde_json::Value;
use store::{Change, Revision};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{
    super::Context,
    Answer, Failure,
    answer::Form,
    asked::Asked,
    happened,
    kinds::{Served, Source, Whose},
    rows::{self, Namespaces, Row},
    views::View,
};
use crate::{auth::Caller, documents};

/// Changes read at once: bounds what one watcher holds in memory.
const AT_ONCE: usize = 500;
/// A watch ends after that long at the latest: what its caller may do is looked at again then.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// Watchers are told how far they are so often, so that they can resume where they are also when nothing concerns them.
const BOOKMARKS: Duration = Duration::from_secs(30);

/// Tells a client of changes until it leaves, or its time is over.
pub(super) async fn watch(
    context: Context,
    caller: Caller,
    served: Served,
    whose: Whose,
    selector: Selector,
    asked: Asked,
) -> Answer {
    let options = &asked.options;
    let news = context.store.revisions();
    let begins_with_all = options.initial_events || options.revision.is_none();
    let (ready, after, known) = {
        let state = context.brain.read().await;
        let newest = state.revision();
        if let Some(asked) = options.revision.filter(|asked| *asked > newest) {
            // Only a root that was set back has clients that are ahead of it: they have to list anew.
            return Err(Failure(page::expired(asked, newest)));
        }
        let after = options.revision.filter(|_| !begins_with_all).unwrap_or(newest);
        let rows = if begins_with_all { served.rows(&state) } else { Vec::new() };
        let namespaces = rows::namespaces(&state);
        let first = rows::first_organization(&state);
        let viewed = match served.source {
            // Those that are newer are told.
            Source::View(View::Events) => {
                let mut rows = View::Events.rows(&state);
                rows.retain(|_, row| row.revision <= after);
                Some(rows)
            }
            Source::View(view) if after == newest => Some(view.rows(&state)),
            Source::View(_) | Source::Objects | Source::Organizations => None,
        };
        drop(state);
        let seen = |row: &Row| {
            let object = served.shows(&caller, &whose, row.owner()).then(|| served.shown(row, &namespaces));
            object.filter(|object| selector.admits(object))
        };
        let viewed = match (served.source, viewed) {
            (Source::View(view), None) => {
                let past = documents::viewed_at(context.store.as_ref(), first, Revision(after)).await?;
                view.rows(&past)
            }
            (_, viewed) => viewed.unwrap_or_default(),
        };
        let known = viewed.into_iter().filter_map(|(id, row)| Some((id, seen(&row)?)));
        let known: BTreeMap<String, Value> = known.collect();
        (rows.iter().filter_map(seen).collect::<Vec<_>>(), after, known)
    };
    let longest = options.timeout_seconds.map_or(LONGEST, Duration::from_secs).min(LONGEST);
    let mut bookmarks = interval_at(Instant::now() + BOOKMARKS, BOOKMARKS);
    bookmarks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watcher = Watcher {
        ready: VecDeque::new(),
        after: Revision(after),
        ends_at: Instant::now() + longest,
        told: after,
        known,
        has_ended: false,
        form: asked.form,
        wants_bookmarks: options.bookmarks,
        context,
        caller,
        served,
        whose,
        selector,
        news,
        bookmarks,
    };
    for object in ready {
        watcher.tell(EventType::Added, object);
    }
    if options.initial_events {
        watcher.bookmark(true);
    }
    let lines = stream::unfold(watcher, async |mut watcher| {
        let line = watcher.next().await?;
        Some((Ok::<_, Infallible>(line), watcher))
    });
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(lines)).into_response())
}

/// What changes of documents may have changed of a view, and when last, in that order.
fn touched(view: View, changes: &[Change]) -> Vec<(Revision, String)> {
    let touched = |change: &Change| Some((view.touched(&change.collection, &change.key)?, change.revision));
    let last: BTreeMap<String, Revision> = changes.iter().filter_map(touched).collect();
    let mut last: Vec<(Revision, String)> = last.into_iter().map(|(id, revision)| (revision, id)).collect();
    last.sort();
    last
}

struct Watcher {
    context: Context,
    caller: Caller,
    served: Served,
    whose: Whose,
    selector: Selector,
    form: Form,
    news: tokio::sync::watch::Receiver<Revision>,
    /// All changes up to here were looked at.
    after: Revision,
    /// Of a kind that is a view: what the client knows, by the ids of documents.
    known: BTreeMap<String, Value>,
    /// The last revision the client was told.
    told: u64,
    bookmarks: Interval,
    wants_bookmarks: bool,
    ends_at: Instant,
    has_ended: bool,
    /// Lines not yet sent.
    ready: VecDeque<Bytes>,
}

impl Watcher {
    /// The next line; `None` when it is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.has_ended {
                return None;
            }
            if *self.news.borrow_and_update() > self.after {
                if let Err(failed) = self.catch_up().await {
                    let Failure(status) = failed;
                    self.end(&status);
                }
                continue;
            }
            tokio::select! {
                changed = self.news.changed() => changed.ok()?,
                _ = self.bookmarks.tick(), if self.wants_bookmarks => {
                    if self.after.0 > self.told {
                        self.bookmark(false);
                    }
                }
                () = tokio::time::sleep_until(self.ends_at) => return None,
            }
        }
    }

    /// Looks at what has changed.
    async fn catch_up(&mut self) -> Result<(), Failure> {
        // Before the changes are read: there are none between.
        let newest = *self.news.borrow();
        let changes = self.context.store.changes(self.after, AT_ONCE).await?;
        let namespaces = rows::namespaces(&*self.context.brain.read().await);
        let before = self.after;
        self.after = changes.last().map_or(newest, |last| last.revision);
        if let Source::View(view) = self.served.source {
            let touched = match view {
                View::Events => self.happened_since(before).await,
                View::Applications | View::Services | View::Instances | View::Clusters => {
                    touched(view, &changes)
                }
            };
            self.consider_view(view, touched, &namespaces).await;
            return Ok(());
        }
        for change in &changes {
            if self.served.is_of(&change.collection, &change.key) {
                self.consider(change, &namespaces);
            }
        }
        Ok(())
    }

    fn consider(&mut self, change: &Change, namespaces: &Namespaces) {
        let shown = |value: &[u8]| {
            // What an object was is told with the revision at which it went.
            let row = self.served.read(value, change.revision.0)?;
            let is_seen = self.served.shows(&self.caller, &self.whose, row.owner());
            is_seen.then(|| self.served.shown(&row, namespaces))
        };
        let before = change.before.as_ref().and_then(|before| shown(&before.value));
        let after = change.value.as_deref().and_then(shown);
        let Some(event) = EventType::of(before.as_ref(), after.as_ref(), &self.selector) else { return };
        if let Some(object) = after.or(before) {
            self.told = change.revision.0;
            self.tell(event, object);
        }
    }

    /// What has happened behind a revision, up to where all was looked at.
    async fn happened_since(&self, before: Revision) -> Vec<(Revision, String)> {
        let state = self.context.brain.read().await;
        let newest = state.events().rev().take_while(|it| it.revision.is_none_or(|is| is > before.0));
        let is_known = newest.filter_map(|it| Some((Revision(it.revision?), happened::name_of(it))));
        let mut happened: Vec<_> = is_known.filter(|(revision, _)| *revision <= self.after).collect();
        happened.reverse();
        happened
    }

    /// What is a view follows from several documents, so it is looked at as it is now.
    async fn consider_view(&mut self, view: View, touched: Vec<(Revision, String)>, namespaces: &Namespaces) {
        for (revision, id) in touched {
            let row = view.row(&*self.context.brain.read().await, &id);
            let row = row.filter(|row| self.served.shows(&self.caller, &self.whose, row.owner()));
            // Whoever resumes behind it has missed nothing, though it may be newer than that.
            let row = row.map(|row| Row { revision: revision.0, ..row });
            let now = row.map(|row| self.served.shown(&row, namespaces));
            let now = now.filter(|object| self.selector.admits(object));
            let before = match &now {
                Some(now) => self.known.insert(id, now.clone()),
                None => self.known.remove(&id),
            };
            let event = match (&before, &now) {
                (None, None) => continue,
                (None, Some(_)) => EventType::Added,
                (Some(_), Some(_)) => EventType::Modified,
                (Some(_), None) => EventType::Deleted,
            };
            if let Some(mut object) = now.or(before) {
                object["metadata"]["resourceVersion"] = Value::from(revision.0.to_string());
                self.told = revision.0;
                self.tell(event, object);
            }
        }
    }

    fn tell(&mut self, of: EventType, object: Value) {
        let line = event(of, self.form.one(&self.served.kind, object));
        self.send(&line);
    }

    fn bookmark(&mut self, is_initial_end: bool) {
        self.told = self.after.0;
        let kind = &self.served.kind;
        let line = bookmark(&kind.api_version(), &kind.names.kind, self.after.0, is_initial_end);
        self.send(&line);
    }

    /// Tells why there is no more, and ends.
    fn end(&mut self, status: &Status) {
        self.send(&error(status));
        self.has_ended = true;
    }

    fn send(&mut self, line: &Value) {
        let mut line = line.to_string();
        line.push('\n');
        self.ready.push_back(Bytes::from(line));
    }
}
