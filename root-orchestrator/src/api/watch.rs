//! News of services as server-sent events, so that nobody has to ask again and again.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use axum::{
    extract::Query,
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream, stream};
use model::{ApplicationId, Now, ServiceId};
use root_core::{
    State as Truth,
    access::{Kind, Verb},
};
use serde::Deserialize;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Interval, interval},
};

use super::{
    Context, Shared, State, applications,
    error::{Error, ErrorBody},
    views,
};
use crate::auth::Caller;

/// Keeps proxies from closing a quiet connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// That a cluster falls silent changes no document, so watchers look for it themselves; people wait this long for it.
const LOOK_FOR_SILENCE: Duration = Duration::from_secs(2);

/// What to watch.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WatchQuery {
    /// Id of the application.
    application: String,
}

/// Watch the services of an application
///
/// Server-sent events: `service` with the whole service whenever it or an instance of it changes (first each service
/// as it is), `deleted` with `{"id": …}` when one goes.
#[utoipa::path(get, path = "/api/watch", tag = "services", params(WatchQuery), responses(
    (status = 200, body = String, content_type = "text/event-stream"),
    (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody),
    (status = 422, body = ErrorBody),
))]
pub(super) async fn watch(
    State(context): Shared,
    caller: Caller,
    query: Result<Query<WatchQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Error> {
    let Query(query) = query.map_err(|rejection| Error::bad_field("application", rejection.body_text()))?;
    // Before reading, so that nothing falls between.
    let news = context.watch.subscribe();
    let application = applications::find(
        &*context.brain.read().await,
        &caller,
        Verb::Get,
        Kind::Service,
        &query.application,
    )?
    .id;
    let watcher = Watcher {
        context,
        application,
        news,
        known: BTreeMap::new(),
        look: interval(LOOK_FOR_SILENCE),
        ready: Vec::new(),
        started: false,
    };
    let events = stream::unfold(watcher, async |mut watcher| {
        let event = watcher.next().await?;
        Some((Ok(event), watcher))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

struct Watcher {
    context: Context,
    application: ApplicationId,
    news: Receiver<ServiceId>,
    /// Services this watcher was told of, with what was shown of instances that are lost with their cluster.
    known: BTreeMap<ServiceId, BTreeMap<u32, String>>,
    /// When to look for silent clusters.
    look: Interval,
    /// Events not yet sent, last first.
    ready: Vec<Event>,
    started: bool,
}

impl Watcher {
    /// The next event; `None` when the root stops.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop() {
                return Some(event);
            }
            if !self.started {
                self.started = true;
                self.tell_all().await;
                continue;
            }
            tokio::select! {
                news = self.news.recv() => match news {
                    Ok(service) => self.tell(service).await,
                    // Too far behind to know what was missed: everything anew.
                    Err(RecvError::Lagged(_)) => self.tell_all().await,
                    Err(RecvError::Closed) => return None,
                },
                _ = self.look.tick() => self.tell_of_silence().await,
            }
        }
    }

    /// Tells anew of services whose instances are shown as lost now, or no longer.
    async fn tell_of_silence(&mut self) {
        let changed: Vec<ServiceId> = {
            let state = self.context.brain.read().await;
            let now = daemon::present();
            let differs =
                |(id, lost): &(&ServiceId, &BTreeMap<u32, String>)| lost_of(&state, **id, now) != **lost;
            self.known.iter().filter(differs).map(|(id, _)| *id).collect()
        };
        for service in changed {
            self.tell(service).await;
        }
    }

    async fn tell_all(&mut self) {
        let mut all: Vec<ServiceId> = {
            let state = self.context.brain.read().await;
            state.services_of(self.application).map(|service| service.id).collect()
        };
        all.extend(self.known.keys().filter(|known| !all.contains(known)).copied().collect::<Vec<_>>());
        for service in all {
            self.tell(service).await;
        }
    }

    async fn tell(&mut self, id: ServiceId) {
        let state = self.context.brain.read().await;
        let service = state.service(id).filter(|service| service.application == self.application);
        let event = match service {
            Some(service) => {
                let now = daemon::present();
                self.known.insert(id, lost_of(&state, id, now));
                let view = views::service(&state, service, &BTreeMap::new(), now);
                Event::default().event("service").json_data(view)
            }
            None if self.known.remove(&id).is_some() => {
                Event::default().event("deleted").json_data(views::Deleted { id })
            }
            None => return,
        };
        self.ready.insert(0, event.expect("views serialise to JSON"));
    }
}

/// What is shown of the instances of a service that are lost with their cluster.
fn lost_of(state: &Truth, service: ServiceId, now: Now) -> BTreeMap<u32, String> {
    let instances = state.instances_of(service);
    instances.filter_map(|it| Some((it.id.number, views::lost_with_its_cluster(state, it, now)?.0))).collect()
}
