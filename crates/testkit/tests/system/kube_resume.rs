//! Watchers of the `kube` crate whose connection was lost: they go on where they were, and those that were away for too long
//! list again.

use std::{pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt};
use kube::runtime::WatchStreamExt;
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    runtime::{
        reflector,
        reflector::store::{Store, Writer},
        watcher,
        watcher::{DefaultBackoff, Event},
    },
};
use serde_json::{Value, json};
use testkit::Root;

use super::{
    kube_client::{client, kind, make_a_widget, objects},
    resources::widget,
};

/// Longer than a watcher waits before it tries again.
const PATIENCE: Duration = Duration::from_secs(60);
/// With so many changes of an object that is nearly as large as one may be, the root has forgotten the first.
const CHANGES: usize = 150;
const NOTE_BYTES: usize = 250 << 10;

/// What a watcher tells.
type Told = Pin<Box<dyn Stream<Item = watcher::Result<Event<DynamicObject>>>>>;

/// What a watcher told, in words. It looks at nothing while nobody waits for it, so it is away until then.
struct Watched {
    told: Told,
    store: Store<DynamicObject>,
}

impl Watched {
    async fn begin(root: &Root) -> Self {
        let client = client(root).await;
        let kind = kind(&client, "example.com", "v1", "Widget").await;
        let writer = Writer::new(kind.clone());
        let store = writer.as_reader();
        let widgets: Api<DynamicObject> = Api::namespaced_with(client, "root", &kind);
        let watcher = watcher(widgets, watcher::Config::default()).backoff(DefaultBackoff::default());
        let mut watched = Self { told: Box::pin(reflector(writer, watcher)), store };
        assert_eq!(watched.until("listed").await, ["lists", "finds one 1", "listed"]);
        watched
    }

    /// All that is told up to this; failures to reach the root are not.
    async fn until(&mut self, last: &str) -> Vec<String> {
        let mut events = Vec::new();
        let listening = async {
            while let Some(event) = self.told.next().await {
                events.extend(event.ok().map(|event| in_words(&event)));
                if events.last().is_some_and(|event| event == last) {
                    return;
                }
            }
            panic!("the watcher has ended");
        };
        let heard = tokio::time::timeout(PATIENCE, listening).await;
        assert_eq!(heard, Ok(()), "it told {events:?}");
        events
    }

    /// What the reflector has, by name.
    fn known(&self) -> Vec<String> {
        let mut known: Vec<String> = self.store.state().iter().map(|object| named(object)).collect();
        known.sort();
        known
    }
}

fn named(object: &DynamicObject) -> String {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    format!("{name} {}", object.data["spec"]["size"])
}

fn in_words(event: &Event<DynamicObject>) -> String {
    match event {
        Event::Init => "lists".to_owned(),
        Event::InitApply(object) => format!("finds {}", named(object)),
        Event::InitDone => "listed".to_owned(),
        Event::Apply(object) => format!("sees {}", named(object)),
        Event::Delete(object) => format!("loses {}", named(object)),
    }
}

async fn patch(widgets: &Api<DynamicObject>, spec: Value) {
    let patch = Patch::Merge(json!({"spec": spec}));
    widgets.patch("one", &PatchParams::default(), &patch).await.expect("changed");
}

async fn make(widgets: &Api<DynamicObject>, name: &str) {
    let wanted = serde_json::from_value(widget(name, 1)).expect("an object");
    widgets.create(&PostParams::default(), &wanted).await.expect("made");
}

#[tokio::test]
async fn a_watcher_goes_on_where_it_was_when_the_root_is_back() {
    let mut root = Root::start_over_tls().await;
    make_a_widget(&client(&root).await).await;
    let mut watched = Watched::begin(&root).await;
    root.kill();
    root.start_again().await;
    let widgets = objects(&client(&root).await, "example.com", "v1", "Widget").await;
    patch(&widgets, json!({"size": 2})).await;
    make(&widgets, "two").await;
    widgets.delete("two", &DeleteParams::default()).await.expect("deleted");
    let expected = ["sees one 2", "sees two 1", "loses two 1"];
    assert_eq!(watched.until("loses two 1").await, expected, "what it has missed, and no list");
    assert_eq!(watched.known(), ["one 2"]);
}

#[tokio::test]
async fn a_watcher_that_was_away_for_too_long_lists_again() {
    let mut root = Root::start_over_tls().await;
    let begun = make_a_widget(&client(&root).await).await;
    let widgets = objects(&client(&root).await, "example.com", "v1", "Widget").await;
    make(&widgets, "gone").await;
    widgets.delete("gone", &DeleteParams::default()).await.expect("deleted");
    let mut watched = Watched::begin(&root).await;
    root.kill();
    root.start_again().await;
    let widgets = objects(&client(&root).await, "example.com", "v1", "Widget").await;
    make(&widgets, "two").await;
    for turn in 0..CHANGES {
        let note = format!("{turn:03}{}", "n".repeat(NOTE_BYTES));
        patch(&widgets, json!({"size": turn + 2, "note": note})).await;
    }
    patch(&widgets, json!({"note": null})).await;

    let old = begun.metadata.resource_version.expect("a revision");
    let query = format!("/apis/example.com/v1/namespaces/root/widgets?watch=true&resourceVersion={old}");
    let answer = root.api.get(&query).await;
    assert_eq!((&answer.body["type"], &answer.body["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(answer.body["object"]["reason"], "Expired");

    let last = format!("one {}", CHANGES + 1);
    let found = format!("finds {last}");
    assert_eq!(watched.until("listed").await, ["lists", &found, "finds two 1", "listed"]);
    assert_eq!(watched.known(), [last, "two 1".to_owned()]);
    patch(&widgets, json!({"size": 1})).await;
    assert_eq!(watched.until("sees one 1").await, ["sees one 1"], "and goes on");
}
